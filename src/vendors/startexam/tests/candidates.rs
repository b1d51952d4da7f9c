//! Candidates: mapping to profile fields, ignored fields, cleared fields.

use rstest::rstest;
use serde_json::{Value, json};

use super::server::Reply;
use super::{SECRET, call, connected, environment, fixture, known, person, registration, unconnected};
use crate::domain::candidate::{IfCandidateExists, NewCandidate, Person, PhoneKind, PhoneNumber};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::vendor::{BatchGroup, CallPurpose, Plan, Registration, Update};
use crate::domain::vendor_error::RejectionScope;
use crate::secret::Secret;
use crate::vendors::startexam::sign::authorization;

fn new(person: Person) -> NewCandidate {
    NewCandidate { person, password: None, if_exists: IfCandidateExists::Reuse }
}

fn planned(settings: &Value, new: NewCandidate) -> Result<Plan<Registration>, Vec<FieldError>> {
    unconnected(settings).plan_registration(&CandidateId::generate(&environment()), new, &environment())
}

fn told(warnings: &[Warning]) -> Vec<(&str, &str)> {
    warnings.iter().map(|w| (w.code.as_str(), w.pointer.as_deref().unwrap_or(""))).collect()
}

fn ignored<'a>(pointers: &[&'a str]) -> Vec<(&'static str, &'a str)> {
    pointers.iter().map(|pointer| ("field_ignored", *pointer)).collect()
}

fn full_person() -> Person {
    let mut full = person("830507");
    full.user_name = Some("john".into());
    full.name.formatted = Some("John Snow".to_owned());
    full.group = Some("Watch".to_owned());
    full.birth_date = Some("1990-01-02".to_owned());
    full.gender = Some("m".to_owned());
    full.photo = Some("QUJD".to_owned().into());
    full.address.country = Some("Westeros".to_owned());
    full.phone_numbers = vec![
        PhoneNumber { kind: PhoneKind::Work, value: "2".to_owned() },
        PhoneNumber { kind: PhoneKind::Mobile, value: "1".to_owned() },
    ];
    full.custom.insert("House/Clan".to_owned(), "Stark".to_owned());
    full
}

#[tokio::test]
async fn a_registration_matches_the_vendors_example_and_its_signature_the_sent_bytes() {
    let fixture = fixture(include_str!("../../../../tests/fixtures/startexam/employees.json"));
    // The response's format is undocumented, so its body does not matter.
    let (vendor, server) = connected(json!({}), vec![Reply::new(200, "")]).await;
    let rows = vendor.register(&[registration("830507")], &call(CallPurpose::Initial)).await;

    let applied = rows[0].as_ref().unwrap();
    assert_eq!(Value::from(applied.value.vendor_ref.clone()), json!({ "id": "830507" }));
    assert!(applied.warnings.is_empty() && applied.value.private.is_empty());
    let seen = server.only();
    assert_eq!(seen.line, "POST /v1/employees HTTP/1.1");
    assert_eq!(seen.json(), fixture["request"]);
    assert_eq!(seen.body.len(), seen.json().to_string().len(), "compact, and written once");
    for name in ["accept", "content-type"] {
        assert_eq!(seen.header(name), Some("application/json; charset=utf-8"));
    }
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    let date = "Fri, 03 May 2024 02:27:07 GMT";
    assert_eq!(seen.header("date"), Some(date));
    let signed = authorization("POST", "/v1/employees", date, seen.body.len(), 99, SECRET.as_bytes());
    assert_eq!(seen.header("authorization"), Some(signed.as_str()));
}

#[tokio::test]
async fn a_path_prefix_and_another_key_encoding_are_signed_as_configured() {
    let (_, server) = connected(json!({}), vec![Reply::new(200, "{}")]).await;
    let mut settings = super::settings(&json!({ "secret_encoding": "base64" }));
    settings.base_url = format!("{}/Proxy/", server.address());
    let vendor = super::adapter(settings, &super::connection()).unwrap();
    vendor.register(&[registration("830507")], &call(CallPurpose::Initial)).await[0].as_ref().unwrap();

    let seen = server.only();
    assert_eq!(seen.line, "POST /Proxy/v1/employees HTTP/1.1");
    let key = b"examgate-test-secret-01234567890";
    let date = seen.header("date").unwrap();
    let signed = authorization("POST", "/proxy/v1/employees", date, seen.body.len(), 99, key);
    assert_eq!(seen.header("authorization"), Some(signed.as_str()));
}

#[tokio::test]
async fn people_in_one_call_share_its_outcome() {
    let answers = vec![Reply::new(200, "{}"), Reply::json(400, &json!({ "message": "Field 'Email' is not valid" }))];
    let (vendor, server) = connected(json!({}), answers).await;
    let mut rows = [registration("830507"), registration("830508")];
    rows[1].person.active = Some(false);

    let done = vendor.register(&rows, &call(CallPurpose::Initial)).await;
    assert!(done.len() == 2 && done.iter().all(Result::is_ok));
    let sent = server.only().json();
    assert_eq!([&sent["employees"][0]["status"], &sent["employees"][1]["status"]], ["active", "hidden"]);

    for refused in vendor.register(&rows, &call(CallPurpose::Initial)).await {
        let fault = refused.unwrap_err();
        assert_eq!((fault.code, fault.outcome), (Code::VendorRejectedRequest, Outcome::NotApplied));
        assert_eq!((fault.scope, fault.proves_no_effect), (RejectionScope::Batch, false));
        assert_eq!(fault.vendor.clone().unwrap().message.unwrap(), "Field 'Email' is not valid");
    }
}

#[tokio::test]
async fn a_call_with_a_duplicate_employee_is_never_sent() {
    let (vendor, server) = connected(json!({}), vec![Reply::new(200, "{}")]).await;
    for refused in vendor.register(&[registration("1"), registration("1")], &call(CallPurpose::Initial)).await {
        let fault = refused.unwrap_err();
        assert_eq!(
            (fault.code, fault.outcome, fault.scope),
            (Code::Internal, Outcome::NotApplied, RejectionScope::Batch)
        );
    }
    assert!(server.seen().is_empty());
    assert!(vendor.register(&[], &call(CallPurpose::Initial)).await.is_empty());
}

#[tokio::test]
async fn a_web_page_is_not_a_success() {
    let page = Reply::new(200, "<!DOCTYPE html><title>Sign in</title>").with("Content-Type: text/html");
    let (vendor, _server) = connected(json!({}), vec![page]).await;
    let fault = vendor.register(&[registration("1")], &call(CallPurpose::Initial)).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorBadResponse, Outcome::Unknown));
    assert_eq!(fault.vendor.clone().unwrap().message, None);
}

#[test]
fn a_person_needs_an_external_id_and_unsupported_fields_are_listed() {
    let faults = planned(&json!({}), new(Person::default())).unwrap_err();
    assert_eq!(faults[0].pointer, "/externalId");
    assert_eq!(faults[0].code, "missing_field");

    let full = NewCandidate { password: Some(Secret::new("hunter2-hunter2")), ..new(full_person()) };
    let planned = planned(&json!({}), full).unwrap();
    assert!(planned.write.password.is_none());
    let expected = [
        "/name/formatted",
        "/address/country",
        "/phoneNumbers/1",
        "/phoneNumbers/0",
        "/userName",
        "/group",
        "/birthDate",
        "/gender",
        "/photo",
        "/password",
    ];
    assert_eq!(told(&planned.warnings), ignored(&expected));
}

#[tokio::test]
async fn fields_are_sent_to_the_configured_profile_fields() {
    let fields = json!({ "profile_fields": {
        "formatted": "Name", "given_name": "", "phone_mobile": "Mobile", "phone_work": "Phone", "country": "Land",
    } });
    let planned = planned(&fields, new(full_person())).unwrap();
    let expected = ["/name/givenName", "/userName", "/group", "/birthDate", "/gender", "/photo"];
    assert_eq!(told(&planned.warnings), ignored(&expected));

    let (vendor, server) = connected(fields, vec![Reply::new(200, "{}")]).await;
    vendor.register(&[planned.write], &call(CallPurpose::Initial)).await[0].as_ref().unwrap();
    let sent = server.only().json();
    let data = sent["employees"][0]["data"].as_array().unwrap().iter();
    let data: Vec<_> = data.map(|pair| (pair["name"].as_str().unwrap(), pair["value"].as_str().unwrap())).collect();
    let expected = [
        ("Last Name", "Snow"),
        ("Name", "John Snow"),
        ("Email", "john.snow@example.com"),
        ("Land", "Westeros"),
        ("Mobile", "1"),
        ("Phone", "2"),
        ("House/Clan", "Stark"),
    ];
    assert_eq!(data, expected);
}

#[test]
fn one_profile_field_is_not_filled_twice() {
    let mut person = person("830507");
    person.custom.insert("Email".to_owned(), "other@example.com".to_owned());
    let faults = planned(&json!({}), new(person.clone())).unwrap_err();
    assert_eq!((faults[0].pointer.as_str(), &*faults[0].code), ("/custom/Email", "invalid_field"));
    person.email = None;
    assert!(planned(&json!({}), new(person)).is_ok());
}

#[tokio::test]
async fn an_update_sends_the_whole_person_and_empties_cleared_fields() {
    let (vendor, server) = connected(json!({}), vec![Reply::new(200, "{}")]).await;
    let mut person = person("830507");
    person.email = None;
    person.active = Some(false);
    person.group = Some("Watch".to_owned());
    person.user_name = Some("john".into());
    let touched = ["/email", "/active", "/group", "/custom/House~1Clan"].map(str::to_owned).to_vec();
    let planned = vendor.plan_update(known(person), touched).unwrap();
    assert_eq!(told(&planned.warnings), ignored(&["/group"]));

    let applied = vendor.update(&planned.write, &call(CallPurpose::Initial)).await.unwrap();
    assert_eq!(Value::from(applied.value.vendor_ref), json!({ "id": "830507" }));
    let expected = json!({ "id": "830507", "status": "hidden", "data": [
        { "name": "First Name", "value": "John" },
        { "name": "Last Name", "value": "Snow" },
        { "name": "Email", "value": "" },
        { "name": "House/Clan", "value": "" },
    ] });
    assert_eq!(server.only().json()["employees"], json!([expected]));
}

#[test]
fn unsupported_updates_are_rejected() {
    let vendor = unconnected(&json!({}));
    let refused = |person: Person, touched: &str| {
        let faults = vendor.plan_update(known(person), vec![touched.to_owned()]).err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.pointer, fault.code.into_owned())).collect::<Vec<_>>()
    };
    let unsupported = |pointer: &str| vec![(pointer.to_owned(), "capability_unsupported".to_owned())];
    assert_eq!(refused(person("830508"), "/externalId"), unsupported("/externalId"));
    assert_eq!(refused(Person { external_id: None, ..person("x") }, "/externalId"), unsupported("/externalId"));
    assert_eq!(refused(person("830507"), "/externalId"), []);
    assert_eq!(refused(person("830507"), "/custom"), unsupported("/custom"));
    let planned = vendor.plan_update(known(person("830507")), vec!["/password".to_owned()]).unwrap();
    assert_eq!(told(&planned.warnings), ignored(&["/password"]));
}

#[tokio::test]
async fn hiding_keeps_the_persons_data() {
    let (vendor, server) = connected(json!({}), vec![Reply::new(200, "{}"), Reply::new(500, "")]).await;
    vendor.hide(&known(person("830507")), &call(CallPurpose::Initial)).await.unwrap();
    let employee = &server.only().json()["employees"][0];
    assert_eq!((&employee["status"], employee["data"].as_array().unwrap().len()), (&json!("hidden"), 3));

    let update = Update { candidate: known(person("830507")), touched: Vec::new() };
    let fault = vendor.update(&update, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorInternalError, Outcome::Unknown));
}

#[rstest]
#[case::not_configured(0, 500)]
#[case::smaller(50, 50)]
#[case::larger_than_documented(9_000, 500)]
fn registrations_share_calls_of_the_configured_size(#[case] batch_size: usize, #[case] expected: usize) {
    let connection = crate::transport::ConnectionSettings { batch_size, ..super::connection() };
    let vendor = super::adapter(super::settings(&json!({})), &connection).unwrap();
    let BatchGroup::Keyed { at_most, key, bytes } = vendor.registration_batch(&registration("1")) else {
        panic!("registrations are batched")
    };
    assert_eq!(at_most, expected);
    assert_eq!(vendor.registration_batch(&registration("2")), BatchGroup::Keyed { at_most, key, bytes });
}
