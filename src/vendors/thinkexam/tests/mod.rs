//! The adapter against a local server: requests sent, field by field, and the result of each response.

mod calls;
mod planning;
mod reading;
mod reports;
mod settings;
mod signature;
mod stub;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Settings, connect};
use crate::domain::candidate::{IfCandidateExists, Name, NewCandidate, Person};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::vendor::{Booking, CallContext, CallPurpose, Priority, Registration, VendorKey};
use crate::secret::{Secret, SecretSource};
use crate::transport::ConnectionSettings;
use crate::vendors::{AdapterContext, SettingError, VendorConnection};

/// A clock that advances only when a test moves it.
struct Still(AtomicI64);

impl Still {
    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct Zeros;

impl SecureRandom for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
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

fn environment() -> (System, Arc<Still>) {
    let clock = Arc::new(Still(AtomicI64::new(1_795_348_800)));
    (System { clock: clock.clone(), entropy: Arc::new(Zeros) }, clock)
}

fn attempt_connect(settings: Value, connection: &ConnectionSettings) -> Result<VendorConnection, Vec<SettingError>> {
    attempt_connect_in(settings, connection, environment().0)
}

fn attempt_connect_in(
    settings: Value,
    connection: &ConnectionSettings,
    environment: System,
) -> Result<VendorConnection, Vec<SettingError>> {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    connect(settings, &AdapterContext { name: "thinkexam-main", connection, secrets: &NoSecrets, environment })
}

/// Returns a connection with a fixed signature.
fn connected(base: &str) -> VendorConnection {
    connected_with(base, &json!({}))
}

fn connected_with(base: &str, more: &Value) -> VendorConnection {
    let mut settings = json!({
        "base_url": base,
        "default_group": "Default course",
        "signature": { "mode": "static", "ak": "plain:key-1", "sgn": "plain:sig-1", "ts": "plain:1795348800" },
    });
    let members = settings.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    attempt_connect(settings, &unlimited()).unwrap()
}

fn unlimited() -> ConnectionSettings {
    ConnectionSettings { requests_per_second: 0, max_in_flight: 64, ..ConnectionSettings::default() }
}

fn call(attempt: CallPurpose) -> CallContext {
    CallContext { purpose: attempt, priority: Priority::Interactive, exchange: Exchange::example() }
}

fn first() -> CallContext {
    call(CallPurpose::Initial)
}

fn settling() -> CallContext {
    call(CallPurpose::Reconcile)
}

fn candidate_id() -> CandidateId {
    CandidateId::generate(&environment().0)
}

fn person(external_id: Option<&str>, email: &str) -> Person {
    Person {
        external_id: external_id.map(Into::into),
        name: Name { formatted: Some("Ada Lovelace".to_owned()), ..Name::default() },
        email: Some(email.into()),
        ..Person::default()
    }
}

fn new_candidate(person: Person) -> NewCandidate {
    NewCandidate { person, password: None, if_exists: IfCandidateExists::default() }
}

fn registration(external_id: Option<&str>, email: &str) -> Registration {
    Registration {
        id: candidate_id(),
        person: person(external_id, email),
        own_user_name: false,
        password: None,
        own_password: false,
    }
}

fn numbered(numbers: &[&str]) -> Vec<Registration> {
    numbers.iter().map(|number| registration(Some(number), &format!("{number}@example.com"))).collect()
}

fn booking() -> Booking {
    use crate::domain::assignment::{IfAssignmentExists, Notify, Proctoring};
    Booking {
        id: AssignmentId::generate(&environment().0),
        candidate: VendorKey("ada@example.com".to_owned()),
        private: std::collections::BTreeMap::new(),
        assessment: "12345".to_owned(),
        center: None,
        valid_from: None,
        valid_until: None,
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::Reuse,
        first_booking: false,
    }
}

/// Loads the body of a fixture.
macro_rules! fixture {
    ($name:literal) => {{
        let text = include_str!(concat!("../../../../tests/fixtures/thinkexam/", $name, ".json"));
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(file["origin"].is_string(), "a fixture says where it is from");
        file["body"].clone()
    }};
}
use fixture;
