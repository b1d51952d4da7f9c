//! The command line and environment of an import, validated completely before anything is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use url::Url;

use super::super::{Failure, Process};
use crate::commands::import::kind::Kind;
use crate::commands::import::read_options::ReadOptions;
use crate::commands::import::result_file;
use crate::commands::import::table::{Table, TableRequest};
use crate::domain::units::ConfigDuration;
use crate::secret::{Secret, SecretRef};

const ADDRESS_VARIABLE: &str = "EXAMGATE_URL";
const KEY_VARIABLE: &str = "EXAMGATE_API_KEY";
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8080";

/// Send a table (CSV or Excel) to a running gateway and write the result of each row to a file beside it
#[derive(Args)]
#[command(after_help = HELP)]
pub(in crate::commands) struct Options {
    #[command(flatten)]
    pub(super) read: ReadOptions,
    /// The connection for all rows
    #[arg(
        long,
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new(),
        required_unless_present_any = ["list_layouts", "dry_run"]
    )]
    pub(super) connection: Option<String>,
    /// The gateway's address
    #[arg(
        long,
        value_name = "URL",
        help = "The gateway's address, with its base path if it has one [default: $EXAMGATE_URL, then \
                http://127.0.0.1:8080]"
    )]
    url: Option<String>,
    /// The file that holds the API key
    #[arg(long, value_name = "FILE", help = "The file that holds the API key [default: the key in $EXAMGATE_API_KEY]")]
    key_file: Option<String>,
    /// Stop sending after N failed rows and skip the rest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    fail_on_errors: Option<u32>,
    /// When the import has finished, retry the rows that are not applied once
    #[arg(long)]
    retry: bool,
    /// The result file [default: beside FILE, people.csv -> people.result.csv]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long to keep retrying while the gateway does not respond
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = patience)]
    patience: ConfigDuration,
}

/// Maximum of `--patience`.
const MAX_PATIENCE: ConfigDuration = ConfigDuration(Duration::from_hours(24 * 7));

fn patience(text: &str) -> Result<ConfigDuration, String> {
    let span = ConfigDuration::parse(text)?;
    if span <= MAX_PATIENCE { Ok(span) } else { Err(format!("must be at most {MAX_PATIENCE}")) }
}

const HELP: &str = "\
Examples:
  export EXAMGATE_API_KEY=egk_...
  examgate import people.csv --connection startexam-main
  examgate import orders.xlsx --connection startexam-main --kind assignments --time-zone Europe/Berlin
  examgate import export.csv --connection startexam-main --layout moodle --dry-run
  examgate import staff.csv --connection startexam-main --map "First Name=name.givenName" --ignore-unknown
  examgate import people.csv --connection main --url https://exams.example.com/exam-api --key-file key.txt

Column names are the fields of the API's request, nested fields with a dot; --map and --layout translate others:
  candidates   externalId,name.givenName,name.familyName,email
  assignments  candidate.externalId,assessment,validUntil

Encoding, separator and sheet are found in the file. Each row is sent as it is, and the gateway refuses what is wrong; \
--dry-run shows both before anything is sent.

Running the same command again is safe: the gateway recognises the file by its content and returns the same import, \
running or finished. A corrected file is a new import. Ctrl-C only stops watching; the import continues on the gateway.

The result has a line for each row: outcome, ids, launch link or initial password, problem. It can hold passwords and links \
that grant access, so only its owner can read it. A cell that a spreadsheet would execute (beginning with = + - @, tab or \
carriage return) is prefixed with an apostrophe, initial passwords included: omit it when you pass one on. The gateway \
returns an initial password only once; a later run keeps those of the previous result.

Exit code: 0 every row is applied; 1 a row failed, was skipped or is unknown, or another error occurred; 2 an error in \
command line, file or key, and nothing was sent.";

impl Options {
    /// Returns what decides how the table is read.
    pub(super) fn table_request(&self) -> TableRequest<'_> {
        TableRequest { read: &self.read, defaults: Vec::new(), only_failed: false }
    }
}

/// A validated import, ready to run.
pub(super) struct Job {
    pub(super) table: Table,
    pub(super) kind: Kind,
    pub(super) connection: String,
    pub(super) fail_on_errors: Option<u32>,
    pub(super) retry: bool,
    /// The gateway's address; a base path may follow the host.
    pub(super) address: Url,
    pub(super) key: Secret,
    pub(super) allows_damaged_ids: bool,
    pub(super) output: PathBuf,
    /// How long to retry while the gateway is unreachable.
    pub(super) patience: Duration,
}

impl Job {
    /// Validates options, environment, file and output.
    ///
    /// # Errors
    /// [`Failure::Usage`] with every error found.
    pub(super) fn of(options: &Options, process: &Process) -> Result<Self, Failure> {
        let Options { read, connection, url, key_file, fail_on_errors, retry, output, patience } = options;
        let mut faults = Vec::new();
        let key = key(key_file.as_deref(), process).map_err(|fault| faults.push(fault));
        let address = address(url.as_deref(), process).map_err(|fault| faults.push(fault));
        let table = Table::open(&options.table_request(), process).map_err(|mut found| faults.append(&mut found));
        let output = match (output, read.file()) {
            (Some(output), _) => Some(output.clone()),
            (None, Some(file)) => Some(beside(file)),
            (None, None) => {
                faults.push("--output: name a file for the result; the table comes from standard input".to_owned());
                None
            }
        };
        if let (Some(output), Some(file)) = (&output, read.file())
            && let Err(fault) = result_file::check(output, file, &process.environment)
        {
            faults.push(format!("{}: {fault}", output.display()));
        }
        match (table, address, key, output) {
            (Ok(table), Ok(address), Ok(key), Some(output)) if faults.is_empty() => Ok(Self {
                table,
                kind: read.kind(),
                connection: connection.clone().unwrap_or_default(),
                fail_on_errors: *fail_on_errors,
                retry: *retry,
                address,
                key,
                allows_damaged_ids: read.allows_damaged_ids(),
                output,
                patience: patience.0,
            }),
            _ => Err(Failure::Usage(faults)),
        }
    }
}

/// Returns the default output: `people.csv` -> `people.result.csv`.
fn beside(file: &Path) -> PathBuf {
    file.with_extension("result.csv")
}

fn key(file: Option<&str>, process: &Process) -> Result<Secret, String> {
    let (place, reference) = match file {
        Some(path) => (path, SecretRef::File(path.to_owned())),
        None => (KEY_VARIABLE, SecretRef::Env(KEY_VARIABLE.to_owned())),
    };
    let key = reference.resolve(process).map_err(|fault| match file {
        Some(_) => fault,
        None => format!("{fault}; set it to the API key, or name a file that holds the key with --key-file"),
    })?;
    // The key becomes a header value; report an invalid one without showing it.
    if key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    Err(format!("{place}: contains spaces, line breaks or other characters that are not valid in an API key"))
}

fn address(given: Option<&str>, process: &Process) -> Result<Url, String> {
    let (place, text) = match (given, process.variable(ADDRESS_VARIABLE)) {
        (Some(text), _) => ("--url", text),
        (None, Some(value)) => (ADDRESS_VARIABLE, value.to_str().unwrap_or_default()),
        (None, None) => ("the default address", DEFAULT_ADDRESS),
    };
    // Do not quote the text: it may hold a password.
    let fault = |why: &str| format!("{place}: {why}; expected an address such as https://exams.example.com/exam-api");
    let url = Url::parse(text).map_err(|error| fault(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("must not contain a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("must not have a query or a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_result_is_beside_the_input() {
        for (file, result) in [
            ("people.csv", "people.result.csv"),
            ("a/b/people.v2.csv", "a/b/people.v2.result.csv"),
            ("people", "people.result.csv"),
        ] {
            assert_eq!(beside(Path::new(file)), Path::new(result));
        }
    }

    #[test]
    fn accepts_only_valid_gateway_addresses() {
        let process = Process::current();
        for good in ["http://127.0.0.1:8080", "https://exams.example.com/exam-api/", "http://[::1]:1"] {
            assert!(address(Some(good), &process).is_ok(), "{good}");
        }
        for bad in [
            "",
            "exams.example.com",
            "localhost:8080",
            "ftp://exams.example.com",
            "https://me:hunter2@exams.example.com",
            "https://exams.example.com?connection=a",
            "https://exams.example.com#a",
        ] {
            let fault = address(Some(bad), &process).unwrap_err();
            assert!(fault.starts_with("--url: ") && !fault.contains("hunter2"), "{fault}");
        }
    }
}
