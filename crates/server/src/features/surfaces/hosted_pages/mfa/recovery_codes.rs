//! The codes that let somebody in who has lost the factor that was just enrolled. They are shown until the person says that they are
//! saved, in this browser and this sign-in alone.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::progress::{self, Progress};
use super::view::RecoveryCodes;
use super::{Half, go_on, load};
use crate::features::credentials::methods::SecondFactor;
use crate::features::flows::authenticate::StepUp;
use crate::features::surfaces::hosted_pages::wait::Waiting;
use crate::platform::cx::Cx;
use crate::web::catalogue::{self, Form};
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Refused, Visit};

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    Ok(match find_unsaved(&cx, &waiting).await? {
        Ok(Unsaved { codes, .. }) => waiting.page(&cx, &visit, StatusCode::OK, &RecoveryCodes { codes }),
        Err(elsewhere) => elsewhere,
    })
}

/// The same as a file, which needs no script.
pub async fn download(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let Unsaved { half, codes, .. } = match find_unsaved(&cx, &waiting).await? {
        Ok(unsaved) => unsaved,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let argument = |name: &str| match name {
        "app" => Some(cx.look().app.name.clone()),
        "email" => Some(half.user.email.as_str().to_owned()),
        _ => None,
    };
    let title = catalogue::write(visit.lang, "recovery_codes.file", Form::Plain, argument).map_err(|error| ApiError::internal(&error))?;
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"recovery-codes.txt\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, format!("{title}\n\n{}\n", codes.join("\n"))).into_response())
}

/// "I have saved them": all is proved, so the sign-in goes on.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Unsaved { half, proved, .. } = match find_unsaved(&cx, &waiting).await? {
        Ok(unsaved) => unsaved,
        Err(elsewhere) => return Ok(elsewhere),
    };
    go_on(&cx, &visit, &waiting, half, proved).await
}

/// A sign-in whose new factor is proved.
struct Unsaved {
    half: Half,
    proved: SecondFactor,
    codes: Vec<String>,
}

async fn find_unsaved(cx: &Cx, waiting: &Waiting) -> Result<Result<Unsaved, Response>, ApiError> {
    let half = match load(cx, waiting, StepUp::MFA_ENROLLMENT).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(Err(elsewhere)),
    };
    match progress::read(cx, &waiting.request, &half.hash) {
        Some(Progress::Enrolled { proved, recovery_codes: codes }) => match SecondFactor::from_row(Some(&proved))? {
            Some(proved) => Ok(Ok(Unsaved { half, proved, codes })),
            None => Ok(Err(waiting.go("/mfa/enroll"))),
        },
        _ => Ok(Err(waiting.go("/mfa/enroll"))),
    }
}
