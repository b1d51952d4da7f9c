//! Webhooks and deliveries in their sealed form.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::event::EventType;
use crate::domain::ids::{AssignmentId, DeliveryId, EventId, WebhookId};
use crate::domain::webhook::{
    Delivery, DeliveryAttempt, DeliveryReason, DeliveryState, DisableReason, Webhook, WebhookSecret, WebhookSettings,
    WebhookSource, WebhookState,
};
use crate::secret::Secret;
use crate::store::codec::secrets::{read_secret, write_secret};
use crate::store::codec::{RecordCodec, micros, unknown_format};
use crate::store::columns::{Columns, FromColumns};
use crate::store::{StoreError, WebhookHealth, WebhookScan};

const WEBHOOKS: &str = "webhooks";
const DELIVERIES: &str = "deliveries";

/// A change of webhooks and deliveries, ready to write.
pub(in crate::store) enum WebhookMutation {
    Put(Box<WebhookRow>),
    /// The tenant and the webhook.
    Remove(String, String),
    Scan(ScanRow),
    Health(HealthRow),
}

impl WebhookMutation {
    /// Returns the id of the webhook.
    pub(in crate::store) fn id(&self) -> &str {
        match self {
            Self::Put(row) => &row.id,
            Self::Remove(_, id) => id,
            Self::Scan(row) => &row.id,
            Self::Health(row) => &row.id,
        }
    }

    /// Returns the size of what it writes, roughly.
    pub(in crate::store) fn bytes(&self) -> usize {
        match self {
            Self::Put(row) => row.sealed.len(),
            Self::Remove(..) | Self::Scan(_) | Self::Health(_) => 0,
        }
    }
}

/// A row of `webhooks`.
pub(in crate::store) struct WebhookRow {
    pub id: String,
    pub tenant: String,
    pub version: i64,
    pub scanned: i64,
    pub failures: i64,
    pub failing_since: Option<i64>,
    pub resume_at: Option<i64>,
    pub sealed: Vec<u8>,
}

impl FromColumns for WebhookRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            id: row.column(0)?,
            tenant: row.column(1)?,
            version: row.column(2)?,
            scanned: row.column(3)?,
            failures: row.column(4)?,
            failing_since: row.column(5)?,
            resume_at: row.column(6)?,
            sealed: row.column(7)?,
        })
    }
}

/// The step of a scan.
pub(in crate::store) struct ScanRow {
    pub id: String,
    pub version: i64,
    pub before: i64,
    pub scanned: i64,
}

impl From<WebhookScan> for ScanRow {
    fn from(scan: WebhookScan) -> Self {
        let WebhookScan { id, version, before, scanned } = scan;
        Self { id: id.into(), version: column(version), before: column(before), scanned: column(scanned) }
    }
}

/// The health of a webhook.
pub(in crate::store) struct HealthRow {
    pub id: String,
    pub version: i64,
    pub failures: i64,
    pub failing_since: Option<i64>,
    pub resume_at: Option<i64>,
}

impl From<WebhookHealth> for HealthRow {
    fn from(health: WebhookHealth) -> Self {
        let WebhookHealth { id, version, failures, failing_since, resume_at } = health;
        let (failing_since, resume_at) = (failing_since.map(micros), resume_at.map(micros));
        Self { id: id.into(), version: column(version), failures: failures.into(), failing_since, resume_at }
    }
}

/// The sealed part of a webhook.
#[derive(Serialize, Deserialize)]
struct WebhookRecord {
    id: WebhookId,
    tenant: String,
    owner: String,
    source: WebhookSource,
    settings: WebhookSettings,
    secrets: Vec<SecretRecord>,
    state: WebhookState,
    reason: Option<DisableReason>,
    created: Timestamp,
    last_modified: Timestamp,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct SecretRecord {
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    value: Option<Secret>,
    expires: Option<Timestamp>,
}

/// A row of `deliveries`.
pub(in crate::store) struct DeliveryRow {
    pub id: String,
    pub tenant: String,
    pub webhook: String,
    pub event: String,
    pub sequence: i64,
    pub event_type: String,
    pub assignment: Option<String>,
    pub connection: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub step: i64,
    pub due: Option<i64>,
    pub created: i64,
    pub attempts: Vec<u8>,
    pub version: i64,
    /// When it ended: at its last attempt, or when it was given up. Not read.
    pub ended: Option<i64>,
}

impl FromColumns for DeliveryRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            id: row.column(0)?,
            tenant: row.column(1)?,
            webhook: row.column(2)?,
            event: row.column(3)?,
            sequence: row.column(4)?,
            event_type: row.column(5)?,
            assignment: row.column(6)?,
            state: row.column(7)?,
            step: row.column(8)?,
            due: row.column(9)?,
            created: row.column(10)?,
            attempts: row.column(11)?,
            connection: row.column(12)?,
            reason: row.column(13)?,
            version: row.column(14)?,
            ended: None,
        })
    }
}

impl RecordCodec {
    pub(super) fn webhook_row(&self, webhook: Webhook) -> Result<WebhookRow, StoreError> {
        let Webhook {
            id,
            tenant,
            owner,
            source,
            settings,
            secrets,
            state,
            reason,
            scanned,
            failures,
            failing_since,
            resume_at,
            created,
            last_modified,
            version,
        } = webhook;
        let secret = |WebhookSecret { value, expires }| SecretRecord { value: Some(value), expires };
        let secrets = secrets.into_iter().map(secret).collect();
        let record = WebhookRecord {
            id,
            tenant,
            owner,
            source,
            settings,
            secrets,
            state,
            reason,
            created,
            last_modified,
            version,
        };
        let sealed = self.seal(WEBHOOKS, record.id.as_str(), &record)?;
        Ok(WebhookRow {
            id: record.id.into(),
            tenant: record.tenant,
            version: column(version),
            scanned: column(scanned),
            failures: failures.into(),
            failing_since: failing_since.map(micros),
            resume_at: resume_at.map(micros),
            sealed,
        })
    }

    pub(in crate::store) fn webhook(&self, row: &WebhookRow) -> Result<Webhook, StoreError> {
        let record: WebhookRecord = self.open_json(WEBHOOKS, &row.id, &row.sealed)?;
        let odd = || unknown_format(WEBHOOKS, &row.id);
        if record.id.as_str() != row.id || record.tenant != row.tenant || column(record.version) != row.version {
            return Err(mismatch(WEBHOOKS, &row.id));
        }
        let secret = |SecretRecord { value, expires }| Some(WebhookSecret { value: value?, expires });
        let moment = |column: Option<i64>| column.map(Timestamp::from_microsecond).transpose().map_err(|_| odd());
        Ok(Webhook {
            id: record.id,
            tenant: record.tenant,
            owner: record.owner,
            source: record.source,
            settings: record.settings,
            secrets: record.secrets.into_iter().map(secret).collect::<Option<_>>().ok_or_else(odd)?,
            state: record.state,
            reason: record.reason,
            scanned: u64::try_from(row.scanned).map_err(|_| odd())?,
            failures: u32::try_from(row.failures).map_err(|_| odd())?,
            failing_since: moment(row.failing_since)?,
            resume_at: moment(row.resume_at)?,
            created: record.created,
            last_modified: record.last_modified,
            version: record.version,
        })
    }

    pub(super) fn delivery_row(&self, delivery: Delivery) -> Result<DeliveryRow, StoreError> {
        let Delivery {
            id,
            tenant,
            webhook,
            event,
            sequence,
            event_type,
            assignment,
            connection,
            state,
            reason,
            step,
            due,
            attempts,
            created,
            version,
        } = delivery;
        let ended = match (state, reason) {
            (DeliveryState::Pending, _) => None,
            // The last attempt of a delivery that was given up may be long ago; it may have had none.
            (_, Some(_)) => Some(self.environment.now()),
            (_, None) => Some(attempts.last().map_or(created, |attempt| attempt.at)),
        };
        Ok(DeliveryRow {
            attempts: self.seal(DELIVERIES, id.as_str(), &attempts)?,
            id: id.into(),
            tenant,
            webhook: webhook.into(),
            event: event.into(),
            sequence: column(sequence),
            event_type: event_type.as_str().to_owned(),
            assignment: assignment.map(String::from),
            connection,
            state: state.as_str().to_owned(),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            step: step.into(),
            due: due.map(micros),
            created: micros(created),
            version: column(version),
            ended: ended.map(micros),
        })
    }

    pub(in crate::store) fn delivery(&self, row: &DeliveryRow) -> Result<Delivery, StoreError> {
        let odd = || unknown_format(DELIVERIES, &row.id);
        let attempts: Vec<DeliveryAttempt> = self.open_json(DELIVERIES, &row.id, &row.attempts)?;
        let moment = |column: i64| Timestamp::from_microsecond(column).map_err(|_| odd());
        Ok(Delivery {
            id: DeliveryId::parse(&row.id).map_err(|_| odd())?,
            tenant: row.tenant.clone(),
            webhook: WebhookId::parse(&row.webhook).map_err(|_| odd())?,
            event: EventId::parse(&row.event).map_err(|_| odd())?,
            sequence: u64::try_from(row.sequence).map_err(|_| odd())?,
            event_type: EventType::parse(&row.event_type).ok_or_else(odd)?,
            assignment: row.assignment.as_deref().map(AssignmentId::parse).transpose().map_err(|_| odd())?,
            connection: row.connection.clone(),
            state: DeliveryState::parse(&row.state).ok_or_else(odd)?,
            reason: row.reason.as_deref().map(|word| DeliveryReason::parse(word).ok_or_else(odd)).transpose()?,
            step: u32::try_from(row.step).map_err(|_| odd())?,
            due: row.due.map(moment).transpose()?,
            attempts,
            created: moment(row.created)?,
            version: u64::try_from(row.version).map_err(|_| odd())?,
        })
    }
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn mismatch(table: &str, record: &str) -> StoreError {
    StoreError::Unreadable(format!("{table} {record}: its columns do not match its sealed content"))
}
