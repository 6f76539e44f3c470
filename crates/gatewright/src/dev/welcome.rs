//! What `gatewright dev` says when it is ready.

use std::fmt::Write;
use std::path::Path;

use gatewright_server::operator::OrganizationFact;
use serde::Serialize;

use super::folder::{KeptEnvironment, KeptUser};

/// The facts of a running development server, as `--json` prints them.
#[derive(Debug, Serialize)]
pub struct Facts<'a> {
    pub url: &'a str,
    pub api_key: &'a str,
    pub client_id: &'a str,
    pub cookie_password: &'a str,
    pub inbox_url: String,
    pub users: &'a [KeptUser],
    pub organizations: Vec<OrganizationFact>,
    pub environments: &'a [KeptEnvironment],
    pub ready_ms: u64,
    pub pid: u32,
}

/// What an app calls the key that opens the API to it.
pub const API_KEY: &str = "WORKOS_API_KEY";
/// What an app calls the secret that seals its session cookie.
pub const COOKIE_PASSWORD: &str = "WORKOS_COOKIE_PASSWORD";

/// The settings of an app: what WorkOS SDKs in Python and Node read, and our own.
pub fn variables(url: &str, port: u16, api_key: &str, client_id: &str, cookie_password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("WORKOS_BASE_URL", url.to_owned()),
        (API_KEY, api_key.to_owned()),
        ("WORKOS_CLIENT_ID", client_id.to_owned()),
        (COOKIE_PASSWORD, cookie_password.to_owned()),
        ("GATEWRIGHT_URL", url.to_owned()),
        ("WORKOS_API_HOSTNAME", "localhost".to_owned()),
        ("WORKOS_API_PORT", port.to_string()),
        ("WORKOS_API_HTTPS", "false".to_owned()),
    ]
}

/// How many of [`variables`] the welcome shows; the rest says the same to libraries that take a URL apart.
const SHOWN_VARIABLES: usize = 5;

const SHOWN_ORGANIZATIONS: usize = 5;

/// The welcome for people.
pub fn render(
    facts: &Facts<'_>,
    variables: &[(&'static str, String)],
    folder: Option<&Path>,
    environment_file: &Path,
    command: Option<&str>,
) -> String {
    let mut text = String::new();
    let Facts { url, inbox_url, users, organizations, ready_ms, .. } = facts;
    let data = folder.map_or("nothing is kept".to_owned(), |path| format!("data in {}", path.display()));
    let mut line = |content: &str| {
        text.push_str(content.trim_end());
        text.push('\n');
    };
    line(&format!("Gatewright {} for development, ready in {ready_ms} ms, {data}", env!("CARGO_PKG_VERSION")));
    line("");
    line(&format!("  Server         {url}"));
    line(&format!("  Inbox          {inbox_url}    every mail ends here"));
    let width = users.iter().map(|user| user.email.chars().count()).max().unwrap_or_default();
    for (index, user) in users.iter().enumerate() {
        let label = if index == 0 { "Users" } else { "" };
        line(&format!("  {label:<14} {:<width$}  {}", user.email, user.password));
    }
    for (index, OrganizationFact { id, name, .. }) in organizations.iter().take(SHOWN_ORGANIZATIONS).enumerate() {
        let label = if index == 0 { "Organizations" } else { "" };
        let name: String = name.chars().take(60).collect();
        line(&format!("  {label:<14} {id}  {name}"));
    }
    line("");
    line(&format!("  Settings of your app, also in {}:", environment_file.display()));
    for (name, value) in variables.iter().take(SHOWN_VARIABLES) {
        line(&format!("    {name}={value}"));
    }
    line("");
    line("  Redirects to any http://localhost address are allowed. These keys are refused by gatewright serve.");
    match command {
        Some(command) => line(&format!("  Starting {command} with these settings. Ctrl-C stops both.")),
        None => line("  gatewright dev -- COMMAND starts your app with these settings. Ctrl-C stops the server."),
    }
    let _ = writeln!(text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_has_all_that_a_first_sign_in_needs() {
        let users = [KeptUser { email: "alice@example.test".into(), password: "secret word".into(), first_name: None, last_name: None }];
        let variables = variables("http://localhost:4700", 4_700, "sk_test_1", "client_1", "cookie");
        let facts = Facts {
            url: "http://localhost:4700",
            api_key: "sk_test_1",
            client_id: "client_1",
            cookie_password: "cookie",
            inbox_url: "http://localhost:4700/dev/inbox".into(),
            users: &users,
            organizations: vec![OrganizationFact { id: "org_1".into(), name: "Acme".into(), external_id: None }],
            environments: &[],
            ready_ms: 7,
            pid: 1,
        };
        let text = render(&facts, &variables, Some(Path::new(".gatewright")), Path::new(".gatewright/dev.env"), None);
        for needed in [
            "http://localhost:4700/dev/inbox",
            "alice@example.test  secret word",
            "org_1  Acme",
            "WORKOS_API_KEY=sk_test_1",
            "GATEWRIGHT_URL=",
            "gatewright dev -- COMMAND",
        ] {
            assert!(text.contains(needed), "{needed} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 120 && line == line.trim_end()), "{text}");
    }
}
