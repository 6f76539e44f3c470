//! The working memory of argon2, kept from one hash to the next while people sign in and given back when they stop. Fresh memory for
//! each hash costs a tenth of its time in page faults; memory left to the allocator stays in the arena of whichever thread hashed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use argon2::Block;

use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

/// No more is kept than cores hash at once on a large machine.
const KEPT: usize = 16;
/// An allocation of more than 32 MiB is always mapped by itself and unmapped when dropped; untouched pages of it cost nothing.
const OWN_MAPPING: usize = 33 * 1024;

static IDLE: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
static USED: AtomicBool = AtomicBool::new(false);

/// Runs `work` with `blocks` blocks of 1 KiB. What they hold before does not matter to argon2, which fills them first.
pub fn with_blocks<T>(blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
    USED.store(true, Ordering::Relaxed);
    let mut memory = idle().pop().unwrap_or_else(|| Vec::with_capacity(blocks.max(OWN_MAPPING)));
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let made = work(&mut memory[..blocks]);
    let mut idle = idle();
    if idle.len() < KEPT {
        idle.push(memory);
    }
    made
}

/// Gives the memory back after a second in which nobody needed it.
pub fn job() -> Job {
    Job { name: "hashing_memory", every: Duration::from_secs(1), run }
}

fn run(_: &Cx) -> JobFuture<'_> {
    Box::pin(async {
        if !USED.swap(false, Ordering::Relaxed) {
            idle().clear();
        }
        Ok(())
    })
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Vec<Block>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}
