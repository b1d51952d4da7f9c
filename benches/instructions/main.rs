//! What `scripts/instructions` counts: one workload a process, run under callgrind, which counts between [`begins`] and
//! [`ends`] on all threads. The script says where, compares with `benches/instructions.json` and judges; here is only the work.
//!
//! Counts are to be the same from run to run, so whatever could differ is held: clock and randomness are made up
//! (`surroundings`), tokio's timers stand still, one thread does all but SQLite's writing.
//!
//! usage: instructions NAME, or --list; the last line on stdout is how often the work was done.
//!
//! gungraun (iai-callgrind before) was looked at: it counts one thread only, and half of a write is done by another; its
//! runner has to be installed in the same version; and it keeps its figures in `target`, where no review sees them.

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

/// The program as a whole allocates with this one too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What goes wrong ends the workload; the script shows it.
type Failure = Box<dyn Error + Send + Sync>;

/// How often the work was done between [`begins`] and [`ends`].
type Times = usize;

/// Does a workload.
type Run = fn() -> Result<Times, Failure>;

/// Every workload.
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

/// From here on it counts. Callgrind knows it by its name, so it must stay a function.
#[inline(never)]
fn begins() {
    std::hint::black_box("begins");
}

/// Up to here it counts. Another value than above: two functions that do the same may become one.
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
    let (_, run) = workload.ok_or_else(|| format!("there is no workload {name}"))?;
    writeln!(stdout, "{}", run()?)?;
    Ok(())
}
