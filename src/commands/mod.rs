//! The command line: one file per command. Commands wire the modules together and hold no logic of their own.
//!
//! Exit codes: 0 success; 2 an error in command line or configuration, one line per error on stderr; 1 anything else.

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ConfigError;

mod check;
mod demo;
mod healthcheck;
mod import;
mod key;
mod load_config;
mod open_store;
mod openapi;
mod process;
mod reload;
mod sandbox;
mod serve;
mod signals;
mod telemetry;

pub use process::Process;

/// One REST API in front of several exam vendors, with a truthful outcome for every write
#[derive(Parser)]
#[command(name = "examgate", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Options),
    Sandbox(sandbox::Options),
    Demo(demo::Options),
    Check(check::Options),
    Import(import::Options),
    Openapi(openapi::Options),
    #[command(subcommand)]
    Key(key::Command),
    #[command(hide = true)]
    Probe(healthcheck::Options),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Errors in command line or configuration, one line each: exit code 2.
    Usage(Vec<String>),
    /// Any other error: exit code 1.
    Other(String),
}

impl Failure {
    fn other(what: &str, error: impl fmt::Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }
}

impl From<Vec<ConfigError>> for Failure {
    fn from(faults: Vec<ConfigError>) -> Self {
        Self::Usage(faults.iter().map(ToString::to_string).collect())
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn run(process: &Process) -> ExitCode {
    let arguments = match Arguments::try_parse_from(&process.arguments) {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are not errors and go to stdout; clap knows which is which.
            let code = if told.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
            return if told.print().is_ok() { code } else { ExitCode::FAILURE };
        }
    };
    let done = match arguments.command {
        Command::Serve(options) => serve::run(&options, process),
        Command::Sandbox(options) => sandbox::run(&options, process),
        Command::Demo(options) => demo::run(&options, process),
        Command::Check(options) => check::run(&options, process),
        Command::Import(options) => import::run(&options, process),
        Command::Openapi(options) => openapi::run(&options),
        Command::Key(command) => key::run(&command, process),
        Command::Probe(options) => healthcheck::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(faults)) => {
            told(&faults);
            ExitCode::from(2)
        }
        Err(Failure::Other(fault)) => {
            told(&[fault]);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the command's own errors, for its user")]
fn told(lines: &[String]) {
    for line in lines {
        eprintln!("{line}");
    }
}

/// Writes a line to stdout. Returns an error where `println!` would panic, as when `| head` has closed the pipe.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| Failure::other("stdout", error))
}

/// Builds the asynchronous runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the runtime cannot start", error))
}
