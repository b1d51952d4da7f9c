use std::ffi::OsString;
use std::io::Read as _;

use clap::Parser;
use rstest::rstest;
use rust_xlsxwriter::{Format, Workbook};

use super::*;

/// A command line with the options about the table alone.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    read: ReadOptions,
}

fn open(content: impl AsRef<[u8]>, options: &[&str]) -> Result<Table, Vec<String>> {
    open_with(content, options, false)
}

fn open_with(content: impl AsRef<[u8]>, options: &[&str], only_failed: bool) -> Result<Table, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    std::fs::write(&path, content).unwrap();
    open_path(&path, options, only_failed).map_err(|faults| {
        let prefix = format!("{}: ", path.display());
        faults.into_iter().map(|fault| fault.strip_prefix(&prefix).map_or(fault.clone(), str::to_owned)).collect()
    })
}

fn open_path(path: &std::path::Path, options: &[&str], only_failed: bool) -> Result<Table, Vec<String>> {
    let words = [OsString::from("import"), path.into()].into_iter().chain(options.iter().map(OsString::from));
    let read = CommandLine::try_parse_from(words).unwrap().read;
    Table::open(&TableRequest { read: &read, defaults: Vec::new(), only_failed }, &Process::current())
}

fn fault(content: impl AsRef<[u8]>, options: &[&str]) -> String {
    open(content, options).err().unwrap().join("\n")
}

fn sent(table: &Table) -> String {
    let mut text = String::new();
    table.reader().read_to_string(&mut text).unwrap();
    text
}

fn originals(table: &Table) -> Vec<(u64, Vec<String>)> {
    table.original_rows().map(|row| row.unwrap()).map(|row| (row.line, row.cells)).collect()
}

#[test]
fn cells_of_a_broken_row_are_assigned_to_no_column() {
    let text = "externalId,name.familyName,name.givenName\nrr1,Smith, Jr.,Ana\nrr2,Jones\nrr3,Lima,Ana\n";
    let table = open(text, &[]).unwrap();
    assert_eq!(sent(&table), text, "the gateway refuses them");
    let cells = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    assert_eq!(
        originals(&table),
        [(2, cells(["", "", ""])), (3, cells(["", "", ""])), (4, cells(["rr3", "Lima", "Ana"]))]
    );
}

#[test]
fn a_plain_file_is_sent_byte_for_byte_under_its_former_key() {
    let text = "externalId, email ,custom.Team\r\n\"a\",b,\r\n\r\nc,d\n";
    for content in [text.to_owned(), format!("\u{feff}{text}")] {
        let table = open(content, &[]).unwrap();
        assert_eq!(sent(&table), text);
        assert_eq!(table.length(), text.len() as u64);
        assert_eq!((table.rows(), table.line(0), table.line(1), table.line(2)), (2, 2, 4, 0));
        assert!(table.notes().is_empty(), "{:?}", table.notes());
    }
    // sha256("candidates\0main\0" + sha256("externalId\na\n")): the key of every earlier version.
    let inner = Sha256::digest(b"externalId\na\n");
    let expected = Sha256::digest([b"candidates\0main\0".as_slice(), &inner].concat());
    let key = open("externalId\na\n", &[]).unwrap().key(Kind::Candidates, "main");
    assert_eq!(key, format!("import-{}", HEXLOWER.encode(&expected)));
}

#[test]
fn options_that_change_nothing_leave_the_file_as_it_is() {
    let text = "candidate.externalId,assessment,validUntil\r\n1,a,2027-05-03T18:00:00Z\r\n";
    let options = ["--kind", "assignments", "--time-zone", "UTC", "--ignore-unknown", "--separator", ","];
    assert_eq!(sent(&open(text, &options).unwrap()), text);
}

#[test]
fn the_key_depends_on_content_kind_connection_and_damaged_ids() {
    let table = |content: &str, options: &[&str]| open(content, options).unwrap();
    let key = |content: &str, options: &[&str]| table(content, options).key(Kind::Candidates, "main");
    let one = key("externalId\na\n", &[]);
    assert_eq!(one, key("\u{feff}externalId\na\n", &[]), "a byte order mark is not part of the content");
    assert_ne!(one, key("externalId\nb\n", &[]));
    assert_ne!(one, key("externalId\na\n", &["--allow-damaged-ids"]));
    assert_ne!(one, table("externalId\na\n", &[]).key(Kind::Assignments, "main"));
    assert_ne!(one, table("externalId\na\n", &[]).key(Kind::Candidates, "other"));
    // Converted tables of the same content are the same import.
    let german = key("externalId;email\n1;J\n", &[]);
    assert_eq!(german, key("externalId\temail\n1\tJ\n", &[]));
}

#[test]
fn converted_files_are_sent_in_the_form_of_the_gateway() {
    let table = open(b"sep=;\r\nexternalId;name.givenName;;\r\n1;J\xfcrgen;;\r\n;;;\r\n2;\"a,b\";;\r\n", &[]).unwrap();
    assert_eq!(sent(&table), "\nexternalId,name.givenName\n1,Jürgen\n\n2,\"a,b\"\n");
    assert_eq!((table.line(0), table.line(1)), (3, 5));
    let row = |line, cells: [&str; 2]| (line, cells.map(str::to_owned).to_vec());
    assert_eq!(originals(&table), [row(3, ["1", "Jürgen"]), row(5, ["2", "a,b"])]);
    assert_eq!(table.notes(), ["not UTF-8 (line 3); read as windows-1252; --encoding names another"]);
}

#[test]
fn passwords_are_sent_but_not_repeated() {
    let table = open("username;password;firstname;idnumber\nana;s3cret;Ana;0091\n", &["--layout", "moodle"]).unwrap();
    assert!(sent(&table).contains("s3cret") && table.has_column("password"));
    assert_eq!(table.columns(), ["username", "firstname", "idnumber"]);
    assert!(!format!("{:?}", originals(&table)).contains("s3cret"));
}

#[rstest]
#[case::empty("", "is empty")]
#[case::blank("\n,,\n", "is empty")]
#[case::mark("\u{feff}", "is empty")]
#[case::header_only("externalId,email\n", "has no rows below")]
#[case::blank_rows("externalId,email\n,\n", "has no rows below")]
#[case::unclosed("externalId\n\"a\n", "line 2 has a quotation mark")]
#[case::unknown("externalId,Shoe Size\na,b\n", "column B \"Shoe Size\" is unknown")]
#[case::unnamed("externalId,\na,b\n", "line 2 has a value in column B, which has no name")]
fn errors_of_the_whole_table_are_reported(#[case] content: &str, #[case] message: &str) {
    let fault = fault(content, &[]);
    assert!(fault.starts_with(message), "{fault}");
}

#[test]
fn files_that_cannot_be_read_are_reported() {
    let fault = |path: &str| open_path(std::path::Path::new(path), &[], false).err().unwrap().concat();
    assert_eq!(fault("/"), "/: is a directory; expected a table");
    assert!(fault("/nowhere.csv").starts_with("/nowhere.csv: cannot be read: No such file"));
    assert!(fault("/dev/null").starts_with("/dev/null: is empty"));
}

#[test]
fn titles_above_the_header_are_not_sent() {
    let text = "Report of all workers,,\nAs of 2027,,\n\nEmployee ID,First Name,Last Name\n7,Ana,Lima\n";
    let table = open(text, &["--layout", "workday"]).unwrap();
    assert_eq!(sent(&table), "\n\n\nexternalId,name.givenName,name.familyName\n7,Ana,Lima\n");
    assert_eq!(table.line(0), 5);
    assert_eq!(table.notes(), ["2 rows above the column names not sent"]);
}

#[test]
fn a_map_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.toml");
    let file = path.to_str().unwrap();
    let toml = "ignored = [\"Team*\"]\n[columns]\nexternalId = \"Nr\"\n\"name.givenName\" = [\"Vorname\", \"Rufname\"]\n\
                active = \"Aktiv\"\n[values.active]\nja = \"true\"\nnein = \"false\"\n";
    std::fs::write(&path, toml).unwrap();
    let table = open("Nr;Vorname;Aktiv;Team 1\n7;Ana;Ja;Rot\n8;Bo;vielleicht;\n", &["--map-file", file]).unwrap();
    assert_eq!(sent(&table), "externalId,name.givenName,active\n7,Ana,true\n8,Bo,vielleicht\n");
    assert!(table.notes().contains(&"columns not sent: Team 1".to_owned()), "{:?}", table.notes());
    std::fs::write(&path, "[columns]\nexternalID = \"Nr\"\n").unwrap();
    let message = fault("Nr\n7\n", &["--map-file", file]);
    assert!(message.starts_with("--map-file: \"externalID\" is no column of candidates"), "{message}");
    std::fs::write(&path, "[colums]\n").unwrap();
    let message = fault("Nr\n7\n", &["--map-file", file]);
    assert!(message.contains("map.toml: ") && message.contains("colums"), "{message}");
}

#[test]
fn a_workbook_is_sent_as_csv() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, ["externalId", "name.givenName", "address.streetAddress", ""]).unwrap();
    sheet.write_row(1, 0, ["00123", "Ana", "Main Street 1\nFlat 2"]).unwrap();
    sheet.write(3, 0, 1_234_567_890_123_456_789_u64).unwrap();
    let table = open(workbook.save_to_buffer().unwrap(), &[]).unwrap();
    let expected = "externalId,name.givenName,address.streetAddress\n00123,Ana,\"Main Street 1\nFlat 2\"\n\
                    1.2345678901234568E+18,,\n";
    assert_eq!(sent(&table), expected);
    assert_eq!((table.line(0), table.line(1)), (2, 4));
}

#[test]
fn value_in_a_workbook_beyond_the_header_is_an_error() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "externalId").unwrap();
    sheet.write(1, 0, "1").unwrap().write(1, 2, "left-over").unwrap();
    let bytes = workbook.save_to_buffer().unwrap();
    let message = fault(&bytes, &[]);
    assert!(message.starts_with("line 2 has a value in column C, which has no name"), "{message}");
    assert_eq!(sent(&open(bytes, &["--ignore-unknown"]).unwrap()), "externalId\n1\n");
}

/// A workbook with this header and rows, in which cells of digits alone are dates.
fn workbook_with_dates(header: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let (mut workbook, date) = (Workbook::new(), Format::new().set_num_format("yyyy-mm-dd"));
    let sheet = workbook.add_worksheet();
    for (row, cells) in (0..).zip([header].iter().chain(rows)) {
        for (column, cell) in (0..).zip(*cells) {
            match cell.parse::<f64>() {
                Ok(number) => sheet.write_number_with_format(row, column, number, &date).unwrap(),
                Err(_) => sheet.write(row, column, *cell).unwrap(),
            };
        }
    }
    workbook.save_to_buffer().unwrap()
}

#[test]
fn cells_of_rows_that_are_left_out_are_not_refused() {
    let header = ["sourcedId", "givenName", "status"];
    let rows: [&[&str]; 2] = [&["46510", "Bo", "toBeDeleted"], &["u-1", "Ana", "active"]];
    let table = open(workbook_with_dates(&header, &rows), &["--layout", "oneroster"]).unwrap();
    assert_eq!(sent(&table), "externalId,name.givenName\n\nu-1,Ana\n");
    let rows: [&[&str]; 2] = [&["46510", "Bo", "toBeDeleted"], &["46511", "Ana", "active"]];
    let refused = fault(workbook_with_dates(&header, &rows), &["--layout", "oneroster"]);
    assert!(refused.contains("cell A3 holds a date") && !refused.contains("A2"), "{refused}");

    let header = ["externalId", "result.line", "result.outcome"];
    let rows: [&[&str]; 2] = [&["46510", "x", "applied"], &["u-1", "x", "not_applied"]];
    let workbook = workbook_with_dates(&header, &rows);
    let table = open_with(&workbook, &[], true).unwrap();
    assert_eq!(sent(&table), "externalId\n\nu-1\n");
    assert!(open_with(&workbook, &[], false).is_err());
}

#[test]
fn only_the_cell_that_is_sent_is_refused() {
    let header = ["Employee #", "Last Name", "Work Email", "Home Email"];
    let opened = |row: &[&str]| open(workbook_with_dates(&header, &[row]), &["--layout", "bamboohr"]);
    let table = opened(&["7a", "Lima", "ana@example.com", "46510"]).unwrap();
    assert_eq!(sent(&table), "externalId,name.familyName,email\n7a,Lima,ana@example.com\n");
    let refused = opened(&["7a", "Lima", " ", "46510"]).err().unwrap().concat();
    assert!(refused.contains("cell D2 holds a date"), "{refused}");
}

/// One row of each export in its own columns, and what is sent of it.
#[rstest]
#[case::moodle(
    "moodle",
    "username,password,firstname,lastname,email,idnumber,suspended,cohort1,profile_field_shoe size,deleted\n\
     ana,Pw-12345,Ana,Lima,ana@example.com,0091,0,all,40,0\nbo,,Bo,Ek,bo@example.com,0092,0,,,1\n",
    "userName,password,name.givenName,name.familyName,email,externalId,active\n\
     ana,Pw-12345,Ana,Lima,ana@example.com,0091,true\n"
)]
#[case::canvas(
    "canvas",
    "user_id,integration_id,login_id,first_name,last_name,short_name,email,status\n\
     0103,,ana,Ana,Lima,Ani,ana@example.com,active\n0104,,bo,Bo,Ek,,bo@example.com,deleted\n",
    "externalId,userName,name.givenName,name.familyName,email,active\n\
     0103,ana,Ana,Lima,ana@example.com,true\n0104,bo,Bo,Ek,bo@example.com,false\n"
)]
#[case::oneroster(
    "oneroster",
    "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,\
     identifier,email,sms,phone,agentSourcedIds,grades,password\n\
     u-1,,,true,o-1,student,ana,,Ana,Lima,,,ana@example.com,,,,09,\n",
    "externalId,active,userName,name.givenName,name.familyName,email,password\nu-1,true,ana,Ana,Lima,ana@example.com,\n"
)]
#[case::successfactors(
    "successfactors",
    "STATUS,USERID,USERNAME,FIRSTNAME,LASTNAME,GENDER,EMAIL,MANAGER,HR,DEPARTMENT,TIMEZONE,HIREDATE,CUSTOM01\n\
     STATUS,USERID,Username,First Name,Last Name,Gender,Email,Manager,HR,Department,Timezone,Hire Date,Team\n\
     active,u1,u1,Ana,Lima,F,ana@example.com,NO_MANAGER,NO_HR,Sales,Europe/Berlin,01/31/2020,Red\n",
    "active,externalId,userName,name.givenName,name.familyName,email\n\ntrue,u1,u1,Ana,Lima,ana@example.com\n"
)]
#[case::workday(
    "workday",
    "All Workers,,,,\nEmployee ID,Legal Name - First Name,Legal Name - Last Name,Email - Primary Work,Cost Center\n\
     7,Ana,Lima,ana@example.com,40\n",
    "\nexternalId,name.givenName,name.familyName,email\n7,Ana,Lima,ana@example.com\n"
)]
#[case::bamboohr(
    "bamboohr",
    "Employee #,\"Last Name\",\"First Name\",Status,Work Email,Home Email,Birth Date\n\
     7,Lima,Ana,Active,,ana@home.example,01/31/1990\n",
    "externalId,name.familyName,name.givenName,active,email\n7,Lima,Ana,true,ana@home.example\n"
)]
fn every_layout_reads_its_export(#[case] layout: &str, #[case] export: &str, #[case] expected: &str) {
    assert_eq!(sent(&open(export, &["--layout", layout]).unwrap()), expected);
}

#[test]
fn layouts_are_complete_and_name_only_columns_that_exist() {
    use clap::ValueEnum as _;

    let names = layout::LayoutName::value_variants();
    assert_eq!(layout::all().len(), names.len(), "each file can be parsed");
    for name in names {
        let file = layout::find(*name).unwrap();
        assert_eq!(file.name, name.to_possible_value().unwrap().get_name());
        assert!(file.source.starts_with("https://") && !file.about.is_empty(), "{}", file.name);
        for target in file.columns.keys().chain(&file.first_non_empty).chain(file.values.keys()) {
            assert!(Kind::Candidates.knows_column(target), "{}: {target}", file.name);
        }
        assert!(file.columns.contains_key("externalId") && file.columns.contains_key("email"), "{}", file.name);
    }
}
