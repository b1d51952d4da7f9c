//! The program: reads the process it runs in and hands it to [`examgate::commands`].

use std::process::ExitCode;

use examgate::commands::{self, Process};

fn main() -> ExitCode {
    commands::run(&Process::current())
}
