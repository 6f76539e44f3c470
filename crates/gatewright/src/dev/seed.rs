//! Who is there at the beginning.

use std::path::Path;

use gatewright_server::operator::{
    self, EnvironmentId, NewFeatureFlag, NewMember, NewPermission, NewPerson, NewResourceType, RedirectKind,
};
use gatewright_server::{Cx, operator::OperatorError};
use serde::Deserialize;

use super::folder::KeptUser;
use crate::failure::Failure;

/// Public by intent: the server answers this machine only.
const DEMO_PASSWORD: &str = "paper-lantern-42";

/// `--seed FILE`: `[[users]]`, `[[permissions]]`, `[[organizations]]`, `[[feature_flags]]`, `[[resource_types]]` and lists of redirects, all for the environment `development`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seed {
    pub users: Vec<SeedUser>,
    pub permissions: Vec<SeedPermission>,
    pub organizations: Vec<SeedOrganization>,
    pub feature_flags: Vec<SeedFlag>,
    pub resource_types: Vec<SeedResourceType>,
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

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedPermission {
    pub slug: String,
    /// The slug if it is left out.
    pub name: Option<String>,
    pub description: Option<String>,
    /// The roles that grant it.
    #[serde(default)]
    pub roles: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedOrganization {
    pub name: String,
    /// By this it is found again; made of the name if it is left out.
    pub external_id: Option<String>,
    #[serde(default)]
    pub members: Vec<SeedMember>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedMember {
    pub email: String,
    #[serde(default = "member")]
    pub role: String,
}

fn member() -> String {
    "member".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFlag {
    pub slug: String,
    /// The slug if it is left out.
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether it is on for those who are no target.
    #[serde(default)]
    pub default_value: bool,
    /// Targets: e-mail addresses.
    #[serde(default)]
    pub users: Vec<String>,
    /// Targets: external ids.
    #[serde(default)]
    pub organizations: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedResourceType {
    pub slug: String,
    /// The slug if it is left out.
    pub name: Option<String>,
    pub description: Option<String>,
    /// Below which types its resources may stand: those named before it, itself, or the organization if none is given.
    #[serde(default)]
    pub parents: Vec<String>,
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
        let remedy = "write [[users]] with email, password, first_name, last_name and email_verified, [[permissions]] with slug, name, description and roles, [[organizations]] with name, external_id and members of email and role, [[feature_flags]] with slug, name, description, enabled, default_value, users and organizations, [[resource_types]] with slug, name, description and parents, redirect_uris = [..], sign_out_redirects = [..]";
        if path.extension().is_some_and(|extension| extension == "json") {
            return serde_json::from_str(&text).map_err(|error| fail(format!("{error}; {remedy}")));
        }
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            fail(format!("line {line}: {}; {remedy}", error.message()))
        })
    }

    /// For a first start without a file, what the expense tracker of the examples shows: Alice is admin in two organizations, Bob a member
    /// in one of them; admins approve expenses, and an API key may be made to export them.
    pub fn demo() -> Self {
        let person = |email: &str, first: &str, last: &str| SeedUser {
            email: email.to_owned(),
            password: None,
            first_name: Some(first.to_owned()),
            last_name: Some(last.to_owned()),
            email_verified: true,
        };
        let users = vec![person("alice@example.test", "Alice", "Archer"), person("bob@example.test", "Bob", "Baker")];
        let member = |email: &str, role: &str| SeedMember { email: email.to_owned(), role: role.to_owned() };
        let organization = |name: &str, members| SeedOrganization { name: name.to_owned(), external_id: None, members };
        let alice = || member("alice@example.test", "admin");
        let organizations = vec![
            organization("Demo Company", vec![alice(), member("bob@example.test", "member")]),
            organization("Second Company", vec![alice()]),
        ];
        let permission = |slug: &str, name: &str, roles: &[&str]| SeedPermission {
            slug: slug.to_owned(),
            name: Some(name.to_owned()),
            description: None,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let permissions =
            vec![permission("expenses:approve", "Approve expenses", &["admin"]), permission("expenses:export", "Export expenses", &[])];
        Self { users, permissions, organizations, ..Self::default() }
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
        for permission in &self.permissions {
            operator::plant_permission(cx, environment, &permission.new_permission()).await?;
        }
        for organization in &self.organizations {
            let SeedOrganization { name, members, .. } = organization;
            let members = members.iter().map(|SeedMember { email, role }| NewMember { email: email.clone(), role: role.clone() }).collect();
            operator::plant_organization(cx, environment, name, &organization.external_id(), members).await?;
        }
        for flag in &self.feature_flags {
            operator::plant_feature_flag(cx, environment, &flag.new_flag()).await?;
        }
        for kind in &self.resource_types {
            operator::plant_resource_type(cx, environment, &kind.new_type()).await?;
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

impl SeedPermission {
    fn new_permission(&self) -> NewPermission {
        let Self { slug, name, description, roles } = self.clone();
        NewPermission { name: name.unwrap_or_else(|| slug.clone()), slug, description, roles }
    }
}

impl SeedOrganization {
    fn external_id(&self) -> String {
        let dashed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        self.external_id.clone().unwrap_or_else(|| self.name.chars().map(dashed).take(128).collect())
    }
}

impl SeedFlag {
    fn new_flag(&self) -> NewFeatureFlag {
        let Self { slug, name, description, enabled, default_value, users, organizations } = self.clone();
        let name = name.unwrap_or_else(|| slug.clone());
        NewFeatureFlag { slug, name, description, enabled, default_value, users, organizations }
    }
}

impl SeedResourceType {
    fn new_type(&self) -> NewResourceType {
        let Self { slug, name, description, parents } = self.clone();
        NewResourceType { name: name.unwrap_or_else(|| slug.clone()), slug, description, parent_slugs: parents }
    }
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
        let text =
            "[[users]]\nemail = \"a@example.test\"\n[[organizations]]\nname = \"Acme Corp\"\nmembers = [{ email = \"a@example.test\" }]";
        let organization = load("seed.toml", text).unwrap().organizations.remove(0);
        assert_eq!((organization.external_id().as_str(), organization.members[0].role.as_str()), ("acme-corp", "member"));
        let text = "[[permissions]]\nslug = \"items:read\"\nroles = [\"admin\"]";
        let permission = load("seed.toml", text).unwrap().permissions.remove(0).new_permission();
        assert_eq!((permission.name.as_str(), permission.roles.len()), ("items:read", 1));
        let text = "[[feature_flags]]\nslug = \"beta\"\nusers = [\"a@example.test\"]";
        let flag = load("seed.toml", text).unwrap().feature_flags.remove(0).new_flag();
        assert_eq!((flag.slug.as_str(), flag.name.as_str(), flag.enabled, flag.default_value), ("beta", "beta", true, false));
        let text = "[[resource_types]]\nslug = \"folder\"\nparents = [\"organization\", \"folder\"]";
        let kind = load("seed.toml", text).unwrap().resource_types.remove(0).new_type();
        assert_eq!((kind.name.as_str(), kind.parent_slugs.len(), kind.check()), ("folder", 2, Ok(())));
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
