//! Requests sent to the vendor, and their results.

use serde_json::json;

use super::stub::{Stub, ok};
use super::*;
use crate::domain::assignment::Notify;
use crate::domain::candidate::{PhoneKind, PhoneNumber};
use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{Cancellation, CandidateSnapshot, CredentialCheck, Update};

#[tokio::test]
async fn a_registration_is_sent_as_a_bare_array_with_signed_headers() {
    let stub = Stub::answering(ok(&fixture!("register_success"))).await;
    let vendor = connected(&stub.url).vendor;
    let mut ada = person(Some("E-1"), "ada@example.com");
    ada.phone_numbers = vec![
        PhoneNumber { kind: PhoneKind::Work, value: "+44 1".to_owned() },
        PhoneNumber { kind: PhoneKind::Mobile, value: "+44 20 7946 0000".to_owned() },
    ];
    ada.gender = Some("F".to_owned());
    ada.birth_date = Some("1990-12-10".to_owned());
    ada.group = Some("CE104".to_owned());
    ada.photo = Some("aGVsbG8=".to_owned().into());
    for (name, value) in [("extra1", "one"), ("extra2", "two"), ("extra3", "three"), ("shoe size", "38")] {
        ada.custom.insert(name.to_owned(), value.to_owned());
    }
    let ada = NewCandidate { password: Some(Secret::new("Tr1cky \"pw\"")), ..new_candidate(ada) };
    let mut grace = person(Some("E-2"), "grace@example.com");
    grace.name =
        Name { given_name: Some("Grace B.".to_owned()), family_name: Some("Hopper".to_owned()), formatted: None };
    let environment = environment().0;
    let rows = [ada, new_candidate(grace)]
        .map(|new| vendor.plan_registration(&candidate_id(), new, &environment).unwrap().write);

    let results = vendor.register(&rows, &first()).await;

    let seen = stub.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/api/v1/bulkCandidateRegister"));
    assert_eq!(["ak", "sgn", "ts"].map(|name| seen[0].header(name)), ["key-1", "sig-1", "1795348800"]);
    assert_eq!(seen[0].header("content-type"), "application/json");
    assert_eq!(seen[0].json(), fixture!("register_request"));
    let grace = results[1].as_ref().unwrap();
    let expected = json!({
        "id": "85638920",
        "enrollmentNumber": "E-2",
        "profilePic": "https://exams.example.com/p/85638920.png",
    });
    assert_eq!(serde_json::Value::from(grace.value.vendor_ref.clone()), expected);
    assert!(results[0].as_ref().unwrap().value.private.is_empty(), "a token no link needs is not kept");
}

#[tokio::test]
async fn a_password_can_be_sent_in_base64() {
    let stub = Stub::answering(ok(&fixture!("register_single"))).await;
    let vendor = connected_with(&stub.url, &json!({ "password_encoding": "base64" })).vendor;
    let row = Registration { password: Some(Secret::new("pässword")), ..registration(Some("E-1"), "ada@example.com") };
    vendor.register(&[row], &first()).await[0].as_ref().unwrap();
    assert_eq!(stub.seen()[0].json()[0]["password"], "cMOkc3N3b3Jk");
}

#[tokio::test]
async fn a_reconciling_retry_is_the_same_write() {
    let stub = Stub::answering(ok(&fixture!("register_single"))).await;
    let vendor = connected(&stub.url).vendor;
    let row =
        Registration { password: Some(Secret::new("first-word")), ..registration(Some("E-1"), "ada@example.com") };
    vendor.register(std::slice::from_ref(&row), &first()).await[0].as_ref().unwrap();
    vendor.register(&[row], &settling()).await[0].as_ref().unwrap();
    assert_eq!(stub.seen()[0].body, stub.seen()[1].body);
}

#[tokio::test]
async fn a_duplicate_e_mail_in_a_call_is_sent_once() {
    let stub = Stub::answering(ok(&fixture!("register_single"))).await;
    let vendor = connected(&stub.url).vendor;
    let rows = [registration(Some("E-1"), "ada@example.com"), registration(Some("E-9"), "ADA@example.com")];
    let results = vendor.register(&rows, &first()).await;
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().code, Code::DuplicateItem);
    assert_eq!(stub.seen()[0].json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_update_sends_the_group_and_never_a_password() {
    let stub = Stub::answering(ok(&fixture!("register_single"))).await;
    let vendor = connected(&stub.url).vendor;
    let mut person = person(Some("E-1"), "ada@example.com");
    person.group = Some("CE105".to_owned());
    let candidate = CandidateSnapshot {
        id: candidate_id(),
        person,
        vendor_ref: serde_json::Map::new(),
        private: std::collections::BTreeMap::new(),
    };
    let update = Update { candidate, touched: vec!["/group".to_owned()] };
    vendor.update(&update, &first()).await.unwrap();
    let expected = json!([{
        "name": "Ada Lovelace", "email": "ada@example.com", "enrollment_number": "E-1", "courseName": "CE105",
    }]);
    assert_eq!(stub.seen()[0].json(), expected);
}

#[tokio::test]
async fn an_assignment_has_flags_as_text() {
    let stub = Stub::answering(ok(&fixture!("assign_success"))).await;
    let vendor = connected(&stub.url).vendor;
    let row = Booking { notify: Notify::VendorEmail, ..booking() };
    let results = vendor.assign(&[row], &first()).await;
    let seen = stub.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/api/v1/assignTest"));
    assert_eq!(seen[0].json(), fixture!("assign_request"));
    let booked = results[0].as_ref().unwrap();
    assert_eq!((&booked.value.launch, booked.warnings.as_slice()), (&None, [].as_slice()));
}

#[tokio::test]
async fn a_retried_assignment_sends_no_second_mail() {
    let stub = Stub::answering(ok(&fixture!("assign_success"))).await;
    let vendor = connected(&stub.url).vendor;
    let row = Booking { notify: Notify::VendorEmail, passwordless: true, ..booking() };
    let results = vendor.assign(&[row, booking()], &settling()).await;
    let seen = stub.seen();
    assert_eq!((&seen[0].json()["isMailEnable"], &seen[0].json()["isPasswordSkip"]), (&json!("0"), &json!("1")));
    assert_eq!(results[0].as_ref().unwrap().warnings[0].code.as_str(), "mail_uncertain");
    assert!(results[1].as_ref().unwrap().warnings.is_empty(), "no mail was asked for");
}

#[tokio::test]
async fn a_launch_link_uses_the_token_stored_at_registration() {
    let stub = Stub::start(|seen, _| match seen.path.as_str() {
        "/api/v1/assignTest" => ok(&fixture!("assign_success")),
        _ => ok(&fixture!("register_single")),
    })
    .await;
    let link = json!({ "link_template": "https://exams.example.com/go/{token}?for={email}" });
    let vendor = connected_with(&stub.url, &link).vendor;
    let registered = vendor.register(&numbered(&["E-1"]), &first()).await.remove(0).unwrap().value;
    let with_token =
        Booking { candidate: VendorKey("ada+1@example.com".to_owned()), private: registered.private, ..booking() };
    let results = vendor.assign(&[with_token, booking()], &first()).await;
    let launch = results[0].as_ref().unwrap().value.launch.as_ref().unwrap();
    assert_eq!(launch.url, "https://exams.example.com/go/tok%2B85638919%2A%3D?for=ada%2B1%40example.com");
    let without = results[1].as_ref().unwrap();
    assert_eq!((&without.value.launch, without.warnings[0].code.as_str()), (&None, "launch_unknown"));
}

#[tokio::test]
async fn a_withdrawal_names_candidate_and_test() {
    let stub = Stub::answering(ok(&fixture!("deassign_success"))).await;
    let vendor = connected(&stub.url).vendor;
    vendor.cancel(&cancellation(), &first()).await.unwrap();
    let seen = stub.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/api/v1/deassignTest"));
    assert_eq!(seen[0].json(), fixture!("deassign_request"));
}

#[tokio::test]
async fn an_error_on_a_retried_withdrawal_proves_nothing() {
    let stub = Stub::answering(ok(&fixture!("error_3095"))).await;
    let vendor = connected(&stub.url).vendor;
    let at_first = vendor.cancel(&cancellation(), &first()).await.unwrap_err();
    assert_eq!((at_first.code, at_first.outcome), (Code::MissingField, Outcome::NotApplied));
    let repeated = vendor.cancel(&cancellation(), &settling()).await.unwrap_err();
    assert_eq!((repeated.outcome, repeated.proves_no_effect), (Outcome::Unknown, false));
}

#[tokio::test]
async fn a_check_without_a_signature_service_sends_nothing() {
    let stub = Stub::answering(ok(&json!({}))).await;
    assert!(matches!(connected(&stub.url).vendor.check(&first()).await, CredentialCheck::Unchecked { .. }));
    assert!(stub.seen().is_empty());
}

fn cancellation() -> Cancellation {
    let Booking { id, candidate, assessment, .. } = booking();
    Cancellation { id, candidate, assessment }
}
