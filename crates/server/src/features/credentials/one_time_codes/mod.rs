//! Six-digit codes: the one rule for magic auth, e-mail verification and change of address. Each table keeps its own rows;
//! what a code is, how long it works, how often it may be tried and what counts as right is decided here.

mod model;

pub use model::{CodeState, LIFETIME, MAX_ATTEMPTS, MINUTES, Place, Refused, Verdict, decide, decide_open, mint, normalize};

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};
use gatewright_jose::MasterKey;

use crate::web::error::ApiError;

/// The statements of one table of codes. `$1` is the environment, `$2` the row, `$3` the time.
#[derive(Clone, Copy, Debug)]
pub struct Statements {
    /// One more attempt, if the code can still be tried (`$4` is [`MAX_ATTEMPTS`]); gives the sealed code.
    pub take_try: &'static str,
    /// `attempts, expires_at, used_at`.
    pub find_state: &'static str,
    /// Marks the code used, if it is not; gives its id.
    pub take: &'static str,
}

/// One try of a code. Exactly one caller ever gets [`Verdict::Right`]; what they change in this transaction commits with it.
///
/// The try is counted before anything is compared and is there to stay: answer `Ok` to a refusal, or the count rolls back
/// with it and the code can be tried without end.
pub fn try_code(
    tx: &mut Tx<'_>,
    table: Statements,
    place: Place<'_>,
    master_key: &MasterKey,
    given: &str,
    now: Timestamp,
) -> Result<Verdict, DbError> {
    let Some(mut row) = tx.take_once(table.take_try, params![place.environment, place.row, now, MAX_ATTEMPTS])? else {
        let Some(mut row) = tx.optional(table.find_state, params![place.environment, place.row])? else {
            return Ok(Verdict::Refused(Refused::Wrong));
        };
        let state = CodeState { attempts: row.int()?, expires_at: row.time()?, used_at: row.opt_time()? };
        return Ok(Verdict::Refused(decide_open(&state, now).err().unwrap_or(Refused::Wrong)));
    };
    let sealed = row.bytes()?;
    let code = place
        .open(master_key, &sealed)
        .ok_or_else(|| DbError::Other(format!("{} of {} does not open; is this the right master key?", place.column, place.row)))?;
    match decide(&code, given) {
        Verdict::Right if tx.take_once(table.take, params![place.environment, place.row, now])?.is_none() => {
            Ok(Verdict::Refused(Refused::Used))
        }
        verdict => Ok(verdict),
    }
}

impl Refused {
    pub const ALL: [Self; 4] = [Self::Wrong, Self::Expired, Self::Used, Self::TooManyAttempts];

    /// The code of the failure in `authenticate` and in its event (contract 2.5).
    pub fn code(self) -> &'static str {
        match self {
            Self::Wrong => "invalid_one_time_code",
            Self::Expired => "one_time_code_expired",
            Self::Used => "one_time_code_previously_used",
            Self::TooManyAttempts => "one_time_code_too_many_attempts",
        }
    }

    pub fn message(self) -> &'static str {
        match self {
            Self::Wrong => "The code is not right.",
            Self::Expired => "The code has expired. Ask for a new one.",
            Self::Used => "The code has been used or replaced by a newer one.",
            Self::TooManyAttempts => "Too many wrong codes. Ask for a new one.",
        }
    }

    /// 400 as `authenticate` answers it.
    pub fn to_error(self) -> ApiError {
        ApiError::bad_request(self.code(), self.message())
    }
}
