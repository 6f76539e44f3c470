use std::time::Duration;

use serde_json::json;

use super::{KEPT, MAX_DEVICES, find_known, note};
use crate::both_engines;
use crate::features::records::users::{EmailAddress, UserId};
use crate::testkit::TestApp;

const EMAIL: &str = "ann@example.test";
const PASSWORD: &str = "correct horse battery";

async fn known(app: &TestApp, email: &str, device: &str) -> bool {
    let email = EmailAddress::parse(email).unwrap();
    find_known(app.cx(), &app.tenant.environment, &email, device).await.unwrap().is_some()
}

both_engines!(a_device_is_known_to_its_own_user_after_a_sign_in_and_forgotten_in_time, |app| async {
    app.user(EMAIL, PASSWORD).await;
    app.user("bob@example.test", PASSWORD).await;
    let ask = |password: &str| json!({"grant_type": "password", "email": EMAIL, "password": password, "device_id": "phone"});
    assert_eq!(app.authenticate(ask("wrong")).await.status, 400);
    assert!(!known(&app, EMAIL, "phone").await, "a wrong password makes nobody known");
    assert_eq!(app.authenticate(ask(PASSWORD)).await.status, 200);
    assert!(known(&app, EMAIL, "phone").await);
    assert!(!known(&app, EMAIL, "tablet").await && !known(&app, "bob@example.test", "phone").await);
    assert!(!known(&app, "nobody@example.test", "phone").await);
    app.clock.advance(KEPT + Duration::from_secs(1));
    assert!(!known(&app, EMAIL, "phone").await, "a year is over");
});

both_engines!(a_user_has_twenty_devices_at_most_and_the_oldest_makes_room, |app| async {
    let user = app.user(EMAIL, PASSWORD).await;
    let id = UserId::from_text(user["id"].as_str().unwrap());
    for number in 0..=MAX_DEVICES {
        note(app.cx(), &app.tenant.environment, &id, &format!("device {number}"), false).await.unwrap();
        app.clock.advance(Duration::from_secs(1));
    }
    assert!(!known(&app, EMAIL, "device 0").await);
    for number in 1..=MAX_DEVICES {
        assert!(known(&app, EMAIL, &format!("device {number}")).await, "{number}");
    }
    note(app.cx(), &app.tenant.environment, &UserId::from_text("user_gone"), "phone", true).await.unwrap();
});
