//! Bookings: requests, the meaning of every response, and batching.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rstest::rstest;
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

const BAD: &str = "vendor_bad_response unknown";

#[rstest]
// A single flagged row, with every setting.
#[case::unknown_one_id("unknown", CallPurpose::Initial, Reuse, json!([FIRST_ID]), &[FIRST_ID])]
#[case::unknown_no_id("unknown", CallPurpose::Initial, Reuse, json!([]), &["there"])]
#[case::unknown_null("unknown", CallPurpose::Initial, Reuse, json!([null]), &["there"])]
#[case::unknown_two_ids("unknown", CallPurpose::Initial, Reuse, json!([FIRST_ID, SECOND_ID]), &[BAD])]
#[case::left_out("left_out", CallPurpose::Initial, Reuse, json!([]), &["there"])]
#[case::repeated("repeated", CallPurpose::Initial, Reuse, json!([FIRST_ID]), &[FIRST_ID])]
#[case::null("null", CallPurpose::Initial, Reuse, json!([null]), &["there"])]
// Reconciliation always sets the flag.
#[case::reconcile_create_new("unknown", CallPurpose::Reconcile, CreateNew, json!([]), &["there"])]
#[case::reconcile_fail("unknown", CallPurpose::Reconcile, Fail, json!([FIRST_ID]), &[FIRST_ID])]
#[case::reconcile_null("null", CallPurpose::Reconcile, Reuse, json!([null]), &["there"])]
#[case::reconcile_no_list("unknown", CallPurpose::Reconcile, Reuse, json!("odd"), &[BAD])]
// Flagged rows together.
#[case::two_repeated("repeated", CallPurpose::Initial, Reuse, json!([FIRST_ID, SECOND_ID]), &[FIRST_ID, SECOND_ID])]
#[case::two_repeated_one_id("repeated", CallPurpose::Initial, Reuse, json!([SECOND_ID]), &[BAD, BAD])]
#[case::two_repeated_same_id("repeated", CallPurpose::Initial, Reuse, json!([FIRST_ID, FIRST_ID]), &[BAD, BAD])]
#[case::two_null_first("null", CallPurpose::Initial, Reuse, json!([null, SECOND_ID]), &["there", SECOND_ID])]
#[case::two_null_both("null", CallPurpose::Initial, Reuse, json!([null, null]), &["there", "there"])]
#[case::two_null_one_id("null", CallPurpose::Initial, Reuse, json!([SECOND_ID]), &[BAD, BAD])]
#[case::two_null_no_id("null", CallPurpose::Initial, Reuse, json!([]), &[BAD, BAD])]
// Unflagged rows need one distinct id each.
#[case::new_two("null", CallPurpose::Initial, CreateNew, json!([FIRST_ID, SECOND_ID]), &[FIRST_ID, SECOND_ID])]
#[case::new_two_with_null("null", CallPurpose::Initial, CreateNew, json!([null, SECOND_ID]), &[BAD, BAD])]
#[case::fail_no_id("unknown", CallPurpose::Initial, Fail, json!([]), &[BAD])]
#[case::new_two_same_id("unknown", CallPurpose::Initial, CreateNew, json!([FIRST_ID, FIRST_ID]), &[BAD, BAD])]
#[case::new_no_guid("unknown", CallPurpose::Initial, CreateNew, json!(["7"]), &[BAD])]
#[tokio::test]
async fn responses_are_read_by_flag_purpose_and_setting(
    #[case] existing: &str,
    #[case] purpose: CallPurpose,
    #[case] if_exists: IfAssignmentExists,
    #[case] ids: Value,
    #[case] expected: &[&str],
) {
    let settings = json!({ "existing_registration": existing, "bookings_only_here": true });
    let (vendor, server) = connected(settings, vec![answer(&ids)]).await;
    let rows: Vec<Booking> = (0..expected.len()).map(|row| booking(&row.to_string(), if_exists)).collect();
    let done: Vec<String> = vendor.assign(&rows, &call(purpose)).await.into_iter().map(came_to).collect();
    assert_eq!(done, expected);
    let flagged = purpose == CallPurpose::Reconcile || if_exists == Reuse;
    assert_eq!(server.only().json()["doNotCreateIfExist"], flagged);
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

/// Returns two rows, the second of them with this change.
fn with_other(change: fn(&mut Booking)) -> Vec<Booking> {
    let mut other = booking("2", CreateNew);
    change(&mut other);
    vec![booking("1", CreateNew), other]
}

fn two_flagged() -> Vec<Booking> {
    vec![booking("1", Reuse), booking("2", Reuse)]
}

#[rstest]
#[case::candidate("null", CallPurpose::Initial, with_other(|row| row.candidate = VendorKey("1".to_owned())))]
#[case::center("null", CallPurpose::Initial, with_other(|row| row.center = Some("elsewhere".to_owned())))]
#[case::assessment("null", CallPurpose::Initial, with_other(|row| row.assessment = FIRST_ID.to_owned()))]
#[case::valid_from("null", CallPurpose::Initial, with_other(|row| row.valid_from = None))]
#[case::valid_until("null", CallPurpose::Initial, with_other(|row| row.valid_until = None))]
#[case::proctoring("null", CallPurpose::Initial, with_other(|row| row.proctoring.enabled = true))]
#[case::flag("null", CallPurpose::Initial, with_other(|row| row.if_exists = Reuse))]
#[case::flagged_unknown("unknown", CallPurpose::Initial, two_flagged())]
#[case::flagged_left_out("left_out", CallPurpose::Initial, two_flagged())]
#[case::reconciled_together("repeated", CallPurpose::Reconcile, two_flagged())]
#[case::reconciled_without_proof(
    "repeated",
    CallPurpose::Reconcile,
    vec![Booking { first_booking: false, ..booking("1", CreateNew) }]
)]
#[case::none("unknown", CallPurpose::Initial, vec![])]
#[tokio::test]
async fn rows_that_cannot_share_a_call_are_not_sent(
    #[case] existing: &str,
    #[case] purpose: CallPurpose,
    #[case] rows: Vec<Booking>,
) {
    let settings = json!({ "existing_registration": existing });
    let (vendor, server) = connected(settings, vec![answer(&json!([FIRST_ID, SECOND_ID]))]).await;
    let results = vendor.assign(&rows, &call(purpose)).await;
    assert_eq!(results.len(), rows.len());
    for result in results {
        assert_eq!(came_to(result), "internal not_applied");
    }
    assert!(server.seen().is_empty());
}

#[rstest]
#[case::center(|row: &mut Booking| row.center = Some("elsewhere".to_owned()))]
#[case::assessment(|row: &mut Booking| row.assessment = FIRST_ID.to_owned())]
#[case::valid_from(|row: &mut Booking| row.valid_from = Some("2024-05-03T00:00:01Z".parse().unwrap()))]
#[case::valid_until(|row: &mut Booking| row.valid_until = Some("2024-06-03T00:00:01Z".parse().unwrap()))]
#[case::proctoring(|row: &mut Booking| row.proctoring.enabled = true)]
#[case::if_exists(|row: &mut Booking| row.if_exists = Reuse)]
fn only_rows_with_equal_parameters_share_a_batch(#[case] change: fn(&mut Booking)) {
    let vendor = unconnected(&json!({ "existing_registration": "null" }));
    let batch = vendor.booking_batch(&booking("1", CreateNew));
    assert!(matches!(batch, BatchGroup::Keyed { at_most: 500, .. }));
    assert_eq!(vendor.booking_batch(&booking("2", Fail)), batch);
    let mut other = booking("2", CreateNew);
    change(&mut other);
    assert_ne!(vendor.booking_batch(&other), batch);
}

#[rstest]
#[case::unknown("unknown", true)]
#[case::left_out("left_out", true)]
#[case::repeated("repeated", false)]
#[case::null("null", false)]
fn flagged_rows_share_a_batch_if_their_response_would_be_unambiguous(#[case] existing: &str, #[case] alone: bool) {
    let vendor = unconnected(&json!({ "existing_registration": existing }));
    assert_eq!(vendor.booking_batch(&booking("1", Reuse)) == BatchGroup::Single, alone);
    assert_ne!(vendor.booking_batch(&booking("1", CreateNew)), BatchGroup::Single);
}

#[rstest]
#[case::shared_reuse(false, Reuse, false, RetrySafety::IdempotentWithFlag)]
#[case::shared_create_new(false, CreateNew, true, RetrySafety::Unsafe)]
#[case::shared_fail(false, Fail, true, RetrySafety::Unsafe)]
#[case::only_here_create_new(true, CreateNew, true, RetrySafety::IdempotentWithFlag)]
#[case::only_here_fail(true, Fail, true, RetrySafety::IdempotentWithFlag)]
#[case::only_here_create_another(true, CreateNew, false, RetrySafety::Unsafe)]
#[case::only_here_fail_later(true, Fail, false, RetrySafety::Unsafe)]
fn a_retry_is_harmless_only_with_the_flag(
    #[case] only_here: bool,
    #[case] if_exists: IfAssignmentExists,
    #[case] first_booking: bool,
    #[case] expected: RetrySafety,
) {
    let vendor = unconnected(&json!({ "bookings_only_here": only_here }));
    assert_eq!(vendor.booking_retry_safety(&Booking { first_booking, ..booking("1", if_exists) }), expected);
}

fn order() -> NewAssignment {
    NewAssignment {
        candidate: CandidateKey::ExternalId("830507".into()),
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

fn order_with(valid_from: Option<&str>, valid_until: Option<&str>) -> NewAssignment {
    let time = |text: Option<&str>| text.map(|text| text.parse::<Timestamp>().unwrap());
    NewAssignment { valid_from: time(valid_from), valid_until: time(valid_until), ..order() }
}

#[rstest]
#[case::neither(None, None, "2024-05-03T02:27:07Z", "2024-06-02T02:27:07Z")]
#[case::from(Some("2024-05-10T00:00:00.5Z"), None, "2024-05-10T00:00:00Z", "2024-06-09T00:00:00Z")]
#[case::until(None, Some("2024-05-03T02:27:08.1Z"), "2024-05-03T02:27:07Z", "2024-05-03T02:27:08Z")]
#[case::both(
    Some("2020-01-01T00:00:00Z"),
    Some("2030-01-01T00:00:00Z"),
    "2020-01-01T00:00:00Z",
    "2030-01-01T00:00:00Z"
)]
fn validity_is_completed_in_whole_seconds(
    #[case] valid_from: Option<&str>,
    #[case] valid_until: Option<&str>,
    #[case] from: &str,
    #[case] until: &str,
) {
    let write = planned(&order_with(valid_from, valid_until)).unwrap();
    assert_eq!(write.valid_from.unwrap().to_string(), from);
    assert_eq!(write.valid_until.unwrap().to_string(), until);
    assert_eq!(write.center.as_deref(), Some("mycenter"));
}

#[rstest]
#[case::in_the_same_second(None, Some("2024-05-03T02:27:07.95Z"), "/validUntil")]
#[case::in_the_past(None, Some("2024-05-01T00:00:00Z"), "/validUntil")]
#[case::within_a_second(Some("2024-05-10T00:00:00.1Z"), Some("2024-05-10T00:00:00.9Z"), "/validUntil")]
#[case::at_the_end_of_time(Some("9999-12-30T00:00:00Z"), None, "/validFrom")]
fn a_validity_without_a_whole_second_is_rejected(
    #[case] valid_from: Option<&str>,
    #[case] valid_until: Option<&str>,
    #[case] pointer: &str,
) {
    let errors = planned(&order_with(valid_from, valid_until)).unwrap_err();
    assert_eq!((errors.len(), errors[0].pointer.as_str()), (1, pointer));
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
    let email = CandidateKey::Email("john.snow@example.com".into());
    let external = CandidateKey::ExternalId("1".into());
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
