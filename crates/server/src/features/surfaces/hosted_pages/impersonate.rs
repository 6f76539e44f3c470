//! The link of an impersonation: who acts as whom, why and how long, and a button. Opening it uses nothing up: scanners open links, too.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::limits;
use super::view::Impersonate;
use super::wait::{believe, go};
use crate::features::flows::authenticate::Origin;
use crate::features::flows::authorize::model::origin_of;
use crate::features::flows::impersonation::{self, Confirmed, Offer};
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let code = visit.query.one("code").ok().flatten().unwrap_or_default().to_owned();
    let offer = load(&cx, &code).await?;
    let view = Impersonate {
        email: offer.user.email.as_str().to_owned(),
        impersonator: offer.impersonation.impersonator.email.clone(),
        reason: offer.impersonation.impersonator.reason.clone().unwrap_or_default(),
        minutes: offer.impersonation.duration_seconds.div_ceil(60),
        code,
    };
    let form_origin = origin_of(&offer.impersonation.redirect_uri);
    Ok(visit.page(&cx, StatusCode::OK, &view, "", form_origin.as_deref()))
}

/// Confirms it. The browser gets a code for the app and nothing else: no session of ours, so nothing here takes it for the user's.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    believe(&cx, &visit, &form)?;
    // Counted before the look-up: a guess at a code costs a try whether it hits or not.
    limits::count_network(&cx, &visit).await?.map_err(ApiError::from)?;
    let offer = load(&cx, form.text("code")).await?;
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    match impersonation::confirm(&cx, offer, origin).await? {
        Confirmed::Go(location) => Ok(go(&location, [])),
        Confirmed::Over => Err(Refused::page(Problem::ImpersonationNotValid)),
        Confirmed::Refused => Err(Refused::page(Problem::ImpersonationRefused)),
    }
}

async fn load(cx: &Cx, code: &str) -> Result<Offer, Refused> {
    impersonation::find_offer(cx, code).await?.ok_or_else(|| Refused::page(Problem::ImpersonationNotValid))
}
