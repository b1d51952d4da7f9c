//! `ExamTesting`'s names, in the published order and spelling (<https://www.examtesting.com/api-doc.aspx>), and the
//! building of requests.
//!
//! Always POST: the page also allows GET, but credentials and passwords do not belong in a URL. The operator can make
//! one exception (`params_in = "query"`), because the page calls its parameters URL parameters without saying where a
//! POST carries them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use url::form_urlencoded;

use crate::domain::candidate::{Address, Name, Person, PhoneKind};
use crate::secret::Secret;
use crate::transport::{RedactionPolicy, Request, Target};
use crate::vendors::examtesting::response_parser;

/// Location of the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamsIn {
    /// In the body, form-encoded.
    #[default]
    Form,
    /// In the URL.
    Query,
    /// In both. A server that joins the two (`Request.Params` of ASP.NET does) would read every value twice.
    Both,
}

/// Action of `ManageCandidate.aspx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Add,
    Update,
}

impl Action {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
        }
    }
}

/// One parameter about the person, with the field it comes from.
#[derive(Clone)]
pub(super) struct Parameter<'a> {
    pub(super) name: &'static str,
    pub(super) pointer: Cow<'static, str>,
    pub(super) value: Option<Cow<'a, str>>,
}

/// Maximum length of a value, in characters. The vendor documents no lengths; this is the gateway's own limit.
pub(super) const MAX_LENGTH: usize = 100;

/// Returns every parameter about the person, absent ones included, in the published order. `student_id` has the pointer
/// of `externalId`.
pub(super) fn parameters<'a>(
    person: &'a Person,
    student_id: Option<&'a str>,
    password: Option<&'a Secret>,
) -> [Parameter<'a>; 15] {
    // Full destructuring: a new field must be mapped here or be ignored explicitly.
    let Person {
        external_id: _,
        user_name,
        name,
        email,
        active: _,
        phone_numbers: _,
        address,
        group,
        birth_date: _,
        gender: _,
        photo: _,
        custom: _,
    } = person;
    let Address { street_address: _, locality, region, postal_code, country } = address;
    let (last_name_pointer, last_name) = last_name(name);
    let status = if person.is_active() { "True" } else { "False" };
    let at = |name, pointer, value: Option<&'a str>| Parameter {
        name,
        pointer: Cow::Borrowed(pointer),
        value: value.map(Cow::Borrowed),
    };
    // The page has one line for the street.
    let street = person.address.street_line();
    [
        at("stusID", "/externalId", student_id),
        at("groupName", "/group", group.as_deref()),
        at("Status", "/active", Some(status)),
        at("firstname", "/name/givenName", name.given_name.as_deref()),
        at("lastname", last_name_pointer, last_name),
        Parameter { name: "street", pointer: Cow::Borrowed("/address/streetAddress"), value: street },
        at("city", "/address/locality", locality.as_deref()),
        at("state", "/address/region", region.as_deref()),
        at("zip", "/address/postalCode", postal_code.as_deref()),
        at("country", "/address/country", country.as_deref()),
        phone("mobile", person, PhoneKind::Mobile),
        phone("phone", person, PhoneKind::Work),
        at("email", "/email", email.as_deref()),
        at("username", "/userName", user_name.as_deref()),
        at("password", "/password", password.map(Secret::expose)),
    ]
}

/// Returns whether the name is one text only. It is then sent whole as `lastname`: after an empty first name it reads
/// unchanged, while splitting it would mean guessing which word is the family name.
pub(super) fn is_unsplit(name: &Name) -> bool {
    let Name { given_name, family_name, formatted } = name;
    formatted.is_some() && given_name.is_none() && family_name.is_none()
}

fn last_name(name: &Name) -> (&'static str, Option<&str>) {
    if is_unsplit(name) {
        ("/name/formatted", name.formatted.as_deref())
    } else {
        ("/name/familyName", name.family_name.as_deref())
    }
}

fn phone<'a>(name: &'static str, person: &'a Person, kind: PhoneKind) -> Parameter<'a> {
    let index = person.phone_numbers.iter().position(|number| number.kind == kind);
    let pointer =
        index.map_or(Cow::Borrowed("/phoneNumbers"), |index| Cow::Owned(format!("/phoneNumbers/{index}/value")));
    Parameter { name, pointer, value: person.phone(kind).map(Cow::Borrowed) }
}

/// Returns why a value cannot be sent, if so. `<` and `&#` trigger ASP.NET's own request validation, which responds
/// with an error page that does not show the outcome of the write.
pub(super) fn refusal(value: &str) -> Option<String> {
    if value.trim().is_empty() {
        Some("must not be blank".to_owned())
    } else if value.chars().count() > MAX_LENGTH {
        Some(format!("must not have more than {MAX_LENGTH} characters at this vendor"))
    } else if value.chars().any(char::is_control) {
        Some("must not contain control characters".to_owned())
    } else if value.contains('<') || value.contains("&#") {
        Some("must not contain \"<\" or \"&#\" at this vendor".to_owned())
    } else {
        None
    }
}

/// Fields shown in recorded exchanges: neither the student's id nor personal data.
const SHOWN: RedactionPolicy = RedactionPolicy {
    members: &["action", "groupName", "Status", "status", "code", "message"],
    within: &[],
    document: Some(response_parser::document),
};

/// Builds the request for these parameters, UTF-8 and percent-encoded; `action` is always in the query.
pub(super) fn request(
    operation: &'static str,
    action: Action,
    parameters: &[(&'static str, &str)],
    params_in: ParamsIn,
) -> Request {
    let in_query: &[_] = if params_in == ParamsIn::Form { &[] } else { parameters };
    let in_body: &[_] = if params_in == ParamsIn::Query { &[] } else { parameters };
    let query = encoded([("action", action.as_str())].iter().chain(in_query));
    let mut headers = HeaderMap::new();
    if params_in != ParamsIn::Query {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    Request {
        operation,
        method: Method::POST,
        target: Target::Path(["/ManageCandidate.aspx?", &query].concat()),
        headers,
        body: Bytes::from(encoded(in_body)),
        shown: SHOWN,
        min_response_limit: 0,
    }
}

fn encoded<'a>(pairs: impl IntoIterator<Item = &'a (&'static str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.into_iter().copied()).finish()
}
