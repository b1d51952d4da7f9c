//! A delivery and its attempts, as pages show them.

use jiff::Timestamp;
use serde::Deserialize;

/// One event on its way to a webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Delivery {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) webhook: String,
    pub(in crate::http::console) event: String,
    pub(in crate::http::console) sequence: u64,
    #[serde(rename = "type")]
    pub(in crate::http::console) event_type: String,
    pub(in crate::http::console) assignment: Option<String>,
    pub(in crate::http::console) state: String,
    pub(in crate::http::console) next_attempt_at: Option<Timestamp>,
    pub(in crate::http::console) attempts: Vec<DeliveryAttempt>,
    pub(in crate::http::console) created_at: Timestamp,
}

/// One attempt to deliver an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct DeliveryAttempt {
    pub(in crate::http::console) at: Timestamp,
    pub(in crate::http::console) status: Option<u16>,
    pub(in crate::http::console) duration_ms: u64,
    pub(in crate::http::console) error: Option<String>,
}

/// What came back from a ping.
#[derive(Deserialize)]
pub(in crate::http::console) struct WebhookPing {
    pub(in crate::http::console) event: String,
    pub(in crate::http::console) delivered: bool,
    #[serde(flatten)]
    pub(in crate::http::console) attempt: DeliveryAttempt,
}

impl Delivery {
    /// Returns whether it can be attempted now.
    pub(in crate::http::console) fn can_retry(&self) -> bool {
        self.state != "delivered"
    }
}

impl DeliveryAttempt {
    /// Describes what came back, without a full stop.
    pub(in crate::http::console) fn result(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.trim_end_matches('.').to_owned(),
            (None, Some(status)) => format!("The receiver responded with status {status}"),
            (None, None) => "No response".to_owned(),
        }
    }
}

/// Returns the most recent attempt of these deliveries.
pub(in crate::http::console) fn latest_attempt(deliveries: Vec<Delivery>) -> Option<DeliveryAttempt> {
    deliveries.into_iter().flat_map(|delivery| delivery.attempts).max_by_key(|attempt| attempt.at)
}
