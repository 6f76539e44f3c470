//! What the authenticator says and signs (§6.1): for whom, how sure it is of the person, how often it signed, and at registration the
//! credential itself.

use gatewright_jose::{eq_constant_time, sha256};

use crate::{Expected, Refusal, cbor};

const UP: u8 = 0x01;
const UV: u8 = 0x04;
const BE: u8 = 0x08;
const BS: u8 = 0x10;
const AT: u8 = 0x40;
const ED: u8 = 0x80;

/// §4, "credential ID": no longer than this.
const MAX_CREDENTIAL_ID: usize = 1_023;

pub struct AuthenticatorData<'a> {
    rp_id_hash: &'a [u8],
    flags: u8,
    pub sign_count: u32,
    pub credential: Option<AttestedCredential<'a>>,
}

/// §6.5.1, without the AAGUID: nobody vouches for it where no attestation is verified.
pub struct AttestedCredential<'a> {
    pub id: &'a [u8],
    /// The CBOR of the key, as it came.
    pub cose: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let short = Refusal::Malformed("authenticator data that ends too early");
        let (rp_id_hash, rest) = bytes.split_at_checked(32).ok_or(short)?;
        let (flags, rest) = rest.split_first().ok_or(short)?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let mut credential = None;
        if flags & AT != 0 {
            let (_aaguid, after) = rest.split_at_checked(16).ok_or(short)?;
            let (len, after) = after.split_first_chunk::<2>().ok_or(short)?;
            let (id, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(short)?;
            if id.is_empty() || id.len() > MAX_CREDENTIAL_ID {
                return Err(Refusal::Malformed("a credential id of no or of too many octets"));
            }
            let (_, end) = cbor::read_first(after)?;
            credential = Some(AttestedCredential { id, cose: &after[..after.len() - end.len()] });
            rest = end;
        }
        if flags & ED != 0 {
            // None was asked for, and what comes all the same says nothing to us; but it has to be there and to be what it should.
            let (extensions, end) = cbor::read_first(rest)?;
            extensions.as_map().ok_or(Refusal::Malformed("extensions that are not a map"))?;
            rest = end;
        }
        if !rest.is_empty() {
            return Err(Refusal::Malformed("octets after the end of the authenticator data"));
        }
        Ok(Self { rp_id_hash, flags: *flags, sign_count: u32::from_be_bytes(*count), credential })
    }

    /// §7.1 steps 13 to 18, §7.2 steps 15 to 20.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), Refusal> {
        if !eq_constant_time(self.rp_id_hash, &sha256(expected.rp_id.as_bytes())) {
            return Err(Refusal::WrongRpId);
        }
        if self.flags & UP == 0 {
            return Err(Refusal::UserNotPresent);
        }
        if expected.user_verified && !self.user_verified() {
            return Err(Refusal::UserNotVerified);
        }
        if self.backed_up() && !self.backup_eligible() {
            return Err(Refusal::Flags("backed up, and not to be backed up"));
        }
        Ok(())
    }

    pub fn user_verified(&self) -> bool {
        self.flags & UV != 0
    }

    pub fn backup_eligible(&self) -> bool {
        self.flags & BE != 0
    }

    pub fn backed_up(&self) -> bool {
        self.flags & BS != 0
    }
}
