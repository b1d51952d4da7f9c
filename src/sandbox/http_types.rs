//! One request as it came in and one answer before it goes out.
//!
//! Everything a vendor decides is expressed here, so that faults can change an answer after the vendor made it. Nothing in
//! this file knows a socket.

use bytes::Bytes;

use crate::sandbox::ordered_json::{Json, Layout};

/// A request, whole.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The verb as received.
    pub method: String,
    /// The path as received, undecoded.
    pub path: String,
    /// What followed `?`, undecoded.
    pub query: Option<String>,
    /// All headers in order; names in lower case, values as received (Latin-1 read as characters).
    pub headers: Vec<(String, String)>,
    /// The body, with any transfer coding removed.
    pub body: Bytes,
}

impl Call {
    /// The first header of this name (given in lower case).
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Name and value pairs of the query, decoded, in order.
    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        pairs(self.query.as_deref().unwrap_or_default().as_bytes())
    }

    /// Name and value pairs of a form body, decoded, in order; none when the body is no form.
    pub(super) fn form_pairs(&self) -> Vec<(String, String)> {
        let content_type = self.header("content-type").unwrap_or_default();
        if content_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            pairs(&self.body)
        } else {
            Vec::new()
        }
    }
}

/// The body of an answer, as structured as the vendor left it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Json(Json, Layout),
    Text(String),
    Bytes(Vec<u8>),
}

impl Body {
    /// The bytes of the body.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Body::Json(json, layout) => json.write(*layout).into_bytes(),
            Body::Text(text) => text.clone().into_bytes(),
            Body::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// What a vendor answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub status: u16,
    /// Headers beyond `Date`, `Content-Length` and `Connection`, which the server adds.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Answer {
    /// An answer with a content type.
    pub(super) fn new(status: u16, content_type: &str, body: Body) -> Self {
        Answer { status, headers: vec![("Content-Type", content_type.to_owned())], body }
    }

    /// An HTML page.
    pub(super) fn html(status: u16, page: impl Into<String>) -> Self {
        Answer::new(status, "text/html; charset=utf-8", Body::Text(page.into()))
    }

    /// No body at all.
    pub(super) fn empty(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    /// Replaces or adds a header.
    pub(super) fn set_header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name, value.into()));
    }
}

/// How a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The orderly way (FIN).
    Close,
    /// At once, whatever is still on its way (RST).
    Reset,
}

/// What the server does with the connection.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A well-formed HTTP answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// These bytes as they are, `pace.0` bytes every `pace.1` when given, and then the end of the connection.
    Raw { bytes: Vec<u8>, pace: Option<(usize, std::time::Duration)>, end: End },
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
