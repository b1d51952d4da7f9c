//! Bookings: requests, the meaning of every response, and batching.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::server::Reply;
use super::{FIRST_ID, NOW, SECOND_ID, TEST, booking, call, connected, environment, fixture, person, unconnected};
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment, Notify, Proctoring};
use crate::domain::capability::RetrySafety;
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{BatchGroup, Booking, CallPurpose, Cancellation, RowResult, VendorKey};
use crate::domain::vendor_error::RejectionScope;

use IfAssignmentExists::{CreateNew, Fail, Reuse};

fn answer(ids: &Value) -> Reply {
    Reply::json(200, &json!({ "participantIds": ids }))
}

/// Describes a row's result: the participant's id, `there` if it existed before and has no id, or error and outcome.
fn came_to(row: RowResult<crate::domain::vendor::Booked>) -> String {
    match row {
        Ok(applied) => {
            let booked = applied.value;
            let warnings: Vec<_> = applied.warnings.iter().map(|warning| warning.code.as_str()).collect();
            assert_eq!(booked.launch.is_some(), !booked.already_there);
            assert_eq!(warnings, if booked.already_there { vec!["launch_unknown"] } else { vec![] });
            booked.vendor_ref.get("id").map_or("there", |id| id.as_str().unwrap()).to_owned()
        }
        Err(fault) => {
            assert!(!format!("{fault:?}").contains("1f0e8b3a"), "an id grants access to an exam");
            format!("{} {}", fault.code.as_str(), fault.outcome.as_str())
        }
    }
}

#[tokio::test]
async fn bookings_are_sent_as_documented_and_matched_by_position() {
    let fixture = fixture(include_str!("../../../../tests/fixtures/startexam/employees_participants.json"));
    let (vendor, server) = connected(json!({}), vec![Reply::json(200, &fixture["response"])]).await;
    let parameters = BTreeMap::from(
        [("Type", "Offline"), ("AuxiliaryCamera", "true")].map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let proctoring = Proctoring { enabled: true, parameters };
    let rows = ["830507", "830508"].map(|id| Booking { proctoring: proctoring.clone(), ..booking(id, CreateNew) });
    let done = vendor.assign(&rows, &call(CallPurpose::Initial)).await;

    assert_eq!(server.only().line, "POST /v2/employees-participants HTTP/1.1");
    assert_eq!(server.only().json(), fixture["request"]);
    for (row, id) in done.into_iter().zip([FIRST_ID, SECOND_ID]) {
        let booked = row.unwrap().value;
        assert_eq!(Value::from(booked.vendor_ref), json!({ "id": id }));
        let launch = booked.launch.unwrap();
        assert_eq!(launch.url, format!("https://go.startexam.com/mycenter#participant/{id}"));
        assert_eq!(launch.expires_at, rows[0].valid_until);
        assert!(!booked.already_there);
    }
}

#[tokio::test]
async fn proctoring_fields_are_omitted_when_off() {
    let (vendor, server) = connected(json!({}), vec![answer(&json!([FIRST_ID]))]).await;
    vendor.assign(&[booking("830507", Reuse)], &call(CallPurpose::Initial)).await[0].as_ref().unwrap();
    let sent = server.only().json();
    assert_eq!(sent["doNotCreateIfExist"], true);
    assert!(!sent.to_string().contains("roctoring"));
}

#[tokio::test]
async fn responses_are_read_by_flag_purpose_and_setting() {
    let bad = "vendor_bad_response unknown";
    let (a, b) = (FIRST_ID, SECOND_ID);
    let cases = [
        // A single flagged row, with every setting.
        ("unknown", CallPurpose::Initial, Reuse, 1, json!([a]), vec![a]),
        ("unknown", CallPurpose::Initial, Reuse, 1, json!([]), vec!["there"]),
        ("unknown", CallPurpose::Initial, Reuse, 1, json!([null]), vec!["there"]),
        ("unknown", CallPurpose::Initial, Reuse, 1, json!([a, b]), vec![bad]),
        ("left_out", CallPurpose::Initial, Reuse, 1, json!([]), vec!["there"]),
        ("repeated", CallPurpose::Initial, Reuse, 1, json!([a]), vec![a]),
        ("null", CallPurpose::Initial, Reuse, 1, json!([null]), vec!["there"]),
        // Reconciliation always sets the flag.
        ("unknown", CallPurpose::Reconcile, CreateNew, 1, json!([]), vec!["there"]),
        ("unknown", CallPurpose::Reconcile, Fail, 1, json!([a]), vec![a]),
        ("null", CallPurpose::Reconcile, Reuse, 1, json!([null]), vec!["there"]),
        ("unknown", CallPurpose::Reconcile, Reuse, 1, json!("odd"), vec![bad]),
        // Flagged rows together.
        ("repeated", CallPurpose::Initial, Reuse, 2, json!([a, b]), vec![a, b]),
        ("repeated", CallPurpose::Initial, Reuse, 2, json!([b]), vec![bad, bad]),
        ("repeated", CallPurpose::Initial, Reuse, 2, json!([a, a]), vec![bad, bad]),
        ("null", CallPurpose::Initial, Reuse, 2, json!([null, b]), vec!["there", b]),
        ("null", CallPurpose::Initial, Reuse, 2, json!([null, null]), vec!["there", "there"]),
        ("null", CallPurpose::Initial, Reuse, 2, json!([b]), vec![bad, bad]),
        ("null", CallPurpose::Initial, Reuse, 2, json!([]), vec![bad, bad]),
        // Unflagged rows need one distinct id each.
        ("null", CallPurpose::Initial, CreateNew, 2, json!([a, b]), vec![a, b]),
        ("null", CallPurpose::Initial, CreateNew, 2, json!([null, b]), vec![bad, bad]),
        ("unknown", CallPurpose::Initial, Fail, 1, json!([]), vec![bad]),
        ("unknown", CallPurpose::Initial, CreateNew, 2, json!([a, a]), vec![bad, bad]),
        ("unknown", CallPurpose::Initial, CreateNew, 1, json!(["7"]), vec![bad]),
    ];
    for (existing, attempt, if_exists, count, ids, expected) in cases {
        let settings = json!({ "existing_registration": existing, "bookings_only_here": true });
        let (vendor, server) = connected(settings, vec![answer(&ids)]).await;
        let rows: Vec<Booking> = (0..count).map(|row| booking(&row.to_string(), if_exists)).collect();
        let done: Vec<String> = vendor.assign(&rows, &call(attempt)).await.into_iter().map(came_to).collect();
        assert_eq!(done, expected, "{existing} {attempt:?} {if_exists:?} {ids}");
        let flagged = attempt == CallPurpose::Reconcile || if_exists == Reuse;
        assert_eq!(server.only().json()["doNotCreateIfExist"], flagged);
    }
}

#[tokio::test]
async fn an_ambiguous_response_fails_the_whole_batch_and_keeps_no_id() {
    let odd = json!({ "participantIds": [FIRST_ID], "message": "partly done" });
    let (vendor, _server) = connected(json!({}), vec![Reply::json(200, &odd)]).await;
    let rows = [booking("1", CreateNew), booking("2", CreateNew)];
    for row in vendor.assign(&rows, &call(CallPurpose::Initial)).await {
        let fault = row.unwrap_err();
        assert_eq!((fault.scope, fault.outcome), (RejectionScope::Batch, Outcome::Unknown));
        assert_eq!(fault.connection.as_ref().unwrap().connection, "startexam-main");
        let said = fault.vendor.clone().unwrap();
        assert_eq!((said.http_status, said.message.as_deref()), (Some(200), Some("partly done")));
    }
}

#[tokio::test]
async fn rows_that_cannot_share_a_call_are_not_sent() {
    let settings = |existing: &str| json!({ "existing_registration": existing });
    let other = |change: fn(&mut Booking)| {
        let mut other = booking("2", CreateNew);
        change(&mut other);
        vec![booking("1", CreateNew), other]
    };
    let first = CallPurpose::Initial;
    let cases = [
        ("null", first, other(|row| row.candidate = VendorKey("1".to_owned()))),
        ("null", first, other(|row| row.center = Some("elsewhere".to_owned()))),
        ("null", first, other(|row| row.assessment = FIRST_ID.to_owned())),
        ("null", first, other(|row| row.valid_from = None)),
        ("null", first, other(|row| row.valid_until = None)),
        ("null", first, other(|row| row.proctoring.enabled = true)),
        ("null", first, other(|row| row.if_exists = Reuse)),
        ("unknown", first, vec![booking("1", Reuse), booking("2", Reuse)]),
        ("left_out", first, vec![booking("1", Reuse), booking("2", Reuse)]),
        ("repeated", CallPurpose::Reconcile, vec![booking("1", Reuse), booking("2", Reuse)]),
        ("repeated", CallPurpose::Reconcile, vec![Booking { first_booking: false, ..booking("1", CreateNew) }]),
    ];
    for (existing, attempt, rows) in cases {
        let (vendor, server) = connected(settings(existing), vec![answer(&json!([FIRST_ID, SECOND_ID]))]).await;
        for row in vendor.assign(&rows, &call(attempt)).await {
            assert_eq!(came_to(row), "internal not_applied", "{rows:?}");
        }
        assert!(server.seen().is_empty());
    }
    let (vendor, server) = connected(json!({}), Vec::new()).await;
    assert!(vendor.assign(&[], &call(first)).await.is_empty());
    assert!(server.seen().is_empty());
}

#[test]
fn only_rows_with_equal_parameters_share_a_batch() {
    let changes: [fn(&mut Booking); 6] = [
        |row| row.center = Some("elsewhere".to_owned()),
        |row| row.assessment = FIRST_ID.to_owned(),
        |row| row.valid_from = Some("2024-05-03T00:00:01Z".parse().unwrap()),
        |row| row.valid_until = Some("2024-06-03T00:00:01Z".parse().unwrap()),
        |row| row.proctoring.enabled = true,
        |row| row.if_exists = Reuse,
    ];
    let vendor = unconnected(&json!({ "existing_registration": "null" }));
    let packed = vendor.booking_batch(&booking("1", CreateNew));
    assert!(matches!(packed, BatchGroup::Keyed { at_most: 500, .. }));
    assert_eq!(vendor.booking_batch(&booking("2", Fail)), packed);
    for change in changes {
        let mut other = booking("2", CreateNew);
        change(&mut other);
        assert_ne!(vendor.booking_batch(&other), packed, "{other:?}");
    }
    for (existing, alone) in [("unknown", true), ("left_out", true), ("repeated", false), ("null", false)] {
        let vendor = unconnected(&json!({ "existing_registration": existing }));
        assert_eq!(vendor.booking_batch(&booking("1", Reuse)) == BatchGroup::Single, alone, "{existing}");
        assert_ne!(vendor.booking_batch(&booking("1", CreateNew)), BatchGroup::Single, "{existing}");
    }
}

#[test]
fn a_retry_is_harmless_only_with_the_flag() {
    let (shared, only_here) = (json!({}), json!({ "bookings_only_here": true }));
    for (settings, if_exists, first_booking, expected) in [
        (&shared, Reuse, false, RetrySafety::IdempotentWithFlag),
        (&shared, CreateNew, true, RetrySafety::Unsafe),
        (&shared, Fail, true, RetrySafety::Unsafe),
        (&only_here, CreateNew, true, RetrySafety::IdempotentWithFlag),
        (&only_here, Fail, true, RetrySafety::IdempotentWithFlag),
        (&only_here, CreateNew, false, RetrySafety::Unsafe),
        (&only_here, Fail, false, RetrySafety::Unsafe),
    ] {
        let row = Booking { first_booking, ..booking("1", if_exists) };
        assert_eq!(unconnected(settings).booking_retry_safety(&row), expected, "{settings} {row:?}");
    }
}

fn order() -> NewAssignment {
    NewAssignment {
        candidate: CandidateKey::ExternalId("830507".to_owned()),
        assessment: TEST.to_owned(),
        valid_from: None,
        valid_until: None,
        center: None,
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: Reuse,
        reference: None,
    }
}

fn planned(order: &NewAssignment) -> Result<Booking, Vec<FieldError>> {
    let (id, key) = (AssignmentId::generate(&environment()), VendorKey("830507".to_owned()));
    let now: Timestamp = NOW.parse().unwrap();
    let planned = unconnected(&json!({})).plan_assignment(&id, order, key, BTreeMap::new(), TEST.to_owned(), now)?;
    assert!(planned.warnings.is_empty());
    Ok(planned.write)
}

#[test]
fn validity_is_completed_in_whole_seconds() {
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let cases = [
        (None, None, "2024-05-03T02:27:07Z", "2024-06-02T02:27:07Z"),
        (time("2024-05-10T00:00:00.5Z"), None, "2024-05-10T00:00:00Z", "2024-06-09T00:00:00Z"),
        (None, time("2024-05-03T02:27:08.1Z"), "2024-05-03T02:27:07Z", "2024-05-03T02:27:08Z"),
        (time("2020-01-01T00:00:00Z"), time("2030-01-01T00:00:00Z"), "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
    ];
    for (valid_from, valid_until, from, until) in cases {
        let write = planned(&NewAssignment { valid_from, valid_until, ..order() }).unwrap();
        assert_eq!(write.valid_from.unwrap().to_string(), from);
        assert_eq!(write.valid_until.unwrap().to_string(), until);
        assert_eq!(write.center.as_deref(), Some("mycenter"));
    }
    for (valid_from, valid_until, pointer) in [
        (None, time("2024-05-03T02:27:07.95Z"), "/validUntil"),
        (None, time("2024-05-01T00:00:00Z"), "/validUntil"),
        (time("2024-05-10T00:00:00.1Z"), time("2024-05-10T00:00:00.9Z"), "/validUntil"),
        (time("9999-12-30T00:00:00Z"), None, "/validFrom"),
    ] {
        let faults = planned(&NewAssignment { valid_from, valid_until, ..order() }).unwrap_err();
        assert_eq!((faults.len(), faults[0].pointer.as_str()), (1, pointer));
    }
}

#[test]
fn every_unsupported_field_of_an_order_is_reported() {
    let order = NewAssignment { notify: Notify::VendorEmail, passwordless: true, ..order() };
    let faults = planned(&order).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.pointer.as_str(), &*fault.code)).collect();
    assert_eq!(told, [("/notify", "capability_unsupported"), ("/passwordless", "capability_unsupported")]);
}

#[tokio::test]
async fn a_launch_link_percent_encodes_the_centre() {
    let settings = json!({ "link_template": "https://go.example.com/{center}?p={id}" });
    let (vendor, _server) = connected(settings, vec![answer(&json!([FIRST_ID]))]).await;
    let row = Booking { center: Some("ä/../{id}#&".to_owned()), ..booking("1", Reuse) };
    let booked = vendor.assign(&[row], &call(CallPurpose::Initial)).await.remove(0).unwrap().value;
    let expected = format!("https://go.example.com/%C3%A4%2F..%2F%7Bid%7D%23%26?p={FIRST_ID}");
    assert_eq!(booked.launch.unwrap().url, expected);
}

#[test]
fn candidates_are_identified_by_their_external_id() {
    let vendor = unconnected(&json!({}));
    let id = CandidateKey::Id(CandidateId::generate(&environment()));
    let email = CandidateKey::Email("john.snow@example.com".to_owned());
    let external = CandidateKey::ExternalId("1".to_owned());
    let known = person("830507");
    assert_eq!(vendor.candidate_key(&id, Some(&known)), Ok(VendorKey("830507".to_owned())));
    assert_eq!(vendor.candidate_key(&email, Some(&known)), Ok(VendorKey("830507".to_owned())));
    assert_eq!(vendor.candidate_key(&external, None), Ok(VendorKey("1".to_owned())));
    let fault = vendor.candidate_key(&id, None).unwrap_err();
    assert_eq!((fault.pointer.as_str(), &*fault.code), ("/candidate/id", "invalid_reference"));
    let fault = vendor.candidate_key(&email, None).unwrap_err();
    assert_eq!((fault.pointer.as_str(), &*fault.code), ("/candidate/email", "invalid_field"));
    assert_eq!(vendor.assessment_ref(&TEST.to_uppercase()).as_deref(), Some(TEST));
    assert_eq!(vendor.assessment_ref("rust-101"), None);
}

#[tokio::test]
async fn a_withdrawal_is_rejected_without_a_call() {
    let (vendor, server) = connected(json!({}), Vec::new()).await;
    let cancellation = Cancellation {
        id: AssignmentId::generate(&environment()),
        candidate: VendorKey("1".to_owned()),
        assessment: TEST.to_owned(),
    };
    let fault = vendor.cancel(&cancellation, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::CapabilityUnsupported, Outcome::NotApplied));
    assert!(server.seen().is_empty());
}
