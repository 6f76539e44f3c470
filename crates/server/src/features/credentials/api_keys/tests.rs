use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, Tenant, TestApp};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

async fn made(app: &TestApp, path: &str, body: Value) -> Value {
    made_as(app, &app.tenant, path, body).await
}

async fn made_as(app: &TestApp, tenant: &Tenant, path: &str, body: Value) -> Value {
    let answer = app.api_as(tenant, Method::POST, path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}

async fn organization(app: &TestApp, name: &str) -> String {
    id(&made(app, "/organizations", json!({"name": name})).await)
}

async fn permission(app: &TestApp, slug: &str) {
    made(app, "/authorization/permissions", json!({"slug": slug, "name": slug})).await;
}

async fn user(app: &TestApp, email: &str) -> String {
    id(&made(app, "/user_management/users", json!({"email": email})).await)
}

/// Id of the membership.
async fn join(app: &TestApp, user: &str, organization: &str) -> String {
    id(&made(app, "/user_management/organization_memberships", json!({"user_id": user, "organization_id": organization})).await)
}

async fn key_of_organization(app: &TestApp, organization: &str, body: Value) -> Value {
    made(app, &format!("/organizations/{organization}/api_keys"), body).await
}

async fn key_of_user(app: &TestApp, user: &str, body: Value) -> Value {
    made(app, &format!("/user_management/users/{user}/api_keys"), body).await
}

async fn validate(app: &TestApp, value: &str) -> Value {
    validate_as(app, &app.tenant, value).await
}

async fn validate_as(app: &TestApp, tenant: &Tenant, value: &str) -> Value {
    let answer = app.api_as(tenant, Method::POST, "/api_keys/validations", json!({"value": value})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["api_key"]);
    answer.body["api_key"].clone()
}

fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

fn value(body: &Value) -> String {
    body["value"].as_str().unwrap().to_owned()
}

fn without_value(key: &Value) -> Value {
    let mut key = key.clone();
    key.as_object_mut().unwrap().remove("value");
    key
}

async fn events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("api_key.")).collect()
}

fn code(answer: &Answer) -> (u16, &str, &str) {
    let error = &answer.body["errors"][0];
    (answer.status, error["field"].as_str().unwrap_or_default(), error["code"].as_str().unwrap_or_default())
}

both_engines!(an_organizations_key_is_shown_once_and_works_until_it_is_deleted, |app| async {
    let acme = organization(&app, "Acme").await;
    for slug in ["posts:write", "posts:read"] {
        permission(&app, slug).await;
    }
    let path = format!("/organizations/{acme}/api_keys");
    let body = json!({"name": "Production API Key", "permissions": ["posts:write", "posts:read", "posts:write"]});
    let key = key_of_organization(&app, &acme, body).await;
    let secret = value(&key);
    assert!(secret.starts_with("sk_api_") && id(&key).starts_with("api_key_"));
    assert_eq!(
        without_value(&key),
        json!({
            "object": "api_key", "id": key["id"], "owner": {"type": "organization", "id": acme}, "name": "Production API Key",
            "obfuscated_value": format!("sk_api_...{}", &secret[secret.len() - 4..]), "last_used_at": null, "expires_at": null,
            "permissions": ["posts:read", "posts:write"], "created_at": "2026-01-15T12:00:00.000Z",
            "updated_at": "2026-01-15T12:00:00.000Z",
        })
    );
    let listed = app.api(Method::GET, &path, Value::Null).await;
    assert_eq!(listed.body, json!({"object": "list", "data": [without_value(&key)], "list_metadata": {"before": null, "after": null}}));

    let mut used = without_value(&key);
    used["last_used_at"] = json!("2026-01-15T12:00:00.000Z");
    assert_eq!(validate(&app, &secret).await, used);

    let key_path = format!("/api_keys/{}", id(&key));
    let deleted = app.api(Method::DELETE, &key_path, Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(validate(&app, &secret).await, Value::Null);
    let again = app.api(Method::DELETE, &key_path, Value::Null).await;
    assert_eq!((again.status, again.code()), (404, "entity_not_found"));
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body["data"], json!([]));

    let events = events(&app).await;
    assert_eq!(events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["api_key.created", "api_key.revoked"]);
    assert_eq!(events[0].1, without_value(&key));
    assert_eq!(events[1].1["id"], key["id"]);
});

both_engines!(a_users_key_works_as_long_as_the_user_is_an_active_member, |app| async {
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let ann = user(&app, "ann@example.test").await;
    let membership = join(&app, &ann, &acme).await;
    join(&app, &ann, &globex).await;
    let key = key_of_user(&app, &ann, json!({"name": "laptop", "organization_id": acme})).await;
    let other = key_of_user(&app, &ann, json!({"name": "laptop", "organization_id": globex})).await;
    assert_eq!(key["owner"], json!({"type": "user", "id": ann, "organization_id": acme}));
    assert_eq!(validate(&app, &value(&key)).await["owner"], key["owner"]);

    let path = format!("/user_management/users/{ann}/api_keys");
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body["data"].as_array().unwrap().len(), 2);
    let in_acme = app.api(Method::GET, &format!("{path}?organization_id={acme}"), Value::Null).await;
    assert_eq!(in_acme.body["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [id(&key)]);
    let own = app.api(Method::GET, &format!("/organizations/{acme}/api_keys"), Value::Null).await;
    assert_eq!(own.body["data"], json!([]), "the organization's own keys only");

    let of_membership = format!("/user_management/organization_memberships/{membership}");
    assert_eq!(app.api(Method::PUT, &format!("{of_membership}/deactivate"), Value::Null).await.status, 200);
    assert_eq!(validate(&app, &value(&key)).await, Value::Null);
    assert_ne!(validate(&app, &value(&other)).await, Value::Null);
    assert_eq!(app.api(Method::PUT, &format!("{of_membership}/reactivate"), Value::Null).await.status, 200);
    assert_ne!(validate(&app, &value(&key)).await, Value::Null);

    let gone = app.api(Method::DELETE, &of_membership, Value::Null).await;
    assert!((200..300).contains(&gone.status), "{}", gone.text);
    join(&app, &ann, &acme).await;
    assert_eq!(validate(&app, &value(&key)).await, Value::Null, "who comes back does not find the old keys again");
    assert_eq!(app.api(Method::DELETE, &format!("/user_management/users/{ann}"), Value::Null).await.status, 200);
    assert_eq!(validate(&app, &value(&other)).await, Value::Null);
    let revoked: Vec<Value> =
        events(&app).await.into_iter().filter(|(name, _)| name == "api_key.revoked").map(|(_, data)| data["id"].clone()).collect();
    assert_eq!(revoked, [key["id"].clone(), other["id"].clone()]);
});

both_engines!(a_key_of_a_deleted_organization_is_no_key, |app| async {
    let acme = organization(&app, "Acme").await;
    let ann = user(&app, "ann@example.test").await;
    join(&app, &ann, &acme).await;
    let own = key_of_organization(&app, &acme, json!({"name": "own"})).await;
    let members = key_of_user(&app, &ann, json!({"name": "member's", "organization_id": acme})).await;
    let deleted = app.api(Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text);
    for key in [&own, &members] {
        assert_eq!(validate(&app, &value(key)).await, Value::Null);
        assert_eq!(app.api(Method::DELETE, &format!("/api_keys/{}", id(key)), Value::Null).await.status, 404);
    }
    let mut revoked: Vec<String> =
        events(&app).await.iter().filter(|(name, _)| name == "api_key.revoked").map(|(_, data)| id(data)).collect();
    revoked.sort();
    assert_eq!(revoked, [id(&own), id(&members)]);
});

both_engines!(two_live_keys_let_one_replace_the_other_without_a_gap, |app| async {
    let acme = organization(&app, "Acme").await;
    let old = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
    let new = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
    assert_ne!((id(&old), value(&old)), (id(&new), value(&new)));
    let expire = format!("/api_keys/{}/expire", id(&old));
    let at = "2026-01-15T13:00:00.000Z";
    let scheduled = app.api(Method::POST, &expire, json!({"expires_at": at})).await;
    assert_eq!((scheduled.status, scheduled.body["expires_at"].as_str()), (200, Some(at)));
    for key in [&old, &new] {
        assert_ne!(validate(&app, &value(key)).await, Value::Null);
    }
    app.clock.advance(60 * MINUTE - Duration::from_millis(1));
    assert_ne!(validate(&app, &value(&old)).await, Value::Null);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(validate(&app, &value(&old)).await, Value::Null);
    assert_ne!(validate(&app, &value(&new)).await, Value::Null);
    let listed = app.api(Method::GET, &format!("/organizations/{acme}/api_keys?order=asc"), Value::Null).await;
    assert_eq!(listed.body["data"][0]["expires_at"], at, "an expired key is still listed");
});

both_engines!(an_expiry_is_set_moved_and_taken_back_until_it_has_come, |app| async {
    let acme = organization(&app, "Acme").await;
    let key = key_of_organization(&app, &acme, json!({"name": "CI", "expires_at": "2026-02-01T00:00:00Z"})).await;
    assert_eq!(key["expires_at"], "2026-02-01T00:00:00.000Z");
    let path = format!("/api_keys/{}/expire", id(&key));
    app.clock.advance(MINUTE);
    let cleared = app.api(Method::POST, &path, json!({"expires_at": null})).await;
    assert_eq!((cleared.status, &cleared.body["expires_at"]), (200, &Value::Null));
    assert_eq!(cleared.body["updated_at"], "2026-01-15T12:01:00.000Z");
    assert_eq!(app.api(Method::POST, &path, json!({"expires_at": null})).await.body, cleared.body, "no change leaves no trace");
    let moved = app.api(Method::POST, &path, json!({"expires_at": "2030-01-01T01:00:00+01:00"})).await;
    assert_eq!(moved.body["expires_at"], "2030-01-01T00:00:00.000Z");
    for (body, field_code) in [
        (json!({"expires_at": "tomorrow"}), "invalid_date_time"),
        (json!({"expires_at": "99999-01-01T00:00:00Z"}), "invalid_date_time"),
        (json!({"expires_at": 1_893_456_000}), "wrong_type"),
    ] {
        assert_eq!(code(&app.api(Method::POST, &path, body.clone()).await), (422, "expires_at", field_code), "{body}");
    }
    // A moment that has passed means now, and so does no body at all.
    let past = app.api(Method::POST, &path, json!({"expires_at": "2020-01-01T00:00:00Z"})).await;
    assert_eq!((past.status, past.body["expires_at"].as_str()), (200, Some("2026-01-15T12:01:00.000Z")));
    assert_eq!(validate(&app, &value(&key)).await, Value::Null);
    for body in [Value::Null, json!({}), json!({"expires_at": null}), json!({"expires_at": "2030-01-01T00:00:00Z"})] {
        let refused = app.api(Method::POST, &path, body).await;
        assert_eq!((refused.status, refused.code()), (409, "api_key_already_expired"));
    }
    let second = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
    let now = app.api(Method::POST, &format!("/api_keys/{}/expire", id(&second)), Value::Null).await;
    assert_eq!((now.status, now.body["expires_at"].as_str()), (200, Some("2026-01-15T12:01:00.000Z")));

    let updated: Vec<(Value, Value)> = events(&app)
        .await
        .into_iter()
        .filter(|(name, _)| name == "api_key.updated")
        .map(|(_, data)| (data["previous_attributes"]["expires_at"].clone(), data["expires_at"].clone()))
        .collect();
    let (first, last, now) = (json!("2026-02-01T00:00:00.000Z"), json!("2030-01-01T00:00:00.000Z"), json!("2026-01-15T12:01:00.000Z"));
    assert_eq!(updated, [(first, Value::Null), (Value::Null, last.clone()), (last, now.clone()), (Value::Null, now)]);
});

both_engines!(bad_keys_are_refused_field_by_field, |app| async {
    let acme = organization(&app, "Acme").await;
    let ann = user(&app, "ann@example.test").await;
    join(&app, &ann, &acme).await;
    permission(&app, "posts:read").await;
    let many: Vec<String> = (0..10_000).map(|n| format!("p:{n}")).collect();
    for (body, field, field_code) in [
        (json!({}), "name", "required"),
        (json!({"name": ""}), "name", "required"),
        (json!({"name": " \t "}), "name", "required"),
        (json!({"name": "a\nb"}), "name", "invalid_characters"),
        (json!({"name": "x".repeat(256)}), "name", "too_long"),
        (json!({"name": 7}), "name", "wrong_type"),
        (json!({"name": "k", "permissions": ["posts:read", "posts:all"]}), "permissions", "permission_not_found"),
        (json!({"name": "k", "permissions": "posts:read"}), "permissions", "wrong_type"),
        (json!({"name": "k", "permissions": [many[0]]}), "permissions", "permission_not_found"),
        (json!({"name": "k", "permissions": many}), "permissions", "too_many"),
        (json!({"name": "k", "expires_at": "2026-01-15T12:00:00.000Z"}), "expires_at", "must_be_in_the_future"),
        (json!({"name": "k", "expires_at": "2030-01-01"}), "expires_at", "invalid_date_time"),
        (json!({"name": "k", "expires_at": 5}), "expires_at", "wrong_type"),
    ] {
        let answer = app.api(Method::POST, &format!("/organizations/{acme}/api_keys"), body.clone()).await;
        assert_eq!(code(&answer), (422, field, field_code), "{body}");
        let mut body = body;
        body["organization_id"] = json!(acme);
        let answer = app.api(Method::POST, &format!("/user_management/users/{ann}/api_keys"), body.clone()).await;
        assert_eq!(code(&answer), (422, field, field_code), "{body}");
    }
    let missing = app.api(Method::POST, &format!("/user_management/users/{ann}/api_keys"), json!({"name": "k"})).await;
    assert_eq!(code(&missing), (422, "organization_id", "required"));
    let nowhere = json!({"name": "k", "organization_id": "org_x"});
    let answer = app.api(Method::POST, &format!("/user_management/users/{ann}/api_keys"), nowhere).await;
    assert_eq!((answer.status, answer.body["message"].as_str()), (404, Some("Organization not found: 'org_x'.")));
    let globex = organization(&app, "Globex").await;
    let stranger = json!({"name": "k", "organization_id": globex});
    let answer = app.api(Method::POST, &format!("/user_management/users/{ann}/api_keys"), stranger).await;
    assert_eq!(code(&answer), (422, "organization_id", "not_an_active_member"));
    for (method, path) in [
        (Method::POST, "/organizations/org_x/api_keys"),
        (Method::GET, "/organizations/org_x/api_keys"),
        (Method::POST, "/user_management/users/user_x/api_keys"),
        (Method::GET, "/user_management/users/user_x/api_keys"),
    ] {
        let body = if method == Method::POST { json!({"name": "k", "organization_id": acme}) } else { Value::Null };
        assert_eq!(app.api(method, path, body).await.status, 404, "{path}");
    }
    let answer = app.api(Method::POST, "/api_keys/validations", json!({})).await;
    assert_eq!(code(&answer), (422, "value", "required"));
    assert_eq!(events(&app).await, []);
});

both_engines!(what_is_no_key_is_200_with_null, |app| async {
    let acme = organization(&app, "Acme").await;
    let key = value(&key_of_organization(&app, &acme, json!({"name": "CI"})).await);
    let changed = format!("{}{}", &key[..key.len() - 1], if key.ends_with('x') { 'y' } else { 'x' });
    let unknown = gatewright_jose::api_key::mint_of_customer(&gatewright_base::SeededRng::new(1));
    for text in [
        "",
        "nonsense",
        "sk_",
        "sk_api_",
        &changed,
        &format!("{key} "),
        &format!(" {key}"),
        &key.to_uppercase(),
        unknown.reveal(),
        &"x".repeat(50_000),
    ] {
        assert_eq!(validate(&app, text).await, Value::Null, "{text:.80}");
    }
    assert_ne!(validate(&app, &key).await, Value::Null);
});

both_engines!(row_50_neither_kind_of_key_does_the_others_work, |app| async {
    let acme = organization(&app, "Acme").await;
    let key = value(&key_of_organization(&app, &acme, json!({"name": "CI"})).await);
    let bearer = format!("Bearer {key}");
    for (method, path) in [
        (Method::GET, "/user_management/users"),
        (Method::POST, "/user_management/users"),
        (Method::POST, "/api_keys/validations"),
        (Method::GET, "/machine_identities"),
        (Method::GET, "/organizations"),
    ] {
        let answer = app.with_headers(method, path, json!({"value": key}), &[(AUTHORIZATION, &bearer)]).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let as_secret =
        json!({"grant_type": "password", "email": "a@b.c", "password": "x", "client_id": app.tenant.client_id, "client_secret": key});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", as_secret).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_client"));
    // An environment's own key is nobody's API key, and says nothing about itself here.
    assert_eq!(validate(&app, &app.tenant.api_key).await, Value::Null);
});

both_engines!(rows_18_49_50_another_environments_keys_do_not_exist, |app| async {
    let acme = organization(&app, "Acme").await;
    let ann = user(&app, "ann@example.test").await;
    join(&app, &ann, &acme).await;
    let key = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
    let anns = key_of_user(&app, &ann, json!({"name": "CI", "organization_id": acme})).await;
    let theirs = id(&made_as(&app, &app.other, "/organizations", json!({"name": "Theirs"})).await);
    for key in [&key, &anns] {
        assert_eq!(validate_as(&app, &app.other, &value(key)).await, Value::Null, "a key of staging at production");
        let path = format!("/api_keys/{}", id(key));
        assert_eq!(app.api_as(&app.other, Method::DELETE, &path, Value::Null).await.status, 404);
        assert_eq!(app.api_as(&app.other, Method::POST, &format!("{path}/expire"), json!({})).await.status, 404);
    }
    for path in [format!("/organizations/{acme}/api_keys"), format!("/user_management/users/{ann}/api_keys")] {
        assert_eq!(app.api_as(&app.other, Method::GET, &path, Value::Null).await.status, 404, "{path}");
        let body = json!({"name": "CI", "organization_id": theirs});
        assert_eq!(app.api_as(&app.other, Method::POST, &path, body).await.status, 404, "{path}");
    }
    // Our user, their organization: an id of theirs in a body does not exist either.
    let body = json!({"name": "CI", "organization_id": theirs});
    assert_eq!(app.api(Method::POST, &format!("/user_management/users/{ann}/api_keys"), body).await.status, 404);
    let filtered = app.api(Method::GET, &format!("/user_management/users/{ann}/api_keys?organization_id={theirs}"), Value::Null).await;
    assert_eq!((filtered.status, &filtered.body["data"]), (200, &json!([])));
    // Row 52: a cursor of ours shows a stranger nothing.
    let listed =
        app.api_as(&app.other, Method::GET, &format!("/organizations/{theirs}/api_keys?order=asc&after=api_key_0"), Value::Null).await;
    assert_eq!(listed.body["data"], json!([]));
    // And nothing has changed.
    for key in [&key, &anns] {
        assert_ne!(validate(&app, &value(key)).await, Value::Null);
    }
    assert_eq!(events(&app).await.len(), 2);
});

both_engines!(row_18_one_organizations_list_never_shows_anothers_keys, |app| async {
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let (ann, bob) = (user(&app, "ann@example.test").await, user(&app, "bob@example.test").await);
    for organization in [&acme, &globex] {
        join(&app, &ann, organization).await;
        join(&app, &bob, organization).await;
    }
    let mut first = None;
    for n in 0..3 {
        let key = key_of_organization(&app, &acme, json!({"name": format!("a{n}")})).await;
        first.get_or_insert(id(&key));
        key_of_organization(&app, &globex, json!({"name": format!("g{n}")})).await;
        key_of_user(&app, &ann, json!({"name": format!("ann{n}"), "organization_id": acme})).await;
        key_of_user(&app, &bob, json!({"name": format!("bob{n}"), "organization_id": acme})).await;
    }
    let names = async |path: String| -> Vec<String> {
        let answer = app.api(Method::GET, &path, Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(format!("/organizations/{acme}/api_keys?order=asc")).await, ["a0", "a1", "a2"]);
    assert_eq!(names(format!("/organizations/{globex}/api_keys")).await, ["g2", "g1", "g0"]);
    assert_eq!(names(format!("/user_management/users/{bob}/api_keys")).await, ["bob2", "bob1", "bob0"]);
    assert_eq!(names(format!("/user_management/users/{ann}/api_keys?organization_id={globex}")).await, Vec::<String>::new());
    // Row 52: another organization's cursor is a place in the order and nothing more.
    assert_eq!(names(format!("/organizations/{globex}/api_keys?order=asc&after={}", first.unwrap())).await, ["g0", "g1", "g2"]);
});

both_engines!(w15_keys_page_both_ways, |app| async {
    let acme = organization(&app, "Acme").await;
    permission(&app, "posts:read").await;
    permission(&app, "posts:write").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        // With none, one and two permissions: a key is one row of the list all the same.
        let permissions = &["posts:read", "posts:write"][..n % 3];
        ids.push(id(&key_of_organization(&app, &acme, json!({"name": "k", "permissions": permissions})).await));
    }
    let page = async |query: &str| {
        let answer = app.api(Method::GET, &format!("/organizations/{acme}/api_keys?{query}"), Value::Null).await;
        let data: Vec<String> = answer.body["data"].as_array().unwrap().iter().map(id).collect();
        (data, answer.body["list_metadata"].clone())
    };
    assert_eq!(page("limit=2").await, (vec![ids[4].clone(), ids[3].clone()], json!({"before": null, "after": ids[3]})));
    assert_eq!(
        page(&format!("limit=3&after={}", ids[3])).await,
        (vec![ids[2].clone(), ids[1].clone(), ids[0].clone()], json!({"before": ids[2], "after": null}))
    );
    assert_eq!(
        page(&format!("limit=2&before={}", ids[2])).await,
        (vec![ids[4].clone(), ids[3].clone()], json!({"before": null, "after": ids[3]}))
    );
    assert_eq!(page(&format!("order=asc&after={}", ids[2])).await.0, [ids[3].clone(), ids[4].clone()]);
    assert_eq!(page("order=normal").await.0.first(), ids.last());
    for query in ["limit=0", "limit=101", "limit=-1", "limit=1e9", "order=id;--"] {
        let answer = app.api(Method::GET, &format!("/organizations/{acme}/api_keys?{query}"), Value::Null).await;
        assert_eq!(answer.status, 422, "{query}");
    }
});

both_engines!(row_51_only_what_may_be_chosen_is_taken_from_a_body, |app| async {
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let key = key_of_organization(
        &app,
        &acme,
        json!({
            "name": "CI", "id": "api_key_mine", "value": "sk_api_mine", "secret_hash": "x", "environment_id": app.other.environment.to_string(),
            "organization_id": globex, "owner": {"type": "organization", "id": globex}, "user_id": "user_x", "last_used_at": "2030-01-01T00:00:00Z",
            "created_at": "2020-01-01T00:00:00Z", "obfuscated_value": "x", "__proto__": {"permissions": ["posts:all"]}, "constructor": {},
        }),
    )
    .await;
    assert_ne!(id(&key), "api_key_mine");
    assert_eq!(key["owner"], json!({"type": "organization", "id": acme}));
    assert_eq!((&key["permissions"], &key["last_used_at"]), (&json!([]), &Value::Null));
    assert_eq!(key["created_at"], "2026-01-15T12:00:00.000Z");
    assert_eq!(validate(&app, "sk_api_mine").await, Value::Null);
    let path = format!("/api_keys/{}/expire", id(&key));
    let moved =
        app.api(Method::POST, &path, json!({"expires_at": "2030-01-01T00:00:00Z", "permissions": ["posts:all"], "name": "other"})).await;
    assert_eq!((&moved.body["permissions"], moved.body["name"].as_str()), (&json!([]), Some("CI")));
});

both_engines!(a_deleted_permission_is_gone_from_every_key_for_good, |app| async {
    let acme = organization(&app, "Acme").await;
    for slug in ["posts:read", "posts:write"] {
        permission(&app, slug).await;
    }
    let key = key_of_organization(&app, &acme, json!({"name": "CI", "permissions": ["posts:read", "posts:write"]})).await;
    let deleted = app.api(Method::DELETE, "/authorization/permissions/posts:write", Value::Null).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text);
    assert_eq!(validate(&app, &value(&key)).await["permissions"], json!(["posts:read"]));
    permission(&app, "posts:write").await;
    assert_eq!(validate(&app, &value(&key)).await["permissions"], json!(["posts:read"]), "another one of that name was never given");
});

both_engines!(a_use_is_written_beside_the_answer_and_once_a_minute, |app| async {
    let acme = organization(&app, "Acme").await;
    let key = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
    let last_use = async || {
        let listed = app.api(Method::GET, &format!("/organizations/{acme}/api_keys"), Value::Null).await;
        listed.body["data"][0]["last_used_at"].clone()
    };
    let until = async |wanted: &str| {
        for _ in 0..400 {
            if last_use().await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{wanted} was not written but {}", last_use().await);
    };
    assert_eq!(last_use().await, Value::Null);
    validate(&app, &value(&key)).await;
    until("2026-01-15T12:00:00.000Z").await;
    app.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(validate(&app, &value(&key)).await["last_used_at"], "2026-01-15T12:00:00.000Z");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(last_use().await, "2026-01-15T12:00:00.000Z", "sooner than a minute");
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(validate(&app, &value(&key)).await["last_used_at"], "2026-01-15T12:01:00.000Z");
    until("2026-01-15T12:01:00.000Z").await;
    // Neither a refused nor an expired key is used.
    app.clock.advance(DAY);
    app.api(Method::POST, &format!("/api_keys/{}/expire", id(&key)), Value::Null).await;
    assert_eq!(validate(&app, &value(&key)).await, Value::Null);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(last_use().await, "2026-01-15T12:01:00.000Z");
});

both_engines!(of_64_who_delete_or_expire_a_key_one_does, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    for (method, path, won, lost) in [(Method::POST, "/expire", 200, 409), (Method::DELETE, "", 204, 404)] {
        let key = key_of_organization(&app, &acme, json!({"name": "CI"})).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (app, method, path) = (app.clone(), method.clone(), format!("/api_keys/{}{path}", id(&key)));
            tasks.spawn(async move { app.api(method, &path, Value::Null).await.status });
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|status| **status == won).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|status| **status == lost).count(), 63, "{answers:?}");
    }
    let names: Vec<String> = events(&app).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["api_key.created", "api_key.updated", "api_key.created", "api_key.revoked"]);
});

both_engines!(of_64_keys_made_at_once_each_is_its_own, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    permission(&app, "posts:read").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, acme) = (app.clone(), acme.clone());
        tasks.spawn(async move { value(&key_of_organization(&app, &acme, json!({"name": "CI", "permissions": ["posts:read"]})).await) });
    }
    let mut values = tasks.join_all().await;
    for value in &values {
        assert_eq!(validate(&app, value).await["permissions"], json!(["posts:read"]));
    }
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 64);
});

both_engines!(a_key_is_stored_as_a_hash_and_told_in_no_event, |app| async {
    let acme = organization(&app, "Acme").await;
    let key = value(&key_of_organization(&app, &acme, json!({"name": "CI"})).await);
    let environment = app.tenant.environment.clone();
    let stored = app
        .cx()
        .db()
        .read(move |tx| tx.one("SELECT secret_hash FROM api_keys WHERE environment_id = $1", gatewright_db::params![&environment])?.text())
        .await
        .unwrap();
    assert_eq!(stored, gatewright_jose::hash_secret(&key));
    let told = serde_json::to_string(&app.events().await).unwrap();
    assert!(!told.contains(&key) && !told.contains(&stored) && !told.contains("\"value\""), "{told}");
});
