use std::io::Write;
use std::time::Duration;

use axum::http::Method;
use axum::http::header::{ORIGIN, USER_AGENT};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, Browser, On, Tenant, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const NEW_PASSWORD: &str = "a brand new secret";
const CALLBACK: &str = "http://localhost:8000/callback";
const CHROME: &str =
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

fn authorize(tenant: &Tenant) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&prompt=login",
        tenant.client_id
    )
}

/// A browser in which `email` has just signed in to an app: the browser and the app's tokens.
async fn signed_in_as<'a>(app: &'a TestApp, email: &str, password: &str, user_agent: &str) -> (Browser<'a>, Value) {
    let mut browser = app.browser();
    browser.headers.push((USER_AGENT, user_agent.to_owned()));
    let done = browser.sign_in(&authorize(&app.tenant), email, password).await;
    let code = done.location_parameter("code").unwrap_or_else(|| panic!("{} {}", done.status, done.text));
    let pair = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(pair.status, 200, "{}", pair.text);
    (browser, pair.body)
}

async fn signed_in<'a>(app: &'a TestApp) -> (Browser<'a>, Value) {
    signed_in_as(app, EMAIL, PASSWORD, CHROME).await
}

fn at(app: &TestApp, path: &str) -> String {
    format!("{path}?client_id={}", app.tenant.client_id)
}

async fn open(app: &TestApp, browser: &mut Browser<'_>, path: &str) -> Answer {
    let page = browser.get(&at(app, path)).await;
    assert_eq!(page.status, 200, "{path}: {:?} {}", page.location(), page.text);
    page
}

/// Signs in again where a page asked for it, and gives where that ended.
async fn sign_in_again(browser: &mut Browser<'_>, page: &Answer, password: &str) -> Answer {
    let next = browser.submit(page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    browser.submit(&page, "/sign-in/password", &[("password", password)]).await
}

async fn refresh(app: &TestApp, pair: &Value) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]})).await
}

fn is_sent_to_sign_in(answer: &Answer) -> bool {
    answer.status == 303 && answer.location().is_some_and(|to| to.starts_with("/sign-in?request="))
}

/// The cookie of the tenant's browser session.
fn session_cookie(browser: &Browser<'_>, tenant: &Tenant) -> (String, String) {
    let ulid = tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase();
    let name = format!("gw_session_{ulid}");
    let value = browser.cookie(&name).unwrap_or_else(|| panic!("{name} is not set")).to_owned();
    (name, value)
}

/// What the sign-out forms name their sessions by.
fn handles(page: &Answer) -> Vec<String> {
    page.text.split("name=\"session\" value=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

async fn told(app: &TestApp) -> Vec<String> {
    app.events().await.into_iter().map(|(name, _)| name).collect()
}

both_engines!(a_person_sees_where_they_are_signed_in_and_signs_out_one_place, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut phone, phone_app) = signed_in_as(&app, EMAIL, PASSWORD, IPHONE).await;
    app.clock.advance(Duration::from_secs(2 * 3_600));
    let (mut browser, pair) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account").await;
    for words in ["This browser", "Chrome on macOS", "Safari on iPhone", "127.0.0.1", "2 hours ago", EMAIL] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let offered = handles(&page);
    assert_eq!(offered.len(), 3, "the phone, and both apps; not this browser: {}", page.text);
    let of_phone = offered.iter().find(|handle| !handle.starts_with("session_")).unwrap();
    let ended = browser.submit(&page, "/account/sessions/end", &[("session", of_phone)]).await;
    assert_eq!(ended.location().as_deref(), Some(at(&app, "/account").as_str()));
    let page = browser.follow(ended).await;
    assert!(page.text.contains("role=\"status\"") && handles(&page).len() == 2, "{}", page.text);
    assert!(!open(&app, &mut browser, "/account").await.text.contains("role=\"status\""), "told once");
    assert!(is_sent_to_sign_in(&phone.get(&at(&app, "/account")).await), "the phone is out");

    let page = open(&app, &mut browser, "/account").await;
    let sid = phone_app["access_token"].as_str().map(claims).unwrap()["sid"].as_str().unwrap().to_owned();
    assert!(handles(&page).contains(&sid));
    assert_eq!(browser.submit(&page, "/account/sessions/end", &[("session", &sid)]).await.status, 303);
    assert_eq!(refresh(&app, &phone_app).await.code(), "invalid_grant");
    assert_eq!(refresh(&app, &pair).await.status, 200, "the other app goes on");
    assert_eq!(told(&app).await.iter().filter(|name| *name == "session.revoked").count(), 1);
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_says_its_country_where_the_operators_table_knows_it() {
    let mut places = tempfile::NamedTempFile::new().unwrap();
    places.write_all(b"network,country,latitude,longitude\n203.0.113.0/24,DE,52.5,13.4\n").unwrap();
    let app = TestApp::start_with(On::Sqlite, |config| config.radar.places_file = Some(places.path().to_owned())).await;
    app.user(EMAIL, PASSWORD).await;
    for ip_address in ["203.0.113.9", "198.51.100.7"] {
        let body = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "ip_address": ip_address});
        assert_eq!(app.authenticate(body).await.status, 200);
    }
    let (mut browser, _) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account").await;
    assert!(page.text.contains("203.0.113.9 (DE) ·") && page.text.contains("198.51.100.7 ·"), "{}", page.text);
}

fn claims(token: &str) -> Value {
    let payload = gatewright_jose::b64::decode_url(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

both_engines!(signing_out_elsewhere_leaves_this_browser_alone, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut phone, phone_app) = signed_in_as(&app, EMAIL, PASSWORD, IPHONE).await;
    let (mut browser, pair) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account/sessions/others").await;
    assert!(page.text.contains("Sign out 3 other places?"), "{}", page.text);
    let done = browser.submit(&page, "/account/sessions/others", &[]).await;
    let page = browser.follow(done).await;
    assert_eq!(handles(&page), Vec::<String>::new(), "{}", page.text);
    assert!(is_sent_to_sign_in(&phone.get(&at(&app, "/account")).await));
    for dead in [&phone_app, &pair] {
        assert_eq!(refresh(&app, dead).await.code(), "invalid_grant");
    }
    assert_eq!(told(&app).await.iter().filter(|name| *name == "session.revoked").count(), 2);
});

both_engines!(a_new_password_takes_the_old_one_ends_the_other_sessions_and_is_told_to_the_owner, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut phone, phone_app) = signed_in_as(&app, EMAIL, PASSWORD, IPHONE).await;
    let (mut browser, _) = signed_in(&app).await;
    let stolen = session_cookie(&browser, &app.tenant);
    let page = open(&app, &mut browser, "/account/password").await;
    for (old, new, words) in [
        ("", NEW_PASSWORD, "Enter your current password"),
        ("not the password", NEW_PASSWORD, "This is not your current password"),
        (PASSWORD, "", "Enter a new password"),
        (PASSWORD, "short", "Use at least 15 characters"),
        (PASSWORD, "alice@example.test", "without your name"),
    ] {
        let refused = browser.submit(&page, "/account/password", &[("current_password", old), ("password", new)]).await;
        assert_eq!(refused.status, 422, "{old} {new}");
        assert!(refused.text.contains(words) && refused.text.contains("role=\"alert\""), "{words}: {}", refused.text);
        assert!(!refused.text.contains(NEW_PASSWORD), "no password is written back");
    }
    assert!(told(&app).await.contains(&"authentication.password_failed".to_owned()));
    let mails = app.mails().await.len();
    let done = browser.submit(&page, "/account/password", &[("current_password", PASSWORD), ("password", NEW_PASSWORD)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let page = browser.follow(done).await;
    assert!(page.text.contains("Your password is changed"), "{}", page.text);
    assert_ne!(session_cookie(&browser, &app.tenant), stolen, "this browser goes on under another token");
    let mut thief = browser.clone();
    thief.set_cookie(&stolen.0, &stolen.1);
    assert!(is_sent_to_sign_in(&thief.get(&at(&app, "/account")).await), "a copy of the old cookie opens nothing");
    assert!(is_sent_to_sign_in(&phone.get(&at(&app, "/account")).await));
    assert_eq!(refresh(&app, &phone_app).await.code(), "invalid_grant");
    let all = app.mails().await;
    assert_eq!((all.len(), all[0].to.as_str(), all[0].subject.contains("password")), (mails + 1, EMAIL, true));
    let old = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(old.code(), "invalid_credentials");
    app.sign_in(EMAIL, NEW_PASSWORD).await;
});

both_engines!(who_has_no_password_sets_one, |app| async move {
    let made = app.api(Method::POST, "/user_management/users", json!({"email": EMAIL, "email_verified": true})).await;
    assert_eq!(made.status, 201);
    let mut browser = app.browser();
    let first = browser.get(&at(&app, "/account/password")).await;
    let page = browser.follow(first).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
    let page = browser.follow(sent).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = browser.submit(&page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(done.location().as_deref(), Some(at(&app, "/account/password").as_str()), "back to where they were going");
    let page = browser.follow(done).await;
    assert!(!page.text.contains("current_password"), "{}", page.text);
    let done = browser.submit(&page, "/account/password", &[("password", NEW_PASSWORD)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    app.sign_in(EMAIL, NEW_PASSWORD).await;
    let again = browser.submit(&page, "/account/password", &[("password", "and yet another one")]).await;
    assert_eq!(again.status, 422, "the form of before does not stand in for the password that is there now");
});

both_engines!(a_new_address_is_proved_before_the_old_one_goes, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.user("taken@example.test", PASSWORD).await;
    let (mut browser, pair) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account/email").await;
    for (typed, words) in [
        ("", "Enter your e-mail address"),
        ("not an address", "such as name@example.com"),
        (EMAIL, "This is your address already"),
        ("taken@example.test", "This address cannot be used"),
    ] {
        let refused = browser.submit(&page, "/account/email", &[("email", typed)]).await;
        assert_eq!(refused.status, 422, "{typed}");
        assert!(refused.text.contains(words), "{words}: {}", refused.text);
    }
    let sent = browser.submit(&page, "/account/email", &[("email", "new@example.test")]).await;
    assert_eq!(sent.location().as_deref(), Some(at(&app, "/account/email/code").as_str()));
    let overview = open(&app, &mut browser, "/account").await;
    assert!(overview.text.contains("new@example.test") && overview.text.contains(EMAIL), "{}", overview.text);
    let cancelled = browser.submit(&overview, "/account/email/cancel", &[]).await;
    assert!(!browser.follow(cancelled).await.text.contains("new@example.test"));

    browser.submit(&page, "/account/email", &[("email", "new@example.test")]).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let page = open(&app, &mut browser, "/account/email/code").await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(browser.submit(&page, "/account/email/code", &[("code", wrong)]).await.status, 422);
    let done = browser.submit(&page, "/account/email/code", &[("code", &code)]).await;
    assert!(done.status == 200 && done.text.contains("Your e-mail address is changed"), "{}", done.text);
    assert!(is_sent_to_sign_in(&browser.get(&at(&app, "/account")).await), "signed out here, too");
    assert_eq!(refresh(&app, &pair).await.code(), "invalid_grant");
    let told = app.mails().await.into_iter().find(|mail| mail.to == EMAIL && mail.text.contains("new@example.test"));
    assert!(told.is_some(), "the old address hears of it");
    app.sign_in("new@example.test", PASSWORD).await;
});

/// Every form that changes something: where its page is, where it goes, what it says.
type Fields = &'static [(&'static str, &'static str)];
const CHANGES: [(&str, &str, Fields); 6] = [
    ("/account/password", "/account/password", &[("current_password", PASSWORD), ("password", NEW_PASSWORD)]),
    ("/account/email", "/account/email", &[("email", "new@example.test")]),
    ("/account/email", "/account/email/code", &[("code", "000000")]),
    ("/account/email", "/account/email/cancel", &[]),
    ("/account/sessions/others", "/account/sessions/others", &[]),
    ("/account", "/account/sessions/end", &[("session", "session_x")]),
];

both_engines!(row_46_forms_from_elsewhere_change_nothing, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, pair) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account/password").await;
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (stranger, stranger_page) = {
        let mut stranger = app.browser();
        let first = stranger.get(&authorize(&app.tenant)).await;
        let page = stranger.follow(first).await;
        (stranger, page)
    };
    drop(stranger);
    let foreign = stranger_page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let before = open(&app, &mut browser, "/account").await;
    for action in
        ["/account/sessions/end", "/account/email/cancel", "/account/sign-out", "/account/factor/remove", "/account/authenticator/code"]
    {
        assert_eq!(browser.get(&at(&app, action)).await.status, 405, "{action} is no link");
    }
    let actions = CHANGES.iter().map(|(_, action, fields)| (*action, *fields));
    for (action, fields) in actions.chain([("/account/confirm", &[][..]), ("/account/sign-out", &[][..])]) {
        let client = ("client_id", app.tenant.client_id.as_str());
        for forged in ["", "forged", foreign.as_str()] {
            let fields: Vec<_> = fields.iter().copied().chain([client, ("csrf", forged)]).collect();
            assert_eq!(browser.post(action, &fields).await.status, 403, "{action} {forged}");
        }
        let mut elsewhere = browser.clone();
        elsewhere.headers.push((ORIGIN, "https://evil.example".to_owned()));
        let fields: Vec<_> = fields.iter().copied().chain([client, ("csrf", csrf.as_str())]).collect();
        assert_eq!(elsewhere.post(action, &fields).await.status, 403, "{action} from another origin");
    }
    assert_eq!(refresh(&app, &pair).await.status, 200);
    assert_eq!(handles(&open(&app, &mut browser, "/account").await), handles(&before));
    app.sign_in(EMAIL, PASSWORD).await;
});

both_engines!(a_change_takes_a_fresh_sign_in_and_then_comes_back, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, pair) = signed_in(&app).await;
    let mut pages = Vec::new();
    for (page, action, fields) in CHANGES {
        pages.push((open(&app, &mut browser, page).await, action, fields));
    }
    let csrf = pages[0].0.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    app.clock.advance(Duration::from_secs(601));
    for (_, action, fields) in &pages {
        let fields: Vec<_> =
            fields.iter().copied().chain([("client_id", app.tenant.client_id.as_str()), ("csrf", csrf.as_str())]).collect();
        let answer = browser.post(action, &fields).await;
        assert!(answer.location().is_some_and(|to| to.starts_with("/account/confirm?")), "{action}: {} {}", answer.status, answer.text);
    }
    assert_eq!(refresh(&app, &pair).await.status, 200, "nobody was signed out");
    app.sign_in(EMAIL, PASSWORD).await;
    assert!(open(&app, &mut browser, "/account").await.text.contains("This browser"), "looking takes no fresh sign-in");

    let away = browser.get(&at(&app, "/account/password")).await;
    let confirm = browser.follow(away).await;
    assert!(confirm.text.contains("Confirm it’s you"), "{}", confirm.text);
    let next = browser.submit(&confirm, "/account/confirm", &[]).await;
    assert!(is_sent_to_sign_in(&next), "a form to sign in at, although somebody is signed in");
    let page = browser.follow(next).await;
    assert!(page.text.contains(&format!("value=\"{EMAIL}\"")), "the address is filled in: {}", page.text);
    let before = session_cookie(&browser, &app.tenant);
    let back = sign_in_again(&mut browser, &page, PASSWORD).await;
    assert_eq!(back.location().as_deref(), Some(at(&app, "/account/password").as_str()));
    assert_ne!(session_cookie(&browser, &app.tenant), before, "row 44: a new session's cookie is new");
    assert!(browser.follow(back).await.text.contains("name=\"current_password\""), "and no second time");
    let overview = open(&app, &mut browser, "/account").await;
    assert_eq!(overview.text.matches("This browser").count(), 1, "{}", overview.text);
    assert!(!handles(&overview).iter().any(|handle| !handle.starts_with("session_")), "the session of before has ended");
});

both_engines!(row_49_sessions_of_others_are_not_found, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let (mut bob, bobs_app) = signed_in_as(&app, "bob@example.test", PASSWORD, IPHONE).await;
    let (mut bobs_second, _) = signed_in_as(&app, "bob@example.test", PASSWORD, IPHONE).await;
    let bobs = handles(&open(&app, &mut bob, "/account").await);
    assert_eq!(bobs.len(), 3);
    let page = open(&app, &mut browser, "/account").await;
    for handle in bobs.iter().map(String::as_str).chain(["", "session_01M7XQHHA6C4WS0QDDWXSXSVWY", "'; --"]) {
        assert_eq!(browser.submit(&page, "/account/sessions/end", &[("session", handle)]).await.status, 404, "{handle}");
    }
    assert_eq!(refresh(&app, &bobs_app).await.status, 200);
    open(&app, &mut bobs_second, "/account").await;
});

both_engines!(row_44_a_session_planted_in_another_browser_counts_for_nothing, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (attacker, _) = signed_in(&app).await;
    let (name, value) = session_cookie(&attacker, &app.tenant);
    let mut victim = app.browser();
    victim.get("/signed-out").await;
    victim.set_cookie(&name, &value);
    assert!(is_sent_to_sign_in(&victim.get(&at(&app, "/account")).await));
});

both_engines!(a_browser_that_signed_out_has_nothing_left, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let kept = browser.clone();
    let page = open(&app, &mut browser, "/account").await;
    let left = browser.submit(&page, "/account/sign-out", &[]).await;
    assert_eq!(left.location().as_deref(), Some("/signed-out"));
    for mut browser in [browser, kept] {
        assert!(is_sent_to_sign_in(&browser.get(&at(&app, "/account")).await));
        let posted = browser.submit(&page, "/account/sessions/end", &[("session", "x")]).await;
        assert!(is_sent_to_sign_in(&posted), "{}", posted.text);
    }
});

both_engines!(row_49_environments_do_not_mix, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, pair) = signed_in(&app).await;
    let theirs = format!("/account?client_id={}", app.other.client_id);
    assert!(is_sent_to_sign_in(&browser.get(&theirs).await), "a session of one environment is none in another");
    let (name, value) = session_cookie(&browser, &app.tenant);
    let other = app.other.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase();
    browser.set_cookie(&format!("gw_session_{other}"), &value);
    assert!(is_sent_to_sign_in(&browser.get(&theirs).await), "nor under the other's cookie");
    let page = open(&app, &mut browser, "/account/sessions/others").await;
    let posted = browser.submit(&page, "/account/sessions/others", &[("client_id", &app.other.client_id)]).await;
    assert!(is_sent_to_sign_in(&posted));
    assert_eq!(refresh(&app, &pair).await.status, 200);
    assert_eq!(browser.cookie(&name), Some(value.as_str()));
    assert_eq!(browser.get("/account?client_id=client_nobody").await.status, 400);
    let chosen = browser.get("/account").await;
    assert_eq!(chosen.location().as_deref(), Some(at(&app, "/account").as_str()), "where this browser is signed in");
});

both_engines!(row_04_no_parameter_leads_away, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    app.clock.advance(Duration::from_secs(601));
    for target in ["https://evil.example", "//evil.example", "/\\evil.example", "/account/password@evil.example", "javascript:alert(1)"] {
        let query = format!("&page={target}&return_to={target}&redirect_uri={target}&request={target}");
        let shown = browser.get(&format!("{}{query}", at(&app, "/account/confirm"))).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.text.contains("evil.example") && !shown.text.contains("javascript:"), "{}", shown.text);
        let next = browser.submit(&shown, "/account/confirm", &[("page", target), ("return_to", target)]).await;
        let page = browser.follow(next).await;
        let back = sign_in_again(&mut browser, &page, PASSWORD).await;
        assert_eq!(back.location().as_deref(), Some(at(&app, "/account").as_str()), "{target}");
        app.clock.advance(Duration::from_secs(601));
    }
});

both_engines!(row_14_the_pages_cannot_be_framed_or_cached, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    for path in ["/account", "/account/password", "/account/email", "/account/sessions/others"] {
        let page = open(&app, &mut browser, path).await;
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self';"), "{path}: {policy}");
    }
});

both_engines!(names_and_user_agents_are_never_markup, |app| async move {
    const HOSTILE: &str = "\"><script>alert('x')</script>";
    let user = app.user(EMAIL, PASSWORD).await;
    let path = format!("/user_management/users/{}", user["id"].as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &path, json!({"first_name": HOSTILE, "last_name": HOSTILE})).await.status, 200);
    signed_in_as(&app, EMAIL, PASSWORD, "<script>alert('x')</script> Your account is blocked, call 555 0100").await;
    let (mut browser, _) = signed_in_as(&app, EMAIL, PASSWORD, &format!("{CHROME} {HOSTILE}")).await;
    let page = open(&app, &mut browser, "/account").await;
    assert!(!page.text.contains("<script>alert") && !page.text.contains("555 0100"), "{}", page.text);
    assert!(page.text.contains("Unknown device") && page.text.contains("Chrome on macOS"), "{}", page.text);
});

/// The code that an authenticator app shows for the secret of a page.
fn app_code(app: &TestApp, setup: &Answer) -> String {
    let key = setup.text.split("id=\"key\">").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_else(|| panic!("{}", setup.text));
    let secret = gatewright_jose::totp::parse_secret(&key.replace(' ', "")).expect("base32");
    gatewright_jose::totp::code(&secret, gatewright_jose::totp::step_at(app.now())).reveal().clone()
}

async fn begin_setup(app: &TestApp, browser: &mut Browser<'_>) -> Answer {
    let page = open(app, browser, "/account/authenticator").await;
    let setup = browser.submit(&page, "/account/authenticator", &[]).await;
    assert_eq!(setup.status, 200, "{}", setup.text);
    setup
}

/// An authenticator app for whoever is signed in: the page with the recovery codes.
async fn enrol(app: &TestApp, browser: &mut Browser<'_>) -> Answer {
    let setup = begin_setup(app, browser).await;
    let done = browser.submit(&setup, "/account/authenticator/code", &[("code", &app_code(app, &setup))]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    done
}

fn factor_of(page: &Answer) -> String {
    page.text.split("factor=auth_factor_").nth(1).and_then(|rest| rest.split('"').next()).map(|id| format!("auth_factor_{id}")).unwrap()
}

both_engines!(an_authenticator_app_counts_from_its_first_right_code_on, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut elsewhere, _) = signed_in_as(&app, EMAIL, PASSWORD, IPHONE).await;
    let (mut browser, _) = signed_in(&app).await;
    let before = session_cookie(&browser, &app.tenant);
    let setup = begin_setup(&app, &mut browser).await;
    assert!(setup.text.contains("src=\"data:image/"), "{}", setup.text);
    let right = app_code(&app, &setup);
    let wrong = if right == "000000" { "000001" } else { "000000" };
    let refused = browser.submit(&setup, "/account/authenticator/code", &[("code", wrong)]).await;
    assert_eq!(refused.status, 422);
    assert_eq!(app_code(&app, &refused), right, "the same secret, to be tried again");
    assert!(open(&app, &mut browser, "/account").await.text.contains("a stolen password alone"), "it does not count yet");
    let done = browser.submit(&refused, "/account/authenticator/code", &[("code", &right)]).await;
    assert!(done.status == 200 && done.text.contains("Save your recovery codes"), "{}", done.text);
    let codes = done.text.split("class=\"codes\">").nth(1).unwrap().split("</code>").next().unwrap().split_whitespace().count();
    assert_eq!(codes, 10);
    assert_ne!(session_cookie(&browser, &app.tenant), before, "row 44: what is proved more goes by another cookie");
    assert!(app.mails().await[0].subject.contains("second step was added"));
    let page = open(&app, &mut browser, "/account").await;
    assert!(page.text.contains("10 left") && page.text.contains("Added now"), "{}", page.text);
    open(&app, &mut browser, "/account/password").await;
    let asked = elsewhere.get(&at(&app, "/account/password")).await;
    assert!(
        asked.location().is_some_and(|to| to.starts_with("/account/confirm")),
        "a sign-in without the factor changes nothing any more, however fresh: {}",
        asked.text
    );
    assert!(browser.submit(&refused, "/account/authenticator/code", &[("code", &right)]).await.status == 422, "row 32: a code works once");
});

both_engines!(a_factor_is_removed_unless_it_is_the_last_and_has_to_be_there, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    enrol(&app, &mut browser).await;
    let overview = open(&app, &mut browser, "/account").await;
    let id = factor_of(&overview);
    let page = browser.get(&format!("{}&factor={id}", at(&app, "/account/factor"))).await;
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Required).await;
    let refused = browser.submit(&page, "/account/factor/remove", &[]).await;
    assert!(refused.status == 422 && refused.text.contains("This one has to stay"), "{}", refused.text);
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Optional).await;
    let renewed = open(&app, &mut browser, "/account/recovery-codes").await;
    let renewed = browser.submit(&renewed, "/account/recovery-codes", &[]).await;
    assert!(
        renewed.text.contains("Save your recovery codes") && app.mails().await[0].subject.contains("recovery codes"),
        "{}",
        renewed.text
    );
    let removed = browser.submit(&page, "/account/factor/remove", &[]).await;
    assert_eq!(removed.status, 303, "{}", removed.text);
    assert!(app.mails().await[0].subject.contains("removed"));
    let overview = browser.follow(removed).await;
    assert!(overview.text.contains("a stolen password alone") && !overview.text.contains("auth_factor_"), "{}", overview.text);
    assert_eq!(browser.get(&at(&app, "/account/recovery-codes")).await.status, 404);
    assert_eq!(browser.submit(&page, "/account/factor/remove", &[]).await.status, 404, "once");
});

both_engines!(the_last_factor_stays_where_one_of_the_organizations_requires_it, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let organization = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].clone();
    let membership = json!({"user_id": user["id"], "organization_id": organization});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", membership).await.status, 201);
    let (mut browser, _) = signed_in(&app).await;
    enrol(&app, &mut browser).await;
    let id = factor_of(&open(&app, &mut browser, "/account").await);
    let page = browser.get(&format!("{}&factor={id}", at(&app, "/account/factor"))).await;
    let policy = format!("/organizations/{}/sign_in_policy", organization.as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &policy, json!({"mfa": "required"})).await.status, 200);
    let refused = browser.submit(&page, "/account/factor/remove", &[]).await;
    assert!(refused.status == 422 && refused.text.contains("This one has to stay"), "{}", refused.text);
    assert_eq!(app.api(Method::DELETE, &policy, Value::Null).await.status, 204);
    assert_eq!(browser.submit(&page, "/account/factor/remove", &[]).await.status, 303);
});

both_engines!(row_43_an_organization_that_requires_a_second_factor_makes_nobodys_password_shorter, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let organization = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].clone();
    let membership = json!({"user_id": user["id"], "organization_id": organization});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", membership).await.status, 201);
    let policy = format!("/organizations/{}/sign_in_policy", organization.as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &policy, json!({"mfa": "required"})).await.status, 200);
    let page = open(&app, &mut browser, "/account/password").await;
    let change = |password| [("current_password", PASSWORD), ("password", password)];
    // Enough beside a second factor, and other organizations are entered without one.
    let refused = browser.submit(&page, "/account/password", &change("otter gown haz")).await;
    assert!(refused.status == 422 && refused.text.contains("15 characters"), "{} {}", refused.status, refused.text);
    assert_eq!(browser.submit(&page, "/account/password", &change("otter gown haze")).await.status, 303);
});

both_engines!(row_49_factors_of_others_are_not_found, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let (mut bob, _) = signed_in_as(&app, "bob@example.test", PASSWORD, IPHONE).await;
    let bobs_setup = begin_setup(&app, &mut bob).await;
    let challenge = bobs_setup.text.split("name=\"challenge\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let sealed = bobs_setup.text.split("name=\"setup\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let code = app_code(&app, &bobs_setup);
    let (mut browser, _) = signed_in(&app).await;
    let mine = begin_setup(&app, &mut browser).await;
    for fields in [
        vec![("challenge", challenge.as_str())],
        vec![("challenge", challenge.as_str()), ("setup", sealed.as_str())],
        vec![("setup", sealed.as_str())],
    ] {
        let fields: Vec<_> = fields.into_iter().chain([("code", code.as_str())]).collect();
        assert_eq!(browser.submit(&mine, "/account/authenticator/code", &fields).await.status, 404, "{fields:?}");
    }
    enrol(&app, &mut bob).await;
    let bobs = factor_of(&open(&app, &mut bob, "/account").await);
    enrol(&app, &mut browser).await;
    let my_factor = factor_of(&open(&app, &mut browser, "/account").await);
    let page = browser.get(&format!("{}&factor={my_factor}", at(&app, "/account/factor"))).await;
    for id in [bobs.as_str(), "", "auth_factor_01M7XQHHA6C4WS0QDDWXSXSVWY"] {
        assert_eq!(browser.get(&format!("{}&factor={id}", at(&app, "/account/factor"))).await.status, 404, "{id}");
        assert_eq!(browser.submit(&page, "/account/factor/remove", &[("factor", id)]).await.status, 404, "{id}");
    }
    assert_eq!(factor_of(&open(&app, &mut bob, "/account").await), bobs);
});

both_engines!(nobody_enrols_a_factor_where_none_is_asked_for, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.settings(|settings| settings.mfa = crate::features::records::environments::Mfa::Off).await;
    let (mut browser, _) = signed_in(&app).await;
    assert!(!open(&app, &mut browser, "/account").await.text.contains("id=\"two-step\""));
    for path in ["/account/authenticator", "/account/phone"] {
        assert_eq!(browser.get(&at(&app, path)).await.status, 404, "{path}");
    }
});

/// A passkey made at the page, as its script makes it.
async fn add_passkey(app: &TestApp, browser: &mut Browser<'_>, name: &str) -> String {
    let page = open(app, browser, "/account/passkeys/new").await;
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let common = [("csrf", csrf.as_str()), ("client_id", app.tenant.client_id.as_str()), ("name", name)];
    let asked = browser.post("/account/passkeys/options", &common).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let made = gatewright_webauthn::testkit::Authenticator::new("http://localhost:4700").register(&asked.body["publicKey"]).to_string();
    let created = browser.post("/account/passkeys", &[&common[..], &[("credential", made.as_str())]].concat()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.body["id"].as_str().unwrap().to_owned()
}

both_engines!(a_passkey_is_added_renamed_and_removed_and_the_owner_is_told, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let id = add_passkey(&app, &mut browser, "My <b>MacBook</b>").await;
    assert!(app.mails().await[0].subject.contains("passkey was added"));
    let overview = open(&app, &mut browser, "/account").await;
    assert!(overview.text.contains("Your passkey is ready") && overview.text.contains("My &lt;b&gt;MacBook"), "{}", overview.text);
    let page = browser.get(&format!("{}&passkey={id}", at(&app, "/account/passkey"))).await;
    assert_eq!(browser.submit(&page, "/account/passkey/rename", &[("name", " ")]).await.status, 422);
    assert_eq!(browser.submit(&page, "/account/passkey/rename", &[("name", "Key ring")]).await.status, 303);
    assert!(open(&app, &mut browser, "/account").await.text.contains("Key ring"));
    app.settings(|settings| (settings.password, settings.magic_auth) = (false, false)).await;
    let refused = browser.submit(&page, "/account/passkey/remove", &[]).await;
    assert!(refused.status == 422 && refused.text.contains("the only way you sign in"), "{}", refused.text);
    app.settings(|settings| settings.magic_auth = true).await;
    assert_eq!(browser.submit(&page, "/account/passkey/remove", &[]).await.status, 303);
    assert!(app.mails().await[0].subject.contains("passkey was removed"));
    assert_eq!(browser.submit(&page, "/account/passkey/remove", &[]).await.status, 404, "once");
});

both_engines!(row_49_passkeys_of_others_are_not_found, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let (mut bob, _) = signed_in_as(&app, "bob@example.test", PASSWORD, IPHONE).await;
    let bobs = add_passkey(&app, &mut bob, "Bob's").await;
    let (mut browser, _) = signed_in(&app).await;
    let mine = add_passkey(&app, &mut browser, "mine").await;
    let page = browser.get(&format!("{}&passkey={mine}", at(&app, "/account/passkey"))).await;
    for id in [bobs.as_str(), "", "passkey_01M7XQHHA6C4WS0QDDWXSXSVWY"] {
        assert_eq!(browser.get(&format!("{}&passkey={id}", at(&app, "/account/passkey"))).await.status, 404, "{id}");
        for (action, fields) in
            [("/account/passkey/rename", &[("passkey", id), ("name", "stolen")][..]), ("/account/passkey/remove", &[("passkey", id)])]
        {
            assert_eq!(browser.submit(&page, action, fields).await.status, 404, "{action} {id}");
        }
    }
    assert!(open(&app, &mut bob, "/account").await.text.contains("Bob&#39;s"));
});

both_engines!(row_46_no_passkey_is_made_by_another_site_or_long_after_a_sign_in, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account/passkeys/new").await;
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let client = ("client_id", app.tenant.client_id.as_str());
    for action in ["/account/passkeys/options", "/account/passkeys"] {
        assert_eq!(browser.post(action, &[client, ("csrf", "forged")]).await.code(), "invalid_csrf_token");
        let mut elsewhere = browser.clone();
        elsewhere.headers.push((ORIGIN, "https://evil.example".to_owned()));
        assert_eq!(elsewhere.post(action, &[client, ("csrf", csrf.as_str())]).await.code(), "invalid_csrf_token");
    }
    app.clock.advance(Duration::from_secs(601));
    for action in ["/account/passkeys/options", "/account/passkeys"] {
        assert_eq!(browser.post(action, &[client, ("csrf", csrf.as_str())]).await.code(), "recent_sign_in_required");
    }
});

#[tokio::test(flavor = "multi_thread")]
async fn row_42_at_a_browser_left_open_passwords_and_codes_are_guessed_a_few_times_a_minute() {
    let app = TestApp::start_with(crate::testkit::On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.authenticate_per_email = 3;
    })
    .await;
    app.user(EMAIL, PASSWORD).await;
    let (mut browser, _) = signed_in(&app).await;
    let page = open(&app, &mut browser, "/account/password").await;
    let guess = |old| [("current_password", old), ("password", NEW_PASSWORD)];
    for _ in 0..3 {
        assert_eq!(browser.submit(&page, "/account/password", &guess("not the password")).await.status, 422);
    }
    assert_eq!(browser.submit(&page, "/account/password", &guess(PASSWORD)).await.status, 429, "even the right one");

    let page = open(&app, &mut browser, "/account/email").await;
    browser.submit(&page, "/account/email", &[("email", "new@example.test")]).await;
    let page = open(&app, &mut browser, "/account/email/code").await;
    let code = app.mails().await[0].code.clone().unwrap();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..3 {
        assert_eq!(browser.submit(&page, "/account/email/code", &[("code", wrong)]).await.status, 422);
    }
    assert_eq!(browser.submit(&page, "/account/email/code", &[("code", &code)]).await.status, 429, "even the right one");
}
