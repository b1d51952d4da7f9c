//! The truth: what really happened at the vendor, and every call that came in.
//!
//! A test that wants to know whether a client's word is right compares it with this list, so an effect is written when it
//! happens, once, under the same lock that changes the state. It never holds secrets of the real world: all accounts here
//! are made up.

use std::{collections::VecDeque, time::SystemTime};

use serde_json::{Map, Value, json};

use crate::sandbox::http_types::Call;

/// Calls kept; older ones are dropped and counted, so that a long benchmark does not eat the memory.
const CALLS_KEPT: usize = 50_000;
/// Body bytes kept over all calls.
const CALL_BYTES_KEPT: usize = 256 << 20;
/// Effects kept.
const EFFECTS_KEPT: usize = 2_000_000;

/// Effects and calls since the start or the last reset, in one numbering.
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
    /// Notes a call on arrival; the number names it from now on.
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
        while self.calls.len() > CALLS_KEPT || (self.call_bytes > CALL_BYTES_KEPT && self.calls.len() > 1) {
            if let Some(dropped) = self.calls.pop_front() {
                self.call_bytes -= dropped.call.body.len();
                self.calls_dropped += 1;
            }
        }
        sequence
    }

    /// Notes what a call was answered; no status means that the connection was cut.
    pub(super) fn finish(&mut self, sequence: u64, status: Option<u16>) {
        if let Ok(index) = self.calls.binary_search_by_key(&sequence, |entry| entry.sequence) {
            self.calls[index].finished = true;
            self.calls[index].status = status;
        }
    }

    /// Notes an effect at the moment it happens.
    pub(super) fn effect(
        &mut self,
        (at, call, operation): (SystemTime, u64, &'static str),
        change: &'static str,
        subject: String,
        keys: Vec<(&'static str, String)>,
    ) {
        let sequence = self.next();
        self.effects.push_back(Effect { sequence, at, call, operation, change, subject, keys });
        if self.effects.len() > EFFECTS_KEPT {
            self.effects.pop_front();
            self.effects_dropped += 1;
        }
    }

    /// Everything after a number, as JSON.
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

/// RFC 3339 in UTC; empty for a time no calendar reaches.
pub(super) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}
