//! Impersonation from the command line: the same link and the same end as by the operations.

use gatewright_db::DbError;

use super::{Environment, OperatorError};
use crate::features::credentials::impersonations::ImpersonationId;
use crate::features::flows::impersonation::{self, Refused, Wanted};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

/// A link, shown this once.
pub struct StartedImpersonation {
    pub id: String,
    pub url: String,
    /// Until when the link can be confirmed.
    pub link_expires_at: String,
    pub duration_seconds: u32,
}

impl std::fmt::Debug for StartedImpersonation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StartedImpersonation({})", self.id)
    }
}

/// Makes the link with which somebody of support acts as the user `id`.
pub async fn start_impersonation(
    cx: &Cx,
    environment: &Environment,
    id: &str,
    wanted: Wanted,
) -> Result<StartedImpersonation, OperatorError> {
    match impersonation::start(cx, &environment.id, id, wanted, cx.scribe(Actor::Operator)).await {
        Ok(started) => Ok(StartedImpersonation {
            id: started.impersonation.id.to_string(),
            url: started.url,
            link_expires_at: started.impersonation.expires_at.to_string(),
            duration_seconds: started.impersonation.duration_seconds,
        }),
        Err(Refused::Db(error)) => Err(error.into()),
        Err(refused) => Err(OperatorError::refused("no link was made", refused.message())),
    }
}

/// Ends it at once, wherever it stands. False if the environment has none of that id.
pub async fn end_impersonation(cx: &Cx, environment: &EnvironmentId, id: &str) -> Result<bool, DbError> {
    let (environment, id, scribe) = (environment.clone(), ImpersonationId::from_text(id), cx.scribe(Actor::Operator));
    cx.db().write(move |tx| Ok(impersonation::end(tx, &environment, &id, &scribe)?.is_some())).await
}
