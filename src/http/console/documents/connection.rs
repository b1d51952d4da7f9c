//! A connection, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::http::console::api::segment;

/// An account at a vendor, and how its calls fare.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Connection {
    pub(in crate::http::console) name: String,
    pub(in crate::http::console) vendor: String,
    pub(in crate::http::console) status: String,
    pub(in crate::http::console) detail: String,
    pub(in crate::http::console) since: Option<Timestamp>,
    pub(in crate::http::console) circuit: String,
    pub(in crate::http::console) in_flight: u64,
    pub(in crate::http::console) waiting: u64,
    clock_ahead_seconds: Option<i64>,
}

impl Connection {
    /// Returns how far the vendor's clock is ahead, for a narrow column.
    pub(in crate::http::console) fn clock(&self) -> String {
        match self.clock_ahead_seconds {
            Some(behind @ ..0) => format!("−{} s", behind.unsigned_abs()),
            Some(0) => "0 s".to_owned(),
            Some(ahead) => format!("+{ahead} s"),
            None => "–".to_owned(),
        }
    }

    /// Returns the path of its page below `console/`.
    pub(in crate::http::console) fn path(&self) -> String {
        format!("connections/{}", segment(&self.name))
    }
}
