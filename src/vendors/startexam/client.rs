//! The vendor's calls: building each body and reading each response.
//!
//! Never retries a write. Only a request rejected for its date, which had no effect, is sent once more.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Serialize;
use serde_json::Map;

use crate::domain::assignment::{IfAssignmentExists, Launch};
use crate::domain::candidate::Person;
use crate::domain::capability::{RetrySafety, WriteKind};
use crate::domain::error::Code;
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::vendor::{Booked, Booking, CallContext, CallPurpose, Vendor, WriteSuccess};
use crate::domain::vendor_error::VendorError;
use crate::transport::{Client, RedactionPolicy, Request, Response, Target};
use crate::vendors::startexam::sign::SharedKey;
use crate::vendors::startexam::{ExistingRegistration, StartExam, error, wire};

/// The form of all bodies.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Fields shown in recorded exchanges. No ids: an employee's is the caller's name for a person, a participant's opens
/// the exam.
const SHOWN: RedactionPolicy = RedactionPolicy {
    members: &[
        "profileId",
        "status",
        "center",
        "validFrom",
        "validTill",
        "proctoring",
        "doNotCreateIfExist",
        "tests",
        "programId",
        "programExternalId",
        "moduleTestsScope",
        "moduleTests",
        "employeesRegistered",
        "attemptsRegistered",
        "employeesUnregistered",
        "attemptsUnregistered",
        "totalEmployeesInProgram",
        "message",
        "Message",
        "error",
        "errors",
        "code",
    ],
    within: &["employees"],
    document: None,
};

impl StartExam {
    /// Adds or updates employees. The response's format is undocumented, so nothing is read from it; but a web page
    /// cannot come from the vendor.
    pub(super) async fn sync(
        &self,
        operation: WriteKind,
        employees: Vec<wire::Employee<'_>>,
        call: &CallContext,
    ) -> Result<(), VendorError> {
        if employees.is_empty() {
            return Ok(());
        }
        if has_repeats(employees.iter().map(|employee| employee.id)) {
            return Err(misuse("the same employee twice in one call").for_batch());
        }
        let rows = employees.len();
        let body = wire::Employees { profile_id: &self.account.profile_id, employees };
        let answer = self.post(operation.as_str(), "/v1/employees", &body, rows, call).await?;
        if error::is_page(&answer) {
            let detail = "The response is a web page, not a response of StartExam's API.";
            return Err(error::unreadable(&self.client, operation.as_str(), &answer, detail, rows));
        }
        Ok(())
    }

    /// Books the rows in one call and returns the participant id of each; `None` for a row whose registration existed
    /// before and whose id the vendor did not return.
    pub(super) async fn book(
        &self,
        first: &Booking,
        rows: &[Booking],
        flagged: bool,
        call: &CallContext,
    ) -> Result<Vec<Option<String>>, VendorError> {
        const OPERATION: &str = WriteKind::AssignmentsCreate.as_str();
        let shared = self.shared(first, flagged);
        if rows.len() > self.at_most(flagged, call.purpose)
            || has_repeats(rows.iter().map(|row| row.candidate.0.as_str()))
            || rows.iter().any(|row| self.shared(row, self::flagged(row, call.purpose)) != shared)
        {
            return Err(misuse("bookings that cannot share a call").for_batch());
        }
        if call.purpose == CallPurpose::Reconcile && self.booking_retry_safety(first) == RetrySafety::Unsafe {
            // The flag would find any registration, and none would show the outcome of this one.
            return Err(misuse("a retry of a booking that cannot be distinguished from earlier ones"));
        }
        let (Some(from), Some(until)) = (first.valid_from, first.valid_until) else {
            return Err(misuse("a booking without a validity period"));
        };
        let body = wire::EmployeesParticipants {
            center: self.center_of(first),
            valid_from: from.to_string(),
            valid_till: until.to_string(),
            proctoring: first.proctoring.enabled,
            proctoring_activation_parameters: wire::proctoring_pairs(&first.proctoring),
            do_not_create_if_exist: flagged,
            tests: [&first.assessment],
            employees: rows.iter().map(|row| wire::EmployeeId { id: &row.candidate.0 }).collect(),
        };
        let answer = self.post(OPERATION, "/v2/employees-participants", &body, rows.len(), call).await?;
        let ids = wire::participant_ids(&answer.body).and_then(|ids| wire::by_row(ids, rows.len(), flagged));
        ids.ok_or_else(|| {
            let detail = "StartExam's response does not show which participant belongs to which candidate.";
            error::unreadable(&self.client, OPERATION, &answer, detail, rows.len())
        })
    }

    pub(super) fn booked(&self, booking: &Booking, id: Option<&str>) -> WriteSuccess<Booked> {
        let Some(id) = id else {
            let detail =
                "StartExam already had a registration and did not return its id, so the launch link is unknown.";
            let value = Booked { vendor_ref: Map::new(), launch: None, already_there: true };
            return WriteSuccess { value, warnings: vec![Warning::new(WarningCode::LaunchUnknown, detail)] };
        };
        let launch =
            Launch { url: self.account.link.url(self.center_of(booking), id), expires_at: booking.valid_until };
        let vendor_ref = Map::from_iter([("id".to_owned(), id.into())]);
        WriteSuccess::new(Booked { vendor_ref, launch: Some(launch), already_there: false })
    }

    pub(super) fn employee<'a>(
        &'a self,
        id: &'a str,
        person: &'a Person,
        active: bool,
        touched: &[String],
    ) -> wire::Employee<'a> {
        let status = if active { "active" } else { "hidden" };
        wire::Employee { id, status, data: wire::data(&self.account.fields, person, touched) }
    }

    fn center_of<'a>(&'a self, booking: &'a Booking) -> &'a str {
        booking.center.as_deref().unwrap_or(&self.account.center)
    }

    /// Returns the maximum rows in one booking call. See `wire::by_row` for why the flag matters; reconciliation sends
    /// rows one by one.
    pub(super) fn at_most(&self, flagged: bool, attempt: CallPurpose) -> usize {
        match (flagged, attempt, self.account.existing) {
            (_, CallPurpose::Reconcile, _)
            | (true, CallPurpose::Initial, ExistingRegistration::Unknown | ExistingRegistration::LeftOut) => 1,
            _ => self.batch,
        }
    }

    /// Returns the values that all rows of one booking call must share, as a key.
    pub(super) fn shared(&self, booking: &Booking, flagged: bool) -> String {
        let Booking { assessment, valid_from, valid_until, proctoring, .. } = booking;
        serde_json::json!([self.center_of(booking), assessment, valid_from, valid_until, proctoring, flagged])
            .to_string()
    }

    pub(super) async fn post<T: Serialize + Sync>(
        &self,
        operation: &'static str,
        path: &str,
        body: &T,
        rows: usize,
        call: &CallContext,
    ) -> Result<Response, VendorError> {
        let body = serde_json::to_vec(body).map_err(|_| misuse("a body that cannot be written as JSON"))?;
        self.send(operation, Method::POST, path, body.into(), rows, call).await
    }

    /// Sends a request and returns the response if it is a success.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
        rows: usize,
        call: &CallContext,
    ) -> Result<Response, VendorError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, JSON)]);
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, JSON);
        }
        let target = Target::Path(path.to_owned());
        let request = Request { operation, method, target, headers, body, shown: SHOWN, min_response_limit: 0 };
        let answer = send_dated(&self.client, &self.account.signer, request, call).await?;
        match error::response_error(&self.client, operation, &answer, rows) {
            Some(fault) => Err(fault),
            None => Ok(answer),
        }
    }
}

/// Sends a request. One that is rejected for its date had no effect, so it is signed anew and sent once more: it may have
/// been delayed on its way.
pub(super) async fn send_dated(
    client: &Client,
    signer: &SharedKey,
    request: Request,
    call: &CallContext,
) -> Result<Response, VendorError> {
    let answer = client.send(request.clone(), signer, call).await?;
    if error::is_date_refusal(&answer) { client.send(request, signer, call).await } else { Ok(answer) }
}

/// Returns whether to send `doNotCreateIfExist`. Always when reconciling, so that the retry is harmless.
pub(super) fn flagged(booking: &Booking, attempt: CallPurpose) -> bool {
    attempt == CallPurpose::Reconcile || booking.if_exists == IfAssignmentExists::Reuse
}

fn has_repeats<'a>(mut ids: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    ids.any(|id| !seen.insert(id))
}

/// Returns the internal error of a call that no plan of this adapter allows; nothing was sent.
pub(super) fn misuse(what: &str) -> VendorError {
    VendorError::new(Code::Internal, format!("The gateway was about to send StartExam {what}; nothing was sent."))
}
