//! The record of every webhook that arrived, in order, and of what became of it.
//!
//! It is the receiver's truth: a sender's view of its deliveries is compared with it. A webhook counts as accepted when
//! the LMS acted on it, which a fault before that prevents; one that is accepted again under its id is a duplicate.

use std::{
    collections::{HashMap, VecDeque},
    time::SystemTime,
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::sandbox::effects::rfc3339;

/// Maximum number and total size in bytes of the webhooks kept; older ones are dropped and counted.
const MAX_ENTRIES: usize = 200_000;
const MAX_BYTES: usize = 256 << 20;

/// Every webhook since the start or the last reset.
#[derive(Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    bytes: usize,
    dropped: u64,
    counts: Counts,
    /// By `webhook-id`, those with a valid signature only.
    ids: HashMap<String, Arrivals>,
}

#[derive(Default)]
struct Counts {
    received: u64,
    verified: u64,
    accepted: u64,
    duplicates: u64,
}

#[derive(Default)]
struct Arrivals {
    count: u64,
    is_accepted: bool,
}

/// A webhook on its arrival.
pub(super) struct Arrival {
    /// The sequence of the call.
    pub sequence: u64,
    pub at: SystemTime,
    pub path: String,
    pub id: String,
    pub timestamp: String,
    pub body: Bytes,
    /// The positions of the secrets that signed it, or what is wrong with its signature.
    pub verdict: Result<Vec<usize>, &'static str>,
}

struct Entry {
    arrival: Arrival,
    /// How often this id has arrived, with this one.
    attempt: u64,
    is_accepted: bool,
    is_duplicate: bool,
}

/// What accepting a webhook comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    First,
    Duplicate,
    /// Its signature is not valid.
    Refused(&'static str),
}

impl Ledger {
    /// Notes a webhook on its arrival.
    pub(super) fn note(&mut self, arrival: Arrival) {
        self.counts.received += 1;
        let mut attempt = 0;
        if arrival.verdict.is_ok() {
            self.counts.verified += 1;
            let known = self.ids.entry(arrival.id.clone()).or_default();
            known.count += 1;
            attempt = known.count;
        }
        self.bytes += arrival.body.len();
        self.entries.push_back(Entry { arrival, attempt, is_accepted: false, is_duplicate: false });
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.arrival.body.len();
                self.dropped += 1;
            }
        }
    }

    /// Accepts the webhook of a call unless its signature is not valid; returns its id, too.
    pub(super) fn accept(&mut self, sequence: u64) -> (String, Acceptance) {
        let found = self.entries.binary_search_by_key(&sequence, |entry| entry.arrival.sequence);
        let Some(entry) = found.ok().and_then(|at| self.entries.get_mut(at)) else {
            return (String::new(), Acceptance::Refused("the webhook is no longer in the ledger"));
        };
        let id = entry.arrival.id.clone();
        if let Err(why) = entry.arrival.verdict {
            return (id, Acceptance::Refused(why));
        }
        let known = self.ids.entry(id.clone()).or_default();
        entry.is_duplicate = known.is_accepted;
        entry.is_accepted = true;
        known.is_accepted = true;
        self.counts.accepted += 1;
        self.counts.duplicates += u64::from(entry.is_duplicate);
        (id, if entry.is_duplicate { Acceptance::Duplicate } else { Acceptance::First })
    }

    /// Renders the totals.
    pub(super) fn totals(&self) -> Map<String, Value> {
        let Counts { received, verified, accepted, duplicates } = self.counts;
        let totals = json!({
            "received": received,
            "verified": verified,
            "accepted": accepted,
            "duplicates": duplicates,
            "dropped": self.dropped,
        });
        totals.as_object().cloned().unwrap_or_default()
    }

    /// Renders the webhooks after a sequence number, in the order of their arrival.
    pub(super) fn webhooks(&self, since: u64, with_bodies: bool) -> Value {
        let after = self.entries.iter().skip_while(|entry| entry.arrival.sequence <= since);
        after.map(|entry| entry.to_json(with_bodies)).collect()
    }
}

impl Entry {
    fn to_json(&self, with_body: bool) -> Value {
        let Arrival { sequence, at, path, id, timestamp, body, verdict } = &self.arrival;
        let mut out = json!({
            "sequence": sequence,
            "at": rfc3339(*at),
            "path": path,
            "webhookId": id,
            "timestamp": timestamp,
            "attempt": self.attempt,
            "verified": verdict.is_ok(),
            "signedBy": verdict.as_ref().ok(),
            "problem": verdict.as_ref().err(),
            "accepted": self.is_accepted,
            "duplicate": self.is_duplicate,
        });
        if let (true, Some(members)) = (with_body, out.as_object_mut()) {
            let text = || Value::from(String::from_utf8_lossy(body));
            members.insert("body".to_owned(), serde_json::from_slice(body).unwrap_or_else(|_| text()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_webhooks_are_dropped_and_counted() {
        let mut ledger = Ledger::default();
        let body = Bytes::from(vec![b' '; 1 << 20]);
        for sequence in 1..=300 {
            ledger.note(Arrival {
                sequence,
                at: SystemTime::UNIX_EPOCH,
                path: "/hook".to_owned(),
                id: sequence.to_string(),
                timestamp: "0".to_owned(),
                body: body.clone(),
                verdict: Ok(vec![0]),
            });
        }
        let totals = ledger.totals();
        assert_eq!((&totals["received"], &totals["dropped"]), (&json!(300), &json!(44)));
        assert_eq!(ledger.webhooks(0, false)[0]["sequence"], 45);
        assert_eq!(ledger.accept(300).1, Acceptance::First);
        assert_eq!(ledger.accept(44).1, Acceptance::Refused("the webhook is no longer in the ledger"));
    }
}
