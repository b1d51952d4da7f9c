//! The workloads that `scripts/instructions` measures: one workload per process, run under callgrind, which counts
//! instructions between [`begins`] and [`ends`] on all threads. The script sets the counting range, compares with
//! `benches/instructions.json` and judges; this program only does the work.
//!
//! Counts must be the same from run to run, so everything variable is fixed: clock and randomness are deterministic
//! (`surroundings`), tokio's timers are paused, one thread does everything except SQLite's writing.
//!
//! usage: instructions NAME, or --list; the last line on stdout is the number of repetitions.
//!
//! gungraun (formerly iai-callgrind) was considered: it counts one thread only, and another thread does half of a
//! write; its runner must be installed in the same version; and it keeps its figures in `target`, where no review sees
//! them.

use std::error::Error;
use std::io::Write as _;

mod calls;
mod gateway;
mod people;
mod surroundings;
mod vendor;

use calls::{call_examtesting, call_startexam};
use gateway::{bulk, keyed_write, read, refusal, repeat};
use surroundings::in_standing_time;

/// The program itself uses this allocator too.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An error that ends the workload; the script shows it.
type Failure = Box<dyn Error + Send + Sync>;

/// Number of repetitions between [`begins`] and [`ends`].
type Times = usize;

/// A workload.
type Run = fn() -> Result<Times, Failure>;

/// All workloads.
const WORKLOADS: [(&str, Run); 8] = [
    ("keyed_write", || in_standing_time(keyed_write())),
    ("read", || in_standing_time(read())),
    ("repeat", || in_standing_time(repeat())),
    ("refusal", || in_standing_time(refusal())),
    ("bulk_row_startexam", || in_standing_time(bulk("startexam-main"))),
    ("bulk_row_examtesting", || in_standing_time(bulk("examtesting-main"))),
    ("call_startexam", || in_standing_time(call_startexam())),
    ("call_examtesting", || in_standing_time(call_examtesting())),
];

/// Starts counting. Callgrind recognises it by name, so it must stay a function.
#[inline(never)]
fn begins() {
    std::hint::black_box("begins");
}

/// Stops counting. Its value differs from that of [`begins`], since the compiler may merge two identical functions.
#[inline(never)]
fn ends() {
    std::hint::black_box("ends");
}

fn main() -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    // Cargo adds `--bench`.
    let asked = std::env::args().skip(1).find(|argument| argument != "--bench");
    let Some(name) = asked.filter(|name| name != "--list") else {
        for (name, _) in WORKLOADS {
            writeln!(stdout, "{name}")?;
        }
        return Ok(());
    };
    let workload = WORKLOADS.into_iter().find(|(known, _)| *known == name);
    let (_, run) = workload.ok_or_else(|| format!("unknown workload {name}"))?;
    writeln!(stdout, "{}", run()?)?;
    Ok(())
}
