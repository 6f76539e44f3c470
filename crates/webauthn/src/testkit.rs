//! An authenticator in software, with the browser around it: honest as it is made, and as dishonest as a test sets its fields.

use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use gatewright_jose::{b64, sha256};
use serde_json::{Value, json};

/// CBOR to write, whether anybody should or not.
#[derive(Clone, Debug)]
pub enum Cbor {
    Integer(i64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Bool(bool),
}

impl Cbor {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.append(&mut out);
        out
    }

    fn append(&self, out: &mut Vec<u8>) {
        match self {
            Self::Integer(number @ 0..) => head(out, 0, number.unsigned_abs()),
            Self::Integer(number) => head(out, 1, number.unsigned_abs() - 1),
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend(bytes);
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend(text.as_bytes());
            }
            Self::Array(items) => {
                head(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.append(out));
            }
            Self::Map(members) => {
                head(out, 5, members.len() as u64);
                members.iter().for_each(|(key, value)| {
                    key.append(out);
                    value.append(out);
                });
            }
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
        }
    }
}

fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, tail) = match argument {
        0..=23 => return out.push(major << 5 | bytes[7]),
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | info);
    out.extend(&bytes[tail..]);
}

/// A credential's key pair.
pub enum Key {
    P256(Box<EcdsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    /// Of a COSE algorithm that is offered.
    ///
    /// # Panics
    /// For any other.
    pub fn generate(algorithm: i32) -> Self {
        match algorithm {
            -7 => Self::P256(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))),
            -8 => Self::Ed25519(Ed25519KeyPair::generate().expect("a key")),
            -257 => Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))),
            other => panic!("no authenticator of tests makes keys of {other}"),
        }
    }

    /// The members of the public key, in CTAP's order.
    pub fn cose(&self) -> Vec<(i64, Cbor)> {
        match self {
            Self::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                vec![
                    (1, Cbor::Integer(2)),
                    (3, Cbor::Integer(-7)),
                    (-1, Cbor::Integer(1)),
                    (-2, Cbor::Bytes(x.to_vec())),
                    (-3, Cbor::Bytes(y.to_vec())),
                ]
            }
            Self::Ed25519(pair) => vec![
                (1, Cbor::Integer(1)),
                (3, Cbor::Integer(-8)),
                (-1, Cbor::Integer(6)),
                (-2, Cbor::Bytes(pair.public_key().as_ref().to_vec())),
            ],
            Self::Rsa(pair) => vec![
                (1, Cbor::Integer(3)),
                (3, Cbor::Integer(-257)),
                (-1, Cbor::Bytes(pair.public_key().modulus().big_endian_without_leading_zero().to_vec())),
                (-2, Cbor::Bytes(pair.public_key().exponent().big_endian_without_leading_zero().to_vec())),
            ],
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One credential on one authenticator, in one browser. Each public field is what it says of itself.
#[derive(Debug)]
pub struct Authenticator {
    /// Of the page that asks.
    pub origin: String,
    pub cross_origin: Option<bool>,
    pub top_origin: Option<String>,
    /// Instead of the relying party that asks.
    pub rp_id: Option<String>,
    /// Instead of `webauthn.create` and `webauthn.get`.
    pub r#type: Option<String>,
    pub user_present: bool,
    pub user_verified: bool,
    pub backup_eligible: bool,
    pub backed_up: bool,
    /// Counted up by each signature; 0 does not count.
    pub sign_count: u32,
    pub algorithm: i32,
    pub key: Key,
    pub credential_id: Vec<u8>,
    /// Of the registration; `None` before it, or to say none.
    pub user_handle: Option<Vec<u8>>,
    pub attestation: (Cbor, Cbor),
    /// Members in place of those of the public key.
    pub cose: Option<Cbor>,
    /// Octets after the end of the authenticator data.
    pub trailing: Vec<u8>,
    /// Octets after the end of the attestation object.
    pub trailing_object: Vec<u8>,
    /// Flags that are turned over.
    pub flip_flags: u8,
}

impl Authenticator {
    pub fn new(origin: &str) -> Self {
        Self::of_algorithm(origin, -7)
    }

    pub fn of_algorithm(origin: &str, algorithm: i32) -> Self {
        let mut credential_id = vec![0; 32];
        #[expect(clippy::disallowed_methods, reason = "an authenticator has chance of its own")]
        fill(&mut credential_id).expect("chance");
        Self {
            origin: origin.to_owned(),
            cross_origin: Some(false),
            top_origin: None,
            rp_id: None,
            r#type: None,
            user_present: true,
            user_verified: true,
            backup_eligible: true,
            backed_up: true,
            sign_count: 0,
            algorithm,
            key: Key::generate(algorithm),
            credential_id,
            user_handle: None,
            attestation: (Cbor::text("none"), Cbor::Map(vec![])),
            cose: None,
            trailing: Vec::new(),
            trailing_object: Vec::new(),
            flip_flags: 0,
        }
    }

    /// `navigator.credentials.create()`: the answer to creation options, as JSON.
    pub fn register(&mut self, options: &Value) -> Value {
        self.user_handle = b64::decode_url(text(&options["user"]["id"]));
        let client_data = self.client_data("webauthn.create", text(&options["challenge"]));
        let cose = self
            .cose
            .clone()
            .unwrap_or_else(|| Cbor::Map(self.key.cose().into_iter().map(|(label, value)| (Cbor::Integer(label), value)).collect()));
        let mut data = self.authenticator_data(text(&options["rp"]["id"]), 0x40);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.credential_id.len()).expect("short").to_be_bytes());
        data.extend(&self.credential_id);
        data.extend(cose.write());
        data.extend(&self.trailing);
        let (format, statement) = self.attestation.clone();
        let object =
            Cbor::Map(vec![(Cbor::text("fmt"), format), (Cbor::text("attStmt"), statement), (Cbor::text("authData"), Cbor::Bytes(data))]);
        let object = [object.write(), self.trailing_object.clone()].concat();
        let id = b64::encode_url(&self.credential_id);
        json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64::encode_url(&client_data),
                "attestationObject": b64::encode_url(&object),
                "transports": ["internal", "hybrid"],
            },
        })
    }

    /// `navigator.credentials.get()`: the answer to request options, as JSON.
    pub fn assert(&mut self, options: &Value) -> Value {
        if self.sign_count > 0 {
            self.sign_count += 1;
        }
        let client_data = self.client_data("webauthn.get", text(&options["challenge"]));
        let mut data = self.authenticator_data(text(&options["rpId"]), 0);
        data.extend(&self.trailing);
        let signature = self.key.sign(&[&data[..], &sha256(&client_data)].concat());
        let id = b64::encode_url(&self.credential_id);
        json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64::encode_url(&client_data),
                "authenticatorData": b64::encode_url(&data),
                "signature": b64::encode_url(&signature),
                "userHandle": self.user_handle.as_ref().map(b64::encode_url),
            },
        })
    }

    fn client_data(&self, r#type: &str, challenge: &str) -> Vec<u8> {
        let mut data = json!({"type": self.r#type.as_deref().unwrap_or(r#type), "challenge": challenge, "origin": self.origin});
        if let Some(cross_origin) = self.cross_origin {
            data["crossOrigin"] = json!(cross_origin);
        }
        if let Some(top_origin) = &self.top_origin {
            data["topOrigin"] = json!(top_origin);
        }
        data["other_keys_can_be_added_here"] = json!("do not compare clientDataJSON against a template");
        data.to_string().into_bytes()
    }

    fn authenticator_data(&self, rp_id: &str, more_flags: u8) -> Vec<u8> {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.user_present, 0x01)
            | flag(self.user_verified, 0x04)
            | flag(self.backup_eligible, 0x08)
            | flag(self.backed_up, 0x10)
            | more_flags;
        let rp_id = self.rp_id.as_deref().unwrap_or(rp_id);
        [&sha256(rp_id.as_bytes())[..], &[flags ^ self.flip_flags], &self.sign_count.to_be_bytes()].concat()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the options have it")
}
