//! Intents in their sealed form.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::domain::candidate::Person;
use crate::domain::ids::CandidateId;
use crate::domain::intent::{EnrolmentWrite, Intent, Write, WriteOrigin};
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::{Booking, Cancellation, CandidateSnapshot, Registration, Update};
use crate::secret::Secret;
use crate::store::codec::secrets::{read_secret, write_secret};

/// The sealed form of an intent.
#[derive(Serialize)]
pub(super) struct SealedIntent<'a>(#[serde(serialize_with = "IntentRecord::serialize")] pub(super) &'a Intent);

/// An intent read from its sealed form.
#[derive(Deserialize)]
pub(super) struct OpenedIntent(#[serde(with = "IntentRecord")] Intent);

impl From<OpenedIntent> for Intent {
    fn from(OpenedIntent(intent): OpenedIntent) -> Self {
        let opened = if intent.opened == UNKNOWN { intent.started } else { intent.opened };
        Self { opened, ..intent }
    }
}

/// The placeholder of the time at which an intent of an earlier version was first stored, which such an intent does not contain.
const UNKNOWN: Timestamp = Timestamp::MIN;

const fn unknown() -> Timestamp {
    UNKNOWN
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Intent")]
struct IntentRecord {
    tenant: String,
    connection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<Box<str>>,
    #[serde(with = "WriteRecord")]
    write: Write,
    #[serde(default)]
    subject: SubjectKey,
    #[serde(default)]
    origin: WriteOrigin,
    #[serde(default = "unknown")]
    opened: Timestamp,
    started: Timestamp,
    attempts: u32,
    #[serde(rename = "under_way", default)]
    in_flight: bool,
    #[serde(rename = "lingering", default = "lingering")]
    may_still_complete: bool,
    settle_from: Timestamp,
    #[serde(rename = "rested", default, serialize_with = "write_seconds", deserialize_with = "read_seconds")]
    backed_off: Duration,
    #[serde(default)]
    due: Option<Timestamp>,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Write")]
enum WriteRecord {
    Register(#[serde(with = "RegistrationRecord")] Registration),
    Update(#[serde(with = "UpdateRecord")] Update),
    Hide(#[serde(with = "SnapshotRecord")] CandidateSnapshot),
    Assign(Booking),
    Cancel(Cancellation),
    Enrol(EnrolmentWrite),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Registration")]
struct RegistrationRecord {
    id: CandidateId,
    person: Person,
    own_user_name: bool,
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    password: Option<Secret>,
    own_password: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Update")]
struct UpdateRecord {
    #[serde(with = "SnapshotRecord")]
    candidate: CandidateSnapshot,
    touched: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CandidateSnapshot")]
struct SnapshotRecord {
    id: CandidateId,
    person: Person,
    vendor_ref: Map<String, Value>,
    private: BTreeMap<String, String>,
}

/// Default for intents of earlier versions, which did not record it: the last attempt may still take effect.
const fn lingering() -> bool {
    true
}

fn write_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_secs().serialize(serializer)
}

fn read_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}
