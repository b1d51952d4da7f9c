//! A webhook, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;

use super::delivery::WebhookPing;
use super::record::Meta;

/// An address to which events are delivered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Webhook {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) source: String,
    /// Its name in the operator's configuration.
    pub(in crate::http::console) name: Option<String>,
    pub(in crate::http::console) url: String,
    pub(in crate::http::console) description: Option<String>,
    #[serde(default)]
    pub(in crate::http::console) types: Vec<String>,
    #[serde(default)]
    pub(in crate::http::console) connections: Vec<String>,
    #[serde(default)]
    pub(in crate::http::console) assessments: Vec<String>,
    pub(in crate::http::console) payload: String,
    pub(in crate::http::console) order: String,
    pub(in crate::http::console) max_in_flight: u64,
    pub(in crate::http::console) requests_per_second: u64,
    pub(in crate::http::console) state: String,
    pub(in crate::http::console) reason: Option<String>,
    pub(in crate::http::console) failing_since: Option<Timestamp>,
    pub(in crate::http::console) resume_at: Option<Timestamp>,
    pub(in crate::http::console) position: WebhookPosition,
    /// Only in the response to its creation and to a rotation.
    pub(in crate::http::console) secret: Option<String>,
    /// Only in the response to its creation.
    pub(in crate::http::console) ping: Option<WebhookPing>,
    pub(in crate::http::console) meta: Meta,
}

/// How far the deliveries are, in sequence numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct WebhookPosition {
    pub(in crate::http::console) delivered: u64,
    pub(in crate::http::console) latest: u64,
    pub(in crate::http::console) oldest_pending: Option<u64>,
}

impl Webhook {
    /// Returns whether the operator has configured it, so that clients cannot change it.
    pub(in crate::http::console) fn is_configured(&self) -> bool {
        self.source == "configuration"
    }

    /// Returns the number of events up to which it is behind.
    pub(in crate::http::console) fn behind(&self) -> u64 {
        self.position.latest.saturating_sub(self.position.delivered)
    }

    /// Returns whether a resumption would change anything.
    pub(in crate::http::console) fn can_resume(&self) -> bool {
        self.state != "enabled"
    }

    /// Returns whether a client has paused it.
    pub(in crate::http::console) fn is_paused(&self) -> bool {
        self.state == "paused"
    }

    /// Returns whether the gateway has stopped sending to it.
    pub(in crate::http::console) fn is_disabled(&self) -> bool {
        self.state == "disabled"
    }

    /// Returns whether the receiver has asked for no more events.
    pub(in crate::http::console) fn is_gone(&self) -> bool {
        self.reason.as_deref() == Some("gone")
    }
}
