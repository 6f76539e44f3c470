//! The organization in the sign-in: chosen, preselected, switched, lost, joined by domain, and in every token as it is at that moment.

use std::time::Duration;

use axum::http::Method;
use axum::http::header::ACCEPT_LANGUAGE;
use gatewright_jose::{Algorithm, Expect, Jwks, VerifyingKeys, verify_jwt};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, Browser, Tenant, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";

async fn good(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    good_as(app, &app.tenant, method, path, body).await
}

async fn good_as(app: &TestApp, tenant: &Tenant, method: Method, path: &str, body: Value) -> Value {
    let answer = app.api_as(tenant, method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

async fn organization(app: &TestApp, name: &str) -> String {
    good(app, Method::POST, "/organizations", json!({"name": name})).await["id"].as_str().unwrap().to_owned()
}

/// Makes the user an active member: the membership's id.
async fn member(app: &TestApp, user: &Value, organization: &str, role: &str) -> String {
    let body = json!({"user_id": user["id"], "organization_id": organization, "role_slug": role});
    let made = good(app, Method::POST, "/user_management/organization_memberships", body).await;
    made["id"].as_str().unwrap().to_owned()
}

/// Alice, member of Acme and admin of Beta.
async fn alice_of_two(app: &TestApp) -> (Value, String, String) {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (organization(app, "Acme").await, organization(app, "Beta").await);
    member(app, &user, &acme, "member").await;
    member(app, &user, &beta, "admin").await;
    (user, acme, beta)
}

async fn password(app: &TestApp) -> Answer {
    app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await
}

async fn choose(app: &TestApp, pending: &Value, organization: &str) -> Answer {
    let grant = "urn:workos:oauth:grant-type:organization-selection";
    app.authenticate(json!({"grant_type": grant, "pending_authentication_token": pending, "organization_id": organization})).await
}

/// Alice's pair for one of her organizations.
async fn signed_in_to(app: &TestApp, organization: &str) -> Value {
    let step_up = password(app).await;
    assert_eq!(step_up.code(), "organization_selection_required", "{}", step_up.text);
    let answer = choose(app, &step_up.body["pending_authentication_token"], organization).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn refresh(app: &TestApp, token: &Value, organization: Option<&str>) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": token, "organization_id": organization})).await
}

/// The claims of the access token of an answer, as a verifier sees them.
async fn claims(app: &TestApp, answer: &Value) -> Value {
    let jwks = app.anonymous(Method::GET, &format!("/sso/jwks/{}", app.tenant.client_id), Value::Null).await;
    let keys = VerifyingKeys::from_jwks(&serde_json::from_value::<Jwks>(jwks.body).expect("a key set")).expect("usable keys");
    let issuer = format!("http://localhost:4700/user_management/{}", app.tenant.client_id);
    let expect = Expect {
        issuer: Some(&issuer),
        audience: None,
        typ: &["JWT"],
        algorithms: &[Algorithm::RS256],
        now: app.now(),
        leeway: Duration::ZERO,
    };
    let token = answer["access_token"].as_str().expect("an access token");
    verify_jwt(&keys, token, &expect).expect("the token verifies");
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&gatewright_jose::b64::decode_url(payload).expect("base64url")).expect("JSON")
}

fn authorize(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&state=s{extra}",
        app.tenant.client_id
    )
}

async fn exchange(app: &TestApp, answer: &Answer) -> Answer {
    let code = answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", answer.status, answer.text));
    app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await
}

/// Signs in by password in a browser: the page to choose on.
async fn chooser(browser: &mut Browser<'_>, url: &str) -> Answer {
    let next = browser.sign_in(url, EMAIL, PASSWORD).await;
    let page = browser.follow(next).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("action=\"/choose-organization\""), "{}", page.text);
    page
}

both_engines!(one_membership_is_chosen_by_itself_and_none_leaves_the_token_without, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let alone = password(&app).await;
    assert!(alone.body.get("organization_id").is_none(), "{}", alone.text);
    let token = claims(&app, &alone.body).await;
    for claim in ["org_id", "role", "roles", "permissions", "entitlements", "feature_flags"] {
        assert!(token.get(claim).is_none(), "{claim} in {token}");
    }
    let acme = organization(&app, "Acme").await;
    member(&app, &user, &acme, "member").await;
    let signed_in = password(&app).await.body;
    assert_eq!(signed_in["organization_id"], acme);
    let token = claims(&app, &signed_in).await;
    assert_eq!((&token["org_id"], &token["role"], &token["roles"]), (&json!(acme), &json!("member"), &json!(["member"])));
    assert!(token["permissions"].is_array(), "{token}");
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    let sessions = good(&app, Method::GET, &list, Value::Null).await["data"].clone();
    let of_acme = |data: &Value| data["organization_id"] == acme.as_str();
    assert_eq!(sessions.as_array().unwrap().iter().filter(|session| of_acme(session)).count(), 1, "{sessions}");
    assert!(app.events().await.iter().any(|(name, data)| name == "session.created" && of_acme(data)));
    let renewed = refresh(&app, &alone.body["refresh_token"], None).await;
    assert!(renewed.body.get("organization_id").is_none(), "a session without an organization stays without: {}", renewed.text);
});

both_engines!(of_several_the_api_asks_and_the_choice_is_good_once, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let foreign = organization(&app, "Not hers").await;
    let step_up = password(&app).await;
    assert_eq!((step_up.status, step_up.code()), (403, "organization_selection_required"));
    assert_eq!(step_up.body["user"]["id"], user["id"], "SDKs want the whole user");
    assert_eq!(step_up.body["organizations"], json!([{"id": acme, "name": "Acme"}, {"id": beta, "name": "Beta"}]));
    let token = step_up.body["pending_authentication_token"].clone();
    for (other, why) in [(foreign.as_str(), "of others"), ("org_x", "unknown")] {
        assert_eq!(choose(&app, &token, other).await.code(), "organization_membership_not_found", "{why}");
    }
    assert_eq!(choose(&app, &token, "").await.code(), "invalid_request");
    let done = choose(&app, &token, &beta).await;
    assert_eq!((done.status, &done.body["organization_id"]), (200, &json!(beta)), "{}", done.text);
    assert_eq!(done.body["authentication_method"], "Password");
    assert_eq!(claims(&app, &done.body).await["role"], "admin");
    let again = choose(&app, &token, &beta).await;
    assert_eq!((again.status, again.code()), (400, "invalid_pending_authentication_token"));
    let successes = app.events().await.into_iter().filter(|(name, _)| name == "authentication.password_succeeded").count();
    assert_eq!(successes, 1, "one sign-in, one success");
});

both_engines!(sixty_four_choices_at_once_open_one_session, |app| async move {
    let (user, acme, _) = alice_of_two(&app).await;
    let token = password(&app).await.body["pending_authentication_token"].clone();
    let app = std::sync::Arc::new(app);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, token, acme) = (app.clone(), token.clone(), acme.clone());
        callers.spawn(async move { choose(&app, &token, &acme).await.status });
    }
    let statuses = callers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 400)), "{statuses:?}");
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &list, Value::Null).await["data"].as_array().unwrap().len(), 1);
});

both_engines!(row_49_and_50_tokens_and_organizations_of_another_environment_choose_nothing, |app| async move {
    let (_, acme, _) = alice_of_two(&app).await;
    let pair = signed_in_to(&app, &acme).await;
    let theirs = good_as(&app, &app.other, Method::POST, "/organizations", json!({"name": "Elsewhere"})).await["id"].clone();
    let theirs = theirs.as_str().unwrap();
    let step_up = password(&app).await.body["pending_authentication_token"].clone();
    let foreign_client = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": step_up,
        "organization_id": acme, "client_id": app.other.client_id, "client_secret": app.other.api_key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", foreign_client).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_pending_authentication_token"));
    assert_eq!(choose(&app, &step_up, theirs).await.code(), "organization_membership_not_found");
    assert_eq!(refresh(&app, &pair["refresh_token"], Some(theirs)).await.code(), "organization_membership_not_found");
    let mut browser = app.browser();
    let started = browser.get(&authorize(&app, &format!("&organization_id={theirs}"))).await;
    assert_eq!(started.location_parameter("error").as_deref(), Some("organization_invalid"));
    assert_eq!(refresh(&app, &pair["refresh_token"], None).await.status, 200, "nothing was used up");
    assert_eq!(choose(&app, &step_up, &acme).await.status, 200);
});

both_engines!(a_pending_token_of_another_step_chooses_nothing, |app| async move {
    let made = good(&app, Method::POST, "/user_management/users", json!({"email": EMAIL, "password": PASSWORD})).await;
    let acme = organization(&app, "Acme").await;
    member(&app, &made, &acme, "member").await;
    let step_up = password(&app).await;
    assert_eq!(step_up.code(), "email_verification_required");
    let answer = choose(&app, &step_up.body["pending_authentication_token"], &acme).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_pending_authentication_token"), "the address is not proved");
});

both_engines!(the_page_offers_the_organizations_and_the_code_is_for_the_chosen_one, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let foreign = organization(&app, "<Not> hers").await;
    let mut browser = app.browser();
    let page = chooser(&mut browser, &authorize(&app, "")).await;
    assert!(page.text.contains(">Acme</button>") && page.text.contains(">Beta</button>") && !page.text.contains(&foreign));
    assert!(!page.text.contains("<script"), "it works without any");
    for wrong in [foreign.as_str(), "", "org_x"] {
        let refused = browser.submit(&page, "/choose-organization", &[("organization_id", wrong)]).await;
        assert_eq!(refused.status, 422, "{wrong}");
        assert!(refused.text.contains("role=\"alert\""));
    }
    let done = browser.submit(&page, "/choose-organization", &[("organization_id", &beta)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(done.location_parameter("state").as_deref(), Some("s"));
    let pair = exchange(&app, &done).await;
    assert_eq!((pair.status, &pair.body["organization_id"]), (200, &json!(beta)), "{}", pair.text);
    let again = browser.submit(&page, "/choose-organization", &[("organization_id", &acme)]).await;
    assert_ne!(again.status, 303, "one answer per request: {}", again.text);

    // A second app: nothing to prove, but still a choice. Its time of sign-in is the first one's.
    let first = claims(&app, &pair.body).await["auth_time"].clone();
    app.clock.advance(Duration::from_secs(60));
    browser.headers = vec![(ACCEPT_LANGUAGE, "de".to_owned())];
    let second = browser.get(&authorize(&app, "")).await;
    let page = browser.follow(second).await;
    assert!(page.text.contains("Organisation wählen"), "{}", page.text);
    let done = browser.submit(&page, "/choose-organization", &[("organization_id", &acme)]).await;
    let pair = exchange(&app, &done).await;
    assert_eq!(pair.body["organization_id"], acme);
    assert_eq!(claims(&app, &pair.body).await["auth_time"], first);
    let silent = browser.get(&authorize(&app, "&prompt=none")).await;
    assert_eq!(silent.location_parameter("error").as_deref(), Some("interaction_required"));
});

both_engines!(row_09_the_choice_belongs_to_the_browser_that_signed_in, |app| async move {
    let (_, acme, _) = alice_of_two(&app).await;
    let mut person = app.browser();
    let page = chooser(&mut person, &authorize(&app, "")).await;
    let mut stranger = app.browser();
    stranger.get(&authorize(&app, "")).await;
    let lured = stranger.submit(&page, "/choose-organization", &[("organization_id", &acme)]).await;
    assert_eq!(lured.status, 403);
    let own = stranger.get(&authorize(&app, "")).await;
    let request = own.location().unwrap().split_once("request=").unwrap().1.to_owned();
    let skipped = stranger.get(&format!("/choose-organization?request={request}")).await;
    assert!(skipped.location().unwrap().starts_with("/sign-in?"), "nothing is proved yet");
});

both_engines!(an_app_that_names_the_organization_gets_it_or_a_refusal, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let foreign = organization(&app, "Not hers").await;
    let done = app.browser().sign_in(&authorize(&app, &format!("&organization_id={beta}")), EMAIL, PASSWORD).await;
    assert_eq!(exchange(&app, &done).await.body["organization_id"], beta, "no page in between");
    let mut browser = app.browser();
    let refused = browser.sign_in(&authorize(&app, &format!("&organization_id={foreign}")), EMAIL, PASSWORD).await;
    assert_eq!((refused.status, refused.location_parameter("error").as_deref()), (303, Some("access_denied")), "{}", refused.text);
    assert_eq!(refused.location_parameter("state").as_deref(), Some("s"));
    assert!(refused.location_parameter("code").is_none());
    let signed_in = browser.sign_in(&authorize(&app, &format!("&organization_id={acme}")), EMAIL, PASSWORD).await;
    assert!(signed_in.location_parameter("code").is_some());
    let other_app = browser.get(&authorize(&app, &format!("&organization_id={beta}"))).await;
    assert_eq!(exchange(&app, &other_app).await.body["organization_id"], beta, "signed in already, straight to the other one");
});

both_engines!(row_18_a_code_does_not_outlive_the_membership_it_was_made_for, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (organization(&app, "Acme").await, organization(&app, "Beta").await);
    let membership = member(&app, &user, &acme, "member").await;
    member(&app, &user, &beta, "member").await;
    let done = app.browser().sign_in(&authorize(&app, &format!("&organization_id={acme}")), EMAIL, PASSWORD).await;
    let path = format!("/user_management/organization_memberships/{membership}");
    good(&app, Method::PUT, &format!("{path}/deactivate"), Value::Null).await;
    let answer = exchange(&app, &done).await;
    assert_eq!((answer.status, answer.code()), (400, "organization_membership_not_found"), "never the other one instead");
});

both_engines!(a_refresh_switches_the_organization_and_the_claims_follow, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let first = signed_in_to(&app, &acme).await;
    assert_eq!(claims(&app, &first).await["role"], "member");
    let second = refresh(&app, &first["refresh_token"], Some(&beta)).await;
    assert_eq!((second.status, &second.body["organization_id"]), (200, &json!(beta)), "{}", second.text);
    let token = claims(&app, &second.body).await;
    assert_eq!((&token["org_id"], &token["role"]), (&json!(beta), &json!("admin")));
    assert_eq!(token["sid"], claims(&app, &first).await["sid"], "the same session");
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &list, Value::Null).await["data"][0]["organization_id"], beta);
    let third = refresh(&app, &second.body["refresh_token"], None).await;
    assert_eq!(third.body["organization_id"], beta, "it stays where it is");
    let empty = refresh(&app, &third.body["refresh_token"], Some("")).await;
    assert_eq!(empty.body["organization_id"], beta);
});

both_engines!(a_replay_for_another_organization_gets_its_token_and_the_same_successor, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let first = signed_in_to(&app, &acme).await;
    let tab_one = refresh(&app, &first["refresh_token"], None).await.body;
    let tab_two = refresh(&app, &first["refresh_token"], Some(&beta)).await;
    assert_eq!(tab_two.status, 200, "{}", tab_two.text);
    assert_eq!(tab_two.body["refresh_token"], tab_one["refresh_token"], "one family");
    assert_ne!(tab_two.body["access_token"], tab_one["access_token"], "never the stored pair for another organization");
    assert_eq!((&tab_one["organization_id"], &tab_two.body["organization_id"]), (&json!(acme), &json!(beta)));
    assert_eq!(claims(&app, &tab_two.body).await["org_id"], beta);
    for same in [None, Some(acme.as_str())] {
        let again = refresh(&app, &first["refresh_token"], same).await.body;
        assert_eq!((&again["access_token"], &again["organization_id"]), (&tab_one["access_token"], &json!(acme)), "{same:?}");
    }
    let foreign = organization(&app, "Not hers").await;
    assert_eq!(refresh(&app, &first["refresh_token"], Some(&foreign)).await.code(), "organization_membership_not_found");
    let next = refresh(&app, &tab_one["refresh_token"], None).await;
    assert_eq!(next.body["organization_id"], beta, "the last switch counts");
});

both_engines!(an_organization_that_is_not_hers_refuses_the_refresh_and_uses_nothing_up, |app| async move {
    let (_, acme, _) = alice_of_two(&app).await;
    let foreign = organization(&app, "Not hers").await;
    let pair = signed_in_to(&app, &acme).await;
    for wrong in [foreign.as_str(), "org_x", "org_01EHWNCE74X7JSDV0X3SZ3KJNY"] {
        let refused = refresh(&app, &pair["refresh_token"], Some(wrong)).await;
        assert_eq!((refused.status, refused.code()), (400, "organization_membership_not_found"), "{wrong}");
    }
    assert_eq!(refresh(&app, &pair["refresh_token"], None).await.body["organization_id"], acme);
});

both_engines!(row_18_a_deactivated_members_session_is_refused_at_its_next_refresh, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (organization(&app, "Acme").await, organization(&app, "Beta").await);
    let membership = member(&app, &user, &acme, "member").await;
    member(&app, &user, &beta, "member").await;
    let (in_acme, in_beta) = (signed_in_to(&app, &acme).await, signed_in_to(&app, &beta).await);
    let replayed = signed_in_to(&app, &acme).await;
    refresh(&app, &replayed["refresh_token"], None).await;
    good(&app, Method::PUT, &format!("/user_management/organization_memberships/{membership}/deactivate"), Value::Null).await;
    assert_eq!(refresh(&app, &in_acme["refresh_token"], None).await.code(), "invalid_grant");
    assert_eq!(refresh(&app, &in_acme["refresh_token"], Some(&beta)).await.code(), "invalid_grant", "nor does it switch away");
    assert_eq!(refresh(&app, &replayed["refresh_token"], None).await.code(), "invalid_grant", "an ended session never replays");
    let revoked = app.events().await.into_iter().filter(|(name, _)| name == "session.revoked").collect::<Vec<_>>();
    assert_eq!(revoked.len(), 2, "{revoked:?}");
    assert!(revoked.iter().all(|(_, data)| data["organization_id"] == acme.as_str()), "{revoked:?}");
    let renewed = refresh(&app, &in_beta["refresh_token"], None).await;
    assert_eq!((renewed.status, &renewed.body["organization_id"]), (200, &json!(beta)), "the other organization goes on");
    assert_eq!(refresh(&app, &renewed.body["refresh_token"], Some(&acme)).await.code(), "organization_membership_not_found");
    assert_eq!(password(&app).await.body["organization_id"], beta, "only one is left to choose");
});

both_engines!(row_18_sessions_of_a_deleted_organization_end, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let (in_acme, in_beta) = (signed_in_to(&app, &acme).await, signed_in_to(&app, &beta).await);
    let deleted = app.api(Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text);
    assert_eq!(refresh(&app, &in_acme["refresh_token"], None).await.code(), "invalid_grant");
    assert_eq!(refresh(&app, &in_beta["refresh_token"], None).await.status, 200);
});

both_engines!(a_role_changed_and_a_permission_removed_are_gone_from_the_next_token, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let acme = organization(&app, "Acme").await;
    for slug in ["expenses:approve", "expenses:read"] {
        good(&app, Method::POST, "/authorization/permissions", json!({"slug": slug, "name": slug})).await;
    }
    good(&app, Method::POST, "/authorization/roles", json!({"slug": "approver", "name": "Approver"})).await;
    let permissions = "/authorization/roles/approver/permissions";
    good(&app, Method::PUT, permissions, json!({"permissions": ["expenses:read", "expenses:approve"]})).await;
    let membership = member(&app, &user, &acme, "approver").await;
    let pair = password(&app).await.body;
    let token = claims(&app, &pair).await;
    assert_eq!((&token["role"], &token["permissions"]), (&json!("approver"), &json!(["expenses:approve", "expenses:read"])));
    good(&app, Method::PUT, permissions, json!({"permissions": ["expenses:read"]})).await;
    let pair = refresh(&app, &pair["refresh_token"], None).await.body;
    assert_eq!(claims(&app, &pair).await["permissions"], json!(["expenses:read"]));
    let path = format!("/user_management/organization_memberships/{membership}");
    good(&app, Method::PUT, &path, json!({"role_slug": "member"})).await;
    let pair = refresh(&app, &pair["refresh_token"], None).await.body;
    let token = claims(&app, &pair).await;
    assert_eq!((&token["role"], &token["roles"], &token["permissions"]), (&json!("member"), &json!(["member"]), &json!([])));
});

both_engines!(feature_flags_of_the_person_and_of_the_organization_are_in_the_token_while_they_are_on, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    for slug in ["for-alice", "for-acme", "for-all", "off"] {
        let body = json!({"slug": slug, "name": slug, "enabled": slug != "off", "default_value": slug == "for-all"});
        good(&app, Method::POST, "/feature-flags", body).await;
    }
    let alice = user["id"].as_str().unwrap();
    for (slug, target) in [("for-alice", alice), ("for-acme", acme.as_str()), ("off", alice)] {
        good(&app, Method::POST, &format!("/feature-flags/{slug}/targets/{target}"), Value::Null).await;
    }
    let in_acme = signed_in_to(&app, &acme).await;
    assert_eq!(claims(&app, &in_acme).await["feature_flags"], json!(["for-acme", "for-alice", "for-all"]));
    let in_beta = refresh(&app, &in_acme["refresh_token"], Some(&beta)).await.body;
    assert_eq!(claims(&app, &in_beta).await["feature_flags"], json!(["for-alice", "for-all"]));
    good(&app, Method::PUT, "/feature-flags/for-all/disable", Value::Null).await;
    let next = refresh(&app, &in_beta["refresh_token"], None).await.body;
    assert_eq!(claims(&app, &next).await["feature_flags"], json!(["for-alice"]));
});

both_engines!(a_template_names_the_organization_and_the_membership, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let body = json!({"name": "Acme", "external_id": "acme-1", "metadata": {"tier": "gold"},
        "domain_data": [{"domain": "acme-corp.com", "state": "verified"}]});
    let acme = good(&app, Method::POST, "/organizations", body).await["id"].as_str().unwrap().to_owned();
    let content = r#"{"org": "{{ organization.name }}", "ext": {{ organization.external_id }}, "tier": "{{ organization.metadata.tier || 'none' }}",
        "domain": "{{ organization.domains.0.domain || 'none' }}", "role_slug": {{ organization_membership.role.slug }},
        "roles_of": {{ organization_membership.roles }}, "status": {{ organization_membership.status }}}"#;
    good(&app, Method::PUT, "/user_management/jwt_template", json!({"content": content})).await;
    let before = claims(&app, &password(&app).await.body).await;
    assert_eq!((&before["tier"], before.get("ext"), before.get("status")), (&json!("none"), None, None), "{before}");
    member(&app, &user, &acme, "member").await;
    let token = claims(&app, &password(&app).await.body).await;
    assert_eq!(token["org"], "Acme");
    assert_eq!((&token["ext"], &token["tier"], &token["domain"]), (&json!("acme-1"), &json!("gold"), &json!("acme-corp.com")));
    assert_eq!((&token["role_slug"], &token["status"]), (&json!("member"), &json!("active")));
    assert_eq!(token["roles_of"], json!([{"slug": "member"}]));
});

async fn with_domain(app: &TestApp, tenant: &Tenant, joins: Option<bool>, state: &str) -> String {
    let mut body = json!({"name": "Corp", "domain_data": [{"domain": "example.test", "state": state}]});
    if let Some(joins) = joins {
        body["join_by_verified_domain"] = json!(joins);
    }
    good_as(app, tenant, Method::POST, "/organizations", body).await["id"].as_str().unwrap().to_owned()
}

both_engines!(a_proved_address_of_a_proved_domain_joins_at_sign_in, |app| async move {
    let corp = with_domain(&app, &app.tenant, None, "verified").await;
    let user = app.user(EMAIL, PASSWORD).await;
    let listed = format!("/user_management/organization_memberships?user_id={}", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &listed, Value::Null).await["data"], json!([]), "at sign-in, not before");
    let wrong = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": "wrong"})).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(good(&app, Method::GET, &listed, Value::Null).await["data"], json!([]), "and not without the proof");
    let signed_in = password(&app).await;
    assert_eq!(signed_in.body["organization_id"], corp, "{}", signed_in.text);
    assert_eq!(claims(&app, &signed_in.body).await["role"], "member", "the default role and no more");
    let memberships = good(&app, Method::GET, &listed, Value::Null).await;
    assert_eq!(memberships["data"].as_array().unwrap().len(), 1);
    let created = app.events().await.into_iter().filter(|(name, _)| name == "organization_membership.created").count();
    assert_eq!(created, 1);
    password(&app).await;
    let id = memberships["data"][0]["id"].as_str().unwrap();
    good(&app, Method::PUT, &format!("/user_management/organization_memberships/{id}/deactivate"), Value::Null).await;
    let after = password(&app).await;
    assert!(after.body.get("organization_id").is_none(), "somebody deactivated does not come back by themselves: {}", after.text);
});

both_engines!(nobody_joins_by_an_address_or_a_domain_that_is_not_proved, |app| async move {
    with_domain(&app, &app.other, None, "verified").await;
    with_domain(&app, &app.tenant, None, "pending").await;
    app.user(EMAIL, PASSWORD).await;
    let pending = password(&app).await;
    assert!(pending.body.get("organization_id").is_none(), "pending here, proved only in another environment: {}", pending.text);
    let sub = app
        .api(Method::POST, "/organizations", json!({"name": "Sub", "domain_data": [{"domain": "mail.example.test", "state": "verified"}]}))
        .await;
    assert_eq!(sub.status, 201, "{}", sub.text);
    assert!(password(&app).await.body.get("organization_id").is_none(), "a domain below is another domain");
    let made = json!({"email": "bob@mail.example.test", "password": PASSWORD});
    let bob = good(&app, Method::POST, "/user_management/users", made).await;
    let ask = json!({"grant_type": "password", "email": "bob@mail.example.test", "password": PASSWORD});
    let step_up = app.authenticate(ask).await;
    assert_eq!(step_up.code(), "email_verification_required");
    let listed = format!("/user_management/organization_memberships?user_id={}", bob["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &listed, Value::Null).await["data"], json!([]), "not before the address is proved");
    let code = app.mails().await[0].code.clone().unwrap();
    let finish = json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": code,
        "pending_authentication_token": step_up.body["pending_authentication_token"]});
    assert_eq!(app.authenticate(finish).await.body["organization_id"], sub.body["id"]);
});

both_engines!(an_organization_that_does_not_want_it_is_not_joined_by_domain, |app| async move {
    with_domain(&app, &app.tenant, Some(false), "verified").await;
    app.user(EMAIL, PASSWORD).await;
    assert!(password(&app).await.body.get("organization_id").is_none());
});

both_engines!(joining_happens_in_the_browser_as_well_and_makes_a_choice_of_two, |app| async move {
    let corp = with_domain(&app, &app.tenant, None, "verified").await;
    let user = app.user(EMAIL, PASSWORD).await;
    let acme = organization(&app, "Acme").await;
    member(&app, &user, &acme, "member").await;
    let mut browser = app.browser();
    let page = chooser(&mut browser, &authorize(&app, "")).await;
    let done = browser.submit(&page, "/choose-organization", &[("organization_id", &corp)]).await;
    assert_eq!(exchange(&app, &done).await.body["organization_id"], corp);
});

both_engines!(sixty_four_first_sign_ins_at_once_join_once, |app| async move {
    let corp = with_domain(&app, &app.tenant, None, "verified").await;
    let user = app.user(EMAIL, PASSWORD).await;
    let app = std::sync::Arc::new(app);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let app = app.clone();
        callers.spawn(async move { password(&app).await });
    }
    for answer in callers.join_all().await {
        assert_eq!((answer.status, &answer.body["organization_id"]), (200, &json!(corp)), "{}", answer.text);
    }
    let listed = format!("/user_management/organization_memberships?user_id={}", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &listed, Value::Null).await["data"].as_array().unwrap().len(), 1);
    let created = app.events().await.into_iter().filter(|(name, _)| name == "organization_membership.created").count();
    assert_eq!(created, 1);
});

both_engines!(a_device_is_signed_in_to_the_organization_that_its_person_chose, |app| async move {
    let (_, acme, beta) = alice_of_two(&app).await;
    let foreign = organization(&app, "Not hers").await;
    let started = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await.body;
    let mut browser = app.browser();
    let page = browser.get("/device").await;
    let typed = browser.submit(&page, "/device", &[("user_code", started["user_code"].as_str().unwrap())]).await;
    let page = browser.follow(typed).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let signed_in = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    let page = browser.follow(signed_in).await;
    assert!(page.text.contains(&format!("value=\"{acme}\"")) && page.text.contains(&format!("value=\"{beta}\"")), "{}", page.text);
    for wrong in ["", foreign.as_str()] {
        let refused = browser.submit(&page, "/device/confirm", &[("decision", "allow"), ("organization_id", wrong)]).await;
        assert_eq!(refused.status, 422, "{wrong}");
    }
    let done = browser.submit(&page, "/device/confirm", &[("decision", "allow"), ("organization_id", &beta)]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let poll = json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"], "client_id": app.tenant.client_id});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", poll).await;
    assert_eq!((answer.status, &answer.body["organization_id"]), (200, &json!(beta)), "{}", answer.text);
});

both_engines!(row_08_a_pending_choice_is_the_clients_it_was_made_for_and_ends_with_a_new_password, |app| async move {
    let (user, acme, _) = alice_of_two(&app).await;
    let pending = password(&app).await.body["pending_authentication_token"].clone();
    let second = app.second_client().await;
    let body = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": pending,
        "organization_id": acme, "client_id": second, "client_secret": app.tenant.api_key});
    let elsewhere = app.anonymous(Method::POST, "/user_management/authenticate", body).await;
    assert_eq!((elsewhere.status, elsewhere.code()), (400, "invalid_pending_authentication_token"));
    let without_secret = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": pending,
        "organization_id": acme, "client_id": app.tenant.client_id});
    let public = app.anonymous(Method::POST, "/user_management/authenticate", without_secret).await;
    assert_eq!((public.status, public.code()), (400, "invalid_client"));
    let path = format!("/user_management/users/{}", user["id"].as_str().unwrap());
    good(&app, Method::PUT, &path, json!({"password": "another correct horse"})).await;
    let answer = choose(&app, &pending, &acme).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_pending_authentication_token"), "it was begun with the old password");
});

both_engines!(row_18_the_page_forgets_an_organization_that_was_left_meanwhile, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let mut memberships = Vec::new();
    for name in ["Acme", "Beta", "Gamma"] {
        let id = organization(&app, name).await;
        memberships.push((member(&app, &user, &id, "member").await, id));
    }
    let mut browser = app.browser();
    let page = chooser(&mut browser, &authorize(&app, "")).await;
    let (membership, acme) = &memberships[0];
    good(&app, Method::PUT, &format!("/user_management/organization_memberships/{membership}/deactivate"), Value::Null).await;
    let refused = browser.submit(&page, "/choose-organization", &[("organization_id", acme)]).await;
    assert_eq!(refused.status, 422);
    assert!(!refused.text.contains(&format!("value=\"{acme}\"")), "{}", refused.text);
    let done = browser.submit(&refused, "/choose-organization", &[("organization_id", &memberships[1].1)]).await;
    assert_eq!(exchange(&app, &done).await.body["organization_id"], *memberships[1].1);
});

both_engines!(row_18_a_device_is_not_let_in_where_its_person_was_shut_out_meanwhile, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let (acme, beta) = (organization(&app, "Acme").await, organization(&app, "Beta").await);
    member(&app, &user, &acme, "member").await;
    let membership = member(&app, &user, &beta, "member").await;
    let mut browser = app.browser();
    let next = browser.sign_in(&authorize(&app, &format!("&organization_id={acme}")), EMAIL, PASSWORD).await;
    assert_eq!(next.status, 303, "{}", next.text);
    let started = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await.body;
    let page = browser.get("/device").await;
    let typed = browser.submit(&page, "/device", &[("user_code", started["user_code"].as_str().unwrap())]).await;
    let page = browser.follow(typed).await;
    let done = browser.submit(&page, "/device/confirm", &[("decision", "allow"), ("organization_id", &beta)]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    good(&app, Method::PUT, &format!("/user_management/organization_memberships/{membership}/deactivate"), Value::Null).await;
    let poll = json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"], "client_id": app.tenant.client_id});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", poll).await;
    assert_eq!((answer.status, answer.code()), (400, "organization_membership_not_found"), "never another organization instead");
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &list, Value::Null).await["data"], json!([]));
});

// The membership is read before the token is signed, and is gone by the time the session is written.
both_engines!(row_18_no_choice_and_no_switch_that_races_a_deactivation_stays_in, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let listed = format!("/user_management/organization_memberships?user_id={}&organization_id={acme}", user["id"].as_str().unwrap());
    let membership = good(&app, Method::GET, &listed, Value::Null).await["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/user_management/organization_memberships/{membership}");
    let app = std::sync::Arc::new(app);
    for _ in 0..4 {
        let (mut choices, mut pairs) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            choices.push(password(&app).await.body["pending_authentication_token"].clone());
            pairs.push(signed_in_to(&app, &beta).await["refresh_token"].clone());
        }
        let mut callers = tokio::task::JoinSet::new();
        for (at, (choice, pair)) in choices.into_iter().zip(pairs).enumerate() {
            if at == 2 {
                let (app, path) = (app.clone(), path.clone());
                callers.spawn(async move { app.api(Method::PUT, &format!("{path}/deactivate"), Value::Null).await });
            }
            let (first, second, to, there) = (app.clone(), app.clone(), acme.clone(), acme.clone());
            callers.spawn(async move { choose(&first, &choice, &to).await });
            callers.spawn(async move { refresh(&second, &pair, Some(&there)).await });
        }
        let answers = callers.join_all().await;
        for answer in &answers {
            assert!(matches!(answer.status, 200 | 400), "{}", answer.text);
            if answer.status == 200 && answer.body["refresh_token"].is_string() {
                assert_eq!(refresh(&app, &answer.body["refresh_token"], None).await.code(), "invalid_grant", "{}", answer.text);
            }
        }
        let list = format!("/user_management/users/{}/sessions?limit=100", user["id"].as_str().unwrap());
        let sessions = good(&app, Method::GET, &list, Value::Null).await["data"].clone();
        let left = sessions.as_array().unwrap().iter().filter(|session| session["organization_id"] == acme.as_str()).count();
        assert_eq!(left, 0, "{sessions}");
        good(&app, Method::PUT, &format!("{path}/reactivate"), Value::Null).await;
    }
});

both_engines!(row_44_each_choice_opens_a_session_of_its_own_and_a_switch_renews_what_opens_it, |app| async move {
    let (user, acme, beta) = alice_of_two(&app).await;
    let fixed = "session_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut seen = std::collections::BTreeSet::new();
    let mut last = Value::Null;
    for to in [&acme, &beta, &acme] {
        let pending = password(&app).await.body["pending_authentication_token"].clone();
        let body = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": pending,
            "organization_id": to, "session_id": fixed, "sid": fixed, "session": {"id": fixed}, "refresh_token": last["refresh_token"]});
        last = app.authenticate(body).await.body;
        let sid = claims(&app, &last).await["sid"].as_str().unwrap().to_owned();
        assert!(sid != fixed && seen.insert(sid), "a session is never the caller's to name");
    }
    // A switch is the same session by contract; what opens it is new, and the old token opens nothing once its window is over.
    let switched = refresh(&app, &last["refresh_token"], Some(&beta)).await;
    assert_ne!(switched.body["refresh_token"], last["refresh_token"]);
    app.clock.advance(Duration::from_secs(60));
    for to in [None, Some(acme.as_str()), Some(beta.as_str())] {
        let old = refresh(&app, &last["refresh_token"], to).await;
        assert_eq!((old.status, old.code()), (400, "invalid_grant"), "{to:?}");
    }
    // In the browser: a cookie that was there before is not the session that the choice ends in.
    let name = format!("gw_session_{}", app.tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    let mut browser = app.browser();
    browser.set_cookie(&name, "planted-by-somebody-else");
    let page = chooser(&mut browser, &authorize(&app, "")).await;
    assert_eq!(browser.cookie(&name), Some("planted-by-somebody-else"), "nobody is signed in before the choice is made");
    let silent = browser.get(&authorize(&app, "&prompt=none")).await;
    assert_eq!(silent.location_parameter("error").as_deref(), Some("login_required"));
    let done = browser.submit(&page, "/choose-organization", &[("organization_id", &acme)]).await;
    let chosen = browser.cookie(&name).expect("signed in").to_owned();
    assert_ne!(chosen, "planted-by-somebody-else");
    assert_eq!(exchange(&app, &done).await.body["user"]["id"], user["id"]);
    // A fresh proof makes a fresh one.
    let page = chooser(&mut browser, &authorize(&app, "&prompt=login")).await;
    browser.submit(&page, "/choose-organization", &[("organization_id", &beta)]).await;
    assert_ne!(browser.cookie(&name), Some(chosen.as_str()));
});
