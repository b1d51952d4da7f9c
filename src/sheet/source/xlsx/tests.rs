use calamine::{CellErrorType, ExcelDateTimeType};
use rstest::rstest;
use rust_xlsxwriter::{Format, Formula, Workbook as NewWorkbook};

use super::*;

fn file(bytes: &[u8]) -> Blob {
    Blob::Memory(bytes.to_vec().into())
}

fn named(sheet: Option<&str>) -> SourceOptions<'_> {
    SourceOptions { sheet, ..SourceOptions::default() }
}

fn rows(file: &Blob, sheet: &str) -> Vec<(u64, Vec<String>)> {
    let mut all = Vec::new();
    read_rows(file, sheet, &|_, _, _, _| false, &mut |line, cells| {
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

    let chosen = choose_sheet(&file, &named(None)).unwrap();
    assert_eq!((chosen.name.as_str(), chosen.others.as_slice()), ("People", &["More".to_owned()][..]));
    let expected = [
        (1, vec!["externalId", "active", "birthDate", "name.givenName"]),
        (2, vec!["0091", "true", "1990-01-01", "Ana\nLima"]),
        (4, vec!["92", "", "", "Ben"]),
    ];
    let rows = rows(&file, &chosen.name);
    assert_eq!(rows, expected.map(|(line, cells)| (line, cells.into_iter().map(str::to_owned).collect())));
    assert_eq!(choose_sheet(&file, &named(Some("Notes"))).unwrap().name, "Notes");
    let fault = choose_sheet(&file, &named(Some("people"))).err().unwrap();
    assert_eq!(fault, r#"has no sheet "people" (--sheet); it has "Notes", "People", "More""#);
}

#[test]
fn damaged_workbooks_are_errors() {
    let mut workbook = NewWorkbook::new();
    workbook.add_worksheet().write(0, 0, "a").unwrap();
    let bytes = workbook.save_to_buffer().unwrap();
    for length in (0..bytes.len()).step_by(97) {
        let fault = choose_sheet(&file(&bytes[..length]), &named(None)).err().unwrap();
        assert!(fault.contains("damaged") || fault.contains("ZIP archive"), "{length}: {fault}");
    }
}

#[test]
fn a_panic_of_the_reader_is_an_error() {
    let fault = caught::<()>(|| panic!("as the reader does")).unwrap_err();
    assert!(fault.contains("damaged"), "{fault}");
}

/// A workbook with these cells in the one row of its sheet, written by hand as no library writes them.
fn workbook_of(cells: &str, formats: &[&str]) -> Blob {
    workbook_with(r#"r:id="rId9""#, cells, formats)
}

/// As [`workbook_of`], with this attribute for the sheet's relation.
fn workbook_with(relation: &str, cells: &str, formats: &[&str]) -> Blob {
    let numbered = formats.iter().enumerate();
    let custom = numbered.clone().map(|(at, code)| format!(r#"<numFmt numFmtId="{}" formatCode="{code}"/>"#, 164 + at));
    let custom = custom.collect::<Vec<_>>().concat();
    let styles = numbered.map(|(at, _)| format!(r#"<xf numFmtId="{}"/>"#, 164 + at)).collect::<Vec<_>>().concat();
    let styles = format!(
        r#"<styleSheet><numFmts>{custom}</numFmts><cellStyleXfs><xf numFmtId="0"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>"#
    );
    let workbook = format!(
        r#"<workbook xmlns:r="r"><sheets><sheet name="A &amp; B" sheetId="1" {relation}/></sheets></workbook>"#
    );
    let relations = r#"<Relationships><Relationship Id="rId9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="/xl/worksheets/s.xml"/></Relationships>"#;
    let sheet = format!(r#"<worksheet><sheetData><row r="1"/><row r="2">{cells}</row></sheetData></worksheet>"#);
    let root = r#"<Relationships><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
    let part = |name, content: &str| (name, 0, content.as_bytes().to_vec());
    file(&archive::tests::archive(&[
        part("_rels/.rels", root),
        part("xl/workbook.xml", &workbook),
        part("xl/_rels/workbook.xml.rels", relations),
        part("xl/styles.xml", &styles),
        part("xl/worksheets/s.xml", &sheet),
    ]))
}

#[test]
fn numbers_have_the_zeros_that_their_format_shows() {
    let cells = r#"<c r="A2" s="1"><v>123</v></c><c r="B2"/><c r="C2" s="1"><v>1234567</v></c><c r="D2" s="2"><v>7</v></c><c r="E2"><v>8</v></c><c r="F2" s="1" t="str"><v>x</v></c>"#;
    let file = workbook_of(cells, &["00000", "#,##0"]);
    assert_eq!(choose_sheet(&file, &named(None)).unwrap().name, "A & B");
    assert_eq!(rows(&file, "A & B"), [(2, ["00123", "", "1234567", "7", "8", "x"].map(str::to_owned).to_vec())]);
}

#[rstest]
#[case::other_prefix(r#"d3p1:id="rId9""#)]
#[case::no_prefix(r#"id="rId9""#)]
fn the_formats_of_a_sheet_are_found_whatever_the_prefix_of_its_relation(#[case] relation: &str) {
    let file = workbook_with(relation, r#"<c r="A2" s="1"><v>123</v></c>"#, &["00000"]);
    assert_eq!(rows(&file, "A & B"), [(2, vec!["00123".to_owned()])]);
}

#[rstest]
#[case::no_relation("", "A & B")]
#[case::no_target(r#"r:id="rId1""#, "A & B")]
#[case::no_sheet(r#"r:id="rId9""#, "C")]
fn formats_that_are_not_found_are_an_error(#[case] relation: &str, #[case] sheet: &str) {
    let fault = CellFormats::open(&workbook_with(relation, "", &["00000"]), sheet).err().unwrap();
    assert_eq!(fault.to_string(), "the number formats of the sheet are not found");
    assert!(CellFormats::open(&workbook_with(relation, "", &["0"]), sheet).unwrap().is_none());
}

#[rstest]
#[case::date(r#"s="1"><v>46510</v>"#, OddCell::Time)]
#[case::iso_date(r#"t="d"><v>2027-05-03</v>"#, OddCell::Time)]
#[case::flag(r#"t="b"><v>1</v>"#, OddCell::Flag)]
#[case::error(r#"t="e"><v>#N/A</v>"#, OddCell::Error)]
#[case::error_of_a_formula(r#"t="e"><f>NA()</f><v>#N/A</v>"#, OddCell::Error)]
#[case::uncomputed("><f>A1</f>", OddCell::UncomputedFormula)]
#[case::uncomputed_with_empty_value("><f>A1</f><v/>", OddCell::UncomputedFormula)]
#[case::prefixed(r#"s="2"><v>7</v>"#, OddCell::FormattedNumber)]
#[case::negative_padded(r#"s="3"><v>-7</v>"#, OddCell::FormattedNumber)]
fn a_cell_that_is_neither_text_nor_a_plain_number_can_be_refused(#[case] cell: &str, #[case] odd: OddCell) {
    let cells = format!(r#"<c r="A2"><v>1</v></c><c r="AB2" {cell}</c>"#);
    let file = workbook_of(&cells, &["yyyy\\-mm", "&quot;EMP-&quot;0000", "00000"]);
    let asked = std::cell::RefCell::new(Vec::new());
    let refuse = |line, cells: &[String], column, odd| {
        assert_eq!(cells[0], "1", "the whole row");
        asked.borrow_mut().push((line, column, odd));
        true
    };
    let fault = read_rows(&file, "A & B", &refuse, &mut |_, _| Ok(true)).unwrap_err();
    assert_eq!(*asked.borrow(), [(2, 27, odd)]);
    assert_eq!(fault, format!("sheet \"A & B\": cell AB2 holds {odd}: {}", odd.cure()));
}

#[test]
fn the_number_decides_which_section_of_its_format_counts() {
    let cells = r#"<c r="A2" s="1"><v>7</v></c><c r="B2" s="1"><v>1000</v></c><c r="C2" s="2"><v>0</v></c>"#;
    let file = workbook_of(cells, &["[&lt;1000]000;0", "0;-0;00"]);
    assert_eq!(rows(&file, "A & B"), [(2, ["007", "1000", "00"].map(str::to_owned).to_vec())]);
}

#[test]
fn the_empty_text_of_a_formula_is_its_result() {
    let file = workbook_of(r#"<c r="A2" t="str"><f>A1</f><v></v></c><c r="B2"><v>1</v></c>"#, &[]);
    read_rows(&file, "A & B", &|_, _, _, _| true, &mut |_, _| Ok(true)).unwrap();
}

#[test]
fn refused_cells_are_grouped_by_what_they_hold() {
    let cells =
        [(OddCell::Error, "B2"), (OddCell::Time, "A2"), (OddCell::Time, "A3")].map(|(odd, at)| (odd, at.to_owned()));
    assert_eq!(
        refusal("People", cells.to_vec()),
        "sheet \"People\": cells A2, A3 hold a date or time instead of text: format the column as text and fill in the \
         values again from their source; cell B2 holds the error value of a formula: correct the formula, or replace it \
         with its value"
    );
}
