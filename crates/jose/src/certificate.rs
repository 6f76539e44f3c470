use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use gatewright_base::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use crate::JoseError;
use crate::signing::Pair;

/// 9999-12-31T23:59:59Z: the last moment RFC 5280 §4.1.2.5 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// The DER of a certificate by and for the key `pair` (whose PKCS#8 is `pkcs8`), common name `subject`, for digital signatures.
pub(crate) fn self_sign(
    pair: &Pair,
    pkcs8: &[u8],
    not_before: Timestamp,
    not_after: Timestamp,
    subject: &str,
) -> Result<Vec<u8>, JoseError> {
    let (from, to) = (not_before.seconds(), not_after.seconds());
    if from < 0 || to < from || to > LAST_SECOND {
        return Err(JoseError::Certificate);
    }
    let signer = Signer::new(pair, pkcs8)?;
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(from.unsigned_abs());
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(to.unsigned_abs());
    params.serial_number = Some(serial_number(signer.der_bytes(), from, to, subject));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&signer).map_err(|_| JoseError::Certificate)?;
    Ok(certificate.der().to_vec())
}

/// Equal nodes must publish equal certificates, so the serial number is a hash and not chance. 127 bits, positive (RFC 5280 §4.1.2.2).
fn serial_number(public_key: &[u8], from: i64, to: i64, subject: &str) -> SerialNumber {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(public_key);
    context.update(&from.to_be_bytes());
    context.update(&to.to_be_bytes());
    context.update(subject.as_bytes());
    let mut serial = context.finish().as_ref()[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from(serial)
}

/// Lends the key to rcgen without handing it a copy of the private half.
struct Signer<'k> {
    pair: &'k Pair,
    /// X.509 wants ECDSA signatures in DER where JOSE wants r and s side by side: the same key once more, with that encoding.
    ecdsa_der: Option<EcdsaKeyPair>,
}

impl<'k> Signer<'k> {
    fn new(pair: &'k Pair, pkcs8: &[u8]) -> Result<Self, JoseError> {
        let ecdsa_der = match pair {
            Pair::P256(_) => Some(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| JoseError::Certificate)?),
            Pair::Rsa(_) | Pair::Ed25519(_) => None,
        };
        Ok(Self { pair, ecdsa_der })
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        match self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.pair {
            Pair::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
            Pair::P256(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
            Pair::Ed25519(_) => &rcgen::PKCS_ED25519,
        }
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let failed = |_| rcgen::Error::RemoteKeyError;
        match (self.pair, &self.ecdsa_der) {
            (Pair::Rsa(pair), _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            (Pair::Ed25519(pair), _) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            (Pair::P256(_), Some(pair)) => Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec()),
            (Pair::P256(_), None) => Err(rcgen::Error::RemoteKeyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};

    use super::*;
    use crate::{Algorithm, SigningKey, b64, sha256};

    const FROM: Timestamp = Timestamp::from_millis(1_768_478_400_000);
    const TO: Timestamp = Timestamp::from_millis(2_600_000_000_000);

    /// The content of the DER element at the start of `der`, with its tag, and what follows it.
    fn element(der: &[u8]) -> (u8, &[u8], &[u8], &[u8]) {
        let (header, len) = match der[1] {
            short @ 0..=0x7f => (2, usize::from(short)),
            0x81 => (3, usize::from(der[2])),
            0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
            other => panic!("length {other:#x}"),
        };
        (der[0], &der[..header + len], &der[header..header + len], &der[header + len..])
    }

    #[test]
    fn the_certificate_is_signed_by_its_own_key_and_matches_its_thumbprint() {
        let cases: [(Algorithm, &'static dyn VerificationAlgorithm); 3] =
            [(Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256), (Algorithm::ES256, &ECDSA_P256_SHA256_ASN1), (Algorithm::EdDSA, &ED25519)];
        for (algorithm, verification) in cases {
            let key = SigningKey::generate(algorithm, "key_1".to_owned()).unwrap();
            let jwk = key.public_jwk(FROM, TO, "https://auth.example.com").unwrap();
            let der = b64::decode_std(&jwk.x5c[0]).unwrap();
            assert_eq!(jwk.x5t_s256.unwrap(), b64::encode_url(sha256(&der)));

            let (0x30, _, certificate, []) = element(&der) else { panic!("not one sequence") };
            let (0x30, tbs_der, tbs, rest) = element(certificate) else { panic!("no TBSCertificate") };
            let (0x30, _, _, rest) = element(rest) else { panic!("no signatureAlgorithm") };
            let (0x03, _, [0, signature @ ..], []) = element(rest) else { panic!("no signature") };
            // TBSCertificate: version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280 §4.1).
            let (0xa0, _, _, rest) = element(tbs) else { panic!("no version") };
            let (0x02, _, serial, rest) = element(rest) else { panic!("no serial") };
            assert!(serial.len() == 16 && serial[0] < 0x80, "{serial:?}");
            let (_, _, _, rest) = element(rest);
            let (_, issuer, _, rest) = element(rest);
            let (_, _, validity, rest) = element(rest);
            let (_, subject, _, rest) = element(rest);
            assert_eq!(issuer, subject);
            assert!(subject.windows(24).any(|w| w == b"https://auth.example.com"));
            assert_eq!(validity, b"\x17\x0d260115120000Z\x18\x0f20520522141320Z");
            let (_, _, spki, _) = element(rest);
            let (_, _, _, rest) = element(spki);
            let (0x03, _, [0, public_key @ ..], []) = element(rest) else { panic!("no public key") };
            UnparsedPublicKey::new(verification, public_key).verify(tbs_der, signature).unwrap();
        }
    }

    #[test]
    fn equal_nodes_publish_equal_keys() {
        for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
            let key = SigningKey::generate(algorithm, "key_1".to_owned()).unwrap();
            let same = SigningKey::from_pkcs8(algorithm, "key_1".to_owned(), key.to_pkcs8().reveal()).unwrap();
            assert_eq!(key.public_jwk(FROM, TO, "a").unwrap(), same.public_jwk(FROM, TO, "a").unwrap());
            assert_ne!(key.public_jwk(FROM, TO, "a").unwrap().x5c, key.public_jwk(FROM, TO, "b").unwrap().x5c);
        }
    }

    #[test]
    fn a_validity_out_of_range_is_refused() {
        let key = SigningKey::generate(Algorithm::EdDSA, "key_1".to_owned()).unwrap();
        let at = Timestamp::from_millis;
        for (from, to) in [(TO, FROM), (at(-1), TO), (FROM, at(i64::MAX)), (at(i64::MIN), at(i64::MAX))] {
            assert_eq!(key.public_jwk(from, to, "a").err(), Some(JoseError::Certificate));
        }
        assert!(key.public_jwk(FROM, at(LAST_SECOND * 1000), "").is_ok());
    }
}
