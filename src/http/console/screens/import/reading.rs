//! An uploaded table: its columns with what to send them as, what is wrong with its rows, and the bulk request it becomes.
//! It takes the parsers of the `import` command and the checks of the API, within memory that the limits here bound.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::entered::Entered;
use crate::domain::table::columns;
use crate::http::console::api::ConsoleError;
use crate::http::preview::{PreviewOptions, PreviewRow, preview_table};
use crate::sheet::blob::Blob;
use crate::sheet::column_letters::column_letters;
use crate::sheet::convert::{Conversion, Converted};
use crate::sheet::header::Header;
use crate::sheet::layout;
use crate::sheet::mapping::{Plan, Proposal, Rules};
use crate::sheet::notes;
use crate::sheet::source::{Source, SourceOptions, WorkbookLimits};
use crate::sheet::wording::Wording;

/// Maximum number of rows.
pub(super) const MAX_ROWS: usize = 10_000;
/// Maximum length of the bulk request, in bytes.
const MAX_CONTENT: usize = 16 << 20;
/// How large a workbook may be when it is inflated.
const LIMITS: WorkbookLimits = WorkbookLimits { kept: 32 << 20, sheets: 128 << 20 };
/// How many tables are read at a time; others wait.
const MAX_READERS: usize = 2;
/// How many rows are looked at for samples, how many samples a column has, and how long they may be.
const SAMPLED_ROWS: usize = 50;
const MAX_SAMPLES: usize = 3;
const MAX_SAMPLE: usize = 40;
/// How many errors of rows are shown.
const MAX_FAULTS: usize = 50;
/// Fields whose values are not shown.
const SECRET: [&str; 2] = ["password", "photo"];

/// What a table is and becomes.
#[derive(Default)]
pub(super) struct Review {
    /// The sheets of a workbook, the one that is read first.
    pub(super) sheets: Vec<String>,
    /// The line of the column names.
    pub(super) header_line: u64,
    pub(super) columns: Vec<Column>,
    /// What the columns were proposed for: if it changes, so do the proposals.
    pub(super) basis: String,
    /// Whether the table is the result of an import.
    pub(super) is_result: bool,
    /// What was guessed, left out and decided.
    pub(super) notes: Vec<String>,
    /// What is wrong with the table as a whole.
    pub(super) faults: Vec<String>,
    /// What would be sent, if nothing is wrong with the whole.
    pub(super) bulk: Option<Bulk>,
}

/// A column of the table.
pub(super) struct Column {
    pub(super) position: usize,
    pub(super) letter: String,
    pub(super) name: String,
    pub(super) samples: Vec<String>,
    /// The field it is sent as; empty if it is not sent.
    pub(super) target: String,
    /// Whether the field is a guess by the name.
    pub(super) is_guess: bool,
    /// The field of the caller's own that it may be sent as.
    pub(super) own: Option<String>,
}

impl Column {
    /// Returns whether it is sent as this field.
    pub(super) fn is_sent_as(&self, field: &str) -> bool {
        self.target == field
    }
}

/// The bulk request, with what the gateway says of its rows.
pub(super) struct Bulk {
    /// Its body.
    pub(super) content: Bytes,
    /// A word for what is sent, and where to.
    pub(super) digest: String,
    pub(super) rows: usize,
    /// The rows that the gateway would refuse.
    pub(super) wrong: usize,
    /// The first errors.
    pub(super) errors: Vec<RowError>,
    /// Whether a row has an id that a spreadsheet may have damaged.
    pub(super) has_damaged_ids: bool,
}

impl Bulk {
    /// Returns the number of rows that the gateway would accept.
    pub(super) fn accepted(&self) -> usize {
        self.rows - self.wrong
    }
}

/// An error of a row.
pub(super) struct RowError {
    pub(super) line: u64,
    /// The column, as a spreadsheet program names it, else the field.
    pub(super) place: String,
    pub(super) detail: String,
}

/// Reads a table in a thread of its own. Few are read at a time, since a workbook takes memory.
///
/// # Errors
/// The thread panicked: a fault of the gateway.
pub(super) async fn review(file: Bytes, entered: Entered) -> Result<Review, ConsoleError> {
    static READERS: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let readers = READERS.get_or_init(|| Arc::new(Semaphore::new(MAX_READERS)));
    // It is never closed.
    let permit = Arc::clone(readers).acquire_owned().await.ok();
    let read = tokio::task::spawn_blocking(move || {
        // The thread reads on if the caller hangs up, and keeps its place so long.
        let _permit = permit;
        read(file, &entered)
    })
    .await;
    read.map_err(|error| ConsoleError::Internal(format!("reading a table failed: {error}")))
}

fn read(file: Bytes, entered: &Entered) -> Review {
    let mut review = Review::default();
    if let Err(faults) = fill(&mut review, file, entered) {
        review.faults = faults;
    }
    review
}

fn fill(review: &mut Review, file: Bytes, entered: &Entered) -> Result<(), Vec<String>> {
    let one = |fault: String| vec![format!("The table {fault}.")];
    let mut rules = Rules {
        kind: entered.kind,
        maps: &[],
        ignore: &[],
        ignore_unknown: true,
        files: entered.layout.and_then(layout::find).into_iter().collect(),
        choices: None,
        wording: Wording::Form,
    };
    let faults = rules.check();
    if !faults.is_empty() {
        return Err(vec!["The layout is for candidates, not for bookings.".to_owned()]);
    }
    let options = SourceOptions {
        separator: None,
        encoding: entered.encoding,
        sheet: Some(entered.sheet.as_str()).filter(|name| !name.is_empty()),
        limits: LIMITS,
        wording: Wording::Form,
    };
    let source = Source::open(Blob::Memory(file), &options, &|cells| rules.count_known(cells)).map_err(one)?;
    if let Some((sheet, others)) = source.sheets() {
        review.sheets = [sheet].into_iter().chain(others.iter().map(String::as_str)).map(str::to_owned).collect();
    }
    let mut header = Header::find(&source, &rules).map_err(one)?;
    review.header_line = header.line;
    let samples = sample(&source, &header).map_err(one)?;
    // Cells beyond the header are columns, too.
    header.cells.resize(header.cells.len().max(samples.len()), String::new());
    review.basis = basis(entered, review.sheets.first(), &header.cells);
    review.columns = describe(&header, &rules, samples, entered, &review.basis);
    let choices: Vec<Option<String>> =
        review.columns.iter().map(|column| Some(column.target.clone()).filter(|target| !target.is_empty())).collect();
    rules.choices = Some(&choices);
    let plan =
        rules.plan(&header.cells).map_err(|faults| faults.iter().map(|fault| sentence(fault)).collect::<Vec<_>>())?;
    review.is_result = plan.is_result;
    convert(review, &source, &header, &plan, entered).map_err(one)
}

/// Describes the columns with what they are sent as: what was chosen, else what is proposed. A guess never competes with
/// another column.
fn describe(
    header: &Header,
    rules: &Rules<'_>,
    mut samples: Vec<Vec<String>>,
    entered: &Entered,
    basis: &str,
) -> Vec<Column> {
    let proposals: Vec<Proposal> = header.cells.iter().map(|name| rules.propose(name.trim())).collect();
    let known = proposals.iter().filter_map(|proposal| match proposal {
        Proposal::Known(target) => Some(target.clone()),
        Proposal::Guessed(_) | Proposal::LeaveOut => None,
    });
    let mut taken: BTreeSet<String> = known.collect();
    let chosen = entered.targets.as_ref().filter(|_| entered.basis == basis);
    let prefix = columns::open_prefix(entered.kind.bulk_item());
    samples.resize(header.cells.len(), Vec::new());
    let described = header.cells.iter().zip(proposals).zip(samples).enumerate();
    described
        .map(|(position, ((name, proposal), samples))| {
            let (proposed, is_guess) = match proposal {
                Proposal::Known(target) => (target, false),
                Proposal::Guessed(target) if taken.insert(target.clone()) => (target, true),
                Proposal::Guessed(_) | Proposal::LeaveOut => (String::new(), false),
            };
            let target = match chosen.and_then(|targets| targets.get(position)) {
                Some(target) if target.is_empty() || entered.kind.knows_column(target) => target.clone(),
                _ => proposed,
            };
            let name = name.trim().to_owned();
            let own = if target.starts_with(prefix) { target.clone() } else { format!("{prefix}{name}") };
            Column {
                position,
                letter: column_letters(position),
                samples: if SECRET.contains(&target.as_str()) { Vec::new() } else { samples },
                own: (!name.is_empty() || own == target).then_some(own),
                is_guess: is_guess && chosen.is_none(),
                name,
                target,
            }
        })
        .collect()
}

fn sentence(fault: &str) -> String {
    let mut letters = fault.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).chain(['.']).collect()
}

/// Reads samples of each column, also of those beyond the header.
fn sample(source: &Source, header: &Header) -> Result<Vec<Vec<String>>, String> {
    let mut samples: Vec<Vec<String>> = Vec::new();
    let mut rows = 0;
    source.read_rows(&mut |line, cells| {
        if line <= header.line {
            return Ok(true);
        }
        for (position, cell) in cells.iter().enumerate() {
            let cell = cell.trim();
            if cell.is_empty() {
                continue;
            }
            if samples.len() <= position {
                samples.resize(position + 1, Vec::new());
            }
            let shown: String = if cell.chars().count() > MAX_SAMPLE {
                cell.chars().take(MAX_SAMPLE).chain(['…']).collect()
            } else {
                cell.to_owned()
            };
            let column = &mut samples[position];
            if column.len() < MAX_SAMPLES && !column.contains(&shown) {
                column.push(shown);
            }
        }
        rows += 1;
        Ok(rows < SAMPLED_ROWS)
    })?;
    Ok(samples)
}

/// Returns a word for what the columns are proposed for.
fn basis(entered: &Entered, sheet: Option<&String>, cells: &[String]) -> String {
    digest([format!("{:?} {:?} {sheet:?} {cells:?}", entered.kind, entered.layout).as_bytes()])
}

fn digest<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    HEXLOWER.encode(&hasher.finalize()[..16])
}

fn convert(
    review: &mut Review,
    source: &Source,
    header: &Header,
    plan: &Plan<'_>,
    entered: &Entered,
) -> Result<(), String> {
    let defaults: Vec<_> = entered.if_exists.iter().map(|word| ("ifExists", word.clone())).collect();
    let conversion = Conversion {
        source,
        plan,
        header_line: header.line,
        times: &entered.times,
        defaults: &defaults,
        only_failed: entered.only_failed && plan.is_result,
        allows_damaged_ids: entered.allows_damaged_ids,
    };
    let mut content = Bounded::default();
    let rows = Cell::new(0);
    let converted = conversion.run(&mut content, &mut |_, _| {
        rows.set(rows.get() + 1);
        if rows.get() > MAX_ROWS { Err(io::Error::other("too many rows")) } else { Ok(()) }
    });
    let converted = converted.map_err(|fault| {
        if rows.get() > MAX_ROWS {
            format!("has more than {MAX_ROWS} rows; split it, or import it with the command examgate import")
        } else if content.is_full {
            "is too large; split it, or import it with the command examgate import".to_owned()
        } else {
            fault
        }
    })?;
    review.notes = notes::of(source, header.title_rows, plan, &converted.remarks, &entered.times);
    if converted.lines.is_empty() {
        return Err(notes::no_rows(&converted.remarks));
    }
    review.bulk = Some(check_rows(content.bytes.into(), &converted, plan, header, entered)?);
    Ok(())
}

/// Has the rows checked as the API checks them.
fn check_rows(
    content: Bytes,
    converted: &Converted,
    plan: &Plan<'_>,
    header: &Header,
    entered: &Entered,
) -> Result<Bulk, String> {
    let options = PreviewOptions {
        kind: entered.kind.bulk_item(),
        connection: Some(entered.connection.clone()).filter(|name| !name.is_empty()),
        allow_damaged_ids: entered.allows_damaged_ids,
    };
    let (mut rows, mut wrong, mut has_damaged_ids, mut errors) = (0, 0, false, Vec::new());
    let read = preview_table(content.as_ref(), options, |PreviewRow { result, .. }| {
        let line = converted.lines.get(rows).copied().unwrap_or_default();
        rows += 1;
        if let Err(error) = result {
            wrong += 1;
            has_damaged_ids |= error.errors.iter().any(|field| field.code == "damaged_id");
            for field in error.errors {
                if errors.len() < MAX_FAULTS {
                    let place = place_of(&field.pointer, plan, header);
                    errors.push(RowError { line, place, detail: field.detail });
                }
            }
        }
    });
    read.map_err(|error| {
        let details: Vec<String> = error.errors.into_iter().map(|field| field.detail).collect();
        let detail = if details.is_empty() { error.detail } else { details.join("; ") };
        format!("would be refused as a whole: {}", detail.trim_end_matches('.'))
    })?;
    let choices = format!("{} {}", entered.fail_on_errors, entered.allows_damaged_ids);
    let digest = digest([entered.kind.word().as_bytes(), entered.connection.as_bytes(), choices.as_bytes(), &content]);
    Ok(Bulk { content, digest, rows, wrong, errors, has_damaged_ids })
}

/// Names the column that a field came from, else the field.
fn place_of(pointer: &str, plan: &Plan<'_>, header: &Header) -> String {
    let name = pointer.trim_start_matches('/').replace('/', ".");
    let target = plan.targets.iter().find(|target| target.name == name);
    match target.and_then(|target| target.sources.first()) {
        Some(position) => {
            let column = header.cells.get(*position).map_or("", |cell| cell.trim());
            format!("{} {column}", column_letters(*position))
        }
        None => name,
    }
}

/// A writer into memory, up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_CONTENT {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
