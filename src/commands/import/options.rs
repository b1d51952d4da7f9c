//! The command line and environment of an import, validated completely before anything is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use url::Url;

use super::super::{Failure, Process};
use crate::commands::import::dry_run;
use crate::commands::import::kind::Kind;
use crate::commands::import::read_options::ReadOptions;
use crate::commands::import::result::ResultTarget;
use crate::commands::import::table::{Table, TableRequest};
use crate::domain::units::ConfigDuration;
use crate::secret::{Secret, SecretRef};

const ADDRESS_VARIABLE: &str = "EXAMGATE_URL";
const KEY_VARIABLE: &str = "EXAMGATE_API_KEY";
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8080";

/// Send a spreadsheet to a running gateway and write the result of each row to a sheet next to it
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
    /// What to do with a person or booking that the gateway has already
    #[arg(
        long,
        value_enum,
        help = "What to do with a person or booking that the gateway has already: candidates reuse, update or fail, \
                assignments reuse, create_new or fail. A cell in the column ifExists has precedence [default: reuse]"
    )]
    if_exists: Option<IfExists>,
    /// Stop sending after N failed rows and skip the rest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    fail_on_errors: Option<u32>,
    /// When the import has finished, retry the rows that are not applied once
    #[arg(long)]
    retry: bool,
    /// Send only the rows of a result sheet that are not applied
    #[arg(long)]
    only_failed: bool,
    /// The gateway's address
    #[arg(
        long,
        value_name = "URL",
        help_heading = GATEWAY,
        help = "The gateway's address, with its base path if it has one [default: $EXAMGATE_URL, then \
                http://127.0.0.1:8080]"
    )]
    url: Option<String>,
    /// The file that holds the API key
    #[arg(
        long,
        value_name = "FILE",
        help_heading = GATEWAY,
        help = "The file that holds the API key [default: the key in $EXAMGATE_API_KEY]"
    )]
    key_file: Option<String>,
    /// How long to keep retrying while the gateway does not respond
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = patience, help_heading = GATEWAY)]
    patience: ConfigDuration,
    /// The result sheet
    #[arg(
        long,
        value_name = "FILE",
        help_heading = RESULT,
        help = "The result sheet [default: beside FILE, people.csv -> people.result.csv; of standard input: standard \
                output]"
    )]
    result: Option<PathBuf>,
    /// Format of the summary on standard output
    #[arg(long, value_enum, default_value = "text", help_heading = RESULT)]
    pub(super) output: OutputFormat,
    /// Show no progress
    #[arg(long, help_heading = RESULT)]
    quiet: bool,
}

const GATEWAY: &str = "Gateway";
const RESULT: &str = "Result";

/// What to do with a person or booking that the gateway has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IfExists {
    /// return it as it is and say where it differs
    Reuse,
    /// change the person's record
    Update,
    /// book once more
    CreateNew,
    /// refuse the row
    Fail,
}

impl IfExists {
    /// Returns the API's word, if it has one for this kind.
    const fn word(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (Self::Reuse, _) => Some("reuse"),
            (Self::Fail, _) => Some("fail"),
            (Self::Update, Kind::Candidates) => Some("update"),
            (Self::CreateNew, Kind::Assignments) => Some("create_new"),
            (Self::Update, Kind::Assignments) | (Self::CreateNew, Kind::Candidates) => None,
        }
    }
}

/// The format of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// lines for people
    Text,
    /// one JSON document
    Json,
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
  examgate import staff.csv --connection startexam-main --map \"First Name=name.givenName\" --ignore-unknown
  examgate import people.result.csv --connection startexam-main --only-failed
  examgate import people.csv --connection main --url https://exams.example.com/exam-api --key-file key.txt

Column names are the fields of the API's request, nested fields with a dot; --map and --layout translate others:
  candidates   externalId,name.givenName,name.familyName,email
  assignments  candidate.externalId,assessment,validUntil

Encoding, separator and sheet are found in the file. Each row is sent as it is, and the gateway refuses what is wrong; \
--dry-run shows both before anything is sent.

Running the same command again is safe: the gateway recognises the file by its content and returns the same import, \
running or finished. A corrected file is a new import. Ctrl-C only stops watching; the import continues on the gateway.

The result sheet repeats every row and adds the columns result.line, result.outcome, result.id, launch link or initial \
password, problem and others. It can hold passwords and links that grant access, so only its owner can read it; a column \
password or photo is not repeated. Text that a spreadsheet would evaluate (beginning with = + - @, tab or line break) gets an \
apostrophe in front, initial passwords included: omit it when you pass one on. The gateway returns an initial password \
only once; a later run keeps those of the previous result. A result sheet can be imported again: apostrophes and result \
columns are removed, all rows are sent (or with --only-failed those that are not applied).

Exit code: 0 every row is applied; 1 a row failed, was skipped or is unknown, or the gateway failed midway (the message \
names the operation); 2 nothing was sent: an error in command line, file, key or rights, or the gateway is unreachable or \
refused the file.";

/// A validated import, ready to run.
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line")]
pub(super) struct Job {
    pub(super) table: Table,
    pub(super) kind: Kind,
    pub(super) connection: String,
    pub(super) fail_on_errors: Option<u32>,
    pub(super) retry: bool,
    pub(super) only_failed: bool,
    /// The gateway's address; a base path may follow the host.
    pub(super) address: Url,
    pub(super) key: Secret,
    pub(super) allows_damaged_ids: bool,
    pub(super) result: ResultTarget,
    pub(super) output: OutputFormat,
    pub(super) quiet: bool,
    /// How long to retry while the gateway is unreachable.
    pub(super) patience: Duration,
}

impl Job {
    /// Validates options, environment, file and output.
    ///
    /// # Errors
    /// [`Failure::Usage`] with every error found.
    pub(super) fn of(options: &Options, process: &Process) -> Result<Self, Failure> {
        let Options { read, connection, url, key_file, fail_on_errors, retry, only_failed, output, quiet, .. } =
            options;
        let mut faults = Vec::new();
        let key = key(key_file.as_deref(), process).map_err(|fault| faults.push(fault));
        let address = address(url.as_deref(), process).map_err(|fault| faults.push(fault));
        let request = options.table_request().map_err(|fault| faults.push(fault));
        let table = request.and_then(|request| Table::open(&request, process).map_err(|errors| faults.extend(errors)));
        let result = options.result_target();
        if let Err(fault) = result.check(read.file(), &process.environment) {
            faults.push(fault);
        }
        if result == ResultTarget::StandardOutput && *output == OutputFormat::Json {
            faults.push(
                "--output json: standard output takes either the summary or the result; add --result FILE".to_owned(),
            );
        }
        match (table, address, key) {
            (Ok(table), Ok(address), Ok(key)) if faults.is_empty() => Ok(Self {
                table,
                kind: read.kind(),
                connection: connection.clone().unwrap_or_default(),
                fail_on_errors: *fail_on_errors,
                retry: *retry,
                only_failed: *only_failed,
                address,
                key,
                allows_damaged_ids: read.allows_damaged_ids(),
                result,
                output: *output,
                quiet: *quiet,
                patience: options.patience.0,
            }),
            _ => Err(Failure::Usage(faults)),
        }
    }
}

impl Options {
    /// Shows what would be sent; see [`dry_run::run`].
    pub(super) fn preview(&self, process: &Process) -> Result<(), Failure> {
        let request = self.table_request().map_err(|fault| Failure::Usage(vec![fault]))?;
        dry_run::run(&request, self.connection.as_deref(), self.output == OutputFormat::Json, process)
    }

    /// Returns what decides how the table is read.
    ///
    /// # Errors
    /// A message if `--if-exists` has no meaning for what is imported.
    pub(super) fn table_request(&self) -> Result<TableRequest<'_>, String> {
        let kind = self.read.kind();
        let word = match self.if_exists {
            Some(if_exists) => Some(if_exists.word(kind).ok_or_else(|| no_meaning(kind))?),
            None => None,
        };
        let defaults = word.map(|word| ("ifExists", word.to_owned())).into_iter().collect();
        Ok(TableRequest { read: &self.read, defaults, only_failed: self.only_failed })
    }

    fn result_target(&self) -> ResultTarget {
        match (&self.result, self.read.file()) {
            (Some(result), _) => ResultTarget::File(result.clone()),
            (None, Some(file)) => ResultTarget::File(beside(file)),
            (None, None) => ResultTarget::StandardOutput,
        }
    }
}

fn no_meaning(kind: Kind) -> String {
    match kind {
        Kind::Candidates => "--if-exists create_new: candidates have reuse, update or fail".to_owned(),
        Kind::Assignments => {
            "--if-exists update: a booking cannot be changed; assignments have reuse, create_new or fail".to_owned()
        }
    }
}

/// Returns the default result: `people.csv` -> `people.result.csv`, and of a result the next one: `people.result.csv` ->
/// `people.result.2.csv`. The same file always has the same result, so that a command can be repeated.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let former = match stem.rsplit_once(".result") {
        Some((table, "")) => Some((table, 1)),
        Some((table, number)) => number.strip_prefix('.').and_then(|it| it.parse::<u32>().ok()).map(|it| (table, it)),
        None => None,
    };
    match former {
        Some((table, number)) => file.with_file_name(format!("{table}.result.{}.csv", number.saturating_add(1))),
        None => file.with_extension("result.csv"),
    }
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
            ("people.result.csv", "people.result.2.csv"),
            ("a/people.result.2.csv", "a/people.result.3.csv"),
            ("people.result.xlsx", "people.result.2.csv"),
            ("people.result.old.csv", "people.result.old.result.csv"),
            ("people.results.csv", "people.results.result.csv"),
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
