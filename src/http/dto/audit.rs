//! The audit record as it is read.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::Outcome;

/// A line of the audit record. No member is ever left out, so that the hash can be made again: it is over all others, as
/// compact JSON in UTF-8 with the members in the order of the alphabet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(line_example))]
pub struct AuditLine {
    /// Its number among the tenant's lines, from 1 on, without gaps.
    pub seq: u64,
    /// When it was written, at the gateway's clock.
    #[schema(format = DateTime)]
    pub time: String,
    /// Whose record it belongs to.
    pub tenant: String,
    /// Who asked; `null` where the gateway settled by itself.
    #[schema(required = true)]
    pub client: Option<String>,
    /// Why there is a line.
    pub event: AuditEvent,
    /// What was asked: `candidates.create`, `candidates.bulk`, `operations.retry`, … New ones may come.
    pub action: String,
    /// Path of what it was about, where that is known.
    #[schema(required = true)]
    pub object: Option<String>,
    /// The connection, where that is known.
    #[schema(required = true)]
    pub connection: Option<String>,
    /// The status that was answered.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// What is known of the write; `null` where that is not known yet, or where there are several.
    #[schema(required = true)]
    pub outcome: Option<Outcome>,
    /// The code of the problem, if it was one.
    #[schema(required = true)]
    pub code: Option<String>,
    /// Whether the answer was the one kept under the request's `Idempotency-Key`.
    pub replayed: bool,
    /// How the rows of an operation ended.
    #[schema(required = true)]
    pub counts: Option<AuditCounts>,
    /// The id of the request, as in the logs. A caller may have chosen it.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// The id of its exchange.
    #[schema(required = true)]
    pub exchange: Option<String>,
    /// The hash of the line before; 64 zeros in the first one.
    pub previous: String,
    /// SHA-256 of this line without this member, in hexadecimal digits.
    pub hash: String,
}

/// Why there is a line.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// A client's request was answered.
    Answered,
    /// The client was gone before it was answered.
    CallerGone,
    /// What went on after its caller was answered 202, or was gone, has ended; or an operation has.
    Ended,
    /// A write whose outcome was not known is known now.
    Settled,
}

/// How the rows of an operation ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditCounts {
    /// Done, now or before.
    pub applied: u64,
    /// Failed.
    pub not_applied: u64,
    /// Not sent.
    pub skipped: u64,
    /// All of them.
    pub total: u64,
    /// Not known.
    pub unknown: u64,
}

/// The audit record, oldest line first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(list_example))]
pub struct AuditList {
    /// This part of the record.
    pub items: Vec<AuditLine>,
    /// Gives the next part as `cursor`; `null` at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

fn line_example() -> Value {
    json!({
        "seq": 1, "time": "2026-11-25T09:30:21.167Z", "tenant": "acme", "client": "lms", "event": "answered",
        "action": "candidates.create", "object": "/candidates/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "connection": "startexam-main", "status": 201, "outcome": "applied", "code": null, "replayed": false,
        "counts": null, "requestId": "req_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "exchange": "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "previous": crate::domain::audit::NOTHING,
        "hash": "2cec4e7e587ada705fd0d107bee78805d541111fad9719a341cb1350009ddb90",
    })
}

fn list_example() -> Value {
    json!({ "items": [line_example()], "nextCursor": null })
}

/// The example as it is exported.
pub(in crate::http) fn example_line() -> String {
    format!("{}\n", line_example())
}
