//! Intents in their sealed form.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::candidate::Person;
use crate::domain::ids::CandidateId;
use crate::domain::intent::{EnrolmentWrite, Intent, Write, WriteOrigin};
use crate::domain::vendor::{Booking, Cancellation, CandidateSnapshot, Registration, Update};
use crate::secret::Secret;
use crate::store::codec::secrets::{read_secret, write_secret};

/// Sealed form of an [`Intent`].
#[derive(Serialize, Deserialize)]
pub(super) struct IntentRecord {
    tenant: String,
    connection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<Box<str>>,
    write: WriteRecord,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    origin: WriteOrigin,
    #[serde(default)]
    opened: Option<Timestamp>,
    started: Timestamp,
    attempts: u32,
    #[serde(default)]
    under_way: bool,
    #[serde(default = "lingering")]
    lingering: bool,
    settle_from: Timestamp,
    /// In seconds.
    #[serde(default)]
    rested: u64,
    #[serde(default)]
    due: Option<Timestamp>,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WriteRecord {
    Register(RegistrationRecord),
    Update { candidate: KnownRecord, touched: Vec<String> },
    Hide(KnownRecord),
    Assign(Booking),
    Cancel(Cancellation),
    Enrol(EnrolmentWrite),
}

#[derive(Serialize, Deserialize)]
struct RegistrationRecord {
    id: CandidateId,
    person: Person,
    own_user_name: bool,
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    password: Option<Secret>,
    own_password: bool,
}

#[derive(Serialize, Deserialize)]
struct KnownRecord {
    id: CandidateId,
    person: Person,
    vendor_ref: Map<String, Value>,
    private: BTreeMap<String, String>,
}

/// Default for intents of earlier versions, which did not record it: the last attempt may still take effect.
const fn lingering() -> bool {
    true
}

impl From<Intent> for IntentRecord {
    fn from(intent: Intent) -> Self {
        let Intent {
            tenant,
            connection,
            destination,
            write,
            subject,
            origin,
            opened,
            started,
            attempts,
            under_way,
            lingering,
            settle_from,
            rested,
            due,
            reason,
        } = intent;
        let (write, opened, rested) = (write.into(), Some(opened), rested.as_secs());
        Self {
            tenant,
            connection,
            destination,
            write,
            subject,
            origin,
            opened,
            started,
            attempts,
            under_way,
            lingering,
            settle_from,
            rested,
            due,
            reason,
        }
    }
}

impl From<IntentRecord> for Intent {
    fn from(record: IntentRecord) -> Self {
        let IntentRecord {
            tenant,
            connection,
            destination,
            write,
            subject,
            origin,
            opened,
            started,
            attempts,
            under_way,
            lingering,
            settle_from,
            rested,
            due,
            reason,
        } = record;
        let (write, opened, rested) = (write.into(), opened.unwrap_or(started), Duration::from_secs(rested));
        Self {
            tenant,
            connection,
            destination,
            write,
            subject,
            origin,
            opened,
            started,
            attempts,
            under_way,
            lingering,
            settle_from,
            rested,
            due,
            reason,
        }
    }
}

impl From<Write> for WriteRecord {
    fn from(write: Write) -> Self {
        match write {
            Write::Register(registration) => {
                let Registration { id, person, own_user_name, password, own_password } = registration;
                Self::Register(RegistrationRecord { id, person, own_user_name, password, own_password })
            }
            Write::Update(Update { candidate, touched }) => Self::Update { candidate: candidate.into(), touched },
            Write::Hide(candidate) => Self::Hide(candidate.into()),
            Write::Assign(booking) => Self::Assign(booking),
            Write::Cancel(cancellation) => Self::Cancel(cancellation),
            Write::Enrol(enrolment) => Self::Enrol(enrolment),
        }
    }
}

impl From<WriteRecord> for Write {
    fn from(record: WriteRecord) -> Self {
        match record {
            WriteRecord::Register(registration) => {
                let RegistrationRecord { id, person, own_user_name, password, own_password } = registration;
                Self::Register(Registration { id, person, own_user_name, password, own_password })
            }
            WriteRecord::Update { candidate, touched } => Self::Update(Update { candidate: candidate.into(), touched }),
            WriteRecord::Hide(candidate) => Self::Hide(candidate.into()),
            WriteRecord::Assign(booking) => Self::Assign(booking),
            WriteRecord::Cancel(cancellation) => Self::Cancel(cancellation),
            WriteRecord::Enrol(enrolment) => Self::Enrol(enrolment),
        }
    }
}

impl From<CandidateSnapshot> for KnownRecord {
    fn from(candidate: CandidateSnapshot) -> Self {
        let CandidateSnapshot { id, person, vendor_ref, private } = candidate;
        Self { id, person, vendor_ref, private }
    }
}

impl From<KnownRecord> for CandidateSnapshot {
    fn from(record: KnownRecord) -> Self {
        let KnownRecord { id, person, vendor_ref, private } = record;
        Self { id, person, vendor_ref, private }
    }
}
