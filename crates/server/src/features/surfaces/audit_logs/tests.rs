use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, Method};
use gatewright_base::Timestamp;
use serde_json::{Value, json};

use super::store;
use crate::both_engines;
use crate::features::records::audit_log_events;
use crate::features::surfaces::audit_trail;
use crate::testkit::{Answer, Tenant, TestApp};

const ACTION: &str = "invoice.viewed";
const EVENTS: &str = "/audit_logs/events";
const EXPORTS: &str = "/audit_logs/exports";
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const DAY: Duration = Duration::from_secs(86_400);

async fn organization_of(app: &TestApp, tenant: &Tenant, name: &str) -> String {
    let made = app.api_as(tenant, Method::POST, "/organizations", json!({"name": name})).await;
    made.body["id"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned()
}

async fn organization(app: &TestApp) -> String {
    organization_of(app, &app.tenant, "Acme").await
}

async fn schema(app: &TestApp, action: &str, body: Value) -> Answer {
    app.api(Method::POST, &format!("/audit_logs/actions/{action}/schemas"), body).await
}

async fn plain_action(app: &TestApp) {
    let made = schema(app, ACTION, json!({"targets": [{"type": "invoice"}, {"type": "team"}]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

fn event(app: &TestApp, organization: &str, name: &str) -> Value {
    json!({
        "organization_id": organization,
        "event": {
            "action": ACTION,
            "occurred_at": app.now().to_string(),
            "actor": {"id": "user_1", "type": "user", "name": name},
            "targets": [{"id": "invoice_1", "type": "invoice"}],
            "context": {"location": "192.0.2.1", "user_agent": "Chrome/104"}
        }
    })
}

async fn post(app: &TestApp, body: &Value) -> Answer {
    app.api(Method::POST, EVENTS, body.clone()).await
}

async fn written(app: &TestApp, tenant: &Tenant) -> Vec<Value> {
    crate::run_jobs(app.cx()).await;
    let of = tenant.environment.clone();
    let rows = app.cx().db().scan(move |tx| audit_log_events::read(tx, &of, 0, 1_000)).await.unwrap();
    rows.into_iter().map(|row| serde_json::to_value(row.event).unwrap()).collect()
}

fn paths(answer: &Answer) -> Vec<&str> {
    assert_eq!((answer.status, answer.code()), (400, "invalid_audit_log_event"), "{}", answer.text);
    assert_eq!(answer.body["message"], "Invalid Audit Log event.");
    answer.body["errors"].as_array().unwrap().iter().map(|error| error["instancePath"].as_str().unwrap()).collect()
}

async fn export(app: &TestApp, organization: &str, more: Value) -> Answer {
    let mut body = json!({
        "organization_id": organization, "range_start": app.now().minus(DAY * 30).to_string(), "range_end": app.now().plus(DAY).to_string()
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.api(Method::POST, EXPORTS, body).await
}

/// The link of a finished export.
async fn link(app: &TestApp, organization: &str, more: Value) -> String {
    let begun = export(app, organization, more).await;
    assert_eq!((begun.status, begun.body["state"].as_str(), &begun.body["url"]), (201, Some("pending"), &Value::Null), "{}", begun.text);
    crate::run_jobs(app.cx()).await;
    link_of(app, begun.body["id"].as_str().unwrap()).await
}

async fn link_of(app: &TestApp, id: &str) -> String {
    let found = app.api(Method::GET, &format!("{EXPORTS}/{id}"), Value::Null).await;
    assert_eq!((found.status, found.body["state"].as_str()), (200, Some("ready")), "{}", found.text);
    found.body["url"].as_str().unwrap().strip_prefix("http://localhost:4700").unwrap().to_owned()
}

async fn lines(app: &TestApp, link: &str) -> Vec<String> {
    let file = app.anonymous(Method::GET, link, Value::Null).await;
    assert_eq!(file.status, 200, "{}", file.text);
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(file.header("cache-control"), Some("no-store"));
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    assert!(file.header("content-disposition").unwrap().starts_with("attachment; filename=\"audit_log_export_"));
    file.text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

both_engines!(a_schema_makes_its_action_and_has_versions, |app| async move {
    let list = async |query: &str| app.api(Method::GET, &format!("/audit_logs/actions{query}"), Value::Null).await.body;
    assert_eq!(list("").await, json!({"object": "list", "data": [], "list_metadata": {"before": null, "after": null}}));
    let body = json!({
        "actor": {"metadata": {"type": "object", "properties": {"role": {"type": "string"}}}},
        "targets": [{"type": "invoice", "metadata": {"type": "object"}}, {"type": "team"}],
        "metadata": {"type": "object", "properties": {"a": {"type": "number"}}}
    });
    let first = schema(&app, "invoice.viewed", body.clone()).await;
    let mut wanted = json!({"object": "audit_log_schema", "version": 1, "created_at": "2026-01-15T12:00:00.000Z"});
    wanted.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    assert_eq!((first.status, &first.body), (201, &wanted));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(schema(&app, "invoice.viewed", body).await.body, wanted, "the same again is the same version");
    let second = schema(&app, "invoice.viewed", json!({"targets": [{"type": "team"}]})).await;
    assert_eq!(
        second.body,
        json!({"object": "audit_log_schema", "version": 2, "targets": [{"type": "team"}], "created_at": "2026-01-15T12:00:01.000Z"})
    );
    schema(&app, "team.left", json!({"targets": [{"type": "team"}]})).await;
    let actions = list("?limit=1").await;
    assert_eq!(actions["data"][0]["name"], "team.left");
    let after = actions["list_metadata"]["after"].as_str().unwrap().to_owned();
    let next = list(&format!("?limit=1&after={after}")).await;
    assert_eq!(
        next["data"][0],
        json!({"object": "audit_log_action", "name": "invoice.viewed", "schema": second.body,
            "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:01.000Z"})
    );
    assert_eq!(next["list_metadata"]["after"], Value::Null);
    let versions = async |tenant: &Tenant, query: &str| {
        app.api_as(tenant, Method::GET, &format!("/audit_logs/actions/invoice.viewed/schemas{query}"), Value::Null).await
    };
    let numbers = |answer: Answer| answer.body["data"].as_array().unwrap().iter().map(|row| row["version"].clone()).collect::<Vec<_>>();
    assert_eq!(numbers(versions(&app.tenant, "").await), [2, 1]);
    assert_eq!(numbers(versions(&app.tenant, "?order=asc").await), [1, 2]);
    assert_eq!(versions(&app.other, "").await.status, 404, "another environment has no such action");
    assert_eq!(app.api_as(&app.other, Method::GET, "/audit_logs/actions", Value::Null).await.body["data"], json!([]));
    let told: Vec<String> = app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("audit_log")).collect();
    assert_eq!(told, ["audit_log_schema.created"; 3]);
});

both_engines!(a_bad_schema_is_refused_with_its_field, |app| async move {
    for (body, field, code) in [
        (json!({}), "targets", "required"),
        (json!({"targets": []}), "targets", "required"),
        (json!({"targets": "team"}), "targets", "wrong_type"),
        (json!({"targets": [{}]}), "targets[0].type", "required"),
        (json!({"targets": [{"type": 1}]}), "targets[0].type", "wrong_type"),
        (json!({"targets": [{"type": "a"}, {"type": "a"}]}), "targets[1].type", "repeated"),
        (json!({"targets": [{"type": "a", "metadata": {"type": "strin"}}]}), "targets[0].metadata", "invalid_schema"),
        (json!({"targets": [{"type": "a"}], "actor": {}}), "actor.metadata", "required"),
        (
            json!({"targets": [{"type": "a"}], "actor": {"metadata": {"$ref": "http://localhost/x"}}}),
            "actor.metadata",
            "reference_not_allowed",
        ),
        (json!({"targets": [{"type": "a"}], "metadata": []}), "metadata", "wrong_type"),
        (json!({"targets": [{"type": "a"}], "metadata": {"$defs": {"a": {"$ref": "#/$defs/a"}}}}), "metadata", "too_deep"),
        (json!({"targets": [{"type": "a"}], "metadata": {"title": "x".repeat(20_000)}}), "body", "too_large"),
    ] {
        let answer = schema(&app, ACTION, body.clone()).await;
        assert_eq!((answer.status, &answer.body["errors"]), (422, &json!([{"field": field, "code": code}])), "{body}: {}", answer.text);
    }
    for action in ["a%20b", "%0a", "%C3%A4", &"x".repeat(129)] {
        assert_eq!(schema(&app, action, json!({"targets": [{"type": "a"}]})).await.status, 422, "{action}");
    }
    assert_eq!(app.api(Method::GET, "/audit_logs/actions", Value::Null).await.body["data"], json!([]), "nothing was made");
});

both_engines!(w24_64_equal_schemas_at_once_are_one_version, |app| async move {
    let answers = futures(64, |_| schema(&app, ACTION, json!({"targets": [{"type": "team"}]}))).await;
    for answer in &answers {
        assert_eq!((answer.status, answer.body["version"].as_i64()), (201, Some(1)), "{}", answer.text);
    }
    let different = futures(16, |at| schema(&app, ACTION, json!({"targets": [{"type": at.to_string()}]}))).await;
    let mut versions: Vec<i64> = different.iter().map(|answer| answer.body["version"].as_i64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=17).collect::<Vec<_>>());
});

/// Runs requests side by side and gives their answers in order.
async fn futures<F: Future<Output = Answer>>(count: usize, request: impl Fn(usize) -> F) -> Vec<Answer> {
    let mut running: Vec<_> = (0..count).map(|at| Box::pin(request(at))).collect();
    let mut answers: Vec<Option<Answer>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, answer) in running.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *answer = Some(done),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers.into_iter().map(|answer| answer.expect("all are ready")).collect()
}

both_engines!(an_event_is_written_as_it_was_told, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    let mut body = event(&app, &acme, "Jon");
    body["event"]["metadata"] = json!({"amount": 12.5, "paid": false, "note": "Zoë"});
    body["event"]["targets"][0]["name"] = json!("Invoice");
    body["event"]["injected"] = json!("ignored");
    let answer = post(&app, &body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})), "{}", answer.text);
    let rows = written(&app, &app.tenant).await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(gatewright_base::is_id("audit_log_event", row["id"].as_str().unwrap()));
    assert_eq!(
        *row,
        json!({
            "id": row["id"], "organization_id": acme, "action": ACTION, "version": 1, "occurred_at": "2026-01-15T12:00:00.000Z",
            "actor": {"id": "user_1", "type": "user", "name": "Jon"},
            "targets": [{"id": "invoice_1", "type": "invoice", "name": "Invoice"}],
            "context": {"location": "192.0.2.1", "user_agent": "Chrome/104"},
            "metadata": {"amount": 12.5, "paid": false, "note": "Zoë"},
            "created_at": "2026-01-15T12:00:00.000Z"
        })
    );
});

both_engines!(an_event_that_does_not_fit_is_refused_and_not_written, |app| async move {
    let acme = organization(&app).await;
    let definition = json!({
        "actor": {"metadata": {"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"]}},
        "targets": [{"type": "invoice", "metadata": {"properties": {"cost": {"type": "number"}}}}],
        "metadata": {"additionalProperties": false, "properties": {"a": {"maximum": 3}}}
    });
    assert_eq!(schema(&app, ACTION, definition).await.status, 201);
    let good = || {
        let mut body = event(&app, &acme, "Jon");
        body["event"]["actor"]["metadata"] = json!({"role": "admin"});
        body
    };
    assert_eq!(post(&app, &good()).await.status, 200);
    for (place, value, path) in [
        ("/event/action", json!("unknown.action"), "/action"),
        ("/event/version", json!(2), "/version"),
        ("/event/version", json!(0), "/version"),
        ("/event/actor/metadata", json!({}), "/actor/metadata"),
        ("/event/actor/metadata", Value::Null, "/actor/metadata"),
        ("/event/actor/metadata", json!({"role": 1}), "/actor/metadata/role"),
        ("/event/targets", json!([]), "/targets"),
        ("/event/targets", json!([{"id": "t", "type": "team"}]), "/targets/0/type"),
        ("/event/targets", json!([{"id": "i", "type": "invoice", "metadata": {"cost": "much"}}]), "/targets/0/metadata/cost"),
        ("/event/metadata", json!({"b": 1}), "/metadata"),
        ("/event/metadata", json!({"a": 4}), "/metadata/a"),
        ("/event/metadata", json!({"a": null}), "/metadata/a"),
        ("/event/metadata", json!({"a": {"b": {"c": 1}}}), "/metadata/a"),
        ("/event/occurred_at", json!("2026-01-15"), "/occurred_at"),
        ("/event/occurred_at", json!("2027-01-15T00:00:00Z"), "/occurred_at"),
    ] {
        let mut body = good();
        let (outer, name) = place.rsplit_once('/').unwrap();
        body.pointer_mut(outer).unwrap()[name] = value.clone();
        let answer = post(&app, &body).await;
        assert_eq!(paths(&answer), [path], "{place} = {value}");
        assert!(!answer.text.contains("much"), "the caller's values are not quoted");
    }
    for (place, value, field, code) in [
        ("/organization_id", json!(1), "organization_id", "wrong_type"),
        ("/event", json!("x"), "event", "wrong_type"),
        ("/event/action", json!(1), "event.action", "wrong_type"),
        ("/event/action", Value::Null, "event.action", "wrong_type"),
        ("/event/targets", json!({}), "event.targets", "wrong_type"),
        ("/event/targets", json!([{"id": "t"}]), "event.targets[0].type", "required"),
        ("/event/actor", json!({"id": "u"}), "event.actor.type", "required"),
        ("/event/context", json!({}), "event.context.location", "required"),
        ("/event/metadata", json!([]), "event.metadata", "wrong_type"),
        ("/event/version", json!("1"), "event.version", "wrong_type"),
        ("/event/version", json!(1.5), "event.version", "wrong_type"),
    ] {
        let mut body = good();
        let (outer, name) = place.rsplit_once('/').unwrap();
        body.pointer_mut(outer).unwrap()[name] = value.clone();
        let answer = post(&app, &body).await;
        assert_eq!((answer.status, &answer.body["errors"]), (422, &json!([{"field": field, "code": code}])), "{place}: {}", answer.text);
    }
    let deep = (0..70).fold(json!(1), |inner, _| json!({"a": inner}));
    let mut body = good();
    body["event"]["metadata"] = deep;
    assert_eq!(post(&app, &body).await.status, 400);
    let mut body = good();
    body["event"]["metadata"] = json!({"a": "x".repeat(2_000_000)});
    assert_eq!(post(&app, &body).await.status, 413);
    let mut body = good();
    body["event"]["actor"]["name"] = json!("a\u{0}b");
    assert_eq!(post(&app, &body).await.status, 422);
    assert_eq!(written(&app, &app.tenant).await.len(), 1, "the good one alone");
});

both_engines!(an_event_may_name_an_older_version, |app| async move {
    let acme = organization(&app).await;
    schema(&app, ACTION, json!({"targets": [{"type": "invoice"}]})).await;
    schema(&app, ACTION, json!({"targets": [{"type": "team"}]})).await;
    let mut body = event(&app, &acme, "Jon");
    assert_eq!(paths(&post(&app, &body).await), ["/targets/0/type"], "the newest one counts");
    body["event"]["version"] = json!(1);
    assert_eq!(post(&app, &body).await.status, 200);
    assert_eq!(written(&app, &app.tenant).await[0]["version"], 1);
});

both_engines!(row_49_events_of_another_environments_organization_are_refused, |app| async move {
    let (acme, foreign) = (organization(&app).await, organization_of(&app, &app.other, "Foreign").await);
    plain_action(&app).await;
    for nobody in [foreign.as_str(), "org_01HXYZHXYZHXYZHXYZHXYZHXYZ", "", "x"] {
        let answer = post(&app, &event(&app, nobody, "Jon")).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{nobody}");
        let answer = export(&app, nobody, json!({})).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{nobody}");
    }
    // The other environment has no such action either.
    let answer = app.api_as(&app.other, Method::POST, EVENTS, event(&app, &foreign, "Jon")).await;
    assert_eq!(paths(&answer), ["/action"]);
    let answer = app.api_as(&app.other, Method::POST, EVENTS, event(&app, &acme, "Jon")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(written(&app, &app.tenant).await, Vec::<Value>::new());
    for path in ["audit_logs_retention", "audit_log_configuration"] {
        assert_eq!(app.api(Method::GET, &format!("/organizations/{foreign}/{path}"), Value::Null).await.status, 404);
    }
    let put =
        app.api(Method::PUT, &format!("/organizations/{foreign}/audit_logs_retention"), json!({"retention_period_in_days": 30})).await;
    assert_eq!(put.status, 404);
    let mine = app.api_as(&app.other, Method::GET, &format!("/organizations/{foreign}/audit_logs_retention"), Value::Null).await;
    assert_eq!(mine.body, json!({"retention_period_in_days": null}));
});

async fn post_with_key(app: &TestApp, tenant: &Tenant, key: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", tenant.api_key);
    app.with_headers(Method::POST, EVENTS, body.clone(), &[(AUTHORIZATION, &bearer), (KEY, key)]).await
}

both_engines!(w24_an_event_is_written_once_for_its_key_within_a_day, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    let body = event(&app, &acme, "Jon");
    let names = async |count: usize, why: &str| assert_eq!(written(&app, &app.tenant).await.len(), count, "{why}");
    for _ in 0..3 {
        let answer = post_with_key(&app, &app.tenant, "k1", &body).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})));
    }
    names(1, "a retry").await;
    post_with_key(&app, &app.tenant, "k2", &body).await;
    names(2, "another key is another event").await;
    let mut other = body.clone();
    other["event"]["actor"]["name"] = json!("Ann");
    assert_eq!(post_with_key(&app, &app.tenant, "k1", &other).await.status, 200);
    names(3, "the key counts together with the event").await;
    post(&app, &body).await;
    post(&app, &body).await;
    names(4, "without a key the event itself is the key").await;
    // One SDK derives its keys of the request: here that does no harm.
    let derived = format!("retry-{}", "a".repeat(64));
    post_with_key(&app, &app.tenant, &derived, &body).await;
    post_with_key(&app, &app.tenant, &derived, &body).await;
    names(5, "a derived key").await;
    app.clock.advance(DAY);
    post_with_key(&app, &app.tenant, "k1", &body).await;
    names(6, "a day later the key means nothing").await;
    assert_eq!(post_with_key(&app, &app.tenant, &"k".repeat(256), &body).await.status, 422);
    let refused = post_with_key(&app, &app.tenant, "k9", &json!({"organization_id": acme, "event": {}})).await;
    assert_eq!(refused.status, 422);
    assert_eq!(post_with_key(&app, &app.tenant, "k9", &body).await.status, 200, "a refusal takes no key");
    names(7, "after a refusal").await;
});

both_engines!(w24_64_retries_at_once_write_one_event, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    let body = event(&app, &acme, "Jon");
    let answers = futures(64, |_| post_with_key(&app, &app.tenant, "k1", &body)).await;
    for answer in answers {
        assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})));
    }
    assert_eq!(written(&app, &app.tenant).await.len(), 1);
});

both_engines!(an_export_holds_the_events_of_its_range_and_filters, |app| async move {
    let acme = organization(&app).await;
    let globex = organization_of(&app, &app.tenant, "Globex").await;
    plain_action(&app).await;
    schema(&app, "team.left", json!({"targets": [{"type": "team"}]})).await;
    for (name, ago) in [("Old", 40), ("Jon", 2), ("Ann", 1)] {
        let mut body = event(&app, &acme, name);
        body["event"]["occurred_at"] = json!(app.now().minus(DAY * ago).to_string());
        body["event"]["actor"]["id"] = json!(format!("user_{name}"));
        assert_eq!(post(&app, &body).await.status, 200);
    }
    let mut left = event(&app, &acme, "Ann");
    left["event"]["action"] = json!("team.left");
    left["event"]["targets"] = json!([{"id": "team_1", "type": "team"}]);
    assert_eq!(post(&app, &left).await.status, 200);
    assert_eq!(post(&app, &event(&app, &globex, "Stranger")).await.status, 200);

    let all = lines(&app, &link(&app, &acme, json!({})).await).await;
    assert_eq!(
        all[0],
        "\"id\",\"action\",\"occurred_at\",\"actor_id\",\"actor_type\",\"actor_name\",\"actor_metadata\",\"targets\",\"context_location\",\
         \"context_user_agent\",\"metadata\",\"version\""
    );
    assert_eq!(all.len(), 4, "header, Jon, Ann, Ann: neither what is out of range nor another organization's: {all:?}");
    assert!(all[1].contains("\"invoice.viewed\",\"2026-01-13T12:00:00.000Z\",\"user_Jon\",\"user\",\"Jon\",\"\""), "{}", all[1]);
    assert!(all[1].ends_with("\"192.0.2.1\",\"Chrome/104\",\"{}\",\"1\""), "{}", all[1]);
    assert!(all[3].contains("team.left"), "in the order they happened");
    for (filters, count) in [
        (json!({"actions": ["team.left"]}), 1),
        (json!({"actions": ["team.left", ACTION]}), 3),
        (json!({"actor_names": ["Ann"]}), 2),
        (json!({"actors": ["Ann"]}), 2),
        (json!({"actor_ids": ["user_Jon"]}), 1),
        (json!({"targets": ["team"]}), 1),
        (json!({"targets": ["invoice"], "actor_names": ["Ann"]}), 1),
        (json!({"actions": ["nothing"]}), 0),
    ] {
        assert_eq!(lines(&app, &link(&app, &acme, filters.clone()).await).await.len(), count + 1, "{filters}");
    }
    let told = app.events().await.into_iter().filter(|(name, _)| name == "audit_log_export.created").count();
    assert_eq!(told, 9);
});

both_engines!(a_long_export_is_made_and_sent_in_pieces, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    for at in 0..450 {
        assert_eq!(post(&app, &event(&app, &acme, &format!("Person {at}"))).await.status, 200);
        app.clock.advance(Duration::from_millis(1));
    }
    let file = lines(&app, &link(&app, &acme, json!({})).await).await;
    assert_eq!(file.len(), 451);
    for (at, line) in file[1..].iter().enumerate() {
        assert!(line.contains(&format!("\"Person {at}\"")), "{line}");
    }
});

both_engines!(row_58_cells_of_an_export_are_no_formulas_and_end_no_lines, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    let hostile = ["=cmd|'/C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "\u{1b}[2J", "a\r\n\"forged\",\"line\"", "＝1"];
    for name in hostile {
        let mut body = event(&app, &acme, name);
        body["event"]["context"] = json!({"location": name, "user_agent": name});
        body["event"]["actor"]["id"] = json!(name);
        body["event"]["targets"][0]["name"] = json!(name);
        body["event"]["metadata"] = json!({"note": name});
        let answer = post(&app, &body).await;
        assert_eq!(answer.status, 200, "what happened is written down, whatever names are like: {}", answer.text);
        app.clock.advance(Duration::from_millis(1));
    }
    let file = lines(&app, &link(&app, &acme, json!({})).await).await;
    assert_eq!(file.len(), hostile.len() + 1, "one line each");
    for line in &file[1..] {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let cells: Vec<&str> = line.strip_prefix('"').unwrap().strip_suffix('"').unwrap().split("\",\"").collect();
        for cell in cells {
            assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '＝']), "{cell:?} in {line}");
        }
    }
    assert!(file[1].contains("\"'=cmd|'/C calc'!A0\""));
});

both_engines!(row_58_a_link_opens_one_file_for_ten_minutes, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    let begun = export(&app, &acme, json!({})).await;
    let id = begun.body["id"].as_str().unwrap().to_owned();
    crate::run_jobs(app.cx()).await;
    let first = link_of(&app, &id).await;
    let status = async |link: &str| app.anonymous(Method::GET, link, Value::Null).await.status;
    app.clock.advance(Duration::from_secs(599));
    assert_eq!(status(&first).await, 200, "as often as one likes");
    let second = link_of(&app, &id).await;
    assert_ne!(first, second, "a new one each time it is asked for");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!((status(&first).await, status(&second).await), (403, 200));
    let (path, token) = second.split_once('?').unwrap();
    for forged in [
        path.to_owned(),
        format!("{path}?token="),
        format!("{path}?{}", &token[..token.len() - 2]),
        format!("{path}?{token}&{token}"),
        second.replace(app.tenant.environment.as_str(), app.other.environment.as_str()),
        second.replace(&id, "audit_log_export_01HXYZHXYZHXYZHXYZHXYZHXYZ"),
    ] {
        let answer = app.anonymous(Method::GET, &forged, Value::Null).await;
        assert!([403, 422].contains(&answer.status) && !answer.text.contains("Jon"), "{forged}: {}", answer.text);
    }
    // A key opens no file: the link does.
    assert_eq!(app.api(Method::GET, path, Value::Null).await.status, 403);
    let foreign = app.api_as(&app.other, Method::GET, &format!("{EXPORTS}/{id}"), Value::Null).await;
    assert_eq!((foreign.status, foreign.code()), (404, "entity_not_found"), "another environment cannot ask for it");
    let unknown = app.api(Method::GET, &format!("{EXPORTS}/nothing"), Value::Null).await;
    assert_eq!(unknown.body["message"], "Audit Log Export not found: 'nothing'.");
});

both_engines!(an_export_expires_after_a_day_and_is_gone_after_three_months, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    let begun = export(&app, &acme, json!({})).await;
    let path = format!("{EXPORTS}/{}", begun.body["id"].as_str().unwrap());
    crate::run_jobs(app.cx()).await;
    app.clock.advance(DAY - Duration::from_secs(1));
    crate::run_jobs(app.cx()).await;
    let link = link_of(&app, begun.body["id"].as_str().unwrap()).await;
    app.clock.advance(Duration::from_secs(1));
    crate::run_jobs(app.cx()).await;
    let expired = app.api(Method::GET, &path, Value::Null).await.body;
    assert_eq!((expired["state"].as_str(), &expired["url"]), (Some("expired"), &Value::Null));
    assert_eq!(app.anonymous(Method::GET, &link, Value::Null).await.status, 403, "a link that is young enough opens nothing any more");
    let chunks = app.cx().db().read(|tx| tx.one("SELECT COUNT(*) FROM audit_log_export_chunks", &[])?.int()).await;
    assert_eq!(chunks, Ok::<_, gatewright_db::DbError>(0));
    app.clock.advance(DAY * 90);
    crate::run_jobs(app.cx()).await;
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.status, 404);
});

both_engines!(a_bad_export_is_refused, |app| async move {
    let acme = organization(&app).await;
    let at = |days: u32| app.now().minus(DAY * days).to_string();
    for (start, end) in [(at(1), at(2)), (at(1), at(1)), (at(93), at(1)), ("yesterday".to_owned(), at(1)), (at(1), String::new())] {
        let body = json!({"organization_id": acme, "range_start": start, "range_end": end});
        let answer = app.api(Method::POST, EXPORTS, body).await;
        assert_eq!(
            (answer.status, answer.code(), answer.body["message"].as_str()),
            (400, "invalid_audit_log_export_range_date", Some("Invalid date range")),
            "{start} to {end}"
        );
    }
    for (body, message) in [
        (json!({}), "organization_id: required"),
        (json!({"organization_id": acme, "range_start": 1, "range_end": at(0)}), "range_start: wrong_type"),
        (json!({"organization_id": acme, "range_start": at(1), "range_end": at(0), "actions": "x"}), "actions: wrong_type"),
        (
            json!({"organization_id": acme, "range_start": at(1), "range_end": at(0), "actions": vec!["x"; 101]}),
            "filters: must_be_at_most_100_of_255_characters_each",
        ),
    ] {
        let answer = app.api(Method::POST, EXPORTS, body).await;
        assert_eq!((answer.status, &answer.body), (400, &json!({"statusCode": 400, "message": [message], "error": "Bad Request"})));
    }
    let started = futures(30, |_| export(&app, &acme, json!({}))).await;
    let begun = started.iter().filter(|answer| answer.status == 201).count();
    let refused: Vec<&Answer> = started.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!((begun, refused.len()), (10, 20), "ten at a time");
    assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()));
    crate::run_jobs(app.cx()).await;
    assert_eq!(export(&app, &acme, json!({})).await.status, 201);
});

both_engines!(an_export_that_a_node_left_is_finished_by_another, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    let begun = export(&app, &acme, json!({})).await;
    let id = begun.body["id"].as_str().unwrap().to_owned();
    let take = async |now: Timestamp| {
        app.cx().db().write(move |tx| store::take_due_export(tx, now, now.plus(Duration::from_secs(60)))).await.unwrap()
    };
    assert!(take(app.now()).await.is_some(), "a node takes it and dies");
    crate::run_jobs(app.cx()).await;
    let state = async || app.api(Method::GET, &format!("{EXPORTS}/{id}"), Value::Null).await.body["state"].as_str().unwrap().to_owned();
    assert_eq!(state().await, "pending", "not while it may be at work");
    app.clock.advance(Duration::from_secs(60));
    crate::run_jobs(app.cx()).await;
    assert_eq!(state().await, "ready");
    // One that fails again and again is given up.
    let begun = export(&app, &acme, json!({})).await;
    let id = begun.body["id"].as_str().unwrap().to_owned();
    for _ in 0..5 {
        assert!(take(app.now()).await.is_some());
        app.clock.advance(Duration::from_secs(60));
    }
    crate::run_jobs(app.cx()).await;
    let given_up = app.api(Method::GET, &format!("{EXPORTS}/{id}"), Value::Null).await.body;
    assert_eq!((given_up["state"].as_str(), &given_up["url"]), (Some("error"), &Value::Null));
});

both_engines!(retention_is_said_shown_and_kept, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    let path = format!("/organizations/{acme}/audit_logs_retention");
    let show = async || app.api(Method::GET, &path, Value::Null).await.body;
    assert_eq!(show().await, json!({"retention_period_in_days": null}));
    let configuration = async || app.api(Method::GET, &format!("/organizations/{acme}/audit_log_configuration"), Value::Null).await.body;
    assert_eq!(configuration().await, json!({"organization_id": acme, "retention_period_in_days": 365, "state": "active"}));
    for bad in [
        json!({}),
        json!({"retention_period_in_days": null}),
        json!({"retention_period_in_days": 31}),
        json!({"retention_period_in_days": 0}),
        json!({"retention_period_in_days": -30}),
        json!({"retention_period_in_days": "30"}),
        json!({"retention_period_in_days": 9_999_999_999_i64}),
        json!({"retention_period": "FOREVER"}),
        json!({"retention_period": "1_MONTH", "retention_period_in_days": 30}),
    ] {
        let answer = app.api(Method::PUT, &path, bad.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{bad}");
    }
    assert_eq!(show().await, json!({"retention_period_in_days": null}));
    let year = app.api(Method::PUT, &path, json!({"retention_period_in_days": 365})).await;
    assert_eq!((year.status, year.body), (200, json!({"retention_period_in_days": 365})));
    app.api(Method::PUT, &path, json!({"retention_period_in_days": 365})).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    crate::run_jobs(app.cx()).await;
    app.clock.advance(DAY * 31);
    assert_eq!(written(&app, &app.tenant).await.len(), 1);
    let month = app.api(Method::PUT, &path, json!({"retention_period": "1_MONTH"})).await;
    assert_eq!(month.body, json!({"retention_period_in_days": 30}));
    assert_eq!(written(&app, &app.tenant).await.len(), 0, "the job took what is too old now");
    assert_eq!(configuration().await["retention_period_in_days"], 30);
    let told: Vec<Value> =
        app.events().await.into_iter().filter(|(name, _)| name == "audit_logs_retention.updated").map(|(_, data)| data).collect();
    assert_eq!(told.len(), 2, "saying the same again changes nothing");
    assert_eq!((&told[1]["retention_period_in_days"], &told[1]["previous_retention_period_in_days"]), (&json!(30), &json!(365)));
});

both_engines!(the_log_of_a_deleted_organization_is_kept_until_its_time_is_over, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    assert_eq!(written(&app, &app.tenant).await.len(), 1);
    assert!(app.api(Method::DELETE, &format!("/organizations/{acme}"), Value::Null).await.status < 300);
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 404);
    assert_eq!(written(&app, &app.tenant).await.len(), 1, "who deletes an organization does not delete what was done in it");
    app.clock.advance(DAY * 365);
    assert_eq!(written(&app, &app.tenant).await.len(), 0);
});

both_engines!(row_58_the_check_of_the_audit_trail_names_a_changed_event_of_a_customer, |app| async move {
    let acme = organization(&app).await;
    plain_action(&app).await;
    assert_eq!(post(&app, &event(&app, &acme, "Jon")).await.status, 200);
    let id = written(&app, &app.tenant).await[0]["id"].as_str().unwrap().to_owned();
    let check = async || audit_trail::verify(app.cx(), &app.tenant.environment, |_| ()).await.unwrap();
    assert_eq!(check().await.findings, []);
    let forged = id.clone();
    let sql = "UPDATE audit_log_events SET actor = '{}' WHERE id = $1";
    let change = app.cx().db().write(move |tx| tx.execute(sql, gatewright_db::params![forged.as_str()])).await;
    assert_eq!(change, Ok::<_, gatewright_db::DbError>(1));
    let findings = check().await.findings;
    assert_eq!(findings.iter().map(|finding| finding.id.as_deref()).collect::<Vec<_>>(), [Some(id.as_str())]);
    assert_eq!(findings[0].text, format!("audit log event {id} of {acme} was changed"));
});
