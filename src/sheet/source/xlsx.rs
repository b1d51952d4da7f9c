//! Rows of an Excel workbook (.xlsx), read one at a time: a sheet of any length takes no more memory than its texts.

use std::cell::Cell;
use std::io::{self, BufReader};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use calamine::{DataRef, ExcelDateTime, Reader as _, Sheet, SheetType, SheetVisible, Xlsx, XlsxError};
use jiff::civil::{DateTime, DateTimeRound, Time};
use jiff::{RoundMode, Unit};

use crate::sheet::blob::{Blob, BlobReader};
use crate::sheet::column_letters::column_letters;
use crate::sheet::source::csv::MAX_COLUMNS;
use crate::sheet::source::number_format::{CellFormat, CellFormats, NumberFormat};
use crate::sheet::source::row::{CellCheck, OddCell, RowVisitor};
use crate::sheet::source::{SourceOptions, archive};

type Workbook = Xlsx<BufReader<BlobReader>>;

/// How many cells that are refused are named.
const MAX_REFUSED: usize = 10;

/// Numbers from here on have more digits than a spreadsheet keeps.
const FIRST_INEXACT: f64 = 1e15;

/// The sheet of a workbook that is read.
pub(super) struct ChosenSheet {
    pub(super) name: String,
    /// The names of the other sheets that the workbook shows.
    pub(super) others: Vec<String>,
}

/// Chooses the sheet: the one named, else the first that is visible.
///
/// # Errors
/// A sentence about the workbook or its sheets.
pub(super) fn choose_sheet(file: &Blob, options: &SourceOptions<'_>) -> Result<ChosenSheet, String> {
    let SourceOptions { sheet: given, limits, wording, .. } = *options;
    archive::check(BufReader::new(BlobReader::new(file, 0)), limits).map_err(|error| error.to_string())?;
    caught(|| {
        let workbook = open(file)?;
        let sheets = || workbook.sheets_metadata().iter().filter(|sheet| sheet.typ == SheetType::WorkSheet);
        let is_visible = |sheet: &&Sheet| sheet.visible == SheetVisible::Visible;
        let chosen = match given {
            Some(name) => sheets().find(|sheet| sheet.name == name),
            None => sheets().find(is_visible),
        };
        let names = || sheets().map(|sheet| format!("{:?}", sheet.name)).collect::<Vec<_>>().join(", ");
        match (chosen, given) {
            (Some(sheet), _) => {
                let others = sheets().filter(is_visible).map(|other| other.name.clone());
                Ok(ChosenSheet {
                    name: sheet.name.clone(),
                    others: others.filter(|name| *name != sheet.name).collect(),
                })
            }
            (None, Some(name)) => {
                let option = wording.choose(" (--sheet)", "");
                Err(format!("has no sheet {name:?}{option}; it has {}", names()))
            }
            (None, None) => {
                Err(format!("has no visible sheet; {}", wording.choose("name one with --sheet", "make one visible")))
            }
        }
    })
}

/// Passes each row that is not empty, with its number, to `each` until that returns false.
///
/// # Errors
/// A sentence about the workbook, or about the cells that `must_refuse` rejects; and the errors of `each`.
pub(super) fn read_rows(
    file: &Blob,
    sheet: &str,
    must_refuse: &CellCheck<'_>,
    each: &mut RowVisitor<'_>,
) -> Result<(), String> {
    caught(|| {
        let mut workbook = open(file)?;
        let mut formats = CellFormats::open(file, sheet).map_err(damaged)?;
        let mut reader = workbook.worksheet_cells_reader(sheet).map_err(unreadable)?;
        let (mut current, mut row, mut wants_more) = (0, SheetRow::default(), true);
        let mut refused: Vec<(OddCell, String)> = Vec::new();
        let mut pass = |number: u32, row: &SheetRow| {
            let line = u64::from(number) + 1;
            for (column, odd) in row.odd.iter().filter(|(column, odd)| must_refuse(line, &row.cells, *column, *odd)) {
                refused.push((*odd, format!("{}{line}", column_letters(*column))));
            }
            Ok::<_, String>(refused.len() < MAX_REFUSED && (row.cells.is_empty() || each(line, &row.cells)?))
        };
        while let Some(cell) = reader.next_cell_with_formula_metadata().map_err(unreadable)? {
            let (number, column) = cell.pos;
            // Both readers pass on the same cells in the same order.
            let format = formats.as_mut().map(CellFormats::read_next).transpose().map_err(damaged)?.flatten();
            if number != current {
                wants_more = pass(current, &row)?;
                if !wants_more {
                    break;
                }
                if number < current {
                    return Err(format!("row {} comes after row {}: {DAMAGED}", number + 1, current + 1));
                }
                current = number;
                row.clear();
            }
            let column = column as usize;
            let (text, odd) = read_cell(&cell.value, format, cell.formula.is_some());
            row.odd.extend(odd.map(|odd| (column, odd)));
            if text.is_empty() {
                continue;
            }
            if column >= MAX_COLUMNS {
                return Err(format!("line {} has more than {MAX_COLUMNS} cells", number + 1));
            }
            let width = row.cells.len().max(column + 1);
            row.cells.resize_with(width, String::new);
            row.cells[column] = text;
        }
        if wants_more {
            pass(current, &row)?;
        }
        if refused.is_empty() { Ok(()) } else { Err(refusal(sheet, refused)) }
    })
}

/// A row while it is read.
#[derive(Default)]
struct SheetRow {
    cells: Vec<String>,
    /// The columns of cells that hold neither text nor a plain number.
    odd: Vec<(usize, OddCell)>,
}

impl SheetRow {
    fn clear(&mut self) {
        self.cells.clear();
        self.odd.clear();
    }
}

/// Describes the cells that are refused, with the cures.
fn refusal(sheet: &str, mut refused: Vec<(OddCell, String)>) -> String {
    let is_all = refused.len() < MAX_REFUSED;
    refused.truncate(MAX_REFUSED);
    refused.sort_by_key(|(odd, _)| *odd);
    let groups = refused.chunk_by(|(one, _), (other, _)| one == other).filter_map(|group| {
        let odd = group.first()?.0;
        let cells = group.iter().map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join(", ");
        let (noun, verb) = if group.len() == 1 { ("cell", "holds") } else { ("cells", "hold") };
        Some(format!("{noun} {cells} {verb} {odd}: {}", odd.cure()))
    });
    let more = if is_all { "" } else { "; there may be more" };
    format!("sheet {sheet:?}: {}{more}", groups.collect::<Vec<_>>().join("; "))
}

/// Returns what the cell shows, in the form that a CSV file would have, and what it holds if that is neither text nor a
/// plain number.
fn read_cell(value: &DataRef<'_>, format: Option<&CellFormat>, is_formula: bool) -> (String, Option<OddCell>) {
    let number = match value {
        DataRef::Float(number) => *number,
        #[expect(clippy::cast_precision_loss, reason = "only its sign and its digits before the point matter")]
        DataRef::Int(number) => *number as f64,
        DataRef::Bool(_) => return (text_of(value), Some(OddCell::Flag)),
        DataRef::DateTime(_) | DataRef::DateTimeIso(_) | DataRef::DurationIso(_) => {
            return (text_of(value), Some(OddCell::Time));
        }
        DataRef::Error(_) => return (text_of(value), Some(OddCell::Error)),
        DataRef::Empty if is_formula => return (String::new(), Some(OddCell::UncomputedFormula)),
        DataRef::Empty | DataRef::SharedString(_) | DataRef::String(_) => return (text_of(value), None),
    };
    let text = text_of(value);
    let is_whole = number >= 0.0 && number.fract() == 0.0;
    match format.map_or(NumberFormat::Plain, |format| format.of(number)) {
        NumberFormat::Padded(digits) if is_whole && number < FIRST_INEXACT => (format!("{text:0>digits$}"), None),
        NumberFormat::Padded(_) | NumberFormat::Text => (text, Some(OddCell::FormattedNumber)),
        NumberFormat::Plain => (text, None),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn damaged(error: io::Error) -> String {
    format!("cannot be read as an Excel workbook: {error}; {DAMAGED}")
}

const DAMAGED: &str = "the workbook is damaged; open it in a spreadsheet program and save it again";

fn open(file: &Blob) -> Result<Workbook, String> {
    Workbook::new(BufReader::new(BlobReader::new(file, 0))).map_err(unreadable)
}

fn unreadable(error: XlsxError) -> String {
    match error {
        XlsxError::Io(error) => format!("cannot be read: {error}"),
        XlsxError::Password => "is protected by a password; save it without one".to_owned(),
        error => format!("cannot be read as an Excel workbook: {error}; {DAMAGED}"),
    }
}

/// Installs the panic hook that reports nothing while [`IS_READING`]; other threads report as before.
static SILENCE: Once = Once::new();

thread_local! {
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Runs the reader of workbooks, which panics on some damaged ones.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // The message would be the only trace of the panic on the user's screen.
    SILENCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_READING.get() {
                hook(panic);
            }
        }));
    });
    IS_READING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    IS_READING.set(false);
    result.unwrap_or_else(|_| Err(format!("cannot be read as an Excel workbook; {DAMAGED}")))
}

/// Returns what the cell shows, in the form that a CSV file would have.
fn text_of(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(flag) => flag.to_string(),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => text_of_number(*number),
        DataRef::DateTime(time) => text_of_time(*time),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::Error(error) => error.to_string(),
    }
}

/// Formats a number. One of 16 or more digits has lost the last of them when it was typed: it is written as a
/// spreadsheet program shows it, so that the gateway refuses it as an identifier.
fn text_of_number(number: f64) -> String {
    if number == 0.0 {
        "0".to_owned()
    } else if number.abs() < FIRST_INEXACT {
        number.to_string()
    } else {
        format!("{number:E}").replace('E', "E+")
    }
}

/// Formats a date, a time of day or both; what is neither stays a number.
fn text_of_time(time: ExcelDateTime) -> String {
    let number = time.as_f64();
    if time.is_duration() || !(0.0..2_958_466.0).contains(&number) {
        return text_of_number(number);
    }
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let parts = (i16::try_from(year), i8::try_from(month), i8::try_from(day));
    let (Ok(year), Ok(month), Ok(day)) = parts else { return text_of_number(number) };
    let clock = [hour, minute, second].map(|part| i8::try_from(part).unwrap_or_default());
    let nanos = i32::from(i16::try_from(milli).unwrap_or_default()) * 1_000_000;
    let exact = DateTime::new(year, month, day, clock[0], clock[1], clock[2], nanos);
    let rounding = DateTimeRound::new().smallest(Unit::Second).mode(RoundMode::HalfExpand);
    // The 29th of February 1900, a day that spreadsheets invent, is no date.
    let Ok(time) = exact.and_then(|exact| exact.round(rounding)) else { return text_of_number(number) };
    if number < 1.0 {
        time.strftime("%H:%M:%S").to_string()
    } else if time.time() == Time::midnight() {
        time.strftime("%Y-%m-%d").to_string()
    } else {
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }
}

#[cfg(test)]
mod tests;
