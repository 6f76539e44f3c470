use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use gatewright_base::{Secret, Timestamp};
use serde::Serialize;

use crate::{JoseError, Jwk, MAX_TOKEN_LEN, b64, certificate};

/// The signature algorithms there are. What is not here cannot be signed, verified or named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3); the one algorithm every WorkOS SDK accepts.
    RS256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    ES256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDSA,
}

impl Algorithm {
    /// The value of `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name, spelt exactly so; `None` for every other.
    #[expect(clippy::should_implement_trait, reason = "an Option is what callers match on; FromStr would invent an error type")]
    pub fn from_str(name: &str) -> Option<Self> {
        [Self::RS256, Self::ES256, Self::EdDSA].into_iter().find(|a| a.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest signature made here: RSA-4096.
const MAX_SIGNATURE_LEN: usize = 512;

/// A private key that signs tokens, with the name under which verifiers find its public half.
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    pair: Pair,
    pkcs8: Secret<Vec<u8>>,
    /// `base64url({"alg":..,"typ":"JWT","kid":..})` and the dot: the same for every token, so encoded once.
    jwt_header: String,
}

pub(crate) enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A fresh RSA-2048, P-256 or Ed25519 key. RSA takes tens of milliseconds: keep it off the request path.
    pub fn generate(algorithm: Algorithm, kid: String) -> Result<Self, JoseError> {
        let failed = |_| JoseError::KeyGeneration;
        let (pair, pkcs8) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                let pkcs8 = Secret::new(der.as_ref().to_vec());
                (Pair::Rsa(pair), pkcs8)
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
                let pkcs8 = Secret::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
                (Pair::P256(pair), pkcs8)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                let pkcs8 = Secret::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
                (Pair::Ed25519(pair), pkcs8)
            }
        };
        Ok(Self::assemble(algorithm, kid, pair, pkcs8))
    }

    /// The key in an unencrypted PKCS#8 document; it must be of `algorithm`'s kind (RSA: 2048 to 4096 bits).
    pub fn from_pkcs8(algorithm: Algorithm, kid: String, der: &[u8]) -> Result<Self, JoseError> {
        let refused = |_| JoseError::PrivateKey;
        let pair = match algorithm {
            Algorithm::RS256 => Pair::Rsa(RsaKeyPair::from_pkcs8(der).map_err(refused)?),
            Algorithm::ES256 => Pair::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(refused)?),
            Algorithm::EdDSA => Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der).map_err(refused)?),
        };
        if let Pair::Rsa(rsa) = &pair
            && rsa.public_modulus_len() > MAX_SIGNATURE_LEN
        {
            return Err(JoseError::PrivateKey);
        }
        Ok(Self::assemble(algorithm, kid, pair, Secret::new(der.to_vec())))
    }

    fn assemble(algorithm: Algorithm, kid: String, pair: Pair, pkcs8: Secret<Vec<u8>>) -> Self {
        let jwt_header = encode_header(algorithm, "JWT", &kid);
        Self { kid, algorithm, pair, pkcs8, jwt_header }
    }

    /// The private key as an unencrypted PKCS#8 document, to be sealed before it is stored.
    pub fn to_pkcs8(&self) -> Secret<Vec<u8>> {
        self.pkcs8.clone()
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A compact JWS with `typ` `JWT` over `claims`, which must serialise to an object and be no longer than [`MAX_TOKEN_LEN`] signed.
    pub fn sign_jwt(&self, claims: &impl Serialize) -> Result<String, JoseError> {
        self.sign_after(&self.jwt_header, claims)
    }

    /// As [`SigningKey::sign_jwt`] with another `typ`: `at+jwt` (RFC 9068), `logout+jwt`, `secevent+jwt` (RFC 8417).
    pub fn sign_typed(&self, typ: &str, claims: &impl Serialize) -> Result<String, JoseError> {
        self.sign_after(&encode_header(self.algorithm, typ, &self.kid), claims)
    }

    /// The public key as a key set shows it, with a self-signed certificate for `subject` over that time (`x5c`, `x5t#S256`).
    ///
    /// The certificate's serial number follows from key, validity and subject. With RS256 and EdDSA, whose signatures
    /// do not vary, the same arguments give the same JWK.
    pub fn public_jwk(&self, not_before: Timestamp, not_after: Timestamp, subject: &str) -> Result<Jwk, JoseError> {
        let der = certificate::self_sign(&self.pair, self.pkcs8.reveal(), not_before, not_after, subject)?;
        let mut jwk = Jwk {
            alg: Some(self.algorithm.as_str().to_owned()),
            r#use: Some("sig".to_owned()),
            kid: Some(self.kid.clone()),
            x5c: vec![b64::encode_std(&der)],
            x5t_s256: Some(b64::encode_url(crate::sha256(&der))),
            ..Jwk::default()
        };
        match &self.pair {
            Pair::Rsa(pair) => {
                jwk.kty = "RSA".to_owned();
                jwk.n = Some(b64::encode_url(pair.public_key().modulus().big_endian_without_leading_zero()));
                jwk.e = Some(b64::encode_url(pair.public_key().exponent().big_endian_without_leading_zero()));
            }
            Pair::P256(pair) => {
                // SEC 1 §2.3.3: 0x04, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                jwk.kty = "EC".to_owned();
                jwk.crv = Some("P-256".to_owned());
                jwk.x = Some(b64::encode_url(x));
                jwk.y = Some(b64::encode_url(y));
            }
            Pair::Ed25519(pair) => {
                jwk.kty = "OKP".to_owned();
                jwk.crv = Some("Ed25519".to_owned());
                jwk.x = Some(b64::encode_url(pair.public_key()));
            }
        }
        Ok(jwk)
    }

    fn sign_after(&self, header: &str, claims: &impl Serialize) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(claims).map_err(|_| JoseError::Claims)?;
        if payload.first() != Some(&b'{') {
            return Err(JoseError::Claims);
        }
        let mut token = String::with_capacity(header.len() + (payload.len() + MAX_SIGNATURE_LEN) / 3 * 4 + 9);
        token.push_str(header);
        b64::append_url(&mut token, &payload);

        let mut rsa_signature = [0; MAX_SIGNATURE_LEN];
        let other_signature;
        let signature: &[u8] = match &self.pair {
            Pair::Rsa(pair) => {
                let out = &mut rsa_signature[..pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), out).map_err(|_| JoseError::Signing)?;
                out
            }
            Pair::P256(pair) => {
                other_signature = pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| JoseError::Signing)?;
                other_signature.as_ref()
            }
            Pair::Ed25519(pair) => {
                other_signature = pair.try_sign(token.as_bytes()).map_err(|_| JoseError::Signing)?;
                other_signature.as_ref()
            }
        };
        token.push('.');
        b64::append_url(&mut token, signature);
        if token.len() > MAX_TOKEN_LEN { Err(JoseError::TooLong) } else { Ok(token) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn encode_header(algorithm: Algorithm, typ: &str, kid: &str) -> String {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: &'a str,
        kid: &'a str,
    }
    let json = serde_json::to_vec(&Header { alg: algorithm.as_str(), typ, kid }).expect("three texts always serialise");
    let mut header = b64::encode_url(json);
    header.push('.');
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn algorithm_names_are_exact() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(Algorithm::from_str(algorithm.as_str()), Some(algorithm));
        }
        for name in ["", "none", "None", "HS256", "rs256", "RS256 ", "RS512", "PS256", "ES512", "ES256K", "Ed25519"] {
            assert_eq!(Algorithm::from_str(name), None, "{name}");
        }
    }

    #[test]
    fn the_header_is_alg_typ_kid() {
        let key = SigningKey::generate(Algorithm::EdDSA, "key_\"1\"".to_owned()).unwrap();
        for (token, typ) in [(key.sign_jwt(&json!({})).unwrap(), "JWT"), (key.sign_typed("at+jwt", &json!({})).unwrap(), "at+jwt")] {
            let header = b64::decode_url(token.split('.').next().unwrap()).unwrap();
            assert_eq!(String::from_utf8(header).unwrap(), format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"key_\"1\""}}"#));
        }
    }

    #[test]
    fn debug_prints_the_kid_only() {
        let key = SigningKey::generate(Algorithm::EdDSA, "key_1".to_owned()).unwrap();
        assert_eq!(format!("{key:?}"), r#"SigningKey { kid: "key_1", .. }"#);
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let ed = SigningKey::generate(Algorithm::EdDSA, "a".to_owned()).unwrap().to_pkcs8();
        let ec = SigningKey::generate(Algorithm::ES256, "a".to_owned()).unwrap().to_pkcs8();
        for (algorithm, der) in [(Algorithm::RS256, &ed), (Algorithm::ES256, &ed), (Algorithm::EdDSA, &ec), (Algorithm::RS256, &ec)] {
            let key = SigningKey::from_pkcs8(algorithm, "a".to_owned(), der.reveal());
            assert_eq!(key.err(), Some(JoseError::PrivateKey), "{algorithm}");
        }
        assert_eq!(SigningKey::from_pkcs8(Algorithm::EdDSA, "a".to_owned(), &ed.reveal()[..40]).err(), Some(JoseError::PrivateKey));
    }

    #[test]
    fn claims_that_are_no_object_or_too_long_are_not_signed() {
        let key = SigningKey::generate(Algorithm::EdDSA, "a".to_owned()).unwrap();
        assert_eq!(key.sign_jwt(&json!(["sub"])), Err(JoseError::Claims));
        assert_eq!(key.sign_jwt(&"sub"), Err(JoseError::Claims));
        assert_eq!(key.sign_jwt(&json!({ "x": "a".repeat(MAX_TOKEN_LEN) })), Err(JoseError::TooLong));
    }
}
