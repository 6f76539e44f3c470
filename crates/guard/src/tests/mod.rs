//! Tokens, honest and forged, against everything that turns one into a principal.

mod attacks;
mod mappings;
mod parsing;
mod wycheproof;

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use gatewright_base::Timestamp;
use gatewright_jose::{self as jose, Algorithm, VerifyingKeys, b64};
use serde_json::{Value, json};

use crate::{Issuer, IssuerKind, KeyRing, Principal, Refusal, Revocations, Verifiable, VerifyError, Via, authenticate};

pub(crate) const NOW: i64 = 1_768_478_400;
pub(crate) const BASE: &str = "https://auth.example.com";
pub(crate) const CLIENT: &str = "client_1";
pub(crate) const PROVIDER: &str = "https://idp.example.net/";

pub(crate) fn now() -> Timestamp {
    at(NOW)
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// A signer that puts its name under anything: an honest key in the hands of somebody who can choose every octet.
pub(crate) struct Forge {
    pair: Ed25519KeyPair,
    pub(crate) kid: &'static str,
}

impl Forge {
    pub(crate) fn new(seed: u8, kid: &'static str) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), kid }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = b64::encode_url(self.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x })
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(payload));
        let signature = b64::encode_url(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Under the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(""), &claims.to_string())
    }

    /// The usual header with `member`, if any, put in at the end.
    pub(crate) fn header(&self, member: &str) -> String {
        let comma = if member.is_empty() { "" } else { "," };
        format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"{comma}{member}}}"#, self.kid)
    }
}

#[derive(Default)]
pub(crate) struct Ring(BTreeMap<String, VerifyingKeys>);

impl Ring {
    pub(crate) fn with(mut self, issuer: &str, jwk: Value) -> Self {
        self.0.insert(issuer.to_owned(), VerifyingKeys::from_provider_jwks(&json!({ "keys": [jwk] })).unwrap());
        self
    }
}

impl KeyRing for Ring {
    fn find_keys(&self, issuer: &str) -> Option<&VerifyingKeys> {
        self.0.get(issuer)
    }
}

/// The keys of the three issuers below, each another's under one `kid`.
pub(crate) fn ring() -> Ring {
    let jwk = |seed| Forge::new(seed, "key_1").jwk();
    Ring::default().with("sessions", jwk(1)).with("oauth", jwk(2)).with("provider", jwk(3))
}

pub(crate) fn issuers() -> Vec<Issuer> {
    let issuer = |name: &str, issuer: String, kind, audience: &str| Issuer {
        audiences: vec![audience.to_owned()],
        algorithms: vec![Algorithm::EdDSA],
        ..Issuer::new(name, issuer, kind)
    };
    vec![
        issuer("sessions", format!("{BASE}/user_management/{CLIENT}"), IssuerKind::GatewrightSession, CLIENT),
        issuer("oauth", BASE.to_owned(), IssuerKind::GatewrightOauth, CLIENT),
        issuer("provider", PROVIDER.to_owned(), IssuerKind::Openid, "https://api.example.com"),
    ]
}

pub(crate) fn session_claims() -> Value {
    json!({
        "iss": format!("{BASE}/user_management/{CLIENT}"), "sub": "user_1", "sid": "session_1", "jti": "J", "iat": NOW, "exp": NOW + 300,
        "client_id": CLIENT, "org_id": "org_1", "role": "admin", "roles": ["admin", "member"], "permissions": ["expenses:read"],
        "auth_time": NOW - 60,
    })
}

pub(crate) fn oauth_claims() -> Value {
    json!({
        "iss": BASE, "aud": CLIENT, "sub": "user_1", "sid": "app_consent_1", "client_id": "client_2", "scope": "openid expenses:read",
        "jti": "J", "iat": NOW, "exp": NOW + 300,
    })
}

pub(crate) fn provider_claims() -> Value {
    json!({
        "iss": PROVIDER, "aud": "https://api.example.com", "sub": "auth0|1", "azp": "spa", "scope": "read:expenses", "iat": NOW,
        "exp": NOW + 300,
    })
}

/// A way in: whose token, how it comes, and what is in it when all is well.
pub(crate) struct Face {
    pub(crate) name: &'static str,
    pub(crate) forge: Forge,
    pub(crate) claims: Value,
    pub(crate) via: Via,
}

/// Every way in for a token.
pub(crate) fn faces() -> Vec<Face> {
    let face = |name, seed, claims, via| Face { name, forge: Forge::new(seed, "key_1"), claims, via };
    vec![
        face("session token as bearer", 1, session_claims(), Via::Bearer),
        face("session token in a sealed session", 1, session_claims(), Via::Session),
        face("OAuth token as bearer", 2, oauth_claims(), Via::Bearer),
        face("provider's token as bearer", 3, provider_claims(), Via::Bearer),
    ]
}

impl Face {
    pub(crate) fn verdict(&self, token: &str) -> Result<Principal, VerifyError> {
        verdict(self.via, token)
    }

    /// The claims as text, with `member` as given before the rest and without those named.
    pub(crate) fn claims_with(&self, member: &str, without: &[&str]) -> String {
        let mut claims = self.claims.clone();
        for name in without {
            claims.as_object_mut().unwrap().remove(*name);
        }
        claims.to_string().replacen('{', &format!("{{{member},"), 1)
    }

    pub(crate) fn with_claims(&self, member: &str, without: &[&str]) -> String {
        self.forge.sign(&self.forge.header(""), &self.claims_with(member, without))
    }

    pub(crate) fn with_header(&self, member: &str) -> String {
        self.forge.sign(&self.forge.header(member), &self.claims.to_string())
    }
}

pub(crate) fn invalid(reason: jose::Refusal) -> VerifyError {
    VerifyError::Refused(Refusal::InvalidToken(reason))
}

pub(crate) fn bearer_verdict(token: &str) -> Result<Principal, VerifyError> {
    verdict(Via::Bearer, token)
}

/// What the pure core says of `token`; whatever is tried against it is tried against an axum app too.
fn verdict(via: Via, token: &str) -> Result<Principal, VerifyError> {
    let credential = Verifiable { via, ..Verifiable::bearer(token) };
    let verdict = authenticate(&ring(), &Revocations::new(), &issuers(), &credential, now());
    #[cfg(feature = "axum")]
    crate::axum::tests::forgeries::assert_agrees(via, token, verdict.as_ref().ok());
    verdict
}
