//! The vendor's calls: what is sent, and how each response becomes the result of every row.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};

use crate::domain::assignment::{Launch, Notify};
use crate::domain::candidate::Person;
use crate::domain::capability::WriteKind;
use crate::domain::error::Code;
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::validation::normalize_identity;
use crate::domain::vendor::{
    Booked, Booking, CallContext, CallPurpose, Registered, Registration, RowResult, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::transport::{RedactionPolicy, Request, Response, Target};
use crate::vendors::percent_encoded;
use crate::vendors::thinkexam::ThinkExam;
use crate::vendors::thinkexam::error::{ErrorContext, Suspicion};
use crate::vendors::thinkexam::sign::SignatureHeaders;
use crate::vendors::thinkexam::wire;
use crate::vendors::thinkexam::wire::{AssignBody, Item, RegistrationRow, Reply};

const REGISTER: &str = "/api/v1/bulkCandidateRegister";
const ASSIGN: &str = "/api/v1/assignTest";

/// Name under which a candidate's sign-in token is stored.
const TOKEN: &str = "token";

/// A response with the secrets to redact in it.
struct MaskedResponse {
    answer: Response,
    reply: Reply,
    masks: Vec<Secret>,
}

/// Fields shown in recorded exchanges: no person's id, no token, no personal data.
const SHOWN: RedactionPolicy = RedactionPolicy {
    members: &[
        "testId",
        "isMailEnable",
        "isPasswordSkip",
        "courseName",
        "success",
        "Success",
        "status",
        "statusCode",
        "code",
        "error",
        "errors",
        "errorCode",
        "msg",
        "message",
    ],
    within: &["data"],
    document: None,
};

impl ThinkExam {
    /// Registers people, or adds known ones to another group.
    pub(super) async fn enter(
        &self,
        operation: &'static str,
        people: &[(&Person, Option<&Secret>)],
        call: &CallContext,
    ) -> Vec<RowResult<Registered>> {
        let rows: Vec<RegistrationRow<'_>> = people
            .iter()
            .map(|(person, password)| RegistrationRow::of(person, *password, self.password_encoding))
            .collect();
        let passwords = people.iter().filter_map(|(_, password)| password.cloned()).collect();
        let exchanged = match wire::bytes(&rows) {
            Ok(body) => self.exchange(operation, REGISTER, body, passwords, call).await,
            Err(fault) => Err(fault),
        };
        match exchanged {
            Ok(exchanged) => {
                let numbers: Vec<Option<&str>> =
                    people.iter().map(|(person, _)| person.external_id.as_deref()).collect();
                self.rows_of(operation, &numbers, &exchanged)
            }
            Err(fault) => people.iter().map(|_| Err(fault.clone())).collect(),
        }
    }

    fn rows_of(
        &self,
        operation: &'static str,
        numbers: &[Option<&str>],
        exchanged: &MaskedResponse,
    ) -> Vec<RowResult<Registered>> {
        let MaskedResponse { answer, reply, masks } = exchanged;
        let reading = ErrorContext { client: &self.client, operation, answer, masks: masks.clone() };
        let all = |fault: VendorError| numbers.iter().map(|_| Err(fault.clone())).collect();
        let several = numbers.len() > 1;
        let items = match (&reply.items, &reply.single) {
            (Some(items), _) => items.as_slice(),
            (None, Some(single)) if !several => std::slice::from_ref(single),
            (None, _) => &[],
        };
        if let Some(fault) = reading.fault(&reply.said) {
            if reply.items.is_some() && !items.is_empty() {
                return all(reading.bad_response("ThinkExam's response is an error but contains items."));
            }
            // A rejection of the content may concern a single row; one by status (429, 503) concerns none.
            let splits = several && (fault.proves_no_effect || fault.code == Code::VendorErrorUnmapped);
            return all(if splits { fault.for_batch() } else { fault });
        }
        wire::places(numbers, items)
            .into_iter()
            .map(|place| match place.and_then(|index| items.get(index)) {
                Some(item) => self.row_of(&reading, item),
                None => {
                    Err(reading.bad_response("ThinkExam's response does not show which item is about this candidate."))
                }
            })
            .collect()
    }

    fn row_of(&self, reading: &ErrorContext<'_>, item: &Item) -> RowResult<Registered> {
        if let Some(fault) = reading.fault(&item.said) {
            return Err(fault);
        }
        let Item { said: _, enrollment_no, student_id, profile_pic, token } = item;
        if student_id.is_none() {
            return Err(reading.bad_response("ThinkExam reported success without a studentId."));
        }
        let returned = [("id", student_id), ("enrollmentNumber", enrollment_no), ("profilePic", profile_pic)];
        let vendor_ref: Map<String, Value> = returned
            .into_iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), Value::from(value))))
            .collect();
        let token = token.as_ref().filter(|_| self.link.as_ref().is_some_and(|link| link.uses(TOKEN)));
        let private = token.map(|token| (TOKEN.to_owned(), token.expose().to_owned())).into_iter().collect();
        Ok(WriteSuccess::new(Registered { vendor_ref, private }))
    }

    pub(super) async fn assign_one(&self, booking: &Booking, call: &CallContext) -> RowResult<Booked> {
        let VendorKey(email) = &booking.candidate;
        let mail = booking.notify == Notify::VendorEmail;
        let settling = call.purpose == CallPurpose::Reconcile;
        let body = wire::bytes(&AssignBody {
            email,
            test_id: &booking.assessment,
            // A retry must not mail the candidate twice.
            is_mail_enable: wire::flag(mail && !settling),
            is_password_skip: wire::flag(booking.passwordless),
        })?;
        self.single(WriteKind::AssignmentsCreate.as_str(), ASSIGN, body, call).await?;
        let mut warnings = Vec::new();
        if mail && settling {
            let detail = "An attempt with an unknown outcome requested the mail; it is not known whether it was sent.";
            warnings.push(Warning::with_pointer(WarningCode::MailUncertain, "/notify", detail));
        }
        let launch = self.launch(booking, &mut warnings);
        Ok(WriteSuccess { value: Booked { vendor_ref: Map::new(), launch, already_there: false }, warnings })
    }

    fn launch(&self, booking: &Booking, warnings: &mut Vec<Warning>) -> Option<Launch> {
        let link = self.link.as_ref()?;
        let token = booking.private.get(TOKEN);
        if token.is_none() && link.uses(TOKEN) {
            let detail = "The launch link needs a sign-in token, but ThinkExam returned none for this candidate.";
            warnings.push(Warning::new(WarningCode::LaunchUnknown, detail));
            return None;
        }
        let url = link.render(|name| match name {
            "email" => Some(percent_encoded(&booking.candidate.0)),
            TOKEN => token.map(|token| percent_encoded(token)),
            _ => None,
        });
        Some(Launch { url, expires_at: None })
    }

    /// Sends a call with a single result.
    pub(super) async fn single(
        &self,
        operation: &'static str,
        path: &str,
        body: Bytes,
        call: &CallContext,
    ) -> Result<(), VendorError> {
        let MaskedResponse { answer, reply, masks } = self.exchange(operation, path, body, Vec::new(), call).await?;
        let reading = ErrorContext { client: &self.client, operation, answer: &answer, masks };
        reading.fault(&reply.said).map_or(Ok(()), Err)
    }

    /// Sends a signed call; sends it once more with a fresh signature if the vendor seems to have rejected the first
    /// one.
    async fn exchange(
        &self,
        operation: &'static str,
        path: &str,
        body: Bytes,
        secrets: Vec<Secret>,
        call: &CallContext,
    ) -> Result<MaskedResponse, VendorError> {
        let mut renewed = false;
        loop {
            let ticket = self.source.ticket(call);
            let answer = self.client.send(request(operation, path, body.clone()), &ticket, call).await?;
            let used = ticket.used();
            let signature = used.as_ref().map(SignatureHeaders::secrets).into_iter().flatten().cloned();
            let masks: Vec<Secret> = secrets.iter().cloned().chain(signature).collect();
            let reading = ErrorContext { client: &self.client, operation, answer: &answer, masks: masks.clone() };
            let mut reply = Reply::read(&answer.body);
            if !answer.status.is_success() && reply.tells_success() {
                return Err(reading.contradiction());
            }
            if answer.status.is_redirection() {
                // Redirects are never followed, and an error in the body is not the result of this call.
                reply = Reply::without_result();
            }
            match reading.suspicion(&reply.said) {
                Some(_) if !renewed && self.source.renews() => {
                    self.source.refused(used.as_ref()).await;
                    renewed = true;
                }
                Some(Suspicion::Signature) => return Err(reading.credentials(&reply.said)),
                Some(Suspicion::Expiry) | None => return Ok(MaskedResponse { answer, reply, masks }),
            }
        }
    }
}

fn request(operation: &'static str, path: &str, body: Bytes) -> Request {
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
    let target = Target::Path(path.to_owned());
    Request { operation, method: Method::POST, target, headers, body, shown: SHOWN, min_response_limit: 0 }
}

/// Returns the indices of rows that duplicate an earlier row of the same call. The gateway sends no such call; if it
/// did, the vendor's response would be ambiguous.
pub(super) fn duplicate_rows(rows: &[Registration]) -> HashSet<usize> {
    let mut emails = HashSet::new();
    let mut numbers = HashSet::new();
    rows.iter()
        .enumerate()
        .filter(|(_, row)| {
            let email = row.person.email.as_deref().is_none_or(|email| emails.insert(normalize_identity(email)));
            let number =
                row.person.external_id.as_deref().is_none_or(|number| numbers.insert(number.trim().to_owned()));
            !(email && number)
        })
        .map(|(index, _)| index)
        .collect()
}
