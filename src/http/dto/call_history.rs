//! What became of a connection's calls in the last hour.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::Moment;
use crate::service;

/// What became of this instance's calls of a connection in the last hour. It is kept in memory, so it begins anew with the
/// program. Checks of the connection do not count.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(call_history_example))]
pub struct CallHistory {
    /// The connection.
    pub connection: String,
    /// The beginning of the first of the sixty minutes.
    #[schema(value_type = String, format = DateTime)]
    pub from: Moment,
    /// When the history was read, in the last of them.
    #[schema(value_type = String, format = DateTime)]
    pub to: Moment,
    /// The whole hour.
    pub hour: CallCounts,
    /// The minutes with a call, oldest first.
    #[schema(max_items = 60)]
    pub minutes: Vec<CallMinute>,
}

/// The calls that ended within a minute.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallMinute {
    /// The beginning of the minute.
    #[schema(value_type = String, format = DateTime)]
    pub at: Moment,
    /// The calls.
    #[serde(flatten)]
    pub counts: CallCounts,
}

/// The calls that ended within a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallCounts {
    /// The number of calls, with those that failed.
    pub calls: u64,
    /// Those that failed.
    pub failures: CallFailures,
    /// Median time at the vendor, to within an eighth, in milliseconds: from signing to the end of the response or the
    /// time-out. Absent if no call reached the vendor.
    #[serde(rename = "p50Ms", skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    /// The time at the vendor that 95 of 100 calls did not exceed, as `p50Ms`.
    #[serde(rename = "p95Ms", skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
}

/// The calls that failed, by what failed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallFailures {
    /// The vendor responded with a status of 400 or above.
    pub http_error: u64,
    /// The vendor did not respond in time.
    pub timeout: u64,
    /// No connection to the vendor could be made; nothing was sent.
    pub unreachable: u64,
    /// The circuit breaker was open; nothing was sent.
    pub circuit_open: u64,
    /// Anything else, such as an unreadable response or too many calls that waited already.
    pub other: u64,
}

impl CallHistory {
    pub(in crate::http) fn of(connection: String, history: service::CallHistory) -> Self {
        let service::CallHistory { from, to, hour, minutes } = history;
        let minutes = minutes.into_iter().map(|(at, counts)| CallMinute { at: at.into(), counts: counts.into() });
        Self { connection, from: from.into(), to: to.into(), hour: hour.into(), minutes: minutes.collect() }
    }
}

impl From<service::CallCounts> for CallCounts {
    fn from(counts: service::CallCounts) -> Self {
        let service::CallCounts { calls, http_errors, timeouts, unreachable, circuit_open, other_failures, p50, p95 } =
            counts;
        let failures = CallFailures {
            http_error: http_errors,
            timeout: timeouts,
            unreachable,
            circuit_open,
            other: other_failures,
        };
        Self { calls, failures, p50_ms: p50.map(millis), p95_ms: p95.map(millis) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn call_history_example() -> Value {
    let failures = |timeout: u64, circuit_open: u64| json!({ "httpError": 0, "timeout": timeout, "unreachable": 0, "circuitOpen": circuit_open, "other": 0 });
    json!({
        "connection": "startexam-main", "from": "2026-11-22T08:31:00.000Z", "to": "2026-11-22T09:30:21.024Z",
        "hour": { "calls": 128, "failures": failures(1, 4), "p50Ms": 112, "p95Ms": 480 },
        "minutes": [
            { "at": "2026-11-22T09:28:00.000Z", "calls": 116, "failures": failures(1, 0), "p50Ms": 112, "p95Ms": 480 },
            { "at": "2026-11-22T09:29:00.000Z", "calls": 12, "failures": failures(0, 4), "p50Ms": 104, "p95Ms": 240 },
        ],
    })
}
