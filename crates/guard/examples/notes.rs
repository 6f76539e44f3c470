//! An axum app behind the guard: `gatewright dev -- cargo run -p gatewright-guard --features axum --example notes`
//!
//! It takes the session cookie that a FastAPI or Next.js app beside it has set, or a bearer token. `PORT` says where it listens.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use gatewright_base::SystemClock;
use gatewright_guard::axum::{Caller, User, guarded, require};
use gatewright_guard::feed::Guard;
use gatewright_guard::{Config, Requirement};
use gatewright_jose::SystemRng;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set; start this with `gatewright dev -- COMMAND`"));
    let port: u16 = std::env::var("PORT").unwrap_or_else(|_| "3000".into()).parse().map_err(|_| "PORT is not the number of a port")?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://localhost:{}", listener.local_addr()?.port());
    let config: Config = serde_json::from_value(json!({
        "base_url": setting("WORKOS_BASE_URL")?,
        "client_id": setting("WORKOS_CLIENT_ID")?,
        "api_key": setting("WORKOS_API_KEY")?,
        "app_url": url,
        "session": { "cookie_name": "wos_session", "password": setting("WORKOS_COOKIE_PASSWORD")?, "secure": false },
    }))?;
    let guard = Guard::new(config, Arc::new(SystemClock), Arc::new(SystemRng))?;
    guard.warm();

    let reports = Router::new().route("/orgs/{org_id}/report", get(report)).route_layer(
        require(Requirement { permissions: vec!["reports:read".into()], ..Requirement::default() }).organization_in_path("org_id"),
    );
    let app = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/notes", get(notes))
        .route("/hello", get(hello))
        .merge(reports)
        .layer(guarded(guard));

    writeln!(std::io::stdout(), "{url}/hello")?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn notes(user: User) -> Json<Value> {
    Json(json!({ "notes_of": user.subject }))
}

async fn hello(user: Option<User>) -> String {
    // A session brings its user along, a bearer token the id alone.
    let name = user.as_ref().map(|user| user.email.as_deref().unwrap_or(&user.subject));
    format!("hello {}", name.unwrap_or("stranger"))
}

async fn report(Path(org_id): Path<String>, caller: Caller) -> Json<Value> {
    Json(json!({ "report_of": org_id, "asked_by": caller.subject }))
}
