//! Every vendor × write kind × way a call can end: the meaning of an HTTP status, whether the vendor may still act on
//! the attempt, and the effect of a body that contradicts its status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{AdapterContext, DESCRIPTORS, Settings};
use crate::domain::assignment::{IfAssignmentExists, Notify, Proctoring};
use crate::domain::candidate::{Name, Person};
use crate::domain::capability::WriteKind;
use crate::domain::error::Code;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::Outcome::{self, NotApplied, Unknown};
use crate::domain::program::{AssessmentScope, Enrolment, ProgramRef};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::units::ConfigDuration;
use crate::domain::vendor::{
    BatchGroup, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, EnrolmentBatch, Priority,
    Registration, Update, Vendor, VendorKey,
};
use crate::domain::vendor_error::{RejectionScope, VendorError};
use crate::secret::{Secret, SecretSource};
use crate::transport::{BreakerSettings, ConnectionSettings};

/// Long enough for the slowest machine; only a hang takes longer.
const TIMEOUT: Duration = Duration::from_mins(1);
const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";
const PROGRAM: &str = "918ae938-8ea5-4298-b5ac-f8ffd873ceb6";

struct Machine;

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_795_348_800).unwrap()
    }
}

impl SecureRandom for Machine {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl SecretSource for Machine {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        Err(format!("{name} is not set"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        Err(format!("{path} cannot be read"))
    }
}

fn environment() -> System {
    System { clock: Arc::new(Machine), entropy: Arc::new(Machine) }
}

/// How the server ends each call.
#[derive(Debug, Clone)]
enum End {
    Answer(u16, String),
    /// Half of the announced body, then the connection closes.
    Half(u16),
    Close,
    Silence,
}

/// A vendor's adapter connected to a server that ends every call in the way set last.
struct VendorHarness {
    vendor: Arc<dyn Vendor>,
    end: Arc<Mutex<End>>,
}

impl VendorHarness {
    async fn start(kind: &str, timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let end = Arc::new(Mutex::new(End::Close));
        let shared = Arc::clone(&end);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let end = shared.lock().unwrap().clone();
                tokio::spawn(serve(stream, end));
            }
        });
        let mut settings = match kind {
            "startexam" => json!({
                "account_id": 99, "secret": "plain:s3cret-of-99", "center": "mycenter",
                "profile_id": "d51b5efd-fb21-4cb8-94e2-145014839465",
            }),
            "thinkexam" => json!({
                "signature": { "mode": "static", "ak": "plain:key-1", "sgn": "plain:sig-1", "ts": "plain:1795348800" },
            }),
            "examtesting" => json!({
                "institution_id": "1234", "api_key": "plain:key-one", "api_pass": "plain:pass-one",
                "update_enabled": true,
            }),
            other => panic!("no settings are written for the vendor {other}"),
        };
        settings["base_url"] = json!(base_url);
        let settings = Settings::read(kind, settings).unwrap().unwrap();
        let connection = ConnectionSettings {
            timeout: ConfigDuration(timeout),
            requests_per_second: 0,
            breaker: BreakerSettings { failures: 0, ..BreakerSettings::default() },
            ..ConnectionSettings::default()
        };
        let setup =
            AdapterContext { name: "main", connection: &connection, secrets: &Machine, environment: environment() };
        let connected = settings.connect(&setup).unwrap_or_else(|faults| panic!("{faults:?}"));
        Self { vendor: connected.vendor, end }
    }

    /// Returns the error of a first call of this write kind that ends in this way; `None` for a success.
    async fn fault(&self, operation: WriteKind, end: End) -> Option<VendorError> {
        *self.end.lock().unwrap() = end;
        let call = CallContext {
            purpose: CallPurpose::Initial,
            priority: Priority::Interactive,
            exchange: Exchange::example(),
        };
        match operation {
            WriteKind::CandidatesCreate => self.vendor.register(&[registration("e1")], &call).await.remove(0).err(),
            WriteKind::CandidatesUpdate => {
                let update = Update { candidate: known(), touched: vec!["/group".to_owned()] };
                self.vendor.update(&update, &call).await.err()
            }
            WriteKind::CandidatesDelete => self.vendor.hide(&known(), &call).await.err(),
            WriteKind::AssignmentsCreate => self.vendor.assign(&[booking()], &call).await.remove(0).err(),
            WriteKind::AssignmentsUpdate => panic!("no vendor changes bookings"),
            WriteKind::AssignmentsCancel => {
                let id = AssignmentId::generate(&environment());
                let candidate = VendorKey("e1@example.com".to_owned());
                let cancellation = Cancellation { id, candidate, assessment: TEST.to_owned() };
                self.vendor.cancel(&cancellation, &call).await.err()
            }
            WriteKind::ProgramsEmployees => {
                let register = vec!["e1".to_owned()];
                let enrolment = Enrolment { scope: AssessmentScope::All, register, unregister: Vec::new() };
                let program = ProgramRef::Id(PROGRAM.to_owned());
                self.vendor.enrol(&EnrolmentBatch { program, enrolment }, &call).await.err()
            }
        }
    }
}

async fn serve(mut stream: TcpStream, end: End) {
    let mut seen = Vec::new();
    loop {
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if seen.len() >= head + 4 + length.unwrap_or(0) {
                break;
            }
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = match end {
        End::Answer(status, body) => format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        End::Half(status) => format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 10\r\n\r\n12345"),
        End::Close => return,
        End::Silence => return std::future::pending().await,
    };
    // Ignore a client that hung up; this ends only its own connection.
    let _written = stream.write_all(text.as_bytes()).await;
}

fn person(external_id: &str) -> Person {
    Person {
        external_id: Some(external_id.into()),
        user_name: Some(external_id.into()),
        name: Name { formatted: Some("Ada King".to_owned()), ..Name::default() },
        email: Some(format!("{external_id}@example.com").into()),
        group: Some("Group A".to_owned()),
        ..Person::default()
    }
}

fn registration(external_id: &str) -> Registration {
    Registration {
        id: CandidateId::generate(&environment()),
        person: person(external_id),
        own_user_name: true,
        password: None,
        own_password: false,
    }
}

fn known() -> CandidateSnapshot {
    CandidateSnapshot {
        id: CandidateId::generate(&environment()),
        person: person("e1"),
        vendor_ref: Map::from_iter([("id".to_owned(), json!("12345"))]),
        private: BTreeMap::new(),
    }
}

fn booking() -> Booking {
    Booking {
        id: AssignmentId::generate(&environment()),
        candidate: VendorKey("e1@example.com".to_owned()),
        private: BTreeMap::new(),
        assessment: TEST.to_owned(),
        center: None,
        valid_from: Some(Timestamp::UNIX_EPOCH),
        valid_until: Some(Machine.now()),
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::CreateNew,
        first_booking: false,
    }
}

fn supported() -> impl Iterator<Item = (&'static str, WriteKind)> {
    DESCRIPTORS.iter().flat_map(|descriptor| {
        let capabilities = descriptor.capabilities.iter().filter(|capability| capability.supported);
        capabilities.map(|capability| (descriptor.kind, capability.kind))
    })
}

/// Returns the expected meaning of a status whose body gives no further information.
fn expected(kind: &str, status: u16) -> (Code, Outcome) {
    match (kind, status) {
        ("startexam", 400) | (_, 413) => (Code::VendorRejectedRequest, NotApplied),
        ("startexam", 404) => (Code::InvalidReference, NotApplied),
        ("startexam" | "thinkexam", 403) | (_, 401) => (Code::ConnectionCredentialsInvalid, NotApplied),
        (_, 429) => (Code::VendorRateLimited, NotApplied),
        (_, 307 | 308) => (Code::VendorBadResponse, NotApplied),
        (_, 300..=399) => (Code::VendorBadResponse, Unknown),
        (_, 400..=499) => (Code::VendorErrorUnmapped, Unknown),
        (_, 503) => (Code::VendorUnavailable, Unknown),
        _ => (Code::VendorInternalError, Unknown),
    }
}

#[rstest]
#[tokio::test]
async fn a_status_means_the_same_for_every_write_kind(
    #[values(
        300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502,
        503, 504
    )]
    status: u16,
) {
    for descriptor in DESCRIPTORS {
        let bench = VendorHarness::start(descriptor.kind, TIMEOUT).await;
        for (kind, operation) in supported().filter(|(kind, _)| *kind == descriptor.kind) {
            for body in ["", "<html><title>Sorry</title></html>", "no JSON"] {
                // A 304 has no body.
                let body = if status == 304 { "" } else { body };
                let error = bench.fault(operation, End::Answer(status, body.to_owned())).await.unwrap();
                let row = format!("{kind} {} {status} {body:?}: {error:?}", operation.as_str());
                assert_eq!((error.code, error.outcome), expected(kind, status), "{row}");
                assert_eq!(error.may_still_complete, status >= 500, "{row}");
                assert_eq!(error.scope == RejectionScope::Batch, status == 413, "{row}");
                assert_eq!(error.vendor.as_ref().and_then(|response| response.http_status), Some(status), "{row}");
            }
        }
    }
}

#[rstest]
#[case::closed(End::Close)]
#[case::half_of_a_success(End::Half(200))]
#[case::half_of_an_error(End::Half(404))]
#[case::silence(End::Silence)]
#[tokio::test]
async fn an_attempt_without_a_complete_response_may_still_take_effect(#[case] end: End) {
    // Silence is waited for, but long enough to connect on a busy machine.
    let timeout = if matches!(end, End::Silence) { Duration::from_secs(2) } else { TIMEOUT };
    for descriptor in DESCRIPTORS {
        let bench = VendorHarness::start(descriptor.kind, timeout).await;
        for (kind, operation) in supported().filter(|(kind, _)| *kind == descriptor.kind) {
            let error = bench.fault(operation, end.clone()).await.unwrap();
            let row = format!("{kind} {}: {error:?}", operation.as_str());
            assert_eq!((error.code, error.outcome), (Code::VendorTimeout, Unknown), "{row}");
            assert!(error.may_still_complete, "{row}");
        }
    }
}

/// Returns a success body as the vendor writes it; `None` if the vendor documents none.
fn success(kind: &str, operation: WriteKind) -> Option<Value> {
    match (kind, operation) {
        ("startexam", WriteKind::AssignmentsCreate) => {
            Some(json!({ "participantIds": ["1f0e8b3a-5a0c-4c39-9b1e-0a4f7a1c2d01"] }))
        }
        ("startexam", WriteKind::ProgramsEmployees) => Some(json!({
            "employeesRegistered": 1, "attemptsRegistered": 1, "employeesUnregistered": 0, "attemptsUnregistered": 0,
            "totalEmployeesInProgram": 1,
        })),
        ("thinkexam", WriteKind::CandidatesCreate | WriteKind::CandidatesUpdate) => Some(json!({
            "responseArray": [{ "result": "success", "data": { "studentId": 1, "enrollmentNo": "e1" } }],
            "result": "Success",
        })),
        ("thinkexam", _) => Some(json!({ "result": "success", "success": { "code": "200", "msg": "done" } })),
        ("examtesting", _) => Some(json!({ "Status": "SUCCESS", "StudentId": "12345" })),
        _ => None,
    }
}

#[tokio::test]
async fn the_content_type_does_not_change_how_a_body_is_read() {
    // The server labels everything `text/html`.
    for descriptor in DESCRIPTORS {
        let bench = VendorHarness::start(descriptor.kind, TIMEOUT).await;
        for (kind, operation) in supported().filter(|(kind, _)| *kind == descriptor.kind) {
            let body = success(kind, operation).map(|body| body.to_string()).unwrap_or_default();
            let fault = bench.fault(operation, End::Answer(200, body.clone())).await;
            assert!(fault.is_none(), "{kind} {} {body}: {fault:?}", operation.as_str());
            let page = "\u{feff}\r\n <!DOCTYPE html><title>Sign in</title>".to_owned();
            let fault = bench.fault(operation, End::Answer(200, page)).await.unwrap();
            assert_eq!((fault.code, fault.outcome), (Code::VendorBadResponse, Unknown), "{kind}: {fault:?}");
            assert!(!fault.may_still_complete, "{kind}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_success_body_under_an_error_status_leaves_the_write_unknown(
    // Without 304, which has no body.
    #[values(
        300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503,
        504
    )]
    status: u16,
) {
    for descriptor in DESCRIPTORS {
        let bench = VendorHarness::start(descriptor.kind, TIMEOUT).await;
        for (kind, operation) in supported().filter(|(kind, _)| *kind == descriptor.kind) {
            let Some(body) = success(kind, operation) else { continue };
            let error = bench.fault(operation, End::Answer(status, body.to_string())).await.unwrap();
            let row = format!("{kind} {} {status}: {error:?}", operation.as_str());
            assert_eq!(
                (error.outcome, error.may_still_complete, error.proves_no_effect),
                (Unknown, status >= 500, false),
                "{row}"
            );
            let (code, outcome) = expected(kind, status);
            // If the status alone leaves the write unknown, its code is kept, except at ThinkExam.
            let keeps_code = kind != "thinkexam" && outcome == Unknown;
            assert_eq!(error.code, if keeps_code { code } else { Code::VendorBadResponse }, "{row}");
        }
    }
}

#[rstest]
#[case::startexam("startexam")]
#[case::thinkexam("thinkexam")]
#[tokio::test]
async fn a_row_counts_with_the_bytes_it_adds_to_its_call(#[case] kind: &str) {
    let bench = VendorHarness::start(kind, TIMEOUT).await;
    let bytes = |packing| match packing {
        BatchGroup::Keyed { bytes, .. } => bytes,
        BatchGroup::Single => panic!("{kind} takes several rows"),
    };
    let short = bytes(bench.vendor.registration_batch(&registration("e1")));
    let mut long = registration("e1");
    long.person.name.formatted = Some("\"".repeat(1000));
    long.person.name.family_name = Some("\"".repeat(1000));
    long.person.photo = Some("A".repeat(1000).into());
    // Each quotation mark takes two bytes.
    let longer = bytes(bench.vendor.registration_batch(&long));
    assert!(longer > short + 2000 - "Ada King".len(), "{short} {longer}");
}
