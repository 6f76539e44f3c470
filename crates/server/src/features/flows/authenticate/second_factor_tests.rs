//! The second factor of a sign-in: asked for, proved, carried into every token, and never skipped.

use std::time::Duration;

use axum::http::Method as Verb;
use axum::http::header::AUTHORIZATION;
use gatewright_jose::{b64, hash_secret, totp};
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::environments::Mfa;
use crate::features::records::users::UserId;
use crate::testkit::{Answer, Browser, TestApp};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";
const GRANT: &str = "urn:workos:oauth:grant-type:mfa-totp";
const CALLBACK: &str = "http://localhost:8000/callback";

async fn good(app: &TestApp, method: Verb, path: &str, body: Value) -> Value {
    let answer = app.api(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}"))
}

/// A factor and its first challenge, still to be verified.
async fn enroll(app: &TestApp, user: &Value) -> (Value, Value) {
    let made = good(app, Verb::POST, &format!("/user_management/users/{}/auth_factors", id(user)), json!({"type": "totp"})).await;
    (made["authentication_factor"].clone(), made["authentication_challenge"].clone())
}

/// A factor that counts. Its code of this moment is used up.
async fn enrolled(app: &TestApp, user: &Value) -> Value {
    let (factor, challenge) = enroll(app, user).await;
    let answer = app.api(Verb::POST, &format!("/auth/challenges/{}/verify", id(&challenge)), json!({"code": shown(app, &factor)})).await;
    assert_eq!(answer.body["valid"], true, "{}", answer.text);
    app.clock.advance(Duration::from_secs(30));
    factor
}

/// What the person's app shows at this moment.
fn shown(app: &TestApp, factor: &Value) -> String {
    let secret = totp::parse_secret(factor["totp"]["secret"].as_str().unwrap()).unwrap();
    totp::code(&secret, totp::step_at(app.now())).reveal().clone()
}

async fn challenge(app: &TestApp, factor: &Value) -> Value {
    good(app, Verb::POST, &format!("/auth/factors/{}/challenge", id(factor)), json!({})).await
}

async fn password(app: &TestApp) -> Answer {
    app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await
}

/// The pending token of a sign-in that waits for a second factor.
async fn waiting(app: &TestApp) -> Value {
    let answer = password(app).await;
    assert!(matches!(answer.code(), "mfa_challenge" | "mfa_enrollment"), "{}", answer.text);
    answer.body["pending_authentication_token"].clone()
}

async fn answer(app: &TestApp, pending: &Value, challenge: &Value, code: &str) -> Answer {
    let body =
        json!({"grant_type": GRANT, "pending_authentication_token": pending, "authentication_challenge_id": id(challenge), "code": code});
    app.authenticate(body).await
}

async fn recover(app: &TestApp, pending: &Value, code: &str) -> Answer {
    app.authenticate(json!({"grant_type": GRANT, "pending_authentication_token": pending, "recovery_code": code})).await
}

/// A whole sign-in with the factor.
async fn signed_in(app: &TestApp, factor: &Value) -> Value {
    let (pending, asked) = (waiting(app).await, challenge(app, factor).await);
    let answer = answer(app, &pending, &asked, &shown(app, factor)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    app.clock.advance(Duration::from_secs(30));
    answer.body
}

async fn refresh(app: &TestApp, session: &Value, organization: Option<&str>) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": session["refresh_token"], "organization_id": organization}))
        .await
}

/// `amr` of the access token, whose signature other tests look at.
fn amr(answer: &Value) -> Value {
    let payload = answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&b64::decode_url(payload).unwrap()).unwrap();
    claims["amr"].clone()
}

async fn recovery_codes(app: &TestApp, user: &Value) -> Vec<String> {
    let made = good(app, Verb::POST, &format!("/user_management/users/{}/recovery_codes", id(user)), Value::Null).await;
    made["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

both_engines!(a_sign_in_with_a_factor_waits_for_its_code_and_every_token_says_so, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    assert_eq!(amr(&password(&app).await.body), json!(["pwd"]));
    let factor = enrolled(&app, &user).await;
    let step_up = password(&app).await;
    assert_eq!((step_up.status, step_up.code()), (403, "mfa_challenge"));
    assert_eq!(step_up.body["user"], good(&app, Verb::GET, &format!("/user_management/users/{}", id(&user)), Value::Null).await);
    assert_eq!(step_up.body["authentication_factors"], json!([{"id": id(&factor), "type": "totp"}]));

    let (pending, asked) = (&step_up.body["pending_authentication_token"], challenge(&app, &factor).await);
    let wrong = if shown(&app, &factor) == "000000" { "000001" } else { "000000" };
    let refused = answer(&app, pending, &asked, wrong).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_one_time_code"), "{}", refused.text);
    let done = answer(&app, pending, &asked, &shown(&app, &factor)).await;
    assert_eq!((done.status, &done.body["authentication_method"]), (200, &json!("Password")), "{}", done.text);
    assert_eq!(amr(&done.body), json!(["pwd", "otp", "mfa"]));
    let renewed = refresh(&app, &done.body, None).await;
    assert_eq!(amr(&renewed.body), json!(["pwd", "otp", "mfa"]), "a refresh keeps what was proved: {}", renewed.text);
    app.clock.advance(Duration::from_secs(30));
    let again = answer(&app, pending, &challenge(&app, &factor).await, &shown(&app, &factor)).await;
    assert_eq!((again.status, again.code()), (400, "invalid_pending_authentication_token"));

    let trail = good(&app, Verb::GET, "/events?events=authentication.mfa_failed&events=authentication.mfa_succeeded", Value::Null).await;
    let events = trail["data"].as_array().unwrap();
    let told: Vec<(&str, &Value, &Value)> =
        events.iter().map(|event| (event["event"].as_str().unwrap(), &event["data"]["status"], &event["data"]["user_id"])).collect();
    assert_eq!(
        told,
        [("authentication.mfa_failed", &json!("failed"), &user["id"]), ("authentication.mfa_succeeded", &json!("succeeded"), &user["id"])]
    );
    assert_eq!((&events[0]["data"]["type"], &events[0]["data"]["error"]["code"]), (&json!("mfa"), &json!("invalid_one_time_code")));
    assert_eq!(events[1]["context"]["authentication_factor_id"], factor["id"], "the entry says which factor: {}", events[1]);
    assert_eq!(events[1]["context"]["second_factor"], "totp");
});

both_engines!(row_38_a_half_done_sign_in_opens_nothing_else, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (
        good(&app, Verb::POST, "/organizations", json!({"name": "Acme"})).await,
        good(&app, Verb::POST, "/organizations", json!({"name": "Beta"})).await,
    );
    for organization in [&acme, &beta] {
        let body = json!({"user_id": user["id"], "organization_id": id(organization)});
        good(&app, Verb::POST, "/user_management/organization_memberships", body).await;
    }
    let of_another_step = password(&app).await;
    assert_eq!(of_another_step.code(), "organization_selection_required");
    let factor = enrolled(&app, &user).await;
    let (pending, asked) = (waiting(&app).await, challenge(&app, &factor).await);

    // A later step called in its place.
    let skipped = app
        .authenticate(json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": pending, "organization_id": id(&acme)}))
        .await;
    assert_eq!((skipped.status, skipped.code()), (400, "invalid_pending_authentication_token"));
    for grant in ["email-verification:code", "radar-email-challenge:code", "radar-sms-challenge:code"] {
        let body = json!({"grant_type": format!("urn:workos:oauth:grant-type:{grant}"), "pending_authentication_token": pending, "code": "000000", "radar_challenge_id": "x"});
        assert_eq!(app.authenticate(body).await.code(), "invalid_pending_authentication_token", "{grant}");
    }
    // Another step's token, a stranger's, and none.
    let code = shown(&app, &factor);
    for token in [of_another_step.body["pending_authentication_token"].clone(), json!("nonsense"), json!("")] {
        let refused = answer(&app, &token, &asked, &code).await;
        assert_eq!(refused.status, 400, "{token}: {}", refused.text);
    }
    let elsewhere = json!({"grant_type": GRANT, "client_id": app.other.client_id, "client_secret": app.other.api_key, "pending_authentication_token": pending, "authentication_challenge_id": id(&asked), "code": code});
    let elsewhere = app.anonymous(Verb::POST, "/user_management/authenticate", elsewhere).await;
    assert_eq!(elsewhere.code(), "invalid_pending_authentication_token", "{}", elsewhere.text);
    // It is no key and no token: nothing of the API opens by it.
    let bearer = format!("Bearer {}", pending.as_str().unwrap());
    for (method, path) in [
        (Verb::POST, format!("/user_management/users/{}/auth_factors", id(&user))),
        (Verb::POST, format!("/user_management/users/{}/recovery_codes", id(&user))),
        (Verb::DELETE, format!("/auth/factors/{}", id(&factor))),
        (Verb::POST, format!("/auth/factors/{}/challenge", id(&factor))),
        (Verb::GET, format!("/user_management/users/{}", id(&user))),
    ] {
        let refused = app.with_headers(method, &path, json!({"type": "totp"}), &[(AUTHORIZATION, bearer.as_str())]).await;
        assert_eq!(refused.status, 401, "{path}");
    }
    // None of it used anything up; and the order holds: the factor first, then the organization.
    let next = answer(&app, &pending, &asked, &code).await;
    assert_eq!(next.code(), "organization_selection_required", "{}", next.text);
    let body = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": next.body["pending_authentication_token"], "organization_id": id(&beta)});
    let done = app.authenticate(body).await;
    assert_eq!((done.status, amr(&done.body)), (200, json!(["pwd", "otp", "mfa"])), "{}", done.text);
    let switched = refresh(&app, &done.body, Some(id(&acme))).await;
    assert_eq!((&switched.body["organization_id"], amr(&switched.body)), (&acme["id"], json!(["pwd", "otp", "mfa"])));
});

both_engines!(row_38_a_password_alone_adds_no_factor_where_there_is_one, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let factor = enrolled(&app, &user).await;
    let pending = waiting(&app).await;
    // Whoever has the password gets the app to enrol a factor of their own, and answers with it.
    let (planted, asked) = enroll(&app, &user).await;
    let refused = answer(&app, &pending, &asked, &shown(&app, &planted)).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_one_time_code"), "{}", refused.text);
    let listed = password(&app).await.body["authentication_factors"].clone();
    assert_eq!(listed, json!([{"id": id(&factor), "type": "totp"}]), "it does not count either");
    let done = answer(&app, &pending, &challenge(&app, &factor).await, &shown(&app, &factor)).await;
    assert_eq!(done.status, 200, "{}", done.text);

    // Nor where the sign-in began while there was none, and the owner was faster.
    app.settings(|settings| settings.mfa = Mfa::Required).await;
    let bob = app.user("bob@example.com", PASSWORD).await;
    let began = app.authenticate(json!({"grant_type": "password", "email": "bob@example.com", "password": PASSWORD})).await;
    assert_eq!(began.code(), "mfa_enrollment", "{}", began.text);
    let (planted, asked) = enroll(&app, &bob).await;
    enrolled(&app, &bob).await;
    let refused = answer(&app, &began.body["pending_authentication_token"], &asked, &shown(&app, &planted)).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_one_time_code"), "{}", refused.text);
});

both_engines!(row_39_a_code_of_another_user_or_environment_proves_nothing, |app| async {
    let (ada, bob) = (app.user(EMAIL, PASSWORD).await, app.user("bob@example.com", PASSWORD).await);
    let (of_ada, of_bob) = (enrolled(&app, &ada).await, enrolled(&app, &bob).await);
    let pending = waiting(&app).await;
    let asked = challenge(&app, &of_bob).await;
    let foreign = answer(&app, &pending, &asked, &shown(&app, &of_bob)).await;
    assert_eq!((foreign.status, foreign.code()), (400, "user_mismatch"), "{}", foreign.text);
    let stand_alone = json!({"type": "totp", "totp_issuer": "Bank", "totp_user": "x"});
    let elsewhere = app.api_as(&app.other, Verb::POST, "/auth/factors/enroll", stand_alone.clone()).await.body;
    let path = format!("/auth/factors/{}/challenge", id(&elsewhere));
    let asked_elsewhere = app.api_as(&app.other, Verb::POST, &path, json!({})).await.body;
    let unknown = answer(&app, &pending, &asked_elsewhere, &shown(&app, &elsewhere)).await;
    assert_eq!((unknown.status, unknown.code()), (400, "invalid_one_time_code"), "{}", unknown.text);
    let without_user = good(&app, Verb::POST, "/auth/factors/enroll", stand_alone).await;
    let nobodys = answer(&app, &pending, &challenge(&app, &without_user).await, &shown(&app, &without_user)).await;
    assert_eq!(nobodys.code(), "user_mismatch", "{}", nobodys.text);
    // Bob's challenge has all its tries, and Ada's code is still good.
    assert_eq!(answer(&app, &pending, &challenge(&app, &of_ada).await, &shown(&app, &of_ada)).await.status, 200);
});

both_engines!(row_42_codes_are_guessed_five_times_and_each_leaves_an_event, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let factor = enrolled(&app, &user).await;
    let (pending, asked) = (waiting(&app).await, challenge(&app, &factor).await);
    let right = shown(&app, &factor);
    for guess in 0..5 {
        let guess = format!("{:06}", (right.parse::<u32>().unwrap() + 100_000 + guess) % 1_000_000);
        assert_eq!(answer(&app, &pending, &asked, &guess).await.code(), "invalid_one_time_code");
    }
    assert_eq!(answer(&app, &pending, &asked, &right).await.code(), "one_time_code_too_many_attempts");
    let fresh = challenge(&app, &factor).await;
    assert_eq!(answer(&app, &waiting(&app).await, &fresh, &right).await.code(), "one_time_code_too_many_attempts", "the factor waits, too");
    let failed = app.events().await.into_iter().filter(|(name, _)| name == "authentication.mfa_failed").count();
    assert_eq!(failed, 7);
    // Who holds a recovery code need not wait.
    let codes = recovery_codes(&app, &user).await;
    assert_eq!(recover(&app, &pending, &codes[0]).await.status, 200);
});

both_engines!(where_a_factor_is_required_the_first_sign_in_enrols_one, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let before = password(&app).await.body;
    app.settings(|settings| settings.mfa = Mfa::Required).await;
    let step_up = password(&app).await;
    assert_eq!((step_up.status, step_up.code(), &step_up.body["user"]["id"]), (403, "mfa_enrollment", &user["id"]), "{}", step_up.text);
    let pending = &step_up.body["pending_authentication_token"];
    let codes = recovery_codes(&app, &user).await;
    assert_eq!(recover(&app, pending, &codes[0]).await.code(), "invalid_one_time_code", "a code on paper is no factor");
    let (factor, asked) = enroll(&app, &user).await;
    let done = answer(&app, pending, &asked, &shown(&app, &factor)).await;
    assert_eq!((done.status, amr(&done.body)), (200, json!(["pwd", "otp", "mfa"])), "{}", done.text);

    // A session of before, and one that would switch, end at the next refresh; one with a factor goes on.
    let organization = good(&app, Verb::POST, "/organizations", json!({"name": "Acme"})).await;
    good(
        &app,
        Verb::POST,
        "/user_management/organization_memberships",
        json!({"user_id": user["id"], "organization_id": organization["id"]}),
    )
    .await;
    for switch in [None, organization["id"].as_str()] {
        let refused = refresh(&app, &before, switch).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &json!("mfa_enrollment")), "{}", refused.text);
        assert!(refused.body["error_description"].is_string());
    }
    assert_eq!(refresh(&app, &done.body, organization["id"].as_str()).await.status, 200);
    app.settings(|settings| settings.mfa = Mfa::Off).await;
    assert_eq!(password(&app).await.status, 200, "where there are none, nobody is asked");
});

both_engines!(row_40_a_recovery_code_signs_in_once, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let factor = enrolled(&app, &user).await;
    let codes = recovery_codes(&app, &user).await;
    let pending = waiting(&app).await;
    assert_eq!(recover(&app, &pending, "abcd-efgh-jkmn-pqrs").await.code(), "invalid_one_time_code");
    let done = recover(&app, &pending, &codes[3].to_uppercase()).await;
    assert_eq!((done.status, amr(&done.body)), (200, json!(["pwd", "otp", "mfa"])), "{}", done.text);
    let again = recover(&app, &waiting(&app).await, &codes[3]).await;
    assert_eq!((again.status, again.code()), (400, "invalid_one_time_code"));
    // With the last factor the codes that stood for it go.
    good(&app, Verb::DELETE, &format!("/auth/factors/{}", id(&factor)), Value::Null).await;
    let count = good(&app, Verb::GET, &format!("/user_management/users/{}/recovery_codes", id(&user)), Value::Null).await;
    assert_eq!(count["left"], 0);
    assert_eq!(password(&app).await.status, 200);
});

both_engines!(row_42_a_device_that_proved_a_second_factor_has_tries_of_its_own, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let on = |body: Value, device: &str| {
        let mut body = body;
        body["device_id"] = json!(device);
        app.authenticate(body)
    };
    let first = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD});
    assert_eq!(on(first.clone(), "of a stranger").await.status, 200, "known by the password, while that was enough");
    let factor = enrolled(&app, &user).await;
    let try_on = async |device: &str, code: &str| {
        let pending = on(first.clone(), device).await.body["pending_authentication_token"].clone();
        let asked = challenge(&app, &factor).await;
        let body =
            json!({"grant_type": GRANT, "pending_authentication_token": pending, "authentication_challenge_id": id(&asked), "code": code});
        on(body, device).await
    };
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(try_on("of the owner", &shown(&app, &factor)).await.status, 200);
    for _ in 0..5 {
        app.clock.advance(Duration::from_secs(60));
        let right = shown(&app, &factor);
        let wrong = if right.starts_with("00000") { "999999" } else { "000000" };
        assert_eq!(try_on("of a stranger", wrong).await.code(), "invalid_one_time_code");
    }
    for device in ["of a stranger", "of nobody"] {
        assert_eq!(try_on(device, &shown(&app, &factor)).await.code(), "one_time_code_too_many_attempts", "{device}");
    }
    assert_eq!(try_on("of the owner", &shown(&app, &factor)).await.status, 200);
});

/// As if the browser's sign-in had been with a second factor: the pages that ask for one are not this feature's.
async fn prove_in(app: &TestApp, browser: &Browser<'_>, user: &Value) {
    let environment = app.tenant.environment.clone();
    let name = format!("gw_session_{}", environment.as_str().rsplit('_').next().unwrap().to_lowercase());
    let hash = hash_secret(browser.cookie(&name).unwrap());
    let session = BrowserSession {
        user_id: UserId::from_text(id(user)),
        method: Method::Password,
        second_factor: Some(SecondFactor::Totp),
        authenticated_at: app.now(),
        expires_at: app.now().plus(Duration::from_secs(86_400)),
        last_used_at: app.now(),
        browser_hash: None,
        ip_address: None,
        user_agent: None,
    };
    let now = app.now();
    let write = app.cx().db().write(move |tx| {
        browser_sessions::delete(tx, &environment, &hash)?;
        browser_sessions::insert(tx, &environment, &hash, &session, now)
    });
    write.await.unwrap();
}

both_engines!(what_was_proved_travels_with_the_browser_the_code_and_the_device, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let authorize = format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit",
        app.tenant.client_id
    );
    let mut browser = app.browser();
    browser.sign_in(&authorize, EMAIL, PASSWORD).await;
    prove_in(&app, &browser, &user).await;
    enrolled(&app, &user).await;

    // A second app of the same browser.
    let back = browser.get(&authorize).await;
    let code = back.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", back.status, back.text));
    let exchanged = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!((exchanged.status, amr(&exchanged.body)), (200, json!(["pwd", "otp", "mfa"])), "{}", exchanged.text);

    let started = app.anonymous(Verb::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await.body;
    let page = browser.get("/device").await;
    let typed = browser.submit(&page, "/device", &[("user_code", started["user_code"].as_str().unwrap())]).await;
    let page = browser.follow(typed).await;
    let allowed = browser.submit(&page, "/device/confirm", &[("decision", "allow")]).await;
    assert_eq!(allowed.status, 200, "{}", allowed.text);
    let body = json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"], "client_id": app.tenant.client_id});
    let polled = app.anonymous(Verb::POST, "/user_management/authenticate", body).await;
    assert_eq!((polled.status, amr(&polled.body)), (200, json!(["pwd", "otp", "mfa"])), "{}", polled.text);
});

both_engines!(a_password_reset_leaves_the_factor_and_ends_half_done_sign_ins, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let factor = enrolled(&app, &user).await;
    let pending = waiting(&app).await;
    let reset = good(&app, Verb::POST, "/user_management/password_reset", json!({"email": EMAIL})).await;
    let body = json!({"token": reset["password_reset_token"], "new_password": "another good password"});
    good(&app, Verb::POST, "/user_management/password_reset/confirm", body).await;
    let stale = answer(&app, &pending, &challenge(&app, &factor).await, &shown(&app, &factor)).await;
    assert_eq!(stale.code(), "invalid_pending_authentication_token", "{}", stale.text);
    let step_up = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": "another good password"})).await;
    assert_eq!(step_up.code(), "mfa_challenge", "whoever has the mailbox has not the factor: {}", step_up.text);
});

both_engines!(row_30_a_stranger_leaves_no_factor_in_an_account_whose_address_is_proved_later, |app| async {
    for (email, by_reset) in [("one@example.com", false), ("two@example.com", true)] {
        let made = json!({"email": email, "password": PASSWORD, "email_verified": false});
        let user = good(&app, Verb::POST, "/user_management/users", made).await;
        enrolled(&app, &user).await;
        recovery_codes(&app, &user).await;
        let owner = if by_reset {
            let reset = good(&app, Verb::POST, "/user_management/password_reset", json!({"email": email})).await;
            let body = json!({"token": reset["password_reset_token"], "new_password": "another good password"});
            good(&app, Verb::POST, "/user_management/password_reset/confirm", body).await;
            app.authenticate(json!({"grant_type": "password", "email": email, "password": "another good password"})).await
        } else {
            let mailed = good(&app, Verb::POST, "/user_management/magic_auth", json!({"email": email})).await;
            let grant = "urn:workos:oauth:grant-type:magic-auth:code";
            app.authenticate(json!({"grant_type": grant, "email": email, "code": mailed["code"]})).await
        };
        assert_eq!(owner.status, 200, "{email}: {}", owner.text);
        let count = good(&app, Verb::GET, &format!("/user_management/users/{}/recovery_codes", id(&user)), Value::Null).await;
        assert_eq!(count["left"], 0, "{email}");
    }
});

both_engines!(the_session_behind_a_refresh_keeps_its_factor_when_it_is_taken_away, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let factor = enrolled(&app, &user).await;
    let session = signed_in(&app, &factor).await;
    app.settings(|settings| settings.mfa = Mfa::Required).await;
    good(&app, Verb::DELETE, &format!("/auth/factors/{}", id(&factor)), Value::Null).await;
    assert_eq!(refresh(&app, &session, None).await.status, 200, "it was proved in that sign-in");
    assert_eq!(password(&app).await.code(), "mfa_enrollment");
});
