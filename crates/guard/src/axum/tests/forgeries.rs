//! Every token that the tests of the pure core forge ([`crate::tests`]) is shown to an axum app as well.

use std::sync::LazyLock;

use gatewright_base::{ManualClock, Secret, SeededRng};
use gatewright_jose::b64;
use serde_json::Map;
use tokio::runtime::Builder;

use super::*;
use crate::feed::tests::server::Server;
use crate::session::{SealedSession, seal_session};
use crate::tests::{BASE, CLIENT, Forge, PROVIDER, faces, now, oauth_claims, provider_claims, session_claims};
use crate::{Config, Principal, Via};

/// An app whose guard knows the three issuers of [`crate::tests`], with their keys from a stand-in server.
struct Stand {
    guard: Guard,
    app: Router,
    shown: AtomicUsize,
    _server: Server,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let server = Server::start();
    let url = server.url();
    for (path, seed) in [("/sso/jwks/client_1", 1), ("/oauth", 2), ("/provider", 3)] {
        let keys = json!({ "keys": [Forge::new(seed, "key_1").jwk()] });
        server.on_path(path, move |_| ok(&keys));
    }
    let config = json!({
        "base_url": url,
        "client_id": CLIENT,
        "sessions_issuer": format!("{BASE}/user_management/{CLIENT}"),
        "session": { "password": b64::encode_std([7; 32]), "secure": false },
        "issuers": [
            { "name": "issuer 2", "issuer": BASE, "kind": "gatewright_oauth", "audiences": [CLIENT], "algorithms": ["EdDSA"], "jwks_uri": format!("{url}/oauth") },
            { "name": "issuer 3", "issuer": PROVIDER, "audiences": ["https://api.example.com"], "algorithms": ["EdDSA"], "jwks_uri": format!("{url}/provider") },
        ],
    });
    let clock = Arc::new(ManualClock::at(now()));
    let guard = Guard::new(Config::from_json(&config.to_string()).unwrap(), clock, Arc::new(SeededRng::new(2))).unwrap();
    let app = extractors().layer(guarded(guard.clone()));
    Stand { guard, app, shown: AtomicUsize::new(0), _server: server }
});

fn seal(token: &str, user: Value) -> String {
    let session = SealedSession {
        access_token: token.to_owned(),
        refresh_token: Secret::new(String::new()),
        user,
        impersonator: None,
        rest: Map::new(),
    };
    let settings = STAND.guard.config().session.as_ref().unwrap();
    seal_session(settings, &session, STAND.guard.rng(), now()).unwrap()
}

fn show(path: &str, name: &'static str, value: Vec<u8>) -> Option<Answered> {
    let stand = &*STAND;
    let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
    // What no header can hold is stopped by the HTTP server.
    request.headers_mut().insert(name, HeaderValue::from_bytes(&value).ok()?);
    stand.shown.fetch_add(1, Ordering::SeqCst);
    Builder::new_current_thread().build().unwrap().block_on(async {
        let (parts, body) = stand.app.clone().oneshot(request).await.unwrap().into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Some(Answered { status: parts.status.as_u16(), headers: parts.headers, body })
    })
}

#[track_caller]
fn assert_let_in(answer: &Answered, subject: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (200, subject), "{answer:?}");
}

/// Nor told why.
#[track_caller]
fn assert_kept_out(answer: &Answered) {
    assert!([400, 401].contains(&answer.status) && !answer.headers.contains_key("x-inside"), "{answer:?}");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_"), "{answer:?}");
    let told = ["invalid_token", "invalid_session", "session_ended", "invalid_request", "inactive"];
    assert!(told.contains(&answer.code().as_str()) && answer.cookies().is_empty(), "{answer:?}");
}

/// That an app lets `token` in for `principal`, or not at all where the core made no principal of it.
#[track_caller]
pub(crate) fn assert_agrees(via: Via, token: &str, principal: Option<&Principal>) {
    let (name, value) = match via {
        Via::Session => ("cookie", format!("wos_session={}", seal(token, Value::Null))),
        Via::Bearer | Via::ApiKey => ("authorization", format!("Bearer {token}")),
    };
    let Some(answer) = show("/caller", name, value.into_bytes()) else { return };
    match principal {
        Some(principal) => assert_let_in(&answer, &principal.subject),
        None => assert_kept_out(&answer),
    }
}

#[test]
fn what_the_core_is_shown_is_shown_to_an_app_too() {
    for face in faces() {
        let before = STAND.shown.load(Ordering::SeqCst);
        assert!(face.verdict(&face.forge.token(&face.claims)).is_ok());
        assert!(face.verdict(&Forge::new(9, "key_1").token(&face.claims)).is_err());
        assert!(STAND.shown.load(Ordering::SeqCst) >= before + 2);
    }
}

#[test]
fn row_17_another_issuers_token_in_a_sealed_session() {
    let cookie = |token: &str, user| format!("wos_session={}", seal(token, user)).into_bytes();
    let ours = Forge::new(1, "key_1").token(&session_claims());
    assert_let_in(&show("/user", "cookie", cookie(&ours, json!({ "id": "user_1" }))).unwrap(), "user_1");
    for (seed, claims) in [(2, oauth_claims()), (3, provider_claims())] {
        let token = Forge::new(seed, "key_1").token(&claims);
        assert_kept_out(&show("/user", "cookie", cookie(&token, json!({ "id": claims["sub"] }))).unwrap());
    }
    assert_kept_out(&show("/user", "cookie", cookie(&ours, json!({ "id": "user_2" }))).unwrap());
}

#[test]
fn row_16_a_sealed_session_of_somebody_elses_making() {
    let ours = Forge::new(1, "key_1").token(&session_claims());
    let sealed = seal(&ours, Value::Null);
    let other = Config::from_json(
        &json!({ "base_url": BASE, "client_id": CLIENT, "session": { "password": b64::encode_std([8; 32]) } }).to_string(),
    )
    .unwrap();
    let session = crate::session::open_session(STAND.guard.config().session.as_ref().unwrap(), &sealed, now()).unwrap();
    let foreign = seal_session(other.session.as_ref().unwrap(), &session, STAND.guard.rng(), now()).unwrap();
    assert_kept_out(&show("/user", "cookie", format!("wos_session={foreign}").into_bytes()).unwrap());
    // The token itself, where the sealed session belongs, and the other way round.
    assert_kept_out(&show("/user", "cookie", format!("wos_session={ours}").into_bytes()).unwrap());
    assert_kept_out(&show("/user", "authorization", format!("Bearer {sealed}").into_bytes()).unwrap());
    for position in (0..sealed.len()).step_by(11) {
        let mut octets = sealed.clone().into_bytes();
        octets[position] = if octets[position] == b'A' { b'B' } else { b'A' };
        let cookie = [b"wos_session=", &octets[..]].concat();
        assert_kept_out(&show("/user", "cookie", cookie).unwrap());
    }
}
