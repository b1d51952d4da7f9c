//! The fields of the API's documents that the screens of webhooks show.

use jiff::Timestamp;
use serde::Deserialize;

/// A webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) source: String,
    /// Its name in the operator's configuration.
    pub(super) name: Option<String>,
    pub(super) url: String,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) types: Vec<String>,
    #[serde(default)]
    pub(super) connections: Vec<String>,
    #[serde(default)]
    pub(super) assessments: Vec<String>,
    pub(super) payload: String,
    pub(super) order: String,
    pub(super) max_in_flight: u64,
    pub(super) requests_per_second: u64,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) resume_at: Option<Timestamp>,
    pub(super) position: Position,
    /// Only in the response to its creation and to a rotation.
    pub(super) secret: Option<String>,
    /// Only in the response to its creation.
    pub(super) ping: Option<Ping>,
    pub(super) meta: Meta,
}

/// How far the deliveries are, in sequence numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Position {
    pub(super) delivered: u64,
    pub(super) latest: u64,
    pub(super) oldest_pending: Option<u64>,
}

/// When a record was made and changed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) created: Timestamp,
    pub(super) last_modified: Timestamp,
}

/// One event on its way to a webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) webhook: String,
    pub(super) event: String,
    pub(super) sequence: u64,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) assignment: Option<String>,
    pub(super) state: String,
    pub(super) next_attempt_at: Option<Timestamp>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) created_at: Timestamp,
}

/// One attempt to deliver an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) at: Timestamp,
    pub(super) status: Option<u16>,
    pub(super) duration_ms: u64,
    pub(super) error: Option<String>,
}

/// What came back from a ping.
#[derive(Deserialize)]
pub(super) struct Ping {
    pub(super) event: String,
    pub(super) delivered: bool,
    #[serde(flatten)]
    pub(super) attempt: Attempt,
}

impl Webhook {
    /// Returns whether the operator has configured it, so that clients cannot change it.
    pub(super) fn is_configured(&self) -> bool {
        self.source == "configuration"
    }

    /// Returns the number of events up to which it is behind.
    pub(super) fn behind(&self) -> u64 {
        self.position.latest.saturating_sub(self.position.delivered)
    }

    /// Returns whether a resumption would change anything.
    pub(super) fn can_resume(&self) -> bool {
        self.state != "enabled"
    }

    /// Returns whether a client has paused it.
    pub(super) fn is_paused(&self) -> bool {
        self.state == "paused"
    }

    /// Returns whether the gateway has stopped sending to it.
    pub(super) fn is_disabled(&self) -> bool {
        self.state == "disabled"
    }

    /// Returns whether the receiver has asked for no more events.
    pub(super) fn is_gone(&self) -> bool {
        self.reason.as_deref() == Some("gone")
    }
}

impl Delivery {
    /// Returns whether it can be attempted now.
    pub(super) fn can_retry(&self) -> bool {
        self.state != "delivered"
    }
}

impl Attempt {
    /// Describes what came back, without a full stop.
    pub(super) fn result(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.trim_end_matches('.').to_owned(),
            (None, Some(status)) => format!("The receiver responded with status {status}"),
            (None, None) => "No response".to_owned(),
        }
    }
}

/// Returns the most recent attempt of these deliveries.
pub(super) fn latest_attempt(deliveries: Vec<Delivery>) -> Option<Attempt> {
    deliveries.into_iter().flat_map(|delivery| delivery.attempts).max_by_key(|attempt| attempt.at)
}
