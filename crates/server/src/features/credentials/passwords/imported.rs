//! Password hashes made elsewhere: read strictly, with bounded cost, so that verifying one can never stop the server.
//!
//! Exporters do not agree on one text form, so each algorithm is read in the forms that are in use; what is stored is one form each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gatewright_base::Secret;
use gatewright_jose::eq_constant_time;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::memory::with_blocks;
use super::model::normalized;

/// Longest text that is looked at.
const MAX_TEXT: usize = 2_048;
/// Most memory one verification may take.
const MAX_MEMORY: u64 = 256 << 20;
/// Each about two seconds of one core.
const MAX_BCRYPT_COST: u32 = 15;
const MAX_SCRYPT_WORK: u64 = 1 << 22;
const MAX_PBKDF2_WORK: u64 = 4_000_000;
const MAX_ARGON2_WORK: u64 = 2 << 20;

/// The algorithms of `password_hash_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HashType {
    Bcrypt,
    FirebaseScrypt,
    Ssha,
    Ssha256,
    Scrypt,
    Pbkdf2,
    Argon2,
}

/// Where the salt stood when a plain digest was made; only `ssha256` has a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaltPosition {
    Prefix,
    Suffix,
}

/// Not a hash of the named type, or one that would cost too much to verify: `invalid_password_hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password hash is not of the named type or its cost is out of bounds")]
pub struct InvalidHash;

/// A checked hash. `Display` writes the form that is stored; `FromStr` reads that form back. `Debug` shows the algorithm only.
#[derive(Clone, PartialEq, Eq)]
pub enum ImportedHash {
    /// The whole text; its parts are fixed in place.
    Bcrypt(String),
    Argon2(Argon2Hash),
    Scrypt(ScryptHash),
    FirebaseScrypt(FirebaseHash),
    Pbkdf2(Pbkdf2Hash),
    Salted(SaltedDigest),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Argon2Hash {
    pub(super) algorithm: argon2::Algorithm,
    pub(super) version: argon2::Version,
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct ScryptHash {
    cost: ScryptCost,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Firebase encrypts the project's signer key with a key that scrypt makes from the password.
#[derive(Clone, PartialEq, Eq)]
pub struct FirebaseHash {
    cost: ScryptCost,
    salt: Vec<u8>,
    separator: Vec<u8>,
    signer_key: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Pbkdf2Hash {
    digest: PrfDigest,
    iterations: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct SaltedDigest {
    digest: PlainDigest,
    position: SaltPosition,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ScryptCost {
    log_n: u8,
    r: u32,
    p: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PrfDigest {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlainDigest {
    Sha1,
    Sha256,
}

impl fmt::Debug for ImportedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Bcrypt(..)",
            Self::Argon2(_) => "Argon2(..)",
            Self::Scrypt(_) => "Scrypt(..)",
            Self::FirebaseScrypt(_) => "FirebaseScrypt(..)",
            Self::Pbkdf2(_) => "Pbkdf2(..)",
            Self::Salted(_) => "Salted(..)",
        })
    }
}

impl ImportedHash {
    /// Reads what an import brings. `position` is only for digests with the salt beside them.
    pub fn parse(kind: HashType, text: &str, position: Option<SaltPosition>) -> Result<Self, InvalidHash> {
        let hash = read(text, position).ok_or(InvalidHash)?;
        (hash.kind() == kind).then_some(hash).ok_or(InvalidHash)
    }

    fn kind(&self) -> HashType {
        match self {
            Self::Bcrypt(_) => HashType::Bcrypt,
            Self::Argon2(_) => HashType::Argon2,
            Self::Scrypt(_) => HashType::Scrypt,
            Self::FirebaseScrypt(_) => HashType::FirebaseScrypt,
            Self::Pbkdf2(_) => HashType::Pbkdf2,
            Self::Salted(SaltedDigest { digest: PlainDigest::Sha1, .. }) => HashType::Ssha,
            Self::Salted(SaltedDigest { digest: PlainDigest::Sha256, .. }) => HashType::Ssha256,
        }
    }

    /// Whether `password` is the one that was hashed. Burns a core for as long as the hash's cost says: never on an async thread.
    ///
    /// Ours are made of the normalized password, other systems mostly took the bytes as typed.
    pub fn matches(&self, password: &Secret<String>) -> bool {
        let normal = Zeroizing::new(normalized(password.reveal()));
        self.matches_bytes(normal.as_bytes()) || (*normal != *password.reveal() && self.matches_bytes(password.reveal().as_bytes()))
    }

    fn matches_bytes(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Argon2(hash) => hash.matches(password),
            Self::Scrypt(hash) => {
                hash.cost.derive(password, &hash.salt, hash.hash.len()).is_some_and(|made| eq_constant_time(&made, &hash.hash))
            }
            Self::FirebaseScrypt(hash) => hash.matches(password).unwrap_or(false),
            Self::Pbkdf2(hash) => hash.matches(password),
            Self::Salted(hash) => hash.matches(password),
        }
    }
}

impl FromStr for ImportedHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        read(text, None).ok_or(InvalidHash)
    }
}

impl fmt::Display for ImportedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bcrypt(text) => f.write_str(text),
            Self::Argon2(hash) => hash.fmt(f),
            Self::Scrypt(ScryptHash { cost: ScryptCost { log_n, r, p }, salt, hash }) => {
                write!(f, "$scrypt$ln={log_n},r={r},p={p}${}${}", encode(salt), encode(hash))
            }
            Self::FirebaseScrypt(FirebaseHash { cost, salt, separator, signer_key, hash }) => {
                let (sk, ss) = (encode(signer_key), encode(separator));
                write!(f, "$firebase-scrypt$r={},m={},sk={sk},ss={ss}${}${}", cost.r, cost.log_n, encode(salt), encode(hash))
            }
            Self::Pbkdf2(Pbkdf2Hash { digest, iterations, salt, hash }) => {
                write!(f, "$pbkdf2-{}$i={iterations}${}${}", digest.name(), encode(salt), encode(hash))
            }
            Self::Salted(SaltedDigest { digest, position, salt, hash }) => {
                let mark = if *position == SaltPosition::Prefix { ":prefix" } else { "" };
                write!(f, "{{{}{mark}}}{}", digest.scheme(), encode(&[hash.as_slice(), salt].concat()))
            }
        }
    }
}

fn read(text: &str, position: Option<SaltPosition>) -> Option<ImportedHash> {
    if text.len() > MAX_TEXT || !text.is_ascii() {
        return None;
    }
    if text.starts_with('{') {
        return SaltedDigest::read(text, position).map(ImportedHash::Salted);
    }
    if position.is_some() {
        return None;
    }
    match text.strip_prefix('$').map(|rest| rest.split('$').collect::<Vec<_>>()).as_deref() {
        Some(["2a" | "2b" | "2y", ..]) => read_bcrypt(text),
        Some([name @ ("argon2id" | "argon2i" | "argon2d"), rest @ ..]) => Argon2Hash::read(name, rest).map(ImportedHash::Argon2),
        Some(["scrypt", rest @ ..]) => ScryptHash::read(rest).map(ImportedHash::Scrypt),
        Some(["firebase-scrypt", rest @ ..]) => FirebaseHash::read(rest).map(ImportedHash::FirebaseScrypt),
        Some([name, rest @ ..]) if name.starts_with("pbkdf2") => Pbkdf2Hash::read(name, rest).map(ImportedHash::Pbkdf2),
        None => Pbkdf2Hash::read_django(text).map(ImportedHash::Pbkdf2),
        Some(_) => None,
    }
}

fn read_bcrypt(text: &str) -> Option<ImportedHash> {
    let parts = bcrypt::HashParts::from_str(text).ok()?;
    (4..=MAX_BCRYPT_COST).contains(&parts.get_cost()).then(|| ImportedHash::Bcrypt(text.to_owned()))
}

impl Argon2Hash {
    /// `[v=19 $] m=..,t=..,p=.. $ salt $ hash`
    fn read(name: &str, rest: &[&str]) -> Option<Self> {
        let (version, costs, salt, hash) = match rest {
            ["v=19", costs, salt, hash] => (argon2::Version::V0x13, costs, salt, hash),
            // The reference implementation wrote no version before 1.3.
            ["v=16", costs, salt, hash] | [costs, salt, hash] => (argon2::Version::V0x10, costs, salt, hash),
            _ => return None,
        };
        let algorithm = match name {
            "argon2id" => argon2::Algorithm::Argon2id,
            "argon2i" => argon2::Algorithm::Argon2i,
            _ => argon2::Algorithm::Argon2d,
        };
        let mut fields = fields(costs)?;
        let (memory_kib, passes, lanes) = (take_number(&mut fields, "m")?, take_number(&mut fields, "t")?, take_number(&mut fields, "p")?);
        let this = Self { algorithm, version, memory_kib, passes, lanes, salt: decode(salt)?, hash: decode(hash)? };
        let work = u64::from(memory_kib).checked_mul(u64::from(passes))?;
        let bounded = fields.is_empty()
            && u64::from(memory_kib) * 1024 <= MAX_MEMORY
            && work <= MAX_ARGON2_WORK
            && lanes <= 64
            && (8..=64).contains(&this.salt.len())
            && (12..=64).contains(&this.hash.len());
        (bounded && this.params().is_some()).then_some(this)
    }

    fn params(&self) -> Option<argon2::Params> {
        argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(self.hash.len())).ok()
    }

    pub(super) fn derive(&self, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut made = Zeroizing::new(vec![0; self.hash.len()]);
        let params = self.params()?;
        let blocks = params.block_count();
        let argon2 = argon2::Argon2::new(self.algorithm, self.version, params);
        with_blocks(blocks, |memory| argon2.hash_password_into_with_memory(password, &self.salt, &mut made, memory)).ok()?;
        Some(made)
    }

    fn matches(&self, password: &[u8]) -> bool {
        self.derive(password).is_some_and(|made| eq_constant_time(&made, &self.hash))
    }
}

impl fmt::Display for Argon2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, version, memory_kib, passes, lanes, salt, hash } = self;
        let (name, version) = (algorithm.as_str(), *version as u32);
        write!(f, "${name}$v={version}$m={memory_kib},t={passes},p={lanes}${}${}", encode(salt), encode(hash))
    }
}

impl ScryptCost {
    fn bounded(log_n: u32, r: u32, p: u32) -> Option<Self> {
        let log_n = u8::try_from(log_n).ok().filter(|n| (1..=24).contains(n))?;
        let size = u64::from(r).checked_mul(1 << log_n)?;
        let bounded = r > 0 && p > 0 && size.checked_mul(128)? <= MAX_MEMORY && size.checked_mul(u64::from(p))? <= MAX_SCRYPT_WORK;
        (bounded && scrypt::Params::new(log_n, r, p).is_ok()).then_some(Self { log_n, r, p })
    }

    fn derive(self, password: &[u8], salt: &[u8], len: usize) -> Option<Zeroizing<Vec<u8>>> {
        let params = scrypt::Params::new(self.log_n, self.r, self.p).ok()?;
        let mut made = Zeroizing::new(vec![0; len]);
        scrypt::scrypt(password, salt, &params, &mut made).ok()?;
        Some(made)
    }
}

impl ScryptHash {
    /// `ln=..,r=..,p=.. $ salt $ hash` (PHC), or with `n=` and `v=1` before it; `kl=` and `l=` may state the length.
    fn read(rest: &[&str]) -> Option<Self> {
        let (["v=1", costs, salt, hash] | [costs, salt, hash]) = rest else { return None };
        let mut fields = fields(costs)?;
        let log_n = match (take_number(&mut fields, "ln"), take_number(&mut fields, "n")) {
            (Some(log_n), None) => log_n,
            (None, Some(n)) => n.is_power_of_two().then(|| n.trailing_zeros())?,
            _ => return None,
        };
        let cost = ScryptCost::bounded(log_n, take_number(&mut fields, "r")?, take_number(&mut fields, "p")?)?;
        let this = Self { cost, salt: decode(salt)?, hash: decode(hash)? };
        let bounded = states_length(&mut fields, this.hash.len()) && fields.is_empty() && (1..=128).contains(&this.salt.len());
        (bounded && (16..=128).contains(&this.hash.len())).then_some(this)
    }
}

impl FirebaseHash {
    /// The parameters `r m sk ss` and the user's `salt` and `hash`, each after its name and a `$` or a comma, or the last two bare.
    fn read(rest: &[&str]) -> Option<Self> {
        const NAMES: [&str; 6] = ["r", "m", "sk", "ss", "salt", "hash"];
        let (mut named, mut bare) = (BTreeMap::new(), Vec::new());
        for segment in rest.iter().filter(|segment| **segment != "v=1") {
            let is_named = segment.split_once('=').is_some_and(|(name, value)| NAMES.contains(&name) && !value.is_empty());
            if !is_named {
                bare.push(*segment);
                continue;
            }
            for (name, value) in fields(segment)? {
                if !NAMES.contains(&name) || named.insert(name, value).is_some() {
                    return None;
                }
            }
        }
        let (salt, hash) = match (bare.as_slice(), named.remove("salt"), named.remove("hash")) {
            ([salt, hash], None, None) => (*salt, *hash),
            ([], Some(salt), Some(hash)) => (salt, hash),
            _ => return None,
        };
        let (rounds, memory) = (take_number(&mut named, "r")?, take_number(&mut named, "m")?);
        let this = Self {
            cost: ScryptCost::bounded(memory, rounds, 1)?,
            salt: decode(salt)?,
            separator: decode(named.remove("ss")?)?,
            signer_key: decode(named.remove("sk")?)?,
            hash: decode(hash)?,
        };
        let bounded = (1..=128).contains(&this.salt.len()) && this.separator.len() <= 32 && (16..=128).contains(&this.signer_key.len());
        (bounded && this.hash.len() == this.signer_key.len()).then_some(this)
    }

    fn matches(&self, password: &[u8]) -> Option<bool> {
        let salt = [self.salt.as_slice(), &self.separator].concat();
        let key = self.cost.derive(password, &salt, 32)?;
        let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, &key).ok()?).ok()?;
        // Counter mode is its own inverse: opening their cipher text must give the signer key.
        let mut opened = self.hash.clone();
        let opened = key.decrypt(&mut opened, DecryptionContext::Iv128(FixedLength::from([0; 16]))).ok()?;
        Some(eq_constant_time(opened, &self.signer_key))
    }
}

impl PrfDigest {
    fn find(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512].into_iter().find(|digest| digest.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl Pbkdf2Hash {
    /// `$pbkdf2$i=..,d=sha256 $ salt $ hash`, `$pbkdf2-sha256$i=.. $ salt $ hash`, or with the bare number of iterations (passlib).
    fn read(name: &str, rest: &[&str]) -> Option<Self> {
        let [costs, salt, hash] = rest else { return None };
        let mut fields = if costs.contains('=') { fields(costs)? } else { BTreeMap::from([("i", *costs)]) };
        let digest = match name.strip_prefix("pbkdf2-") {
            Some(digest) => digest,
            None if name == "pbkdf2" => fields.remove("d")?,
            None => return None,
        };
        let iterations = take_number(&mut fields, "i")?;
        let this = Self { digest: PrfDigest::find(digest)?, iterations, salt: decode(salt)?, hash: decode(hash)? };
        (states_length(&mut fields, this.hash.len()) && fields.is_empty()).then_some(this)?.bounded()
    }

    /// `pbkdf2_sha256$iterations$salt$hash`: the salt is the text itself.
    fn read_django(text: &str) -> Option<Self> {
        let [name, iterations, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else { return None };
        let digest = PrfDigest::find(name.strip_prefix("pbkdf2_")?)?;
        let iterations = number(iterations)?;
        Self { digest, iterations, salt: salt.as_bytes().to_vec(), hash: decode(hash)? }.bounded()
    }

    fn bounded(self) -> Option<Self> {
        let work = u64::from(self.iterations).checked_mul(self.hash.len().div_ceil(self.digest.len()) as u64)?;
        let bounded =
            self.iterations > 0 && work <= MAX_PBKDF2_WORK && (1..=128).contains(&self.salt.len()) && (16..=128).contains(&self.hash.len());
        bounded.then_some(self)
    }

    fn matches(&self, password: &[u8]) -> bool {
        let mut made = Zeroizing::new(vec![0; self.hash.len()]);
        match self.digest {
            PrfDigest::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, &self.salt, self.iterations, &mut made),
            PrfDigest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, &self.salt, self.iterations, &mut made),
            PrfDigest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, &self.salt, self.iterations, &mut made),
        }
        eq_constant_time(&made, &self.hash)
    }
}

impl PlainDigest {
    fn scheme(self) -> &'static str {
        match self {
            Self::Sha1 => "SSHA",
            Self::Sha256 => "SSHA256",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl SaltedDigest {
    /// `{SSHA}base64(digest salt)` as LDAP servers write it (RFC 2307), with the scheme in any case.
    fn read(text: &str, position: Option<SaltPosition>) -> Option<Self> {
        let (scheme, value) = text.strip_prefix('{')?.split_once('}')?;
        let (scheme, stored) = match scheme.split_once(':') {
            Some((scheme, "prefix")) => (scheme, Some(SaltPosition::Prefix)),
            Some(_) => return None,
            None => (scheme, None),
        };
        let digest = [PlainDigest::Sha1, PlainDigest::Sha256].into_iter().find(|digest| digest.scheme().eq_ignore_ascii_case(scheme))?;
        let position = stored.or(position).unwrap_or(SaltPosition::Suffix);
        let mut hash = decode(value)?;
        if hash.len() <= digest.len() || hash.len() > digest.len() + 64 {
            return None;
        }
        let salt = hash.split_off(digest.len());
        Some(Self { digest, position, salt, hash })
    }

    fn matches(&self, password: &[u8]) -> bool {
        let (first, second) = match self.position {
            SaltPosition::Prefix => (self.salt.as_slice(), password),
            SaltPosition::Suffix => (password, self.salt.as_slice()),
        };
        match self.digest {
            PlainDigest::Sha1 => eq_constant_time(&Sha1::new().chain_update(first).chain_update(second).finalize(), &self.hash),
            PlainDigest::Sha256 => eq_constant_time(&Sha256::new().chain_update(first).chain_update(second).finalize(), &self.hash),
        }
    }
}

/// `a=1,b=2`; a name twice is refused.
fn fields(text: &str) -> Option<BTreeMap<&str, &str>> {
    let mut fields = BTreeMap::new();
    for field in text.split(',') {
        let (name, value) = field.split_once('=')?;
        if fields.insert(name, value).is_some() {
            return None;
        }
    }
    Some(fields)
}

fn take_number(fields: &mut BTreeMap<&str, &str>, name: &str) -> Option<u32> {
    fields.remove(name).and_then(number)
}

/// Decimal digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whether a stated length of the hash, where there is one, is the true one.
fn states_length(fields: &mut BTreeMap<&str, &str>, len: usize) -> bool {
    [fields.remove("kl"), fields.remove("l")]
        .into_iter()
        .flatten()
        .all(|stated| number(stated).is_some_and(|stated| stated as usize == len))
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Base64 in any of the spellings exporters use: padded or not, `-_` (Firebase) or `.` for `+` (passlib).
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace(['-', '.'], "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse battery staple";

    /// Made with Python's hashlib, bcrypt 5.0, argon2-cffi, passlib and Django 5.2; the first Firebase one is Firebase's own published example.
    const KNOWN: &[(HashType, Option<SaltPosition>, &str, &str)] = &[
        (HashType::Bcrypt, None, PASSWORD, "$2b$04$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm"),
        (HashType::Bcrypt, None, PASSWORD, "$2a$04$jf/VT0L7.7S1po2Kycp.L.W6qw1MWKTB0iVGfju.1OO1pGiRrv.42"),
        (HashType::Bcrypt, None, PASSWORD, "$2y$04$jf/VT0L7.7S1po2Kycp.L.W6qw1MWKTB0iVGfju.1OO1pGiRrv.42"),
        (
            HashType::Argon2,
            None,
            PASSWORD,
            "$argon2id$v=19$m=256,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$eYnK556rcuTk9BJKas3geWs8uRkggHchFFzymlodqqY",
        ),
        (HashType::Argon2, None, PASSWORD, "$argon2i$v=19$m=256,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$+7nBIekWLklNK7jWBwyPz2keilnN6mGw"),
        (HashType::Argon2, None, PASSWORD, "$argon2d$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$hvol6Tdu9XX+kNFt1PztIn2Ytghw71Ftmap42MA2COw"),
        (HashType::Scrypt, None, PASSWORD, "$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$IZMORLo+NKM9sf3dDH1ZCk4hbDj0SQeYfTHU51eMJgU"),
        (HashType::Scrypt, None, PASSWORD, "$scrypt$ln=4,r=8,p=1$EUKIcU6JMaa0NmasFQJgjA$oPzXwgsB5DAmf4Wdz1i57nLgJACLZKfvThJkvmVXxss"),
        (
            HashType::Scrypt,
            None,
            PASSWORD,
            "$scrypt$v=1$n=1024,r=8,p=2,kl=64$AAECAwQFBgcICQoLDA0ODw$wk79EttC618m617oirShLZuxJkXcX6rXHrrS9rQQ/44/PyzWeE3KWbAQldWIiQYvKCevjNM19RG3gEA+HQIIyw",
        ),
        (
            HashType::FirebaseScrypt,
            None,
            "user1password",
            "$firebase-scrypt$hash=lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==\
             $salt=42xEC+ixf3L2lw==$sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==$ss=Bw==$r=8$m=14",
        ),
        (
            HashType::FirebaseScrypt,
            None,
            "user1password",
            "$firebase-scrypt$r=8,m=14,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA,ss=Bw\
             $42xEC-ixf3L2lw$lSrfV15cpx95_sZS2W9c9Kp6i_LVgQNDNC_qzrCnh1SAyZvqmZqAjTdn3aoItz-VHjoZilo78198JAdRuid5lQ",
        ),
        (
            HashType::FirebaseScrypt,
            None,
            PASSWORD,
            "$firebase-scrypt$m=6,r=4,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA,ss=Bw\
             $AAECAwQFBgcICQoLDA0ODw$2Vc/CFv1NJHti9x3MBeiU9nXUQrEp5cjrHGBImiA6nA1W3vUa6D4YcBAtr2Pc1tiPqApKQrna+5cpoqduPz7Ng",
        ),
        (HashType::Pbkdf2, None, PASSWORD, "$pbkdf2$i=1000,d=sha256$AAECAwQFBgcICQoLDA0ODw$ppsXnjrdPB4KryJ6DrOqKqhkWrhv7PbKAMF1Eml8cZ4"),
        (
            HashType::Pbkdf2,
            None,
            PASSWORD,
            "$pbkdf2$i=1000,d=sha512$AAECAwQFBgcICQoLDA0ODw$A6AmFIti7CKlYdoPiV9jf1d9llp37o27Wms8Zx8fwMJGCOigJzAthOW3Pg+XF5PnNiYnsQsIz1N5NtynrEm78w",
        ),
        (HashType::Pbkdf2, None, PASSWORD, "$pbkdf2$i=1000,d=sha1$AAECAwQFBgcICQoLDA0ODw$AOm/kOb/+YAZ3ZwSogYgNu9fO1g"),
        (HashType::Pbkdf2, None, PASSWORD, "$pbkdf2-sha256$1000$thZi7N177/1fCyHEmNP6Pw$iV3MCedlUqjTNUjCbBD3O6LmS3lzk4oL3g0emo5TMOI"),
        (
            HashType::Pbkdf2,
            None,
            PASSWORD,
            "$pbkdf2-sha512$1000$ay2FcG6NMcZYaw0h5JwTQg$ZN/HMjNMPUKCoiVi9XxJOZpiyWxLzkpNUkFkOLt0CqbCsvGm6.NV4LyD/.yYJMt8GMdyyHjCIeBnDHo7NueBxg",
        ),
        (HashType::Pbkdf2, None, PASSWORD, "pbkdf2_sha256$1000$seasalt2$vVHZGEs7v6quz+ZQJ3YUviKmZHPrpr5OATMMKlICjVY="),
        (HashType::Ssha, None, PASSWORD, "{SSHA}axjXroWdrjIVf38p0IUbdYaQZtQBAgMEBQYHCA=="),
        (HashType::Ssha256, None, PASSWORD, "{SSHA256}4RCdQtRBvAvQSR9Gtkm3fc5bhSO2sZxjW2Uv2CPwYi0BAgMEBQYHCA=="),
        (HashType::Ssha256, Some(SaltPosition::Suffix), PASSWORD, "{ssha256}4RCdQtRBvAvQSR9Gtkm3fc5bhSO2sZxjW2Uv2CPwYi0BAgMEBQYHCA=="),
        (HashType::Ssha256, Some(SaltPosition::Prefix), PASSWORD, "{SSHA256}0aCcz5DTt3gHLOFokCenNv4novCJxcR9wr8v1hFyu3IBAgMEBQYHCA=="),
    ];

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn hashes_of_other_systems_verify_before_and_after_they_were_stored() {
        for (kind, position, password, text) in KNOWN {
            let imported = ImportedHash::parse(*kind, text, *position).unwrap_or_else(|_| panic!("{text}"));
            let stored: ImportedHash = imported.to_string().parse().unwrap();
            assert_eq!(stored, imported, "{imported}");
            assert!(stored.matches(&secret(password)), "{imported}");
            assert!(!stored.matches(&secret("correct horse battery stable")), "{imported}");
            assert!(!stored.matches(&secret("")), "{imported}");
        }
    }

    #[test]
    fn a_hash_under_another_types_name_is_refused() {
        let all = [
            HashType::Bcrypt,
            HashType::FirebaseScrypt,
            HashType::Ssha,
            HashType::Ssha256,
            HashType::Scrypt,
            HashType::Pbkdf2,
            HashType::Argon2,
        ];
        for (kind, position, _, text) in KNOWN {
            for other in all.iter().filter(|other| *other != kind) {
                assert_eq!(ImportedHash::parse(*other, text, *position), Err(InvalidHash), "{text}");
            }
        }
    }

    #[test]
    fn a_salt_position_belongs_to_salted_digests_only() {
        for (kind, _, _, text) in KNOWN.iter().filter(|known| !known.3.starts_with('{')) {
            assert_eq!(ImportedHash::parse(*kind, text, Some(SaltPosition::Prefix)), Err(InvalidHash), "{text}");
        }
    }

    #[test]
    fn hostile_costs_are_refused_without_paying_them() {
        let (salt, hash) = ("AAECAwQFBgcICQoLDA0ODw", "ppsXnjrdPB4KryJ6DrOqKqhkWrhv7PbKAMF1Eml8cZ4");
        let sk = "sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA,ss=Bw";
        for text in [
            format!("$scrypt$ln=40,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=20,r=64,p=1${salt}${hash}"),
            format!("$scrypt$ln=10,r=4294967295,p=1${salt}${hash}"),
            format!("$scrypt$ln=10,r=8,p=4294967295${salt}${hash}"),
            format!("$scrypt$ln=0,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=4,r=0,p=1${salt}${hash}"),
            format!("$scrypt$v=1$n=4294967295,r=8,p=1${salt}${hash}"),
            format!("$scrypt$v=1$n=1000,r=8,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=65536,t=4294967295,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=8,t=1,p=16777215${salt}${hash}"),
            format!("$argon2id$v=19$m=65536,t=0,p=1${salt}${hash}"),
            format!("$argon2id$v=18$m=65536,t=1,p=1${salt}${hash}"),
            format!("$pbkdf2$i=4294967295,d=sha256${salt}${hash}"),
            format!("$pbkdf2$i=0,d=sha256${salt}${hash}"),
            format!("pbkdf2_sha256$99999999$salt${hash}"),
            format!("$firebase-scrypt$m=40,r=8,{sk}${salt}${hash}"),
            format!("$firebase-scrypt$m=14,r=8,{sk}${salt}${hash}"),
            "$2b$31$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm".to_owned(),
        ] {
            assert_eq!(text.parse::<ImportedHash>(), Err(InvalidHash), "{text}");
        }
    }

    #[test]
    fn malformed_texts_are_refused() {
        let known = KNOWN.iter().map(|(.., text)| *text);
        let cut = known.clone().flat_map(|text| (0..text.len() - 4).step_by(7).map(|at| text[..at].to_owned()));
        let longer =
            known.flat_map(|text| [format!("{text}$"), format!("{text}!"), format!(" {text}"), format!("{text}é"), format!("{text}=-")]);
        // A cut inside the last part can still be a hash: a shorter one, which is then not the same hash.
        let whole: Vec<ImportedHash> = KNOWN.iter().filter_map(|(_, position, _, text)| read(text, *position)).collect();
        for text in cut.chain(longer) {
            if let Ok(hash) = text.parse::<ImportedHash>() {
                assert!(!whole.contains(&hash), "{text}");
            }
        }
        let long = format!("{{SSHA}}{}", "A".repeat(100_000));
        for text in [
            "",
            "$",
            "$$$$",
            "{}",
            "{SSHA}",
            "{SSHA:suffix}AAAA",
            "{MD5}AAAA",
            "$2x$04$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm",
            "$scrypt$ln=4,ln=5,r=8,p=1$AAAA$AAAA",
            "$scrypt$ln=+4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$IZMORLo+NKM9sf3dDH1ZCk4hbDj0SQeYfTHU51eMJgU",
            &long,
        ] {
            assert_eq!(text.parse::<ImportedHash>(), Err(InvalidHash), "{text}");
        }
    }

    #[test]
    fn a_system_that_did_not_normalize_is_still_verified() {
        // U+212B eight times, hashed as it is; its NFKC is U+00C5.
        let hash: ImportedHash =
            "$pbkdf2$i=1000,d=sha256$AAECAwQFBgcICQoLDA0ODw$peTQhli8m22sxYiUjBk9s64kffx0bwMMqnosajnG1co".parse().unwrap();
        assert!(hash.matches(&secret(&"\u{212b}".repeat(8))));
        assert!(!hash.matches(&secret(&"\u{c5}".repeat(8))));
    }
}
