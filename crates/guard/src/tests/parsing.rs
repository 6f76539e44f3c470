//! Whatever a peer sends, reading it ends in an answer.

use proptest::prelude::*;

use super::*;
use crate::{Credential, CrossSite, Many, RequestFacts, check_cross_site, find_credential};

const NAMES: &[&str] = &[
    "Authorization",
    "authorization",
    "Cookie",
    "cookie",
    "X-API-Key",
    "Origin",
    "Sec-Fetch-Site",
    "X-CSRF-Token",
    "Sec-WebSocket-Protocol",
    "accept",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop::collection::vec(
        prop::sample::select(vec![
            "Bearer",
            "bearer",
            " ",
            "  ",
            ",",
            ";",
            "=",
            "sk_live_",
            "a.b.c",
            "wos_session",
            ".1",
            "3.",
            "8.",
            "\"",
            "same-origin",
            "https://",
            "Basic",
            "é",
            "\t",
            "~2",
            "Fe26.2",
        ]),
        0..12,
    );
    prop_oneof![likely.prop_map(|parts| parts.concat().into_bytes()), prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #[test]
    fn no_request_makes_the_guard_panic(
        headers in prop::collection::vec((prop::sample::select(NAMES), value()), 0..12), is_websocket: bool, method in "GET|POST|get|\\PC{0,3}",
    ) {
        let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let facts = RequestFacts::from_headers(&method, is_websocket, pairs);
        let _ = check_cross_site(&facts, &CrossSite::default(), Some("t"));
        match find_credential(&facts, "wos_session") {
            Ok(Some(Credential::Bearer(token))) => {
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
                prop_assert!(!token.starts_with("sk_"));
                prop_assert!(bearer_verdict(token).is_err());
            }
            Ok(Some(Credential::ApiKey(key))) => prop_assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())),
            Ok(Some(Credential::Session(_))) => prop_assert!(!facts.cookie.is_empty() && facts.api_key.is_empty()),
            Ok(None) => prop_assert!(facts.api_key.is_empty()),
            Err(refusal) => prop_assert!(matches!(refusal, Refusal::InvalidRequest(_) | Refusal::InvalidToken(_))),
        }
    }

    #[test]
    fn no_text_makes_the_guard_panic_or_believe(token in "\\PC{0,200}") {
        prop_assert!(bearer_verdict(&token).is_err());
    }

    #[test]
    fn no_signed_json_makes_the_guard_panic(claims in "\\{(\"(iss|sub|sid|aud|exp|roles|scope|act)\":(\"[a-z_/:.]{0,12}\"|[0-9]{1,12}|null|\\[\\]|\\{\\}),?){0,6}\\}") {
        for seed in 1..=3 {
            let forge = Forge::new(seed, "key_1");
            prop_assert!(bearer_verdict(&forge.sign(&forge.header(""), &claims)).is_err());
        }
    }

    #[test]
    fn many_gives_back_what_it_got(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..9)) {
        let many: Many<'_> = values.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(many.len(), values.len());
        prop_assert_eq!(many.is_empty(), values.is_empty());
        prop_assert!(many.iter().eq(values.iter().map(Vec::as_slice)));
    }

    #[test]
    fn no_configuration_makes_the_guard_panic(url in "(https?|ftp)?(://)?[a-z.:@%\\[\\]/0-9é]{0,24}") {
        let json = json!({ "base_url": url, "client_id": "c", "app_url": url, "trusted_origins": [url] }).to_string();
        if let Ok(config) = crate::Config::from_json(&json) {
            prop_assert!(config.cross_site().origins.iter().all(|origin| origin.split_once("://").is_some_and(|(_, host)| !host.contains(['/', '@']))));
        }
    }
}
