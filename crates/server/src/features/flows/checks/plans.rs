//! How SQLite runs what the lists and the check ask: along an index from the cursor on, never over a table, never sorting what is long.

use axum::http::Method;
use gatewright_db::{DbError, Value as Parameter};
use serde_json::{Value, json};

use crate::testkit::{On, TestApp};

async fn make(app: &TestApp, path: &str, body: Value) -> String {
    let answer = app.api(Method::POST, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    answer.body["id"].as_str().unwrap_or_default().to_owned()
}

/// Every list of tenancy with what it lists, and all its filters.
async fn lists(app: &TestApp) -> Vec<String> {
    let organization = make(app, "/organizations", json!({"name": "Acme"})).await;
    let user = make(app, "/user_management/users", json!({"email": "a@example.test"})).await;
    let member = json!({"user_id": user, "organization_id": organization});
    let member = make(app, "/user_management/organization_memberships", member).await;
    let group = make(app, &format!("/organizations/{organization}/groups"), json!({"name": "g"})).await;
    let members = format!("/organizations/{organization}/groups/{group}/organization-memberships");
    make(app, &members, json!({"organization_membership_id": member})).await;
    for (slug, parents) in [("folder", json!(["organization"])), ("doc", json!(["folder"]))] {
        make(app, "/authorization/resource_types", json!({"slug": slug, "parent_type_slugs": parents})).await;
        let (see, role) = (format!("{slug}:see"), format!("{slug}-reader"));
        make(app, "/authorization/permissions", json!({"slug": see, "name": see, "resource_type_slug": slug})).await;
        make(app, "/authorization/roles", json!({"slug": role, "name": role, "resource_type_slug": slug})).await;
        make(app, &format!("/authorization/roles/{role}/permissions"), json!({"slug": see})).await;
    }
    let resource = |slug: &str| json!({"external_id": "x", "name": "x", "resource_type_slug": slug, "organization_id": organization});
    let folder = make(app, "/authorization/resources", resource("folder")).await;
    let mut doc = resource("doc");
    doc["parent_resource_id"] = json!(folder);
    let doc = make(app, "/authorization/resources", doc).await;
    for holder in [format!("organization_memberships/{member}"), format!("groups/{group}")] {
        for (role, on) in [("folder-reader", &folder), ("doc-reader", &doc)] {
            make(app, &format!("/authorization/{holder}/role_assignments"), json!({"role_slug": role, "resource_id": on})).await;
        }
    }
    let of_member = format!("/authorization/organization_memberships/{member}");
    for (slug, on) in [("folder:see", &folder), ("doc:see", &doc)] {
        let asked = app.api(Method::POST, &format!("{of_member}/check"), json!({"permission_slug": slug, "resource_id": on})).await;
        assert_eq!(asked.body["authorized"], true, "{}", asked.text);
    }
    let root = organization.replace("org_", "authz_resource_");
    vec![
        "/organizations?".to_owned(),
        "/organizations?search=a".to_owned(),
        "/user_management/users?".to_owned(),
        format!("/user_management/users?organization_id={organization}"),
        format!("/user_management/organization_memberships?organization_id={organization}"),
        format!("/user_management/organization_memberships?organization_id={organization}&statuses=active"),
        format!("/user_management/organization_memberships?user_id={user}"),
        format!("/user_management/organization_memberships/{member}/groups?"),
        "/user_management/invitations?".to_owned(),
        format!("/user_management/invitations?organization_id={organization}"),
        "/user_management/invitations?email=a@example.test".to_owned(),
        format!("/user_management/invitations?organization_id={organization}&email=a@example.test"),
        format!("/organizations/{organization}/groups?"),
        format!("{members}?"),
        format!("/organizations/{organization}/api_keys?"),
        format!("/user_management/users/{user}/api_keys?"),
        format!("/organizations/{organization}/feature-flags?"),
        format!("/user_management/users/{user}/feature-flags?"),
        "/feature-flags?".to_owned(),
        "/machine_identities?".to_owned(),
        "/authorization/permissions?".to_owned(),
        "/authorization/resource_types?".to_owned(),
        "/authorization/resources?".to_owned(),
        "/authorization/resources?resource_type_slug=doc".to_owned(),
        format!("/authorization/resources?organization_id={organization}"),
        format!("/authorization/resources?organization_id={organization}&resource_type_slug=doc"),
        format!("/authorization/resources?parent_resource_id={folder}"),
        format!("/authorization/resources?parent_resource_id={folder}&resource_type_slug=doc"),
        format!("/authorization/resources/{folder}/role_assignments?"),
        format!("/authorization/resources/{folder}/role_assignments?role_slug=folder-reader"),
        format!("/authorization/resources/{root}/role_assignments?"),
        format!("/authorization/resources/{root}/role_assignments?role_slug=member"),
        format!("/authorization/resources/{doc}/organization_memberships?permission_slug=doc:see"),
        format!("/authorization/groups/{group}/role_assignments?"),
        format!("{of_member}/role_assignments?"),
        format!("{of_member}/role_assignments?resource_id={doc}"),
        format!("{of_member}/role_assignments?resource_external_id=x"),
        format!("{of_member}/role_assignments?resource_external_id=x&resource_type_slug=doc"),
        format!("{of_member}/role_assignments?resource_type_slug=doc"),
        format!("{of_member}/resources?permission_slug=doc:see&parent_resource_id={folder}"),
        format!("{of_member}/resources?permission_slug=folder:see&parent_resource_id={root}"),
        format!("{of_member}/resources/{doc}/permissions?"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_of_a_list_or_a_check_goes_along_an_index() {
    let app = TestApp::start(On::Sqlite).await;
    for list in lists(&app).await {
        for page in ["&limit=2", "&limit=2&order=asc", "&limit=2&after=m", "&limit=2&order=asc&after=m", "&limit=2&before=m"] {
            let answer = app.api(Method::GET, &format!("{list}{page}"), Value::Null).await;
            assert_eq!(answer.status, 200, "{list}{page}: {}", answer.text);
        }
    }
    let statements: Vec<String> = app.cx().db().statements().into_iter().filter(|sql| sql.starts_with("SELECT")).collect();
    let mut bad = Vec::new();
    for sql in &statements {
        for step in plan(&app, sql).await {
            if reads_too_much(sql, &step) {
                bad.push(format!("{step}\n    {sql}"));
            }
        }
    }
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), statements.len(), bad.join("\n"));
    let lists = statements.iter().filter(|sql| sql.contains(" LIMIT ")).count();
    assert!(lists > 60, "only {lists} of {} statements were lists", statements.len());
}

async fn plan(app: &TestApp, sql: &str) -> Vec<String> {
    let numbers = sql.split('$').skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
    let (count, sql) = (numbers.max().unwrap_or_default(), format!("EXPLAIN QUERY PLAN {sql}"));
    let read = app.cx().db().read(move |tx| {
        let rows = tx.list(&sql, &vec![Parameter::Null; count])?;
        rows.into_iter()
            .map(|mut row| [row.int(), row.int(), row.int()].into_iter().collect::<Result<Vec<_>, _>>().and_then(|_| row.text()))
            .collect()
    });
    read.await.unwrap_or_else(|error: DbError| panic!("{error}"))
}

/// A whole table, or a sort of rows that the statement's own limit has yet to cut. What one holds on one resource is a handful.
fn reads_too_much(sql: &str, step: &str) -> bool {
    let (scanned, sorted) = (step.strip_prefix("SCAN "), step.starts_with("USE TEMP B-TREE FOR ORDER BY"));
    // `m` and `k` are inner SELECTs with a limit of their own.
    let is_table = |name: &str| !["CONSTANT", "m", "k", "("].contains(&name);
    let limited_last = sql.rfind(" LIMIT ").is_some_and(|at| !sql[at..].contains(')'));
    scanned.and_then(|rest| rest.split(' ').next()).is_some_and(is_table)
        || (sorted && limited_last && !sql.contains("holder_id || resource_id"))
}
