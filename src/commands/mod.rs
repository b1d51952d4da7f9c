//! The command line: one file per command. Commands wire the modules together and hold no logic of their own.
//!
//! Exit codes: 0 success; 2 an error in command line or configuration, one line per error on stderr; 141 the reader of
//! stdout has gone; 1 anything else.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::ConfigError;

mod backup;
mod check;
mod completions;
mod config_example;
mod demo;
mod events;
mod gateway_options;
mod healthcheck;
mod import;
mod key;
mod listen;
mod load_config;
mod man;
mod open_store;
mod openapi;
mod output;
mod process;
mod read_list;
mod receivers;
mod reload;
mod restore;
mod results;
mod sandbox;
mod sandbox_config;
mod serve;
mod signals;
mod telemetry;

pub use process::Process;

/// The exit code of a command whose reader has gone, as a shell reports the end by SIGPIPE (128 + 13). The signal itself
/// stays ignored: it would also end the program when a client closes its connection.
const BROKEN_PIPE: u8 = 141;

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
    Results(results::Options),
    Events(events::Options),
    Receivers(receivers::Options),
    Listen(listen::Options),
    Backup(backup::Options),
    Restore(restore::Options),
    #[command(subcommand)]
    Config(config_example::Command),
    #[command(subcommand)]
    Key(key::Command),
    Openapi(openapi::Options),
    Completions(completions::Options),
    Man(man::Options),
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
    /// Stdout has no reader any more (`| head`): exit code 141, in silence.
    BrokenPipe,
}

impl Failure {
    fn other(what: &str, error: impl fmt::Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }

    /// Classifies an error of writing to stdout.
    fn stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::other("stdout", error),
        }
    }

    /// Returns the lines that describe the failure.
    fn into_lines(self) -> Vec<String> {
        match self {
            Self::Usage(lines) => lines,
            Self::Other(line) => vec![line],
            Self::BrokenPipe => Vec::new(),
        }
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Other(_) => 1,
            Self::BrokenPipe => BROKEN_PIPE,
        }
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
    let done = match Arguments::try_parse_from(&process.arguments) {
        Ok(arguments) => run_command(arguments.command, process),
        // Help and version are not errors and go to stdout; clap knows which is which.
        Err(shown) if shown.use_stderr() => {
            // Without a reader of stderr, the exit code has to do.
            let (Ok(()) | Err(_)) = shown.print();
            import::print_usage_error(Arguments::command(), process, &shown);
            return ExitCode::from(2);
        }
        Err(shown) => shown.print().map_err(Failure::stdout),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            print_errors(&failure.into_lines());
            ExitCode::from(code)
        }
    }
}

fn run_command(command: Command, process: &Process) -> Result<(), Failure> {
    match command {
        Command::Serve(options) => serve::run(&options, process),
        Command::Sandbox(options) => sandbox::run(&options, process),
        Command::Demo(options) => demo::run(&options, process),
        Command::Check(options) => check::run(&options, process),
        Command::Import(options) => import::run(&options, process),
        Command::Results(options) => results::run(&options, process),
        Command::Events(options) => events::run(&options, process),
        Command::Receivers(options) => receivers::run(&options, process),
        Command::Listen(options) => listen::run(&options, process),
        Command::Backup(options) => backup::run(&options, process),
        Command::Restore(options) => restore::run(&options, process),
        Command::Config(command) => config_example::run(&command),
        Command::Key(command) => key::run(&command, process),
        Command::Openapi(options) => openapi::run(&options),
        Command::Completions(options) => completions::run(&options, Arguments::command()),
        Command::Man(options) => man::run(&options, Arguments::command()),
        Command::Probe(options) => healthcheck::run(&options),
    }
}

/// Writes the command's own errors to stderr, each with one write: other processes may share it. Without a reader there, the
/// exit code has to do: `eprintln!` would panic.
fn print_errors(lines: &[String]) {
    let mut stderr = io::stderr().lock();
    for line in lines {
        if stderr.write_all(format!("{line}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Writes a line to stdout. Returns an error where `println!` would panic, as when `| head` has closed the pipe.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}").map_err(Failure::stdout)
}

/// Builds the asynchronous runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the runtime cannot start", error))
}
