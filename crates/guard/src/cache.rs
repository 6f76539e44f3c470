use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatewright_base::{Rng, Timestamp};
use gatewright_jose::{DigestKey, eq_constant_time};

use crate::{Principal, Revocations, Via};

const SHARDS: usize = 16;

/// What a credential is remembered by: how it came, and a digest under the key of one [`Seen`]. A session cookie sent as a bearer token is
/// another credential.
#[derive(Clone, Copy)]
pub struct CredentialDigest {
    via: Via,
    digest: [u8; DigestKey::LEN],
}

/// See [`DigestKey`]: nobody learns of a digest, nor by the clock how much of one is right.
impl PartialEq for CredentialDigest {
    fn eq(&self, other: &Self) -> bool {
        self.via == other.via && eq_constant_time(&self.digest, &other.digest)
    }
}

impl Eq for CredentialDigest {}

impl Hash for CredentialDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.via.hash(state);
        state.write(&self.digest);
    }
}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialDigest").field("via", &self.via).finish_non_exhaustive()
    }
}

/// Credentials that were verified, so that the next look at one costs a hash. Bounded. An entry never outlives its token,
/// a revocation of it, or the key that signed it.
#[derive(Debug)]
pub struct Seen {
    key: DigestKey,
    shards: [Mutex<Shard>; SHARDS],
    /// Rises whenever something is forgotten; see [`Seen::generation`].
    generation: AtomicU64,
    /// For each of the two halves of a shard.
    half: usize,
}

type Entries = HashMap<CredentialDigest, Entry, BuildHasherDefault<Truncate>>;

/// Two generations: what was asked for since the last turn, and the rest. When the young ones fill their half, the old ones go.
#[derive(Debug, Default)]
struct Shard {
    young: Entries,
    old: Entries,
}

#[derive(Clone, Debug)]
struct Entry {
    principal: Arc<Principal>,
    from: Option<Timestamp>,
    until: Timestamp,
}

impl Seen {
    /// Room for about `entries` credentials.
    pub fn new(entries: usize, rng: &dyn Rng) -> Self {
        let half = entries.div_ceil(SHARDS * 2).max(1);
        Self { key: DigestKey::new(rng), shards: Default::default(), generation: AtomicU64::new(0), half }
    }

    /// What this asks for and keeps a credential by.
    pub fn digest(&self, via: Via, credential: &str) -> CredentialDigest {
        CredentialDigest { via, digest: self.key.digest(credential.as_bytes()) }
    }

    /// The principal of a credential that was verified before and is still in force.
    pub fn find(&self, digest: &CredentialDigest, revocations: &Revocations, now: Timestamp) -> Option<Arc<Principal>> {
        let entry = self.shard(digest).find(digest, self.half)?;
        let in_force = entry.from.is_none_or(|from| from <= now) && now < entry.until && !revocations.is_revoked(&entry.principal, now);
        in_force.then_some(entry.principal)
    }

    /// The principal of a credential that was verified before, whatever has become of it since.
    pub fn peek(&self, digest: &CredentialDigest) -> Option<Arc<Principal>> {
        let shard = self.shard(digest);
        shard.young.get(digest).or_else(|| shard.old.get(digest)).map(|entry| Arc::clone(&entry.principal))
    }

    /// Ask before verifying and hand to [`Seen::insert`]: what was verified with keys that have gone since is then not kept.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Keeps a verified credential until `until` at the latest, an exclusive moment (expiry plus leeway). `leeway` also applies to
    /// the beginning of its validity.
    pub fn insert(
        &self,
        generation: u64,
        digest: CredentialDigest,
        principal: Arc<Principal>,
        until: Timestamp,
        leeway: std::time::Duration,
    ) {
        let until = until.min(principal.expires_at.plus(leeway));
        let from = principal.not_before.into_iter().chain(principal.issued_at).max().map(|from| from.minus(leeway));
        let mut shard = self.shard(&digest);
        // Under the shard's lock: who forgets raises the generation first and takes the lock then.
        if self.generation() == generation {
            shard.insert(digest, Entry { principal, from, until }, self.half);
        }
    }

    /// Forgets one credential.
    pub fn forget(&self, digest: &CredentialDigest) {
        let mut shard = self.shard(digest);
        shard.young.remove(digest);
        shard.old.remove(digest);
    }

    /// Forgets everyone of whom `is_gone` says so: the key that signed has left the issuer's set.
    pub fn forget_where(&self, is_gone: impl Fn(&Principal) -> bool) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.young.retain(|_, entry| !is_gone(&entry.principal));
            shard.old.retain(|_, entry| !is_gone(&entry.principal));
        }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(lock).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, digest: &CredentialDigest) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(digest.digest[DigestKey::LEN - 1]) % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn find(&mut self, digest: &CredentialDigest, half: usize) -> Option<Entry> {
        if let Some(entry) = self.young.get(digest) {
            return Some(entry.clone());
        }
        let entry = self.old.remove(digest)?;
        self.insert(*digest, entry.clone(), half);
        Some(entry)
    }

    fn insert(&mut self, digest: CredentialDigest, entry: Entry, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&digest) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.old.remove(&digest);
        self.young.insert(digest, entry);
    }
}

/// A digest needs no hashing again. Nobody fills a bucket on purpose: only what was verified is kept.
#[derive(Debug, Default)]
struct Truncate(u64);

impl Hasher for Truncate {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let len = bytes.len().min(8);
        first[..len].copy_from_slice(&bytes[..len]);
        self.0 = self.0.rotate_left(8) ^ u64::from_le_bytes(first);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatewright_jose::SystemRng;

    use super::*;
    use crate::tests::{NOW, at, now};
    use crate::{Kind, Revoked};

    const LEEWAY: Duration = Duration::from_secs(10);

    fn principal(key: &str) -> Arc<Principal> {
        Arc::new(Principal {
            session_id: Some("session_1".into()),
            key_id: Some(key.into()),
            issued_at: Some(now()),
            ..Principal::new(Kind::User, Via::Session, "i", "user_1", at(NOW + 300))
        })
    }

    fn insert(seen: &Seen, credential: &str, until: Timestamp) {
        seen.insert(seen.generation(), seen.digest(Via::Session, credential), principal("key_1"), until, LEEWAY);
    }

    fn finds(seen: &Seen, credential: &str, now: Timestamp) -> bool {
        seen.find(&seen.digest(Via::Session, credential), &Revocations::new(), now).is_some()
    }

    #[test]
    fn an_entry_never_outlives_its_token() {
        let seen = Seen::new(100, &SystemRng);
        insert(&seen, "a", at(NOW + 100_000));
        for (second, expected) in [(NOW - 11, false), (NOW - 10, true), (NOW, true), (NOW + 309, true), (NOW + 310, false)] {
            assert_eq!(finds(&seen, "a", at(second)), expected, "{}", second - NOW);
        }
        insert(&seen, "b", at(NOW + 5));
        assert_eq!((finds(&seen, "b", at(NOW + 4)), finds(&seen, "b", at(NOW + 5))), (true, false));
    }

    #[test]
    fn row_23_an_entry_never_outlives_a_revocation() {
        let (seen, revocations) = (Seen::new(100, &SystemRng), Revocations::new());
        insert(&seen, "a", at(NOW + 300));
        assert!(seen.find(&seen.digest(Via::Session, "a"), &revocations, now()).is_some());
        revocations.revoke(Revoked::Session("session_1"), now(), at(NOW + 600));
        assert!(seen.find(&seen.digest(Via::Session, "a"), &revocations, now()).is_none());
    }

    #[test]
    fn an_entry_never_outlives_the_key_that_signed_it() {
        let seen = Seen::new(100, &SystemRng);
        seen.insert(seen.generation(), seen.digest(Via::Session, "old"), principal("key_1"), at(NOW + 300), LEEWAY);
        seen.insert(seen.generation(), seen.digest(Via::Session, "new"), principal("key_2"), at(NOW + 300), LEEWAY);
        let before = seen.generation();
        seen.forget_where(|principal| principal.key_id.as_deref() == Some("key_1"));
        assert_eq!((finds(&seen, "old", now()), finds(&seen, "new", now())), (false, true));
        // Verified with the keys as they were, kept after they changed: not kept.
        seen.insert(before, seen.digest(Via::Session, "old"), principal("key_1"), at(NOW + 300), LEEWAY);
        assert!(!finds(&seen, "old", now()));
    }

    #[test]
    fn a_session_cookie_sent_as_a_bearer_token_is_another_credential() {
        let seen = Seen::new(100, &SystemRng);
        insert(&seen, "a", at(NOW + 300));
        for via in [Via::Bearer, Via::ApiKey] {
            assert!(seen.find(&seen.digest(via, "a"), &Revocations::new(), now()).is_none());
        }
        assert!(!finds(&seen, "A", now()) && !finds(&seen, "a ", now()) && finds(&seen, "a", now()));
    }

    #[test]
    fn it_stays_within_its_bounds_and_keeps_who_comes_again() {
        let seen = Seen::new(1_000, &SystemRng);
        insert(&seen, "regular", at(NOW + 300));
        for n in 0..20_000 {
            insert(&seen, &n.to_string(), at(NOW + 300));
            if n % 100 == 0 {
                assert!(finds(&seen, "regular", now()), "forgotten after {n}");
            }
        }
        assert!((500..=1_024).contains(&seen.len()), "{}", seen.len());
        assert!(!finds(&seen, "0", now()));
    }

    #[test]
    fn one_credential_is_forgotten_alone() {
        let seen = Seen::new(100, &SystemRng);
        insert(&seen, "a", at(NOW + 300));
        insert(&seen, "b", at(NOW + 300));
        seen.forget(&seen.digest(Via::Session, "a"));
        assert_eq!((finds(&seen, "a", now()), finds(&seen, "b", now()), seen.is_empty()), (false, true, false));
    }
}
