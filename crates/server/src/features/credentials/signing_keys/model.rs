use std::time::Duration;

use gatewright_base::{Id, Kind, Rng, Timestamp};
use gatewright_db::DbError;
use gatewright_jose::{Algorithm, JoseError, Jwk, MasterKey, SigningKey};

use crate::platform::cx::EnvironmentId;

/// What access tokens are signed with: the one algorithm that every WorkOS SDK accepts.
pub const ALGORITHM: Algorithm = Algorithm::RS256;
pub(super) const PURPOSE: &str = "signing_key";

#[derive(Debug)]
pub struct SigningKeyKind;
impl Kind for SigningKeyKind {
    const PREFIX: &'static str = "key";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Next,
    Active,
    Retiring,
}

impl KeyState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Next, Self::Active, Self::Retiring].into_iter().find(|state| state.as_str() == text)
    }
}

/// A key of the table, its private half left where it is.
#[derive(Clone)]
pub struct StoredKey {
    pub kid: String,
    pub state: KeyState,
    pub public: Jwk,
    pub created_at: Timestamp,
    pub gone_at: Option<Timestamp>,
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredKey({} {})", self.kid, self.state.as_str())
    }
}

/// A key just made.
#[derive(Clone)]
pub struct NewKey {
    pub(super) kid: String,
    pub(super) private_sealed: Vec<u8>,
    pub(super) public: Jwk,
    pub(super) created_at: Timestamp,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewKey({})", self.kid)
    }
}

impl NewKey {
    pub(super) fn mint(
        kid: Id<SigningKeyKind>,
        environment: &EnvironmentId,
        master: &MasterKey,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Self, JoseError> {
        let kid = kid.into_string();
        let key = generate(kid.clone())?;
        // The certificate only carries the key (SDK models require x5c); nobody checks its dates.
        let public =
            key.public_jwk(now.minus(Duration::from_secs(86_400)), now.plus(Duration::from_secs(20 * 365 * 86_400)), "Gatewright")?;
        let private_sealed = master.seal(PURPOSE, &context(environment, &kid), key.to_pkcs8().reveal(), rng);
        Ok(Self { kid, private_sealed, public, created_at: now })
    }
}

#[cfg(not(any(test, feature = "testkit")))]
fn generate(kid: String) -> Result<SigningKey, JoseError> {
    SigningKey::generate(ALGORITHM, kid)
}

/// Tests make hundreds of environments: eight RSA keys, made once, take turns, so that no two live keys of one test are the same.
#[cfg(any(test, feature = "testkit"))]
fn generate(kid: String) -> Result<SigningKey, JoseError> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static MADE: [std::sync::OnceLock<gatewright_base::Secret<Vec<u8>>>; 8] = [const { std::sync::OnceLock::new() }; 8];
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let slot = &MADE[TURN.fetch_add(1, Ordering::Relaxed) % MADE.len()];
    let der = slot
        .get_or_init(|| SigningKey::generate(ALGORITHM, "test".to_owned()).map(|key| key.to_pkcs8()).unwrap_or_else(|_| Vec::new().into()));
    SigningKey::from_pkcs8(ALGORITHM, kid, der.reveal())
}

pub(super) fn context(environment: &EnvironmentId, kid: &str) -> String {
    format!("{environment}/{kid}")
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("the next key has to be published for a while before it signs; it may from {at}")]
    NotYet { at: Timestamp },
    #[error("another rotation came first")]
    Raced,
    #[error(transparent)]
    Db(#[from] DbError),
}
