//! Metrics of write outcomes and current load. For operators only; no decision depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::RowResult;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::telemetry::metrics;
use crate::transport::{CircuitState, ConnectionStats};

/// Maximum number of unmapped codes of one connection that get their own label; further ones are counted as `other`.
const MAX_CODES: usize = 32;
/// Maximum length of a code that gets its own label.
const MAX_CODE: usize = 40;

/// Limiter of the label cardinality of unmapped vendor codes.
#[derive(Default)]
pub(super) struct LabelLimiter(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl LabelLimiter {
    /// Counts the rows of one vendor call by outcome and code.
    pub(super) fn count_rows(&self, connection: &Connection, operation: WriteKind, rows: &[RowResult<VendorReply>]) {
        let mut counts: BTreeMap<(&'static str, &'static str), usize> = BTreeMap::new();
        for row in rows {
            let (outcome, code) = match row {
                Ok(_) => (Outcome::Applied, ""),
                Err(error) => (error.outcome, error.code.as_str()),
            };
            *counts.entry((outcome.as_str(), code)).or_default() += 1;
            if let Err(error) = row
                && error.code == Code::VendorErrorUnmapped
            {
                metrics::unmapped(&connection.name, self.label(&connection.name, error));
            }
        }
        let vendor = connection.descriptor().kind;
        for ((outcome, code), count) in counts {
            metrics::write(vendor, &connection.name, operation.as_str(), outcome, code, count);
        }
    }

    fn label(&self, connection: &str, error: &Error) -> String {
        let response = error.vendor.as_ref();
        let code = response.and_then(|response| response.code.clone());
        let code = code.or_else(|| response?.http_status.map(|status| format!("http_{status}")));
        // Accept only what looks like a code: a vendor may return a sentence, or a person's name, in its place.
        let fit = |code: &String| {
            (1..=MAX_CODE).contains(&code.len())
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let Some(code) = code.filter(fit) else { return "other".to_owned() };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let codes = seen.entry(connection.to_owned()).or_default();
        if codes.len() < MAX_CODES || codes.contains(&code) {
            codes.insert(code.clone());
            return code;
        }
        "other".to_owned()
    }
}

impl Gateway {
    /// Updates the load gauges of each connection; call before they are scraped.
    pub fn update_gauges(&self) {
        for connection in self.configured().connections.values() {
            let ConnectionStats { circuit, in_flight, single_waiting, bulk_waiting, skew: _ } = connection.stats();
            metrics::at_vendor(&connection.name, in_flight);
            metrics::waiting(&connection.name, single_waiting, bulk_waiting);
            let state = match circuit {
                CircuitState::Closed => metrics::Breaker::Closed,
                CircuitState::HalfOpen => metrics::Breaker::HalfOpen,
                CircuitState::Open { .. } => metrics::Breaker::Open,
            };
            metrics::circuit(&connection.name, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::VendorResponse;

    fn error(code: Option<&str>, status: Option<u16>) -> Error {
        let response =
            VendorResponse { code: code.map(str::to_owned), http_status: status, ..VendorResponse::default() };
        Error::unknown(Code::VendorErrorUnmapped, "odd").with_vendor_response(response)
    }

    #[test]
    fn a_vendor_cannot_create_unlimited_labels() {
        let codes = LabelLimiter::default();
        let labels: BTreeSet<String> =
            (0..1_000).map(|number| codes.label("c", &error(Some(&format!("E{number}")), None))).collect();
        assert_eq!(labels.len(), MAX_CODES + 1);
        assert_eq!(codes.label("c", &error(Some("E0"), None)), "E0");
        assert_eq!(codes.label("d", &error(Some("E999"), None)), "E999", "each connection has its own");
    }

    #[test]
    fn only_what_looks_like_a_code_becomes_a_label() {
        let codes = LabelLimiter::default();
        assert_eq!(codes.label("c", &error(None, Some(418))), "http_418");
        for odd in ["", "Ada Lovelace", "a@b", &"9".repeat(41)] {
            assert_eq!(codes.label("c", &error(Some(odd), Some(418))), "other", "{odd}");
        }
    }
}
