//! The two ceremonies, honest and with one thing wrong at a time.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testkit::{Authenticator, Cbor, Key};
use crate::{
    Asserted, Assertion, Creation, Expected, OFFERED, PublicKey, Refusal, Registered, Registration, Request, Stored, UserVerification,
    challenge_hash, verify_assertion, verify_registration,
};

const ORIGIN: &str = "https://auth.example.com";
const RP_ID: &str = "auth.example.com";
const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const HANDLE: &[u8] = b"user_01JD8Q4ZK7ABCDEFGHJKMNPQRS";

fn creation() -> Value {
    Creation {
        challenge: CHALLENGE,
        rp_id: RP_ID,
        rp_name: "Expenses",
        user_handle: HANDLE,
        user_name: "a@example.com",
        user_display_name: "Alice",
        known: &["AQID".to_owned()],
        user_verification: UserVerification::Preferred,
        timeout_ms: 300_000,
    }
    .render()
}

fn request() -> Value {
    Request { challenge: CHALLENGE, rp_id: RP_ID, user_verification: UserVerification::Preferred, timeout_ms: 300_000 }.render()
}

fn with_expected<T>(user_verified: bool, challenge: &str, verify: impl FnOnce(&Expected<'_>) -> T) -> T {
    let (hash, origins) = (challenge_hash(challenge), [ORIGIN.to_owned()]);
    verify(&Expected { challenge_hash: &hash, origins: &origins, rp_id: RP_ID, user_verified })
}

fn register(authenticator: &mut Authenticator) -> Result<Registered, Refusal> {
    let answer = Registration::read(&authenticator.register(&creation()).to_string())?;
    with_expected(false, CHALLENGE, |expected| verify_registration(&answer, expected))
}

/// A credential that was registered honestly.
struct Account {
    authenticator: Authenticator,
    credential_id: Vec<u8>,
    public_key: Vec<u8>,
    sign_count: u32,
}

impl Account {
    fn new(authenticator: Authenticator) -> Self {
        let mut authenticator = authenticator;
        let registered = register(&mut authenticator).expect("an honest registration");
        Self {
            authenticator,
            credential_id: registered.credential_id,
            public_key: registered.public_key.as_cose().to_vec(),
            sign_count: registered.sign_count,
        }
    }

    fn check(&self, answer: &Value, user_verified: bool, challenge: &str) -> Result<Asserted, Refusal> {
        let answer = Assertion::read(&answer.to_string())?;
        let stored = Stored {
            credential_id: &self.credential_id,
            public_key: &self.public_key,
            sign_count: self.sign_count,
            backup_eligible: true,
            user_handle: HANDLE,
        };
        with_expected(user_verified, challenge, |expected| verify_assertion(&answer, &stored, expected))
    }

    fn assert(&mut self) -> Result<Asserted, Refusal> {
        let answer = self.authenticator.assert(&request());
        self.check(&answer, false, CHALLENGE)
    }
}

/// An account whose authenticator misbehaves from its first sign-in on.
fn account(change: impl FnOnce(&mut Authenticator)) -> Account {
    let mut account = Account::new(Authenticator::new(ORIGIN));
    change(&mut account.authenticator);
    account
}

fn honest(change: impl FnOnce(&mut Authenticator)) -> Authenticator {
    let mut authenticator = Authenticator::new(ORIGIN);
    change(&mut authenticator);
    authenticator
}

#[test]
fn a_key_of_each_kind_registers_and_signs_in() {
    for algorithm in OFFERED {
        let mut authenticator = Authenticator::of_algorithm(ORIGIN, algorithm);
        authenticator.sign_count = 7;
        let mut account = Account::new(authenticator);
        assert_eq!(PublicKey::from_cose(&account.public_key).unwrap().algorithm(), algorithm);
        assert_eq!(account.assert(), Ok(Asserted { sign_count: 8, user_verified: true, backed_up: true }), "{algorithm}");
    }
    let registered = register(&mut Authenticator::new(ORIGIN)).unwrap();
    assert_eq!(registered.transports, ["internal", "hybrid"]);
    assert!(registered.user_verified && registered.backup_eligible && registered.backed_up);
}

#[test]
fn the_options_ask_for_no_attestation_and_name_nobody() {
    let creation = creation();
    assert_eq!(
        (
            &creation["attestation"],
            &creation["authenticatorSelection"]["residentKey"],
            creation["excludeCredentials"].as_array().unwrap().len()
        ),
        (&json!("none"), &json!("required"), 1)
    );
    let algorithms: Vec<i64> = creation["pubKeyCredParams"].as_array().unwrap().iter().filter_map(|p| p["alg"].as_i64()).collect();
    assert_eq!(algorithms, [-8, -7, -257]);
    assert_eq!(request()["allowCredentials"], json!([]));
}

#[test]
fn row_41_a_registration_with_one_thing_wrong_is_refused() {
    type Case = (&'static str, fn(&mut Authenticator), Refusal);
    let table: [Case; 27] = [
        ("another origin", |a| a.origin = "https://evil.example".into(), Refusal::WrongOrigin),
        ("a subdomain", |a| a.origin = "https://a.auth.example.com".into(), Refusal::WrongOrigin),
        ("http", |a| a.origin = "http://auth.example.com".into(), Refusal::WrongOrigin),
        ("another port", |a| a.origin = "https://auth.example.com:8443".into(), Refusal::WrongOrigin),
        ("a slash at the end", |a| a.origin = "https://auth.example.com/".into(), Refusal::WrongOrigin),
        ("a frame of another site", |a| a.cross_origin = Some(true), Refusal::CrossOrigin),
        ("a top origin", |a| a.top_origin = Some("https://evil.example".into()), Refusal::CrossOrigin),
        ("an assertion's type", |a| a.r#type = Some("webauthn.get".into()), Refusal::WrongType),
        ("another relying party", |a| a.rp_id = Some("evil.example".into()), Refusal::WrongRpId),
        ("the parent domain", |a| a.rp_id = Some("example.com".into()), Refusal::WrongRpId),
        ("nobody present", |a| a.user_present = false, Refusal::UserNotPresent),
        ("backed up, never to be", |a| a.backup_eligible = false, Refusal::Flags("backed up, and not to be backed up")),
        ("octets after the key", |a| a.trailing = vec![0], Refusal::Malformed("octets after the end of the authenticator data")),
        ("octets after the object", |a| a.trailing_object = vec![0xf6], Refusal::Cbor("octets after the end of the CBOR")),
        ("extensions said and not there", |a| a.flip_flags = 0x80, Refusal::Cbor("CBOR that ends too early")),
        (
            "extensions that are none",
            |a| (a.flip_flags, a.trailing) = (0x80, vec![0x00]),
            Refusal::Malformed("extensions that are not a map"),
        ),
        ("no credential", |a| a.flip_flags = 0x40, Refusal::Malformed("octets after the end of the authenticator data")),
        ("an empty credential id", |a| a.credential_id = vec![], Refusal::Malformed("a credential id of no or of too many octets")),
        ("a long credential id", |a| a.credential_id = vec![1; 1_024], Refusal::Malformed("a credential id of no or of too many octets")),
        ("a key of another algorithm", |a| a.cose = Some(es384()), Refusal::Key("a key of a kind, curve or algorithm that is not known")),
        ("a format nobody knows", |a| a.attestation.0 = Cbor::text("mine"), Refusal::Attestation("a format that is not registered")),
        ("a format that is no text", |a| a.attestation.0 = Cbor::Integer(1), Refusal::Attestation("a format that is not registered")),
        (
            "a statement beside `none`",
            |a| a.attestation.1 = Cbor::Map(vec![(Cbor::text("sig"), Cbor::Bytes(vec![1]))]),
            Refusal::Attestation("a statement that is none of its format"),
        ),
        (
            "`packed` without one",
            |a| a.attestation.0 = Cbor::text("packed"),
            Refusal::Attestation("a statement that is none of its format"),
        ),
        (
            "a statement that is no map",
            |a| a.attestation.1 = Cbor::Array(vec![]),
            Refusal::Attestation("a statement that is none of its format"),
        ),
        ("a huge map as a key", |a| a.cose = Some(huge()), Refusal::Cbor("CBOR of more items than are read")),
        ("a map in a map in a map", |a| a.cose = Some(deep()), Refusal::Cbor("CBOR nested deeper than is read")),
    ];
    for (name, change, refusal) in table {
        assert_eq!(register(&mut honest(change)).err(), Some(refusal), "{name}");
    }
}

fn es384() -> Cbor {
    let integer = |label, number| (Cbor::Integer(label), Cbor::Integer(number));
    Cbor::Map(vec![
        integer(1, 2),
        integer(3, -35),
        integer(-1, 2),
        (Cbor::Integer(-2), Cbor::Bytes(vec![1; 48])),
        (Cbor::Integer(-3), Cbor::Bytes(vec![1; 48])),
    ])
}

fn huge() -> Cbor {
    Cbor::Map((0..300).map(|label| (Cbor::Integer(label), Cbor::Bool(true))).collect())
}

fn deep() -> Cbor {
    (0..6).fold(Cbor::Integer(1), |inner, _| Cbor::Map(vec![(Cbor::Integer(1), inner)]))
}

#[test]
fn row_41_a_registration_for_another_challenge_or_with_another_id_is_refused() {
    let answer = Registration::read(&Authenticator::new(ORIGIN).register(&creation()).to_string()).unwrap();
    let other = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let refused = with_expected(false, other, |expected| verify_registration(&answer, expected));
    assert_eq!(refused.err(), Some(Refusal::WrongChallenge));
    assert_eq!(answer.challenge().as_deref(), Ok(CHALLENGE));

    let mut answer = Authenticator::new(ORIGIN).register(&creation());
    (answer["id"], answer["rawId"]) = (json!("AQID"), json!("AQID"));
    let answer = Registration::read(&answer.to_string()).unwrap();
    let refused = with_expected(false, CHALLENGE, |expected| verify_registration(&answer, expected));
    assert_eq!(refused.err(), Some(Refusal::WrongCredential));
}

#[test]
fn row_41_user_verification_counts_where_it_is_required() {
    let answer = honest(|a| a.user_verified = false).register(&creation());
    let answer = Registration::read(&answer.to_string()).unwrap();
    let refused = with_expected(true, CHALLENGE, |expected| verify_registration(&answer, expected));
    assert_eq!(refused.err(), Some(Refusal::UserNotVerified));
    let registered = with_expected(false, CHALLENGE, |expected| verify_registration(&answer, expected));
    assert!(!registered.unwrap().user_verified);

    let mut account = account(|a| a.user_verified = false);
    let answer = account.authenticator.assert(&request());
    assert_eq!(account.check(&answer, true, CHALLENGE), Err(Refusal::UserNotVerified));
    assert_eq!(account.check(&answer, false, CHALLENGE).map(|asserted| asserted.user_verified), Ok(false));
}

#[test]
fn an_attestation_that_comes_unasked_has_the_form_of_one_and_is_not_believed() {
    // Nothing signed this statement, and no certificate is one.
    let statement = Cbor::Map(vec![
        (Cbor::text("alg"), Cbor::Integer(-7)),
        (Cbor::text("sig"), Cbor::Bytes(vec![1; 70])),
        (Cbor::text("x5c"), Cbor::Array(vec![Cbor::Bytes(vec![2; 500])])),
    ]);
    let mut authenticator = honest(|a| a.attestation = (Cbor::text("packed"), statement));
    assert!(register(&mut authenticator).is_ok());
}

#[test]
fn an_attestation_says_three_things_and_no_fourth() {
    let mut answer = Authenticator::new(ORIGIN).register(&creation());
    let mut object = gatewright_jose::b64::decode_url(answer["response"]["attestationObject"].as_str().unwrap()).unwrap();
    assert_eq!(object[0], 0xa3, "a map of three");
    object[0] = 0xa4;
    object.extend([0x61, b'x', 0xf5]);
    answer["response"]["attestationObject"] = json!(gatewright_jose::b64::encode_url(&object));
    let answer = Registration::read(&answer.to_string()).unwrap();
    let refused = with_expected(false, CHALLENGE, |expected| verify_registration(&answer, expected));
    assert_eq!(refused.err(), Some(Refusal::Attestation("not a map of fmt, attStmt and authData")));
}

#[test]
fn row_41_an_assertion_with_one_thing_wrong_is_refused() {
    type Case = (&'static str, fn(&mut Authenticator), Refusal);
    let table: [Case; 19] = [
        ("another origin", |a| a.origin = "https://evil.example".into(), Refusal::WrongOrigin),
        ("http", |a| a.origin = "http://auth.example.com".into(), Refusal::WrongOrigin),
        ("a frame of another site", |a| a.cross_origin = Some(true), Refusal::CrossOrigin),
        ("a top origin", |a| a.top_origin = Some(ORIGIN.into()), Refusal::CrossOrigin),
        ("a registration's type", |a| a.r#type = Some("webauthn.create".into()), Refusal::WrongType),
        ("another relying party", |a| a.rp_id = Some("evil.example".into()), Refusal::WrongRpId),
        ("nobody present", |a| a.user_present = false, Refusal::UserNotPresent),
        ("backed up, never to be", |a| a.backup_eligible = false, Refusal::Flags("backed up, and not to be backed up")),
        ("not to be backed up any more", |a| (a.backup_eligible, a.backed_up) = (false, false), Refusal::BackupEligibilityChanged),
        ("octets after the end", |a| a.trailing = vec![0xa0], Refusal::Malformed("octets after the end of the authenticator data")),
        ("a credential said and not there", |a| a.flip_flags = 0x40, Refusal::Malformed("authenticator data that ends too early")),
        ("a new credential", |a| (a.flip_flags, a.trailing) = (0x40, attested()), Refusal::Flags("a new credential in an assertion")),
        ("extensions said and not there", |a| a.flip_flags = 0x80, Refusal::Cbor("CBOR that ends too early")),
        (
            "a huge map of extensions",
            |a| (a.flip_flags, a.trailing) = (0x80, huge().write()),
            Refusal::Cbor("CBOR of more items than are read"),
        ),
        ("another user", |a| a.user_handle = Some(b"user_01JD8Q4ZK7ABCDEFGHJKMNPQRT".to_vec()), Refusal::WrongUser),
        ("no user", |a| a.user_handle = None, Refusal::WrongUser),
        ("another credential", |a| a.credential_id = vec![1; 32], Refusal::WrongCredential),
        ("another key", |a| a.key = Key::generate(-7), Refusal::BadSignature),
        ("a key of another kind", |a| a.key = Key::generate(-8), Refusal::BadSignature),
    ];
    for (name, change, refusal) in table {
        assert_eq!(account(change).assert(), Err(refusal), "{name}");
    }
}

/// An AAGUID, a credential id and a key, as in a registration.
fn attested() -> Vec<u8> {
    let cose = Cbor::Map(Key::generate(-7).cose().into_iter().map(|(label, value)| (Cbor::Integer(label), value)).collect());
    [&[0; 16][..], &[0, 1, 1], &cose.write()].concat()
}

#[test]
fn row_41_an_assertion_for_another_challenge_is_refused() {
    let mut account = account(|_| ());
    let answer = account.authenticator.assert(&request());
    assert!(account.check(&answer, false, CHALLENGE).is_ok());
    assert_eq!(account.check(&answer, false, "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), Err(Refusal::WrongChallenge));
}

#[test]
fn row_41_a_counter_counts_on_or_does_not_count_at_all() {
    for (stored, said, answer) in [
        (0, 0, Ok(0)),
        (0, 1, Ok(1)),
        (5, 6, Ok(6)),
        (5, u32::MAX, Ok(u32::MAX)),
        (5, 5, Err(Refusal::CounterWentBack)),
        (5, 4, Err(Refusal::CounterWentBack)),
        (5, 0, Err(Refusal::CounterWentBack)),
        (u32::MAX, 1, Err(Refusal::CounterWentBack)),
    ] {
        let mut account = account(|_| ());
        account.sign_count = stored;
        let answered = signed_with_count(&mut account, said);
        assert_eq!(answered.map(|asserted| asserted.sign_count), answer, "{stored} then {said}");
    }
}

#[test]
fn what_is_signed_cannot_be_changed() {
    let mut account = account(|_| ());
    let answer = account.authenticator.assert(&request());
    for member in ["authenticatorData", "clientDataJSON", "signature"] {
        let octets = gatewright_jose::b64::decode_url(answer["response"][member].as_str().unwrap()).unwrap();
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            let mut forged = answer.clone();
            forged["response"][member] = json!(gatewright_jose::b64::encode_url(&changed));
            assert!(account.check(&forged, false, CHALLENGE).is_err(), "octet {at} of {member}");
        }
    }
}

#[test]
fn what_no_browser_sends_is_refused_without_a_panic() {
    let good = Authenticator::new(ORIGIN).register(&creation());
    for (name, json) in [
        ("nothing", String::new()),
        ("null", "null".into()),
        ("a good one and a megabyte", good.to_string().replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(1 << 20)), 1)),
        ("deep", "[".repeat(50_000)),
        ("another type", good.to_string().replace("public-key", "password")),
        ("two ids", good.to_string().replacen("\"id\":\"", "\"id\":\"AAAA", 1)),
        ("an id twice", good.to_string().replacen('{', "{\"id\":\"AQID\",", 1)),
        ("padding", good.to_string().replace("\",\"rawId\"", "=\",\"rawId\"")),
    ] {
        assert!(matches!(Registration::read(&json), Err(Refusal::Malformed(_))), "{name}");
    }
    for (name, client_data) in [
        ("no JSON", "x".to_owned()),
        ("a challenge twice", format!(r#"{{"type":"webauthn.get","challenge":"{CHALLENGE}","challenge":"AQID","origin":"{ORIGIN}"}}"#)),
        ("an origin twice", format!(r#"{{"type":"webauthn.get","challenge":"{CHALLENGE}","origin":"{ORIGIN}","origin":"{ORIGIN}"}}"#)),
        (
            "crossOrigin as a text",
            format!(r#"{{"type":"webauthn.get","challenge":"{CHALLENGE}","origin":"{ORIGIN}","crossOrigin":"false"}}"#),
        ),
        ("a challenge in standard base64", format!(r#"{{"type":"webauthn.get","challenge":"++==","origin":"{ORIGIN}"}}"#)),
        ("kilobytes", format!(r#"{{"type":"webauthn.get","challenge":"{CHALLENGE}","origin":"{ORIGIN}","x":"{}"}}"#, "x".repeat(5_000))),
    ] {
        let mut account = account(|_| ());
        let mut answer = account.authenticator.assert(&request());
        answer["response"]["clientDataJSON"] = json!(gatewright_jose::b64::encode_url(client_data));
        assert!(matches!(account.check(&answer, false, CHALLENGE), Err(Refusal::Malformed(_))), "{name}");
    }
}

/// An assertion that says `count`, signed.
fn signed_with_count(account: &mut Account, count: u32) -> Result<Asserted, Refusal> {
    let mut answer = account.authenticator.assert(&request());
    let b64 = |text: &Value| gatewright_jose::b64::decode_url(text.as_str().unwrap()).unwrap();
    let mut data = b64(&answer["response"]["authenticatorData"]);
    data[33..37].copy_from_slice(&count.to_be_bytes());
    let client_data = b64(&answer["response"]["clientDataJSON"]);
    let signature = account.authenticator.key.sign(&[&data[..], &gatewright_jose::sha256(&client_data)].concat());
    answer["response"]["authenticatorData"] = json!(gatewright_jose::b64::encode_url(&data));
    answer["response"]["signature"] = json!(gatewright_jose::b64::encode_url(&signature));
    account.check(&answer, false, CHALLENGE)
}

proptest! {
    #[test]
    fn octets_from_anywhere_are_never_believed_and_never_panic(object in prop::collection::vec(any::<u8>(), 0..400), signature in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut account = account(|_| ());
        let mut answer = account.authenticator.register(&creation());
        answer["response"]["attestationObject"] = json!(gatewright_jose::b64::encode_url(&object));
        let registration = Registration::read(&answer.to_string()).unwrap();
        prop_assert!(with_expected(false, CHALLENGE, |expected| verify_registration(&registration, expected)).is_err());
        let mut answer = account.authenticator.assert(&request());
        answer["response"]["signature"] = json!(gatewright_jose::b64::encode_url(&signature));
        prop_assert!(account.check(&answer, false, CHALLENGE).is_err());
        answer["response"]["authenticatorData"] = json!(gatewright_jose::b64::encode_url(&object));
        prop_assert!(account.check(&answer, false, CHALLENGE).is_err());
    }
}
