use std::time::Duration;

use axum::http::Method;
use gatewright_jose::totp;
use serde_json::{Value, json};

use super::model::MAX_FAILURES;
use crate::both_engines;
use crate::testkit::{Answer, Tenant, TestApp};

const ENROLL: &str = "/auth/factors/enroll";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

async fn good(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let answer = app.api(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

async fn enroll(app: &TestApp) -> Value {
    good(app, Method::POST, ENROLL, json!({"type": "totp", "totp_issuer": "Bank", "totp_user": "ada@example.com"})).await
}

async fn challenge(app: &TestApp, factor: &Value) -> String {
    let made = good(app, Method::POST, &format!("/auth/factors/{}/challenge", text(factor, "id")), Value::Null).await;
    text(&made, "id").to_owned()
}

async fn verify_as(app: &TestApp, tenant: &Tenant, challenge: &str, code: &str) -> Answer {
    app.api_as(tenant, Method::POST, &format!("/auth/challenges/{challenge}/verify"), json!({"code": code})).await
}

async fn verify(app: &TestApp, challenge: &str, code: &str) -> Answer {
    verify_as(app, &app.tenant, challenge, code).await
}

/// What the person's app shows at this moment, or so many steps from it.
fn shown(app: &TestApp, factor: &Value, steps: i64) -> String {
    let secret = totp::parse_secret(text(&factor["totp"], "secret")).unwrap();
    totp::code(&secret, totp::step_at(app.now()) + steps).reveal().clone()
}

/// Six digits that are the code of no step that counts now.
fn wrong(app: &TestApp, factor: &Value) -> String {
    let right: Vec<String> = (-1..=1).map(|steps| shown(app, factor, steps)).collect();
    (0..).map(|number| format!("{number:06}")).find(|code| !right.contains(code)).unwrap()
}

both_engines!(a_factor_of_an_app_is_enrolled_asked_for_verified_and_deleted, |app| async {
    let factor = enroll(&app).await;
    let (id, secret) = (text(&factor, "id").to_owned(), text(&factor["totp"], "secret").to_owned());
    assert!(id.starts_with("auth_factor_") && factor.get("user_id").is_none(), "{factor}");
    assert_eq!(text(&factor["totp"], "uri"), format!("otpauth://totp/Bank:ada@example.com?secret={secret}&issuer=Bank"));
    assert!(text(&factor["totp"], "qr_code").starts_with("data:image/png;base64,iVBORw0KGgo"));

    let path = format!("/auth/factors/{id}");
    let read = good(&app, Method::GET, &path, Value::Null).await;
    assert_eq!(read["totp"], json!({"issuer": "Bank", "user": "ada@example.com"}));
    let asked = good(&app, Method::POST, &format!("{path}/challenge"), json!({})).await;
    assert_eq!(
        (text(&asked, "object"), text(&asked, "authentication_factor_id"), text(&asked, "expires_at"), asked.get("code")),
        ("authentication_challenge", id.as_str(), "2026-01-15T12:10:00.000Z", None)
    );
    let wrong_code = verify(&app, text(&asked, "id"), &wrong(&app, &factor)).await;
    assert_eq!((wrong_code.status, &wrong_code.body["valid"]), (201, &json!(false)), "{}", wrong_code.text);
    let typed = shown(&app, &factor, 0);
    let right = verify(&app, text(&asked, "id"), &format!("{} {}", &typed[..3], &typed[3..])).await;
    assert_eq!((right.status, &right.body["valid"], &right.body["challenge"]["id"]), (201, &json!(true), &asked["id"]));
    let again = verify(&app, text(&asked, "id"), &typed).await;
    assert_eq!((again.status, again.code()), (422, "authentication_challenge_previously_verified"));

    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
    for (method, path) in [(Method::GET, path.clone()), (Method::DELETE, path.clone()), (Method::POST, format!("{path}/challenge"))] {
        assert_eq!(app.api(method, &path, Value::Null).await.status, 404, "{path}");
    }
    assert_eq!(verify(&app, text(&asked, "id"), &typed).await.status, 404);

    let events = app.events().await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("authentication_")).collect();
    assert_eq!(
        names,
        [
            "authentication_factor.enrolled",
            "authentication_challenge.refused",
            "authentication_challenge.verified",
            "authentication_challenge.refused",
            "authentication_factor.deleted"
        ]
    );
    let all = format!("{events:?}");
    assert!(!all.contains(&secret) && !all.contains(&typed), "a secret or a code is in an event");
});

both_engines!(what_is_no_factor_is_refused_field_by_field, |app| async {
    for (body, field) in [
        (json!({"type": "totp", "totp_user": "a"}), "totp_issuer"),
        (json!({"type": "totp", "totp_issuer": "Bank", "totp_user": " "}), "totp_user"),
        (json!({"type": "totp", "totp_issuer": "Ba\nnk", "totp_user": "a"}), "totp_issuer"),
        (json!({"type": "totp", "totp_issuer": "Bank", "totp_user": "x".repeat(129)}), "totp_user"),
        (json!({"type": "sms"}), "phone_number"),
        (json!({"type": "sms", "phone_number": "0151 1234567"}), "phone_number"),
        (json!({"type": "generic_otp", "user_id": "user_1"}), "user_id"),
    ] {
        let refused = app.api(Method::POST, ENROLL, body.clone()).await;
        assert_eq!((refused.status, text(&refused.body["errors"][0], "field")), (422, field), "{body}: {}", refused.text);
    }
    let unknown = json!({"type": "totp", "totp_issuer": "Bank", "totp_user": "a", "user_id": "user_01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    // Twelve octets of each character stand in the picture, and the issuer twice.
    let long = json!({"type": "totp", "totp_issuer": "\u{1f600}".repeat(128), "totp_user": "a"});
    for body in [json!({}), json!({"type": "webauthn"}), unknown, long] {
        assert_eq!(app.api(Method::POST, ENROLL, body.clone()).await.status, 422, "{body}");
    }
    let user = app.user("ada@example.com", "correct horse battery").await;
    let path = format!("/user_management/users/{}/auth_factors", text(&user, "id"));
    for body in [json!({"type": "sms"}), json!({"type": "totp", "totp_secret": "JBSWY3DP"}), json!({"type": "totp", "totp_secret": "1"})] {
        assert_eq!(app.api(Method::POST, &path, body.clone()).await.status, 422, "{body}");
    }
    let elsewhere = app.api_as(&app.other, Method::POST, &path, json!({"type": "totp"})).await;
    assert_eq!(elsewhere.status, 404, "{}", elsewhere.text);
});

both_engines!(a_users_factor_counts_from_its_first_right_code_on, |app| async {
    let user = app.user("ada@example.com", "correct horse battery").await;
    let path = format!("/user_management/users/{}/auth_factors", text(&user, "id"));
    let made = good(&app, Method::POST, &path, json!({"type": "totp"})).await;
    let (factor, asked) = (&made["authentication_factor"], &made["authentication_challenge"]);
    assert_eq!((text(factor, "user_id"), text(&factor["totp"], "issuer")), (text(&user, "id"), "Expenses"));
    assert_eq!(text(&factor["totp"], "user"), "ada@example.com");
    let listed = good(&app, Method::GET, &path, Value::Null).await;
    assert_eq!((listed["data"].as_array().unwrap().len(), listed["data"][0].get("totp").unwrap().get("secret")), (1, None));
    app.sign_in("ada@example.com", "correct horse battery").await;

    assert_eq!(verify(&app, text(asked, "id"), &shown(&app, factor, 0)).await.body["valid"], true);
    let answer = app.authenticate(json!({"grant_type": "password", "email": "ada@example.com", "password": "correct horse battery"})).await;
    assert_eq!((answer.status, answer.code()), (403, "mfa_challenge"), "{}", answer.text);

    // One that nobody verified goes after a day; the other stays.
    let forgotten = good(&app, Method::POST, &path, json!({"type": "totp"})).await;
    app.clock.advance(Duration::from_secs(86_401));
    crate::features::credentials::authentication_factors::sweep(app.cx()).await.unwrap();
    let listed = good(&app, Method::GET, &path, Value::Null).await;
    assert_eq!(listed["data"][0]["id"], factor["id"], "{listed}, not {}", forgotten["authentication_factor"]["id"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);

    // An imported secret has given right codes elsewhere.
    let bob = app.user("bob@example.com", "correct horse battery").await;
    let path = format!("/user_management/users/{}/auth_factors", text(&bob, "id"));
    good(&app, Method::POST, &path, json!({"type": "totp", "totp_secret": "jbsw y3dp ehpk 3pxp"})).await;
    let answer = app.authenticate(json!({"grant_type": "password", "email": "bob@example.com", "password": "correct horse battery"})).await;
    assert_eq!(answer.code(), "mfa_challenge", "{}", answer.text);
});

both_engines!(row_39_a_code_is_good_once_whatever_challenge_it_answers, |app| async {
    let factor = enroll(&app).await;
    let (one, other) = (challenge(&app, &factor).await, challenge(&app, &factor).await);
    let code = shown(&app, &factor, 0);
    assert_eq!(verify(&app, &one, &code).await.body["valid"], true);
    assert_eq!(verify(&app, &other, &code).await.body["valid"], false);
    // Nor may a step before it be used afterwards.
    assert_eq!(verify(&app, &other, &shown(&app, &factor, -1)).await.body["valid"], false);
    assert_eq!(verify(&app, &other, &shown(&app, &factor, 1)).await.body["valid"], true);
});

both_engines!(row_39_the_same_code_16_at_once_is_right_once, |app| async {
    let factor = enroll(&app).await;
    let code = shown(&app, &factor, 0);
    let mut challenges = Vec::new();
    for _ in 0..16 {
        challenges.push(challenge(&app, &factor).await);
    }
    let app = std::sync::Arc::new(app);
    let tries: Vec<_> = challenges
        .into_iter()
        .map(|challenge| {
            let (app, code) = (app.clone(), code.clone());
            tokio::spawn(async move { verify(&app, &challenge, &code).await })
        })
        .collect();
    let mut right = 0;
    for answer in tries {
        let answer = answer.await.unwrap();
        assert!(matches!(answer.status, 201 | 400), "{}", answer.text);
        right += usize::from(answer.body["valid"] == true);
    }
    assert_eq!(right, 1);
});

both_engines!(row_39_one_challenge_answered_16_at_once_is_answered_once, |app| async {
    let factor = enroll(&app).await;
    let (challenge, code) = (challenge(&app, &factor).await, shown(&app, &factor, 0));
    let app = std::sync::Arc::new(app);
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let (app, challenge, code) = (app.clone(), challenge.clone(), code.clone());
            tokio::spawn(async move { verify(&app, &challenge, &code).await.body["valid"] == true })
        })
        .collect();
    let mut right = 0;
    for answer in tries {
        right += usize::from(answer.await.unwrap());
    }
    assert_eq!(right, 1);
});

both_engines!(row_42_guessing_is_bounded_by_challenge_and_by_factor, |app| async {
    let factor = enroll(&app).await;
    let one = challenge(&app, &factor).await;
    for _ in 0..4 {
        assert_eq!(verify(&app, &one, &wrong(&app, &factor)).await.body["valid"], false);
    }
    // A right code forgets them all.
    assert_eq!(verify(&app, &one, &shown(&app, &factor, -1)).await.body["valid"], true);
    let one = challenge(&app, &factor).await;
    for _ in 0..5 {
        assert_eq!(verify(&app, &one, &wrong(&app, &factor)).await.body["valid"], false);
    }
    let right = verify(&app, &one, &shown(&app, &factor, 0)).await;
    assert_eq!((right.status, right.code()), (400, "one_time_code_too_many_attempts"), "five tries are all a challenge has");
    let other = challenge(&app, &factor).await;
    let waiting = verify(&app, &other, &shown(&app, &factor, 0)).await;
    assert_eq!((waiting.status, waiting.code()), (400, "one_time_code_too_many_attempts"), "a new challenge is no way around the wait");
    app.clock.advance(Duration::from_secs(30));
    let other = challenge(&app, &factor).await;
    assert_eq!(verify(&app, &other, &shown(&app, &factor, 0)).await.body["valid"], true);

    // However patient, a hundred in a row are the end of the factor.
    for count in 0..MAX_FAILURES {
        app.clock.advance(Duration::from_secs(3_601));
        let challenge = challenge(&app, &factor).await;
        assert_eq!(verify(&app, &challenge, &wrong(&app, &factor)).await.body["valid"], false, "{count}");
    }
    app.clock.advance(Duration::from_secs(86_400 * 365));
    let challenge = challenge(&app, &factor).await;
    let right = verify(&app, &challenge, &shown(&app, &factor, 0)).await;
    assert_eq!((right.status, right.code()), (400, "one_time_code_too_many_attempts"));
});

both_engines!(a_challenge_expires_and_is_of_its_environment, |app| async {
    let factor = enroll(&app).await;
    let late = challenge(&app, &factor).await;
    app.clock.advance(Duration::from_secs(600));
    let refused = verify(&app, &late, &shown(&app, &factor, 0)).await;
    assert_eq!((refused.status, refused.code()), (422, "authentication_challenge_expired"));
    let open = challenge(&app, &factor).await;
    let stranger = verify_as(&app, &app.other, &open, &shown(&app, &factor, 0)).await;
    assert_eq!(stranger.status, 404, "{}", stranger.text);
    for (method, path) in [
        (Method::GET, format!("/auth/factors/{}", text(&factor, "id"))),
        (Method::DELETE, format!("/auth/factors/{}", text(&factor, "id"))),
        (Method::POST, format!("/auth/factors/{}/challenge", text(&factor, "id"))),
    ] {
        assert_eq!(app.api_as(&app.other, method, &path, Value::Null).await.status, 404, "{path}");
    }
    assert_eq!(verify(&app, &open, &shown(&app, &factor, 0)).await.body["valid"], true, "the stranger changed nothing");
});

both_engines!(a_code_by_message_works_once_and_only_the_newest, |app| async {
    let user = app.user("ada@example.com", "correct horse battery").await;
    let body = json!({"type": "sms", "phone_number": "+49 151 12345678", "user_id": user["id"]});
    let factor = good(&app, Method::POST, ENROLL, body).await;
    assert_eq!((&factor["sms"]["phone_number"], &factor["user_id"]), (&json!("+4915112345678"), &user["id"]));
    let first = challenge(&app, &factor).await;
    let second = challenge(&app, &factor).await;
    let messages = app.mails().await;
    assert_eq!((messages.len(), messages[0].to.as_str()), (2, "+4915112345678"));
    let code = messages[0].code.clone().unwrap();
    assert!(messages[0].text.starts_with(&format!("{code} is your Expenses code.")), "{}", messages[0].text);
    let stale = verify(&app, &first, messages[1].code.as_ref().unwrap()).await;
    assert_eq!((stale.status, stale.code()), (422, "authentication_challenge_previously_verified"));
    assert_eq!(verify(&app, &second, &code).await.body["valid"], true);
    assert_eq!(verify(&app, &second, &code).await.status, 422);

    let path = format!("/auth/factors/{}/challenge", text(&factor, "id"));
    for template in ["no placeholder", &format!("{{{{code}}}}{}", "x".repeat(300)), "{{code}}\u{7}", "{{code}} https://evil.example"] {
        assert_eq!(app.api(Method::POST, &path, json!({"sms_template": template})).await.status, 422, "{template}");
    }
});

both_engines!(the_code_of_a_generic_factor_is_the_apps_to_deliver, |app| async {
    let factor = good(&app, Method::POST, ENROLL, json!({"type": "generic_otp"})).await;
    assert_eq!((text(&factor, "type"), factor.get("totp"), factor.get("sms")), ("generic_otp", None, None));
    let asked = good(&app, Method::POST, &format!("/auth/factors/{}/challenge", text(&factor, "id")), Value::Null).await;
    let code = text(&asked, "code");
    let answer = verify(&app, text(&asked, "id"), code).await;
    assert_eq!((&answer.body["valid"], answer.body["challenge"].get("code")), (&json!(true), None));
    assert!(app.mails().await.is_empty());
});

both_engines!(a_user_has_ten_factors_at_most_and_takes_them_along, |app| async {
    let user = app.user("ada@example.com", "correct horse battery").await;
    let path = format!("/user_management/users/{}/auth_factors", text(&user, "id"));
    let mut ids = Vec::new();
    for _ in 0..10 {
        // Ids of one millisecond have no order.
        app.clock.advance(Duration::from_millis(1));
        let made = good(&app, Method::POST, &path, json!({"type": "totp"})).await;
        ids.push(text(&made["authentication_factor"], "id").to_owned());
    }
    let refused = app.api(Method::POST, &path, json!({"type": "totp"})).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_request_parameters"), "{}", refused.text);
    let page = good(&app, Method::GET, &format!("{path}?limit=4&order=asc&after={}", ids[1]), Value::Null).await;
    let listed: Vec<&str> = page["data"].as_array().unwrap().iter().map(|factor| text(factor, "id")).collect();
    assert_eq!(listed, ids[2..6]);
    good(&app, Method::DELETE, &format!("/user_management/users/{}", text(&user, "id")), Value::Null).await;
    assert_eq!(app.api(Method::GET, &format!("/auth/factors/{}", ids[0]), Value::Null).await.status, 404);
});

#[tokio::test(flavor = "multi_thread")]
async fn row_33_a_number_gets_few_messages_in_a_minute_and_in_a_day() {
    let app = TestApp::start_with(crate::testkit::On::Sqlite, |config| {
        config.limits.enabled = true;
        (config.limits.messages_per_number, config.limits.messages_per_number_daily) = (2, 3);
    })
    .await;
    let mut paths = Vec::new();
    for _ in 0..2 {
        let factor = good(&app, Method::POST, ENROLL, json!({"type": "sms", "phone_number": "+4915112345678"})).await;
        paths.push(format!("/auth/factors/{}/challenge", text(&factor, "id")));
    }
    // Another factor of the same number is no way around.
    for (wait, factor, status) in [(0, 0, 201), (0, 1, 201), (0, 0, 429), (0, 1, 429), (61, 1, 201), (61, 0, 429)] {
        app.clock.advance(Duration::from_secs(wait));
        let asked = app.api(Method::POST, &paths[factor], Value::Null).await;
        assert_eq!(asked.status, status, "{wait} {factor}: {}", asked.text);
    }
    assert_eq!(app.mails().await.len(), 3);
}
