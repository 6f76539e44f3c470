use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gatewright_db::{Db, DbConfig, DbError};

use crate::running::{Server, answer, free_port, gatewright, head, run};

/// A folder with a configuration, a migrated database and an environment.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
    master_key: String,
    api_key: String,
    client_id: String,
}

impl Site {
    fn bare() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let master_key = run(&mut gatewright(["master-key", "new"])).good().trim().to_owned();
        let file = format!(
            "public_url = \"https://auth.example.com\"\nlisten = \"127.0.0.1:{port}\"\nmaster_key_file = \"master.key\"\n[database]\nurl = \"sqlite:data.db\"\n[mail]\nsmtp_url = \"smtp://127.0.0.1:1\"\nfrom = \"Expenses <no-reply@example.com>\"\n"
        );
        std::fs::write(folder.path().join("gatewright.toml"), file).unwrap();
        std::fs::write(folder.path().join("master.key"), &master_key).unwrap();
        Self { folder, port, master_key, api_key: String::new(), client_id: String::new() }
    }

    fn new() -> Self {
        let site = Self::bare();
        assert!(run(&mut site.command(&["migrate"])).good().starts_with("applied 0001_init"));
        let created = run(&mut site.command(&["environments", "create", "production"])).good();
        let value = |label: &str| created.lines().find_map(|line| line.strip_prefix(label)).map(|rest| rest.trim().to_owned()).unwrap();
        Self { api_key: value("api_key"), client_id: value("client_id"), ..site }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gatewright(arguments);
        command.current_dir(self.path());
        command
    }

    fn serve(&self) -> Server {
        Server::serve(self.path(), self.port, &[])
    }
}

#[test]
fn an_impersonation_that_cannot_be_is_refused_in_one_line() {
    let site = Site::new();
    let start = ["impersonations", "start", "user_1", "--impersonator", "sam@example.com", "--reason", "Ticket 4711"];
    assert!(run(&mut site.command(&start)).refusal(1).contains("There is no such user."));
    let nameless = run(&mut site.command(&["impersonations", "start", "user_1", "--impersonator", "sam", "--reason", "x"])).refusal(1);
    assert!(nameless.contains("impersonator_email: invalid email."), "{nameless}");
    assert!(run(&mut site.command(&["impersonations", "end", "impersonation_1"])).refusal(1).contains("has this id"));
}

#[test]
fn the_way_to_production_is_told_step_by_step() {
    let site = Site::bare();
    assert!(run(&mut site.command(&["serve"])).err.contains("run gatewright migrate"));
    let applied = run(&mut site.command(&["migrate"])).good();
    assert!(applied.starts_with("applied 0001_init, ") && applied.lines().count() == 1, "{applied}");
    assert_eq!(run(&mut site.command(&["migrate"])).good(), "the database is at this version already\n");
    assert!(run(&mut site.command(&["serve"])).refusal(1).contains("gatewright environments create"));
    let created = run(&mut site.command(&["environments", "create", "production"])).good();
    assert!(created.contains("sk_live_") && created.contains("shown this once"), "{created}");
    let again = run(&mut site.command(&["environments", "create", "production"])).refusal(1);
    assert!(again.contains("\"production\"") && again.contains("another name"), "{again}");
    assert!(site.serve().stop().success());
}

#[test]
fn an_environment_is_kept_at_the_command_line_while_it_is_served() {
    let site = Site::new();
    let server = site.serve();
    assert_eq!(server.ask("/health").json()["status"], "ok");
    assert_eq!(server.ask_with_key("/user_management/users", &site.api_key).status, 200);
    assert_eq!(server.ask("/dev/inbox.json").status, 404);

    assert_eq!(run(&mut site.command(&["environments", "roles", "list"])).good(), "admin  Admin\nmember  Member  default\n");
    assert_eq!(run(&mut site.command(&["environments", "roles", "order", "member"])).good(), "member  Member  default\nadmin  Admin\n");
    assert_eq!(run(&mut site.command(&["environments", "roles", "default", "admin"])).good(), "member  Member\nadmin  Admin  default\n");
    let refused = run(&mut site.command(&["environments", "roles", "order", "owner"])).refusal(1);
    assert!(refused.contains("\"owner\"") && refused.contains("environments roles list"), "{refused}");

    let created = run(&mut site.command(&["environments", "api-keys", "create", "second"])).good();
    let value = |label: &str| created.lines().find_map(|line| line.strip_prefix(label)).unwrap().trim().to_owned();
    assert_eq!(server.ask_with_key("/user_management/users", &value("api_key")).status, 200);
    run(&mut site.command(&["environments", "api-keys", "revoke", &value("id")])).good();
    assert_eq!(server.ask_with_key("/user_management/users", &value("api_key")).status, 401);
    run(&mut site.command(&["environments", "api-keys", "revoke", &value("id")])).refusal(1);

    let key_set = format!("/sso/jwks/{}", site.client_id);
    let kids = |server: &Server| server.ask(&key_set).json()["keys"].as_array().unwrap().len();
    assert_eq!(kids(&server), 2);
    assert!(run(&mut site.command(&["keys", "rotate"])).refusal(1).contains("rotate again after"));
    run(&mut site.command(&["environments", "set", "key_publish_seconds=0"])).good();
    run(&mut site.command(&["keys", "rotate"])).good();
    assert_eq!(kids(&server), 3);
    let listed = run(&mut site.command(&["keys", "list"])).good();
    let states: Vec<&str> =
        listed.lines().filter_map(|line| ["active", "next", "retiring"].into_iter().find(|state| line.contains(state))).collect();
    assert_eq!(states.len(), 3, "{listed}");

    run(&mut site.command(&["environments", "redirect-uris", "add", "https://a.example/callback"])).good();
    run(&mut site.command(&["environments", "redirect-uris", "add", "https://a.example/callback"])).refusal(1);
    run(&mut site.command(&["environments", "redirect-uris", "add", "https://b.example/callback", "--default"])).good();
    assert_eq!(
        run(&mut site.command(&["environments", "redirect-uris", "list"])).good(),
        "https://a.example/callback\nhttps://b.example/callback  default\n"
    );
    run(&mut site.command(&["environments", "redirect-uris", "remove", "https://a.example/callback"])).good();
    assert_eq!(run(&mut site.command(&["environments", "redirect-uris", "list"])).good(), "https://b.example/callback  default\n");
    run(&mut site.command(&["environments", "set", "acess_token_seconds=5"])).refusal(2);
    assert!(server.stop().success());
}

#[test]
fn another_master_key_is_refused() {
    let site = Site::new();
    let other = run(&mut gatewright(["master-key", "new"])).good();
    assert_ne!(other.trim(), site.master_key);
    std::fs::write(site.path().join("master.key"), other).unwrap();
    for arguments in [&["serve", "--log", "error"][..], &["keys", "list"], &["environments", "create", "x"]] {
        let line = run(&mut site.command(arguments)).refusal(1);
        assert!(line.starts_with("master_key: is not the key this database was sealed with"), "{line}");
    }
}

#[test]
fn what_dev_made_is_refused_by_serve() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dev = Server::dev(["--data".as_ref(), data.as_os_str()], &[]);
    let key = dev.fact("api_key").to_owned();
    assert!(key.starts_with("sk_test_"));
    assert_eq!(dev.ask_with_key("/user_management/users", &key).status, 200);
    assert!(dev.stop().success());

    let (database, port) = (format!("sqlite:{}", data.join("gatewright.db").display()), free_port());
    let (master, listen) = (data.join("master.key"), format!("127.0.0.1:{port}"));
    let variables = [
        ("GATEWRIGHT_PUBLIC_URL", "https://auth.example.com"),
        ("GATEWRIGHT_LISTEN", listen.as_str()),
        ("GATEWRIGHT_DATABASE_URL", database.as_str()),
        ("GATEWRIGHT_MASTER_KEY_FILE", master.to_str().unwrap()),
        ("GATEWRIGHT_MAIL_SMTP_URL", "smtp://127.0.0.1:1"),
    ];
    let line = run(gatewright(["serve", "--log", "error"]).envs(variables).current_dir(folder.path())).refusal(1);
    assert!(line.contains("made by gatewright dev"), "{line}");

    // Even in a database that lost its mark the keys of dev open nothing.
    let db = Db::open(&DbConfig::new(&database)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let removed: Result<u64, DbError> = runtime.block_on(db.write(|tx| tx.execute("DELETE FROM meta WHERE key = 'dev'", &[])));
    assert_eq!(removed, Ok(1));
    db.close();
    let server = Server::serve(folder.path(), port, &variables);
    assert_eq!(server.ask_with_key("/user_management/users", &key).status, 401);
    drop(server);

    // And dev does not open a database of serve.
    let line = run(&mut gatewright(["dev", "--ephemeral", "--port", "0", "--log", "error", "--database-url", &database])).refusal(1);
    assert!(line.contains("belongs to gatewright serve"), "{line}");
}

#[test]
fn a_taken_port_is_one_line() {
    let site = Site::new();
    let server = site.serve();
    let line = run(&mut site.command(&["serve", "--log", "error"])).refusal(1);
    assert!(line.starts_with(&format!("listen: 127.0.0.1:{} cannot be used: address already in use", site.port)), "{line}");
    assert!(server.stop().success());
}

#[test]
fn sigterm_finishes_the_request_that_has_begun() {
    let site = Site::new();
    let mut server = site.serve();
    let body = r#"{"email":"carol@example.test"}"#;
    let (first, rest) = body.split_at(8);
    let key = format!("Bearer {}", site.api_key);
    let mut stream = TcpStream::connect(server.at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers = [("authorization", key.as_str()), ("expect", "100-continue")];
    stream.write_all(head("POST", "/user_management/users", &headers, body.len()).as_bytes()).unwrap();
    // Said when the server begins to read the body, so the request has begun for certain.
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(first.as_bytes()).unwrap();
    server.signal("TERM");
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(server.at).is_ok() {
        assert!(Instant::now() < deadline, "new connections are taken while stopping");
        std::thread::sleep(Duration::from_millis(20));
    }
    stream.write_all(rest.as_bytes()).unwrap();
    let answered = answer(stream);
    assert_eq!(answered.status, 201, "{answered:?}");
    assert!(server.wait().success());

    let server = site.serve();
    let users = server.ask_with_key("/user_management/users", &site.api_key).json();
    assert_eq!(users["data"][0]["email"], "carol@example.test");
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_do() {
    let site = Site::new();
    let said = run(&mut site.command(&["doctor"]));
    assert_eq!(said.status, 0, "{said:?}");
    for expected in [
        "ok    clock",
        "ok    migrations",
        "ok    master key           is the one",
        "mail.smtp_url = ***",
        "warn  mail",
        "has 1 live API key",
        "redirect-uris add",
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    assert!(
        !said.out.contains(&site.master_key)
            && said.out.lines().all(|line| ["ok ", "warn ", "bad "].iter().any(|verdict| line.starts_with(verdict))),
        "{}",
        said.out
    );

    std::fs::write(site.path().join("master.key"), "ab".repeat(32)).unwrap();
    let said = run(&mut site.command(&["doctor"]));
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.out.lines().any(|line| line.starts_with("bad   master key") && line.contains("; ")), "{}", said.out);

    let bare = Site::bare();
    let said = run(&mut bare.command(&["doctor"]));
    assert!(said.status == 1 && said.out.contains("run gatewright migrate"), "{said:?}");
    assert!(!bare.path().join("data.db").exists(), "doctor made a database");
}

#[test]
fn the_api_document_is_json() {
    let text = run(&mut gatewright(["openapi"])).good();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        document["paths"]["/user_management/users"].is_object()
            && document["openapi"].as_str().is_some_and(|version| version.starts_with("3."))
    );
}
