//! What browsers hand over at the two ceremonies. The first octet chooses how deep the rest is let in: as the JSON of a registration or
//! of an assertion, as an attestation object, as a public key, as authenticator data and client data under a good signature.

#![no_main]

use std::cell::RefCell;

use gatewright_jose::sha256;
use gatewright_webauthn::testkit::{Authenticator, Cbor};
use gatewright_webauthn::{Assertion, Expected, OFFERED, PublicKey, Registration, Stored, challenge_hash, verify_assertion, verify_registration};
use libfuzzer_sys::fuzz_target;

const ORIGIN: &str = "https://auth.example.com";
const RP_ID: &str = "auth.example.com";
const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const HANDLE: &[u8] = b"user_01";

thread_local! {
    static AUTHENTICATOR: RefCell<Authenticator> = RefCell::new(Authenticator::of_algorithm(ORIGIN, -8));
}

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let (hash, origins) = (challenge_hash(CHALLENGE), [ORIGIN.to_owned()]);
    let expected = Expected { challenge_hash: &hash, origins: &origins, rp_id: RP_ID, user_verified: false };
    match how % 5 {
        0 => {
            if let Ok(answer) = Registration::read(&String::from_utf8_lossy(data)) {
                let _ = verify_registration(&answer, &expected);
            }
        }
        1 => {
            if let Ok(answer) = Assertion::read(&String::from_utf8_lossy(data)) {
                assert!(asserted(&answer, &expected).is_none(), "an assertion that nobody signed was believed");
            }
        }
        2 => {
            let client_data = format!(r#"{{"type":"webauthn.create","challenge":"{CHALLENGE}","origin":"{ORIGIN}"}}"#);
            let answer = Registration {
                credential_id: vec![1],
                client_data_json: client_data.into_bytes(),
                attestation_object: data.to_vec(),
                transports: vec![],
            };
            if let Ok(registered) = verify_registration(&answer, &expected) {
                assert!(OFFERED.contains(&registered.public_key.algorithm()) && registered.credential_id == [1]);
                assert!(registered.backup_eligible || !registered.backed_up);
                assert!(PublicKey::from_cose(registered.public_key.as_cose()).is_ok(), "a key that was stored is not read again");
            }
        }
        3 => {
            if let Ok(key) = PublicKey::from_cose(data) {
                assert!(key.as_cose() == data && OFFERED.contains(&key.algorithm()));
            }
        }
        _ => {
            // Signed, so that everything behind the signature is reached.
            let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
            let (client_data, authenticator_data) = (&data[..at], data.get(at + 1..).unwrap_or_default());
            let signed = [authenticator_data, &sha256(client_data)].concat();
            let answer = Assertion {
                credential_id: vec![1],
                client_data_json: client_data.to_vec(),
                authenticator_data: authenticator_data.to_vec(),
                signature: AUTHENTICATOR.with_borrow(|authenticator| authenticator.key.sign(&signed)),
                user_handle: Some(HANDLE.to_vec()),
            };
            if let Some(count) = asserted(&answer, &expected) {
                assert!(authenticator_data.starts_with(&sha256(RP_ID.as_bytes())) && authenticator_data[32] & 1 == 1);
                assert!(count > 7, "a counter that went back was believed");
                let text = String::from_utf8_lossy(client_data);
                assert!(text.contains(ORIGIN.trim_start_matches("https://")) || text.contains("\\u"), "another origin was believed");
            }
        }
    }
});

fn asserted(answer: &Assertion, expected: &Expected<'_>) -> Option<u32> {
    let cose = AUTHENTICATOR.with_borrow(|authenticator| {
        Cbor::Map(authenticator.key.cose().into_iter().map(|(label, value)| (Cbor::Integer(label), value)).collect()).write()
    });
    let stored = Stored { credential_id: &[1], public_key: &cose, sign_count: 7, backup_eligible: false, user_handle: HANDLE };
    let asserted = verify_assertion(answer, &stored, expected).ok()?;
    Some(asserted.sign_count)
}
