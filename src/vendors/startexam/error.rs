//! Meaning of `StartExam`'s error responses: one table by HTTP status, because the vendor has no error codes, only a
//! `message` (vendor page `/Help/Responses`: 200, 400, 403, 404, 500; no other status is listed).
//!
//! The vendor publishes the wording of one message only, so wording never decides, except that a 403 may be about the
//! `Date` header.

use http::StatusCode;

use super::wire::{counts, member, object, participant_ids, without_mark};
use crate::domain::error::{Code, Error, VendorResponse};
use crate::domain::outcome::Outcome;
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
pub(super) fn fault(client: &Client, operation: &'static str, answer: &Response, rows: usize) -> Option<Error> {
    if answer.status.is_success() {
        return None;
    }
    let fault = by_status(client, operation, answer, rows)?;
    let tells_success = || participant_ids(&answer.body).is_some() || counts(&answer.body).is_some();
    if fault.outcome == Outcome::NotApplied && tells_success() {
        let detail = "StartExam's response has the body of a success but an error status.";
        return Some(unreadable(client, operation, answer, detail, rows));
    }
    Some(fault)
}

fn by_status(client: &Client, operation: &'static str, answer: &Response, rows: usize) -> Option<Error> {
    let message = message(answer);
    let fault = match answer.status {
        StatusCode::BAD_REQUEST => {
            of_call(Error::new(Code::VendorRejectedRequest, "StartExam rejected the request as invalid."), rows)
        }
        StatusCode::FORBIDDEN if is_about_date(message.as_deref()) => {
            Error::new(Code::VendorClockSkew, "StartExam rejected the date of a freshly signed request.")
        }
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Error::new(
            Code::ConnectionCredentialsInvalid,
            "StartExam rejected the account or the signature of this connection.",
        ),
        StatusCode::NOT_FOUND => of_call(
            Error::new(Code::InvalidReference, "The request refers to something StartExam does not know.")
                .proving_no_effect(),
            rows,
        ),
        _ => return general_error(client, operation, answer, None, message.as_deref()),
    };
    let fault = fault.with_vendor_response(said(client, operation, answer, message.as_deref()));
    Some(client.error(operation, fault))
}

/// Returns the error of a success status whose body does not show what happened.
///
/// Keeps only the `message` of such a body: the ids in it grant access to an exam.
pub(super) fn unreadable(
    client: &Client,
    operation: &'static str,
    answer: &Response,
    detail: &str,
    rows: usize,
) -> Error {
    let message = object(without_mark(&answer.body)).and_then(|object| message_member(&object));
    let fault = Error::unknown(Code::VendorBadResponse, detail);
    let fault = of_call(fault, rows).with_vendor_response(said(client, operation, answer, message.as_deref()));
    client.error(operation, fault)
}

/// Returns whether the vendor rejected the request's date; a freshly signed attempt may succeed.
pub(super) fn is_date_refusal(answer: &Response) -> bool {
    answer.status == StatusCode::FORBIDDEN && is_about_date(message(answer).as_deref())
}

/// Returns whether the body is a web page, for example a proxy's sign-in. The body decides, because servers and proxies
/// also label JSON and empty bodies as HTML.
pub(super) fn is_page(answer: &Response) -> bool {
    without_mark(&answer.body).trim_ascii_start().starts_with(b"<")
}

/// Returns the vendor's message: the `message` field, else the body's text unless it is a web page.
fn message(answer: &Response) -> Option<String> {
    if let Some(message) = object(&answer.body).and_then(|object| message_member(&object)) {
        return Some(message);
    }
    if is_page(answer) {
        return None;
    }
    // `said` truncates it after masking secrets: redaction would not recognise half a secret.
    let text = String::from_utf8_lossy(without_mark(&answer.body)).into_owned();
    if text.trim().is_empty() { None } else { Some(text) }
}

fn message_member(object: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    Some(member(object, "message")?.as_str()?.to_owned())
}

/// Looks for the word `date`. The only published message is
/// `HTTP header 'Date' is incorrect: it's older than 15 minutes`; other wordings are undocumented.
fn is_about_date(message: Option<&str>) -> bool {
    let words = message.unwrap_or("").split(|c: char| !c.is_alphanumeric());
    words.into_iter().any(|word| word.eq_ignore_ascii_case("date"))
}

fn of_call(fault: Error, rows: usize) -> Error {
    if rows > 1 { fault.for_batch() } else { fault }
}

fn said(client: &Client, operation: &str, answer: &Response, message: Option<&str>) -> VendorResponse {
    VendorResponse {
        operation: operation.to_owned(),
        http_status: Some(answer.status.as_u16()),
        code: None,
        message: message.map(|text| client.clean(text, [])).filter(|text| !text.is_empty()),
    }
}
