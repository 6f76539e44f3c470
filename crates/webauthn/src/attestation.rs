//! The attestation object (§6.5.4). `none` is asked for. Some platforms send another statement all the same; it has to have the
//! structure of one, and nothing of it is believed.

use crate::{Refusal, cbor};

/// The IANA registry "WebAuthn Attestation Statement Format Identifiers".
const FORMATS: [&str; 8] = ["none", "packed", "tpm", "android-key", "android-safetynet", "fido-u2f", "apple", "compound"];

/// The authenticator data of the object.
pub fn authenticator_data(object: &[u8]) -> Result<&[u8], Refusal> {
    let document = cbor::read(object)?;
    let members = document.as_map().filter(|members| members.len() == 3);
    let members = members.ok_or(Refusal::Attestation("not a map of fmt, attStmt and authData"))?;
    let find = |name: &str| members.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
    let format = find("fmt").and_then(cbor::Value::as_text).filter(|format| FORMATS.contains(format));
    let format = format.ok_or(Refusal::Attestation("a format that is not registered"))?;
    let empty = match find("attStmt") {
        Some(cbor::Value::Map(statement)) if format != "compound" => statement.is_empty(),
        Some(cbor::Value::Array(statements)) if format == "compound" => statements.is_empty(),
        _ => return Err(Refusal::Attestation("a statement that is none of its format")),
    };
    // §8.7: `none` comes with nothing; and every other format with something.
    if empty != (format == "none") {
        return Err(Refusal::Attestation("a statement that is none of its format"));
    }
    find("authData").and_then(cbor::Value::as_bytes).ok_or(Refusal::Attestation("no authenticator data"))
}
