use std::time::Duration;

use axum::http::Method;
use axum::http::header::ACCEPT_LANGUAGE;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, Browser, On, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";

fn authorize(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&state=s{extra}",
        app.tenant.client_id
    )
}

async fn open<'a>(app: &'a TestApp, extra: &str) -> (Browser<'a>, Answer) {
    let mut browser = app.browser();
    let first = browser.get(&authorize(app, extra)).await;
    let page = browser.follow(first).await;
    assert_eq!(page.status, 200, "{}", page.text);
    (browser, page)
}

async fn exchange(app: &TestApp, answer: &Answer) -> Answer {
    let code = answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", answer.status, answer.text));
    app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await
}

/// The page with everything that is meant to differ taken out.
fn bare(answer: &Answer, email: &str) -> String {
    let mut text = answer.text.replace(email, "EMAIL");
    for marker in ["name=\"request\" value=\"", "name=\"csrf\" value=\"", "request="] {
        let parts: Vec<String> = text
            .split(marker)
            .enumerate()
            .map(|(i, part)| {
                if i == 0 {
                    part.to_owned()
                } else {
                    part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-".contains(c)).to_owned()
                }
            })
            .collect();
        text = parts.join(marker);
    }
    text
}

both_engines!(a_new_person_signs_up_proves_the_address_and_is_in, |app| async move {
    let (mut browser, page) = open(&app, "&screen_hint=sign-up").await;
    assert!(page.text.contains("action=\"/sign-up\""), "screen_hint leads to sign-up");
    let filled = [("first_name", "Alice"), ("last_name", "Archer"), ("email", EMAIL), ("password", PASSWORD)];
    let next = browser.submit(&page, "/sign-up", &filled).await;
    assert_eq!(next.status, 303, "{}", next.text);
    let page = browser.follow(next).await;
    assert!(page.text.contains("action=\"/verify-email\""), "{}", page.text);
    let mail = &app.mails().await[0];
    assert_eq!(mail.to, EMAIL);
    let code = mail.code.clone().unwrap();
    assert!(mail.text.contains(&code[..3]) && !mail.subject.contains(&code), "the subject shows no code");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let refused = browser.submit(&page, "/verify-email", &[("code", wrong)]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("role=\"alert\""));
    let typed = format!("{} {}", &code[..3], &code[3..]);
    let done = browser.submit(&page, "/verify-email", &[("code", &typed)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let signed_in = exchange(&app, &done).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    assert_eq!(signed_in.body["user"]["first_name"], "Alice");
    assert_eq!(signed_in.body["user"]["email_verified"], true);
    let names: Vec<_> = app.events().await.into_iter().map(|(name, _)| name).collect();
    for expected in ["user.created", "email_verification.created", "authentication.password_succeeded", "session.created"] {
        assert!(names.contains(&expected.to_owned()), "{expected} in {names:?}");
    }
});

both_engines!(a_mailed_code_signs_in_without_a_password, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, page) = open(&app, "").await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
    let page = browser.follow(sent).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = browser.submit(&page, "/sign-in/code", &[("code", &code)]).await;
    let signed_in = exchange(&app, &done).await;
    assert_eq!(signed_in.body["authentication_method"], "MagicAuth");
});

both_engines!(row_33_a_page_code_works_in_its_own_browser_only_and_five_tries_end_it, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut pages = Vec::new();
    for _ in 0..2 {
        let (mut browser, page) = open(&app, "").await;
        let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        let page = browser.follow(next).await;
        let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
        let page = browser.follow(sent).await;
        pages.push((browser, page));
    }
    let code = app.mails().await[0].code.clone().unwrap();
    let (mut other, other_page) = pages.remove(0);
    let stolen = other.submit(&other_page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(stolen.status, 422, "asked for in another browser");
    let api = app.authenticate(json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "code": code, "email": EMAIL})).await;
    assert_eq!(api.status, 400, "and not over the API");
    let (mut own, own_page) = pages.remove(0);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        assert_eq!(own.submit(&own_page, "/sign-in/code", &[("code", wrong)]).await.status, 422);
    }
    let late = own.submit(&own_page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(late.status, 422, "the right code after five wrong ones");
});

both_engines!(row_43_a_visitor_who_puts_acr_values_on_the_request_chooses_no_shorter_password, |app| async move {
    let (mut browser, page) = open(&app, "&screen_hint=sign-up&acr_values=aal2").await;
    assert!(page.text.contains("15 characters"), "{}", page.text);
    let choose = |password| [("email", EMAIL), ("password", password)];
    let refused = browser.submit(&page, "/sign-up", &choose("otter gown haz")).await;
    assert!(refused.status == 422 && refused.text.contains("15 characters"), "{} {}", refused.status, refused.text);
    // Where the environment itself asks everybody for two, eight are enough.
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Required).await;
    assert_eq!(browser.submit(&page, "/sign-up", &choose("otter g")).await.status, 422);
    assert_eq!(browser.submit(&page, "/sign-up", &choose("otter go")).await.status, 303);
});

both_engines!(row_37_pages_are_the_same_for_known_and_unknown_addresses, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut seen: Vec<Vec<(u16, String)>> = Vec::new();
    for email in [EMAIL, "nobody@example.test"] {
        let mut answers = Vec::new();
        let (mut browser, page) = open(&app, "").await;
        let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
        let page = browser.follow(next).await;
        answers.push((page.status, bare(&page, email)));
        let wrong = browser.submit(&page, "/sign-in/password", &[("password", "not the password")]).await;
        answers.push((wrong.status, bare(&wrong, email)));
        let forgot_path =
            page.text.split("href=\"").find(|rest| rest.starts_with("/forgot-password")).unwrap().split('"').next().unwrap().to_owned();
        let forgot = browser.get(&forgot_path).await;
        let asked = browser.submit(&forgot, "/forgot-password", &[("email", email)]).await;
        answers.push((asked.status, bare(&asked, email)));
        seen.push(answers);
    }
    for (known, unknown) in seen[0].iter().zip(&seen[1]) {
        assert_eq!(known, unknown);
    }
});

both_engines!(row_37_sign_up_with_a_known_address_looks_like_a_new_one_and_mails_the_owner, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut seen = Vec::new();
    for email in [EMAIL, "newcomer@example.test"] {
        let (mut browser, page) = open(&app, "&screen_hint=sign-up").await;
        let next = browser.submit(&page, "/sign-up", &[("email", email), ("password", "another fine secret")]).await;
        let page = browser.follow(next).await;
        let wrong = browser.submit(&page, "/verify-email", &[("code", "000000")]).await;
        seen.push((page.status, bare(&page, email), wrong.status, bare(&wrong, email)));
    }
    assert_eq!(seen[0], seen[1]);
    let to_owner = app.mails().await.into_iter().find(|mail| mail.to == EMAIL).expect("the owner hears of it");
    assert!(to_owner.code.is_none());
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    assert_eq!(signed_in["user"]["email"], EMAIL, "the password is as it was");
});

both_engines!(row_30_a_squatters_password_and_sessions_end_when_the_owner_proves_the_address, |app| async move {
    let (mut squatter, page) = open(&app, "&screen_hint=sign-up").await;
    squatter.submit(&page, "/sign-up", &[("email", EMAIL), ("password", "squatters password")]).await;
    let (mut owner, page) = open(&app, "").await;
    let next = owner.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = owner.follow(next).await;
    let sent = owner.submit(&page, "/sign-in/code/send", &[]).await;
    let page = owner.follow(sent).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = owner.submit(&page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(exchange(&app, &done).await.status, 200);
    let tried = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": "squatters password"})).await;
    assert_eq!((tried.status, tried.code()), (400, "invalid_credentials"));
});

both_engines!(row_34_a_reset_link_shows_a_form_works_once_and_ends_sessions, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let pair = app.sign_in(EMAIL, PASSWORD).await;
    let (mut browser, page) = open(&app, "").await;
    let forgot_path =
        format!("/forgot-password?request={}", page.text.split("name=\"request\" value=\"").nth(1).unwrap().split('"').next().unwrap());
    let forgot = browser.get(&forgot_path).await;
    assert_eq!(browser.submit(&forgot, "/forgot-password", &[("email", EMAIL)]).await.status, 200);
    let link = app.mails().await[0].links[0].clone();
    assert!(link.starts_with("http://localhost:4700/reset-password?token=") && !link.contains("alice"));
    let mut other = app.browser();
    for _ in 0..3 {
        assert_eq!(other.get(&link).await.status, 200, "a scanner that opens the link consumes nothing");
    }
    let form = other.get(&link).await;
    let weak = other.submit(&form, "/reset-password", &[("password", "short")]).await;
    assert_eq!(weak.status, 422);
    let done = other.submit(&form, "/reset-password", &[("password", "a brand new secret")]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(other.get(&link).await.status, 400, "used");
    assert_eq!(other.submit(&form, "/reset-password", &[("password", "and yet another one")]).await.status, 400);
    assert_eq!(
        app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]})).await.code(),
        "invalid_grant"
    );
    app.sign_in(EMAIL, "a brand new secret").await;
});

both_engines!(row_46_forms_from_elsewhere_are_refused, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    for (name, value) in
        [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
    {
        let (mut browser, page) = open(&app, "").await;
        browser.headers.push((name.parse().unwrap(), value.to_owned()));
        let posted = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        assert_eq!(posted.status, 403, "{name}: {value}");
    }
    let (mut browser, page) = open(&app, "").await;
    for csrf in ["", "forged"] {
        assert_eq!(browser.submit(&page, "/sign-in", &[("email", EMAIL), ("csrf", csrf)]).await.status, 403);
    }
    let request = axum::http::Request::post("/sign-in").header("content-type", "text/plain").body("email=a&csrf=b".into()).unwrap();
    assert_eq!(app.send(request).await.status, 415);
});

#[tokio::test(flavor = "multi_thread")]
async fn row_42_a_stranger_cannot_lock_the_owner_out_of_a_browser_they_know() {
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.hosted_per_ip = 100_000;
        config.limits.hosted_per_email = 20;
    })
    .await;
    app.user(EMAIL, PASSWORD).await;
    let mut owner = app.browser();
    assert_eq!(owner.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await.status, 303);
    let (mut stranger, page) = open(&app, "").await;
    let next = stranger.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = stranger.follow(next).await;
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(stranger.submit(&page, "/sign-in/password", &[("password", "guess")]).await.status == 429);
        app.clock.advance(Duration::from_secs(10));
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(stranger.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await.status, 429, "even the right guess");
    assert_eq!(owner.sign_in(&authorize(&app, "&prompt=login"), EMAIL, PASSWORD).await.status, 303, "the owner gets in");
    // In a new browser, beside the stranger, the owner has no try of the password left, and signs in by the code of a mail.
    let (mut new, page) = open(&app, "").await;
    let next = new.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = new.follow(next).await;
    assert_eq!(new.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await.status, 429);
    let sent = new.submit(&page, "/sign-in/code/send", &[]).await;
    let page = new.follow(sent).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = new.submit(&page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(exchange(&app, &done).await.status, 200, "{}", done.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_42_strangers_who_ask_for_mails_do_not_keep_the_owner_from_theirs() {
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.mails_per_email_daily = 5;
    })
    .await;
    app.user(EMAIL, PASSWORD).await;
    app.settings(|settings| settings.password = false).await;
    let mut owner = app.browser();
    let ask = async |browser: &mut Browser<'_>| {
        app.clock.advance(Duration::from_secs(61));
        let first = browser.get(&authorize(&app, "&prompt=login")).await;
        let page = browser.follow(first).await;
        browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await
    };
    let sign_in = async |browser: &mut Browser<'_>| {
        let sent = ask(browser).await;
        let page = browser.follow(sent).await;
        let code = app.mails().await[0].code.clone().unwrap();
        browser.submit(&page, "/sign-in/code", &[("code", &code)]).await
    };
    let done = sign_in(&mut owner).await;
    assert_eq!(exchange(&app, &done).await.status, 200, "{}", done.text);
    let mut stranger = app.browser();
    for _ in 0..4 {
        assert_eq!(ask(&mut stranger).await.status, 303);
    }
    assert_eq!(ask(&mut stranger).await.status, 429);
    let done = sign_in(&mut owner).await;
    assert_eq!(exchange(&app, &done).await.status, 200, "{}", done.text);
    // And that is bounded, too.
    for _ in 0..4 {
        assert_eq!(ask(&mut owner).await.status, 303);
    }
    assert_eq!(ask(&mut owner).await.status, 429);
}

both_engines!(a_request_that_is_answered_or_old_says_so, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, page) = open(&app, "").await;
    let (mut late, late_page) = open(&app, "").await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let password_page = browser.follow(next).await;
    assert_eq!(browser.submit(&password_page, "/sign-in/password", &[("password", PASSWORD)]).await.status, 303);
    assert_eq!(browser.submit(&password_page, "/sign-in/password", &[("password", PASSWORD)]).await.status, 400, "answered already");
    app.clock.advance(Duration::from_secs(3_601));
    assert_eq!(late.submit(&late_page, "/sign-in", &[("email", EMAIL)]).await.status, 400);
});

both_engines!(pages_speak_the_browsers_language, |app| async move {
    let mut browser = app.browser();
    browser.headers.push((ACCEPT_LANGUAGE, "de-AT,de;q=0.9,en;q=0.5".to_owned()));
    let first = browser.get(&authorize(&app, "")).await;
    let page = browser.follow(first).await;
    assert!(page.text.contains("lang=\"de\"") && page.text.contains("Weiter"), "{}", page.text);
    let english = browser
        .get(&format!(
            "/sign-in?request={}&lang=en",
            page.text.split("name=\"request\" value=\"").nth(1).unwrap().split('"').next().unwrap()
        ))
        .await;
    assert!(english.text.contains("lang=\"en\""));
    assert!(browser.get("/signed-out").await.text.contains("lang=\"en\""), "the choice is kept");
});

both_engines!(unknown_pages_are_pages_for_people_and_json_for_programs, |app| async move {
    let page = app.browser().get("/no-such-page").await;
    assert_eq!(page.status, 404);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let json = app.anonymous(Method::GET, "/no-such-page", Value::Null).await;
    assert_eq!((json.status, json.header("content-type")), (404, Some("application/json")));
    let wrong_method = app.anonymous(Method::DELETE, "/user_management/authenticate", Value::Null).await;
    assert_eq!((wrong_method.status, wrong_method.header("content-type")), (405, Some("application/json")));
});

both_engines!(pages_stay_small_and_ask_no_other_origin, |app| async move {
    let (mut browser, page) = open(&app, "").await;
    assert!(page.text.len() <= 14_000, "{} bytes", page.text.len());
    let links: Vec<_> = page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for link in links {
        assert!(link.starts_with('/') || link.starts_with('#'), "{link}");
        if link.starts_with("/assets/") {
            let asset = browser.get(link).await;
            assert_eq!(asset.status, 200);
            assert!(asset.header("cache-control").unwrap().contains("immutable"));
            assert!(!link.ends_with(".css") || asset.text.len() <= 16_000, "{link}: {} bytes", asset.text.len());
        }
    }
});
