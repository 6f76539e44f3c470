//! The words every other crate shares: ids, time, chance, secrets and pages.
//!
//! Nothing here does I/O or waits. Time and chance come in as values of [`Clock`] and [`Rng`],
//! so a test can hold both still.

mod chance;
mod id;
mod page;
mod secret;
mod time;

pub use chance::{Rng, SeededRng};
pub use id::{Id, Kind, UlidSequence, is_id, mint_ulid};
pub use page::{Order, Page, PageQuery, PageQueryError, Scan};
pub use secret::Secret;
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
