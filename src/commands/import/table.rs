//! The table to import: what is sent, and the rows as they stand in the spreadsheet.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord, WriterBuilder};
use data_encoding::HEXLOWER;

use super::input_file::{BYTE_ORDER_MARK, InputFile};
pub(super) use super::input_file::{Changed, SheetBody};
use crate::commands::Process;
use crate::commands::import::guard::{is_result_header, unguard};
use crate::commands::import::kind::Kind;
use crate::commands::import::read_options::ReadOptions;
use crate::commands::process::new_private_file;

/// Columns that a result never repeats.
const SECRETS: [&str; 2] = ["password", "photo"];

/// What decides how a table is read.
pub(super) struct TableRequest<'a> {
    pub(super) read: &'a ReadOptions,
    /// Cells for rows that have none in these columns.
    pub(super) defaults: Vec<(&'static str, String)>,
    /// Only rows of a result sheet that are not applied.
    pub(super) only_failed: bool,
}

/// A row as it stands in the spreadsheet.
pub(super) struct OriginalRow {
    pub(super) line: u64,
    pub(super) cells: Vec<String>,
}

/// A table, ready to be sent.
pub(super) struct Table {
    name: String,
    input: InputFile,
    header: Vec<String>,
    columns: Vec<String>,
    rows: Vec<(u64, Vec<String>)>,
    is_result: bool,
    _converted: Option<ConvertedFile>,
}

/// A file of converted content; removed on drop.
struct ConvertedFile(PathBuf);

impl Drop for ConvertedFile {
    fn drop(&mut self) {
        // A leftover temporary file is harmless; there is no way to recover here.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Table {
    /// Reads the table and converts it where it must be.
    ///
    /// # Errors
    /// Messages for the user.
    pub(super) fn open(request: &TableRequest<'_>, process: &Process) -> Result<Self, Vec<String>> {
        let name = request.read.file().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        Self::read(request, &name, process).map_err(|fault| vec![format!("{name}: {fault}")])
    }

    fn read(request: &TableRequest<'_>, name: &str, process: &Process) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
        let (mut input, mut converted) = if let Some(path) = request.read.file() {
            (InputFile::open(path)?, None)
        } else {
            let mut content = Vec::new();
            io::Read::read_to_end(&mut io::stdin().lock(), &mut content).map_err(|error| unreadable(&error))?;
            let file = spool(&content, process).map_err(|error| unreadable(&error))?;
            (InputFile::open(&file.0)?, Some(file))
        };
        let content = std::fs::read(&input.path).map_err(|error| unreadable(&error))?;
        let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
        let (mut header, mut rows) = parse(content).map_err(|error| unreadable(&error))?;
        let is_result = is_result_header(header.iter().map(String::as_str));
        if request.only_failed && !is_result {
            return Err("is not the result of an import; --only-failed needs its column result.outcome".to_owned());
        }
        if is_result {
            let outcome = header.iter().position(|name| name == "result.outcome");
            if request.only_failed {
                rows.retain(|(_, cells)| outcome.is_none_or(|at| cells.get(at).is_none_or(|cell| cell != "applied")));
            }
            let kept: Vec<usize> = (0..header.len()).filter(|at| !header[*at].starts_with("result.")).collect();
            let plain = |cells: &[String]| -> Vec<String> {
                kept.iter()
                    .map(|at| cells.get(*at).map(|cell| unguard(cell).into_owned()).unwrap_or_default())
                    .collect()
            };
            header = plain(&header);
            rows = rows.into_iter().map(|(line, cells)| (line, plain(&cells))).collect();
            if rows.is_empty() {
                return Err("has no row that is not applied".to_owned());
            }
        }
        let defaults: HashMap<&str, &String> = request.defaults.iter().map(|(name, cell)| (*name, cell)).collect();
        if is_result || !defaults.is_empty() {
            let content = convert(&header, &rows, &defaults).map_err(|error| unreadable(&error))?;
            let file = spool(&content, process).map_err(|error| unreadable(&error))?;
            input = InputFile::open(&file.0)?;
            converted = Some(file);
        }
        let kept: Vec<usize> = (0..header.len()).filter(|at| !SECRETS.contains(&header[*at].trim())).collect();
        let columns = kept.iter().map(|at| header[*at].clone()).collect();
        let cells = |cells: &[String]| kept.iter().map(|at| cells.get(*at).cloned().unwrap_or_default()).collect();
        let rows = rows.iter().map(|(line, row)| (*line, cells(row))).collect();
        Ok(Self { name: name.to_owned(), input, header, columns, rows, is_result, _converted: converted })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rows(&self) -> usize {
        self.input.rows
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    #[expect(clippy::unnecessary_wraps, reason = "rows kept in a file may be unreadable")]
    pub(super) fn original_rows(&self) -> io::Result<impl Iterator<Item = io::Result<OriginalRow>>> {
        Ok(self.rows.iter().map(|(line, cells)| Ok(OriginalRow { line: *line, cells: cells.clone() })))
    }

    #[expect(clippy::unused_self, reason = "a file of commas and UTF-8 needs no remark")]
    pub(super) fn notes(&self) -> &[String] {
        &[]
    }

    pub(super) fn has_column(&self, target: &str) -> bool {
        self.header.iter().any(|name| name.trim() == target)
    }

    pub(super) fn is_result(&self) -> bool {
        self.is_result
    }

    pub(super) fn length(&self) -> u64 {
        self.input.length
    }

    pub(super) fn key(&self, kind: Kind, connection: &str) -> String {
        self.input.key(kind, connection)
    }

    pub(super) async fn body(&self, head_start: Duration) -> io::Result<SheetBody> {
        self.input.body(head_start).await
    }
}

type Rows = Vec<(u64, Vec<String>)>;

fn parse(content: &[u8]) -> csv::Result<(Vec<String>, Rows)> {
    let mut reader = ReaderBuilder::new().flexible(true).has_headers(false).from_reader(content);
    let mut record = StringRecord::new();
    let (mut header, mut rows) = (Vec::new(), Vec::new());
    while reader.read_record(&mut record)? {
        let cells: Vec<String> = record.iter().map(str::to_owned).collect();
        let start = record.position().map_or(0, |place| usize::try_from(place.byte()).unwrap_or(0));
        // A record's position lies before the line break of the one before it and before empty lines.
        let breaks = content[start..].iter().take_while(|byte| b"\r\n".contains(byte)).filter(|byte| **byte == b'\n');
        let line = record.position().map_or(0, csv::Position::line) + breaks.count() as u64;
        if header.is_empty() {
            header = cells;
        } else {
            rows.push((line, cells));
        }
    }
    Ok((header, rows))
}

fn convert(header: &[String], rows: &Rows, defaults: &HashMap<&str, &String>) -> csv::Result<Vec<u8>> {
    let mut writer = WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let added: Vec<&str> =
        defaults.keys().copied().filter(|name| !header.iter().any(|known| known.trim() == *name)).collect();
    writer.write_record(header.iter().map(String::as_str).chain(added.iter().copied()))?;
    for (_, cells) in rows {
        let filled =
            cells.iter().enumerate().map(|(at, cell)| match header.get(at).map(|name| defaults.get(name.trim())) {
                Some(Some(default)) if cell.is_empty() => default.as_str(),
                _ => cell.as_str(),
            });
        writer.write_record(filled.chain(added.iter().map(|name| defaults[name].as_str())))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn spool(content: &[u8], process: &Process) -> io::Result<ConvertedFile> {
    let name = format!("examgate-import-{}.csv", HEXLOWER.encode(&process.environment.random::<8>()));
    let path: &Path = &std::env::temp_dir();
    let path = path.join(name);
    let mut file = new_private_file(&path)?;
    let converted = ConvertedFile(path);
    io::Write::write_all(&mut file, content)?;
    Ok(converted)
}
