//! What must hold of every operation, read from the server's own document: a new operation is tested the day it is routed.

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HeaderName};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::TestApp;

struct Operation {
    method: Method,
    path: String,
    keyed: bool,
}

async fn operations(app: &TestApp) -> Vec<Operation> {
    let document = app.anonymous(Method::GET, "/openapi.json", Value::Null).await.body;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let open = operation["security"]
                .as_array()
                .is_some_and(|list| list.iter().any(|s| s.as_object().is_some_and(serde_json::Map::is_empty)));
            // Authenticate reads its key from the body, too, and says so in OAuth's words.
            let keyed = !open && path != "/user_management/authenticate";
            operations.push(Operation { method, path: path.clone(), keyed });
        }
    }
    operations
}

fn with_id(path: &str, id: &str) -> String {
    path.split('/').map(|segment| if segment.starts_with('{') { id } else { segment }).collect::<Vec<_>>().join("/")
}

both_engines!(w19_every_keyed_operation_is_401_without_its_key, |app| async move {
    let operations = operations(&app).await;
    let keyed: Vec<_> = operations.iter().filter(|operation| operation.keyed).collect();
    assert!(keyed.len() >= 25, "{}", keyed.len());
    for operation in keyed {
        let path = with_id(&operation.path, "user_01M7XQHHA6C4WS0QDDWXSXSVWY");
        for bearer in [None, Some("Bearer"), Some("Bearer sk_test_nonsense"), Some("Basic c2s6"), Some("bearer ")] {
            let headers: Vec<(HeaderName, &str)> = bearer.map(|value| (AUTHORIZATION, value)).into_iter().collect();
            let answer = app.with_headers(operation.method.clone(), &path, json!({}), &headers).await;
            assert_eq!((answer.status, &answer.body), (401, &json!({"message": "Unauthorized"})), "{} {path} {bearer:?}", operation.method);
        }
    }
});

both_engines!(row_53_no_operation_answers_bad_input_with_a_5xx, |app| async move {
    let long = "x".repeat(5_000);
    let bodies = [
        "{",
        "[]",
        "\"text\"",
        "null",
        "{\"email\":null}",
        "{\"email\":{\"a\":1},\"code\":[],\"token\":7,\"uri\":false,\"origin\":1e400}",
        "{\"email\":\"a\\u0000@b.c\",\"code\":\"\\u0000\",\"uri\":\"\\u0000\",\"session_id\":\"\\u0000\"}",
        "{\"metadata\":{\"__proto__\":\"x\",\"constructor\":\"y\"},\"email\":\"p@q.r\"}",
        "{\"code\":99999999999999999999999999999999,\"new_email\":\"\\ud800\"}",
    ];
    for operation in operations(&app).await {
        for id in ["", "%00", "%2e%2e%2f", "user_x", "%F0%9F%92%A9", "'; DROP TABLE users; --", &long] {
            let id: String = id
                .bytes()
                .map(|b| if b == b' ' || b == b'\'' || b == b';' { format!("%{b:02X}") } else { char::from(b).to_string() })
                .collect();
            let path = with_id(&operation.path, &id);
            for query in [
                "",
                "?limit=-1&order=id%3B--&after=%00",
                "?limit=1e9&before=x&after=y",
                "?client_id=%00&redirect_uri=%00&session_id=%00&email=%00",
            ] {
                let answer = app.api(operation.method.clone(), &format!("{path}{query}"), Value::Null).await;
                assert!(answer.status < 500, "{} {path}{query}: {} {}", operation.method, answer.status, answer.text);
            }
        }
        for body in bodies {
            let request = axum::http::Request::builder()
                .method(operation.method.clone())
                .uri(with_id(&operation.path, "user_x"))
                .header(AUTHORIZATION, format!("Bearer {}", app.tenant.api_key))
                .header("content-type", "application/json")
                .body(body.to_owned().into())
                .expect("well formed");
            let answer = app.send(request).await;
            assert!(answer.status < 500, "{} {} {body}: {} {}", operation.method, operation.path, answer.status, answer.text);
            if answer.status >= 400 && answer.header("content-type") != Some("text/html; charset=utf-8") {
                assert!(
                    answer.body["message"].is_string() || answer.body["error"].is_string(),
                    "W02: {} {}: {}",
                    operation.method,
                    operation.path,
                    answer.text
                );
            }
        }
    }
});

both_engines!(the_statements_of_the_stores_prepare_on_this_engine, |app| async move {
    // Read from the sources, so that a statement nobody thought to list is prepared all the same.
    let mut stores = Vec::new();
    collect(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(), &mut stores);
    let mut count = 0;
    for path in stores {
        let source = std::fs::read_to_string(&path).expect("readable");
        for sql in statements(&source) {
            app.cx().db().check_sql(&sql).unwrap_or_else(|error| panic!("{}: {sql}: {error}", path.display()));
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
});

fn collect(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") && !path.ends_with("whole_api_tests.rs") {
            found.push(path);
        }
    }
}

/// String literals of `pub const X: &str = "..."` that begin a statement, with Rust's line continuations undone.
fn statements(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in source.split("pub const ").skip(1) {
        let Some((name, rest)) = part.split_once(": &str =") else { continue };
        if name.contains('\n') {
            continue;
        }
        let rest = rest.trim_start();
        let Some(literal) = rest.strip_prefix('"') else { continue };
        let Some(end) = literal.find('"') else { continue };
        let text = literal[..end].split("\\\n").map(str::trim_start).collect::<String>();
        if ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| text.starts_with(verb)) {
            found.push(text);
        }
    }
    found
}
