//! Who is at the page: the person of the browser's session in the environment of a client, and whether they proved it lately.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::eq_constant_time;

use super::model::{Notice, Page, Proof, is_recent};
use super::view::Top;
use crate::features::credentials::authentication_factors;
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::credentials::methods::Method;
use crate::features::flows::authorize::{self, ForPage};
use crate::features::records::environments::{self, Client, Mfa, Settings};
use crate::features::records::users::User;
use crate::features::records::{organization_memberships, sign_in_policies};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::events::Scribe;
use crate::web::cookies;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{self, Problem, Refused, Visit};

const NOTICE_COOKIE: &str = "gw_notice";
const NOTICE_SECONDS: i64 = 60;

/// Somebody whom the browser's session names.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub client: Client,
    /// The settings of the environment as they are, without what the organizations of the person ask for: one of them that requires a
    /// second factor does not make a password shorter that lets in without one elsewhere.
    pub settings: Settings,
    pub user: User,
    pub session: BrowserSession,
    /// Of the session's token, as it is stored.
    pub token_hash: String,
    /// Whether the proof has to include a second factor.
    needs_second_factor: bool,
}

/// Why a page is not shown: another comes first, or there is none.
#[derive(Debug)]
pub enum Instead {
    Page(Box<Response>),
    Refused(Refused),
}

impl<E: Into<ApiError>> From<E> for Instead {
    fn from(error: E) -> Self {
        Self::Refused(error.into().into())
    }
}

impl IntoResponse for Instead {
    fn into_response(self) -> Response {
        match self {
            Self::Page(response) => *response,
            Self::Refused(refused) => refused.into_response(),
        }
    }
}

pub fn not_found() -> Instead {
    Instead::Refused(Refused::page(Problem::NotFound))
}

impl SignedIn {
    /// Who looks at `page`. Nobody: they sign in and come back to it.
    pub async fn of_query(cx: &Cx, visit: &Visit, page: Page) -> Result<Self, Instead> {
        let client_id = visit.query.one("client_id").ok().flatten().unwrap_or_default().to_owned();
        if client_id.is_empty() {
            let client_id = choose_client(cx, visit).await?;
            return Err(go(&page.address(&client_id), []));
        }
        Self::load(cx, visit, &client_id, page).await
    }

    /// Who looks at a page that changes something.
    pub async fn of_query_lately(cx: &Cx, visit: &Visit, page: Page) -> Result<Self, Instead> {
        Self::of_query(cx, visit, page).await?.lately(cx, page)
    }

    /// Who posted a form. It is believed if a page of ours made it in this browser (attack row 46), and changes something only soon
    /// after a sign-in; otherwise the person proves it again and comes back to `page`.
    pub async fn of_form(cx: &Cx, visit: &Visit, form: &FormFields, page: Page) -> Result<Self, Instead> {
        believe(cx, visit, form)?;
        Self::load(cx, visit, form.text("client_id"), page).await?.lately(cx, page)
    }

    async fn load(cx: &Cx, visit: &Visit, client_id: &str, page: Page) -> Result<Self, Instead> {
        let client = load_client(cx, client_id).await?;
        match find(cx, visit, &client).await? {
            Some(signed_in) => {
                browser_sessions::note_use(cx, &client.environment.id, &signed_in.token_hash);
                Ok(signed_in)
            }
            None => Err(sign_in_first(cx, visit, &client, None, page).await?),
        }
    }

    fn lately(self, cx: &Cx, page: Page) -> Result<Self, Instead> {
        if self.has_proved_lately(cx.now()) {
            return Ok(self);
        }
        Err(go(&format!("/account/confirm?client_id={}&page={}", self.client.id, page.path()), []))
    }

    pub fn has_proved_lately(&self, now: Timestamp) -> bool {
        let proof = Proof { authenticated_at: self.session.authenticated_at, second_factor: self.session.second_factor.is_some() };
        is_recent(proof, self.needs_second_factor, now)
    }

    pub fn scribe(&self, cx: &Cx) -> Scribe {
        cx.scribe(Actor::User { id: self.user.id.to_string() })
    }

    /// What the frame of each page shows.
    pub fn top(&self) -> Top {
        let name = [self.user.first_name.as_deref(), self.user.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let email = self.user.email.as_str().to_owned();
        let name = if name.trim().is_empty() { email.clone() } else { name };
        let initials = name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric())).take(2);
        let settings = &self.client.environment.settings;
        Top {
            client_id: self.client.id.to_string(),
            initials: initials.flat_map(char::to_uppercase).collect(),
            name,
            email,
            app_href: settings.homepage_url.clone().or_else(|| settings.sign_in_endpoint.clone()),
        }
    }

    pub fn page<V: crate::web::pages::View>(&self, cx: &Cx, visit: &Visit, status: StatusCode, view: &V) -> Response {
        visit.page(cx, status, view, "", None)
    }

    /// To `page`, after a form.
    pub fn go_to(&self, page: Page) -> Response {
        page::redirect(StatusCode::SEE_OTHER, &page.address(self.client.id.as_str()), [])
    }

    /// To the overview, which says what happened.
    pub fn done(&self, cx: &Cx, notice: Notice, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
        let told = notice_cookie(cx, notice);
        page::redirect(StatusCode::SEE_OTHER, &Page::Overview.address(self.client.id.as_str()), cookies.into_iter().chain([told]))
    }
}

/// For the overview to tell what happened.
pub fn notice_cookie(cx: &Cx, notice: Notice) -> HeaderValue {
    cookies::set(cx.config(), NOTICE_COOKIE, notice.word(), Some(NOTICE_SECONDS))
}

/// What the page before has to tell, once: in a cookie, so that no link can put words of ours before somebody.
pub fn take_notice(cx: &Cx, visit: &Visit) -> (Option<Notice>, Option<HeaderValue>) {
    match cookies::find(visit.headers(), cx.config(), NOTICE_COOKIE) {
        Some(word) => (Notice::find(word), Some(cookies::clear(cx.config(), NOTICE_COOKIE))),
        None => (None, None),
    }
}

pub fn believe(cx: &Cx, visit: &Visit, form: &FormFields) -> Result<(), Instead> {
    if visit.believes(cx, form.text("csrf")) { Ok(()) } else { Err(Instead::Refused(Refused::page(Problem::CookiesOff))) }
}

pub async fn load_client(cx: &Cx, client_id: &str) -> Result<Client, Instead> {
    let client_id = client_id.to_owned();
    let found = cx.db().read(move |tx| environments::find_client(tx, &client_id)).await?;
    found.ok_or_else(|| Instead::Refused(Refused::page(Problem::UnknownClient)))
}

pub async fn find(cx: &Cx, visit: &Visit, client: &Client) -> Result<Option<SignedIn>, DbError> {
    let Some(token_hash) = browser_sessions::token_hash(cx, visit.headers(), &client.environment.id) else { return Ok(None) };
    let (client, browser, now) = (client.clone(), visit.browser.clone(), cx.now());
    cx.db().read(move |tx| find_in(tx, &client, &token_hash, &browser.hash(), now)).await
}

fn find_in(tx: &mut Tx<'_>, client: &Client, token_hash: &str, browser_hash: &str, now: Timestamp) -> Result<Option<SignedIn>, DbError> {
    let environment = &client.environment.id;
    let Some((session, user)) = browser_sessions::find_person(tx, &client.environment, Some(token_hash), now)? else { return Ok(None) };
    // A session's cookie that turns up in another browser than it was set in was planted there, or stolen (attack row 44).
    if session.browser_hash.as_deref().is_some_and(|hash| !eq_constant_time(hash.as_bytes(), browser_hash.as_bytes())) {
        return Ok(None);
    }
    // Whoever acts as somebody has no business with how that person signs in.
    if session.method == Method::Impersonation {
        return Ok(None);
    }
    let settings = client.environment.settings.clone();
    let mut client = client.clone();
    client.environment.settings.mfa = find_mfa(tx, &client, &user)?;
    // Where no sign-in asks for a second factor, none can be proved.
    let needs_second_factor =
        client.environment.settings.mfa != Mfa::Off && authentication_factors::is_enrolled(tx, environment, &user.id)?;
    Ok(Some(SignedIn { client, settings, user, session, token_hash: token_hash.to_owned(), needs_second_factor }))
}

/// What sign-ins of the user ask of second factors, wherever they lead: the strictest of all organizations they may act for.
fn find_mfa(tx: &mut Tx<'_>, client: &Client, user: &User) -> Result<Mfa, DbError> {
    let (environment, settings) = (&client.environment.id, &client.environment.settings);
    let memberships = organization_memberships::list_active_of_user(tx, environment, &user.id)?;
    let mut mfa = sign_in_policies::find_effective_for(tx, environment, settings, None, user.email.key())?.mfa;
    for membership in &memberships {
        if mfa == Mfa::Required {
            break;
        }
        let organization = Some(&membership.organization_id);
        mfa = mfa.max(sign_in_policies::find_effective_for(tx, environment, settings, organization, user.email.key())?.mfa);
    }
    Ok(mfa)
}

/// For an address without `client_id`: where this browser is signed in, or else the first environment.
async fn choose_client(cx: &Cx, visit: &Visit) -> Result<String, Instead> {
    let (cx_in, visit_in, now) = (cx.clone(), visit.clone(), cx.now());
    let chosen = cx
        .db()
        .read(move |tx| {
            let mut first = None;
            for environment in environments::list(tx)? {
                let Some((client, _)) = environments::list_clients(tx, &environment.id)?.into_iter().next() else { continue };
                let hash = browser_sessions::token_hash(&cx_in, visit_in.headers(), &environment.id);
                if browser_sessions::find(tx, &environment.id, hash.as_deref(), now)?.is_some() {
                    return Ok::<_, DbError>(Some(client));
                }
                first = first.or(Some(client));
            }
            Ok(first)
        })
        .await?;
    chosen.map(|client| client.to_string()).ok_or_else(not_found)
}

/// To the pages of a sign-in, which come back to `page`.
pub async fn sign_in_first(cx: &Cx, visit: &Visit, client: &Client, email: Option<String>, page: Page) -> Result<Instead, Instead> {
    let wanted = ForPage {
        environment: client.environment.id.clone(),
        client_id: client.id.to_string(),
        path: page.address(client.id.as_str()),
        organization_id: None,
        email,
    };
    Ok(Instead::Page(Box::new(authorize::begin_for_page(cx, visit, wanted).await?)))
}

pub fn go(location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Instead {
    Instead::Page(Box::new(page::redirect(StatusCode::SEE_OTHER, location, cookies)))
}
