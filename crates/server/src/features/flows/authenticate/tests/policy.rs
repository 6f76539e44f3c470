//! Sign-in policies where they bite: at the choice of an organization, at every other way in, and at the next refresh of what was
//! opened before.

use std::time::Duration;

use axum::http::Method;
use gatewright_db::params;
use gatewright_jose::totp;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";
const WANTED: &str = "organization_authentication_methods_required";
const HOUR: Duration = Duration::from_secs(3_600);

async fn good(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let answer = app.api(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

async fn organization(app: &TestApp, name: &str) -> String {
    good(app, Method::POST, "/organizations", json!({"name": name})).await["id"].as_str().unwrap().to_owned()
}

async fn member(app: &TestApp, user: &Value, organization: &str) {
    let body = json!({"user_id": user["id"], "organization_id": organization});
    good(app, Method::POST, "/user_management/organization_memberships", body).await;
}

/// Alice, of Acme, which will ask for more, and of Beta, which will not.
async fn alice_of_two(app: &TestApp) -> (Value, String, String) {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (organization(app, "Acme").await, organization(app, "Beta").await);
    member(app, &user, &acme).await;
    member(app, &user, &beta).await;
    (user, acme, beta)
}

async fn asks(app: &TestApp, organization: &str, rule: Value) {
    good(app, Method::PUT, &format!("/organizations/{organization}/sign_in_policy"), rule).await;
}

async fn password(app: &TestApp) -> Answer {
    app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await
}

async fn code(app: &TestApp, email: &str) -> Answer {
    let made = good(app, Method::POST, "/user_management/magic_auth", json!({"email": email})).await;
    app.authenticate(json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "email": email, "code": made["code"]})).await
}

async fn choose(app: &TestApp, step_up: &Answer, organization: &str) -> Answer {
    assert_eq!(step_up.code(), "organization_selection_required", "{}", step_up.text);
    let (grant, token) = ("urn:workos:oauth:grant-type:organization-selection", &step_up.body["pending_authentication_token"]);
    app.authenticate(json!({"grant_type": grant, "pending_authentication_token": token, "organization_id": organization})).await
}

/// Alice's pair for one of her organizations, by password.
async fn signed_in_to(app: &TestApp, organization: &str) -> Value {
    let answer = choose(app, &password(app).await, organization).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn refresh(app: &TestApp, token: &Value, organization: Option<&str>) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": token, "organization_id": organization})).await
}

fn authorize(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit{extra}",
        app.tenant.client_id
    )
}

async fn exchange(app: &TestApp, answer: &Answer) -> Answer {
    let code = answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", answer.status, answer.text));
    app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await
}

async fn execute(app: &TestApp, sql: &'static str) {
    app.cx().db().write(move |tx| tx.execute(sql, params![])).await.expect("the statement runs");
}

fn is_wanted(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (400, WANTED), "{}", answer.text);
    assert!(answer.body.get("access_token").is_none());
}

both_engines!(the_chosen_organization_says_which_methods_it_takes, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"password": false})).await;
    let step_up = password(&app).await;
    let refused = choose(&app, &step_up, &acme).await;
    is_wanted(&refused);
    assert_eq!((&refused.body["email"], &refused.body["sso_connection_ids"]), (&json!(EMAIL), &json!([])));
    let methods = &refused.body["auth_methods"];
    assert_eq!((&methods["password"], &methods["magic_auth"], &methods["google_oauth"]), (&json!(false), &json!(true), &json!(false)));
    let refusal = app.events().await.into_iter().rfind(|(name, _)| name == "authentication.refused").expect("an entry");
    assert_eq!(refusal.1["reason"], "organization_methods");
    assert_eq!(choose(&app, &step_up, &beta).await.status, 200, "the same sign-in is good enough for the other one");
    let by_code = code(&app, EMAIL).await;
    assert_eq!(choose(&app, &by_code, &acme).await.body["organization_id"], acme);
});

both_engines!(row_38_a_chosen_organization_that_wants_two_factors_is_not_entered_with_one, |app| async move {
    let (_, acme, _) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"mfa": "required"})).await;
    let stopped = choose(&app, &password(&app).await, &acme).await;
    assert_eq!((stopped.status, stopped.code()), (403, "mfa_enrollment"), "{}", stopped.text);
    assert!(stopped.body["pending_authentication_token"].is_string() && stopped.body["user"]["id"].is_string());
    let waiting = app
        .cx()
        .db()
        .read(|tx| tx.one("SELECT organization_id FROM pending_authentications WHERE step = 'mfa_enrollment'", params![])?.opt_text());
    assert_eq!(waiting.await.unwrap().as_deref(), Some(acme.as_str()), "what comes next leads back to the choice");
    let grant = "urn:workos:oauth:grant-type:organization-selection";
    let token = &stopped.body["pending_authentication_token"];
    let again = json!({"grant_type": grant, "pending_authentication_token": token, "organization_id": acme});
    let again = app.authenticate(again).await;
    assert_eq!((again.status, again.code()), (400, "invalid_pending_authentication_token"), "no later step is called in its place");
});

both_engines!(a_second_factor_that_the_choice_asks_for_leads_into_what_was_chosen, |app| async move {
    let (user, acme, _) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"mfa": "required"})).await;
    let stopped = choose(&app, &password(&app).await, &acme).await;
    let path = format!("/user_management/users/{}/auth_factors", user["id"].as_str().unwrap());
    let made = good(&app, Method::POST, &path, json!({"type": "totp"})).await;
    let secret = totp::parse_secret(made["authentication_factor"]["totp"]["secret"].as_str().unwrap()).unwrap();
    let code = totp::code(&secret, totp::step_at(app.now())).reveal().clone();
    let (token, challenge) = (&stopped.body["pending_authentication_token"], &made["authentication_challenge"]["id"]);
    let grant = "urn:workos:oauth:grant-type:mfa-totp";
    let body = json!({"grant_type": grant, "pending_authentication_token": token, "authentication_challenge_id": challenge, "code": code});
    let done = app.authenticate(body).await;
    assert_eq!((done.status, &done.body["organization_id"]), (200, &json!(acme)), "{}", done.text);
    assert_eq!(refresh(&app, &done.body["refresh_token"], None).await.body["organization_id"], acme);
});

both_engines!(row_18_a_refresh_does_not_switch_into_an_organization_that_asks_for_more, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let pair = signed_in_to(&app, &beta).await;
    asks(&app, &acme, json!({"mfa": "required"})).await;
    let refused = refresh(&app, &pair["refresh_token"], Some(&acme)).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("mfa_enrollment")), "{}", refused.text);
    assert!(refused.body["user"]["id"].is_string(), "SDKs want the whole user");
    assert!(refused.body.get("pending_authentication_token").is_none(), "a refresh token leads to no new factor");
    asks(&app, &acme, json!({"password": false})).await;
    is_wanted(&refresh(&app, &pair["refresh_token"], Some(&acme)).await);
    let second = refresh(&app, &pair["refresh_token"], None).await.body;
    assert_eq!(second["organization_id"], beta, "nothing was used up, and Beta asks for nothing");
    is_wanted(&refresh(&app, &pair["refresh_token"], Some(&acme)).await);
    asks(&app, &acme, json!({"mfa": "required"})).await;
    execute(&app, "UPDATE sessions SET second_factor = 'totp'").await;
    assert_eq!(refresh(&app, &second["refresh_token"], Some(&acme)).await.body["organization_id"], acme);
});

both_engines!(a_policy_that_becomes_stricter_catches_live_sessions_at_the_next_refresh, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let (mut here, mut there) = (signed_in_to(&app, &acme).await, signed_in_to(&app, &beta).await);
    app.clock.advance(HOUR);
    for (rule, code) in [
        (json!({"session_seconds": 3_600}), "invalid_grant"),
        (json!({"inactivity_seconds": 3_600}), "invalid_grant"),
        (json!({"mfa": "required"}), "mfa_enrollment"),
        (json!({"password": false}), WANTED),
    ] {
        asks(&app, &acme, rule.clone()).await;
        let refused = refresh(&app, &here["refresh_token"], None).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &json!(code)), "{rule}: {}", refused.text);
    }
    there = refresh(&app, &there["refresh_token"], None).await.body;
    assert_eq!(there["organization_id"], beta, "somebody else's policy is nobody else's");
    asks(&app, &acme, json!({"session_seconds": 3_601, "inactivity_seconds": 3_601, "magic_auth": false})).await;
    here = refresh(&app, &here["refresh_token"], None).await.body;
    assert_eq!(here["organization_id"], acme, "a refusal uses nothing up: {here}");
    app.settings(|settings| settings.password = false).await;
    for pair in [&here, &there] {
        let refused = refresh(&app, &pair["refresh_token"], None).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &json!("authentication_method_not_allowed")), "{}", refused.text);
    }
});

both_engines!(the_list_of_active_sessions_holds_each_to_its_own_organization, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let path = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    let organizations = async |query: &str| -> Vec<String> {
        let page = good(&app, Method::GET, &format!("{path}{query}"), Value::Null).await;
        page["data"].as_array().unwrap().iter().map(|session| session["organization_id"].as_str().unwrap().to_owned()).collect()
    };
    for organization in [&acme, &beta, &acme, &acme, &beta, &acme] {
        signed_in_to(&app, organization).await;
    }
    assert_eq!(organizations("").await.len(), 6);
    let mut browser = app.browser();
    browser.sign_in(&authorize(&app, &format!("&organization_id={beta}")), EMAIL, PASSWORD).await;
    let listed = |page: &Answer| (page.text.contains("Acme"), page.text.contains("Beta"));
    let account = format!("/account?client_id={}", app.tenant.client_id);
    assert_eq!(listed(&browser.get(&account).await), (true, true));
    app.clock.advance(HOUR);
    for rule in [json!({"inactivity_seconds": 3_600}), json!({"session_seconds": 3_600})] {
        asks(&app, &acme, rule.clone()).await;
        assert_eq!(organizations("").await, [beta.clone(), beta.clone()], "{rule}");
        // A page is full although what has ended lies between its rows.
        let first = good(&app, Method::GET, &format!("{path}?limit=1"), Value::Null).await;
        let after = first["list_metadata"]["after"].as_str().expect("there is another page");
        assert_eq!(first["data"].as_array().unwrap().len(), 1, "{rule}");
        let second = good(&app, Method::GET, &format!("{path}?limit=1&after={after}"), Value::Null).await;
        assert_eq!((second["data"].as_array().unwrap().len(), &second["list_metadata"]["after"]), (1, &Value::Null), "{rule}");
        assert_eq!(organizations("?order=asc").await, [beta.clone(), beta.clone()], "{rule}");
        assert_eq!(listed(&browser.get(&account).await), (false, true), "{rule}");
    }
    asks(&app, &acme, json!({"inactivity_seconds": 3_601})).await;
    assert_eq!(organizations("").await.len(), 6);
});

both_engines!(a_refresh_that_is_refused_leaves_an_event, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let gamma = organization(&app, "Gamma").await;
    let pair = signed_in_to(&app, &beta).await;
    let sessions = good(&app, Method::GET, &format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap()), Value::Null).await;
    let refused = || async {
        let events = app.events().await.into_iter().filter(|(name, _)| name == "authentication.refused");
        events.map(|(_, data)| data).collect::<Vec<_>>()
    };
    app.clock.advance(HOUR);
    for (count, (rule, reason)) in [
        (json!({"session_seconds": 3_600}), "sign_in_too_old"),
        (json!({"inactivity_seconds": 3_600}), "sign_in_unused"),
        (json!({"mfa": "required"}), "second_factor_required"),
        (json!({"password": false}), "organization_methods"),
    ]
    .into_iter()
    .enumerate()
    {
        asks(&app, &acme, rule).await;
        assert_eq!(refresh(&app, &pair["refresh_token"], Some(&acme)).await.status, 400);
        let all = refused().await;
        assert_eq!(all.len(), count + 1, "{reason}: one for each");
        let event = all.last().unwrap();
        assert_eq!(event["reason"], reason);
        assert_eq!((&event["session_id"], &event["user_id"]), (&sessions["data"][0]["id"], &user["id"]));
        assert_eq!((&event["organization_id"], &event["email"]), (&json!(acme), &json!(EMAIL)));
        assert!(!event.to_string().contains(pair["refresh_token"].as_str().unwrap()), "{event}");
    }
    assert_eq!(refresh(&app, &pair["refresh_token"], Some(&gamma)).await.code(), "organization_membership_not_found");
    assert_eq!(refused().await.last().unwrap()["reason"], "not_a_member");
    assert_eq!(refresh(&app, &pair["refresh_token"], None).await.status, 200);
    // Within the window of a replay it is decided again, too.
    assert_eq!(refresh(&app, &pair["refresh_token"], Some(&acme)).await.status, 400);
    assert_eq!(refused().await.len(), 6, "and none for those that are let through");
});

both_engines!(a_session_lives_as_long_as_its_organization_lets_it, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"session_seconds": 7_200})).await;
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    for (organization, length) in [(&acme, HOUR * 2), (&beta, Duration::from_secs(30 * 86_400))] {
        signed_in_to(&app, organization).await;
        let sessions = good(&app, Method::GET, &list, Value::Null).await["data"].clone();
        let session = sessions.as_array().unwrap().iter().find(|session| session["organization_id"] == organization.as_str()).unwrap();
        assert_eq!(session["expires_at"], json!(app.now().plus(length)), "{session}");
    }
});

both_engines!(row_44_the_sign_in_of_a_browser_does_not_carry_into_a_stricter_organization, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let mut browser = app.browser();
    let done = browser.sign_in(&authorize(&app, &format!("&organization_id={beta}")), EMAIL, PASSWORD).await;
    assert_eq!(exchange(&app, &done).await.body["organization_id"], beta);
    app.clock.advance(HOUR);
    let (to_acme, to_beta) = (authorize(&app, &format!("&organization_id={acme}")), authorize(&app, &format!("&organization_id={beta}")));
    for rule in [json!({"password": false}), json!({"mfa": "required"}), json!({"session_seconds": 3_600})] {
        asks(&app, &acme, rule.clone()).await;
        let asked = browser.get(&to_acme).await;
        assert!(asked.location_parameter("code").is_none(), "{rule}: {:?}", asked.location());
        let silent = browser.get(&format!("{to_acme}&prompt=none")).await;
        assert!(silent.location_parameter("code").is_none() && silent.location_parameter("error").is_some(), "{rule}");
        assert!(browser.get(&to_beta).await.location_parameter("code").is_some(), "{rule}");
    }
    asks(&app, &acme, json!({"session_seconds": 3_601})).await;
    let pair = exchange(&app, &browser.get(&to_acme).await).await;
    assert_eq!(pair.status, 200, "{}", pair.text);
    app.clock.advance(Duration::from_secs(1));
    let ended = refresh(&app, &pair.body["refresh_token"], None).await;
    assert_eq!(ended.code(), "invalid_grant", "no app's session outlives the proof by more than the policy's");
});

both_engines!(row_44_a_browser_that_nobody_used_for_too_long_opens_nothing, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"inactivity_seconds": 3_600})).await;
    let (to_acme, to_beta) = (authorize(&app, &format!("&organization_id={acme}")), authorize(&app, &format!("&organization_id={beta}")));
    let mut browser = app.browser();
    browser.sign_in(&to_acme, EMAIL, PASSWORD).await;
    for _ in 0..2 {
        app.clock.advance(HOUR - Duration::from_secs(1));
        assert!(browser.get(&to_acme).await.location_parameter("code").is_some(), "each use begins the hour anew");
    }
    app.clock.advance(HOUR);
    assert!(browser.get(&to_acme).await.location().unwrap().starts_with("/sign-in?"), "an hour without a use is too long");
    let silent = browser.get(&format!("{to_acme}&prompt=none")).await;
    assert_eq!(silent.location_parameter("error").as_deref(), Some("login_required"));

    // Whoever chooses the organization only later is held to it, too, and a refusal moves no clock.
    let first = browser.get(&authorize(&app, "")).await;
    let page = browser.follow(first).await;
    let chosen = browser.submit(&page, "/choose-organization", &[("organization_id", &acme)]).await;
    let path = chosen.location().unwrap();
    assert!(path.starts_with("/sign-in?") && path.ends_with("&again=1"), "{path}");

    // A new proof does; and Beta asks for nothing.
    let mut other = app.browser();
    other.sign_in(&to_beta, EMAIL, PASSWORD).await;
    app.clock.advance(HOUR);
    assert!(other.get(&to_beta).await.location_parameter("code").is_some());
    assert!(other.get(&to_acme).await.location_parameter("code").is_some(), "it was used just now");
});

both_engines!(row_44_a_browser_that_nobody_used_speaks_for_nobody_at_our_own_pages, |app| async move {
    app.user("carol@acme.example", PASSWORD).await;
    let body = json!({"name": "Acme", "domain_data": [{"domain": "acme.example", "state": "verified"}]});
    let acme = good(&app, Method::POST, "/organizations", body).await;
    let account = format!("/account?client_id={}", app.tenant.client_id);
    let mut browser = app.browser();
    browser.sign_in(&authorize(&app, ""), "carol@acme.example", PASSWORD).await;
    app.clock.advance(HOUR * 2);
    assert_eq!(browser.get(&account).await.status, 200);
    for (by_domain, unused) in [(true, HOUR), (false, HOUR / 2)] {
        let rule = json!({"inactivity_seconds": unused.as_secs()});
        if by_domain {
            let path = format!("/organization_domains/{}/sign_in_policy", acme["domains"][0]["id"].as_str().unwrap());
            good(&app, Method::PUT, &path, rule).await;
        } else {
            app.settings(|settings| settings.inactivity_seconds = Some(1_800)).await;
        }
        let mut browser = app.browser();
        browser.sign_in(&authorize(&app, ""), "carol@acme.example", PASSWORD).await;
        app.clock.advance(unused - Duration::from_secs(1));
        assert!(browser.get(&authorize(&app, "")).await.location_parameter("code").is_some());
        app.clock.advance(unused);
        for page in [account.clone(), authorize(&app, "")] {
            assert!(browser.get(&page).await.location().is_some_and(|to| to.starts_with("/sign-in?")), "{page}");
        }
    }
});

both_engines!(row_26_a_device_is_not_let_in_past_the_policy, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let acme = organization(&app, "Acme").await;
    member(&app, &user, &acme).await;
    let start = || async {
        app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await.body
    };
    let poll = |started: &Value| {
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        app.authenticate(json!({"grant_type": grant, "device_code": started["device_code"]}))
    };
    let mut browser = app.browser();
    browser.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await;
    let (before, after) = (start().await, start().await);
    for (started, answers) in [(&before, "200"), (&after, "303")] {
        let page = browser.get("/device").await;
        let typed = browser.submit(&page, "/device", &[("user_code", started["user_code"].as_str().unwrap())]).await;
        let page = browser.follow(typed).await;
        let answer = browser.submit(&page, "/device/confirm", &[("decision", "allow")]).await;
        assert_eq!(answer.status.to_string(), answers, "{}", answer.text);
        if answers == "303" {
            assert!(answer.location().unwrap().starts_with("/sign-in?"), "the page asks for what the device cannot");
        }
        asks(&app, &acme, json!({"password": false})).await;
    }
    app.clock.advance(Duration::from_secs(11));
    is_wanted(&poll(&before).await);
    assert_eq!(poll(&after).await.code(), "authorization_pending");
});

both_engines!(row_36_an_invitation_does_not_lead_past_the_policy, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let acme = organization(&app, "Acme").await;
    let invite = json!({"email": EMAIL, "organization_id": acme});
    let invitation = good(&app, Method::POST, "/user_management/invitations", invite).await;
    let by_password = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "invitation_token": invitation["token"]});
    asks(&app, &acme, json!({"password": false})).await;
    is_wanted(&app.authenticate(by_password.clone()).await);
    asks(&app, &acme, json!({"mfa": "required"})).await;
    assert_eq!(app.authenticate(by_password.clone()).await.code(), "mfa_enrollment");
    let path = format!("/user_management/invitations/{}", invitation["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &path, Value::Null).await["state"], "pending", "nobody joined, and it can still be used");
    let memberships = format!("/user_management/organization_memberships?user_id={}", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &memberships, Value::Null).await["data"], json!([]));
    asks(&app, &acme, json!({})).await;
    assert_eq!(app.authenticate(by_password).await.body["organization_id"], acme);
});

both_engines!(row_37_a_domain_says_how_its_people_sign_in_and_nothing_of_who_they_are, |app| async move {
    app.user("carol@acme.example", PASSWORD).await;
    app.user("dave@other.example", PASSWORD).await;
    let body = json!({"name": "Acme", "domain_data": [{"domain": "acme.example", "state": "verified"}, {"domain": "beta.example", "state": "pending"}]});
    let acme = good(&app, Method::POST, "/organizations", body).await;
    for domain in acme["domains"].as_array().unwrap() {
        let path = format!("/organization_domains/{}/sign_in_policy", domain["id"].as_str().unwrap());
        good(&app, Method::PUT, &path, json!({"password": false})).await;
    }
    let sign_in = |email: &str, password: &str| app.authenticate(json!({"grant_type": "password", "email": email, "password": password}));
    let mut answers = Vec::new();
    for (email, password) in
        [("carol@acme.example", PASSWORD), ("carol@acme.example", "not hers at all"), ("nobody@acme.example", PASSWORD)]
    {
        let mut refused = sign_in(email, password).await;
        is_wanted(&refused);
        assert_eq!(refused.body["email"].take(), email);
        answers.push(refused.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "right, wrong or nobody's: {answers:?}");
    assert_eq!(sign_in("dave@other.example", PASSWORD).await.status, 200);
    assert_eq!(sign_in("eve@beta.example", PASSWORD).await.code(), "invalid_credentials", "who has not proved the domain says nothing");
    assert_eq!(code(&app, "carol@acme.example").await.status, 200);
    let reset = app.api(Method::POST, "/user_management/password_reset", json!({"email": "carol@acme.example"})).await;
    assert_eq!((reset.status, reset.code()), (403, "email_password_auth_disabled"));
    // The same domain in a stranger's environment is another domain.
    let made = json!({"email": "carol@acme.example", "password": PASSWORD, "email_verified": true});
    assert_eq!(app.api_as(&app.other, Method::POST, "/user_management/users", made).await.status, 201);
    let there = json!({"grant_type": "password", "email": "carol@acme.example", "password": PASSWORD, "client_id": app.other.client_id, "client_secret": app.other.api_key});
    assert_eq!(app.anonymous(Method::POST, "/user_management/authenticate", there).await.status, 200);
});

both_engines!(the_pages_offer_what_the_policy_allows_and_do_not_tell_who_exists, |app| async move {
    let (_, acme, _) = alice_of_two(&app).await;
    asks(&app, &acme, json!({"password": false})).await;
    let url = authorize(&app, &format!("&organization_id={acme}"));
    let mut seen = Vec::new();
    for email in [EMAIL, "nobody@example.test"] {
        let mut browser = app.browser();
        let first = browser.get(&url).await;
        let page = browser.follow(first).await;
        let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
        let path = next.location().unwrap();
        assert!(path.starts_with("/sign-in/code?"), "{path}");
        let by_hand = browser.get(&path.replace("/sign-in/code", "/sign-in/password")).await;
        assert!(by_hand.location().unwrap().starts_with("/sign-in?"), "{}", by_hand.text);
        let page = browser.get(&path).await;
        seen.push(page.text.replace(email, "").split("name=\"csrf\"").next().unwrap().to_owned());
        let sign_up = browser.get(&path.replace("/sign-in/code", "/sign-up")).await;
        assert!(sign_up.location().unwrap().starts_with("/sign-in?"), "an account with a password would be of no use");
    }
    assert_eq!(seen[0], seen[1]);
});

both_engines!(a_person_whose_organization_wants_another_method_is_asked_for_it, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let acme = organization(&app, "Acme").await;
    member(&app, &user, &acme).await;
    asks(&app, &acme, json!({"password": false})).await;
    let mut browser = app.browser();
    let refused = browser.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await;
    let path = refused.location().unwrap();
    assert!(path.starts_with("/sign-in?") && path.ends_with("&again=1"), "{path}");
    let page = browser.get(&path).await;
    assert!(page.text.contains("Sign in once more") && page.text.contains(EMAIL), "{}", page.text);
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let mailed = app.mails().await.into_iter().find_map(|mail| mail.code).expect("a code was mailed");
    let done = browser.submit(&page, "/sign-in/code", &[("code", &mailed)]).await;
    let pair = exchange(&app, &done).await;
    assert_eq!((&pair.body["organization_id"], &pair.body["authentication_method"]), (&json!(acme), &json!("MagicAuth")), "{}", pair.text);
});

both_engines!(who_joins_by_their_domain_meets_the_policy_before_they_join, |app| async move {
    app.user("carol@acme.example", PASSWORD).await;
    let body = json!({"name": "Acme", "domain_data": [{"domain": "acme.example", "state": "verified"}]});
    let acme = good(&app, Method::POST, "/organizations", body).await["id"].as_str().unwrap().to_owned();
    asks(&app, &acme, json!({"password": false})).await;
    is_wanted(&app.authenticate(json!({"grant_type": "password", "email": "carol@acme.example", "password": PASSWORD})).await);
    let members = format!("/user_management/organization_memberships?organization_id={acme}");
    assert_eq!(good(&app, Method::GET, &members, Value::Null).await["data"], json!([]));
    assert_eq!(code(&app, "carol@acme.example").await.body["organization_id"], acme);
});
