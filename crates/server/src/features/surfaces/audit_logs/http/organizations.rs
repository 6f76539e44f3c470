use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::mark_retention;
use super::super::model::retention_in_days;
use crate::features::records::audit_log_events::{self, KEPT_UNLESS_SAID};
use crate::features::records::log_streams::{self, ConfiguredStream};
use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLogConfiguration {
    organization_id: String,
    /// 365 while nobody has said so.
    retention_period_in_days: u32,
    state: ConfigurationState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    log_stream: Option<ConfiguredStream>,
}

/// Audit logs of an organization cannot be switched off, so they are always active.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditLogConfigurationState)]
#[expect(dead_code, reason = "the other two are known upstream")]
enum ConfigurationState {
    Active,
    Inactive,
    Disabled,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLogsRetention {
    /// `null` while nobody has said so; then events are kept for 365 days.
    #[schema(required)]
    retention_period_in_days: Option<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdateAuditLogsRetention {
    /// 30 and its multiples up to 330, or 365 and its multiples up to 3650.
    #[schema(nullable = false)]
    retention_period_in_days: Option<i64>,
    /// The same in words, instead: `1_MONTH`, `2_MONTHS` .. `11_MONTHS`, `1_YEAR`, `2_YEARS` .. `10_YEARS`.
    #[schema(nullable = false)]
    retention_period: Option<String>,
}

/// How an organization's audit logs are kept and where they are streamed to.
#[utoipa::path(get, path = "/organizations/{id}/audit_log_configuration", operation_id = "get_audit_log_configuration", tag = "organizations",
    params(("id" = String, Path)), responses((status = 200, body = AuditLogConfiguration), (status = 404, body = ErrorBody)))]
pub async fn find_configuration(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<AuditLogConfiguration>, ApiError> {
    let asked = OrganizationId::from_text(id.as_str());
    let found = cx
        .db()
        .read(move |tx| {
            if organizations::find(tx, &caller.environment, &asked)?.is_none() {
                return Ok::<_, ApiError>(None);
            }
            let days = audit_log_events::find_retention(tx, &caller.environment, &asked)?;
            Ok(Some((days, log_streams::find_configured(tx, &caller.environment, &asked)?)))
        })
        .await?;
    let (days, log_stream) = found.ok_or_else(|| ApiError::not_found("Organization", &id))?;
    let retention_period_in_days = days.unwrap_or(KEPT_UNLESS_SAID);
    Ok(axum::Json(AuditLogConfiguration { organization_id: id, retention_period_in_days, state: ConfigurationState::Active, log_stream }))
}

/// For how many days an organization's events are kept.
#[utoipa::path(get, path = "/organizations/{id}/audit_logs_retention", operation_id = "get_audit_logs_retention", tag = "audit-logs",
    params(("id" = String, Path)), responses((status = 200, body = AuditLogsRetention), (status = 404, body = ErrorBody)))]
pub async fn find_retention(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<AuditLogsRetention>, ApiError> {
    let asked = OrganizationId::from_text(id.as_str());
    let found = cx
        .db()
        .read(move |tx| {
            let exists = organizations::find(tx, &caller.environment, &asked)?.is_some();
            let days = audit_log_events::find_retention(tx, &caller.environment, &asked)?;
            Ok::<_, ApiError>(exists.then_some(days))
        })
        .await?;
    let retention_period_in_days = found.ok_or_else(|| ApiError::not_found("Organization", &id))?;
    Ok(axum::Json(AuditLogsRetention { retention_period_in_days }))
}

/// Says for how many days an organization's events are kept. What is older leaves within the hour, for good.
#[utoipa::path(put, path = "/organizations/{id}/audit_logs_retention", operation_id = "update_audit_logs_retention", tag = "audit-logs",
    params(("id" = String, Path)), request_body = UpdateAuditLogsRetention,
    responses((status = 200, body = AuditLogsRetention), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn update_retention(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateAuditLogsRetention>,
) -> Result<axum::Json<AuditLogsRetention>, ApiError> {
    let days = retention_in_days(body.retention_period_in_days, body.retention_period.as_deref());
    let days = days.ok_or_else(|| ApiError::invalid(&[("retention_period_in_days", "must_be_months_of_30_days_or_years_of_365_days")]))?;
    let (scribe, environment, asked) = (caller.scribe(&cx), caller.environment, OrganizationId::from_text(id.as_str()));
    let marked = cx.db().write(move |tx| mark_retention(tx, &environment, &asked, days, &scribe)).await?;
    if !marked {
        return Err(ApiError::not_found("Organization", &id));
    }
    Ok(axum::Json(AuditLogsRetention { retention_period_in_days: Some(days) }))
}
