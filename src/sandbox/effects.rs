//! The record of what really happened at the vendor, and of every call received.
//!
//! Tests compare a client's view with this record, so an effect is recorded exactly once, when it happens, under the
//! same lock that changes the state. It holds no real secrets: all accounts are fictional.

use std::{collections::VecDeque, time::SystemTime};

use serde_json::{Map, Value, json};

use crate::sandbox::http_types::Call;

/// Maximum number of calls kept; older ones are dropped and counted, so that a long benchmark does not exhaust the
/// memory.
const MAX_CALLS: usize = 50_000;
/// Maximum total size of the kept calls' bodies in bytes.
const MAX_CALL_BYTES: usize = 256 << 20;
/// Maximum number of effects kept.
const MAX_EFFECTS: usize = 2_000_000;

/// Effects and calls since the start or the last reset, numbered by one sequence.
#[derive(Debug, Default)]
pub(super) struct EffectLog {
    sequence: u64,
    effects: VecDeque<Effect>,
    effects_dropped: u64,
    calls: VecDeque<Entry>,
    calls_dropped: u64,
    call_bytes: usize,
}

#[derive(Debug)]
struct Effect {
    sequence: u64,
    at: SystemTime,
    call: u64,
    operation: &'static str,
    change: &'static str,
    subject: String,
    keys: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    at: SystemTime,
    operation: &'static str,
    call: Call,
    finished: bool,
    status: Option<u16>,
    fault: Option<&'static str>,
}

impl EffectLog {
    /// Records a call on arrival and returns its sequence number.
    pub(super) fn begin(
        &mut self,
        at: SystemTime,
        operation: &'static str,
        call: Call,
        fault: Option<&'static str>,
    ) -> u64 {
        let sequence = self.next();
        self.call_bytes += call.body.len();
        self.calls.push_back(Entry { sequence, at, operation, call, finished: false, status: None, fault });
        while self.calls.len() > MAX_CALLS || (self.call_bytes > MAX_CALL_BYTES && self.calls.len() > 1) {
            if let Some(dropped) = self.calls.pop_front() {
                self.call_bytes -= dropped.call.body.len();
                self.calls_dropped += 1;
            }
        }
        sequence
    }

    /// Records the status of a call's response; no status means that the connection was cut.
    pub(super) fn finish(&mut self, sequence: u64, status: Option<u16>) {
        if let Ok(index) = self.calls.binary_search_by_key(&sequence, |entry| entry.sequence) {
            self.calls[index].finished = true;
            self.calls[index].status = status;
        }
    }

    /// Records an effect when it happens.
    pub(super) fn effect(
        &mut self,
        (at, call, operation): (SystemTime, u64, &'static str),
        change: &'static str,
        subject: String,
        keys: Vec<(&'static str, String)>,
    ) {
        let sequence = self.next();
        self.effects.push_back(Effect { sequence, at, call, operation, change, subject, keys });
        if self.effects.len() > MAX_EFFECTS {
            self.effects.pop_front();
            self.effects_dropped += 1;
        }
    }

    /// Renders everything after a sequence number as JSON.
    pub(super) fn to_json(&self, since: u64, with_calls: bool) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("sequence".to_owned(), json!(self.sequence));
        let effects = self.effects.iter().filter(|effect| effect.sequence > since).map(Effect::to_json).collect();
        out.insert("effects".to_owned(), Value::Array(effects));
        out.insert("effectsDropped".to_owned(), json!(self.effects_dropped));
        if with_calls {
            let calls = self.calls.iter().filter(|entry| entry.sequence > since).map(Entry::to_json).collect();
            out.insert("calls".to_owned(), Value::Array(calls));
            out.insert("callsDropped".to_owned(), json!(self.calls_dropped));
        }
        out
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

impl Effect {
    fn to_json(&self) -> Value {
        let mut out = json!({
            "sequence": self.sequence,
            "at": rfc3339(self.at),
            "call": self.call,
            "operation": self.operation,
            "change": self.change,
            "subject": self.subject,
        });
        if let Some(members) = out.as_object_mut() {
            members.extend(self.keys.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        }
        out
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        json!({
            "sequence": self.sequence,
            "at": rfc3339(self.at),
            "operation": self.operation,
            "method": self.call.method,
            "path": self.call.path,
            "query": self.call.query,
            "headers": self.call.headers.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
            "body": String::from_utf8_lossy(&self.call.body),
            "finished": self.finished,
            "status": self.status,
            "fault": self.fault,
        })
    }
}

/// Formats a time as RFC 3339 in UTC; empty for a time out of the calendar's range.
pub(super) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}
