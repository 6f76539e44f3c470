use std::time::Duration;

use axum::http::Method;
use gatewright_base::Secret;
use gatewright_jose::{b64, totp};
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::records::environments::Mfa;
use crate::testkit::{Answer, Browser, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";
const STEP: Duration = Duration::from_secs(30);

fn authorize(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&state=s{extra}",
        app.tenant.client_id
    )
}

/// Both first steps; gives the page that comes then.
async fn give_password(app: &TestApp, browser: &mut Browser<'_>, extra: &str) -> Answer {
    let next = browser.sign_in(&authorize(app, extra), EMAIL, PASSWORD).await;
    browser.follow(next).await
}

async fn claims(app: &TestApp, answer: &Answer) -> Value {
    let code =
        answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {:?} {}", answer.status, answer.location(), answer.text));
    let tokens = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text);
    claims_of(&tokens.body)
}

fn claims_of(tokens: &Value) -> Value {
    let token = tokens["access_token"].as_str().unwrap();
    serde_json::from_slice(&b64::decode_url(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap_or_else(|| panic!("{start} in {text}")).1.split(end).next().unwrap()
}

fn key_on(page: &Answer) -> Secret<Vec<u8>> {
    totp::parse_secret(between(&page.text, "id=\"secret\" data-text=\"", "\"")).unwrap()
}

fn code_now(app: &TestApp, key: &Secret<Vec<u8>>) -> String {
    totp::code(key, totp::step_at(app.now())).reveal().clone()
}

fn wrong(code: &str) -> &'static str {
    if code.starts_with("00000") { "999999" } else { "000000" }
}

fn codes_on(page: &Answer) -> Vec<String> {
    page.text.split("<li><code>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

/// From the page of the enrolment to the app, with the key and the recovery codes.
async fn enroll(app: &TestApp, browser: &mut Browser<'_>, page: &Answer) -> (Answer, Secret<Vec<u8>>, Vec<String>) {
    let key = key_on(page);
    let next = browser.submit(page, "/mfa/enroll", &[("code", &code_now(app, &key))]).await;
    let saved = browser.follow(next).await;
    let codes = codes_on(&saved);
    assert_eq!(codes.len(), 10, "{}", saved.text);
    (browser.submit(&saved, "/mfa/recovery-codes", &[]).await, key, codes)
}

/// A user with an authenticator app, some time ago.
async fn enrolled(app: &TestApp) -> (Secret<Vec<u8>>, Vec<String>) {
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    let page = give_password(app, &mut browser, "&acr_values=aal2").await;
    let (done, key, codes) = enroll(app, &mut browser, &page).await;
    assert!(done.location_parameter("code").is_some(), "{}", done.text);
    app.clock.advance(Duration::from_secs(3_600));
    (key, codes)
}

fn is_at(answer: &Answer, action: &str) {
    assert!(answer.status == 200 && answer.text.contains(&format!("action=\"{action}\"")), "{} {}", answer.status, answer.text);
}

both_engines!(where_a_second_factor_is_required_it_is_enrolled_saved_and_asked_for_from_then_on, |app| async move {
    app.settings(|settings| settings.mfa = Mfa::Required).await;
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    is_at(&page, "/mfa/enroll");
    assert!(page.text.contains("<img class=\"qr\" src=\"data:image/png;base64,"), "{}", page.text);
    assert!(page.text.len() < 14_336, "{} bytes", page.text.len());
    let key = key_on(&page);
    let reloaded = browser.get(&format!("/mfa/enroll?request={}", between(&page.text, "name=\"request\" value=\"", "\""))).await;
    assert_eq!(between(&reloaded.text, "id=\"secret\"", "</code>"), between(&page.text, "id=\"secret\"", "</code>"), "the key stays");
    for (typed, words) in [("", "Enter the code that your app shows"), (wrong(&code_now(&app, &key)), "That code is not right")] {
        let refused = browser.submit(&page, "/mfa/enroll", &[("code", typed)]).await;
        assert!(refused.status == 422 && refused.text.contains(words), "{typed}: {}", refused.text);
    }
    let next = browser.submit(&page, "/mfa/enroll", &[("code", &code_now(&app, &key))]).await;
    let saved = browser.follow(next).await;
    let codes = codes_on(&saved);
    assert_eq!(codes.len(), 10, "{}", saved.text);
    let file = browser
        .get(&between(&saved.text, "href=\"/mfa/recovery-codes/file", "\"").replace("?request", "/mfa/recovery-codes/file?request"))
        .await;
    assert_eq!(
        (file.header("content-disposition"), file.header("cache-control")),
        (Some("attachment; filename=\"recovery-codes.txt\""), Some("no-store"))
    );
    assert!(codes.iter().all(|code| file.text.contains(code)) && file.text.contains(EMAIL), "{}", file.text);
    let done = browser.submit(&saved, "/mfa/recovery-codes", &[]).await;
    let token = claims(&app, &done).await;
    assert_eq!((&token["acr"], &token["amr"]), (&json!("aal2"), &json!(["pwd", "otp", "mfa"])));
    assert_eq!(token["auth_time"], app.now().seconds());

    // The next time it is asked for, and a code that was used is not one.
    let mut other = app.browser();
    let page = give_password(&app, &mut other, "").await;
    is_at(&page, "/mfa");
    let used = other.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert!(used.status == 422 && used.text.contains("already used"), "{}", used.text);
    app.clock.advance(STEP);
    let done = other.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert_eq!(claims(&app, &done).await["acr"], "aal2");
    let names: Vec<_> = app.events().await.into_iter().map(|(name, _)| name).collect();
    for expected in ["authentication.mfa_succeeded", "authentication.mfa_failed", "recovery_codes.generated"] {
        assert!(names.contains(&expected.to_owned()), "{expected} in {names:?}");
    }
});

both_engines!(row_42_whoever_has_the_password_does_not_keep_the_owner_waiting_on_their_own_device, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    // Whoever has the password signed in with it as long as there was no factor: that makes no device the owner's.
    let mut stranger = app.browser();
    assert!(stranger.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await.location_parameter("code").is_some());
    let mut owner = app.browser();
    let page = give_password(&app, &mut owner, "&acr_values=aal2").await;
    let (_, key, _) = enroll(&app, &mut owner, &page).await;
    app.clock.advance(Duration::from_secs(3_600));
    let paused = |answer: &Answer| answer.status == 422 && !answer.text.contains("That code is not right");

    let theirs = give_password(&app, &mut stranger, "&prompt=login").await;
    let mine = give_password(&app, &mut owner, "&prompt=login").await;
    for _ in 0..5 {
        let refused = stranger.submit(&theirs, "/mfa", &[("code", wrong(&code_now(&app, &key)))]).await;
        assert!(refused.status == 422 && !paused(&refused), "{}", refused.text);
    }
    let mut elsewhere = app.browser();
    let page = give_password(&app, &mut elsewhere, "").await;
    assert!(paused(&elsewhere.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await), "strangers wait, whatever they type");
    let done = owner.submit(&mine, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert_eq!(claims(&app, &done).await["acr"], "aal2");

    // The owner's success is no new beginning for the stranger.
    app.clock.advance(STEP - Duration::from_secs(1));
    let page = give_password(&app, &mut stranger, "&prompt=login").await;
    assert!(paused(&stranger.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await), "the pause goes on");
});

both_engines!(row_42_the_tries_of_known_devices_are_few_and_all_of_them_a_hundred, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut owner = app.browser();
    let page = give_password(&app, &mut owner, "&acr_values=aal2").await;
    let (_, key, _) = enroll(&app, &mut owner, &page).await;
    let failures = async || {
        let row = |tx: &mut gatewright_db::Tx<'_>| {
            let mut row = tx.one("SELECT failures, COALESCE(device_failures, 0) FROM authentication_factors", gatewright_db::params![])?;
            Ok::<_, gatewright_db::DbError>((row.int()?, row.int()?))
        };
        app.cx().db().read(row).await.unwrap()
    };
    let mut tries = 0;
    while failures().await != (90, 10) {
        app.clock.advance(Duration::from_secs(3_601));
        let page = give_password(&app, &mut owner, "&prompt=login").await;
        owner.submit(&page, "/mfa", &[("code", wrong(&code_now(&app, &key)))]).await;
        tries += 1;
        if tries <= 10 {
            assert_eq!(failures().await, (0, tries), "the first ten are the device's own");
        }
        assert!(tries <= 100, "{:?}", failures().await);
    }
    assert_eq!(tries, 100);
    app.clock.advance(Duration::from_secs(86_400 * 7));
    let page = give_password(&app, &mut owner, "&prompt=login").await;
    let refused = owner.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert_eq!(refused.status, 422, "a hundred wrong codes in a row are the end of the factor, also on the owner's device");
});

both_engines!(a_recovery_code_lets_in_once_who_has_lost_the_phone, |app| async move {
    let (_, codes) = enrolled(&app).await;
    for (code, fits) in [(codes[0].clone(), true), (codes[0].clone(), false), (codes[1].to_uppercase().replace('-', " "), true)] {
        let mut browser = app.browser();
        let page = give_password(&app, &mut browser, "").await;
        let link = between(&page.text, "<a class=\"button\" href=\"", "\"").replace("&amp;", "&");
        let page = browser.get(&link).await;
        assert!(page.text.contains("name=\"factor\" value=\"recovery_code\""), "{}", page.text);
        let answer = browser.submit(&page, "/mfa", &[("code", &code)]).await;
        if fits {
            assert_eq!(claims(&app, &answer).await["amr"], json!(["pwd", "otp", "mfa"]));
        } else {
            assert!(answer.status == 422 && answer.text.contains("It may have been used before"), "{}", answer.text);
        }
    }
});

both_engines!(step_skipping_who_has_a_factor_cannot_enrol_another_instead, |app| async move {
    enrolled(&app).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    is_at(&page, "/mfa");
    let request = between(&page.text, "name=\"request\" value=\"", "\"").to_owned();
    let (csrf, code) = (between(&page.text, "name=\"csrf\" value=\"", "\"").to_owned(), "123456");
    for path in ["/mfa/enroll", "/mfa/enroll/sms", "/mfa/recovery-codes", "/mfa/recovery-codes/file"] {
        let opened = browser.get(&format!("{path}?request={request}")).await;
        assert_eq!(opened.location(), Some(format!("/mfa?request={request}")), "{path}");
    }
    let fields = [("csrf", csrf.as_str()), ("request", &request), ("code", code), ("phone_number", "+4915123456789")];
    for path in ["/mfa/enroll", "/mfa/enroll/sms", "/mfa/enroll/sms/send", "/mfa/recovery-codes"] {
        let posted = browser.post(path, &fields).await;
        assert_eq!(posted.location(), Some(format!("/mfa?request={request}")), "{path}: {}", posted.text);
    }
    // Nor is the half-done sign-in anything to the other pages.
    let chosen = browser.post("/choose-organization", &[("csrf", &csrf), ("request", &request), ("organization_id", "org_x")]).await;
    assert_eq!(chosen.location(), Some(format!("/sign-in?request={request}")));
    let again = browser.get(&authorize(&app, "&prompt=none")).await;
    assert_eq!(again.location_parameter("error").as_deref(), Some("login_required"), "no session of the browser either");
});

both_engines!(step_skipping_nothing_of_a_second_factor_opens_before_the_first, |app| async move {
    enrolled(&app).await;
    let mut browser = app.browser();
    let first = browser.get(&authorize(&app, "")).await;
    let page = browser.follow(first).await;
    let request = between(&page.text, "name=\"request\" value=\"", "\"").to_owned();
    for path in ["/mfa", "/mfa/enroll", "/mfa/recovery-codes"] {
        assert_eq!(
            browser.get(&format!("{path}?request={request}")).await.location(),
            Some(format!("/sign-in?request={request}")),
            "{path}"
        );
    }
});

both_engines!(step_skipping_of_two_tabs_that_enrol_only_the_first_gets_a_factor, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut own, mut thief) = (app.browser(), app.browser());
    let page = give_password(&app, &mut own, "&acr_values=aal2").await;
    let other = give_password(&app, &mut thief, "&acr_values=aal2").await;
    let (done, _, _) = enroll(&app, &mut own, &page).await;
    assert!(done.location_parameter("code").is_some());
    let late = thief.submit(&other, "/mfa/enroll", &[("code", &code_now(&app, &key_on(&other)))]).await;
    assert!(late.location().unwrap().starts_with("/sign-in?"), "{} {}", late.status, late.text);
    // What the late one has is no factor: its codes are wrong, and only the first is offered.
    app.clock.advance(STEP);
    let page = give_password(&app, &mut thief, "").await;
    is_at(&page, "/mfa");
    assert_eq!(page.text.matches("<a class=\"button\"").count(), 1, "the recovery codes: {}", page.text);
    let refused = thief.submit(&page, "/mfa", &[("code", &code_now(&app, &key_on(&other)))]).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
});

both_engines!(step_skipping_what_one_account_began_is_nothing_to_the_next_in_the_same_request, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "&acr_values=aal2").await;
    let alices = key_on(&page);
    let next = browser.submit(&page, "/mfa/enroll", &[("code", &code_now(&app, &alices))]).await;
    let saved = browser.follow(next).await;
    assert_eq!(codes_on(&saved).len(), 10);
    // The same request goes on as somebody else, whose factor was not proved by that.
    let hidden = |page: &Answer| ["csrf", "request"].map(|name| between(&page.text, &format!("name=\"{name}\" value=\""), "\"").to_owned());
    let [csrf, request] = hidden(&saved);
    let begun = browser.post("/sign-in", &[("email", "bob@example.test"), ("csrf", &csrf), ("request", &request)]).await;
    let page = browser.follow(begun).await;
    let next = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    let page = browser.follow(next).await;
    is_at(&page, "/mfa/enroll");
    let bobs = key_on(&page);
    assert_ne!(bobs.reveal(), alices.reveal());
    let posted = browser.post("/mfa/recovery-codes", &[("csrf", &csrf), ("request", &request)]).await;
    assert!(posted.location().unwrap().starts_with("/mfa/enroll?"), "{}", posted.text);
});

both_engines!(row_09_and_46_a_second_step_belongs_to_its_browser_and_its_form, |app| async move {
    let (key, _) = enrolled(&app).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    let request = between(&page.text, "name=\"request\" value=\"", "\"");
    let mut thief = app.browser();
    let code = code_now(&app, &key);
    assert_eq!(thief.get(&format!("/mfa?request={request}")).await.status, 403);
    assert_eq!(thief.submit(&page, "/mfa", &[("code", &code)]).await.status, 403);
    for (field, forged) in [("csrf", "x"), ("csrf", "")] {
        assert_eq!(browser.submit(&page, "/mfa", &[("code", &code), (field, forged)]).await.status, 403);
    }
    assert!(browser.submit(&page, "/mfa", &[("code", &code)]).await.location_parameter("code").is_some(), "none of it used the code up");
});

both_engines!(replay_a_second_step_is_taken_once, |app| async move {
    let (key, _) = enrolled(&app).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    let done = browser.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert!(done.location_parameter("code").is_some());
    app.clock.advance(STEP);
    let again = browser.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert!(again.status == 400 && again.text.contains("This sign-in has expired"), "{} {}", again.status, again.text);
});

both_engines!(brute_force_wrong_codes_close_the_factor_and_the_right_one_is_refused_then, |app| async move {
    let (key, codes) = enrolled(&app).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    let mut answer = page.clone();
    for _ in 0..7 {
        answer = browser.submit(&page, "/mfa", &[("code", wrong(&code_now(&app, &key)))]).await;
        assert!([422, 429].contains(&answer.status), "{}", answer.text);
    }
    let right = browser.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert!([422, 429].contains(&right.status) && right.location().is_none(), "after {}: {}", answer.status, right.text);
    // The owner has another way.
    app.clock.advance(Duration::from_secs(61));
    let done = browser.submit(&page, "/mfa", &[("factor", "recovery_code"), ("code", &codes[0])]).await;
    assert!(done.location_parameter("code").is_some(), "{}", done.text);
});

both_engines!(downgrade_an_app_that_asks_for_two_factors_never_gets_a_code_for_one, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    assert_eq!(claims(&app, &page).await["acr"], "aal1", "nobody asked");
    // The session of the browser is of one factor: it is not enough, and old ones do not enrol either.
    let asked = browser.get(&authorize(&app, "&acr_values=aal2")).await;
    assert!(asked.location().unwrap().starts_with("/mfa/enroll?"), "{:?}", asked.location());
    let none = browser.get(&authorize(&app, "&acr_values=aal2&prompt=none")).await;
    assert_eq!(none.location_parameter("error").as_deref(), Some("interaction_required"));
    app.clock.advance(Duration::from_secs(601));
    let asked = browser.get(&authorize(&app, "&acr_values=aal2")).await;
    assert!(asked.location().unwrap().starts_with("/sign-in?"), "a browser left alone enrols nothing: {:?}", asked.location());
    let voluntary = browser.get(&authorize(&app, "&acr_values=urn:example:loa3")).await;
    assert!(voluntary.location_parameter("code").is_some(), "what nobody knows is not asked for");
    // Where nobody can have a second factor the app is told so, instead of a token that it refuses.
    app.settings(|settings| settings.mfa = Mfa::Off).await;
    let unmet = browser.get(&authorize(&app, "&acr_values=aal2")).await;
    assert_eq!(unmet.location_parameter("error").as_deref(), Some("unmet_authentication_requirements"));
    let mut other = app.browser();
    let unmet = give_password(&app, &mut other, "&acr_values=aal2").await;
    assert_eq!(unmet.location_parameter("error").as_deref(), Some("unmet_authentication_requirements"));
});

both_engines!(row_44_a_step_up_gives_the_browser_a_new_session_and_ends_the_old_one, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let name = format!("gw_session_{}", app.tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    let mut browser = app.browser();
    let first = give_password(&app, &mut browser, "").await;
    let before = claims(&app, &first).await;
    let known_to_a_thief = browser.cookie(&name).unwrap().to_owned();
    app.clock.advance(Duration::from_secs(60));
    let asked = browser.get(&authorize(&app, "&acr_values=aal2")).await;
    let page = browser.follow(asked).await;
    let (done, key, _) = enroll(&app, &mut browser, &page).await;
    let after = claims(&app, &done).await;
    assert_eq!((&after["acr"], &after["auth_time"]), (&json!("aal2"), &json!(app.now().seconds())), "as new as the proof");
    assert_ne!(before["sid"], after["sid"]);
    assert_ne!(browser.cookie(&name).unwrap(), known_to_a_thief);
    let mut thief = app.browser();
    thief.set_cookie(&name, &known_to_a_thief);
    let raised = thief.get(&authorize(&app, "&prompt=none")).await;
    assert_eq!(raised.location_parameter("error").as_deref(), Some("login_required"));
    // The browser's session has both factors now: nothing more is asked, and a refused code changed nothing.
    let quiet = browser.get(&authorize(&app, "&acr_values=aal2&max_age=300")).await;
    assert_eq!(claims(&app, &quiet).await["acr"], "aal2");
    // Too old, it is both factors that are asked for again.
    app.clock.advance(Duration::from_secs(301));
    let page = give_password(&app, &mut browser, "&acr_values=aal2&max_age=300").await;
    is_at(&page, "/mfa");
    let done = browser.submit(&page, "/mfa", &[("code", &code_now(&app, &key))]).await;
    assert_eq!(claims(&app, &done).await["auth_time"], app.now().seconds());
});

both_engines!(who_cancels_is_back_at_the_app_without_a_sign_in, |app| async move {
    enrolled(&app).await;
    let mut browser = app.browser();
    let page = give_password(&app, &mut browser, "").await;
    let back = browser.submit(&page, "/mfa/cancel", &[]).await;
    assert!(back.location().unwrap().starts_with(CALLBACK), "{:?}", back.location());
    assert_eq!(back.location_parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(back.location_parameter("state").as_deref(), Some("s"));
    let late = browser.submit(&page, "/mfa", &[("code", "123456")]).await;
    assert_eq!(late.status, 400, "it is over");
});

both_engines!(a_jwt_template_cannot_say_how_somebody_signed_in, |app| async move {
    for claim in ["acr", "amr", "auth_time"] {
        let content = format!("{{\"{claim}\": \"aal2\"}}");
        let refused = app.api(Method::PUT, "/user_management/jwt_template", json!({"content": content})).await;
        assert_eq!(refused.status, 422, "{claim}: {}", refused.text);
    }
});
