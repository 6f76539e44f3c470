use axum::http::{HeaderName, Method};
use gatewright_jose::totp;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::features::credentials::visitor_checks::TRIES;
use crate::platform::config::ChallengeProvider;
use crate::testkit::{Answer, Browser, On, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";

/// Where three tries a minute and two accounts an hour are the limit of a network.
async fn narrow(on: On, provider: ChallengeProvider) -> TestApp {
    TestApp::start_with(on, |config| {
        config.limits.enabled = true;
        (config.limits.hosted_per_ip, config.limits.sign_ups_per_ip) = (3, 2);
        (config.limits.authenticate_per_email, config.limits.hosted_per_email) = (1_000, 1_000);
        config.trusted_proxies = vec!["127.0.0.1".to_owned()];
        config.challenge.provider = provider;
        config.challenge.difficulty = 8;
        if provider != ChallengeProvider::ProofOfWork {
            (config.challenge.site_key, config.challenge.secret) = (Some("site-key".to_owned()), Some("site-secret".to_owned().into()));
        }
    })
    .await
}

async fn open<'a>(app: &'a TestApp, address: &str, extra: &str) -> (Browser<'a>, Answer) {
    let mut browser = app.browser();
    browser.headers.push((HeaderName::from_static("x-forwarded-for"), address.to_owned()));
    let authorize = format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit{extra}",
        app.tenant.client_id
    );
    let first = browser.get(&authorize).await;
    let page = browser.follow(first).await;
    assert_eq!(page.status, 200, "{}", page.text);
    (browser, page)
}

fn attribute<'a>(page: &'a Answer, name: &str) -> &'a str {
    page.text.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_else(|| panic!("{}", page.text))
}

fn solution(page: &Answer) -> String {
    let (challenge, bits): (_, u32) = (attribute(page, "data-challenge"), attribute(page, "data-bits").parse().unwrap());
    let solves = |number: &String| {
        let digest = Sha256::digest(format!("{challenge}.{number}"));
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).leading_zeros() >= bits
    };
    (0_u32..).map(|number| number.to_string()).find(solves).unwrap()
}

fn is_check(answer: &Answer) -> bool {
    answer.location().is_some_and(|location| location.starts_with("/check?request="))
}

/// Uses up what a network may try in the minute.
async fn crowd(app: &TestApp, address: &str) {
    let (mut browser, page) = open(app, address, "").await;
    for _ in 0..3 {
        browser.submit(&page, "/sign-in", &[("email", "nobody@example.test")]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_over_the_limit_of_its_network_a_browser_works_for_its_tries() {
    for on in if std::env::var_os("GATEWRIGHT_TEST_PG").is_some() { vec![On::Sqlite, On::Postgres] } else { vec![On::Sqlite] } {
        let app = narrow(on, ChallengeProvider::ProofOfWork).await;
        app.user(EMAIL, PASSWORD).await;
        crowd(&app, "2001:db8::1").await;
        // The whole /64 is one network; the next one is another.
        let (mut elsewhere, page) = open(&app, "2001:db8:0:1::1", "").await;
        assert!(!is_check(&elsewhere.submit(&page, "/sign-in", &[("email", EMAIL)]).await));
        let (mut browser, page) = open(&app, "2001:db8::ffff:1", "").await;
        let ours = ["csrf", "request"].map(|name| (name, attribute(&page, &format!("name=\"{name}\" value"))));
        for asked in 0..5 {
            assert_eq!(browser.post("/sign-in/passkey/options", &ours).await.status, 200, "{asked}");
        }
        assert!(is_check(&browser.submit(&page, "/sign-in/passkey", &[("credential", "{}")]).await), "with a passkey, too");
        let sent = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        assert!(is_check(&sent), "{} {}", sent.status, sent.text);
        let check = browser.follow(sent).await;
        assert!(check.text.contains("Wait 1 minute,"), "who cannot calculate waits: {}", check.text);
        assert!(check.header("content-security-policy").unwrap().contains("script-src 'self';"), "nobody else's script");
        let found = solution(&check);
        for wrong in ["", "0x1", "no number"] {
            assert_eq!(browser.submit(&check, "/check", &[("solution", wrong)]).await.status, 422, "{wrong}");
        }
        // Somebody else's browser cannot bring it.
        let (mut thief, thiefs) = open(&app, "2001:db8::2", "").await;
        let posted = thief.submit(&thiefs, "/sign-in", &[("email", EMAIL)]).await;
        let thiefs_check = thief.follow(posted).await;
        let stolen = [("challenge", attribute(&check, "data-challenge")), ("solution", found.as_str())];
        assert_eq!(thief.submit(&thiefs_check, "/check", &stolen).await.status, 422);
        let passed = browser.submit(&check, "/check", &[("solution", &found)]).await;
        assert_eq!(passed.status, 303, "{}", passed.text);
        let page = browser.follow(passed).await;
        assert!(page.text.contains(&format!("value=\"{EMAIL}\"")), "typed once is enough: {}", page.text);
        assert_eq!(browser.submit(&check, "/check", &[("solution", &found)]).await.status, 422, "it counts once");
        for left in (0..TRIES).rev() {
            let answer = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
            assert!(!is_check(&answer), "{left} are left");
        }
        assert!(is_check(&browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await), "five tries and no more");
        // Ten times the limit is the end even of that.
        for _ in 0..40 {
            browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        }
        assert_eq!(browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_new_accounts_is_checked_before_the_form_and_a_check_for_one_thing_is_none_for_another() {
    let app = narrow(On::Sqlite, ChallengeProvider::ProofOfWork).await;
    for number in 0..2 {
        let (mut browser, page) = open(&app, "203.0.113.9", "&screen_hint=sign-up").await;
        let email = format!("new{number}@example.test");
        assert_eq!(browser.submit(&page, "/sign-up", &[("email", &email), ("password", PASSWORD)]).await.status, 303);
    }
    let (mut browser, page) = open(&app, "203.0.113.9", "&screen_hint=sign-up").await;
    assert!(page.text.contains("action=\"/check\""), "the check comes first: {}", page.text);
    assert!(page.text.contains("Wait 60 minutes,"), "the limit is one of an hour: {}", page.text);
    // Solved for another page, it does not open this one.
    let request = attribute(&page, "name=\"request\" value").to_owned();
    let for_mail = browser.get(&format!("/check?request={request}&step=/forgot-password")).await;
    let moved = [("challenge", attribute(&for_mail, "data-challenge")), ("solution", &solution(&for_mail)), ("step", "/sign-up")];
    assert_eq!(browser.submit(&page, "/check", &moved).await.status, 422);
    let passed = browser.submit(&page, "/check", &[("solution", &solution(&page))]).await;
    let form = browser.follow(passed).await;
    let made = browser.submit(&form, "/sign-up", &[("email", "third@example.test"), ("password", PASSWORD)]).await;
    assert!(made.location().is_some_and(|there| there.starts_with("/verify-email")), "{} {}", made.status, made.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_flood_of_accounts_by_mailed_codes_is_checked_like_one_by_the_form() {
    for on in if std::env::var_os("GATEWRIGHT_TEST_PG").is_some() { vec![On::Sqlite, On::Postgres] } else { vec![On::Sqlite] } {
        let app = TestApp::start_with(on, |config| {
            config.limits.enabled = true;
            (config.limits.sign_ups_per_ip, config.challenge.difficulty) = (2, 8);
        })
        .await;
        app.user(EMAIL, PASSWORD).await;
        let (mut owner, page) = open(&app, "203.0.113.9", "").await;
        let next = owner.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        let page = owner.follow(next).await;
        assert_eq!(owner.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await.status, 303);
        for number in 0..2 {
            let (mut browser, page) = to_password(&app, &format!("new{number}@example.test")).await;
            let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
            assert!(sent.location().is_some_and(|there| there.starts_with("/sign-in/code?")), "{}", sent.text);
        }
        // Whether the address is somebody's or not.
        for email in ["new2@example.test", EMAIL] {
            let (mut browser, page) = to_password(&app, email).await;
            let mails = app.mails().await.len();
            let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
            assert!(is_check(&sent), "{email}: {} {}", sent.status, sent.text);
            assert_eq!(app.mails().await.len(), mails);
            let check = browser.follow(sent).await;
            let passed = browser.submit(&check, "/check", &[("solution", &solution(&check))]).await;
            let page = browser.follow(passed).await;
            let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
            assert!(sent.location().is_some_and(|there| there.starts_with("/sign-in/code?")), "{}", sent.text);
        }
        // The owner is known in the browser that they signed in in, and makes no account there.
        let authorize = format!(
            "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&prompt=login",
            app.tenant.client_id
        );
        let first = owner.get(&authorize).await;
        let page = owner.follow(first).await;
        let next = owner.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        let page = owner.follow(next).await;
        let sent = owner.submit(&page, "/sign-in/code/send", &[]).await;
        assert!(sent.location().is_some_and(|there| there.starts_with("/sign-in/code?")), "{} {}", sent.status, sent.text);
    }
}

async fn to_password<'a>(app: &'a TestApp, email: &str) -> (Browser<'a>, Answer) {
    let (mut browser, page) = open(app, "203.0.113.9", "").await;
    let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
    let page = browser.follow(next).await;
    (browser, page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_crowded_network_keeps_nobody_from_a_second_factor_or_a_passkey() {
    let app = narrow(On::Sqlite, ChallengeProvider::ProofOfWork).await;
    let user = app.user(EMAIL, PASSWORD).await;
    let factors = format!("/user_management/users/{}/auth_factors", user["id"].as_str().unwrap());
    let secret = "jbsw y3dp ehpk 3pxp";
    let enrolled = app.api(Method::POST, &factors, json!({"type": "totp", "totp_secret": secret})).await;
    assert_eq!(enrolled.status, 201, "{}", enrolled.text);
    let (mut browser, page) = to_password(&app, EMAIL).await;
    let next = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    let page = browser.follow(next).await;
    assert!(page.text.contains("action=\"/mfa\""), "{}", page.text);
    crowd(&app, "203.0.113.9").await;
    let code = totp::code(&totp::parse_secret(secret).unwrap(), totp::step_at(app.now())).reveal().clone();
    let sent = browser.submit(&page, "/mfa", &[("code", &code)]).await;
    assert!(is_check(&sent), "{} {}", sent.status, sent.text);
    let check = browser.follow(sent).await;
    let passed = browser.submit(&check, "/check", &[("solution", &solution(&check))]).await;
    assert!(passed.location().is_some_and(|there| there.starts_with("/mfa?request=")), "{}", passed.text);
    let page = browser.follow(passed).await;
    let done = browser.submit(&page, "/mfa", &[("code", &code)]).await;
    assert!(done.location_parameter("code").is_some(), "{} {}", done.status, done.text);
    let (mut browser, page) = open(&app, "203.0.113.9", "").await;
    assert!(is_check(&browser.submit(&page, "/sign-in/passkey", &[("credential", "{}")]).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_asked_lets_nobody_pass_and_only_its_page_may_run_its_script() {
    for (provider, origin) in
        [(ChallengeProvider::Turnstile, "https://challenges.cloudflare.com"), (ChallengeProvider::Hcaptcha, "https://hcaptcha.com")]
    {
        let app = narrow(On::Sqlite, provider).await;
        crowd(&app, "203.0.113.9").await;
        let (mut browser, page) = open(&app, "203.0.113.9", "").await;
        assert!(!page.header("content-security-policy").unwrap().contains(origin));
        let sent = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
        let check = browser.follow(sent).await;
        assert!(check.header("content-security-policy").unwrap().contains(origin));
        assert!(check.text.contains("data-sitekey=\"site-key\"") && !check.text.contains("site-secret"), "{}", check.text);
        for response in ["", "a response"] {
            let fields = [("cf-turnstile-response", response), ("h-captcha-response", response), ("solution", "1")];
            assert_eq!(browser.submit(&check, "/check", &fields).await.status, 422, "{provider:?}");
        }
        assert_eq!(app.network.looked_up().len(), 1, "asked once, for the response that was one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_rows_of_sign_ins_that_pages_begin_are_counted_like_those_of_apps() {
    let app = TestApp::start_with(On::Sqlite, |config| (config.limits.enabled, config.limits.authorize_per_ip) = (true, 3)).await;
    let asked = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await;
    let mut browser = app.browser();
    let page = browser.get("/device").await;
    let user_code = asked.body["user_code"].as_str().unwrap();
    assert_eq!(browser.submit(&page, "/device", &[("user_code", user_code)]).await.status, 303);
    let (device, passkey) = (format!("/device/confirm?user_code={user_code}"), format!("/passkeys/new?client_id={}", app.tenant.client_id));
    for path in [&device, &passkey, &device] {
        assert_eq!(browser.get(path).await.status, 303, "{path}");
    }
    for path in [&device, &passkey] {
        let refused = browser.get(path).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_checks_off_whoever_is_over_the_limit_waits() {
    let app = narrow(On::Sqlite, ChallengeProvider::Off).await;
    crowd(&app, "203.0.113.9").await;
    let (mut browser, page) = open(&app, "203.0.113.9", "").await;
    let refused = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")), "{}", refused.text);
    // An hour is over later than a minute, and the page says so too.
    let later = std::time::Duration::from_secs(61);
    for number in 0..3 {
        app.clock.advance(later);
        let (mut browser, page) = open(&app, "203.0.113.9", "&screen_hint=sign-up").await;
        let filled = [("email", format!("new{number}@example.test")), ("password", PASSWORD.to_owned())];
        let filled: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = browser.submit(&page, "/sign-up", &filled).await;
        let wait = (number == 2).then_some("3480");
        assert_eq!((answer.status, answer.header("retry-after")), (if number == 2 { 429 } else { 303 }, wait), "{}", answer.text);
        assert!(number < 2 || answer.text.contains("58 minutes"), "{}", answer.text);
    }
    let request = attribute(&page, "name=\"request\" value").to_owned();
    let check = browser.get(&format!("/check?request={request}&step=https://evil.example")).await;
    assert_eq!(check.location().as_deref(), Some(format!("/sign-in?request={request}").as_str()));
}
