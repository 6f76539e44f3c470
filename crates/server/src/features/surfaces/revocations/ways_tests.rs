//! Every way in which access ends, and exactly what guards are told of it. A way that tells nothing any more turns its test red.

use std::time::Duration;

use axum::http::Method;
use gatewright_jose::b64;
use serde_json::{Value, json};

use super::tests::{Told, credential_changes, told};
use crate::both_engines;
use crate::features::credentials::signing_keys;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const USERS: &str = "/user_management/users";
const MEMBERSHIPS: &str = "/user_management/organization_memberships";

fn row(kind: &str, subject: &str, user: Option<&str>, organization: Option<&str>, reason: &str) -> Told {
    (kind.to_owned(), subject.to_owned(), user.map(str::to_owned), organization.map(str::to_owned), reason.to_owned())
}

async fn good(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let answer = app.api(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn session_of(pair: &Value) -> String {
    let token = pair["access_token"].as_str().expect("an access token");
    let payload = b64::decode_url(token.split('.').nth(1).unwrap()).unwrap();
    text(&serde_json::from_slice::<Value>(&payload).unwrap()["sid"])
}

async fn alice(app: &TestApp) -> String {
    text(&app.user(EMAIL, PASSWORD).await["id"])
}

async fn sign_in(app: &TestApp) -> (String, Value) {
    let pair = app.sign_in(EMAIL, PASSWORD).await;
    (session_of(&pair), pair)
}

async fn refresh(app: &TestApp, pair: &Value, organization: Option<&str>) -> crate::testkit::Answer {
    let body = json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "organization_id": organization});
    app.authenticate(body).await
}

async fn organization(app: &TestApp, name: &str) -> String {
    text(&good(app, Method::POST, "/organizations", json!({"name": name})).await["id"])
}

async fn join(app: &TestApp, user: &str, organization: &str) -> String {
    text(&good(app, Method::POST, MEMBERSHIPS, json!({"user_id": user, "organization_id": organization})).await["id"])
}

/// Alice signed in to Acme: user, organization, membership, session, pair.
async fn alice_in_acme(app: &TestApp) -> (String, String, String, String, Value) {
    let user = alice(app).await;
    let acme = organization(app, "Acme").await;
    let membership = join(app, &user, &acme).await;
    let (session, pair) = sign_in(app).await;
    assert_eq!(pair["organization_id"], acme.as_str());
    (user, acme, membership, session, pair)
}

both_engines!(what_ends_no_access_tells_nothing, |app| async move {
    let (user, _, membership, _, pair) = alice_in_acme(&app).await;
    assert_eq!(refresh(&app, &pair, None).await.status, 200);
    good(&app, Method::PUT, &format!("{USERS}/{user}"), json!({"first_name": "Alice"})).await;
    good(&app, Method::PUT, &format!("{MEMBERSHIPS}/{membership}"), json!({"role_slug": "admin"})).await;
    assert_eq!(told(&app).await, []);
});

both_engines!(row_23_signing_out_ends_the_session, |app| async move {
    let user = alice(&app).await;
    let (session, _) = sign_in(&app).await;
    let (_, _) = sign_in(&app).await;
    app.anonymous(Method::GET, &format!("/user_management/sessions/logout?session_id={session}"), Value::Null).await;
    assert_eq!(told(&app).await, [row("session", &session, Some(&user), None, "signed_out")]);
    app.anonymous(Method::GET, &format!("/user_management/sessions/logout?session_id={session}"), Value::Null).await;
    assert_eq!(told(&app).await, [], "it ended already");
});

both_engines!(row_23_revoking_a_session_ends_it, |app| async move {
    let (user, acme, _, session, _) = alice_in_acme(&app).await;
    good(&app, Method::POST, "/user_management/sessions/revoke", json!({"session_id": session})).await;
    assert_eq!(told(&app).await, [row("session", &session, Some(&user), Some(&acme), "revoked")]);
});

both_engines!(row_23_a_reused_refresh_token_ends_its_session_by_policy, |app| async move {
    let user = alice(&app).await;
    for ends in [false, true] {
        app.settings(move |settings| settings.refresh_reuse_ends_session = ends).await;
        let (session, pair) = sign_in(&app).await;
        assert_eq!(refresh(&app, &pair, None).await.status, 200);
        app.clock.advance(Duration::from_secs(31));
        assert_eq!(refresh(&app, &pair, None).await.code(), "invalid_grant");
        let expected = if ends { vec![row("session", &session, Some(&user), None, "refresh_token_reused")] } else { Vec::new() };
        assert_eq!(told(&app).await, expected, "{ends}");
    }
});

both_engines!(row_23_a_reused_authorization_code_ends_its_session, |app| async move {
    let user = alice(&app).await;
    let callback = "http%3A%2F%2Flocalhost%3A8000%2Fcallback";
    let client = &app.tenant.client_id;
    let authorize = format!("/user_management/authorize?client_id={client}&redirect_uri={callback}&response_type=code&provider=authkit");
    let code = app.browser().sign_in(&authorize, EMAIL, PASSWORD).await.location_parameter("code").expect("a code");
    let pair = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(pair.status, 200, "{}", pair.text);
    assert_eq!(told(&app).await, []);
    assert_eq!(app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.code(), "invalid_grant");
    assert_eq!(told(&app).await, [row("session", &session_of(&pair.body), Some(&user), None, "authorization_code_reused")]);
});

both_engines!(row_23_a_changed_password_or_address_ends_every_session, |app| async move {
    let user = alice(&app).await;
    let path = format!("{USERS}/{user}");
    let ended = |sessions: [&str; 2], reason: &str| {
        let mut rows = sessions.map(|session| row("session", session, Some(&user), None, reason));
        rows.sort();
        rows
    };
    let sorted = |mut rows: Vec<Told>| {
        rows.sort();
        rows
    };
    let (first, second) = (sign_in(&app).await.0, sign_in(&app).await.0);
    good(&app, Method::PUT, &path, json!({"password": "a whole new passphrase"})).await;
    assert_eq!(sorted(told(&app).await), ended([&first, &second], "password_changed"));
    assert_eq!(credential_changes(&app).await, [("password".to_owned(), "update".to_owned())]);

    let sign_in_anew = async |password: &str, email: &str| session_of(&app.sign_in(email, password).await);
    let (first, second) = (sign_in_anew("a whole new passphrase", EMAIL).await, sign_in_anew("a whole new passphrase", EMAIL).await);
    let reset = good(&app, Method::POST, "/user_management/password_reset", json!({"email": EMAIL})).await;
    let confirm = json!({"token": reset["password_reset_token"], "new_password": PASSWORD});
    good(&app, Method::POST, "/user_management/password_reset/confirm", confirm).await;
    assert_eq!(sorted(told(&app).await), ended([&first, &second], "password_changed"));
    assert_eq!(credential_changes(&app).await, [("password".to_owned(), "update".to_owned())]);

    let (first, second) = (sign_in(&app).await.0, sign_in(&app).await.0);
    let new_email = json!({"new_email": "alice@new.test"});
    good(&app, Method::POST, &format!("{path}/email_change/send"), new_email).await;
    let code = app.mails().await[0].code.clone().expect("a code");
    good(&app, Method::POST, &format!("{path}/email_change/confirm"), json!({"code": code})).await;
    assert_eq!(sorted(told(&app).await), ended([&first, &second], "email_changed"));

    let (first, second) = (sign_in_anew(PASSWORD, "alice@new.test").await, sign_in_anew(PASSWORD, "alice@new.test").await);
    good(&app, Method::PUT, &path, json!({"email": EMAIL})).await;
    assert_eq!(sorted(told(&app).await), ended([&first, &second], "email_changed"));
    assert_eq!(credential_changes(&app).await, []);
});

both_engines!(an_address_proved_by_its_owner_ends_the_sessions_of_before, |app| async move {
    let user = alice(&app).await;
    let (session, _) = sign_in(&app).await;
    good(&app, Method::PUT, &format!("{USERS}/{user}"), json!({"email_verified": false})).await;
    let magic = good(&app, Method::POST, "/user_management/magic_auth", json!({"email": EMAIL})).await;
    let grant = "urn:workos:oauth:grant-type:magic-auth:code";
    let signed_in = app.authenticate(json!({"grant_type": grant, "code": magic["code"], "email": EMAIL})).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    assert_eq!(told(&app).await, [row("session", &session, Some(&user), None, "email_proved")]);
    assert_eq!(credential_changes(&app).await, [("password".to_owned(), "delete".to_owned())]);
});

both_engines!(row_23_deleting_a_user_ends_the_user_and_every_session, |app| async move {
    let (user, acme, membership, session, _) = alice_in_acme(&app).await;
    let key = json!({"name": "key", "organization_id": acme});
    let key = text(&good(&app, Method::POST, &format!("{USERS}/{user}/api_keys"), key).await["id"]);
    good(&app, Method::PUT, &format!("{MEMBERSHIPS}/{membership}"), json!({"role_slug": "admin"})).await;
    let bob = text(&app.user("bob@example.test", PASSWORD).await["id"]);
    join(&app, &bob, &acme).await;
    // Acme would lose its last admin: nothing is told of what is not done.
    assert_eq!(app.api(Method::DELETE, &format!("{USERS}/{user}"), Value::Null).await.status, 409);
    assert_eq!(told(&app).await, []);
    good(&app, Method::DELETE, &format!("{USERS}/{bob}"), Value::Null).await;
    assert_eq!(told(&app).await, [row("user", &bob, Some(&bob), None, "user_deleted")]);
    good(&app, Method::DELETE, &format!("{USERS}/{user}"), Value::Null).await;
    assert_eq!(
        told(&app).await,
        [
            row("api_key", &key, Some(&user), Some(&acme), "api_key_deleted"),
            row("user", &user, Some(&user), None, "user_deleted"),
            row("session", &session, Some(&user), Some(&acme), "user_deleted"),
        ]
    );
});

both_engines!(row_23_a_membership_that_ends_ends_what_was_issued_for_its_organization, |app| async move {
    let (user, acme, membership, session, _) = alice_in_acme(&app).await;
    let path = format!("{MEMBERSHIPS}/{membership}");
    good(&app, Method::PUT, &format!("{path}/deactivate"), Value::Null).await;
    assert_eq!(
        told(&app).await,
        [
            row("organization_membership", &membership, Some(&user), Some(&acme), "membership_deactivated"),
            row("session", &session, Some(&user), Some(&acme), "membership_ended"),
        ]
    );
    good(&app, Method::DELETE, &path, Value::Null).await;
    assert_eq!(told(&app).await, [], "an inactive membership had nothing left to end");

    let membership = join(&app, &user, &acme).await;
    let (session, _) = sign_in(&app).await;
    let key = json!({"name": "key", "organization_id": acme});
    let key = text(&good(&app, Method::POST, &format!("{USERS}/{user}/api_keys"), key).await["id"]);
    good(&app, Method::DELETE, &format!("{MEMBERSHIPS}/{membership}"), Value::Null).await;
    assert_eq!(
        told(&app).await,
        [
            row("api_key", &key, Some(&user), Some(&acme), "api_key_deleted"),
            row("organization_membership", &membership, Some(&user), Some(&acme), "membership_deleted"),
            row("session", &session, Some(&user), Some(&acme), "membership_ended"),
        ]
    );
});

both_engines!(row_23_a_session_that_switched_leaves_no_token_of_the_organization_it_left, |app| async move {
    let (user, acme, membership, session, pair) = alice_in_acme(&app).await;
    let beta = organization(&app, "Beta").await;
    join(&app, &user, &beta).await;
    let switched = refresh(&app, &pair, Some(&beta)).await;
    assert_eq!((switched.status, session_of(&switched.body)), (200, session));
    assert_eq!(told(&app).await, [], "switching ends nothing: the member may still act for both");
    good(&app, Method::DELETE, &format!("{MEMBERSHIPS}/{membership}"), Value::Null).await;
    // The session goes on for Beta, so it is the membership that ends its token of before.
    assert_eq!(told(&app).await, [row("organization_membership", &membership, Some(&user), Some(&acme), "membership_deleted")]);
    assert_eq!(refresh(&app, &switched.body, None).await.status, 200);
});

both_engines!(row_23_deleting_an_organization_ends_what_was_issued_for_it, |app| async move {
    let (user, acme, membership, session, _) = alice_in_acme(&app).await;
    let key = good(&app, Method::POST, &format!("/organizations/{acme}/api_keys"), json!({"name": "key"})).await;
    let bob = text(&app.user("bob@example.test", PASSWORD).await["id"]);
    let inactive = join(&app, &bob, &acme).await;
    good(&app, Method::PUT, &format!("{MEMBERSHIPS}/{inactive}/deactivate"), Value::Null).await;
    told(&app).await;
    good(&app, Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await;
    assert_eq!(
        told(&app).await,
        [
            row("api_key", &text(&key["id"]), None, Some(&acme), "api_key_deleted"),
            row("organization_membership", &membership, Some(&user), Some(&acme), "organization_deleted"),
            row("session", &session, Some(&user), Some(&acme), "organization_deleted"),
        ]
    );
});

both_engines!(row_23_an_api_key_that_ends_is_told_of_when_it_ends, |app| async move {
    let acme = organization(&app, "Acme").await;
    let path = format!("/organizations/{acme}/api_keys");
    let make = async || text(&good(&app, Method::POST, &path, json!({"name": "key"})).await["id"]);
    let (deleted, expired, later) = (make().await, make().await, make().await);
    assert_eq!(credential_changes(&app).await, vec![("api-key".to_owned(), "create".to_owned()); 3]);
    good(&app, Method::DELETE, &format!("/api_keys/{deleted}"), Value::Null).await;
    assert_eq!(told(&app).await, [row("api_key", &deleted, None, Some(&acme), "api_key_deleted")]);
    good(&app, Method::POST, &format!("/api_keys/{expired}/expire"), Value::Null).await;
    assert_eq!(told(&app).await, [row("api_key", &expired, None, Some(&acme), "api_key_expired")]);
    good(&app, Method::POST, &format!("/api_keys/{later}/expire"), json!({"expires_at": "2030-01-01T00:00:00Z"})).await;
    good(&app, Method::DELETE, &format!("/api_keys/{expired}"), Value::Null).await;
    assert_eq!(told(&app).await, [], "one goes on, the other had ended");
});

both_engines!(row_23_a_revoked_signing_key_ends_what_it_signed_and_another_signs, |app| async move {
    alice(&app).await;
    let environment = app.tenant.environment.clone();
    let kids = async || {
        let keys = app.anonymous(Method::GET, &format!("/sso/jwks/{}", app.tenant.client_id), Value::Null).await;
        keys.body["keys"].as_array().unwrap().iter().map(|key| text(&key["kid"])).collect::<Vec<_>>()
    };
    let signed_by = async || {
        let pair = app.sign_in(EMAIL, PASSWORD).await;
        let header = b64::decode_url(pair["access_token"].as_str().unwrap().split('.').next().unwrap()).unwrap();
        text(&serde_json::from_slice::<Value>(&header).unwrap()["kid"])
    };
    // The one that signs, then the one that waits, then one that nobody knows, and another environment's.
    let active = signed_by().await;
    assert!(signing_keys::revoke(app.cx(), &environment, &active, Actor::Operator).await.unwrap());
    assert_eq!(told(&app).await, [row("signing_key", &active, None, None, "signing_key_revoked")]);
    let after = kids().await;
    assert_eq!((after.len(), after.contains(&active)), (2, false));
    let second = signed_by().await;
    assert!(after.contains(&second));
    let waiting = after.iter().find(|kid| **kid != second).unwrap().clone();
    assert!(signing_keys::revoke(app.cx(), &environment, &waiting, Actor::Operator).await.unwrap());
    assert_eq!(told(&app).await, [row("signing_key", &waiting, None, None, "signing_key_revoked")]);
    assert_eq!((kids().await.len(), signed_by().await), (2, second.clone()));
    assert!(!signing_keys::revoke(app.cx(), &environment, &active, Actor::Operator).await.unwrap(), "gone already");
    assert!(!signing_keys::revoke(app.cx(), &app.other.environment, &second, Actor::Operator).await.unwrap(), "not theirs");
    assert_eq!(told(&app).await, []);
});
