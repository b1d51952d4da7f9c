//! The output of the transport: a vendor's complete [`Response`], and what it says beyond its body.
//!
//! Its debug output must never show contents: personal data, credentials.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};

use crate::domain::error::VendorResponse;

/// Longest delay accepted from a vendor; a `Retry-After` of a century would keep an operation from ever finishing.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A complete response.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole and within `max_response_bytes`.
    pub body: Bytes,
}

impl Response {
    /// Describes the response for a problem; code and message must be sanitised.
    #[must_use]
    pub fn describe(&self, operation: &str, code: Option<String>, message: Option<String>) -> VendorResponse {
        VendorResponse { operation: operation.to_owned(), http_status: Some(self.status.as_u16()), code, message }
    }

    /// Returns when the response was made, by the vendor's clock in whole seconds (`Date`, RFC 9110 §6.6.1).
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        Timestamp::try_from(httpdate::parse_http_date(self.header(&DATE)?).ok()?).ok()
    }

    /// Parses `Retry-After` (RFC 9110 §10.2.3: seconds or an HTTP date), at most [`MAX_RETRY_AFTER`]; zero for a past
    /// date.
    pub(super) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.header(&RETRY_AFTER)?;
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

    /// Computes the lead of the vendor's clock over ours (`Date`, RFC 9110 §6.6.1). `Date` has whole seconds, so half a
    /// second is added for the truncated part.
    pub(super) fn clock_skew(&self, now: Timestamp) -> Option<SignedDuration> {
        Some(self.date()?.duration_since(now).saturating_add(SignedDuration::from_millis(500)))
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
