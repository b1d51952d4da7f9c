//! Parsing of responses, without a call.

use rstest::rstest;
use serde_json::{Value, json};

use super::super::guid::guid;
use super::super::wire::{by_row, counts, participant_ids};
use super::{FIRST_ID, SECOND_ID};
use crate::vendors::is_touched;

fn ids(text: &[Option<&str>]) -> Vec<Option<String>> {
    text.iter().map(|id| id.map(str::to_owned)).collect()
}

const A: Option<&str> = Some("a");
const B: Option<&str> = Some("b");

#[rstest]
#[case::one(1, false, &[A], Some(&[A][..]))]
#[case::one_without_id(1, false, &[], None)]
#[case::one_null(1, false, &[None], None)]
#[case::one_with_two_ids(1, false, &[A, B], None)]
#[case::two(2, false, &[A, B], Some(&[A, B][..]))]
#[case::two_with_one_id(2, false, &[A], None)]
#[case::two_with_one_id_twice(2, false, &[A, A], None)]
#[case::two_with_a_null(2, false, &[A, None], None)]
#[case::two_without_ids(2, false, &[], None)]
#[case::flagged_one(1, true, &[A], Some(&[A][..]))]
#[case::flagged_one_null(1, true, &[None], Some(&[None][..]))]
#[case::flagged_one_without_id(1, true, &[], Some(&[None][..]))]
#[case::flagged_one_with_two_ids(1, true, &[A, B], None)]
#[case::flagged_one_with_an_id_and_a_null(1, true, &[A, None], None)]
#[case::flagged_two(2, true, &[A, B], Some(&[A, B][..]))]
#[case::flagged_two_with_a_null(2, true, &[None, B], Some(&[None, B][..]))]
#[case::flagged_two_nulls(2, true, &[None, None], Some(&[None, None][..]))]
#[case::flagged_two_with_one_id(2, true, &[A], None)]
#[case::flagged_two_with_one_id_twice(2, true, &[A, A], None)]
#[case::flagged_two_without_ids(2, true, &[], None)]
fn ids_are_assigned_only_if_the_response_is_unambiguous(
    #[case] rows: usize,
    #[case] flagged: bool,
    #[case] response: &[Option<&str>],
    #[case] expected: Option<&[Option<&str>]>,
) {
    assert_eq!(by_row(ids(response), rows, flagged), expected.map(ids));
}

fn read_ids(response: &Value) -> Option<Vec<Option<String>>> {
    participant_ids(response.to_string().as_bytes())
}

#[test]
fn participant_ids_are_guids_in_the_documented_field() {
    let both = Some(ids(&[Some(FIRST_ID), Some(SECOND_ID)]));
    assert_eq!(read_ids(&json!({ "participantIds": [FIRST_ID, SECOND_ID], "more": 1 })), both);
    assert_eq!(read_ids(&json!({ "ParticipantIds": [FIRST_ID.to_uppercase(), format!("{{{SECOND_ID}}}")] })), both);
    assert_eq!(read_ids(&json!({ "participantIds": [null] })), Some(ids(&[None])));
    assert_eq!(
        participant_ids(format!("\u{feff}{{\"participantIds\":[\"{FIRST_ID}\"]}}").as_bytes()).unwrap().len(),
        1
    );
}

#[rstest]
#[case::null(json!({ "participantIds": null }))]
#[case::text(json!({ "participantIds": FIRST_ID }))]
#[case::a_number(json!({ "participantIds": [7] }))]
#[case::not_a_guid(json!({ "participantIds": ["7"] }))]
#[case::nested(json!({ "participantIds": [[FIRST_ID]] }))]
#[case::the_zero_guid(json!({ "participantIds": ["00000000-0000-0000-0000-000000000000"] }))]
#[case::two_spellings(json!({ "participantIds": [FIRST_ID], "ParticipantIds": [SECOND_ID] }))]
#[case::absent(json!({ "message": "registered" }))]
#[case::a_bare_list(json!([FIRST_ID]))]
fn other_participant_ids_are_not_read(#[case] response: Value) {
    assert_eq!(read_ids(&response), None);
}

#[rstest]
#[case::empty("")]
#[case::page("<html></html>")]
#[case::truncated("{\"participantIds\":[\"")]
fn participant_ids_are_not_read_from_anything_but_json(#[case] body: &str) {
    assert_eq!(participant_ids(body.as_bytes()), None);
}

/// Returns a response with five counters, the first of them with this value.
fn counters(first: &Value) -> Value {
    json!({ "EmployeesRegistered": first, "attemptsregistered": 2, "employeesUnregistered": 3.0,
            "attemptsUnregistered": "4", "totalEmployeesInProgram": 5, "extra": true })
}

#[test]
fn counters_are_read_in_any_case_and_form() {
    let read = counts(counters(&json!(1)).to_string().as_bytes()).unwrap();
    assert_eq!(
        [
            read.employees_registered,
            read.attempts_registered,
            read.employees_unregistered,
            read.attempts_unregistered,
            read.total_employees_in_program
        ],
        [1, 2, 3, 4, 5]
    );
}

#[rstest]
#[case::null(json!(null))]
#[case::negative(json!(-1))]
#[case::fraction(json!(1.5))]
#[case::fraction_as_text(json!("1.0"))]
#[case::empty(json!(""))]
#[case::boolean(json!(true))]
#[case::huge(json!(1e300))]
fn an_odd_counter_is_never_guessed(#[case] value: Value) {
    assert_eq!(counts(counters(&value).to_string().as_bytes()), None);
}

#[test]
fn a_missing_or_repeated_counter_is_never_guessed() {
    let mut missing = counters(&json!(1));
    missing.as_object_mut().unwrap().remove("totalEmployeesInProgram");
    assert_eq!(counts(missing.to_string().as_bytes()), None);
    let mut twice = counters(&json!(1));
    twice["employeesRegistered"] = json!(7);
    assert_eq!(counts(twice.to_string().as_bytes()), None);
}

const GUID: Option<&str> = Some("fa19e351-36d0-49c0-be92-66d640b17878");

#[rstest]
#[case::capitals("FA19E351-36D0-49C0-BE92-66D640B17878", GUID)]
#[case::braces("{fa19e351-36d0-49c0-be92-66d640b17878}", GUID)]
#[case::without_hyphens("fa19e35136d049c0be9266d640b17878", GUID)]
#[case::empty("", None)]
#[case::a_word("rust-101", None)]
#[case::a_digit_short("fa19e351-36d0-49c0-be92-66d640b1787", None)]
#[case::space(" fa19e351-36d0-49c0-be92-66d640b17878", None)]
#[case::urn("urn:uuid:fa19e351-36d0-49c0-be92-66d640b17878", None)]
#[case::zero("00000000-0000-0000-0000-000000000000", None)]
fn guids_are_normalised_to_the_vendors_form(#[case] text: &str, #[case] expected: Option<&str>) {
    assert_eq!(guid(text).as_deref(), expected);
}

#[rstest]
#[case::below("/name/givenName", true)]
#[case::itself("/address/country", true)]
#[case::two_above("/phoneNumbers", true)]
#[case::above("/address", true)]
#[case::longer_name("/names", false)]
#[case::beside("/address/locality", false)]
#[case::elsewhere("/email", false)]
fn a_change_affects_fields_above_and_below_its_pointer(#[case] pointer: &str, #[case] affected: bool) {
    let touched = ["/name".to_owned(), "/address/country".to_owned(), "/phoneNumbers/0/value".to_owned()];
    assert_eq!(is_touched(&touched, pointer), affected);
}
