//! The second half of a sign-in that Radar stopped: the code of a challenge, by mail or by SMS (contract 2.2, 2.4).

use gatewright_db::DbError;
use gatewright_jose::hash_secret;

use super::{Answer, Call, Grant, Secret, invalid_pending, required};
use crate::features::credentials::pending_authentications;
use crate::features::credentials::radar_challenges::{self, STEP_SIGN_IN, STEP_SIGN_UP, Target};
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude};
use crate::features::flows::authenticate::inviting::find_carried;
use crate::features::flows::authenticate::limits;
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::radar;
use crate::features::records::users;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const BY_EMAIL: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:radar-email-challenge:code", "urn:workos:oauth:grant-type:radar-email-challenge"],
    label: "radar_email_challenge",
    secret: Secret::Required,
    run: |cx, call| Box::pin(by_email(cx, call)) as Answer<'_>,
};

pub const BY_SMS: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:radar-sms-challenge:code", "urn:workos:oauth:grant-type:radar-sms-challenge"],
    label: "radar_sms_challenge",
    secret: Secret::Required,
    run: |cx, call| Box::pin(by_sms(cx, call)) as Answer<'_>,
};

/// The challenge that a call names. Of a sign-in all are tried that it has; see [`radar_challenges::redeem`].
enum Named {
    Email { id: String },
    Sms { id: Option<String>, phone_number: Option<String> },
}

impl Named {
    fn target(&self) -> Target<'_> {
        match self {
            Self::Email { id } => Target::Email { id },
            Self::Sms { id, phone_number } => Target::Sms { id: id.as_deref(), phone_number: phone_number.as_deref() },
        }
    }
}

async fn by_email(cx: &Cx, mut call: Call) -> Result<AuthenticateResponse, ApiError> {
    let id = required(call.body.radar_challenge_id.take(), "radar_challenge_id")?;
    finish(cx, call, Named::Email { id }).await
}

async fn by_sms(cx: &Cx, mut call: Call) -> Result<AuthenticateResponse, ApiError> {
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (id, phone_number) = (named(call.body.verification_id.take()), named(call.body.phone_number.take()));
    finish(cx, call, Named::Sms { id, phone_number }).await
}

async fn finish(cx: &Cx, mut call: Call, named: Named) -> Result<AuthenticateResponse, ApiError> {
    let code = required(call.body.code.take(), "code")?;
    let hash = hash_secret(&required(call.body.pending_authentication_token.take(), "pending_authentication_token")?);
    limits::count_authenticate(cx, &call.client.environment.id, &hash).await?;
    let (client, now, scribe, cx_in, token_hash) = (call.client.clone(), cx.now(), cx.scribe(Actor::System), cx.clone(), hash.clone());
    let signals = call.signals.clone();
    let outcome = cx
        .db()
        .write(move |tx| {
            let environment = &client.environment.id;
            let mut found = None;
            for step in [STEP_SIGN_IN, STEP_SIGN_UP] {
                found = found.or(pending_authentications::find(tx, environment, client.id.as_str(), step, &token_hash, now)?);
            }
            let Some(pending) = found else { return Ok::<_, DbError>(None) };
            let (user, target) = (&pending.user_id, named.target());
            let redeemed = radar_challenges::redeem(tx, cx_in.master_key(), environment, &token_hash, user, target, &code, &scribe)?;
            radar::record_challenge(tx, environment, &pending, &signals, redeemed.err(), &scribe)?;
            Ok(users::find(tx, environment, &pending.user_id)?.map(|user| (pending, user, redeemed)))
        })
        .await?;
    let (pending, user, redeemed) = outcome.ok_or_else(invalid_pending)?;
    redeemed.map_err(radar_challenges::Refused::to_error)?;
    let invitation = find_carried(cx, &call.client.environment.id, pending.invitation_hash.as_deref()).await?;
    let radar = radar::carried(&pending).passed();
    let attempt = Attempt {
        client: call.client,
        user,
        method: pending.method,
        second_factor: pending.second_factor,
        authenticated_at: pending.authenticated_at,
        idle: pending.idle,
        requested_organization: pending.organization_id,
        without_organization: false,
        invitation,
        origin: call.origin,
        asked: call.asked,
        record_success: pending.fresh,
        impersonation: None,
        radar,
    };
    conclude(cx, attempt, Spend::Pending { hash }).await
}
