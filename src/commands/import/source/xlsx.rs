//! Rows of an Excel workbook (.xlsx), read one at a time: a sheet of any length takes no more memory than its texts.

use std::fs::File;
use std::io::BufReader;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use calamine::{DataRef, ExcelDateTime, Reader as _, Sheet, SheetType, SheetVisible, Xlsx, XlsxError};
use jiff::civil::{DateTime, DateTimeRound, Time};
use jiff::{RoundMode, Unit};

use crate::commands::import::source::archive;
use crate::commands::import::source::csv::MAX_COLUMNS;
use crate::commands::import::source::row::RowVisitor;
use crate::commands::import::temporary::FileReader;

type Workbook = Xlsx<BufReader<FileReader>>;

/// Numbers from here on have more digits than a spreadsheet keeps.
const FIRST_INEXACT: f64 = 1e15;

/// The sheet of a workbook that is read.
pub(super) struct ChosenSheet {
    pub(super) name: String,
    /// How many sheets the workbook shows.
    pub(super) visible: usize,
}

/// Chooses the sheet: the one named, else the first that is visible.
///
/// # Errors
/// A sentence about the workbook or its sheets.
pub(super) fn choose_sheet(file: &Arc<File>, given: Option<&str>) -> Result<ChosenSheet, String> {
    archive::check(BufReader::new(FileReader::new(file, 0))).map_err(|error| error.to_string())?;
    caught(|| {
        let workbook = open(file)?;
        let sheets = || workbook.sheets_metadata().iter().filter(|sheet| sheet.typ == SheetType::WorkSheet);
        let is_visible = |sheet: &&Sheet| sheet.visible == SheetVisible::Visible;
        let visible = sheets().filter(is_visible).count();
        let chosen = match given {
            Some(name) => sheets().find(|sheet| sheet.name == name),
            None => sheets().find(is_visible),
        };
        let names = || sheets().map(|sheet| format!("{:?}", sheet.name)).collect::<Vec<_>>().join(", ");
        match (chosen, given) {
            (Some(sheet), _) => Ok(ChosenSheet { name: sheet.name.clone(), visible }),
            (None, Some(name)) => Err(format!("has no sheet {name:?} (--sheet); it has {}", names())),
            (None, None) => Err("has no visible sheet; name one with --sheet".to_owned()),
        }
    })
}

/// Passes each row that is not empty, with its number, to `each` until that returns false.
///
/// # Errors
/// A sentence about the workbook, and the errors of `each`.
pub(super) fn read_rows(file: &Arc<File>, sheet: &str, each: &mut RowVisitor<'_>) -> Result<(), String> {
    caught(|| {
        let mut workbook = open(file)?;
        let mut reader = workbook.worksheet_cells_reader(sheet).map_err(unreadable)?;
        let mut row: Vec<String> = Vec::new();
        let mut current = 0;
        while let Some(cell) = reader.next_cell().map_err(unreadable)? {
            let (number, column) = cell.get_position();
            if number != current {
                if !row.is_empty() && !each(u64::from(current) + 1, &row)? {
                    return Ok(());
                }
                if number < current {
                    return Err(format!("row {} comes after row {}: {DAMAGED}", number + 1, current + 1));
                }
                current = number;
                row.clear();
            }
            let text = text_of(cell.get_value());
            let column = column as usize;
            if text.is_empty() {
                continue;
            }
            if column >= MAX_COLUMNS {
                return Err(format!("line {} has more than {MAX_COLUMNS} cells", number + 1));
            }
            row.resize_with(row.len().max(column + 1), String::new);
            row[column] = text;
        }
        if !row.is_empty() {
            each(u64::from(current) + 1, &row)?;
        }
        Ok(())
    })
}

const DAMAGED: &str = "the workbook is damaged; open it in a spreadsheet program and save it again";

fn open(file: &Arc<File>) -> Result<Workbook, String> {
    Workbook::new(BufReader::new(FileReader::new(file, 0))).map_err(unreadable)
}

fn unreadable(error: XlsxError) -> String {
    match error {
        XlsxError::Io(error) => format!("cannot be read: {error}"),
        XlsxError::Password => "is protected by a password; save it without one".to_owned(),
        error => format!("cannot be read as an Excel workbook: {error}; {DAMAGED}"),
    }
}

/// Runs the reader of workbooks, which panics on some damaged ones.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let hook = panic::take_hook();
    // The message would be the only trace of the panic on the user's screen.
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    panic::set_hook(hook);
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
mod tests {
    use calamine::{CellErrorType, ExcelDateTimeType};
    use rstest::rstest;
    use rust_xlsxwriter::{Format, Formula, Workbook as NewWorkbook};

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        Arc::new(file)
    }

    fn rows(file: &Arc<File>, sheet: &str) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        read_rows(file, sheet, &mut |line, cells| {
            all.push((line, cells.to_vec()));
            Ok(true)
        })
        .unwrap();
        all
    }

    #[rstest]
    #[case::integer(DataRef::Float(91.0), "91")]
    #[case::fifteen_digits(DataRef::Float(999_999_999_999_999.0), "999999999999999")]
    #[case::sixteen_digits(DataRef::Float(1_234_567_890_123_450.0), "1.23456789012345E+15")]
    #[case::twenty_digits(DataRef::Float(1e20), "1E+20")]
    #[case::decimal(DataRef::Float(0.1), "0.1")]
    #[case::negative(DataRef::Float(-7.0), "-7")]
    #[case::negative_zero(DataRef::Float(-0.0), "0")]
    #[case::flag(DataRef::Bool(true), "true")]
    #[case::error(DataRef::Error(CellErrorType::NA), "#N/A")]
    #[case::text(DataRef::SharedString("0091"), "0091")]
    fn cells_become_text(#[case] value: DataRef<'_>, #[case] text: &str) {
        assert_eq!(text_of(&value), text);
    }

    #[rstest]
    #[case::date(46_510.0, false, "2027-05-03")]
    #[case::local_time(46_510.75, false, "2027-05-03 18:00:00")]
    #[case::rounded(46_510.749_999_999_5, false, "2027-05-03 18:00:00")]
    #[case::epoch_1904(45_048.0, true, "2027-05-03")]
    #[case::time_of_day(0.75, false, "18:00:00")]
    #[case::invented_day(60.0, false, "60")]
    #[case::negative(-1.0, false, "-1")]
    #[case::too_late(3_000_000.0, false, "3000000")]
    fn dates_become_iso_dates(#[case] number: f64, #[case] is_1904: bool, #[case] text: &str) {
        assert_eq!(text_of_time(ExcelDateTime::new(number, ExcelDateTimeType::DateTime, is_1904)), text);
    }

    #[test]
    fn a_workbook_is_read_as_written() {
        let mut workbook = NewWorkbook::new();
        workbook.add_worksheet().set_name("Notes").unwrap().set_hidden(true).write(0, 0, "not this").unwrap();
        let sheet = workbook.add_worksheet().set_name("People").unwrap();
        sheet.set_active(true);
        let date = Format::new().set_num_format("dd/mm/yyyy");
        sheet.write_row(0, 0, ["externalId", "active", "birthDate", "name.givenName"]).unwrap();
        sheet.write(1, 0, "0091").unwrap().write(1, 1, true).unwrap();
        sheet.write_number_with_format(1, 2, 32_874.0, &date).unwrap();
        sheet.write(1, 3, "Ana\nLima").unwrap();
        // Row 3 is empty, and column B of row 4.
        sheet.write(3, 0, 92).unwrap();
        sheet.write_formula(3, 3, Formula::new("=1+1").set_result("Ben")).unwrap();
        workbook.add_worksheet().set_name("More").unwrap();
        let file = file(&workbook.save_to_buffer().unwrap());

        let chosen = choose_sheet(&file, None).unwrap();
        assert_eq!((chosen.name.as_str(), chosen.visible), ("People", 2));
        let expected = [
            (1, vec!["externalId", "active", "birthDate", "name.givenName"]),
            (2, vec!["0091", "true", "1990-01-01", "Ana\nLima"]),
            (4, vec!["92", "", "", "Ben"]),
        ];
        let rows = rows(&file, &chosen.name);
        assert_eq!(rows, expected.map(|(line, cells)| (line, cells.into_iter().map(str::to_owned).collect())));
        assert_eq!(choose_sheet(&file, Some("Notes")).unwrap().name, "Notes");
        let fault = choose_sheet(&file, Some("people")).err().unwrap();
        assert_eq!(fault, r#"has no sheet "people" (--sheet); it has "Notes", "People", "More""#);
    }

    #[test]
    fn damaged_workbooks_are_errors() {
        let mut workbook = NewWorkbook::new();
        workbook.add_worksheet().write(0, 0, "a").unwrap();
        let bytes = workbook.save_to_buffer().unwrap();
        for length in (0..bytes.len()).step_by(97) {
            let fault = choose_sheet(&file(&bytes[..length]), None).err().unwrap();
            assert!(fault.contains("damaged") || fault.contains("ZIP archive"), "{length}: {fault}");
        }
    }

    #[test]
    fn a_panic_of_the_reader_is_an_error() {
        let fault = caught::<()>(|| panic!("as the reader does")).unwrap_err();
        assert!(fault.contains("damaged"), "{fault}");
    }
}
