//! The answers as `PublicKeyCredential.toJSON()` writes them (§5.1): `RegistrationResponseJSON`, `AuthenticationResponseJSON`.

use gatewright_jose::b64;
use serde::Deserialize;

use crate::Refusal;
use crate::client_data::ClientData;

/// The longest document that is read, in octets.
const MAX_LEN: usize = 64 * 1024;
/// Browsers name six at most.
const MAX_TRANSPORTS: usize = 8;

/// A registration, decoded and not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub credential_id: Vec<u8>,
    pub client_data_json: Vec<u8>,
    pub attestation_object: Vec<u8>,
    /// Lower-case words such as `internal`; what is none is left out.
    pub transports: Vec<String>,
}

/// An assertion, decoded and not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    pub credential_id: Vec<u8>,
    pub client_data_json: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
    pub user_handle: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential<R> {
    id: String,
    raw_id: Option<String>,
    r#type: String,
    response: R,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttestationResponse {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    attestation_object: String,
    #[serde(default)]
    transports: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    authenticator_data: String,
    signature: String,
    user_handle: Option<String>,
}

impl Registration {
    pub fn read(json: &str) -> Result<Self, Refusal> {
        let (credential_id, response) = read::<AttestationResponse>(json)?;
        let is_word = |text: &String| (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        Ok(Self {
            credential_id,
            client_data_json: octets(&response.client_data_json)?,
            attestation_object: octets(&response.attestation_object)?,
            transports: response.transports.into_iter().filter(is_word).take(MAX_TRANSPORTS).collect(),
        })
    }

    /// The challenge that it answers, in base64url: to find out whether it was ever asked.
    pub fn challenge(&self) -> Result<String, Refusal> {
        ClientData::read(&self.client_data_json).map(|data| data.challenge)
    }
}

impl Assertion {
    pub fn read(json: &str) -> Result<Self, Refusal> {
        let (credential_id, response) = read::<AssertionResponse>(json)?;
        Ok(Self {
            credential_id,
            client_data_json: octets(&response.client_data_json)?,
            authenticator_data: octets(&response.authenticator_data)?,
            signature: octets(&response.signature)?,
            // Some libraries write an empty text where there is none.
            user_handle: response.user_handle.filter(|handle| !handle.is_empty()).map(|handle| octets(&handle)).transpose()?,
        })
    }

    /// As [`Registration::challenge`].
    pub fn challenge(&self) -> Result<String, Refusal> {
        ClientData::read(&self.client_data_json).map(|data| data.challenge)
    }
}

fn read<R: for<'de> Deserialize<'de>>(json: &str) -> Result<(Vec<u8>, R), Refusal> {
    if json.len() > MAX_LEN {
        return Err(Refusal::Malformed("a credential longer than is read"));
    }
    let credential: Credential<R> = serde_json::from_str(json).map_err(|_| Refusal::Malformed("a credential that is not its JSON"))?;
    if credential.r#type != "public-key" || credential.raw_id.is_some_and(|raw_id| raw_id != credential.id) {
        return Err(Refusal::Malformed("a credential of another type, or with two ids"));
    }
    Ok((octets(&credential.id)?, credential.response))
}

fn octets(text: &str) -> Result<Vec<u8>, Refusal> {
    b64::decode_url(text).ok_or(Refusal::Malformed("a member that is not base64url"))
}
