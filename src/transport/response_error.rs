//! The default mapping from HTTP status to error, for statuses that the vendor's own table does not cover.

use std::time::Duration;

use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::domain::vendor_error::VendorError;
use crate::transport::client::Client;
use crate::transport::response::Response;

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
    response: &Response,
    code: Option<&str>,
    message: Option<&str>,
) -> Option<VendorError> {
    let status = response.status.as_u16();
    let (kind, outcome) = default_error(status)?;
    let given = response.retry_after(client.now()).map(|wait| wait.max(MIN_WAIT));
    let wait = match status {
        429 => Some(given.unwrap_or(MIN_WAIT)),
        503 => given,
        _ => None,
    };
    let detail = match status {
        413 => "The vendor rejected the request as too large.".to_owned(),
        _ => format!("The vendor responded with status {status}."),
    };
    let clean = |text: &str| client.clean(text, []);
    let description = response.describe(operation, code.map(clean), message.map(clean));
    let error =
        VendorError::new(kind, detail).with_outcome(outcome).with_vendor_response(description).with_retry_after(wait);
    // The size is that of the whole call: fewer rows may fit.
    let error = if status == 413 { error.for_batch() } else { error };
    Some(client.error(operation, error))
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
