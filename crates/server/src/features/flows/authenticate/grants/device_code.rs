//! RFC 8628 §3.4: a device asks whether its person has answered.

use std::time::Duration;

use gatewright_jose::hash_secret;

use super::{Answer, Call, Grant, Secret, required};
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude, spent};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::device::{self, Approval, Poll};
use crate::features::flows::radar;
use crate::features::records::users;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:ietf:params:oauth:grant-type:device_code"],
    label: "device_code",
    secret: Secret::Optional,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let hash = hash_secret(&required(call.body.device_code, "device_code")?);
    let (client, now) = (call.client.clone(), cx.now());
    let found = {
        let hash = hash.clone();
        cx.db()
            .write(move |tx| device::find_and_stamp(tx, &client.environment.id, client.id.as_str(), &hash, now))
            .await?
            .ok_or_else(spent)?
    };
    let approval = match device::decide_poll(&found, now) {
        Poll::Approved(approval) => approval,
        Poll::Pending => return Err(ApiError::oauth("authorization_pending", "The person has not answered yet.")),
        Poll::SlowDown => return Err(ApiError::oauth("slow_down", "Ask less often: wait five seconds longer each time.")),
        Poll::Denied => return Err(ApiError::oauth("access_denied", "The person did not allow the device.")),
        Poll::Expired => return Err(ApiError::oauth("expired_token", "The device code has expired.")),
        Poll::Spent => return Err(spent()),
    };
    let environment = call.client.environment.id.clone();
    let Approval { user_id, method, second_factor, authenticated_at, organization_id } = approval;
    let user = cx.db().read(move |tx| users::find(tx, &environment, &user_id)).await?.ok_or_else(spent)?;
    let attempt = Attempt {
        client: call.client,
        user,
        method,
        second_factor,
        authenticated_at,
        idle: Duration::ZERO,
        requested_organization: organization_id,
        without_organization: false,
        invitation: None,
        asked: call.asked,
        origin: call.origin,
        record_success: false,
        impersonation: None,
        radar: radar::Standing::NotAsked,
    };
    conclude(cx, attempt, Spend::DeviceCode { hash }).await
}
