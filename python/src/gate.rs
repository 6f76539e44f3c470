//! The short way in: one call with the whole scope of a request, for the nearly all whose credential was seen before.

use gatewright_guard::feed::Check;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::exchange::Exchange;
use crate::guard::Guard;
use crate::principal::{self, Principal};
use crate::request::Headers;
use crate::requirement::Requirement;

/// What a route demands, ready to be asked of requests.
#[pyclass(module = "gatewright._core", frozen)]
pub struct Gate {
    guard: Py<Guard>,
    requirement: Py<Requirement>,
    /// Under which a scope holds its exchange.
    key: Py<PyString>,
    /// Whether telling our own pages from others' takes a closer look at the request, as methods that are not safe need it.
    only_safe_methods: bool,
}

#[pymethods]
impl Gate {
    #[new]
    fn new(guard: Py<Guard>, requirement: Py<Requirement>, key: Py<PyString>, only_safe_methods: bool) -> Self {
        Self { guard, requirement, key, only_safe_methods }
    }

    #[pyo3(signature = (scope, organization, /))]
    fn admit(&self, scope: &Bound<'_, PyAny>, organization: Option<&str>) -> PyResult<Option<Py<PyAny>>> {
        let py = scope.py();
        let Ok(scope) = scope.cast::<PyDict>() else { return Ok(None) };
        let Some(exchange) = scope.get_item(&self.key)? else { return Ok(None) };
        let Ok(exchange) = exchange.cast::<Exchange>() else { return Ok(None) };
        if !exchange.try_borrow()?.is_open() || has_overrides(scope)? {
            return Ok(None);
        }
        let [Some(kind), Some(method), Some(headers)] =
            [scope.get_item(intern!(py, "type"))?, scope.get_item(intern!(py, "method"))?, scope.get_item(intern!(py, "headers"))?]
        else {
            return Ok(None);
        };
        let (kind, method) = (kind.cast::<PyString>()?.to_str()?, method.cast::<PyString>()?.to_str()?);
        if kind != "http" || (self.only_safe_methods && !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")) {
            return Ok(None);
        }
        let (guard, requirement) = (self.guard.get(), &self.requirement.get().0);
        if let Some(known) = exchange.try_borrow()?.known(requirement) {
            return match guard.satisfy_of(requirement, &known.get().0, organization) {
                Some(refusal) => Ok(Some(Py::new(py, refusal)?.into_any())),
                None => Ok(Some(known.clone_ref(py).into_any())),
            };
        }
        let check = guard.check_headers(requirement, method, &Headers::of(&headers)?, false, organization);
        let Check::Allowed(principal) = check else { return guard.answer(py, check).map(Some) };
        let via = principal.via;
        let caller = principal::object_of(py, principal)?;
        exchange.try_borrow_mut()?.remember(caller.bind(py).cast::<Principal>()?.clone().unbind(), via, requirement);
        Ok(Some(caller))
    }
}

/// Whether a test put something in the place of some dependency of the app.
fn has_overrides(scope: &Bound<'_, PyDict>) -> PyResult<bool> {
    let py = scope.py();
    let Some(app) = scope.get_item(intern!(py, "app"))? else { return Ok(false) };
    app.getattr_opt(intern!(py, "dependency_overrides"))?.map_or(Ok(false), |overrides| overrides.is_truthy())
}
