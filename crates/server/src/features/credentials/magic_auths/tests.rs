use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::{Asked, InBrowser, Redemption, Refused, prepare, redeem, send};
use crate::both_engines;
use crate::features::records::environments::{self, Environment};
use crate::features::records::users::{self, EmailAddress, UserId};
use crate::platform::actor::Actor;
use crate::testkit::{On, TestApp};

const CREATE: &str = "/user_management/magic_auth";
const GRANT: &str = "urn:workos:oauth:grant-type:magic-auth:code";
const GOOD: &str = "correct horse battery staple";

async fn create(app: &TestApp, email: &str) -> Value {
    let made = app.api(Method::POST, CREATE, json!({"email": email})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn environment(app: &TestApp) -> Environment {
    environments::load(app.cx(), &app.tenant.environment).await.unwrap()
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

async fn try_code(app: &TestApp, email: &str, code: &str, browser: Option<&str>) -> Result<String, Refused> {
    let (environment, email, code, browser) = (environment(app).await, address(email), code.to_owned(), browser.map(str::to_owned));
    let (cx, scribe) = (app.cx().clone(), app.cx().scribe(Actor::System));
    let write = app.cx().db().write(move |tx| redeem(tx, cx.master_key(), &environment, &email, &code, browser.as_deref(), &scribe));
    match write.await.unwrap() {
        Redemption::Redeemed { user } => Ok(user.id.to_string()),
        Redemption::Refused { reason, .. } => Err(reason),
    }
}

/// Asks for a code as a hosted page does. Gives the code of the mail, if one went out.
async fn ask_in_browser(app: &TestApp, email: &str, browser: &str) -> Option<String> {
    let prepared = prepare(
        app.cx(),
        &environment(app).await,
        &address(email),
        Some(InBrowser { hash: browser.to_owned(), is_known: false }),
        &Asked::default(),
    )
    .await
    .unwrap();
    let scribe = app.cx().scribe(Actor::System);
    let code = prepared.code.reveal().clone();
    let sent = app.cx().db().write(move |tx| send(tx, &prepared, &scribe)).await.unwrap();
    sent.map(|_| code)
}

fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

both_engines!(a_code_by_mail_signs_in_once, |app| async {
    let made = create(&app, " Ada@Example.com ").await;
    let code = made["code"].as_str().unwrap();
    assert_eq!((made["object"].as_str(), made["email"].as_str()), (Some("magic_auth"), Some("Ada@Example.com")));
    assert_eq!(made["expires_at"], "2026-01-15T12:10:00.000Z");
    let mail = &app.mails().await[0];
    assert_eq!((mail.to.as_str(), mail.code.as_deref()), ("Ada@Example.com", Some(code)));

    let path = format!("{CREATE}/{}", made["id"].as_str().unwrap());
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, made);
    assert_eq!(app.api_as(&app.other, Method::GET, &path, Value::Null).await.status, 404);
    assert_eq!(app.anonymous(Method::GET, &path, Value::Null).await.status, 401);

    let typed = format!("{} {}", &code[..3], &code[3..]);
    let signed_in = app.authenticate(json!({"grant_type": GRANT, "email": "ada@example.com", "code": typed})).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    assert_eq!((&signed_in.body["user"]["id"], &signed_in.body["user"]["email_verified"]), (&made["user_id"], &json!(true)));
    let again = app.authenticate(json!({"grant_type": GRANT, "email": "ada@example.com", "code": code})).await;
    assert_eq!((again.status, again.code()), (400, "one_time_code_previously_used"));

    let events = app.events().await;
    let named = |name: &str| events.iter().find(|(event, _)| event == name).unwrap_or_else(|| panic!("no {name}")).1.clone();
    assert_eq!(named("user.created")["id"], made["user_id"]);
    assert_eq!(named("user.updated")["email_verified"], true);
    let mut without_code = made.clone();
    without_code.as_object_mut().unwrap().remove("code");
    assert_eq!(named("magic_auth.created"), without_code);
    assert!(events.iter().all(|(_, data)| !data.to_string().contains(&format!("\"{code}\""))));
});

both_engines!(closed_doors_stay_closed, |app| async {
    app.settings(|settings| settings.sign_up = false).await;
    let unknown = app.api(Method::POST, CREATE, json!({"email": "nobody@example.com"})).await;
    assert_eq!((unknown.status, unknown.body["error"].as_str()), (400, Some("sign_up_not_allowed")), "{}", unknown.text);
    assert!(app.mails().await.is_empty());
    app.settings(|settings| settings.magic_auth = false).await;
    let off = app.api(Method::POST, CREATE, json!({"email": "nobody@example.com"})).await;
    assert_eq!((off.status, off.body["error"].as_str()), (400, Some("authentication_method_not_allowed")));
    let invited = app.api(Method::POST, CREATE, json!({"email": "a@example.com", "invitation_token": "x"})).await;
    assert_eq!((invited.status, invited.body["error"].as_str()), (400, Some("invitation_invalid")));
    for body in [json!({}), json!({"email": "not an address"}), json!({"email": 7})] {
        assert_eq!(app.api(Method::POST, CREATE, body).await.status, 422);
    }
    let users = app.api(Method::GET, "/user_management/users", Value::Null).await;
    assert_eq!(users.body["data"], json!([]));
});

both_engines!(row_30_proving_an_address_first_drops_what_a_stranger_left_in_the_account, |app| async {
    // The stranger signs up with the victim's address and holds a session, whatever path gave it.
    let user = app.user("victim@example.com", GOOD).await;
    let session = app.sign_in("victim@example.com", GOOD).await;
    let (environment, id) = (app.tenant.environment.clone(), UserId::from_text(user["id"].as_str().unwrap()));
    app.cx()
        .db()
        .write(move |tx| {
            let mut user = users::find(tx, &environment, &id)?.unwrap();
            user.email_verified = false;
            users::update(tx, &environment, &user)
        })
        .await
        .unwrap();

    let code = create(&app, "victim@example.com").await["code"].clone();
    let victim = app.authenticate(json!({"grant_type": GRANT, "email": "victim@example.com", "code": code})).await;
    assert_eq!((victim.status, &victim.body["user"]["id"]), (200, &user["id"]), "{}", victim.text);

    let password = app.authenticate(json!({"grant_type": "password", "email": "victim@example.com", "password": GOOD})).await;
    assert_eq!((password.status, password.code()), (400, "invalid_credentials"));
    let refresh = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": session["refresh_token"]})).await;
    assert_eq!((refresh.status, refresh.code()), (400, "invalid_grant"), "{}", refresh.text);
    let own = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": victim.body["refresh_token"]})).await;
    assert_eq!(own.status, 200, "{}", own.text);
});

both_engines!(row_30_an_owner_who_proved_the_address_keeps_password_and_sessions, |app| async {
    app.user("owner@example.com", GOOD).await;
    let session = app.sign_in("owner@example.com", GOOD).await;
    let code = create(&app, "owner@example.com").await["code"].clone();
    assert_eq!(app.authenticate(json!({"grant_type": GRANT, "email": "owner@example.com", "code": code})).await.status, 200);
    app.sign_in("owner@example.com", GOOD).await;
    let refresh = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": session["refresh_token"]})).await;
    assert_eq!(refresh.status, 200, "{}", refresh.text);
});

both_engines!(row_33_five_tries_ten_minutes_one_use_one_user, |app| async {
    let code = create(&app, "a@example.com").await["code"].as_str().unwrap().to_owned();
    create(&app, "b@example.com").await;
    assert_eq!(try_code(&app, "b@example.com", &code, None).await, Err(Refused::Wrong));
    assert_eq!(try_code(&app, "nobody@example.com", &code, None).await, Err(Refused::Wrong));
    for _ in 0..5 {
        assert_eq!(try_code(&app, "a@example.com", &wrong(&code), None).await, Err(Refused::Wrong));
    }
    assert_eq!(try_code(&app, "a@example.com", &code, None).await, Err(Refused::TooManyAttempts));

    // A new code has its own tries, and the right one may be the fifth.
    let first = create(&app, "a@example.com").await["code"].as_str().unwrap().to_owned();
    let second = create(&app, "a@example.com").await["code"].as_str().unwrap().to_owned();
    if first != second {
        assert_eq!(try_code(&app, "a@example.com", &first, None).await, Err(Refused::Wrong));
    }
    for _ in 0..3 {
        assert_eq!(try_code(&app, "a@example.com", &wrong(&second), None).await, Err(Refused::Wrong));
    }
    assert!(try_code(&app, "a@example.com", &second, None).await.is_ok());
    assert_eq!(try_code(&app, "a@example.com", &second, None).await, Err(Refused::Used));

    let late = create(&app, "a@example.com").await["code"].as_str().unwrap().to_owned();
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(try_code(&app, "a@example.com", &late, None).await, Err(Refused::Expired));
});

both_engines!(row_33_a_code_works_only_in_the_browser_that_asked, |app| async {
    let code = ask_in_browser(&app, "a@example.com", "browser-one").await.unwrap();
    for stranger in [None, Some("browser-two")] {
        // More often than a code may be tried: a stranger cannot use up the owner's tries either.
        for _ in 0..7 {
            assert_eq!(try_code(&app, "a@example.com", &code, stranger).await, Err(Refused::Wrong));
        }
    }
    let over_the_api = app.authenticate(json!({"grant_type": GRANT, "email": "a@example.com", "code": code})).await;
    assert_eq!((over_the_api.status, over_the_api.code()), (400, "invalid_one_time_code"));
    assert!(try_code(&app, "a@example.com", &code, Some("browser-one")).await.is_ok());

    let code = create(&app, "a@example.com").await["code"].as_str().unwrap().to_owned();
    assert_eq!(try_code(&app, "a@example.com", &code, Some("browser-one")).await, Err(Refused::Wrong));
});

both_engines!(row_33_a_code_for_an_address_the_user_left_is_worth_nothing, |app| async {
    let made = create(&app, "old@example.com").await;
    let (environment, id, now) = (app.tenant.environment.clone(), UserId::from_text(made["user_id"].as_str().unwrap()), app.now());
    app.cx()
        .db()
        .write(move |tx| {
            let user = users::find(tx, &environment, &id)?.unwrap();
            let change = users::UserChange { email: Some(address("new@example.com")), ..users::UserChange::default() };
            users::update(tx, &environment, &user.changed(change, now).unwrap())
        })
        .await
        .unwrap();
    assert_eq!(try_code(&app, "new@example.com", made["code"].as_str().unwrap(), None).await, Err(Refused::Expired));
});

both_engines!(row_33_of_64_at_once_with_the_right_code_one_gets_in, |app| async {
    for round in 0..3 {
        let email = format!("round{round}@example.com");
        let code = create(&app, &email).await["code"].as_str().unwrap().to_owned();
        let environment = environment(&app).await;
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (cx, environment, email, code) = (app.cx().clone(), environment.clone(), address(&email), code.clone());
            racers.spawn(async move {
                let (scribe, cx_in) = (cx.scribe(Actor::System), cx.clone());
                cx.db().write(move |tx| redeem(tx, cx_in.master_key(), &environment, &email, &code, None, &scribe)).await.unwrap()
            });
        }
        let outcomes = racers.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Redemption::Redeemed { .. })).count(), 1, "round {round}");
    }
});

both_engines!(row_33_guessing_at_once_gives_no_more_than_five_guesses, |app| async {
    let made = create(&app, "a@example.com").await;
    let code = made["code"].as_str().unwrap().to_owned();
    let environment = environment(&app).await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (cx, environment, guess) = (app.cx().clone(), environment.clone(), wrong(&code));
        racers.spawn(async move {
            let (scribe, cx_in) = (cx.scribe(Actor::System), cx.clone());
            cx.db()
                .write(move |tx| redeem(tx, cx_in.master_key(), &environment, &address("a@example.com"), &guess, None, &scribe))
                .await
                .unwrap()
        });
    }
    let outcomes = racers.join_all().await;
    let compared = outcomes.iter().filter(|outcome| matches!(outcome, Redemption::Refused { reason: Refused::Wrong, .. })).count();
    assert_eq!(compared, 5);
    assert_eq!(try_code(&app, "a@example.com", &code, None).await, Err(Refused::TooManyAttempts));
});

both_engines!(row_37_with_sign_up_closed_a_page_cannot_tell_who_exists, |app| async {
    app.user("known@example.com", GOOD).await;
    app.settings(|settings| settings.sign_up = false).await;
    let code = ask_in_browser(&app, "known@example.com", "browser").await.unwrap();
    assert_eq!(ask_in_browser(&app, "unknown@example.com", "browser").await, None);
    let mails = app.mails().await;
    assert_eq!(mails.iter().map(|mail| mail.to.as_str()).collect::<Vec<_>>(), ["known@example.com"]);
    // Whatever is wrong with a code, both addresses answer it with the same words.
    for guess in [wrong(&code), "x".to_owned(), String::new()] {
        for _ in 0..7 {
            for email in ["known@example.com", "unknown@example.com"] {
                assert_eq!(try_code(&app, email, &guess, Some("browser")).await, Err(Refused::Wrong), "{email}");
            }
        }
    }
    app.clock.advance(Duration::from_secs(600));
    for email in ["known@example.com", "unknown@example.com"] {
        assert_eq!(try_code(&app, email, &code, Some("browser")).await, Err(Refused::Wrong), "{email}");
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_to_one_address_are_limited_by_the_minute_and_by_the_day() {
    for on in [On::Sqlite, On::Postgres] {
        let app = TestApp::start_with(on, |config| (config.limits.enabled, config.limits.mails_per_email_daily) = (true, 5)).await;
        let ask = |email: &'static str| app.api(Method::POST, CREATE, json!({"email": email}));
        for _ in 0..3 {
            assert_eq!(ask("a@example.com").await.status, 201);
        }
        let over = ask("A@EXAMPLE.com").await;
        assert_eq!((over.status, over.code(), over.header("retry-after")), (429, "rate_limit_exceeded", Some("60")), "{}", over.text);
        assert_eq!(ask("b@example.com").await.status, 201);
        assert_eq!(app.api_as(&app.other, Method::POST, CREATE, json!({"email": "a@example.com"})).await.status, 201);
        app.clock.advance(Duration::from_secs(61));
        for _ in 0..2 {
            assert_eq!(ask("a@example.com").await.status, 201);
        }
        let quota = ask("a@example.com").await;
        assert_eq!((quota.status, quota.code()), (429, "daily_quota_exceeded"), "{}", quota.text);
        let wait: u64 = quota.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(wait, 86_400 - 61);
        app.clock.advance(Duration::from_secs(wait));
        assert_eq!(ask("a@example.com").await.status, 201);
    }
}

both_engines!(the_mail_goes_to_the_address_on_record_never_to_the_typed_one, |app| async {
    // U+FF41 is "a" after NFKC: the same account, but another mailbox.
    app.user("admin@example.com", GOOD).await;
    let made = create(&app, "\u{ff41}dmin@example.com").await;
    assert_eq!(made["email"], "admin@example.com");
    assert_eq!(app.mails().await[0].to, "admin@example.com");
});

both_engines!(old_codes_are_swept, |app| async {
    let made = create(&app, "a@example.com").await;
    let path = format!("{CREATE}/{}", made["id"].as_str().unwrap());
    app.clock.advance(Duration::from_secs(600 + 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.status, 200);
    app.clock.advance(Duration::from_secs(1));
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.status, 404);
});
