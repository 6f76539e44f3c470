mod api_keys;
mod denials;
pub(crate) mod feed;
mod fresh;
mod keys;
mod lifetime;
pub(crate) mod log;
mod opaque;
mod refreshes;
mod revocations;
pub(crate) mod server;
mod sign_in;
mod switching;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use gatewright_base::{ManualClock, Secret, SeededRng, Timestamp};
use gatewright_jose::{self as jose, Algorithm, SigningKey, b64};
use serde_json::{Map, Value, json};

use self::server::{Asked, Does, Server, ok};
use super::keys::Metadata;
use super::{Check, Guard, LoginResult, Resolved};
use crate::login::{LoginOptions, begin_login};
use crate::session::{SealedSession, seal_session};
use crate::{Config, Issuer, IssuerKind, Kind, Many, Principal, Refusal, RequestFacts, Requirement, Revoked, Via, csrf_token};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const JWKS: &str = "/sso/jwks/client_1";
pub(crate) const AUTHENTICATE: &str = "/user_management/authenticate";
pub(crate) const VALIDATIONS: &str = "/api_keys/validations";
const SESSIONS: &str = "/user_management/users/user_1/sessions";

/// A server, its key, a clock and a guard.
pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) guard: Guard,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Value, &str)) -> Self {
        let server = Arc::new(Server::start());
        let key = Arc::new(new_key("key_1"));
        let clock = Arc::new(ManualClock::at(START));
        let base = server.url();
        let mut config = json!({
            "base_url": base,
            "client_id": "client_1",
            "api_key": "sk_ours",
            "app_url": "https://app.example",
            "session": { "password": b64::encode_std([7; 32]), "secure": false },
        });
        change(&mut config, &base);
        let config = Config::from_json(&config.to_string()).unwrap();
        let guard = Guard::new(config, Arc::clone(&clock) as _, Arc::new(SeededRng::new(1))).unwrap();
        let world = Self { server, key, clock, guard };
        world.publish(&[&world.key]);
        world
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let body = jwks(keys);
        self.server.on_path(JWKS, move |_| ok(&body));
    }

    /// A session token that is good for `seconds` from now.
    pub(crate) fn token(&self, key: &SigningKey, seconds: i64) -> String {
        self.token_of(key, seconds, "user_1", "session_1")
    }

    fn token_of(&self, key: &SigningKey, seconds: i64, user: &str, session: &str) -> String {
        token_of(&self.server.url(), &self.clock, key, seconds, user, session)
    }

    /// A token that says that `actor` acts as its user (RFC 8693 §4.1).
    fn token_acted(&self, actor: &str) -> String {
        let now = gatewright_base::Clock::now(&*self.clock).seconds();
        let claims = json!({
            "iss": format!("{}/user_management/client_1", self.server.url()), "sub": "user_1", "sid": "session_1", "iat": now, "exp": now + 300,
            "jti": "acted", "act": {"sub": actor},
        });
        self.key.sign_jwt(&claims).unwrap()
    }

    pub(crate) fn cookie(&self, access_token: String, refresh_token: &str) -> String {
        let session = SealedSession {
            access_token,
            refresh_token: Secret::new(refresh_token.to_owned()),
            user: json!({ "id": "user_1", "email": "ann@example.com" }),
            impersonator: None,
            rest: Map::new(),
        };
        let settings = self.guard.config().session.as_ref().unwrap();
        let value = seal_session(settings, &session, self.guard.rng(), self.guard.clock().now()).unwrap();
        format!("{}={value}", settings.cookie_name)
    }

    pub(crate) fn expired_cookie(&self) -> String {
        self.cookie(self.token(&self.key, -60), "refresh_0")
    }

    /// The server renews: each refresh token `refresh_n` gets a session good for `seconds` with `refresh_<n+1>`.
    pub(crate) fn renew_for(&self, seconds: i64) {
        let (base, clock, key) = (self.server.url(), Arc::clone(&self.clock), Arc::clone(&self.key));
        self.server.on_path(AUTHENTICATE, move |asked| {
            let old = asked.json()["refresh_token"].as_str().unwrap().to_owned();
            let n: u32 = old.strip_prefix("refresh_").unwrap().parse().unwrap();
            ok(&answer(token_of(&base, &clock, &key, seconds, "user_1", "session_1"), &format!("refresh_{}", n + 1)))
        });
    }

    fn check(&self, header: (&str, &str)) -> Check {
        self.check_as(&Requirement::default(), header)
    }

    fn check_as(&self, requirement: &Requirement, header: (&str, &str)) -> Check {
        self.guard.check(&facts("GET", &[header]), requirement, None)
    }

    /// The final answer, whatever it takes.
    fn ask(&self, header: (&str, &str)) -> Resolved {
        self.ask_as(&Requirement::default(), header)
    }

    fn ask_as(&self, requirement: &Requirement, header: (&str, &str)) -> Resolved {
        finish(&self.guard, self.check_as(requirement, header))
    }

    fn ask_with_cookie(&self, cookie: &str) -> Resolved {
        self.ask(("cookie", cookie))
    }

    /// A bearer token never seen before, of the key that the server publishes.
    fn is_let_in(&self) -> bool {
        let bearer = format!("Bearer {}", self.token(&self.key, 3600));
        matches!(self.check(("authorization", &bearer)), Check::Allowed(_))
    }

    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&super::Stats) -> bool) {
        let began = Instant::now();
        while !is_so(&self.guard.stats()) {
            assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", self.guard.stats());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn seconds_pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub(crate) fn new_key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::EdDSA, kid.to_owned()).unwrap()
}

pub(crate) fn jwks(keys: &[&SigningKey]) -> Value {
    let year = Duration::from_secs(31_536_000);
    json!({ "keys": keys.iter().map(|key| key.public_jwk(START, START.plus(year), "test").unwrap()).collect::<Vec<_>>() })
}

fn token_of(base: &str, clock: &ManualClock, key: &SigningKey, seconds: i64, user: &str, session: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = gatewright_base::Clock::now(clock).seconds();
    let claims = json!({
        "iss": format!("{base}/user_management/client_1"), "sub": user, "sid": session, "iat": now.min(now + seconds), "exp": now + seconds,
        "jti": COUNT.fetch_add(1, Ordering::SeqCst).to_string(),
    });
    key.sign_jwt(&claims).unwrap()
}

fn answer(access_token: String, refresh_token: &str) -> Value {
    json!({ "user": { "id": "user_1", "email": "ann@example.com" }, "access_token": access_token, "refresh_token": refresh_token })
}

fn facts<'a>(method: &'a str, headers: &[(&'a str, &'a str)]) -> RequestFacts<'a> {
    RequestFacts::from_headers(method, false, headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn finish(guard: &Guard, check: Check) -> Resolved {
    let need = match check {
        Check::Allowed(principal) => return Resolved { outcome: Ok(principal), cookies: Arc::default() },
        Check::Refused(refusal) => return Resolved::refused(refusal),
        Check::Renewed(resolved) => return resolved,
        Check::Needs(need) => need,
    };
    let (tell, told) = mpsc::channel();
    guard.resolve(need, move |resolved| tell.send(resolved).unwrap());
    let resolved = told.recv_timeout(Duration::from_secs(15)).expect("an answer in time");
    assert!(told.recv_timeout(Duration::from_millis(1)).is_err(), "answered twice");
    resolved
}

fn is_unavailable(resolved: &Resolved) -> bool {
    matches!(resolved.outcome, Err(Refusal::Unavailable { .. }))
}

/// `name=value` of the one cookie that is set.
fn new_cookie(resolved: &Resolved) -> String {
    assert_eq!(resolved.cookies.len(), 1, "{:?}", resolved.cookies);
    resolved.cookies[0].split(';').next().unwrap().to_owned()
}

fn clears_the_cookie(resolved: &Resolved) -> bool {
    resolved.cookies.iter().any(|cookie| cookie.starts_with("wos_session=;") && cookie.contains("Max-Age=0"))
}
