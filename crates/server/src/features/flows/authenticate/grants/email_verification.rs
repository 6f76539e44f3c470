//! The second half of a sign-in that waited for a proved address (contract 2.4).

use std::time::Duration;

use gatewright_db::DbError;
use gatewright_jose::hash_secret;

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::email_verifications::{self, Redemption, Target};
use crate::features::credentials::pending_authentications;
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude};
use crate::features::flows::authenticate::failures::record_email_verification;
use crate::features::flows::authenticate::inviting::find_carried;
use crate::features::flows::authenticate::limits;
use crate::features::flows::authenticate::model::{AuthenticateResponse, StepUp};
use crate::features::flows::radar;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::sms;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:email-verification:code", "urn:workos:oauth:grant-type:email-verification"],
    label: "email_verification",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let code = required(call.body.code, "code")?;
    let hash = hash_secret(&required(call.body.pending_authentication_token, "pending_authentication_token")?);
    limits::count_authenticate(cx, &call.client.environment.id, &hash).await?;
    let (client, now, scribe, cx_in, token_hash) = (call.client.clone(), cx.now(), cx.scribe(Actor::System), cx.clone(), hash.clone());
    let origin = call.origin.clone();
    let outcome = cx
        .db()
        .write(move |tx| {
            let environment = &client.environment.id;
            let step = StepUp::EmailVerification.code();
            let Some(pending) = pending_authentications::find(tx, environment, client.id.as_str(), step, &token_hash, now)? else {
                return Ok::<_, DbError>(None);
            };
            let verification = pending.email_verification_id.clone().unwrap_or_default();
            let redemption = email_verifications::redeem(tx, cx_in.master_key(), environment, Target::Id(&verification), &code, &scribe)?;
            record_email_verification(tx, environment, &pending.user_id, &origin, &redemption, &scribe)?;
            Ok(Some((pending, redemption)))
        })
        .await?;
    let Some((pending, redemption)) = outcome else {
        return Err(super::invalid_pending());
    };
    let user = match redemption {
        Redemption::Redeemed { user } if user.id == pending.user_id => user,
        Redemption::Redeemed { .. } => return Err(ApiError::bad_request("user_mismatch", "The code is another user's.")),
        Redemption::Refused { reason, .. } => return Err(reason.to_error()),
    };
    let invitation = find_carried(cx, &call.client.environment.id, pending.invitation_hash.as_deref()).await?;
    let radar = radar::carried(&pending).once_mailbox_proved(sms::is_configured(cx));
    let attempt = Attempt {
        client: call.client,
        user,
        method: pending.method,
        second_factor: pending.second_factor,
        authenticated_at: cx.now(),
        idle: Duration::ZERO,
        requested_organization: pending.organization_id,
        without_organization: false,
        invitation,
        origin: call.origin,
        asked: call.asked,
        record_success: true,
        impersonation: None,
        radar,
    };
    conclude(cx, attempt, Spend::Pending { hash }).await
}
