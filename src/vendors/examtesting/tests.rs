//! The adapter against a local server: requests sent and the results of responses.

mod planning;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::domain::candidate::{Address, IfCandidateExists, Name, PhoneKind, PhoneNumber};
use crate::domain::exchange::Exchange;
use crate::domain::outcome::Outcome;
use crate::domain::system::{Clock, SecureRandom};
use crate::secret::SecretSource;
use crate::transport::ConnectionSettings;
use crate::vendors::Settings as AnySettings;

const ID: &str = "cand_0123456789abcdef0123456789abcdef";
const CREDENTIALS: &str = "Institutionid=1234&Apikey=key%26one&ApiPass=pass+w%C3%B6rd";

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// Deterministic entropy: every draw differs, every run is the same.
struct Counting(AtomicU64);

impl SecureRandom for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let drawn = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *byte = drawn.to_be_bytes()[0];
        }
    }
}

fn environment() -> System {
    System { clock: Arc::new(Noon), entropy: Arc::new(Counting(AtomicU64::new(1))) }
}

struct NoSecrets;

impl SecretSource for NoSecrets {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        Err(format!("environment variable {name} is not set"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        Err(format!("file {path} cannot be read"))
    }
}

fn connected(more: Value) -> Result<Arc<dyn Vendor>, Vec<SettingError>> {
    let mut settings = json!({
        "institution_id": "1234", "api_key": "plain:key&one", "api_pass": "plain:pass wörd",
    });
    if let (Value::Object(settings), Value::Object(more)) = (&mut settings, more) {
        settings.extend(more);
    }
    let settings = AnySettings::read("examtesting", settings).unwrap().unwrap();
    let connection = ConnectionSettings { requests_per_second: 0, ..ConnectionSettings::default() };
    let environment = environment();
    let setup = AdapterContext { name: "et", connection: &connection, secrets: &NoSecrets, environment };
    settings.connect(&setup).map(|connected| connected.vendor)
}

fn vendor(more: Value) -> Arc<dyn Vendor> {
    connected(more).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Starts a server that responds to one request with this status and body, and returns that request.
async fn server(status: u16, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        while !is_whole(&seen) {
            let read = stream.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "the request was cut short");
            seen.extend_from_slice(&part[..read]);
        }
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (address, served)
}

fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    body.len() >= length.parse().unwrap()
}

fn call(attempt: CallPurpose) -> CallContext {
    CallContext {
        purpose: attempt,
        priority: crate::domain::vendor::Priority::Interactive,
        exchange: Exchange::example(),
    }
}

fn full() -> Person {
    let text = |text: &str| Some(text.to_owned());
    Person {
        external_id: Some("E-17".into()),
        user_name: Some("jané".into()),
        name: Name { given_name: text("Jané & Co"), family_name: text("Doe=Roe"), formatted: None },
        email: Some("jane+x@example.com".into()),
        active: None,
        phone_numbers: vec![
            PhoneNumber { kind: PhoneKind::Work, value: "+49 30 1".to_owned() },
            PhoneNumber { kind: PhoneKind::Mobile, value: "+49 170 2".to_owned() },
        ],
        address: Address {
            street_address: text("Main St. 1"),
            locality: text("Springfield"),
            region: text("IL"),
            postal_code: text("62701"),
            country: text("US"),
        },
        group: text("Class A"),
        ..Person::default()
    }
}

fn small() -> Person {
    Person { email: Some("a@b.example".into()), group: Some("G".to_owned()), ..Person::default() }
}

fn new(person: Person, password: Option<&str>) -> NewCandidate {
    NewCandidate { person, password: password.map(Secret::new), if_exists: IfCandidateExists::Reuse }
}

fn planned(vendor: &dyn Vendor, person: Person, password: Option<&str>) -> Result<Plan<Registration>, Vec<FieldError>> {
    vendor.plan_registration(&CandidateId::parse(ID).unwrap(), new(person, password), &environment())
}

fn pointers(faults: &[FieldError]) -> Vec<(&str, &str)> {
    faults.iter().map(|fault| (fault.pointer.as_str(), fault.code.as_ref())).collect()
}

async fn registered_with(
    status: u16,
    body: &'static str,
    person: Person,
    attempt: CallPurpose,
) -> RowResult<Registered> {
    let (base_url, served) = server(status, body).await;
    let vendor = vendor(json!({ "base_url": base_url }));
    let row = planned(&*vendor, person, Some("s3cret-Pass")).unwrap().write;
    let mut rows = vendor.register(&[row], &call(attempt)).await;
    served.await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

const FULL: &str = "stusID=E-17&groupName=Class+A&Status=True&firstname=Jan%C3%A9+%26+Co&lastname=Doe%3DRoe\
                    &street=Main+St.+1&city=Springfield&state=IL&zip=62701&country=US&mobile=%2B49+170+2&phone=%2B49+30+1\
                    &email=jane%2Bx%40example.com&username=jan%C3%A9&password=s3cret-Pass";

#[rstest]
#[case::form("form", false, true)]
#[case::query("query", true, false)]
#[case::both("both", true, true)]
#[tokio::test]
async fn parameters_are_sent_in_the_published_order_and_spelling(
    #[case] params_in: &str,
    #[case] in_query: bool,
    #[case] in_body: bool,
) {
    let parameters = format!("{CREDENTIALS}&{FULL}");
    let query = if in_query { format!("&{parameters}") } else { String::new() };
    let (base_url, served) = server(200, "SUCCESS|12345").await;
    let vendor = vendor(json!({ "base_url": base_url, "params_in": params_in }));
    let row = planned(&*vendor, full(), Some("s3cret-Pass")).unwrap().write;
    let rows = vendor.register(&[row], &call(CallPurpose::Initial)).await;
    let seen = served.await.unwrap();
    let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(head.lines().next(), Some(format!("POST /ManageCandidate.aspx?action=add{query} HTTP/1.1").as_str()));
    assert_eq!(sent, if in_body { parameters.as_str() } else { "" });
    let content_type = "content-type: application/x-www-form-urlencoded";
    assert_eq!(head.to_ascii_lowercase().lines().any(|line| line == content_type), in_body);
    assert_eq!(Value::Object(rows[0].as_ref().unwrap().value.vendor_ref.clone()), json!({ "id": "12345" }));
}

#[tokio::test]
async fn absent_fields_are_not_sent() {
    let (base_url, served) = server(200, "SUCCESS|1").await;
    let vendor = vendor(json!({ "base_url": base_url, "send_student_id": false, "default_group": "D" }));
    let person = Person { active: Some(false), external_id: Some("E".into()), group: None, ..small() };
    let row = planned(&*vendor, person, Some("pw")).unwrap().write;
    vendor.register(&[row], &call(CallPurpose::Initial)).await;
    let seen = served.await.unwrap();
    let expected = "groupName=D&Status=False&email=a%40b.example&username=E-89abcdef&password=pw";
    assert!(seen.ends_with(&format!("\r\n\r\n{CREDENTIALS}&{expected}")), "{seen}");
}

#[tokio::test]
async fn an_update_names_the_student_and_sends_cleared_fields_empty() {
    let (base_url, served) = server(200, "Status=SUCCESS").await;
    let vendor = vendor(json!({ "base_url": base_url, "update_enabled": true }));
    let known = CandidateSnapshot {
        id: CandidateId::parse(ID).unwrap(),
        person: Person { user_name: Some("u".into()), external_id: Some("E".into()), ..small() },
        vendor_ref: registered(Some("77".to_owned())).vendor_ref,
        private: BTreeMap::new(),
    };
    let touched = ["/name", "/phoneNumbers", "/birthDate", "/externalId"].map(str::to_owned).to_vec();
    let plan = vendor.plan_update(known.clone(), touched).unwrap();
    let ignored: Vec<_> = plan.warnings.iter().filter_map(|warning| warning.pointer.as_deref()).collect();
    assert_eq!(ignored, ["/birthDate", "/externalId"]);
    let done = vendor.update(&plan.write, &call(CallPurpose::Initial)).await.unwrap();
    assert_eq!(done, WriteSuccess::new(registered(Some("77".to_owned()))));
    let seen = served.await.unwrap();
    assert!(seen.starts_with("POST /ManageCandidate.aspx?action=update HTTP/1.1\r\n"), "{seen}");
    let expected =
        "stusID=77&groupName=G&Status=True&firstname=&lastname=&mobile=&phone=&email=a%40b.example&username=u";
    assert!(seen.ends_with(&format!("\r\n\r\n{CREDENTIALS}&{expected}")), "{seen}");

    let without_id = CandidateSnapshot { vendor_ref: Map::new(), ..known };
    assert_eq!(pointers(&vendor.plan_update(without_id, vec![]).unwrap_err()), [("", "capability_unsupported")]);
}

#[tokio::test]
async fn nothing_is_updated_while_updates_are_disabled() {
    let vendor = vendor(json!({}));
    let known = CandidateSnapshot {
        id: CandidateId::parse(ID).unwrap(),
        person: small(),
        vendor_ref: registered(Some("77".to_owned())).vendor_ref,
        private: BTreeMap::new(),
    };
    assert_eq!(pointers(&vendor.plan_update(known.clone(), vec![]).unwrap_err()), [("", "capability_unsupported")]);
    let update = Update { candidate: known.clone(), touched: vec![] };
    let fault = vendor.update(&update, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::CapabilityUnsupported, Outcome::NotApplied));
    let fault = vendor.hide(&known, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::CapabilityUnsupported, Outcome::NotApplied));
}

#[rstest]
#[case::absent("SUCCESS")]
#[case::zero("Status=SUCCESS&StudentId=0")]
#[tokio::test]
async fn a_success_without_an_id_is_applied_with_a_warning(#[case] body: &'static str) {
    let done = registered_with(200, body, small(), CallPurpose::Initial).await.unwrap();
    assert!(done.value.vendor_ref.is_empty());
    assert_eq!(done.warnings[0].code.as_str(), "vendor_id_missing");
}

#[tokio::test]
async fn a_taken_user_name_on_a_retry_is_proof_only_for_a_generated_one() {
    const TAKEN: &str = "ERROR|1007|Username already exist";
    let first = registered_with(200, TAKEN, small(), CallPurpose::Initial).await.unwrap_err();
    assert_eq!((first.code, first.outcome), (Code::CandidateAlreadyExists, Outcome::NotApplied));
    let own = registered_with(200, TAKEN, small(), CallPurpose::Reconcile).await.unwrap();
    assert_eq!(own.warnings[0].code.as_str(), "vendor_id_missing");
    let theirs = registered_with(200, TAKEN, full(), CallPurpose::Reconcile).await.unwrap_err();
    assert_eq!((theirs.code, theirs.outcome), (Code::CandidateAlreadyExists, Outcome::Unknown));
}

#[tokio::test]
async fn a_rejected_retry_leaves_the_write_unknown_unless_it_is_proof() {
    let proved =
        registered_with(200, "ERROR|1005|Group Name is invalid", small(), CallPurpose::Reconcile).await.unwrap_err();
    assert_eq!(
        (proved.code, proved.outcome, proved.proves_no_effect),
        (Code::GroupNotFound, Outcome::NotApplied, true)
    );
    for body in ["ERROR|1008|Maximum Student count is reached", "status: ERROR, Reason: email is required"] {
        let fault = registered_with(200, body, small(), CallPurpose::Reconcile).await.unwrap_err();
        assert_eq!((fault.outcome, fault.proves_no_effect), (Outcome::Unknown, false), "{body}");
    }
    let fault = registered_with(429, "", small(), CallPurpose::Reconcile).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorRateLimited, Outcome::Unknown));
}

const REFUSED: &str = "ERROR|1005|Group Name is invalid";
const UNPUBLISHED: &str = "ERROR|1099|Unknown error";

#[rstest]
#[case::published_error(200, REFUSED, Code::GroupNotFound, Outcome::NotApplied)]
#[case::published_error_under_400(400, REFUSED, Code::GroupNotFound, Outcome::NotApplied)]
#[case::unpublished_error_under_400(400, UNPUBLISHED, Code::VendorErrorUnmapped, Outcome::Unknown)]
#[case::success_under_404(404, "SUCCESS|12345", Code::VendorErrorUnmapped, Outcome::Unknown)]
#[case::published_error_under_429(429, REFUSED, Code::VendorRateLimited, Outcome::NotApplied)]
#[case::published_error_under_500(500, REFUSED, Code::VendorInternalError, Outcome::Unknown)]
#[case::success_under_500(500, "SUCCESS|12345", Code::VendorInternalError, Outcome::Unknown)]
#[case::page_under_503(
    503,
    "<html><title>Service Unavailable</title></html>",
    Code::VendorUnavailable,
    Outcome::Unknown
)]
#[case::success_under_302(302, "SUCCESS|12345", Code::VendorBadResponse, Outcome::Unknown)]
#[case::page(200, "<html><title>Error</title></html>", Code::VendorBadResponse, Outcome::Unknown)]
#[case::unpublished_error(200, UNPUBLISHED, Code::VendorErrorUnmapped, Outcome::Unknown)]
#[case::empty(200, "", Code::VendorBadResponse, Outcome::Unknown)]
#[tokio::test]
async fn the_status_decides_unless_the_body_has_a_published_error(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] code: Code,
    #[case] outcome: Outcome,
) {
    let error = registered_with(status, body, small(), CallPurpose::Initial).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (code, outcome));
    assert_eq!(error.connection.clone().unwrap().connection, "et");
    assert_eq!(error.vendor.clone().unwrap().http_status, Some(status));
}

#[tokio::test]
async fn the_vendors_message_is_kept_without_secrets() {
    let body = "status=ERROR&Reason=1004&error=Student ID is invalid: key%26one s3cret-Pass";
    let fault = registered_with(200, body, small(), CallPurpose::Initial).await.unwrap_err();
    let said = fault.vendor.clone().unwrap();
    assert_eq!(said.code.as_deref(), Some("1004"));
    assert_eq!(said.message.as_deref(), Some("Student ID is invalid: *** ***"));
    assert_eq!(said.operation, "candidates.create");
}

#[tokio::test]
async fn unsupported_writes_are_declared_and_never_sent() {
    let vendor = vendor(json!({}));
    let declared: Vec<_> = DESCRIPTOR.capabilities.iter().map(|capability| capability.kind).collect();
    assert_eq!(declared, WriteKind::ALL);
    assert!(matches!(vendor.check(&call(CallPurpose::Initial)).await, CredentialCheck::Unchecked { .. }));
    assert_eq!((vendor.assessment_ref("1"), vendor.program_ref("1")), (None, None));
    let key = vendor.candidate_key(&CandidateKey::Email("a@b.example".into()), None).unwrap_err();
    assert_eq!(key.code, FieldError::UNSUPPORTED);
}
