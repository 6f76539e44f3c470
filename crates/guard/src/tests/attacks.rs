//! Rows of the attack list: forged and confused tokens (16), tokens of another purpose or issuer (17). Each test goes through every
//! way in, and what it changes is the one thing wrong.

use std::time::Duration;

use gatewright_jose::{Algorithm, Refusal as Reason, SigningKey, b64, hmac_sha256};
use serde_json::{Value, json};

use super::*;
use crate::{Kind, Revoked};

/// `forged` is refused for `reason` at every face.
#[track_caller]
fn refused_everywhere(reason: Reason, forged: impl Fn(&Face) -> String) {
    for face in faces() {
        let token = forged(&face);
        assert_eq!(face.verdict(&token).err(), Some(invalid(reason)), "{}: {token}", face.name);
    }
}

#[track_caller]
fn accepted_everywhere(honest: impl Fn(&Face) -> String) {
    for face in faces() {
        let token = honest(&face);
        assert!(face.verdict(&token).is_ok(), "{}: {:?}: {token}", face.name, face.verdict(&token));
    }
}

/// What the forge signs by default is let in, so each refusal below is due to the one thing changed.
#[test]
fn an_honest_token_is_let_in() {
    accepted_everywhere(|face| face.forge.token(&face.claims));
    let principal = bearer_verdict(&Forge::new(1, "key_1").token(&session_claims())).unwrap();
    let expected = Principal {
        session_id: Some("session_1".into()),
        client_id: Some(CLIENT.into()),
        organization_id: Some("org_1".into()),
        token_id: Some("J".into()),
        key_id: Some("key_1".into()),
        roles: vec!["admin".into(), "member".into()],
        permissions: vec!["expenses:read".into()],
        authenticated_at: Some(at(NOW - 60)),
        issued_at: Some(now()),
        claims: session_claims().as_object().unwrap().clone(),
        ..Principal::new(Kind::User, Via::Bearer, format!("{BASE}/user_management/{CLIENT}"), "user_1", at(NOW + 300))
    };
    assert_eq!(principal, expected);
}

#[test]
fn row_16_alg_none() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        refused_everywhere(Reason::AlgorithmNotAllowed, |face| {
            let header = json!({ "alg": alg, "typ": "JWT", "kid": "key_1" }).to_string();
            format!("{}.{}.", b64::encode_url(header), b64::encode_url(face.claims.to_string()))
        });
    }
}

#[test]
fn row_16_the_public_key_as_an_hmac_secret() {
    for face in faces() {
        let jwk = face.forge.jwk();
        let raw = b64::decode_url(jwk["x"].as_str().unwrap()).unwrap();
        for secret in [
            raw.clone(),
            jwk.to_string().into_bytes(),
            jwk["x"].as_str().unwrap().as_bytes().to_vec(),
            b64::encode_std(&raw).into_bytes(),
            vec![],
        ] {
            for alg in ["HS256", "EdDSA"] {
                let header = json!({ "alg": alg, "typ": "JWT", "kid": "key_1" }).to_string();
                let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(face.claims.to_string()));
                let token = format!("{signed}.{}", b64::encode_url(hmac_sha256(&secret, signed.as_bytes())));
                let reason = if alg == "HS256" { Reason::AlgorithmNotAllowed } else { Reason::BadSignature };
                assert_eq!(face.verdict(&token).err(), Some(invalid(reason)), "{}", face.name);
            }
        }
    }
}

#[test]
fn row_16_an_algorithm_that_the_issuer_is_not_pinned_to() {
    let key = SigningKey::generate(Algorithm::ES256, "key_1".to_owned()).unwrap();
    let jwk = serde_json::to_value(key.public_jwk(now(), now().plus(Duration::from_secs(60)), "t").unwrap()).unwrap();
    let token = key.sign_jwt(&provider_claims()).unwrap();
    let verdict = |algorithms: &[Algorithm]| {
        let mut issuers = issuers();
        issuers[2].algorithms = algorithms.to_vec();
        authenticate(&ring().with("provider", jwk.clone()), &Revocations::new(), &issuers, &Verifiable::bearer(&token), now()).err()
    };
    assert_eq!(verdict(&[Algorithm::RS256]), Some(invalid(Reason::AlgorithmNotAllowed)));
    assert_eq!(verdict(&[Algorithm::RS256, Algorithm::EdDSA]), Some(invalid(Reason::AlgorithmNotAllowed)));
    assert_eq!(verdict(&[Algorithm::ES256]), None);
}

#[test]
fn row_16_alg_of_another_kind_of_key() {
    for alg in ["RS256", "ES256", "PS256", "RS512", "eddsa", "EdDSA "] {
        refused_everywhere(Reason::AlgorithmNotAllowed, |face| {
            face.forge.sign(&json!({ "alg": alg, "typ": "JWT", "kid": "key_1" }).to_string(), &face.claims.to_string())
        });
    }
}

#[test]
fn row_16_no_kid() {
    for header in [r#"{"alg":"EdDSA","typ":"JWT"}"#, r#"{"alg":"EdDSA","typ":"JWT","kid":""}"#] {
        refused_everywhere(Reason::MissingKeyId, |face| face.forge.sign(header, &face.claims.to_string()));
    }
    for header in [r#"{"alg":"EdDSA","typ":"JWT","kid":1}"#, r#"{"alg":"EdDSA","typ":"JWT","kid":["key_1"]}"#] {
        refused_everywhere(Reason::Malformed, |face| face.forge.sign(header, &face.claims.to_string()));
    }
}

/// An unknown key is not yet a refusal: the issuer may have published it. Nothing in the token says where to look.
#[test]
fn row_16_kid_that_is_a_path_a_url_or_sql() {
    for kid in ["../../../dev/null", "https://evil.example/key", "key_1' OR '1'='1", "KEY_1", "key_1 ", "key_1\u{0}"] {
        for face in faces() {
            let token = face.forge.sign(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }).to_string(), &face.claims.to_string());
            assert!(matches!(face.verdict(&token), Err(VerifyError::UnknownKey { .. })), "{} {kid}", face.name);
        }
    }
}

#[test]
fn row_16_a_key_brought_along() {
    let stranger = Forge::new(9, "key_1");
    let jwk = stranger.jwk();
    let members = [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.example/jwks""#.to_owned(),
        r#""x5u":"https://evil.example/c.pem""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
    ];
    for member in &members {
        refused_everywhere(Reason::BadSignature, |face| stranger.sign(&stranger.header(member), &face.claims.to_string()));
        // Ignored means neither trusted nor tripped over.
        accepted_everywhere(|face| face.with_header(member));
    }
}

#[test]
fn row_16_crit_and_unencoded_payloads() {
    for member in [r#""crit":["exp"],"exp":1"#, r#""crit":["b64"],"b64":false"#, r#""crit":[]"#, r#""crit":null"#, r#""b64":false"#] {
        refused_everywhere(Reason::CriticalHeader, |face| face.with_header(member));
    }
}

#[test]
fn row_16_duplicate_header_parameters() {
    for member in [r#""alg":"EdDSA""#, r#""typ":"JWT""#, r#""x":1,"x":1"#, r#""\u0061lg":"none""#] {
        refused_everywhere(Reason::DuplicateMember, |face| face.with_header(member));
    }
    for face in faces() {
        assert!(face.verdict(&face.with_header(r#""kid":"key_1""#)).is_err(), "{}", face.name);
    }
}

#[test]
fn row_16_duplicate_claims() {
    for member in [r#""sub":"user_2""#, r#""s\u0075b":"user_2""#, r#""exp":9999999999"#, r#""act":{"sub":"a","sub":"b"}"#] {
        refused_everywhere(Reason::DuplicateMember, |face| face.with_claims(member, &[]));
    }
    // Two issuers: one to choose the key by, one to be believed.
    for face in faces() {
        for iss in [r#""iss":"https://evil.example""#, &format!(r#""iss":"{BASE}""#), &format!(r#""i\u0073s":"{PROVIDER}""#)] {
            assert!(face.verdict(&face.with_claims(iss, &[])).is_err(), "{} {iss}", face.name);
        }
    }
}

#[test]
fn row_16_giant_tokens() {
    refused_everywhere(Reason::TooLong, |face| face.with_claims(&format!(r#""x":"{}""#, "x".repeat(20_000)), &[]));
    refused_everywhere(Reason::TooLong, |_| "a".repeat(16 * 1024 + 1));
    refused_everywhere(Reason::Malformed, |face| face.with_claims(&format!(r#""x":{}{}"#, "[".repeat(3_000), "]".repeat(3_000)), &[]));
}

#[test]
fn row_16_nested_tokens() {
    refused_everywhere(Reason::WrongType, |face| face.with_header(r#""cty":"JWT""#));
    for face in faces() {
        let inner = face.forge.token(&face.claims);
        let outer = face.forge.sign(&face.forge.header(""), &inner);
        assert_eq!(face.verdict(&outer).err(), Some(invalid(Reason::Malformed)), "{}", face.name);
    }
}

#[test]
fn row_16_encrypted_and_cut_tokens_are_not_taken_for_signed_ones() {
    for face in faces() {
        let token = face.forge.token(&face.claims);
        let (signed, _) = token.rsplit_once('.').unwrap();
        let encrypted = format!("{}.a.b.c.d", gatewright_jose::b64::encode_url(br#"{"alg":"dir","enc":"A256GCM"}"#));
        for text in ["", ".", "..", "a.b", "a.b.c.d", "not a token", &encrypted] {
            assert_eq!(face.verdict(text).err(), Some(VerifyError::Opaque), "{} {text}", face.name);
        }
        // Another issuer, asked about these, would be shown a good token of ours.
        for text in [signed, &format!("{token}.x"), &format!("{token}.x.y")] {
            assert_eq!(face.verdict(text).err(), Some(invalid(Reason::Malformed)), "{} {text}", face.name);
        }
        assert_eq!(face.verdict(&format!("{signed}.")).err(), Some(invalid(Reason::BadSignature)), "{}", face.name);
    }
}

#[test]
fn row_16_altered_octets() {
    for face in faces() {
        let token = face.forge.token(&face.claims);
        for position in (0..token.len()).step_by(7) {
            let mut octets = token.clone().into_bytes();
            octets[position] = if octets[position] == b'A' { b'B' } else { b'A' };
            assert!(face.verdict(std::str::from_utf8(&octets).unwrap()).is_err(), "{} at {position}", face.name);
        }
    }
}

#[test]
fn row_16_wrong_issuer() {
    for iss in [
        "https://evil.example",
        "",
        "HTTPS://AUTH.EXAMPLE.COM",
        "https://auth.example.com/",
        "https://idp.example.net",
        "https://auth.example.com/user_management/client_2",
    ] {
        refused_everywhere(Reason::WrongIssuer, |face| face.with_claims(&format!(r#""iss":"{iss}""#), &["iss"]));
    }
    refused_everywhere(Reason::WrongIssuer, |face| face.with_claims(r#""x":1"#, &["iss"]));
    for iss in ["1", "null", "[]", r#"["https://auth.example.com"]"#] {
        for face in faces() {
            assert!(face.verdict(&face.with_claims(&format!(r#""iss":{iss}"#), &["iss"])).is_err(), "{} {iss}", face.name);
        }
    }
}

/// Each issuer is believed under its own keys only, all of them under the same `kid` here.
#[test]
fn row_17_a_token_signed_by_one_issuer_in_the_name_of_another() {
    for face in faces() {
        let honest = face.forge.token(&face.claims);
        for (seed, signer) in [(1, "sessions"), (2, "oauth"), (3, "provider")] {
            let token = Forge::new(seed, "key_1").token(&face.claims);
            let expected = (token != honest).then_some(invalid(Reason::BadSignature));
            assert_eq!(face.verdict(&token).err(), expected, "{} signed by {signer}", face.name);
        }
    }
}

#[test]
fn row_16_wrong_audience() {
    for aud in [
        r#""client_9""#,
        r#""CLIENT_1""#,
        r#""client_1 other""#,
        r#""""#,
        "[]",
        r#"["client_9","client_11"]"#,
        r#""https://api.example.com/""#,
    ] {
        refused_everywhere(Reason::WrongAudience, |face| face.with_claims(&format!(r#""aud":{aud}"#), &["aud"]));
    }
    for aud in ["null", "1", r#"{"client_1":1}"#, r#"[["client_1"]]"#, r#"["client_1",1]"#] {
        refused_everywhere(Reason::Malformed, |face| face.with_claims(&format!(r#""aud":{aud}"#), &["aud"]));
    }
    // Our session tokens come without an audience; no other kind may.
    for face in faces() {
        let is_session = face.claims["sid"] == "session_1";
        assert_eq!(face.verdict(&face.with_claims(r#""x":1"#, &["aud"])).is_ok(), is_session, "{}", face.name);
    }
    accepted_everywhere(|face| face.with_claims(r#""aud":["other","client_1","https://api.example.com"]"#, &["aud"]));
}

#[test]
fn row_16_wrong_type() {
    for typ in
        ["logout+jwt", "secevent+jwt", "dpop+jwt", "id_token", "JWS", "application/application/JWT", "refresh+jwt", "oauth-authz-req+jwt"]
    {
        refused_everywhere(Reason::WrongType, |face| {
            face.forge.sign(&json!({ "alg": "EdDSA", "typ": typ, "kid": "key_1" }).to_string(), &face.claims.to_string())
        });
    }
    refused_everywhere(Reason::WrongType, |face| face.forge.sign(r#"{"alg":"EdDSA","kid":"key_1"}"#, &face.claims.to_string()));
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        accepted_everywhere(|face| {
            face.forge.sign(&json!({ "alg": "EdDSA", "typ": typ, "kid": "key_1" }).to_string(), &face.claims.to_string())
        });
    }
}

#[test]
fn row_16_times() {
    let token = |name: &'static str, value: String| move |face: &Face| face.with_claims(&format!(r#""{name}":{value}"#), &[name]);
    // Ten seconds of leeway, to the second.
    refused_everywhere(Reason::Expired, token("exp", (NOW - 10).to_string()));
    accepted_everywhere(token("exp", (NOW - 9).to_string()));
    refused_everywhere(Reason::Expired, token("exp", "0".to_owned()));
    for name in ["nbf", "iat"] {
        refused_everywhere(Reason::NotYetValid, token(name, (NOW + 11).to_string()));
        accepted_everywhere(token(name, (NOW + 10).to_string()));
    }
    refused_everywhere(Reason::BadTime, |face| face.with_claims(r#""x":1"#, &["exp"]));
}

#[test]
fn row_16_fractional_and_text_times() {
    refused_everywhere(Reason::Expired, |face| face.with_claims(&format!(r#""exp":{}.99"#, NOW - 10), &["exp"]));
    accepted_everywhere(|face| face.with_claims(&format!(r#""exp":{}.5"#, NOW + 5), &["exp"]));
    for name in ["exp", "nbf", "iat"] {
        for value in [&format!("\"{}\"", NOW + 300), "\"\"", "null", "true", "[]", "{}", "-1", "1e300", "253402300800", "1768478700000"] {
            refused_everywhere(Reason::BadTime, |face| face.with_claims(&format!(r#""{name}":{value}"#), &[name]));
        }
    }
}

#[test]
fn row_16_a_leeway_wider_than_a_minute_is_a_minute() {
    let mut issuers = issuers();
    issuers[2].leeway = Some(1_000_000);
    let verdict = |exp: i64| {
        let token = Forge::new(3, "key_1").token(&json!({ "iss": PROVIDER, "aud": "https://api.example.com", "sub": "a", "exp": exp }));
        authenticate(&ring(), &Revocations::new(), &issuers, &Verifiable::bearer(&token), now()).err()
    };
    assert_eq!((verdict(NOW - 59), verdict(NOW - 60)), (None, Some(invalid(Reason::Expired))));
}

#[test]
fn row_16_a_subject_or_session_that_is_no_text() {
    for name in ["sub", "sid", "jti"] {
        for value in ["1", "null", r#"["user_1"]"#, "{}"] {
            refused_everywhere(Reason::Malformed, |face| face.with_claims(&format!(r#""{name}":{value}"#), &[name]));
        }
    }
    for face in faces() {
        for token in [face.with_claims(r#""x":1"#, &["sub"]), face.with_claims(r#""sub":"""#, &["sub"])] {
            assert!(matches!(face.verdict(&token), Err(VerifyError::Refused(Refusal::InvalidToken(_)))), "{}", face.name);
        }
    }
}

/// OpenID Connect Core §2: only ID tokens carry these.
#[test]
fn row_17_id_token_as_access_token() {
    for member in [r#""nonce":"n""#, r#""at_hash":"h""#, r#""c_hash":"h""#, r#""s_hash":"h""#, r#""nonce":null"#] {
        refused_everywhere(Reason::WrongType, |face| face.with_claims(member, &[]));
    }
    // Ours without a nonce: addressed to the application, and `client_id` is not in it.
    let ours = |aud: &str| json!({ "iss": BASE, "aud": aud, "sub": "user_1", "name": "Ada", "iat": NOW, "exp": NOW + 300 });
    let forge = Forge::new(2, "key_1");
    assert_eq!(bearer_verdict(&forge.token(&ours("client_2"))).err(), Some(invalid(Reason::WrongAudience)));
    assert_eq!(bearer_verdict(&forge.token(&ours(CLIENT))).err(), Some(invalid(Reason::WrongType)));
    // Another provider's: addressed to the client, not to the API.
    let theirs = json!({ "iss": PROVIDER, "aud": "spa", "sub": "auth0|1", "iat": NOW, "exp": NOW + 300 });
    assert_eq!(bearer_verdict(&Forge::new(3, "key_1").token(&theirs)).err(), Some(invalid(Reason::WrongAudience)));
}

#[test]
fn row_17_keycloaks_refresh_offline_and_id_tokens() {
    for typ in [r#""Refresh""#, r#""Offline""#, r#""ID""#, r#""Logout""#, r#""bearer""#, "null", "1"] {
        refused_everywhere(Reason::WrongType, |face| face.with_claims(&format!(r#""typ":{typ}"#), &[]));
    }
    accepted_everywhere(|face| face.with_claims(r#""typ":"Bearer""#, &[]));
}

#[test]
fn row_17_cognitos_id_tokens() {
    for token_use in [r#""id""#, r#""refresh_token""#, "null", r#"["access"]"#] {
        refused_everywhere(Reason::WrongType, |face| face.with_claims(&format!(r#""token_use":{token_use}"#), &[]));
    }
    accepted_everywhere(|face| face.with_claims(r#""token_use":"access""#, &[]));
}

#[test]
fn row_17_logout_tokens_and_security_events() {
    let member = r#""events":{"http://schemas.openid.net/event/backchannel-logout":{}}"#;
    refused_everywhere(Reason::WrongType, |face| face.with_claims(member, &[]));
}

/// RFC 9449 §7.1, RFC 8705 §3: worth nothing without the proof.
#[test]
fn row_17_a_token_bound_to_a_key_as_a_plain_bearer_token() {
    refused_everywhere(Reason::WrongType, |face| face.with_claims(r#""cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#, &[]));
}

#[test]
fn row_17_refresh_tokens_invitations_and_api_keys_are_no_tokens_of_ours() {
    for text in ["rt_01KHZ5S4M7D2C9", "invitation_01KHZ5S4M7D2C9", "gAAAAABmAAAAAA==", "Fe26.2**abc*def~2", "0.aaaa", "ory_at_x"] {
        assert_eq!(bearer_verdict(text).err(), Some(VerifyError::Opaque), "{text}");
    }
}

#[test]
fn row_17_a_session_token_of_another_kind_of_session() {
    let forge = Forge::new(1, "key_1");
    for sid in ["app_consent_1", "SESSION_1", "ession_1", ""] {
        let mut claims = session_claims();
        claims["sid"] = sid.into();
        assert_eq!(bearer_verdict(&forge.token(&claims)).err(), Some(invalid(Reason::WrongType)), "{sid}");
    }
    let mut claims = session_claims();
    claims.as_object_mut().unwrap().remove("sid");
    assert_eq!(bearer_verdict(&forge.token(&claims)).err(), Some(invalid(Reason::WrongType)));
    let mut claims = oauth_claims();
    claims["sid"] = "session_1".into();
    assert_eq!(bearer_verdict(&Forge::new(2, "key_1").token(&claims)).err(), Some(invalid(Reason::WrongType)));
}

/// Where a deployment gives both our issuers one `iss`, what each kind of token may be is still told apart.
#[test]
fn row_17_one_iss_for_sessions_and_oauth_does_not_mix_them() {
    let mut issuers = issuers();
    issuers[0].issuer = BASE.to_owned();
    let verdict = |seed, claims: &Value| {
        let token = Forge::new(seed, "key_1").token(claims);
        authenticate(&ring(), &Revocations::new(), &issuers, &Verifiable::bearer(&token), now())
    };
    let mut session = session_claims();
    session["iss"] = BASE.into();
    assert!(verdict(1, &session).is_ok());
    assert!(verdict(2, &oauth_claims()).is_ok());
    // Signed by the other's key, which is another here.
    assert_eq!(verdict(2, &session).err(), Some(invalid(Reason::BadSignature)));
    assert_eq!(verdict(1, &oauth_claims()).err(), Some(invalid(Reason::BadSignature)));
}

#[test]
fn row_17_another_issuers_token_in_a_sealed_session() {
    for (seed, claims) in [(2, oauth_claims()), (3, provider_claims())] {
        let token = Forge::new(seed, "key_1").token(&claims);
        let credential = Verifiable { via: Via::Session, ..Verifiable::bearer(&token) };
        let verdict = authenticate(&ring(), &Revocations::new(), &issuers(), &credential, now());
        assert_eq!(verdict.err(), Some(VerifyError::Refused(Refusal::InvalidSession)));
    }
}

#[test]
fn row_17_a_user_object_beside_another_users_token() {
    let token = Forge::new(1, "key_1").token(&session_claims());
    let verdict = |user: Value| {
        let credential = Verifiable { token: &token, via: Via::Session, user: Some(&user), impersonator: None };
        authenticate(&ring(), &Revocations::new(), &issuers(), &credential, now())
    };
    let principal = verdict(json!({ "id": "user_1", "email": "ada@example.com" })).unwrap();
    assert_eq!((principal.email.as_deref(), principal.user.is_some()), (Some("ada@example.com"), true));
    for id in [json!("user_2"), json!(1), Value::Null] {
        assert_eq!(verdict(json!({ "id": id })).err(), Some(VerifyError::Refused(Refusal::InvalidSession)), "{id}");
    }
    assert_eq!(verdict(Value::Null).unwrap().user, None);
}

#[test]
fn row_18_an_environments_token_at_another_environment() {
    let mut claims = session_claims();
    claims["iss"] = format!("{BASE}/user_management/client_2").into();
    assert_eq!(bearer_verdict(&Forge::new(1, "key_1").token(&claims)).err(), Some(invalid(Reason::WrongIssuer)));
    let mut claims = oauth_claims();
    claims["aud"] = "client_of_another_environment".into();
    assert_eq!(bearer_verdict(&Forge::new(2, "key_1").token(&claims)).err(), Some(invalid(Reason::WrongAudience)));
}

#[test]
fn row_23_a_revoked_token_is_refused_at_first_sight() {
    for face in faces() {
        let revocations = Revocations::new();
        let token = face.forge.token(&face.claims);
        let credential = Verifiable { via: face.via, ..Verifiable::bearer(&token) };
        let verdict = || authenticate(&ring(), &revocations, &issuers(), &credential, now()).err();
        assert_eq!(verdict(), None);
        revocations.revoke(Revoked::User(face.claims["sub"].as_str().unwrap()), now(), at(NOW + 600));
        assert_eq!(verdict(), Some(VerifyError::Refused(Refusal::Revoked)), "{}", face.name);
    }
}

#[test]
fn without_keys_nothing_is_believed_and_the_issuer_is_named() {
    for face in faces() {
        let token = face.forge.token(&face.claims);
        let credential = Verifiable { via: face.via, ..Verifiable::bearer(&token) };
        let verdict = authenticate(&Ring::default(), &Revocations::new(), &issuers(), &credential, now());
        assert!(matches!(verdict, Err(VerifyError::NoKeys { .. })), "{}", face.name);
        let none = authenticate(&ring(), &Revocations::new(), &[], &credential, now());
        assert_eq!(none.err(), Some(invalid(Reason::WrongIssuer)));
    }
}
