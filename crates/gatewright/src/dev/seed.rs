//! Who is there at the beginning.

use std::path::Path;

use gatewright_server::operator::{self, EnvironmentId, NewPerson, RedirectKind};
use gatewright_server::{Cx, operator::OperatorError};
use serde::Deserialize;

use super::folder::KeptUser;
use crate::failure::Failure;

/// Public by intent: the server answers this machine only.
const DEMO_PASSWORD: &str = "paper-lantern-42";

/// `--seed FILE`: `[[users]]` and lists of redirects, all for the environment `development`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seed {
    pub users: Vec<SeedUser>,
    pub redirect_uris: Vec<String>,
    pub sign_out_redirects: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedUser {
    pub email: String,
    /// The demo password if it is left out.
    pub password: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    #[serde(default = "yes")]
    pub email_verified: bool,
}

fn yes() -> bool {
    true
}

impl Seed {
    /// Reads a TOML or JSON file, by its ending.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let fail = |problem: String| Failure::usage(format!("--seed: {}: {problem}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|error| fail(format!("{}; give the path of a TOML or JSON file", crate::serve::plain(&error))))?;
        let remedy = "write [[users]] with email, password, first_name, last_name and email_verified, redirect_uris = [..], sign_out_redirects = [..]";
        if path.extension().is_some_and(|extension| extension == "json") {
            return serde_json::from_str(&text).map_err(|error| fail(format!("{error}; {remedy}")));
        }
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            fail(format!("line {line}: {}; {remedy}", error.message()))
        })
    }

    /// Alice and Bob, for a first start without a file.
    pub fn demo() -> Self {
        let person = |email: &str, first: &str, last: &str| SeedUser {
            email: email.to_owned(),
            password: None,
            first_name: Some(first.to_owned()),
            last_name: Some(last.to_owned()),
            email_verified: true,
        };
        let users = vec![person("alice@example.test", "Alice", "Archer"), person("bob@example.test", "Bob", "Baker")];
        Self { users, ..Self::default() }
    }

    /// Adds what is not there yet; what is there stays as it is.
    pub async fn plant(&self, cx: &Cx, environment: &EnvironmentId) -> Result<Vec<KeptUser>, Failure> {
        let mut planting = tokio::task::JoinSet::new();
        for user in self.users.clone() {
            let (cx, environment) = (cx.clone(), environment.clone());
            planting.spawn(async move { plant_user(&cx, &environment, user).await });
        }
        // Hashes are made side by side.
        for planted in planting.join_all().await {
            planted?;
        }
        for (kind, uris) in [(RedirectKind::SignIn, &self.redirect_uris), (RedirectKind::SignOut, &self.sign_out_redirects)] {
            let known = operator::list_redirects(cx, kind, environment).await?;
            for uri in uris.iter().filter(|uri| !known.iter().any(|row| row.uri == **uri)) {
                operator::add_redirect(cx, kind, environment, uri).await?;
            }
        }
        Ok(self.users.iter().map(SeedUser::kept).collect())
    }
}

async fn plant_user(cx: &Cx, environment: &EnvironmentId, user: SeedUser) -> Result<(), OperatorError> {
    let person = NewPerson {
        password: Some(user.kept().password.into()),
        email: user.email,
        first_name: user.first_name,
        last_name: user.last_name,
        email_verified: user.email_verified,
    };
    operator::create_user(cx, environment, &person).await.map(drop)
}

impl SeedUser {
    fn kept(&self) -> KeptUser {
        KeptUser {
            email: self.email.clone(),
            password: self.password.clone().unwrap_or_else(|| DEMO_PASSWORD.to_owned()),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> Result<Seed, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Seed::load(&path).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn seeds_are_toml_or_json() {
        let toml = load(
            "seed.toml",
            "redirect_uris = [\"https://a.example/callback\"]\n[[users]]\nemail = \"carol@example.test\"\nemail_verified = false",
        )
        .unwrap();
        assert_eq!(
            (toml.users[0].email.as_str(), toml.users[0].email_verified, toml.redirect_uris.len()),
            ("carol@example.test", false, 1)
        );
        let json = load("seed.json", r#"{"users":[{"email":"carol@example.test","password":"a long enough one"}]}"#).unwrap();
        assert_eq!(json.users[0].kept().password, "a long enough one");
    }

    #[test]
    fn wrong_seeds_are_one_line_with_a_remedy() {
        for (name, text) in [("seed.toml", "[[users]]\nmail = \"x\""), ("seed.toml", "["), ("seed.json", "{\"users\":[{}]}")] {
            let message = load(name, text).unwrap_err();
            assert!(message.starts_with("--seed: ") && message.contains("; write ") && !message.contains('\n'), "{message}");
        }
    }
}
