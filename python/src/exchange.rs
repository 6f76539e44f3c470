//! What the guard adds to whatever answer an app gives, its own Response, an exception, a stream or a WebSocket: the cookies of a renewed
//! session, and that caches keep their hands off what was made for one person.
//!
//! Every request of an app comes past here, also those of routes that nobody guards: that is why it is compiled.

use gatewright_guard::{Requirement, Via};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::answer::Refusal;
use crate::principal::Principal;

const CACHE_CONTROL: &[u8] = b"cache-control";

/// One request and its answer, as the guards of one `Gatewright` see it.
#[pyclass(module = "gatewright._core")]
#[derive(Default)]
pub struct Exchange {
    #[pyo3(get)]
    app: Option<Py<PyAny>>,
    /// Whether the answer comes past a [`Forward`].
    #[pyo3(get)]
    hooked: bool,
    /// Whether something is to be added to the answer, so that forwarding costs one test where nothing is.
    #[pyo3(get, set)]
    armed: bool,
    /// Whether the answer may be made for whoever is behind a session cookie or an API key.
    #[pyo3(get)]
    personal: bool,
    #[pyo3(get)]
    cookies: Vec<String>,
    #[pyo3(get)]
    subprotocol: Option<String>,
    /// What the first guard of the request found, so that the others need not look again.
    #[pyo3(get, set)]
    principal: Option<Py<Principal>>,
    #[pyo3(get, set)]
    cross_site_checked: bool,
    #[pyo3(get, set)]
    fresh: bool,
    #[pyo3(get, set)]
    refusal: Option<Py<Refusal>>,
}

#[pymethods]
impl Exchange {
    #[new]
    fn new(app: Option<Py<PyAny>>, hooked: bool) -> Self {
        Self { app, hooked, ..Self::default() }
    }

    fn set_cookies(&mut self, cookies: Vec<String>) {
        for cookie in cookies {
            if !self.cookies.contains(&cookie) {
                self.cookies.push(cookie);
                self.armed = true;
            }
        }
    }

    fn replace_cookies(&mut self, cookies: Vec<String>) {
        self.armed = !cookies.is_empty() || self.personal;
        self.cookies = cookies;
    }

    fn forbid_caching(&mut self) {
        self.personal = true;
        self.armed = true;
    }

    fn choose_subprotocol(&mut self, name: String) {
        self.subprotocol = Some(name);
        self.armed = true;
    }

    fn forwarding(slf: &Bound<'_, Self>, send: Py<PyAny>) -> Forward {
        Forward { exchange: slf.clone().unbind(), send }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.principal)?;
        visit.call(&self.refusal)
    }

    fn __clear__(&mut self) {
        (self.app, self.principal, self.refusal) = (None, None, None);
    }
}

impl Exchange {
    /// Whether what is added to the answer reaches the caller, and no guard has refused the credential before.
    pub fn is_open(&self) -> bool {
        self.hooked && self.refusal.is_none()
    }

    /// Who was found before, by a guard that looked as closely as is demanded now.
    pub fn known(&self, requirement: &Requirement) -> Option<&Py<Principal>> {
        let suffices = (self.cross_site_checked || !requirement.check_cross_site) && (self.fresh || !requirement.fresh);
        self.principal.as_ref().filter(|_| suffices)
    }

    pub fn remember(&mut self, principal: Py<Principal>, via: Via, requirement: &Requirement) {
        self.principal = Some(principal);
        self.cross_site_checked |= requirement.check_cross_site;
        self.fresh |= requirement.fresh;
        if via != Via::Bearer {
            self.forbid_caching();
        }
    }

    /// The start of the answer with what is to be added to it; each is added once.
    fn amend<'py>(&self, message: &Bound<'py, PyAny>, kind: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let accepts = kind == "websocket.accept";
        if self.cookies.is_empty() && !accepts {
            return if self.personal { uncached(message) } else { Ok(message.clone()) };
        }
        let amended = copy(message)?;
        if !self.cookies.is_empty() {
            let headers = PyList::empty(py);
            for header in headers_of(message)?.iter().filter(|header| !is_cache_control(header)) {
                headers.append(header)?;
            }
            for cookie in &self.cookies {
                let value = PyString::new(py, cookie).call_method1(intern!(py, "encode"), ("latin-1",))?;
                headers.append((PyBytes::new(py, b"set-cookie"), value))?;
            }
            // A shared cache that kept this answer would hand one person's session to the next, whatever the app says.
            headers.append(no_store(py)?)?;
            amended.set_item(intern!(py, "headers"), headers)?;
        }
        if let Some(name) = self.subprotocol.as_deref().filter(|_| accepts) {
            let chosen = amended.get_item(intern!(py, "subprotocol"))?;
            if !chosen.is_some_and(|chosen| chosen.is_truthy().unwrap_or(true)) {
                amended.set_item(intern!(py, "subprotocol"), name)?;
            }
        }
        Ok(amended.into_any())
    }
}

/// The `send` of the app inside. The exchange does not keep it: the scope holds the exchange and the server's `send` the scope, and with
/// that circle closed nothing of a request would be freed before the garbage collector comes by.
#[pyclass(module = "gatewright._core", frozen)]
pub struct Forward {
    exchange: Py<Exchange>,
    send: Py<PyAny>,
}

#[pymethods]
impl Forward {
    fn __call__<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let send = self.send.bind(py);
        if !self.exchange.bind(py).try_borrow()?.armed {
            return send.call1((message,));
        }
        let kind = message.get_item(intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        if !matches!(kind, "http.response.start" | "websocket.accept" | "websocket.http.response.start") {
            return send.call1((message,));
        }
        self.exchange.bind(py).try_borrow_mut()?.armed = false;
        let message = self.exchange.bind(py).try_borrow()?.amend(message, kind)?;
        send.call1((message,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.exchange)?;
        visit.call(&self.send)
    }
}

/// A `send` that lets no cache keep the answer; see `Exchange.forbid_caching`.
#[pyfunction]
pub fn never_stored(py: Python<'_>, send: Py<PyAny>) -> PyResult<Forward> {
    let exchange = Exchange { hooked: true, personal: true, armed: true, ..Exchange::default() };
    Ok(Forward { exchange: Py::new(py, exchange)?, send })
}

/// The outermost layer of an app: gives every request an [`Exchange`] under `key` in its scope.
#[pyclass(module = "gatewright._core", frozen)]
pub struct CookieHook {
    #[pyo3(get)]
    app: Py<PyAny>,
    #[pyo3(get)]
    owner: Option<Py<PyAny>>,
    #[pyo3(get)]
    key: Py<PyString>,
}

#[pymethods]
impl CookieHook {
    #[new]
    fn new(app: Py<PyAny>, owner: Option<Py<PyAny>>, key: Py<PyString>) -> Self {
        Self { app, owner, key }
    }

    fn __call__<'py>(&self, scope: &Bound<'py, PyAny>, receive: &Bound<'py, PyAny>, send: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = scope.py();
        let (app, key) = (self.app.bind(py), self.key.bind(py));
        let is_lifespan = scope.get_item(intern!(py, "type"))?.eq(intern!(py, "lifespan"))?;
        if is_lifespan || scope.contains(key)? {
            return app.call1((scope, receive, send));
        }
        let owner = self.owner.as_ref().map(|owner| owner.clone_ref(py));
        let exchange = Py::new(py, Exchange { app: owner, hooked: true, ..Exchange::default() })?;
        scope.set_item(key, &exchange)?;
        app.call1((scope, receive, Forward { exchange, send }))
    }

    /// The app holds its layers, and this the app.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.owner)
    }
}

/// The start of an answer, with `no-store` unless it speaks of caches.
fn uncached<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let headers = headers_of(message)?;
    if headers.iter().any(|header| is_cache_control(&header)) {
        return Ok(message.clone());
    }
    headers.append(no_store(message.py())?)?;
    let amended = copy(message)?;
    amended.set_item(intern!(message.py(), "headers"), headers)?;
    Ok(amended.into_any())
}

/// A list of its own: that of the message may be the one of a `Response` which answers others too.
fn headers_of<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = message.py();
    let name = intern!(py, "headers");
    let headers = match message.cast::<PyDict>() {
        Ok(message) => message.get_item(name)?,
        Err(_) => Some(message.call_method1(intern!(py, "get"), (name,))?),
    };
    match headers {
        Some(headers) if !headers.is_none() => match headers.cast::<PyList>() {
            Ok(list) => Ok(list.get_slice(0, list.len())),
            Err(_) => headers.try_iter()?.collect::<PyResult<Vec<_>>>().and_then(|headers| PyList::new(py, headers)),
        },
        _ => Ok(PyList::empty(py)),
    }
}

/// Some apps give lists of two where ASGI shows tuples.
fn is_cache_control(header: &Bound<'_, PyAny>) -> bool {
    let is_it = |name: &Bound<'_, PyAny>| name.cast::<PyBytes>().is_ok_and(|name| name.as_bytes().eq_ignore_ascii_case(CACHE_CONTROL));
    match header.cast::<PyTuple>() {
        Ok(pair) => pair.get_borrowed_item(0).is_ok_and(|name| is_it(&name)),
        Err(_) => header.get_item(0).is_ok_and(|name| is_it(&name)),
    }
}

fn copy<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    match message.cast::<PyDict>() {
        Ok(dict) => dict.copy(),
        Err(_) => message.py().get_type::<PyDict>().call1((message,))?.cast_into::<PyDict>().map_err(PyErr::from),
    }
}

/// The same header for every answer.
fn no_store(py: Python<'_>) -> PyResult<&Bound<'_, PyTuple>> {
    static HEADER: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let make = || PyTuple::new(py, [CACHE_CONTROL, b"no-store"].map(|octets| PyBytes::new(py, octets))).map(Bound::unbind);
    HEADER.get_or_try_init(py, make).map(|header| header.bind(py))
}
