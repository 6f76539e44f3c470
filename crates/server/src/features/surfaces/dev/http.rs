use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};
use gatewright_base::Timestamp;
use serde::Serialize;

use super::view::{DemoUser, Home, Inbox, MailRow, MailTab, OpenMail};
use super::{Facts, webhooks};
use crate::platform::config::is_loopback_host;
use crate::platform::cx::Cx;
use crate::platform::mail::store::{self, Mail};
use crate::platform::mail::{Body, MailId};
use crate::web::catalogue::Lang;
use crate::web::error::ApiError;
use crate::web::extract::{Path, Query};
use crate::web::form::is_same_origin;
use crate::web::pages::{Frame, View};

/// Mails an answer shows at most; older ones stay reachable by their id.
const SHOWN: u32 = 200;

const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; frame-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";
/// A mail is somebody else's HTML: no scripts, no forms, no origin, nothing loaded. Links open beside it.
const LETTER_POLICY: &str = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
     frame-ancestors 'self'";

pub fn routes() -> Router<Cx> {
    Router::new()
        .route("/dev", get(home))
        .route("/dev/inbox", get(newest))
        .route("/dev/inbox.json", get(list))
        .route("/dev/inbox/delete", post(delete))
        .route("/dev/inbox/{id}", get(open))
        .route("/dev/inbox/{id}/html", get(letter))
        .route("/dev/webhooks", get(webhooks::newest))
        .route("/dev/webhooks/{id}", get(webhooks::open))
        .route("/dev/webhooks/{id}/replay", post(webhooks::replay))
        .route_layer(from_fn(only_this_machine))
}

/// Mails hold codes, so these pages answer a browser on this machine that asked for this machine by name. Another name
/// that resolves here is a page elsewhere trying to read them (DNS rebinding); a forwarded request came from elsewhere.
async fn only_this_machine(request: Request, next: Next) -> Response {
    if is_of_this_machine(request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0), request.headers()) {
        return next.run(request).await;
    }
    ApiError::message(StatusCode::NOT_FOUND, "Not found.").into_response()
}

fn is_of_this_machine(peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let forwarded = headers.contains_key(FORWARDED) || headers.contains_key(HeaderName::from_static("x-forwarded-for"));
    peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        && host.is_some_and(is_loopback_host)
        && hosts.next().is_none()
        && !forwarded
}

async fn home(State(cx): State<Cx>, facts: Option<Extension<Arc<Facts>>>, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let facts = facts.map(|Extension(facts)| facts).unwrap_or_default();
    let users =
        facts.users.iter().map(|user| DemoUser { name: user.name.clone(), email: user.email.clone(), password: user.password.clone() });
    let view = Home {
        base_url: cx.config().public_url.clone(),
        client_id: facts.client_id.clone(),
        dev_env_path: facts.dev_env_path.clone(),
        users: users.collect(),
    };
    page(&cx, &view, &uri, &headers)
}

async fn newest(State(cx): State<Cx>, query: Query, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let mails = newest_mails(&cx).await?;
    let open = mails.first().map(|mail| open_mail(&cx, mail, &query));
    inbox(&cx, &mails, open, false, &uri, &headers)
}

async fn open(State(cx): State<Cx>, Path(id): Path<String>, query: Query, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let mail = load_mail(&cx, &id).await?;
    let mails = newest_mails(&cx).await?;
    inbox(&cx, &mails, Some(open_mail(&cx, &mail, &query)), true, &uri, &headers)
}

async fn letter(State(cx): State<Cx>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let html = body(&cx, &load_mail(&cx, &id).await?).html;
    // A link inside the frame would otherwise replace the mail.
    let html = html.replacen("<head>", "<head><base target=\"_blank\">", 1);
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, LETTER_POLICY), (CACHE_CONTROL, "no-store")];
    Ok((headers, html).into_response())
}

async fn list(State(cx): State<Cx>) -> Result<Json<MailList>, ApiError> {
    let mails = newest_mails(&cx).await?;
    let data = mails.into_iter().map(|mail| {
        let Body { text, html, code, links } = body(&cx, &mail);
        MailView { id: mail.id.into_string(), to: mail.to, subject: mail.subject, text, html, code, links, created_at: mail.created_at }
    });
    Ok(Json(MailList { data: data.collect() }))
}

async fn delete(State(cx): State<Cx>, headers: HeaderMap) -> Result<Response, ApiError> {
    if !is_same_origin(&cx, &headers) {
        return Err(ApiError::message(StatusCode::FORBIDDEN, "Delete mails from the inbox page."));
    }
    cx.db().write(store::delete_all).await?;
    Ok((StatusCode::SEE_OTHER, [(LOCATION, "/dev/inbox")]).into_response())
}

#[derive(Serialize)]
struct MailList {
    data: Vec<MailView>,
}

#[derive(Serialize)]
struct MailView {
    id: String,
    to: String,
    subject: String,
    text: String,
    html: String,
    code: Option<String>,
    links: Vec<String>,
    created_at: Timestamp,
}

async fn newest_mails(cx: &Cx) -> Result<Vec<Mail>, ApiError> {
    Ok(cx.db().scan(|tx| store::list_newest(tx, SHOWN)).await?)
}

async fn load_mail(cx: &Cx, id: &str) -> Result<Mail, ApiError> {
    let wanted = MailId::from_text(id);
    cx.db().read(move |tx| store::find(tx, &wanted)).await?.ok_or_else(|| ApiError::not_found("Mail", id))
}

/// What the mail says; nothing if another master key sealed it.
fn body(cx: &Cx, mail: &Mail) -> Body {
    mail.open(cx).unwrap_or_else(|| Body { text: String::new(), html: String::new(), code: None, links: Vec::new() })
}

fn open_mail(cx: &Cx, mail: &Mail, query: &Query) -> OpenMail {
    let tab = MailTab::from_query(query.one("view").ok().flatten());
    let from = cx.sender().to_string();
    let Body { text, html, code, links } = body(cx, mail);
    let shown = match tab {
        MailTab::Html => String::new(),
        MailTab::Text => text,
        MailTab::Source => format!("From: {from}\nTo: {}\nSubject: {}\nDate: {}\n\n{html}", mail.to, mail.subject, mail.created_at),
    };
    let (id, subject, to) = (mail.id.to_string(), mail.subject.clone(), mail.to.clone());
    OpenMail { id, subject, to, from, at: mail.created_at, code, links, tab, body: shown }
}

fn inbox(cx: &Cx, mails: &[Mail], open: Option<OpenMail>, reading: bool, uri: &Uri, headers: &HeaderMap) -> Result<Response, ApiError> {
    let rows = mails.iter().map(|mail| {
        let Body { code, links, .. } = body(cx, mail);
        MailRow {
            id: mail.id.to_string(),
            subject: mail.subject.clone(),
            to: mail.to.clone(),
            at: mail.created_at,
            code,
            links: links.len(),
        }
    });
    let host = cx.config().public_url.split("://").last().unwrap_or_default().to_owned();
    page(cx, &Inbox { mails: rows.collect(), open, reading, host }, uri, headers)
}

pub(super) fn page(cx: &Cx, view: &impl View, uri: &Uri, headers: &HeaderMap) -> Result<Response, ApiError> {
    let accept_language = headers.get("accept-language").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let frame = Frame {
        lang: Lang::choose(accept_language, None),
        app: cx.look().app.clone(),
        brand_href: None,
        csrf: String::new(),
        authorization_request: String::new(),
        path: uri.path_and_query().map_or("/dev", |path| path.as_str()).to_owned(),
        theme: None,
    };
    let html = cx.pages().render(view, &frame).map_err(|error| ApiError::internal(&error))?;
    let mut response = html.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::http::header::ORIGIN;
    use serde_json::Value;

    use super::*;
    use crate::both_engines;
    use crate::testkit::{On, TestApp};

    fn allowed(peer: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_of_this_machine(Some(peer.parse().unwrap()), &map)
    }

    #[test]
    fn the_inbox_is_shown_to_this_machine_only() {
        for host in ["localhost:4700", "127.0.0.1:4700", "[::1]:4700", "LOCALHOST"] {
            assert!(allowed("127.0.0.1:50000", &[("host", host)]), "{host}");
            assert!(allowed("[::1]:50000", &[("host", host)]), "{host}");
            assert!(!allowed("192.0.2.7:50000", &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn dns_rebinding_and_tunnels_find_nothing() {
        for host in ["evil.example", "evil.example:4700", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""]
        {
            assert!(!allowed("127.0.0.1:50000", &[("host", host)]), "{host}");
        }
        assert!(!allowed("127.0.0.1:50000", &[]));
        assert!(!allowed("127.0.0.1:50000", &[("host", "localhost"), ("host", "evil.example")]));
        assert!(!allowed("127.0.0.1:50000", &[("host", "localhost"), ("x-forwarded-for", "192.0.2.7")]));
        assert!(!allowed("127.0.0.1:50000", &[("host", "localhost"), ("forwarded", "for=192.0.2.7")]));
        assert!(!is_of_this_machine(None, &HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))])));
    }

    both_engines!(the_inbox_shows_every_mail_and_forgets_on_request, |app| async move {
        app.user("alice@example.test", "paper-lantern-42").await;
        for _ in 0..2 {
            let sent = app.api(Method::POST, "/user_management/magic_auth", serde_json::json!({"email": "alice@example.test"})).await;
            assert!(sent.status < 300, "{}", sent.text);
        }
        let get = async |path: &str| app.with_headers(Method::GET, path, Value::Null, &[(HOST, "localhost:4700")]).await;
        let list = get("/dev/inbox.json").await;
        let mails = list.body["data"].as_array().unwrap().clone();
        let expected = app.mails().await;
        assert_eq!(mails.len(), expected.len());
        for (mail, expected) in mails.iter().zip(&expected) {
            assert_eq!((mail["to"].as_str(), mail["code"].as_str()), (Some(expected.to.as_str()), expected.code.as_deref()));
            assert_eq!((mail["text"].as_str(), mail["html"].as_str()), (Some(expected.text.as_str()), Some(expected.html.as_str())));
        }
        let id = mails[0]["id"].as_str().unwrap();
        let code = expected[0].code.clone().unwrap();
        for path in [
            "/dev/inbox".to_owned(),
            format!("/dev/inbox/{id}"),
            format!("/dev/inbox/{id}?view=text"),
            format!("/dev/inbox/{id}?view=source"),
        ] {
            let page = get(&path).await;
            assert!(page.status == 200 && page.text.contains(&code), "{path}: {}", page.text);
            assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
        }
        let letter = get(&format!("/dev/inbox/{id}/html")).await;
        assert!(letter.header("content-security-policy").unwrap().starts_with("sandbox "));
        assert!(letter.text.contains("<base target=\"_blank\">"));
        assert_eq!(get("/dev/inbox/mail_unknown").await.status, 404);
        assert_eq!(get("/dev").await.status, 200);

        let delete = async |origin: &str| {
            app.with_headers(Method::POST, "/dev/inbox/delete", Value::Null, &[(HOST, "localhost:4700"), (ORIGIN, origin)]).await.status
        };
        assert_eq!(delete("https://evil.example").await, 403);
        assert_eq!(app.mails().await.len(), mails.len());
        assert_eq!(delete("http://localhost:4700").await, 303);
        assert!(app.mails().await.is_empty());
    });

    #[tokio::test]
    async fn a_server_in_production_has_no_such_pages() {
        let app = TestApp::start_with(On::Sqlite, |config| {
            config.dev = false;
            config.mail.smtp_url = Some("smtp://127.0.0.1:1".to_owned().into());
        })
        .await;
        for path in ["/dev", "/dev/inbox", "/dev/inbox.json"] {
            assert_eq!(app.with_headers(Method::GET, path, Value::Null, &[(HOST, "localhost:4700")]).await.status, 404, "{path}");
        }
    }
}
