use std::time::Duration;

use gatewright_base::Timestamp;
use serde_json::{Map, Value};

use crate::{Algorithm, Refusal, VerifyingKeys, strict_json, verify_jws};

/// 9999-12-31T23:59:59Z in seconds: a NumericDate beyond it is a mistake (milliseconds, an overflow) and not a date.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What a token must be to be believed here.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The exact `iss`; `None` only where the caller decides on the issuer from the claims.
    pub issuer: Option<&'a str>,
    /// A value that must be among `aud`; `None` only where tokens are not addressed to anyone.
    pub audience: Option<&'a str>,
    /// The kinds (`typ`) that may come, without `application/` and in any case (RFC 7515 §4.1.9, RFC 8725 §3.11). The
    /// empty text stands for a token without `typ`; an empty list lets nothing pass.
    pub typ: &'a [&'a str],
    /// The algorithms that may come; an empty list lets nothing pass.
    pub algorithms: &'a [Algorithm],
    pub now: Timestamp,
    /// How far the issuer's clock may be off, both ways.
    pub leeway: Duration,
}

/// The claims in `token`, if its signature, kind, times, issuer and audience are all as expected. `exp` must be there.
pub fn verify_jwt(jwks: &VerifyingKeys, token: &str, expect: &Expect<'_>) -> Result<Claims, Refusal> {
    let jws = verify_jws(jwks, token, expect.algorithms)?;
    check_type(jws.typ.as_deref(), jws.cty.as_deref(), expect.typ)?;
    let claims = Claims::from_members(strict_json::parse_object(&jws.payload)?)?;
    check_times(&claims, expect.now, expect.leeway)?;
    if expect.issuer.is_some_and(|issuer| claims.iss() != Some(issuer)) {
        return Err(Refusal::WrongIssuer);
    }
    if expect.audience.is_some_and(|audience| !claims.has_audience(audience)) {
        return Err(Refusal::WrongAudience);
    }
    Ok(claims)
}

/// The claims of a verified token. The registered ones have the types of RFC 7519 §4.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    members: Map<String, Value>,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
}

impl Claims {
    fn from_members(members: Map<String, Value>) -> Result<Self, Refusal> {
        let is_text_or_absent = |name| members.get(name).is_none_or(Value::is_string);
        if !["iss", "sub", "jti", "sid"].into_iter().all(is_text_or_absent) {
            return Err(Refusal::Malformed);
        }
        let aud_is_sound = match members.get("aud") {
            None | Some(Value::String(_)) => true,
            Some(Value::Array(items)) => items.iter().all(Value::is_string),
            Some(_) => false,
        };
        if !aud_is_sound {
            return Err(Refusal::Malformed);
        }
        let exp = seconds(&members, "exp")?.ok_or(Refusal::BadTime)?;
        let (nbf, iat) = (seconds(&members, "nbf")?, seconds(&members, "iat")?);
        Ok(Self { members, exp, nbf, iat })
    }

    pub fn iss(&self) -> Option<&str> {
        self.text("iss")
    }

    pub fn sub(&self) -> Option<&str> {
        self.text("sub")
    }

    /// The session (OpenID Connect Front-Channel Logout §3).
    pub fn sid(&self) -> Option<&str> {
        self.text("sid")
    }

    pub fn jti(&self) -> Option<&str> {
        self.text("jti")
    }

    /// When the token expires, in whole seconds since the epoch.
    pub fn exp(&self) -> i64 {
        self.exp
    }

    pub fn nbf(&self) -> Option<i64> {
        self.nbf
    }

    pub fn iat(&self) -> Option<i64> {
        self.iat
    }

    /// Every value of `aud`, be it one text or a list.
    pub fn audiences(&self) -> Vec<&str> {
        match self.claim("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether `audience` is among `aud`, compared octet by octet.
    pub fn has_audience(&self, audience: &str) -> bool {
        match self.claim("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(items)) => items.iter().any(|item| item == audience),
            _ => false,
        }
    }

    /// Any claim that is a text: `org_id`, `client_id`, `nonce`, `scope`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claim(name).and_then(Value::as_str)
    }

    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    pub fn as_map(&self) -> &Map<String, Value> {
        &self.members
    }

    pub fn into_map(self) -> Map<String, Value> {
        self.members
    }
}

/// A token in a token (`cty` `JWT`, RFC 7519 §5.2) is none of the kinds anybody here expects.
fn check_type(typ: Option<&str>, cty: Option<&str>, expected: &[&str]) -> Result<(), Refusal> {
    let nested = cty.is_some_and(|cty| bare_type(cty).eq_ignore_ascii_case("JWT"));
    let typ = bare_type(typ.unwrap_or(""));
    if nested || !expected.iter().any(|kind| kind.eq_ignore_ascii_case(typ)) {
        return Err(Refusal::WrongType);
    }
    Ok(())
}

/// RFC 7515 §4.1.9: `application/` may be left out where no other slash follows.
fn bare_type(media_type: &str) -> &str {
    const PREFIX: &str = "application/";
    match media_type.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) && !rest.contains('/') => rest,
        _ => media_type,
    }
}

fn check_times(claims: &Claims, now: Timestamp, leeway: Duration) -> Result<(), Refusal> {
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    if now >= at(claims.exp).plus(leeway) {
        return Err(Refusal::Expired);
    }
    let begins = claims.nbf.into_iter().chain(claims.iat).max();
    if begins.is_some_and(|begin| now.plus(leeway) < at(begin)) {
        return Err(Refusal::NotYetValid);
    }
    Ok(())
}

/// A NumericDate (RFC 7519 §2), its fraction cut off. Another JSON type is refused and never taken for an absent claim.
fn seconds(members: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let number = value.as_f64().filter(|n| (0.0..=LAST_SECOND).contains(n)).ok_or(Refusal::BadTime)?;
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 253402300799: exact in both types")]
    Ok(Some(number.trunc() as i64))
}
