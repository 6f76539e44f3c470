//! The signature under a webhook, byte for byte as WorkOS SDKs expect it.
//!
//! They do not read the header but slice it: the Python helper splits on `", "` and wants exactly two parts, the Node helper splits on `,`
//! and takes the first two. So a header carries one signature; a second one would need a header of its own.

use gatewright_base::{Rng, Secret, Timestamp};

use crate::hash::hex;
use crate::{eq_constant_time, hmac_sha256, random_token};

/// What every endpoint's secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// A fresh secret for one endpoint: 256 random bits.
pub fn mint_secret(rng: &dyn Rng) -> Secret<String> {
    Secret::new(format!("{SECRET_PREFIX}{}", random_token(rng)))
}

/// The header `WorkOS-Signature`: `t=<epoch milliseconds>, v1=<hexadecimal HMAC-SHA-256 of "<t>.<body>">`.
pub fn sign(secret: &str, body: &[u8], now: Timestamp) -> String {
    let time = now.millis().to_string();
    format!("t={time}, v1={}", hex(&tag(secret, &time, body)))
}

/// Whether `header` signs `body` with `secret` at a time no further from `now` than `tolerance_seconds`.
pub fn verify(secret: &str, body: &[u8], header: &str, now: Timestamp, tolerance_seconds: u32) -> bool {
    let Some((time, given)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(", v1=")) else { return false };
    let Ok(millis) = time.parse::<i64>() else { return false };
    let near = now.millis().abs_diff(millis) <= u64::from(tolerance_seconds) * 1_000;
    eq_constant_time(given.as_bytes(), hex(&tag(secret, time, body)).as_bytes()) && near
}

fn tag(secret: &str, time: &str, body: &[u8]) -> [u8; 32] {
    hmac_sha256(secret.as_bytes(), &[time.as_bytes(), b".", body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);

    /// Computed with Python's `hmac` module.
    #[test]
    fn the_header_is_byte_exact() {
        let header = sign("whsec_test", "{\"id\":\"event_1\",\"name\":\"Zoë\"}".as_bytes(), NOW);
        assert_eq!(header, "t=1768478400000, v1=644ac9dca222629cca7b343db30489f5eef9d9d6f0281dbd9b242512a4813b83");
    }

    #[test]
    fn row_74_time_and_body_are_under_the_signature_and_an_old_one_is_refused() {
        let header = sign("whsec_a", b"{}", NOW);
        assert!(verify("whsec_a", b"{}", &header, NOW, 180));
        for (secret, body, header) in [
            ("whsec_b", &b"{}"[..], header.clone()),
            ("whsec_a", b"{} ", header.clone()),
            ("whsec_a", b"{}", header.replace("t=1768478400000", "t=1768478400001")),
            ("whsec_a", b"{}", header.replace(", v1=", ",v1=")),
            ("whsec_a", b"{}", format!("{header}, v1=00")),
            ("whsec_a", b"{}", header.to_uppercase()),
            ("whsec_a", b"{}", String::new()),
        ] {
            assert!(!verify(secret, body, &header, NOW, 180), "{secret} {header}");
        }
        for (millis, near) in [(180_000, true), (180_001, false), (-180_000, true), (-180_001, false), (300_001, false)] {
            assert_eq!(verify("whsec_a", b"{}", &header, Timestamp::from_millis(NOW.millis() + millis), 180), near, "{millis}");
        }
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let rng = SeededRng::new(1);
        let (one, two) = (mint_secret(&rng), mint_secret(&rng));
        assert_eq!((one.reveal().len(), one.reveal().starts_with("whsec_")), (49, true));
        assert_ne!(one.reveal(), two.reveal());
    }
}
