//! The grants that finish step-ups which this server does not start: challenges of Radar.
//! Their pending tokens come with those steps, so whatever is given is a token of another step or of none.

use super::{Answer, Call, Grant, Secret, required};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:radar-email-challenge:code", "urn:workos:oauth:grant-type:radar-sms-challenge:code"],
    label: "other_step",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(_: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    required(call.body.pending_authentication_token, "pending_authentication_token")?;
    Err(super::invalid_pending())
}
