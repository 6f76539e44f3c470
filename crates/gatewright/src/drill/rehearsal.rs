//! The rehearsals: how each end is brought about, and what is asked while it spreads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatewright_base::{Clock, Secret, SystemClock};
use serde_json::{Value, json};
use ureq::http::Method;

use super::app::{App, Credential};
use super::check::{AtApp, Check, Measure, Name, millis};
use super::server::{Server, SignedIn, encode};
use super::settings::Settings;
use super::throwaway::Throwaway;
use super::watch::{FAST, Plan, Seen, Stop, Watch, after, is_known, read_status};

/// Everything a rehearsal needs.
pub struct Stage {
    pub settings: Settings,
    pub server: Arc<Server>,
    pub app: Option<Arc<App>>,
    pub things: Throwaway,
    pub stop: Arc<Stop>,
}

/// Why a rehearsal did not go on.
pub enum Trouble {
    /// It cannot be rehearsed here.
    NotRun(String),
    /// Something that should have worked did not.
    Broken(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// A rehearsal whose watches may go on while the next begins.
pub struct Begun {
    pub name: Name,
    bound: Duration,
    server: Measure,
    watched: Vec<(Watch, Shown)>,
    app: Vec<AtApp>,
    notes: Vec<String>,
}

/// What a watch shows, to be shown once more at the end.
struct Shown {
    path: String,
    credential: Credential,
    baseline: u16,
}

impl Begun {
    fn new(stage: &Stage, name: Name) -> Self {
        let none = Measure::NotMeasured { why: NO_APP.to_owned() };
        Self { name, bound: stage.settings.bound, server: none, watched: Vec::new(), app: Vec::new(), notes: Vec::new() }
    }

    /// Waits until every watch has seen its end, or will not see it soon.
    pub fn wait(&self, most: Duration) {
        self.watched.iter().for_each(|(watch, _)| watch.wait(most));
    }

    /// Waits for the watches, and asks each once more: an end that does not last is none.
    pub fn finish(self, stage: &Stage) -> Check {
        let Self { name, bound, server, watched, mut app, mut notes } = self;
        for (watch, shown) in watched {
            let credential = watch.credential;
            let mut measure = watch.finish();
            if let Measure::Denied { after_ms, wavered, .. } = measure {
                if wavered > 0 {
                    notes.push(format!("{credential}: let in again {wavered} times before it was refused for good"));
                }
                let again = stage.app.as_ref().map(|app| app.ask(&shown.path, &shown.credential));
                if again.is_some_and(|status| status.is_ok_and(|status| is_known(status) && status == shown.baseline)) {
                    measure = Measure::LetInAgain { after_ms };
                }
            }
            app.push(AtApp { credential, measure });
        }
        Check::new(name, bound, server, app, notes)
    }
}

const NO_APP: &str = "no app is given (--app)";
const NO_COOKIE: &str = "WORKOS_COOKIE_PASSWORD is not set, so no session cookie can be made";
const NO_KEY_ROUTE: &str = "no route of the app is known that takes API keys (--api-key-route)";

impl Stage {
    /// Shows the app the person's credentials, before anything ends. What it never takes is not measured; it has to take one.
    fn show(&self, begun: &mut Begun, session: &SignedIn) -> Result<Vec<(&'static str, Shown)>, String> {
        let Some((app, path)) = self.user_route() else { return Ok(Vec::new()) };
        let mut credentials = vec![("bearer token", Credential::bearer(&session.access_token))];
        if let Some(settings) = &self.settings.session {
            credentials.push((COOKIE, Credential::cookie(settings, &session.answer)?));
        }
        let mut shown = Vec::new();
        for (name, credential) in credentials {
            let status = app.ask(path, &credential).map_err(|why| format!("the app ({name}): {why}"))?;
            if is_known(status) {
                shown.push((name, Shown { path: path.to_owned(), credential, baseline: status }));
            } else {
                let why = format!("the app does not take it: it answered {status} before anything had ended");
                begun.app.push(AtApp { credential: name, measure: Measure::NotMeasured { why } });
            }
        }
        if shown.is_empty() { Err(format!("the app at {path} let in nobody before anything had ended")) } else { Ok(shown) }
    }

    fn user_route(&self) -> Option<(&Arc<App>, &str)> {
        let app = self.app.as_ref()?;
        Some((app, app.routes.user.as_deref()?))
    }

    /// Begins to watch each credential, from now on.
    fn watch(&self, begun: &mut Begun, shown: Vec<(&'static str, Shown)>, since: Instant, session: &SignedIn) -> Result<(), String> {
        let expires = left_of(session);
        let fast_until = self.settings.bound + Duration::from_secs(1);
        // A guard that hears of nothing lets a token in until it expires: asked a little longer than that.
        let give_up = self.settings.max_wait.min(expires + self.settings.leeway + self.settings.bound + Duration::from_secs(2));
        let plan = Plan { since, fast_from: Duration::ZERO, fast_until, fast: FAST, give_up, expires: Some(expires) };
        self.watch_by(begun, shown, plan)
    }

    fn watch_by(&self, begun: &mut Begun, shown: Vec<(&'static str, Shown)>, plan: Plan) -> Result<(), String> {
        let Some(app) = &self.app else { return Ok(()) };
        for (name, shown) in shown {
            let (app, path, credential, baseline) = (Arc::clone(app), shown.path.clone(), shown.credential.clone(), shown.baseline);
            let ask = move || app.ask(&path, &credential).map(|status| read_status(baseline, status));
            begun.watched.push((Watch::start(name, plan, Arc::clone(&self.stop), ask)?, shown));
        }
        Ok(())
    }

    /// Tries to renew the session until it is refused or the bound is long past. What it is given it uses on.
    fn watch_refresh(&self, session: &SignedIn, since: Instant) -> Result<Measure, String> {
        let (mut token, mut asked, mut last_let_in_ms) = (session.refresh_token.clone(), 0, None);
        let mut pause = Duration::from_millis(10);
        loop {
            asked += 1;
            match self.server.refresh(&token)? {
                Err(status) => {
                    return Ok(Measure::Denied { after_ms: after(since), last_let_in_ms, status, asked, wavered: 0, by_expiry: false });
                }
                Ok(renewed) => token = renewed.refresh_token,
            }
            last_let_in_ms = Some(after(since));
            if after(since) > millis(self.settings.bound + Duration::from_secs(1)) || !self.stop.sleep(pause) {
                return Ok(Measure::StillLetIn { after_ms: after(since), asked });
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// An end must be felt well before the expiry, or the two cannot be told apart.
    fn check_lifetime(&self, session: &SignedIn) -> Result<(), Trouble> {
        if self.app.is_none() || left_of(session) >= self.settings.bound * 2 + Duration::from_secs(1) {
            return Ok(());
        }
        let lifetime = session.facts.expires_at - session.facts.issued_at;
        Err(Trouble::NotRun(format!("an access token lives {lifetime} s here, too short to tell an end from its expiry")))
    }

    /// Sets the scene for an end of a session, lets `end` bring it about, and watches.
    fn rehearse(&self, name: Name, session: &SignedIn, end: impl FnOnce() -> Result<(), String>) -> Result<Begun, Trouble> {
        let mut begun = Begun::new(self, name);
        self.check_lifetime(session)?;
        let shown = self.show(&mut begun, session)?;
        let since = Instant::now();
        self.watch(&mut begun, shown, since, session)?;
        end()?;
        begun.server = self.watch_refresh(session, since)?;
        Ok(begun)
    }

    pub fn sign_out(&self) -> Result<Begun, Trouble> {
        let (_, session) = self.things.signed_in()?;
        let path = format!("/user_management/sessions/logout?session_id={}", encode(&session.facts.session_id));
        let through = self.app.as_ref().and_then(|app| Some((app, app.routes.sign_out.clone()?, self.settings.session.as_ref()?)));
        let Some((app, sign_out, settings)) = through else {
            return self.rehearse(Name::SignOut, &session, || self.follow(&path));
        };
        let cookie = Credential::cookie(settings, &session.answer)?;
        const LOGOUT: &str = "/user_management/sessions/logout?";
        let end = || {
            let answer = app.call(&Method::POST, &sign_out, &cookie)?;
            match answer.json()["logout_url"].as_str() {
                // Its public address may be another than the one that is drilled: only the path is followed.
                Some(url) => match url.split_once(LOGOUT) {
                    Some((_, query)) => self.follow(&format!("{LOGOUT}{query}")),
                    None => Err("the app's sign-out leads to no sign-out of the server".to_owned()),
                },
                None => Err(format!("the app's sign-out at {sign_out} answered {} and no logout_url", answer.status)),
            }
        };
        let mut begun = self.rehearse(Name::SignOut, &session, end)?;
        begun.notes.push(format!("signed out through the app's {sign_out}, then at the server, as a browser does"));
        Ok(begun)
    }

    /// What the browser does that an app sends to the server's sign-out.
    fn follow(&self, path: &str) -> Result<(), String> {
        match self.server.visit(path)?.status {
            200..=399 => Ok(()),
            status => Err(format!("the server's sign-out answered {status}")),
        }
    }

    pub fn session_revocation(&self) -> Result<Begun, Trouble> {
        let (_, session) = self.things.signed_in()?;
        self.rehearse(Name::SessionRevocation, &session, || {
            let body = json!({"session_id": session.facts.session_id});
            self.server.good(&Method::POST, "/user_management/sessions/revoke", Some(&body)).map(drop)
        })
    }

    pub fn user_deletion(&self) -> Result<Begun, Trouble> {
        let (person, session) = self.things.signed_in()?;
        self.rehearse(Name::UserDeletion, &session, || {
            self.server.good(&Method::DELETE, &format!("/user_management/users/{}", encode(&person.id)), None).map(drop)
        })
    }

    pub fn membership_deactivation(&self) -> Result<Begun, Trouble> {
        let (organization, person) = (self.things.organization()?, self.things.person()?);
        let membership = self.things.join(&person, &organization)?;
        let session = self.things.sign_in(&person)?;
        if session.facts.organization_id.as_deref() != Some(&organization.id) {
            return Err(Trouble::Broken("the session of a member is not for the organization".to_owned()));
        }
        self.rehearse(Name::MembershipDeactivation, &session, || {
            let path = format!("/user_management/organization_memberships/{}/deactivate", encode(&membership));
            self.server.good(&Method::PUT, &path, None).map(drop)
        })
    }

    pub fn api_key_revocation(&self) -> Result<Begun, Trouble> {
        let organization = self.things.organization()?;
        let key = self.things.api_key(&organization, &self.settings.api_key_permissions)?;
        if !self.server.is_valid(&key.value)? {
            return Err(Trouble::Broken("the server does not know the API key it has just made".to_owned()));
        }
        let mut begun = Begun::new(self, Name::ApiKeyRevocation);
        let mut shown = Vec::new();
        match self.app.as_ref().map(|app| (app, app.routes.api_key.as_deref())) {
            None => {}
            Some((_, None)) => {
                begun.app.push(AtApp { credential: API_KEY, measure: Measure::NotMeasured { why: NO_KEY_ROUTE.to_owned() } })
            }
            Some((app, Some(path))) => {
                let credential = Credential::bearer(&key.value);
                let baseline = app.check_baseline(path, &credential).map_err(|why| format!("the app ({API_KEY}): {why}"))?;
                if baseline == 403 {
                    begun.notes.push(format!(
                        "{path} answered 403 to the key: known, without the permission (--api-key-permission); 401 is its end"
                    ));
                }
                shown.push((API_KEY, Shown { path: path.to_owned(), credential, baseline }));
            }
        }
        let since = Instant::now();
        // It never expires by itself: asked until the drill's limit.
        let bound = self.settings.bound;
        let give_up = self.settings.max_wait.min(bound + Duration::from_secs(60));
        let plan =
            Plan { since, fast_from: Duration::ZERO, fast_until: bound + Duration::from_secs(1), fast: FAST, give_up, expires: None };
        self.watch_by(&mut begun, shown, plan)?;
        self.server.good(&Method::DELETE, &format!("/api_keys/{}", encode(&key.id)), None)?;
        begun.server = self.watch_key(&key.value, since)?;
        Ok(begun)
    }

    fn watch_key(&self, key: &Secret<String>, since: Instant) -> Result<Measure, String> {
        let (mut asked, mut last_let_in_ms) = (0, None);
        loop {
            asked += 1;
            if !self.server.is_valid(key)? {
                return Ok(Measure::Denied { after_ms: after(since), last_let_in_ms, status: 200, asked, wavered: 0, by_expiry: false });
            }
            last_let_in_ms = Some(after(since));
            if after(since) > millis(self.settings.bound + Duration::from_secs(1)) || !self.stop.sleep(Duration::from_millis(20)) {
                return Ok(Measure::StillLetIn { after_ms: after(since), asked });
            }
        }
    }

    pub fn refresh_token_reuse(&self) -> Result<Begun, Trouble> {
        let (_, first) = self.things.signed_in()?;
        let second = self.renew(&first)?;
        // A client that lost the answer asks again and is given the same pair: another one would be a second family.
        if let Ok(replayed) = self.server.refresh(&first.refresh_token)?
            && replayed.refresh_token.reveal() != second.refresh_token.reveal()
        {
            let mut begun = Begun::new(self, Name::RefreshTokenReuse);
            begun.server = Measure::Accepted { what: "a refresh token that had been exchanged, for a pair of its own".to_owned() };
            return Ok(begun);
        }
        // From here on the first token is two generations old: nobody honest has it.
        let third = self.renew(&second)?;
        let mut begun = Begun::new(self, Name::RefreshTokenReuse);
        self.check_lifetime(&third)?;
        let shown = self.show(&mut begun, &third)?;
        let since = Instant::now();
        self.watch(&mut begun, shown, since, &third)?;
        begun.server = match self.server.refresh(&first.refresh_token)? {
            Ok(_) => Measure::Accepted { what: "a refresh token that had been exchanged long before".to_owned() },
            // The thief is out; so must be the session, for nobody knows which of the two the thief was.
            Err(_) => self.watch_refresh(&third, since)?,
        };
        Ok(begun)
    }

    pub fn renew(&self, session: &SignedIn) -> Result<SignedIn, String> {
        self.server.refresh(&session.refresh_token)?.map_err(|status| format!("a refresh token that was good was refused ({status})"))
    }

    /// The bearer token only: an app renews the session of a cookie.
    pub fn token_expiry(&self) -> Result<Begun, Trouble> {
        let (_, session) = self.things.signed_in()?;
        let mut begun = Begun::new(self, Name::TokenExpiry);
        begun.server = Measure::NotMeasured { why: "the server's own API takes keys and no access tokens".to_owned() };
        // How far clocks may be off is part of what is promised.
        begun.bound = self.settings.bound + self.settings.leeway;
        let Some((app, path)) = self.user_route() else { return Err(Trouble::NotRun(NO_APP.to_owned())) };
        let (left, lifetime) = (left_of(&session), session.facts.expires_at - session.facts.issued_at);
        let needed = left + begun.bound + Duration::from_secs(2);
        if needed > self.settings.max_wait {
            return Err(Trouble::NotRun(format!("an access token lives {lifetime} s here, longer than --max-wait allows to see it end")));
        }
        let credential = Credential::bearer(&session.access_token);
        let baseline = app.check_baseline(path, &credential).map_err(|why| format!("the app (bearer token): {why}"))?;
        let shown = Shown { path: path.to_owned(), credential, baseline };
        let left = left_of(&session);
        let since = Instant::now() + left;
        let fast_from = Duration::from_secs(1).min(left);
        let plan = Plan {
            since,
            fast_from,
            fast_until: begun.bound + Duration::from_secs(1),
            // Seconds are awaited here, beside checks that count milliseconds.
            fast: FAST * 8,
            give_up: begun.bound + Duration::from_secs(2),
            expires: None,
        };
        self.watch_by(&mut begun, vec![("bearer token", shown)], plan)?;
        begun.notes.push(format!(
            "lifetime {lifetime} s; the time counts from exp by this machine's clock, and a guard allows clocks to be {} s apart",
            self.settings.leeway.as_secs()
        ));
        Ok(begun)
    }

    pub fn cookie_deletion(&self) -> Result<Begun, Trouble> {
        let Some((app, path)) = self.user_route() else { return Err(Trouble::NotRun(NO_APP.to_owned())) };
        let Some(settings) = &self.settings.session else { return Err(Trouble::NotRun(NO_COOKIE.to_owned())) };
        let (_, session) = self.things.signed_in()?;
        let cookie = Credential::cookie(settings, &session.answer)?;
        let baseline = app.ask(path, &cookie).map_err(|why| format!("the app ({COOKIE}): {why}"))?;
        if !is_known(baseline) {
            return Err(Trouble::NotRun(format!("the app takes no session cookie: it answered {baseline} to one")));
        }
        let mut begun = Begun::new(self, Name::CookieDeletion);
        begun.server = Measure::NotMeasured { why: "nothing reaches the server".to_owned() };
        let since = Instant::now();
        let status = app.ask(path, &Credential::None)?;
        let measure = match read_status(baseline, status) {
            Seen::Denied(status) => {
                Measure::Denied { after_ms: after(since), last_let_in_ms: None, status, asked: 1, wavered: 0, by_expiry: false }
            }
            Seen::LetIn => Measure::StillLetIn { after_ms: after(since), asked: 1 },
            Seen::Neither(status) => Measure::NoAnswer { why: format!("it answered {status}") },
        };
        begun.app.push(AtApp { credential: "no cookie", measure });
        if app.ask(path, &cookie)? == baseline {
            begun.notes.push("a copy of the cookie is still let in: deleting a cookie ends no session, signing out does".to_owned());
        }
        Ok(begun)
    }
}

const API_KEY: &str = "API key";
const COOKIE: &str = "session cookie";

/// How long the access token still has, by this machine's clock.
pub fn left_of(session: &SignedIn) -> Duration {
    let left = session.facts.expires_at.saturating_mul(1_000).saturating_sub(SystemClock.now().millis());
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// The key set by the ids of its keys.
pub fn key_ids(keys: &Value) -> Vec<&str> {
    keys["keys"].as_array().into_iter().flatten().filter_map(|key| key["kid"].as_str()).collect()
}
