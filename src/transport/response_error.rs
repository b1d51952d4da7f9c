//! What an HTTP status means where the vendor's own table has no row for it.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;

use crate::domain::error::{Code, Error, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::transport::client::Client;
use crate::transport::request::Response;

/// What callers are told to wait when the vendor said "too many" without saying how long, and at least.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The fault of an answer by its status alone: 413, 429, 503, other 5xx, 3xx, 401 and any other 4xx; `None` for 2xx.
///
/// `code` and `message` are what the vendor said, still as it said it; the connection's own secrets are masked here. A
/// text that may echo a candidate's password has to go through [`Client::clean`] with that password first.
#[must_use]
pub fn general_error(
    client: &Client,
    operation: &'static str,
    answer: &Response,
    code: Option<&str>,
    message: Option<&str>,
) -> Option<Error> {
    let status = answer.status.as_u16();
    let (word, outcome) = meaning(status)?;
    let given = retry_after(&answer.headers, client.now()).map(|wait| wait.max(MIN_WAIT));
    let wait = match status {
        429 => Some(given.unwrap_or(MIN_WAIT)),
        503 => given,
        _ => None,
    };
    let detail = match status {
        413 => "The vendor finds the request too large.".to_owned(),
        _ => format!("The vendor answered {status}."),
    };
    let said = VendorResponse {
        operation: operation.to_owned(),
        http_status: Some(status),
        code: code.map(|code| client.clean(code, [])),
        message: message.map(|message| client.clean(message, [])),
    };
    let fault = Error { outcome, ..Error::new(word, detail) }.with_vendor_response(said).with_retry_after(wait);
    // The size is the call's: fewer rows at once may fit.
    let fault = if status == 413 { fault.for_batch() } else { fault };
    Some(client.error(operation, fault))
}

/// The longest pause a vendor is believed to ask for; a century in its answer would keep an operation from ever ending.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// How long the vendor asks to wait (RFC 9110 §10.2.3: seconds or an HTTP date), at most [`MAX_RETRY_AFTER`]; zero for a date
/// that has passed.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        // More digits than fit are a long time all the same.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date: SystemTime = httpdate::parse_http_date(text).ok()?;
        // A day beyond what a timestamp holds is a long time all the same.
        Timestamp::try_from(date)
            .map_or(MAX_RETRY_AFTER, |date| Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn meaning(status: u16) -> Option<(Code, Outcome)> {
    Some(match status {
        200..=299 => return None,
        // RFC 9110 §15.4.8, §15.4.9: the request has to be sent elsewhere as it is, so it was not done here. After 301, 302
        // and 303 it may have been: they also answer a write that was done.
        307 | 308 => (Code::VendorBadResponse, Outcome::NotApplied),
        401 => (Code::ConnectionCredentialsInvalid, Outcome::NotApplied),
        // RFC 9110 §15.5.14: refused for its size, mostly by a server in front of the vendor's program.
        413 => (Code::VendorRejectedRequest, Outcome::NotApplied),
        429 => (Code::VendorRateLimited, Outcome::NotApplied),
        400..=499 => (Code::VendorErrorUnmapped, Outcome::Unknown),
        503 => (Code::VendorUnavailable, Outcome::Unknown),
        500..=599 => (Code::VendorInternalError, Outcome::Unknown),
        _ => (Code::VendorBadResponse, Outcome::Unknown),
    })
}
