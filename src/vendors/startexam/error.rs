//! Meaning of `StartExam`'s error responses: one table by HTTP status, because the vendor has no error codes, only a
//! `message` (vendor page `/Help/Responses`: 200, 400, 403, 404, 500; no other status is listed).
//!
//! The vendor publishes the wording of one message only, so wording never decides, except that a 403 may be about the
//! `Date` header.

use http::StatusCode;

use super::wire::{self, counts, participant_ids, without_mark};
use crate::domain::error::{Code, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::domain::vendor_error::VendorError;
use crate::transport::{Client, Response, general_error};

/// Returns the error of a response, or `None` for a success; `rows` is the number of rows in the call.
///
/// | status | error | reconciles an earlier attempt |
/// |---|---|---|
/// | 400 | `vendor_rejected_request`, of the whole call | no |
/// | 403 about `Date` | `vendor_clock_skew` | no |
/// | 403 otherwise, 401 | `connection_credentials_invalid` | no |
/// | 404 | `invalid_reference`, of the whole call | yes: the referenced object does not exist |
/// | others | as for any vendor | no |
/// | one that would mean "nothing was done", with the body of a success | `vendor_bad_response`, unknown | no |
///
/// The vendor does not document whether a call with one bad row does nothing at all; we assume that a 4xx changed
/// nothing.
pub(super) fn response_error(
    client: &Client,
    operation: &'static str,
    response: &Response,
    rows: usize,
) -> Option<VendorError> {
    if response.status.is_success() {
        return None;
    }
    let error = by_status(client, operation, response, rows)?;
    let tells_success = || participant_ids(&response.body).is_some() || counts(&response.body).is_some();
    if error.outcome == Outcome::NotApplied && tells_success() {
        let detail = "StartExam's response has the body of a success but an error status.";
        return Some(unreadable(client, operation, response, detail, rows));
    }
    Some(error)
}

fn by_status(client: &Client, operation: &'static str, response: &Response, rows: usize) -> Option<VendorError> {
    let message = message(response);
    let error = match response.status {
        StatusCode::BAD_REQUEST => {
            of_call(VendorError::new(Code::VendorRejectedRequest, "StartExam rejected the request as invalid."), rows)
        }
        StatusCode::FORBIDDEN if is_about_date(message.as_deref()) => {
            VendorError::new(Code::VendorClockSkew, "StartExam rejected the date of a freshly signed request.")
        }
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => VendorError::new(
            Code::ConnectionCredentialsInvalid,
            "StartExam rejected the account or the signature of this connection.",
        ),
        StatusCode::NOT_FOUND => of_call(
            VendorError::new(Code::InvalidReference, "The request refers to something StartExam does not know.")
                .proving_no_effect(),
            rows,
        ),
        _ => return general_error(client, operation, response, None, message.as_deref()),
    };
    let error = error.with_vendor_response(describe(client, operation, response, message.as_deref()));
    Some(client.error(operation, error))
}

/// Returns the error of a success status whose body does not show what happened.
///
/// Keeps only the `message` of such a body: the ids in it grant access to an exam.
pub(super) fn unreadable(
    client: &Client,
    operation: &'static str,
    response: &Response,
    detail: &str,
    rows: usize,
) -> VendorError {
    let message = wire::message(&response.body);
    let error = VendorError::unknown(Code::VendorBadResponse, detail);
    let error = of_call(error, rows).with_vendor_response(describe(client, operation, response, message.as_deref()));
    client.error(operation, error)
}

/// Returns whether the vendor rejected the request's date; a freshly signed attempt may succeed.
pub(super) fn is_date_refusal(response: &Response) -> bool {
    response.status == StatusCode::FORBIDDEN && is_about_date(message(response).as_deref())
}

/// Returns whether the body is a web page, for example a proxy's sign-in. The body decides, because servers and proxies
/// also label JSON and empty bodies as HTML.
pub(super) fn is_page(response: &Response) -> bool {
    without_mark(&response.body).trim_ascii_start().starts_with(b"<")
}

/// Returns the vendor's message: the `message` field, else the body's text unless it is a web page.
fn message(response: &Response) -> Option<String> {
    if let Some(message) = wire::message(&response.body) {
        return Some(message);
    }
    if is_page(response) {
        return None;
    }
    // `describe` truncates it after masking secrets: redaction would not recognise half a secret.
    let text = String::from_utf8_lossy(without_mark(&response.body)).into_owned();
    if text.trim().is_empty() { None } else { Some(text) }
}

/// Looks for the word `date`. The only published message is
/// `HTTP header 'Date' is incorrect: it's older than 15 minutes`; other wordings are undocumented.
fn is_about_date(message: Option<&str>) -> bool {
    let words = message.unwrap_or("").split(|c: char| !c.is_alphanumeric());
    words.into_iter().any(|word| word.eq_ignore_ascii_case("date"))
}

fn of_call(error: VendorError, rows: usize) -> VendorError {
    if rows > 1 { error.for_batch() } else { error }
}

fn describe(client: &Client, operation: &str, response: &Response, message: Option<&str>) -> VendorResponse {
    let message = message.map(|text| client.clean(text, [])).filter(|text| !text.is_empty());
    response.describe(operation, None, message)
}
