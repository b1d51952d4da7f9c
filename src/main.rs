//! The program: reads the process it runs in and hands it to [`examgate::commands`].

use std::process::ExitCode;

use examgate::commands::{self, Process};

/// Faster than the system's where many tasks allocate side by side, and smaller after a load (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::run(&Process::current())
}
