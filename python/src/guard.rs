use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewright_base::{Clock, SystemClock};
use gatewright_guard as guard;
use gatewright_guard::feed::{self, Check, DeniedRequest};
use gatewright_guard::login::{self, Login, LoginOptions};
use gatewright_guard::session::{
    SealedSession, SessionSettings, clear_session_cookies, open_session, read_session_cookie, seal_session, session_cookies,
};
use gatewright_guard::{Config, ConfigError, Many, Revoked};
use gatewright_jose::SystemRng;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use serde_json::Map;

use crate::answer::{LoginResult, Need, Refusal, Resolved};
use crate::lifetime::{self, Living};
use crate::logging;
use crate::principal::{self, Principal};
use crate::request::Headers;
use crate::requirement::Requirement;

#[pyclass(module = "gatewright._core", frozen, weakref)]
pub struct Guard {
    living: Arc<Living>,
    /// Named in challenges (RFC 9728 §5.1).
    resource_metadata: Option<Arc<str>>,
}

#[pymethods]
impl Guard {
    #[new]
    fn new(config_json: &str) -> PyResult<Self> {
        logging::listen();
        let config = Config::from_json(config_json).map_err(value_error)?;
        let resource_metadata = config.resource_metadata.as_deref().map(Arc::from);
        let guard = feed::Guard::new(config, Arc::new(SystemClock), Arc::new(SystemRng));
        let living = Arc::new(Living(guard.map_err(value_error)?));
        lifetime::remember(Arc::downgrade(&living));
        Ok(Self { living, resource_metadata })
    }

    fn check(
        &self,
        py: Python<'_>,
        requirement: &Bound<'_, Requirement>,
        method: &str,
        headers: &Bound<'_, PyAny>,
        websocket: bool,
        organization: Option<&str>,
    ) -> PyResult<Py<PyAny>> {
        let check = self.check_headers(&requirement.get().0, method, &Headers::of(headers)?, websocket, organization);
        self.answer(py, check)
    }

    fn satisfy(
        &self,
        requirement: &Bound<'_, Requirement>,
        principal: &Bound<'_, Principal>,
        organization: Option<&str>,
    ) -> Option<Refusal> {
        self.satisfy_of(&requirement.get().0, &principal.get().0, organization)
    }

    fn resolve(&self, py: Python<'_>, need: &Bound<'_, Need>, callback: Py<PyAny>) -> PyResult<()> {
        let need = need.get().take().ok_or_else(|| PyRuntimeError::new_err("this need was resolved before"))?;
        let resource_metadata = self.resource_metadata.clone();
        let done = move |resolved| call_back(&callback, |py| Resolved::of(py, resolved, resource_metadata.as_deref()));
        py.detach(|| self.guard().resolve(need, done));
        Ok(())
    }

    fn look_up(&self, py: Python<'_>, principal: &Bound<'_, Principal>, callback: Py<PyAny>) {
        let (principal, resource_metadata) = (Arc::clone(&principal.get().0), self.resource_metadata.clone());
        let done = move |resolved| call_back(&callback, |py| Resolved::of(py, resolved, resource_metadata.as_deref()));
        py.detach(|| self.guard().look_up(principal, done));
    }

    #[pyo3(signature = (redirect_uri, return_to=None, screen_hint=None, organization_id=None, login_hint=None, provider=None, *, max_age=None, acr_values=None, headers=None))]
    #[expect(clippy::too_many_arguments, reason = "what a sign-in may be told; Python names them")]
    fn begin_login(
        &self,
        redirect_uri: &str,
        return_to: Option<&str>,
        screen_hint: Option<&str>,
        organization_id: Option<&str>,
        login_hint: Option<&str>,
        provider: Option<&str>,
        max_age: Option<u64>,
        acr_values: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(String, Vec<String>)> {
        let headers = headers.map_or_else(|| Ok(Headers::default()), Headers::of)?;
        let options =
            LoginOptions { return_to, screen_hint, organization_id, login_hint, provider, max_age, acr_values, ..LoginOptions::default() };
        let (guard, facts) = (self.guard(), headers.facts("GET", false));
        let begun = login::begin_login(guard.config(), redirect_uri, &options, &facts.cookie, guard.rng(), guard.clock().now());
        let Login { url, set_cookie, clear_cookies } = begun.map_err(value_error)?;
        Ok((url, std::iter::once(set_cookie).chain(clear_cookies).collect()))
    }

    fn finish_login(
        &self,
        py: Python<'_>,
        query: &str,
        headers: &Bound<'_, PyAny>,
        user_agent: Option<&str>,
        ip: Option<&str>,
        callback: Py<PyAny>,
    ) -> PyResult<()> {
        let headers = Headers::of(headers)?;
        let facts = headers.facts("GET", false);
        let done = move |result| call_back(&callback, |py| LoginResult::of(py, result));
        py.detach(|| self.guard().exchange_code(query, &facts, user_agent, ip, done));
        Ok(())
    }

    fn sign_out(&self, headers: &Bound<'_, PyAny>, return_to: Option<&str>) -> PyResult<(Option<String>, Vec<String>)> {
        let headers = Headers::of(headers)?;
        let facts = headers.facts("GET", false);
        let (guard, settings) = (self.guard(), self.session_settings()?);
        let sealed = read_session_cookie(&facts.cookie, &settings.cookie_name);
        // A session that cannot be opened cannot be named to the server; its cookies go all the same.
        let session = sealed.and_then(|value| open_session(settings, &value, guard.clock().now()).ok());
        if let Some(session) = &session {
            guard.end_session(session);
        }
        let url = session.and_then(|session| login::sign_out_url(guard.config(), &session, return_to));
        Ok((url, clear_session_cookies(settings, &facts.cookie)))
    }

    fn switch_organization(&self, py: Python<'_>, headers: &Bound<'_, PyAny>, organization_id: &str, callback: Py<PyAny>) -> PyResult<()> {
        let headers = Headers::of(headers)?;
        let facts = headers.facts("POST", false);
        let resource_metadata = self.resource_metadata.clone();
        let done = move |resolved| call_back(&callback, |py| Resolved::of(py, resolved, resource_metadata.as_deref()));
        py.detach(|| self.guard().switch_organization(&facts, organization_id, done));
        Ok(())
    }

    fn seal_session(&self, access_token: String, refresh_token: String, user_json: &str) -> PyResult<Vec<String>> {
        let (guard, settings) = (self.guard(), self.session_settings()?);
        let user = serde_json::from_str(user_json).map_err(|error| PyValueError::new_err(format!("user_json: {error}")))?;
        let session = SealedSession { access_token, refresh_token: refresh_token.into(), user, impersonator: None, rest: Map::new() };
        let sealed = seal_session(settings, &session, guard.rng(), guard.clock().now());
        let sealed = sealed.map_err(|error| PyValueError::new_err(format!("session: {error}")))?;
        session_cookies(settings, &sealed, &Many::default()).map_err(|error| PyValueError::new_err(format!("session: {error}")))
    }

    fn csrf_token(&self, principal: &Bound<'_, Principal>) -> PyResult<String> {
        let settings = self.session_settings()?;
        let session_id = principal.get().0.session_id.as_deref();
        let session_id =
            session_id.ok_or_else(|| PyValueError::new_err("principal: it came without a session, which no other site can use"))?;
        Ok(guard::csrf_token(&settings.password, session_id))
    }

    #[pyo3(signature = (*, session_id=None, user_id=None, organization_id=None, client_id=None, key_id=None, for_seconds=600))]
    fn revoke(
        &self,
        session_id: Option<&str>,
        user_id: Option<&str>,
        organization_id: Option<&str>,
        client_id: Option<&str>,
        key_id: Option<&str>,
        for_seconds: u64,
    ) -> PyResult<()> {
        let of_user = match (user_id, organization_id) {
            (Some(user), Some(organization)) => Some(Revoked::Membership { user, organization }),
            (None, Some(_)) => return Err(PyValueError::new_err("organization_id: name the user_id whose membership has ended")),
            (user, None) => user.map(Revoked::User),
        };
        let named = [session_id.map(Revoked::Session), of_user, client_id.map(Revoked::Client), key_id.map(Revoked::Key)];
        if named.iter().all(Option::is_none) {
            return Err(PyValueError::new_err("name what is revoked: session_id, user_id, client_id or key_id"));
        }
        let now = SystemClock.now();
        for what in named.into_iter().flatten() {
            self.guard().revoke(what, now, now.plus(Duration::from_secs(for_seconds)));
        }
        Ok(())
    }

    fn on_revoked(&self, py: Python<'_>, principal: &Bound<'_, Principal>, callback: Py<PyAny>) -> Watching {
        let principal = Arc::clone(&principal.get().0);
        let tell = move || {
            lifetime::attached(|py| {
                if let Err(error) = callback.call0(py) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        };
        Watching(Mutex::new(Some(py.detach(|| self.guard().on_revoked(principal, tell)))))
    }

    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = py.detach(|| self.guard().health());
        let told = PyDict::new(py);
        told.set_item("revocations", health.revocations.as_str())?;
        told.set_item("age_seconds", health.age.map(|age| age.as_secs_f64()))?;
        told.set_item("reason", health.reason)?;
        Ok(told)
    }

    #[pyo3(signature = (reason, status, method, headers, websocket, path, client_ip=None, user_agent=None))]
    #[expect(clippy::too_many_arguments, reason = "what a report holds")]
    fn report_denied(
        &self,
        reason: &str,
        status: u16,
        method: &str,
        headers: &Bound<'_, PyAny>,
        websocket: bool,
        path: &str,
        client_ip: Option<&str>,
        user_agent: Option<&str>,
    ) -> PyResult<()> {
        let headers = Headers::of(headers)?;
        let denied = DeniedRequest { reason, status, path, client_ip, user_agent };
        self.guard().report_denied(&headers.facts(method, websocket), &denied);
        Ok(())
    }

    fn is_revoked(&self, principal: &Bound<'_, Principal>) -> bool {
        self.guard().revocations().is_revoked(&principal.get().0, SystemClock.now())
    }

    fn warm(&self, py: Python<'_>) {
        py.detach(|| self.guard().warm());
    }

    fn after_fork(&self) {
        self.guard().after_fork();
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.guard().stats().pairs().into_py_dict(py)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.guard().close());
    }
}

impl Guard {
    pub fn check_headers(
        &self,
        requirement: &guard::Requirement,
        method: &str,
        headers: &Headers<'_>,
        websocket: bool,
        organization: Option<&str>,
    ) -> Check {
        self.guard().check(&headers.facts(method, websocket), requirement, organization)
    }

    pub fn satisfy_of(
        &self,
        requirement: &guard::Requirement,
        principal: &guard::Principal,
        organization: Option<&str>,
    ) -> Option<Refusal> {
        let refused = guard::satisfy(requirement, principal, organization, SystemClock.now());
        refused.err().map(|refusal| self.refusal(&refusal))
    }

    pub fn answer(&self, py: Python<'_>, check: Check) -> PyResult<Py<PyAny>> {
        match check {
            Check::Allowed(principal) => principal::object_of(py, principal),
            Check::Refused(refusal) => Ok(Py::new(py, self.refusal(&refusal))?.into_any()),
            Check::Needs(need) => Ok(Py::new(py, Need::new(need))?.into_any()),
            Check::Renewed(resolved) => Ok(Py::new(py, Resolved::of(py, resolved, self.resource_metadata.as_deref())?)?.into_any()),
        }
    }

    fn guard(&self) -> &feed::Guard {
        &self.living.0
    }

    fn session_settings(&self) -> PyResult<&SessionSettings> {
        let settings = self.guard().config().session.as_ref();
        settings.ok_or_else(|| PyValueError::new_err("session: the configuration has none"))
    }

    fn refusal(&self, refusal: &guard::Refusal) -> Refusal {
        Refusal::of(refusal, self.resource_metadata.as_deref())
    }
}

/// Somebody who waits for a revocation, until it is cancelled or let go.
#[pyclass(module = "gatewright._core", frozen)]
pub struct Watching(Mutex<Option<feed::Watching>>);

#[pymethods]
impl Watching {
    fn cancel(&self, py: Python<'_>) {
        let watching = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(watching));
    }
}

fn value_error(error: ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Gives Python an answer, on a thread of ours. What the callback raises goes to `sys.unraisablehook`: nobody else would hear of it.
fn call_back<T>(callback: &Py<PyAny>, answer: impl FnOnce(Python<'_>) -> PyResult<T>)
where
    T: pyo3::PyClass,
    pyo3::PyClassInitializer<T>: From<T>,
{
    lifetime::attached(|py| {
        let called = answer(py).and_then(|answer| callback.call1(py, (Py::new(py, answer)?,)));
        if let Err(error) = called {
            error.write_unraisable(py, Some(callback.bind(py)));
        }
    });
}
