//! A new credential (§7.1).

use crate::authenticator_data::AuthenticatorData;
use crate::client_data::{CREATE, ClientData};
use crate::{Expected, OFFERED, PublicKey, Refusal, Registration, attestation};

/// A credential to store.
#[derive(Debug)]
pub struct Registered {
    pub credential_id: Vec<u8>,
    pub public_key: PublicKey,
    /// How often the authenticator has signed with the key; 0 where it does not count.
    pub sign_count: u32,
    pub user_verified: bool,
    /// Whether the key may be copied to other devices of its owner. Never changes.
    pub backup_eligible: bool,
    pub backed_up: bool,
    /// How the authenticator can be reached: hints for the browser, as it gave them.
    pub transports: Vec<String>,
}

/// Whether to believe a registration. That no user has the credential's id yet is for the caller to find out (step 26).
pub fn verify_registration(answer: &Registration, expected: &Expected<'_>) -> Result<Registered, Refusal> {
    ClientData::read(&answer.client_data_json)?.check(CREATE, expected)?;
    let data = AuthenticatorData::read(attestation::authenticator_data(&answer.attestation_object)?)?;
    data.check(expected)?;
    let credential = data.credential.as_ref().ok_or(Refusal::Flags("no credential in a registration"))?;
    if credential.id != answer.credential_id {
        return Err(Refusal::WrongCredential);
    }
    let public_key = PublicKey::from_cose(credential.cose)?;
    if !OFFERED.contains(&public_key.algorithm()) {
        return Err(Refusal::AlgorithmNotOffered);
    }
    Ok(Registered {
        credential_id: credential.id.to_vec(),
        public_key,
        sign_count: data.sign_count,
        user_verified: data.user_verified(),
        backup_eligible: data.backup_eligible(),
        backed_up: data.backed_up(),
        transports: answer.transports.clone(),
    })
}
