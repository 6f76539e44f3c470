//! A signing key for the tests of apps: what it signs is real, and wrong in whatever way a test wants.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use gatewright_base::Rng;
use gatewright_jose::{SystemRng, b64};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::json;

/// What the server makes too; a test waits some tens of milliseconds for it.
const SIZE: KeySize = KeySize::Rsa2048;

#[pyclass(module = "gatewright._core", frozen)]
pub struct TestKey {
    #[pyo3(get)]
    kid: String,
    pair: RsaKeyPair,
}

#[pymethods]
impl TestKey {
    #[new]
    #[pyo3(signature = (kid=None))]
    fn new(py: Python<'_>, kid: Option<String>) -> PyResult<Self> {
        let rng: &dyn Rng = &SystemRng;
        let kid = kid.unwrap_or_else(|| format!("key_{}", b64::encode_url(rng.array::<9>())));
        let pair = py.detach(|| RsaKeyPair::generate(SIZE)).map_err(|_| PyRuntimeError::new_err("no key could be made"))?;
        Ok(Self { kid, pair })
    }

    fn jwk(&self) -> String {
        let public = self.pair.public_key();
        let n = b64::encode_url(public.modulus().big_endian_without_leading_zero());
        let e = b64::encode_url(public.exponent().big_endian_without_leading_zero());
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e }).to_string()
    }

    #[pyo3(signature = (claims_json, header_json=None))]
    fn sign(&self, claims_json: &str, header_json: Option<&str>) -> PyResult<String> {
        let usual = || json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid }).to_string();
        let header = header_json.map_or_else(usual, str::to_owned);
        let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(claims_json));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let done = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        done.map_err(|_| PyValueError::new_err("it could not be signed"))?;
        Ok(format!("{signed}.{}", b64::encode_url(signature)))
    }

    fn __repr__(&self) -> String {
        format!("TestKey({:?})", self.kid)
    }
}
