//! Parsing of responses, without a call.

use serde_json::{Value, json};

use super::super::guid::guid;
use super::super::wire::{by_row, counts, participant_ids};
use super::{FIRST_ID, SECOND_ID};
use crate::vendors::is_touched;

fn ids(text: &[Option<&str>]) -> Vec<Option<String>> {
    text.iter().map(|id| id.map(str::to_owned)).collect()
}

#[test]
fn ids_are_assigned_only_if_the_response_is_unambiguous() {
    const A: Option<&str> = Some("a");
    const B: Option<&str> = Some("b");
    // Rows, flagged, response, and the id of each row.
    type Case = (usize, bool, &'static [Option<&'static str>], Option<&'static [Option<&'static str>]>);
    let cases: [Case; 20] = [
        (1, false, &[A], Some(&[A])),
        (1, false, &[], None),
        (1, false, &[None], None),
        (1, false, &[A, B], None),
        (2, false, &[A, B], Some(&[A, B])),
        (2, false, &[A], None),
        (2, false, &[A, A], None),
        (2, false, &[A, None], None),
        (2, false, &[], None),
        (1, true, &[A], Some(&[A])),
        (1, true, &[None], Some(&[None])),
        (1, true, &[], Some(&[None])),
        (1, true, &[A, B], None),
        (1, true, &[A, None], None),
        (2, true, &[A, B], Some(&[A, B])),
        (2, true, &[None, B], Some(&[None, B])),
        (2, true, &[None, None], Some(&[None, None])),
        (2, true, &[A], None),
        (2, true, &[A, A], None),
        (2, true, &[], None),
    ];
    for (rows, flagged, answer, expected) in cases {
        assert_eq!(by_row(ids(answer), rows, flagged), expected.map(ids), "{rows} {flagged} {answer:?}");
    }
}

#[test]
fn participant_ids_are_guids_in_the_documented_field() {
    let read = |answer: Value| participant_ids(answer.to_string().as_bytes());
    let both = Some(ids(&[Some(FIRST_ID), Some(SECOND_ID)]));
    assert_eq!(read(json!({ "participantIds": [FIRST_ID, SECOND_ID], "more": 1 })), both);
    assert_eq!(read(json!({ "ParticipantIds": [FIRST_ID.to_uppercase(), format!("{{{SECOND_ID}}}")] })), both);
    assert_eq!(read(json!({ "participantIds": [null] })), Some(ids(&[None])));
    for odd in [
        json!({ "participantIds": null }),
        json!({ "participantIds": FIRST_ID }),
        json!({ "participantIds": [7] }),
        json!({ "participantIds": ["7"] }),
        json!({ "participantIds": [[FIRST_ID]] }),
        json!({ "participantIds": ["00000000-0000-0000-0000-000000000000"] }),
        json!({ "participantIds": [FIRST_ID], "ParticipantIds": [SECOND_ID] }),
        json!({ "message": "registered" }),
        json!([FIRST_ID]),
    ] {
        assert_eq!(read(odd.clone()), None, "{odd}");
    }
    assert_eq!(
        participant_ids(format!("\u{feff}{{\"participantIds\":[\"{FIRST_ID}\"]}}").as_bytes()).unwrap().len(),
        1
    );
    for broken in ["", "<html></html>", "{\"participantIds\":[\""] {
        assert_eq!(participant_ids(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn counters_are_read_in_any_case_and_form_but_never_guessed() {
    let good = |value: Value| {
        json!({ "EmployeesRegistered": value, "attemptsregistered": 2, "employeesUnregistered": 3.0,
                "attemptsUnregistered": "4", "totalEmployeesInProgram": 5, "extra": true })
    };
    let read = counts(good(json!(1)).to_string().as_bytes()).unwrap();
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
    for odd in [json!(null), json!(-1), json!(1.5), json!("1.0"), json!(""), json!(true), json!(1e300)] {
        assert_eq!(counts(good(odd.clone()).to_string().as_bytes()), None, "{odd}");
    }
    let mut missing = good(json!(1));
    missing.as_object_mut().unwrap().remove("totalEmployeesInProgram");
    assert_eq!(counts(missing.to_string().as_bytes()), None);
    let mut twice = good(json!(1));
    twice["employeesRegistered"] = json!(7);
    assert_eq!(counts(twice.to_string().as_bytes()), None);
}

#[test]
fn guids_are_normalised_to_the_vendors_form() {
    let form = Some("fa19e351-36d0-49c0-be92-66d640b17878".to_owned());
    for text in [
        "FA19E351-36D0-49C0-BE92-66D640B17878",
        "{fa19e351-36d0-49c0-be92-66d640b17878}",
        "fa19e35136d049c0be9266d640b17878",
    ] {
        assert_eq!(guid(text), form, "{text}");
    }
    for text in [
        "",
        "rust-101",
        "fa19e351-36d0-49c0-be92-66d640b1787",
        " fa19e351-36d0-49c0-be92-66d640b17878",
        "urn:uuid:fa19e351-36d0-49c0-be92-66d640b17878",
        "00000000-0000-0000-0000-000000000000",
    ] {
        assert_eq!(guid(text), None, "{text}");
    }
}

#[test]
fn a_change_affects_fields_above_and_below_its_pointer() {
    let touched = ["/name".to_owned(), "/address/country".to_owned(), "/phoneNumbers/0/value".to_owned()];
    for pointer in ["/name/givenName", "/address/country", "/phoneNumbers", "/address"] {
        assert!(is_touched(&touched, pointer), "{pointer}");
    }
    for pointer in ["/names", "/address/locality", "/email"] {
        assert!(!is_touched(&touched, pointer), "{pointer}");
    }
}
