//! The identity of a request: its exchange, with the caller's request id and trace where they are valid.

use http::{HeaderMap, HeaderName};

use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::system::System;

/// The header that carries the request id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identity of a request: its exchange, with the request id.
#[derive(Debug, Clone)]
pub(super) struct ExchangeContext {
    pub(super) exchange: Exchange,
}

/// Marks a request whose exchange is not kept for `GET /exchanges`: the reads of the console's pages, which would drive out
/// those with vendor calls; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnkeptExchange;

impl ExchangeContext {
    /// Creates the context of a request with these headers.
    pub(super) fn of(headers: &HeaderMap, environment: &System) -> Self {
        let id = ExchangeId::generate(environment);
        let request_id = given_request_id(headers).unwrap_or_else(|| id.request_id());
        Self { exchange: Exchange::new(id, request_id, given_traceparent(headers), environment.now()) }
    }

    /// Creates a context for examples and tests.
    pub(super) fn example() -> Self {
        const EXCHANGE: &str = "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f";
        #[expect(clippy::expect_used, reason = "a well-formed constant; a unit test parses it")]
        let id = ExchangeId::parse(EXCHANGE).expect("well-formed");
        let request_id = id.request_id();
        Self { exchange: Exchange::new(id, request_id, None, jiff::Timestamp::UNIX_EPOCH) }
    }
}

/// Returns the caller's own request id, if it is safe for logs and headers: `[A-Za-z0-9._:-]{1,128}`.
fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fit = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    fit.then(|| text.to_owned())
}

/// Parses W3C Trace Context §3.2: version 00 has exactly four parts, later ones may have more; all-zero ids are
/// invalid.
fn given_traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?;
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let (version, rest) = text.split_once('-')?;
    let parts: Vec<&str> = rest.splitn(4, '-').collect();
    let (trace, parent, flags) = (parts.first()?, parts.get(1)?, parts.get(2)?);
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.len() == 3);
    let valid = known && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && text.len() <= 256;
    let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
    (valid && !zeros(trace) && !zeros(parent)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_safe_request_ids_are_accepted() {
        let longest = "x".repeat(128);
        for fit in ["a", "A-Z_a", "0.9:1-2", &longest] {
            assert_eq!(given_request_id(&headers("x-request-id", fit)).as_deref(), Some(fit));
        }
        for unfit in ["", "a b", "ä", "a/b", "a\tb", "a+b", &"x".repeat(129)] {
            assert_eq!(given_request_id(&headers("x-request-id", unfit)), None, "{unfit}");
        }
    }

    #[test]
    fn only_valid_trace_parents_are_accepted() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(given_traceparent(&headers("traceparent", valid)).as_deref(), Some(valid));
        assert!(given_traceparent(&headers("traceparent", &format!("cc{}-more", &valid[2..]))).is_some());
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(given_traceparent(&headers("traceparent", invalid)), None, "{invalid}");
        }
    }

    #[test]
    fn example_context_is_well_formed() {
        assert!(given_request_id(&headers("x-request-id", ExchangeContext::example().exchange.request_id())).is_some());
    }
}
