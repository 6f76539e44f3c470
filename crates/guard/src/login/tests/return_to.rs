use super::*;
use crate::login::return_to::decode;

#[test]
fn open_redirect_whatever_leads_elsewhere_counts_as_the_start_page() {
    for evil in [
        "",
        "x",
        "https://evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/ /evil.example",
        "/%2f/evil.example",
        "/%2Fevil.example",
        "/%5cevil.example",
        "/%5C%5Cevil.example",
        "/%09/evil.example",
        "/%0d%0aSet-Cookie:x=y",
        "/x\r\nSet-Cookie: x=y",
        "/%00",
        "/x%7f",
        "/%252fevil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/a/..//evil.example",
        "/../x",
        "/./x",
        "/%2e%2e/x",
        "/a%2f%2e%2e%2f%2fevil.example",
        "/a%2f%2fb",
        "/%2e",
        "/a//b",
        "/x\\y",
        "/é",
        "/%",
        "/%zz",
        "/x?%",
        "/x?%g0",
        "javascript:alert(1)",
        "data:text/html,x",
        "?x",
        "#x",
        "/x\u{0}",
        "/x\u{7f}",
        "@evil.example",
        ".evil.example",
        "/x?\\\\evil.example",
    ] {
        assert_eq!(same_origin_path(evil), None, "{evil:?}");
        let login = begin_at(1, Some(evil), "", now());
        assert_eq!(finish(&answer(&login), &cookie(&login), now()).unwrap().return_to, "/", "{evil:?}");
    }
    assert_eq!(same_origin_path(&format!("/{}", "x".repeat(1024))), None);
}

#[test]
fn paths_of_the_app_are_returned_to_as_they_are() {
    for path in [
        "/",
        "/x",
        "/x/",
        "/a/b?c=d&e=%2F%2Fevil.example%0a",
        "/x#y",
        "/caf%C3%A9/a%20b",
        "/search?q=https://example.com//x",
        "/a.b/..c/.d",
        "/x?next=//y",
        "/@me",
        "/a:b",
        "/a%2Fb",
        "/a%2f",
    ] {
        assert_eq!(same_origin_path(path), Some(path));
    }
}

proptest! {
    /// What is let through is one slash and then something that no reader takes for a host, before and after decoding.
    #[test]
    fn every_path_let_through_stays_on_the_host(text in "[/\\\\.%a-c2fF5eE0?#@: \t]{0,14}|/\\PC{0,20}") {
        if let Some(path) = same_origin_path(&text) {
            let decoded = decode(path.as_bytes()).unwrap();
            let end = decoded.iter().position(|octet| matches!(octet, b'?' | b'#')).unwrap_or(decoded.len());
            for path in [path.as_bytes(), &decoded[..end]] {
                prop_assert!(path.starts_with(b"/") && !path.starts_with(b"//") && !path.starts_with(b"/\\"));
            }
            prop_assert!(path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'\\'));
        }
    }
}
