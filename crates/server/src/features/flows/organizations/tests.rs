use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::params;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const PATH: &str = "/organizations";

fn path_of(organization: &Value) -> String {
    format!("{PATH}/{}", organization["id"].as_str().expect("an organization"))
}

async fn create(app: &TestApp, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, PATH, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

async fn change(app: &TestApp, organization: &Value, body: Value) -> Answer {
    app.clock.advance(Duration::from_millis(1));
    app.api(Method::PUT, &path_of(organization), body).await
}

async fn changed(app: &TestApp, organization: &Value, body: Value) -> Value {
    let answer = change(app, organization, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("organization")).collect()
}

async fn names(app: &TestApp) -> Vec<String> {
    events(app).await.into_iter().map(|(name, _)| name).collect()
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn id(organization: &Value) -> String {
    organization["id"].as_str().unwrap().to_owned()
}

/// Domain, state and strategy of each of its domains.
fn domains(organization: &Value) -> Vec<(&str, &str, &str)> {
    let rows = organization["domains"].as_array().unwrap();
    rows.iter()
        .map(|row| (row["domain"].as_str().unwrap(), row["state"].as_str().unwrap(), row["verification_strategy"].as_str().unwrap()))
        .collect()
}

both_engines!(the_life_of_an_organization, |app| async {
    let acme = create(
        &app,
        json!({"name": "Acme", "metadata": {"tier": "gold", "never": null}, "external_id": "crm-1",
            "domain_data": [{"domain": "Acme.com", "state": "verified"}, {"domain": "acme.dev", "state": "pending"}]}),
    )
    .await;
    assert!(gatewright_base::is_id("org", acme["id"].as_str().unwrap()));
    assert_eq!(
        acme,
        json!({"object": "organization", "id": acme["id"], "name": "Acme", "domains": acme["domains"], "metadata": {"tier": "gold"},
            "external_id": "crm-1", "allow_profiles_outside_organization": false, "join_by_verified_domain": true,
            "created_at": acme["created_at"], "updated_at": acme["created_at"]})
    );
    assert_eq!(domains(&acme), [("acme.com", "verified", "manual"), ("acme.dev", "pending", "dns")]);
    assert_eq!(app.api(Method::GET, &path_of(&acme), Value::Null).await.body, acme);
    assert_eq!(app.api(Method::GET, "/organizations/external_id/crm-1", Value::Null).await.body, acme);

    let body = json!({"name": "Acme Inc.", "metadata": {"tier": null, "seats": "5"}, "external_id": null, "stripe_customer_id": "cus_1",
        "allow_profiles_outside_organization": true, "join_by_verified_domain": false});
    let after = changed(&app, &acme, body.clone()).await;
    assert_eq!(
        after,
        json!({"object": "organization", "id": acme["id"], "name": "Acme Inc.", "domains": acme["domains"], "metadata": {"seats": "5"},
            "external_id": null, "stripe_customer_id": "cus_1", "allow_profiles_outside_organization": true,
            "join_by_verified_domain": false, "created_at": acme["created_at"], "updated_at": after["updated_at"]})
    );
    assert_ne!(after["updated_at"], acme["updated_at"]);
    // The same again changes nothing, not even the time.
    assert_eq!(changed(&app, &acme, body).await, after);
    assert_eq!(changed(&app, &acme, json!({})).await, after);
    assert_eq!(changed(&app, &acme, json!({"metadata": null})).await["metadata"], json!({}));

    let deleted = app.api(Method::DELETE, &path_of(&acme), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (202, ""));
    for method in [Method::GET, Method::DELETE] {
        let gone = app.api(method, &path_of(&acme), Value::Null).await;
        assert_eq!((gone.status, gone.code()), (404, "entity_not_found"));
    }
    let domain = format!("/organization_domains/{}", acme["domains"][0]["id"].as_str().unwrap());
    assert_eq!(app.api(Method::GET, &domain, Value::Null).await.status, 404);
    let told = events(&app).await;
    assert_eq!(told[0], ("organization.created".to_owned(), acme));
    assert_eq!(
        told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        [
            "organization.created",
            "organization_domain.created",
            "organization_domain.verified",
            "organization_domain.created",
            "organization.updated",
            "organization.updated",
            "organization_domain.deleted",
            "organization_domain.deleted",
            "organization.deleted"
        ]
    );
    assert_eq!(told[4].1, after);
});

both_engines!(bad_input_is_refused_with_its_field, |app| async {
    let acme = create(&app, json!({"name": "Acme", "external_id": "taken"})).await;
    let many: Vec<Value> = (0..101).map(|n| json!({"domain": format!("a{n}.com"), "state": "pending"})).collect();
    for (body, status, code) in [
        (json!({}), 422, "required"),
        (json!({"name": null}), 422, "wrong_type"),
        (json!({"name": ""}), 422, "must_not_be_empty"),
        (json!({"name": "  "}), 422, "must_not_be_empty"),
        (json!({"name": "a\r\nb"}), 422, "must_be_at_most_255_characters_on_one_line"),
        (json!({"name": "x".repeat(256)}), 422, "must_be_at_most_255_characters_on_one_line"),
        (json!({"name": "A", "external_id": "x".repeat(129)}), 422, "must_be_1_to_128_ascii_characters"),
        (json!({"name": "A", "external_id": "ü"}), 422, "must_be_1_to_128_ascii_characters"),
        (json!({"name": "A", "metadata": {"k": "x".repeat(601)}}), 400, "value_must_be_at_most_600_ascii_characters"),
        (json!({"name": "A", "metadata": {"x".repeat(41): "v"}}), 400, "key_must_be_1_to_40_ascii_characters"),
        (json!({"name": "A", "metadata": {"__proto__": "v"}}), 400, "key_is_reserved"),
        (json!({"name": "A", "metadata": {"k": 1}}), 422, "wrong_type"),
        (json!({"name": "A", "domain_data": [{"domain": "co.uk", "state": "verified"}]}), 422, "public_suffix_not_allowed"),
        (json!({"name": "A", "domain_data": [{"domain": "gmail.com", "state": "verified"}]}), 422, "consumer_domain_not_allowed"),
        (json!({"name": "A", "domain_data": [{"domain": "a b.com", "state": "verified"}]}), 422, "invalid_domain"),
        (json!({"name": "A", "domain_data": [{"domain": "a.com", "state": "legacy_verified"}]}), 422, "must_be_one_of_pending_verified"),
        (json!({"name": "A", "domain_data": [{"domain": "a.com"}]}), 422, "required"),
        (json!({"name": "A", "domains": ["a.com", "A.com"]}), 422, "repeated"),
        (json!({"name": "A", "domain_data": many}), 422, "too_many"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.body["errors"][0]["code"].as_str()), (status, Some(code)), "{body}: {}", answer.text);
    }
    let taken = app.api(Method::POST, PATH, json!({"name": "A", "external_id": "taken"})).await;
    assert_eq!((taken.status, taken.code()), (400, "external_id_already_used"));
    for (body, status) in [
        (json!({"name": null}), 422),
        (json!({"name": ""}), 422),
        (json!({"external_id": ""}), 422),
        (json!({"stripe_customer_id": "ü"}), 422),
        (json!({"metadata": {"constructor": "x"}}), 400),
        (json!({"domains": ["localhost"]}), 422),
    ] {
        assert_eq!(change(&app, &acme, body.clone()).await.status, status, "{body}");
    }
    assert_eq!(app.api(Method::GET, &path_of(&acme), Value::Null).await.body, acme);
    assert_eq!(names(&app).await, ["organization.created"]);
});

both_engines!(external_ids_and_stripe_customers_are_of_one_organization, |app| async {
    let (acme, beta) = (create(&app, json!({"name": "Acme", "external_id": "crm-1"})).await, create(&app, json!({"name": "Beta"})).await);
    changed(&app, &acme, json!({"stripe_customer_id": "cus_1"})).await;
    for (body, code) in [
        (json!({"external_id": "crm-1"}), "external_id_already_used"),
        (json!({"stripe_customer_id": "cus_1"}), "stripe_customer_id_already_used"),
    ] {
        let refused = change(&app, &beta, body).await;
        assert_eq!((refused.status, refused.code()), (400, code));
    }
    // In another environment they are free.
    let theirs = app.api_as(&app.other, Method::POST, PATH, json!({"name": "Theirs", "external_id": "crm-1"})).await;
    assert_eq!(theirs.status, 201);
    changed(&app, &acme, json!({"external_id": null, "stripe_customer_id": null})).await;
    changed(&app, &beta, json!({"external_id": "crm-1", "stripe_customer_id": "cus_1"})).await;
});

both_engines!(domain_data_replaces_the_domains_and_undoes_no_proof, |app| async {
    let acme = create(&app, json!({"name": "Acme", "domains": ["acme.com"]})).await;
    // The older field vouches for nothing.
    assert_eq!(domains(&acme), [("acme.com", "pending", "dns")]);
    let token = acme["domains"][0]["verification_token"].as_str().unwrap();
    app.dns.publish("acme.com", &format!("verification_token={token}"));
    app.clock.advance(Duration::from_secs(300));
    crate::run_jobs(app.cx()).await;

    let named = |domain: &str, state: &str| json!({"domain": domain, "state": state});
    let after = changed(&app, &acme, json!({"domain_data": [named("acme.com", "pending"), named("acme.dev", "verified")]})).await;
    assert_eq!(domains(&after), [("acme.com", "verified", "dns"), ("acme.dev", "verified", "manual")]);
    assert_eq!(after["domains"][0]["id"], acme["domains"][0]["id"]);
    // A word can be taken back, a proof cannot.
    let after = changed(&app, &acme, json!({"domain_data": [named("acme.dev", "pending"), named("acme.com", "pending")]})).await;
    assert_eq!(domains(&after), [("acme.com", "verified", "dns"), ("acme.dev", "pending", "dns")]);
    let after = changed(&app, &acme, json!({"domain_data": [named("acme.dev", "verified")]})).await;
    assert_eq!(domains(&after), [("acme.dev", "verified", "manual")]);
    assert_eq!(domains(&changed(&app, &acme, json!({"name": "Still"})).await), [("acme.dev", "verified", "manual")]);
    assert_eq!(domains(&changed(&app, &acme, json!({"domain_data": []})).await), []);
    assert_eq!(
        names(&app).await,
        [
            "organization.created",
            "organization_domain.created",
            "organization_domain.verified",
            "organization_domain.created",
            "organization_domain.verified",
            "organization.updated",
            "organization_domain.updated",
            "organization.updated",
            "organization_domain.deleted",
            "organization_domain.verified",
            "organization.updated",
            "organization.updated",
            "organization_domain.deleted",
            "organization.updated"
        ]
    );
});

both_engines!(row_31_nobody_vouches_for_a_domain_that_another_organization_owns, |app| async {
    let verified = json!([{"domain": "acme.com", "state": "verified"}]);
    let rival = create(&app, json!({"name": "Rival", "domains": ["acme.com", "rival.com"]})).await;
    let acme = create(&app, json!({"name": "Acme", "domain_data": verified})).await;
    // The rival's attempt has failed with it.
    let now = app.api(Method::GET, &path_of(&rival), Value::Null).await.body;
    assert_eq!(domains(&now), [("acme.com", "failed", "dns"), ("rival.com", "pending", "dns")]);

    let before = names(&app).await.len();
    for state in ["verified", "pending"] {
        let body = json!({"name": "Evil", "external_id": "evil", "domain_data": [{"domain": "Acme.COM", "state": state}]});
        let refused = app.api(Method::POST, PATH, body).await;
        assert_eq!((refused.status, refused.code()), (409, "domain_already_exists"), "{state}");
    }
    let refused = change(&app, &rival, json!({"name": "Evil", "domain_data": verified})).await;
    assert_eq!((refused.status, refused.code()), (409, "domain_already_exists"));
    // Nothing of a refused request stays, not even the domain that it would have removed.
    assert_eq!(app.api(Method::GET, &path_of(&rival), Value::Null).await.body, now);
    assert_eq!(app.api(Method::GET, "/organizations/external_id/evil", Value::Null).await.status, 404);
    assert_eq!(names(&app).await.len(), before);
    assert_eq!(app.api(Method::GET, &path_of(&acme), Value::Null).await.body, acme);
});

both_engines!(row_31_of_64_organizations_made_at_once_with_one_domain_one_owns_it, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let app = app.clone();
        let body = json!({"name": format!("Company {n}"), "domain_data": [{"domain": "acme.com", "state": "verified"}]});
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 409 && answer.code() == "domain_already_exists").count(), 63);
    assert_eq!(ids(&app, "limit=100").await.len(), 1);
    assert_eq!(ids(&app, "domains=acme.com").await.len(), 1);
});

both_engines!(of_64_at_once_one_takes_an_external_id, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, body) = (app.clone(), json!({"name": format!("Company {n}"), "external_id": "crm-1"}));
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.code() == "external_id_already_used").count(), 63);
});

both_engines!(row_49_another_environments_organizations_do_not_exist, |app| async {
    let body = json!({"name": "Acme", "external_id": "crm-1", "domain_data": [{"domain": "acme.com", "state": "verified"}]});
    let acme = create(&app, body).await;
    let before = names(&app).await;
    let by_external_id = "/organizations/external_id/crm-1".to_owned();
    for (method, path) in
        [(Method::GET, path_of(&acme)), (Method::PUT, path_of(&acme)), (Method::DELETE, path_of(&acme)), (Method::GET, by_external_id)]
    {
        let answer = app.api_as(&app.other, method.clone(), &path, json!({"name": "Mine", "domains": []})).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method, &path, Value::Null).await.status, 401);
    }
    // Row 52: neither a filter nor a cursor of ours shows a stranger anything.
    for query in ["", "domains=acme.com", "search=acme", &format!("order=asc&after={}", &id(&acme)[..8])] {
        let answer = app.api_as(&app.other, Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!((answer.status, &answer.body["data"]), (200, &json!([])), "{query}");
    }
    assert_eq!(app.api(Method::GET, &path_of(&acme), Value::Null).await.body, acme);
    assert_eq!(names(&app).await, before);
});

both_engines!(row_51_only_named_fields_are_taken, |app| async {
    let body = json!({"name": "Acme", "id": "org_x", "object": "user", "created_at": "2020-01-01T00:00:00.000Z",
        "environment_id": app.other.environment.as_str(), "stripe_customer_id": "cus_9", "state": "verified"});
    let acme = create(&app, body).await;
    assert_ne!(acme["id"], "org_x");
    assert_eq!((&acme["object"], acme.get("stripe_customer_id")), (&json!("organization"), None));
    assert!(acme["created_at"].as_str().unwrap().starts_with("2026-"));
    let after = changed(&app, &acme, json!({"id": "org_x", "created_at": "x", "environment_id": app.other.environment.as_str()})).await;
    assert_eq!(after, acme);
});

both_engines!(w15_organizations_page_and_are_found_by_domain_and_name, |app| async {
    let mut made = Vec::new();
    for (name, domain) in [
        ("Acme", "acme.com"),
        ("ACME Europe", "shared.com"),
        ("100% Beta_Works", "shared.com"),
        ("Größe AG", "groesse.de"),
        ("Acme", "x.com"),
    ] {
        made.push(id(&create(&app, json!({"name": name, "domains": [domain]})).await));
    }
    let of = |places: &[usize]| places.iter().map(|place| made[*place].clone()).collect::<Vec<_>>();
    for (query, places) in [
        ("", &[4, 3, 2, 1, 0][..]),
        ("order=asc", &[0, 1, 2, 3, 4]),
        ("search=acme", &[4, 1, 0]),
        ("search=acme&order=asc&limit=2", &[0, 1]),
        ("search=EUROPE", &[1]),
        ("search=gr%C3%B6%C3%9Fe", &[3]),
        ("search=100%25", &[2]),
        ("search=%25", &[2]),
        ("search=_", &[2]),
        ("search=!", &[]),
        ("search=%27%20OR%201=1", &[]),
        ("domains=acme.com", &[0]),
        ("domains=ACME.com", &[0]),
        ("domains=shared.com", &[2, 1]),
        ("domains=shared.com,acme.com", &[2, 1, 0]),
        ("domains[]=shared.com&domains[]=x.com&order=asc", &[1, 2, 4]),
        ("domains=shared.com&search=beta", &[2]),
        ("domains=acme.com,x.com,shared.com&search=acme&order=asc&limit=2", &[0, 1]),
        ("domains=nobody.com", &[]),
        ("domains=com", &[]),
        ("domains=%00", &[]),
    ] {
        assert_eq!(ids(&app, query).await, of(places), "{query}");
    }
    let page = app.api(Method::GET, &format!("{PATH}?domains=shared.com,acme.com&limit=2"), Value::Null).await;
    assert_eq!(page.body["list_metadata"], json!({"before": null, "after": made[1]}));
    assert_eq!(ids(&app, &format!("domains=shared.com,acme.com&limit=2&after={}", made[1])).await, of(&[0]));
    assert_eq!(ids(&app, &format!("limit=2&after={}", made[3])).await, of(&[2, 1]));
    assert_eq!(ids(&app, &format!("limit=2&before={}", made[1])).await, of(&[3, 2]));
    for query in ["limit=0", "limit=101", "order=x", "search=a&search=b", &format!("search={}", "x".repeat(256))] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
});

both_engines!(row_23_the_sessions_in_a_deleted_organization_end, |app| async {
    let (acme, beta) = (create(&app, json!({"name": "Acme"})).await, create(&app, json!({"name": "Beta"})).await);
    app.user("ada@acme.com", "correct horse battery").await;
    let member = app.user("bob@beta.com", "correct horse battery").await;
    for (organization, email) in [(&acme, "ada@acme.com"), (&beta, "bob@beta.com")] {
        let listed = app.api(Method::GET, &format!("/user_management/users?email={email}"), Value::Null).await;
        let body = json!({"user_id": listed.body["data"][0]["id"], "organization_id": organization["id"]});
        let joined = app.api(Method::POST, "/user_management/organization_memberships", body).await;
        assert_eq!(joined.status, 201, "{}", joined.text);
    }
    let (ada, bob) =
        (app.sign_in("ada@acme.com", "correct horse battery").await, app.sign_in("bob@beta.com", "correct horse battery").await);
    assert_eq!((&ada["organization_id"], &bob["organization_id"]), (&acme["id"], &beta["id"]));
    assert_eq!(app.api(Method::DELETE, &path_of(&acme), Value::Null).await.status, 202);

    let refresh = |token: &Value| json!({"grant_type": "refresh_token", "refresh_token": token});
    let refused = app.authenticate(refresh(&ada["refresh_token"])).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_grant"), "{}", refused.text);
    assert_eq!(app.authenticate(refresh(&bob["refresh_token"])).await.status, 200);
    let revoked = app.events().await.into_iter().filter(|(name, _)| name == "session.revoked").collect::<Vec<_>>();
    assert_eq!((revoked.len(), &revoked[0].1["organization_id"]), (1, &acme["id"]));
    let left = app.api(Method::GET, &format!("/user_management/organization_memberships?organization_id={}", id(&beta)), Value::Null).await;
    assert_eq!(left.body["data"][0]["user_id"], member["id"]);
    // The person goes on without the organization.
    assert!(app.sign_in("ada@acme.com", "correct horse battery").await.get("organization_id").is_none_or(Value::is_null));
});

both_engines!(a_page_of_many_organizations_shows_the_domains_of_each, |app| async {
    for n in 0..60 {
        let data: Vec<Value> = (0..n % 3).map(|k| json!({"domain": format!("d{k}-{n}.com"), "state": "verified"})).collect();
        create(&app, json!({"name": format!("Company {n}"), "domain_data": data})).await;
    }
    let answer = app.api(Method::GET, &format!("{PATH}?limit=100&order=asc"), Value::Null).await;
    let rows = answer.body["data"].as_array().unwrap();
    assert_eq!(rows.len(), 60);
    for (n, row) in rows.iter().enumerate() {
        let expected: Vec<String> = (0..n % 3).map(|k| format!("d{k}-{n}.com")).collect();
        assert_eq!(domains(row).iter().map(|(domain, ..)| (*domain).to_owned()).collect::<Vec<_>>(), expected);
    }
    let environment = app.tenant.environment.clone();
    let count = "SELECT count(*) FROM organization_domains WHERE environment_id = $1";
    assert_eq!(app.cx().db().scan(move |tx| tx.one(count, params![&environment])?.int()).await.unwrap(), 60);
});

both_engines!(organizations_that_want_the_same_domains_in_another_order_do_not_wait_for_each_other, |app| async move {
    let app = Arc::new(app);
    let before = app.cx().db().stats().retries;
    for round in 0..4 {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..32 {
            let mut data: Vec<Value> = (0..6).map(|k| json!({"domain": format!("d{k}-{round}.com"), "state": "verified"})).collect();
            if n % 2 == 0 {
                data.reverse();
            }
            let app = app.clone();
            tasks.spawn(async move {
                let answer = app.api(Method::POST, PATH, json!({"name": "Acme", "domain_data": data})).await;
                (answer.status, data, answer.body)
            });
        }
        let answers = tasks.join_all().await;
        let won: Vec<_> = answers.iter().filter(|(status, ..)| *status == 201).collect();
        assert_eq!((won.len(), answers.iter().filter(|(status, ..)| *status == 409).count()), (1, 31));
        // Shown as they were given.
        let given: Vec<&Value> = won[0].1.iter().map(|one| &one["domain"]).collect();
        assert_eq!(won[0].2["domains"].as_array().unwrap().iter().map(|one| &one["domain"]).collect::<Vec<_>>(), given);
        assert_eq!(app.api(Method::GET, &path_of(&won[0].2), Value::Null).await.body, won[0].2);
    }
    assert_eq!(app.cx().db().stats().retries, before, "two waited for each other");
});

both_engines!(a_deleted_organization_leaves_nothing_and_what_went_with_it_is_told, |app| async {
    let post = async |path: &str, body: Value| {
        let answer = app.api(Method::POST, path, body).await;
        assert!(matches!(answer.status, 200 | 201 | 204), "{path}: {}", answer.text);
        answer.body
    };
    post("/authorization/resource_types", json!({"slug": "doc"})).await;
    post("/authorization/permissions", json!({"slug": "docs:read", "name": "Read"})).await;
    post("/authorization/roles", json!({"slug": "viewer", "name": "Viewer", "resource_type_slug": "doc"})).await;
    let flag = json!({"slug": "beta", "name": "Beta", "enabled": true});
    post("/feature-flags", flag).await;
    let ada = post("/user_management/users", json!({"email": "ada@example.com"})).await;
    let fill = async |name: &str| {
        let made = create(&app, json!({"name": name, "domain_data": [{"domain": format!("{name}.com"), "state": "verified"}]})).await;
        let id = id(&made);
        post(&format!("/authorization/organizations/{id}/roles"), json!({"slug": "org-billing", "name": "Billing"})).await;
        post(&format!("/authorization/organizations/{id}/roles/org-billing/permissions"), json!({"slug": "docs:read"})).await;
        let body = json!({"user_id": ada["id"], "organization_id": id, "role_slugs": ["admin", "org-billing"]});
        let member = post("/user_management/organization_memberships", body).await["id"].as_str().unwrap().to_owned();
        let group = post(&format!("{PATH}/{id}/groups"), json!({"name": "All"})).await["id"].as_str().unwrap().to_owned();
        post(&format!("{PATH}/{id}/groups/{group}/organization-memberships"), json!({"organization_membership_id": member})).await;
        let body = json!({"external_id": "d1", "name": "Plan", "resource_type_slug": "doc", "organization_id": id});
        let doc = post("/authorization/resources", body).await["id"].clone();
        for holder in [format!("organization_memberships/{member}"), format!("groups/{group}")] {
            post(&format!("/authorization/{holder}/role_assignments"), json!({"role_slug": "viewer", "resource_id": doc})).await;
        }
        post(&format!("{PATH}/{id}/api_keys"), json!({"name": "CI", "permissions": ["docs:read"]})).await;
        let body = json!({"name": "Mine", "organization_id": id});
        post(&format!("/user_management/users/{}/api_keys", ada["id"].as_str().unwrap()), body).await;
        post(&format!("/feature-flags/beta/targets/{id}"), Value::Null).await;
        post("/user_management/invitations", json!({"email": "bob@example.com", "organization_id": id})).await;
        made
    };
    let (acme, beta) = (fill("acme").await, fill("beta").await);
    // Of two alike one goes, and half of everything with it.
    const TABLES: [&str; 14] = [
        "organizations",
        "organization_domains",
        "organization_memberships",
        "organization_membership_roles",
        "groups",
        "group_memberships",
        "resources",
        "role_assignments",
        "group_role_assignments",
        "role_permissions",
        "api_keys",
        "api_key_permissions",
        "feature_flag_organizations",
        "invitations",
    ];
    let counted = async || {
        let environment = app.tenant.environment.clone();
        let counts = app.cx().db().read(move |tx| {
            let count = |table: &&str| format!("SELECT COUNT(*) FROM {table} WHERE environment_id = $1");
            TABLES.iter().map(|table| tx.one(&count(table), params![&environment])?.int()).collect::<Result<Vec<i64>, _>>()
        });
        counts.await.unwrap()
    };
    let before = counted().await;
    let told = app.events().await.len();
    assert_eq!(app.api(Method::DELETE, &path_of(&acme), Value::Null).await.status, 202);
    let halves: Vec<i64> = before.iter().map(|count| count / 2).collect();
    assert!(halves.iter().all(|half| *half > 0), "{before:?}");
    assert_eq!(counted().await, halves);
    let names: Vec<String> = app.events().await.into_iter().skip(told).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "organization_domain.deleted",
            "api_key.revoked",
            "api_key.revoked",
            "group.deleted",
            "organization_membership.deleted",
            "organization_role.deleted",
            "organization.deleted"
        ]
    );
    let last = app.events().await.pop().unwrap().1;
    assert_eq!((&last["id"], &last["domains"][0]["domain"]), (&acme["id"], &json!("acme.com")));
    assert_eq!(app.api(Method::GET, &path_of(&beta), Value::Null).await.status, 200);
    assert_eq!(app.api(Method::GET, "/authorization/roles/viewer", Value::Null).await.status, 200);
});
