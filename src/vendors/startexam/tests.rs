//! The adapter against a local server: requests sent, byte by byte where signed, and the result of every response.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::server::{Reply, Server};
use super::{Settings, connect};
use crate::domain::assignment::{IfAssignmentExists, Notify, Proctoring};
use crate::domain::candidate::{Name, Person};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::vendor::{
    Booking, CallContext, CallPurpose, CandidateSnapshot, Priority, Registration, Vendor, VendorKey,
};
use crate::secret::{Secret, SecretSource};
use crate::transport::ConnectionSettings;
use crate::vendors::{AdapterContext, SettingError};

mod bookings;
mod candidates;
mod faults;
mod programs;
mod reading;
mod reports;
mod server;
mod settings;

const SECRET: &str = "ZXhhbWdhdGUtdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OTA=";
const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";
const FIRST_ID: &str = "1f0e8b3a-5a0c-4c39-9b1e-0a4f7a1c2d01";
const SECOND_ID: &str = "1f0e8b3a-5a0c-4c39-9b1e-0a4f7a1c2d02";

/// The date of the second signing vector, plus a fraction of a second that must not be sent.
const NOW: &str = "2024-05-03T02:27:07.9Z";

struct Machine;

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        NOW.parse().unwrap()
    }
}

impl SecureRandom for Machine {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl SecretSource for Machine {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        if name == "STARTEXAM_SECRET" { Ok(Secret::new(SECRET)) } else { Err(format!("{name} is not set")) }
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        Err(format!("{path} cannot be read"))
    }
}

fn environment() -> System {
    System { clock: Arc::new(Machine), entropy: Arc::new(Machine) }
}

fn connection() -> ConnectionSettings {
    ConnectionSettings { requests_per_second: 0, ..ConnectionSettings::default() }
}

/// Returns the contract's example with these changes.
fn settings(changes: &Value) -> Settings {
    let mut table = json!({
        "account_id": 99,
        "secret": "env:STARTEXAM_SECRET",
        "center": "mycenter",
        "profile_id": "d51b5efd-fb21-4cb8-94e2-145014839465",
    });
    let members = changes.as_object().unwrap().clone();
    table.as_object_mut().unwrap().extend(members);
    serde_json::from_value(table).unwrap()
}

fn adapter(settings: Settings, connection: &ConnectionSettings) -> Result<Arc<dyn Vendor>, Vec<SettingError>> {
    let setup = AdapterContext { name: "startexam-main", connection, secrets: &Machine, environment: environment() };
    connect(settings, &setup).map(|connected| connected.vendor)
}

/// Returns the adapter with these settings, without a server.
fn unconnected(changes: &Value) -> Arc<dyn Vendor> {
    adapter(settings(changes), &connection()).unwrap()
}

/// Returns the adapter and a server that sends these responses, one per request.
async fn connected(changes: Value, replies: Vec<Reply>) -> (Arc<dyn Vendor>, Server) {
    let server = Server::start(replies).await;
    let mut settings = settings(&changes);
    settings.base_url = server.address();
    (adapter(settings, &connection()).unwrap(), server)
}

fn fixture(text: &str) -> Value {
    let fixture: Value = serde_json::from_str(text).unwrap();
    assert!(fixture["origin"].as_str().is_some_and(|origin| !origin.is_empty()), "a fixture names its origin");
    fixture
}

fn call(attempt: CallPurpose) -> CallContext {
    CallContext { purpose: attempt, priority: Priority::Interactive, exchange: Exchange::example() }
}

fn person(external_id: &str) -> Person {
    Person {
        external_id: Some(external_id.into()),
        name: Name { given_name: Some("John".to_owned()), family_name: Some("Snow".to_owned()), formatted: None },
        email: Some("john.snow@example.com".into()),
        ..Person::default()
    }
}

fn registration(external_id: &str) -> Registration {
    Registration {
        id: CandidateId::generate(&environment()),
        person: person(external_id),
        own_user_name: false,
        password: None,
        own_password: false,
    }
}

fn known(person: Person) -> CandidateSnapshot {
    let vendor_ref = serde_json::Map::from_iter([("id".to_owned(), json!("830507"))]);
    CandidateSnapshot { id: CandidateId::generate(&environment()), person, vendor_ref, private: BTreeMap::new() }
}

fn booking(external_id: &str, if_exists: IfAssignmentExists) -> Booking {
    Booking {
        id: AssignmentId::generate(&environment()),
        candidate: VendorKey(external_id.to_owned()),
        private: BTreeMap::new(),
        assessment: TEST.to_owned(),
        center: Some("mycenter".to_owned()),
        valid_from: Some("2024-05-03T00:00:00Z".parse().unwrap()),
        valid_until: Some("2024-06-03T00:00:00Z".parse().unwrap()),
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists,
        first_booking: true,
    }
}
