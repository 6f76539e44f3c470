use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use gatewright_db::{Db, DbConfig, DbError};
use serde_json::{Value, json};

use crate::running::{PATIENCE, Server, free_port, gatewright, post, request, run};

#[test]
fn dev_is_ready_with_everything_a_first_sign_in_needs() {
    let server = Server::dev(["--ephemeral"], &[]);
    assert_eq!((server.ask("/health").status, server.ask("/health/ready").status), (200, 200));
    for name in ["url", "api_key", "client_id", "cookie_password", "inbox_url"] {
        assert!(!server.fact(name).is_empty());
    }
    assert_eq!(server.fact("cookie_password").len(), 44);
    let facts = &server.facts;
    assert_eq!(facts["pid"], server.child.id());
    assert!(facts["ready_ms"].is_u64() && facts["organizations"].is_array());
    let names: Vec<&str> = facts["environments"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["development", "staging"]);
    for environment in facts["environments"].as_array().unwrap() {
        let users = server.ask_with_key("/user_management/users", environment["api_key"].as_str().unwrap());
        assert_eq!(users.status, 200, "{users:?}");
        let demo = if environment["name"] == "development" { 2 } else { 0 };
        assert_eq!(users.json()["data"].as_array().unwrap().len(), demo, "{users:?}");
    }
    // The demo user's password is a real one; the other one is in two organizations and would be asked in which.
    let user = &facts["users"][1];
    let body = serde_json::json!({"grant_type": "password", "client_id": server.fact("client_id"), "client_secret": server.fact("api_key"),
        "email": user["email"], "password": user["password"]});
    let signed_in = request(server.at, "POST", "/user_management/authenticate", &[], &body.to_string());
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    assert!(server.stop().success());
}

#[test]
fn an_ephemeral_run_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let variables = [("TMPDIR", temporary.path().to_str().unwrap())];
    let server = Server::dev(["--ephemeral"], &variables);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    assert!(server.stop().success());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_second_start_on_the_same_data_keeps_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Server::dev(["--data".as_ref(), data.as_os_str()], &[]);
    let key_set = format!("/sso/jwks/{}", first.fact("client_id"));
    // The waiting key follows a moment after readiness.
    let until = Instant::now() + PATIENCE;
    while first.ask(&key_set).json()["keys"].as_array().unwrap().len() < 2 {
        assert!(Instant::now() < until, "no waiting key is published");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (facts, keys) = (first.facts.clone(), first.ask(&key_set).json());
    assert!(first.stop().success());

    let mode = |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["master.key", "dev.json", "dev.env", "gatewright.db"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let lines = std::fs::read_to_string(data.join("dev.env")).unwrap();
    for (variable, fact) in [
        ("WORKOS_API_KEY", "api_key"),
        ("WORKOS_CLIENT_ID", "client_id"),
        ("WORKOS_COOKIE_PASSWORD", "cookie_password"),
        ("WORKOS_BASE_URL", "url"),
        ("GATEWRIGHT_URL", "url"),
    ] {
        assert!(lines.lines().any(|line| line == format!("{variable}={}", facts[fact].as_str().unwrap())), "{variable} in {lines}");
    }

    let second = Server::dev(["--data".as_ref(), data.as_os_str()], &[]);
    for name in ["api_key", "client_id", "cookie_password", "environments", "users"] {
        assert_eq!(second.facts[name], facts[name], "{name}");
    }
    assert_eq!(second.ask(&key_set).json(), keys);
    assert_eq!(second.ask_with_key("/user_management/users", facts["api_key"].as_str().unwrap()).status, 200);
}

#[test]
fn the_app_gets_its_settings_and_its_exit_status_comes_through() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!("env > {}; exit 7", seen.display());
    let said = run(&mut gatewright(["dev", "--ephemeral", "--port", "0", "--json", "--log", "error", "--", "sh", "-c", &script]));
    assert_eq!(said.status, 7, "{said:?}");
    let facts: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    let port = facts["url"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    for (name, value) in [
        ("WORKOS_BASE_URL", facts["url"].as_str().unwrap()),
        ("WORKOS_API_KEY", facts["api_key"].as_str().unwrap()),
        ("WORKOS_CLIENT_ID", facts["client_id"].as_str().unwrap()),
        ("WORKOS_COOKIE_PASSWORD", facts["cookie_password"].as_str().unwrap()),
        ("GATEWRIGHT_URL", facts["url"].as_str().unwrap()),
        ("WORKOS_API_HOSTNAME", "localhost"),
        ("WORKOS_API_PORT", &port),
        ("WORKOS_API_HTTPS", "false"),
    ] {
        assert!(seen.lines().any(|line| line == format!("{name}={value}")), "{name}={value} in {seen}");
    }
}

#[test]
fn stopping_the_server_stops_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let ended = folder.path().join("ended");
    let script = format!(
        "trap 'echo ended > {}; exit 0' TERM; echo > {}; while :; do sleep 0.05; done",
        ended.display(),
        folder.path().join("started").display()
    );
    let mut server = Server::dev(["--ephemeral", "--", "sh", "-c", &script], &[]);
    while !folder.path().join("started").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(std::fs::read_to_string(ended).unwrap(), "ended\n");
}

#[test]
fn an_app_that_does_not_exist_is_named() {
    let said = run(&mut gatewright(["dev", "--ephemeral", "--port", "0", "--json", "--log", "error", "--", "no-such-app"]));
    assert!(said.refusal(1).starts_with("no-such-app cannot be started: no such file"));
}

#[test]
fn two_servers_do_not_share_a_port() {
    let server = Server::dev(["--ephemeral"], &[]);
    let port = server.at.port().to_string();
    let line = run(&mut gatewright(["dev", "--ephemeral", "--port", &port])).refusal(1);
    assert!(line.starts_with(&format!("--port: {port} cannot be used: address already in use")) && line.contains("--port"), "{line}");
}

#[test]
fn mails_are_shown_to_this_machine_by_name_only() {
    let server = Server::dev(["--ephemeral"], &[]);
    let key = format!("Bearer {}", server.fact("api_key"));
    let asked = request(server.at, "POST", "/user_management/magic_auth", &[("authorization", &key)], r#"{"email":"alice@example.test"}"#);
    assert!((200..300).contains(&asked.status), "{asked:?}");
    let code = asked.json()["code"].as_str().unwrap().to_owned();

    let mails = server.ask("/dev/inbox.json");
    assert_eq!(mails.status, 200, "{mails:?}");
    let mail = &mails.json()["data"][0];
    assert_eq!((mail["to"].as_str(), mail["code"].as_str()), (Some("alice@example.test"), Some(code.as_str())));
    let page = server.ask("/dev/inbox");
    assert!(page.status == 200 && page.body.contains("alice@example.test"), "{page:?}");
    let letter = server.ask(&format!("/dev/inbox/{}/html", mail["id"].as_str().unwrap()));
    assert!(letter.head.contains("sandbox") && letter.body.contains(&code[..3]), "{letter:?}");
    assert_eq!(server.ask("/dev").status, 200);

    for path in ["/dev", "/dev/inbox", "/dev/inbox.json"] {
        assert_eq!(request(server.at, "GET", path, &[("host", "evil.example")], "").status, 404, "{path}");
        assert_eq!(request(server.at, "GET", path, &[("x-forwarded-for", "192.0.2.1")], "").status, 404, "{path}");
    }
    let foreign = request(server.at, "POST", "/dev/inbox/delete", &[("origin", "https://evil.example")], "");
    assert_eq!((foreign.status, server.ask("/dev/inbox.json").json()["data"].as_array().unwrap().len()), (403, 1));
    assert_eq!(request(server.at, "POST", "/dev/inbox/delete", &[("origin", server.fact("url"))], "").status, 303);
    assert!(server.ask("/dev/inbox.json").json()["data"].as_array().unwrap().is_empty());
}

#[test]
fn seeds_are_planted_once_and_flags_count_for_one_start() {
    let folder = tempfile::tempdir().unwrap();
    let (data, seed) = (folder.path().join("data"), folder.path().join("seed.toml"));
    std::fs::write(&seed, "redirect_uris = [\"https://a.example/callback\"]\n[[users]]\nemail = \"carol@example.test\"\npassword = \"violet harbour 19\"\nfirst_name = \"Carol\"").unwrap();
    let flags = ["--data", data.to_str().unwrap(), "--seed", seed.to_str().unwrap(), "--access-token-seconds", "2"];
    for _ in 0..2 {
        let server = Server::dev(flags, &[]);
        let users = server.ask_with_key("/user_management/users", server.fact("api_key")).json();
        let emails: Vec<&str> = users["data"].as_array().unwrap().iter().filter_map(|user| user["email"].as_str()).collect();
        assert_eq!(emails, ["carol@example.test"]);
        assert_eq!(server.facts["users"][0]["password"], "violet harbour 19");
        assert!(server.stop().success());
    }
    let settings = |key: &str| {
        let out = run(&mut gatewright(["environments", "set", "--environment", "development", "--data", data.to_str().unwrap()])).good();
        out.lines().find(|line| line.starts_with(key)).map(str::to_owned).unwrap()
    };
    assert_eq!(settings("access_token_seconds"), "access_token_seconds = 2");
    let out = run(&mut gatewright(["environments", "redirect-uris", "list", "-e", "development", "--data", data.to_str().unwrap()])).good();
    assert_eq!(out, "https://a.example/callback  default\n");
    assert!(Server::dev(&flags[..2], &[]).stop().success());
    assert_eq!(settings("access_token_seconds"), "access_token_seconds = 300");
}

#[test]
fn an_organizations_policy_is_shown_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, seed) = (folder.path().join("data"), folder.path().join("seed.toml"));
    std::fs::write(&seed, "[[organizations]]\nname = \"Acme\"\nexternal_id = \"acme\"").unwrap();
    let server = Server::dev(["--data", data.to_str().unwrap(), "--seed", seed.to_str().unwrap()], &[]);
    let policy = |organization: &str, changes: &[&str]| {
        let mut command = gatewright(["organizations", "policy", "-e", "development", "--data", data.to_str().unwrap(), organization]);
        run(command.args(changes))
    };
    let shown = policy("acme", &[]).good();
    assert!(shown.contains("mfa = none (environment: optional)\n") && shown.contains("password = none (environment: true)\n"), "{shown}");
    let changed = policy("acme", &["mfa=required", "session_seconds=28800"]).good();
    assert!(changed.contains("mfa = required\n") && changed.contains("session_seconds = 28800\n"), "{changed}");
    assert_eq!(policy("acme", &[]).good(), changed);
    assert_eq!(policy("acme", &["mfa=none", "session_seconds=none"]).good(), shown);
    assert!(policy("acme", &["mfa=maybe"]).refusal(2).contains("write off, optional or required"));
    assert!(policy("acme", &["session_seconds=60"]).refusal(1).contains("access_token_seconds"));
    assert!(policy("beta", &[]).refusal(1).contains("there is no organization"));
    assert!(server.stop().success());
}

#[test]
fn doctor_asks_the_name_servers_once_a_domain_waits_for_its_proof() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::dev(["--data".as_ref(), data.as_os_str()], &[]);
    let doctor = || run(gatewright(["doctor", "--data"]).arg(&data)).good();
    post(&server, "/organizations", &json!({"name": "A", "domain_data": [{"domain": "vouched.test", "state": "verified"}]}));
    let told = doctor();
    assert!(!told.contains("dns"), "{told}");
    post(&server, "/organizations", &json!({"name": "B", "domain_data": [{"domain": "waiting.test", "state": "pending"}]}));
    let told = doctor();
    // Whether DNS answers here is not ours to say.
    let line = told.lines().find(|line| line.starts_with("ok    dns") || line.starts_with("warn  dns")).unwrap_or_default();
    assert!(line.contains("waiting.test") && line.contains("development"), "{told}");
    assert!(server.stop().success());
}

#[test]
fn metrics_have_a_listener_of_their_own() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let server = Server::dev(["--ephemeral"], &[("GATEWRIGHT_METRICS_LISTEN", &metrics)]);
    assert_eq!(server.ask("/metrics").status, 404);
    let at = metrics.parse().unwrap();
    let told = request(at, "GET", "/metrics", &[], "");
    assert!(told.status == 200 && told.body.contains("gatewright_requests_total"), "{told:?}");
    assert_eq!(request(at, "GET", "/health", &[], "").status, 404);
}

#[test]
fn both_loopback_addresses_answer() {
    let server = Server::dev(["--ephemeral"], &[]);
    if let Ok(stream) = std::net::TcpStream::connect(("::1", server.at.port())) {
        drop(stream);
        let at = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, server.at.port()));
        assert_eq!(request(at, "GET", "/dev/inbox.json", &[], "").status, 200);
    }
}

#[test]
fn an_ephemeral_run_on_postgresql_works_in_a_schema_of_its_own_and_drops_it() {
    let url = std::env::var("GATEWRIGHT_TEST_PG").expect("set GATEWRIGHT_TEST_PG, or run cargo xtask test");
    let schemas = || {
        let db = Db::open(&DbConfig::new(&url)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'gatewright_dev_%' ORDER BY 1";
        let rows = runtime.block_on(
            db.read(move |tx| tx.list(sql, &[])?.into_iter().map(|mut row| row.text()).collect::<Result<Vec<String>, DbError>>()),
        );
        db.close();
        rows.unwrap()
    };
    let before = schemas();
    let servers = [Server::dev(["--ephemeral", "--database-url", &url], &[]), Server::dev(["--ephemeral", "--database-url", &url], &[])];
    assert_eq!(schemas().len(), before.len() + 2);
    for server in servers {
        let users = server.ask_with_key("/user_management/users", server.fact("api_key"));
        assert_eq!(users.json()["data"].as_array().unwrap().len(), 2, "{users:?}");
        assert!(server.stop().success());
    }
    assert_eq!(schemas(), before);
}
