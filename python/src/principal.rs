use std::sync::Arc;
use std::time::Duration;

use gatewright_base::{Clock, SystemClock, Timestamp};
use gatewright_guard as guard;
use gatewright_guard::{Kind, Via};
use pyo3::PyClass;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyDict, PyTuple, PyTzInfo};
use serde_json::Value;

use crate::json;
use crate::requirement::hash_of;

/// How long a principal made by a test lasts.
const TEST_LIFETIME: Duration = Duration::from_secs(3600);

#[pyclass(module = "gatewright._core", frozen, subclass)]
pub struct Principal(pub Arc<guard::Principal>);

#[pyclass(module = "gatewright._core", frozen, extends = Principal)]
pub struct User;

#[pyclass(module = "gatewright._core", frozen, extends = Principal)]
pub struct Machine;

#[pyclass(module = "gatewright._core", frozen, extends = Principal)]
pub struct ApiKey;

/// The instance of `User`, `Machine` or `ApiKey` for a verified caller.
pub fn object_of(py: Python<'_>, principal: Arc<guard::Principal>) -> PyResult<Py<PyAny>> {
    match principal.kind {
        Kind::User => instance(py, principal, User),
        Kind::Machine => instance(py, principal, Machine),
        Kind::ApiKey => instance(py, principal, ApiKey),
    }
}

fn instance<T>(py: Python<'_>, principal: Arc<guard::Principal>, class: T) -> PyResult<Py<PyAny>>
where
    T: PyClass<BaseType = Principal>,
{
    Ok(Py::new(py, PyClassInitializer::from(Principal(principal)).add_subclass(class))?.into_any())
}

#[pymethods]
impl Principal {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.as_str()
    }

    #[getter]
    fn via(&self) -> &'static str {
        self.0.via.as_str()
    }

    #[getter]
    fn issuer(&self) -> &str {
        &self.0.issuer
    }

    #[getter]
    fn id(&self) -> &str {
        &self.0.subject
    }

    #[getter]
    fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    #[getter]
    fn client_id(&self) -> Option<&str> {
        self.0.client_id.as_deref()
    }

    #[getter]
    fn organization_id(&self) -> Option<&str> {
        self.0.organization_id.as_deref()
    }

    #[getter]
    fn token_id(&self) -> Option<&str> {
        self.0.token_id.as_deref()
    }

    #[getter]
    fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    #[getter]
    fn roles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.roles)
    }

    #[getter]
    fn permissions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.permissions)
    }

    #[getter]
    fn scopes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.scopes)
    }

    #[getter]
    fn entitlements<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.entitlements)
    }

    #[getter]
    fn feature_flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.feature_flags)
    }

    #[getter]
    fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    #[getter]
    fn user<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.user.as_ref().map(|user| json::object_of(py, user)).transpose()
    }

    #[getter]
    fn impersonator(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    #[getter]
    fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    #[getter]
    fn authenticated_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDateTime>>> {
        self.0.authenticated_at.map(|at| datetime_of(py, at)).transpose()
    }

    #[getter]
    fn amr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.amr)
    }

    #[getter]
    fn acr(&self) -> Option<&str> {
        self.0.acr.as_deref()
    }

    #[getter]
    fn not_before<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDateTime>>> {
        self.0.not_before.map(|at| datetime_of(py, at)).transpose()
    }

    #[getter]
    fn issued_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDateTime>>> {
        self.0.issued_at.map(|at| datetime_of(py, at)).transpose()
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        datetime_of(py, self.0.expires_at)
    }

    #[getter]
    fn claims<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::dict_of(py, &self.0.claims)
    }

    #[pyo3(signature = (role, /))]
    fn has_role(&self, role: &str) -> bool {
        self.0.has_role(role)
    }

    #[pyo3(signature = (permission, /))]
    fn has_permission(&self, permission: &str) -> bool {
        self.0.has_permission(permission)
    }

    #[pyo3(signature = (scope, /))]
    fn has_scope(&self, scope: &str) -> bool {
        self.0.has_scope(scope)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| self.0 == other.get().0)
    }

    fn __hash__(&self) -> u64 {
        hash_of(&(self.0.kind, &self.0.issuer, &self.0.subject, &self.0.session_id, self.0.expires_at))
    }

    /// Nothing of it is secret, and nothing of it is more than what tells one caller from another.
    fn __repr__(&self) -> String {
        let class = match self.0.kind {
            Kind::User => "User",
            Kind::Machine => "Machine",
            Kind::ApiKey => "ApiKey",
        };
        let own = self.0.as_ref();
        let named = [("session_id", &own.session_id), ("organization_id", &own.organization_id)];
        let said: String = named.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!(", {name}={value:?}"))).collect();
        format!("{class}({:?}, via={:?}{said})", own.subject, own.via.as_str())
    }
}

#[pymethods]
impl User {
    #[new]
    #[pyo3(signature = (id, **fields))]
    fn new(id: String, fields: Option<&Bound<'_, PyDict>>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(made(Kind::User, Via::Session, id, fields)?).add_subclass(Self))
    }

    #[getter]
    fn first_name(self_: PyRef<'_, Self>) -> Option<String> {
        text_in_user(&self_.as_super().0, "first_name")
    }

    #[getter]
    fn last_name(self_: PyRef<'_, Self>) -> Option<String> {
        text_in_user(&self_.as_super().0, "last_name")
    }

    #[getter]
    fn name(self_: PyRef<'_, Self>) -> Option<String> {
        let own = &self_.as_super().0;
        let parts: Vec<String> = ["first_name", "last_name"].iter().filter_map(|name| text_in_user(own, name)).collect();
        if !parts.is_empty() {
            return Some(parts.join(" "));
        }
        own.claims.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

#[pymethods]
impl Machine {
    #[new]
    #[pyo3(signature = (id, **fields))]
    fn new(id: String, fields: Option<&Bound<'_, PyDict>>) -> PyResult<PyClassInitializer<Self>> {
        let mut principal = made(Kind::Machine, Via::Bearer, id, fields)?;
        if principal.0.client_id.is_none() {
            let own = Arc::make_mut(&mut principal.0);
            own.client_id = Some(own.subject.clone());
        }
        Ok(PyClassInitializer::from(principal).add_subclass(Self))
    }
}

#[pymethods]
impl ApiKey {
    #[new]
    #[pyo3(signature = (id, **fields))]
    fn new(id: String, fields: Option<&Bound<'_, PyDict>>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(made(Kind::ApiKey, Via::ApiKey, id, fields)?).add_subclass(Self))
    }
}

/// The person's names are in the session's user object, or in the token as OpenID Connect spells them.
fn text_in_user(principal: &guard::Principal, name: &str) -> Option<String> {
    let claim = if name == "first_name" { "given_name" } else { "family_name" };
    let user = principal.user.as_ref().and_then(|user| user.get(name));
    let text = user.or_else(|| principal.claims.get(claim)).and_then(Value::as_str);
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn made(kind: Kind, via: Via, id: String, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Principal> {
    let mut own = guard::Principal::new(kind, via, "test", id, SystemClock.now().plus(TEST_LIFETIME));
    for (name, value) in fields.into_iter().flatten() {
        let name: String = name.extract()?;
        set(&mut own, &name, &value).map_err(|error| named(value.py(), &name, error))?;
    }
    Ok(Principal(Arc::new(own)))
}

fn set(own: &mut guard::Principal, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "via" => own.via = via_of(value)?,
        "issuer" => own.issuer = value.extract()?,
        "session_id" => own.session_id = value.extract()?,
        "client_id" => own.client_id = value.extract()?,
        "organization_id" => own.organization_id = value.extract()?,
        "token_id" => own.token_id = value.extract()?,
        "key_id" => own.key_id = value.extract()?,
        "roles" => own.roles = value.extract()?,
        "permissions" => own.permissions = value.extract()?,
        "scopes" => own.scopes = value.extract()?,
        "entitlements" => own.entitlements = value.extract()?,
        "feature_flags" => own.feature_flags = value.extract()?,
        "email" => own.email = value.extract()?,
        "user" if value.is_none() => own.user = None,
        "user" => own.user = Some(Value::Object(json::map_of(value)?)),
        "actor" => own.actor = value.extract()?,
        "authenticated_at" => own.authenticated_at = timestamp_of(value)?,
        "amr" => own.amr = value.extract()?,
        "acr" => own.acr = value.extract()?,
        "not_before" => own.not_before = timestamp_of(value)?,
        "issued_at" => own.issued_at = timestamp_of(value)?,
        "expires_at" => own.expires_at = timestamp_of(value)?.unwrap_or(own.expires_at),
        "claims" if value.is_none() => own.claims.clear(),
        "claims" => own.claims = json::map_of(value)?,
        _ => return Err(PyTypeError::new_err("there is no such field")),
    }
    Ok(())
}

fn named(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let line = format!("{name}: {}", error.value(py));
    if error.is_instance_of::<PyValueError>(py) { PyValueError::new_err(line) } else { PyTypeError::new_err(line) }
}

fn via_of(value: &Bound<'_, PyAny>) -> PyResult<Via> {
    let name: String = value.extract()?;
    let found = [Via::Bearer, Via::Session, Via::ApiKey].into_iter().find(|via| via.as_str() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("{name:?} is none of bearer, session, api_key")))
}

fn datetime_of(py: Python<'_>, at: Timestamp) -> PyResult<Bound<'_, PyDateTime>> {
    PyDateTime::from_timestamp(py, at.millis() as f64 / 1000.0, Some(&*PyTzInfo::utc(py)?))
}

fn timestamp_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Timestamp>> {
    if value.is_none() {
        return Ok(None);
    }
    let moment = value.cast::<PyDateTime>()?;
    // Python would take a naive one for local time, whatever was meant.
    if moment.getattr("tzinfo")?.is_none() {
        return Err(PyValueError::new_err("the datetime has no time zone; use datetime.now(timezone.utc)"));
    }
    let seconds: f64 = moment.call_method0("timestamp")?.extract()?;
    Ok(Some(Timestamp::from_millis((seconds * 1000.0).round() as i64)))
}
