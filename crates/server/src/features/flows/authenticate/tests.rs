//! The operation from outside: every grant, every refusal, on both engines.

mod policy;

use std::time::{Duration, Instant};

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, COOKIE, ORIGIN, SET_COOKIE};
use gatewright_base::Secret;
use gatewright_jose::{Algorithm, Expect, Jwks, VerifyingKeys, pkce, verify_jwt};
use serde_json::{Value, json};

use super::{Origin, proofs};
use crate::both_engines;
use crate::features::records::users::EmailAddress;
use crate::testkit::{Answer, On, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://localhost:8000/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk-and-more";

fn authorize_url(app: &TestApp, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri={CALLBACK}&provider=authkit&state=xyz{extra}",
        app.tenant.client_id
    )
}

fn pkce_extra() -> String {
    format!("&code_challenge={}&code_challenge_method=S256", pkce::challenge_s256(VERIFIER))
}

/// A code for Alice, asked for with `extra` parameters.
async fn code(app: &TestApp, extra: &str) -> String {
    let mut browser = app.browser();
    let answer = browser.sign_in(&authorize_url(app, extra), EMAIL, PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    assert_eq!(answer.location_parameter("state").as_deref(), Some("xyz"));
    answer.location_parameter("code").expect("a code")
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": token})).await
}

async fn claims(app: &TestApp, token: &str) -> gatewright_jose::Claims {
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
    verify_jwt(&keys, token, &expect).expect("the token verifies")
}

both_engines!(w05_an_access_token_has_the_contract_claims, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    let claims = claims(&app, signed_in["access_token"].as_str().unwrap()).await;
    assert_eq!(claims.text("sub"), user["id"].as_str());
    assert!(gatewright_base::is_id("session", claims.text("sid").unwrap()));
    assert_eq!(claims.text("client_id"), Some(app.tenant.client_id.as_str()));
    assert_eq!(claims.exp() - claims.iat().unwrap(), 300);
    assert_eq!(claims.iat(), Some(app.now().seconds()));
    assert!(claims.claim("aud").is_none() && claims.claim("org_id").is_none());
    assert_eq!(claims.text("jti").unwrap().len(), 26);
    assert_eq!(signed_in["authentication_method"], "Password");
    assert_eq!(signed_in["user"]["email"], EMAIL);
});

both_engines!(row_07_a_code_used_twice_is_refused_and_ends_the_session_of_the_first_use, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    let first = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let second = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!((second.status, second.code()), (400, "invalid_grant"));
    let after = refresh(&app, first.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!((after.status, after.code()), (400, "invalid_grant"), "the first use's session has ended");
    assert!(app.events().await.iter().any(|(name, _)| name == "session.revoked"));
});

both_engines!(row_08_a_code_of_one_client_is_nobody_elses, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    let foreign =
        json!({"grant_type": "authorization_code", "code": code, "client_id": app.other.client_id, "client_secret": app.other.api_key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", foreign).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_grant"));
    // The sibling shares users and API key, so nothing but the code's own client stands in its way.
    let sibling = app.second_client().await;
    let by_sibling = json!({"grant_type": "authorization_code", "code": code, "client_id": sibling, "client_secret": app.tenant.api_key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", by_sibling).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_grant"));
    let own = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(own.status, 200, "the foreign tries spent nothing: {}", own.text);
    let token = own.body["refresh_token"].as_str().unwrap();
    let renewed = json!({"grant_type": "refresh_token", "refresh_token": token, "client_id": sibling, "client_secret": app.tenant.api_key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", renewed).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_grant"), "nor is a refresh token");
});

both_engines!(row_71_answers_of_the_api_are_never_stored, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let signed_in = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await;
    let users = app.api(Method::GET, "/user_management/users", Value::Null).await;
    let refused = app.anonymous(Method::GET, "/user_management/users", Value::Null).await;
    for answer in [signed_in, users, refused] {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{}", answer.text);
        assert!(answer.headers.get_all("vary").iter().any(|value| value == "Cookie"));
    }
});

both_engines!(a_code_works_for_ten_minutes, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    app.clock.advance(Duration::from_secs(600));
    let late = app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!((late.status, late.code()), (400, "invalid_grant"));
});

both_engines!(row_05_a_public_client_without_pkce_gets_nothing, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    let public = json!({"grant_type": "authorization_code", "code": code, "client_id": app.tenant.client_id});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", public).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_client"));
});

both_engines!(row_06_pkce_cannot_be_dropped_or_added, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let with = code(&app, &pkce_extra()).await;
    let ask = |code: &str, verifier: Option<&str>| json!({"grant_type": "authorization_code", "code": code, "client_id": app.tenant.client_id, "code_verifier": verifier});
    for verifier in [None, Some("too-short"), Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk-and-else")] {
        let answer = app.anonymous(Method::POST, "/user_management/authenticate", ask(&with, verifier)).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_grant"), "{verifier:?}");
    }
    // Even the confidential client may not drop the verifier of a request that had a challenge.
    let confidential = app.authenticate(json!({"grant_type": "authorization_code", "code": with})).await;
    assert_eq!((confidential.status, confidential.code()), (400, "invalid_grant"));
    let right = app.anonymous(Method::POST, "/user_management/authenticate", ask(&with, Some(VERIFIER))).await;
    assert_eq!(right.status, 200, "{}", right.text);
    let without = code(&app, "").await;
    let added = app.authenticate(json!({"grant_type": "authorization_code", "code": without, "code_verifier": VERIFIER})).await;
    assert_eq!((added.status, added.code()), (400, "invalid_grant"));
});

both_engines!(row_17_no_token_or_code_serves_as_another, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    let (access, renew) = (signed_in["access_token"].as_str().unwrap(), signed_in["refresh_token"].as_str().unwrap());
    let code = code(&app, "").await;
    for wrong in [access, code.as_str(), app.tenant.api_key.as_str(), ""] {
        assert_eq!(refresh(&app, wrong).await.status, 400, "{wrong}");
    }
    for wrong in [access, renew] {
        let answer = app.authenticate(json!({"grant_type": "authorization_code", "code": wrong})).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_grant"));
        let bearer = format!("Bearer {wrong}");
        let keyed = app.with_headers(Method::GET, "/user_management/users", Value::Null, &[(AUTHORIZATION, &bearer)]).await;
        assert_eq!(keyed.status, 401);
    }
    // Somebody's sign-in waits, and even its right code is no use with a token that is not the waiting sign-in's.
    app.api(Method::POST, "/user_management/users", json!({"email": "bob@example.test", "password": PASSWORD})).await;
    let waiting = app.authenticate(json!({"grant_type": "password", "email": "bob@example.test", "password": PASSWORD})).await;
    assert_eq!(waiting.code(), "email_verification_required");
    let mailed = app.mails().await[0].code.clone().unwrap();
    for wrong in [access, renew, code.as_str()] {
        let pending = json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": mailed, "pending_authentication_token": wrong});
        assert_eq!(app.authenticate(pending).await.code(), "invalid_pending_authentication_token");
    }
    let held = waiting.body["pending_authentication_token"].as_str().unwrap();
    assert_eq!(refresh(&app, held).await.code(), "invalid_grant");
});

both_engines!(w07_refresh_replay_gives_the_same_pair_for_thirty_seconds, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.settings(|settings| settings.refresh_reuse_ends_session = false).await;
    let first = app.sign_in(EMAIL, PASSWORD).await;
    let old = first["refresh_token"].as_str().unwrap();
    let rotated = refresh(&app, old).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    app.clock.advance(Duration::from_secs(29));
    let replayed = refresh(&app, old).await;
    assert_eq!(replayed.status, 200);
    for field in ["access_token", "refresh_token"] {
        assert_eq!(replayed.body[field], rotated.body[field], "{field}");
    }
    app.clock.advance(Duration::from_secs(2));
    let late = refresh(&app, old).await;
    assert_eq!((late.status, late.code()), (400, "invalid_grant"));
    let next = refresh(&app, rotated.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(next.status, 200, "by this policy the session goes on");
    let grandparent = refresh(&app, old).await;
    assert_eq!((grandparent.status, grandparent.code()), (400, "invalid_grant"));
});

both_engines!(w07_only_the_immediate_predecessor_replays, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.settings(|settings| settings.refresh_reuse_ends_session = false).await;
    let first = app.sign_in(EMAIL, PASSWORD).await;
    let second = refresh(&app, first["refresh_token"].as_str().unwrap()).await;
    refresh(&app, second.body["refresh_token"].as_str().unwrap()).await;
    let stale = refresh(&app, first["refresh_token"].as_str().unwrap()).await;
    assert_eq!((stale.status, stale.code()), (400, "invalid_grant"), "inside the window, but no longer the predecessor");
});

both_engines!(row_19_refresh_reuse_after_the_window_ends_the_family, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let first = app.sign_in(EMAIL, PASSWORD).await;
    let second = refresh(&app, first["refresh_token"].as_str().unwrap()).await;
    app.clock.advance(Duration::from_secs(31));
    assert_eq!(refresh(&app, first["refresh_token"].as_str().unwrap()).await.code(), "invalid_grant");
    let heir = refresh(&app, second.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!((heir.status, heir.code()), (400, "invalid_grant"), "whoever holds the newest token is out as well");
    let names: Vec<_> = app.events().await.into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"session.refresh_token_reused".to_owned()) && names.contains(&"session.revoked".to_owned()), "{names:?}");
});

both_engines!(row_20_sixty_four_refreshes_at_once_make_one_family, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    let token = signed_in["refresh_token"].as_str().unwrap().to_owned();
    let app = std::sync::Arc::new(app);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, token) = (app.clone(), token.clone());
        callers.spawn(async move { refresh(&app, &token).await });
    }
    let answers = callers.join_all().await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["refresh_token"], answers[0].body["refresh_token"]);
        assert_eq!(answer.body["access_token"], answers[0].body["access_token"]);
    }
    let alive = refresh(&app, answers[0].body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(alive.status, 200, "no lost session");
});

both_engines!(sixty_four_redemptions_of_one_code_have_one_winner, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    let app = std::sync::Arc::new(app);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, code) = (app.clone(), code.clone());
        callers.spawn(async move { app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.status });
    }
    let statuses = callers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 400)), "{statuses:?}");
});

both_engines!(row_50_keys_of_another_environment_prove_nothing_here, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let ask = |secret: &str| json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "client_id": app.tenant.client_id, "client_secret": secret});
    let path = "/user_management/authenticate";
    for secret in [app.other.api_key.as_str(), "sk_live_nonsense", ""] {
        let answer = app.anonymous(Method::POST, path, ask(secret)).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_client"), "{secret}");
    }
    // W20: both secrets are given, and one of them is wrong.
    let bearer = format!("Bearer {}", app.other.api_key);
    let mixed = app.with_headers(Method::POST, path, ask(&app.tenant.api_key), &[(AUTHORIZATION, &bearer)]).await;
    assert_eq!((mixed.status, mixed.code()), (400, "invalid_client"));
    let bearer = format!("Bearer {}", app.tenant.api_key);
    let bearer_only = app
        .with_headers(
            Method::POST,
            path,
            json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "client_id": app.tenant.client_id}),
            &[(AUTHORIZATION, &bearer)],
        )
        .await;
    assert_eq!(bearer_only.status, 200, "{}", bearer_only.text);
});

both_engines!(row_37_password_refusals_do_not_tell_who_exists, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let ask = |email: &str| json!({"grant_type": "password", "email": email, "password": "not the password"});
    let (known, unknown, no_address) =
        (app.authenticate(ask(EMAIL)).await, app.authenticate(ask("nobody@example.test")).await, app.authenticate(ask("no address")).await);
    assert_eq!((known.status, known.code()), (400, "invalid_credentials"));
    assert_eq!((&known.text, known.status), (&unknown.text, unknown.status));
    assert_eq!(known.text, no_address.text);
});

both_engines!(row_37_nobody_and_somebody_cost_the_same_hash, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.api(Method::POST, "/user_management/users", json!({"email": "no-password@example.test", "email_verified": true})).await;
    for email in [EMAIL, "no-password@example.test", "nobody@example.test"] {
        let before = app.cx().metrics().password_hashes.get();
        let answer = app.authenticate(json!({"grant_type": "password", "email": email, "password": "not the password"})).await;
        assert_eq!(answer.code(), "invalid_credentials");
        assert_eq!(app.cx().metrics().password_hashes.get() - before, 1, "{email}: time would tell");
    }
});

both_engines!(an_unverified_user_steps_up_by_code, |app| async move {
    let made = app.api(Method::POST, "/user_management/users", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(made.status, 201);
    let step_up = app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD})).await;
    assert_eq!((step_up.status, step_up.code()), (403, "email_verification_required"));
    assert_eq!(step_up.body["email"], EMAIL);
    let token = step_up.body["pending_authentication_token"].as_str().unwrap().to_owned();
    assert!(step_up.body["email_verification_id"].as_str().unwrap().starts_with("email_verification_"));
    let code = app.mails().await[0].code.clone().unwrap();
    let finish = |code: &str, token: &str| json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": code, "pending_authentication_token": token});
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(app.authenticate(finish(wrong, &token)).await.code(), "invalid_one_time_code");
    let done = app.authenticate(finish(&code, &token)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.body["authentication_method"], "Password");
    assert_eq!(done.body["user"]["email_verified"], true);
    assert_ne!(app.authenticate(finish(&code, &token)).await.status, 200, "one use");
});

both_engines!(a_magic_code_signs_in_once, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let sent = app.api(Method::POST, "/user_management/magic_auth", json!({"email": EMAIL})).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let code = sent.body["code"].as_str().unwrap();
    let ask = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "code": code, "email": "  ALICE@example.test "});
    let done = app.authenticate(ask.clone()).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.body["authentication_method"], "MagicAuth");
    let again = app.authenticate(ask).await;
    assert_eq!((again.status, again.code()), (400, "one_time_code_previously_used"));
});

both_engines!(a_revoked_session_refreshes_no_more_and_leaves_the_list, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    let sessions = app.api(Method::GET, &list, Value::Null).await;
    assert_eq!(sessions.body["data"][0]["status"], "active");
    assert_eq!(sessions.body["data"][0]["auth_method"], "password");
    let id = sessions.body["data"][0]["id"].clone();
    let foreign = app.api_as(&app.other, Method::POST, "/user_management/sessions/revoke", json!({"session_id": id})).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(app.api(Method::GET, &list, Value::Null).await.body["data"].as_array().unwrap().len(), 1, "row 49: unchanged");
    let revoked = app.api(Method::POST, "/user_management/sessions/revoke", json!({"session_id": id})).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (200, ""));
    assert!(revoked.header("content-type").is_none(), "W04");
    assert_eq!(refresh(&app, signed_in["refresh_token"].as_str().unwrap()).await.code(), "invalid_grant");
    assert_eq!(app.api(Method::GET, &list, Value::Null).await.body["data"], json!([]));
});

both_engines!(an_idle_session_ends_when_the_environment_says_so, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.settings(|settings| settings.inactivity_seconds = Some(600)).await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    app.clock.advance(Duration::from_secs(599));
    let renewed = refresh(&app, signed_in["refresh_token"].as_str().unwrap()).await;
    assert_eq!(renewed.status, 200);
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(refresh(&app, renewed.body["refresh_token"].as_str().unwrap()).await.code(), "invalid_grant");
});

both_engines!(a_deleted_users_tokens_are_dead, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let code = code(&app, "").await;
    let signed_in = app.sign_in(EMAIL, PASSWORD).await;
    let path = format!("/user_management/users/{}", user["id"].as_str().unwrap());
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 200);
    assert_eq!(refresh(&app, signed_in["refresh_token"].as_str().unwrap()).await.code(), "invalid_grant");
    assert_eq!(app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.code(), "invalid_grant");
});

both_engines!(w08_browser_clients_refresh_by_cookie_from_their_own_origin_only, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    app.api(Method::POST, "/user_management/cors_origins", json!({"origin": "https://app.example"})).await;
    let code = code(&app, &pkce_extra()).await;
    let path = "/user_management/authenticate";
    let exchange = json!({"grant_type": "authorization_code", "code": code, "client_id": app.tenant.client_id, "code_verifier": VERIFIER});
    let answer = app.with_headers(Method::POST, path, exchange, &[(ORIGIN, "https://app.example")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let cookies: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    let kept = cookies.iter().find(|c| c.starts_with("gw_rt_")).expect("the refresh cookie");
    assert!(kept.contains("HttpOnly") && kept.contains("Path=/user_management/authenticate"), "{kept}");
    let marker = cookies.iter().find(|c| c.starts_with("workos-has-session=")).expect("the marker");
    assert!(!marker.contains("HttpOnly") && marker.contains(&app.tenant.client_id), "{marker}");
    let cookie = kept.split(';').next().unwrap();
    let renew = json!({"grant_type": "refresh_token", "client_id": app.tenant.client_id});
    for foreign in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let answer = app.with_headers(Method::POST, path, renew.clone(), &[(ORIGIN, foreign), (COOKIE, cookie)]).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{foreign}");
        assert!(answer.header("access-control-allow-origin").is_none(), "{foreign}");
    }
    let none = app.with_headers(Method::POST, path, renew.clone(), &[(COOKIE, cookie)]).await;
    assert_eq!(none.status, 400, "row 46: no origin, no cookie");
    let own = app.with_headers(Method::POST, path, renew, &[(ORIGIN, "https://app.example"), (COOKIE, cookie)]).await;
    assert_eq!(own.status, 200, "{}", own.text);
    let preflight = app.with_headers(Method::OPTIONS, path, Value::Null, &[(ORIGIN, "https://app.example")]).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-methods")), (204, Some("GET, POST")));
});

both_engines!(forms_and_short_spellings_are_taken, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "password"),
            ("email", EMAIL),
            ("password", PASSWORD),
            ("client_id", &app.tenant.client_id),
            ("client_secret", &app.tenant.api_key),
        ])
        .finish();
    let request = axum::http::Request::post("/user_management/authenticate")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into())
        .unwrap();
    assert_eq!(app.send(request).await.status, 200);
    let missing = app.authenticate(json!({})).await;
    assert_eq!((missing.status, missing.code()), (400, "invalid_request"));
    let unknown = app.authenticate(json!({"grant_type": "client_credentials"})).await;
    assert_eq!((unknown.status, unknown.code()), (400, "invalid_request"));
});

both_engines!(the_session_records_what_a_confidential_caller_says, |app| async move {
    let user = app.user(EMAIL, PASSWORD).await;
    let ask = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "ip_address": "203.0.113.9", "user_agent": "Browser/1.0", "session": {"seal_session": true, "cookie_password": "never stored"}});
    assert_eq!(app.authenticate(ask).await.status, 200);
    let list = format!("/user_management/users/{}/sessions", user["id"].as_str().unwrap());
    let session = app.api(Method::GET, &list, Value::Null).await.body["data"][0].clone();
    assert_eq!((session["ip_address"].as_str(), session["user_agent"].as_str()), (Some("203.0.113.9"), Some("Browser/1.0")));
});

#[tokio::test(flavor = "multi_thread")]
async fn row_42_tries_are_counted_by_account_and_network_and_a_stranger_locks_nobody_out() {
    let app = TestApp::start_with(crate::testkit::On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.hosted_per_ip = 40;
        config.limits.hosted_per_email = 45;
    })
    .await;
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let ask = |email: &str, password: &str, address: &str, device: &str| {
        app.authenticate(
            json!({"grant_type": "password", "email": email, "password": password, "ip_address": address, "device_id": device}),
        )
    };
    assert_eq!(ask(EMAIL, PASSWORD, "203.0.113.9", "phone").await.status, 200);
    for _ in 0..10 {
        assert_eq!(ask(EMAIL, "wrong", "2001:db8::1", "x").await.status, 400);
    }
    // Another spelling, another host of the /64, another name for the device: the same place.
    for spelling in ["2001:db8::1", "2001:0db8:0:0:ffff::9", " 2001:DB8::2 "] {
        assert_eq!(ask(EMAIL, PASSWORD, spelling, "y").await.status, 429, "{spelling}");
    }
    assert_eq!(ask("bob@example.test", PASSWORD, "2001:db8::1", "x").await.status, 200, "a neighbour is not the account");
    assert_eq!(ask(EMAIL, PASSWORD, "198.51.100.1", "x").await.status, 200, "nor is the account that place");
    // From everywhere together there is an end for an hour, and the owner's phone does not feel it.
    for number in 2..50 {
        ask(EMAIL, "wrong", &format!("198.51.100.{number}"), "y").await;
    }
    assert_eq!(ask(EMAIL, PASSWORD, "192.0.2.200", "y").await.status, 429);
    assert_eq!(ask(EMAIL, PASSWORD, "203.0.113.9", "phone").await.status, 200);
    // Nor does the code of a mail, wherever the owner is.
    let code = app.api(Method::POST, "/user_management/magic_auth", json!({"email": EMAIL})).await.body["code"].clone();
    let grant = "urn:workos:oauth:grant-type:magic-auth:code";
    let proof = json!({"grant_type": grant, "email": EMAIL, "code": code, "ip_address": "192.0.2.200"});
    assert_eq!(app.authenticate(proof).await.status, 200);
    // One network that tries many accounts.
    let mut limited = 0;
    for number in 0..60 {
        limited += u32::from(ask(&format!("user{number}@example.test"), "wrong", "192.0.2.7", "x").await.status == 429);
    }
    assert_eq!(limited, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_password_that_nobody_looked_at_is_no_try() {
    let narrow = |config: &mut crate::Config| (config.passwords.hashing_threads, config.passwords.hashing_queue) = (1, 2);
    let app = TestApp::start_with(crate::testkit::On::Sqlite, narrow).await;
    app.user(EMAIL, PASSWORD).await;
    let only_thread = app.cx().hashing().clone().acquire_owned().await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (cx, environment) = (app.cx().clone(), app.tenant.environment.clone());
        asking.spawn(async move {
            let (email, wrong) = (EmailAddress::parse(EMAIL).unwrap(), Secret::new("wrong".to_owned()));
            proofs::password(&cx, &environment, &email, &wrong, &Origin::default(), None).await.is_ok()
        });
    }
    // One has the thread and two wait; all others are told to come back.
    for _ in 0..29 {
        assert!(!asking.join_next().await.unwrap().unwrap());
    }
    drop(only_thread);
    assert_eq!(asking.join_all().await, [true; 3]);
    let environment = app.tenant.environment.clone();
    let counted = app
        .cx()
        .db()
        .read(move |tx| tx.one("SELECT count FROM password_tries WHERE environment_id = $1", gatewright_db::params![&environment])?.int());
    assert_eq!(counted.await.unwrap(), 3);
    // What is no address is nobody's: there is nothing to hash, and nobody's turn to take.
    let hashes = app.cx().metrics().password_hashes.get();
    let nonsense = app.authenticate(json!({"grant_type": "password", "email": "no address", "password": PASSWORD})).await;
    assert_eq!((nonsense.status, nonsense.code()), (400, "invalid_credentials"));
    assert_eq!(app.cx().metrics().password_hashes.get(), hashes);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_42_an_address_is_tried_ten_times_a_minute() {
    let app = TestApp::start_with(crate::testkit::On::Sqlite, |config| config.limits.enabled = true).await;
    app.user(EMAIL, PASSWORD).await;
    let ask = || app.authenticate(json!({"grant_type": "password", "email": EMAIL, "password": "wrong"}));
    for _ in 0..10 {
        assert_eq!(ask().await.status, 400);
    }
    let limited = ask().await;
    assert_eq!((limited.status, limited.code()), (429, "rate_limit_exceeded"));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    app.clock.advance(Duration::from_secs(wait));
    app.sign_in(EMAIL, PASSWORD).await;
}

#[tokio::test]
async fn row_37_refusals_of_known_and_unknown_addresses_leave_at_full_steps() {
    let step = Duration::from_millis(400);
    let app = TestApp::start_with(On::Sqlite, |config| config.answer_step = step).await;
    app.user("known@example.test", PASSWORD).await;
    let magic_auth = "urn:workos:oauth:grant-type:magic-auth:code";
    for email in ["known@example.test", "other@example.test"] {
        for body in [
            json!({"grant_type": "password", "email": email, "password": "not the password"}),
            json!({"grant_type": magic_auth, "email": email, "code": "000000"}),
        ] {
            let began = Instant::now();
            assert_eq!(app.authenticate(body.clone()).await.status, 400);
            assert!(began.elapsed() >= step, "{body}");
        }
        let mut browser = app.browser();
        let began = Instant::now();
        let refused = browser.sign_in(&authorize_url(&app, ""), email, "not the password").await;
        assert_eq!(refused.status, 422);
        assert!(began.elapsed() >= step, "{email} at the page");
    }
}
