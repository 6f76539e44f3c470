//! `gatewright._core`: the guard for Python. `gatewright/_core.pyi` says what each name is for.
//!
//! The guard decides here, in Rust; how that becomes FastAPI is the Python package's business.

mod answer;
mod exchange;
mod gate;
mod guard;
mod json;
mod lifetime;
mod logging;
mod principal;
mod request;
mod requirement;
mod test_key;

#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::answer::{LoginResult, Need, Refusal, Resolved};
    #[pymodule_export]
    use crate::exchange::{CookieHook, Exchange, Forward, never_stored};
    #[pymodule_export]
    use crate::gate::Gate;
    #[pymodule_export]
    use crate::guard::{Guard, Watching};
    #[pymodule_export]
    use crate::lifetime::{close_guards, forget_threads};
    #[pymodule_export]
    use crate::logging::{go_on, hold_still};
    #[pymodule_export]
    use crate::principal::{ApiKey, Machine, Principal, User};
    #[pymodule_export]
    use crate::requirement::Requirement;
    #[pymodule_export]
    use crate::test_key::TestKey;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name Python gives to a version")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
