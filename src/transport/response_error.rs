//! The default mapping from HTTP status to error, for statuses that the vendor's own table does not cover.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;

use crate::domain::error::{Code, Error, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::transport::client::Client;
use crate::transport::request::Response;

/// Minimum retry delay, also used if a 429 has no `Retry-After`.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Maps a response to an error by its status alone: 413, 429, 503, other 5xx, 3xx, 401 and any other 4xx; `None` for
/// 2xx.
///
/// `code` and `message` are the vendor's raw texts; this function masks the connection's own secrets. A text that may
/// echo a candidate's password must go through [`Client::clean`] with that password first.
#[must_use]
pub fn general_error(
    client: &Client,
    operation: &'static str,
    answer: &Response,
    code: Option<&str>,
    message: Option<&str>,
) -> Option<Error> {
    let status = answer.status.as_u16();
    let (word, outcome) = default_error(status)?;
    let given = retry_after(&answer.headers, client.now()).map(|wait| wait.max(MIN_WAIT));
    let wait = match status {
        429 => Some(given.unwrap_or(MIN_WAIT)),
        503 => given,
        _ => None,
    };
    let detail = match status {
        413 => "The vendor rejected the request as too large.".to_owned(),
        _ => format!("The vendor responded with status {status}."),
    };
    let said = VendorResponse {
        operation: operation.to_owned(),
        http_status: Some(status),
        code: code.map(|code| client.clean(code, [])),
        message: message.map(|message| client.clean(message, [])),
    };
    let fault = Error { outcome, ..Error::new(word, detail) }.with_vendor_response(said).with_retry_after(wait);
    // The size is that of the whole call: fewer rows may fit.
    let fault = if status == 413 { fault.for_batch() } else { fault };
    Some(client.error(operation, fault))
}

/// Longest delay accepted from a vendor; a `Retry-After` of a century would keep an operation from ever finishing.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Parses `Retry-After` (RFC 9110 §10.2.3: seconds or an HTTP date), at most [`MAX_RETRY_AFTER`]; zero for a past date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        // A number too large to parse is a long delay.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date: SystemTime = httpdate::parse_http_date(text).ok()?;
        // A date beyond the timestamp range is a long delay.
        Timestamp::try_from(date)
            .map_or(MAX_RETRY_AFTER, |date| Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn default_error(status: u16) -> Option<(Code, Outcome)> {
    Some(match status {
        200..=299 => return None,
        // RFC 9110 §15.4.8, §15.4.9: the client must send the same request elsewhere, so the write did not happen here.
        // After 301, 302 and 303 it may have happened: they also follow a successful write.
        307 | 308 => (Code::VendorBadResponse, Outcome::NotApplied),
        401 => (Code::ConnectionCredentialsInvalid, Outcome::NotApplied),
        // RFC 9110 §15.5.14: rejected for its size, usually by a server in front of the vendor's application.
        413 => (Code::VendorRejectedRequest, Outcome::NotApplied),
        429 => (Code::VendorRateLimited, Outcome::NotApplied),
        400..=499 => (Code::VendorErrorUnmapped, Outcome::Unknown),
        503 => (Code::VendorUnavailable, Outcome::Unknown),
        500..=599 => (Code::VendorInternalError, Outcome::Unknown),
        _ => (Code::VendorBadResponse, Outcome::Unknown),
    })
}
