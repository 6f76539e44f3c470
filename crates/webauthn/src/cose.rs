//! A credential's public key as authenticators write it (RFC 9052 §7, RFC 9053; WebAuthn §5.8.5): exactly the members of its kind, so
//! that a key says one thing only. Whether it can be a key at all (on its curve, of a fair size) decides `gatewright-jose`.

use gatewright_jose::{Algorithm, Jwk, VerifyingKey, b64};

use crate::{Refusal, cbor};

/// The COSE algorithms that are offered, the most wanted first: EdDSA, ES256, RS256. The last one for older TPMs.
pub const OFFERED: [i32; 3] = [-8, -7, -257];

/// An RSA key of 8192 bits has some 1,050 octets.
const MAX_LEN: usize = 1_200;

/// The public key of a credential.
#[derive(Debug)]
pub struct PublicKey {
    cose: Vec<u8>,
    algorithm: i32,
    key: VerifyingKey,
}

impl PublicKey {
    /// The key that `cose` is, if it is of a kind that is known here.
    pub fn from_cose(cose: &[u8]) -> Result<Self, Refusal> {
        if cose.len() > MAX_LEN {
            return Err(Refusal::Key("a key longer than is read"));
        }
        let document = cbor::read(cose)?;
        let members = document.as_map().ok_or(Refusal::Key("a key that is not a map"))?;
        let find = |label: i128| members.iter().find(|(key, _)| key.as_integer() == Some(label)).map(|(_, value)| value);
        let number = |label| find(label).and_then(cbor::Value::as_integer);
        let octets = |label| find(label).and_then(cbor::Value::as_bytes).map(b64::encode_url);
        let mut jwk = Jwk::default();
        // (kty, alg, crv): the labels 1, 3 and -1; -1 is a string, the modulus, in an RSA key.
        let (algorithm, count) = match (number(1), number(3), number(-1)) {
            (Some(2), Some(-7), Some(1)) => {
                (jwk.kty, jwk.crv) = ("EC".to_owned(), Some("P-256".to_owned()));
                (jwk.x, jwk.y) = (octets(-2), octets(-3));
                (Algorithm::ES256, 5)
            }
            (Some(1), Some(-8), Some(6)) => {
                (jwk.kty, jwk.crv) = ("OKP".to_owned(), Some("Ed25519".to_owned()));
                jwk.x = octets(-2);
                (Algorithm::EdDSA, 4)
            }
            (Some(3), Some(-257), None) => {
                jwk.kty = "RSA".to_owned();
                (jwk.n, jwk.e) = (octets(-1), octets(-2));
                (Algorithm::RS256, 4)
            }
            _ => return Err(Refusal::Key("a key of a kind, curve or algorithm that is not known")),
        };
        if members.len() != count {
            return Err(Refusal::Key("a key with other members than those of its kind"));
        }
        let key = VerifyingKey::from_jwk(&jwk).map_err(|_| Refusal::Key("a key that no honest authenticator makes"))?;
        Ok(Self { cose: cose.to_vec(), algorithm: number_of(algorithm), key })
    }

    /// As it came: what to store.
    pub fn as_cose(&self) -> &[u8] {
        &self.cose
    }

    /// The COSE algorithm, one of [`OFFERED`].
    pub fn algorithm(&self) -> i32 {
        self.algorithm
    }

    /// Whether `signature`, in WebAuthn's encoding (§6.5.5), was made by this key over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.key.algorithm() {
            Algorithm::ES256 => fixed_of_der(signature).is_some_and(|fixed| self.key.verify_signature(message, &fixed)),
            Algorithm::EdDSA | Algorithm::RS256 => self.key.verify_signature(message, signature),
        }
    }
}

const fn number_of(algorithm: Algorithm) -> i32 {
    match algorithm {
        Algorithm::ES256 => -7,
        Algorithm::EdDSA => -8,
        Algorithm::RS256 => -257,
    }
}

/// `SEQUENCE { r INTEGER, s INTEGER }` in DER, as JOSE writes it: both numbers in 32 octets. One signature has one DER form.
fn fixed_of_der(der: &[u8]) -> Option<[u8; 64]> {
    let (body, rest) = element(der, 0x30)?;
    let (r, after) = element(body, 0x02)?;
    let (s, end) = element(after, 0x02)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let mut fixed = [0; 64];
    place(&mut fixed[..32], r)?;
    place(&mut fixed[32..], s)?;
    Some(fixed)
}

/// The content of an element of up to 127 octets, and what comes after it. Longer ones have no place in a P-256 signature.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, len, rest @ ..] = der else { return None };
    if *first != tag || *len > 127 { None } else { rest.split_at_checked(usize::from(*len)) }
}

/// A positive number in its shortest form, right-aligned.
fn place(target: &mut [u8], integer: &[u8]) -> Option<()> {
    let magnitude = match integer {
        [] | [0x80..=0xff, ..] => return None,
        [0, next, ..] if *next < 0x80 => return None,
        [0, magnitude @ ..] if !magnitude.is_empty() => magnitude,
        magnitude => magnitude,
    };
    let start = target.len().checked_sub(magnitude.len())?;
    target[start..].copy_from_slice(magnitude);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Cbor, Key};

    fn key(algorithm: Algorithm) -> Vec<(i64, Cbor)> {
        Key::generate(number_of(algorithm)).cose()
    }

    fn write(members: Vec<(i64, Cbor)>) -> Vec<u8> {
        Cbor::Map(members.into_iter().map(|(label, value)| (Cbor::Integer(label), value)).collect()).write()
    }

    #[test]
    fn the_three_kinds_are_read_and_kept_as_they_came() {
        for (algorithm, number) in [(Algorithm::ES256, -7), (Algorithm::EdDSA, -8), (Algorithm::RS256, -257)] {
            let cose = write(key(algorithm));
            let public = PublicKey::from_cose(&cose).unwrap();
            assert_eq!((public.algorithm(), public.as_cose()), (number, cose.as_slice()));
            assert!(OFFERED.contains(&number));
        }
    }

    #[test]
    fn a_key_that_says_more_less_or_something_else_is_refused() {
        let with = |algorithm, label: i64, value: Cbor| {
            let mut members = key(algorithm);
            members.retain(|(known, _)| *known != label);
            members.push((label, value));
            write(members)
        };
        let without = |algorithm, label: i64| write(key(algorithm).into_iter().filter(|(known, _)| *known != label).collect());
        let (es, ed, rs) = (Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256);
        for (name, cose) in [
            ("another algorithm for its kind", with(es, 3, Cbor::Integer(-8))),
            ("ES384", with(es, 3, Cbor::Integer(-35))),
            ("P-384", with(es, -1, Cbor::Integer(2))),
            ("Ed448", with(ed, -1, Cbor::Integer(7))),
            ("RS1", with(rs, 3, Cbor::Integer(-65_535))),
            ("PS256", with(rs, 3, Cbor::Integer(-37))),
            ("a symmetric key", with(ed, 1, Cbor::Integer(4))),
            ("a private member", with(es, -4, Cbor::Bytes(vec![1; 32]))),
            ("a key id", with(ed, 2, Cbor::Bytes(vec![1]))),
            ("no algorithm", without(es, 3)),
            ("no y", without(es, -3)),
            ("a compressed point", with(es, -3, Cbor::Bool(true))),
            ("a point off the curve", with(es, -2, Cbor::Bytes(vec![1; 32]))),
            (
                "the point at infinity",
                write(vec![
                    (1, Cbor::Integer(2)),
                    (3, Cbor::Integer(-7)),
                    (-1, Cbor::Integer(1)),
                    (-2, Cbor::Bytes(vec![0; 32])),
                    (-3, Cbor::Bytes(vec![0; 32])),
                ]),
            ),
            ("a short coordinate", with(es, -2, Cbor::Bytes(vec![1; 31]))),
            ("a short Ed25519 key", with(ed, -2, Cbor::Bytes(vec![1; 31]))),
            ("RSA of 1024 bits", with(rs, -1, Cbor::Bytes([vec![0x81; 127], vec![1]].concat()))),
            ("an exponent of one", with(rs, -2, Cbor::Bytes(vec![1]))),
            ("a key of megabytes", with(rs, -1, Cbor::Bytes(vec![0x81; 2_000]))),
            ("no map", Cbor::Array(vec![Cbor::Integer(1)]).write()),
        ] {
            assert!(matches!(PublicKey::from_cose(&cose), Err(Refusal::Key(_))), "{name}: {:?}", PublicKey::from_cose(&cose));
        }
    }

    #[test]
    fn a_signature_has_one_der_form() {
        let number = |bytes: &[u8]| [&[0x02, bytes.len() as u8][..], bytes].concat();
        let sequence = |body: &[u8]| [&[0x30, body.len() as u8][..], body].concat();
        let (r, s) = (number(&[0x7f; 32]), number(&[&[0][..], &[0xff; 32]].concat()));
        let good = sequence(&[r.clone(), s.clone()].concat());
        let fixed = fixed_of_der(&good).unwrap();
        assert_eq!((fixed[..32] == [0x7f; 32], fixed[32..] == [0xff; 32]), (true, true));
        assert_eq!(fixed_of_der(&sequence(&[number(&[1]), number(&[2])].concat())).unwrap()[31], 1);
        for (name, der) in [
            ("nothing", vec![]),
            ("octets after the end", [good.clone(), vec![0]].concat()),
            ("octets within the sequence", sequence(&[r.clone(), s.clone(), vec![0]].concat())),
            ("one number", sequence(&r)),
            ("a negative number", sequence(&[number(&[0x80; 32]), s.clone()].concat())),
            ("a zero too many", sequence(&[number(&[0, 1]), s.clone()].concat())),
            ("an empty number", sequence(&[number(&[]), s.clone()].concat())),
            ("33 octets", sequence(&[number(&[1; 33]), s.clone()].concat())),
            ("a long form of the length", [&[0x30, 0x81, good[1]][..], &good[2..]].concat()),
            ("another tag", [&[0x31][..], &good[1..]].concat()),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("the fixed form", vec![0x30; 64]),
        ] {
            assert_eq!(fixed_of_der(&der), None, "{name}");
        }
    }
}
