//! The result file beside the spreadsheet: one line per row, in the order of the file.
//!
//! It holds personal data, passwords and links that grant access, so only its owner may read it, and it is written
//! atomically. No cell contains a formula that a spreadsheet program would execute. The gateway returns an initial
//! password only once, so running the import again must never lose one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use csv::{QuoteStyle, ReaderBuilder, StringRecord, Writer, WriterBuilder};
use data_encoding::HEXLOWER;

use crate::commands::import::api_types::{Item, Launch, Problem, Progress, Resource};
use crate::commands::import::kind::{Kind, PASSWORD};
use crate::commands::process::new_private_file;
use crate::domain::system::System;
use crate::secret::Secret;

/// The first columns of every result; a previous result is recognised by them.
const HEAD: [&str; 5] = ["row", "itemId", "outcome", "status", "id"];
/// The last columns of every result.
const TAIL: [&str; 4] = ["problem", "detail", "errors", "warnings"];

/// Checks that the result can be written, so that an import does not fail at its end.
///
/// # Errors
/// A message for the user, without the path.
pub(super) fn check(output: &Path, input: &Path, environment: &System) -> Result<(), String> {
    match std::fs::metadata(output) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot be written: {error}")),
        Ok(metadata) if !metadata.is_file() => {
            return Err("is not a regular file; the result cannot be written there".to_owned());
        }
        Ok(_) => {
            let same = |path: &Path| path.canonicalize().ok();
            if same(output) == same(input) {
                return Err("is the file to import itself; name another with --output".to_owned());
            }
            if !is_result(output).map_err(|error| format!("cannot be read: {error}"))? {
                let what = "exists and is not the result of an import; move it away or name another file with --output";
                return Err(what.to_owned());
            }
        }
    }
    Temporary::beside(output, environment).map(drop).map_err(|error| format!("cannot be written: {error}"))
}

/// A result being written; it stays invisible until [`ResultFile::finish`].
pub(super) struct ResultFile<'a> {
    output: &'a Path,
    kind: Kind,
    writer: Writer<File>,
    temporary: Temporary,
    /// Passwords of the previous result that this one does not hold yet, by candidate id.
    former: HashMap<String, Secret>,
    counts: Progress,
    next: usize,
}

/// The outcome of a written result.
pub(super) struct WrittenRow {
    pub(super) counts: Progress,
    /// The new path of the previous result, if it holds passwords that the new one lacks.
    pub(super) kept: Option<PathBuf>,
}

impl<'a> ResultFile<'a> {
    /// Begins a result. `marked` adds a byte order mark, as in the input file.
    pub(super) fn create(output: &'a Path, kind: Kind, marked: bool, environment: &System) -> io::Result<Self> {
        let former = passwords(output)?;
        let (temporary, mut file) = Temporary::beside(output, environment)?;
        if marked {
            file.write_all(BYTE_ORDER_MARK)?;
        }
        let mut writer = WriterBuilder::new().quote_style(QuoteStyle::Always).from_writer(file);
        writer.write_record(HEAD.iter().chain(kind.columns()).chain(&TAIL))?;
        Ok(Self { output, kind, writer, temporary, former, counts: Progress::default(), next: 0 })
    }

    /// Writes the line of a row.
    ///
    /// # Errors
    /// I/O errors, and `InvalidData` if a row is repeated or out of order.
    pub(super) fn add(&mut self, item: Item) -> io::Result<()> {
        let Item { index, mark, status, outcome, resource, problem } = item;
        if index < self.next {
            return Err(io::Error::new(ErrorKind::InvalidData, "the gateway returned the rows out of order"));
        }
        self.next = index + 1;
        self.count(outcome.as_deref(), problem.as_ref());
        let Resource { id, external_id, user_name, initial_password, launch, warnings } = resource.unwrap_or_default();
        let Problem { code, detail, resource: place, errors, title: _, retryable: _ } = problem.unwrap_or_default();
        let id = id.or_else(|| Some(place?.rsplit('/').next()?.to_owned()));
        let errors = errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect::<Vec<_>>();
        let warnings = warnings.into_iter().map(|warning| warning.code).collect::<Vec<_>>();

        let mut cells = vec![Some((index + 1).to_string()), mark, outcome, status.map(|it| it.to_string())];
        let former = id.as_ref().and_then(|id| self.former.remove(id));
        cells.push(id);
        match self.kind {
            Kind::Candidates => cells.extend([external_id, user_name, initial_password]),
            Kind::Assignments => {
                let Launch { url, expires_at } = launch.unwrap_or_default();
                cells.extend([url, expires_at]);
            }
        }
        cells.extend([code, detail, Some(errors.join("; ")), Some(warnings.join("; "))]);
        let mut cells: Vec<Cow<'_, str>> = cells.iter().map(|cell| guarded(cell.as_deref().unwrap_or(""))).collect();
        if let (Kind::Candidates, Some(former)) = (self.kind, &former)
            && let Some(cell) = cells.get_mut(PASSWORD_COLUMN).filter(|cell| cell.is_empty())
        {
            // Copied verbatim: it already has its apostrophe, if it needs one.
            *cell = Cow::Borrowed(former.expose());
        }
        self.writer.write_record(cells.iter().map(AsRef::as_ref))?;
        Ok(())
    }

    /// Returns the counts of the rows written so far.
    pub(super) fn counts(&self) -> Progress {
        self.counts
    }

    /// Moves the result to its final path.
    pub(super) fn finish(mut self) -> io::Result<WrittenRow> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        let kept = if self.former.is_empty() { None } else { Some(free_name(self.output)?) };
        if let Some(kept) = &kept {
            std::fs::rename(self.output, kept)?;
        }
        self.temporary.become_file(self.output)?;
        Ok(WrittenRow { counts: self.counts, kept })
    }

    fn count(&mut self, outcome: Option<&str>, problem: Option<&Problem>) {
        let counts = &mut self.counts;
        counts.total += 1;
        match outcome {
            _ if problem.is_some_and(|problem| problem.is("skipped")) => counts.skipped += 1,
            Some("applied") => counts.applied += 1,
            Some("not_applied") => counts.not_applied += 1,
            // An outcome unknown to this version is not a success.
            _ => counts.unknown += 1,
        }
    }
}

const PASSWORD_COLUMN: usize = HEAD.len() + 2;

/// Puts an apostrophe before text that a spreadsheet program would take for a formula
/// (<https://owasp.org/www-community/attacks/CSV_Injection>).
///
/// In locales that separate lists by semicolons, a program may split the cell despite its quotation marks, since these
/// are not next to semicolons. So the text after every separator in use anywhere is treated as a cell of its own.
fn guarded(cell: &str) -> Cow<'_, str> {
    let mut guarded = String::new();
    let mut copied = 0;
    let mut at_start = true;
    for (place, sign) in cell.char_indices() {
        if (at_start && ['=', '+', '-', '@'].contains(&sign)) || (place == 0 && ['\t', '\r', '\n'].contains(&sign)) {
            guarded.push_str(&cell[copied..place]);
            guarded.push('\'');
            copied = place;
        }
        at_start = [';', '|', '\t', '\r', '\n'].contains(&sign) || (at_start && [' ', '"'].contains(&sign));
    }
    if copied == 0 && guarded.is_empty() {
        return Cow::Borrowed(cell);
    }
    guarded.push_str(&cell[copied..]);
    Cow::Owned(guarded)
}

fn is_result(path: &Path) -> io::Result<bool> {
    let mut first = csv::ByteRecord::new();
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_path(path)?;
    reader.read_byte_record(&mut first)?;
    Ok(first.iter().take(HEAD.len()).eq(HEAD.iter().map(|name| name.as_bytes())))
}

/// Reads the passwords of a previous result by candidate id.
fn passwords(path: &Path) -> io::Result<HashMap<String, Secret>> {
    let mut found = HashMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
    let place = |headers: &StringRecord, name: &str| headers.iter().position(|header| header == name);
    let headers = reader.headers()?;
    let (Some(id), Some(password)) = (place(headers, "id"), place(headers, PASSWORD)) else { return Ok(found) };
    for record in reader.records() {
        let record = record?;
        let cell = |place| record.get(place).filter(|cell: &&str| !cell.is_empty());
        if let (Some(id), Some(password)) = (cell(id), cell(password)) {
            found.insert(id.to_owned(), Secret::new(password));
        }
    }
    Ok(found)
}

/// Returns the first free name of `people.result.1.csv`, `people.result.2.csv`, … for `people.result.csv`.
fn free_name(path: &Path) -> io::Result<PathBuf> {
    let numbered = |number: usize| match path.extension() {
        Some(extension) => path.with_extension(format!("{number}.{}", extension.to_string_lossy())),
        None => path.with_extension(number.to_string()),
    };
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    (1..10_000).map(numbered).find(is_free).ok_or_else(|| ErrorKind::AlreadyExists.into())
}

/// A temporary file beside its target; removed on drop unless renamed to it.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn beside(path: &Path, environment: &System) -> io::Result<(Self, File)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_string_lossy().into_owned();
        let path = path.with_file_name(format!(".{name}.{}.tmp", HEXLOWER.encode(&environment.random::<8>())));
        let file = new_private_file(&path)?;
        Ok((Self(Some(path)), file))
    }

    fn become_file(&mut self, path: &Path) -> io::Result<()> {
        if let Some(own) = &self.0 {
            std::fs::rename(own, path)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // A leftover temporary file is harmless; there is no way to recover here.
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    fn written(folder: &TempDir, kind: Kind, items: &[Value]) -> io::Result<WrittenRow> {
        let (output, environment) =
            (folder.path().join("people.result.csv"), crate::commands::Process::current().environment);
        let mut file = ResultFile::create(&output, kind, false, &environment)?;
        for item in items {
            file.add(serde_json::from_value(item.clone()).unwrap())?;
        }
        file.finish()
    }

    fn text(folder: &TempDir) -> String {
        std::fs::read_to_string(folder.path().join("people.result.csv")).unwrap()
    }

    /// The table with every cell in quotation marks.
    fn quoted(table: &str) -> String {
        table.lines().fold(String::new(), |text, line| text + "\"" + &line.replace(',', "\",\"") + "\"\n")
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn applied(index: usize, id: &str, password: Option<&str>) -> Value {
        json!({ "index": index, "status": 201, "outcome": "applied", "resource": { "id": id, "initialPassword": password } })
    }

    #[test]
    fn formulas_get_an_apostrophe() {
        for cell in ["=1+1", "+1", "-1", "@a", "\ta", "\ra"] {
            assert_eq!(guarded(cell), format!("'{cell}"));
        }
        for cell in ["", "a=1", "'=1", "cand_1", "https://a.example/?a=-1", "a; b", "/a: b; /c: d"] {
            assert_eq!(guarded(cell), cell);
        }
    }

    #[test]
    fn formulas_after_separators_get_an_apostrophe() {
        for (cell, safe) in [
            ("a;=1+1;", "a;'=1+1;"),
            ("a; =1+1", "a; '=1+1"),
            ("=1;-2\n@x", "'=1;'-2\n'@x"),
            ("a\";\"=1", "a\";\"'=1"),
            ("a|+1\t+2", "a|'+1\t'+2"),
        ] {
            assert_eq!(guarded(cell), safe);
        }
    }

    #[test]
    fn every_row_is_counted_and_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let problem = |code: &str| {
            json!({ "code": code, "detail": "d", "errors": [
            { "pointer": "/a", "detail": "b" }, { "pointer": "/c", "detail": "d" } ] })
        };
        let done = written(
            &folder,
            Kind::Assignments,
            &[
                json!({ "index": 0, "itemId": "=x", "status": 201, "outcome": "applied", "resource": {
                "id": "asg_1", "launch": { "url": "https://a.example/#1", "expiresAt": "2027-01-01T00:00:00Z" },
                "warnings": [{ "code": "field_ignored", "detail": "x" }, { "code": "odd", "detail": "y" }] } }),
                json!({ "index": 1, "status": 422, "outcome": "not_applied", "problem": problem("validation_failed") }),
                json!({ "index": 2, "status": 424, "outcome": "not_applied", "problem": problem("skipped") }),
                json!({ "index": 4, "status": 504, "outcome": "unknown",
                "problem": { "code": "vendor_timeout", "resource": "/assignments/asg_5" } }),
                json!({ "index": 5, "outcome": "a word of tomorrow" }),
            ],
        )
        .unwrap();
        let Progress { total, applied, not_applied, unknown, skipped, pending: _ } = done.counts;
        assert_eq!([total, applied, not_applied, unknown, skipped], [5, 1, 1, 2, 1]);
        assert_eq!(
            text(&folder),
            quoted(
                "row,itemId,outcome,status,id,launchUrl,launchExpiresAt,problem,detail,errors,warnings\n\
                 1,'=x,applied,201,asg_1,https://a.example/#1,2027-01-01T00:00:00Z,,,,field_ignored; odd\n\
                 2,,not_applied,422,,,,validation_failed,d,/a: b; /c: d,\n\
                 3,,not_applied,424,,,,skipped,d,/a: b; /c: d,\n\
                 5,,unknown,504,asg_5,,,vendor_timeout,,,\n\
                 6,,a word of tomorrow,,,,,,,,\n"
            )
        );
        assert_eq!(names(&folder), ["people.result.csv"]);
    }

    #[test]
    fn rows_out_of_order_leave_the_previous_result_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        written(&folder, Kind::Candidates, &[applied(0, "cand_1", None)]).unwrap();
        let former = text(&folder);
        let twice = [applied(1, "cand_2", None), applied(1, "cand_2", None)];
        assert_eq!(written(&folder, Kind::Candidates, &twice).err().unwrap().kind(), ErrorKind::InvalidData);
        assert_eq!(text(&folder), former);
        assert_eq!(names(&folder), ["people.result.csv"]);
    }

    #[test]
    fn passwords_of_the_previous_result_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = [applied(0, "cand_1", Some("-secret-1")), applied(1, "cand_2", Some("secret-2"))];
        written(&folder, Kind::Candidates, &first).unwrap();
        let kept = written(&folder, Kind::Candidates, &[applied(0, "cand_1", None), applied(1, "cand_2", Some("new"))]);
        assert_eq!(kept.unwrap().kept, None);
        assert!(
            text(&folder).contains(quoted("cand_1,,,'-secret-1").trim_end())
                && text(&folder).contains(quoted("cand_2,,,new").trim_end())
        );

        let kept = written(&folder, Kind::Candidates, &[applied(0, "cand_3", None)]).unwrap().kept.unwrap();
        assert_eq!(names(&folder), ["people.result.1.csv", "people.result.csv"]);
        assert!(std::fs::read_to_string(kept).unwrap().contains("'-secret-1"));
        assert!(!text(&folder).contains("secret"));
    }

    #[test]
    fn only_a_previous_result_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("people.csv"), folder.path().join("people.result.csv"));
        let environment = crate::commands::Process::current().environment;
        let checked = |output: &Path| check(output, &input, &environment);
        std::fs::write(&input, "externalId\na\n").unwrap();
        assert_eq!(checked(&output), Ok(()));
        std::fs::write(&output, "row,name\n1,mine\n").unwrap();
        assert!(checked(&output).unwrap_err().starts_with("exists and is not the result of an import"));
        std::fs::write(&output, "\u{feff}row,itemId,outcome,status,id,more\n").unwrap();
        assert_eq!(checked(&output), Ok(()));
        assert!(checked(&input).unwrap_err().starts_with("is the file to import itself"));
        assert!(checked(folder.path()).unwrap_err().starts_with("is not a regular file"));
        assert!(checked(&folder.path().join("nowhere/a.csv")).unwrap_err().starts_with("cannot be written"));
        assert_eq!(names(&folder), ["people.csv", "people.result.csv"]);
    }
}
