//! Redaction of vendor calls for operators: keeps only what an adapter's allow-list names.
//!
//! For JSON and form bodies, keeps only allow-listed fields and counts the rest; of any other text, only the length.
//! Masks in the kept values: configured secrets, everything else that the request and the response contain (vendors
//! echo it in their messages; see `echo`) and anything like an e-mail address.

mod echo;
mod prefilter;

use std::cell::OnceCell;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER, SERVER};
use serde_json::{Map, Value};

use crate::domain::validation::sanitize_for_display;
use crate::secret::{MASK, Redactor};
use crate::transport::redaction::echo::EchoIndex;
use crate::transport::redaction::prefilter::{BigramFilter, Needles};
use crate::transport::response::Response;

/// Maximum list elements kept.
const MAX_ELEMENTS: usize = 3;
/// Maximum characters of a text kept.
const MAX_CHARS: usize = 300;
/// Maximum nesting depth.
const DEPTH: usize = 8;
/// Maximum body length that is parsed.
const MAX_LENGTH: usize = 256 * 1024;

/// An adapter's allow-list.
#[derive(Clone, Copy)]
pub struct RedactionPolicy {
    /// Fields whose values may be kept, at any depth. Never a name, an address, a credential, or an id that grants
    /// access.
    pub members: &'static [&'static str],
    /// Fields that are only descended into.
    pub within: &'static [&'static str],
    /// Converts a response to a document, if it is not JSON.
    pub document: Option<fn(&Response) -> Value>,
}

impl RedactionPolicy {
    /// Keeps nothing of bodies.
    pub const NOTHING: Self = Self { members: &[], within: &[], document: None };

    /// Redacts a request.
    pub(super) fn redact_request(&self, sent: &RequestSnapshot<'_>, secrets: &Redactor) -> Option<String> {
        let tree = match sent.tree() {
            None if sent.body.is_empty() => return None,
            None => size(sent.body),
            // A listed field may echo the others: a group may be named after a person.
            Some(tree) => self.kept(tree, &Scrubber::new(self, sent, None, secrets), (0, false)),
        };
        Some(tree.to_string())
    }

    /// Redacts the response to this request.
    pub(super) fn redact_response(
        &self,
        sent: &RequestSnapshot<'_>,
        response: &Response,
        secrets: &Redactor,
    ) -> Option<String> {
        if response.body.is_empty() {
            return None;
        }
        let tree = self.document.map(|read| read(response)).or_else(|| tree(&response.headers, &response.body));
        let Some(tree) = tree else { return Some(size(&response.body).to_string()) };
        Some(self.kept(&tree, &Scrubber::new(self, sent, Some(&tree), secrets), (0, false)).to_string())
    }

    /// `named`: whether the value is inside a listed field.
    fn kept(&self, value: &Value, scrubber: &Scrubber<'_>, (depth, named): (usize, bool)) -> Value {
        if depth > DEPTH {
            return Value::from("…");
        }
        match value {
            Value::Object(members) => {
                let mut kept = Map::new();
                for (name, value) in members {
                    let named = self.members.contains(&name.as_str());
                    if named || self.within.contains(&name.as_str()) {
                        kept.insert(name.clone(), self.kept(value, scrubber, (depth + 1, named)));
                    }
                }
                left_out(&mut kept, members.len());
                Value::Object(kept)
            }
            Value::Array(elements) => {
                let mut kept: Vec<Value> = elements
                    .iter()
                    .take(MAX_ELEMENTS)
                    .map(|element| self.kept(element, scrubber, (depth + 1, named)))
                    .collect();
                if elements.len() > MAX_ELEMENTS {
                    kept.push(format!("… {} more", elements.len() - MAX_ELEMENTS).into());
                }
                Value::Array(kept)
            }
            Value::String(_) | Value::Number(_) if !named => Value::from("…"),
            Value::String(text) => scrubber.freed(text).into(),
            Value::Number(number) if scrubber.holds(&number.to_string()) => MASK.into(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// Adds the number of omitted fields, under a name that no vendor uses.
fn left_out(kept: &mut Map<String, Value>, all: usize) {
    let missing = all - kept.len();
    if missing > 0 {
        kept.insert("…".to_owned(), format!("{missing} not shown").into());
    }
}

fn size(body: &[u8]) -> Value {
    serde_json::json!({ "bytes": body.len() })
}

/// Parses a body: JSON, or a form as an object.
fn tree(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    if body.len() > MAX_LENGTH {
        return None;
    }
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form")) {
        return Some(form(body));
    }
    serde_json::from_slice(body).ok().filter(|tree: &Value| tree.is_object() || tree.is_array())
}

fn form(text: &[u8]) -> Value {
    url::form_urlencoded::parse(text)
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect()
}

/// A request as it was sent.
pub(super) struct RequestSnapshot<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    body: &'a [u8],
    tree: OnceCell<Option<Value>>,
    needles: OnceCell<Needles>,
}

impl<'a> RequestSnapshot<'a> {
    pub(super) const fn new(headers: &'a HeaderMap, query: Option<&'a str>, body: &'a [u8]) -> Self {
        Self { headers, query, body, tree: OnceCell::new(), needles: OnceCell::new() }
    }

    /// Returns the parsed body, or the query if there is no body.
    fn tree(&self) -> Option<&Value> {
        let read = || match self.query {
            Some(query) if self.body.is_empty() => Some(form(query.as_bytes())),
            None if self.body.is_empty() => None,
            _ => tree(self.headers, self.body),
        };
        self.tree.get_or_init(read).as_ref()
    }

    /// Returns what a text may echo of the request. All texts of a call have the same listed fields.
    fn needles(&self, listed: &[&str]) -> &Needles {
        self.needles.get_or_init(|| {
            let mut needles = Needles::default();
            self.tree().into_iter().for_each(|tree| needles.add_tree(tree, listed));
            needles.add_headers(self.headers);
            needles
        })
    }

    /// Returns whether the contents are unknown, so that no text that may echo them is kept.
    fn is_unreadable(&self) -> bool {
        !self.body.is_empty() && self.tree().is_none()
    }
}

/// The data to mask in a kept document: what the request contains, and the response itself, which may echo its own
/// parts, such as a token beside a message.
struct Scrubber<'a> {
    secrets: &'a Redactor,
    listed: &'static [&'static str],
    sent: &'a RequestSnapshot<'a>,
    response: Option<&'a Value>,
    of_response: OnceCell<Needles>,
    // Built for the first text that needs it; most calls need none.
    echoes: OnceCell<EchoIndex>,
}

impl<'a> Scrubber<'a> {
    fn new(
        policy: &RedactionPolicy,
        sent: &'a RequestSnapshot<'a>,
        response: Option<&'a Value>,
        secrets: &'a Redactor,
    ) -> Self {
        let (of_response, echoes) = (OnceCell::new(), OnceCell::new());
        Self { secrets, listed: policy.members, sent, response, of_response, echoes }
    }

    fn freed(&self, text: &str) -> String {
        let masked = self.secrets.mask(text);
        let freed = if self.is_clean(&masked) { masked } else { self.echoes().scrub(&masked) };
        sanitize_for_display(&freed, MAX_CHARS)
    }

    fn holds(&self, text: &str) -> bool {
        self.freed(text) != text
    }

    fn is_clean(&self, text: &str) -> bool {
        let is_silent = |pairs: BigramFilter| {
            !pairs.may_contain(self.sent.needles(self.listed))
                && self.response.is_none_or(|response| !pairs.may_contain(self.needles_of(response)))
        };
        !self.sent.is_unreadable() && BigramFilter::of(text).is_some_and(is_silent)
    }

    fn needles_of(&self, response: &Value) -> &Needles {
        self.of_response.get_or_init(|| {
            let mut needles = Needles::default();
            needles.add_tree(response, self.listed);
            needles
        })
    }

    fn echoes(&self) -> &EchoIndex {
        let documents = || self.sent.tree().into_iter().chain(self.response);
        self.echoes
            .get_or_init(|| EchoIndex::of(documents(), self.listed, self.sent.headers, self.sent.is_unreadable()))
    }
}

/// Returns the response headers that describe the vendor and contain no personal data.
pub(super) fn headers(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    const KEPT: [(&str, HeaderName); 5] = [
        ("date", DATE),
        ("server", SERVER),
        ("content-type", CONTENT_TYPE),
        ("content-length", CONTENT_LENGTH),
        ("retry-after", RETRY_AFTER),
    ];
    let value = |name: &HeaderName| headers.get(name)?.to_str().ok().map(|text| sanitize_for_display(text, 100));
    KEPT.iter().filter_map(|(name, header)| Some((*name, value(header)?))).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::secret::Secret;

    const LIST: RedactionPolicy =
        RedactionPolicy { members: &["message", "status", "testId"], within: &["rows"], document: None };

    fn json() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
    }

    fn answer(body: &str) -> Response {
        Response { status: StatusCode::OK, headers: json(), body: Bytes::from(body.to_owned()) }
    }

    fn of_answer(body: &str, said: &str) -> String {
        let secrets = Redactor::new([&Secret::new("key-of-the-account")]);
        LIST.redact_response(&RequestSnapshot::new(&json(), None, body.as_bytes()), &answer(said), &secrets).unwrap()
    }

    fn of_request(headers: &HeaderMap, query: Option<&str>, body: &str) -> Option<String> {
        LIST.redact_request(&RequestSnapshot::new(headers, query, body.as_bytes()), &Redactor::default())
    }

    #[test]
    fn only_listed_fields_are_kept() {
        let sent = r#"{"testId":"7","email":"ada@example.org","rows":[{"name":"Ada","status":"active"},1,2,3,4]}"#;
        let kept = of_request(&json(), None, sent).unwrap();
        assert_eq!(
            kept,
            r#"{"rows":[{"status":"active","…":"1 not shown"},"…","…","… 2 more"],"testId":"7","…":"1 not shown"}"#
        );
        let form =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))]);
        let text = "status=True&firstname=Ada";
        for kept in [of_request(&form, None, text), of_request(&form, Some(text), "")] {
            assert_eq!(kept.as_deref(), Some(r#"{"status":"True","…":"1 not shown"}"#));
        }
        assert_eq!(of_request(&form, None, ""), None);
    }

    #[test]
    fn echoed_request_data_is_masked() {
        let sent = r#"{"email":"Ada@Example.org","name":"Ada Lovelace","n":12345,"testId":"t-100","short":"Li"}"#;
        let said = r#"{"message":"ada@example.org (ADA, Lovelace, 12345) may not take t-100; Li is not in Lisbon; key-of-the-account; other@mail.example"}"#;
        assert_eq!(
            of_answer(sent, said),
            r#"{"message":"*** (***, ***, ***) may not take t-100; *** is not in Lisbon; ***; ***"}"#
        );
    }

    #[test]
    fn only_documents_are_kept() {
        assert_eq!(of_answer("{}", "<html>Ada</html>"), r#"{"bytes":16}"#);
        assert_eq!(of_answer("{}", "\"Ada\""), r#"{"bytes":5}"#);
        assert_eq!(of_answer("unreadable", r#"{"message":"Ada"}"#), r#"{"message":"***"}"#);
        let deep = "[".repeat(50) + &"]".repeat(50);
        assert!(of_answer("{}", &deep).contains('…'));
        assert_eq!(of_answer("{}", r#"["Ada",1,true]"#), r#"["…","…",true]"#);
    }

    #[test]
    fn only_allowed_headers_are_kept() {
        let mut all = json();
        all.insert("set-cookie", HeaderValue::from_static("session=1"));
        assert_eq!(headers(&all), [("content-type", "application/json".to_owned())]);
    }
}
