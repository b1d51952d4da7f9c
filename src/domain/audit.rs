//! Audit entries: who requested what about which resource, with what result. An entry holds only ids and the gateway's
//! own words, never personal data, so it may be kept after the person was erased.
//!
//! The entries of a tenant form a chain: each contains the hash of the previous one. Pure: hashes and serialises, reads
//! nothing.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::exchange::Exchange;
use super::outcome::Outcome;
use super::words::words;

/// The previous hash in a tenant's first entry.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

words! {
    /// Why an audit entry was written.
    pub enum AuditEvent {
        /// The gateway responded to a client's request.
        Answered "answered",
        /// The client disconnected before the response.
        CallerGone "caller_gone",
        /// Work that continued after its caller received a 202 or disconnected has finished, or an operation has.
        Ended "ended",
        /// The outcome of an unknown write was determined.
        Settled "settled",
    }
}

/// The outcomes of an operation's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditCounts)]
pub struct RowCounts {
    // Fields are in alphabetical order, as everywhere in an entry.
    /// Applied, now or before.
    pub applied: u64,
    /// Failed.
    pub not_applied: u64,
    /// Not sent.
    pub skipped: u64,
    /// All rows.
    pub total: u64,
    /// Outcome unknown.
    pub unknown: u64,
}

/// An audit entry that is not yet part of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The time of the event.
    pub time: Timestamp,
    /// The tenant that the entry belongs to.
    pub tenant: String,
    /// The client; `None` if the gateway reconciles by itself, or refused an unknown key at the console.
    pub client: Option<String>,
    /// The event.
    pub event: AuditEvent,
    /// The action in the gateway's words: `candidates.create`, `operations.retry`, …
    pub action: &'static str,
    /// Path of the affected resource.
    pub object: Option<String>,
    /// The operator's name for the connection.
    pub connection: Option<String>,
    /// The HTTP status of the response.
    pub status: Option<u16>,
    /// The known outcome of the write.
    pub outcome: Option<Outcome>,
    /// The problem's code.
    pub code: Option<&'static str>,
    /// Whether the response was replayed from an `Idempotency-Key`.
    pub replayed: bool,
    /// The results of an operation's rows.
    pub counts: Option<RowCounts>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The id of its exchange.
    pub exchange: Option<String>,
}

impl Entry {
    /// Returns the size of its texts that have no fixed length.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let optional = [&self.client, &self.object, &self.connection, &self.request_id, &self.exchange];
        self.tenant.len() + optional.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// Creates the entry for a client's request, before its result is known.
    #[must_use]
    pub fn about(exchange: &Exchange, tenant: &str, client: &str, time: Timestamp) -> Self {
        Self {
            time,
            tenant: tenant.to_owned(),
            client: Some(client.to_owned()),
            event: AuditEvent::Answered,
            action: "",
            object: None,
            connection: None,
            status: None,
            outcome: None,
            code: None,
            replayed: false,
            counts: None,
            request_id: Some(exchange.request_id().to_owned()),
            exchange: Some(exchange.id().to_string()),
        }
    }
}

/// An audit entry in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedEntry {
    /// The tenant.
    pub tenant: String,
    /// The tenant's sequence number, from 1 without gaps.
    pub seq: u64,
    /// The entry as JSON.
    pub text: String,
}

/// The hashed part of an entry, to which the hash is appended; fields in alphabetical order, none omitted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashedEntry<'a> {
    action: &'static str,
    client: Option<&'a str>,
    code: Option<&'static str>,
    connection: Option<&'a str>,
    counts: Option<RowCounts>,
    event: AuditEvent,
    exchange: Option<&'a str>,
    object: Option<&'a str>,
    outcome: Option<Outcome>,
    previous: &'a str,
    replayed: bool,
    request_id: Option<&'a str>,
    seq: u64,
    status: Option<u16>,
    tenant: &'a str,
    time: Timestamp,
}

impl Entry {
    /// Returns the entry at this position and its hash: SHA-256 over the entry without the hash, as compact UTF-8 JSON
    /// with fields in alphabetical order.
    ///
    /// # Errors
    /// None in practice: every field can be serialised.
    pub fn line(&self, seq: u64, previous: &str) -> Result<(ChainedEntry, String), serde_json::Error> {
        let Self {
            time,
            tenant,
            client,
            event,
            action,
            object,
            connection,
            status,
            outcome,
            code,
            replayed,
            counts,
            request_id,
            exchange,
        } = self;
        let hashed = HashedEntry {
            action,
            client: client.as_deref(),
            code: *code,
            connection: connection.as_deref(),
            counts: *counts,
            event: *event,
            exchange: exchange.as_deref(),
            object: object.as_deref(),
            outcome: *outcome,
            previous,
            replayed: *replayed,
            request_id: request_id.as_deref(),
            seq,
            status: *status,
            tenant,
            time: *time,
        };
        let mut text = serde_json::to_string(&hashed)?;
        let hash = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        text.truncate(text.len() - 1);
        text.push_str(",\"hash\":\"");
        text.push_str(&hash);
        text.push_str("\"}");
        Ok((ChainedEntry { tenant: tenant.clone(), seq, text }, hash))
    }
}

#[cfg(test)]
impl Entry {
    /// Creates an entry for tests.
    #[must_use]
    pub fn example(tenant: &str, request_id: &str) -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            tenant: tenant.to_owned(),
            client: Some("lms".to_owned()),
            event: AuditEvent::Answered,
            action: "candidates.create",
            object: Some("/candidates/cand_1".to_owned()),
            connection: None,
            status: Some(201),
            outcome: Some(Outcome::Applied),
            code: None,
            replayed: false,
            counts: None,
            request_id: Some(request_id.to_owned()),
            exchange: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This format must never change: exported files are verified with it. The hash was computed with Python's
    /// `hashlib`.
    #[test]
    fn entry_format_and_hash_are_stable() {
        let (line, hash) = Entry::example("lms", "req_1").line(1, NOTHING).unwrap();
        let before = format!(
            "{{\"action\":\"candidates.create\",\"client\":\"lms\",\"code\":null,\"connection\":null,\"counts\":null,\
             \"event\":\"answered\",\"exchange\":null,\"object\":\"/candidates/cand_1\",\"outcome\":\"applied\",\
             \"previous\":\"{NOTHING}\",\"replayed\":false,\"requestId\":\"req_1\",\"seq\":1,\"status\":201,\
             \"tenant\":\"lms\",\"time\":\"1970-01-01T00:00:00Z\"}}"
        );
        assert_eq!(line.text, format!("{},\"hash\":\"{hash}\"}}", &before[..before.len() - 1]));
        assert_eq!(hash, "525d675233c79bf54870525884f2644f98cd356d552cad43ff34c4eb2bed2330");
    }

    #[test]
    fn fields_are_in_alphabetical_order() {
        let counts = RowCounts { applied: 1, not_applied: 2, skipped: 3, total: 4, unknown: 5 };
        let entry = Entry { counts: Some(counts), ..Entry::example("lms", "req_1") };
        let (line, _) = entry.line(7, NOTHING).unwrap();
        let sorted: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_str(&line.text).unwrap();
        let places: Vec<usize> = sorted
            .keys()
            .filter(|name| *name != "hash")
            .map(|name| line.text.find(&format!("\"{name}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{}", line.text);
        let inner =
            line.text.find("\"counts\":{\"applied\":1,\"notApplied\":2,\"skipped\":3,\"total\":4,\"unknown\":5}");
        assert!(inner.is_some(), "{}", line.text);
    }
}
