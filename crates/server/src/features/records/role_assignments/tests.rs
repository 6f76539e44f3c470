use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::records::organization_memberships::MembershipId;
use crate::testkit::{Answer, TestApp};

/// An organization with a type, three roles, a document and two members.
struct World {
    organization: String,
    root: String,
    doc: String,
    alice: String,
    bob: String,
    group: String,
}

async fn post(app: &TestApp, path: &str, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    answer.body
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an object with an id").to_owned()
}

async fn world(app: &TestApp) -> World {
    post(app, "/authorization/resource_types", json!({"slug": "doc"})).await;
    for (slug, kind) in [("viewer", "doc"), ("editor", "doc"), ("auditor", "organization")] {
        post(app, "/authorization/roles", json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
    }
    let organization = id(&post(app, "/organizations", json!({"name": "Acme"})).await);
    let member = async |name: &str| {
        let user = post(app, "/user_management/users", json!({"email": format!("{name}@example.test")})).await;
        id(&post(app, "/user_management/organization_memberships", json!({"user_id": user["id"], "organization_id": organization})).await)
    };
    let (alice, bob) = (member("alice").await, member("bob").await);
    let doc = json!({"external_id": "d1", "name": "Plan", "resource_type_slug": "doc", "organization_id": organization});
    let doc = id(&post(app, "/authorization/resources", doc).await);
    let group = id(&post(app, &format!("/organizations/{organization}/groups"), json!({"name": "Editors"})).await);
    let root = organization.replace("org_", "authz_resource_");
    World { organization, root, doc, alice, bob, group }
}

fn of_member(id: &str) -> String {
    format!("/authorization/organization_memberships/{id}/role_assignments")
}

fn of_group(id: &str) -> String {
    format!("/authorization/groups/{id}/role_assignments")
}

async fn join(app: &TestApp, world: &World, membership: &str) {
    let path = format!("/organizations/{}/groups/{}/organization-memberships", world.organization, world.group);
    post(app, &path, json!({"organization_membership_id": membership})).await;
}

async fn list(app: &TestApp, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let join = if path.contains('?') { '&' } else { '?' };
        let answer = app.api(Method::GET, &format!("{path}{join}limit=2{after}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        rows.extend(answer.body["data"].as_array().expect("a list").clone());
        match answer.body["list_metadata"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return rows,
        }
    }
}

async fn names(app: &TestApp) -> Vec<String> {
    app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.contains("role_assignment")).collect()
}

both_engines!(the_life_of_a_role_of_a_membership, |app| async {
    let world = world(&app).await;
    let by_id = json!({"role_slug": "viewer", "resource_id": world.doc});
    let made = post(&app, &of_member(&world.alice), by_id.clone()).await;
    let expected = json!({
        "object": "role_assignment", "id": made["id"], "organization_membership_id": world.alice, "role": {"slug": "viewer"},
        "resource": {"id": world.doc, "external_id": "d1", "resource_type_slug": "doc"},
        "source": {"type": "direct", "group_role_assignment_id": null, "group": null},
        "created_at": made["created_at"], "updated_at": made["created_at"]
    });
    assert_eq!(made, expected);
    assert!(gatewright_base::is_id("role_assignment", made["id"].as_str().unwrap()));
    // Given twice it is the same one.
    let by_name = json!({"role_slug": "viewer", "resource_external_id": "d1", "resource_type_slug": "doc"});
    assert_eq!(post(&app, &of_member(&world.alice), by_name.clone()).await, made);
    // The organization is a resource, too; the role that the membership has by itself is there already.
    let auditor = post(&app, &of_member(&world.alice), json!({"role_slug": "auditor", "resource_id": world.root})).await;
    let on_organization = json!({"id": world.root, "external_id": world.organization, "resource_type_slug": "organization"});
    assert_eq!(auditor["resource"], on_organization);
    let own = post(&app, &of_member(&world.alice), json!({"role_slug": "member", "resource_id": world.root})).await;
    let all = list(&app, &of_member(&world.alice)).await;
    assert_eq!(all, [auditor.clone(), made.clone(), own.clone()]);
    let mut turned = list(&app, &format!("{}?order=asc", of_member(&world.alice))).await;
    turned.reverse();
    assert_eq!(turned, all);
    for (filter, expected) in [
        (format!("resource_id={}", world.doc), vec![&made]),
        ("resource_external_id=d1".to_owned(), vec![&made]),
        ("resource_external_id=d1&resource_type_slug=doc".to_owned(), vec![&made]),
        ("resource_external_id=d1&resource_type_slug=organization".to_owned(), vec![]),
        ("resource_type_slug=organization".to_owned(), vec![&auditor, &own]),
    ] {
        let found = list(&app, &format!("{}?{filter}", of_member(&world.alice))).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter}");
    }

    let own_path = format!("{}/{}", of_member(&world.alice), own["id"].as_str().unwrap());
    assert_eq!(app.api(Method::DELETE, &own_path, Value::Null).await.status, 422);
    assert_eq!(app.api(Method::DELETE, &of_member(&world.alice), by_name.clone()).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &of_member(&world.alice), by_id).await.status, 404);
    let path = format!("{}/{}", of_member(&world.alice), auditor["id"].as_str().unwrap());
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 404);
    assert_eq!(list(&app, &of_member(&world.alice)).await, [own]);
    let expected = ["role_assignment.created", "role_assignment.created", "role_assignment.deleted", "role_assignment.deleted"];
    assert_eq!(names(&app).await, expected);
});

both_engines!(what_a_group_holds_its_members_have, |app| async {
    let world = world(&app).await;
    join(&app, &world, &world.alice).await;
    join(&app, &world, &world.bob).await;
    let editor = post(&app, &of_group(&world.group), json!({"role_slug": "editor", "resource_id": world.doc})).await;
    let expected = json!({
        "object": "group_role_assignment", "id": editor["id"], "group_id": world.group, "role": {"slug": "editor"},
        "resource": {"id": world.doc, "external_id": "d1", "resource_type_slug": "doc"},
        "created_at": editor["created_at"], "updated_at": editor["created_at"]
    });
    assert_eq!(editor, expected);
    let one = format!("{}/{}", of_group(&world.group), id(&editor));
    assert_eq!(app.api(Method::GET, &one, Value::Null).await.body, editor);
    let again = app.api(Method::POST, &of_group(&world.group), json!({"role_slug": "editor", "resource_id": world.doc})).await;
    assert_eq!((again.status, again.code()), (409, "duplicate_group_role_assignment"));
    // Without a resource: the organization.
    let auditor = post(&app, &of_group(&world.group), json!({"role_slug": "auditor"})).await;
    assert_eq!(auditor["resource"]["id"], world.root);
    assert_eq!(list(&app, &of_group(&world.group)).await, [auditor.clone(), editor.clone()]);

    let of_alice = list(&app, &of_member(&world.alice)).await;
    let seen: Vec<(&str, &str)> =
        of_alice.iter().map(|row| (row["role"]["slug"].as_str().unwrap(), row["source"]["type"].as_str().unwrap())).collect();
    assert_eq!(seen, [("auditor", "group"), ("editor", "group"), ("member", "direct")]);
    let source = json!({"type": "group", "group_role_assignment_id": editor["id"], "group": {"id": world.group, "name": "Editors"}});
    assert_eq!(of_alice[1]["source"], source);
    let derived = format!("{}/{}", of_member(&world.alice), id(&of_alice[1]));
    assert_eq!(app.api(Method::DELETE, &derived, Value::Null).await.status, 422);

    // On the document: one row for each member, and the direct one.
    let viewer = post(&app, &of_member(&world.bob), json!({"role_slug": "viewer", "resource_id": world.doc})).await;
    for path in [
        format!("/authorization/resources/{}/role_assignments", world.doc),
        format!("/authorization/organizations/{}/resources/doc/d1/role_assignments", world.organization),
    ] {
        let on_doc = list(&app, &path).await;
        let who: Vec<&str> = on_doc.iter().map(|row| row["organization_membership_id"].as_str().unwrap()).collect();
        assert_eq!(who, [&world.bob, &world.bob, &world.alice]);
        assert_eq!((&on_doc[0], &on_doc[2]), (&viewer, &of_alice[1]));
        let mut turned = list(&app, &format!("{path}?order=asc")).await;
        turned.reverse();
        assert_eq!(turned, on_doc);
        assert_eq!(list(&app, &format!("{path}?role_slug=viewer")).await, std::slice::from_ref(&viewer));
        assert_eq!(list(&app, &format!("{path}?role_slug=editor")).await.len(), 2);
    }
    // On the organization: what the group holds, and what each has by itself.
    let root = format!("/authorization/resources/{}/role_assignments", world.root);
    assert_eq!(list(&app, &root).await.len(), 4);
    let members = list(&app, &format!("{root}?role_slug=member")).await;
    assert_eq!(
        members.iter().map(|row| row["organization_membership_id"].as_str().unwrap()).collect::<Vec<_>>(),
        [&world.bob, &world.alice]
    );

    let environment = app.tenant.environment.clone();
    let alice = MembershipId::from_text(world.alice.as_str());
    let slugs = app
        .cx()
        .db()
        .read(move |tx| crate::features::records::role_assignments::slugs_through_groups(tx, &environment, &alice))
        .await
        .unwrap();
    assert_eq!(slugs, ["auditor"]);

    let kept = json!({"role_assignments": [{"role_slug": "auditor"}, {"role_slug": "viewer", "resource_id": world.doc}, {"role_slug": "auditor"}]});
    let replaced = app.api(Method::PUT, &of_group(&world.group), kept).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text);
    assert_eq!(replaced.body["data"][1], auditor);
    assert_eq!((replaced.body["data"].as_array().unwrap().len(), &replaced.body["data"][0]["role"]["slug"]), (2, &json!("viewer")));
    // A refusal changes nothing of it.
    let unknown = json!({"role_assignments": [{"role_slug": "auditor"}, {"role_slug": "nobody"}]});
    assert_eq!(app.api(Method::PUT, &of_group(&world.group), unknown).await.status, 404);
    assert_eq!(list(&app, &of_group(&world.group)).await.len(), 2);

    assert_eq!(app.api(Method::DELETE, &of_group(&world.group), json!({"role_slug": "auditor"})).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &of_group(&world.group), json!({"role_slug": "auditor"})).await.status, 404);
    let viewer_path = format!("{}/{}", of_group(&world.group), id(&replaced.body["data"][0]));
    assert_eq!(app.api(Method::DELETE, &viewer_path, Value::Null).await.status, 204);
    assert_eq!(list(&app, &of_member(&world.alice)).await.len(), 1);
    let group_events = names(&app).await.into_iter().filter(|name| name.starts_with("group_")).collect::<Vec<_>>();
    assert_eq!(group_events.iter().filter(|name| name.ends_with("created")).count(), 3);
    assert_eq!(group_events.iter().filter(|name| name.ends_with("deleted")).count(), 3);
});

both_engines!(a_role_that_does_not_fit_is_refused, |app| async {
    let world = world(&app).await;
    for (body, status) in [
        (json!({}), 422),
        (json!({"role_slug": "viewer"}), 422),
        (json!({"role_slug": "viewer", "resource_id": world.doc, "resource_type_slug": "doc"}), 422),
        (json!({"role_slug": "viewer", "resource_type_slug": "doc"}), 422),
        (json!({"role_slug": "viewer", "resource_external_id": "d1"}), 422),
        (json!({"role_slug": "auditor", "resource_id": world.doc}), 422),
        (json!({"role_slug": "viewer", "resource_id": world.root}), 422),
        (json!({"role_slug": "nobody", "resource_id": world.doc}), 404),
        (json!({"role_slug": "viewer", "resource_id": "authz_resource_x"}), 404),
        (json!({"role_slug": "viewer", "resource_external_id": "d2", "resource_type_slug": "doc"}), 404),
    ] {
        let answer = app.api(Method::POST, &of_member(&world.alice), body.clone()).await;
        assert_eq!(answer.status, status, "{body} {}", answer.text);
    }
    assert_eq!(names(&app).await, Vec::<String>::new());
});

both_engines!(row_49_roles_of_another_organization_or_environment_are_not_there, |app| async {
    let ours = world(&app).await;
    let theirs = id(&post(&app, "/organizations", json!({"name": "Globex"})).await);
    let secret = json!({"external_id": "s1", "name": "Secret", "resource_type_slug": "doc", "organization_id": theirs});
    let secret = id(&post(&app, "/authorization/resources", secret).await);
    let root = theirs.replace("org_", "authz_resource_");
    for body in [
        json!({"role_slug": "viewer", "resource_id": secret}),
        json!({"role_slug": "viewer", "resource_external_id": "s1", "resource_type_slug": "doc"}),
        json!({"role_slug": "auditor", "resource_id": root}),
        json!({"role_slug": "auditor", "resource_external_id": theirs, "resource_type_slug": "organization"}),
    ] {
        for path in [of_member(&ours.alice), of_group(&ours.group)] {
            let answer = app.api(Method::POST, &path, body.clone()).await;
            assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{path} {body}");
        }
    }
    let made = post(&app, &of_member(&ours.alice), json!({"role_slug": "viewer", "resource_id": ours.doc})).await;
    let held = post(&app, &of_group(&ours.group), json!({"role_slug": "viewer", "resource_id": ours.doc})).await;
    let role = json!({"role_slug": "viewer", "resource_id": ours.doc});
    for (method, path, body) in [
        (Method::GET, of_member(&ours.alice), Value::Null),
        (Method::POST, of_member(&ours.alice), role.clone()),
        (Method::DELETE, of_member(&ours.alice), role.clone()),
        (Method::DELETE, format!("{}/{}", of_member(&ours.alice), id(&made)), Value::Null),
        (Method::GET, of_group(&ours.group), Value::Null),
        (Method::POST, of_group(&ours.group), role.clone()),
        (Method::PUT, of_group(&ours.group), json!({"role_assignments": []})),
        (Method::DELETE, of_group(&ours.group), role),
        (Method::GET, format!("{}/{}", of_group(&ours.group), id(&held)), Value::Null),
        (Method::DELETE, format!("{}/{}", of_group(&ours.group), id(&held)), Value::Null),
        (Method::GET, format!("/authorization/resources/{}/role_assignments", ours.doc), Value::Null),
        (Method::GET, format!("/authorization/organizations/{}/resources/doc/d1/role_assignments", ours.organization), Value::Null),
    ] {
        let answer = app.api_as(&app.other, method.clone(), &path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    // Another member's assignment is not mine to remove.
    let path = format!("{}/{}", of_member(&ours.bob), id(&made));
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 404);
    assert_eq!(list(&app, &of_group(&ours.group)).await, [held]);
    assert!(list(&app, &of_member(&ours.alice)).await.contains(&made));
});

both_engines!(row_52_a_forged_cursor_shows_nothing_that_is_not_there, |app| async {
    let world = world(&app).await;
    post(&app, &of_member(&world.alice), json!({"role_slug": "viewer", "resource_id": world.doc})).await;
    for cursor in ["x", "role_assignment_", "role_assignment_0_0", "%27%3B--", "~", &"Z".repeat(300)] {
        for way in ["after", "before"] {
            for order in ["asc", "desc", "normal"] {
                for path in [of_member(&world.alice), format!("/authorization/resources/{}/role_assignments", world.root)] {
                    let answer = app.api(Method::GET, &format!("{path}?{way}={cursor}&order={order}"), Value::Null).await;
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    let rows = answer.body["data"].as_array().unwrap();
                    assert!(rows.iter().all(|row| [&world.alice, &world.bob].iter().any(|id| row["organization_membership_id"] == ***id)));
                }
            }
        }
    }
});

both_engines!(of_64_that_give_a_group_one_role_one_wins, |app| async move {
    let world = world(&app).await;
    let (app, path) = (Arc::new(app), of_group(&world.group));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, path, doc) = (app.clone(), path.clone(), world.doc.clone());
        tasks.spawn(async move { app.api(Method::POST, &path, json!({"role_slug": "viewer", "resource_id": doc})).await });
    }
    let answers: Vec<Answer> = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 201 || answer.code() == "duplicate_group_role_assignment"));
    assert_eq!(names(&app).await, ["group_role_assignment.created"]);
});

both_engines!(a_role_goes_with_its_holder_its_resource_and_itself, |app| async {
    let world = world(&app).await;
    let own = json!({"slug": "org-reader", "name": "Reader", "resource_type_slug": "doc"});
    post(&app, &format!("/authorization/organizations/{}/roles", world.organization), own).await;
    post(&app, &of_member(&world.alice), json!({"role_slug": "org-reader", "resource_id": world.doc})).await;
    let role = format!("/authorization/organizations/{}/roles/org-reader", world.organization);
    assert_eq!(app.api(Method::DELETE, &role, Value::Null).await.status, 409, "a role that somebody has stays");
    post(&app, &of_group(&world.group), json!({"role_slug": "org-reader", "resource_id": world.doc})).await;
    let on_doc = format!("/authorization/resources/{}/role_assignments", world.doc);
    assert_eq!(list(&app, &on_doc).await.len(), 1);
    let membership = format!("/user_management/organization_memberships/{}", world.alice);
    assert_eq!(app.api(Method::DELETE, &membership, Value::Null).await.status, 200);
    assert_eq!(list(&app, &on_doc).await, Vec::<Value>::new());
    assert_eq!(app.api(Method::DELETE, &role, Value::Null).await.status, 409, "a role that a group holds stays");
    let delete = format!("/authorization/resources/{}?cascade_delete=true", world.doc);
    assert_eq!(app.api(Method::DELETE, &delete, Value::Null).await.status, 204);
    assert_eq!(list(&app, &of_group(&world.group)).await, Vec::<Value>::new());
    assert_eq!(app.api(Method::DELETE, &role, Value::Null).await.status, 204);
});

both_engines!(roles_given_while_the_member_changes_wait_in_one_direction, |app| async move {
    let world = world(&app).await;
    let app = Arc::new(app);
    let before = app.cx().db().stats().retries;
    let membership = format!("/user_management/organization_memberships/{}", world.alice);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, membership, path, doc) = (app.clone(), membership.clone(), of_member(&world.alice), world.doc.clone());
        tasks.spawn(async move {
            match n % 4 {
                0 => app.api(Method::POST, &path, json!({"role_slug": "viewer", "resource_id": doc})).await,
                1 => app.api(Method::PUT, &membership, json!({"role_slug": if n % 8 == 1 { "auditor" } else { "member" }})).await,
                2 => app.api(Method::DELETE, &path, json!({"role_slug": "viewer", "resource_id": doc})).await,
                _ => app.api(Method::PUT, &membership, json!({"role_slugs": ["auditor", "member"]})).await,
            }
        });
    }
    for answer in tasks.join_all().await {
        assert!([200, 201, 204, 404].contains(&answer.status), "{}", answer.text);
    }
    assert_eq!(app.cx().db().stats().retries, before, "two waited for each other");
});
