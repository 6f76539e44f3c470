use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Algorithm, JoseError, b64};

/// A public key as a key set carries it (RFC 7517, RFC 7518 §6, RFC 8037 §2). Members that are absent are not written.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Jwk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    pub kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#use: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x5c: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(default, rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub x5t_s256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// Read only to be refused: a key set with a private or symmetric key in it has leaked. The values are not kept.
    #[serde(default, skip_serializing)]
    pub(crate) d: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    pub(crate) k: Option<IgnoredAny>,
}

/// A key set (RFC 7517 §5).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Jwks {
    pub keys: Vec<Jwk>,
}

impl Jwks {
    /// Of a key set that we did not write, the keys that can be used here (RFC 7517 §5: others are ignored): those of a kind, use or
    /// algorithm that is not offered, unreadable ones and those without `kid` are left out, and so are different keys under one `kid`,
    /// since nobody can say which is meant. A private or symmetric key in it still makes the whole set unusable.
    pub fn of_provider(document: &Value) -> Result<Self, JoseError> {
        const SECRET: [&str; 8] = ["d", "k", "p", "q", "dp", "dq", "qi", "oth"];
        let members = document.get("keys").and_then(Value::as_array).ok_or(JoseError::Jwk("no key set"))?;
        if members.iter().any(|key| SECRET.iter().any(|name| key.get(name).is_some()) || key.get("kty").is_some_and(|kty| kty == "oct")) {
            return Err(JoseError::Jwk("a private or symmetric key in a public key set"));
        }
        let readable = members.iter().filter_map(|key| Jwk::deserialize(key).ok());
        let usable: Vec<Jwk> =
            readable.filter(|jwk| jwk.kid.as_deref().is_some_and(|kid| !kid.is_empty()) && VerifyingKey::from_jwk(jwk).is_ok()).collect();
        let mut by_kid: BTreeMap<&str, (&Jwk, bool)> = BTreeMap::new();
        for jwk in &usable {
            let (first, is_one_key) = by_kid.entry(jwk.kid.as_deref().unwrap_or("")).or_insert((jwk, true));
            *is_one_key &= first.is_same_key(jwk);
        }
        Ok(Self { keys: by_kid.into_values().filter(|(_, is_one_key)| *is_one_key).map(|(jwk, _)| jwk.clone()).collect() })
    }
}

impl Jwk {
    /// Whether both are one public key, whatever else stands beside it.
    fn is_same_key(&self, other: &Self) -> bool {
        let key = |jwk: &Self| {
            [Some(&jwk.kty), jwk.crv.as_ref(), jwk.n.as_ref(), jwk.e.as_ref(), jwk.x.as_ref(), jwk.y.as_ref()]
                .map(Option::<&String>::cloned)
        };
        key(self) == key(other)
    }
}

/// One public key that may verify signatures of exactly one algorithm.
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// The key of `jwk`, checked: of a kind, size and use that may be trusted to verify. Without `alg` the kind of key decides it.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, JoseError> {
        if jwk.d.is_some() || jwk.k.is_some() || jwk.kty == "oct" {
            return Err(JoseError::Jwk("a private or symmetric key in a public key set"));
        }
        if jwk.r#use.as_deref().is_some_and(|r#use| r#use != "sig") {
            return Err(JoseError::Jwk("`use` is not `sig`"));
        }
        if jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err(JoseError::Jwk("`key_ops` does not allow `verify`"));
        }
        let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => (Algorithm::RS256, parse_rsa(jwk)?),
            ("EC", Some("P-256")) => (Algorithm::ES256, parse_p256(jwk)?),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, parse_ed25519(jwk)?),
            _ => return Err(JoseError::Jwk("`kty` and `crv` are not RSA, EC P-256 or OKP Ed25519")),
        };
        if jwk.alg.as_deref().is_some_and(|alg| alg != algorithm.as_str()) {
            return Err(JoseError::Jwk("`alg` is not the one algorithm offered for this kind of key"));
        }
        Ok(Self { algorithm, key })
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature`, in JOSE's encoding, was made by this key over `message`.
    pub fn verify_signature(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A key set ready to verify with: every key parsed and checked once, found by `kid`.
#[derive(Debug, Default)]
pub struct VerifyingKeys {
    by_kid: HashMap<String, VerifyingKey>,
}

impl VerifyingKeys {
    /// The keys of the set. One that may not be used (see [`VerifyingKey::from_jwk`]), has no `kid` or shares it makes the whole
    /// set unusable: whoever published it is confused about what is secret or which key is meant.
    pub fn from_jwks(jwks: &Jwks) -> Result<Self, JoseError> {
        let mut by_kid = HashMap::with_capacity(jwks.keys.len());
        for jwk in &jwks.keys {
            let kid = jwk.kid.as_deref().filter(|kid| !kid.is_empty()).ok_or(JoseError::Jwk("no `kid`"))?;
            if by_kid.insert(kid.to_owned(), VerifyingKey::from_jwk(jwk)?).is_some() {
                return Err(JoseError::Jwk("two keys with one `kid`"));
            }
        }
        Ok(Self { by_kid })
    }

    /// The keys of another provider's set that can be used here: see [`Jwks::of_provider`].
    pub fn from_provider_jwks(document: &Value) -> Result<Self, JoseError> {
        Self::from_jwks(&Jwks::of_provider(document)?)
    }

    pub fn find_key(&self, kid: &str) -> Option<&VerifyingKey> {
        self.by_kid.get(kid)
    }

    pub fn len(&self) -> usize {
        self.by_kid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_kid.is_empty()
    }
}

fn parse_rsa(jwk: &Jwk) -> Result<ParsedPublicKey, JoseError> {
    let n = decode(jwk.n.as_deref(), "`n` is not base64url")?;
    let e = decode(jwk.e.as_deref(), "`e` is not base64url")?;
    // RFC 7518 §6.3.1.1: no leading zero octets.
    let (Some(&n_first @ 1..), Some(&e_first @ 1..)) = (n.first(), e.first()) else {
        return Err(JoseError::Jwk("`n` or `e` is empty or starts with a zero octet"));
    };
    let bits = n.len() * 8 - n_first.leading_zeros() as usize;
    if !(2048..=8192).contains(&bits) {
        return Err(JoseError::Jwk("an RSA modulus under 2048 or over 8192 bits"));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|b| b & 1 == 1);
    if !odd(&n) || !odd(&e) || e.len() > 4 || (e.len() == 1 && e_first == 1) {
        return Err(JoseError::Jwk("an RSA modulus or exponent that no honest key has"));
    }
    if has_roca_fingerprint(&n) {
        return Err(JoseError::Jwk("an RSA key of a generator whose keys can be factored (CVE-2017-15361)"));
    }
    let rejected = |_| JoseError::Jwk("not an RSA public key");
    RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(rejected)
}

fn parse_p256(jwk: &Jwk) -> Result<ParsedPublicKey, JoseError> {
    let x = decode(jwk.x.as_deref(), "`x` is not base64url")?;
    let y = decode(jwk.y.as_deref(), "`y` is not base64url")?;
    // RFC 7518 §6.2.1.2: the full length of a coordinate, always.
    if x.len() != 32 || y.len() != 32 {
        return Err(JoseError::Jwk("a P-256 coordinate is 32 octets"));
    }
    let point = [&[4][..], &x, &y].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| JoseError::Jwk("not a point of P-256"))
}

fn parse_ed25519(jwk: &Jwk) -> Result<ParsedPublicKey, JoseError> {
    let x = decode(jwk.x.as_deref(), "`x` is not base64url")?;
    if x.len() != 32 || jwk.y.is_some() {
        return Err(JoseError::Jwk("an Ed25519 key is `x` of 32 octets alone"));
    }
    ParsedPublicKey::new(&ED25519, x).map_err(|_| JoseError::Jwk("not an Ed25519 public key"))
}

fn decode(member: Option<&str>, otherwise: &'static str) -> Result<Vec<u8>, JoseError> {
    member.and_then(b64::decode_url).ok_or(JoseError::Jwk(otherwise))
}

/// Keys of Infineon's RSALib are powers of 65537 modulo a product of small primes, hence modulo each of them ("The Return of
/// Coppersmith's Attack", §2). An honest key looks so with a chance of 2^-28.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131,
        137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|&p| {
        let residue = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % p);
        let mut power = 1;
        (0..p).any(|_| {
            power = power * 65_537 % p;
            power == residue
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use gatewright_base::Timestamp;

    fn public_jwk(algorithm: Algorithm, kid: &str) -> Jwk {
        let key = SigningKey::generate(algorithm, kid.to_owned()).unwrap();
        key.public_jwk(Timestamp::from_millis(0), Timestamp::from_millis(1_000), "test").unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Jwk), algorithm: Algorithm) -> Option<JoseError> {
        let mut jwk = public_jwk(algorithm, "a");
        VerifyingKey::from_jwk(&jwk).unwrap();
        change(&mut jwk);
        VerifyingKey::from_jwk(&jwk).err()
    }

    #[test]
    fn members_come_in_the_order_of_the_wire_contract() {
        let expected = [
            (Algorithm::RS256, &["alg", "kty", "use", "x5c", "n", "e", "kid", "x5t#S256"][..]),
            (Algorithm::ES256, &["alg", "kty", "use", "x5c", "crv", "x", "y", "kid", "x5t#S256"]),
            (Algorithm::EdDSA, &["alg", "kty", "use", "x5c", "crv", "x", "kid", "x5t#S256"]),
        ];
        for (algorithm, names) in expected {
            let jwk = public_jwk(algorithm, "a");
            let text = serde_json::to_string(&jwk).unwrap();
            let places: Vec<_> = names.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
            assert!(places.is_sorted(), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap().as_object().unwrap().len(), names.len());
            assert_eq!(serde_json::from_str::<Jwk>(&text).unwrap(), jwk);
        }
    }

    #[test]
    fn a_key_without_alg_has_the_algorithm_of_its_kind() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let mut jwk = public_jwk(algorithm, "a");
            jwk.alg = None;
            assert_eq!(VerifyingKey::from_jwk(&jwk).unwrap().algorithm(), algorithm);
        }
    }

    #[test]
    fn private_and_symmetric_keys_are_refused() {
        for (member, text) in [("d", r#""d":"AAAA""#), ("k", r#""k":"AAAA""#)] {
            let public = serde_json::to_string(&public_jwk(Algorithm::EdDSA, "a")).unwrap();
            let private: Jwk = serde_json::from_str(&public.replacen('{', &format!("{{{text},"), 1)).unwrap();
            assert_eq!(
                VerifyingKey::from_jwk(&private).err(),
                Some(JoseError::Jwk("a private or symmetric key in a public key set")),
                "{member}"
            );
            assert_eq!(serde_json::to_string(&private).unwrap(), public, "a private member must not be written on");
        }
        let symmetric: Jwk = serde_json::from_str(r#"{"kty":"oct","kid":"a"}"#).unwrap();
        assert!(VerifyingKeys::from_jwks(&Jwks { keys: vec![symmetric] }).is_err());
    }

    #[test]
    fn a_key_for_another_use_or_algorithm_is_refused() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert!(refusal(|jwk| jwk.r#use = Some("enc".to_owned()), algorithm).is_some());
            assert!(refusal(|jwk| jwk.key_ops = Some(vec!["encrypt".to_owned()]), algorithm).is_some());
            assert!(refusal(|jwk| jwk.key_ops = Some(vec![]), algorithm).is_some());
            for alg in ["none", "HS256", "RS384", "PS256", "ES384", "RSA-OAEP", ""] {
                assert!(refusal(|jwk| jwk.alg = Some(alg.to_owned()), algorithm).is_some(), "{alg}");
            }
            assert!(refusal(|jwk| jwk.kty = "RSA1".to_owned(), algorithm).is_some());
        }
        assert!(refusal(|jwk| jwk.alg = Some("RS256".to_owned()), Algorithm::ES256).is_some());
        assert!(refusal(|jwk| jwk.crv = Some("P-384".to_owned()), Algorithm::ES256).is_some());
        assert!(refusal(|jwk| jwk.crv = Some("X25519".to_owned()), Algorithm::EdDSA).is_some());
    }

    #[test]
    fn a_weak_or_odd_rsa_key_is_refused() {
        for n in [vec![0xff; 255], vec![0xff; 128], vec![], [vec![0x7f], vec![0xff; 255]].concat(), [vec![0], vec![0xff; 256]].concat()] {
            assert!(refusal(|jwk| jwk.n = Some(b64::encode_url(n)), Algorithm::RS256).is_some());
        }
        let mut even = vec![0xff; 256];
        even[255] = 0xfe;
        assert!(refusal(|jwk| jwk.n = Some(b64::encode_url(even)), Algorithm::RS256).is_some());
        for e in [&[1][..], &[0], &[], &[2], &[1, 0, 0], &[0, 1, 0, 1], &[1, 0, 0, 0, 1]] {
            assert!(refusal(|jwk| jwk.e = Some(b64::encode_url(e)), Algorithm::RS256).is_some(), "{e:?}");
        }
        assert!(refusal(|jwk| jwk.n = None, Algorithm::RS256).is_some());
    }

    #[test]
    fn roca_keys_are_told_from_honest_ones() {
        // 65537^k over many bytes has the fingerprint by construction.
        let mut power = vec![1_u8];
        for _ in 0..120 {
            let mut carry = 0_u32;
            let mut product = vec![0_u8; power.len() + 3];
            let len = product.len();
            for (i, digit) in product.iter_mut().enumerate() {
                let low = power.get(i).copied().unwrap_or(0);
                let high = if i >= 2 { power.get(i - 2).copied().unwrap_or(0) } else { 0 };
                let sum = u32::from(low) + u32::from(high) + carry;
                *digit = (sum & 0xff) as u8;
                carry = sum >> 8;
            }
            assert_eq!((carry, len), (0, power.len() + 3));
            power = product;
        }
        power.reverse();
        assert!(has_roca_fingerprint(&power));
        let last = power.len() - 1;
        power[last] ^= 2;
        assert!(!has_roca_fingerprint(&power));
    }

    #[test]
    fn two_keys_with_one_kid_are_refused() {
        let (a, b) = (public_jwk(Algorithm::EdDSA, "a"), public_jwk(Algorithm::ES256, "a"));
        assert_eq!(VerifyingKeys::from_jwks(&Jwks { keys: vec![a, b] }).err(), Some(JoseError::Jwk("two keys with one `kid`")));
    }

    #[test]
    fn of_a_providers_set_the_usable_keys_are_taken() {
        let good = serde_json::to_value(public_jwk(Algorithm::RS256, "good")).unwrap();
        let with = |change: &[(&str, Value)]| {
            let mut key = good.clone();
            for (name, value) in change {
                key[*name] = value.clone();
            }
            key
        };
        let (encrypts, other_alg) =
            (with(&[("use", "enc".into()), ("kid", "a".into())]), with(&[("alg", "PS256".into()), ("kid", "b".into())]));
        let (nameless, unreadable) = (with(&[("kid", Value::Null)]), with(&[("n", 5.into()), ("kid", "c".into())]));
        let p384 = serde_json::json!({ "kty": "EC", "crv": "P-384", "kid": "d", "x": "AA", "y": "AA" });
        let twice = with(&[("alg", "RS256".into()), ("x5c", serde_json::json!([]))]);
        let (one, another) = (public_jwk(Algorithm::ES256, "which"), public_jwk(Algorithm::EdDSA, "which"));
        let document = serde_json::json!({ "keys": [encrypts, other_alg, nameless, unreadable, p384, one, good, 7, another, twice] });
        let keys = VerifyingKeys::from_provider_jwks(&document).unwrap();
        assert_eq!((keys.len(), keys.find_key("good").map(VerifyingKey::algorithm)), (1, Some(Algorithm::RS256)));
    }

    #[test]
    fn a_providers_set_with_a_private_key_is_refused_however_unreadable_the_key() {
        let good = serde_json::to_value(public_jwk(Algorithm::RS256, "good")).unwrap();
        for key in [
            serde_json::json!({ "kty": "oct", "k": "AAAA" }),
            serde_json::json!({ "kty": "oct" }),
            serde_json::json!({ "kty": 5, "d": "AAAA" }),
            serde_json::json!({ "kty": "RSA", "use": "enc", "p": "AAAA" }),
        ] {
            assert!(VerifyingKeys::from_provider_jwks(&serde_json::json!({ "keys": [good, key] })).is_err());
        }
        for document in [serde_json::json!({}), serde_json::json!([]), serde_json::json!({ "keys": {} })] {
            assert!(VerifyingKeys::from_provider_jwks(&document).is_err());
        }
    }

    #[test]
    fn a_key_without_kid_is_refused() {
        for kid in [None, Some(String::new())] {
            let jwk = Jwk { kid, ..public_jwk(Algorithm::EdDSA, "a") };
            assert_eq!(VerifyingKeys::from_jwks(&Jwks { keys: vec![jwk] }).err(), Some(JoseError::Jwk("no `kid`")));
        }
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        assert_eq!(refusal(|jwk| jwk.y = jwk.x.clone(), Algorithm::ES256), Some(JoseError::Jwk("not a point of P-256")));
        assert!(refusal(|jwk| jwk.x = Some(b64::encode_url([0; 31])), Algorithm::ES256).is_some());
        assert!(refusal(|jwk| jwk.x = Some(b64::encode_url([0; 33])), Algorithm::EdDSA).is_some());
    }
}
