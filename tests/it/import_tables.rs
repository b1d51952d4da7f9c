//! The command `import` with the tables people have: every form, mapped columns, local times, and the dry run. The
//! program itself, mostly without a gateway.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use http::Method;
use rstest::rstest;
use rust_xlsxwriter::{Format, Workbook};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::vendor::{Stub, json_response};

/// Runs the import in a folder with this file, without address or key.
fn import_in(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("the program runs")
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.arg("import").args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

fn folder_with(name: &str, content: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join(name), content).expect("the file can be written");
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Returns exit code, standard output and standard error of a dry run.
fn preview(content: impl AsRef<[u8]>, options: &[&str]) -> (Option<i32>, String, String) {
    let folder = folder_with("people.csv", content);
    let output = import_in(folder.path(), &[&["people.csv", "--dry-run"], options].concat());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Returns the rows that a dry run would send, as JSON.
fn rows(content: impl AsRef<[u8]>, options: &[&str]) -> Vec<Value> {
    let (code, out, err) = preview(content, &[&["--output", "json"], options].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let document: Value = serde_json::from_str(&out).expect("JSON");
    let rows = document["rows"].as_array().expect("rows");
    rows.iter().map(|row| row["row"].clone()).collect()
}

#[rstest]
#[case::german_excel(b"externalId;name.givenName\r\n1;J\xfcrgen\r\n".as_slice())]
#[case::windows_1252(b"externalId,name.givenName\r\n1,J\xfcrgen\r\n")]
#[case::separator_line("sep=;\r\nexternalId;name.givenName\r\n1;Jürgen\r\n".as_bytes())]
#[case::tabs("externalId\tname.givenName\n1\tJürgen\n".as_bytes())]
#[case::byte_order_mark("\u{feff}externalId,name.givenName\n1,Jürgen".as_bytes())]
#[case::trailing_columns("externalId,name.givenName,,,\r\n1,Jürgen,,,\r\n,,,,\r\n".as_bytes())]
#[case::utf16le(&utf16("externalId\tname.givenName\r\n1\tJürgen\r\n"))]
fn tables_of_every_form_are_read(#[case] content: &[u8]) {
    let expected = json!({ "externalId": "1", "name": { "givenName": "Jürgen" } });
    assert_eq!(rows(content, &[]), [expected]);
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

#[rstest]
#[case::moodle(
    "moodle",
    "username,password,firstname,lastname,email,idnumber,cohort1\r\nana,Pw-12345,Ana,Lima,ana@example.com,0091,all\r\n",
    "0091"
)]
#[case::canvas(
    "canvas",
    "user_id,login_id,first_name,last_name,email,status\r\n0103,ana,Ana,Lima,ana@example.com,active\r\n",
    "0103"
)]
#[case::successfactors(
    "successfactors",
    "STATUS,USERID,USERNAME,FIRSTNAME,LASTNAME,GENDER,EMAIL,MANAGER,HR,DEPARTMENT,TIMEZONE,HIREDATE\r\n\
     active,u1,u1,Ana,Lima,F,ana@example.com,NO_MANAGER,NO_HR,Sales,Europe/Berlin,01/31/2020\r\n",
    "u1"
)]
fn exports_go_in_with_one_flag(#[case] layout: &str, #[case] export: &str, #[case] id: &str) {
    let rows = rows(export, &["--layout", layout]);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["externalId"], id);
    assert_eq!(rows[0]["name"], json!({ "givenName": "Ana", "familyName": "Lima" }));
    assert_eq!(rows[0]["email"], "ana@example.com");
    assert!(!rows[0].to_string().contains("Pw-12345"), "a password is not shown");
    let (code, _, err) = preview(export, &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains(&format!("try --layout {layout}")), "{err}");
}

#[test]
fn unknown_columns_are_errors_with_cures() {
    let content = "First Name,E-Mail,Shoe Size,externalId\nAna,ana@example.com,40,1\n";
    let (code, out, err) = preview(content, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for line in [
        "people.csv: column A \"First Name\" is unknown (did you mean name.givenName?)",
        "people.csv: column B \"E-Mail\" is unknown (did you mean email?)",
        "people.csv: column C \"Shoe Size\" is unknown",
    ] {
        assert!(err.lines().any(|shown| shown == line), "{line}: {err}");
    }
    assert!(err.contains("--map \"First Name=name.givenName\"") && err.contains("--ignore-unknown"), "{err}");
    let options = ["--map", "First Name=name.givenName", "--map", "e-mail=email", "--ignore", "Shoe Size"];
    let expected = json!({
        "externalId": "1", "name": { "givenName": "Ana" }, "email": "ana@example.com" });
    assert_eq!(rows(content, &options), [expected]);
}

const ORDERS: &str = "candidate.externalId,assessment,validUntil\r\nemp-7,rust-101,03/05/2027\r\n\
                      emp-7,rust-101,2027-05-03\r\nemp-7,rust-101,2027-05-03 18:00\r\n";

#[test]
fn local_times_need_a_zone_and_get_one() {
    let kind = ["--kind", "assignments"];
    let (code, out, _) = preview(ORDERS, &kind);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("2 rows have dates or local times (lines 3 and 4)") && out.contains("--time-zone"), "{out}");
    assert!(out.contains("(line 2) in which day and month can be either; give --date-format"), "{out}");
    let (code, out, err) = preview(ORDERS, &[kind.as_slice(), &["--time-zone", "+02:00"]].concat());
    assert_eq!(code, Some(1), "the date that can be either: {out}");
    assert!(out.contains("line 2: /validUntil: ") && err.ends_with("1 of 3 rows would be refused; nothing was sent\n"));
    let options = [kind.as_slice(), &["--time-zone", "+02:00", "--date-format", "dd/mm/yyyy"]].concat();
    let times: Vec<Value> = rows(ORDERS, &options).iter().map(|row| row["validUntil"].clone()).collect();
    assert_eq!(times, ["2027-05-03T21:59:59Z", "2027-05-03T21:59:59Z", "2027-05-03T16:00:00Z"]);
}

#[test]
fn named_zones_follow_the_clocks() {
    let has_database = Path::new("/usr/share/zoneinfo/Europe/Berlin").exists();
    let options = ["--kind", "assignments", "--date-format", "mm/dd/yyyy", "--time-zone", "Europe/Berlin"];
    if has_database {
        let times: Vec<Value> = rows(ORDERS, &options).iter().map(|row| row["validUntil"].clone()).collect();
        assert_eq!(times, ["2027-03-05T22:59:59Z", "2027-05-03T21:59:59Z", "2027-05-03T16:00:00Z"]);
    }
    let (code, _, err) = preview(ORDERS, &["--time-zone", "Europe/Brelin"]);
    assert!(code == Some(2) && err.contains("--time-zone"), "{err}");
}

#[test]
fn a_dry_run_shows_rows_and_errors_by_line() {
    let content = "externalId;name.givenName;email;password\nemp-1;Ann;ann@example.com;s3cret-word\n\n\
                   emp-2;Bo;nobody;\n1,23457E+11;Cy;;\n";
    let (code, out, err) = preview(content, &["--connection", "startexam-main"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        out.starts_with("people.csv: 3 rows to startexam-main; nothing is sent\nseparated by semicolons\n"),
        "{out}"
    );
    assert!(out.contains("ann@example.com") && !out.contains("s3cret-word"), "{out}");
    assert!(out.contains("\nline 4: /email: "), "{out}");
    assert!(
        out.contains("\nline 5: /externalId: ") && out.contains("(line 5), send them with --allow-damaged-ids"),
        "{out}"
    );
    assert_eq!(err, "2 of 3 rows would be refused; nothing was sent\n");
}

#[test]
fn a_workbook_is_read() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, ["externalId", "active", "name.givenName"]).expect("cells");
    sheet.write_row(1, 0, ["0091", "", "Jürgen"]).expect("cells");
    sheet.write(2, 0, 92).and_then(|sheet| sheet.write(2, 1, true)).expect("cells");
    let content = workbook.save_to_buffer().expect("a workbook");
    let rows = rows(&content, &[]);
    assert_eq!(rows[0], json!({ "externalId": "0091", "name": { "givenName": "Jürgen" } }));
    assert_eq!(rows[1], json!({ "externalId": "92", "active": true }));
    let (code, _, err) = preview(&content[..content.len() / 2], &[]);
    assert!(code == Some(2) && err.contains("damaged") && !err.contains("panicked"), "{err}");
}

#[test]
fn old_workbooks_are_refused_with_the_cure() {
    let (code, _, err) = preview(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", &[]);
    assert!(code == Some(2) && err.contains("save it as an Excel workbook (.xlsx) without a password"), "{err}");
}

#[test]
fn standard_input_is_read_and_leaves_nothing_behind() {
    use std::io::Write as _;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut running = command(folder.path(), &["-", "--dry-run"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    running.stdin.take().expect("a pipe").write_all(b"externalId;email\n1;a@example.com\n").expect("it reads");
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("standard input: 1 row; nothing is sent\n"), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn layouts_are_listed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = import_in(folder.path(), &["--list-layouts"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for name in ["moodle", "canvas", "oneroster", "successfactors", "workday", "bamboohr"] {
        assert!(out.lines().any(|line| line == name), "{name}: {out}");
    }
    assert!(out.contains("externalId") && out.contains("https://docs.moodle.org/en/Upload_users"), "{out}");
}

/// What reaches the gateway: the converted table on the sheet's lines, with the query that the options ask for.
#[tokio::test]
async fn a_converted_table_is_sent_with_its_own_key() {
    // A gateway that refuses every table, and knows no other request.
    let stub = Stub::start(|seen| {
        let (status, code) = if seen.method == Method::POST { (422, "validation_failed") } else { (404, "not_found") };
        json_response(status, &json!({ "status": status, "code": code, "title": code }))
    })
    .await;
    let folder = folder_with("people.csv", b"sep=;\r\nNr;externalId\r\nx;00'1\r\n;;\r\ny;2\r\n");
    let url = stub.url();
    let arguments = ["people.csv", "--connection", "main", "--ignore", "Nr", "--allow-damaged-ids", "--url", &url];
    let mut command = command(folder.path(), &arguments);
    command.env("EXAMGATE_API_KEY", "egk_k");
    tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("the program runs");
    let seen = stub.seen();
    let sent = seen.iter().find(|seen| seen.uri.path() == "/candidates/bulk");
    let sent = sent.map(|seen| (seen.uri.query().unwrap_or_default().to_owned(), seen.body.clone()));
    if let Some((query, body)) = sent {
        assert_eq!(query, "connection=main&allowDamagedIds=true");
        assert_eq!(body, "\nexternalId\n00'1\n\n2\n");
    } else {
        panic!("nothing was sent: {:?}", seen.iter().map(|seen| seen.uri.to_string()).collect::<Vec<_>>());
    }
}

#[rstest]
#[case::option(b"externalId;email\n1;a@example.com\n".as_slice(), &["--separator", ","],
    "people.csv: no column is known if ',' separates the cells; they seem to be separated by semicolons: omit --separator, or \
     give another\n")]
#[case::line(b"sep=;\nexternalId,email\n1,a@example.com\n", &[],
    "people.csv: no column is known if ';' separates the cells; they seem to be separated by commas: delete the first line, \
     or name the separator with --separator\n")]
#[case::map_and_ignore(b"externalId,Team\n1,a\n", &["--map", "Team=group", "--ignore", "team"],
    "--map and --ignore both name the column \"Team\"; omit one of them\n")]
fn the_cure_of_a_wrong_option_is_named(#[case] content: &[u8], #[case] options: &[&str], #[case] fault: &str) {
    assert_eq!(preview(content, options), (Some(2), String::new(), fault.to_owned()));
    // A program gets the same in the document.
    let (code, out, err) = preview(content, &[options, &["--output", "json"]].concat());
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, document["error"].as_str(), &*err), (Some(2), Some(fault.trim_end()), fault));
}

#[test]
fn errors_before_an_import_are_in_the_document_of_programs() {
    let folder = folder_with("people.csv", b"externalId\n1\n");
    let output = import_in(folder.path(), &["people.csv", "--connection", "main", "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!((&document["file"], &document["connection"]), (&json!("people.csv"), &json!("main")));
    assert!(document["error"].as_str().expect("an error").contains("EXAMGATE_API_KEY"), "{document}");
}

#[test]
fn the_other_sheets_are_named_if_the_first_is_no_table() {
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Read me").expect("a name").write(0, 0, "Dear colleagues").expect("a cell");
    for name in ["People", "Old"] {
        let sheet = workbook.add_worksheet().set_name(name).expect("a name");
        sheet.write_row(0, 0, ["externalId"]).expect("cells").write(1, 0, "1").expect("a cell");
    }
    let content = workbook.save_to_buffer().expect("a workbook");
    let (code, _, err) = preview(&content, &[]);
    let hint = "people.csv: this is the sheet \"Read me\"; if the table is in another one, name it with --sheet: \"People\", \"Old\"\n";
    assert!(code == Some(2) && err.ends_with(hint), "{err}");
    assert_eq!(rows(&content, &["--sheet", "People"]), [json!({ "externalId": "1" })]);
}

#[test]
fn an_unknown_word_is_refused_with_those_that_are_accepted() {
    let (code, out, _) = preview(b"externalId,ifExists\n1,replace\n", &[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("line 2: /ifExists: must be `reuse`, `update` or `fail`\n"), "{out}");
}

#[test]
fn white_space_that_is_sent_is_shown() {
    let table = b"candidate.externalId,assessment\n1, rust-101\n";
    let (_, out, err) = preview(table, &["--kind", "assignments"]);
    assert!(out.contains("\" rust-101\""), "{out}{err}");
    assert_eq!(rows(table, &["--kind", "assignments"])[0]["assessment"], " rust-101");
}

#[test]
fn cells_of_a_workbook_that_are_no_text_are_refused_where_text_is_expected() {
    let mut workbook = Workbook::new();
    let (zeros, date) = (Format::new().set_num_format("00000"), Format::new().set_num_format("dd/mm/yyyy"));
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, ["externalId", "name.givenName", "birthDate", "active", "custom.hired"]).expect("cells");
    sheet.write_number_with_format(1, 0, 123, &zeros).expect("a cell").write(1, 1, "Ana").expect("a cell");
    for column in [2, 4] {
        sheet.write_number_with_format(1, column, 32_874, &date).expect("a cell");
    }
    sheet.write(1, 3, true).expect("a cell");
    let expected = json!({ "externalId": "00123", "name": { "givenName": "Ana" }, "birthDate": "1990-01-01", "active": true,
        "custom": { "hired": "1990-01-01" } });
    assert_eq!(rows(workbook.save_to_buffer().expect("a workbook"), &[]), [expected]);

    let sheet = workbook.worksheet_from_index(0).expect("a sheet");
    sheet.write_number_with_format(2, 0, 46_510, &date).expect("a cell").write(2, 1, false).expect("a cell");
    let (code, out, err) = preview(workbook.save_to_buffer().expect("a workbook"), &[]);
    assert_eq!((code, &*out), (Some(2), ""));
    let fault = "people.csv: sheet \"Sheet1\": cell A3 holds a date or time instead of text: format the column as text and fill \
                 in the values again from their source; cell B3 holds TRUE or FALSE instead of text: format the column as text \
                 and fill in the values again from their source\n";
    assert_eq!(err, fault);
}

#[test]
fn zeros_that_a_spreadsheet_program_has_removed_from_a_result_are_noticed() {
    let result = |id: &str| {
        format!(
            "externalId,result.line,result.outcome,result.zeros\n{id},2,not_applied,externalId: 00123\n7,3,applied,\n"
        )
    };
    let (code, out, err) = preview(result("123"), &[]);
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(
        err.starts_with(
            "people.csv: line 2: a spreadsheet program has removed the zeros at the beginning of externalId"
        ),
        "{err}"
    );
    for id in ["00123", "124"] {
        assert_eq!(rows(result(id), &[])[0]["externalId"], id);
    }
    assert_eq!(rows(result("123"), &["--allow-damaged-ids"])[0]["externalId"], "123");
}
