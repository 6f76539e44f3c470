//! The server under drill: the calls that make, end and look for things.

use gatewright_base::Secret;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Client};
use super::settings::Settings;

pub struct Server {
    client: Client,
    key: Secret<String>,
    authorization: Secret<String>,
    client_id: String,
}

/// A signed-in person: the answer to a sign-in or a refresh, whole, for the cookie.
#[derive(Clone)]
pub struct SignedIn {
    pub answer: Value,
    pub access_token: Secret<String>,
    pub refresh_token: Secret<String>,
    pub facts: TokenFacts,
}

/// What an access token says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFacts {
    pub kid: String,
    pub session_id: String,
    pub organization_id: Option<String>,
    pub issued_at: i64,
    pub expires_at: i64,
}

impl Server {
    pub fn new(settings: &Settings) -> Self {
        Self {
            client: Client::new(&settings.url),
            key: settings.api_key.clone(),
            authorization: Secret::new(format!("Bearer {}", settings.api_key.reveal())),
            client_id: settings.client_id.clone(),
        }
    }

    pub fn url(&self) -> &str {
        self.client.base()
    }

    /// Calls with the environment's key.
    pub fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        self.client.call(method, path, &[("authorization", &self.authorization)], body).map_err(|why| format!("{method} {path}: {why}"))
    }

    /// A call that must succeed.
    pub fn good(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let answer = self.call(method, path, body)?;
        if answer.is_good() { Ok(answer.json()) } else { Err(refused(method, path, &answer)) }
    }

    /// A browser's visit to `path`, without any key.
    pub fn visit(&self, path: &str) -> Result<Answer, String> {
        self.client.call(&Method::GET, path, &[], None).map_err(|why| format!("GET of the sign-out: {why}"))
    }

    /// The version that the server's API document tells.
    pub fn find_version(&self) -> Option<String> {
        let answer = self.client.call(&Method::GET, "/openapi.json", &[], None).ok()?;
        answer.json()["info"]["version"].as_str().map(|version| version.chars().take(40).collect())
    }

    /// The published key set.
    pub fn load_keys(&self) -> Result<Value, String> {
        self.good(&Method::GET, &format!("/sso/jwks/{}", encode(&self.client_id)), None)
    }

    pub fn sign_in(&self, email: &str, password: &Secret<String>) -> Result<SignedIn, String> {
        self.authenticate(json!({"grant_type": "password", "email": email, "password": password.reveal()}))?
    }

    /// The new pair, or the refusal in the inner error; the outer one says that there was no such answer.
    pub fn refresh(&self, token: &Secret<String>) -> Result<Result<SignedIn, u16>, String> {
        let answer = self.call_authenticate(json!({"grant_type": "refresh_token", "refresh_token": token.reveal()}))?;
        match answer.status {
            200 => SignedIn::read(answer.json()).map(Ok),
            status @ (400 | 401 | 403) => Ok(Err(status)),
            _ => Err(refused(&Method::POST, AUTHENTICATE, &answer)),
        }
    }

    /// Whether the server still knows an API key.
    pub fn is_valid(&self, key: &Secret<String>) -> Result<bool, String> {
        let answer = self.good(&Method::POST, "/api_keys/validations", Some(&json!({"value": key.reveal()})))?;
        Ok(!answer["api_key"].is_null())
    }

    fn authenticate(&self, grant: Value) -> Result<Result<SignedIn, String>, String> {
        let answer = self.call_authenticate(grant)?;
        Ok(if answer.status == 200 { SignedIn::read(answer.json()) } else { Err(refused(&Method::POST, AUTHENTICATE, &answer)) })
    }

    fn call_authenticate(&self, mut grant: Value) -> Result<Answer, String> {
        grant["client_id"] = self.client_id.as_str().into();
        grant["client_secret"] = self.key.reveal().as_str().into();
        self.client.call(&Method::POST, AUTHENTICATE, &[], Some(&grant)).map_err(|why| format!("POST {AUTHENTICATE}: {why}"))
    }
}

const AUTHENTICATE: &str = "/user_management/authenticate";

/// What a server said in refusing: its status and code. Its sentence may name what was sent.
fn refused(method: &Method, path: &str, answer: &Answer) -> String {
    let body = answer.json();
    let code = ["error", "code"].into_iter().find_map(|name| body[name].as_str());
    let code = code.map(|code| format!(" ({})", code.chars().filter(|c| !c.is_control()).take(60).collect::<String>()));
    format!("{method} {path} answered {}{}", answer.status, code.unwrap_or_default())
}

impl SignedIn {
    fn read(answer: Value) -> Result<Self, String> {
        let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty()).map(|text| Secret::new(text.to_owned()));
        let missing = || "the server answered a sign-in without tokens".to_owned();
        let (access_token, refresh_token) = text("access_token").zip(text("refresh_token")).ok_or_else(missing)?;
        let facts =
            TokenFacts::read(access_token.reveal()).ok_or("the server answered with an access token that is no JWT of a session")?;
        Ok(Self { access_token, refresh_token, facts, answer })
    }
}

impl TokenFacts {
    /// Read, not verified: the drill asks others whether they believe it.
    pub fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.').map(|part| serde_json::from_slice::<Value>(&gatewright_jose::b64::decode_url(part)?).ok());
        let (header, claims) = (parts.next()??, parts.next()??);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            kid: text(&header["kid"])?,
            session_id: text(&claims["sid"])?,
            organization_id: text(&claims["org_id"]),
            issued_at: claims["iat"].as_i64()?,
            expires_at: claims["exp"].as_i64()?,
        })
    }
}

/// `text` as a part of a path.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_jose::b64::encode_url;

    #[test]
    fn a_token_says_when_and_for_whom() {
        let part = |value: Value| encode_url(value.to_string().as_bytes());
        let claims = json!({"sid": "session_1", "org_id": "org_1", "iat": 100, "exp": 400});
        let token = format!("{}.{}.c2ln", part(json!({"kid": "key_1"})), part(claims));
        let facts = TokenFacts::read(&token).unwrap();
        assert_eq!((facts.kid.as_str(), facts.session_id.as_str(), facts.expires_at - facts.issued_at), ("key_1", "session_1", 300));
        assert_eq!(facts.organization_id.as_deref(), Some("org_1"));
        for wrong in ["", "a.b", "e30.e30.", "opaque"] {
            assert_eq!(TokenFacts::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_of_a_path_stay_parts() {
        assert_eq!(encode("user_1/../x?y"), "user_1%2F..%2Fx%3Fy");
    }
}
