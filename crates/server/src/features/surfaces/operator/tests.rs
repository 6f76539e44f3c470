use axum::http::Method;
use gatewright_db::DbError;
use gatewright_jose::MasterKey;
use serde_json::{Value, json};

use super::*;
use crate::both_engines;
use crate::platform::config::Config;
use crate::testkit::{Tenant, TestApp};

fn refusal<T: std::fmt::Debug>(outcome: Result<T, OperatorError>) -> String {
    match outcome {
        Err(error @ OperatorError::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

async fn counts(app: &TestApp) -> Vec<i64> {
    let tables = ["environments", "clients", "environment_keys", "signing_keys"];
    let count = app.cx().db().scan(move |tx| {
        let count = |table| tx.one(&format!("SELECT count(*) FROM {table}"), &[])?.int();
        tables.into_iter().map(count).collect::<Result<Vec<_>, DbError>>()
    });
    count.await.unwrap()
}

both_engines!(an_environment_is_made_whole_or_not_at_all, |app| async move {
    let before = counts(&app).await;
    let created = create_environment(app.cx(), "production", Settings::default(), false).await.unwrap();
    let after = counts(&app).await;
    assert_eq!(after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<_>>(), [1, 1, 1, 2]);
    assert!(created.api_key.reveal().starts_with("sk_live_"));
    let error = refusal(create_environment(app.cx(), "production", Settings::default(), false).await);
    assert_eq!(error, "there is an environment named \"production\" already; choose another name");
    assert_eq!(counts(&app).await, after);
});

both_engines!(two_at_once_make_one_environment_of_a_name, |app| async move {
    let make = || create_environment(app.cx(), "production", Settings::default(), false);
    let (a, b) = tokio::join!(make(), make());
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert!(refusal(if a.is_err() { a } else { b }).contains("already"));
});

both_engines!(a_dev_environment_gets_its_waiting_key_a_moment_later, |app| async move {
    let created = create_dev_environment(app.cx(), "dev", Settings::default()).await.unwrap();
    let id = &created.environment.id;
    let states = async || list_signing_keys(app.cx(), id).await.unwrap().into_iter().map(|key| key.state).collect::<Vec<_>>();
    assert_eq!(states().await, ["active"]);
    let (a, b) = tokio::join!(publish_next_key(app.cx(), id), publish_next_key(app.cx(), id));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(states().await, ["active", "next"]);
});

both_engines!(roles_are_put_in_order_and_another_becomes_the_default, |app| async move {
    let environment = app.tenant.environment.clone();
    for body in [serde_json::json!({"slug": "editor", "name": "Editor"}), serde_json::json!({"slug": "viewer", "name": "Viewer"})] {
        assert_eq!(app.api(Method::POST, "/authorization/roles", body).await.status, 201);
    }
    let listed = async || {
        let roles = list_roles(app.cx(), &environment).await.unwrap();
        roles.into_iter().map(|role| role.slug + if role.is_default { "*" } else { "" }).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["admin", "member*", "editor", "viewer"]);
    let untouched = list_roles(app.cx(), &app.other.environment).await.unwrap();

    let order = async |slugs: &[&str]| {
        let slugs: Vec<String> = slugs.iter().map(|slug| (*slug).to_owned()).collect();
        order_roles(app.cx(), &environment, &slugs).await
    };
    assert!(refusal(order(&["viewer", "nobody"]).await).starts_with("\"nobody\" is no role"));
    assert_eq!(listed().await, ["admin", "member*", "editor", "viewer"]);
    order(&["editor", "admin", "editor"]).await.unwrap();
    assert_eq!(listed().await, ["editor", "admin", "member*", "viewer"]);

    set_default_role(app.cx(), &environment, "viewer").await.unwrap();
    set_default_role(app.cx(), &environment, "viewer").await.unwrap();
    assert!(refusal(set_default_role(app.cx(), &environment, "nobody").await).contains("environments roles list"));
    assert_eq!(listed().await, ["editor", "admin", "member", "viewer*"]);
    assert_eq!(list_roles(app.cx(), &app.other.environment).await.unwrap(), untouched);

    // What follows: the lists, and who joins without a role.
    let rows = app.api(Method::GET, "/authorization/roles", Value::Null).await.body;
    assert_eq!(rows["data"].as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap()).collect::<Vec<_>>()[0], "editor");
    let organization = app.api(Method::POST, "/organizations", serde_json::json!({"name": "Acme"})).await.body;
    let user = app.api(Method::POST, "/user_management/users", serde_json::json!({"email": "ada@example.com"})).await.body;
    let body = serde_json::json!({"user_id": user["id"], "organization_id": organization["id"]});
    let joined = app.api(Method::POST, "/user_management/organization_memberships", body).await;
    assert_eq!(joined.body["role"]["slug"], "viewer", "{}", joined.text);
});

both_engines!(api_keys_work_until_they_are_revoked, |app| async move {
    let environment = load_environment(app.cx(), "test").await.unwrap();
    let key = create_api_key(app.cx(), &environment, "second", true).await.unwrap();
    let tenant = Tenant { api_key: key.secret.reveal().clone(), ..app.tenant.clone() };
    assert_eq!(app.api_as(&tenant, Method::GET, "/user_management/users", Value::Null).await.status, 200);
    assert!(is_api_key_of(app.cx(), &environment.id, key.secret.reveal()).await.unwrap());
    assert!(!is_api_key_of(app.cx(), &app.other.environment, key.secret.reveal()).await.unwrap());

    // Another environment cannot revoke it.
    assert!(!revoke_api_key(app.cx(), &app.other.environment, &key.id).await.unwrap());
    assert!(revoke_api_key(app.cx(), &environment.id, &key.id).await.unwrap());
    assert!(!revoke_api_key(app.cx(), &environment.id, &key.id).await.unwrap());
    assert_eq!(app.api_as(&tenant, Method::GET, "/user_management/users", Value::Null).await.status, 401);
    let listed = list_api_keys(app.cx(), &environment.id).await.unwrap();
    assert_eq!(listed.iter().map(|key| key.revoked_at.is_some()).collect::<Vec<_>>(), [false, true]);
    assert!(!format!("{listed:?}").contains(&key.secret.reveal()[12..40]));
});

both_engines!(environments_are_found_by_name_and_id_and_missing_ones_named, |app| async move {
    let by_name = load_environment(app.cx(), "test").await.unwrap();
    assert_eq!(load_environment(app.cx(), by_name.id.as_str()).await.unwrap().name, "test");
    assert_eq!(refusal(load_environment(app.cx(), "tset").await), "no environment is named \"tset\"; there are test, other");
});

both_engines!(settings_out_of_range_are_not_stored, |app| async move {
    let environment = load_environment(app.cx(), "test").await.unwrap();
    let wrong = Settings { access_token_seconds: 0, ..environment.settings.clone() };
    assert!(refusal(update_settings(app.cx(), &environment, wrong).await).starts_with("access_token_seconds: "));
    let right = Settings { access_token_seconds: 60, ..environment.settings.clone() };
    update_settings(app.cx(), &environment, right.clone()).await.unwrap();
    assert_eq!(load_environment(app.cx(), "test").await.unwrap().settings, right);
    assert_eq!(load_environment(app.cx(), "other").await.unwrap().settings, environment.settings);
});

both_engines!(a_user_is_made_once_with_its_event_and_can_sign_in, |app| async move {
    let person = NewPerson {
        email: "Alice@Example.test".into(),
        password: Some("paper-lantern-42".to_owned().into()),
        first_name: Some("Alice".into()),
        last_name: None,
        email_verified: true,
    };
    let id = create_user(app.cx(), &app.tenant.environment, &person).await.unwrap().expect("new");
    assert_eq!(create_user(app.cx(), &app.tenant.environment, &person).await.unwrap(), None);
    let events = app.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].0.as_str(), events[0].1["id"].as_str()), ("user.created", Some(id.as_str())));
    assert!(!events[0].1.to_string().contains("lantern"));
    assert_eq!(app.sign_in("alice@example.test", "paper-lantern-42").await["user"]["id"], json!(id));

    let weak = NewPerson { email: "bob@example.test".into(), password: Some("short".to_owned().into()), ..person.clone() };
    assert!(
        refusal(create_user(app.cx(), &app.tenant.environment, &weak).await).starts_with("the password of bob@example.test is too weak; ")
    );
    let wrong = NewPerson { email: "bob".into(), ..person };
    assert!(refusal(create_user(app.cx(), &app.tenant.environment, &wrong).await).contains("not an e-mail address"));
});

both_engines!(redirects_are_kept_by_uri, |app| async move {
    let (cx, environment, kind) = (app.cx(), &app.tenant.environment, RedirectKind::SignIn);
    add_redirect(cx, kind, environment, "https://a.example/callback").await.unwrap();
    add_redirect(cx, kind, environment, "https://b.example/callback").await.unwrap();
    assert!(refusal(add_redirect(cx, kind, environment, "https://a.example/callback").await).contains("registered already"));
    assert!(refusal(add_redirect(cx, kind, environment, "http://a.example/callback").await).contains("use https"));
    assert!(refusal(remove_redirect(cx, kind, environment, "https://a.example/callback").await).contains("is the default"));
    set_default_redirect(cx, kind, environment, "https://b.example/callback").await.unwrap();
    remove_redirect(cx, kind, environment, "https://a.example/callback").await.unwrap();
    let left: Vec<String> = list_redirects(cx, kind, environment).await.unwrap().into_iter().map(|row| row.uri).collect();
    assert_eq!(left, ["https://b.example/callback"]);
    assert!(list_redirects(cx, RedirectKind::SignOut, environment).await.unwrap().is_empty());
    assert!(refusal(remove_redirect(cx, kind, &app.other.environment, "https://b.example/callback").await).contains("not registered"));
});

both_engines!(a_database_remembers_its_master_key_and_its_maker, |app| async move {
    check_master_key(app.cx()).await.unwrap();
    check_master_key(app.cx()).await.unwrap();
    let parts = crate::Parts {
        db: app.cx().db().clone(),
        clock: app.clock.clone(),
        rng: std::sync::Arc::new(gatewright_jose::SystemRng),
        master_key: MasterKey::generate(&gatewright_jose::SystemRng),
        dns: std::sync::Arc::new(crate::testkit::TestDns::default()),
        network: std::sync::Arc::new(crate::testkit::TestNetwork::default()),
    };
    let config = Config { public_url: "http://localhost:4700".to_owned(), dev: true, ..Config::default() };
    let stranger = crate::build(config, parts).unwrap();
    assert!(refusal(check_master_key(&stranger.cx).await).starts_with("master_key: is not the key this database was sealed with; "));

    assert!(!is_dev_database(app.cx()).await.unwrap());
    mark_dev_database(app.cx()).await.unwrap();
    mark_dev_database(app.cx()).await.unwrap();
    assert!(is_dev_database(app.cx()).await.unwrap());
});

both_engines!(a_feature_flag_is_planted_once_with_its_targets, |app| async move {
    let alice = app.user("alice@example.test", "paper-lantern-42").await;
    let acme = app.api(Method::POST, "/organizations", json!({"name": "Acme", "external_id": "acme"})).await.body;
    let flag = NewFeatureFlag {
        slug: "beta".into(),
        name: "Beta".into(),
        enabled: true,
        users: vec!["Alice@example.test".into()],
        organizations: vec!["acme".into()],
        ..NewFeatureFlag::default()
    };
    let environment = &app.tenant.environment;
    for wrong in [
        NewFeatureFlag { slug: "b e t a".into(), ..flag.clone() },
        NewFeatureFlag { users: vec!["bob@example.test".into()], ..flag.clone() },
        NewFeatureFlag { organizations: vec!["acme".into(), "nobody".into()], ..flag.clone() },
    ] {
        assert!(refusal(plant_feature_flag(app.cx(), environment, &wrong).await).starts_with("the feature flag \"b"));
    }
    let runtime = async || app.api(Method::GET, "/sdk/feature-flags", Value::Null).await.body;
    assert_eq!(runtime().await, json!({}), "all or nothing");
    assert!(plant_feature_flag(app.cx(), environment, &flag).await.unwrap());
    let planted = runtime().await;
    assert_eq!(planted["beta"]["targets"]["users"], json!([{"id": alice["id"], "enabled": true}]));
    assert_eq!(planted["beta"]["targets"]["organizations"], json!([{"id": acme["id"], "enabled": true}]));
    let again = NewFeatureFlag { enabled: false, users: Vec::new(), ..flag };
    assert!(!plant_feature_flag(app.cx(), environment, &again).await.unwrap());
    assert_eq!(runtime().await, planted, "what is there stays");
});

both_engines!(a_permission_is_planted_once_with_its_roles, |app| async move {
    let permission = NewPermission {
        slug: "expenses:approve".into(),
        name: "Approve expenses".into(),
        roles: vec!["admin".into()],
        ..NewPermission::default()
    };
    let environment = &app.tenant.environment;
    for wrong in [
        NewPermission { slug: "Expenses Approve".into(), ..permission.clone() },
        NewPermission { name: " ".into(), ..permission.clone() },
        NewPermission { description: Some("x".repeat(151)), ..permission.clone() },
    ] {
        assert!(refusal(plant_permission(app.cx(), environment, &wrong).await).starts_with("the permission \""));
    }
    let nobodys = NewPermission { roles: vec!["admin".into(), "owner".into()], ..permission.clone() };
    assert_eq!(
        refusal(plant_permission(app.cx(), environment, &nobodys).await),
        "there is no role \"owner\"; admin and member are there from the beginning"
    );
    let granted =
        async |slug: &str| app.api(Method::GET, &format!("/authorization/roles/{slug}"), Value::Null).await.body["permissions"].clone();
    assert_eq!(granted("admin").await, json!([]), "all or nothing");
    assert!(plant_permission(app.cx(), environment, &permission).await.unwrap());
    assert_eq!((granted("admin").await, granted("member").await), (json!(["expenses:approve"]), json!([])));
    let again = NewPermission { roles: vec!["member".into()], ..permission };
    assert!(!plant_permission(app.cx(), environment, &again).await.unwrap());
    assert_eq!(granted("member").await, json!([]), "what is there stays");
});

both_engines!(an_organization_is_planted_with_members_who_can_be_there, |app| async move {
    let environment = app.tenant.environment.clone();
    app.user("ada@acme.test", "correct horse battery").await;
    let (of, scribe) = (environment.clone(), app.cx().scribe(Actor::Operator));
    let editor = roles::NewRole {
        slug: "editor".to_owned(),
        name: "Editor".to_owned(),
        description: None,
        resource_type_slug: "document".to_owned(),
        organization_id: None,
    };
    assert!(app.cx().db().write(move |tx| roles::insert(tx, &of, &editor, &scribe)).await.unwrap().is_ok());
    let plant = async |email: &str, role: &str| {
        let member = NewMember { email: email.to_owned(), role: role.to_owned() };
        plant_organization(app.cx(), &environment, "Acme", "acme", vec![member]).await
    };
    for (email, role, why) in [
        ("ada@acme.test", "emperor", "there is no role"),
        // A role that is given on documents is none of an organization's members.
        ("ada@acme.test", "editor", "there is no role"),
        ("nobody@acme.test", "member", "is no user"),
        ("no address", "member", "is no user"),
    ] {
        let error = refusal(plant(email, role).await);
        assert!(error.contains(why), "{email} {role}: {error}");
    }
    assert_eq!(list_organizations(app.cx(), &environment).await.unwrap(), [], "all or nothing");
    let planted = plant("ada@acme.test", "admin").await.unwrap();
    assert_eq!(plant("ada@acme.test", "admin").await.unwrap(), planted, "once");
    let listed = app.api(Method::GET, &format!("/user_management/organization_memberships?organization_id={planted}"), Value::Null).await;
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1), "{}", listed.text);
});

both_engines!(an_operator_makes_an_organization_stricter_and_nobody_elses, |app| async move {
    let body = json!({"name": "Acme", "external_id": "acme", "domain_data": [{"domain": "acme.example", "state": "verified"}]});
    assert_eq!(app.api(Method::POST, "/organizations", body).await.status, 201);
    let environment = load_environment(app.cx(), app.tenant.environment.as_str()).await.unwrap();
    let wanted = Rule { password: Some(false), session_seconds: Some(3_600), ..Rule::default() };
    for domain in [None, Some("acme.example")] {
        let set = set_sign_in_policy(app.cx(), &environment, "acme", domain, wanted.clone()).await.unwrap();
        assert_eq!((set.effective.password, set.effective.session_seconds, set.effective.magic_auth), (false, 3_600, true));
        assert_eq!(find_sign_in_policy(app.cx(), &environment, "acme", domain).await.unwrap().rule, wanted);
    }
    let entries = app.events().await.into_iter().filter(|(name, _)| name == "sign_in_policy.updated").count();
    assert_eq!(entries, 2);
    let other = load_environment(app.cx(), app.other.environment.as_str()).await.unwrap();
    let unknown = refusal(set_sign_in_policy(app.cx(), &other, "acme", None, wanted.clone()).await);
    assert_eq!(unknown, "there is no organization \"acme\"; give its id (org_..) or its external id");
    let domain = refusal(find_sign_in_policy(app.cx(), &environment, "acme", Some("acme.test")).await);
    assert_eq!(domain, "\"acme.test\" is no domain of Acme; it has acme.example");
    let weak = Rule { session_seconds: Some(40_000_000), ..Rule::default() };
    let weak = refusal(set_sign_in_policy(app.cx(), &environment, "acme", None, weak).await);
    assert!(weak.starts_with("session_seconds: weaker than environment; "), "{weak}");
});
