//! Turning the signing key while tokens of before and after are in use: no verification may fail.
//!
//! It takes an operator's rights, so only who names a configuration or a data folder has it rehearsed.

use std::time::{Duration, Instant};

use gatewright_jose::{Algorithm, VerifyingKeys, verify_jws};
use gatewright_server::{Cx, operator};
use serde_json::Value;

use super::app::Credential;
use super::check::{AtApp, Check, Measure, Name};
use super::rehearsal::{Stage, Trouble, key_ids};
use super::server::SignedIn;
use super::watch::after;
use crate::cli::Target;
use crate::database;
use crate::failure::Failure;

/// How long both tokens are used after the turn.
const USED_FOR: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);
const NO_RIGHTS: &str = "it takes an operator's rights: name the server's configuration (--config) or data folder (--data)";

impl Stage {
    pub fn signing_key_rotation(&self) -> Result<Check, Trouble> {
        let Some(target) = &self.settings.operator else { return Err(Trouble::NotRun(NO_RIGHTS.to_owned())) };
        let (_, before) = self.things.signed_in()?;
        let cached = self.server.load_keys()?;
        let mut used = Used::default();
        self.use_token(&before, &cached, "before the turn", &mut used)?;
        rotate(target, &self.settings.client_id)?;
        let since = Instant::now();
        let after_turn = self.renew(&before)?;
        if after_turn.facts.kid == before.facts.kid {
            return Err(Trouble::Broken("the key was turned and the server signs with the old one".to_owned()));
        }
        while Instant::now() < since + USED_FOR && self.stop.sleep(PAUSE) {
            let published = self.server.load_keys()?;
            for (session, name) in [(&before, "of before"), (&after_turn, "of after")] {
                // A verifier that has not fetched the set since before the turn, and one that just did.
                self.use_token(session, &cached, name, &mut used)?;
                used.verify(session, &published, name);
            }
        }
        let Used { verified, not_verified, asked, refused } = used;
        let server = match not_verified {
            None => Measure::Held { asked: verified },
            Some(why) => Measure::Refused { why, asked: verified },
        };
        let at_app = match (self.app.is_some(), refused) {
            (false, _) => Vec::new(),
            (true, None) => vec![AtApp { credential: "bearer token", measure: Measure::Held { asked } }],
            (true, Some(why)) => vec![AtApp { credential: "bearer token", measure: Measure::Refused { why, asked } }],
        };
        let notes = vec![format!(
            "signed by {} until the turn and by {} from it on; used for {:.1} s",
            before.facts.kid,
            after_turn.facts.kid,
            after(since) / 1e3
        )];
        Ok(Check::new(Name::SigningKeyRotation, self.settings.bound, server, at_app, notes))
    }

    fn use_token(&self, session: &SignedIn, keys: &Value, name: &str, used: &mut Used) -> Result<(), String> {
        used.verify(session, keys, name);
        let Some(app) = &self.app else { return Ok(()) };
        let Some(path) = app.routes.user.as_deref() else { return Ok(()) };
        used.asked += 1;
        let status = app.ask(path, &Credential::bearer(&session.access_token));
        if !matches!(status, Ok(200..=299 | 403)) {
            let what = status.map_or_else(|why| why, |status| format!("it answered {status}"));
            used.refused.get_or_insert(format!("{what} to a token {name}"));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Used {
    verified: u32,
    not_verified: Option<String>,
    asked: u32,
    refused: Option<String>,
}

impl Used {
    /// As a verifier with this copy of the key set would.
    fn verify(&mut self, session: &SignedIn, keys: &Value, name: &str) {
        self.verified += 1;
        const ALL: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        let outcome = VerifyingKeys::from_provider_jwks(keys)
            .map_err(|error| error.to_string())
            .and_then(|set| verify_jws(&set, session.access_token.reveal(), ALL).map_err(|refusal| refusal.to_string()));
        if let Err(why) = outcome {
            let known = key_ids(keys).contains(&session.facts.kid.as_str());
            let known = if known { "in the set" } else { "not in the set" };
            self.not_verified.get_or_insert(format!("a token {name}: {why}; its key is {known}"));
        }
    }
}

/// Turns the key of the environment that has this client.
fn rotate(target: &Target, client_id: &str) -> Result<(), Trouble> {
    let turned = database::with_cx(target, async |cx: &Cx| {
        for environment in operator::list_environments(cx).await? {
            let clients = operator::list_clients(cx, &environment.id).await?;
            if clients.iter().any(|(client, _)| client.to_string() == client_id) {
                return Ok(operator::rotate_signing_key(cx, &environment).await.map(drop).map_err(|error| error.to_string()));
            }
        }
        Ok::<_, Failure>(Err("the database that was named has no client WORKOS_CLIENT_ID; name the server under drill".to_owned()))
    });
    match turned {
        Ok(Ok(())) => Ok(()),
        // Too early is no failure of the server: it is the rule that keeps verifiers from meeting unknown keys.
        Ok(Err(why)) => Err(Trouble::NotRun(why)),
        Err(failure) => Err(Trouble::NotRun(failure.message().to_owned())),
    }
}
