//! What `StartExam`'s refusals mean: one table by HTTP status, since the vendor has no error codes, only a `message`
//! (vendor page `/Help/Responses`: 200, 400, 403, 404, 500; no other status is listed).
//!
//! No wording but one is published, so no wording decides, except that a 403 may be about the `Date` header.

use http::StatusCode;

use super::wire::{counts, member, object, participant_ids, without_mark};
use crate::domain::error::{Code, Error, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::transport::{Client, Response, general_error};

/// The fault an answer tells of, or `None` for a success; `rows` is how many the call had.
///
/// | status | fault | settles an earlier attempt |
/// |---|---|---|
/// | 400 | `vendor_rejected_request`, of the whole call | no |
/// | 403 about `Date` | `vendor_clock_skew` | no |
/// | 403 otherwise, 401 | `connection_credentials_invalid` | no |
/// | 404 | `invalid_reference`, of the whole call | yes: what is booked for does not exist |
/// | others | as for any vendor | no |
/// | one that would mean "nothing was done", with the body of a success | `vendor_bad_response`, unknown | no |
///
/// Whether a call with one bad row does nothing at all is undocumented; we assume that a 4xx changed nothing.
pub(super) fn fault(client: &Client, operation: &'static str, answer: &Response, rows: usize) -> Option<Error> {
    if answer.status.is_success() {
        return None;
    }
    let fault = by_status(client, operation, answer, rows)?;
    let tells_success = || participant_ids(&answer.body).is_some() || counts(&answer.body).is_some();
    if fault.outcome == Outcome::NotApplied && tells_success() {
        let detail = "StartExam's answer has the body of a success, but its status is none.";
        return Some(unreadable(client, operation, answer, detail, rows));
    }
    Some(fault)
}

fn by_status(client: &Client, operation: &'static str, answer: &Response, rows: usize) -> Option<Error> {
    let message = message(answer);
    let fault = match answer.status {
        StatusCode::BAD_REQUEST => {
            of_call(Error::new(Code::VendorRejectedRequest, "StartExam found the request invalid."), rows)
        }
        StatusCode::FORBIDDEN if is_about_date(message.as_deref()) => {
            Error::new(Code::VendorClockSkew, "StartExam refused the date of a freshly signed request.")
        }
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Error::new(
            Code::ConnectionCredentialsInvalid,
            "StartExam did not accept the account or the signature of this connection.",
        ),
        StatusCode::NOT_FOUND => of_call(
            Error::new(Code::InvalidReference, "StartExam does not know something the request refers to.")
                .proving_no_effect(),
            rows,
        ),
        _ => return general_error(client, operation, answer, None, message.as_deref()),
    };
    let fault = fault.with_vendor_response(said(client, operation, answer, message.as_deref()));
    Some(client.error(operation, fault))
}

/// The fault of a success that does not tell what happened.
///
/// Only a `message` is kept of such a body: the ids in it admit to an exam.
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

/// Whether the vendor refused the request's date, which a freshly signed attempt may cure.
pub(super) fn is_date_refusal(answer: &Response) -> bool {
    answer.status == StatusCode::FORBIDDEN && is_about_date(message(answer).as_deref())
}

/// Whether something between the vendor and us answered with a page (a proxy's sign-in, say). The body decides: servers
/// and proxies label JSON, and nothing at all, as HTML.
pub(super) fn is_page(answer: &Response) -> bool {
    without_mark(&answer.body).trim_ascii_start().starts_with(b"<")
}

/// The vendor's message: the `message` member, else the text itself where it is no page.
fn message(answer: &Response) -> Option<String> {
    if let Some(message) = object(&answer.body).and_then(|object| message_member(&object)) {
        return Some(message);
    }
    if is_page(answer) {
        return None;
    }
    // Cut to length only after the secrets are masked, in `said`: half a secret is not recognised any more.
    let text = String::from_utf8_lossy(without_mark(&answer.body)).into_owned();
    if text.trim().is_empty() { None } else { Some(text) }
}

fn message_member(object: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    Some(member(object, "message")?.as_str()?.to_owned())
}

/// The one published sentence is `HTTP header 'Date' is incorrect: it's older than 15 minutes`; other wordings are
/// undocumented, so the word alone decides.
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
