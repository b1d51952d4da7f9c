//! Audit entries in responses.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::page_document;
use crate::domain::audit::{AuditEvent, NOTHING, RowCounts};
use crate::domain::outcome::Outcome;

/// An audit entry. No field is ever omitted, so that the hash can be recomputed: it covers all other fields as compact
/// JSON in UTF-8, with the fields in alphabetical order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(line_example))]
pub struct AuditLine {
    /// Sequence number among the tenant's entries: starts at 1, without gaps.
    pub seq: u64,
    /// When the entry was written, by the gateway's clock.
    #[schema(format = DateTime)]
    pub time: String,
    /// The tenant the entry belongs to.
    pub tenant: String,
    /// The client that made the request; `null` if the gateway settled a write by itself, or refused a
    /// key at the console.
    #[schema(required = true)]
    pub client: Option<String>,
    /// Why the entry was written.
    pub event: AuditEvent,
    /// The action requested: `candidates.create`, `candidates.bulk`, `operations.retry`, … New ones may be added.
    pub action: String,
    /// Path of the resource concerned, if known.
    #[schema(required = true)]
    pub object: Option<String>,
    /// The connection, if known.
    #[schema(required = true)]
    pub connection: Option<String>,
    /// The status of the response.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// What is known about the write; `null` if not yet known, or if there are several writes.
    #[schema(required = true)]
    pub outcome: Option<Outcome>,
    /// The code of the problem, if the request failed.
    #[schema(required = true)]
    pub code: Option<String>,
    /// Whether the response was the one stored under the request's `Idempotency-Key`.
    pub replayed: bool,
    /// The outcomes of an operation's rows.
    #[schema(required = true)]
    pub counts: Option<RowCounts>,
    /// The request id, as in the logs. The caller may have chosen it.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// The id of the exchange.
    #[schema(required = true)]
    pub exchange: Option<String>,
    /// The hash of the previous entry; 64 zeros in the first.
    pub previous: String,
    /// SHA-256 of this entry without this field, in hexadecimal digits.
    pub hash: String,
}

page_document!(AuditList, AuditLine, list_example, "Audit entries, oldest first.");

fn line_example() -> Value {
    json!({
        "seq": 1, "time": "2026-11-25T09:30:21.167Z", "tenant": "acme", "client": "lms", "event": "answered",
        "action": "candidates.create", "object": "/candidates/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "connection": "startexam-main", "status": 201, "outcome": "applied", "code": null, "replayed": false,
        "counts": null, "requestId": "req_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "exchange": "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "previous": NOTHING,
        "hash": "2cec4e7e587ada705fd0d107bee78805d541111fad9719a341cb1350009ddb90",
    })
}

fn list_example() -> Value {
    json!({ "items": [line_example()], "nextCursor": null })
}

/// Returns the example in the export format.
pub(in crate::http) fn example_line() -> String {
    format!("{}\n", line_example())
}
