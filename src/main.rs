//! The binary: reads the process environment and passes it to [`examgate::commands`].

use std::process::ExitCode;

use examgate::commands::{self, Process};

/// Faster than the system allocator when many tasks allocate in parallel, and smaller after a load
/// (docs/PERFORMANCE.md).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::run(&Process::current())
}
