//! The command line and environment of an import, validated completely before anything is sent.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::super::{Failure, Process};
use crate::commands::gateway_options::{GatewayAccess, GatewayOptions};
use crate::commands::import::dry_run;
use crate::commands::import::read_options::ReadOptions;
use crate::commands::import::result::ResultTarget;
use crate::commands::import::table::{Table, TableRequest};
use crate::sheet::kind::Kind;

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
    #[command(flatten)]
    gateway: GatewayOptions,
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
    pub(super) gateway: GatewayAccess,
    pub(super) allows_damaged_ids: bool,
    pub(super) result: ResultTarget,
    pub(super) output: OutputFormat,
    pub(super) quiet: bool,
}

impl Job {
    /// Validates options, environment, file and output.
    ///
    /// # Errors
    /// [`Failure::Usage`] with every error found.
    pub(super) fn of(options: &Options, process: &Process) -> Result<Self, Failure> {
        let Options { read, connection, gateway, fail_on_errors, retry, only_failed, output, quiet, .. } = options;
        let mut faults = Vec::new();
        let gateway = gateway.access(process).map_err(|errors| faults.extend(errors));
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
        match (table, gateway) {
            (Ok(table), Ok(gateway)) if faults.is_empty() => Ok(Self {
                table,
                kind: read.kind(),
                connection: connection.clone().unwrap_or_default(),
                fail_on_errors: *fail_on_errors,
                retry: *retry,
                only_failed: *only_failed,
                gateway,
                allows_damaged_ids: read.allows_damaged_ids(),
                result,
                output: *output,
                quiet: *quiet,
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
}
