//! What the guard answers.

use std::sync::{Arc, Mutex, PoisonError};

use gatewright_guard as guard;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::principal;

#[pyclass(module = "gatewright._core", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct Refusal {
    #[pyo3(get)]
    status: u16,
    #[pyo3(get)]
    code: String,
    #[pyo3(get)]
    message: String,
    #[pyo3(get)]
    challenge: Option<String>,
    #[pyo3(get)]
    retry_after: Option<u64>,
    #[pyo3(get)]
    acr_values: Option<String>,
    #[pyo3(get)]
    max_age: Option<u64>,
}

impl Refusal {
    pub fn of(refusal: &guard::Refusal, resource_metadata: Option<&str>) -> Self {
        Self {
            status: refusal.status(),
            code: refusal.code().to_owned(),
            message: refusal.message(),
            challenge: refusal.challenge(resource_metadata),
            retry_after: refusal.retry_after(),
            acr_values: refusal.acr_values().map(str::to_owned),
            max_age: refusal.max_age(),
        }
    }
}

#[pymethods]
impl Refusal {
    #[new]
    #[pyo3(signature = (status, code, message, *, challenge=None, retry_after=None, acr_values=None, max_age=None))]
    fn new(
        status: u16,
        code: String,
        message: String,
        challenge: Option<String>,
        retry_after: Option<u64>,
        acr_values: Option<String>,
        max_age: Option<u64>,
    ) -> Self {
        Self { status, code, message, challenge, retry_after, acr_values, max_age }
    }

    fn __repr__(&self) -> String {
        format!("Refusal({}, {:?}, {:?})", self.status, self.code, self.message)
    }
}

/// What must be asked before there is an answer; taken out by the one call that asks.
#[pyclass(module = "gatewright._core", frozen)]
pub struct Need(Mutex<Option<guard::feed::Need>>);

impl Need {
    pub fn new(need: guard::feed::Need) -> Self {
        Self(Mutex::new(Some(need)))
    }

    pub fn take(&self) -> Option<guard::feed::Need> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pyclass(module = "gatewright._core", frozen)]
pub struct Resolved {
    principal: Option<Py<PyAny>>,
    refusal: Option<Py<Refusal>>,
    cookies: Arc<[String]>,
}

impl Resolved {
    pub fn of(py: Python<'_>, resolved: guard::feed::Resolved, resource_metadata: Option<&str>) -> PyResult<Self> {
        let (principal, refusal) = match resolved.outcome {
            Ok(principal) => (Some(principal::object_of(py, principal)?), None),
            Err(refusal) => (None, Some(Py::new(py, Refusal::of(&refusal, resource_metadata))?)),
        };
        Ok(Self { principal, refusal, cookies: resolved.cookies })
    }
}

#[pymethods]
impl Resolved {
    #[getter]
    fn principal(&self) -> Option<&Py<PyAny>> {
        self.principal.as_ref()
    }

    #[getter]
    fn refusal(&self) -> Option<&Py<Refusal>> {
        self.refusal.as_ref()
    }

    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.cookies.iter())
    }

    /// Cookies hold the session: their number is all that is told of them.
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let outcome = match (&self.principal, &self.refusal) {
            (Some(principal), _) => principal.bind(py).repr()?.to_string(),
            (None, Some(refusal)) => refusal.get().__repr__(),
            (None, None) => "nothing".to_owned(),
        };
        Ok(format!("Resolved({outcome}, {} cookies)", self.cookies.len()))
    }
}

#[pyclass(module = "gatewright._core", frozen)]
pub struct LoginResult {
    #[pyo3(get)]
    location: Option<String>,
    principal: Option<Py<PyAny>>,
    #[pyo3(get)]
    problem: Option<String>,
    #[pyo3(get)]
    return_to: Option<String>,
    #[pyo3(get)]
    status: u16,
    #[pyo3(get)]
    cookies: Vec<String>,
}

impl LoginResult {
    pub fn of(py: Python<'_>, result: guard::feed::LoginResult) -> PyResult<Self> {
        let guard::feed::LoginResult { location, principal, problem, return_to, status, cookies } = result;
        let principal = principal.map(|principal| principal::object_of(py, principal)).transpose()?;
        Ok(Self { location, principal, problem, return_to, status, cookies })
    }
}

#[pymethods]
impl LoginResult {
    #[getter]
    fn principal(&self) -> Option<&Py<PyAny>> {
        self.principal.as_ref()
    }

    fn __repr__(&self) -> String {
        match (&self.location, &self.problem) {
            (Some(location), _) => format!("LoginResult(location={location:?})"),
            (None, problem) => format!("LoginResult(problem={:?})", problem.as_deref().unwrap_or_default()),
        }
    }
}
