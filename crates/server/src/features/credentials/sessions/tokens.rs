//! Access tokens (contract 3.1): RS256, no `aud` unless the environment's template sets one.

use gatewright_base::{Rng, Timestamp, mint_ulid};
use gatewright_jose::{SigningKey, assurance};
use serde_json::{Map, Value};

use super::model::Session;
use super::standing::{Standing, Tenancy};
use crate::features::credentials::methods::authentication_methods;
use crate::features::records::environments::Client;
use crate::features::records::jwt_templates::{self, OrganizationFacts, TemplateFacts};
use crate::features::records::users::User;

/// What an access token is made of.
pub struct TokenFacts<'a> {
    pub client: &'a Client,
    pub session: &'a Session,
    pub user: &'a User,
    pub standing: &'a Standing,
    /// The environment's JWT template.
    pub template: Option<&'a str>,
    pub public_url: &'a str,
}

impl std::fmt::Debug for TokenFacts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFacts").field("session", &self.session.id).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the JWT template makes the token too big")]
    TooBig,
    #[error("the JWT template cannot be rendered: {0}")]
    Template(String),
    #[error(transparent)]
    Jose(#[from] gatewright_jose::JoseError),
}

/// Signs a fresh access token. Everything in it is looked up anew at each refresh.
pub fn mint(facts: &TokenFacts<'_>, signer: &SigningKey, now: Timestamp, rng: &dyn Rng) -> Result<String, TokenError> {
    let claims = claims(facts, now, rng)?;
    Ok(signer.sign_jwt(&claims)?)
}

/// `iss` of a client's tokens: `<public_url>/user_management/<client_id>` unless the environment pins another.
pub fn issuer(client: &Client, public_url: &str) -> String {
    let settings = &client.environment.settings;
    settings.issuer.clone().unwrap_or_else(|| format!("{public_url}/user_management/{}", client.id))
}

/// Seconds that an access token minted now lives. One of an impersonation never outlives its session, whatever is set for tokens.
pub fn lifetime(client: &Client, session: &Session, now: Timestamp) -> u32 {
    let usual = client.environment.settings.access_token_seconds;
    if session.impersonator.is_none() {
        return usual;
    }
    u32::try_from(session.expires_at.seconds() - now.seconds()).unwrap_or_default().min(usual)
}

fn claims(facts: &TokenFacts<'_>, now: Timestamp, rng: &dyn Rng) -> Result<Map<String, Value>, TokenError> {
    let TokenFacts { client, session, user, standing, template, public_url } = facts;
    let mut claims = Map::new();
    let issued = now.seconds();
    claims.insert("iss".into(), issuer(client, public_url).into());
    claims.insert("sub".into(), session.user_id.as_str().into());
    claims.insert("sid".into(), session.id.as_str().into());
    claims.insert("jti".into(), mint_ulid(now, rng).into());
    claims.insert("client_id".into(), client.id.as_str().into());
    claims.insert("auth_time".into(), session.authenticated_at.seconds().into());
    let amr = authentication_methods(session.method, session.second_factor);
    if !amr.is_empty() {
        claims.insert("acr".into(), assurance::acr(session.second_factor.is_some()).into());
        claims.insert("amr".into(), amr.into());
    }
    if let Some(impersonator) = &session.impersonator {
        claims.insert("act".into(), serde_json::json!({"sub": impersonator.email}));
    }
    if let Some(Tenancy { organization, grants, .. }) = &standing.tenancy {
        claims.insert("org_id".into(), organization.id.as_str().into());
        if let Some(role) = &grants.role {
            claims.insert("role".into(), role.as_str().into());
        }
        claims.insert("roles".into(), grants.roles.as_slice().into());
        claims.insert("permissions".into(), grants.permissions.as_slice().into());
    }
    if !standing.feature_flags.is_empty() {
        claims.insert("feature_flags".into(), standing.feature_flags.as_slice().into());
    }
    claims.insert("iat".into(), issued.into());
    claims.insert("exp".into(), (issued + i64::from(lifetime(client, session, now))).into());
    if let Some(template) = template {
        let rendered = jwt_templates::render(template, &template_facts(user, standing)).map_err(|error| match error {
            jwt_templates::RenderError::TooBig => TokenError::TooBig,
            error => TokenError::Template(error.to_string()),
        })?;
        // Reserved claims were refused when the template was stored; they are kept here whatever it says.
        for (name, value) in rendered {
            if !jwt_templates::RESERVED_CLAIMS.contains(&name.as_str()) {
                claims.insert(name, value);
            }
        }
    }
    Ok(claims)
}

fn template_facts<'a>(user: &'a User, standing: &'a Standing) -> TemplateFacts<'a> {
    let tenancy = standing.tenancy.as_ref();
    TemplateFacts {
        user,
        organization: tenancy.map(|tenancy| OrganizationFacts {
            organization: &tenancy.organization,
            domains: &tenancy.domains,
            membership: &tenancy.membership,
            role: tenancy.grants.role.as_deref(),
            roles: &tenancy.grants.roles,
        }),
    }
}
