//! Making and checking hashes: off the async threads, as many at once as there are cores to spare, with a bounded queue before them.

use std::time::Duration;

use gatewright_base::Secret;
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::imported::{Argon2Hash, ImportedHash};
use super::model::{MAX_BYTES, normalized};
use crate::platform::config::Passwords;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::Limited;
use crate::web::error::ApiError;

/// More sign-ins wait for a hash than the queue holds: come back in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked at once")]
pub struct Busy;

impl From<Busy> for ApiError {
    fn from(Busy: Busy) -> Self {
        Self::limited(Limited { retry_after: Duration::from_secs(1) })
    }
}

/// What a check of a password found.
#[derive(Clone, PartialEq, Eq)]
pub struct Verdict {
    pub matches: bool,
    /// A hash made as this server makes them, when it matched and the stored one was made otherwise: store it with `replace_if_same`.
    pub rehash: Option<String>,
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verdict").field("matches", &self.matches).finish_non_exhaustive()
    }
}

/// Who asks for a hash. Strangers may fill the queue; beside it are places for devices that their owner has signed in from, and a thread
/// that is theirs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Anybody,
    KnownDevice,
}

/// A place in the queue, or at the thread. Whoever counts a try takes it before, so that no try is counted in vain.
#[derive(Debug)]
pub struct Place {
    asker: Asker,
    _held: OwnedSemaphorePermit,
}

pub fn take_place(cx: &Cx, asker: Asker) -> Result<Place, Busy> {
    let kept = match asker {
        Asker::Anybody => cx.config().passwords.places_of_known_devices(),
        Asker::KnownDevice => 0,
    };
    if cx.hashing_places().available_permits() <= kept {
        return Err(Busy);
    }
    let permit = cx.hashing_places().clone().try_acquire_owned().map_err(|_| Busy)?;
    Ok(Place { asker, _held: permit })
}

/// The hash to store: argon2id with the configured costs, in PHC form. The policy is checked before.
pub async fn hash(cx: &Cx, password: &Secret<String>) -> Result<String, Busy> {
    let place = take_place(cx, Asker::Anybody)?;
    let (fresh, password) = (Fresh::new(cx), password.clone());
    on_a_hashing_thread(cx, place, move || fresh.hash(&password)).await?.ok_or(Busy)
}

/// Checks `password` against the stored hash. With `None` (nobody of that name, or no password) it does the same work and
/// says no, so that time does not tell who exists.
pub async fn verify(cx: &Cx, place: Place, stored: Option<String>, password: &Secret<String>) -> Result<Verdict, Busy> {
    // No stored password is that long, whoever asks.
    if password.reveal().len() > MAX_BYTES {
        return Ok(Verdict { matches: false, rehash: None });
    }
    let (fresh, password) = (Fresh::new(cx), password.clone());
    on_a_hashing_thread(cx, place, move || {
        let Some(stored) = stored.and_then(|text| text.parse::<ImportedHash>().ok()) else {
            std::hint::black_box(fresh.hash(&password));
            return Verdict { matches: false, rehash: None };
        };
        let matches = stored.matches(&password);
        let rehash = if matches && !fresh.is_like(&stored) { fresh.hash(&password) } else { None };
        Verdict { matches, rehash }
    })
    .await
}

async fn on_a_hashing_thread<T: Send + 'static>(cx: &Cx, place: Place, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
    let shared = cx.hashing().clone().acquire_owned();
    let turn = match place.asker {
        Asker::Anybody => shared.await,
        Asker::KnownDevice => tokio::select! {
            biased;
            turn = shared => turn,
            turn = cx.hashing_of_known_devices().clone().acquire_owned() => turn,
        },
    };
    let turn = turn.map_err(|_| Busy)?;
    cx.metrics().password_hashes.inc();
    // The permits go along: a caller who hangs up does not free the core that still works for it.
    let held = (place, turn);
    let hashed = cx.low_priority_threads().run(move || {
        let _held = held;
        work()
    });
    hashed.await.ok_or_else(|| {
        tracing::error!("password hashing stopped");
        Busy
    })
}

/// A hash to be made with the configured costs and a salt of its own.
struct Fresh {
    blank: Argon2Hash,
}

impl Fresh {
    fn new(cx: &Cx) -> Self {
        Self::with(&cx.config().passwords, cx.rng().array::<16>())
    }

    fn with(costs: &Passwords, salt: [u8; 16]) -> Self {
        Self {
            blank: Argon2Hash {
                algorithm: argon2::Algorithm::Argon2id,
                version: argon2::Version::V0x13,
                memory_kib: costs.argon2_memory_kib,
                passes: costs.argon2_passes,
                lanes: costs.argon2_lanes,
                salt: salt.to_vec(),
                hash: vec![0; 32],
            },
        }
    }

    fn hash(&self, password: &Secret<String>) -> Option<String> {
        let normal = Zeroizing::new(normalized(password.reveal()));
        let hash = self.blank.derive(normal.as_bytes())?.to_vec();
        Some(Argon2Hash { hash, ..self.blank.clone() }.to_string())
    }

    fn is_like(&self, stored: &ImportedHash) -> bool {
        let ImportedHash::Argon2(stored) = stored else { return false };
        let costs =
            |hash: &Argon2Hash| (hash.algorithm, hash.version, hash.memory_kib, hash.passes, hash.lanes, hash.salt.len(), hash.hash.len());
        costs(stored) == costs(&self.blank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(memory: u32) -> Passwords {
        Passwords { argon2_memory_kib: memory, argon2_passes: 1, argon2_lanes: 1, ..Passwords::default() }
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_hash_of_ours_verifies_in_every_spelling_of_the_password() {
        let text = Fresh::with(&costs(64), [7; 16]).hash(&secret("Caf\u{e9} \u{fb01}ve")).unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{text}");
        let stored: ImportedHash = text.parse().unwrap();
        for spelling in ["Caf\u{e9} \u{fb01}ve", "Cafe\u{301} five", "Café five"] {
            assert!(stored.matches(&secret(spelling)), "{spelling}");
        }
        assert!(!stored.matches(&secret("Cafe five")));
    }

    #[test]
    fn only_a_hash_with_the_configured_costs_is_kept() {
        let today = Fresh::with(&costs(64), [1; 16]);
        let stored = |costs: &Passwords| Fresh::with(costs, [2; 16]).hash(&secret("x")).unwrap().parse::<ImportedHash>().unwrap();
        assert!(today.is_like(&stored(&costs(64))));
        assert!(!today.is_like(&stored(&costs(128))));
        assert!(!today.is_like(&stored(&Passwords { argon2_passes: 2, ..costs(64) })));
        assert!(!today.is_like(&"{SSHA}axjXroWdrjIVf38p0IUbdYaQZtQBAgMEBQYHCA==".parse().unwrap()));
        assert!(!today.is_like(&"$2b$04$Tbgk3p2d/J.odY/B9m7qreaoK6yopQlT536aMi4Lw/HihTB1VBdEm".parse().unwrap()));
    }
}
