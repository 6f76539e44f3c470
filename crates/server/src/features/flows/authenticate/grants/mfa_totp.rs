//! The second half of a sign-in that waited for a second factor (contract 2.4): a code that answers a challenge, or, as an addition of
//! ours, a recovery code. A sign-in that waits for an enrolment ends here, too, with the first code of the new factor.

use gatewright_jose::hash_secret;

use super::{Answer, Call, Grant, Secret, invalid_pending, required};
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude};
use crate::features::flows::authenticate::inviting::find_carried;
use crate::features::flows::authenticate::limits::{self, Place};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::authenticate::proofs::{self, GivenFactor, SecondFactorProof};
use crate::features::flows::radar;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:mfa-totp", "urn:workos:oauth:grant-type:mfa-totp:code"],
    label: "mfa_totp",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let device = Place::of(call.confidential, &call.body).device();
    let hash = hash_secret(&required(call.body.pending_authentication_token, "pending_authentication_token")?);
    let given = match call.body.recovery_code.filter(|code| !code.is_empty()) {
        Some(code) => GivenFactor::RecoveryCode(code),
        None => GivenFactor::Code {
            code: required(call.body.code, "code")?,
            challenge_id: required(call.body.authentication_challenge_id, "authentication_challenge_id")?,
        },
    };
    limits::count_authenticate(cx, &call.client.environment.id, &hash).await?;
    let proof = proofs::second_factor(cx, &call.client, &hash, given, device, &call.origin).await?;
    let (pending, user, second_factor) = match proof {
        SecondFactorProof::Proved { pending, user, second_factor } => (pending, user, second_factor),
        SecondFactorProof::NotWaiting => return Err(invalid_pending()),
        SecondFactorProof::AnotherUser => return Err(ApiError::bad_request("user_mismatch", "The challenge is another user's.")),
        SecondFactorProof::Refused(reason) => return Err(reason.to_error()),
    };
    let invitation = find_carried(cx, &call.client.environment.id, pending.invitation_hash.as_deref()).await?;
    let radar = radar::carried(&pending);
    let attempt = Attempt {
        client: call.client,
        user,
        method: pending.method,
        second_factor: Some(second_factor),
        authenticated_at: pending.authenticated_at,
        idle: pending.idle,
        requested_organization: pending.organization_id,
        without_organization: false,
        invitation,
        asked: call.asked,
        origin: call.origin,
        record_success: pending.fresh,
        impersonation: None,
        radar,
    };
    conclude(cx, attempt, Spend::Pending { hash }).await
}
