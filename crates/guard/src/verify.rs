use std::fmt;

use gatewright_base::Timestamp;
use gatewright_jose::{self as jose, Claims, Expect, VerifyingKeys, b64, verify_jwt};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::issuer::{Issuer, IssuerKind, Mapping};
use crate::{Kind, Principal, Refusal, Requirement, Revocations, Via, satisfy};

/// The issuers' keys as they are now.
pub trait KeyRing {
    /// The keys of the issuer of that name; `None` while none have been had.
    fn find_keys(&self, issuer: &str) -> Option<&VerifyingKeys>;
}

/// A token to verify, and what came with it.
#[derive(Clone, Copy)]
pub struct Verifiable<'a> {
    /// The access token: the bearer token, or the one in a sealed session.
    pub token: &'a str,
    pub via: Via,
    /// The user object of a sealed session.
    pub user: Option<&'a Value>,
    /// The impersonator of a sealed session.
    pub impersonator: Option<&'a Value>,
}

impl<'a> Verifiable<'a> {
    pub fn bearer(token: &'a str) -> Self {
        Self { token, via: Via::Bearer, user: None, impersonator: None }
    }
}

impl fmt::Debug for Verifiable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifiable").field("via", &self.via).finish_non_exhaustive()
    }
}

/// Why there is no principal (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    Refused(Refusal),
    /// The issuer of that name may have published the key meanwhile.
    UnknownKey {
        issuer: String,
    },
    /// No key set of the issuer of that name has been had yet.
    NoKeys {
        issuer: String,
    },
    /// Not a JWT: only an issuer's introspection can tell.
    Opaque,
}

impl From<Refusal> for VerifyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<jose::Refusal> for VerifyError {
    fn from(reason: jose::Refusal) -> Self {
        Self::Refused(Refusal::InvalidToken(reason))
    }
}

/// The principal of `credential`, if the token is good and the principal satisfies `requirement`.
pub fn verify(
    keys: &dyn KeyRing,
    revocations: &Revocations,
    issuers: &[Issuer],
    requirement: &Requirement,
    credential: &Verifiable<'_>,
    now: Timestamp,
) -> Result<Principal, VerifyError> {
    let principal = authenticate(keys, revocations, issuers, credential, now)?;
    satisfy(requirement, &principal, None, now)?;
    Ok(principal)
}

/// The principal of `credential`, whatever it may do: [`satisfy`] decides on that.
pub fn authenticate(
    keys: &dyn KeyRing,
    revocations: &Revocations,
    issuers: &[Issuer],
    credential: &Verifiable<'_>,
    now: Timestamp,
) -> Result<Principal, VerifyError> {
    let token = credential.token;
    let unverified = read_unverified(token)?;
    let issuer = find_issuer(issuers, &unverified).ok_or(jose::Refusal::WrongIssuer)?;
    if credential.via == Via::Session && issuer.kind != IssuerKind::GatewrightSession {
        return Err(Refusal::InvalidSession.into());
    }
    let keys = keys.find_keys(&issuer.name).ok_or_else(|| VerifyError::NoKeys { issuer: issuer.name.clone() })?;

    let types: Vec<&str> = issuer.types.iter().map(String::as_str).collect();
    let expect = Expect {
        issuer: Some(&issuer.issuer),
        // Which claim holds it, and whether it must be there, differs between issuers: `check_audience`.
        audience: None,
        typ: &types,
        algorithms: &issuer.algorithms,
        now,
        leeway: issuer.leeway(),
    };
    let claims = verify_jwt(keys, token, &expect).map_err(|reason| match reason {
        jose::Refusal::UnknownKey => VerifyError::UnknownKey { issuer: issuer.name.clone() },
        reason => reason.into(),
    })?;
    check_audience(issuer, claims.as_map())?;
    check_purpose(issuer.kind, claims.as_map())?;

    let times = Times::of(&claims);
    let mut principal = map_claims(issuer, credential.via, claims.into_map(), times, now)?;
    principal.key_id = unverified.kid;
    add_session(&mut principal, credential)?;
    if revocations.is_revoked(&principal, now) {
        return Err(Refusal::Revoked.into());
    }
    Ok(principal)
}

/// The principal of an active introspection answer (RFC 7662 §2.2) of `issuer`. Its members are optional there: what is given must
/// be right. Without `exp` the principal is good for `good_for`.
pub fn accept_introspection(
    issuer: &Issuer,
    revocations: &Revocations,
    answer: Map<String, Value>,
    good_for: std::time::Duration,
    now: Timestamp,
) -> Result<Principal, Refusal> {
    if answer.get("active") != Some(&Value::Bool(true)) {
        return Err(Refusal::Inactive);
    }
    let wrong = |reason| Err(Refusal::InvalidToken(reason));
    if answer.get("iss").is_some_and(|iss| iss != issuer.issuer.as_str()) {
        return wrong(jose::Refusal::WrongIssuer);
    }
    // `active` is said of refresh tokens too (RFC 7662 §2.2), whatever the hint: those name no audience, and have no type a resource takes.
    if answer.get("token_type").is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer"))) {
        return wrong(jose::Refusal::WrongType);
    }
    check_audience(issuer, &answer).map_err(Refusal::InvalidToken)?;
    check_purpose(IssuerKind::Openid, &answer).map_err(Refusal::InvalidToken)?;
    let leeway = issuer.leeway();
    let time = |name| match answer.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => numeric_date(value).map(Some).ok_or(Refusal::InvalidToken(jose::Refusal::BadTime)),
    };
    let times = Times { not_before: time("nbf")?, issued_at: time("iat")?, expires_at: time("exp")?.unwrap_or_else(|| now.plus(good_for)) };
    if now >= times.expires_at.plus(leeway) {
        return wrong(jose::Refusal::Expired);
    }
    if times.not_before.is_some_and(|from| now.plus(leeway) < from) {
        return wrong(jose::Refusal::NotYetValid);
    }
    // RFC 7662 §2.2: `sub` is optional. A token without a person is the client's own.
    let mut answer = answer;
    if find_text(&answer, &issuer.mapping.subject).is_none()
        && let (Some(name), Some(client)) = (issuer.mapping.subject.first(), find_text(&answer, &issuer.mapping.client).map(str::to_owned))
    {
        answer.insert(name.clone(), client.into());
    }
    let principal = map_claims(issuer, Via::Bearer, answer, times, now)?;
    if revocations.is_revoked(&principal, now) {
        return Err(Refusal::Revoked);
    }
    Ok(principal)
}

/// What an unverified token says about who shall verify it. Good for that choice only.
struct Unverified {
    kid: Option<String>,
    iss: String,
    sid: Option<String>,
}

fn read_unverified(token: &str) -> Result<Unverified, VerifyError> {
    #[derive(Deserialize)]
    struct Header {
        kid: Option<String>,
        enc: Option<String>,
    }
    #[derive(Deserialize)]
    struct Payload {
        iss: Option<String>,
        sid: Option<String>,
    }
    if token.len() > jose::MAX_TOKEN_LEN {
        return Err(jose::Refusal::TooLong.into());
    }
    let mut parts = token.split('.');
    let header = parts.next().and_then(b64::decode_url).filter(|bytes| bytes.first() == Some(&b'{')).ok_or(VerifyError::Opaque)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| jose::Refusal::Malformed)?;
    // Encrypted for its issuer, who alone can tell (Auth0's opaque tokens are such).
    if header.enc.is_some() {
        return Err(VerifyError::Opaque);
    }
    // What begins as a signed token is one, however mangled: with more after it, it may still hold a good one, which no other issuer is shown.
    let (Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(jose::Refusal::Malformed.into());
    };
    let payload = b64::decode_url(payload).ok_or(jose::Refusal::Malformed)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| jose::Refusal::Malformed)?;
    Ok(Unverified { kid: header.kid, iss: payload.iss.ok_or(jose::Refusal::WrongIssuer)?, sid: payload.sid })
}

/// Our sessions and our OAuth server may share one `iss`, where a deployment pins it; the kind of `sid` tells their tokens apart, and
/// is verified with the rest.
fn find_issuer<'i>(issuers: &'i [Issuer], unverified: &Unverified) -> Option<&'i Issuer> {
    let mut named = issuers.iter().filter(|issuer| issuer.issuer == unverified.iss);
    let first = named.next()?;
    let Some(second) = named.next() else { return Some(first) };
    let wants_session = is_session_id(unverified.sid.as_deref());
    [first, second].into_iter().find(|issuer| (issuer.kind == IssuerKind::GatewrightSession) == wants_session)
}

fn is_session_id(sid: Option<&str>) -> bool {
    sid.is_some_and(|sid| sid.starts_with("session_"))
}

fn check_audience(issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), jose::Refusal> {
    let is_here = |value: &Value| value.as_str().is_some_and(|audience| issuer.audiences.iter().any(|ours| ours == audience));
    let is_right = match find_claim(claims, &issuer.audience_claim) {
        None => issuer.kind == IssuerKind::GatewrightSession,
        Some(Value::Array(audiences)) => audiences.iter().any(is_here),
        Some(audience) => is_here(audience),
    };
    if is_right { Ok(()) } else { Err(jose::Refusal::WrongAudience) }
}

/// Whether these are the claims of an access token: issuers sign ID tokens, refresh tokens and logout tokens with the same keys.
fn check_purpose(kind: IssuerKind, claims: &Map<String, Value>) -> Result<(), jose::Refusal> {
    // OpenID Connect Core §2 and §3.3.2.11; Back-Channel Logout §2.4.
    const OF_OTHER_TOKENS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // Keycloak puts `Bearer`, `ID`, `Refresh`, `Offline` in the body; Cognito `access` and `id`, Ory `access_token` and `refresh_token`.
    let is_keycloak_other = claims.get("typ").is_some_and(|typ| typ != "Bearer");
    let is_used_otherwise = claims.get("token_use").is_some_and(|token_use| token_use != "access" && token_use != "access_token");
    // Bound to a key (RFC 7800): worth nothing without the proof, which is not asked for here.
    let is_bound = claims.contains_key("cnf");
    let is_ours = match kind {
        IssuerKind::GatewrightSession => is_session_id(text("sid")) && text("sub").is_some_and(|sub| !sub.is_empty()),
        // Our ID tokens say for which application in `aud` alone.
        IssuerKind::GatewrightOauth => text("client_id").is_some_and(|client| !client.is_empty()) && !is_session_id(text("sid")),
        IssuerKind::Openid => true,
    };
    if OF_OTHER_TOKENS.iter().any(|name| claims.contains_key(*name)) || is_keycloak_other || is_used_otherwise || is_bound || !is_ours {
        return Err(jose::Refusal::WrongType);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Times {
    not_before: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    expires_at: Timestamp,
}

impl Times {
    fn of(claims: &Claims) -> Self {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        Self { not_before: claims.nbf().map(at), issued_at: claims.iat().map(at), expires_at: at(claims.exp()) }
    }
}

fn map_claims(issuer: &Issuer, via: Via, claims: Map<String, Value>, times: Times, now: Timestamp) -> Result<Principal, Refusal> {
    let mapping = &issuer.mapping;
    let text = |paths: &[String]| find_text(&claims, paths).map(str::to_owned);
    let subject = text(&mapping.subject).ok_or(Refusal::InvalidToken(jose::Refusal::Malformed))?;
    let client_id = text(&mapping.client);
    let mut principal = Principal::new(Kind::User, via, issuer.issuer.as_str(), subject, times.expires_at);
    if issuer.kind != IssuerKind::GatewrightSession && is_machine(&claims, &principal.subject, client_id.as_deref()) {
        principal.kind = Kind::Machine;
    }
    principal.client_id = client_id;
    principal.session_id = text(&mapping.session);
    principal.organization_id = text(&mapping.organization);
    principal.email = text(&mapping.email);
    principal.token_id = claims.get("jti").and_then(Value::as_str).map(str::to_owned);
    principal.actor = claims.get("act").and_then(|act| act.get("sub")).and_then(Value::as_str).map(str::to_owned);
    principal.acr = claims.get("acr").and_then(Value::as_str).map(str::to_owned);
    principal.amr = collect(&claims, &["amr"], false);
    principal.entitlements = collect(&claims, &["entitlements"], false);
    principal.feature_flags = collect(&claims, &["feature_flags"], false);
    principal.not_before = times.not_before;
    principal.issued_at = times.issued_at;
    // A sign-in in the future would be recent for ever.
    let auth_time = claims.get("auth_time").and_then(numeric_date);
    principal.authenticated_at = auth_time.filter(|at| *at <= now.plus(issuer.leeway()));

    principal.roles = rename(mapping, "role", collect(&claims, &mapping.roles, false));
    principal.scopes = rename(mapping, "scope", collect(&claims, &mapping.scopes, true));
    principal.permissions = rename(mapping, "permission", collect(&claims, &mapping.permissions, false));
    add_granted(mapping, &mut principal);
    principal.claims = claims;
    Ok(principal)
}

/// A token that no person stands behind: issued to the client for itself (RFC 9068 §2.2), or said to be so by Auth0 or Entra.
fn is_machine(claims: &Map<String, Value>, subject: &str, client_id: Option<&str>) -> bool {
    let says = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    client_id == Some(subject) || says("gty", "client-credentials") || says("idtyp", "app")
}

fn add_session(principal: &mut Principal, credential: &Verifiable<'_>) -> Result<(), Refusal> {
    if let Some(user) = credential.user.filter(|user| user.is_object()) {
        // The cookie's parts were sealed together, but by whoever holds the password: a user beside another's token is a mistake.
        if user.get("id").is_some_and(|id| id != principal.subject.as_str()) {
            return Err(Refusal::InvalidSession);
        }
        if principal.email.is_none() {
            principal.email = user.get("email").and_then(Value::as_str).map(str::to_owned);
        }
        principal.user = Some(user.clone());
    }
    if principal.actor.is_none() {
        let email = credential.impersonator.and_then(|impersonator| impersonator.get("email"));
        principal.actor = email.and_then(Value::as_str).map(str::to_owned);
    }
    Ok(())
}

/// The claim of that name, or where the dotted path leads. The name first: `https://example.com/roles` is one.
fn find_claim<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| value.get(name))
}

fn find_text<'c>(claims: &'c Map<String, Value>, paths: &[String]) -> Option<&'c str> {
    paths.iter().find_map(|path| find_claim(claims, path).and_then(Value::as_str).filter(|text| !text.is_empty()))
}

/// Every text that stands at one of `paths`.
fn collect<P: AsRef<str>>(claims: &Map<String, Value>, paths: &[P], split: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut sources = 0;
    for path in paths {
        let before = found.len();
        match find_claim(claims, path.as_ref()) {
            Some(Value::String(text)) if split => found.extend(text.split_ascii_whitespace().map(str::to_owned)),
            Some(Value::String(text)) if !text.is_empty() => found.push(text.clone()),
            Some(Value::Array(items)) => found.extend(items.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
        sources += usize::from(found.len() > before);
    }
    if sources > 1 { once_each(found) } else { found }
}

fn once_each(mut names: Vec<String>) -> Vec<String> {
    if names.len() > 1 {
        let mut seen = std::collections::HashSet::with_capacity(names.len());
        let is_first: Vec<bool> = names.iter().map(|name| seen.insert(name.as_str())).collect();
        let mut is_first = is_first.into_iter();
        names.retain(|_| is_first.next().unwrap_or(false));
    }
    names
}

fn rename(mapping: &Mapping, sort: &str, names: Vec<String>) -> Vec<String> {
    if mapping.rename.is_empty() {
        return names;
    }
    once_each(names.into_iter().map(|name| mapping.rename.get(&format!("{sort}:{name}")).cloned().unwrap_or(name)).collect())
}

fn add_granted(mapping: &Mapping, principal: &mut Principal) {
    if mapping.grants.is_empty() {
        return;
    }
    let sorts = [("role", &principal.roles), ("scope", &principal.scopes), ("permission", &principal.permissions)];
    let names = sorts.into_iter().flat_map(|(sort, names)| names.iter().map(move |name| format!("{sort}:{name}")));
    let granted: Vec<String> = names.filter_map(|name| mapping.grants.get(&name)).flatten().cloned().collect();
    principal.permissions.extend(granted);
    principal.permissions = once_each(std::mem::take(&mut principal.permissions));
}

/// A moment in whole seconds since the epoch (RFC 7519 §2), up to the year 9999.
fn numeric_date(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| (0.0..=253_402_300_799.0).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 253402300799: exact in both types")]
    Some(Timestamp::from_millis(seconds.trunc() as i64 * 1000))
}
