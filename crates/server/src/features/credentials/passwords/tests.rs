use axum::http::Method;
use gatewright_base::Secret;
use serde_json::{Value, json};

use super::tries::DEVICE_TRIES;
use super::{Asker, Busy, MAX_TRIES, Subject, hash, reserve_try, store, take_place, verify};
use crate::both_engines;
use crate::features::records::environments::Mfa;
use crate::features::records::users::UserId;
use crate::testkit::{On, TestApp};

const GOOD: &str = "correct horse battery staple";
const BCRYPT: &str = "$2b$04$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm";

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

async fn stored(app: &TestApp, user: &Value) -> Option<String> {
    let (environment, id) = (app.tenant.environment.clone(), UserId::from_text(user["id"].as_str().unwrap()));
    app.cx().db().read(move |tx| store::find(tx, &environment, &id)).await.unwrap()
}

both_engines!(row_43_bad_passwords_never_become_one, |app| async {
    let email = "marie.curie@radium.example";
    let long = "x".repeat(1_000_000);
    for (password, code) in [
        ("fourteen chars", "password_too_short"),
        (long.as_str(), "password_too_long"),
        (email, "password_contains_email"),
        ("123412341234123412341234", "password_too_common"),
        ("１２３４１２３４１２３４１２３４", "password_too_common"),
        ("Expenses-2026-expenses", "password_is_predictable"),
        ("tab\tin the middle", "password_invalid_characters"),
    ] {
        let answer = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": password})).await;
        assert_eq!((answer.status, answer.code()), (400, "password_strength_error"), "{code}: {}", answer.text);
        assert_eq!(answer.body["errors"][0]["code"], code, "{}", answer.text);
    }
    let nul = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": "nul\0in the middle"})).await;
    assert!((400..500).contains(&nul.status), "{}", nul.text);
    let none = app.api(Method::GET, &format!("/user_management/users?email={email}"), Value::Null).await;
    assert_eq!(none.body["data"], json!([]));
});

both_engines!(row_43_every_spelling_of_one_password_signs_in_and_a_giant_one_does_not, |app| async {
    app.user("a@example.com", "Cafe\u{301} \u{fb01}ve o'clock").await;
    let sign_in = |password: String| app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": password}));
    assert_eq!(sign_in("Caf\u{e9} five o'clock".into()).await.status, 200);
    let giant = sign_in("x".repeat(900_000)).await;
    assert_eq!((giant.status, giant.code()), (400, "invalid_credentials"), "{}", giant.text);
});

both_engines!(an_imported_hash_signs_in_and_is_made_ours_by_it, |app| async {
    let made = app
        .api(
            Method::POST,
            "/user_management/users",
            json!({"email": "a@example.com", "email_verified": true, "password_hash": BCRYPT, "password_hash_type": "bcrypt"}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(stored(&app, &made.body).await.as_deref(), Some(BCRYPT));
    app.sign_in("a@example.com", GOOD).await;
    let ours = stored(&app, &made.body).await.unwrap();
    assert!(ours.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{ours}");
    app.sign_in("a@example.com", GOOD).await;
    assert_eq!(stored(&app, &made.body).await.as_deref(), Some(ours.as_str()));
});

both_engines!(a_hostile_hash_is_refused_at_import, |app| async {
    for (kind, text) in [
        ("scrypt", "$scrypt$ln=40,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$IZMORLo+NKM9sf3dDH1ZCk4hbDj0SQeYfTHU51eMJgU"),
        ("bcrypt", "$2b$31$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm"),
        ("argon2", BCRYPT),
        ("bcrypt", ""),
    ] {
        let body = json!({"email": "a@example.com", "password_hash": text, "password_hash_type": kind});
        let answer = app.api(Method::POST, "/user_management/users", body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_password_hash"), "{text}: {}", answer.text);
    }
});

both_engines!(a_better_hash_never_undoes_a_changed_password, |app| async {
    let user = app.user("a@example.com", GOOD).await;
    let old = stored(&app, &user).await.unwrap();
    let (environment, other) = (app.tenant.environment.clone(), app.other.environment.clone());
    let (id, now) = (UserId::from_text(user["id"].as_str().unwrap()), app.now());
    app.cx()
        .db()
        .write(move |tx| {
            assert!(!store::replace_if_same(tx, &other, &id, &old, "a stranger's", now)?);
            assert!(!store::delete(tx, &other, &id)?);
            store::upsert(tx, &other, &id, "a stranger's", now)?;
            assert_eq!(store::find(tx, &environment, &id)?.as_deref(), Some(old.as_str()));
            store::upsert(tx, &environment, &id, "changed", now)?;
            assert!(!store::replace_if_same(tx, &environment, &id, &old, "rehash of the old", now)?);
            assert_eq!(store::find(tx, &environment, &id)?.as_deref(), Some("changed"));
            assert!(store::replace_if_same(tx, &environment, &id, "changed", "better", now)?);
            assert!(store::delete(tx, &environment, &id)?);
            assert!(!store::delete(tx, &environment, &id)?);
            Ok::<_, gatewright_db::DbError>(())
        })
        .await
        .unwrap();
});

both_engines!(the_shortest_password_is_fifteen_characters_or_eight_beside_a_second_factor_or_what_the_environment_says, |app| async {
    let make = |email: &'static str, password: &'static str| {
        app.api(Method::POST, "/user_management/users", json!({"email": email, "password": password, "email_verified": true}))
    };
    assert_eq!(make("a@example.com", "otter gown haz").await.status, 400);
    assert_eq!(make("a@example.com", "otter gown haze").await.status, 201);
    app.settings(|settings| settings.mfa = Mfa::Required).await;
    assert_eq!(make("b@example.com", "otter g").await.status, 400);
    assert_eq!(make("b@example.com", "otter go").await.status, 201);
    app.settings(|settings| (settings.mfa, settings.password_minimum) = (Mfa::Optional, Some(20))).await;
    assert_eq!(make("c@example.com", "otter gown haze wend").await.status, 201);
    assert_eq!(make("d@example.com", "otter gown haze wen").await.status, 400);
    // Nobody is shut out by a longer minimum, and long ones are taken (NIST SP 800-63B-4 §3.1.1.2).
    app.sign_in("a@example.com", "otter gown haze").await;
    let long = "every word of this sentence is a part of the password that is longer than sixty-four characters";
    assert_eq!(make("e@example.com", long).await.status, 201);
    app.sign_in("e@example.com", long).await;
});

fn try_password(password: &str, address: &str, device: Option<&str>) -> Value {
    json!({"grant_type": "password", "email": "a@example.com", "password": password, "ip_address": address, "device_id": device})
}

both_engines!(row_42_after_a_hundred_wrong_passwords_in_a_row_the_right_one_is_none_until_the_owner_has_a_mail, |app| async {
    app.user("a@example.com", GOOD).await;
    let ask = |password: &str| app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": password}));
    let nobody = || app.authenticate(json!({"grant_type": "password", "email": "b@example.com", "password": "a guess"}));
    // A right one in between begins anew.
    for _ in 0..20 {
        assert_eq!(ask("a guess").await.status, 400);
    }
    assert_eq!(ask(GOOD).await.status, 200);
    let mut wrong = ask("a guess").await;
    for _ in 1..MAX_TRIES {
        wrong = ask("a guess").await;
        nobody().await;
    }
    for unlucky in [ask(GOOD).await, ask("a guess").await, nobody().await] {
        assert_eq!((unlucky.status, &unlucky.body), (wrong.status, &wrong.body), "the same words for all");
    }
    let last = app.events().await.into_iter().rev().find(|(_, data)| data["email"] == "a@example.com" && data["error"] != Value::Null);
    assert_eq!(last.unwrap().1["error"]["code"], "too_many_failed_attempts", "the operator is told");
    // A day later it is no better.
    app.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!(ask(GOOD).await.status, 400);
    let code = app.api(Method::POST, "/user_management/magic_auth", json!({"email": "a@example.com"})).await.body["code"].clone();
    let proof = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "email": "a@example.com", "code": code});
    assert_eq!(app.authenticate(proof).await.status, 200);
    assert_eq!(ask(GOOD).await.status, 200, "the owner has proved the address");
    // And so does a new password by a link.
    for _ in 0..=MAX_TRIES {
        ask("a guess").await;
    }
    assert_eq!(ask(GOOD).await.status, 400);
    let reset = app.api(Method::POST, "/user_management/password_reset", json!({"email": "a@example.com"})).await.body;
    let chosen = json!({"token": reset["password_reset_token"], "new_password": "another horse, another battery"});
    assert_eq!(app.api(Method::POST, "/user_management/password_reset/confirm", chosen).await.status, 200);
    assert_eq!(ask("another horse, another battery").await.status, 200);
});

both_engines!(row_42_tries_at_once_are_counted_each, |app| async {
    let user = app.user("a@example.com", GOOD).await;
    let id = UserId::from_text(user["id"].as_str().unwrap());
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..130 {
        let (db, environment, subject, now) = (app.cx().db().clone(), app.tenant.environment.clone(), Subject::User(id.clone()), app.now());
        racing.spawn(async move { db.write(move |tx| reserve_try(tx, &environment, &subject, None, now)).await.unwrap().is_some() });
    }
    let taken = racing.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, MAX_TRIES as usize);
    // Another environment's is another account's.
    let (other, subject, now) = (app.other.environment.clone(), Subject::User(id), app.now());
    assert!(app.cx().db().write(move |tx| reserve_try(tx, &other, &subject, None, now)).await.unwrap().is_some());
});

both_engines!(row_42_the_owners_device_has_tries_of_its_own_and_a_strangers_name_for_one_has_not, |app| async {
    app.user("a@example.com", GOOD).await;
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", Some("phone"))).await.status, 200);
    for number in 0..=MAX_TRIES {
        let answer = app.authenticate(try_password("a guess", &format!("198.51.100.{}", number % 250), Some("a tablet"))).await;
        assert_eq!(answer.status, 400);
    }
    assert_eq!(app.authenticate(try_password(GOOD, "198.51.100.1", Some("a tablet"))).await.status, 400);
    assert_eq!(app.authenticate(try_password(GOOD, "198.51.100.1", None)).await.status, 400);
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", Some("phone"))).await.status, 200, "the owner gets in");
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", None)).await.status, 400, "and opens it to nobody else");
    // Whoever has the phone has ten tries.
    for _ in 0..DEVICE_TRIES {
        assert_eq!(app.authenticate(try_password("a guess", "203.0.113.9", Some("phone"))).await.status, 400);
    }
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", Some("phone"))).await.status, 400);
});

fn list_of(passwords: &[&str]) -> tempfile::NamedTempFile {
    use std::io::Write;
    let mut lines: Vec<String> = passwords.iter().map(|password| format!("{}:12", digest(password))).collect();
    lines.sort();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.join("\r\n").as_bytes()).unwrap();
    file
}

fn digest(password: &str) -> String {
    use sha1::Digest;
    sha1::Sha1::digest(password.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02X}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_43_a_password_of_the_operators_list_of_breaches_becomes_nobodys() {
    let file = list_of(&["summer holiday at the lake", "tinker tailor soldier", "Caf\u{e9} au lait on Sundays"]);
    let path = file.path().to_owned();
    let app = TestApp::start_with(On::Sqlite, |config| config.passwords.breached_file = Some(path)).await;
    let make = |password: &str| {
        let body = json!({"email": "a@example.com", "password": password, "email_verified": true});
        app.api(Method::POST, "/user_management/users", body)
    };
    for known in ["summer holiday at the lake", "Caf\u{e9} au lait on Sundays", "Cafe\u{301} au lait on Sundays"] {
        let refused = make(known).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (400, &json!("password_breached")), "{known}: {}", refused.text);
    }
    assert_eq!(make("winter holiday at the lake").await.status, 201);
    app.sign_in("a@example.com", "winter holiday at the lake").await;
}

#[tokio::test]
async fn a_list_of_breaches_that_cannot_be_read_stops_the_start() {
    let started = |path: std::path::PathBuf| {
        let config = crate::Config { public_url: "http://localhost:4700".to_owned(), dev: true, ..crate::Config::default() };
        let passwords = crate::platform::config::Passwords { breached_file: Some(path), ..config.passwords.clone() };
        let (config, folder) = (crate::Config { passwords, ..config }, tempfile::tempdir().unwrap());
        let url = format!("sqlite:{}", folder.path().join("a.db").display());
        let db = gatewright_db::Db::open(&gatewright_db::DbConfig { url, connections: 1, schema: None }).unwrap();
        let parts = crate::Parts {
            db: db.clone(),
            clock: std::sync::Arc::new(gatewright_base::ManualClock::at(crate::testkit::START)),
            rng: std::sync::Arc::new(gatewright_jose::SystemRng),
            master_key: gatewright_jose::MasterKey::generate(&gatewright_jose::SystemRng),
            dns: std::sync::Arc::new(crate::testkit::TestDns::default()),
            network: std::sync::Arc::new(crate::testkit::TestNetwork::default()),
        };
        let refused = crate::build(config, parts).err().map(|error| error.to_string());
        db.close();
        refused
    };
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "password\n123456\n").unwrap();
    for (path, part) in [(std::path::PathBuf::from("/nowhere/breached.txt"), "No such file"), (text.path().to_owned(), "SHA1:COUNT")] {
        let refused = started(path).expect("refused");
        assert!(refused.starts_with("passwords.breached_file: ") && refused.contains(part) && !refused.contains('\n'), "{refused}");
    }
    assert_eq!(started(list_of(&["tinker tailor soldier"]).path().to_owned()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_of_breaches_is_told_five_digits_and_nobody_waits_for_one_that_is_down() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, heard) = (std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new())), 5);
    let asking = asked.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            asking.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let body =
                format!("{}:7\r\n{}:0\r\n", &digest("tinker tailor soldier")[heard..], &digest("winter holiday at the lake")[heard..]);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let url = format!("http://127.0.0.1:{port}/range/");
    let app = TestApp::start_with(On::Sqlite, |config| config.passwords.breached_url = Some(url)).await;
    let make = |email: &str, password: &str| app.api(Method::POST, "/user_management/users", json!({"email": email, "password": password}));
    assert_eq!(make("a@example.com", "tinker tailor soldier").await.body["errors"][0]["code"], "password_breached");
    assert_eq!(make("a@example.com", "winter holiday at the lake").await.status, 201, "padding");
    let told = asked.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    for (request, password) in told.iter().zip(["tinker tailor soldier", "winter holiday at the lake"]) {
        let digest = digest(password);
        assert!(request.starts_with(&format!("GET /range/{} HTTP/1.1\r\n", &digest[..5])), "{request}");
        assert!(request.to_ascii_lowercase().contains("add-padding: true"), "{request}");
        assert!(!request.to_ascii_uppercase().contains(&digest[..6]), "no more than five digits leave: {request}");
    }
    // A weak one is refused before anybody is asked.
    assert_eq!(make("b@example.com", "short").await.status, 400);
    assert_eq!(asked.lock().unwrap().len(), 2);
    server.abort();
    let _ = server.await;
    assert_eq!(make("b@example.com", "autumn holiday at the lake").await.status, 201, "it fails open");
    let labels = crate::platform::metrics::BreachLabels { source: "url", outcome: "failed" };
    assert_eq!(app.cx().metrics().breach_checks.get_or_create(&labels).get(), 1, "and is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_43_a_range_of_many_breached_passwords_is_read_to_its_last_line() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/range", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await;
            let mut body: String = (0..4_000).map(|number| format!("{number:035X}:{number}\r\n")).collect();
            body += &format!("{}:7\r\n", &digest("tinker tailor soldier")[5..]);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        }
    });
    let app = TestApp::start_with(On::Sqlite, |config| config.passwords.breached_url = Some(url)).await;
    let body = json!({"email": "a@example.com", "password": "tinker tailor soldier"});
    let refused = app.api(Method::POST, "/user_management/users", body).await;
    assert_eq!(refused.body["errors"][0]["code"], "password_breached", "{}", refused.text);
    server.abort();
}

async fn waits(cx: &crate::platform::cx::Cx, asker: Asker) -> bool {
    match take_place(cx, asker) {
        Ok(place) => verify(cx, place, None, &secret(GOOD)).await.is_ok(),
        Err(Busy) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_devices_that_are_known_wait_for_no_stranger() {
    let app = TestApp::start_with(On::Sqlite, |config| (config.passwords.hashing_threads, config.passwords.hashing_queue) = (1, 8)).await;
    app.user("a@example.com", GOOD).await;
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", Some("phone"))).await.status, 200);
    let only_thread = app.cx().hashing().clone().acquire_owned().await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..11 {
        let cx = app.cx().clone();
        waiting.spawn(async move { waits(&cx, Asker::Anybody).await });
    }
    // Nine of the eleven places are for anybody.
    for _ in 0..2 {
        assert!(!waiting.join_next().await.unwrap().unwrap());
    }
    assert_eq!(app.authenticate(try_password(GOOD, "203.0.113.9", None)).await.status, 429);
    let owner = tokio::spawn({
        let cx = app.cx().clone();
        async move { waits(&cx, Asker::KnownDevice).await }
    });
    // While nine strangers still wait.
    assert!(owner.await.unwrap());
    drop(only_thread);
    while waiting.join_next().await.is_some() {}
    // Nobody who was turned away lost a try.
    let counted = app.authenticate(try_password(GOOD, "203.0.113.9", Some("phone"))).await;
    assert_eq!(counted.status, 200, "{}", counted.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sign_ins_than_the_queue_holds_are_told_to_come_back() {
    let app = TestApp::start_with(On::Sqlite, |config| (config.passwords.hashing_threads, config.passwords.hashing_queue) = (1, 2)).await;
    app.user("a@example.com", GOOD).await;
    let only_thread = app.cx().hashing().clone().acquire_owned().await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let cx = app.cx().clone();
        waiting.spawn(async move { hash(&cx, &secret(GOOD)).await });
    }
    while app.cx().hashing_places().available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(take_place(app.cx(), Asker::Anybody).err(), Some(Busy));
    let answer = app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": GOOD})).await;
    assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (429, "rate_limit_exceeded", Some("1")), "{}", answer.text);
    drop(only_thread);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    app.sign_in("a@example.com", GOOD).await;
}
