//! The app behind a guard: which of its routes to ask, and asking them as a browser, a script or a machine would.

use gatewright_base::{Clock, Secret, SystemClock};
use gatewright_guard::Many;
use gatewright_guard::session::{SealedSession, SessionSettings, seal_session, session_cookies};
use gatewright_jose::SystemRng;
use serde_json::Value;
use ureq::http::Method;

use super::client::{Answer, Client};
use super::settings::Settings;
use super::watch::is_known;

/// What a request shows.
#[derive(Clone)]
pub enum Credential {
    None,
    Bearer(Secret<String>),
    Cookie(Secret<String>),
}

impl Credential {
    pub fn bearer(token: &Secret<String>) -> Self {
        Self::Bearer(Secret::new(format!("Bearer {}", token.reveal())))
    }

    /// The session cookie of an app, with the session that the server answered with.
    pub fn cookie(settings: &SessionSettings, answer: &Value) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the session cookie cannot be made: {error}");
        let map = answer.as_object().cloned().unwrap_or_default();
        let session = SealedSession::from_response(map).ok_or_else(|| wrong(&"the answer holds no tokens"))?;
        let sealed = seal_session(settings, &session, &SystemRng, SystemClock.now()).map_err(|error| wrong(&error))?;
        let set = session_cookies(settings, &sealed, &Many::default()).map_err(|error| wrong(&error))?;
        let pairs: Vec<&str> = set.iter().filter_map(|cookie| cookie.split(';').next()).collect();
        Ok(Self::Cookie(Secret::new(pairs.join("; "))))
    }
}

/// The routes that are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Takes people.
    pub user: Option<String>,
    /// Takes API keys.
    pub api_key: Option<String>,
    /// Signs out.
    pub sign_out: Option<String>,
    /// What the app says it is.
    pub title: Option<String>,
    pub version: Option<String>,
}

pub struct App {
    client: Client,
    /// Scheme, host and port: what a browser says of the app's own pages.
    origin: Secret<String>,
    pub routes: Routes,
}

/// Routes that `gw.router()` has, where an app has no API document.
const USUAL: &[&str] = &["/auth/me", "/me"];

impl App {
    /// Looks at the app: routes that were not named are found. The user's route must refuse strangers.
    pub fn open(url: &str, settings: &Settings) -> Result<Self, String> {
        let client = Client::new(url);
        let answer = client
            .call(&Method::GET, "/openapi.json", &[], None)
            .map_err(|why| format!("--app: {url} does not answer: {why}; start the app, or correct --app"))?;
        let found = find_routes(&answer.json());
        let mut app = Self { origin: Secret::new(origin_of(url)), client, routes: Routes::default() };
        let user = match settings.route.clone().or_else(|| found.user.clone()) {
            Some(path) => path,
            None => USUAL
                .iter()
                .find(|path| app.ask(path, &Credential::None).is_ok_and(|status| status == 401))
                .map(|path| (*path).to_owned())
                .ok_or_else(|| "--app: no guarded route was found; name one that takes signed-in people with --route PATH".to_owned())?,
        };
        let stranger = app
            .ask(&user, &Credential::None)
            .map_err(|why| format!("--app: {url}{user} does not answer: {why}; name another route with --route PATH"))?;
        if !matches!(stranger, 300..=399 | 401 | 403) {
            return Err(format!(
                "--app: {url}{user} answers {stranger} to a stranger, so it would tell nothing; name a guarded route with --route PATH"
            ));
        }
        app.routes = Routes { user: Some(user), api_key: settings.api_key_route.clone().or(found.api_key), ..found };
        Ok(app)
    }

    pub fn url(&self) -> &str {
        self.client.base()
    }

    /// The status of the route at `path`.
    pub fn ask(&self, path: &str, credential: &Credential) -> Result<u16, String> {
        self.call(&Method::GET, path, credential).map(|answer| answer.status)
    }

    pub fn call(&self, method: &Method, path: &str, credential: &Credential) -> Result<Answer, String> {
        let headers = match credential {
            Credential::None => vec![],
            Credential::Bearer(value) => vec![("authorization", value)],
            // A program that sends a cookie has to say where the page was that made it.
            Credential::Cookie(value) => vec![("cookie", value), ("origin", &self.origin)],
        };
        self.client.call(method, path, &headers, None)
    }

    /// Whether the app lets this in, or says that it knows who it is; asked before anything ends.
    pub fn check_baseline(&self, path: &str, credential: &Credential) -> Result<u16, String> {
        match self.ask(path, credential)? {
            status if is_known(status) => Ok(status),
            status => Err(format!("it answered {status} before anything had ended")),
        }
    }
}

fn origin_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// The routes of an app by its OpenAPI document: GET, without parameters in the path, and best without a permission.
pub fn find_routes(document: &Value) -> Routes {
    let schemes = &document["components"]["securitySchemes"];
    let is_key = |scheme: &Value| scheme["type"] == "apiKey" && scheme["in"] == "header";
    let is_person = |scheme: &Value| match scheme["type"].as_str() {
        Some("oauth2" | "openIdConnect") => true,
        Some("http") => scheme["scheme"] == "bearer",
        Some("apiKey") => scheme["in"] == "cookie",
        _ => false,
    };
    let empty = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&empty);
    let mut user: Vec<((bool, bool, usize), &String)> = Vec::new();
    let mut api_key: Vec<((bool, bool, usize), &String)> = Vec::new();
    let guarded = paths.iter().filter(|(path, _)| path.starts_with('/') && !path.contains('{'));
    for (path, operation) in guarded.filter_map(|(path, item)| item.get("get").map(|operation| (path, operation))) {
        let ways: Vec<_> = operation["security"].as_array().into_iter().flatten().filter_map(Value::as_object).collect();
        // An empty way lets everybody in; a required parameter is not known.
        let wants_more = operation["parameters"].as_array().into_iter().flatten().any(|parameter| parameter["required"] == true);
        if ways.iter().any(|way| way.is_empty()) || wants_more {
            continue;
        }
        let takes = |is: &dyn Fn(&Value) -> bool| {
            ways.iter().any(|way| way.len() == 1 && way.iter().all(|(name, scopes)| is(&schemes[name]) && no_scopes(scopes)))
        };
        let wants_right = operation["responses"]["403"]["description"].as_str().is_some_and(|text| text.contains("needs "));
        let rank = (wants_right, !path.ends_with("/me"), path.len());
        if takes(&is_person) {
            user.push((rank, path));
        }
        if takes(&is_key) {
            api_key.push((rank, path));
        }
    }
    let best = |mut found: Vec<((bool, bool, usize), &String)>| {
        found.sort();
        found.first().map(|(_, path)| (*path).clone())
    };
    let is_sign_out = |path: &str| path.starts_with('/') && path.ends_with("/logout") && !path.contains('{');
    let sign_out = paths.iter().find(|(path, item)| is_sign_out(path) && item.get("post").is_some());
    let text = |name: &str| document["info"][name].as_str().map(|text| text.chars().take(80).collect());
    Routes {
        user: best(user),
        api_key: best(api_key),
        sign_out: sign_out.map(|(path, _)| path.clone()),
        title: text("title"),
        version: text("version"),
    }
}

fn no_scopes(scopes: &Value) -> bool {
    scopes.as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn routes_are_found_by_what_they_ask_for() {
        let person = json!([{"Gatewright": []}, {"GatewrightSession": []}]);
        let needs = json!({"403": {"description": "The caller may not: needs permission expenses:export"}});
        let document = json!({
            "info": {"title": "Expense tracker", "version": "0.1.0"},
            "components": {"securitySchemes": {
                "Gatewright": {"type": "oauth2"}, "GatewrightSession": {"type": "apiKey", "in": "cookie", "name": "wos_session"},
                "GatewrightApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }},
            "paths": {
                "/a": {"get": {}},
                "/b": {"get": {"security": [{"Gatewright": []}, {}]}},
                "/c/{id}": {"get": {"security": person}},
                "/d": {"post": {"security": person}},
                "/e": {"get": {"security": [{"Gatewright": ["expenses:read"]}]}},
                "/f": {"get": {"security": person, "parameters": [{"name": "q", "in": "query", "required": true}]}},
                "/expenses": {"get": {"security": person}},
                "/auth/me": {"get": {"security": person}},
                "/admin/me": {"get": {"security": person, "responses": needs}},
                "/auth/logout": {"post": {}},
                "/export": {"get": {"security": [{"GatewrightApiKey": []}], "responses": needs}},
            },
        });
        let expected = Routes {
            user: Some("/auth/me".into()),
            api_key: Some("/export".into()),
            sign_out: Some("/auth/logout".into()),
            title: Some("Expense tracker".into()),
            version: Some("0.1.0".into()),
        };
        assert_eq!(find_routes(&document), expected);
        let elsewhere = json!({"paths": {"http://evil.example/logout": {"post": {}}}});
        for nothing in [json!(null), json!([]), json!({"paths": {"/x": {"get": {"security": "x"}}}}), elsewhere] {
            assert_eq!(find_routes(&nothing), Routes::default(), "{nothing}");
        }
    }

    #[test]
    fn an_origin_ends_before_the_path() {
        assert_eq!(origin_of("http://localhost:8000"), "http://localhost:8000");
        assert_eq!(origin_of("https://a.example/base/x"), "https://a.example");
    }
}
