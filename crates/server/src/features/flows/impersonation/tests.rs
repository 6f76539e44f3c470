//! Support that acts as a user, from the key that allows it to the end of its session, and every way to get more than that.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::credentials::devices;
use crate::features::records::users::EmailAddress;
use crate::testkit::{Answer, Browser, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";
const SAM: &str = "sam@support.test";
const REASON: &str = "Ticket 4711: her report is empty";

async fn post(app: &TestApp, path: &str, body: Value) -> Answer {
    app.clock.advance(Duration::from_millis(1));
    app.api(Method::POST, path, body).await
}

async fn start_with(app: &TestApp, user: &Value, extra: Value) -> Answer {
    let mut body = json!({"impersonator_email": SAM, "reason": REASON, "redirect_uri": CALLBACK});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(app, &format!("/user_management/users/{}/impersonations", user["id"].as_str().unwrap()), body).await
}

async fn start(app: &TestApp, user: &Value, extra: Value) -> Value {
    let made = start_with(app, user, extra).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

/// The link's path and query.
fn link(started: &Value) -> String {
    let url = started["url"].as_str().unwrap();
    url[url.find("/impersonate").expect("our own page")..].to_owned()
}

/// Opens the link and presses the button.
async fn press(browser: &mut Browser<'_>, started: &Value) -> Answer {
    let page = browser.get(&link(started)).await;
    assert_eq!(page.status, 200, "{}", page.text);
    browser.submit(&page, "/impersonate", &[]).await
}

async fn exchange(app: &TestApp, answer: &Answer) -> Answer {
    let code = answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", answer.status, answer.text));
    app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await
}

async fn signed_in(app: &TestApp, started: &Value) -> Value {
    let answer = exchange(app, &press(&mut app.browser(), started).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn refresh(app: &TestApp, pair: &Value, extra: Value) -> Answer {
    let mut body = json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    app.authenticate(body).await
}

/// The claims as they stand; that signatures hold is tested beside the tokens.
fn claims(pair: &Value) -> Value {
    let payload = pair["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&gatewright_jose::b64::decode_url(payload).unwrap()).unwrap()
}

async fn alice(app: &TestApp) -> Value {
    app.settings(|settings| settings.impersonation = true).await;
    app.user(EMAIL, PASSWORD).await
}

async fn member(app: &TestApp, user: &Value, organization: &str, role: &str) -> (String, String) {
    let made = post(app, "/organizations", json!({"name": organization})).await;
    let id = made.body["id"].as_str().unwrap().to_owned();
    let body = json!({"user_id": user["id"], "organization_id": id, "role_slug": role});
    let membership = post(app, "/user_management/organization_memberships", body).await;
    assert_eq!(membership.status, 201, "{}", membership.text);
    (id, membership.body["id"].as_str().unwrap().to_owned())
}

async fn impersonation(app: &TestApp, started: &Value) -> Value {
    let path = format!("/user_management/impersonations/{}", started["id"].as_str().unwrap());
    app.api(Method::GET, &path, Value::Null).await.body
}

both_engines!(row_48_supports_device_does_not_become_the_users, |app| async move {
    let user = alice(&app).await;
    let started = start(&app, &user, json!({})).await;
    let done = press(&mut app.browser(), &started).await;
    let code = done.location_parameter("code").unwrap();
    let pair = app.authenticate(json!({"grant_type": "authorization_code", "code": code, "device_id": "sams laptop"})).await;
    assert_eq!(pair.status, 200, "{}", pair.text);
    let email = EmailAddress::parse(EMAIL).unwrap();
    let known = devices::find_known(app.cx(), &app.tenant.environment, &email, "sams laptop").await.unwrap();
    assert!(known.is_none(), "no tries of the user's password of its own");
});

both_engines!(row_48_support_acts_as_a_user_by_name_for_a_reason_and_the_user_stays_as_they_were, |app| async move {
    let user = alice(&app).await;
    let (organization, _) = member(&app, &user, "Acme", "admin").await;
    let before = app.api(Method::GET, &format!("/user_management/users/{}", user["id"].as_str().unwrap()), Value::Null).await.body;
    let started = start(&app, &user, json!({"duration_seconds": 600})).await;
    assert_eq!((started["state"].as_str(), started["impersonator"]["reason"].as_str()), (Some("pending"), Some(REASON)));
    let mut browser = app.browser();
    let page = browser.get(&link(&started)).await;
    for said in [EMAIL, SAM, REASON, "10 minutes"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    assert_eq!(impersonation(&app, &started).await["state"], "pending", "looking uses nothing up");
    let done = browser.submit(&page, "/impersonate", &[]).await;
    assert!(done.location().unwrap().starts_with(&format!("{CALLBACK}?code=")), "{:?}", done.location());
    assert!(done.location_parameter("state").is_none());
    let pair = exchange(&app, &done).await;
    assert_eq!(pair.status, 200, "{}", pair.text);
    let pair = pair.body;
    assert_eq!(pair["impersonator"], json!({"email": SAM, "reason": REASON}));
    assert_eq!(
        (pair["authentication_method"].as_str(), pair["organization_id"].as_str()),
        (Some("Impersonation"), Some(organization.as_str()))
    );
    assert_eq!(claims(&pair)["act"], json!({"sub": SAM}));
    assert_eq!((claims(&pair)["sub"].as_str(), claims(&pair)["role"].as_str()), (user["id"].as_str(), Some("admin")));
    let sessions = app.api(Method::GET, &format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap()), Value::Null).await;
    let session = &sessions.body["data"][0];
    assert_eq!((session["auth_method"].as_str(), &session["impersonator"]["email"]), (Some("impersonation"), &json!(SAM)));
    let after = app.api(Method::GET, &format!("/user_management/users/{}", user["id"].as_str().unwrap()), Value::Null).await.body;
    assert_eq!(after, before, "last_sign_in_at above all");
    assert_eq!(pair["user"]["last_sign_in_at"], before["last_sign_in_at"]);
    assert_eq!(impersonation(&app, &started).await["state"], "active");
    let events = app.events().await;
    let of = |wanted: &str| events.iter().rfind(|(name, _)| name == wanted).map(|(_, data)| data.clone());
    assert_eq!(of("session.created").unwrap()["impersonator"]["reason"], REASON);
    for name in ["impersonation.created", "impersonation.started"] {
        assert_eq!(of(name).unwrap_or_else(|| panic!("{name}"))["impersonator"]["email"], SAM);
    }
    assert!(!events.iter().any(|(_, data)| data.to_string().contains(link(&started).split('=').nth(1).unwrap())), "no event has the code");
    let trail = app.api(Method::GET, "/audit_trail?events=session.created,impersonation.started&limit=100", Value::Null).await;
    assert!(trail.text.contains("\"impersonator\"") && trail.text.contains(SAM), "the actor is support: {}", trail.text);
});

both_engines!(row_48_the_link_is_good_for_one_browser_of_sixteen_and_its_code_for_one_exchange, |app| async move {
    let user = alice(&app).await;
    let started = start(&app, &user, json!({})).await;
    let app = std::sync::Arc::new(app);
    let (mut racers, all_see_it) = (tokio::task::JoinSet::new(), std::sync::Arc::new(tokio::sync::Barrier::new(16)));
    for _ in 0..16 {
        let (app, started, all_see_it) = (app.clone(), started.clone(), all_see_it.clone());
        racers.spawn(async move {
            let mut browser = app.browser();
            let page = browser.get(&link(&started)).await;
            all_see_it.wait().await;
            browser.submit(&page, "/impersonate", &[]).await.location_parameter("code")
        });
    }
    let codes: Vec<String> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(codes.len(), 1);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (app, code) = (app.clone(), codes[0].clone());
        racers.spawn(async move { app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.status });
    }
    let issued = racers.join_all().await.into_iter().filter(|status| *status == 200).count();
    assert_eq!(issued, 1);
    let again = app.browser().get(&link(&started)).await;
    assert_eq!(again.status, 400, "{}", again.text);
});

both_engines!(row_48_a_link_or_code_that_is_too_old_opens_nothing, |app| async move {
    let user = alice(&app).await;
    let late = start(&app, &user, json!({})).await;
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(app.browser().get(&link(&late)).await.status, 400);
    assert_eq!(impersonation(&app, &late).await["state"], "expired");
    // Confirmed in time, exchanged after its own end, which comes before that of the code.
    let short = start(&app, &user, json!({"duration_seconds": 60})).await;
    let done = press(&mut app.browser(), &short).await;
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(exchange(&app, &done).await.code(), "invalid_grant");
});

both_engines!(row_48_no_session_outlives_its_hour_by_settings_by_refresh_or_by_token, |app| async move {
    let user = alice(&app).await;
    app.settings(|settings| {
        settings.session_seconds = 30 * 86_400;
        settings.access_token_seconds = 86_400;
    })
    .await;
    let started = start(&app, &user, json!({"duration_seconds": 3_600})).await;
    let mut pair = signed_in(&app, &started).await;
    let ends = app.now().seconds() + 3_600;
    assert!(claims(&pair)["exp"].as_i64().unwrap() <= ends && pair["expires_in"].as_i64().unwrap() <= 3_600, "{}", claims(&pair));
    for _ in 0..2 {
        app.clock.advance(Duration::from_secs(1_790));
        let renewed = refresh(&app, &pair, json!({})).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text);
        pair = renewed.body;
        assert!(claims(&pair)["exp"].as_i64().unwrap() <= ends, "{}", claims(&pair));
        assert_eq!((&claims(&pair)["act"]["sub"], &pair["impersonator"]["email"]), (&json!(SAM), &json!(SAM)));
    }
    app.clock.advance(Duration::from_secs(21));
    assert_eq!(refresh(&app, &pair, json!({})).await.code(), "invalid_grant");
    for too_much in [json!(3_601), json!(59), json!(0)] {
        assert_eq!(start_with(&app, &user, json!({"duration_seconds": too_much})).await.status, 422);
    }
    assert_eq!(impersonation(&app, &started).await["state"], "ended");
});

both_engines!(row_48_it_is_off_until_an_operator_switches_it_on_and_off_again_at_once, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let refused = start_with(&app, &user, json!({})).await;
    assert_eq!((refused.status, refused.code()), (403, "authentication_method_not_allowed"));
    app.settings(|settings| settings.impersonation = true).await;
    let (open, confirmed, used) =
        (start(&app, &user, json!({})).await, start(&app, &user, json!({})).await, start(&app, &user, json!({})).await);
    let done = press(&mut app.browser(), &confirmed).await;
    let pair = signed_in(&app, &used).await;
    app.settings(|settings| settings.impersonation = false).await;
    assert_eq!(press(&mut app.browser(), &open).await.status, 400);
    assert_eq!(exchange(&app, &done).await.status, 403);
    assert_eq!(refresh(&app, &pair, json!({})).await.code(), "invalid_grant");
});

both_engines!(row_48_only_the_environments_own_key_starts_it_and_no_environment_reaches_anothers, |app| async move {
    let user = alice(&app).await;
    let (organization, _) = member(&app, &user, "Acme", "admin").await;
    let path = format!("/user_management/users/{}/impersonations", user["id"].as_str().unwrap());
    let body = json!({"impersonator_email": SAM, "reason": REASON, "redirect_uri": CALLBACK});
    assert_eq!(app.anonymous(Method::POST, &path, body.clone()).await.status, 401);
    assert_eq!(app.api_as(&app.other, Method::POST, &path, body.clone()).await.status, 404);
    let made = post(&app, &format!("/organizations/{organization}/api_keys"), json!({"name": "theirs"})).await;
    let key = made.body["value"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
    let as_organization = [(axum::http::header::AUTHORIZATION, format!("Bearer {key}"))];
    let headers: Vec<_> = as_organization.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
    assert_eq!(app.with_headers(Method::POST, &path, body, &headers).await.status, 401);
    let started = start(&app, &user, json!({})).await;
    let own = format!("/user_management/impersonations/{}", started["id"].as_str().unwrap());
    assert_eq!(app.api_as(&app.other, Method::GET, &own, Value::Null).await.status, 404);
    assert_eq!(app.api_as(&app.other, Method::POST, &format!("{own}/end"), Value::Null).await.status, 404);
    let foreign = start_with(&app, &user, json!({"client_id": app.other.client_id})).await;
    assert_eq!(foreign.status, 404, "{}", foreign.text);
    let done = press(&mut app.browser(), &started).await;
    let code = done.location_parameter("code").unwrap();
    let theirs =
        json!({"grant_type": "authorization_code", "code": code, "client_id": app.other.client_id, "client_secret": app.other.api_key});
    assert_eq!(app.anonymous(Method::POST, "/user_management/authenticate", theirs).await.code(), "invalid_grant");
    assert_eq!(exchange(&app, &done).await.status, 200, "the foreign try spent nothing");
});

both_engines!(row_48_a_user_or_membership_that_goes_meanwhile_takes_it_along, |app| async move {
    let user = alice(&app).await;
    let (organization, membership) = member(&app, &user, "Acme", "member").await;
    let started = start(&app, &user, json!({"organization_id": organization})).await;
    let waiting = start(&app, &user, json!({"organization_id": organization})).await;
    let done = press(&mut app.browser(), &waiting).await;
    let pair = signed_in(&app, &start(&app, &user, json!({"organization_id": organization})).await).await;
    let off = app.api(Method::PUT, &format!("/user_management/organization_memberships/{membership}/deactivate"), json!({})).await;
    assert_eq!(off.status, 200, "{}", off.text);
    assert_eq!(press(&mut app.browser(), &started).await.status, 400);
    assert_eq!(exchange(&app, &done).await.code(), "organization_membership_not_found");
    assert_eq!(refresh(&app, &pair, json!({})).await.code(), "invalid_grant");
    assert!(app.events().await.iter().any(|(name, data)| name == "impersonation.ended" && data["ending"] == "membership_ended"));
    assert_eq!(start_with(&app, &user, json!({"organization_id": organization})).await.code(), "organization_membership_not_found");
    let (open, confirmed) = (start(&app, &user, json!({})).await, start(&app, &user, json!({})).await);
    let done = press(&mut app.browser(), &confirmed).await;
    app.api(Method::DELETE, &format!("/user_management/users/{}", user["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(app.browser().get(&link(&open)).await.status, 400);
    assert_eq!(exchange(&app, &done).await.code(), "invalid_grant");
});

both_engines!(row_48_no_more_rights_than_the_user_has_where_they_are_a_member, |app| async move {
    let user = alice(&app).await;
    let (acme, _) = member(&app, &user, "Acme", "member").await;
    let (beta, _) = member(&app, &user, "Beta", "admin").await;
    let foreign = post(&app, "/organizations", json!({"name": "Foreign"})).await.body["id"].as_str().unwrap().to_owned();
    assert_eq!(start_with(&app, &user, json!({})).await.code(), "organization_required", "between several somebody has to choose");
    assert_eq!(start_with(&app, &user, json!({"organization_id": foreign})).await.code(), "organization_membership_not_found");
    let pair = signed_in(&app, &start(&app, &user, json!({"organization_id": acme})).await).await;
    assert_eq!((claims(&pair)["org_id"].as_str(), claims(&pair)["role"].as_str()), (Some(acme.as_str()), Some("member")));
    assert_eq!(refresh(&app, &pair, json!({"organization_id": foreign})).await.code(), "organization_membership_not_found");
    let switched = refresh(&app, &pair, json!({"organization_id": beta})).await;
    assert_eq!(switched.status, 200, "{}", switched.text);
    assert_eq!(claims(&switched.body)["act"]["sub"], SAM, "the switch keeps who it is");
});

both_engines!(row_48_an_address_that_nobody_proved_is_not_proved_by_support, |app| async move {
    app.settings(|settings| settings.impersonation = true).await;
    let made = post(&app, "/user_management/users", json!({"email": "bob@example.test"})).await;
    let refused = start_with(&app, &made.body, json!({})).await;
    assert_eq!((refused.status, refused.code()), (403, "email_not_verified"));
    assert!(app.mails().await.is_empty(), "and nobody is asked to");
});

both_engines!(row_48_support_accepts_no_invitation_and_joins_nothing, |app| async move {
    let user = alice(&app).await;
    let organization = post(&app, "/organizations", json!({"name": "Acme"})).await.body["id"].as_str().unwrap().to_owned();
    let invitation = post(&app, "/user_management/invitations", json!({"email": EMAIL, "organization_id": organization})).await.body;
    let domain =
        post(&app, "/organizations", json!({"name": "Owner", "domain_data": [{"domain": "example.test", "state": "verified"}]})).await;
    assert_eq!(domain.status, 201, "{}", domain.text);
    let done = press(&mut app.browser(), &start(&app, &user, json!({})).await).await;
    let code = done.location_parameter("code").unwrap();
    let brought = json!({"grant_type": "authorization_code", "code": code, "invitation_token": invitation["token"]});
    let answer = app.authenticate(brought).await;
    assert_eq!((answer.status, &answer.body["organization_id"]), (200, &Value::Null), "{}", answer.text);
    let path = format!("/user_management/invitations/{}", invitation["id"].as_str().unwrap());
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body["state"], "pending");
    let memberships = format!("/user_management/organization_memberships?user_id={}", user["id"].as_str().unwrap());
    assert_eq!(app.api(Method::GET, &memberships, Value::Null).await.body["data"], json!([]));
    // The user's own sign-in does join by the domain: the check above is not empty.
    app.sign_in(EMAIL, PASSWORD).await;
    assert_eq!(app.api(Method::GET, &memberships, Value::Null).await.body["data"].as_array().unwrap().len(), 1);
});

both_engines!(row_48_the_browser_of_support_is_signed_in_nowhere_else, |app| async move {
    let user = alice(&app).await;
    let mut browser = app.browser();
    let done = press(&mut browser, &start(&app, &user, json!({})).await).await;
    assert_eq!(exchange(&app, &done).await.status, 200);
    // Neither a second app...
    let authorize = format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&prompt=none",
        app.tenant.client_id
    );
    let silent = browser.get(&authorize).await;
    assert_eq!(silent.location_parameter("error").as_deref(), Some("login_required"));
    // ... nor a device: it would live longer than support may, and under the user's name.
    let device = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await.body;
    let page = browser.get("/device").await;
    let typed = browser.submit(&page, "/device", &[("user_code", device["user_code"].as_str().unwrap())]).await;
    let asked = browser.follow(typed).await;
    assert!(asked.text.contains("action=\"/sign-in\""), "the device page asks who is there: {}", asked.text);
    let allow = format!("/device/confirm?user_code={}", device["user_code"].as_str().unwrap());
    assert!(!browser.get(&allow).await.text.contains("value=\"allow\""));
});

both_engines!(row_48_a_device_or_browser_row_that_says_impersonation_opens_nothing, |app| async move {
    use crate::features::credentials::browser_sessions::{self, BrowserSession};
    use crate::features::credentials::methods::Method as SignInMethod;
    use crate::features::records::users::UserId;
    let user = alice(&app).await;
    let (environment, now) = (app.tenant.environment.clone(), app.now());
    let session = BrowserSession {
        user_id: UserId::from_text(user["id"].as_str().unwrap()),
        method: SignInMethod::Impersonation,
        second_factor: None,
        authenticated_at: now,
        expires_at: now.plus(Duration::from_secs(3_600)),
        last_used_at: now,
        browser_hash: None,
        ip_address: None,
        user_agent: None,
    };
    let hash = gatewright_jose::hash_secret("planted");
    let written = app.cx().db().write(move |tx| browser_sessions::insert(tx, &environment, &hash, &session, now)).await;
    written.expect("written");
    let mut browser = app.browser();
    let cookie = format!("gw_session_{}", app.tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    browser.set_cookie(&cookie, "planted");
    let authorize = format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit",
        app.tenant.client_id
    );
    let answer = browser.get(&authorize).await;
    assert!(answer.location_parameter("code").is_none(), "{:?}", answer.location());
});

both_engines!(row_46_the_button_works_in_the_browser_that_saw_the_page, |app| async move {
    let user = alice(&app).await;
    let started = start(&app, &user, json!({})).await;
    let page = app.browser().get(&link(&started)).await;
    let mut victim = app.browser();
    victim.get("/device").await;
    assert_eq!(victim.submit(&page, "/impersonate", &[]).await.status, 403);
    assert_eq!(impersonation(&app, &started).await["state"], "pending");
});

both_engines!(ending_it_ends_link_code_and_session_and_the_guards_hear_of_it, |app| async move {
    let user = alice(&app).await;
    let (open, confirmed, used) =
        (start(&app, &user, json!({})).await, start(&app, &user, json!({})).await, start(&app, &user, json!({})).await);
    let done = press(&mut app.browser(), &confirmed).await;
    let pair = signed_in(&app, &used).await;
    for started in [&open, &confirmed, &used] {
        let path = format!("/user_management/impersonations/{}/end", started["id"].as_str().unwrap());
        let ended = post(&app, &path, Value::Null).await;
        assert_eq!((ended.status, ended.body["state"].as_str()), (200, Some("ended")), "{}", ended.text);
        assert_eq!(post(&app, &path, Value::Null).await.body["ended_at"], ended.body["ended_at"], "ending it again changes nothing");
    }
    assert_eq!(app.browser().get(&link(&open)).await.status, 400);
    assert_eq!(exchange(&app, &done).await.code(), "invalid_grant");
    assert_eq!(refresh(&app, &pair, json!({})).await.code(), "invalid_grant");
    let events = app.events().await;
    let ends = events.iter().filter(|(name, _)| name == "impersonation.ended").count();
    assert_eq!(ends, 3);
    assert!(events.iter().any(|(name, data)| name == "session.revoked" && data["impersonator"]["email"] == SAM));
    // Signing out of the app ends it, too: that is what "stop impersonating" does.
    let started = start(&app, &user, json!({})).await;
    let pair = signed_in(&app, &started).await;
    let out = format!("/user_management/sessions/logout?session_id={}", claims(&pair)["sid"].as_str().unwrap());
    app.browser().get(&out).await;
    assert_eq!(impersonation(&app, &started).await["state"], "ended");
});

both_engines!(row_70_a_template_cannot_say_who_acts, |app| async move {
    let forged =
        app.api(Method::PUT, "/user_management/jwt_template", json!({"content": r#"{"act": {"sub": "boss@example.test"}}"#})).await;
    assert_eq!(forged.status, 422, "{}", forged.text);
    app.user(EMAIL, PASSWORD).await;
    assert!(claims(&app.sign_in(EMAIL, PASSWORD).await).get("act").is_none());
});

both_engines!(row_48_a_reason_is_asked_for_and_shown_as_text, |app| async move {
    let user = alice(&app).await;
    for (field, bad) in [
        ("reason", json!("")),
        ("reason", json!(" \t ")),
        ("reason", json!("line\nbreak")),
        ("reason", json!("\u{1b}[2J")),
        ("reason", json!("x".repeat(501))),
        ("impersonator_email", json!("nobody")),
    ] {
        assert_eq!(start_with(&app, &user, json!({ field: bad })).await.status, 422, "{field} {bad}");
    }
    let started = start(&app, &user, json!({"reason": "<script>alert(1)</script>"})).await;
    let page = app.browser().get(&link(&started)).await;
    assert!(!page.text.contains("<script>alert") && page.text.contains("&lt;script&gt;"), "{}", page.text);
});

#[tokio::test(flavor = "multi_thread")]
async fn row_48_links_are_guessed_a_few_times_a_minute_from_one_network() {
    let app = TestApp::start_with(crate::testkit::On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.hosted_per_ip = 3;
    })
    .await;
    let user = alice(&app).await;
    let started = start(&app, &user, json!({})).await;
    let mut browser = app.browser();
    let page = browser.get(&link(&started)).await;
    for _ in 0..3 {
        let guess = browser.submit(&page, "/impersonate", &[("code", "a-guess")]).await;
        assert!(guess.status != 429 && guess.location().is_none(), "{}", guess.text);
    }
    assert_eq!(browser.submit(&page, "/impersonate", &[]).await.status, 429, "even the right one");
    assert_eq!(impersonation(&app, &started).await["state"], "pending");
}
