use serde_json::Value;

use crate::{Algorithm, Refusal, VerifyingKeys, b64, strict_json};

/// Longer tokens are refused before anything is decoded, in octets.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// A compact JWS whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jws {
    pub kid: String,
    pub algorithm: Algorithm,
    /// `typ` of the header as it came, if it was there.
    pub typ: Option<String>,
    /// `cty` of the header as it came, if it was there.
    pub cty: Option<String>,
    pub payload: Vec<u8>,
}

/// The compact JWS in `token` (RFC 7515 §5.2), if one of `keys`, of one of `algorithms`, signed it.
///
/// The key is the one that `kid` names in our set. What the header says about where to find another (`jwk`, `jku`, `x5c`,
/// `x5u`) is never looked at.
pub fn verify_jws(keys: &VerifyingKeys, token: &str, algorithms: &[Algorithm]) -> Result<Jws, Refusal> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(Refusal::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::Malformed);
    };
    let decode = |part| b64::decode_url(part).ok_or(Refusal::Malformed);

    let mut members = strict_json::parse_object(&decode(header)?)?;
    // RFC 7515 §4.1.11: an extension that is not understood makes the token invalid. RFC 7797's `b64` must come with `crit`;
    // alone it is an attempt to have two readers see two payloads.
    if members.contains_key("crit") || members.contains_key("b64") {
        return Err(Refusal::CriticalHeader);
    }
    let mut take_text = |name| match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::Malformed),
    };
    let (alg, kid, typ, cty) = (take_text("alg")?, take_text("kid")?, take_text("typ")?, take_text("cty")?);

    let algorithm = alg.as_deref().and_then(Algorithm::from_str).filter(|a| algorithms.contains(a)).ok_or(Refusal::AlgorithmNotAllowed)?;
    let kid = kid.filter(|kid| !kid.is_empty()).ok_or(Refusal::MissingKeyId)?;
    let key = keys.find_key(&kid).ok_or(Refusal::UnknownKey)?;
    if key.algorithm() != algorithm {
        return Err(Refusal::AlgorithmNotAllowed);
    }
    let signed = &token[..header.len() + 1 + payload.len()];
    if !key.verify_signature(signed.as_bytes(), &decode(signature)?) {
        return Err(Refusal::BadSignature);
    }
    Ok(Jws { kid, algorithm, typ, cty, payload: decode(payload)? })
}
