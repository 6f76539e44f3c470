use std::time::Duration;

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use gatewright_jose::{Algorithm, Expect, Jwks, VerifyingKeys, b64, sha256, verify_jwt};
use serde_json::{Value, json};

use super::{RotateError, rotate};
use crate::both_engines;
use crate::features::records::environments;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

async fn jwks(app: &TestApp) -> Vec<Value> {
    let answer = app.anonymous(Method::GET, &format!("/sso/jwks/{}", app.tenant.client_id), Value::Null).await;
    assert_eq!(answer.status, 200);
    answer.body["keys"].as_array().expect("keys").clone()
}

async fn try_rotate(app: &TestApp) -> Result<String, RotateError> {
    let id = app.tenant.environment.clone();
    let environment = app.cx().db().read(move |tx| environments::find(tx, &id)).await?.expect("the tenant");
    rotate(app.cx(), &environment, Actor::Operator).await.map(|key| key.kid)
}

both_engines!(w06_the_key_set_is_public_and_complete, |app| async move {
    let path = format!("/sso/jwks/{}", app.tenant.client_id);
    for bearer in ["", "Bearer", "Bearer nonsense"] {
        let answer = app.with_headers(Method::GET, &path, Value::Null, &[(AUTHORIZATION, bearer)]).await;
        assert_eq!(answer.status, 200, "{bearer:?}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    }
    let keys = jwks(&app).await;
    assert_eq!(keys.len(), 2, "the key that signs and the one that waits");
    for key in keys {
        assert_eq!((key["alg"].as_str(), key["kty"].as_str(), key["use"].as_str()), (Some("RS256"), Some("RSA"), Some("sig")));
        let certificate = b64::decode_std(key["x5c"][0].as_str().unwrap()).unwrap();
        assert_eq!(key["x5t#S256"].as_str(), Some(b64::encode_url(sha256(&certificate)).as_str()));
        assert!(key.get("d").is_none() && key.get("p").is_none(), "never the private half");
    }
    let unknown = app.anonymous(Method::GET, "/sso/jwks/client_x", Value::Null).await;
    assert_eq!((unknown.status, unknown.code()), (404, "entity_not_found"));
});

both_engines!(row_18_environments_sign_with_different_keys, |app| async move {
    let mine = jwks(&app).await;
    let theirs = app.anonymous(Method::GET, &format!("/sso/jwks/{}", app.other.client_id), Value::Null).await;
    for key in theirs.body["keys"].as_array().unwrap() {
        assert!(mine.iter().all(|own| own["n"] != key["n"] && own["kid"] != key["kid"]));
    }
});

both_engines!(a_key_signs_only_after_it_was_published_for_an_hour, |app| async move {
    assert!(matches!(try_rotate(&app).await, Err(RotateError::NotYet { .. })));
    app.clock.advance(Duration::from_secs(3_599));
    assert!(matches!(try_rotate(&app).await, Err(RotateError::NotYet { .. })));
    let published: Vec<String> = jwks(&app).await.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    app.clock.advance(Duration::from_secs(1));
    let active = try_rotate(&app).await.expect("an hour has passed");
    assert!(published.contains(&active), "a verifier with a cached set knows the key that signs now");
});

both_engines!(w06_a_retired_key_stays_published_as_long_as_a_session_lives, |app| async move {
    app.user("alice@example.test", "correct horse battery").await;
    let token = app.sign_in("alice@example.test", "correct horse battery").await["access_token"].as_str().unwrap().to_owned();
    let signed_at = app.now();
    let cached = jwks(&app).await;
    for _ in 0..2 {
        app.clock.advance(Duration::from_secs(3_600));
        try_rotate(&app).await.expect("due");
    }
    let now = jwks(&app).await;
    assert_eq!(now.len(), 4);
    assert!(cached.iter().all(|key| now.contains(key)), "no published key went away");
    let keys = VerifyingKeys::from_jwks(&serde_json::from_value::<Jwks>(json!({"keys": now})).unwrap()).unwrap();
    let expect =
        Expect { issuer: None, audience: None, typ: &["JWT"], algorithms: &[Algorithm::RS256], now: signed_at, leeway: Duration::ZERO };
    verify_jwt(&keys, &token, &expect).expect("an old token still finds its key");
    app.clock.advance(Duration::from_secs(30 * 86_400));
    crate::run_jobs(app.cx()).await;
    let kids: Vec<_> = jwks(&app).await.into_iter().map(|key| key["kid"].clone()).collect();
    assert!(!kids.contains(&cached[0]["kid"]), "gone at last");
});

both_engines!(sixteen_rotations_at_once_leave_one_active_and_one_next_key, |app| async move {
    app.clock.advance(Duration::from_secs(3_600));
    let app = std::sync::Arc::new(app);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let app = app.clone();
        callers.spawn(async move { try_rotate(&app).await.is_ok() });
    }
    let won = callers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(jwks(&app).await.len(), 3);
    app.user("alice@example.test", "correct horse battery").await;
    app.sign_in("alice@example.test", "correct horse battery").await;
});

both_engines!(the_job_rotates_after_ninety_days, |app| async move {
    let before = jwks(&app).await;
    app.clock.advance(Duration::from_secs(89 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!(jwks(&app).await, before);
    app.clock.advance(Duration::from_secs(86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!(jwks(&app).await.len(), 3);
});
