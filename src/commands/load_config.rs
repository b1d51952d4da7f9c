//! Finds the configuration file and prepares the parts built from it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::process::describe_kind;
use crate::commands::{Failure, Process};
use crate::config::{self, ConfigError, HostAccess, Inspected, Sources, Startup};

const VARIABLE: &str = "EXAMGATE_CONFIG";
const DEFAULT: &str = "examgate.toml";

// Without a doc comment: it would become the description of each command that has the option.
#[derive(Args)]
pub(super) struct ConfigOption {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file [default: $EXAMGATE_CONFIG, then ./examgate.toml]"
    )]
    config: Option<PathBuf>,
}

impl ConfigOption {
    /// Returns the file that the command line names.
    pub(super) fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// Loads the configuration of this process: from `file`, else `$EXAMGATE_CONFIG`, else `./examgate.toml`.
///
/// # Errors
/// One line for each error.
pub(super) fn prepared(file: Option<&Path>, process: &Process) -> Result<Startup, Failure> {
    load(file, process, config::prepare)
}

/// Loads the configuration without creating anything: for inspection, or again for a running gateway.
///
/// # Errors
/// One line for each error.
pub(super) fn inspected(file: Option<&Path>, process: &Process) -> Result<Inspected, Failure> {
    load(file, process, config::inspect)
}

fn load<T>(
    file: Option<&Path>,
    process: &Process,
    read: fn(&Sources, &HostAccess<'_>) -> Result<T, Vec<ConfigError>>,
) -> Result<T, Failure> {
    let sources = sources(file, process)?;
    let machine = HostAccess { secrets: process, files: process, environment: &process.environment };
    Ok(read(&sources, &machine)?)
}

fn sources(file: Option<&Path>, process: &Process) -> Result<Sources, Failure> {
    let environment = process.variables(config::PREFIX).map_err(Failure::Usage)?;
    let named = file.map(Path::to_owned).or_else(|| process.variable(VARIABLE).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let hint =
            if error.kind() == ErrorKind::NotFound { "; `examgate config example` prints a starting file" } else { "" };
        let why = format!("{}: cannot be read: {}{hint}", path.display(), describe_kind(error.kind()));
        Failure::Usage(vec![match (&named, file) {
            (None, _) if error.kind() == ErrorKind::NotFound => nothing_found(),
            (None, _) => format!("{why}; name a file with --config FILE or {VARIABLE}"),
            (Some(_), None) => format!("{why} (named by {VARIABLE})"),
            (Some(_), Some(_)) => format!("{why} (named by --config)"),
        }])
    })?;
    Ok(Sources { file: Some((path, text)), environment })
}

/// Says where a configuration was looked for, and how to get one.
fn nothing_found() -> String {
    let here = std::path::absolute(DEFAULT).map_or_else(|_| DEFAULT.to_owned(), |path| path.display().to_string());
    format!(
        "no configuration: --config names no file, {VARIABLE} is not set, and {here} does not exist; create one with: \
         examgate config example > {DEFAULT}"
    )
}
