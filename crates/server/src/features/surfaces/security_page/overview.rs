//! The page with everything on it.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::Response;
use gatewright_base::{PageQuery, Timestamp};
use gatewright_db::{DbError, Tx};

use super::model::{Ago, Page};
use super::view::{FactorRow, Overview, PasskeyRow, PasswordRow, SessionRow, TwoStep};
use super::visitor::{Instead, SignedIn, take_notice};
use crate::features::credentials::authentication_factors::{self, Factor, FactorKind};
use crate::features::credentials::browser_sessions::{self, Listed};
use crate::features::credentials::letters::describe_browser;
use crate::features::credentials::methods::Method;
use crate::features::credentials::passkeys::{self, Passkey};
use crate::features::credentials::sessions::{self, Session};
use crate::features::credentials::{email_changes, passwords, recovery_codes};
use crate::features::records::environments::Mfa;
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::sign_in_policies;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::sms;
use crate::web::page::Visit;

/// More than anybody reads; the rest is told as a number, and "sign out others" ends it all the same.
const SHOWN: usize = 20;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query(&cx, &visit, Page::Overview).await?;
    let present = look(&cx, &signed_in).await?;
    let (notice, cookie) = take_notice(&cx, &visit);
    let mut page = signed_in.page(&cx, &visit, StatusCode::OK, &present.view(&cx, &signed_in, notice));
    if let Some(cookie) = cookie {
        page.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(page)
}

/// How many other places there are to sign out from.
pub async fn count_others(cx: &Cx, signed_in: &SignedIn) -> Result<u32, DbError> {
    let present = look(cx, signed_in).await?;
    Ok(u32::try_from(present.sessions.len() + present.browsers.len().saturating_sub(1)).unwrap_or(u32::MAX))
}

/// Everything about the person, read at one moment.
struct Present {
    has_password: bool,
    waiting_email: Option<String>,
    passkeys: Vec<Passkey>,
    factors: Vec<Factor>,
    codes_left: i64,
    browsers: Vec<Listed>,
    sessions: Vec<Session>,
    /// Names of the organizations that the sessions act for.
    organizations: Vec<(String, String)>,
}

async fn look(cx: &Cx, signed_in: &SignedIn) -> Result<Present, DbError> {
    let (client, person, here, now) = (signed_in.client.clone(), signed_in.user.clone(), signed_in.token_hash.clone(), cx.now());
    cx.db()
        .scan(move |tx| {
            let (environment, user) = (&client.environment.id, person.id.clone());
            let page = PageQuery { limit: 100, ..PageQuery::default() };
            let mut sessions = sessions::list_active(tx, &client.environment, &person, now, &page)?.data;
            sessions.sort_by_key(|session| std::cmp::Reverse(session.last_active_at));
            // What no page takes for the person any more; this browser's has been taken.
            let policy = sign_in_policies::find_effective_for(tx, environment, &client.environment.settings, None, person.email.key())?;
            let mut browsers = browser_sessions::list_of_user(tx, environment, &user, now)?;
            browsers.retain(|listed| listed.token_hash == here || !policy.is_idle(listed.session.idle(now)));
            Ok(Present {
                has_password: passwords::find(tx, environment, &user)?.is_some(),
                waiting_email: email_changes::find_open(tx, environment, &user, now)?.map(|change| change.new_email),
                passkeys: passkeys::list_of_user(tx, environment, &user)?,
                factors: authentication_factors::list_of_user(tx, environment, &user)?,
                codes_left: recovery_codes::count_left(tx, environment, &user)?,
                browsers,
                organizations: name_organizations(tx, environment, &sessions)?,
                sessions,
            })
        })
        .await
}

fn name_organizations(tx: &mut Tx<'_>, environment: &EnvironmentId, sessions: &[Session]) -> Result<Vec<(String, String)>, DbError> {
    let mut ids: Vec<OrganizationId> =
        sessions.iter().filter_map(|session| session.organization_id.as_deref()).map(OrganizationId::from_text).collect();
    ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    ids.dedup_by(|a, b| a.as_str() == b.as_str());
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(organizations::find_many(tx, environment, &ids)?.into_iter().map(|one| (one.id.to_string(), one.name)).collect())
}

impl Present {
    fn view(&self, cx: &Cx, signed_in: &SignedIn, notice: Option<super::model::Notice>) -> Overview {
        let now = cx.now();
        let settings = &signed_in.client.environment.settings;
        let mut rows: Vec<SessionRow> = self.browsers.iter().map(|listed| browser_row(cx, signed_in, listed, now)).collect();
        rows.sort_by_key(|row| !row.here);
        rows.extend(self.sessions.iter().map(|session| self.session_row(cx, session, now)));
        let total = rows.len();
        rows.truncate(SHOWN);
        Overview {
            top: signed_in.top(),
            notice: notice.map(super::view::notice_key),
            password: settings.password.then_some(PasswordRow { is_set: self.has_password }),
            passkeys: passkeys::are_allowed(cx, &signed_in.client.environment)
                .then(|| self.passkeys.iter().map(|passkey| passkey_row(passkey, now)).collect()),
            code_allowed: settings.magic_auth,
            two_step: (settings.mfa != Mfa::Off).then(|| TwoStep {
                factors: self.factors.iter().map(|factor| factor_row(factor, now)).collect(),
                codes_left: self.codes_left,
                phone_allowed: sms::is_configured(cx),
            }),
            email_verified: signed_in.user.email_verified,
            waiting_email: self.waiting_email.clone(),
            more: u32::try_from(total - rows.len()).unwrap_or(u32::MAX),
            others: total > 1,
            sessions: rows,
        }
    }

    fn session_row(&self, cx: &Cx, session: &Session, now: Timestamp) -> SessionRow {
        let organization = session.organization_id.as_deref();
        let name = organization.and_then(|id| self.organizations.iter().find(|(known, _)| known == id)).map(|(_, name)| name.clone());
        SessionRow {
            handle: session.id.to_string(),
            device: session.user_agent.as_deref().and_then(describe_browser),
            is_app: true,
            here: false,
            organization: name,
            place: describe_place(cx, session.ip_address.as_deref()),
            method: method_key(session.method),
            used: Ago::of(session.last_active_at, now),
            used_at: session.last_active_at,
        }
    }
}

fn passkey_row(passkey: &Passkey, now: Timestamp) -> PasskeyRow {
    PasskeyRow {
        id: passkey.id.to_string(),
        name: passkey.name.clone(),
        added: Ago::of(passkey.created_at, now),
        added_at: passkey.created_at,
        used: passkey.last_used_at.map(|at| Ago::of(at, now)),
    }
}

fn factor_row(factor: &Factor, now: Timestamp) -> FactorRow {
    let added_at = factor.verified_at.unwrap_or(factor.created_at);
    FactorRow {
        id: factor.id.to_string(),
        phone: match &factor.kind {
            FactorKind::Sms { phone_number } => Some(phone_number.masked_word()),
            FactorKind::Totp { .. } | FactorKind::GenericOtp => None,
        },
        added: Ago::of(added_at, now),
        added_at,
        used: factor.last_used_at.map(|at| Ago::of(at, now)),
    }
}

fn browser_row(cx: &Cx, signed_in: &SignedIn, listed: &Listed, now: Timestamp) -> SessionRow {
    let here = listed.token_hash == signed_in.token_hash;
    let used_at = if here { now } else { listed.session.last_used_at };
    SessionRow {
        handle: listed.handle(cx),
        device: listed.session.user_agent.as_deref().and_then(describe_browser),
        is_app: false,
        here,
        organization: None,
        place: describe_place(cx, listed.session.ip_address.as_deref()),
        method: method_key(listed.session.method),
        used: Ago::of(used_at, now),
        used_at,
    }
}

/// The address, and its country where the operator's table of places knows it.
fn describe_place(cx: &Cx, address: Option<&str>) -> Option<String> {
    let address = address?;
    let place = address.parse::<IpAddr>().ok().and_then(|ip| cx.places().find(ip));
    let country = place.as_ref().and_then(|place| place.country_code());
    Some(country.map_or_else(|| address.to_owned(), |country| format!("{address} ({country})")))
}

fn method_key(method: Method) -> &'static str {
    match method {
        Method::Password => "account.method.password",
        Method::MagicAuth => "account.method.code",
        Method::Passkey => "account.method.passkey",
        Method::Impersonation => "account.method.impersonation",
    }
}
