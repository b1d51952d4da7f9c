//! `ThinkExam`'s own field names, in both directions. Private to the adapter; none may reach the HTTP API.
//!
//! Parsing is tolerant where the vendor's pages disagree with each other (`Success` and `success`, a code as text or
//! number, `msg` or `message`) and where PHP servers are known to err (a byte order mark, a warning before the JSON,
//! JSON inside a JSON string). It never decides by the wording of a message.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Map, Value};

use super::settings::PasswordEncoding;
use crate::domain::candidate::{Name, Person, PhoneKind};
use crate::domain::error::Code;
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;

/// Names of the vendor's free fields, and of the `custom` fields that fill them.
pub(super) const EXTRAS: [&str; 3] = ["extra1", "extra2", "extra3"];

/// One element of the array sent to `bulkCandidateRegister`.
#[derive(Serialize)]
pub(super) struct RegistrationRow<'a> {
    name: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dob: Option<&'a str>,
    #[serde(rename = "courseName", skip_serializing_if = "Option::is_none")]
    course_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra1: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra2: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra3: Option<&'a str>,
    #[serde(rename = "profilePic", skip_serializing_if = "Option::is_none")]
    profile_pic: Option<&'a str>,
}

impl<'a> RegistrationRow<'a> {
    /// Converts a person to the vendor's format.
    pub(super) fn of(person: &'a Person, password: Option<&Secret>, encoding: PasswordEncoding) -> Self {
        // Planning has reported the fields unused here as `field_ignored`.
        let Person {
            external_id,
            user_name: _,
            name,
            email,
            active: _,
            phone_numbers: _,
            address: _,
            group,
            birth_date,
            gender,
            photo,
            custom,
        } = person;
        let [extra1, extra2, extra3] = EXTRAS.map(|name| custom.get(name).map(String::as_str));
        Self {
            name: Name::display_name(name).unwrap_or_default(),
            email: email.as_deref().unwrap_or_default(),
            enrollment_number: external_id.as_deref(),
            password: password.map(|password| match encoding {
                PasswordEncoding::Plain => password.expose().to_owned(),
                PasswordEncoding::Base64 => BASE64.encode(password.expose().as_bytes()),
            }),
            mobile: person.phone(PhoneKind::Mobile),
            gender: gender.as_deref(),
            dob: birth_date.as_deref(),
            course_name: group.as_deref(),
            extra1,
            extra2,
            extra3,
            profile_pic: photo.as_deref(),
        }
    }
}

/// The body of `assignTest`. The flags are text, as published.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssignBody<'a> {
    pub(super) email: &'a str,
    pub(super) test_id: &'a str,
    pub(super) is_mail_enable: &'static str,
    pub(super) is_password_skip: &'static str,
}

/// The body of `deassignTest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeassignBody<'a> {
    pub(super) email: &'a str,
    pub(super) test_id: &'a str,
}

/// Returns a flag in the vendor's format.
pub(super) const fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// Serialises a body.
///
/// # Errors
/// `internal`; cannot happen, because text and lists of text always have a JSON form.
pub(super) fn bytes(body: &impl Serialize) -> Result<Bytes, VendorError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|_| VendorError::new(Code::Internal, "The request could not be serialised as JSON."))
}

/// The vendor's code and message, unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct VendorMessage {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

/// Result that a response, or one of its items, reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyResult {
    /// A success.
    Success,
    /// An error.
    Error(VendorMessage),
    /// An undocumented `result`.
    Odd(VendorMessage),
    /// No `result` at all.
    Nothing(VendorMessage),
}

/// One element of `responseArray`, or a response with the same fields.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) said: ReplyResult,
    pub(super) enrollment_no: Option<String>,
    pub(super) student_id: Option<String>,
    pub(super) profile_pic: Option<String>,
    pub(super) token: Option<Secret>,
}

/// A parsed response.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) said: ReplyResult,
    /// `responseArray`, if present.
    pub(super) items: Option<Vec<Item>>,
    /// The response itself read as an item: the format of `unifiedAuth` for one candidate.
    pub(super) single: Option<Item>,
}

impl Reply {
    /// Returns a response without a result.
    pub(super) fn without_result() -> Self {
        Self { said: ReplyResult::Nothing(VendorMessage::default()), items: None, single: None }
    }

    /// Returns whether the response or any of its items reports success.
    pub(super) fn tells_success(&self) -> bool {
        let items = self.items.iter().flatten().chain(&self.single);
        std::iter::once(&self.said).chain(items.map(|item| &item.said)).any(|said| *said == ReplyResult::Success)
    }

    /// Parses a body; one that is not a JSON object has no result.
    pub(super) fn read(body: &[u8]) -> Self {
        let Some(Value::Object(root)) = tree(body) else {
            return Self::without_result();
        };
        let items = match member(&root, "responseArray") {
            Some(Value::Array(items)) => Some(items.iter().map(Item::read).collect()),
            _ => None,
        };
        let single = member(&root, "data").map(|_| Item::of(&root));
        Self { said: said(&root), items, single }
    }
}

impl Item {
    fn read(value: &Value) -> Self {
        match opened(value.clone()) {
            Value::Object(members) => Self::of(&members),
            _ => Self::of(&Map::new()),
        }
    }

    fn of(members: &Map<String, Value>) -> Self {
        let data = member(members, "data");
        let data = data.as_ref().and_then(Value::as_object);
        let text = |name| data.and_then(|data| member(data, name)).as_ref().and_then(scalar);
        Self {
            said: said(members),
            enrollment_no: text("enrollmentNo"),
            student_id: text("studentId"),
            profile_pic: text("profilePic"),
            token: member(members, "laravelToken").as_ref().and_then(scalar).map(Secret::new),
        }
    }
}

/// Matches items to rows: by the enrolment number that was sent, else by position, but only if nothing contradicts the
/// order: as many items as rows, and no number that belongs to another row. The vendor documents neither order nor
/// number of items (its sample sends four rows and shows three results).
pub(super) fn places(rows: &[Option<&str>], items: &[Item]) -> Vec<Option<usize>> {
    let number = |item: &Item, wanted: &str| item.enrollment_no.as_deref().is_some_and(|it| it == wanted.trim());
    let in_order = rows.len() == items.len()
        && rows.iter().zip(items).all(|(row, item)| match (row, &item.enrollment_no) {
            (Some(wanted), Some(_)) => number(item, wanted),
            (None, Some(_)) => !rows.iter().flatten().any(|other| number(item, other)),
            (_, None) => true,
        });
    rows.iter()
        .enumerate()
        .map(|(position, row)| {
            let Some(wanted) = row else { return in_order.then_some(position) };
            let mut found = items.iter().enumerate().filter(|(_, item)| number(item, wanted)).map(|(index, _)| index);
            match (found.next(), found.next()) {
                (Some(index), None) => Some(index),
                (Some(_), Some(_)) => None,
                (None, _) => in_order.then_some(position),
            }
        })
        .collect()
}

/// Finds the JSON in a body: after a byte order mark, after text that a PHP server put before it, or inside a JSON
/// string.
pub(super) fn tree(body: &[u8]) -> Option<Value> {
    // Limits the positions tried, because each one costs parsing the rest.
    const PLACES: usize = 64;
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(opened(value));
    }
    // After one of these characters, a brace belongs to a truncated document, not to one after a warning.
    let inner = |place: usize| text[..place].trim_end().ends_with([':', ',', '[']);
    let places = text.match_indices('{').map(|(place, _)| place).filter(|place| !inner(*place));
    places.take(PLACES).find_map(|place| serde_json::from_str(&text[place..]).ok())
}

fn said(members: &Map<String, Value>) -> ReplyResult {
    let result = member(members, "result").as_ref().and_then(scalar);
    match member(members, "error") {
        None | Some(Value::Null) => {}
        Some(error) => return ReplyResult::Error(words(&error, members)),
    }
    match result {
        Some(word) if word.eq_ignore_ascii_case("success") => ReplyResult::Success,
        Some(word) if word.eq_ignore_ascii_case("error") => ReplyResult::Error(words(&Value::Null, members)),
        Some(word) => {
            let VendorMessage { code, message } = words(&Value::Null, members);
            ReplyResult::Odd(VendorMessage { code, message: message.or_else(|| Some(format!("result: {word}"))) })
        }
        None => ReplyResult::Nothing(words(&Value::Null, members)),
    }
}

/// Returns code and message of an `error`, or of the object around it.
fn words(error: &Value, around: &Map<String, Value>) -> VendorMessage {
    let listed = error.get(0).and_then(Value::as_object);
    let inside = error.as_object().or(listed).unwrap_or(around);
    let text = |name| member(inside, name).as_ref().and_then(scalar);
    let bare = scalar(error);
    VendorMessage { code: text("code"), message: bare.or_else(|| text("msg")).or_else(|| text("message")) }
}

/// Returns the field of this name, else the first whose name differs only in case; parses a JSON string that contains
/// an object or an array.
fn member(members: &Map<String, Value>, name: &str) -> Option<Value> {
    let exact = members.get(name);
    let folded = || members.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    exact.or_else(folded).cloned().map(opened)
}

fn opened(value: Value) -> Value {
    let Value::String(text) = &value else { return value };
    match serde_json::from_str(text.trim_start_matches('\u{feff}').trim()) {
        Ok(inner @ (Value::Object(_) | Value::Array(_))) => inner,
        _ => value,
    }
}

/// Returns text or a number as text; `None` for blank text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
