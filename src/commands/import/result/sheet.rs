//! The result sheet: the rows of the spreadsheet as they were, each with the columns of its result (`result.…`).
//!
//! It holds personal data, passwords and links that grant access, so only its owner may read it, and it is written
//! whole or not at all. No cell contains a formula that a spreadsheet program would evaluate. The gateway returns an
//! initial password only once, so running the import again must never lose one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};

use super::former::{ID, PASSWORD, is_result, read_passwords};
use super::temporary_file::{TemporaryFile, free_name};
use crate::commands::import::api_types::{BookedCandidate, Item, Problem, Resource};
use crate::domain::system::System;
use crate::domain::table::formulas::guard;
use crate::secret::Secret;
use crate::sheet::kind::Kind;
use crate::sheet::zeros;

/// Without it, Excel takes UTF-8 for the encoding of its locale.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first columns of every result.
const FIRST: [&str; 4] = ["result.line", "result.outcome", ID, "result.state"];
/// The last columns of every result.
const LAST: [&str; 8] = [
    "result.differs",
    "result.warnings",
    "result.code",
    "result.detail",
    "result.vendorCode",
    "result.vendorMessage",
    "result.pointer",
    zeros::COLUMN,
];

/// Returns the columns between those of every kind.
const fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Candidates => &["result.userName", PASSWORD],
        Kind::Assignments => &[
            "result.candidate",
            "result.assessment",
            "result.validFrom",
            "result.validUntil",
            "result.launchUrl",
            "result.launchExpiresAt",
        ],
    }
}

/// Where the result goes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands::import) enum ResultTarget {
    File(PathBuf),
    StandardOutput,
}

impl ResultTarget {
    /// Checks that the result can be written, so that an import does not fail at its end.
    ///
    /// # Errors
    /// A message for the user, with the path.
    pub(in crate::commands::import) fn check(&self, input: Option<&Path>, environment: &System) -> Result<(), String> {
        let Self::File(output) = self else { return Ok(()) };
        check_file(output, input, environment).map_err(|fault| format!("{}: {fault}", output.display()))
    }

    /// Returns the path of the file.
    pub(in crate::commands::import) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::StandardOutput => None,
        }
    }
}

fn check_file(output: &Path, input: Option<&Path>, environment: &System) -> Result<(), String> {
    match std::fs::metadata(output) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot be written: {error}")),
        Ok(metadata) if !metadata.is_file() => {
            return Err("is not a regular file; the result cannot be written there".to_owned());
        }
        Ok(_) => {
            if input.is_some_and(|input| output.canonicalize().ok() == input.canonicalize().ok()) {
                return Err("is the file to import itself; name another with --result".to_owned());
            }
            if !is_result(output).map_err(|error| format!("cannot be read: {error}"))? {
                let what = "exists and is not the result of an import; move it away or name another file with --result";
                return Err(what.to_owned());
            }
        }
    }
    TemporaryFile::beside(output, environment).map(drop).map_err(|error| format!("cannot be written: {error}"))
}

/// A result being written; it stays invisible until [`ResultSheet::finish`].
pub(in crate::commands::import) struct ResultSheet<'a> {
    kind: Kind,
    writer: Writer<Sink<'a>>,
    /// Initial passwords of the earlier result that this one does not hold yet, by candidate id.
    former: HashMap<String, Secret>,
    original_columns: Vec<String>,
}

/// Where the lines are kept until the result is whole.
enum Sink<'a> {
    File { output: &'a Path, temporary: TemporaryFile, file: File },
    Memory(Vec<u8>),
}

impl Write for Sink<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(buffer),
            Self::Memory(content) => content.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Memory(content) => content.flush(),
        }
    }
}

/// What became of a finished result.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::commands::import) struct Finish {
    /// The new path of the earlier result, if it holds initial passwords that the new one lacks.
    pub(in crate::commands::import) kept: Option<PathBuf>,
    /// The whole sheet, if it goes to standard output.
    pub(in crate::commands::import) content: Option<Vec<u8>>,
}

impl<'a> ResultSheet<'a> {
    /// Begins a result for a spreadsheet with these columns.
    pub(in crate::commands::import) fn create(
        target: &'a ResultTarget,
        kind: Kind,
        original_columns: &[String],
        environment: &System,
    ) -> io::Result<Self> {
        let (mut sink, former) = match target {
            ResultTarget::File(output) => {
                let former = read_passwords(output)?;
                let (temporary, file) = TemporaryFile::beside(output, environment)?;
                (Sink::File { output, temporary, file }, former)
            }
            ResultTarget::StandardOutput => (Sink::Memory(Vec::new()), HashMap::new()),
        };
        sink.write_all(BYTE_ORDER_MARK)?;
        let mut writer =
            WriterBuilder::new().quote_style(QuoteStyle::Always).terminator(Terminator::CRLF).from_writer(sink);
        let own = FIRST.iter().chain(columns(kind)).chain(&LAST).map(|name| Cow::Borrowed(*name));
        let header = original_columns.iter().map(|name| guard(name)).chain(own);
        writer.write_record(header.map(|name| name.into_owned().into_bytes()))?;
        Ok(Self { kind, writer, former, original_columns: original_columns.to_vec() })
    }

    /// Writes the line of a row: its cells in the spreadsheet, then its result.
    pub(in crate::commands::import) fn add(&mut self, line: u64, original: &[String], item: &Item) -> io::Result<()> {
        let (no_resource, no_problem) = (Resource::default(), Problem::default());
        let resource = item.resource.as_ref().unwrap_or(&no_resource);
        let problem = item.problem.as_ref().unwrap_or(&no_problem);
        let id = resource.id.as_deref().or_else(|| problem.resource.as_deref()?.rsplit('/').next());
        let former = id.and_then(|id| self.former.remove(id));

        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut result =
            vec![line.to_string(), text(&item.outcome), id.unwrap_or("").to_owned(), text(&resource.state)];
        match self.kind {
            Kind::Candidates => {
                let password = resource.initial_password.as_deref().filter(|password| !password.is_empty());
                let password = password.or(former.as_ref().map(Secret::expose)).unwrap_or("");
                result.extend([text(&resource.user_name), password.to_owned()]);
            }
            Kind::Assignments => result.extend(booking_cells(resource)),
        }
        let warnings = resource.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>();
        result.extend([item.differing_fields().collect::<Vec<_>>().join("; "), distinct(warnings).join("; ")]);
        result.extend(problem_cells(problem, item.problem.is_some()));

        let named = self.original_columns.iter().zip(original);
        result.push(zeros::note(named.map(|(name, cell)| (name.as_str(), cell.as_str()))));

        let cells = (0..self.original_columns.len()).map(|place| original.get(place).map_or("", String::as_str));
        let cells = cells.chain(result.iter().map(String::as_str)).map(|cell| guard(cell).into_owned().into_bytes());
        self.writer.write_record(cells)?;
        Ok(())
    }

    /// Moves the result to its final path, or returns it for standard output.
    pub(in crate::commands::import) fn finish(self) -> io::Result<Finish> {
        let former = self.former;
        match self.writer.into_inner().map_err(csv::IntoInnerError::into_error)? {
            Sink::Memory(content) => Ok(Finish { kept: None, content: Some(content) }),
            Sink::File { output, mut temporary, file } => {
                file.sync_all()?;
                let kept = if former.is_empty() { None } else { Some(free_name(output)?) };
                if let Some(kept) = &kept {
                    std::fs::rename(output, kept)?;
                }
                temporary.become_file(output)?;
                Ok(Finish { kept, content: None })
            }
        }
    }
}

fn booking_cells(resource: &Resource) -> [String; 6] {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let launch = resource.launch.as_ref();
    let candidate = resource.candidate.as_ref().and_then(|candidate| {
        let BookedCandidate { id, external_id, email } = candidate;
        external_id.as_ref().or(email.as_ref()).or(id.as_ref())
    });
    [
        text(candidate),
        text(resource.assessment.as_ref()),
        text(resource.valid_from.as_ref()),
        text(resource.valid_until.as_ref()),
        text(launch.and_then(|launch| launch.url.as_ref())),
        text(launch.and_then(|launch| launch.expires_at.as_ref())),
    ]
}

fn problem_cells(problem: &Problem, is_present: bool) -> [String; 5] {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let vendor = problem.vendor.as_ref();
    let pointers = problem.errors.iter().map(|error| error.pointer.as_str()).filter(|pointer| !pointer.is_empty());
    [
        text(problem.code.as_ref()),
        if is_present { problem.explanation() } else { String::new() },
        text(vendor.and_then(|vendor| vendor.code.as_ref())),
        text(vendor.and_then(|vendor| vendor.message.as_ref())),
        distinct(pointers.collect()).join("; "),
    ]
}

/// Returns the words in their order, each once.
fn distinct(words: Vec<&str>) -> Vec<&str> {
    words.into_iter().fold(Vec::new(), |mut kept, word| {
        if !kept.contains(&word) {
            kept.push(word);
        }
        kept
    })
}

#[cfg(test)]
mod tests;
