//! A request as received and a response before it is sent.
//!
//! A vendor expresses its response in these types, so that faults can change it afterwards. Nothing in this file
//! touches a socket.

use bytes::Bytes;

use crate::sandbox::ordered_json::{Json, Layout};

/// A complete request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The method as received.
    pub method: String,
    /// The path as received, undecoded.
    pub path: String,
    /// The query without `?`, undecoded.
    pub query: Option<String>,
    /// All headers in order; names in lower case, values as received (Latin-1 read as characters).
    pub headers: Vec<(String, String)>,
    /// The body, with any transfer coding removed.
    pub body: Bytes,
}

impl Call {
    /// Returns the first header of this name (in lower case).
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the decoded name and value pairs of the query, in order.
    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        pairs(self.query.as_deref().unwrap_or_default().as_bytes())
    }

    /// Returns the decoded name and value pairs of a form body, in order; none if the body is not a form.
    pub(super) fn form_pairs(&self) -> Vec<(String, String)> {
        let content_type = self.header("content-type").unwrap_or_default();
        if content_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            pairs(&self.body)
        } else {
            Vec::new()
        }
    }
}

/// The body of a response, as structured as the vendor left it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Json(Json, Layout),
    Text(String),
    Bytes(Vec<u8>),
}

impl Body {
    /// Returns the bytes of the body.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Body::Json(json, layout) => json.write(*layout).into_bytes(),
            Body::Text(text) => text.clone().into_bytes(),
            Body::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// A vendor's response.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub status: u16,
    /// Headers beyond `Date`, `Content-Length` and `Connection`, which the server adds.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Answer {
    /// Creates a response with a content type.
    pub(super) fn new(status: u16, content_type: &str, body: Body) -> Self {
        Answer { status, headers: vec![("Content-Type", content_type.to_owned())], body }
    }

    /// Creates a response with an HTML page.
    pub(super) fn html(status: u16, page: impl Into<String>) -> Self {
        Answer::new(status, "text/html; charset=utf-8", Body::Text(page.into()))
    }

    /// Creates a response without a body.
    pub(super) fn empty(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    /// Replaces or adds a header.
    pub(super) fn set_header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name, value.into()));
    }

    /// Serialises the response with this body, a `Content-Length` of the caller's choice and `Connection: close`.
    pub(super) fn to_http(&self, body: &[u8], content_length: usize) -> Vec<u8> {
        let status = http::StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("Unknown");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let length = content_length.to_string();
        head.extend(["Content-Length: ", &length, "\r\nConnection: close\r\n\r\n"]);
        [head.as_bytes(), body].concat()
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Orderly (FIN).
    Close,
    /// Immediately, discarding unsent data (RST).
    Reset,
}

/// What the server sends, and how it leaves the connection.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A well-formed HTTP response.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// These bytes verbatim, `pace.0` bytes every `pace.1` if given; then the connection ends.
    Raw { bytes: Vec<u8>, pace: Option<(usize, std::time::Duration)>, end: End },
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
