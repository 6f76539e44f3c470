use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use axum::http::header::{HOST, HeaderName};
use gatewright_db::DbError;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::credentials::invitations;
use crate::features::records::roles::{self, NewRole};
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, Browser, On, Tenant, TestApp};

const PATH: &str = "/user_management/invitations";
const EMAIL: &str = "ada@acme.test";
const PASSWORD: &str = "correct horse battery";
const DAY: Duration = Duration::from_secs(86_400);

async fn organization(app: &TestApp, name: &str) -> String {
    let made = app.api(Method::POST, "/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

async fn invite(app: &TestApp, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let made = app.api(Method::POST, PATH, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn act(app: &TestApp, invitation: &Value, what: &str) -> Answer {
    app.clock.advance(Duration::from_millis(1));
    app.api(Method::POST, &format!("{PATH}/{}/{what}", text(invitation, "id")), Value::Null).await
}

async fn found(app: &TestApp, invitation: &Value) -> Value {
    let answer = app.api(Method::GET, &format!("{PATH}/{}", text(invitation, "id")), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

async fn members(app: &TestApp, organization: &str) -> Vec<Value> {
    let path =
        format!("/user_management/organization_memberships?organization_id={organization}&statuses=active,inactive,pending&limit=100");
    let answer = app.api(Method::GET, &path, Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["data"].as_array().unwrap().clone()
}

async fn names_of_events(app: &TestApp, of: &[&str]) -> Vec<String> {
    let names = app.events().await.into_iter().map(|(name, _)| name);
    names.filter(|name| of.iter().any(|prefix| name.starts_with(prefix))).collect()
}

async fn sign_in_with(app: &TestApp, email: &str, token: &str) -> Answer {
    app.authenticate(json!({"grant_type": "password", "email": email, "password": PASSWORD, "invitation_token": token})).await
}

fn authorize(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri=http://localhost:8000/callback&provider=authkit&state=s{extra}",
        app.tenant.client_id
    )
}

async fn exchange(app: &TestApp, answer: &Answer) -> Value {
    let code = answer.location_parameter("code").unwrap_or_else(|| panic!("no code: {} {}", answer.status, answer.text));
    let exchanged = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(exchanged.status, 200, "{}", exchanged.text);
    exchanged.body
}

/// Follows what the link shows on to the sign-in or sign-up page.
async fn go_on<'a>(app: &'a TestApp, link: &str) -> (Browser<'a>, Answer) {
    let mut browser = app.browser();
    let first = browser.get(link).await;
    let page = browser.follow(first).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let next = browser.submit(&page, "/invite", &[("account", "other")]).await;
    assert_eq!(next.status, 303, "{}", next.text);
    let page = browser.follow(next).await;
    (browser, page)
}

both_engines!(an_invitation_is_sent_read_sent_again_and_taken_back, |app| async move {
    let acme = organization(&app, "Acme").await;
    let inviter =
        app.api(Method::POST, "/user_management/users", json!({"email": "bob@acme.test", "first_name": "Bob", "last_name": "Baker"})).await;
    let invitation = invite(
        &app,
        json!({"email": EMAIL, "organization_id": acme, "role_slug": "admin", "expires_in_days": 3, "inviter_user_id": inviter.body["id"], "locale": "de-DE"}),
    )
    .await;
    assert!(gatewright_base::is_id("invitation", text(&invitation, "id")));
    let token = text(&invitation, "token").to_owned();
    let now = app.now();
    let expected = json!({
        "object": "invitation", "id": invitation["id"], "email": EMAIL, "state": "pending", "accepted_at": null, "revoked_at": null,
        "expires_at": now.plus(DAY * 3), "organization_id": acme, "inviter_user_id": inviter.body["id"], "accepted_user_id": null,
        "role_slug": "admin", "created_at": now, "updated_at": now, "token": token,
        "accept_invitation_url": format!("http://localhost:4700/invite?invitation_token={token}"),
    });
    assert_eq!(invitation, expected);

    let mail = &app.mails().await[0];
    assert_eq!((mail.to.as_str(), mail.links.as_slice()), (EMAIL, &[text(&invitation, "accept_invitation_url").to_owned()][..]));
    for words in ["Bob Baker", "Acme", "3 Tage", &token] {
        assert!(mail.text.contains(words) && mail.html.contains(words), "{words}: {}", mail.text);
    }

    assert_eq!(found(&app, &invitation).await, invitation);
    let by_token = app.api(Method::GET, &format!("{PATH}/by_token/{token}"), Value::Null).await;
    assert_eq!((by_token.status, &by_token.body), (200, &invitation));

    let again = act(&app, &invitation, "resend").await;
    assert_eq!(again.status, 200, "{}", again.text);
    let renewed = again.body;
    assert_ne!(renewed["token"], invitation["token"]);
    assert_eq!(
        (&renewed["id"], &renewed["state"], &renewed["expires_at"]),
        (&invitation["id"], &json!("pending"), &json!(app.now().plus(DAY * 3)))
    );
    assert_eq!(app.mails().await[0].links, [text(&renewed, "accept_invitation_url")]);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/by_token/{token}"), Value::Null).await.status, 404, "the old link is dead");
    assert_eq!(app.browser().get(&format!("/invite?invitation_token={token}")).await.status, 400);
    let by_token = app.api(Method::GET, &format!("{PATH}/by_token/{}", text(&renewed, "token")), Value::Null).await;
    assert_eq!(by_token.body, renewed);

    let revoked = act(&app, &invitation, "revoke").await;
    assert_eq!((revoked.status, &revoked.body["state"], &revoked.body["revoked_at"]), (200, &json!("revoked"), &json!(app.now())));
    assert_eq!(found(&app, &invitation).await, revoked.body);

    let events: Vec<_> = app.events().await.into_iter().filter(|(name, _)| name.starts_with("invitation.")).collect();
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["invitation.created", "invitation.resent", "invitation.revoked"]);
    for (name, data) in &events {
        assert!(data.get("token").is_none() && data.get("accept_invitation_url").is_none(), "{name}: {data}");
        assert_eq!((&data["object"], &data["id"]), (&json!("invitation"), &invitation["id"]));
    }
});

both_engines!(each_state_has_its_own_refusals, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let to = |email: &str| json!({"email": email, "organization_id": acme, "expires_in_days": 1});
    let accepted = invite(&app, to(EMAIL)).await;
    assert_eq!(act(&app, &accepted, "accept").await.status, 200);
    let revoked = invite(&app, to("b@acme.test")).await;
    assert_eq!(act(&app, &revoked, "revoke").await.status, 200);
    let expired = invite(&app, to("c@acme.test")).await;
    app.clock.advance(DAY);
    for (invitation, state, resend) in
        [(&accepted, "accepted", "invite_accepted"), (&revoked, "revoked", "invite_revoked"), (&expired, "expired", "invite_expired")]
    {
        let before = found(&app, invitation).await;
        assert_eq!(before["state"], state);
        for (what, code) in [("resend", resend), ("revoke", "invite_not_pending"), ("accept", "invite_not_pending")] {
            let answer = act(&app, invitation, what).await;
            assert_eq!((answer.status, answer.code()), (400, code), "{what} of one {state}: {}", answer.text);
            assert!(answer.body["message"].is_string());
        }
        let used = sign_in_with(&app, EMAIL, text(invitation, "token")).await;
        assert_eq!((used.status, used.code()), (400, "invitation_invalid"), "{state}");
        let page = app.browser().get(&format!("/invite?invitation_token={}", text(invitation, "token"))).await;
        assert_eq!(page.status, 400, "{state}");
        assert_eq!(found(&app, invitation).await, before, "{state}");
    }
    let nobody = invite(&app, to("d@acme.test")).await;
    let answer = act(&app, &nobody, "accept").await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_invite"), "nobody has the address");
    let missing = json!({"id": "invitation_01M7XQHHA6C4WS0QDDWXSXSVWY"});
    for what in ["resend", "revoke", "accept"] {
        assert_eq!(act(&app, &missing, what).await.status, 404, "{what}");
    }
    assert_eq!(members(&app, &acme).await.len(), 1);
});

both_engines!(who_cannot_be_invited_is_told_apart, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let user = app.user(EMAIL, PASSWORD).await;
    let stranger = app.api_as(&app.other, Method::POST, "/organizations", json!({"name": "Theirs"})).await.body;
    let theirs = app.api_as(&app.other, Method::POST, "/user_management/users", json!({"email": "x@y.test"})).await.body;
    let membership = json!({"user_id": user["id"], "organization_id": other});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", membership).await.status, 201);
    invite(&app, json!({"email": "new@acme.test"})).await;
    invite(&app, json!({"email": "new@acme.test", "organization_id": acme})).await;
    invite(&app, json!({"email": "new@acme.test", "organization_id": other})).await;
    let before = app.events().await.len();
    for (body, status, code) in [
        (json!({}), 422, "invalid_request_parameters"),
        (json!({"email": "no address"}), 422, "invalid_request_parameters"),
        (json!({"email": 1}), 422, "invalid_request_parameters"),
        (json!({"email": "z@acme.test", "expires_in_days": "7"}), 422, "invalid_request_parameters"),
        (json!({"email": "z@acme.test", "locale": "xx"}), 422, "invalid_request_parameters"),
        (json!({"email": "z@acme.test", "expires_in_days": 0}), 400, "expires_in_days_too_short"),
        (json!({"email": "z@acme.test", "expires_in_days": -9_000_000_000_i64}), 400, "expires_in_days_too_short"),
        (json!({"email": "z@acme.test", "expires_in_days": 31}), 400, "expires_in_days_too_long"),
        (json!({"email": "z@acme.test", "organization_id": "org_none"}), 404, "entity_not_found"),
        (json!({"email": "z@acme.test", "organization_id": stranger["id"]}), 404, "entity_not_found"),
        (json!({"email": "z@acme.test", "inviter_user_id": "user_none"}), 404, "entity_not_found"),
        (json!({"email": "z@acme.test", "inviter_user_id": theirs["id"]}), 404, "entity_not_found"),
        (json!({"email": "z@acme.test", "organization_id": acme, "role_slug": "emperor"}), 400, "invalid_role"),
        (json!({"email": "z@acme.test", "role_slug": "member"}), 400, "invalid_role"),
        (json!({"email": "z@nowhere.invalid"}), 400, "email_domain_not_deliverable"),
        (json!({"email": EMAIL}), 400, "user_already_exists"),
        (json!({"email": "ADA@acme.test", "organization_id": other}), 400, "user_already_organization_member"),
        (json!({"email": "NEW@acme.test"}), 400, "email_already_invited"),
        (json!({"email": "New@acme.test", "organization_id": acme}), 400, "email_already_invited_to_organization"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.text);
    }
    assert_eq!(app.events().await.len(), before, "and nothing has happened");
    for days in [1, 30] {
        let made = invite(&app, json!({"email": format!("d{days}@acme.test"), "expires_in_days": days})).await;
        assert_eq!(made["expires_at"], json!(app.now().plus(DAY * days)));
    }
    let usual = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    assert_eq!((&usual["role_slug"], &usual["expires_at"]), (&json!("member"), &json!(app.now().plus(DAY * 7))));
    let to_app = invite(&app, json!({"email": "app@acme.test"})).await;
    assert_eq!((&to_app["role_slug"], &to_app["organization_id"]), (&Value::Null, &Value::Null));
});

both_engines!(an_address_is_invited_again_once_the_first_invitation_is_over, |app| async move {
    let acme = organization(&app, "Acme").await;
    let body = json!({"email": EMAIL, "organization_id": acme, "expires_in_days": 1});
    let first = invite(&app, body.clone()).await;
    assert_eq!(act(&app, &first, "revoke").await.status, 200);
    let second = invite(&app, body.clone()).await;
    app.clock.advance(DAY);
    let third = invite(&app, body).await;
    assert_eq!(found(&app, &second).await["state"], "expired");
    assert_eq!(found(&app, &third).await["state"], "pending");
});

both_engines!(lists_are_by_organization_and_by_address_and_page_both_ways, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let mut ids = Vec::new();
    for (email, to) in
        [("a@x.test", Some(&acme)), ("b@x.test", Some(&acme)), ("a@x.test", Some(&other)), ("a@x.test", None), ("c@x.test", Some(&acme))]
    {
        ids.push(text(&invite(&app, json!({"email": email, "organization_id": to})).await, "id").to_owned());
    }
    let page = async |query: &str| {
        let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let data: Vec<usize> =
            answer.body["data"].as_array().unwrap().iter().map(|row| ids.iter().position(|id| row["id"] == *id).unwrap()).collect();
        (data, answer.body["list_metadata"].clone())
    };
    assert_eq!(page("").await, (vec![4, 3, 2, 1, 0], json!({"before": null, "after": null})));
    assert_eq!(page("limit=2").await, (vec![4, 3], json!({"before": null, "after": ids[3]})));
    assert_eq!(page(&format!("limit=2&after={}", ids[3])).await, (vec![2, 1], json!({"before": ids[2], "after": ids[1]})));
    assert_eq!(page(&format!("limit=2&before={}", ids[2])).await.0, [4, 3]);
    assert_eq!(page(&format!("organization_id={acme}")).await.0, [4, 1, 0]);
    assert_eq!(
        page(&format!("organization_id={acme}&order=asc&limit=1&after={}", ids[0])).await,
        (vec![1], json!({"before": ids[1], "after": ids[1]}))
    );
    assert_eq!(page("email=A%40X.test").await.0, [3, 2, 0]);
    assert_eq!(page(&format!("email=a%40x.test&after={}", ids[3])).await.0, [2, 0]);
    assert_eq!(page(&format!("email=a%40x.test&organization_id={other}")).await.0, [2]);
    assert_eq!(page(&format!("email=a%40x.test&organization_id={acme}&order=asc&after={}", ids[0])).await.0, [0; 0]);
    for nobody in ["email=nobody%40x.test", "email=nonsense", "organization_id=org_none"] {
        assert_eq!(page(nobody).await.0, [0; 0], "{nobody}");
    }
    for query in ["limit=0", "limit=-1", "limit=1e9", "order=id%3B--", "email=a%40b.c&email=d%40e.f"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
});

both_engines!(row_49_and_50_another_environments_key_finds_and_changes_nothing, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let (id, token) = (text(&invitation, "id"), text(&invitation, "token"));
    for (method, path) in [
        (Method::GET, format!("{PATH}/{id}")),
        (Method::GET, format!("{PATH}/by_token/{token}")),
        (Method::POST, format!("{PATH}/{id}/accept")),
        (Method::POST, format!("{PATH}/{id}/resend")),
        (Method::POST, format!("{PATH}/{id}/revoke")),
    ] {
        let answer = app.api_as(&app.other, method.clone(), &path, Value::Null).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        assert!(!answer.text.contains(token), "a token is not said back");
        assert_eq!(app.anonymous(method, &path, Value::Null).await.status, 401);
    }
    // Row 52: neither a filter nor a cursor of ours shows a stranger anything.
    for query in [String::new(), format!("?organization_id={acme}"), "?email=ada%40acme.test".to_owned(), format!("?order=asc&before={id}")]
    {
        let listed = app.api_as(&app.other, Method::GET, &format!("{PATH}{query}"), Value::Null).await;
        assert_eq!(listed.body["data"], json!([]), "{query}");
    }
    // Row 18: the token opens nothing at another environment's client.
    let made = json!({"email": EMAIL, "password": PASSWORD, "email_verified": true});
    assert_eq!(app.api_as(&app.other, Method::POST, "/user_management/users", made).await.status, 201);
    let body = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "invitation_token": token,
        "client_id": app.other.client_id, "client_secret": app.other.api_key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", body).await;
    assert_eq!((answer.status, answer.code()), (400, "invitation_invalid"));
    assert_eq!(found(&app, &invitation).await, invitation);
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
});

both_engines!(row_51_fields_that_are_not_the_callers_to_set_are_ignored, |app| async move {
    let invitation = invite(
        &app,
        json!({"email": EMAIL, "id": "invitation_mine", "environment_id": app.other.environment.as_str(), "state": "accepted", "token": "mine",
            "accepted_user_id": "user_1", "accepted_at": "2026-01-01T00:00:00.000Z", "expires_at": "9999-01-01T00:00:00.000Z", "created_at": "x"}),
    )
    .await;
    assert_ne!(invitation["id"], "invitation_mine");
    assert_eq!(
        (&invitation["state"], &invitation["accepted_user_id"], text(&invitation, "token").len()),
        (&json!("pending"), &Value::Null, 43)
    );
    assert_eq!(invitation["expires_at"], json!(app.now().plus(DAY * 7)));
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.body["data"], json!([]));
});

both_engines!(row_35_the_link_is_below_the_configured_origin_whatever_the_request_says, |app| async move {
    let bearer = format!("Bearer {}", app.tenant.api_key);
    let mut n = 0;
    for (name, value) in [
        (HOST, "evil.test"),
        (HeaderName::from_static("x-forwarded-host"), "evil.test"),
        (HeaderName::from_static("forwarded"), "host=evil.test;proto=https"),
        (HeaderName::from_static("origin"), "https://evil.test"),
    ] {
        n += 1;
        let body = json!({"email": format!("host{n}@acme.test")});
        let headers = [(axum::http::header::AUTHORIZATION, bearer.as_str()), (name, value)];
        let made = app.with_headers(Method::POST, PATH, body, &headers).await;
        assert_eq!(made.status, 201, "{}", made.text);
        assert!(text(&made.body, "accept_invitation_url").starts_with("http://localhost:4700/invite?"), "{}", made.text);
        let mail = &app.mails().await[0];
        assert!(!mail.text.contains("evil.test") && !mail.html.contains("evil.test"));
    }
});

both_engines!(the_api_accepts_for_the_invited_user_who_becomes_a_member_with_that_role, |app| async move {
    let acme = organization(&app, "Acme").await;
    let user = app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme, "role_slug": "admin"})).await;
    let accepted = act(&app, &invitation, "accept").await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    assert_eq!(
        (&accepted.body["state"], &accepted.body["accepted_user_id"], &accepted.body["accepted_at"], &accepted.body["role_slug"]),
        (&json!("accepted"), &user["id"], &json!(app.now()), &json!("admin"))
    );
    let members = members(&app, &acme).await;
    assert_eq!(members.len(), 1);
    assert_eq!(
        (&members[0]["user_id"], &members[0]["status"], &members[0]["role"]["slug"]),
        (&user["id"], &json!("active"), &json!("admin"))
    );
    assert_eq!(
        names_of_events(&app, &["invitation.", "organization_membership."]).await,
        ["invitation.created", "invitation.accepted", "organization_membership.created"]
    );
    // `role_slug` is what the member has by now.
    let path = format!("/user_management/organization_memberships/{}", text(&members[0], "id"));
    app.api(Method::POST, "/user_management/users", json!({"email": "boss@acme.test"})).await;
    let boss = app.api(Method::GET, "/user_management/users?email=boss%40acme.test", Value::Null).await.body["data"][0]["id"].clone();
    let other_admin = json!({"user_id": boss, "organization_id": acme, "role_slug": "admin"});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", other_admin).await.status, 201);
    let changed = app.api(Method::PUT, &path, json!({"role_slug": "member"})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(found(&app, &invitation).await["role_slug"], "member");
    let listed = app.api(Method::GET, &format!("{PATH}?organization_id={acme}"), Value::Null).await;
    assert_eq!(listed.body["data"][0]["role_slug"], "member");
    let to_app = invite(&app, json!({"email": "later@acme.test"})).await;
    let later = app.user("later@acme.test", PASSWORD).await;
    let accepted = act(&app, &to_app, "accept").await;
    assert_eq!((accepted.status, &accepted.body["accepted_user_id"]), (200, &later["id"]));
});

both_engines!(a_sign_in_over_the_api_accepts_and_is_in_that_organization, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let user = app.user(EMAIL, PASSWORD).await;
    for to in [&acme, &other] {
        let invitation = invite(&app, json!({"email": EMAIL, "organization_id": to, "role_slug": "admin"})).await;
        let signed_in = sign_in_with(&app, EMAIL, text(&invitation, "token")).await;
        assert_eq!(signed_in.status, 200, "{}", signed_in.text);
        assert_eq!(signed_in.body["organization_id"], **to, "the invitation names the organization");
        assert_eq!(found(&app, &invitation).await["accepted_user_id"], user["id"]);
        let again = sign_in_with(&app, EMAIL, text(&invitation, "token")).await;
        assert_eq!((again.status, again.code()), (400, "invitation_invalid"), "twice");
        assert!(again.body["error_description"].is_string());
    }
    assert_eq!((members(&app, &acme).await.len(), members(&app, &other).await.len()), (1, 1));
});

both_engines!(row_36_an_unproved_address_accepts_nothing_until_it_is_proved, |app| async move {
    let acme = organization(&app, "Acme").await;
    let made = app.api(Method::POST, "/user_management/users", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(made.status, 201);
    let invitation = invite(&app, json!({"email": "boss@acme.test", "organization_id": acme, "role_slug": "admin"})).await;
    let waiting = sign_in_with(&app, EMAIL, text(&invitation, "token")).await;
    assert_eq!((waiting.status, waiting.code()), (403, "email_verification_required"));
    assert_eq!(found(&app, &invitation).await["state"], "pending");
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
    let code = app.mails().await[0].code.clone().unwrap();
    let body = json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": code,
        "pending_authentication_token": waiting.body["pending_authentication_token"]});
    let signed_in = app.authenticate(body).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    assert_eq!(signed_in.body["organization_id"], acme);
    assert_eq!(found(&app, &invitation).await["accepted_user_id"], made.body["id"], "another address of the company's domain");
});

both_engines!(row_36_an_invitation_revoked_while_a_sign_in_waits_is_not_accepted, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.api(Method::POST, "/user_management/users", json!({"email": EMAIL, "password": PASSWORD})).await;
    for what in ["revoke", "resend"] {
        let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
        let waiting = sign_in_with(&app, EMAIL, text(&invitation, "token")).await;
        assert_eq!(waiting.status, 403, "{}", waiting.text);
        let code = app.mails().await[0].code.clone().unwrap();
        assert_eq!(act(&app, &invitation, what).await.status, 200);
        let body = json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": code,
            "pending_authentication_token": waiting.body["pending_authentication_token"]});
        let refused = app.authenticate(body).await;
        assert_eq!((refused.status, refused.code()), (400, "invitation_invalid"), "{what}");
        assert_eq!(members(&app, &acme).await, [] as [Value; 0], "{what}");
        let user = app.api(Method::GET, "/user_management/users?email=ada%40acme.test", Value::Null).await.body["data"][0]["id"].clone();
        let path = format!("/user_management/users/{}", user.as_str().unwrap());
        assert_eq!(app.api(Method::PUT, &path, json!({"email_verified": false})).await.status, 200);
    }
});

both_engines!(row_36_somebody_else_does_not_get_in_and_the_link_stays_good, |app| async move {
    let acme = organization(&app, "Acme").await;
    for email in ["eve@evil.test", "eve@gmail.com", EMAIL] {
        app.user(email, PASSWORD).await;
    }
    let company = invite(&app, json!({"email": "boss@acme.test", "organization_id": acme})).await;
    let consumer = invite(&app, json!({"email": "boss@gmail.com", "organization_id": acme})).await;
    for (invitation, email) in [(&company, "eve@evil.test"), (&company, "eve@gmail.com"), (&consumer, "eve@gmail.com"), (&consumer, EMAIL)]
    {
        let refused = sign_in_with(&app, email, text(invitation, "token")).await;
        assert_eq!((refused.status, refused.code()), (400, "invitation_cannot_be_used_for_email"), "{email}");
    }
    for forged in ["", "x", &"A".repeat(43), &format!("{}A", text(&company, "token"))] {
        let answer = sign_in_with(&app, EMAIL, forged).await;
        if forged.is_empty() {
            assert_eq!(answer.status, 200, "none is none");
        } else {
            assert_eq!((answer.status, answer.code()), (400, "invitation_invalid"), "{forged}");
        }
    }
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
    assert_eq!(sign_in_with(&app, EMAIL, text(&company, "token")).await.body["organization_id"], acme, "same company");
});

both_engines!(row_36_accepting_changes_no_role_and_brings_no_deactivated_member_back, |app| async move {
    let acme = organization(&app, "Acme").await;
    let user = app.user(EMAIL, PASSWORD).await;
    // The invitation is older than the membership it meets.
    let invitation = invite(&app, json!({"email": "boss@acme.test", "organization_id": acme, "role_slug": "admin"})).await;
    let membership = json!({"user_id": user["id"], "organization_id": acme, "role_slug": "member"});
    let made = app.api(Method::POST, "/user_management/organization_memberships", membership).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let signed_in = sign_in_with(&app, EMAIL, text(&invitation, "token")).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    assert_eq!(members(&app, &acme).await[0]["role"]["slug"], "member", "a member stays what they are");

    let second = invite(&app, json!({"email": "other@acme.test", "organization_id": acme, "role_slug": "admin"})).await;
    let path = format!("/user_management/organization_memberships/{}/deactivate", text(&made.body, "id"));
    assert_eq!(app.api(Method::PUT, &path, Value::Null).await.status, 200);
    let refused = sign_in_with(&app, EMAIL, text(&second, "token")).await;
    assert_eq!((refused.status, refused.code()), (400, "invitation_invalid"));
    assert_eq!(members(&app, &acme).await[0]["status"], "inactive");
    assert_eq!(found(&app, &second).await["state"], "pending", "and the invitation is not used up");
    let again = app.api(Method::POST, PATH, json!({"email": EMAIL, "organization_id": acme})).await;
    assert_eq!(again.code(), "user_already_organization_member");
});

both_engines!(row_36_a_role_that_was_deleted_is_not_replaced_by_another, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let path = format!("/authorization/organizations/{acme}/roles");
    let role = app.api(Method::POST, &path, json!({"slug": "org-reader", "name": "Reader"})).await;
    assert_eq!(role.status, 201, "{}", role.text);
    let slug = text(&role.body, "slug").to_owned();
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme, "role_slug": slug})).await;
    let deleted = app.api(Method::DELETE, &format!("{path}/{slug}"), Value::Null).await;
    assert!(deleted.status < 300, "{}", deleted.text);
    let accepted = act(&app, &invitation, "accept").await;
    assert_eq!((accepted.status, accepted.code()), (400, "invalid_invite"));
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
    assert_eq!(found(&app, &invitation).await["state"], "pending");
});

both_engines!(row_36_a_role_that_is_given_on_resources_is_none_to_be_invited_with, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    let role = |slug: &str, resource_type_slug: &str| NewRole {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        description: None,
        resource_type_slug: resource_type_slug.to_owned(),
        organization_id: None,
    };
    let new = [role("editor", "document"), role("auditor", "organization")];
    let made = app.cx().db().write(move |tx| {
        for new in &new {
            assert!(roles::insert(tx, &environment, new, &scribe)?.is_ok());
        }
        Ok::<_, DbError>(())
    });
    made.await.unwrap();
    let refused = app.api(Method::POST, PATH, json!({"email": EMAIL, "organization_id": acme, "role_slug": "editor"})).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_role"), "{}", refused.text);
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme, "role_slug": "auditor"})).await;
    let (environment, id) = (app.tenant.environment.clone(), text(&invitation, "id").to_owned());
    let changed = app.cx().db().write(move |tx| {
        let sql = "UPDATE invitations SET role_slug = 'editor' WHERE environment_id = $1 AND id = $2";
        tx.execute(sql, gatewright_db::params![&environment, id.as_str()])
    });
    assert_eq!(changed.await.unwrap(), 1);
    let accepted = act(&app, &invitation, "accept").await;
    assert_eq!((accepted.status, accepted.code()), (400, "invalid_invite"), "nor does accepting believe the row");
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
});

// Between reading an invitation and accepting it lie proofs, pages and other callers: the one statement and what it locks decide.
both_engines!(row_36_what_is_true_when_it_is_accepted_counts_and_not_what_was_read_before, |app| async move {
    let cases = [
        ("nothing", "accepted"),
        ("resend", "NotPending"),
        ("revoke", "NotPending"),
        ("accept", "NotPending"),
        ("expire", "NotPending"),
        ("other address", "OtherEmail"),
        ("delete user", "Gone"),
        ("delete organization", "Gone"),
        ("delete role", "Gone"),
        ("deactivate", "Deactivated"),
    ];
    for (n, (meanwhile, expected)) in cases.into_iter().enumerate() {
        let acme = organization(&app, &format!("Acme {n}")).await;
        let roles = format!("/authorization/organizations/{acme}/roles");
        assert_eq!(app.api(Method::POST, &roles, json!({"slug": "org-reader", "name": "Reader"})).await.status, 201);
        let email = format!("ada{n}@acme.test");
        let user = app.user(&email, PASSWORD).await;
        let to = format!("boss{n}@acme.test");
        let invitation = invite(&app, json!({"email": to, "organization_id": acme, "role_slug": "org-reader"})).await;
        let (environment, token) = (app.tenant.environment.clone(), text(&invitation, "token").to_owned());
        let read = app.cx().db().read(move |tx| invitations::find_by_token(tx, &environment, &token)).await.unwrap().unwrap();
        let path = format!("/user_management/users/{}", text(&user, "id"));
        let done = match meanwhile {
            "nothing" => 200,
            "accept" => {
                app.user(&to, PASSWORD).await;
                act(&app, &invitation, "accept").await.status
            }
            "resend" | "revoke" => act(&app, &invitation, meanwhile).await.status,
            "expire" => {
                app.clock.advance(DAY * 7);
                200
            }
            "other address" => app.api(Method::PUT, &path, json!({"email": format!("eve{n}@evil.test")})).await.status,
            "delete user" => app.api(Method::DELETE, &path, Value::Null).await.status,
            "delete organization" => app.api(Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await.status,
            "delete role" => app.api(Method::DELETE, &format!("{roles}/org-reader"), Value::Null).await.status,
            _ => {
                let membership = json!({"user_id": user["id"], "organization_id": acme});
                let made = app.api(Method::POST, "/user_management/organization_memberships", membership).await;
                let path = format!("/user_management/organization_memberships/{}/deactivate", text(&made.body, "id"));
                app.api(Method::PUT, &path, Value::Null).await.status
            }
        };
        assert!((200..300).contains(&done), "{meanwhile}: {done}");
        let before = app.events().await.len();
        let (environment, user_id) = (app.tenant.environment.clone(), UserId::from_text(text(&user, "id")));
        let scribe = app.cx().scribe(Actor::Operator);
        let accepted = app.cx().db().write(move |tx| invitations::accept(tx, &environment, &read, &user_id, &scribe)).await;
        let outcome = match accepted {
            Ok(accepted) => {
                assert_eq!(accepted.membership.map(|membership| membership.role_slugs), Some(vec!["org-reader".to_owned()]));
                "accepted".to_owned()
            }
            Err(refusal) => {
                assert_eq!(app.events().await.len(), before, "{meanwhile}: a refusal leaves nothing behind");
                format!("{refusal:?}")
            }
        };
        assert_eq!(outcome, expected, "{meanwhile}");
    }
});

both_engines!(row_36_no_field_of_the_acceptors_raises_the_role_or_moves_the_invitation, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let eve = app.user("eve@evil.test", PASSWORD).await;
    let forged = |mut body: Value| {
        for (name, value) in [
            ("role_slug", json!("admin")),
            ("role_slugs", json!(["admin"])),
            ("role", json!({"slug": "admin"})),
            ("organization_id", json!(other)),
            ("user_id", eve["id"].clone()),
            ("email_verified", json!(true)),
            ("state", json!("pending")),
        ] {
            body[name] = value;
        }
        body
    };
    // At authenticate, by the API's own accept, and at the pages.
    for n in 0..3 {
        let email = format!("ada{n}@acme.test");
        let user = app.user(&email, PASSWORD).await;
        let invitation = invite(&app, json!({"email": email, "organization_id": acme})).await;
        match n {
            0 => {
                let body = json!({"grant_type": "password", "email": email, "password": PASSWORD, "invitation_token": invitation["token"]});
                assert_eq!(app.authenticate(forged(body)).await.body["organization_id"], acme);
            }
            1 => {
                let path = format!("{PATH}/{}/accept", text(&invitation, "id"));
                assert_eq!(app.api(Method::POST, &path, forged(json!({}))).await.status, 200);
            }
            _ => {
                let extra = [("role_slug", "admin"), ("organization_id", other.as_str()), ("email", "eve@evil.test"), ("account", "other")];
                let mut browser = app.browser();
                let page = browser.get(text(&invitation, "accept_invitation_url")).await;
                let next = browser.submit(&page, "/invite", &extra).await;
                let page = browser.follow(next).await;
                assert!(page.text.contains(&format!("value=\"{email}\"")), "{}", page.text);
                let fields = [("role_slug", "admin"), ("organization_id", other.as_str()), ("email", email.as_str())];
                let next = browser.submit(&page, "/sign-in", &fields).await;
                let page = browser.follow(next).await;
                let done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD), ("role_slug", "admin")]).await;
                assert_eq!(done.status, 303, "{}", done.text);
            }
        }
        assert_eq!(found(&app, &invitation).await["accepted_user_id"], user["id"], "{n}");
    }
    let roles: Vec<_> = members(&app, &acme).await.into_iter().map(|member| member["role"]["slug"].clone()).collect();
    assert_eq!(roles, ["member", "member", "member"]);
    assert_eq!(members(&app, &other).await, [] as [Value; 0]);
});

both_engines!(row_36_an_invitation_to_one_organization_opens_no_other, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let link = authorize(&app, &format!("&organization_id={other}&invitation_token={}", text(&invitation, "token")));
    let (mut browser, page) = go_on(&app, &link).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    assert_eq!(done.location_parameter("error").as_deref(), Some("access_denied"), "{}", done.text);
    assert!(done.location_parameter("code").is_none());
    assert_eq!((members(&app, &acme).await.len(), members(&app, &other).await.len()), (1, 0));
});

both_engines!(row_09_an_invitation_under_way_belongs_to_the_browser_that_began, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let mut eve = app.browser();
    let begun = eve.get(&authorize(&app, &format!("&invitation_token={}", text(&invitation, "token")))).await;
    let (request, page) = (begun.location().unwrap(), eve.follow(begun).await);
    let mut ada = app.browser();
    ada.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await;
    assert_eq!(ada.get(&request).await.status, 403);
    let own = ada.get(text(&invitation, "accept_invitation_url")).await;
    let id = request.split_once("request=").unwrap().1;
    for (page, fields) in [(&page, &[("account", "current")][..]), (&own, &[("account", "current"), ("request", id)])] {
        assert_eq!(ada.submit(page, "/invite", fields).await.status, 403, "eve's sign-in does not end as ada's");
    }
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
});

both_engines!(row_44_a_planted_session_accepts_nothing, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let link = text(&invitation, "accept_invitation_url");
    let name = format!("gw_session_{}", app.tenant.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    // Somebody signed in to the other environment under the same address: that session is nobody's here.
    let made = json!({"email": EMAIL, "password": PASSWORD, "email_verified": true});
    assert_eq!(app.api_as(&app.other, Method::POST, "/user_management/users", made).await.status, 201);
    let theirs = format!("gw_session_{}", app.other.environment.as_str().rsplit('_').next().unwrap().to_ascii_lowercase());
    let mut stranger = app.browser();
    let there = authorize(&app, "").replace(&app.tenant.client_id, &app.other.client_id);
    stranger.sign_in(&there, EMAIL, PASSWORD).await;
    let foreign = stranger.cookie(&theirs).expect("signed in there").to_owned();
    for planted in [foreign.as_str(), "planted-by-somebody-else", ""] {
        let mut browser = app.browser();
        browser.set_cookie(&name, planted);
        let page = browser.get(link).await;
        assert!(!page.text.contains("value=\"current\""), "{planted}");
        let next = browser.submit(&page, "/invite", &[("account", "current")]).await;
        assert!(next.location().is_some_and(|location| location.starts_with("/sign-in?")), "{planted}: {:?}", next.location());
        assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
    }
    let mut browser = app.browser();
    browser.set_cookie(&name, &foreign);
    let page = browser.get(link).await;
    let next = browser.submit(&page, "/invite", &[("account", "other")]).await;
    let page = browser.follow(next).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_ne!(browser.cookie(&name), Some(foreign.as_str()), "a session of its own begins");
    assert_eq!(members(&app, &acme).await.len(), 1);
});

both_engines!(row_17_the_token_of_an_invitation_is_good_for_nothing_else, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let token = text(&invitation, "token");
    for body in [
        json!({"grant_type": "refresh_token", "refresh_token": token}),
        json!({"grant_type": "authorization_code", "code": token}),
        json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "pending_authentication_token": token, "organization_id": acme}),
        json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "pending_authentication_token": token, "code": "123456"}),
        json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": token}),
    ] {
        assert_eq!(app.authenticate(body.clone()).await.status, 400, "{body}");
    }
    let reset = json!({"token": token, "new_password": "another correct horse"});
    assert!([400, 404].contains(&app.api(Method::POST, "/user_management/password_reset/confirm", reset).await.status));
    let stolen = Tenant { api_key: token.to_owned(), ..app.tenant.clone() };
    assert_eq!(app.api_as(&stolen, Method::GET, PATH, Value::Null).await.status, 401);
    assert_eq!(found(&app, &invitation).await["state"], "pending");
});

both_engines!(the_token_is_stored_hashed_and_sealed_and_told_in_no_event, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let token = text(&invitation, "token").to_owned();
    assert_eq!(sign_in_with(&app, EMAIL, &token).await.status, 200);
    let environment = app.tenant.environment.clone();
    let row = app.cx().db().read(move |tx| {
        let sql = "SELECT token_hash, token_sealed FROM invitations WHERE environment_id = $1";
        let mut row = tx.one(sql, gatewright_db::params![&environment])?;
        Ok::<_, DbError>((row.text()?, row.bytes()?))
    });
    let (hash, sealed) = row.await.unwrap();
    assert_eq!(hash, gatewright_jose::hash_secret(&token));
    assert!(!sealed.windows(token.len()).any(|part| part == token.as_bytes()));
    let told = serde_json::to_string(&app.events().await).unwrap();
    for secret in [token.as_str(), hash.as_str(), "invitation_token", "accept_invitation_url"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
});

#[tokio::test]
async fn an_invitation_opens_a_closed_sign_up_for_one_and_not_for_a_crowd() {
    for on in [On::Sqlite, On::Postgres] {
        let app = TestApp::start_with(on, |config| config.limits.enabled = true).await;
        for password in [true, false] {
            app.settings(|settings| (settings.sign_up, settings.password) = (false, password)).await;
            let invitation = invite(&app, json!({"email": format!("{password}@acme.test")})).await;
            let mut statuses = Vec::new();
            for n in 0..12 {
                app.clock.advance(Duration::from_secs(61));
                let (mut browser, page) = go_on(&app, text(&invitation, "accept_invitation_url")).await;
                let email = format!("crowd{n}@{password}.test");
                let (form, fields) = if password { ("/sign-up", vec![("password", PASSWORD)]) } else { ("/sign-in", vec![]) };
                let next = browser.submit(&page, form, &[vec![("email", email.as_str())], fields].concat()).await;
                statuses.push(next.status);
            }
            assert_eq!(statuses, [vec![303; 10], vec![429; 2]].concat(), "{on:?} {password}");
        }
    }
}

both_engines!(of_64_at_once_one_accepts, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme, "role_slug": "admin"})).await;
    let path = format!("{PATH}/{}/accept", text(&invitation, "id"));
    let answers = all_at_once(&app, |app, _| {
        let path = path.clone();
        async move { app.api(Method::POST, &path, Value::Null).await }
    })
    .await;
    assert_eq!(outcomes(&answers), [(200, String::new(), 1), (400, "invite_not_pending".to_owned(), 63)]);
    assert_eq!(members(&app, &acme).await.len(), 1);
    assert_eq!(
        names_of_events(&app, &["invitation.", "organization_membership."]).await,
        ["invitation.created", "invitation.accepted", "organization_membership.created"]
    );
});

both_engines!(of_64_colleagues_with_one_link_one_gets_in, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    for n in 0..64 {
        app.user(&format!("colleague{n}@acme.test"), PASSWORD).await;
    }
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let token = text(&invitation, "token").to_owned();
    let answers = all_at_once(&app, |app, n| {
        let (email, token) = (format!("colleague{n}@acme.test"), token.clone());
        async move { sign_in_with(&app, &email, &token).await }
    })
    .await;
    assert_eq!(outcomes(&answers), [(200, String::new(), 1), (400, "invitation_invalid".to_owned(), 63)]);
    assert_eq!(members(&app, &acme).await.len(), 1);
});

both_engines!(of_64_at_once_one_invites_an_address, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    for (body, code) in [
        (json!({"email": EMAIL}), "email_already_invited"),
        (json!({"email": EMAIL, "organization_id": acme}), "email_already_invited_to_organization"),
    ] {
        let before = app.mails().await.len();
        let answers = all_at_once(&app, |app, _| {
            let body = body.clone();
            async move { app.api(Method::POST, PATH, body).await }
        })
        .await;
        assert_eq!(outcomes(&answers), [(201, String::new(), 1), (400, code.to_owned(), 63)]);
        assert_eq!(app.mails().await.len(), before + 1, "one mail");
    }
});

both_engines!(of_many_who_send_again_at_once_one_link_is_left, |app| async move {
    let app = Arc::new(app);
    let invitation = invite(&app, json!({"email": EMAIL})).await;
    let path = format!("{PATH}/{}/resend", text(&invitation, "id"));
    let answers = all_at_once(&app, |app, _| {
        let path = path.clone();
        async move { app.api(Method::POST, &path, Value::Null).await }
    })
    .await;
    assert_eq!(outcomes(&answers), [(200, String::new(), 64)]);
    let tokens: BTreeSet<_> = answers.iter().map(|answer| text(&answer.body, "token").to_owned()).collect();
    assert_eq!(tokens.len(), 64);
    let mut alive = 0;
    for token in tokens {
        alive += usize::from(app.api(Method::GET, &format!("{PATH}/by_token/{token}"), Value::Null).await.status == 200);
    }
    assert_eq!(alive, 1);
});

both_engines!(somebody_new_comes_in_by_the_mails_link_though_sign_up_is_closed, |app| async move {
    app.settings(|settings| {
        settings.sign_up = false;
        settings.sign_in_endpoint = Some("https://app.example/login".to_owned());
    })
    .await;
    let acme = organization(&app, "Acme").await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme, "role_slug": "admin"})).await;
    let link = app.mails().await[0].links[0].clone();
    for _ in 0..3 {
        let page = app.browser().get(&link).await;
        assert_eq!(page.status, 200, "a scanner that opens the link accepts nothing");
        assert!(page.text.contains("Acme") && page.text.contains(EMAIL), "{}", page.text);
    }
    assert_eq!(found(&app, &invitation).await["state"], "pending");
    let (mut browser, page) = go_on(&app, &link).await;
    assert!(page.text.contains("action=\"/sign-up\""), "{}", page.text);
    assert!(page.text.contains(&format!("value=\"{EMAIL}\"")), "the address is filled in");
    let refused = browser.submit(&page, "/sign-up", &[("email", "eve@evil.test"), ("password", PASSWORD)]).await;
    assert_eq!(refused.status, 422, "closed to everybody else");
    let next = browser.submit(&page, "/sign-up", &[("email", EMAIL), ("password", PASSWORD)]).await;
    assert_eq!(next.status, 303, "{}", next.text);
    let page = browser.follow(next).await;
    assert_eq!(members(&app, &acme).await, [] as [Value; 0], "the address is not proved yet");
    let code = app.mails().await[0].code.clone().unwrap();
    let done = browser.submit(&page, "/verify-email", &[("code", &code)]).await;
    let page = browser.follow(done).await;
    assert!(page.text.contains("https://app.example/login"), "{}", page.text);
    let members = members(&app, &acme).await;
    assert_eq!((members.len(), &members[0]["role"]["slug"]), (1, &json!("admin")));
    assert_eq!(browser.get(&link).await.status, 400, "the link has been used");
    let in_app = browser.get(&authorize(&app, "")).await;
    assert_eq!(exchange(&app, &in_app).await["organization_id"], acme, "signed in already");
});

both_engines!(somebody_known_signs_in_by_the_apps_link_and_lands_in_the_organization, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let user = app.user(EMAIL, PASSWORD).await;
    let membership = json!({"user_id": user["id"], "organization_id": other});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", membership).await.status, 201);
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let link = authorize(&app, &format!("&invitation_token={}", text(&invitation, "token")));
    let (mut browser, page) = go_on(&app, &link).await;
    assert!(page.text.contains("action=\"/sign-in\""), "{}", page.text);
    let refused = browser.submit(&page, "/sign-in", &[("email", "eve@evil.test")]).await;
    assert_eq!(refused.status, 422);
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    assert_eq!(done.location_parameter("state").as_deref(), Some("s"));
    let signed_in = exchange(&app, &done).await;
    assert_eq!(signed_in["organization_id"], acme, "with two organizations nobody asks which");
    assert_eq!(found(&app, &invitation).await["accepted_user_id"], user["id"]);
    let stale = app.browser().get(&link).await;
    assert_eq!(stale.status, 400, "a page, not a redirect with a code");
});

both_engines!(who_is_signed_in_accepts_with_one_press_and_never_by_a_link_alone, |app| async move {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    assert_eq!(browser.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await.status, 303);

    let first = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let link = authorize(&app, &format!("&invitation_token={}", text(&first, "token")));
    let shown = browser.get(&link).await;
    let page = browser.follow(shown).await;
    assert!(page.text.contains("value=\"current\"") && page.text.contains(EMAIL), "{}", page.text);
    assert_eq!(members(&app, &acme).await, [] as [Value; 0], "opening a link joins nobody");
    let silent = browser.get(&format!("{link}&prompt=none")).await;
    assert_eq!(silent.location_parameter("error").as_deref(), Some("interaction_required"));
    let done = browser.submit(&page, "/invite", &[("account", "current")]).await;
    assert_eq!(exchange(&app, &done).await["organization_id"], acme);

    let second = invite(&app, json!({"email": "boss@acme.test", "organization_id": other})).await;
    let page = browser.get(&format!("/invite?invitation_token={}", text(&second, "token"))).await;
    let done = browser.submit(&page, "/invite", &[("account", "current")]).await;
    assert_eq!(done.location().as_deref(), Some(format!("/invite/accepted?client_id={}", app.tenant.client_id).as_str()));
    assert_eq!(members(&app, &other).await.len(), 1);

    // Where the app asks for a fresh sign-in, or the invitation is for somebody else, the present one is not offered.
    let third = invite(&app, json!({"email": "boss@gmail.com", "organization_id": organization(&app, "Third").await})).await;
    let page = browser.get(&format!("/invite?invitation_token={}", text(&third, "token"))).await;
    assert!(!page.text.contains("value=\"current\""), "{}", page.text);
    assert!(page.text.contains("signed in with another account") && page.text.contains(EMAIL), "{}", page.text);
    let forced = browser.submit(&page, "/invite", &[("account", "current")]).await;
    assert!(forced.location().is_some_and(|location| location.starts_with("/sign-up?")), "{:?}", forced.location());
    let fourth = invite(&app, json!({"email": EMAIL, "organization_id": organization(&app, "Fourth").await})).await;
    let shown = browser.get(&authorize(&app, &format!("&prompt=login&invitation_token={}", text(&fourth, "token")))).await;
    let page = browser.follow(shown).await;
    assert!(!page.text.contains("value=\"current\""), "{}", page.text);
    let forced = browser.submit(&page, "/invite", &[("account", "current")]).await;
    assert!(forced.location().is_some_and(|location| location.starts_with("/sign-in?")), "{:?}", forced.location());
});

both_engines!(row_46_an_invitation_is_not_accepted_by_a_form_from_elsewhere, |app| async move {
    let acme = organization(&app, "Acme").await;
    app.user(EMAIL, PASSWORD).await;
    let mut browser = app.browser();
    browser.sign_in(&authorize(&app, ""), EMAIL, PASSWORD).await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let page = browser.get(&format!("/invite?invitation_token={}", text(&invitation, "token"))).await;
    for csrf in ["", "forged"] {
        assert_eq!(browser.submit(&page, "/invite", &[("account", "current"), ("csrf", csrf)]).await.status, 403);
    }
    browser.headers.push((HeaderName::from_static("origin"), "https://evil.test".to_owned()));
    assert_eq!(browser.submit(&page, "/invite", &[("account", "current")]).await.status, 403);
    assert_eq!(members(&app, &acme).await, [] as [Value; 0]);
});

both_engines!(an_invitation_to_the_app_is_good_for_any_address, |app| async move {
    app.settings(|settings| settings.sign_up = false).await;
    let invitation = invite(&app, json!({"email": EMAIL})).await;
    let (mut browser, page) = go_on(&app, text(&invitation, "accept_invitation_url")).await;
    let next = browser.submit(&page, "/sign-up", &[("email", "private@gmail.com"), ("password", PASSWORD)]).await;
    let page = browser.follow(next).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = browser.submit(&page, "/verify-email", &[("code", &code)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let accepted = found(&app, &invitation).await;
    assert_eq!((&accepted["state"], &accepted["email"]), (&json!("accepted"), &json!(EMAIL)));
    assert!(accepted["accepted_user_id"].is_string());
});

both_engines!(a_mailed_code_lets_the_invited_in_though_sign_up_is_closed, |app| async move {
    app.settings(|settings| {
        settings.sign_up = false;
        settings.password = false;
    })
    .await;
    let acme = organization(&app, "Acme").await;
    let code = async |body: Value| app.api(Method::POST, "/user_management/magic_auth", body).await;
    assert_eq!(code(json!({"email": EMAIL})).await.code(), "sign_up_not_allowed");
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let token = text(&invitation, "token");
    assert_eq!(code(json!({"email": "eve@evil.test", "invitation_token": token})).await.code(), "invitation_cannot_be_used_for_email");
    assert_eq!(code(json!({"email": EMAIL, "invitation_token": "nonsense"})).await.code(), "invitation_invalid");
    let sent = code(json!({"email": EMAIL, "invitation_token": token})).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let body = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "code": sent.body["code"], "email": EMAIL, "invitation_token": token});
    let signed_in = app.authenticate(body).await;
    assert_eq!((signed_in.status, &signed_in.body["organization_id"]), (200, &json!(acme)), "{}", signed_in.text);

    // And at the pages, where there is no password to ask for.
    let second = invite(&app, json!({"email": "b@acme.test", "organization_id": acme})).await;
    let (mut browser, page) = go_on(&app, text(&second, "accept_invitation_url")).await;
    let next = browser.submit(&page, "/sign-in", &[("email", "b@acme.test")]).await;
    let page = browser.follow(next).await;
    let code = app.mails().await[0].code.clone().unwrap();
    let done = browser.submit(&page, "/sign-in/code", &[("code", &code)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(found(&app, &second).await["state"], "accepted");
});

both_engines!(an_organization_takes_its_invitations_with_it, |app| async move {
    let acme = organization(&app, "Acme").await;
    let invitation = invite(&app, json!({"email": EMAIL, "organization_id": acme})).await;
    let deleted = app.api(Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await;
    assert!(deleted.status < 300, "{}", deleted.text);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/{}", text(&invitation, "id")), Value::Null).await.status, 404);
    assert_eq!(app.browser().get(text(&invitation, "accept_invitation_url")).await.status, 400);
});

async fn all_at_once<F>(app: &Arc<TestApp>, call: impl Fn(Arc<TestApp>, usize) -> F) -> Vec<Answer>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        tasks.spawn(call(app.clone(), n));
    }
    tasks.join_all().await
}

fn outcomes(answers: &[Answer]) -> Vec<(u16, String, usize)> {
    let kinds: BTreeSet<_> = answers.iter().map(|answer| (answer.status, answer.code().to_owned())).collect();
    kinds
        .into_iter()
        .map(|(status, code)| {
            let count = answers.iter().filter(|answer| answer.status == status && answer.code() == code).count();
            (status, code, count)
        })
        .collect()
}
