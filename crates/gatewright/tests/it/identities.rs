use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::running::{PATIENCE, Server, gatewright, post, run};

fn identities(data: &Path, arguments: &[&str]) -> String {
    run(gatewright(["identities", "--data"]).arg(data).args(arguments)).good()
}

#[test]
fn identities_shows_every_key_and_client_and_marks_what_nobody_uses() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::dev(["--data".as_ref(), data.as_os_str()], &[]);
    let organization = post(&server, "/organizations", &json!({"name": "Acme"}))["id"].as_str().unwrap().to_owned();
    let key = post(&server, &format!("/organizations/{organization}/api_keys"), &json!({"name": "CI"}));
    post(&server, "/api_keys/validations", &json!({"value": key["value"]}));

    let began = Instant::now();
    let rows = loop {
        let rows: Value = serde_json::from_str(&identities(&data, &["--json"])).unwrap();
        let rows = rows.as_array().unwrap().clone();
        if rows.iter().any(|row| row["id"] == key["id"] && row["last_used_at"].is_string()) {
            break rows;
        }
        assert!(began.elapsed() < PATIENCE, "the use of the key is not shown: {rows:?}");
    };
    let mut kinds: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["environment"]["name"].as_str().unwrap(), row["kind"].as_str().unwrap())).collect();
    // The two environments are made side by side.
    kinds.sort_unstable();
    let (development, staging) = ("development", "staging");
    assert_eq!(
        kinds,
        [
            (development, "api_key"),
            (development, "client"),
            (development, "environment_key"),
            (staging, "client"),
            (staging, "environment_key")
        ]
    );
    assert!(rows.iter().any(|row| row["id"] == key["id"] && row["owner"]["name"] == "Acme"), "{rows:?}");
    assert!(rows.iter().all(|row| row["findings"] == json!([])), "{rows:?}");

    let table = identities(&data, &["--environment", "development"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("ENVIRONMENT "), "{table}");
    for words in [["api_key", "CI", "organization Acme", "never"], ["environment_key", "first key", "environment development", "live"]] {
        let shown = table.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(shown, "{words:?} in\n{table}");
    }
    assert!(!table.contains(key["value"].as_str().unwrap()) && !table.contains(server.fact("api_key")), "{table}");
    assert_eq!(identities(&data, &["--marked", "--json"]), "[]\n");
    assert_eq!(identities(&data, &["--marked"]).lines().count(), 2);
    run(gatewright(["identities", "--idle-days", "0", "--data"]).arg(&data)).refusal(2);
    run(gatewright(["identities", "--environment", "nowhere", "--data"]).arg(&data)).refusal(1);
    assert!(server.stop().success());
}
