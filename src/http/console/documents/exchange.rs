//! An exchange with vendors, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::record::page_of;

/// One request with the vendor calls it caused, redacted by the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Exchange {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) cause: String,
    pub(in crate::http::console) request_id: String,
    pub(in crate::http::console) traceparent: Option<String>,
    pub(in crate::http::console) started_at: Timestamp,
    pub(in crate::http::console) client: Option<String>,
    pub(in crate::http::console) key: Option<String>,
    pub(in crate::http::console) method: Option<String>,
    pub(in crate::http::console) route: Option<String>,
    pub(in crate::http::console) resource: Option<String>,
    pub(in crate::http::console) operation: Option<String>,
    pub(in crate::http::console) status: Option<u16>,
    pub(in crate::http::console) code: Option<String>,
    pub(in crate::http::console) duration_ms: Option<u64>,
    pub(in crate::http::console) vendor_ms: u64,
    pub(in crate::http::console) calls: Vec<ExchangeCall>,
    pub(in crate::http::console) calls_left_out: u64,
}

/// One call of a vendor.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ExchangeCall {
    pub(in crate::http::console) connection: String,
    pub(in crate::http::console) operation: String,
    #[serde(default)]
    pub(in crate::http::console) settling: bool,
    pub(in crate::http::console) started_at: Timestamp,
    pub(in crate::http::console) waited_ms: u64,
    pub(in crate::http::console) duration_ms: u64,
    pub(in crate::http::console) method: String,
    pub(in crate::http::console) address: String,
    pub(in crate::http::console) ended: String,
    pub(in crate::http::console) detail: Option<String>,
    pub(in crate::http::console) status: Option<u16>,
    pub(in crate::http::console) request: Option<Value>,
    pub(in crate::http::console) answer: Option<Value>,
}

impl Exchange {
    /// Returns what the exchange was about, in a few words.
    pub(in crate::http::console) fn subject(&self) -> String {
        let route = self.route.as_ref().map(|route| format!("{} {route}", self.method.as_deref().unwrap_or_default()));
        let connection = || self.calls.first().map(|call| call.connection.clone());
        route.or_else(|| self.resource.clone()).or_else(connection).unwrap_or_default()
    }

    /// Returns the page of the record that it was about, below `console/`; empty if there is none.
    pub(in crate::http::console) fn resource_page(&self) -> String {
        self.resource.as_ref().map(|path| page_of(path)).unwrap_or_default()
    }

    /// Returns the number of its calls, with those that the API left out.
    pub(in crate::http::console) fn all_calls(&self) -> u64 {
        self.calls_left_out.saturating_add(self.calls.len() as u64)
    }
}

impl ExchangeCall {
    /// Returns the tone of how it ended.
    pub(in crate::http::console) fn tone(&self) -> &'static str {
        match self.status {
            Some(200..=399) => "good",
            None if self.ended == "answered" => "good",
            Some(_) | None => "bad",
        }
    }
}
