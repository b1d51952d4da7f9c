//! The audit record: who asked for what about whom, and what came of it. A line holds ids and the gateway's own words only,
//! never anything of a person, so that it may outlive them.
//!
//! The lines of a tenant are a chain: each names the hash of the one before. Pure: it hashes and writes, and reads nothing.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::exchange::Exchange;
use super::outcome::Outcome;

/// What the first line of a tenant names as the one before it.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why there is a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// A client's request was answered.
    Answered,
    /// A client's request was not answered: the client hung up before.
    CallerGone,
    /// What went on after its caller was answered 202, or was gone, has ended; or an operation has.
    Ended,
    /// A write whose outcome was not known is known now.
    Settled,
}

/// How the rows of an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowCounts {
    // In the order of the alphabet, as all of a line is.
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

/// A line before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it happened.
    pub time: Timestamp,
    /// Whose record it belongs to.
    pub tenant: String,
    /// Who asked; nobody where the gateway settles by itself.
    pub client: Option<String>,
    /// Why there is a line.
    pub event: AuditEvent,
    /// What was asked, in the gateway's word: `candidates.create`, `operations.retry`, …
    pub action: &'static str,
    /// Path of what it was about.
    pub object: Option<String>,
    /// The operator's name of the connection.
    pub connection: Option<String>,
    /// The HTTP status that was answered.
    pub status: Option<u16>,
    /// What is known of the write.
    pub outcome: Option<Outcome>,
    /// The code of the problem.
    pub code: Option<&'static str>,
    /// Whether the answer was the one kept under an `Idempotency-Key`.
    pub replayed: bool,
    /// How the rows of an operation ended.
    pub counts: Option<RowCounts>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The id of its exchange.
    pub exchange: Option<String>,
}

impl Entry {
    /// A line about a request of this client, of which nothing is known yet but that it came.
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

/// A line in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedEntry {
    /// Whose it is.
    pub tenant: String,
    /// Its number among the tenant's, from 1 on, without gaps.
    pub seq: u64,
    /// The line as JSON.
    pub text: String,
}

/// A line's hash comes after all of this; members in the order of the alphabet, none left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hashed<'a> {
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
    /// The line in this place, and its hash: SHA-256 over the line without it, as compact JSON in UTF-8 with the members in
    /// the order of the alphabet.
    ///
    /// # Errors
    /// None that can be met: every member can be written as JSON.
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
        let hashed = Hashed {
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
    /// An entry for tests.
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

    /// Files exported once are verified with it, so it must never change. The hash is from Python's `hashlib`.
    #[test]
    fn a_line_is_as_it_always_was() {
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
    fn members_are_in_the_order_of_the_alphabet() {
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
