pub(crate) mod server;
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
use crate::{
    Config, CredentialDigest, Issuer, IssuerKind, Kind, Many, Principal, Refusal, RequestFacts, Requirement, Revoked, Via, csrf_token,
};

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

mod keys {
    use super::*;

    #[test]
    fn sixty_four_first_requests_fetch_the_keys_once() {
        let world = World::new();
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        let start = Barrier::new(64);
        let allowed = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                world.ask(("authorization", &bearer)).outcome.is_ok()
            };
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|allowed| *allowed).count()
        });
        assert_eq!((allowed, world.server.calls(JWKS)), (64, 1));
    }

    #[test]
    fn a_guard_asks_nobody_before_it_must_and_warming_asks_for_all_keys() {
        let world = World::new();
        assert!(matches!(world.guard.check(&facts("GET", &[]), &Requirement::default(), None), Check::Refused(Refusal::NoCredential)));
        assert!(world.server.asked().is_empty());
        world.guard.warm();
        world.wait_for("both of our issuers", |stats| stats.key_fetches == 2);
        assert!(world.is_let_in());
    }

    #[test]
    fn a_cold_start_without_the_server_asks_once_in_each_back_off() {
        let world = World::new();
        world.server.on_path(JWKS, |_| Does::Answer(500, String::new()));
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        let header = ("authorization", bearer.as_str());
        for (calls, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
            assert!(is_unavailable(&world.ask(header)));
            assert_eq!(world.server.calls(JWKS), calls);
            // At once, and without another call.
            assert!(matches!(world.check(header), Check::Refused(Refusal::Unavailable { .. })));
            world.clock.advance(Duration::from_secs(pause) - Duration::from_millis(1));
            assert!(matches!(world.check(header), Check::Refused(Refusal::Unavailable { .. })), "{pause}");
            world.clock.advance(Duration::from_millis(1));
        }
        world.publish(&[&world.key]);
        assert!(world.ask(header).outcome.is_ok());
    }

    #[test]
    fn an_unknown_kid_is_looked_up_once_in_thirty_seconds() {
        let world = World::new();
        world.guard.warm();
        world.wait_for("keys", |stats| stats.key_fetches == 2);
        let stranger = new_key("stranger");
        let ask = || world.ask(("authorization", &format!("Bearer {}", world.token(&stranger, 3600)))).outcome;
        let unknown = Refusal::InvalidToken(jose::Refusal::UnknownKey);
        for _ in 0..20 {
            assert_eq!(ask(), Err(unknown.clone()));
        }
        assert_eq!(world.server.calls(JWKS), 2);
        world.clock.advance(Duration::from_millis(29_999));
        assert_eq!(ask(), Err(unknown.clone()));
        assert_eq!(world.server.calls(JWKS), 2);
        world.clock.advance(Duration::from_millis(1));
        world.publish(&[&world.key, &stranger]);
        assert!(ask().is_ok());
        assert_eq!(world.server.calls(JWKS), 3);
    }

    #[test]
    fn keys_are_fetched_again_in_the_background_and_what_a_gone_key_signed_is_refused() {
        let world = World::new();
        let bearer = format!("Bearer {}", world.token(&world.key, 3600));
        let header = ("authorization", bearer.as_str());
        assert!(world.ask(header).outcome.is_ok());
        world.seconds_pass(299);
        assert!(matches!(world.check(header), Check::Allowed(_)));
        let next = new_key("key_2");
        let (let_go, held) = mpsc::channel::<()>();
        let (held, keys) = (std::sync::Mutex::new(held), jwks(&[&next]));
        world.server.on_path(JWKS, move |_| {
            assert!(held.lock().unwrap().recv().is_err());
            ok(&keys)
        });
        world.seconds_pass(1);
        // Still let in, and the fetch is under way.
        assert!(matches!(world.check(header), Check::Allowed(_)));
        drop(let_go);
        world.wait_for("a second fetch", |stats| stats.key_fetches == 2);
        while world.guard.stats().cache_entries > 0 {
            std::thread::yield_now();
        }
        assert_eq!(world.ask(header).outcome, Err(Refusal::InvalidToken(jose::Refusal::UnknownKey)));
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&next, 60)))).outcome.is_ok());
    }

    #[test]
    fn max_age_is_followed_between_one_and_fifteen_minutes() {
        for (max_age, interval) in
            [("cache-control: max-age=1", 60), ("cache-control: max-age=120", 120), ("cache-control: max-age=99999", 900)]
        {
            let world = World::new();
            let body = jwks(&[&world.key]).to_string();
            world.server.on_path(JWKS, move |_| Does::AnswerWith(200, max_age, body.clone()));
            assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
            world.seconds_pass(interval - 1);
            assert!(world.is_let_in());
            assert!(!world.guard.engine().is_key_fetch_due(world.guard.clock().now()));
            world.seconds_pass(1);
            assert!(world.is_let_in());
            world.wait_for("another fetch", |stats| stats.key_fetches == 2);
        }
    }

    #[test]
    fn garbage_never_replaces_good_keys() {
        let world = World::new();
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        let stranger = new_key("stranger");
        let mut private = jwks(&[&stranger]);
        private["keys"][0]["d"] = "AAAA".into();
        let oct = json!({ "keys": [jwks(&[&stranger])["keys"][0], { "kty": "oct", "kid": "s", "k": "AAAA" }] });
        let twice = json!({ "keys": [jwks(&[&stranger])["keys"][0], jwks(&[&new_key("stranger")])["keys"][0]] });
        let oversize = json!({ "keys": jwks(&[&stranger])["keys"], "padding": "x".repeat(300 * 1024) });
        let answer =
            |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes();
        let mut garbage: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"keys\":[".to_vec(),
            [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 100_000], b"\r\n\r\n".to_vec()].concat(),
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/keys\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
            b"HTTP/1.1 302 Found\r\nlocation: /sso/jwks/client_1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        ];
        let bodies = [private, oct, twice, oversize, json!({ "keys": [] }), json!({ "keys": {} }), json!({}), json!([]), json!("keys")];
        garbage.extend(bodies.iter().map(|body| answer(&body.to_string())));
        garbage.push(answer("<html>Sign in to the coffee shop's network</html>"));
        for (n, octets) in garbage.into_iter().enumerate() {
            let shown = String::from_utf8_lossy(&octets).chars().take(120).collect::<String>();
            world.server.on_path(JWKS, move |_| Does::Raw(octets.clone()));
            world.seconds_pass(300);
            assert!(world.is_let_in(), "{shown}");
            world.wait_for(&shown, |stats| stats.key_fetch_failures == n as u64 + 1);
            assert!(world.is_let_in(), "{shown}");
            let forged = format!("Bearer {}", world.token(&stranger, 60));
            assert!(world.ask(("authorization", &forged)).outcome.is_err(), "{shown}");
        }
    }

    #[test]
    fn a_redirect_within_the_origin_is_followed() {
        let world = World::new();
        let body = jwks(&[&world.key]);
        world.server.on_path(JWKS, |_| Does::AnswerWith(307, "location: /keys", String::new()));
        world.server.on_path("/keys", move |_| ok(&body));
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    }

    #[test]
    fn a_redirect_to_another_origin_is_not_followed() {
        let world = World::new();
        let elsewhere = Server::start();
        let body = jwks(&[&world.key]);
        elsewhere.on_path("/keys", move |_| ok(&body));
        let address = elsewhere.url();
        for location in [format!("{address}/keys"), format!("{}/keys", address.trim_start_matches("http:"))] {
            let shown = location.clone();
            world.server.on_path(JWKS, move |_| {
                let head = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                Does::Raw(head.into_bytes())
            });
            assert!(is_unavailable(&world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60))))), "{shown}");
            world.seconds_pass(30);
        }
        assert!(elsewhere.asked().is_empty());
    }

    #[test]
    fn a_key_that_is_another_under_its_old_name_has_gone_too() {
        let world = World::new();
        let bearer = format!("Bearer {}", world.token(&world.key, 3600));
        assert!(world.ask(("authorization", &bearer)).outcome.is_ok());
        let successor = new_key("key_1");
        world.publish(&[&successor]);
        world.seconds_pass(300);
        drop(world.check(("authorization", &bearer)));
        world.wait_for("a fetch", |stats| stats.key_fetches == 2);
        world.wait_for("it to be forgotten", |stats| stats.cache_entries == 0);
        assert_eq!(world.ask(("authorization", &bearer)).outcome, Err(Refusal::InvalidToken(jose::Refusal::BadSignature)));
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&successor, 60)))).outcome.is_ok());
    }

    #[test]
    fn a_set_of_more_than_a_hundred_keys_is_not_parsed() {
        let world = World::new();
        let one = jwks(&[&world.key])["keys"][0].clone();
        for (more, is_read) in [(100, false), (99, true)] {
            let others = (0..more).map(|n| {
                let mut other = one.clone();
                other["kid"] = format!("other_{n}").into();
                other
            });
            let body = json!({ "keys": others.chain([one.clone()]).collect::<Vec<_>>() });
            world.server.on_path(JWKS, move |_| ok(&body));
            assert_eq!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok(), is_read, "{more}");
            world.seconds_pass(30);
        }
    }

    #[test]
    fn keys_known_stay_in_force_while_the_server_is_away_and_while_it_hangs_or_trickles() {
        let world = World::new();
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        for does in [|| Does::Hang, || Does::Trickle] {
            world.server.on_path(JWKS, move |_| does());
            world.seconds_pass(900);
            let failures = world.guard.stats().key_fetch_failures;
            let began = Instant::now();
            assert!(world.is_let_in());
            assert!(began.elapsed() < Duration::from_secs(1), "a check waited for keys");
            world.wait_for("five seconds", |stats| stats.key_fetch_failures == failures + 1);
            assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
        }
        world.server.stop();
        world.seconds_pass(100_000);
        assert!(world.is_let_in());
    }

    #[test]
    fn an_issuer_without_keys_yet_disturbs_nobody() {
        let world = World::new();
        let machine = |n: u32| {
            let now = world.guard.clock().now().seconds();
            let claims = json!({ "iss": world.server.url(), "sub": "client_9", "client_id": "client_9", "aud": "client_1", "iat": now, "exp": now + 600, "jti": n.to_string() });
            format!("Bearer {}", world.key.sign_jwt(&claims).unwrap())
        };
        assert_eq!(world.ask(("authorization", &machine(0))).outcome, Err(Refusal::InvalidToken(jose::Refusal::UnknownKey)));
        assert!(matches!(world.check(("authorization", &machine(1))), Check::Refused(Refusal::InvalidToken(_))));
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        world.seconds_pass(29);
        assert!(matches!(world.check(("authorization", &machine(2))), Check::Refused(Refusal::InvalidToken(_))));
        assert_eq!(world.server.calls("/oauth2/jwks"), 1);
        let body = jwks(&[&world.key]);
        world.server.on_path("/oauth2/jwks", move |_| ok(&body));
        world.seconds_pass(1);
        assert_eq!(world.ask(("authorization", &machine(3))).outcome.unwrap().kind, Kind::Machine);
    }

    #[test]
    fn nothing_of_an_https_issuer_goes_over_plain_http() {
        let read = |issuer: &str, jwks_uri: &str, endpoint: &str| {
            let document = json!({ "issuer": issuer, "jwks_uri": jwks_uri, "introspection_endpoint": endpoint });
            Metadata::read(&Issuer::new("idp", issuer, IssuerKind::Openid), document.as_object().unwrap())
        };
        let (secure, plain) = ("https://keys.example/keys", "http://127.0.0.1:1/keys");
        for jwks_uri in [plain, "http://keys.example/keys", "//keys.example/keys", "file:///keys", ""] {
            assert!(read("https://idp.example", jwks_uri, secure).is_err(), "{jwks_uri}");
        }
        assert_eq!(read("https://idp.example", secure, secure).unwrap().introspection_endpoint.as_deref(), Some(secure));
        // It would be sent the client's secret.
        assert_eq!(read("https://idp.example", secure, plain).unwrap().introspection_endpoint, None);
        assert_eq!(read("http://127.0.0.1:1", plain, plain).unwrap().jwks_uri, plain);
    }

    #[test]
    fn metadata_of_another_issuer_is_refused() {
        let idp = |config: &mut Value, base: &str| {
            config["issuers"] = json!([{ "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"], "algorithms": ["EdDSA"] }]);
        };
        let token = |world: &World| {
            let now = world.guard.clock().now().seconds();
            let claims = json!({ "iss": format!("{}/idp", world.server.url()), "sub": "u", "aud": "api", "iat": now, "exp": now + 600 });
            format!("Bearer {}", world.key.sign_jwt(&claims).unwrap())
        };
        let world = World::with(idp);
        let base = world.server.url();
        let keys = jwks(&[&world.key]);
        world.server.on_path("/idp/keys", move |_| ok(&keys));
        let documents = [
            json!({ "issuer": format!("{base}/idp/"), "jwks_uri": format!("{base}/idp/keys") }),
            json!({ "issuer": "https://evil.example", "jwks_uri": format!("{base}/idp/keys") }),
            json!({ "jwks_uri": format!("{base}/idp/keys") }),
            json!({ "issuer": format!("{base}/idp"), "jwks_uri": "file:///etc/passwd" }),
            json!({ "issuer": format!("{base}/idp") }),
        ];
        for document in documents {
            let shown = document.to_string();
            world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&document));
            assert!(is_unavailable(&world.ask(("authorization", &token(&world)))), "{shown}");
            world.seconds_pass(30);
        }
        assert_eq!(world.server.calls("/idp/keys"), 0);
        let right = json!({ "issuer": format!("{base}/idp"), "jwks_uri": format!("{base}/idp/keys") });
        world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&right));
        assert_eq!(world.ask(("authorization", &token(&world))).outcome.unwrap().subject, "u");
    }
}

mod refreshes {
    use super::*;

    #[test]
    fn sixty_four_requests_with_one_expired_session_refresh_it_once_and_get_the_same_cookie() {
        let world = World::new();
        world.renew_for(300);
        let cookie = world.expired_cookie();
        let start = Barrier::new(64);
        let answers: Vec<Resolved> = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                world.ask_with_cookie(&cookie)
            };
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((world.server.calls(AUTHENTICATE), world.guard.stats().refreshes), (1, 1));
        let fresh = new_cookie(&answers[0]);
        for answer in &answers {
            assert_eq!(answer.outcome.as_ref().unwrap().subject, "user_1");
            assert_eq!(new_cookie(answer), fresh);
        }
        let asked = world.server.asked().into_iter().find(|asked| asked.path == AUTHENTICATE).unwrap().json();
        let expected =
            json!({ "grant_type": "refresh_token", "client_id": "client_1", "client_secret": "sk_ours", "refresh_token": "refresh_0" });
        assert_eq!(asked, expected);

        // Late ones get it without waiting; the new cookie does without another.
        world.seconds_pass(29);
        let Check::Renewed(late) = world.check(("cookie", &cookie)) else { panic!("not from memory") };
        assert_eq!(new_cookie(&late), fresh);
        assert!(matches!(world.check(("cookie", &fresh)), Check::Allowed(_)));

        // Very late ones are told no, and their cookie is left alone: the browser holds a newer one.
        world.seconds_pass(1);
        let too_late = world.ask_with_cookie(&cookie);
        assert_eq!((too_late.outcome, too_late.cookies.len()), (Err(Refusal::SessionEnded), 0));
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
    }

    #[test]
    fn another_cookie_of_the_same_session_shares_the_refresh() {
        let world = World::new();
        world.renew_for(300);
        let (one, other) = (world.expired_cookie(), world.expired_cookie());
        assert_ne!(one, other);
        assert_eq!(new_cookie(&world.ask_with_cookie(&one)), new_cookie(&world.ask_with_cookie(&other)));
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
    }

    #[test]
    fn a_renewed_session_that_expires_within_memory_is_renewed_on() {
        let world = World::new();
        world.renew_for(1);
        let cookie = world.expired_cookie();
        let first = new_cookie(&world.ask_with_cookie(&cookie));
        world.seconds_pass(12);
        let second = new_cookie(&world.ask_with_cookie(&cookie));
        assert_ne!(first, second);
        assert_eq!(new_cookie(&world.ask_with_cookie(&first)), second);
        assert_eq!(world.server.calls(AUTHENTICATE), 2);
    }

    #[test]
    fn the_end_of_a_successor_does_not_clear_a_cookie_that_has_one() {
        let world = World::new();
        world.renew_for(1);
        let cookie = world.expired_cookie();
        let successor = new_cookie(&world.ask_with_cookie(&cookie));
        world.seconds_pass(12);
        world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, r#"{"error":"invalid_grant"}"#.to_owned()));
        let old = world.ask_with_cookie(&cookie);
        assert_eq!((old.outcome, old.cookies.len()), (Err(Refusal::SessionEnded), 0));
        assert!(clears_the_cookie(&world.ask_with_cookie(&successor)));
    }

    #[test]
    fn an_ended_session_is_cleared_and_not_asked_about_again_at_once() {
        for code in ["invalid_grant", "mfa_enrollment", "sso_required"] {
            let world = World::new();
            world.server.on_path(AUTHENTICATE, move |_| Does::Answer(400, json!({ "error": code, "error_description": "x" }).to_string()));
            let cookie = world.expired_cookie();
            for _ in 0..10 {
                let ended = world.ask_with_cookie(&cookie);
                assert_eq!(ended.outcome, Err(Refusal::SessionEnded));
                assert!(clears_the_cookie(&ended));
                world.clock.advance(Duration::from_millis(499));
            }
            assert_eq!(world.server.calls(AUTHENTICATE), 1);
            world.seconds_pass(1);
            assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::SessionEnded));
            assert_eq!(world.server.calls(AUTHENTICATE), 2);
        }
    }

    #[test]
    fn passing_trouble_keeps_the_cookie_and_says_503() {
        let error = |status: u16, code: &str| Does::Answer(status, json!({ "error": code }).to_string());
        type Trouble = (&'static str, fn(&dyn Fn(u16, &str) -> Does) -> Does);
        let troubles: [Trouble; 14] = [
            ("408", |_| Does::Answer(408, String::new())),
            ("429", |_| Does::AnswerWith(429, "retry-after: 7", "{}".to_owned())),
            ("500", |_| Does::Answer(500, String::new())),
            ("502", |_| Does::Answer(502, "<html>".to_owned())),
            ("503", |_| Does::Answer(503, String::new())),
            ("html", |_| Does::Answer(200, "<html>".to_owned())),
            ("empty object", |_| Does::Answer(200, "{}".to_owned())),
            ("400 without a code", |_| Does::Answer(400, "<html>".to_owned())),
            ("404", |_| Does::Answer(404, "{}".to_owned())),
            ("redirect", |_| Does::AnswerWith(307, "location: /elsewhere", String::new())),
            ("cut", |_| Does::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"user\":".to_vec())),
            ("nothing", |_| Does::Raw(Vec::new())),
            ("our mistake", |error| error(400, "invalid_client")),
            ("our mistake", |error| error(401, "unauthorized")),
        ];
        let world = World::new();
        let cookie = world.expired_cookie();
        for (name, trouble) in troubles {
            world.server.on_path(AUTHENTICATE, move |_| trouble(&error));
            let answer = world.ask_with_cookie(&cookie);
            assert!(is_unavailable(&answer) && answer.cookies.is_empty(), "{name}: {answer:?}");
            if name == "429" {
                assert_eq!(answer.outcome.unwrap_err().retry_after(), Some(7));
            }
            world.seconds_pass(31);
        }
        world.renew_for(300);
        assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    }

    #[test]
    fn with_the_server_stopped_valid_sessions_go_on_and_expired_ones_are_told_to_come_again() {
        let world = World::new();
        let seen = world.cookie(world.token(&world.key, 3600), "refresh_0");
        assert!(world.ask_with_cookie(&seen).outcome.is_ok());
        let unseen = world.cookie(world.token(&world.key, 3600), "refresh_5");
        let expired = world.expired_cookie();
        world.server.stop();
        assert!(matches!(world.check(("cookie", &seen)), Check::Allowed(_)));
        assert!(matches!(world.check(("cookie", &unseen)), Check::Allowed(_)));
        let answer = world.ask_with_cookie(&expired);
        assert!(is_unavailable(&answer) && answer.cookies.is_empty());
        // Now it is known to be away: nobody waits.
        assert!(matches!(world.check(("cookie", &expired)), Check::Refused(Refusal::Unavailable { .. })));
        world.seconds_pass(1);
        assert!(matches!(world.check(("cookie", &expired)), Check::Needs(_)));
    }

    #[test]
    fn a_server_that_hangs_is_given_five_seconds() {
        let world = World::new();
        world.server.on_path(AUTHENTICATE, |_| Does::Hang);
        let cookie = world.expired_cookie();
        let began = Instant::now();
        assert!(is_unavailable(&world.ask_with_cookie(&cookie)));
        assert!((4..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[test]
    fn a_hanging_key_endpoint_does_not_delay_refreshes() {
        let world = World::new();
        world.renew_for(300);
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        world.server.on_path(JWKS, |_| Does::Hang);
        world.seconds_pass(900);
        assert!(world.is_let_in());
        while world.server.calls(JWKS) < 2 {
            std::thread::yield_now();
        }
        let began = Instant::now();
        assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[test]
    fn the_token_of_another_user_or_session_is_never_taken() {
        for (user, session) in [("user_2", "session_1"), ("user_1", "session_2"), ("user_2", "session_2")] {
            let world = World::new();
            let token = world.token_of(&world.key, 300, user, session);
            let body = json!({ "user": { "id": user }, "access_token": token, "refresh_token": "refresh_1" });
            world.server.on_path(AUTHENTICATE, move |_| ok(&body));
            let answer = world.ask_with_cookie(&world.expired_cookie());
            assert_eq!(answer.outcome, Err(Refusal::InvalidSession), "{user} {session}");
            assert!(!answer.cookies.iter().any(|cookie| cookie.len() > 200), "no session may be set");
        }
    }

    #[test]
    fn a_new_token_is_verified_before_it_is_believed() {
        let world = World::new();
        let forger = new_key("key_1");
        let body = answer(world.token(&forger, 300), "refresh_1");
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let cookie = world.expired_cookie();
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::InvalidSession));
    }

    #[test]
    fn a_new_token_of_an_unpublished_key_waits_and_costs_no_second_refresh() {
        let world = World::new();
        let next = new_key("key_2");
        let body = answer(world.token(&next, 3600), "refresh_1");
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let cookie = world.expired_cookie();
        let answer = world.ask_with_cookie(&cookie);
        assert!(is_unavailable(&answer) && answer.cookies.is_empty());
        world.publish(&[&world.key, &next]);
        world.seconds_pass(31);
        let answer = world.ask_with_cookie(&cookie);
        assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
    }

    #[test]
    fn a_session_of_a_key_that_is_gone_is_renewed() {
        let world = World::new();
        world.renew_for(300);
        let gone = new_key("gone");
        let cookie = world.cookie(world.token(&gone, 300), "refresh_0");
        let answer = world.ask_with_cookie(&cookie);
        assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
    }

    #[test]
    fn a_session_without_a_refresh_token_ends_when_it_expires() {
        let world = World::new();
        let cookie = world.cookie(world.token(&world.key, -60), "");
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::SessionEnded));
        assert_eq!(world.server.calls(AUTHENTICATE), 0);
    }

    #[test]
    fn a_request_from_another_site_refreshes_nothing() {
        let world = World::new();
        world.renew_for(300);
        let cookie = world.expired_cookie();
        let foreign = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
        let check = world.guard.check(&facts("POST", &foreign), &Requirement::default(), None);
        assert!(matches!(check, Check::Refused(Refusal::CrossSite)), "{check:?}");
        let bare = world.guard.check(&facts("POST", &foreign[..1]), &Requirement::default(), None);
        assert!(matches!(bare, Check::Refused(Refusal::CrossSite)), "{bare:?}");
        assert_eq!(world.server.calls(AUTHENTICATE), 0);

        let token = csrf_token(&world.guard.config().session.as_ref().unwrap().password, "session_1");
        for (sent, right) in [(token.as_str(), true), ("guess", false)] {
            let headers = [("cookie", cookie.as_str()), ("x-csrf-token", sent)];
            let answer = finish(&world.guard, world.guard.check(&facts("POST", &headers), &Requirement::default(), None));
            assert_eq!(answer.outcome.is_ok(), right);
        }
    }

    #[test]
    fn a_revoked_session_is_refused_though_it_was_seen_and_though_it_is_renewed() {
        let world = World::new();
        world.renew_for(300);
        let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
        assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
        let now = world.guard.clock().now();
        world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(3600)));
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::Revoked));
        assert_eq!(world.ask_with_cookie(&world.expired_cookie()).outcome, Err(Refusal::Revoked));
    }

    #[test]
    fn a_sealed_session_is_refused_when_its_time_is_over_though_it_was_seen_and_its_token_holds() {
        for format in ["workos_python", "workos_node"] {
            let world = World::with(|config, _| {
                config["session"]["format"] = format.into();
                config["session"]["max_age"] = 60.into();
            });
            let cookie = world.cookie(world.token(&world.key, 3600), "refresh_0");
            assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
            world.seconds_pass(60);
            assert!(matches!(world.check(("cookie", &cookie)), Check::Allowed(_)), "{format}");
            // Iron grants a minute to clocks that differ.
            world.seconds_pass(if format == "workos_node" { 60 } else { 1 });
            assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::InvalidSession), "{format}");
        }
    }

    #[test]
    fn a_kept_connection_that_the_server_closed_is_no_failure() {
        let world = World::new();
        let (base, clock, key) = (world.server.url(), Arc::clone(&world.clock), Arc::clone(&world.key));
        world.server.on_path(AUTHENTICATE, move |_| {
            Does::AnswerAndHangUp(answer(token_of(&base, &clock, &key, 300, "user_1", "session_1"), "refresh_1").to_string())
        });
        for n in 10..20 {
            let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{n}"));
            assert!(world.ask_with_cookie(&cookie).outcome.is_ok(), "{n}");
        }
    }
}

mod opaque {
    use super::*;

    fn world() -> World {
        World::with(|config, base| {
            config["issuers"] = json!([
                { "name": "closed", "issuer": format!("{base}/closed"), "audiences": ["api"], "jwks_uri": format!("{base}/closed/keys"), "algorithms": ["EdDSA"] },
                { "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"],
                  "introspection": { "endpoint": format!("{base}/idp/introspect"), "client_id": "an app", "client_secret": "s:ö" },
                  "mapping": { "grants": { "scope:read": ["items:read"] } } },
            ]);
        })
    }

    const INTROSPECT: &str = "/idp/introspect";

    fn active(world: &World, change: impl FnOnce(&mut Value)) {
        let now = world.guard.clock().now().seconds();
        let mut body = json!({ "active": true, "sub": "u", "client_id": "c", "scope": "read", "iss": format!("{}/idp", world.server.url()), "aud": ["api"], "exp": now + 300 });
        change(&mut body);
        world.server.on_path(INTROSPECT, move |_| ok(&body));
    }

    #[test]
    fn an_active_token_is_let_in_with_mapped_permissions_and_kept_for_ten_seconds() {
        let world = world();
        active(&world, |_| {});
        let header = ("authorization", "Bearer opaque-token");
        let principal = world.ask(header).outcome.unwrap();
        assert_eq!(
            (principal.subject.as_str(), principal.via, &principal.permissions[..]),
            ("u", Via::Bearer, &["items:read".to_owned()][..])
        );
        assert!(matches!(world.check(header), Check::Allowed(_)));
        world.clock.advance(Duration::from_millis(9_999));
        assert!(matches!(world.check(header), Check::Allowed(_)));
        world.clock.advance(Duration::from_millis(1));
        assert!(matches!(world.check(header), Check::Needs(_)));

        let [asked] = &world.server.asked()[..] else { panic!("asked somebody else") };
        assert_eq!((asked.path.as_str(), asked.form("token").as_deref()), (INTROSPECT, Some("opaque-token")));
        assert_eq!(asked.authorization.as_deref(), Some(format!("Basic {}", b64::encode_std("an+app:s%3A%C3%B6")).as_str()));
    }

    #[test]
    fn an_answer_is_not_kept_beyond_the_token() {
        let world = world();
        let now = world.guard.clock().now().seconds();
        active(&world, |body| body["exp"] = (now - 7).into());
        let header = ("authorization", "Bearer opaque-token");
        assert!(world.ask(header).outcome.is_ok());
        world.seconds_pass(2);
        assert!(matches!(world.check(header), Check::Allowed(_)));
        world.seconds_pass(1);
        assert!(matches!(world.check(header), Check::Needs(_)));
    }

    #[test]
    fn what_the_issuer_does_not_vouch_for_is_refused() {
        let changes: [fn(&mut Value); 6] = [
            |body| *body = json!({ "active": false }),
            |body| body["active"] = "true".into(),
            |body| body["iss"] = "https://evil.example".into(),
            |body| body["aud"] = json!(["another api"]),
            |body| body["exp"] = 1.into(),
            |body| body["token_use"] = "refresh".into(),
        ];
        for change in changes {
            let world = world();
            active(&world, change);
            assert!(world.ask(("authorization", "Bearer opaque-token")).outcome.is_err());
        }
        let world = world();
        active(&world, |body| *body = json!({ "active": false }));
        assert_eq!(world.ask(("authorization", "Bearer opaque-token")).outcome, Err(Refusal::Inactive));
        assert!(matches!(world.check(("authorization", "Bearer opaque-token")), Check::Refused(Refusal::Inactive)));
        assert_eq!(world.server.calls(INTROSPECT), 1);
    }

    #[test]
    fn an_issuer_that_does_not_answer_refuses_for_now_only() {
        let world = world();
        world.server.on_path(INTROSPECT, |_| Does::Answer(500, String::new()));
        let header = ("authorization", "Bearer opaque-token");
        assert!(is_unavailable(&world.ask(header)));
        active(&world, |_| {});
        world.seconds_pass(2);
        assert!(world.ask(header).outcome.is_ok());
    }

    /// What strangers send is not to decide over the others.
    #[test]
    fn a_token_that_the_issuer_will_not_read_shuts_out_nobody_else() {
        let world = world();
        let now = world.guard.clock().now().seconds();
        let body = json!({ "active": true, "sub": "u", "client_id": "c", "aud": ["api"], "exp": now + 300 }).to_string();
        for status in [400, 413, 414, 422, 431] {
            let body = body.clone();
            world.server.on_path(INTROSPECT, move |asked: &Asked| match asked.form("token").unwrap().starts_with("good") {
                true => Does::Answer(200, body.clone()),
                false => Does::Answer(status, String::new()),
            });
            assert!(is_unavailable(&world.ask(("authorization", "Bearer odd"))), "{status}");
            assert!(world.ask(("authorization", &format!("Bearer good-{status}"))).outcome.is_ok(), "{status}");
        }
        // These are said of us, or of everybody.
        for status in [401, 403, 404, 408, 429, 500] {
            world.seconds_pass(60);
            world.server.on_path(INTROSPECT, move |_| Does::Answer(status, String::new()));
            assert!(is_unavailable(&world.ask(("authorization", "Bearer odd"))), "{status}");
            let asked = world.server.calls(INTROSPECT);
            assert!(is_unavailable(&world.ask(("authorization", "Bearer other"))), "{status}");
            assert_eq!(world.server.calls(INTROSPECT), asked, "{status}");
        }
    }

    #[test]
    fn a_token_goes_only_to_those_who_can_tell() {
        let world = world();
        active(&world, |_| {});
        let forger = new_key("key_1");
        let now = world.guard.clock().now().seconds();
        let ours = world.token(&forger, 300);
        let closed = forger
            .sign_jwt(&json!({ "iss": format!("{}/closed", world.server.url()), "sub": "u", "aud": "api", "exp": now + 60 }))
            .unwrap();
        let nobody = forger.sign_jwt(&json!({ "iss": "https://nobody.example", "sub": "u", "aud": "api", "exp": now + 60 })).unwrap();
        for token in [ours, closed, nobody] {
            assert!(world.ask(("authorization", &format!("Bearer {token}"))).outcome.is_err());
        }
        assert_eq!(world.server.calls(INTROSPECT), 0);

        let alone = World::new();
        assert!(matches!(alone.check(("authorization", "Bearer opaque-token")), Check::Refused(Refusal::InvalidToken(_))));
        assert!(alone.server.asked().is_empty());
    }

    #[test]
    fn a_fresh_token_is_asked_about_at_its_issuer_alone() {
        let world = World::with(|config, base| {
            let issuer = |name: &str| {
                json!({ "name": name, "issuer": format!("{base}/{name}"), "audiences": ["api"], "algorithms": ["EdDSA"], "jwks_uri": format!("{base}/{name}/keys"),
                        "introspection": { "endpoint": format!("{base}/{name}/introspect"), "client_id": "c", "client_secret": "s" } })
            };
            config["issuers"] = json!([issuer("one"), issuer("other")]);
        });
        let keys = jwks(&[&world.key]);
        world.server.on_path("/other/keys", move |_| ok(&keys));
        let now = world.guard.clock().now().seconds();
        let claims = json!({ "iss": format!("{}/other", world.server.url()), "sub": "u", "aud": "api", "exp": now + 300 });
        let mut body = claims.clone();
        body["active"] = true.into();
        world.server.on_path("/other/introspect", move |_| ok(&body));
        world.server.on_path("/one/introspect", |_| ok(&json!({ "active": false })));
        let bearer = format!("Bearer {}", world.key.sign_jwt(&claims).unwrap());
        let fresh = Requirement { fresh: true, ..Requirement::default() };
        assert_eq!(world.ask_as(&fresh, ("authorization", &bearer)).outcome.unwrap().subject, "u");
        assert_eq!((world.server.calls("/one/introspect"), world.server.calls("/other/introspect")), (0, 1));
    }

    #[test]
    fn what_is_fresh_of_somebody_else_is_not_said_of_who_was_known() {
        let world = world();
        let header = ("authorization", "Bearer opaque-token");
        active(&world, |_| {});
        assert_eq!(world.ask(header).outcome.unwrap().subject, "u");
        active(&world, |body| body["sub"] = "v".into());
        let fresh = Requirement { fresh: true, ..Requirement::default() };
        assert_eq!(world.ask_as(&fresh, header).outcome.unwrap().subject, "v");
    }

    #[test]
    fn the_endpoint_is_found_in_the_metadata() {
        let world = World::with(|config, base| {
            config["issuers"] = json!([{ "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"], "introspection": { "client_id": "a", "client_secret": "b" } }]);
        });
        let base = world.server.url();
        let document = json!({ "issuer": format!("{base}/idp"), "jwks_uri": format!("{base}/idp/keys"), "introspection_endpoint": format!("{base}{INTROSPECT}") });
        world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&document));
        active(&world, |_| {});
        assert!(world.ask(("authorization", "Bearer one")).outcome.is_ok());
        assert!(world.ask(("authorization", "Bearer two")).outcome.is_ok());
        assert_eq!(world.server.calls("/idp/.well-known/openid-configuration"), 1);
    }
}

mod api_keys {
    use super::*;

    fn know(world: &World) {
        world.server.on_path(VALIDATIONS, |asked: &Asked| {
            let key = match asked.json()["value"].as_str().unwrap() {
                "sk_org" => json!({ "id": "api_key_1", "owner": { "type": "organization", "id": "org_1" }, "permissions": ["items:read"], "expires_at": null }),
                "sk_user" => json!({ "id": "api_key_2", "owner": { "type": "user", "id": "user_1", "organization_id": "org_2" }, "expires_at": "2027-01-15T08:00:05.000Z" }),
                "sk_old" => json!({ "id": "api_key_3", "owner": { "type": "organization", "id": "org_1" }, "expires_at": "2020-01-01T00:00:00.000Z" }),
                _ => Value::Null,
            };
            ok(&json!({ "api_key": key }))
        });
    }

    #[test]
    fn a_key_is_asked_about_once_in_ten_seconds() {
        let world = World::new();
        know(&world);
        let principal = world.ask(("x-api-key", "sk_org")).outcome.unwrap();
        assert_eq!(
            (principal.kind, principal.subject.as_str(), principal.organization_id.as_deref()),
            (Kind::ApiKey, "api_key_1", Some("org_1"))
        );
        assert_eq!((&principal.permissions[..], principal.key_id.as_deref()), (&["items:read".to_owned()][..], Some("api_key_1")));
        assert!(matches!(world.check(("authorization", "Bearer sk_org")), Check::Allowed(_)));
        assert_eq!(world.ask(("x-api-key", "sk_nobody")).outcome, Err(Refusal::Inactive));
        assert!(matches!(world.check(("x-api-key", "sk_nobody")), Check::Refused(Refusal::Inactive)));
        assert_eq!(world.ask(("x-api-key", "sk_old")).outcome, Err(Refusal::Inactive));
        assert_eq!(world.server.calls(VALIDATIONS), 3);
        assert!(world.server.asked().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer sk_ours")));
        world.seconds_pass(10);
        assert!(matches!(world.check(("x-api-key", "sk_org")), Check::Needs(_)));
    }

    #[test]
    fn a_key_whose_checksum_is_wrong_is_refused_without_asking() {
        let world = World::new();
        know(&world);
        let key = jose::api_key::mint_of_customer(&SeededRng::new(3));
        let (front, last) = key.reveal().split_at(key.reveal().len() - 1);
        let wrong = format!("{front}{}", if last == "x" { "y" } else { "x" });
        for header in [("x-api-key", wrong.clone()), ("authorization", format!("Bearer {wrong}"))] {
            assert!(matches!(world.check((header.0, &header.1)), Check::Refused(Refusal::Inactive)));
        }
        assert_eq!(world.server.calls(VALIDATIONS), 0);
        assert_eq!(world.ask(("x-api-key", key.reveal())).outcome, Err(Refusal::Inactive), "well-formed, and nobody's");
        assert_eq!(world.server.calls(VALIDATIONS), 1);
    }

    #[test]
    fn a_key_is_not_kept_beyond_its_expiry_or_its_revocation() {
        let world = World::new();
        know(&world);
        // START is 2027-01-15T08:00:00Z.
        assert_eq!(world.ask(("x-api-key", "sk_user")).outcome.unwrap().organization_id.as_deref(), Some("org_2"));
        world.seconds_pass(5);
        assert_eq!(world.ask(("x-api-key", "sk_user")).outcome, Err(Refusal::Inactive));
        assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
        let now = world.guard.clock().now();
        world.guard.revocations().revoke(Revoked::Key("api_key_1"), now, now.plus(Duration::from_secs(60)));
        assert!(matches!(world.check(("x-api-key", "sk_org")), Check::Refused(Refusal::Revoked)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let world = World::with(|config, _| config["cache_entries"] = 10.into());
        know(&world);
        for n in 0..50 {
            assert_eq!(world.ask(("x-api-key", &format!("sk_guess_{n}"))).outcome, Err(Refusal::Inactive));
        }
        assert_eq!(world.guard.engine().api_keys.len(), 10);
    }

    /// Anybody can make up keys; only who was signed in has a session to renew.
    #[test]
    fn a_flood_of_made_up_keys_keeps_no_session_from_being_renewed() {
        let world = World::new();
        world.renew_for(300);
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        world.server.on_path(VALIDATIONS, |_| {
            std::thread::sleep(Duration::from_millis(3));
            ok(&json!({ "api_key": null }))
        });
        let (tell, told) = mpsc::channel();
        for n in 0..1200 {
            let Check::Needs(need) = world.check(("x-api-key", &format!("sk_made_up_{n}"))) else { panic!("known") };
            let tell = tell.clone();
            world.guard.resolve(need, move |resolved| tell.send(resolved).unwrap());
        }
        let answer = world.ask_with_cookie(&world.expired_cookie());
        assert!(answer.outcome.is_ok(), "{answer:?}");
        let answered = told.try_iter().count();
        assert!(answered < 800, "the session waited for {answered}");
        drop(tell);
        assert_eq!(answered + told.iter().count(), 1200);
    }

    #[test]
    fn without_a_key_of_our_own_or_with_a_bad_one_none_is_let_in() {
        let world = World::with(|config, _| drop(config.as_object_mut().unwrap().remove("api_key")));
        know(&world);
        assert_eq!(world.ask(("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
        assert!(world.server.asked().is_empty());
        let world = World::new();
        world.server.on_path(VALIDATIONS, |_| Does::Answer(401, r#"{"message":"Unauthorized"}"#.to_owned()));
        assert!(is_unavailable(&world.ask(("x-api-key", "sk_org"))));
    }
}

mod fresh {
    use super::*;

    fn fresh() -> Requirement {
        Requirement { fresh: true, ..Requirement::default() }
    }

    /// Two pages; the session is on the second.
    fn list(world: &World, status: &'static str) {
        world.server.on_path(SESSIONS, move |asked: &Asked| {
            ok(&match asked.query.contains("after=session_0") {
                false => json!({ "data": [{ "id": "session_0", "status": "active" }], "list_metadata": { "before": null, "after": "session_0" } }),
                true => json!({ "data": [{ "id": "session_1", "status": status }], "list_metadata": { "before": null, "after": null } }),
            })
        });
    }

    #[test]
    fn a_session_is_looked_for_on_every_page_and_every_time() {
        let world = World::new();
        list(&world, "active");
        let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
        for n in 1..=3 {
            assert!(world.ask_as(&fresh(), ("cookie", &cookie)).outcome.is_ok());
            assert_eq!(world.server.calls(SESSIONS), 2 * n);
        }
        assert!(world.ask(("cookie", &cookie)).outcome.is_ok());
        assert_eq!(world.server.calls(SESSIONS), 6);
        let asked = world.server.asked().into_iter().find(|asked| asked.path == SESSIONS).unwrap();
        assert_eq!(asked.authorization.as_deref(), Some("Bearer sk_ours"));
    }

    #[test]
    fn a_session_that_is_not_listed_has_ended_and_its_cookie_goes() {
        let world = World::new();
        let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
        list(&world, "revoked");
        let answer = world.ask_as(&fresh(), ("cookie", &cookie));
        assert_eq!(answer.outcome, Err(Refusal::SessionEnded));
        assert!(clears_the_cookie(&answer));
        world.server.on_path(SESSIONS, |_| ok(&json!({ "data": [], "list_metadata": {} })));
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        let answer = world.ask_as(&fresh(), ("authorization", &bearer));
        assert_eq!((answer.outcome, answer.cookies.len()), (Err(Refusal::SessionEnded), 0));
    }

    #[test]
    fn what_is_fresh_of_one_caller_is_not_of_another() {
        let world = World::new();
        let caller = |change: fn(&mut Principal)| {
            let mut principal = Principal::new(Kind::User, Via::Session, "https://nobody.example", "user_1", START);
            principal.session_id = Some("session_1".to_owned());
            principal.token_id = Some("a".to_owned());
            change(&mut principal);
            principal
        };
        let fresh = |principal| world.guard.engine().freshen(&Arc::new(principal), &String::new().into());
        let of_session = fresh(caller(|_| {}));
        assert!(of_session.is_about(&caller(|_| {})));
        assert!(of_session.is_about(&caller(|renewed| renewed.token_id = Some("b".to_owned()))));
        let others: [fn(&mut Principal); 5] = [
            |other| other.session_id = Some("session_2".to_owned()),
            |other| other.session_id = None,
            |other| other.subject = "user_2".to_owned(),
            |other| other.issuer = "https://else.example".to_owned(),
            |other| other.via = Via::Bearer,
        ];
        assert!(others.iter().all(|change| !of_session.is_about(&caller(*change))));
        let of_token = fresh(caller(|principal| principal.session_id = None));
        assert!(of_token.is_about(&caller(|principal| principal.session_id = None)));
        assert!(!of_token.is_about(&caller(|other| (other.session_id, other.token_id) = (None, Some("b".to_owned())))));
    }

    #[test]
    fn a_known_caller_is_looked_up_and_nothing_is_renewed() {
        let world = World::new();
        let look_up = |principal: &Arc<Principal>| {
            let (tell, told) = mpsc::channel();
            world.guard.look_up(Arc::clone(principal), move |resolved| tell.send(resolved).unwrap());
            let resolved: Resolved = told.recv_timeout(Duration::from_secs(15)).unwrap();
            assert!(resolved.cookies.is_empty());
            resolved.outcome.map(|_| ())
        };
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        let principal = world.ask(("authorization", &bearer)).outcome.unwrap();
        list(&world, "active");
        world.seconds_pass(1000);
        assert_eq!((look_up(&principal), world.server.calls(SESSIONS)), (Ok(()), 2));
        list(&world, "revoked");
        assert_eq!(look_up(&principal), Err(Refusal::SessionEnded));
        let asked = world.server.asked().len();
        let stranger = Arc::new(Principal { issuer: "https://idp.example".to_owned(), ..(*principal).clone() });
        assert_eq!(look_up(&stranger), Ok(()));
        let now = world.guard.clock().now();
        world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(60)));
        assert_eq!((look_up(&principal), look_up(&stranger)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
        assert_eq!((world.server.asked().len(), world.server.calls(AUTHENTICATE)), (asked, 0));
    }

    #[test]
    fn an_expired_session_is_renewed_and_then_looked_for() {
        let world = World::new();
        world.renew_for(300);
        list(&world, "active");
        let answer = world.ask_as(&fresh(), ("cookie", &world.expired_cookie()));
        assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
        assert_eq!((world.server.calls(AUTHENTICATE), world.server.calls(SESSIONS)), (1, 2));
    }

    #[test]
    fn nothing_is_fresh_while_nobody_can_be_asked() {
        let world = World::new();
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        world.server.on_path(SESSIONS, |_| Does::Answer(500, String::new()));
        assert!(is_unavailable(&world.ask_as(&fresh(), ("authorization", &bearer))));
        let world = World::with(|config, _| drop(config.as_object_mut().unwrap().remove("api_key")));
        let bearer = format!("Bearer {}", world.token(&world.key, 300));
        assert!(is_unavailable(&world.ask_as(&fresh(), ("authorization", &bearer))));
        assert_eq!(world.server.calls(SESSIONS), 0);
    }

    #[test]
    fn an_api_key_is_asked_about_every_time() {
        let world = World::new();
        let key = json!({ "api_key": { "id": "api_key_1", "owner": { "type": "organization", "id": "org_1" } } });
        world.server.on_path(VALIDATIONS, move |_| ok(&key));
        assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
        world.server.on_path(VALIDATIONS, |_| ok(&json!({ "api_key": null })));
        assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
        assert_eq!(world.ask_as(&fresh(), ("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
        assert_eq!(world.ask(("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
    }
}

mod lifetime {
    use super::*;

    /// Requests that wait for a server that hangs.
    fn wait_in_vain(world: &World, count: usize) -> mpsc::Receiver<Resolved> {
        world.server.on_path(AUTHENTICATE, |_| Does::Hang);
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        let (tell, told) = mpsc::channel();
        for n in 0..count {
            // Two of each session: some wait for a thread, some for another's call.
            let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{}", n / 2));
            let Check::Needs(need) = world.check(("cookie", &cookie)) else { panic!("not expired") };
            let tell = tell.clone();
            world.guard.resolve(need, move |resolved| tell.send(resolved).unwrap());
        }
        while world.server.calls(AUTHENTICATE) < 4 {
            std::thread::yield_now();
        }
        told
    }

    #[test]
    fn closing_answers_all_who_wait_exactly_once() {
        let world = World::new();
        let told = wait_in_vain(&world, 40);
        let began = Instant::now();
        world.guard.close();
        let answers: Vec<_> = told.iter().collect();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!((answers.len(), answers.iter().filter(|answer| is_unavailable(answer)).count()), (40, 40));

        let valid = world.cookie(world.token(&world.key, 60), "refresh_0");
        assert!(matches!(world.check(("cookie", &valid)), Check::Allowed(_)));
        assert!(is_unavailable(&world.ask_with_cookie(&world.expired_cookie())));
        world.guard.close();
    }

    #[test]
    fn the_last_guard_dropped_answers_all_who_wait() {
        let world = World::new();
        let told = wait_in_vain(&world, 10);
        let World { guard, server, .. } = world;
        let clone = guard.clone();
        drop(guard);
        assert!(told.try_recv().is_err(), "a clone still lives");
        drop(clone);
        assert_eq!(told.iter().count(), 10);
        drop(server);
    }

    #[test]
    fn a_callback_that_panics_takes_nobody_with_it() {
        let world = World::new();
        world.renew_for(300);
        let cookie = world.expired_cookie();
        let (tell, told) = mpsc::channel();
        // All of them before the first is resolved: from then on the renewed session is known.
        let checks: Vec<Check> = (0..10).map(|_| world.check(("cookie", &cookie))).collect();
        for (n, check) in checks.into_iter().enumerate() {
            let Check::Needs(need) = check else { panic!("not expired") };
            let tell = tell.clone();
            world.guard.resolve(need, move |resolved| {
                tell.send(resolved.outcome.is_ok()).unwrap();
                assert!(n % 2 == 0, "planted");
            });
        }
        drop(tell);
        assert_eq!(told.iter().filter(|is_ok| *is_ok).count(), 10);
        assert!(world.ask(("cookie", &cookie)).outcome.is_ok());
    }

    #[test]
    fn a_forked_child_goes_on_with_the_keys_of_its_parent_and_threads_of_its_own() {
        let world = World::new();
        world.renew_for(300);
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        let parent = Arc::clone(world.guard.engine());
        world.guard.after_fork();
        assert!(!Arc::ptr_eq(&parent, world.guard.engine()));
        assert!(world.is_let_in());
        assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
        assert_eq!((world.server.calls(JWKS), world.guard.stats().refreshes), (1, 1));
        // Keys that came along are fetched again when it is time, on a thread that the child starts.
        world.seconds_pass(300);
        assert!(world.is_let_in());
        world.wait_for("a fetch", |stats| stats.key_fetches == 1);
    }

    #[test]
    fn a_forked_child_starts_afresh_whatever_locks_the_parent_held() {
        let world = World::new();
        world.renew_for(300);
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        world.guard.engine().seize_locks();
        world.guard.after_fork();
        assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
        assert_eq!((world.server.calls(JWKS), world.guard.stats().refreshes), (2, 1));
    }

    #[test]
    fn a_forked_child_has_the_revocations_of_its_parent() {
        let world = World::new();
        let now = world.guard.clock().now();
        world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(60)));
        world.guard.after_fork();
        let cookie = world.cookie(world.token(&world.key, 60), "refresh_0");
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::Revoked));
    }

    #[test]
    fn a_seen_credential_costs_a_look_in_the_cache() {
        let world = World::new();
        let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
        assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
        let before = world.guard.stats();
        for _ in 0..5 {
            assert!(matches!(world.check(("cookie", &cookie)), Check::Allowed(_)));
        }
        let after = world.guard.stats();
        assert_eq!((after.cache_hits - before.cache_hits, after.cache_misses), (5, before.cache_misses));
        // The same octets as a bearer token are another credential.
        let value = cookie.split_once('=').unwrap().1;
        assert_ne!(CredentialDigest::of(Via::Bearer, value), CredentialDigest::of(Via::Session, value));
        assert!(world.ask(("authorization", &format!("Bearer {value}"))).outcome.is_err());
    }
}

mod sign_in {
    use super::*;

    /// The query of the callback and the cookie of the attempt.
    pub(super) fn begin(world: &World) -> (String, String) {
        let options = LoginOptions { return_to: Some("/expenses?page=2"), ..LoginOptions::default() };
        let login = begin_login(
            world.guard.config(),
            "https://app.example/callback",
            &options,
            &Many::default(),
            world.guard.rng(),
            world.guard.clock().now(),
        )
        .unwrap();
        let query = login.url.split_once('?').unwrap().1;
        let state = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state").unwrap().1.into_owned();
        (format!("code=code_1&state={state}"), login.set_cookie.split(';').next().unwrap().to_owned())
    }

    pub(super) fn exchange(world: &World, query: &str, cookie: &str) -> LoginResult {
        let (tell, told) = mpsc::channel();
        world.guard.exchange_code(query, &facts("GET", &[("cookie", cookie)]), Some("Firefox"), Some("192.0.2.1"), move |result| {
            tell.send(result).unwrap()
        });
        told.recv_timeout(Duration::from_secs(15)).unwrap()
    }

    #[test]
    fn a_code_becomes_a_session_cookie_that_is_let_in() {
        let world = World::new();
        let body = answer(world.token(&world.key, 300), "refresh_0");
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let (query, attempt) = begin(&world);
        let result = exchange(&world, &query, &attempt);
        assert_eq!((result.status, result.location.as_deref(), result.problem), (303, Some("/expenses?page=2"), None));
        assert_eq!(result.principal.unwrap().email.as_deref(), Some("ann@example.com"));
        let [clear, set] = &result.cookies[..] else { panic!("{:?}", result.cookies) };
        assert!(clear.starts_with(attempt.split('=').next().unwrap()) && clear.contains("Max-Age=0"));
        assert!(world.ask_with_cookie(set.split(';').next().unwrap()).outcome.is_ok());

        let asked = world.server.asked().into_iter().find(|asked| asked.path == AUTHENTICATE).unwrap().json();
        assert_eq!(
            (asked["grant_type"].as_str(), asked["code"].as_str(), asked["client_secret"].as_str()),
            (Some("authorization_code"), Some("code_1"), Some("sk_ours"))
        );
        assert_eq!((asked["user_agent"].as_str(), asked["ip_address"].as_str()), (Some("Firefox"), Some("192.0.2.1")));
        assert_eq!(asked["code_verifier"].as_str().map(str::len), Some(43));
    }

    #[test]
    fn a_sign_in_that_fails_sets_no_session_and_says_why() {
        let world = World::new();
        let (query, attempt) = begin(&world);
        world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, r#"{"error":"invalid_grant","error_description":"x"}"#.to_owned()));
        let refused = exchange(&world, &query, &attempt);
        assert_eq!((refused.status, refused.cookies.len()), (400, 1));
        assert!(refused.problem.unwrap().contains("invalid_grant"));

        let strange = exchange(&world, &query, "");
        assert_eq!((strange.status, strange.cookies.len(), strange.principal), (400, 0, None));

        let forger = new_key("key_1");
        let body = answer(world.token(&forger, 300), "refresh_0");
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let forged = exchange(&world, &query, &attempt);
        assert_eq!((forged.status, forged.cookies.len(), forged.principal), (503, 1, None));

        // A code is sent once: the server takes a second time for theft. Whether the first arrived, nobody can say.
        world.server.on_path(AUTHENTICATE, |_| Does::Raw(Vec::new()));
        let asked = world.server.calls(AUTHENTICATE);
        assert_eq!(exchange(&world, &query, &attempt).status, 503);
        assert_eq!(world.server.calls(AUTHENTICATE), asked + 1);

        world.server.stop();
        world.seconds_pass(60);
        let away = exchange(&world, &query, &attempt);
        assert_eq!((away.status, away.cookies.len(), away.principal), (503, 1, None));
    }
}

pub(crate) mod log {
    use super::*;
    use std::fmt::{Debug, Write};
    use std::sync::{Mutex, Once};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

    /// Keeps every line of every test in this process; a test finds its own by its server's address.
    struct Keeps;

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, "{field}={value:?} ").unwrap();
        }
    }

    impl Subscriber for Keeps {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("gatewright_guard")
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            LINES.lock().unwrap().push((*event.metadata().level(), text.0));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    pub(crate) fn keep_lines() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Keeps).unwrap());
    }

    fn warnings(about: &str) -> Vec<String> {
        lines(Level::WARN, about)
    }

    pub(crate) fn lines(level: Level, about: &str) -> Vec<String> {
        LINES.lock().unwrap().iter().filter(|(own, line)| *own == level && line.contains(about)).map(|(_, line)| line.clone()).collect()
    }

    #[test]
    fn keys_that_cannot_be_fetched_are_one_warning_until_they_can() {
        keep_lines();
        let world = World::new();
        let address = world.server.url();
        let bearer = format!("Bearer {}", world.token(&world.key, 3600));
        for round in 1..=2 {
            world.server.on_path(JWKS, |_| Does::Answer(500, String::new()));
            for _ in 0..5 {
                let failures = world.guard.stats().key_fetch_failures;
                world.seconds_pass(900);
                drop(world.ask(("authorization", &bearer)));
                world.wait_for("a failure", |stats| stats.key_fetch_failures > failures);
            }
            let lines = warnings(&address);
            assert_eq!(lines.len(), round, "{lines:?}");
            assert!(
                lines[0].contains("issuer `sessions`")
                    && lines[0].contains("status 500")
                    && lines[0].contains("check that the server runs"),
                "{lines:?}"
            );
            let fetches = world.guard.stats().key_fetches;
            world.publish(&[&world.key]);
            world.seconds_pass(30);
            drop(world.ask(("authorization", &bearer)));
            world.wait_for("a fetch", |stats| stats.key_fetches > fetches);
        }
    }

    #[test]
    fn no_line_tells_a_secret() {
        keep_lines();
        let world = World::new();
        let cookie = world.cookie(world.token(&world.key, -60), "refresh_token_that_is_secret");
        let sealed = cookie.split_once('=').unwrap().1;
        for body in [r#"{"error":"invalid_client"}"#, "<html>", r#"{"error":"invalid_grant"}"#] {
            world.server.on_path(AUTHENTICATE, move |_| Does::Answer(400, body.to_owned()));
            drop(world.ask_with_cookie(&cookie));
            world.seconds_pass(31);
        }
        world.server.on_path(VALIDATIONS, |_| Does::Answer(401, String::new()));
        drop(world.ask(("x-api-key", "sk_presented_key")));
        world.server.stop();
        drop(world.ask_with_cookie(&cookie));
        assert_eq!(warnings(&world.server.url()).len(), 1, "the server is away");
        let told: String = LINES.lock().unwrap().iter().map(|(_, line)| line.as_str()).collect();
        for secret in ["refresh_token_that_is_secret", sealed, "sk_ours", "sk_presented_key", "BwcHBwcH"] {
            assert!(!told.contains(secret), "{secret}");
        }
        let debug = format!("{:?} {:?}", world.guard, world.check(("cookie", &cookie)));
        assert!(!debug.contains("sk_ours") && !debug.contains(sealed), "{debug}");

        let world = World::new();
        world.renew_for(300);
        let cookie = world.expired_cookie();
        let resolved = world.ask_with_cookie(&cookie);
        let again = world.check(("cookie", &cookie));
        let (query, attempt) = super::sign_in::begin(&world);
        let body = answer(world.token(&world.key, 300), "refresh_0");
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let signed_in = super::sign_in::exchange(&world, &query, &attempt);
        let set = resolved.cookies.iter().chain(&signed_in.cookies).map(|cookie| cookie.split([';', '=']).nth(1).unwrap());
        let debug = format!("{resolved:?} {again:?} {signed_in:?}");
        assert!(set.clone().count() >= 3 && set.filter(|value| !value.is_empty()).all(|value| !debug.contains(value)), "{debug}");
    }
}
