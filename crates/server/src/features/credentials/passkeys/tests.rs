//! Passkeys from outside: at the pages, over the API, and against whoever tries to come in with somebody else's.

use std::time::Duration;

use axum::http::Method;
use gatewright_jose::b64;
use gatewright_webauthn::Refusal;
use gatewright_webauthn::testkit::Authenticator;
use serde_json::{Value, json};

use super::{Asked, MAX_PER_USER, NotRegistered, Passkey, PasskeyId, SignIn, begin_registration, begin_sign_in, finish_registration};
use super::{delete, finish_sign_in, rename};
use crate::both_engines;
use crate::features::records::environments::{self, Environment};
use crate::features::records::users::{self, User, UserId};
use crate::platform::actor::Actor;
use crate::testkit::{Answer, Browser, On, Tenant, TestApp};

const ORIGIN: &str = "http://localhost:4700";
const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";
const GRANT: &str = "urn:gatewright:oauth:grant-type:passkey";

async fn environment(app: &TestApp) -> Environment {
    environments::load(app.cx(), &app.tenant.environment).await.unwrap()
}

async fn user(app: &TestApp, email: &str) -> User {
    let made = app.user(email, PASSWORD).await;
    find_user(app, &made).await
}

async fn find_user(app: &TestApp, made: &Value) -> User {
    let (environment, id) = (app.tenant.environment.clone(), UserId::from_text(made["id"].as_str().unwrap()));
    app.cx().db().read(move |tx| users::find(tx, &environment, &id)).await.unwrap().unwrap()
}

/// A passkey of `user` on `authenticator`, made without a page.
async fn register(app: &TestApp, user: &User, authenticator: &mut Authenticator) -> Result<Passkey, NotRegistered> {
    let (environment, cx) = (environment(app).await, app.cx());
    let options = begin_registration(cx, &environment, user, "browser".into()).await.unwrap()?;
    let answer = authenticator.register(&options).to_string();
    let scribe = cx.scribe(Actor::User { id: user.id.to_string() });
    finish_registration(cx, &environment, user, "browser".into(), &answer, None, scribe).await.unwrap()
}

async fn registered(app: &TestApp, email: &str) -> (User, Authenticator) {
    let (user, mut authenticator) = (user(app, email).await, Authenticator::new(ORIGIN));
    register(app, &user, &mut authenticator).await.unwrap();
    (user, authenticator)
}

async fn options(app: &TestApp) -> Value {
    let made = app.api(Method::POST, "/passkeys/authentication_options", json!({"client_id": app.tenant.client_id})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["publicKey"].clone()
}

async fn redeem(app: &TestApp, credential: &Value) -> Answer {
    app.authenticate(json!({"grant_type": GRANT, "credential": credential})).await
}

/// The whole way over the API.
async fn sign_in(app: &TestApp, authenticator: &mut Authenticator) -> Answer {
    let answer = authenticator.assert(&options(app).await);
    redeem(app, &answer).await
}

async fn list(app: &TestApp, user: &User) -> Vec<Value> {
    let path = format!("/user_management/users/{}/passkeys", user.id);
    app.api(Method::GET, &path, Value::Null).await.body["data"].as_array().unwrap().clone()
}

async fn reasons(app: &TestApp) -> Vec<String> {
    let failed = app.events().await.into_iter().filter(|(name, _)| name == "authentication.passkey_failed");
    failed.map(|(_, data)| data["error"]["code"].as_str().unwrap().to_owned()).collect()
}

fn claims(token: &Value) -> Value {
    serde_json::from_slice(&b64::decode_url(token.as_str().unwrap().split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn authorize(app: &TestApp) -> String {
    let client = &app.tenant.client_id;
    format!("/user_management/authorize?response_type=code&client_id={client}&redirect_uri={CALLBACK}&provider=authkit&state=s")
}

async fn open<'a>(app: &'a TestApp) -> (Browser<'a>, Answer) {
    let mut browser = app.browser();
    let first = browser.get(&authorize(app)).await;
    let page = browser.follow(first).await;
    (browser, page)
}

fn hidden(page: &Answer, name: &str) -> String {
    let (_, rest) = page.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

async fn page_options(browser: &mut Browser<'_>, page: &Answer) -> Answer {
    let (csrf, request) = (hidden(page, "csrf"), hidden(page, "request"));
    browser.post("/sign-in/passkey/options", &[("csrf", &csrf), ("request", &request)]).await
}

both_engines!(a_passkey_is_made_at_the_pages_and_signs_in_from_then_on, |app| async {
    let alice = user(&app, EMAIL).await;
    let (mut browser, page) = open(&app).await;
    assert!(page.text.contains("autocomplete=\"username webauthn\"") && page.text.contains("class=\"pk-only\""), "{}", page.text);
    let csrf = hidden(&page, "csrf");
    let form = [("csrf", csrf.as_str()), ("client_id", &app.tenant.client_id), ("name", "Work laptop")];
    let nobody = browser.post("/passkeys/registration/options", &form).await;
    assert_eq!((nobody.status, nobody.code()), (403, "not_signed_in"));
    browser.sign_in(&authorize(&app), EMAIL, PASSWORD).await;

    let asked = browser.post("/passkeys/registration/options", &form).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    assert_eq!(asked.body["publicKey"]["rp"], json!({"id": "localhost", "name": "Expenses"}));
    assert_eq!(asked.body["publicKey"]["user"]["id"], b64::encode_url(alice.id.as_str()));
    let mut authenticator = Authenticator::new(ORIGIN);
    let credential = authenticator.register(&asked.body["publicKey"]).to_string();
    let made = browser.post("/passkeys/registration", &[&form[..], &[("credential", &credential)]].concat()).await;
    assert_eq!((made.status, &made.body["name"]), (201, &json!("Work laptop")), "{}", made.text);
    let again = browser.post("/passkeys/registration", &[&form[..], &[("credential", &credential)]].concat()).await;
    assert_eq!((again.status, again.code()), (400, "challenge_not_valid"), "{}", again.text);

    // Another browser, such as the same person's phone: nobody says who it is.
    let (mut browser, page) = open(&app).await;
    let asked = page_options(&mut browser, &page).await;
    assert_eq!((asked.status, &asked.body["publicKey"]["allowCredentials"]), (200, &json!([])), "{}", asked.text);
    let credential = authenticator.assert(&asked.body["publicKey"]).to_string();
    let done = browser.submit(&page, "/sign-in/passkey", &[("credential", &credential)]).await;
    let code = done.location_parameter("code").unwrap_or_else(|| panic!("{} {}", done.status, done.text));
    let session = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!((session.status, &session.body["authentication_method"]), (200, &json!("Passkey")), "{}", session.text);
    assert_eq!(session.body["user"]["email"], EMAIL);
    assert_eq!(claims(&session.body["access_token"])["amr"], json!(["swk", "user", "mfa"]));

    let listed = list(&app, &alice).await;
    assert_eq!((listed.len(), listed[0]["last_used_at"].is_string(), &listed[0]["id"]), (1, true, &made.body["id"]));
    let events = app.events().await;
    let (_, told) = events.iter().find(|(name, _)| name == "authentication.passkey_succeeded").unwrap();
    assert_eq!((&told["user_id"], &told["email"]), (&json!(alice.id), &json!(EMAIL)));
    assert!(events.iter().any(|(name, data)| name == "passkey.created" && data["id"] == made.body["id"]));
    // What the device keeps of the key stays with the server.
    assert!(!events.iter().any(|(_, data)| data.to_string().contains(&b64::encode_url(&authenticator.credential_id))));
});

both_engines!(row_41_an_answer_counts_once_in_its_time_for_whom_it_was_asked, |app| async {
    let (_, mut authenticator) = registered(&app, EMAIL).await;
    let question = options(&app).await;
    let answer = authenticator.assert(&question);
    let first = redeem(&app, &answer).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let replayed = redeem(&app, &answer).await;
    assert_eq!((replayed.status, replayed.code()), (400, "invalid_passkey"));

    // Asked of one client and redeemed by another; asked at a page and redeemed over the API, and the other way round.
    let second = app.second_client().await;
    let made = app.api(Method::POST, "/passkeys/authentication_options", json!({"client_id": second})).await;
    let stolen = authenticator.assert(&made.body["publicKey"]);
    assert_eq!(redeem(&app, &stolen).await.code(), "invalid_passkey");
    let (mut browser, page) = open(&app).await;
    let asked = page_options(&mut browser, &page).await;
    let stolen = authenticator.assert(&asked.body["publicKey"]);
    assert_eq!(redeem(&app, &stolen).await.code(), "invalid_passkey");
    let stolen = authenticator.assert(&options(&app).await).to_string();
    let refused = browser.submit(&page, "/sign-in/passkey", &[("credential", &stolen)]).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("This passkey does not work here"));

    // Another browser's question, and one that nobody put.
    let (mut other, other_page) = open(&app).await;
    let asked = page_options(&mut browser, &page).await;
    let stolen = authenticator.assert(&asked.body["publicKey"]).to_string();
    assert_eq!(other.submit(&other_page, "/sign-in/passkey", &[("credential", &stolen)]).await.status, 422);
    let mine = browser.submit(&page, "/sign-in/passkey", &[("credential", &stolen)]).await;
    assert_eq!(mine.status, 303, "a stranger's try does not use the question up: {}", mine.text);
    let made_up = json!({"challenge": b64::encode_url([7; 32]), "rpId": "localhost"});
    assert_eq!(redeem(&app, &authenticator.assert(&made_up)).await.code(), "invalid_passkey");

    let late = authenticator.assert(&options(&app).await);
    app.clock.advance(Duration::from_secs(300));
    assert_eq!(redeem(&app, &late).await.code(), "invalid_passkey");
    assert!(reasons(&app).await.iter().all(|reason| reason == "challenge_not_valid"));
});

both_engines!(row_41_of_64_at_once_with_one_answer_one_signs_in, |app| async {
    let (_, mut authenticator) = registered(&app, EMAIL).await;
    let environment = environment(&app).await;
    for round in 0..3 {
        let asked = Asked::Browser { browser_hash: format!("browser{round}") };
        let question = begin_sign_in(app.cx(), &environment, asked.clone()).await.unwrap().unwrap();
        let answer = authenticator.assert(&question).to_string();
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (cx, id, asked, answer) = (app.cx().clone(), environment.id.clone(), asked.clone(), answer.clone());
            racers.spawn(async move { finish_sign_in(&cx, &id, asked, &answer).await.unwrap() });
        }
        let winners = racers.join_all().await.into_iter().filter(|outcome| matches!(outcome, SignIn::Proved { .. })).count();
        assert_eq!(winners, 1, "round {round}");
    }
});

both_engines!(row_41_what_the_browser_says_is_checked_at_every_sign_in, |app| async {
    type Lie = (&'static str, fn(&mut Authenticator));
    let lies: [Lie; 7] = [
        ("wrong_origin", |a| a.origin = "http://localhost:8000".into()),
        ("cross_origin", |a| a.cross_origin = Some(true)),
        ("wrong_rp_id", |a| a.rp_id = Some("evil.example".into())),
        ("user_not_present", |a| a.user_present = false),
        ("malformed", |a| a.trailing = vec![0]),
        ("wrong_type", |a| a.r#type = Some("webauthn.create".into())),
        ("backup_eligibility_changed", |a| (a.backup_eligible, a.backed_up) = (false, false)),
    ];
    for (n, (reason, lie)) in lies.into_iter().enumerate() {
        let (alice, mut authenticator) = registered(&app, &format!("a{n}@example.test")).await;
        lie(&mut authenticator);
        let refused = sign_in(&app, &mut authenticator).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_passkey"), "{reason}");
        let (_, failed) = app.events().await.into_iter().rfind(|(name, _)| name == "authentication.passkey_failed").unwrap();
        assert_eq!((&failed["error"]["code"], &failed["user_id"]), (&json!(reason), &json!(alice.id)));
    }
});

both_engines!(row_41_a_counter_that_goes_back_is_refused_and_told, |app| async {
    let (alice, mut authenticator) = registered(&app, EMAIL).await;
    authenticator.sign_count = 10;
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);
    // The copy that somebody made of it an hour ago.
    authenticator.sign_count = 5;
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
    let events = app.events().await;
    let (_, told) = events.iter().find(|(name, _)| name == "passkey.counter_went_back").unwrap();
    assert_eq!(told["user_id"], json!(alice.id));
    authenticator.sign_count = 11;
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);
});

both_engines!(row_41_nobody_signs_in_as_somebody_else, |app| async {
    let (_, mut authenticator) = registered(&app, EMAIL).await;
    let (bob, other) = registered(&app, "bob@example.test").await;
    // Bob's account with Alice's key; Alice's credential with Bob's key; a credential nobody registered.
    let handle = authenticator.user_handle.replace(bob.id.as_str().as_bytes().to_vec());
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
    authenticator.user_handle = None;
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
    authenticator.user_handle = handle;
    let key = std::mem::replace(&mut authenticator.key, other.key);
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
    authenticator.key = key;
    let mut stranger = Authenticator::new(ORIGIN);
    stranger.user_handle = Some(bob.id.as_str().as_bytes().to_vec());
    assert_eq!(sign_in(&app, &mut stranger).await.code(), "invalid_passkey");
    assert_eq!(reasons(&app).await, ["wrong_user", "wrong_user", "wrong_signature", "unknown_credential"]);
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);

    // Another environment of the same server does not know her at all.
    let Tenant { client_id, api_key, .. } = app.other.clone();
    let made = app.api_as(&app.other, Method::POST, "/passkeys/authentication_options", json!({"client_id": client_id})).await;
    let credential = authenticator.assert(&made.body["publicKey"]);
    let body = json!({"grant_type": GRANT, "credential": credential, "client_id": client_id, "client_secret": api_key});
    let refused = app.anonymous(Method::POST, "/user_management/authenticate", body).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_passkey"), "{}", refused.text);
    let foreign =
        app.api_as(&app.other, Method::POST, "/passkeys/authentication_options", json!({"client_id": app.tenant.client_id})).await;
    assert_eq!(foreign.status, 404);
});

both_engines!(row_41_a_blocked_passkey_is_answered_like_a_wrong_one_and_each_is_assessed, |app| async {
    use crate::features::records::environments::Reaction;
    let (_, mut authenticator) = registered(&app, EMAIL).await;
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);
    app.settings(|settings| settings.radar.bot_detection = Reaction::Challenge).await;
    let assessed = || async {
        let verdicts = app.events().await.into_iter().filter(|(name, _)| name == "radar.assessed");
        verdicts.map(|(_, data)| (data["auth_method"].clone(), data["verdict"].clone())).collect::<Vec<_>>()
    };
    let robot = |credential: &Value| json!({"grant_type": GRANT, "credential": credential, "user_agent": "curl/8.5.0"});
    let answer = authenticator.assert(&options(&app).await);
    assert_eq!(app.authenticate(robot(&answer)).await.status, 200, "a passkey proves more than the mailbox that a challenge asks for");
    let (mut browser, page) = open(&app).await;
    let asked = page_options(&mut browser, &page).await;
    let credential = authenticator.assert(&asked.body["publicKey"]).to_string();
    let done = browser.submit(&page, "/sign-in/passkey", &[("credential", &credential)]).await;
    assert!(done.location_parameter("code").is_some(), "{} {}", done.status, done.text);
    assert_eq!(assessed().await, [(json!("passkey"), json!("challenge")), (json!("passkey"), json!("challenge"))]);

    app.settings(|settings| settings.radar.bot_detection = Reaction::Block).await;
    let wrong = redeem(&app, &answer).await;
    let answer = authenticator.assert(&options(&app).await);
    let blocked = app.authenticate(robot(&answer)).await;
    assert_eq!((blocked.status, &blocked.body), (wrong.status, &wrong.body));
    let (mut browser, page) = open(&app).await;
    let asked = page_options(&mut browser, &page).await;
    let credential = authenticator.assert(&asked.body["publicKey"]).to_string();
    let blocked = browser.submit(&page, "/sign-in/passkey", &[("credential", &credential)]).await;
    let wrong = browser.submit(&page, "/sign-in/passkey", &[("credential", "{}")]).await;
    assert_eq!(blocked.status, 422, "{}", blocked.text);
    for refused in [&blocked, &wrong] {
        assert!(refused.text.contains("This passkey does not work here"), "{}", refused.text);
    }
    assert_eq!(assessed().await.len(), 4);
});

both_engines!(without_a_pin_or_a_finger_a_passkey_is_one_factor, |app| async {
    let (_, mut authenticator) = registered(&app, EMAIL).await;
    authenticator.user_verified = false;
    let signed_in = sign_in(&app, &mut authenticator).await;
    let amr = claims(&signed_in.body["access_token"])["amr"].clone();
    assert!(!amr.as_array().unwrap().contains(&json!("mfa")), "{amr}");
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Required).await;
    let one = sign_in(&app, &mut authenticator).await;
    assert_eq!((one.status, one.code()), (403, "mfa_enrollment"), "{}", one.text);
    authenticator.user_verified = true;
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);
});

#[tokio::test]
async fn row_41_user_verification_can_be_required() {
    let app = TestApp::start_with(On::Sqlite, |config| config.webauthn.require_user_verification = true).await;
    let alice = user(&app, EMAIL).await;
    let mut authenticator = Authenticator::new(ORIGIN);
    authenticator.user_verified = false;
    let refused = register(&app, &alice, &mut authenticator).await;
    assert_eq!(refused.err(), Some(NotRegistered::Refused(Refusal::UserNotVerified)));
    authenticator.user_verified = true;
    register(&app, &alice, &mut authenticator).await.unwrap();
    assert_eq!(options(&app).await["userVerification"], "required");
    authenticator.user_verified = false;
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
}

#[tokio::test]
async fn where_browsers_take_no_passkeys_nobody_is_offered_one() {
    let app = TestApp::start_with(On::Sqlite, |config| config.public_url = "http://127.0.0.1:4700".to_owned()).await;
    let made = app.api(Method::POST, "/passkeys/authentication_options", json!({"client_id": app.tenant.client_id})).await;
    assert_eq!((made.status, made.code()), (403, "authentication_method_not_allowed"));
    let (_, page) = open(&app).await;
    assert!(!page.text.contains("passkey"), "{}", page.text);
}

both_engines!(an_environment_without_passkeys_has_none, |app| async {
    let (alice, mut authenticator) = registered(&app, EMAIL).await;
    let (mut browser, page) = open(&app).await;
    let (before, asked) = (authenticator.assert(&options(&app).await), page_options(&mut browser, &page).await);
    let at_the_page = authenticator.assert(&asked.body["publicKey"]).to_string();
    app.settings(|settings| settings.passkeys = false).await;
    let late = redeem(&app, &before).await;
    assert_eq!((late.status, late.code()), (403, "authentication_method_not_allowed"), "{}", late.text);
    assert_eq!(browser.submit(&page, "/sign-in/passkey", &[("credential", &at_the_page)]).await.status, 404);
    assert_eq!(page_options(&mut browser, &page).await.status, 404);
    assert_eq!(register(&app, &alice, &mut Authenticator::new(ORIGIN)).await.err(), Some(NotRegistered::Off));
    let (_, page) = open(&app).await;
    assert!(!page.text.contains("passkey"), "{}", page.text);
});

both_engines!(row_30_passkeys_of_whoever_made_the_account_end_when_its_owner_proves_the_address, |app| async {
    for proof in ["magic_auth", "password_reset"] {
        let email = format!("{proof}@example.test");
        let made = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": PASSWORD})).await;
        let (owner, mut attackers) = (find_user(&app, &made.body).await, Authenticator::new(ORIGIN));
        register(&app, &owner, &mut attackers).await.unwrap();
        let waiting = sign_in(&app, &mut attackers).await;
        assert_eq!((waiting.status, waiting.code()), (403, "email_verification_required"), "{}", waiting.text);
        app.clock.advance(Duration::from_millis(1));
        if proof == "magic_auth" {
            let sent = app.api(Method::POST, "/user_management/magic_auth", json!({"email": email})).await;
            let body = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "email": email, "code": sent.body["code"]});
            assert_eq!(app.authenticate(body).await.status, 200);
        } else {
            let sent = app.api(Method::POST, "/user_management/password_reset", json!({"email": email})).await;
            let body = json!({"token": sent.body["password_reset_token"], "new_password": "another horse, another battery"});
            assert_eq!(app.api(Method::POST, "/user_management/password_reset/confirm", body).await.status, 200);
        }
        assert_eq!(list(&app, &owner).await, Vec::<Value>::new(), "{proof}");
        assert_eq!(sign_in(&app, &mut attackers).await.code(), "invalid_passkey", "{proof}");
    }
});

both_engines!(row_46_only_a_page_of_ours_makes_a_passkey_and_soon_after_a_sign_in, |app| async {
    user(&app, EMAIL).await;
    let (mut browser, page) = open(&app).await;
    let csrf = hidden(&page, "csrf");
    browser.sign_in(&authorize(&app), EMAIL, PASSWORD).await;
    let client = app.tenant.client_id.as_str();
    for (csrf, client, code) in [
        ("x", client, "invalid_csrf_token"),
        ("", client, "invalid_csrf_token"),
        (csrf.as_str(), app.other.client_id.as_str(), "not_signed_in"),
        (csrf.as_str(), "client_x", "not_signed_in"),
    ] {
        for path in ["/passkeys/registration/options", "/passkeys/registration"] {
            let refused = browser.post(path, &[("csrf", csrf), ("client_id", client)]).await;
            assert_eq!((refused.status, refused.code()), (403, code), "{path}: {}", refused.text);
        }
    }
    let form = [("csrf", csrf.as_str()), ("client_id", client)];
    let asked = browser.post("/passkeys/registration/options", &form).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let foreign = [("origin".parse().unwrap(), "https://evil.example".to_owned())];
    browser.headers.extend(foreign);
    assert_eq!(browser.post("/passkeys/registration/options", &form).await.code(), "invalid_csrf_token");
    browser.headers.clear();
    app.clock.advance(Duration::from_secs(601));
    for path in ["/passkeys/registration/options", "/passkeys/registration"] {
        let old = browser.post(path, &form).await;
        assert_eq!((old.status, old.code()), (403, "recent_sign_in_required"), "{path}");
    }
});

both_engines!(the_page_for_a_new_passkey_asks_who_it_is_first, |app| async {
    user(&app, EMAIL).await;
    let mut browser = app.browser();
    let path = format!("/passkeys/new?client_id={}", app.tenant.client_id);
    let first = browser.get(&path).await;
    assert!(first.status == 303 && first.location().unwrap().starts_with("/sign-in?request="), "{}", first.text);
    let page = browser.follow(first).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    assert_eq!(done.location().as_deref(), Some(path.as_str()), "{}", done.text);
    let page = browser.follow(done).await;
    assert!(page.status == 200 && page.text.contains(EMAIL) && page.text.contains("data-passkey=\"create\""), "{}", page.text);
    let asked = browser.submit(&page, "/passkeys/registration", &[("credential", "x")]).await;
    assert_eq!((asked.status, asked.code()), (400, "invalid_passkey"), "{}", asked.text);
    app.clock.advance(Duration::from_secs(601));
    assert_eq!(browser.get(&path).await.status, 303);
    assert_eq!(browser.get("/passkeys/new?client_id=client_x").await.status, 400);
    app.settings(|settings| settings.passkeys = false).await;
    assert_eq!(browser.get(&path).await.status, 404);
});

both_engines!(row_38_a_password_alone_makes_no_passkey_beside_a_second_factor, |app| async {
    let (alice, mut authenticator) = registered(&app, EMAIL).await;
    let (mut browser, page) = open(&app).await;
    let csrf = hidden(&page, "csrf");
    browser.sign_in(&authorize(&app), EMAIL, PASSWORD).await;
    let form = [("csrf", csrf.as_str()), ("client_id", &app.tenant.client_id)];
    assert_eq!(browser.post("/passkeys/registration/options", &form).await.status, 200);
    // A secret that gave right codes elsewhere counts at once.
    let path = format!("/user_management/users/{}/auth_factors", alice.id);
    let enrolled = app.api(Method::POST, &path, json!({"type": "totp", "totp_secret": "JBSWY3DPEHPK3PXP"})).await;
    assert_eq!(enrolled.status, 201, "{}", enrolled.text);
    for path in ["/passkeys/registration/options", "/passkeys/registration"] {
        let refused = browser.post(path, &form).await;
        assert_eq!((refused.status, refused.code()), (403, "recent_sign_in_required"), "{path}");
    }
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200);
    authenticator.user_verified = false;
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "mfa_challenge");
});

both_engines!(row_38_a_password_alone_enrols_no_factor_where_a_passkey_is_the_second, |app| async {
    let (user, mut authenticator) = registered(&app, EMAIL).await;
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Required).await;
    let refused = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await;
    assert_eq!((refused.status, refused.code()), (403, "authentication_method_not_allowed"), "{}", refused.text);
    assert!(refused.body["pending_authentication_token"].is_null(), "nothing to go on with");
    let (mut browser, page) = open(&app).await;
    let asked = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let asked = browser.follow(asked).await;
    let again = browser.submit(&asked, "/sign-in/password", &[("password", PASSWORD)]).await;
    assert!(again.location().is_some_and(|to| to.starts_with("/sign-in?")), "back to where the passkey is offered: {}", again.text);
    let factors = app.api(Method::GET, &format!("/user_management/users/{}/auth_factors", user.id), Value::Null).await;
    assert_eq!(factors.body["data"], json!([]));
    assert_eq!(sign_in(&app, &mut authenticator).await.status, 200, "the passkey itself opens");
});

both_engines!(row_41_a_registration_counts_once_for_the_user_and_browser_it_was_asked_of, |app| async {
    let (environment, cx) = (environment(&app).await, app.cx());
    let (alice, bob) = (user(&app, EMAIL).await, user(&app, "bob@example.test").await);
    let finish = async |user: &User, browser: &str, answer: &Value| {
        let scribe = cx.scribe(Actor::User { id: user.id.to_string() });
        finish_registration(cx, &environment, user, browser.into(), &answer.to_string(), None, scribe).await.unwrap()
    };
    let mut authenticator = Authenticator::new(ORIGIN);
    let question = begin_registration(cx, &environment, &alice, "a".into()).await.unwrap().unwrap();
    let answer = authenticator.register(&question);
    assert_eq!(finish(&bob, "a", &answer).await.err(), Some(NotRegistered::NoQuestion));
    assert_eq!(finish(&alice, "b", &answer).await.err(), Some(NotRegistered::NoQuestion));
    let made = finish(&alice, "a", &answer).await.unwrap();
    assert_eq!(made.name, "Passkey of 15 Jan 2026");
    assert_eq!(finish(&alice, "a", &answer).await.err(), Some(NotRegistered::NoQuestion));

    // The same credential again, for her or for another: it stays hers.
    let question = begin_registration(cx, &environment, &bob, "b".into()).await.unwrap().unwrap();
    assert_eq!(finish(&bob, "b", &authenticator.register(&question)).await.err(), Some(NotRegistered::Known));
    let question = begin_registration(cx, &environment, &alice, "a".into()).await.unwrap().unwrap();
    assert_eq!(question["excludeCredentials"][0]["id"], made.credential_id);
    app.clock.advance(Duration::from_secs(300));
    let late = Authenticator::new(ORIGIN).register(&question);
    assert_eq!(finish(&alice, "a", &late).await.err(), Some(NotRegistered::NoQuestion));
});

both_engines!(a_user_has_twenty_at_most_however_many_are_made_at_once, |app| async {
    let alice = user(&app, EMAIL).await;
    for _ in 0..MAX_PER_USER - 1 {
        register(&app, &alice, &mut Authenticator::new(ORIGIN)).await.unwrap();
    }
    let (environment, cx) = (environment(&app).await, app.cx());
    let mut answers = Vec::new();
    for racer in 0..8 {
        let browser = format!("browser{racer}");
        let question = begin_registration(cx, &environment, &alice, browser.clone()).await.unwrap().unwrap();
        answers.push((browser, Authenticator::new(ORIGIN).register(&question).to_string()));
    }
    let mut racers = tokio::task::JoinSet::new();
    for (browser, answer) in answers {
        let (cx, environment, alice, scribe) = (cx.clone(), environment.clone(), alice.clone(), cx.scribe(Actor::System));
        racers.spawn(async move { finish_registration(&cx, &environment, &alice, browser, &answer, None, scribe).await.unwrap() });
    }
    let made = racers.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!((made, list(&app, &alice).await.len()), (1, MAX_PER_USER));
    assert_eq!(begin_registration(cx, &environment, &alice, "b".into()).await.unwrap().err(), Some(NotRegistered::TooMany));
});

both_engines!(a_passkey_is_named_shown_and_taken_away, |app| async {
    let (alice, mut authenticator) = registered(&app, EMAIL).await;
    let (bob, _) = registered(&app, "bob@example.test").await;
    let listed = list(&app, &alice).await;
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert!(gatewright_base::is_id("passkey", &id));
    let (environment, cx) = (app.tenant.environment.clone(), app.cx());
    let change = async |user: &User, name: Option<&'static str>| {
        let (environment, user, id) = (environment.clone(), user.id.clone(), PasskeyId::from_text(&id));
        let scribe = cx.scribe(Actor::User { id: user.to_string() });
        let write = cx.db().write(move |tx| match name {
            Some(name) => rename(tx, &environment, &user, &id, name, &scribe),
            None => delete(tx, &environment, &user, &id, &scribe),
        });
        write.await.unwrap()
    };
    assert_eq!(change(&bob, Some("Mine")).await, None);
    assert_eq!(change(&bob, None).await, None);
    assert_eq!(change(&alice, Some("Phone")).await.unwrap().name, "Phone");
    change(&alice, Some("Phone")).await;

    let path = |user: &User, id: &str| format!("/user_management/users/{}/passkeys/{id}", user.id);
    assert_eq!(app.api(Method::GET, &path(&alice, &id), Value::Null).await.body["name"], "Phone");
    assert_eq!(app.api(Method::PATCH, &path(&alice, &id), json!({"name": " Tablet "})).await.body["name"], "Tablet");
    for name in [json!(""), json!("a\nb"), json!("x".repeat(65)), json!(7), Value::Null] {
        assert_eq!(app.api(Method::PATCH, &path(&alice, &id), json!({"name": name})).await.status, 422, "{name}");
    }
    for (tenant, user) in [(&app.tenant, &bob), (&app.other, &alice)] {
        for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({"name": "Mine"})), (Method::DELETE, Value::Null)] {
            let hidden = app.api_as(tenant, method, &path(user, &id), body).await;
            assert_eq!((hidden.status, hidden.code()), (404, "entity_not_found"), "{}", hidden.text);
        }
    }
    let foreign = app.api_as(&app.other, Method::GET, &format!("/user_management/users/{}/passkeys", alice.id), Value::Null).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(app.api(Method::DELETE, &path(&alice, &id), Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &path(&alice, &id), Value::Null).await.status, 404);
    assert_eq!(sign_in(&app, &mut authenticator).await.code(), "invalid_passkey");
    let names: Vec<String> = app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("passkey.")).collect();
    assert_eq!(names, ["passkey.created", "passkey.created", "passkey.updated", "passkey.updated", "passkey.deleted"]);
});

both_engines!(row_37_the_question_is_the_same_whoever_asks, |app| async {
    registered(&app, EMAIL).await;
    let mut seen = Vec::new();
    for email in [EMAIL, "nobody@example.test"] {
        let (mut browser, page) = open(&app).await;
        browser.submit(&page, "/sign-in", &[("email", email)]).await;
        let asked = page_options(&mut browser, &page).await;
        let mut public_key = asked.body["publicKey"].clone();
        assert_eq!(public_key["challenge"].take().as_str().map(str::len), Some(43));
        seen.push((asked.status, public_key));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1["allowCredentials"], json!([]));
});

both_engines!(nonsense_is_refused_and_never_a_fault, |app| async {
    let long = "x".repeat(200_000);
    for credential in [json!("x"), json!({}), json!({"id": "x"}), json!(long), json!({"id": [1], "type": 7}), json!("{\"id\":\"AQID\"}")] {
        let refused = redeem(&app, &credential).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_passkey"), "{}", refused.text);
    }
    for credential in [Value::Null, json!(7), json!([])] {
        let refused = redeem(&app, &credential).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_request"), "{}", refused.text);
    }
    let (mut browser, page) = open(&app).await;
    assert_eq!(browser.submit(&page, "/sign-in/passkey", &[("credential", "")]).await.status, 422);
});

#[tokio::test(flavor = "multi_thread")]
async fn row_41_answers_of_one_network_are_counted() {
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.hosted_per_ip = 3;
        config.challenge.provider = crate::platform::config::ChallengeProvider::Off;
    })
    .await;
    let (mut browser, page) = open(&app).await;
    for status in [422, 422, 422, 429] {
        assert_eq!(browser.submit(&page, "/sign-in/passkey", &[("credential", "{}")]).await.status, status);
    }
}
