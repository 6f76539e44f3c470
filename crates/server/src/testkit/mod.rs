//! A whole server for tests, without a socket: on a scratch database of either engine, with a clock and mails in hand.

mod network;
pub mod ranks;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use gatewright_base::{Clock, ManualClock, Timestamp};
use gatewright_db::{Db, DbConfig, params};
use gatewright_jose::{MasterKey, SystemRng};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::features::operator;
use crate::features::records::environments::Settings;
use crate::platform::cx::{ClientId, Cx, EnvironmentId};
use crate::platform::dns::{DnsError, TxtAnswer, TxtLookup};
use crate::platform::mail;
use crate::{Config, Parts};

pub use network::TestNetwork;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
}

/// One environment as a customer sees it.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub environment: EnvironmentId,
    pub client_id: String,
    pub api_key: String,
}

/// A server under test.
pub struct TestApp {
    router: Router,
    cx: Cx,
    pub clock: Arc<ManualClock>,
    /// What the world publishes as TXT records.
    pub dns: Arc<TestDns>,
    /// What the server reaches of the world.
    pub network: Arc<TestNetwork>,
    /// The environment that tests work in.
    pub tenant: Tenant,
    /// A stranger's environment on the same server.
    pub other: Tenant,
    scratch: Scratch,
}

impl std::fmt::Debug for TestApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestApp").field("tenant", &self.tenant.environment).finish_non_exhaustive()
    }
}

enum Scratch {
    Folder { _folder: tempfile::TempDir },
    Schema { name: String },
}

/// A DNS of the test's own: empty until told otherwise.
#[derive(Debug, Default)]
pub struct TestDns(Mutex<TestZones>);

#[derive(Debug, Default)]
struct TestZones {
    records: HashMap<String, Vec<String>>,
    down: bool,
    asked: Vec<String>,
}

impl TestDns {
    /// Adds a TXT record to `name`.
    pub fn publish(&self, name: &str, text: &str) {
        self.zones().records.entry(name.to_owned()).or_default().push(text.to_owned());
    }

    /// Takes all TXT records of `name` away.
    pub fn withdraw(&self, name: &str) {
        self.zones().records.remove(name);
    }

    /// From now on no question is answered, or every one again.
    pub fn break_down(&self, down: bool) {
        self.zones().down = down;
    }

    /// Every name asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.zones().asked.clone()
    }

    fn zones(&self) -> MutexGuard<'_, TestZones> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TxtLookup for TestDns {
    fn txt<'a>(&'a self, name: &'a str) -> TxtAnswer<'a> {
        let mut zones = self.zones();
        zones.asked.push(name.to_owned());
        let answer = if zones.down {
            Err(DnsError("the test switched it off".to_owned()))
        } else {
            Ok(zones.records.get(name).cloned().unwrap_or_default())
        };
        Box::pin(std::future::ready(answer))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `null` when the body is empty or no JSON.
    pub body: Value,
    pub text: String,
}

/// A mail of the outbox.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub code: Option<String>,
    pub links: Vec<String>,
}

/// 2026-01-15T12:00:00Z: a fixed beginning, so that times in answers are known.
pub const START: Timestamp = Timestamp::from_millis(1_768_478_400_000);

impl TestApp {
    pub async fn start(on: On) -> Self {
        Self::start_with(on, |_| ()).await
    }

    pub async fn start_with(on: On, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { public_url: "http://localhost:4700".to_owned(), dev: true, ..Config::default() };
        config.brand.name = "Expenses".to_owned();
        // Real argon2id, small: tests hash hundreds of passwords.
        (config.passwords.argon2_memory_kib, config.passwords.argon2_passes) = (64, 1);
        config.limits.enabled = false;
        config.answer_step = std::time::Duration::ZERO;
        adjust(&mut config);
        let (db, scratch) = open(on);
        db.migrate().expect("migrations apply");
        let clock = Arc::new(ManualClock::at(START));
        let dns = Arc::new(TestDns::default());
        let network = Arc::new(TestNetwork::default());
        let (rng, master_key) = (Arc::new(SystemRng), MasterKey::generate(&SystemRng));
        let parts = Parts { db, clock: clock.clone(), rng, master_key, dns: dns.clone(), network: network.clone() };
        let app = crate::build(config, parts).expect("the test configuration is good");
        let tenant = tenant_of(&app.cx, "test").await;
        let other = tenant_of(&app.cx, "other").await;
        Self { router: app.router, cx: app.cx, clock, dns, network, tenant, other, scratch }
    }

    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether the scratch database is a folder of this test's own.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.scratch, Scratch::Folder { .. })
    }

    /// As the holder of the environment's key.
    pub async fn api(&self, method: Method, path: &str, body: Value) -> Answer {
        self.api_as(&self.tenant, method, path, body).await
    }

    pub async fn api_as(&self, tenant: &Tenant, method: Method, path: &str, body: Value) -> Answer {
        self.send(request(method, path, body, &[(AUTHORIZATION, &format!("Bearer {}", tenant.api_key))])).await
    }

    pub async fn anonymous(&self, method: Method, path: &str, body: Value) -> Answer {
        self.send(request(method, path, body, &[])).await
    }

    pub async fn with_headers(&self, method: Method, path: &str, body: Value, headers: &[(HeaderName, &str)]) -> Answer {
        self.send(request(method, path, body, headers)).await
    }

    /// `POST /user_management/authenticate` as the tenant's confidential client.
    pub async fn authenticate(&self, mut body: Value) -> Answer {
        body["client_id"] = json!(self.tenant.client_id);
        body["client_secret"] = json!(self.tenant.api_key);
        self.anonymous(Method::POST, "/user_management/authenticate", body).await
    }

    /// An answer whose body comes bit by bit, as the holder of `tenant`'s key.
    pub async fn open(&self, tenant: &Tenant, path: &str, headers: &[(HeaderName, &str)]) -> axum::response::Response {
        let key = format!("Bearer {}", tenant.api_key);
        let mut request = request(Method::GET, path, Value::Null, &[headers, &[(AUTHORIZATION, key.as_str())]].concat());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        self.router.clone().oneshot(request).await.expect("the router is infallible")
    }

    /// Sends any request.
    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        let recorded = Recorded::of(&request);
        let response = self.router.clone().oneshot(request).await.expect("the router is infallible");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("bodies of tests are whole");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), headers, text };
        recorded.append(&answer);
        answer
    }

    /// A user with a proved address and a password.
    pub async fn user(&self, email: &str, password: &str) -> Value {
        let made =
            self.api(Method::POST, "/user_management/users", json!({"email": email, "password": password, "email_verified": true})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body
    }

    /// Signs a user in by password: the authenticate response.
    pub async fn sign_in(&self, email: &str, password: &str) -> Value {
        let answer = self.authenticate(json!({"grant_type": "password", "email": email, "password": password})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// Every mail of the outbox, newest first.
    pub async fn mails(&self) -> Vec<Mail> {
        let rows = self.cx.db().scan(|tx| mail::store::list_newest(tx, 1_000)).await.expect("mails are readable");
        let mut mails = Vec::new();
        for row in rows {
            let body = row.open(&self.cx).expect("mails open under the test's key");
            mails.push(Mail { to: row.to, subject: row.subject, text: body.text, html: body.html, code: body.code, links: body.links });
        }
        mails
    }

    /// Name and data of every event of the tenant since its environment was made, oldest first; the platform's own entries, too.
    pub async fn events(&self) -> Vec<(String, Value)> {
        let environment = self.tenant.environment.clone();
        let rows = self
            .cx
            .db()
            .scan(move |tx| {
                tx.list(
                    "SELECT event, data FROM events WHERE environment_id = $1 AND event <> 'environment.created' ORDER BY id",
                    params![&environment],
                )
            })
            .await
            .expect("events are readable");
        rows.into_iter()
            .map(|mut row| (row.text().expect("event"), serde_json::from_str(&row.text().expect("data")).expect("data is JSON")))
            .collect()
    }

    /// Changes the tenant's settings.
    pub async fn settings(&self, change: impl FnOnce(&mut Settings)) {
        let id = self.tenant.environment.clone();
        let found = self.cx.db().read(move |tx| crate::features::records::environments::find(tx, &id)).await;
        let mut settings = found.expect("readable").expect("the tenant exists").settings;
        change(&mut settings);
        let (id, now) = (self.tenant.environment.clone(), self.now());
        let write = self.cx.db().write(move |tx| crate::features::records::environments::update_settings(tx, &id, &settings, now));
        assert!(write.await.expect("writable"));
    }

    /// A second client of the tenant's own environment: same users, same API key, another application.
    pub async fn second_client(&self) -> String {
        let id: ClientId = self.cx.next_id();
        let (environment, client, now) = (self.tenant.environment.clone(), id.clone(), self.now());
        let made =
            self.cx.db().write(move |tx| crate::features::records::environments::insert_client(tx, &environment, &client, "second", now));
        made.await.expect("the client is new");
        id.into_string()
    }

    /// A browser with its own cookies.
    pub fn browser(&self) -> Browser<'_> {
        Browser { app: self, cookies: Vec::new(), headers: Vec::new() }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // A schema of PostgreSQL is dropped by hand; the folder of SQLite goes by itself.
        if let Scratch::Schema { name } = &self.scratch {
            let (db, sql) = (self.cx.db().clone(), format!("DROP SCHEMA {name} CASCADE"));
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                runtime.block_on(db.write(move |tx| tx.execute(&sql, &[])))
            });
            let _ = dropped.join();
        }
        self.cx.db().close();
    }
}

async fn tenant_of(cx: &Cx, name: &str) -> Tenant {
    let created = operator::create_environment(cx, name, Settings::default(), true).await.expect("the environment is new");
    Tenant {
        environment: created.environment.id.clone(),
        client_id: created.client_id.to_string(),
        api_key: created.api_key.reveal().clone(),
    }
}

fn open(on: On) -> (Db, Scratch) {
    match on {
        On::Sqlite => {
            let folder = tempfile::tempdir().expect("a scratch folder");
            let url = format!("sqlite:{}", folder.path().join("test.db").display());
            (Db::open(&DbConfig { url, connections: 1, schema: None }).expect("SQLite opens"), Scratch::Folder { _folder: folder })
        }
        On::Postgres => {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let url = std::env::var("GATEWRIGHT_TEST_PG").expect("set GATEWRIGHT_TEST_PG, or run cargo xtask test");
            let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let db = Db::open(&DbConfig { url, connections: 4, schema: Some(schema.clone()) }).expect("PostgreSQL opens");
            (db, Scratch::Schema { name: schema })
        }
    }
}

fn request(method: Method, path: &str, body: Value, headers: &[(HeaderName, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    if body.is_null() {
        return request.body(Body::empty()).expect("a test's request is well formed");
    }
    request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).expect("a test's request is well formed")
}

/// One exchange, in the form that the contract check reads, appended to the file that `GATEWRIGHT_RECORD` names.
struct Recorded {
    line: Option<Value>,
}

impl Recorded {
    fn of(request: &Request<Body>) -> Self {
        let line = std::env::var_os("GATEWRIGHT_RECORD")
            .map(|_| json!({"method": request.method().as_str(), "path": request.uri().to_string(), "request_body": null}));
        Self { line }
    }

    fn append(self, answer: &Answer) {
        use std::io::Write;
        let (Some(mut line), Some(path)) = (self.line, std::env::var_os("GATEWRIGHT_RECORD")) else { return };
        let headers: serde_json::Map<String, Value> =
            answer.headers.iter().filter_map(|(k, v)| Some((k.as_str().to_owned(), v.to_str().ok()?.into()))).collect();
        line["status"] = json!(answer.status);
        line["response_body"] = if answer.text.is_empty() { Value::Null } else { Value::from(answer.text.clone()) };
        line["response_headers"] = Value::Object(headers);
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// A browser: keeps cookies, follows nothing by itself, fills in forms.
#[derive(Clone, Debug)]
pub struct Browser<'a> {
    app: &'a TestApp,
    cookies: Vec<(String, String)>,
    /// Sent with every request, such as `Origin`.
    pub headers: Vec<(HeaderName, String)>,
}

impl Browser<'_> {
    pub async fn get(&mut self, path: &str) -> Answer {
        self.go(Request::builder().method(Method::GET).uri(local(path)).header("accept", "text/html"), Body::empty()).await
    }

    /// Posts the form of `page` that goes to `action`, with `fields` filled in over what the page put there.
    pub async fn submit(&mut self, page: &Answer, action: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = hidden_fields(&page.text, action);
        for (name, value) in fields {
            form.retain(|(key, _)| key != name);
            form.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.post(action, &form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>()).await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(local(path))
            .header("accept", "text/html")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.go(request, Body::from(body)).await
    }

    /// Follows redirects as long as they stay on this server.
    pub async fn follow(&mut self, mut answer: Answer) -> Answer {
        for _ in 0..10 {
            match answer.location() {
                Some(location) if location.starts_with('/') => answer = self.get(&location).await,
                _ => break,
            }
        }
        answer
    }

    /// The whole way from authorize to a code, by password.
    pub async fn sign_in(&mut self, authorize: &str, email: &str, password: &str) -> Answer {
        let first = self.get(authorize).await;
        let page = self.follow(first).await;
        let next = self.submit(&page, "/sign-in", &[("email", email)]).await;
        let page = self.follow(next).await;
        self.submit(&page, "/sign-in/password", &[("password", password)]).await
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(key, _)| key != name);
        self.cookies.push((name.to_owned(), value.to_owned()));
    }

    async fn go(&mut self, mut request: axum::http::request::Builder, body: Body) -> Answer {
        if !self.cookies.is_empty() {
            let line = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
            request = request.header(COOKIE, line);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = self.app.send(request.body(body).expect("a test's request is well formed")).await;
        for line in answer.headers.get_all(SET_COOKIE) {
            let text = line.to_str().expect("cookies are text");
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a value");
            self.cookies.retain(|(key, _)| key != name);
            if !attributes.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
    }

    pub fn location(&self) -> Option<String> {
        let redirects = StatusCode::from_u16(self.status).is_ok_and(|status| status.is_redirection());
        self.headers.get(LOCATION).filter(|_| redirects).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    /// A parameter of the `Location`.
    pub fn location_parameter(&self, name: &str) -> Option<String> {
        let location = self.location()?;
        let query = location.split_once('?')?.1.to_owned();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// `code` or `error` of the body, whichever is there.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().or_else(|| self.body["error"].as_str()).unwrap_or_default()
    }
}

fn local(path: &str) -> &str {
    path.strip_prefix("http://localhost:4700").unwrap_or(path)
}

/// Hidden inputs of the form whose action is `action`. Enough HTML for pages we wrote ourselves.
fn hidden_fields(html: &str, action: &str) -> Vec<(String, String)> {
    let marker = format!("action=\"{action}\"");
    let Some(start) = html.find(&marker) else { panic!("no form goes to {action} in:\n{html}") };
    let form = &html[start..];
    let form = &form[..form.find("</form>").unwrap_or(form.len())];
    form.split("<input ")
        .skip(1)
        .filter(|input| input.contains("type=\"hidden\""))
        .filter_map(|input| {
            let attribute = |name: &str| input.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            Some((attribute("name")?.to_owned(), attribute("value").unwrap_or_default().replace("&amp;", "&")))
        })
        .collect()
}

/// One body, two tests: on SQLite and on PostgreSQL.
#[macro_export]
macro_rules! both_engines {
    ($name:ident, |$app:ident| $body:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a body may use nothing of its module")]
            use super::*;

            async fn story($app: $crate::testkit::TestApp) {
                $body.await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                story($crate::testkit::TestApp::start($crate::testkit::On::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                story($crate::testkit::TestApp::start($crate::testkit::On::Postgres).await).await;
            }
        }
    };
}
