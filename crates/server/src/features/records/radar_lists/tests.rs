use std::net::IpAddr;

use axum::http::Method;
use serde_json::{Value, json};

use super::{Listed, Subject, find_listed, store};
use crate::both_engines;
use crate::features::records::radar_lists::{ListAction, ListType, MOST_ENTRIES};
use crate::features::records::users::EmailAddress;
use crate::testkit::{Answer, Tenant, TestApp};

async fn add(app: &TestApp, list: &str, entry: &str) -> Answer {
    app.api(Method::POST, &format!("/radar/lists/{list}"), json!({"entry": entry})).await
}

async fn remove(app: &TestApp, list: &str, entry: &str) -> u16 {
    app.api(Method::DELETE, &format!("/radar/lists/{list}"), json!({"entry": entry})).await.status
}

async fn listed(app: &TestApp, tenant: &Tenant, ip: &str, email: &str) -> Listed {
    let (environment, ip, email) = (tenant.environment.clone(), ip.parse::<IpAddr>().ok(), EmailAddress::parse(email).unwrap());
    app.cx()
        .db()
        .read(move |tx| {
            let subject = Subject { ip, email: &email, user_agent: Some("Curl/8"), device: None, fingerprint: None, country: Some("DE") };
            find_listed(tx, &environment, &subject)
        })
        .await
        .unwrap()
}

both_engines!(entries_come_and_go_in_whichever_spelling_and_are_told_of, |app| async {
    let added = add(&app, "ip_address/block", "2001:DB8::1").await;
    assert_eq!((added.status, added.text.as_str()), (204, ""));
    let again = add(&app, "ip_address/block", "2001:db8::ffff/96").await;
    assert_eq!((again.status, &again.body), (200, &json!({"message": "Entry already present in list"})));
    assert_eq!(listed(&app, &app.tenant, "2001:db8::2", "a@b.example").await.blocked, Some(ListType::IpAddress));
    assert_eq!(listed(&app, &app.other, "2001:db8::2", "a@b.example").await, Listed::default());
    assert_eq!(remove(&app, "ip_address/allow", "2001:db8::1").await, 404);
    assert_eq!(remove(&app, "ip_address/block", "2001:db8:0:0::7").await, 204);
    assert_eq!(remove(&app, "ip_address/block", "2001:db8::1").await, 404);
    assert_eq!(listed(&app, &app.tenant, "2001:db8::2", "a@b.example").await, Listed::default());

    for list in ["user_agent/block", "user_agent/allow"] {
        assert_eq!(add(&app, list, "curl/8").await.status, 204);
    }
    let both = listed(&app, &app.tenant, "192.0.2.1", "a@b.example").await;
    assert_eq!(both, Listed { allowed: Some(ListType::UserAgent), blocked: Some(ListType::UserAgent) });
    let told: Vec<_> = app
        .events()
        .await
        .into_iter()
        .filter(|(name, _)| name.starts_with("radar_list."))
        .map(|(name, data)| (name, data["entry"].clone()))
        .collect();
    assert_eq!(told[0], ("radar_list.entry_added".to_owned(), json!("2001:db8::/64")));
    assert_eq!(told[1], ("radar_list.entry_removed".to_owned(), json!("2001:db8::/64")));
    assert_eq!(told.len(), 4);
});

both_engines!(row_18_the_lists_of_another_environment_are_its_own, |app| async {
    let path = "/radar/lists/email/block";
    assert_eq!(app.api_as(&app.other, Method::POST, path, json!({"entry": "mallory@example.com"})).await.status, 204);
    assert_eq!(listed(&app, &app.tenant, "192.0.2.1", "mallory@example.com").await, Listed::default());
    assert_eq!(listed(&app, &app.other, "192.0.2.1", "Mallory+x@example.com").await.blocked, Some(ListType::Email));
    assert_eq!(remove(&app, "email/block", "mallory@example.com").await, 404);
    assert_eq!(app.anonymous(Method::POST, path, json!({"entry": "a@b.example"})).await.status, 401);
});

both_engines!(row_53_what_is_no_entry_is_refused_and_a_list_has_an_end, |app| async {
    for (list, entry) in [
        ("ip_address/block", "not an address"),
        ("ip_address/block", "0.0.0.0/0"),
        ("country/block", "Germany"),
        ("email/block", "example.com"),
        ("user_agent/block", &*"x".repeat(513)),
        ("device/block", &*"x".repeat(100_000)),
        ("device/block", "a\nb"),
        ("nonsense/block", "x"),
        ("ip_address/ban", "192.0.2.1"),
    ] {
        let refused = add(&app, list, entry).await;
        assert_eq!((refused.status, refused.body["message"].is_string()), (400, true), "{list}: {}", refused.text);
        assert_eq!(remove(&app, list, entry).await, 400, "{list}");
    }
    assert_eq!(app.api(Method::POST, "/radar/lists/email/block", json!({})).await.status, 422);
    assert_eq!(app.api(Method::POST, "/radar/lists/email/block", Value::Null).await.status, 422);
    let (environment, now) = (app.tenant.environment.clone(), app.now());
    let filled = app.cx().db().write(move |tx| {
        for at in 0..MOST_ENTRIES {
            store::insert(tx, &environment, ListType::Device, ListAction::Block, &format!("device-{at}"), now)?;
        }
        Ok::<_, gatewright_db::DbError>(())
    });
    filled.await.unwrap();
    assert_eq!(add(&app, "device/block", "one more").await.status, 400);
    assert_eq!(add(&app, "device/block", "device-7").await.status, 200);
    assert_eq!(add(&app, "device/allow", "one more").await.status, 204);
});
