//! The table of an import: read, converted and validated before anything is sent. It reports errors of the whole table;
//! the gateway judges the rows.

use std::io;
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord, WriterBuilder};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::commands::Process;
use crate::commands::import::content::{Content, HashingWriter, SheetBody};
use crate::commands::import::read_options::ReadOptions;
use crate::commands::import::temporary::{create_nameless, open_table};
use crate::sheet::blob::{Blob, BlobReader};
use crate::sheet::convert::{Conversion, Converted};
use crate::sheet::header::Header;
use crate::sheet::kind::Kind;
use crate::sheet::layout;
use crate::sheet::layout::file::LayoutFile;
use crate::sheet::mapping::{Plan, Rules};
use crate::sheet::notes;
use crate::sheet::source::{self, Source};
use crate::sheet::wording::Wording;

/// What decides how a table is read.
pub(super) struct TableRequest<'a> {
    pub(super) read: &'a ReadOptions,
    /// Cells for rows that have none in this column, e.g. `("ifExists", "update")`.
    pub(super) defaults: Vec<(&'static str, String)>,
    /// Whether rows of a result that are applied are left out.
    pub(super) only_failed: bool,
}

/// A validated table, ready to be sent.
pub(super) struct Table {
    name: String,
    content: Content,
    originals: Blob,
    columns: Vec<String>,
    /// The columns sent.
    targets: Vec<String>,
    lines: Vec<u64>,
    notes: Vec<String>,
    is_result: bool,
    allows_damaged_ids: bool,
}

/// A row as it was in the table.
pub(super) struct OriginalRow {
    pub(super) line: u64,
    /// As many cells as [`Table::columns`].
    pub(super) cells: Vec<String>,
}

impl Table {
    /// Opens, converts and validates the table.
    ///
    /// # Errors
    /// Messages for the user, with the file's name and without its content.
    pub(super) fn open(request: &TableRequest<'_>, process: &Process) -> Result<Self, Vec<String>> {
        let read = request.read;
        let name = read.name();
        let map_file = read.map_file().map(read_map_file).transpose().map_err(|fault| vec![fault])?;
        let rules = Rules {
            kind: read.kind(),
            maps: read.maps(),
            ignore: read.ignore(),
            ignore_unknown: read.ignores_unknown(),
            choices: None,
            wording: Wording::Options,
            files: map_file.iter().chain(read.layout().and_then(layout::find)).collect(),
        };
        let faults = rules.check();
        if !faults.is_empty() {
            return Err(faults);
        }
        let named = |fault: String| format!("{name}: {fault}");
        let file = open_table(read.file(), process).map_err(|error| vec![named(source::unreadable(error))])?;
        let source = Source::open(file.into(), &read.source(), &|cells| rules.count_known(cells))
            .map_err(|fault| vec![named(fault)])?;
        let header = Header::find(&source, &rules).map_err(|fault| vec![named(fault)])?;
        let plan = rules.plan(&header.cells).map_err(|mut faults| {
            match &source.wrong_separator {
                // The other cures would be misleading.
                Some(fault) if rules.count_known(&header.cells) == 0 => faults = vec![fault.clone()],
                _ => faults.extend(source.other_sheets.clone()),
            }
            faults.into_iter().map(named).collect::<Vec<_>>()
        })?;
        Self::convert(request, &source, &header, &plan, process, name.clone()).map_err(|fault| vec![named(fault)])
    }

    fn convert(
        request: &TableRequest<'_>,
        source: &Source,
        header: &Header,
        plan: &Plan<'_>,
        process: &Process,
        name: String,
    ) -> Result<Self, String> {
        let times = request.read.times();
        let TableRequest { read, defaults, only_failed } = request;
        let only_failed = *only_failed;
        if only_failed && !plan.is_result {
            return Err("is not the result of an import; --only-failed needs its column result.outcome".to_owned());
        }
        let (header_line, allows_damaged_ids) = (header.line, read.allows_damaged_ids());
        let conversion =
            Conversion { source, plan, header_line, times: &times, defaults, only_failed, allows_damaged_ids };
        let work = Work { conversion, process };
        // What the gateway reads as it is stays as it is, down to its idempotency key.
        let unchanged = match source.plain_start().filter(|_| header.is_first && plan.is_identity) {
            Some(start) => work.check_plain(start)?,
            None => None,
        };
        let (content, originals, converted) = match unchanged {
            Some(unchanged) => unchanged,
            None => work.write_converted()?,
        };
        if converted.lines.is_empty() {
            return Err(notes::no_rows(&converted.remarks));
        }
        let mut targets: Vec<String> = plan.targets.iter().map(|target| target.name.clone()).collect();
        targets.extend(defaults.iter().map(|(name, _)| (*name).to_owned()));
        Ok(Self {
            name,
            content,
            originals,
            columns: plan.shown.iter().map(|position| header.cells[*position].trim().to_owned()).collect(),
            targets,
            notes: notes::of(source, header.title_rows, plan, &converted.remarks, &times),
            lines: converted.lines,
            is_result: plan.is_result,
            allows_damaged_ids,
        })
    }

    /// Returns the table's name as the user gave it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of rows sent.
    pub(super) fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Returns the line of a row as an editor shows it, in a workbook the number of the row; 0 if there is no such row.
    pub(super) fn line(&self, index: usize) -> u64 {
        self.lines.get(index).copied().unwrap_or_default()
    }

    /// Returns the names of the columns that a result may repeat.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the rows as they were in the table, in the order they are sent.
    pub(super) fn original_rows(&self) -> OriginalRows {
        let reader =
            ReaderBuilder::new().has_headers(false).flexible(true).from_reader(BlobReader::new(&self.originals, 0));
        OriginalRows { reader, width: self.columns.len() }
    }

    /// Returns what the user should know before the table is sent.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns whether this column of the gateway is sent.
    pub(super) fn has_column(&self, target: &str) -> bool {
        self.targets.iter().any(|name| name == target)
    }

    /// Returns whether the table is the result of an import.
    pub(super) fn is_result(&self) -> bool {
        self.is_result
    }

    /// Returns the number of bytes sent.
    pub(super) fn length(&self) -> u64 {
        self.content.length
    }

    /// Returns the `Idempotency-Key` of this content: the same content for the same connection is the same import,
    /// whatever the file's name and whenever it is sent.
    pub(super) fn key(&self, kind: Kind, connection: &str) -> String {
        let mut hasher = Sha256::new();
        // Neither the kind nor a connection's name contains a NUL.
        for part in [kind.word(), "\0", connection, "\0"] {
            hasher.update(part);
        }
        hasher.update(self.content.hash);
        if self.allows_damaged_ids {
            hasher.update("\0allowDamagedIds");
        }
        format!("import-{}", HEXLOWER.encode(&hasher.finalize()))
    }

    /// Returns the content as a streamed body; see [`Content::body`].
    pub(super) fn body(&self, head_start: Duration) -> SheetBody {
        self.content.body(head_start)
    }

    /// Returns a reader of the content.
    pub(super) fn reader(&self) -> impl io::Read {
        self.content.reader()
    }
}

/// The rows of a table as they were in it.
pub(super) struct OriginalRows {
    reader: csv::Reader<BlobReader>,
    width: usize,
}

impl Iterator for OriginalRows {
    type Item = io::Result<OriginalRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Err(error) => Some(Err(error.into())),
            Ok(true) => {
                let line = record.get(0).and_then(|line| line.parse().ok()).unwrap_or_default();
                let cells = record.iter().skip(1).take(self.width).map(str::to_owned).collect();
                Some(Ok(OriginalRow { line, cells }))
            }
        }
    }
}

fn read_map_file(path: &std::path::Path) -> Result<LayoutFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    LayoutFile::parse(&text).map_err(|fault| format!("{}: {fault}", path.display()))
}

type Readied = (Content, Blob, Converted);

/// A conversion and where its temporary files come from.
struct Work<'a> {
    conversion: Conversion<'a>,
    process: &'a Process,
}

impl Work<'_> {
    /// Returns the file itself as the content if the conversion would change nothing.
    fn check_plain(&self, start: u64) -> Result<Option<Readied>, String> {
        let (converted, originals) = self.convert(io::sink())?;
        if converted.has_changed {
            return Ok(None);
        }
        let content = Content::read(self.conversion.source.content.clone(), start).map_err(unreadable)?;
        Ok(Some((content, originals, converted)))
    }

    fn write_converted(&self) -> Result<Readied, String> {
        let file = create_nameless(self.process).map_err(unwritable)?;
        let mut writer = HashingWriter::new(&file);
        let (converted, originals) = self.convert(&mut writer)?;
        let (length, hash) = writer.finish().map_err(unwritable)?;
        Ok((Content::written(file.into(), length, hash), originals, converted))
    }

    fn convert(&self, output: impl io::Write) -> Result<(Converted, Blob), String> {
        let file = create_nameless(self.process).map_err(unwritable)?;
        let mut originals = WriterBuilder::new().flexible(true).from_writer(&file);
        let converted = self.conversion.run(output, &mut |line, cells| {
            originals.write_field(line.to_string())?;
            originals.write_record(cells)?;
            Ok(())
        })?;
        originals.flush().map_err(unwritable)?;
        drop(originals);
        Ok((converted, file.into()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unwritable(error: io::Error) -> String {
    format!("no temporary file can be written ({error}); name a folder with TMPDIR")
}

#[cfg(test)]
mod tests;
