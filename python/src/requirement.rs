use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use gatewright_guard as guard;
use gatewright_guard::{Kind, Kinds};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[pyclass(module = "gatewright._core", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct Requirement(pub guard::Requirement);

#[pymethods]
impl Requirement {
    #[new]
    #[pyo3(
        signature = (*, kinds=None, organization=false, roles=Vec::new(), permissions=Vec::new(), scopes=Vec::new(), mfa=false, max_age=None, impersonation=true, fresh=false, check_cross_site=true),
        text_signature = "(*, kinds=('user', 'machine', 'api_key'), organization=False, roles=(), permissions=(), scopes=(), mfa=False, max_age=None, impersonation=True, fresh=False, check_cross_site=True)"
    )]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn new(
        kinds: Option<Vec<String>>,
        organization: bool,
        roles: Vec<String>,
        permissions: Vec<String>,
        scopes: Vec<String>,
        mfa: bool,
        max_age: Option<i64>,
        impersonation: bool,
        fresh: bool,
        check_cross_site: bool,
    ) -> PyResult<Self> {
        let max_age = max_age.map(|seconds| u64::try_from(seconds).map(Duration::from_secs)).transpose();
        Ok(Self(guard::Requirement {
            kinds: kinds.map_or(Ok(Kinds::any()), |names| kinds_of(&names))?,
            organization,
            roles,
            permissions,
            scopes,
            mfa,
            max_age: max_age.map_err(|_| PyValueError::new_err("max_age: seconds since the sign-in cannot be negative"))?,
            impersonation,
            fresh,
            check_cross_site,
        }))
    }

    #[getter]
    fn kinds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.kinds.iter().map(Kind::as_str).collect::<Vec<_>>())
    }

    #[getter]
    fn organization(&self) -> bool {
        self.0.organization
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
    fn mfa(&self) -> bool {
        self.0.mfa
    }

    #[getter]
    fn max_age(&self) -> Option<u64> {
        self.0.max_age.map(|age| age.as_secs())
    }

    #[getter]
    fn impersonation(&self) -> bool {
        self.0.impersonation
    }

    #[getter]
    fn fresh(&self) -> bool {
        self.0.fresh
    }

    #[getter]
    fn check_cross_site(&self) -> bool {
        self.0.check_cross_site
    }

    fn __repr__(&self) -> String {
        let own = &self.0;
        let mut said = Vec::new();
        if own.kinds != Kinds::any() {
            said.push(format!("kinds={:?}", own.kinds.iter().map(Kind::as_str).collect::<Vec<_>>()));
        }
        for (name, values) in [("roles", &own.roles), ("permissions", &own.permissions), ("scopes", &own.scopes)] {
            if !values.is_empty() {
                said.push(format!("{name}={values:?}"));
            }
        }
        for (name, yes) in [("organization", own.organization), ("mfa", own.mfa), ("fresh", own.fresh)] {
            if yes {
                said.push(format!("{name}=True"));
            }
        }
        said.extend(own.max_age.map(|age| format!("max_age={}", age.as_secs())));
        if !own.impersonation {
            said.push("impersonation=False".to_owned());
        }
        if !own.check_cross_site {
            said.push("check_cross_site=False".to_owned());
        }
        format!("Requirement({})", said.join(", "))
    }
}

fn kinds_of(names: &[String]) -> PyResult<Kinds> {
    let kind = |name: &String| {
        Kind::from_str(name).ok_or_else(|| PyValueError::new_err(format!("kinds: {name:?} is none of user, machine, api_key")))
    };
    let kinds: Vec<Kind> = names.iter().map(kind).collect::<PyResult<_>>()?;
    if kinds.is_empty() {
        return Err(PyValueError::new_err("kinds: at least one of user, machine, api_key is needed"));
    }
    Ok(Kinds::of(&kinds))
}

/// A number for `__hash__` that is the same for equal values of this process.
pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
