use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::{DbError, params};
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::records::organization_memberships::{self as memberships, Inserted, MembershipId, NewMembership, Status};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::roles::{self, NewRole};
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, On, Tenant, TestApp};

const PATH: &str = "/user_management/organization_memberships";
const USERS: &str = "/user_management/users";
const PASSWORD: &str = "correct horse battery";

fn id_of(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

fn path_of(membership: &Value) -> String {
    format!("{PATH}/{}", id_of(membership))
}

async fn organization_as(app: &TestApp, tenant: &Tenant, name: &str) -> Value {
    let made = app.api_as(tenant, Method::POST, "/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn organization(app: &TestApp, name: &str) -> Value {
    organization_as(app, &app.tenant, name).await
}

async fn user(app: &TestApp, email: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let made = app.api(Method::POST, USERS, json!({ "email": email })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn role(app: &TestApp, slug: &str) {
    let made = app.api(Method::POST, "/authorization/roles", json!({"slug": slug, "name": slug})).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

async fn join(app: &TestApp, user: &Value, organization: &Value, role: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let body = json!({"user_id": user["id"], "organization_id": organization["id"], "role_slug": role});
    let made = app.api(Method::POST, PATH, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

/// As an invitation leaves it that nobody has accepted yet.
async fn pending(app: &TestApp, user: &Value, organization: &Value, role: &str) -> Value {
    let new = NewMembership::new(
        UserId::from_text(id_of(user)),
        OrganizationId::from_text(id_of(organization)),
        vec![role.to_owned()],
        Status::Pending,
    );
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let made = app.cx().db().write(move |tx| memberships::insert(tx, &environment, new.clone(), &scribe)).await.unwrap();
    let Inserted::New(membership) = made else { panic!("there was one already") };
    app.api(Method::GET, &format!("{PATH}/{}", membership.id), Value::Null).await.body
}

async fn read(app: &TestApp, membership: &Value) -> Value {
    app.api(Method::GET, &path_of(membership), Value::Null).await.body
}

async fn put(app: &TestApp, membership: &Value, end: &str, body: Value) -> Answer {
    app.clock.advance(Duration::from_millis(1));
    app.api(Method::PUT, &format!("{}{end}", path_of(membership)), body).await
}

async fn events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("organization_membership.")).collect()
}

async fn names(app: &TestApp) -> Vec<String> {
    events(app).await.into_iter().map(|(name, _)| name.trim_start_matches("organization_membership.").to_owned()).collect()
}

async fn count(app: &TestApp, sql: &'static str) -> i64 {
    let environment = app.tenant.environment.clone();
    app.cx().db().scan(move |tx| tx.one(sql, params![&environment])?.int()).await.unwrap()
}

async fn listed(app: &TestApp, query: &str) -> Vec<String> {
    let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.body["data"].as_array().unwrap().iter().map(|one| id_of(one).to_owned()).collect()
}

fn slugs(membership: &Value) -> Vec<&str> {
    membership["roles"].as_array().expect("roles").iter().map(|role| role["slug"].as_str().unwrap()).collect()
}

async fn refresh(app: &TestApp, signed_in: &Value) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": signed_in["refresh_token"]})).await
}

both_engines!(the_life_of_a_membership, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let made = app.api(Method::POST, PATH, json!({"user_id": ada["id"], "organization_id": acme["id"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let membership = made.body;
    assert!(gatewright_base::is_id("om", id_of(&membership)));
    let expected = json!({
        "object": "organization_membership", "id": membership["id"], "user_id": ada["id"], "organization_id": acme["id"],
        "organization_name": "Acme", "status": "active", "directory_managed": false, "custom_attributes": {}, "user": ada,
        "role": {"slug": "member"}, "roles": [{"slug": "member"}],
        "created_at": "2026-01-15T12:00:00.001Z", "updated_at": "2026-01-15T12:00:00.001Z"
    });
    assert_eq!(membership, expected);
    assert_eq!(read(&app, &membership).await, membership);
    for query in ["user_id={user}", "organization_id={organization}", "user_id={user}&organization_id={organization}"] {
        let query = query.replace("{user}", id_of(&ada)).replace("{organization}", id_of(&acme));
        let list = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        let expected = json!({"object": "list", "data": [membership], "list_metadata": {"before": null, "after": null}});
        assert_eq!(list.body, expected, "{query}");
    }

    let promoted = put(&app, &membership, "", json!({"role_slug": "admin"})).await;
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    let mut expected = membership.clone();
    (expected["role"], expected["roles"]) = (json!({"slug": "admin"}), json!([{"slug": "admin"}]));
    expected["updated_at"] = json!("2026-01-15T12:00:00.002Z");
    assert_eq!(promoted.body, expected);
    // The same again, or nothing, changes nothing, so nothing is told.
    for body in
        [json!({"role_slug": "admin"}), json!({"role_slugs": ["admin", "admin"]}), json!({}), json!({"role_slug": null}), Value::Null]
    {
        assert_eq!(put(&app, &membership, "", body).await.body, expected);
    }
    join(&app, &user(&app, "eve@example.com").await, &acme, "admin").await;
    assert_eq!(put(&app, &membership, "", json!({"role_slugs": ["member"]})).await.body["role"]["slug"], "member");

    let off = put(&app, &membership, "/deactivate", json!({})).await;
    assert_eq!((off.status, &off.body["status"], slugs(&off.body)), (200, &json!("inactive"), vec!["member"]), "{}", off.text);
    assert_eq!(put(&app, &membership, "/deactivate", Value::Null).await.body, off.body);
    let user_query = format!("user_id={}", id_of(&ada));
    assert_eq!(listed(&app, &user_query).await, Vec::<String>::new());
    assert_eq!(listed(&app, &format!("{user_query}&statuses=inactive")).await, [id_of(&membership)]);
    let on = put(&app, &membership, "/reactivate", json!({})).await;
    assert_eq!((on.status, &on.body["status"], slugs(&on.body)), (200, &json!("active"), vec!["member"]));
    assert_eq!(put(&app, &membership, "/reactivate", Value::Null).await.body, on.body);

    let deleted = app.api(Method::DELETE, &path_of(&membership), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str(), deleted.header("content-type")), (200, "", None));
    for (method, end) in
        [(Method::GET, ""), (Method::PUT, ""), (Method::DELETE, ""), (Method::PUT, "/deactivate"), (Method::PUT, "/reactivate")]
    {
        let answer = app.api(method.clone(), &format!("{}{end}", path_of(&membership)), json!({})).await;
        let message = format!("Organization membership not found: '{}'.", id_of(&membership));
        assert_eq!((answer.status, answer.code(), answer.body["message"].as_str()), (404, "entity_not_found", Some(message.as_str())));
    }
    assert_eq!(names(&app).await, ["created", "updated", "created", "updated", "updated", "updated", "deleted"]);
    let (_, last) = events(&app).await.pop().unwrap();
    let mut expected = on.body;
    for key in ["user", "organization_name"] {
        expected.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(last, expected);
});

both_engines!(several_roles_are_held_by_priority, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    role(&app, "auditor").await;
    let body = json!({"user_id": ada["id"], "organization_id": acme["id"], "role_slugs": ["auditor", "member", "admin", "member"]});
    let made = app.api(Method::POST, PATH, body).await;
    assert_eq!((made.status, slugs(&made.body)), (201, vec!["admin", "member", "auditor"]), "{}", made.text);
    assert_eq!(made.body["role"]["slug"], "admin");
    assert_eq!(read(&app, &made.body).await, made.body);
    // PUT replaces: what is not named again is gone.
    let changed = put(&app, &made.body, "", json!({"role_slugs": ["auditor", "admin"]})).await;
    assert_eq!((changed.status, slugs(&changed.body)), (200, vec!["admin", "auditor"]), "{}", changed.text);
    let (_, event) = events(&app).await.pop().unwrap();
    assert_eq!((event["role"]["slug"].as_str(), slugs(&event)), (Some("admin"), vec!["admin", "auditor"]));
    // Another order of the same is no change.
    assert_eq!(put(&app, &made.body, "", json!({"role_slugs": ["auditor", "admin", "auditor"]})).await.body, changed.body);
    assert_eq!(names(&app).await, ["created", "updated"]);
});

both_engines!(roles_that_cannot_be_given_are_refused_by_name_and_change_nothing, |app| async {
    let (ada, acme, other) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await, organization(&app, "Other").await);
    let eve = user(&app, "eve@example.com").await;
    let membership = join(&app, &ada, &acme, "member").await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    let (own, foreign) = (OrganizationId::from_text(id_of(&acme)), OrganizationId::from_text(id_of(&other)));
    app.cx()
        .db()
        .write(move |tx| {
            for (slug, kind, organization) in
                [("org-lead", "organization", Some(&own)), ("org-chief", "organization", Some(&foreign)), ("editor", "document", None)]
            {
                let new = NewRole {
                    slug: slug.to_owned(),
                    name: slug.to_owned(),
                    description: None,
                    resource_type_slug: kind.to_owned(),
                    organization_id: organization.cloned(),
                };
                assert!(roles::insert(tx, &environment, &new, &scribe)?.is_ok());
            }
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
    let before = app.events().await.len();
    for (roles, status, code) in [
        (json!({"role_slug": "root"}), 422, "invalid_role"),
        (json!({"role_slug": ""}), 422, "invalid_role"),
        (json!({"role_slugs": ["member", "root"]}), 422, "invalid_role"),
        // Another organization's own role is none here.
        (json!({"role_slug": "org-chief"}), 422, "invalid_role"),
        (json!({"role_slugs": ["member", "org-chief"]}), 422, "invalid_role"),
        (json!({"role_slug": "editor"}), 422, "sub_resource_scoped_role_not_allowed"),
        (json!({"role_slugs": ["admin", "editor"]}), 422, "sub_resource_scoped_role_not_allowed"),
        (json!({"role_slug": "admin", "role_slugs": ["admin"]}), 422, "invalid_request_parameters"),
        (json!({"role_slugs": []}), 422, "invalid_request_parameters"),
        (json!({"role_slugs": (0..51).map(|n| format!("r{n}")).collect::<Vec<_>>()}), 422, "invalid_request_parameters"),
        (json!({"role_slugs": "admin"}), 422, "invalid_request_parameters"),
        (json!({"role_slug": ["admin"]}), 422, "invalid_request_parameters"),
        (json!({"role_slugs": [null]}), 422, "invalid_request_parameters"),
    ] {
        let mut body = json!({"user_id": eve["id"], "organization_id": acme["id"]});
        body.as_object_mut().unwrap().extend(roles.as_object().unwrap().clone());
        for answer in [app.api(Method::POST, PATH, body).await, app.api(Method::PUT, &path_of(&membership), roles.clone()).await] {
            assert_eq!((answer.status, answer.code()), (status, code), "{roles}: {}", answer.text);
            assert!(answer.body["message"].is_string());
            if code == "sub_resource_scoped_role_not_allowed" {
                assert_eq!(answer.body["role_slug"], "editor");
            }
        }
    }
    let long = app.api(Method::PUT, &path_of(&membership), json!({"role_slug": "x".repeat(50_000)})).await;
    assert_eq!((long.status, long.code(), long.text.len() < 1_000), (422, "invalid_role", true));
    assert_eq!(read(&app, &membership).await, membership);
    assert_eq!((listed(&app, &format!("user_id={}", id_of(&eve))).await.len(), app.events().await.len()), (0, before));
    let lead = put(&app, &membership, "", json!({"role_slugs": ["org-lead", "member"]})).await;
    assert_eq!((lead.status, slugs(&lead.body)), (200, vec!["member", "org-lead"]), "{}", lead.text);
});

both_engines!(several_roles_need_the_environments_setting, |app| async {
    let (ada, eve, acme) = (user(&app, "ada@example.com").await, user(&app, "eve@example.com").await, organization(&app, "Acme").await);
    let membership =
        app.api(Method::POST, PATH, json!({"user_id": ada["id"], "organization_id": acme["id"], "role_slugs": ["admin", "member"]}));
    let membership = membership.await.body;
    app.settings(|settings| settings.multiple_roles = false).await;
    let body = json!({"user_id": eve["id"], "organization_id": acme["id"], "role_slugs": ["admin", "member"]});
    for answer in [
        app.api(Method::POST, PATH, body).await,
        app.api(Method::PUT, &path_of(&membership), json!({"role_slugs": ["member", "admin"]})).await,
    ] {
        assert_eq!((answer.status, answer.code()), (422, "multiple_roles_not_enabled"), "{}", answer.text);
        assert_eq!(answer.body["message"], "Multiple roles are not enabled for this environment.");
    }
    // Who had two keeps them until they are changed; one, in either spelling, is always allowed.
    assert_eq!(read(&app, &membership).await, membership);
    assert_eq!(slugs(&put(&app, &membership, "", json!({"role_slugs": ["admin"]})).await.body), ["admin"]);
    let one = app.api(Method::POST, PATH, json!({"user_id": eve["id"], "organization_id": acme["id"], "role_slugs": ["member"]})).await;
    assert_eq!(one.status, 201, "{}", one.text);
});

both_engines!(a_member_is_made_once_and_comes_back_by_the_same_call, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let membership = join(&app, &ada, &acme, "member").await;
    let body = json!({"user_id": ada["id"], "organization_id": acme["id"], "role_slug": "admin"});
    let again = app.api(Method::POST, PATH, body.clone()).await;
    assert_eq!((again.status, again.code()), (409, "organization_membership_already_exists"), "{}", again.text);
    assert_eq!(read(&app, &membership).await, membership);

    put(&app, &membership, "/deactivate", json!({})).await;
    let back = app.api(Method::POST, PATH, body).await;
    assert_eq!((back.status, id_of(&back.body)), (201, id_of(&membership)), "{}", back.text);
    assert_eq!((&back.body["status"], slugs(&back.body)), (&json!("active"), vec!["admin"]));
    // Without a role it comes back with the default one: what it had before it was deactivated does not come back.
    let eve = join(&app, &user(&app, "eve@example.com").await, &acme, "admin").await;
    put(&app, &eve, "/deactivate", json!({})).await;
    let body = json!({"user_id": eve["user_id"], "organization_id": acme["id"]});
    assert_eq!(slugs(&app.api(Method::POST, PATH, body).await.body), ["member"]);
    assert_eq!(names(&app).await, ["created", "updated", "updated", "created", "updated", "updated"]);
});

both_engines!(a_pending_membership_waits_for_its_invitation, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let membership = pending(&app, &ada, &acme, "member").await;
    assert_eq!(membership["status"], "pending");
    let body = json!({"user_id": ada["id"], "organization_id": acme["id"]});
    for (answer, code) in [
        (put(&app, &membership, "/deactivate", json!({})).await, "cannot_deactivate_pending_organization_membership"),
        (put(&app, &membership, "/reactivate", json!({})).await, "cannot_reactivate_pending_organization_membership"),
        (app.api(Method::POST, PATH, body).await, "cannot_reactivate_pending_organization_membership"),
    ] {
        assert_eq!((answer.status, answer.code()), (400, code), "{}", answer.text);
    }
    assert_eq!((read(&app, &membership).await, names(&app).await), (membership.clone(), vec!["created".to_owned()]));
    let query = format!("organization_id={}", id_of(&acme));
    assert_eq!(listed(&app, &query).await, Vec::<String>::new());
    assert_eq!(listed(&app, &format!("{query}&statuses=pending")).await, [id_of(&membership)]);
    // Its role may be changed, and it may be deleted.
    assert_eq!(put(&app, &membership, "", json!({"role_slug": "admin"})).await.status, 200);
    assert_eq!(app.api(Method::DELETE, &path_of(&membership), Value::Null).await.status, 200);
});

both_engines!(members_keep_their_last_active_admin, |app| async {
    let acme = organization(&app, "Acme").await;
    let ada = join(&app, &user(&app, "ada@example.com").await, &acme, "admin").await;
    let eve = join(&app, &user(&app, "eve@example.com").await, &acme, "member").await;
    // Admins who cannot act are no admins.
    pending(&app, &user(&app, "pat@example.com").await, &acme, "admin").await;
    let idle = join(&app, &user(&app, "ida@example.com").await, &acme, "admin").await;
    assert_eq!(put(&app, &idle, "/deactivate", json!({})).await.status, 200);
    let elsewhere = organization(&app, "Elsewhere").await;
    join(&app, &user(&app, "eli@example.com").await, &elsewhere, "admin").await;

    let before = app.events().await.len();
    let admin_of = read(&app, &ada).await;
    for answer in [
        app.api(Method::DELETE, &path_of(&ada), Value::Null).await,
        app.api(Method::PUT, &format!("{}/deactivate", path_of(&ada)), json!({})).await,
        app.api(Method::PUT, &path_of(&ada), json!({"role_slug": "member"})).await,
        app.api(Method::PUT, &path_of(&ada), json!({"role_slugs": ["member"]})).await,
    ] {
        assert_eq!((answer.status, answer.code()), (409, "last_organization_admin"), "{}", answer.text);
        assert!(answer.body["message"].as_str().unwrap().contains("Make another member admin first"));
    }
    let user_path = format!("{USERS}/{}", ada["user_id"].as_str().unwrap());
    let deleted = app.api(Method::DELETE, &user_path, Value::Null).await;
    assert_eq!((deleted.status, deleted.code()), (409, "user_deletion_not_allowed"), "{}", deleted.text);
    assert!(deleted.text.contains(id_of(&acme)));
    assert_eq!((read(&app, &ada).await, app.events().await.len()), (admin_of, before));
    assert_eq!(app.api(Method::GET, &user_path, Value::Null).await.status, 200);

    // What keeps the role is no loss, and others come and go.
    assert_eq!(put(&app, &ada, "", json!({"role_slugs": ["member", "admin"]})).await.status, 200);
    for (end, body) in [("/deactivate", json!({})), ("/reactivate", json!({})), ("", json!({"role_slug": "admin"}))] {
        assert_eq!(put(&app, &eve, end, body).await.status, 200, "{end}");
    }
    // With a second admin the first may go; then the second may not.
    assert_eq!(app.api(Method::DELETE, &user_path, Value::Null).await.status, 200);
    assert_eq!(app.api(Method::DELETE, &path_of(&eve), Value::Null).await.code(), "last_organization_admin");
});

both_engines!(who_is_alone_in_an_organization_may_leave_it, |app| async {
    let (ada, eve) = (user(&app, "ada@example.com").await, user(&app, "eve@example.com").await);
    let (first, second) = (organization(&app, "First").await, organization(&app, "Second").await);
    let alone = join(&app, &ada, &first, "admin").await;
    for answer in [put(&app, &alone, "/deactivate", json!({})).await, put(&app, &alone, "", json!({"role_slug": "member"})).await] {
        assert_eq!((answer.status, answer.code()), (409, "last_organization_admin"), "{}", answer.text);
    }
    assert_eq!(app.api(Method::DELETE, &path_of(&alone), Value::Null).await.status, 200);
    join(&app, &eve, &first, "admin").await;
    join(&app, &eve, &second, "admin").await;
    assert_eq!(app.api(Method::DELETE, &format!("{USERS}/{}", id_of(&eve)), Value::Null).await.status, 200);
});

both_engines!(an_environment_may_let_its_last_admins_go, |app| async {
    let acme = organization(&app, "Acme").await;
    let mut admins = Vec::new();
    for n in 0..3 {
        admins.push(join(&app, &user(&app, &format!("a{n}@example.com")).await, &acme, if n == 0 { "admin" } else { "member" }).await);
    }
    app.settings(|settings| settings.keep_last_admin = false).await;
    assert_eq!(put(&app, &admins[0], "", json!({"role_slug": "member"})).await.status, 200);
    put(&app, &admins[1], "", json!({"role_slug": "admin"})).await;
    assert_eq!(put(&app, &admins[1], "/deactivate", json!({})).await.status, 200);
    put(&app, &admins[2], "", json!({"role_slug": "admin"})).await;
    assert_eq!(app.api(Method::DELETE, &path_of(&admins[2]), Value::Null).await.status, 200);
});

both_engines!(of_two_admins_who_go_at_once_one_stays, |app| async move {
    let acme = organization(&app, "Acme").await;
    let ada = join(&app, &user(&app, "ada@example.com").await, &acme, "admin").await;
    let eve = join(&app, &user(&app, "eve@example.com").await, &acme, "admin").await;
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, path) = (app.clone(), path_of(if n % 2 == 0 { &ada } else { &eve }));
        tasks.spawn(async move {
            let answer = match n % 3 {
                0 => app.api(Method::PUT, &path, json!({"role_slug": "member"})).await,
                1 => app.api(Method::PUT, &format!("{path}/deactivate"), json!({})).await,
                _ => app.api(Method::DELETE, &path, Value::Null).await,
            };
            (answer.status, answer.text)
        });
    }
    for (status, text) in tasks.join_all().await {
        assert!([200, 404, 409].contains(&status), "{text}");
    }
    let organization = OrganizationId::from_text(id_of(&acme));
    let environment = app.tenant.environment.clone();
    let left = app.cx().db().read(move |tx| memberships::count_active_admins(tx, &environment, &organization)).await.unwrap();
    // One goes and the other is alone: who is alone may leave, but never while somebody stays.
    let members = count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await;
    assert!(left == 1 || members == 0, "{left} {members}");
});

both_engines!(lists_are_of_a_user_or_an_organization_and_by_status, |app| async {
    let (ada, acme, other) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await, organization(&app, "Other").await);
    let active = join(&app, &ada, &acme, "member").await;
    let inactive = join(&app, &ada, &other, "member").await;
    put(&app, &inactive, "/deactivate", json!({})).await;
    let waiting = pending(&app, &user(&app, "eve@example.com").await, &acme, "member").await;
    let (active, inactive, waiting) = (id_of(&active), id_of(&inactive), id_of(&waiting));
    let (of_user, of_acme) = (format!("user_id={}", id_of(&ada)), format!("organization_id={}", id_of(&acme)));
    for (query, expected) in [
        (of_user.clone(), vec![active]),
        (format!("{of_user}&statuses="), vec![active]),
        (format!("{of_user}&statuses=inactive"), vec![inactive]),
        (format!("{of_user}&statuses=active,inactive"), vec![inactive, active]),
        (format!("{of_user}&statuses=inactive&statuses=active&order=asc"), vec![active, inactive]),
        (format!("{of_user}&statuses[]=inactive&statuses[]=active"), vec![inactive, active]),
        (format!("{of_user}&statuses[0]=inactive&statuses[1]=active"), vec![inactive, active]),
        (of_acme.clone(), vec![active]),
        (format!("{of_acme}&statuses=pending,active,inactive,pending"), vec![waiting, active]),
        (format!("{of_acme}&{of_user}&statuses=pending,active,inactive"), vec![active]),
        (format!("{of_acme}&{of_user}&statuses=pending"), vec![]),
        (format!("{of_acme}&{of_user}&after={active}"), vec![]),
    ] {
        assert_eq!(listed(&app, &query).await, expected, "{query}");
    }
    for query in ["", "?user_id=&organization_id=", "?statuses=active"] {
        let answer = app.api(Method::GET, &format!("{PATH}{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.code()), (400, "missing_user_id_or_organization_id"), "{query}");
    }
    for query in
        ["limit=0", "limit=101", "limit=x", "order=up", "before=a&after=b", "statuses=gone", "statuses=active,gone", "limit=1&limit=2"]
    {
        let answer = app.api(Method::GET, &format!("{PATH}?{of_user}&{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{query}");
    }
    for (query, message) in [
        ("user_id=user_01", "User not found: 'user_01'."),
        ("organization_id=org_01", "Organization not found: 'org_01'."),
        (&format!("{of_user}&organization_id=org_01"), "Organization not found: 'org_01'."),
        (&format!("user_id=user_01&{of_acme}"), "User not found: 'user_01'."),
    ] {
        let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.body["message"].as_str()), (404, Some(message)), "{query}");
    }
});

both_engines!(w15_a_list_of_mixed_statuses_is_walked_both_ways_without_loss, |app| async {
    let acme = organization(&app, "Acme").await;
    let mut ids = Vec::new();
    for n in 0..25 {
        let person = user(&app, &format!("u{n}@example.com")).await;
        app.clock.advance(Duration::from_millis(1));
        let membership =
            if n % 5 == 0 { pending(&app, &person, &acme, "member").await } else { join(&app, &person, &acme, "member").await };
        if n % 3 == 1 && n % 5 != 0 {
            assert_eq!(put(&app, &membership, "/deactivate", json!({})).await.status, 200);
        }
        ids.push(id_of(&membership).to_owned());
    }
    let of = format!("organization_id={}&statuses=active,inactive,pending", id_of(&acme));
    for (order, limit, lengths) in [("desc", 10, vec![10, 10, 5]), ("asc", 10, vec![10, 10, 5]), ("desc", 5, vec![5; 5])] {
        let mut expected = ids.clone();
        if order == "desc" {
            expected.reverse();
        }
        let (mut seen, mut pages, mut after) = (Vec::new(), Vec::new(), String::new());
        loop {
            let answer = app.api(Method::GET, &format!("{PATH}?{of}&order={order}&limit={limit}{after}"), Value::Null).await;
            let rows = answer.body["data"].as_array().unwrap();
            pages.push(rows.len());
            seen.extend(rows.iter().map(|row| id_of(row).to_owned()));
            let metadata = &answer.body["list_metadata"];
            assert_eq!(metadata["before"].is_null(), pages.len() == 1);
            let Some(cursor) = metadata["after"].as_str() else { break };
            after = format!("&after={cursor}");
        }
        assert_eq!((&seen, pages), (&expected, lengths), "{order} {limit}");
        let back = listed(&app, &format!("{of}&order={order}&limit=7&before={}", expected[20])).await;
        assert_eq!(back, expected[13..20]);
    }
    // The users of an organization are its active members.
    let mut active = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("{USERS}?organization_id={}&limit=4{after}", id_of(&acme));
        let page = app.api(Method::GET, &path, Value::Null).await.body;
        active.extend(page["data"].as_array().unwrap().iter().map(|user| id_of(user).to_owned()));
        let Some(cursor) = page["list_metadata"]["after"].as_str() else { break };
        after = format!("&after={cursor}");
    }
    let members = app.api(Method::GET, &format!("{PATH}?organization_id={}&limit=100", id_of(&acme)), Value::Null).await.body;
    let expected: Vec<&str> = members["data"].as_array().unwrap().iter().map(|one| one["user_id"].as_str().unwrap()).collect();
    assert_eq!(active, expected);
    for (email, found) in [("u2@example.com", 1), ("u0@example.com", 0), ("u1@example.com", 0), ("nobody@example.com", 0)] {
        let path = format!("{USERS}?organization={}&email={email}", id_of(&acme));
        assert_eq!(app.api(Method::GET, &path, Value::Null).await.body["data"].as_array().unwrap().len(), found, "{email}");
    }
});

/// Signs in for one of several organizations.
async fn sign_in_to(app: &TestApp, email: &str, organization: &Value) -> Value {
    let first = app.authenticate(json!({"grant_type": "password", "email": email, "password": PASSWORD})).await;
    assert_eq!((first.status, first.code()), (403, "organization_selection_required"), "{}", first.text);
    let body = json!({"grant_type": "urn:workos:oauth:grant-type:organization-selection", "organization_id": organization["id"],
        "pending_authentication_token": first.body["pending_authentication_token"]});
    let signed_in = app.authenticate(body).await;
    assert_eq!((signed_in.status, &signed_in.body["organization_id"]), (200, &organization["id"]), "{}", signed_in.text);
    signed_in.body
}

both_engines!(a_member_shut_out_loses_the_sessions_of_that_organization_and_no_others, |app| async {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    for (n, cut) in ["deactivate", "delete"].into_iter().enumerate() {
        let email = format!("u{n}@example.com");
        let ada = app.user(&email, PASSWORD).await;
        let (membership, elsewhere) = (join(&app, &ada, &acme, "member").await, join(&app, &ada, &other, "member").await);
        let (here, there) = (sign_in_to(&app, &email, &acme).await, sign_in_to(&app, &email, &other).await);
        let before = app.events().await.len();
        let answer = match cut {
            "deactivate" => put(&app, &membership, "/deactivate", json!({})).await,
            _ => app.api(Method::DELETE, &path_of(&membership), Value::Null).await,
        };
        assert_eq!(answer.status, 200, "{}", answer.text);
        let told: Vec<String> = app.events().await.drain(before..).map(|(name, _)| name).collect();
        let change = if cut == "delete" { "organization_membership.deleted" } else { "organization_membership.updated" };
        assert_eq!(told, [change, "session.revoked"], "{cut}");
        let refused = refresh(&app, &here).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_grant"), "{cut}: {}", refused.text);
        assert_eq!(refresh(&app, &there).await.status, 200, "{cut}");
        // What is left is chosen by itself.
        assert_eq!(app.sign_in(&email, PASSWORD).await["organization_id"], elsewhere["organization_id"], "{cut}");
        // A role alone cuts nothing: the next token says what it is now.
        let session = app.sign_in(&email, PASSWORD).await;
        assert_eq!(put(&app, &elsewhere, "", json!({"role_slug": "admin"})).await.status, 200);
        assert_eq!(refresh(&app, &session).await.status, 200, "{cut}");
    }
});

both_engines!(a_user_who_is_deleted_leaves_every_organization_and_each_is_told, |app| async {
    let (ada, acme, other) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await, organization(&app, "Other").await);
    join(&app, &user(&app, "eve@example.com").await, &acme, "admin").await;
    join(&app, &ada, &acme, "member").await;
    pending(&app, &ada, &other, "admin").await;
    assert_eq!(app.api(Method::DELETE, &format!("{USERS}/{}", id_of(&ada)), Value::Null).await.status, 200);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 1);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_membership_roles WHERE environment_id = $1").await, 1);
    let told: Vec<String> = app.events().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told[told.len() - 3..], ["organization_membership.deleted", "organization_membership.deleted", "user.deleted"]);
});

both_engines!(an_organization_that_is_deleted_takes_its_memberships_along_and_each_is_told, |app| async {
    let acme = organization(&app, "Acme").await;
    let admin = join(&app, &user(&app, "ada@example.com").await, &acme, "admin").await;
    join(&app, &user(&app, "eve@example.com").await, &acme, "member").await;
    assert_eq!(app.api(Method::DELETE, &format!("/organizations/{}", id_of(&acme)), Value::Null).await.status, 202);
    assert_eq!(app.api(Method::GET, &path_of(&admin), Value::Null).await.status, 404);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 0);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_membership_roles WHERE environment_id = $1").await, 0);
    assert_eq!(names(&app).await, ["created", "created", "deleted", "deleted"]);
});

both_engines!(row_49_another_environments_memberships_users_and_organizations_do_not_exist, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let membership = join(&app, &ada, &acme, "member").await;
    let theirs = organization_as(&app, &app.other, "Theirs").await;
    let stranger = app.api_as(&app.other, Method::POST, USERS, json!({"email": "stranger@example.com"})).await.body;
    let before = app.events().await.len();
    for (method, end) in
        [(Method::GET, ""), (Method::PUT, ""), (Method::DELETE, ""), (Method::PUT, "/deactivate"), (Method::PUT, "/reactivate")]
    {
        let path = format!("{}{end}", path_of(&membership));
        let answer = app.api_as(&app.other, method.clone(), &path, json!({"role_slug": "admin"})).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method.clone(), &path, Value::Null).await.text, r#"{"message":"Unauthorized"}"#, "{method} {path}");
    }
    for (user, organization) in [(&ada, &theirs), (&stranger, &acme), (&ada, &acme)] {
        let body = json!({"user_id": user["id"], "organization_id": organization["id"], "role_slug": "admin"});
        let answer = app.api_as(&app.other, Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{body}");
        if user != &ada || organization != &acme {
            assert_eq!(app.api(Method::POST, PATH, body.clone()).await.code(), "entity_not_found", "{body}");
        }
    }
    for query in [format!("user_id={}", id_of(&ada)), format!("organization_id={}", id_of(&acme))] {
        let answer = app.api_as(&app.other, Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{query}");
    }
    let users = app.api_as(&app.other, Method::GET, &format!("{USERS}?organization_id={}", id_of(&acme)), Value::Null).await;
    assert_eq!((users.status, users.code()), (422, "invalid_request_parameters"));
    assert_eq!((read(&app, &membership).await, app.events().await.len()), (membership, before));
});

both_engines!(row_51_fields_that_are_not_the_callers_are_ignored, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let mut body = json!({
        "id": "om_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "status": "pending", "environment_id": app.other.environment.as_str(), "role": {"slug": "admin"},
        "roles": [{"slug": "admin"}], "directory_managed": true, "custom_attributes": {"a": 1}, "organization_name": "Mine",
        "created_at": "1999-01-01T00:00:00.000Z", "updated_at": "1999-01-01T00:00:00.000Z", "__proto__": {"admin": true}
    });
    let forged = body.clone();
    (body["user_id"], body["organization_id"]) = (ada["id"].clone(), acme["id"].clone());
    let made = app.api(Method::POST, PATH, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let changed = app.api(Method::PUT, &path_of(&made.body), forged.clone()).await;
    for (key, value) in forged.as_object().unwrap() {
        assert_ne!(made.body.get(key), Some(value), "{key}");
    }
    assert_eq!((slugs(&made.body), made.body.as_object().unwrap().len(), &changed.body), (vec!["member"], 13, &made.body));
});

both_engines!(row_52_a_cursor_shows_no_other_tenants_rows, |app| async {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let theirs = organization_as(&app, &app.other, "Theirs").await;
    let stranger = app.api_as(&app.other, Method::POST, USERS, json!({"email": "stranger@example.com"})).await.body;
    let body = json!({"user_id": stranger["id"], "organization_id": theirs["id"]});
    let foreign = app.api_as(&app.other, Method::POST, PATH, body).await.body;
    let mine = join(&app, &ada, &acme, "member").await;
    let of = format!("organization_id={}", id_of(&acme));
    for query in ["order=asc&after={}", "before={}", "order=normal&after={}"] {
        assert_eq!(listed(&app, &format!("{of}&{}", query.replace("{}", id_of(&foreign)))).await, [id_of(&mine)], "{query}");
    }
    for cursor in ["om_", "'%20OR%201=1--", "%00", "zzz", "%F0%9F%A6%8A", &"x".repeat(3_000)] {
        for query in [format!("after={cursor}"), format!("before={cursor}"), format!("after={cursor}&order=asc&statuses=active,pending")] {
            let answer = app.api(Method::GET, &format!("{PATH}?{of}&{query}"), Value::Null).await;
            assert_eq!(answer.status, 200, "{query}");
            assert!(!answer.text.contains(id_of(&foreign)));
        }
    }
});

both_engines!(of_64_who_create_one_membership_one_wins, |app| async move {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let role = if n % 2 == 0 { "admin" } else { "member" };
        let (app, body) = (app.clone(), json!({"user_id": ada["id"], "organization_id": acme["id"], "role_slug": role}));
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await });
    }
    let answers = tasks.join_all().await;
    let mut won: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let winner = won.pop().expect("one wins");
    assert_eq!(won.len(), 0);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((answer.status, answer.code()), (409, "organization_membership_already_exists"), "{}", answer.text);
    }
    // The losers changed nothing: the role is the winner's.
    assert_eq!(read(&app, &winner.body).await, winner.body);
    assert_eq!((slugs(&winner.body).len(), names(&app).await.len()), (1, 1));
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 1);
});

both_engines!(of_64_who_deactivate_and_bring_back_each_change_is_told_once, |app| async move {
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let membership = join(&app, &ada, &acme, "member").await;
    let app = Arc::new(app);
    for (end, status) in [("/deactivate", "inactive"), ("/reactivate", "active")] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (app, path) = (app.clone(), format!("{}{end}", path_of(&membership)));
            tasks.spawn(async move { app.api(Method::PUT, &path, json!({})).await });
        }
        for answer in tasks.join_all().await {
            assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some(status)), "{}", answer.text);
        }
    }
    assert_eq!(names(&app).await, ["created", "updated", "updated"]);
});

both_engines!(a_membership_and_its_organization_come_and_go_at_once_without_a_5xx, |app| async move {
    let ada = user(&app, "ada@example.com").await;
    let app = Arc::new(app);
    for round in 0..8 {
        let acme = organization(&app, &format!("Acme {round}")).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (app, ada, acme) = (app.clone(), ada.clone(), acme.clone());
            tasks.spawn(async move {
                if n == 3 {
                    app.api(Method::DELETE, &format!("/organizations/{}", id_of(&acme)), Value::Null).await
                } else {
                    app.api(Method::POST, PATH, json!({"user_id": ada["id"], "organization_id": acme["id"]})).await
                }
            });
        }
        for answer in tasks.join_all().await {
            assert!(answer.status < 500, "{}", answer.text);
        }
    }
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 0);
});

both_engines!(a_membership_and_its_user_come_and_go_at_once_without_a_5xx, |app| async move {
    let acme = organization(&app, "Acme").await;
    let app = Arc::new(app);
    for round in 0..16 {
        let ada = user(&app, &format!("ada{round}@example.com")).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (app, ada, acme) = (app.clone(), ada.clone(), acme.clone());
            tasks.spawn(async move {
                if n == 0 {
                    app.api(Method::DELETE, &format!("{USERS}/{}", id_of(&ada)), Value::Null).await
                } else {
                    app.api(Method::POST, PATH, json!({"user_id": ada["id"], "organization_id": acme["id"]})).await
                }
            });
        }
        for answer in tasks.join_all().await {
            assert!(answer.status < 500, "{}", answer.text);
        }
    }
    assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 0);
});

both_engines!(users_and_organizations_that_go_at_once_wait_in_one_direction, |app| async move {
    let app = Arc::new(app);
    let before = app.cx().db().stats().retries;
    for round in 0..3 {
        let (mut people, mut organizations, mut going) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..4 {
            people.push(user(&app, &format!("u{round}-{n}@example.com")).await);
            organizations.push(organization(&app, "Acme").await);
        }
        for person in &people {
            going.push(format!("{USERS}/{}", id_of(person)));
            for acme in &organizations {
                join(&app, person, acme, "admin").await;
                let body = json!({"name": "Mine", "organization_id": acme["id"]});
                let made = app.api(Method::POST, &format!("{USERS}/{}/api_keys", id_of(person)), body).await;
                assert_eq!(made.status, 201, "{}", made.text);
            }
        }
        going.extend(organizations.iter().map(|acme| format!("/organizations/{}", id_of(acme))));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (app, path) = (app.clone(), going[n % 2 * 4 + n / 2 % 4].clone());
            tasks.spawn(async move { app.api(Method::DELETE, &path, Value::Null).await });
        }
        for answer in tasks.join_all().await {
            assert!([200, 202, 404, 409].contains(&answer.status), "{}", answer.text);
        }
        assert_eq!(count(&app, "SELECT COUNT(*) FROM organization_memberships WHERE environment_id = $1").await, 0);
        assert_eq!(count(&app, "SELECT COUNT(*) FROM api_keys WHERE environment_id = $1").await, 0);
    }
    assert_eq!(app.cx().db().stats().retries, before, "two waited for each other");
});

both_engines!(a_role_is_used_where_a_member_has_it, |app| async {
    let (ada, acme, other) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await, organization(&app, "Other").await);
    let membership = join(&app, &ada, &acme, "admin").await;
    let (environment, strange) = (app.tenant.environment.clone(), app.other.environment.clone());
    let (acme, other) = (OrganizationId::from_text(id_of(&acme)), OrganizationId::from_text(id_of(&other)));
    let id = MembershipId::from_text(id_of(&membership));
    app.cx()
        .db()
        .read(move |tx| {
            for (environment, organization, slug, expected) in [
                (&environment, &acme, "admin", true),
                (&environment, &acme, "member", false),
                (&environment, &other, "admin", false),
                (&strange, &acme, "admin", false),
            ] {
                assert_eq!(memberships::role_is_used(tx, environment, organization, slug)?, expected, "{organization:?} {slug}");
            }
            assert!(memberships::find(tx, &strange, &id)?.is_none());
            assert_eq!(memberships::count_active_admins(tx, &strange, &acme)?, 0);
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
});

#[tokio::test]
async fn a_membership_is_written_with_its_event_or_not_at_all() {
    let app = TestApp::start(On::Sqlite).await;
    let (ada, acme) = (user(&app, "ada@example.com").await, organization(&app, "Acme").await);
    let membership = join(&app, &ada, &acme, "member").await;
    let before = app.events().await.len();
    let (environment, scribe, id) =
        (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator), MembershipId::from_text(id_of(&membership)));
    let outcome = app
        .cx()
        .db()
        .write(move |tx| {
            memberships::replace_roles(tx, &environment, &id, &["admin".to_owned()], &scribe)?.expect("it is there");
            memberships::deactivate(tx, &environment, &id, &scribe)?.expect("it is active");
            Err::<(), _>(DbError::Other("power fails here".into()))
        })
        .await;
    assert!(outcome.is_err());
    assert_eq!((read(&app, &membership).await, app.events().await.len()), (membership, before));
}
