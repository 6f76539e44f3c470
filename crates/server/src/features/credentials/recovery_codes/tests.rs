use axum::http::Method;
use serde_json::Value;

use super::{COUNT, take};
use crate::both_engines;
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

async fn generate(app: &TestApp, user: &Value) -> Vec<String> {
    let made = app.api(Method::POST, &path(user), Value::Null).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

fn path(user: &Value) -> String {
    format!("/user_management/users/{}/recovery_codes", user["id"].as_str().unwrap())
}

async fn left(app: &TestApp, user: &Value) -> i64 {
    app.api(Method::GET, &path(user), Value::Null).await.body["left"].as_i64().unwrap()
}

async fn use_up(app: &TestApp, user: &Value, code: &str) -> bool {
    let (environment, user) = (app.tenant.environment.clone(), UserId::from_text(user["id"].as_str().unwrap()));
    let (code, scribe) = (code.to_owned(), app.cx().scribe(Actor::System));
    app.cx().db().write(move |tx| take(tx, &environment, &user, &code, &scribe)).await.unwrap()
}

both_engines!(row_40_recovery_codes_work_once_each_and_are_stored_as_hashes, |app| async {
    let (ada, bob) =
        (app.user("ada@example.com", "correct horse battery").await, app.user("bob@example.com", "correct horse battery").await);
    let codes = generate(&app, &ada).await;
    assert_eq!((codes.len(), left(&app, &ada).await, left(&app, &bob).await), (COUNT, 10, 0));
    assert!(!use_up(&app, &bob, &codes[0]).await, "another user's code");
    assert!(use_up(&app, &ada, &codes[0].to_uppercase().replace('-', " ")).await);
    assert!(!use_up(&app, &ada, &codes[0]).await);
    assert_eq!(left(&app, &ada).await, 9);
    for code in ["", "not a code", "abcd-efgh-jkmn-pqrs"] {
        assert!(!use_up(&app, &ada, code).await, "{code}");
    }
    // New ones take the place of all there were.
    let newer = generate(&app, &ada).await;
    assert!(!use_up(&app, &ada, &codes[1]).await && use_up(&app, &ada, &newer[1]).await);

    let events = app.events().await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("recovery_code")).collect();
    assert_eq!(names, ["recovery_codes.generated", "recovery_code.used", "recovery_codes.generated", "recovery_code.used"]);
    let everything = format!("{events:?}");
    assert!(codes.iter().chain(&newer).all(|code| !everything.contains(code)));
    let stored = app.cx().db().read(|tx| tx.list("SELECT code_hash FROM recovery_codes", &[])).await.unwrap();
    for mut row in stored {
        let hash = row.text().unwrap();
        assert!(hash.len() == 64 && !newer.contains(&hash), "{hash}");
    }

    let elsewhere = app.api_as(&app.other, Method::POST, &path(&ada), Value::Null).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(app.api_as(&app.other, Method::GET, &path(&ada), Value::Null).await.status, 404);
});

both_engines!(row_40_one_recovery_code_16_at_once_is_taken_once, |app| async {
    let ada = app.user("ada@example.com", "correct horse battery").await;
    let code = generate(&app, &ada).await.remove(0);
    let app = std::sync::Arc::new(app);
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let (app, ada, code) = (app.clone(), ada.clone(), code.clone());
            tokio::spawn(async move { use_up(&app, &ada, &code).await })
        })
        .collect();
    let mut taken = 0;
    for answer in tries {
        taken += usize::from(answer.await.unwrap());
    }
    assert_eq!((taken, left(&app, &ada).await), (1, 9));
});
