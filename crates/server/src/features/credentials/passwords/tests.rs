use axum::http::Method;
use gatewright_base::Secret;
use serde_json::{Value, json};

use super::{Busy, hash, store, verify};
use crate::both_engines;
use crate::features::records::users::UserId;
use crate::testkit::{On, TestApp};

const GOOD: &str = "correct horse battery staple";
const BCRYPT: &str = "$2b$04$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm";

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

async fn stored(app: &TestApp, user: &Value) -> Option<String> {
    let (environment, id) = (app.tenant.environment.clone(), UserId::from_text(user["id"].as_str().unwrap()));
    app.cx().db().read(move |tx| store::find(tx, &environment, &id)).await.unwrap()
}

both_engines!(row_43_bad_passwords_never_become_one, |app| async {
    let email = "marie.curie@radium.example";
    let long = "x".repeat(1_000_000);
    for (password, code) in [
        ("short-one", "password_too_short"),
        (long.as_str(), "password_too_long"),
        (email, "password_contains_email"),
        ("1234567890", "password_too_common"),
        ("１２３４５６７８９０", "password_too_common"),
        ("tab\tin the middle", "password_invalid_characters"),
    ] {
        let answer = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": password})).await;
        assert_eq!((answer.status, answer.code()), (400, "password_strength_error"), "{code}: {}", answer.text);
        assert_eq!(answer.body["errors"][0]["code"], code, "{}", answer.text);
    }
    let nul = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": "nul\0in the middle"})).await;
    assert!((400..500).contains(&nul.status), "{}", nul.text);
    let none = app.api(Method::GET, &format!("/user_management/users?email={email}"), Value::Null).await;
    assert_eq!(none.body["data"], json!([]));
});

both_engines!(row_43_every_spelling_of_one_password_signs_in_and_a_giant_one_does_not, |app| async {
    app.user("a@example.com", "Cafe\u{301} \u{fb01}ve o'clock").await;
    let sign_in = |password: String| app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": password}));
    assert_eq!(sign_in("Caf\u{e9} five o'clock".into()).await.status, 200);
    let giant = sign_in("x".repeat(900_000)).await;
    assert_eq!((giant.status, giant.code()), (400, "invalid_credentials"), "{}", giant.text);
});

both_engines!(an_imported_hash_signs_in_and_is_made_ours_by_it, |app| async {
    let made = app
        .api(
            Method::POST,
            "/user_management/users",
            json!({"email": "a@example.com", "email_verified": true, "password_hash": BCRYPT, "password_hash_type": "bcrypt"}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(stored(&app, &made.body).await.as_deref(), Some(BCRYPT));
    app.sign_in("a@example.com", GOOD).await;
    let ours = stored(&app, &made.body).await.unwrap();
    assert!(ours.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{ours}");
    app.sign_in("a@example.com", GOOD).await;
    assert_eq!(stored(&app, &made.body).await.as_deref(), Some(ours.as_str()));
});

both_engines!(a_hostile_hash_is_refused_at_import, |app| async {
    for (kind, text) in [
        ("scrypt", "$scrypt$ln=40,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$IZMORLo+NKM9sf3dDH1ZCk4hbDj0SQeYfTHU51eMJgU"),
        ("bcrypt", "$2b$31$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm"),
        ("argon2", BCRYPT),
        ("bcrypt", ""),
    ] {
        let body = json!({"email": "a@example.com", "password_hash": text, "password_hash_type": kind});
        let answer = app.api(Method::POST, "/user_management/users", body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_password_hash"), "{text}: {}", answer.text);
    }
});

both_engines!(a_better_hash_never_undoes_a_changed_password, |app| async {
    let user = app.user("a@example.com", GOOD).await;
    let old = stored(&app, &user).await.unwrap();
    let (environment, other) = (app.tenant.environment.clone(), app.other.environment.clone());
    let (id, now) = (UserId::from_text(user["id"].as_str().unwrap()), app.now());
    app.cx()
        .db()
        .write(move |tx| {
            assert!(!store::replace_if_same(tx, &other, &id, &old, "a stranger's", now)?);
            assert!(!store::delete(tx, &other, &id)?);
            store::upsert(tx, &other, &id, "a stranger's", now)?;
            assert_eq!(store::find(tx, &environment, &id)?.as_deref(), Some(old.as_str()));
            store::upsert(tx, &environment, &id, "changed", now)?;
            assert!(!store::replace_if_same(tx, &environment, &id, &old, "rehash of the old", now)?);
            assert_eq!(store::find(tx, &environment, &id)?.as_deref(), Some("changed"));
            assert!(store::replace_if_same(tx, &environment, &id, "changed", "better", now)?);
            assert!(store::delete(tx, &environment, &id)?);
            assert!(!store::delete(tx, &environment, &id)?);
            Ok::<_, gatewright_db::DbError>(())
        })
        .await
        .unwrap();
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sign_ins_than_the_queue_holds_are_told_to_come_back() {
    let app = TestApp::start_with(On::Sqlite, |config| (config.passwords.hashing_threads, config.passwords.hashing_queue) = (1, 2)).await;
    app.user("a@example.com", GOOD).await;
    let only_thread = app.cx().hashing().clone().acquire_owned().await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let cx = app.cx().clone();
        waiting.spawn(async move { hash(&cx, &secret(GOOD)).await });
    }
    while app.cx().hashing_places().available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(verify(app.cx(), None, &secret(GOOD)).await, Err(Busy));
    let answer = app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": GOOD})).await;
    assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (429, "rate_limit_exceeded", Some("1")), "{}", answer.text);
    drop(only_thread);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    app.sign_in("a@example.com", GOOD).await;
}
