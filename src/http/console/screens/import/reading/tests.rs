use rust_xlsxwriter::Workbook;

use super::*;
use crate::sheet::choices;
use crate::sheet::kind::Kind;
use crate::sheet::times::Times;

fn entered() -> Entered {
    Entered {
        kind: Kind::Candidates,
        connection: String::new(),
        layout: None,
        sheet: String::new(),
        encoding: None,
        zone: String::new(),
        zone_fault: None,
        times: Times::default(),
        if_exists: None,
        fail_on_errors: String::new(),
        allows_damaged_ids: false,
        only_failed: false,
        basis: String::new(),
        targets: None,
    }
}

fn review_of(table: impl AsRef<[u8]>, entered: &Entered) -> Review {
    read(Bytes::copy_from_slice(table.as_ref()), entered)
}

fn targets(review: &Review) -> Vec<&str> {
    review.columns.iter().map(|column| column.target.as_str()).collect()
}

fn sent(review: &Review) -> &str {
    std::str::from_utf8(&review.bulk.as_ref().unwrap().content).unwrap()
}

const TABLE: &str = "externalId;First Name;E-Mail;Notes\nemp-1;Ana;ana@example.org;x\nemp-2;Bo;not an address;y\n";

#[test]
fn columns_are_proposed_with_samples_and_rows_are_checked() {
    let review = review_of(TABLE, &entered());
    assert_eq!(targets(&review), ["externalId", "name.givenName", "email", ""]);
    assert_eq!(review.columns.iter().map(|column| column.is_guess).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(review.columns[1].samples, ["Ana", "Bo"]);
    assert_eq!(review.columns[3].own.as_deref(), Some("custom.Notes"));
    let bulk = review.bulk.as_ref().unwrap();
    assert_eq!((bulk.rows, bulk.wrong), (2, 1));
    assert_eq!((bulk.errors[0].line, bulk.errors[0].place.as_str()), (3, "C E-Mail"));
    assert!(review.notes.iter().all(|note| !note.contains("--")), "{:?}", review.notes);
}

#[test]
fn guesses_do_not_compete_for_a_field() {
    let table = "First Name;Vorname;email;E-Mail;externalId\nAna;Anna;a@example.org;b@example.org;emp-1\n";
    let review = review_of(table, &entered());
    assert_eq!(targets(&review), ["name.givenName", "", "email", "", "externalId"]);
    assert!(review.bulk.is_some(), "{:?}", review.faults);
}

#[test]
fn choices_count_as_long_as_they_are_about_the_same_columns() {
    let first = review_of(TABLE, &entered());
    let chosen = ["userName", "", "", "custom.Notes"].map(str::to_owned).to_vec();
    let again = Entered { basis: first.basis.clone(), targets: Some(chosen.clone()), ..entered() };
    let review = review_of(TABLE, &again);
    assert_eq!(targets(&review), ["userName", "", "", "custom.Notes"]);
    assert!(sent(&review).starts_with("userName,custom.Notes\nemp-1,x\n"), "{}", sent(&review));
    assert_ne!(review.bulk.as_ref().unwrap().digest, first.bulk.as_ref().unwrap().digest);
    let moved = Entered { layout: choices::parse("moodle"), ..again };
    assert_ne!(targets(&review_of(TABLE, &moved)), ["userName", "", "", "custom.Notes"]);
}

#[test]
fn what_is_wrong_with_the_whole_table_is_said_in_the_words_of_the_form() {
    let first = review_of(TABLE, &entered());
    let both = ["email", "email", "", ""].map(str::to_owned).to_vec();
    let twice = review_of(TABLE, &Entered { basis: first.basis.clone(), targets: Some(both), ..entered() });
    assert_eq!(
        twice.faults,
        ["Column A \"externalId\" and column B \"First Name\" are both sent as email; leave one out."]
    );
    let none = Entered { basis: first.basis, targets: Some(vec![String::new(); 4]), ..entered() };
    assert_eq!(review_of(TABLE, &none).faults, ["No column is sent; choose a field for at least one."]);
    assert_eq!(review_of("externalId\n", &entered()).faults, ["The table has no rows below the row of column names."]);
    assert!(review_of("", &entered()).faults[0].contains("is empty"));
    let bookings = Entered { kind: Kind::Assignments, layout: choices::parse("moodle"), ..entered() };
    assert_eq!(review_of(TABLE, &bookings).faults, ["The layout is for candidates, not for bookings."]);
}

#[test]
fn a_table_with_more_rows_than_are_allowed_is_refused() {
    let rows = |count: usize| format!("externalId\n{}", "emp-1\n".repeat(count));
    assert_eq!(review_of(rows(MAX_ROWS), &entered()).bulk.unwrap().rows, MAX_ROWS);
    let large = review_of(rows(MAX_ROWS + 1), &entered());
    assert!(large.bulk.is_none() && large.faults[0].contains("more than 10000 rows"), "{:?}", large.faults);
}

#[test]
fn secrets_have_no_samples_and_cells_beyond_the_header_are_a_column() {
    let review = review_of("externalId,password\nemp-1,hush-hush,stray\n", &entered());
    assert_eq!(review.columns[1].target, "password");
    assert!(review.columns[1].samples.is_empty());
    assert_eq!((review.columns[2].name.as_str(), review.columns[2].samples[0].as_str()), ("", "stray"));
}

#[test]
fn the_sheets_of_a_workbook_are_offered_and_a_bomb_is_refused() {
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Notes").unwrap().write(0, 0, "not this").unwrap();
    let people = workbook.add_worksheet().set_name("People").unwrap();
    people.write_row(0, 0, ["externalId", "email"]).unwrap().write_row(1, 0, ["0091", "a@example.org"]).unwrap();
    let file = workbook.save_to_buffer().unwrap();
    assert_eq!(review_of(&file, &entered()).sheets, ["Notes", "People"]);
    let review = review_of(&file, &Entered { sheet: "People".to_owned(), ..entered() });
    assert_eq!(review.sheets, ["People", "Notes"]);
    assert_eq!(sent(&review), "externalId,email\n0091,a@example.org\n");

    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "externalId").unwrap();
    let text = "a".repeat(32_000);
    for row in 1..1_200 {
        sheet.write(row, 0, format!("{row}{text}")).unwrap();
    }
    let bomb = workbook.save_to_buffer().unwrap();
    assert!(bomb.len() < super::super::carried::MAX_FILE, "it is small: {}", bomb.len());
    let refused = review_of(&bomb, &entered());
    assert!(refused.bulk.is_none() && refused.faults[0].contains("too large when unpacked"), "{:?}", refused.faults);
}
