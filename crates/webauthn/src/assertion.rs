//! A sign-in with a credential (§7.2).

use gatewright_jose::sha256;

use crate::authenticator_data::AuthenticatorData;
use crate::client_data::{ClientData, GET};
use crate::{Assertion, Expected, PublicKey, Refusal};

/// What is known of the credential that the answer names.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub credential_id: &'a [u8],
    /// [`PublicKey::as_cose`] of its registration.
    pub public_key: &'a [u8],
    pub sign_count: u32,
    pub backup_eligible: bool,
    /// Of the user whose credential it is.
    pub user_handle: &'a [u8],
}

/// What a believed assertion says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asserted {
    /// To store. 0 where the authenticator does not count.
    pub sign_count: u32,
    pub user_verified: bool,
    pub backed_up: bool,
}

/// Whether to believe an assertion. The answer has to name the user: nobody was named in the question.
pub fn verify_assertion(answer: &Assertion, stored: &Stored<'_>, expected: &Expected<'_>) -> Result<Asserted, Refusal> {
    if answer.credential_id != stored.credential_id {
        return Err(Refusal::WrongCredential);
    }
    if answer.user_handle.as_deref() != Some(stored.user_handle) {
        return Err(Refusal::WrongUser);
    }
    ClientData::read(&answer.client_data_json)?.check(GET, expected)?;
    let data = AuthenticatorData::read(&answer.authenticator_data)?;
    data.check(expected)?;
    if data.credential.is_some() {
        return Err(Refusal::Flags("a new credential in an assertion"));
    }
    let signed = [&answer.authenticator_data[..], &sha256(&answer.client_data_json)].concat();
    if !PublicKey::from_cose(stored.public_key)?.verifies(&signed, &answer.signature) {
        return Err(Refusal::BadSignature);
    }
    // What the rest says counts only now: nobody can have made it up.
    if data.backup_eligible() != stored.backup_eligible {
        return Err(Refusal::BackupEligibilityChanged);
    }
    // Step 22: an authenticator that counts has counted on, and one that does not says 0 for ever.
    if (data.sign_count, stored.sign_count) != (0, 0) && data.sign_count <= stored.sign_count {
        return Err(Refusal::CounterWentBack);
    }
    Ok(Asserted { sign_count: data.sign_count, user_verified: data.user_verified(), backed_up: data.backed_up() })
}
