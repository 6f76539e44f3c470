//! The second half of a sign-in that waited for the choice of an organization (contract 2.3 and 2.4).

use gatewright_db::DbError;
use gatewright_jose::hash_secret;

use super::{Answer, Call, Grant, Secret, invalid_pending, required};
use crate::features::credentials::pending_authentications;
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude};
use crate::features::flows::authenticate::limits;
use crate::features::flows::authenticate::model::{AuthenticateResponse, StepUp};
use crate::features::flows::radar;
use crate::features::records::users;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:organization-selection"],
    label: "organization_selection",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let hash = hash_secret(&required(call.body.pending_authentication_token, "pending_authentication_token")?);
    let organization = required(call.body.organization_id, "organization_id")?;
    limits::count_authenticate(cx, &call.client.environment.id, &hash).await?;
    let (client, now, token_hash) = (call.client.clone(), cx.now(), hash.clone());
    let found = cx
        .db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let step = StepUp::ORGANIZATION_SELECTION;
            let Some(pending) = pending_authentications::find(tx, environment, client.id.as_str(), step, &token_hash, now)? else {
                return Ok::<_, DbError>(None);
            };
            Ok(users::find(tx, environment, &pending.user_id)?.map(|user| (pending, user)))
        })
        .await?;
    let (pending, user) = found.ok_or_else(invalid_pending)?;
    let attempt = Attempt {
        client: call.client,
        user,
        method: pending.method,
        second_factor: pending.second_factor,
        authenticated_at: pending.authenticated_at,
        idle: pending.idle,
        // Decided like any wish: the choice counts only if the user is an active member there now.
        requested_organization: Some(organization),
        without_organization: false,
        // Accepted before the choice, if there was one.
        invitation: None,
        asked: call.asked,
        origin: call.origin,
        record_success: pending.fresh,
        impersonation: None,
        radar: radar::carried(&pending),
    };
    conclude(cx, attempt, Spend::Pending { hash }).await
}
