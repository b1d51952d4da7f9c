//! Issuing and checking triples of `ak`, `sgn` and `ts`.
//!
//! The vendor names a Signature Generation API and publishes nothing else about it: address, bodies, lifetime, formula
//! and the rejection here are all invented. Three kinds of triple are valid, so that every client set-up can be tried:
//! one issued by `POST /sim/signature`, one computed with [`formula`], and one fixed pair that never expires.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{Refusal, account, text, write};
use crate::sandbox::http_types::{Answer, Call};
use crate::sandbox::ordered_json::object;
use crate::sandbox::vendor::{Context, vendor_clock};

/// Invented: the vendor publishes no rejection message.
const REFUSED: &str = "Invalid signature";
/// Maximum number of triples kept; the oldest are dropped first.
const MAX_ISSUED: usize = 100_000;

/// Issued triples.
#[derive(Debug, Default)]
pub(super) struct Issued {
    counter: u64,
    by_signature: HashMap<String, Triple>,
    order: std::collections::VecDeque<String>,
}

#[derive(Debug)]
struct Triple {
    ts: String,
    at: SystemTime,
}

impl Issued {
    /// Handles `POST /sim/signature`: `{"apiKey", "secret"}` returns `{"ak", "sgn", "ts"}`, or 401.
    pub(super) fn issue(&mut self, call: &Call, context: &mut Context<'_>) -> Answer {
        let body: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
        let secret_is_right = same(&text(&body, "secret"), account::SECRET);
        if text(&body, "apiKey") != account::API_KEY || !secret_is_right {
            let mut refusal = refused(context);
            "Invalid api key or secret".clone_into(&mut refusal.message);
            return write(401, refusal.to_json(), context.switches);
        }
        self.counter += 1;
        let ts = seconds(vendor_clock(context.now, context.switches)).to_string();
        // Two triples of the same second differ, or "one use" would reject the second.
        let sgn = hmac_hex(account::SECRET, &format!("{}{ts}#{}", account::API_KEY, self.counter));
        self.by_signature.insert(sgn.clone(), Triple { ts: ts.clone(), at: context.now });
        self.order.push_back(sgn.clone());
        if self.order.len() > MAX_ISSUED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_signature.remove(&oldest);
        }
        let triple = object([("ak", account::API_KEY.into()), ("sgn", sgn.into()), ("ts", ts.into())]);
        write(200, triple, context.switches)
    }

    /// Checks the three headers of a signed call.
    pub(super) fn check(&mut self, call: &Call, context: &Context<'_>) -> Result<(), Refusal> {
        let headers = (call.header("ak"), call.header("sgn"), call.header("ts"));
        let (Some(ak), Some(sgn), Some(ts)) = headers else {
            return Err(refused(context));
        };
        if ak != account::API_KEY || context.struck_by("signature_refused") {
            return Err(refused(context));
        }
        let accepts = context.switches.text("signature_kinds");
        let wanted = |kind: &str| accepts == "any" || accepts == kind;
        let good = (wanted("static") && same(sgn, account::STATIC_SIGNATURE) && ts == account::STATIC_TIMESTAMP)
            || (wanted("hmac") && formula_holds(sgn, ts, context))
            || (wanted("issued") && self.use_issued(sgn, ts, context));
        if good { Ok(()) } else { Err(refused(context)) }
    }

    fn use_issued(&mut self, sgn: &str, ts: &str, context: &Context<'_>) -> bool {
        let Some(triple) = self.by_signature.get(sgn) else {
            return false;
        };
        let age = context.now.duration_since(triple.at).unwrap_or_default();
        if triple.ts != ts || age > lifetime(context) {
            return false;
        }
        if context.switches.flag("signature_one_use") {
            self.by_signature.remove(sgn);
        }
        true
    }
}

/// Computes the signature for clients that sign themselves: lower-case hex of HMAC-SHA-256 with the secret as key over
/// the API key followed by `ts`, the time in whole seconds since 1970.
fn formula(ts: &str) -> String {
    hmac_hex(account::SECRET, &format!("{}{ts}", account::API_KEY))
}

fn formula_holds(sgn: &str, ts: &str, context: &Context<'_>) -> bool {
    let Ok(sent) = ts.parse::<u64>() else {
        return false;
    };
    let apart = seconds(vendor_clock(context.now, context.switches)).abs_diff(sent);
    apart <= lifetime(context).as_secs() && same(sgn, &formula(ts))
}

fn refused(context: &Context<'_>) -> Refusal {
    let status = context.switches.text("refusal_status").parse().unwrap_or(200);
    Refusal { code: context.switches.text("refusal_code"), message: REFUSED.to_owned(), status }
}

fn lifetime(context: &Context<'_>) -> Duration {
    let seconds = context.switches.number("signature_ttl_seconds").and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn same(given: &str, right: &str) -> bool {
    given.as_bytes().ct_eq(right.as_bytes()).into()
}

fn hmac_hex(key: &str, message: &str) -> String {
    // An HMAC accepts keys of any length; the unreachable error case yields a signature that nothing matches.
    Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(message.as_bytes());
            HEXLOWER.encode(&mac.finalize().into_bytes())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula_is_hex_hmac_sha256_over_key_and_time() {
        // printf %s sandbox-thinkexam-key1700000000 | openssl dgst -sha256 -hmac sandbox-thinkexam-secret
        assert_eq!(formula("1700000000"), "670930f85750cf1ec27fdc3010eac1e4dae9141dc74d5caafb4fd88113367631");
    }
}
