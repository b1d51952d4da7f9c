//! The environment of a workload: paused timers, and a clock and randomness that are the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use examgate::domain::system::{Clock, SecureRandom, System};
use jiff::Timestamp;

use crate::{Failure, Times};

/// 2026-11-25T12:00:00Z.
const START: i64 = 1_795_608_000_000;

/// A clock that advances a millisecond at each reading, so that ids are in the order of their creation, as in
/// production.
struct Steps(AtomicU64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let step = self.0.fetch_add(1, Ordering::Relaxed).cast_signed();
        Timestamp::from_millisecond(START + step).unwrap_or(Timestamp::MAX)
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): well distributed, and the same in every run.
struct Seeded(AtomicU64);

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Returns the clock and randomness of a workload.
pub fn environment() -> System {
    System { clock: Arc::new(Steps(AtomicU64::new(0))), entropy: Arc::new(Seeded(AtomicU64::new(1))) }
}

/// Does the work on one thread while tokio's clock is paused: otherwise the gateway's work of each second would be
/// counted too, the more the slower the machine. A paused clock jumps to the next timer when the runtime is idle,
/// unless a blocking task is running (`tokio::time::pause`); so one runs to the end.
pub fn in_standing_time(work: impl Future<Output = Result<Times, Failure>>) -> Result<Times, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let (held, until) = mpsc::channel::<()>();
        let blocking = tokio::task::spawn_blocking(move || until.recv().is_err());
        let done = work.await;
        drop(held);
        blocking.await?;
        done
    })
}
