use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::DbError;
use serde_json::{Value, json};

use super::{GroupId, MAX_GROUPS_OF_MEMBERSHIP, insert, list_group_ids_of_membership, store};
use crate::both_engines;
use crate::features::records::groups::NewGroup;
use crate::features::records::organization_memberships::MembershipId;
use crate::features::records::organizations::OrganizationId;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, Tenant, TestApp};

const MEMBERSHIPS: &str = "/user_management/organization_memberships";

fn id_of(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

async fn made(app: &TestApp, tenant: &Tenant, path: &str, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api_as(tenant, Method::POST, path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}

async fn organization(app: &TestApp, name: &str) -> Value {
    made(app, &app.tenant, "/organizations", json!({ "name": name })).await
}

async fn member(app: &TestApp, organization: &Value, email: &str) -> Value {
    let user = made(app, &app.tenant, "/user_management/users", json!({ "email": email })).await;
    join(app, organization, &user).await
}

async fn join(app: &TestApp, organization: &Value, user: &Value) -> Value {
    made(app, &app.tenant, MEMBERSHIPS, json!({"user_id": user["id"], "organization_id": organization["id"]})).await
}

async fn group(app: &TestApp, organization: &Value, name: &str) -> Value {
    made(app, &app.tenant, &groups_of(organization), json!({ "name": name })).await
}

fn groups_of(organization: &Value) -> String {
    format!("/organizations/{}/groups", id_of(organization))
}

fn path_of(group: &Value) -> String {
    format!("/organizations/{}/groups/{}", group["organization_id"].as_str().expect("an organization"), id_of(group))
}

fn members_of(group: &Value) -> String {
    format!("{}/organization-memberships", path_of(group))
}

async fn add(app: &TestApp, group: &Value, membership: &Value) -> Answer {
    app.api(Method::POST, &members_of(group), json!({"organization_membership_id": membership["id"]})).await
}

async fn list(app: &TestApp, path: &str) -> Vec<String> {
    let answer = app.api(Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body["data"].as_array().expect("data").iter().map(|row| id_of(row).to_owned()).collect()
}

/// Those that tell of groups, oldest first.
async fn events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("group.")).collect()
}

both_engines!(a_group_is_made_filled_changed_emptied_and_deleted, |app| async {
    let acme = organization(&app, "Acme").await;
    let engineering = made(&app, &app.tenant, &groups_of(&acme), json!({"name": "Engineering", "description": "Who builds it"})).await;
    assert_eq!(
        engineering,
        json!({"object": "group", "id": engineering["id"], "organization_id": acme["id"], "name": "Engineering",
            "description": "Who builds it", "created_at": engineering["created_at"], "updated_at": engineering["created_at"]})
    );
    assert!(gatewright_base::is_id("group", id_of(&engineering)));
    let (alice, bob) = (member(&app, &acme, "alice@example.test").await, member(&app, &acme, "bob@example.test").await);

    let added = add(&app, &engineering, &alice).await;
    assert_eq!((added.status, &added.body), (200, &engineering));
    assert_eq!(add(&app, &engineering, &alice).await.status, 200, "again is no change");
    assert_eq!(add(&app, &engineering, &bob).await.status, 200);
    let listed = app.api(Method::GET, &members_of(&engineering), Value::Null).await.body;
    assert_eq!(listed["data"][0]["id"], bob["id"]);
    let row = &listed["data"][1];
    assert_eq!((&row["object"], &row["organization_name"]), (&json!("organization_membership"), &json!("Acme")));
    for field in ["id", "user_id", "organization_id", "status", "directory_managed", "custom_attributes", "created_at", "updated_at"] {
        assert_eq!(row[field], alice[field], "{field}");
    }
    // What SDKs newer than the document require.
    assert_eq!(
        row["user"],
        app.api(Method::GET, &format!("/user_management/users/{}", row["user_id"].as_str().unwrap()), Value::Null).await.body
    );
    let groups_of_alice = format!("{MEMBERSHIPS}/{}/groups", id_of(&alice));
    assert_eq!(app.api(Method::GET, &groups_of_alice, Value::Null).await.body["data"], json!([engineering]));

    app.clock.advance(Duration::from_secs(1));
    let renamed = app.api(Method::PATCH, &path_of(&engineering), json!({"name": "Builders"})).await.body;
    assert_eq!((&renamed["name"], &renamed["description"]), (&json!("Builders"), &json!("Who builds it")));
    assert_ne!(renamed["updated_at"], engineering["updated_at"]);
    assert_eq!(app.api(Method::PATCH, &path_of(&engineering), json!({"unknown": 1})).await.body, renamed, "nothing asked, nothing changed");
    let bare = app.api(Method::PATCH, &path_of(&engineering), json!({"description": null})).await.body;
    assert_eq!((&bare["name"], &bare["description"]), (&json!("Builders"), &Value::Null));
    assert_eq!(app.api(Method::GET, &path_of(&engineering), Value::Null).await.body, bare);

    let member_path = format!("{}/{}", members_of(&engineering), id_of(&bob));
    assert_eq!(app.api(Method::DELETE, &member_path, Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &member_path, Value::Null).await.status, 404);
    assert_eq!(list(&app, &members_of(&engineering)).await, [id_of(&alice)]);

    assert_eq!(app.api(Method::DELETE, &path_of(&engineering), Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &path_of(&engineering), Value::Null).await.status, 404);
    assert_eq!(list(&app, &groups_of_alice).await, Vec::<String>::new());
    assert_eq!(app.api(Method::GET, &format!("{MEMBERSHIPS}/{}", id_of(&alice)), Value::Null).await.status, 200, "who was in it stays");

    let pair = |membership: &Value| json!({"group_id": engineering["id"], "organization_membership_id": membership["id"]});
    assert_eq!(
        events(&app).await,
        [
            ("group.created".to_owned(), engineering.clone()),
            ("group.member_added".to_owned(), pair(&alice)),
            ("group.member_added".to_owned(), pair(&bob)),
            ("group.updated".to_owned(), renamed),
            ("group.updated".to_owned(), bare.clone()),
            ("group.member_removed".to_owned(), pair(&bob)),
            ("group.deleted".to_owned(), bare),
        ]
    );
});

both_engines!(many_members_change_at_once_or_not_at_all, |app| async {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let crew = group(&app, &acme, "Crew").await;
    let mut members = Vec::new();
    for n in 0..4 {
        members.push(member(&app, &acme, &format!("u{n}@example.test")).await);
    }
    let stranger = member(&app, &other, "stranger@example.test").await;
    let change = async |add: &[&Value], remove: &[&Value]| {
        let ids = |list: &[&Value]| list.iter().map(|m| m["id"].clone()).collect::<Vec<_>>();
        app.api(Method::PATCH, &members_of(&crew), json!({"add": ids(add), "remove": ids(remove)})).await
    };
    assert_eq!(change(&[&members[0], &members[1]], &[]).await.status, 204);
    // In already, not in: no change and no event.
    assert_eq!(change(&[&members[1], &members[2]], &[&members[0], &members[3]]).await.status, 204);
    assert_eq!(list(&app, &members_of(&crew)).await, [id_of(&members[2]), id_of(&members[1])]);
    let before = events(&app).await;
    assert_eq!(before.len(), 5, "{before:?}");

    let unknown = json!({"id": "om_01HXYZ123456789ABCDEFGHJKM"});
    for (add, remove, status) in [
        (vec![&members[3], &stranger], vec![], 404),
        (vec![&members[3], &unknown], vec![], 404),
        (vec![&members[3]], vec![&members[1], &stranger], 404),
        (vec![&members[3]], vec![&members[1], &members[3]], 422),
        (vec![], vec![], 422),
        (vec![&members[3]; 101], vec![], 422),
    ] {
        assert_eq!(change(&add, &remove).await.status, status);
    }
    assert_eq!(list(&app, &members_of(&crew)).await, [id_of(&members[2]), id_of(&members[1])]);
    assert_eq!(events(&app).await, before);
    for body in [json!({}), json!({"add": "om_1"}), json!({"add": null}), json!({"add": [1]})] {
        assert_eq!(app.api(Method::PATCH, &members_of(&crew), body.clone()).await.status, 422, "{body}");
    }
});

both_engines!(bad_input_is_refused_and_changes_nothing, |app| async {
    let acme = organization(&app, "Acme").await;
    let crew = group(&app, &acme, "Crew").await;
    let before = events(&app).await;
    for body in [
        json!({}),
        json!({"name": null}),
        json!({"name": 7}),
        json!({"name": ""}),
        json!({"name": "  "}),
        json!({"name": "a\nb"}),
        json!({"name": "x".repeat(257)}),
        json!({"name": "x", "description": "x".repeat(151)}),
        json!({"name": "x", "description": []}),
    ] {
        let answer = app.api(Method::POST, &groups_of(&acme), body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{body}");
        if body.get("name").is_some() {
            assert_eq!(app.api(Method::PATCH, &path_of(&crew), body.clone()).await.status, 422, "{body}");
        }
    }
    for body in [json!({}), json!({"organization_membership_id": null}), json!({"organization_membership_id": 1})] {
        assert_eq!(app.api(Method::POST, &members_of(&crew), body).await.status, 422);
    }
    for query in ["limit=0", "limit=101", "order=sideways", "search=a&search=b"] {
        assert_eq!(app.api(Method::GET, &format!("{}?{query}", groups_of(&acme)), Value::Null).await.status, 422, "{query}");
    }
    assert_eq!(list(&app, &groups_of(&acme)).await, [id_of(&crew)]);
    assert_eq!(events(&app).await, before);
    // A null description is none, and what a name may be is stored as it came.
    let exotic = made(&app, &app.tenant, &groups_of(&acme), json!({"name": "Größe & <b>", "description": null})).await;
    assert_eq!((&exotic["name"], &exotic["description"]), (&json!("Größe & <b>"), &Value::Null));
});

both_engines!(row_52_groups_page_both_ways_and_are_searched, |app| async {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let foreign = group(&app, &other, "Sales").await;
    let mut ids = Vec::new();
    for name in ["Sales", "100% Sales", "Support", "SALES_EU", "Legal"] {
        ids.push(id_of(&group(&app, &acme, name).await).to_owned());
    }
    let path = groups_of(&acme);
    let page = async |query: &str| {
        let answer = app.api(Method::GET, &format!("{path}?{query}"), Value::Null).await;
        let data: Vec<String> = answer.body["data"].as_array().unwrap().iter().map(|row| id_of(row).to_owned()).collect();
        (data, answer.body["list_metadata"].clone())
    };
    assert_eq!(page("limit=2").await, (vec![ids[4].clone(), ids[3].clone()], json!({"before": null, "after": ids[3]})));
    assert_eq!(
        page(&format!("limit=3&after={}", ids[3])).await,
        (vec![ids[2].clone(), ids[1].clone(), ids[0].clone()], json!({"before": ids[2], "after": null}))
    );
    assert_eq!(page(&format!("limit=2&before={}", ids[2])).await.0, [ids[4].clone(), ids[3].clone()]);
    assert_eq!(page(&format!("order=asc&after={}", ids[2])).await.0, [ids[3].clone(), ids[4].clone()]);
    // A cursor of another organization is a place in time and shows nothing of it.
    assert_eq!(page(&format!("order=asc&after={}", id_of(&foreign))).await.0, ids);
    assert_eq!(page(&format!("after={}", id_of(&foreign))).await.0, Vec::<String>::new());

    assert_eq!(page("search=sales&limit=1").await, (vec![ids[3].clone()], json!({"before": null, "after": ids[3]})));
    assert_eq!(page(&format!("search=sales&after={}", ids[3])).await.0, [ids[1].clone(), ids[0].clone()]);
    assert_eq!(page("search=%25").await.0, [ids[1].clone()], "as it is, no wildcard");
    assert_eq!(page("search=s_e").await.0, [ids[3].clone()]);
    assert_eq!(page(&format!("search={}", ids[2])).await.0, [ids[2].clone()]);
    assert_eq!(page(&format!("search={}", id_of(&foreign))).await.0, Vec::<String>::new());
    assert_eq!(page("search=").await.0.len(), 5);

    let (alice, mut members) = (member(&app, &acme, "alice@example.test").await, Vec::new());
    for n in 0..3 {
        members.push(member(&app, &acme, &format!("u{n}@example.test")).await);
    }
    for id in &ids {
        assert_eq!(add(&app, &json!({"id": id, "organization_id": acme["id"]}), &alice).await.status, 200);
    }
    let of_alice = format!("{MEMBERSHIPS}/{}/groups", id_of(&alice));
    assert_eq!(list(&app, &format!("{of_alice}?limit=2")).await, [ids[4].clone(), ids[3].clone()]);
    assert_eq!(list(&app, &format!("{of_alice}?after={}", ids[3])).await, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(list(&app, &format!("{of_alice}?order=asc&limit=1&after={}", ids[0])).await, [ids[1].clone()]);
    assert_eq!(list(&app, &format!("{of_alice}?order=asc")).await, ids);
    let legal = json!({"id": ids[4], "organization_id": acme["id"]});
    for member in &members {
        add(&app, &legal, member).await;
    }
    let members: Vec<&str> = members.iter().map(id_of).collect();
    assert_eq!(list(&app, &format!("{}?limit=2", members_of(&legal))).await, [members[2], members[1]]);
    assert_eq!(list(&app, &format!("{}?after={}", members_of(&legal), members[1])).await, [members[0], id_of(&alice)]);
    assert_eq!(list(&app, &format!("{}?order=asc&after={}", members_of(&legal), members[0])).await, [members[1], members[2]]);
    assert_eq!(list(&app, &format!("{}?order=asc&limit=1", members_of(&legal))).await, [id_of(&alice)]);
});

both_engines!(row_49_another_organizations_and_environments_ids_are_404_and_change_nothing, |app| async {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let (crew, others) = (group(&app, &acme, "Crew").await, group(&app, &other, "Others").await);
    let alice = member(&app, &acme, "alice@example.test").await;
    let user = app.api(Method::GET, &format!("/user_management/users/{}", alice["user_id"].as_str().unwrap()), Value::Null).await.body;
    // The same person in the other organization: the membership counts, not the person.
    let elsewhere = join(&app, &other, &user).await;
    assert_eq!(add(&app, &crew, &alice).await.status, 200);
    let abroad = made(&app, &app.other, "/organizations", json!({"name": "Abroad"})).await;
    let before = events(&app).await;

    let mine = [path_of(&crew), members_of(&crew), groups_of(&acme), format!("{MEMBERSHIPS}/{}/groups", id_of(&alice))];
    for path in &mine {
        assert_eq!(app.api_as(&app.other, Method::GET, path, Value::Null).await.status, 404, "{path}");
        assert_eq!(app.anonymous(Method::GET, path, Value::Null).await.status, 401, "{path}");
    }
    // Crew as if it were the other organization's, one that is not there, or one abroad.
    let beside = |organization: &str| json!({"id": crew["id"], "organization_id": organization});
    let places = [
        beside(id_of(&other)),
        beside("org_01HXYZ123456789ABCDEFGHJKM"),
        beside(id_of(&abroad)),
        json!({"id": others["id"], "organization_id": acme["id"]}),
    ];
    for place in &places {
        for (method, path, body) in [
            (Method::GET, path_of(place), Value::Null),
            (Method::PATCH, path_of(place), json!({"name": "Stolen"})),
            (Method::PATCH, path_of(place), json!({})),
            (Method::DELETE, path_of(place), Value::Null),
            (Method::GET, members_of(place), Value::Null),
            (Method::POST, members_of(place), json!({"organization_membership_id": alice["id"]})),
            (Method::POST, members_of(place), json!({"organization_membership_id": elsewhere["id"]})),
            (Method::PATCH, members_of(place), json!({"add": [elsewhere["id"]], "remove": [alice["id"]]})),
            (Method::DELETE, format!("{}/{}", members_of(place), id_of(&alice)), Value::Null),
        ] {
            let answer = app.api(method.clone(), &path, body).await;
            assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        }
    }
    for (tenant, path, body) in [
        (&app.tenant, members_of(&crew), json!({"organization_membership_id": elsewhere["id"]})),
        (&app.tenant, members_of(&others), json!({"organization_membership_id": alice["id"]})),
        (&app.tenant, groups_of(&abroad), json!({"name": "Spy"})),
        (&app.other, members_of(&crew), json!({"organization_membership_id": alice["id"]})),
        (&app.other, groups_of(&acme), json!({"name": "Spy"})),
    ] {
        assert_eq!(app.api_as(tenant, Method::POST, &path, body).await.status, 404, "{path}");
    }
    for method in [Method::PATCH, Method::DELETE] {
        assert_eq!(app.api_as(&app.other, method, &path_of(&crew), json!({"name": "Stolen"})).await.status, 404);
    }
    let member_path = format!("{}/{}", members_of(&crew), id_of(&alice));
    assert_eq!(app.api_as(&app.other, Method::DELETE, &member_path, Value::Null).await.status, 404);
    let unknown = format!("{MEMBERSHIPS}/om_01HXYZ123456789ABCDEFGHJKM/groups");
    assert_eq!(app.api(Method::GET, &unknown, Value::Null).await.status, 404);

    assert_eq!(events(&app).await, before);
    assert_eq!(app.api(Method::GET, &path_of(&crew), Value::Null).await.body, crew);
    assert_eq!(list(&app, &members_of(&crew)).await, [id_of(&alice)]);
    assert_eq!(list(&app, &members_of(&others)).await, Vec::<String>::new());
});

both_engines!(row_49_the_tables_themselves_hold_no_membership_of_another_organization, |app| async {
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    let crew = group(&app, &acme, "Crew").await;
    let stranger = MembershipId::from_text(id_of(&member(&app, &other, "stranger@example.test").await));
    let (environment, id, now) = (app.tenant.environment.clone(), GroupId::from_text(id_of(&crew)), app.now());
    let inserted = app.cx().db().write(move |tx| {
        let group = store::find(tx, &environment, &id)?.ok_or(DbError::NoRow)?;
        store::insert_member(tx, &environment, &group, &stranger, now)
    });
    let error = inserted.await.unwrap_err().to_string().to_lowercase();
    assert!(error.contains("foreign key") || error.contains("23503"), "{error}");
    assert_eq!(list(&app, &members_of(&crew)).await, Vec::<String>::new());
});

both_engines!(what_goes_takes_its_place_in_groups_along, |app| async {
    let acme = organization(&app, "Acme").await;
    let (crew, legal) = (group(&app, &acme, "Crew").await, group(&app, &acme, "Legal").await);
    let (alice, bob) = (member(&app, &acme, "alice@example.test").await, member(&app, &acme, "bob@example.test").await);
    for group in [&crew, &legal] {
        assert_eq!((add(&app, group, &alice).await.status, add(&app, group, &bob).await.status), (200, 200));
    }
    let groups_of_membership = async |membership: &Value| {
        let (environment, id) = (app.tenant.environment.clone(), MembershipId::from_text(id_of(membership)));
        let ids = app.cx().db().read(move |tx| list_group_ids_of_membership(tx, &environment, &id)).await.unwrap();
        ids.into_iter().map(GroupId::into_string).collect::<Vec<_>>()
    };
    assert_eq!(groups_of_membership(&alice).await, [id_of(&crew), id_of(&legal)]);
    let removed = async |membership: &Value| {
        let told = events(&app).await.into_iter();
        let told = told.filter(|(name, data)| name == "group.member_removed" && data["organization_membership_id"] == membership["id"]);
        told.map(|(_, data)| data["group_id"].as_str().expect("an id").to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let both = [&crew, &legal].map(|group| id_of(group).to_owned()).into();

    // A membership, a user, an organization: each group that loses by it is told of.
    let gone = app.api(Method::DELETE, &format!("{MEMBERSHIPS}/{}", id_of(&alice)), Value::Null).await;
    assert!(gone.status < 300, "{}", gone.text);
    assert_eq!((groups_of_membership(&alice).await, removed(&alice).await), (Vec::new(), both));
    let gone = app.api(Method::DELETE, &format!("/user_management/users/{}", bob["user_id"].as_str().unwrap()), Value::Null).await;
    assert!(gone.status < 300, "{}", gone.text);
    assert_eq!(removed(&bob).await.len(), 2);
    assert_eq!(list(&app, &members_of(&crew)).await, Vec::<String>::new());
    let gone = app.api(Method::DELETE, &format!("/organizations/{}", id_of(&acme)), Value::Null).await;
    assert!(gone.status < 300, "{}", gone.text);
    assert_eq!(app.api(Method::GET, &path_of(&crew), Value::Null).await.status, 404);
    let deleted = events(&app).await.into_iter().filter(|(name, _)| name == "group.deleted").count();
    assert_eq!(deleted, 2);
});

both_engines!(a_membership_is_in_a_thousand_groups_and_no_more, |app| async {
    let acme = organization(&app, "Acme").await;
    let alice = member(&app, &acme, "alice@example.test").await;
    let (environment, organization, scribe) =
        (app.tenant.environment.clone(), OrganizationId::from_text(id_of(&acme)), app.cx().scribe(Actor::System));
    let membership = MembershipId::from_text(id_of(&alice));
    let filled = app.cx().db().write(move |tx| {
        let mut last = None;
        for n in 0..MAX_GROUPS_OF_MEMBERSHIP {
            let new = NewGroup::check(format!("g{n}"), None).expect("a name");
            let made = insert(tx, &environment, &organization, new, &scribe)?.expect("the organization is there");
            store::insert_member(tx, &environment, &made, &membership, scribe.now)?;
            last = Some(made.id);
        }
        Ok::<_, DbError>(last)
    });
    let last = json!({"id": filled.await.unwrap().expect("some").as_str(), "organization_id": acme["id"]});
    let one_more = group(&app, &acme, "one more").await;
    let refused = add(&app, &one_more, &alice).await;
    assert_eq!((refused.status, refused.code()), (400, "group_membership_limit_exceeded"), "{}", refused.text);
    assert_eq!(list(&app, &members_of(&one_more)).await, Vec::<String>::new());
    assert_eq!(add(&app, &last, &alice).await.status, 200, "in it already");
    assert_eq!(app.api(Method::DELETE, &format!("{}/{}", members_of(&last), id_of(&alice)), Value::Null).await.status, 204);
    assert_eq!(add(&app, &one_more, &alice).await.status, 200);
});

both_engines!(of_64_who_add_one_member_at_once_one_does, |app| async move {
    let app = Arc::new(app);
    let acme = organization(&app, "Acme").await;
    let (crew, alice) = (group(&app, &acme, "Crew").await, member(&app, &acme, "alice@example.test").await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, crew, alice) = (app.clone(), crew.clone(), alice.clone());
        tasks.spawn(async move {
            match n % 2 {
                0 => add(&app, &crew, &alice).await.status,
                _ => app.api(Method::PATCH, &members_of(&crew), json!({"add": [alice["id"]]})).await.status,
            }
        });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|status| [200, 204].contains(status)), "{statuses:?}");
    assert_eq!(list(&app, &members_of(&crew)).await, [id_of(&alice)]);
    let added = events(&app).await.into_iter().filter(|(name, _)| name == "group.member_added").count();
    assert_eq!(added, 1);

    // And of 64 who take the member out, or the group away, one.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, path) = (app.clone(), format!("{}/{}", members_of(&crew), id_of(&alice)));
        tasks.spawn(async move { app.api(Method::DELETE, &path, Value::Null).await.status });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|status| *status == 204).count(), 1);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, path) = (app.clone(), path_of(&crew));
        tasks.spawn(async move { app.api(Method::DELETE, &path, Value::Null).await.status });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|status| *status == 204).count(), 1);
});

both_engines!(adding_while_the_member_the_group_or_the_organization_goes_breaks_nothing, |app| async move {
    let app = Arc::new(app);
    for round in 0..6 {
        let acme = organization(&app, "Acme").await;
        let (crew, alice) = (group(&app, &acme, "Crew").await, member(&app, &acme, &format!("a{round}@example.test")).await);
        let away = match round % 3 {
            0 => format!("/user_management/users/{}", alice["user_id"].as_str().unwrap()),
            1 => path_of(&crew),
            _ => format!("/organizations/{}", id_of(&acme)),
        };
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (app, crew, alice, away) = (app.clone(), crew.clone(), alice.clone(), away.clone());
            tasks.spawn(async move {
                if n == 5 { app.api(Method::DELETE, &away, Value::Null).await.status } else { add(&app, &crew, &alice).await.status }
            });
        }
        let statuses = tasks.join_all().await;
        assert!(statuses.iter().all(|status| [200, 202, 204, 404].contains(status)), "{away}: {statuses:?}");
        assert_eq!(list_rows(&app, &alice).await, 0);
    }
});

async fn list_rows(app: &TestApp, membership: &Value) -> i64 {
    let (environment, id) = (app.tenant.environment.clone(), MembershipId::from_text(id_of(membership)));
    app.cx().db().read(move |tx| store::count_groups_of_membership(tx, &environment, &id)).await.unwrap()
}

both_engines!(a_search_is_at_most_as_long_as_a_name, |app| async {
    let acme = organization(&app, "Acme").await;
    group(&app, &acme, &"\u{fdfa}".repeat(256)).await;
    for (search, found) in [("%EF%B7%BA".repeat(256), 1), ("a".repeat(256), 0)] {
        assert_eq!(list(&app, &format!("{}?search={search}", groups_of(&acme))).await.len(), found);
    }
    for search in ["a".repeat(257), "a".repeat(60_000), "%EF%B7%BA".repeat(6_000)] {
        let refused = app.api(Method::GET, &format!("{}?search={search}", groups_of(&acme)), Value::Null).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid_request_parameters"), "{}", search.len());
    }
});
