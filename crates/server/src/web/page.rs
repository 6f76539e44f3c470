//! Answering a browser: a page in the person's language, with the headers that hold it to the rules, or a redirect.

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::catalogue::Lang;
use super::client::Peer;
use super::cookies;
use super::error::ApiError;
use super::extract::Query;
use super::form::Browser;
use super::middleware::RequestId;
use super::pages::{Frame, Theme, View};
use super::problem::ErrorPage;
pub use super::problem::{Action, ActionLabel, Problem};
use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::Limited;

const LANG_COOKIE: &str = "gw_lang";
const LANG_SECONDS: i64 = 365 * 86_400;

/// A person at a page: language, browser, where they are, and the id that support asks for.
#[derive(Clone, Debug)]
pub struct Visit {
    pub browser: Browser,
    pub peer: Peer,
    pub lang: Lang,
    pub query: Query,
    chosen_lang: Option<Lang>,
    theme: Option<Theme>,
    path: String,
    reference: String,
    believable: HeaderMap,
}

impl FromRequestParts<Cx> for Visit {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, cx: &Cx) -> Result<Self, Self::Rejection> {
        let Ok(browser) = Browser::from_request_parts(parts, cx).await;
        let Ok(peer) = Peer::from_request_parts(parts, cx).await;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let asked = query.all("lang").first().and_then(|tag| Lang::find(tag));
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let reference = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        Ok(Self {
            browser,
            peer,
            lang: language(cx, &parts.headers, asked),
            chosen_lang: asked,
            theme: cookies::find(&parts.headers, cx.config(), "gw_theme").and_then(Theme::find),
            query,
            path,
            reference,
            believable: parts.headers.clone(),
        })
    }
}

fn language(cx: &Cx, headers: &HeaderMap, asked: Option<Lang>) -> Lang {
    let kept = cookies::find(headers, cx.config(), LANG_COOKIE);
    let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    asked.unwrap_or_else(|| Lang::choose(accepted, kept))
}

impl Visit {
    pub fn headers(&self) -> &HeaderMap {
        &self.believable
    }

    /// Whether the posted `csrf` was made by a page of ours in this browser.
    pub fn believes(&self, cx: &Cx, csrf: &str) -> bool {
        self.browser.believes(cx, &self.believable, csrf)
    }

    /// A page. `request` goes into its forms; `form_origin` is where a redirect after the form may lead (the app).
    pub fn page<V: View>(&self, cx: &Cx, status: StatusCode, view: &V, request: &str, form_origin: Option<&str>) -> Response {
        self.page_allowing(cx, status, view, request, form_origin, &Allowed::default())
    }

    /// A page that runs something of somebody else's.
    pub fn page_allowing<V: View>(
        &self,
        cx: &Cx,
        status: StatusCode,
        view: &V,
        request: &str,
        form_origin: Option<&str>,
        allowed: &Allowed,
    ) -> Response {
        let frame = Frame {
            lang: self.lang,
            app: cx.look().app.clone(),
            brand_href: cx.look().stylesheet.as_ref().map(|(href, _)| href.clone()),
            csrf: self.browser.csrf(cx),
            authorization_request: request.to_owned(),
            path: self.path.clone(),
            theme: self.theme,
        };
        let html = match cx.pages().render(view, &frame) {
            Ok(html) => html,
            Err(error) => return ApiError::internal(&error).into_response(),
        };
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, policy(form_origin, cx.config().brand.logo_url.as_deref(), allowed));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.append(SET_COOKIE, self.browser.cookie(cx));
        if let Some(minutes) = (status == StatusCode::TOO_MANY_REQUESTS).then(|| minutes_on(view)).flatten() {
            headers.insert(RETRY_AFTER, HeaderValue::from(60 * minutes));
        }
        if let Some(lang) = self.chosen_lang {
            headers.append(SET_COOKIE, cookies::set(cx.config(), LANG_COOKIE, lang.code(), Some(LANG_SECONDS)));
        }
        response
    }

    /// The page in place of a page.
    pub fn problem(&self, cx: &Cx, problem: Problem, primary: Option<Action>) -> Response {
        let status = match &problem {
            Problem::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::TooManyTries { .. } => StatusCode::TOO_MANY_REQUESTS,
            Problem::WrongBrowser | Problem::CookiesOff => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        let page = ErrorPage { problem, primary, secondary: None, reference: self.reference.clone(), at: cx.now() };
        self.page(cx, status, &page, "", None)
    }
}

/// How long a page tells somebody to wait who is over a limit: the header says the same.
fn minutes_on(view: &impl View) -> Option<u64> {
    let shown = serde_json::to_value(view).ok()?;
    let told = shown["errors"][0]["args"]["count"].as_u64();
    told.or_else(|| shown["problem"]["args"]["count"].as_u64())
}

/// Origins of somebody else that one page needs beside our own: the check that an operator has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    pub script: &'static str,
    pub frame: &'static str,
    pub style: &'static str,
    pub connect: &'static str,
}

/// Our own styles and scripts, requests of those to ourselves, the operator's logo, forms to ourselves and on to the app, nothing else, and no frame around it
/// (attack row 14).
fn policy(form_origin: Option<&str>, logo_url: Option<&str>, allowed: &Allowed) -> HeaderValue {
    let form = form_origin.map(|origin| format!(" {origin}")).unwrap_or_default();
    let logo = logo_url.and_then(|url| url.split('/').nth(2)).map(|host| format!(" https://{host}")).unwrap_or_default();
    let also = |origins: &str| if origins.is_empty() { String::new() } else { format!(" {origins}") };
    let whole = |directive: &str, origins: &str| if origins.is_empty() { String::new() } else { format!(" {directive} {origins};") };
    let (script, style, connect) = (also(allowed.script), also(allowed.style), also(allowed.connect));
    let frame = whole("frame-src", allowed.frame);
    cookies::header(format!(
        "default-src 'none'; style-src 'self'{style}; img-src 'self' data:{logo}; script-src 'self'{script};{frame} connect-src 'self'{connect}; \
         form-action 'self'{form}; frame-ancestors 'none'; base-uri 'none'"
    ))
}

/// Where a sign-in starts that no app began: the first environment's that has one.
pub async fn sign_in_endpoint(cx: &Cx) -> Result<Option<String>, gatewright_db::DbError> {
    let environments = cx.db().read(environments::list).await?;
    Ok(environments.into_iter().find_map(|environment| environment.settings.sign_in_endpoint))
}

/// A redirect with cookies. What no header can hold leads to the front page.
pub fn redirect(status: StatusCode, location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let location = HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/"));
    let mut response = (status, [(LOCATION, location)]).into_response();
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Why a browser's request gets a problem page or an API error. The page is drawn by the middleware, which knows the visit.
#[derive(Debug)]
pub enum Refused {
    Page(Problem),
    Api(ApiError),
}

impl Refused {
    pub fn page(problem: Problem) -> Self {
        Self::Page(problem)
    }
}

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

/// Carried in the extensions of a response until [`draw`] meets it.
#[derive(Clone, Debug)]
struct Drawn(Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Page(problem) => {
                let mut response = StatusCode::BAD_REQUEST.into_response();
                response.extensions_mut().insert(Drawn(problem));
                response
            }
            Self::Api(error) => {
                let problem = match error.status() {
                    StatusCode::TOO_MANY_REQUESTS => Some(Problem::TooManyTries { minutes: error.limit().map_or(1, Limited::minutes) }),
                    status if status.is_server_error() => Some(Problem::Broken),
                    _ => None,
                };
                let mut response = error.into_response();
                if let Some(problem) = problem {
                    response.extensions_mut().insert(Drawn(problem));
                }
                response
            }
        }
    }
}

/// Turns a refusal on its way out into the page for it, keeping `Retry-After` and the status of API errors.
pub async fn draw(
    axum::extract::State(cx): axum::extract::State<Cx>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(visit) = Visit::from_request_parts(&mut parts, &cx).await;
    let mut response = next.run(axum::extract::Request::from_parts(parts, body)).await;
    let Some(Drawn(problem)) = response.extensions_mut().remove::<Drawn>() else { return response };
    let start = match &problem {
        Problem::Broken => Some(Action { label: ActionLabel::TryAgain, href: visit.path.clone() }),
        Problem::RequestExpired | Problem::WrongBrowser | Problem::CookiesOff => {
            let endpoint = sign_in_endpoint(&cx).await.unwrap_or_default();
            endpoint.map(|href| Action { label: ActionLabel::StartAgain, href })
        }
        Problem::InvitationNotValid | Problem::InvitationForAnother => {
            let endpoint = sign_in_endpoint(&cx).await.unwrap_or_default();
            endpoint.map(|href| Action { label: ActionLabel::BackToSignIn, href })
        }
        _ => None,
    };
    let mut page = visit.problem(&cx, problem, start);
    if let Some(wait) = response.headers().get(RETRY_AFTER) {
        page.headers_mut().insert(RETRY_AFTER, wait.clone());
    }
    if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS {
        *page.status_mut() = response.status();
    }
    page
}
