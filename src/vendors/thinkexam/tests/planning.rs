//! Validation before anything is sent.

use serde_json::json;

use super::*;
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment, Notify, Proctoring};
use crate::domain::candidate::{Address, PhoneKind, PhoneNumber};
use crate::domain::capability::{RetrySafety, WriteKind};
use crate::domain::error::FieldError;
use crate::domain::vendor::{BatchGroup, CandidateSnapshot, Vendor};

fn vendor() -> Arc<dyn Vendor> {
    connected("https://exams.example.com").vendor
}

fn told(faults: &[FieldError]) -> Vec<(&str, &str)> {
    faults.iter().map(|fault| (fault.pointer.as_str(), fault.code.as_ref())).collect()
}

fn known() -> CandidateSnapshot {
    CandidateSnapshot {
        id: candidate_id(),
        person: person(Some("E-1"), "ada@example.com"),
        vendor_ref: serde_json::Map::new(),
        private: std::collections::BTreeMap::new(),
    }
}

fn order() -> NewAssignment {
    NewAssignment {
        candidate: CandidateKey::Email("ada@example.com".into()),
        assessment: "12345".to_owned(),
        valid_from: None,
        valid_until: None,
        center: None,
        notify: Notify::VendorEmail,
        passwordless: true,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::Fail,
        reference: Some("order-1".to_owned()),
    }
}

#[test]
fn a_registration_needs_name_and_e_mail_and_cannot_be_inactive() {
    let person = Person { active: Some(false), ..Person::default() };
    let faults = vendor().plan_registration(&candidate_id(), new_candidate(person), &environment().0).unwrap_err();
    let expected = [("/name", "missing_field"), ("/email", "missing_field"), ("/active", "capability_unsupported")];
    assert_eq!(told(&faults), expected);
}

#[test]
fn unsupported_fields_are_listed() {
    let mut person = person(None, "ada@example.com");
    person.user_name = Some("ada".into());
    person.active = Some(true);
    person.address = Address { locality: Some("London".to_owned()), ..Address::default() };
    person.phone_numbers = vec![
        PhoneNumber { kind: PhoneKind::Mobile, value: "1".to_owned() },
        PhoneNumber { kind: PhoneKind::Work, value: "2".to_owned() },
    ];
    for name in ["extra1", "extra4", "a/b"] {
        person.custom.insert(name.to_owned(), "x".to_owned());
    }
    let planned = vendor().plan_registration(&candidate_id(), new_candidate(person), &environment().0).unwrap();
    let pointers: Vec<_> = planned.warnings.iter().filter_map(|warning| warning.pointer.as_deref()).collect();
    assert_eq!(pointers, ["/userName", "/phoneNumbers/1", "/address/locality", "/custom/a~1b", "/custom/extra4"]);
    assert_eq!(planned.write.person.group.as_deref(), Some("Default course"));
}

#[test]
fn only_the_group_can_change() {
    let vendor = vendor();
    let mut candidate = known();
    candidate.person.group = Some("CE105".to_owned());
    let planned = vendor.plan_update(candidate.clone(), vec!["/group".to_owned()]).unwrap();
    assert_eq!(planned.warnings[0].code.as_str(), "group_added");
    let faults = vendor.plan_update(candidate, vec!["/group".to_owned(), "/email".to_owned()]).unwrap_err();
    assert_eq!(told(&faults), [("/email", "capability_unsupported")]);
    let faults = vendor.plan_update(known(), vec!["/group".to_owned()]).unwrap_err();
    assert_eq!(told(&faults), [("/group", "capability_unsupported")]);
}

#[test]
fn unsupported_decisive_fields_of_an_order_are_rejected() {
    let vendor = vendor();
    let key = VendorKey("ada@example.com".to_owned());
    let plan = |order: &NewAssignment| {
        let id = AssignmentId::generate(&environment().0);
        vendor.plan_assignment(
            &id,
            order,
            key.clone(),
            std::collections::BTreeMap::new(),
            "12345".to_owned(),
            environment().0.now(),
        )
    };
    let booking = plan(&order()).unwrap().write;
    assert_eq!((booking.notify, booking.passwordless), (Notify::VendorEmail, true));
    let now = Some(environment().0.now());
    let order = NewAssignment {
        valid_from: now,
        valid_until: now,
        center: Some("c".to_owned()),
        proctoring: Proctoring { enabled: true, ..Proctoring::default() },
        if_exists: IfAssignmentExists::CreateNew,
        ..order()
    };
    let faults = plan(&order).unwrap_err();
    let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, ["/validFrom", "/validUntil", "/center", "/proctoring/enabled", "/ifExists"]);
    assert!(faults.iter().all(|fault| fault.code == FieldError::UNSUPPORTED));
}

#[test]
fn a_person_is_identified_by_e_mail() {
    let vendor = vendor();
    let someone = person(Some("E-1"), "Ada@Example.com");
    let by_email = CandidateKey::Email("ada@example.com".into());
    let by_number = CandidateKey::ExternalId("E-1".into());
    assert_eq!(vendor.candidate_key(&by_email, None).unwrap().0, "ada@example.com");
    assert_eq!(vendor.candidate_key(&by_email, Some(&someone)).unwrap().0, "Ada@Example.com");
    assert_eq!(vendor.candidate_key(&by_number, Some(&someone)).unwrap().0, "Ada@Example.com");
    assert_eq!(vendor.candidate_key(&by_number, None).unwrap_err().pointer, "/candidate/externalId");
}

#[rstest]
#[case::digits("12345", Some("12345"))]
#[case::empty("", None)]
#[case::space(" 1", None)]
#[case::line_break("1\n", None)]
#[case::too_long(&"1".repeat(101), None)]
fn test_ids_are_printable_text(#[case] text: &str, #[case] expected: Option<&str>) {
    assert_eq!(vendor().assessment_ref(text).as_deref(), expected);
}

#[test]
fn there_are_no_programs() {
    assert_eq!(vendor().program_ref("12345"), None);
}

#[test]
fn rows_without_an_enrolment_number_are_not_batched() {
    let vendor = vendor();
    assert_eq!(vendor.registration_batch(&registration(None, "a@example.com")), BatchGroup::Single);
    let row = registration(Some("E-1"), "a@example.com");
    let sent = r#"{"name":"Ada Lovelace","email":"a@example.com","enrollment_number":"E-1"},"#;
    let together = |at_most| BatchGroup::Keyed { key: String::new(), at_most, bytes: sent.len() };
    assert_eq!(vendor.registration_batch(&row), together(50));
    assert_eq!(vendor.booking_batch(&booking()), BatchGroup::Single);
    let settings = json!({
        "base_url": "https://x.example",
        "signature": { "mode": "static", "ak": "plain:a", "sgn": "plain:b", "ts": "plain:1" },
    });
    let smaller = attempt_connect(settings, &ConnectionSettings { batch_size: 7, ..unlimited() }).unwrap().vendor;
    assert_eq!(smaller.registration_batch(&row), together(7));
}

#[tokio::test]
async fn unsupported_writes_are_rejected_without_a_call() {
    let vendor = vendor();
    let descriptor = vendor.descriptor();
    for &operation in WriteKind::ALL {
        assert_eq!(descriptor.capability(operation).kind, operation);
    }
    assert!(!descriptor.capability(WriteKind::CandidatesDelete).supported);
    let fault = vendor.hide(&known(), &first()).await.unwrap_err();
    assert_eq!(fault.code, crate::domain::error::Code::CapabilityUnsupported);
    assert_eq!(vendor.booking_retry_safety(&booking()), RetrySafety::IdempotentWithFlag);
    assert_eq!(vendor.registration_retry_safety(&registration(None, "a@example.com")), RetrySafety::Idempotent);
}
