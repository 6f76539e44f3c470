//! Forged, confused and stale tokens, one test an attack, and the honest token beside it that must pass.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use gatewright_base::Timestamp;
use gatewright_jose::{Algorithm, Claims, Expect, Jwk, Jwks, MAX_TOKEN_LEN, Refusal, SigningKey, VerifyingKeys};
use gatewright_jose::{b64, hmac_sha256, verify_jws, verify_jwt};
use serde_json::{Value, json};

const NOW: i64 = 1_768_478_400;
const ISSUER: &str = "https://auth.example.com/user_management/client_1";
const AUDIENCE: &str = "client_1";

fn now() -> Timestamp {
    Timestamp::from_millis(NOW * 1000)
}

fn expect() -> Expect<'static> {
    Expect {
        issuer: Some(ISSUER),
        audience: Some(AUDIENCE),
        typ: &["JWT"],
        algorithms: &[Algorithm::EdDSA],
        now: now(),
        leeway: Duration::ZERO,
    }
}

fn good_claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "user_1", "sid": "session_1", "jti": "J", "iat": NOW, "exp": NOW + 300 })
}

/// The text of [`good_claims`] with `member` put in, as given, before the rest.
fn claims_text(member: &str, without: &[&str]) -> String {
    let mut claims = good_claims();
    for name in without {
        claims.as_object_mut().unwrap().remove(*name);
    }
    claims.to_string().replacen('{', &format!("{{{member},"), 1)
}

/// A signer that puts its name under anything: the honest key in the hands of somebody who can choose every octet.
struct Forge {
    pair: Ed25519KeyPair,
    kid: &'static str,
}

impl Forge {
    fn new(seed: u8, kid: &'static str) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), kid }
    }

    fn jwk(&self) -> Jwk {
        serde_json::from_value(json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": b64::encode_url(self.pair.public_key())
        }))
        .unwrap()
    }

    fn keys(&self) -> VerifyingKeys {
        VerifyingKeys::from_jwks(&Jwks { keys: vec![self.jwk()] }).unwrap()
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(payload));
        let signature = b64::encode_url(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Signs under the usual header with `member`, if any, put in.
    fn with_header(&self, member: &str) -> String {
        let comma = if member.is_empty() { "" } else { "," };
        self.sign(&format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"{comma}{member}}}"#, self.kid), &good_claims().to_string())
    }

    fn with_claims(&self, claims: &str) -> String {
        self.sign(&format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, self.kid), claims)
    }
}

fn ours() -> Forge {
    Forge::new(1, "key_1")
}

fn verdict(token: &str) -> Result<Claims, Refusal> {
    verify_jwt(&ours().keys(), token, &expect())
}

fn refusal(token: &str) -> Refusal {
    verdict(token).expect_err("must be refused")
}

/// What the forge signs by default is accepted, so each refusal below is due to the one thing changed.
#[test]
fn an_honest_token_is_accepted() {
    let claims = verdict(&ours().with_header("")).unwrap();
    assert_eq!(Value::Object(claims.as_map().clone()), good_claims());
    assert_eq!((claims.sub(), claims.sid(), claims.jti(), claims.iss()), (Some("user_1"), Some("session_1"), Some("J"), Some(ISSUER)));
    assert_eq!((claims.exp(), claims.iat(), claims.nbf()), (NOW + 300, Some(NOW), None));
    assert_eq!(claims.audiences(), [AUDIENCE]);
}

#[test]
fn every_algorithm_signs_what_it_verifies_and_survives_storage() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = SigningKey::generate(algorithm, "key_1".to_owned()).unwrap();
        let stored = SigningKey::from_pkcs8(algorithm, "key_1".to_owned(), key.to_pkcs8().reveal()).unwrap();
        let jwk = stored.public_jwk(now(), now().plus(Duration::from_secs(86_400)), "test").unwrap();
        let published = serde_json::to_string(&Jwks { keys: vec![jwk] }).unwrap();
        let keys = VerifyingKeys::from_jwks(&serde_json::from_str(&published).unwrap()).unwrap();
        let expect = Expect { algorithms: &[algorithm], ..expect() };
        for key in [&key, &stored] {
            let claims = verify_jwt(&keys, &key.sign_jwt(&good_claims()).unwrap(), &expect).unwrap();
            assert_eq!(Value::Object(claims.into_map()), good_claims());
        }
        let typed = key.sign_typed("at+jwt", &good_claims()).unwrap();
        assert_eq!(verify_jwt(&keys, &typed, &expect), Err(Refusal::WrongType));
        assert!(verify_jwt(&keys, &typed, &Expect { typ: &["at+jwt"], ..expect }).is_ok());
    }
}

#[test]
fn alg_none_is_refused() {
    let payload = b64::encode_url(good_claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = b64::encode_url(json!({ "alg": alg, "typ": "JWT", "kid": "key_1" }).to_string());
        assert_eq!(refusal(&format!("{header}.{payload}.")), Refusal::AlgorithmNotAllowed, "{alg}");
        assert_eq!(refusal(&format!("{header}.{payload}.AAAA")), Refusal::AlgorithmNotAllowed, "{alg}");
        assert_eq!(refusal(&format!("{header}.{payload}")), Refusal::Malformed, "{alg}");
    }
}

#[test]
fn a_missing_or_strange_alg_is_refused() {
    let forge = ours();
    let claims = good_claims().to_string();
    assert_eq!(refusal(&forge.sign(r#"{"typ":"JWT","kid":"key_1"}"#, &claims)), Refusal::AlgorithmNotAllowed);
    for alg in [r#"["EdDSA"]"#, "null", "0", "{}"] {
        assert_eq!(refusal(&forge.sign(&format!(r#"{{"alg":{alg},"typ":"JWT","kid":"key_1"}}"#), &claims)), Refusal::Malformed, "{alg}");
    }
    for alg in ["eddsa", "EdDSA ", "Ed25519", "RS512", "EdDSA\\u0000"] {
        let token = forge.sign(&format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"key_1"}}"#), &claims);
        assert_eq!(refusal(&token), Refusal::AlgorithmNotAllowed, "{alg}");
    }
}

#[test]
fn hs256_with_the_public_key_is_refused() {
    let key = SigningKey::generate(Algorithm::RS256, "key_1".to_owned()).unwrap();
    let jwk = key.public_jwk(now(), now(), "test").unwrap();
    let keys = VerifyingKeys::from_jwks(&Jwks { keys: vec![jwk.clone()] }).unwrap();
    let certificate = b64::decode_std(&jwk.x5c[0]).unwrap();
    let secrets = [serde_json::to_vec(&jwk).unwrap(), b64::decode_url(jwk.n.as_deref().unwrap()).unwrap(), certificate, Vec::new()];
    for alg in ["HS256", "HS384", "HS512"] {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": "key_1" }).to_string();
        let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(good_claims().to_string()));
        for secret in &secrets {
            let token = format!("{signed}.{}", b64::encode_url(hmac_sha256(secret, signed.as_bytes())));
            let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
            assert_eq!(verify_jwt(&keys, &token, &Expect { algorithms: &all, ..expect() }), Err(Refusal::AlgorithmNotAllowed));
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let (ed, ec) = (ours(), SigningKey::generate(Algorithm::ES256, "key_2".to_owned()).unwrap());
    let jwks = Jwks { keys: vec![ed.jwk(), ec.public_jwk(now(), now(), "test").unwrap()] };
    let keys = VerifyingKeys::from_jwks(&jwks).unwrap();
    let both = Expect { algorithms: &[Algorithm::ES256, Algorithm::EdDSA], ..expect() };
    let token = ed.sign(r#"{"alg":"EdDSA","typ":"JWT","kid":"key_2"}"#, &good_claims().to_string());
    assert_eq!(verify_jwt(&keys, &token, &both), Err(Refusal::AlgorithmNotAllowed));
    let honest = ec.sign_jwt(&good_claims()).unwrap();
    assert!(verify_jwt(&keys, &honest, &both).is_ok());
    assert_eq!(
        verify_jwt(&keys, &honest, &expect()),
        Err(Refusal::AlgorithmNotAllowed),
        "the key set holds it, the caller does not allow it"
    );
    assert_eq!(verify_jwt(&keys, &honest, &Expect { algorithms: &[], ..expect() }), Err(Refusal::AlgorithmNotAllowed));
}

#[test]
fn an_altered_token_is_refused() {
    let token = ours().with_header("");
    let parts: Vec<&str> = token.split('.').collect();
    let evil = b64::encode_url(good_claims().to_string().replace("user_1", "user_2"));
    assert_eq!(refusal(&format!("{}.{evil}.{}", parts[0], parts[2])), Refusal::BadSignature);
    let header = b64::encode_url(r#"{"kid":"key_1","typ":"JWT","alg":"EdDSA"}"#);
    assert_eq!(refusal(&format!("{header}.{}.{}", parts[1], parts[2])), Refusal::BadSignature);
    for signature in ["", "AAAA", &b64::encode_url([0; 64]), &b64::encode_url([0; 65])] {
        assert_eq!(refusal(&format!("{}.{}.{signature}", parts[0], parts[1])), Refusal::BadSignature);
    }
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(verdict(std::str::from_utf8(&altered).unwrap()).is_err(), "octet {at}");
    }
}

#[test]
fn another_signers_key_is_refused() {
    assert_eq!(refusal(&Forge::new(2, "key_1").with_header("")), Refusal::BadSignature);
}

#[test]
fn an_unknown_or_tricky_kid_is_refused() {
    let forge = ours();
    for kid in ["key_2", "KEY_1", "key_1 ", "key_1\\u0000", "../../dev/null", "' OR 1=1 --", "https://evil.example/jwks"] {
        let token = forge.sign(&format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#), &good_claims().to_string());
        assert_eq!(refusal(&token), Refusal::UnknownKey, "{kid}");
    }
}

#[test]
fn a_missing_kid_is_refused_even_with_one_key() {
    let forge = ours();
    for header in [r#"{"alg":"EdDSA","typ":"JWT"}"#, r#"{"alg":"EdDSA","typ":"JWT","kid":""}"#] {
        assert_eq!(refusal(&forge.sign(header, &good_claims().to_string())), Refusal::MissingKeyId);
    }
    for kid in ["null", "1", r#"["key_1"]"#] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":{kid}}}"#);
        assert_eq!(refusal(&forge.sign(&header, &good_claims().to_string())), Refusal::Malformed, "{kid}");
    }
}

#[test]
fn embedded_jwk_is_ignored() {
    let attacker = Forge::new(2, "key_1");
    let jwk = serde_json::to_string(&attacker.jwk()).unwrap();
    assert_eq!(refusal(&attacker.with_header(&format!(r#""jwk":{jwk}"#))), Refusal::BadSignature);
    let stranger = Forge::new(2, "key_9");
    let jwk = serde_json::to_string(&stranger.jwk()).unwrap();
    assert_eq!(refusal(&stranger.with_header(&format!(r#""jwk":{jwk}"#))), Refusal::UnknownKey);
    assert!(verdict(&ours().with_header(&format!(r#""jwk":{jwk}"#))).is_ok(), "ignored means neither trusted nor tripped over");
}

#[test]
fn jku_x5u_and_x5c_are_ignored() {
    for member in
        [r#""jku":"https://evil.example/jwks""#, r#""x5u":"https://evil.example/c.pem""#, r#""x5c":["AAAA"]"#, r#""x5t#S256":"AAAA""#]
    {
        assert_eq!(refusal(&Forge::new(2, "key_1").with_header(member)), Refusal::BadSignature, "{member}");
        assert!(verdict(&ours().with_header(member)).is_ok(), "{member}");
    }
}

#[test]
fn crit_is_refused() {
    for member in [r#""crit":["exp"],"exp":1"#, r#""crit":["b64"],"b64":true"#, r#""crit":[]"#, r#""crit":null"#, r#""crit":["kid"]"#] {
        assert_eq!(refusal(&ours().with_header(member)), Refusal::CriticalHeader, "{member}");
    }
}

#[test]
fn an_unencoded_payload_is_refused() {
    for member in [r#""b64":false"#, r#""b64":true"#] {
        assert_eq!(refusal(&ours().with_header(member)), Refusal::CriticalHeader, "{member}");
    }
}

#[test]
fn duplicate_header_is_refused() {
    for member in [r#""alg":"EdDSA""#, r#""kid":"key_1""#, r#""x":1,"x":1"#, r#""\u0061lg":"none""#] {
        assert_eq!(refusal(&ours().with_header(member)), Refusal::DuplicateMember, "{member}");
    }
}

#[test]
fn duplicate_claim_is_refused() {
    for member in [r#""sub":"user_2""#, r#""s\u0075b":"user_2""#, r#""exp":1"#, r#""act":{"sub":"a","sub":"b"}"#] {
        assert_eq!(refusal(&ours().with_claims(&claims_text(member, &[]))), Refusal::DuplicateMember, "{member}");
    }
}

#[test]
fn exp_as_string_is_refused() {
    for name in ["exp", "nbf", "iat"] {
        for value in [&format!("\"{}\"", NOW + 300), "\"\"", "null", "true", "[]", "{}", "-1", "1e300", "253402300800", "1768478700000"] {
            let token = ours().with_claims(&claims_text(&format!("\"{name}\":{value}"), &[name]));
            assert_eq!(refusal(&token), Refusal::BadTime, "{name} {value}");
        }
    }
}

#[test]
fn a_token_without_exp_is_refused() {
    assert_eq!(refusal(&ours().with_claims(&claims_text("\"x\":1", &["exp"]))), Refusal::BadTime);
}

#[test]
fn an_expired_token_is_refused() {
    let at = |exp: &str, leeway| {
        let token = ours().with_claims(&claims_text(&format!("\"exp\":{exp}"), &["exp"]));
        verify_jwt(&ours().keys(), &token, &Expect { leeway: Duration::from_secs(leeway), ..expect() }).map(|claims| claims.exp())
    };
    assert_eq!(at("0", 0), Err(Refusal::Expired));
    assert_eq!(at(&NOW.to_string(), 0), Err(Refusal::Expired), "RFC 7519 §4.1.4: now must be before exp");
    assert_eq!(at(&format!("{NOW}.9"), 0), Err(Refusal::Expired));
    assert_eq!(at(&(NOW + 1).to_string(), 0), Ok(NOW + 1));
    assert_eq!(at(&(NOW - 59).to_string(), 60), Ok(NOW - 59));
    assert_eq!(at(&(NOW - 60).to_string(), 60), Err(Refusal::Expired));
    assert_eq!(at("253402300799", u64::MAX), Ok(253_402_300_799));
}

#[test]
fn a_token_from_the_future_is_refused() {
    for name in ["nbf", "iat"] {
        let at = |seconds: i64, leeway| {
            let token = ours().with_claims(&claims_text(&format!("\"{name}\":{seconds}"), &[name]));
            verify_jwt(&ours().keys(), &token, &Expect { leeway: Duration::from_secs(leeway), ..expect() }).map(|_| ())
        };
        assert_eq!(at(NOW + 1, 0), Err(Refusal::NotYetValid));
        assert_eq!(at(NOW, 0), Ok(()));
        assert_eq!(at(NOW + 60, 60), Ok(()));
        assert_eq!(at(NOW + 61, 60), Err(Refusal::NotYetValid));
    }
}

#[test]
fn token_of_another_issuer_is_refused() {
    for issuer in [format!("{ISSUER}/"), ISSUER.to_uppercase(), "https://evil.example".to_owned(), String::new(), format!("{ISSUER}2")] {
        let token = ours().with_claims(&claims_text(&format!("\"iss\":\"{issuer}\""), &["iss"]));
        assert_eq!(refusal(&token), Refusal::WrongIssuer, "{issuer}");
    }
    assert_eq!(refusal(&ours().with_claims(&claims_text("\"x\":1", &["iss"]))), Refusal::WrongIssuer);
    assert_eq!(refusal(&ours().with_claims(&claims_text(&format!("\"iss\":[\"{ISSUER}\"]"), &["iss"]))), Refusal::Malformed);
}

#[test]
fn token_for_another_audience_is_refused() {
    let with =
        |aud: &str| verdict(&ours().with_claims(&claims_text(&format!("\"aud\":{aud}"), &["aud"]))).map(|claims| claims.audiences().len());
    assert_eq!(with(r#""client_1""#), Ok(1));
    assert_eq!(with(r#"["other","client_1"]"#), Ok(2));
    for aud in [r#""client_2""#, r#""CLIENT_1""#, r#""client_1 other""#, r#""""#, "[]", r#"["client_2","client_11"]"#] {
        assert_eq!(with(aud), Err(Refusal::WrongAudience), "{aud}");
    }
    for aud in ["null", "1", r#"{"client_1":1}"#, r#"[["client_1"]]"#, r#"["client_1",1]"#] {
        assert_eq!(with(aud), Err(Refusal::Malformed), "{aud}");
    }
    assert_eq!(refusal(&ours().with_claims(&claims_text("\"x\":1", &["aud"]))), Refusal::WrongAudience);
}

#[test]
fn a_subject_or_session_that_is_no_text_is_refused() {
    for name in ["sub", "sid", "jti"] {
        for value in ["1", "null", r#"["user_1"]"#, "{}"] {
            let token = ours().with_claims(&claims_text(&format!("\"{name}\":{value}"), &[name]));
            assert_eq!(refusal(&token), Refusal::Malformed, "{name} {value}");
        }
    }
}

#[test]
fn token_of_another_kind_is_refused() {
    let of_kind = |typ: &str, expected: &[&str]| {
        let header = format!(r#"{{"alg":"EdDSA","kid":"key_1"{typ}}}"#);
        let token = ours().sign(&header, &good_claims().to_string());
        verify_jwt(&ours().keys(), &token, &Expect { typ: expected, ..expect() }).map(|_| ())
    };
    for (typ, expected) in [
        (r#","typ":"JWT""#, &["JWT"][..]),
        (r#","typ":"jwt""#, &["JWT"]),
        (r#","typ":"at+jwt""#, &["JWT", "at+jwt"]),
        (r#","typ":"application/at+jwt""#, &["at+jwt"]),
        (r#","typ":"Application/AT+JWT""#, &["at+jwt"]),
        ("", &["JWT", ""]),
    ] {
        assert_eq!(of_kind(typ, expected), Ok(()), "{typ}");
    }
    for (typ, expected) in [
        (r#","typ":"logout+jwt""#, &["JWT"][..]),
        (r#","typ":"at+jwt""#, &["JWT"]),
        (r#","typ":"application/application/JWT""#, &["JWT"]),
        ("", &["JWT"]),
        (r#","typ":"JWT""#, &[""]),
        (r#","typ":"JWT""#, &[]),
    ] {
        assert_eq!(of_kind(typ, expected), Err(Refusal::WrongType), "{typ} {expected:?}");
    }
}

#[test]
fn a_nested_token_is_refused() {
    let inner = ours().with_header("");
    let header = r#"{"alg":"EdDSA","typ":"JWT","kid":"key_1","cty":"JWT"}"#;
    assert_eq!(refusal(&ours().sign(header, &inner)), Refusal::WrongType);
    assert_eq!(refusal(&ours().sign(header, &good_claims().to_string())), Refusal::WrongType);
    assert_eq!(refusal(&ours().with_claims(&inner)), Refusal::Malformed);
}

#[test]
fn a_token_with_two_or_four_dots_too_few_or_many_is_refused() {
    let token = ours().with_header("");
    let (signed, _) = token.rsplit_once('.').unwrap();
    // Four dots are a JWE (RFC 7516 §7.1).
    for text in ["", ".", "..", "...", signed, &format!("{token}."), &format!(".{token}"), &format!("{token}.AAAA.AAAA"), "a"] {
        assert_eq!(refusal(text), Refusal::Malformed, "{text:?}");
    }
}

#[test]
fn base64_with_padding_space_or_left_over_bits_is_refused() {
    let token = ours().with_header("");
    let parts: Vec<&str> = token.split('.').collect();
    for change in ["=", "==", " ", "\n", "\0", "é", "+", "/"] {
        for at in 0..3 {
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            parts[at].push_str(change);
            let token = parts.join(".");
            // A longer payload is also not the signed one; either way nothing gets through.
            assert!(matches!(refusal(&token), Refusal::Malformed | Refusal::BadSignature), "{change:?} {at}");
        }
    }
    // 64 octets leave four bits in the last character: the same signature, spelt otherwise.
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sibling = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    assert_eq!(refusal(&format!("{}{sibling}", &token[..token.len() - 1])), Refusal::Malformed);
}

#[test]
fn a_giant_token_is_refused_before_it_is_read() {
    let token = ours().with_claims(&claims_text(&format!("\"x\":\"{}\"", "a".repeat(MAX_TOKEN_LEN)), &[]));
    assert_eq!(refusal(&token), Refusal::TooLong);
    assert_eq!(refusal(&".".repeat(MAX_TOKEN_LEN + 1)), Refusal::TooLong);
    let deep = format!("{}1{}", "[".repeat(4_000), "]".repeat(4_000));
    assert_eq!(refusal(&ours().with_claims(&claims_text(&format!("\"x\":{deep}"), &[]))), Refusal::Malformed);
}

#[test]
fn claims_that_are_no_object_are_refused() {
    for payload in ["", "null", "[]", "\"sub\"", "1", "{", "{}{}", "\u{feff}{}"] {
        assert_eq!(refusal(&ours().with_claims(payload)), Refusal::Malformed, "{payload}");
    }
}

/// The payload is only given out once the signature held: what was signed is what comes back, octet for octet.
#[test]
fn a_jws_gives_back_the_signed_octets() {
    let forge = ours();
    let token = forge.sign(r#"{"alg":"EdDSA","kid":"key_1"}"#, "not even JSON \u{0}");
    let jws = verify_jws(&forge.keys(), &token, &[Algorithm::EdDSA]).unwrap();
    assert_eq!((jws.payload.as_slice(), jws.typ, jws.kid.as_str()), (&b"not even JSON \x00"[..], None, "key_1"));
}
