//! AWS Signature Version 4, as S3-compatible storage asks for it: which request this is, by whom, and when, under a key that is good
//! for one day, one region and one service.

use std::fmt::Write;

use gatewright_base::{Secret, Timestamp};
use zeroize::Zeroizing;

use crate::hash::{hex, hmac_sha256, sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs, and for where.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    pub access_key_id: &'a str,
    pub secret_access_key: &'a Secret<String>,
    pub region: &'a str,
    pub service: &'a str,
}

/// What is signed. The peer computes the same from what reaches it.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    pub method: &'a str,
    /// As it is sent: for S3 the key encoded once by [`encode_path`].
    pub path: &'a str,
    /// As it is sent, its parameters sorted by name.
    pub query: &'a str,
    /// Every header that is signed, `host` and `x-amz-date` among them. Names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// [`payload_hash`] of the body.
    pub payload_hash: &'a str,
}

impl Signer<'_> {
    /// The value of `Authorization`.
    pub fn authorization(&self, request: &SignedRequest<'_>, at: Timestamp) -> String {
        let moment = amz_date(at);
        let day = moment.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let (names, canonical) = canonical_request(request);
        let to_sign = format!("{ALGORITHM}\n{moment}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
        let signature = hex(&hmac_sha256(&*self.signing_key(day), to_sign.as_bytes()));
        format!("{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={signature}", self.access_key_id)
    }

    fn signing_key(&self, day: &str) -> Zeroizing<[u8; 32]> {
        let secret = Zeroizing::new(format!("AWS4{}", self.secret_access_key.reveal()));
        let mut key = Zeroizing::new(hmac_sha256(secret.as_bytes(), day.as_bytes()));
        for part in [self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(hmac_sha256(&*key, part.as_bytes()));
        }
        key
    }
}

/// SHA-256 of a body in lower-case hexadecimal: the value of `x-amz-content-sha256`.
pub fn payload_hash(body: &[u8]) -> String {
    hex(&sha256(body))
}

/// `20130524T000000Z`, the value of `x-amz-date`.
pub fn amz_date(at: Timestamp) -> String {
    // Of `2013-05-24T00:00:00.000Z` everything but the signs between the numbers and the milliseconds.
    let text = at.to_string();
    let (seconds, _) = text.split_once('.').unwrap_or((&text, ""));
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

/// An object's key as the path of a URL: every octet but the unreserved ones and `/` is escaped.
pub fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The names of the signed headers, and the canonical request.
fn canonical_request(request: &SignedRequest<'_>) -> (String, String) {
    let mut headers: Vec<(&str, String)> =
        request.headers.iter().map(|(name, value)| (*name, value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))).collect();
    headers.sort();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let SignedRequest { method, path, query, payload_hash, .. } = request;
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}");
    (names, canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published examples of signing for S3: their credentials, their moment, their bucket.
    fn signed(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let signer = Signer { access_key_id: "AKIAIOSFODNN7EXAMPLE", secret_access_key: &secret, region: "us-east-1", service: "s3" };
        let hash = payload_hash(body);
        let mut all = vec![("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", &hash), ("x-amz-date", "20130524T000000Z")];
        all.extend_from_slice(headers);
        let request = SignedRequest { method, path, query, headers: &all, payload_hash: &hash };
        signer.authorization(&request, Timestamp::from_millis(1_369_353_600_000))
    }

    #[test]
    fn the_published_examples_have_the_published_signatures() {
        assert_eq!(
            signed("GET", "/test.txt", "", &[("range", "bytes=0-9")], b""),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        for (line, signature) in [
            (
                signed(
                    "PUT",
                    &encode_path("/test$file.text"),
                    "",
                    &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                    b"Welcome to Amazon S3.",
                ),
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (signed("GET", "/", "lifecycle=", &[], b""), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            (signed("GET", "/", "max-keys=2&prefix=J", &[], b""), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            assert!(line.ends_with(&format!("Signature={signature}")), "{line}");
        }
    }

    #[test]
    fn every_part_of_a_request_changes_its_signature() {
        let ours = signed("PUT", "/a", "", &[], b"x");
        for other in [
            signed("POST", "/a", "", &[], b"x"),
            signed("PUT", "/b", "", &[], b"x"),
            signed("PUT", "/a", "acl=", &[], b"x"),
            signed("PUT", "/a", "", &[("content-type", "text/plain")], b"x"),
            signed("PUT", "/a", "", &[], b"y"),
        ] {
            assert_ne!(ours, other);
        }
        assert_eq!(ours, signed("PUT", "/a", "", &[], b"x"));
    }

    #[test]
    fn a_header_value_is_signed_with_single_spaces() {
        assert_eq!(signed("PUT", "/", "", &[("x-a", " a   b ")], b""), signed("PUT", "/", "", &[("x-a", "a b")], b""));
    }

    #[test]
    fn keys_become_paths_octet_by_octet() {
        for (key, path) in [
            ("/logs/2026/01/15/1.jsonl", "/logs/2026/01/15/1.jsonl"),
            ("/a b+c", "/a%20b%2Bc"),
            ("/ü", "/%C3%BC"),
            ("/~_.-", "/~_.-"),
            ("/%2F?#", "/%252F%3F%23"),
        ] {
            assert_eq!(encode_path(key), path, "{key}");
        }
    }
}
