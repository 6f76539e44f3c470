use std::time::Duration;

use axum::http::Method;
use axum::http::header::HOST;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";

fn url(app: &TestApp, redirect_uri: &str, extra: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(redirect_uri.as_bytes()).collect();
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={encoded}&provider=authkit{extra}",
        app.tenant.client_id
    )
}

fn is_page_of_its_own(answer: &Answer) {
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.location().is_none());
    assert!(answer.header("content-type").unwrap().starts_with("text/html"));
}

both_engines!(row_01_and_02_an_unregistered_redirect_uri_gets_a_page_and_is_never_sent_to, |app| async move {
    app.api(Method::POST, "/user_management/redirect_uris", json!({"uri": "https://app.example/callback"})).await;
    for uri in [
        "https://app.example/callback/",
        "https://app.example/Callback",
        "https://app.example:444/callback",
        "https://app.example/callback/x",
        "https://app.example/callback/../evil",
        "https://app.example/callback%2fx",
        "https://user@app.example/callback",
        "https://app.example/callback#x",
        "https://app.example/callback?next=x",
        "https://app.example.evil.example/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.app:/callback",
        "//app.example/callback",
        "https://app.example/callback\r\nX: y",
    ] {
        is_page_of_its_own(&app.browser().get(&url(&app, uri, "")).await);
    }
    let good = app.browser().get(&url(&app, "https://app.example/callback", "")).await;
    assert_eq!(good.status, 302);
    assert!(good.location().unwrap().starts_with("/sign-in?request=authorization_request_"));
});

both_engines!(row_03_repeated_client_or_redirect_uri_is_refused_on_a_page, |app| async move {
    for extra in [format!("&redirect_uri={CALLBACK}"), format!("&client_id={}", app.tenant.client_id)] {
        is_page_of_its_own(&app.browser().get(&url(&app, CALLBACK, &extra)).await);
    }
    let repeated_state = app.browser().get(&url(&app, CALLBACK, "&state=a&state=b")).await;
    assert_eq!(repeated_state.location_parameter("error").as_deref(), Some("invalid_request"));
});

both_engines!(an_unknown_client_gets_a_page, |app| async move {
    is_page_of_its_own(
        &app.browser()
            .get(&format!("/user_management/authorize?response_type=code&client_id=client_x&redirect_uri={CALLBACK}&provider=authkit"))
            .await,
    );
});

both_engines!(other_mistakes_go_back_to_the_app_with_the_state, |app| async move {
    for (extra, error) in [
        ("&state=s&provider=GoogleOAuth", "invalid_request"),
        ("&state=s&code_challenge=x&code_challenge_method=plain", "invalid_request"),
        ("&state=s&request_uri=https://evil.example/r", "request_not_supported"),
        ("&state=s&prompt=none", "login_required"),
        ("&state=s&organization_id=org_x", "organization_invalid"),
        ("&state=s&organization_id=org_x&connection_id=conn_x", "ambiguous_connection_selector"),
        ("&state=s&connection_id=conn_x", "ambiguous_connection_selector"),
    ] {
        let answer = app.browser().get(&url(&app, CALLBACK, extra)).await;
        assert_eq!(answer.status, 302, "{extra}");
        assert!(answer.location().unwrap().starts_with(CALLBACK));
        assert_eq!(answer.location_parameter("error").as_deref(), Some(error), "{extra}");
        assert_eq!(answer.location_parameter("state").as_deref(), Some("s"));
    }
});

both_engines!(a_second_app_signs_in_without_asking_again, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    let first = browser.sign_in(&url(&app, CALLBACK, "&state=1"), EMAIL, PASSWORD).await;
    assert!(first.location_parameter("code").is_some());
    let second = browser.get(&url(&app, "http://localhost:9000/cb", "&state=2")).await;
    assert_eq!(second.status, 302);
    assert_eq!(second.location_parameter("state").as_deref(), Some("2"));
    let code = second.location_parameter("code").expect("no page in between");
    assert_eq!(app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.status, 200);
    for again in ["&max_age=0", "&prompt=login"] {
        let asked = browser.get(&url(&app, CALLBACK, again)).await;
        assert!(asked.location().unwrap().starts_with("/sign-in?"), "{again} asks for a fresh sign-in");
    }
    app.clock.advance(Duration::from_secs(61));
    assert!(browser.get(&url(&app, CALLBACK, "&max_age=60")).await.location().unwrap().starts_with("/sign-in?"));
    assert!(browser.get(&url(&app, CALLBACK, "&max_age=3600")).await.location_parameter("code").is_some());
});

both_engines!(row_12_a_hint_is_no_proof_and_without_a_session_nobody_is_let_in, |app| async move {
    let alice = app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    for hint in [EMAIL, "bob@example.test", "nobody@example.test"] {
        let silent = app.browser().get(&url(&app, CALLBACK, &format!("&login_hint={hint}&prompt=none"))).await;
        assert_eq!(silent.location_parameter("error").as_deref(), Some("login_required"), "{hint}");
        let mut browser = app.browser();
        let asked = browser.get(&url(&app, CALLBACK, &format!("&login_hint={hint}&max_age=0"))).await;
        let page = browser.follow(asked).await;
        assert!(page.text.contains(hint) && page.text.contains("action=\"/sign-in\""), "{}", page.text);
    }
    // Who is signed in stays who they are, whomever the link names.
    let mut browser = app.browser();
    browser.sign_in(&url(&app, CALLBACK, ""), EMAIL, PASSWORD).await;
    let back = browser.get(&url(&app, CALLBACK, "&login_hint=bob@example.test")).await;
    let code = back.location_parameter("code").expect("signed in already");
    let session = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(session.body["user"]["id"], alice["id"], "{}", session.text);
});

// Nobody else's word for an address counts here yet: there is no sign-in by a social provider or a connection, and none may appear by
// parameters that SDKs know.
both_engines!(row_29_no_providers_word_for_an_address_signs_in_or_is_linked, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    for provider in ["AppleOAuth", "GitHubOAuth", "GoogleOAuth", "MicrosoftOAuth"] {
        let path = url(&app, CALLBACK, &format!("&login_hint={EMAIL}")).replace("provider=authkit", &format!("provider={provider}"));
        let answer = app.browser().get(&path).await;
        assert_eq!(answer.location_parameter("error").as_deref(), Some("connection_invalid"), "{provider}: {}", answer.text);
        assert_eq!(answer.location_parameter("code"), None);
    }
    let identities = app.api(Method::GET, &format!("/user_management/users/{}/identities", user["id"].as_str().unwrap()), json!({})).await;
    assert_eq!((identities.status, &identities.body), (200, &json!([])), "{}", identities.text);
});

both_engines!(row_31_no_connections_word_for_an_address_signs_in, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let organization = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].as_str().unwrap().to_owned();
    for selector in ["connection_id=conn_01EXAMPLE".to_owned(), format!("organization_id={organization}")] {
        let path = url(&app, CALLBACK, &format!("&login_hint={EMAIL}")).replace("provider=authkit", &selector);
        let answer = app.browser().get(&path).await;
        assert_eq!(answer.location_parameter("error").as_deref(), Some("connection_invalid"), "{selector}: {}", answer.text);
        assert_eq!(answer.location_parameter("code"), None);
    }
});

both_engines!(row_09_a_request_opens_in_the_browser_that_started_it_only, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut attacker = app.browser();
    let started = attacker.get(&url(&app, CALLBACK, "&state=attacker")).await;
    let page = attacker.get(&started.location().unwrap()).await;
    assert_eq!(page.status, 200);
    let mut victim = app.browser();
    let first_visit = victim.get(&started.location().unwrap()).await;
    assert_eq!(first_visit.status, 403, "no cookie of that request");
    let lured = victim.get(&started.location().unwrap()).await;
    assert_eq!(lured.status, 403);
    let posted = victim.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    assert_eq!(posted.status, 403, "rows 46 and 47: the attacker's form in the victim's browser");
});

both_engines!(row_44_each_sign_in_makes_a_new_browser_session_and_a_planted_one_is_not_adopted, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let name = format!("gw_session_{}", app.tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    let mut browser = app.browser();
    browser.set_cookie(&name, "planted-by-somebody-else");
    browser.sign_in(&url(&app, CALLBACK, ""), EMAIL, PASSWORD).await;
    let first = browser.cookie(&name).unwrap().to_owned();
    assert_ne!(first, "planted-by-somebody-else");
    browser.sign_in(&url(&app, CALLBACK, "&prompt=login"), EMAIL, PASSWORD).await;
    assert_ne!(browser.cookie(&name).unwrap(), first);
});

both_engines!(row_14_and_15_pages_forbid_frames_and_leak_no_referrer, |app| async move {
    let mut browser = app.browser();
    let started = browser.get(&url(&app, CALLBACK, "")).await;
    let page = browser.get(&started.location().unwrap()).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"),
        "{policy}"
    );
    assert!(policy.contains("form-action 'self' http://localhost:8000"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("same-origin"), "a code in a URL never reaches another site");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("cache-control"), Some("no-store"), "row 71");
    assert!([302, 303].contains(&started.status));
});

both_engines!(row_35_no_header_moves_a_link, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let forged = [
        (HOST, "evil.example"),
        ("x-forwarded-host".parse().unwrap(), "evil.example"),
        ("x-forwarded-proto".parse().unwrap(), "https"),
        ("forwarded".parse().unwrap(), "host=evil.example"),
        ("origin".parse().unwrap(), "https://evil.example"),
    ];
    let bearer = format!("Bearer {}", app.tenant.api_key);
    let mut headers = forged.to_vec();
    headers.push((axum::http::header::AUTHORIZATION, &bearer));
    let made = app.with_headers(Method::POST, "/user_management/password_reset", json!({"email": EMAIL}), &headers).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(made.body["password_reset_url"].as_str().unwrap().starts_with("http://localhost:4700/reset-password?token="));
    let device =
        app.with_headers(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id}), &forged).await;
    assert!(device.body["verification_uri"].as_str().unwrap().starts_with("http://localhost:4700/device"), "{}", device.text);
    for mail in app.mails().await {
        assert!(!mail.text.contains("evil.example") && !mail.html.contains("evil.example"));
    }
});

both_engines!(signing_out_ends_the_session_and_returns_where_it_may, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    let signed_in = browser.sign_in(&url(&app, CALLBACK, ""), EMAIL, PASSWORD).await;
    let code = signed_in.location_parameter("code").unwrap();
    let pair = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.body;
    let user = pair["user"]["id"].as_str().unwrap();
    let sessions = app.api(Method::GET, &format!("/user_management/users/{user}/sessions"), Value::Null).await;
    let session = sessions.body["data"][0]["id"].as_str().unwrap().to_owned();
    let logout = |extra: &str| format!("/user_management/sessions/logout?session_id={session}{extra}");
    for off_site in ["https://evil.example", "//evil.example", "/\\evil.example", "https:%09//evil.example", "javascript:alert(1)"] {
        let refused = browser.get(&logout(&format!("&return_to={off_site}"))).await;
        assert_eq!(refused.status, 422, "row 4: {off_site}");
        assert!(refused.location().is_none());
    }
    let out = browser.get(&logout("&return_to=http://localhost:8000/")).await;
    assert_eq!((out.status, out.location().as_deref()), (302, Some("http://localhost:8000/")));
    let renewed = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]})).await;
    assert_eq!(renewed.code(), "invalid_grant");
    let next = browser.get(&url(&app, CALLBACK, "")).await;
    assert!(next.location().unwrap().starts_with("/sign-in?"), "the browser is signed out here, too");
    let again = browser.get(&logout("")).await;
    assert_eq!((again.status, again.location().as_deref()), (302, Some("/signed-out")), "an ended session still redirects");
    let unknown = browser.get("/user_management/sessions/logout?session_id=session_x").await;
    assert_eq!(unknown.location().as_deref(), Some("/signed-out"));
    assert_eq!(browser.get("/user_management/sessions/logout").await.status, 422);
});
