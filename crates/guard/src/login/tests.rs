//! Sign-ins from their beginning to what the browser brings back.

mod attempts;
mod authorize_url;
mod callback;
mod return_to;

use std::collections::BTreeMap;
use std::time::Duration;

use gatewright_base::SeededRng;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const REDIRECT_URI: &str = "https://app.example.com/auth/callback";

fn config_with(session: serde_json::Value) -> Config {
    let config = json!({"base_url": "https://auth.example.com", "client_id": "client_01", "session": session});
    Config::from_json(&config.to_string()).unwrap()
}

fn config() -> Config {
    config_with(json!({"password": KEY}))
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_229_880_000)
}

fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

fn many<'a>(headers: &'a [&'a str]) -> Many<'a> {
    headers.iter().map(|header| header.as_bytes()).collect()
}

fn begin_at(seed: u64, return_to: Option<&str>, sent: &str, now: Timestamp) -> Login {
    let options = LoginOptions { return_to, ..LoginOptions::default() };
    begin_login(&config(), REDIRECT_URI, &options, &many(&[sent]), &SeededRng::new(seed), now).unwrap()
}

fn begin(seed: u64) -> Login {
    begin_at(seed, Some("/expenses?month=3"), "", now())
}

/// What the browser sends back.
fn cookie(login: &Login) -> String {
    login.set_cookie.split(';').next().unwrap().to_owned()
}

fn parameters(url: &str) -> BTreeMap<String, String> {
    let (_, query) = url.split_once('?').unwrap();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(map.len(), pairs.len(), "no parameter twice");
    map
}

fn state(login: &Login) -> String {
    parameters(&login.url)["state"].clone()
}

fn answer(login: &Login) -> String {
    format!("code=01CODE&state={}", state(login))
}

fn finish(query: &str, sent: &str, now: Timestamp) -> Result<CodeExchange, LoginProblem> {
    finish_login(&config(), query, &many(&[sent]), now)
}

fn reason(query: &str, sent: &str) -> LoginFailure {
    finish(query, sent, now()).unwrap_err().reason
}

#[test]
fn a_sign_in_leads_back_with_its_code_its_verifier_and_its_path() {
    let login = begin(1);
    let exchange = finish(&answer(&login), &format!("a=b; {}; c=d", cookie(&login)), after(599)).unwrap();
    assert_eq!(exchange.code.reveal(), "01CODE");
    assert_eq!(exchange.return_to, "/expenses?month=3");
    assert!(pkce::verify_s256(&parameters(&login.url)["code_challenge"], exchange.code_verifier.reveal()));
    let name = cookie(&login).split_once('=').unwrap().0.to_owned();
    assert_eq!(
        exchange.clear_cookie,
        format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[test]
fn signing_out_names_the_session_and_where_to_go() {
    let payload = b64::encode_url(r#"{"sid":"session_01"}"#);
    let response = json!({"access_token": format!("h.{payload}.s"), "refresh_token": "r"}).as_object().unwrap().clone();
    let session = SealedSession::from_response(response).unwrap();
    assert_eq!(
        sign_out_url(&config(), &session, Some("https://app.example.com/?a=b&c")).as_deref(),
        Some(
            "https://auth.example.com/user_management/sessions/logout?session_id=session_01&return_to=https%3A%2F%2Fapp.example.com%2F%3Fa%3Db%26c"
        )
    );
    assert_eq!(
        sign_out_url(&config(), &session, None).as_deref(),
        Some("https://auth.example.com/user_management/sessions/logout?session_id=session_01")
    );
    assert_eq!(sign_out_url(&config(), &SealedSession { access_token: "opaque".to_owned(), ..session }, None), None);
}
