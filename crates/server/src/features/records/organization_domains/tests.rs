use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use crate::both_engines;
use crate::testkit::{Tenant, TestApp};

const PATH: &str = "/organization_domains";
const DAY: Duration = Duration::from_secs(86_400);

async fn organization_of(app: &TestApp, tenant: &Tenant, name: &str) -> String {
    let made = app.api_as(tenant, Method::POST, "/organizations", json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

async fn organization(app: &TestApp, name: &str) -> String {
    organization_of(app, &app.tenant, name).await
}

async fn add(app: &TestApp, organization: &str, domain: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, PATH, json!({"domain": domain, "organization_id": organization})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

fn path_of(domain: &Value) -> String {
    format!("{PATH}/{}", domain["id"].as_str().expect("a domain"))
}

async fn verify(app: &TestApp, domain: &Value) -> Value {
    let answer = app.api(Method::POST, &format!("{}/verify", path_of(domain)), Value::Null).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

async fn present(app: &TestApp, domain: &Value) -> Value {
    let answer = app.api(Method::GET, &path_of(domain), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

fn publish(app: &TestApp, domain: &Value) {
    let token = domain["verification_token"].as_str().unwrap();
    app.dns.publish(domain["domain"].as_str().unwrap(), &format!("verification_token={token}"));
}

async fn domain_events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("organization_domain.")).collect()
}

async fn owner(app: &TestApp, domain: &str) -> Option<String> {
    let (environment, domain) = (app.tenant.environment.clone(), domain.to_owned());
    let found = app.cx().db().read(move |tx| find_owner_of_verified(tx, &environment, &domain)).await.unwrap();
    found.map(OrganizationId::into_string)
}

both_engines!(the_life_of_a_domain, |app| async {
    let acme = organization(&app, "Acme").await;
    let domain = add(&app, &acme, " ACME.com ").await;
    assert!(gatewright_base::is_id("org_domain", domain["id"].as_str().unwrap()));
    assert_eq!(
        domain,
        json!({"object": "organization_domain", "id": domain["id"], "organization_id": acme, "domain": "acme.com", "state": "pending",
            "verification_strategy": "dns", "verification_prefix": domain["verification_prefix"],
            "verification_token": domain["verification_token"], "created_at": domain["created_at"], "updated_at": domain["created_at"]})
    );
    assert_eq!(present(&app, &domain).await, domain);
    assert_eq!(owner(&app, "acme.com").await, None);
    assert_eq!(verify(&app, &domain).await["state"], "pending");

    publish(&app, &domain);
    app.clock.advance(Duration::from_secs(5));
    let verified = verify(&app, &domain).await;
    assert_eq!((&verified["state"], &verified["verification_strategy"]), (&json!("verified"), &json!("dns")));
    assert_eq!(owner(&app, "Acme.COM").await, Some(acme.clone()));
    let again = app.api(Method::POST, &format!("{}/verify", path_of(&domain)), Value::Null).await;
    assert_eq!((again.status, again.code()), (400, "domain_already_verified"));
    let shown = app.api(Method::GET, &format!("/organizations/{acme}"), Value::Null).await;
    assert_eq!(shown.body["domains"], json!([verified]));

    let deleted = app.api(Method::DELETE, &path_of(&domain), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for method in [Method::GET, Method::DELETE] {
        let gone = app.api(method, &path_of(&domain), Value::Null).await;
        assert_eq!((gone.status, gone.code()), (404, "entity_not_found"));
    }
    assert_eq!(app.api(Method::POST, &format!("{}/verify", path_of(&domain)), Value::Null).await.status, 404);
    assert_eq!(owner(&app, "acme.com").await, None);
    assert_eq!(
        domain_events(&app).await,
        [
            ("organization_domain.created".to_owned(), domain),
            ("organization_domain.verified".to_owned(), verified.clone()),
            ("organization_domain.deleted".to_owned(), verified)
        ]
    );
});

both_engines!(each_of_the_three_records_proves_a_domain, |app| async {
    let acme = organization(&app, "Acme").await;
    for (n, form) in ["token", "prefix", "below"].into_iter().enumerate() {
        let domain = add(&app, &acme, &format!("acme{n}.com")).await;
        let (name, token) = (domain["domain"].as_str().unwrap(), domain["verification_token"].as_str().unwrap());
        let prefix = domain["verification_prefix"].as_str().unwrap();
        app.dns.publish(name, "v=spf1 include:_spf.example.com -all");
        match form {
            "token" => app.dns.publish(name, &format!("verification_token={token}")),
            "prefix" => app.dns.publish(name, &format!("{prefix}={token}")),
            _ => app.dns.publish(&format!("{prefix}.{name}"), token),
        }
        assert_eq!(verify(&app, &domain).await["state"], "verified", "{form}");
    }
});

both_engines!(a_domain_is_looked_up_from_time_to_time_until_its_record_is_there, |app| async {
    let acme = organization(&app, "Acme").await;
    let domain = add(&app, &acme, "acme.com").await;
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.dns.asked(), Vec::<String>::new());

    app.clock.advance(Duration::from_secs(300));
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.dns.asked(), ["acme.com".to_owned(), format!("{}.acme.com", domain["verification_prefix"].as_str().unwrap())]);
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.dns.asked().len(), 2);
    assert_eq!(present(&app, &domain).await["state"], "pending");

    app.dns.break_down(true);
    publish(&app, &domain);
    app.clock.advance(Duration::from_secs(300));
    crate::run_jobs(app.cx()).await;
    assert_eq!((app.dns.asked().len(), &present(&app, &domain).await["state"]), (4, &json!("pending")));

    app.dns.break_down(false);
    app.clock.advance(Duration::from_secs(300));
    crate::run_jobs(app.cx()).await;
    assert_eq!(present(&app, &domain).await["state"], "verified");
    assert_eq!(owner(&app, "acme.com").await, Some(acme));
    app.clock.advance(40 * DAY);
    crate::run_jobs(app.cx()).await;
    assert_eq!((app.dns.asked().len(), &present(&app, &domain).await["state"]), (6, &json!("verified")));
});

both_engines!(after_thirty_days_an_attempt_has_failed_and_may_begin_again, |app| async {
    let acme = organization(&app, "Acme").await;
    let domain = add(&app, &acme, "acme.com").await;
    app.clock.advance(30 * DAY - Duration::from_secs(1));
    crate::run_jobs(app.cx()).await;
    assert_eq!(present(&app, &domain).await["state"], "pending");
    app.clock.advance(DAY);
    crate::run_jobs(app.cx()).await;
    let failed = present(&app, &domain).await;
    assert_eq!(failed["state"], "failed");
    assert_eq!(
        domain_events(&app).await.pop(),
        Some((
            "organization_domain.verification_failed".to_owned(),
            json!({"reason": "domain_verification_period_expired", "organization_domain": failed})
        ))
    );
    // A record that comes too late is not looked for.
    publish(&app, &domain);
    let asked = app.dns.asked().len();
    app.clock.advance(DAY);
    crate::run_jobs(app.cx()).await;
    assert_eq!((app.dns.asked().len(), &present(&app, &domain).await["state"]), (asked, &json!("failed")));

    app.dns.withdraw("acme.com");
    let begun = verify(&app, &domain).await;
    assert_eq!((&begun["state"], &begun["verification_token"]), (&json!("pending"), &domain["verification_token"]));
    assert_eq!(domain_events(&app).await.pop(), Some(("organization_domain.updated".to_owned(), begun)));
    app.clock.advance(29 * DAY);
    crate::run_jobs(app.cx()).await;
    assert_eq!(present(&app, &domain).await["state"], "pending");
    publish(&app, &domain);
    app.clock.advance(DAY / 2);
    crate::run_jobs(app.cx()).await;
    assert_eq!(present(&app, &domain).await["state"], "verified");
});

both_engines!(row_31_what_nobody_can_own_is_refused_with_its_reason, |app| async {
    let acme = organization(&app, "Acme").await;
    for (body, field, code) in [
        (json!({"organization_id": acme, "domain": "co.uk"}), "domain", "public_suffix_not_allowed"),
        (json!({"organization_id": acme, "domain": "github.io"}), "domain", "public_suffix_not_allowed"),
        (json!({"organization_id": acme, "domain": "gmail.com"}), "domain", "consumer_domain_not_allowed"),
        (json!({"organization_id": acme, "domain": "127.0.0.1"}), "domain", "address_not_allowed"),
        (json!({"organization_id": acme, "domain": "*.acme.com"}), "domain", "invalid_domain"),
        (json!({"organization_id": acme, "domain": "https://acme.com"}), "domain", "invalid_domain"),
        (json!({"organization_id": acme, "domain": ""}), "domain", "invalid_domain"),
        (json!({"organization_id": acme, "domain": null}), "domain", "wrong_type"),
        (json!({"organization_id": acme, "domain": ["acme.com"]}), "domain", "wrong_type"),
        (json!({"organization_id": acme}), "domain", "required"),
        (json!({"domain": "acme.com"}), "organization_id", "required"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        let error = &answer.body["errors"][0];
        assert_eq!((answer.status, error["field"].as_str(), error["code"].as_str()), (422, Some(field), Some(code)), "{body}");
    }
    assert_eq!(domain_events(&app).await, []);
    // A caller cannot vouch here, nor choose the token, the state or the id.
    let body = json!({"organization_id": acme, "domain": "acme.com", "state": "verified", "verification_token": "x", "id": "org_domain_x",
        "environment_id": app.other.environment.as_str()});
    let made = app.api(Method::POST, PATH, body).await;
    assert_eq!((made.status, &made.body["state"]), (201, &json!("pending")));
    assert_ne!((&made.body["verification_token"], &made.body["id"]), (&json!("x"), &json!("org_domain_x")));
});

both_engines!(row_31_a_record_for_another_claim_proves_nothing, |app| async {
    let (acme, evil) = (organization(&app, "Acme").await, organization(&app, "Evil").await);
    let (honest, copied) = (add(&app, &acme, "acme.com").await, add(&app, &evil, "acme.com").await);
    assert_ne!(honest["verification_token"], copied["verification_token"]);
    publish(&app, &honest);
    // The record of the one proves nothing for the other, and neither does a record at a name above, below or beside.
    let token = format!("verification_token={}", copied["verification_token"].as_str().unwrap());
    for name in ["com", "www.acme.com", "evil-acme.com", "acme.com.evil.com"] {
        app.dns.publish(name, &token);
    }
    assert_eq!(verify(&app, &copied).await["state"], "pending");
    assert_eq!(verify(&app, &honest).await["state"], "verified");
    assert_eq!(owner(&app, "acme.com").await, Some(acme.clone()));
    for stranger in ["mail.acme.com", "com", "acme.co", "acme.com.", "xacme.com", "", "acme.com\0"] {
        assert_eq!(owner(&app, stranger).await, None, "{stranger:?}");
    }

    // The owner's proof ended the other attempt, and a later record does not revive it.
    let failed = present(&app, &copied).await;
    assert_eq!(failed["state"], "failed");
    assert_eq!(
        domain_events(&app).await.pop(),
        Some((
            "organization_domain.verification_failed".to_owned(),
            json!({"reason": "domain_verified_by_other_organization", "organization_domain": failed})
        ))
    );
    app.dns.publish("acme.com", &token);
    assert_eq!(verify(&app, &copied).await["state"], "failed");
    assert_eq!(owner(&app, "acme.com").await, Some(acme.clone()));
    let refused = app.api(Method::POST, PATH, json!({"domain": "acme.com", "organization_id": organization(&app, "Third").await})).await;
    assert_eq!((refused.status, refused.code()), (409, "domain_already_exists"));

    // Once the owner gives it up, the next proof counts.
    assert_eq!(app.api(Method::DELETE, &path_of(&honest), Value::Null).await.status, 204);
    assert_eq!(verify(&app, &copied).await["state"], "verified");
    assert_eq!(owner(&app, "acme.com").await, Some(evil));
});

both_engines!(row_49_another_environments_domains_do_not_exist, |app| async {
    let acme = organization(&app, "Acme").await;
    let domain = add(&app, &acme, "acme.com").await;
    publish(&app, &domain);
    let verify_path = format!("{}/verify", path_of(&domain));
    for (method, path) in [(Method::GET, path_of(&domain)), (Method::DELETE, path_of(&domain)), (Method::POST, verify_path)] {
        let answer = app.api_as(&app.other, method.clone(), &path, Value::Null).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method, &path, Value::Null).await.status, 401);
    }
    let body = json!({"domain": "other.com", "organization_id": acme});
    let answer = app.api_as(&app.other, Method::POST, PATH, body).await;
    assert_eq!((answer.status, answer.body["message"].as_str()), (404, Some(format!("Organization not found: '{acme}'.").as_str())));
    assert_eq!(present(&app, &domain).await, domain);
    assert_eq!(app.api(Method::GET, &format!("/organizations/{acme}"), Value::Null).await.body["domains"], json!([domain]));

    // A domain has an owner in each environment, and each needs a proof of its own.
    assert_eq!(verify(&app, &domain).await["state"], "verified");
    let theirs = organization_of(&app, &app.other, "Theirs").await;
    let made = app.api_as(&app.other, Method::POST, PATH, json!({"domain": "acme.com", "organization_id": theirs})).await;
    assert_eq!((made.status, &made.body["state"]), (201, &json!("pending")));
    let looked = app.api_as(&app.other, Method::POST, &format!("{}/verify", path_of(&made.body)), Value::Null).await;
    assert_eq!((looked.status, &looked.body["state"]), (201, &json!("pending")));
});

both_engines!(of_64_at_once_one_gives_an_organization_its_domain, |app| async move {
    let acme = organization(&app, "Acme").await;
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, body) = (app.clone(), json!({"domain": "acme.com", "organization_id": acme}));
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 409 && answer.code() == "domain_already_exists").count(), 63);
    assert_eq!(domain_events(&app).await.len(), 1);
});

both_engines!(row_31_of_64_organizations_that_prove_one_domain_at_once_one_owns_it, |app| async move {
    let app = Arc::new(app);
    let mut claims = Vec::new();
    for n in 0..64 {
        let claim = add(&app, &organization(&app, &format!("Company {n}")).await, "acme.com").await;
        publish(&app, &claim);
        claims.push(claim);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for claim in claims.clone() {
        let app = app.clone();
        tasks.spawn(async move { app.api(Method::POST, &format!("{}/verify", path_of(&claim)), Value::Null).await });
    }
    for answer in tasks.join_all().await {
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    crate::run_jobs(app.cx()).await;
    let mut states = Vec::new();
    for claim in &claims {
        let now = present(&app, claim).await;
        states.push((now["state"].as_str().unwrap().to_owned(), now["organization_id"].as_str().unwrap().to_owned()));
    }
    let winners: Vec<&str> = states.iter().filter(|(state, _)| state == "verified").map(|(_, id)| id.as_str()).collect();
    assert_eq!((winners.len(), states.iter().filter(|(state, _)| state == "failed").count()), (1, 63));
    assert_eq!(owner(&app, "acme.com").await.as_deref(), Some(winners[0]));
    let verified = domain_events(&app).await.iter().filter(|(name, _)| name == "organization_domain.verified").count();
    assert_eq!(verified, 1);
});

both_engines!(an_organization_has_at_most_a_hundred_domains, |app| async move {
    let acme = organization(&app, "Acme").await;
    for n in 1..MOST_DOMAINS {
        add(&app, &acme, &format!("acme{n}.com")).await;
    }
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (app, body) = (app.clone(), json!({"domain": format!("last{n}.com"), "organization_id": acme}));
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    let over = app.api(Method::POST, PATH, json!({"domain": "one-more.com", "organization_id": acme})).await;
    assert_eq!((over.status, over.body["errors"][0]["code"].as_str()), (422, Some("too_many")));
});
