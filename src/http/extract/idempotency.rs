//! `Idempotency-Key`: a caller's name for one write, so that a retry gets the stored response and the write is not done
//! again.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::domain::error::{Error, FieldError};
use crate::http::extract::fingerprint::Fingerprint;
use crate::service::IdempotencyRequest;

/// Response header: the response was stored for an earlier request.
pub(in crate::http) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Value of the response header.
pub(in crate::http) const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The key of a request and its scope, before the content is known.
pub(in crate::http) struct IdempotencyHeader {
    scope: String,
}

impl IdempotencyHeader {
    /// Reads the key from the headers, if there is one.
    ///
    /// # Errors
    /// `validation_failed` for anything but one key of 1 to 255 visible ASCII characters.
    pub(in crate::http) fn of(headers: &HeaderMap, method: &Method, path: &str) -> Result<Option<Self>, Error> {
        let key = given(headers)?;
        Ok(key.map(|key| Self { scope: format!("{method} {}\n{key}", normalize_path(path)) }))
    }

    /// Combines the key with the content of its request.
    pub(in crate::http) fn with_fingerprint(self, content: Fingerprint) -> IdempotencyRequest {
        IdempotencyRequest { scope: self.scope, content }
    }
}

/// Reads the key bare or as a quoted string (draft-ietf-httpapi-idempotency-key-header §2.1): both are the same key.
fn given(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').and_then(unescaped).map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    };
    let fit = |key: &str| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = key.filter(|key| fit(key) && values.next().is_none()).ok_or_else(|| {
        let detail = "must be one key of 1 to 255 visible ASCII characters, bare or in double quotes";
        Error::from_fields(vec![FieldError::invalid("Idempotency-Key", detail)])
    })?;
    Ok(Some(key.into_owned()))
}

/// Unescapes the inside of a quoted string (RFC 8941 §3.3.3): only quotes and backslashes are escaped, and always.
fn unescaped(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => characters.next().filter(|next| ['"', '\\'].contains(next))?,
            '"' => return None,
            other => other,
        });
    }
    Some(text)
}

/// Normalises the spelling of a path: callers may escape more than necessary.
fn normalize_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        percent_encode(&decoded, NON_ALPHANUMERIC).to_string()
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Option<String>, Error> {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        given(&HeaderMap::from_iter([(HeaderName::from_static("idempotency-key"), value)]))
    }

    #[test]
    fn keys_are_accepted_bare_and_quoted() {
        let longest = "k".repeat(255);
        for (value, expected) in [
            ("a", "a"),
            ("\"a\"", "a"),
            (" a ", "a"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a\"b""#, "a\"b"),
            (r#""a\\""#, "a\\"),
            (r#""\\\"""#, "\\\""),
            ("a\"b", "a\"b"),
            (&longest, &longest),
            ("#!~", "#!~"),
        ] {
            assert_eq!(key(value).unwrap().as_deref(), Some(expected), "{value}");
        }
        assert_eq!(given(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn invalid_keys_are_rejected() {
        let long = "k".repeat(256);
        for bad in [
            "",
            "\"\"",
            "a b",
            "\"a b\"",
            "\"a",
            "\"",
            "ä",
            &long,
            "\t",
            r#""a\""#,
            r#""a\b""#,
            "\"a\"b\"",
            "\"a\", \"b\"",
        ] {
            assert_eq!(key(bad).unwrap_err().errors[0].pointer, "Idempotency-Key", "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", HeaderValue::from_static("a"));
        headers.append("idempotency-key", HeaderValue::from_static("b"));
        assert!(given(&headers).is_err(), "two keys are rejected");
    }

    #[test]
    fn key_is_scoped_to_method_and_normalised_path() {
        let scope = |method: Method, path: &str, value: &'static str| {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("idempotency-key"), HeaderValue::from_static(value))]);
            IdempotencyHeader::of(&headers, &method, path).unwrap().unwrap().with_fingerprint([0; 32]).scope
        };
        let post = |path: &str| scope(Method::POST, path, "k");
        assert_eq!(post("/programs/ext:7/employees"), post("/programs/ext%3A7/employe%65s"));
        assert_eq!(post("/candidates"), scope(Method::POST, "/candidates", "\"k\""));
        assert_ne!(post("/programs/a%2Fb/employees"), post("/programs/a/b/employees"));
        assert_ne!(post("/candidates"), post("/assignments"));
        assert_ne!(scope(Method::PATCH, "/x", "k"), scope(Method::DELETE, "/x", "k"));
        assert_ne!(scope(Method::POST, "/x", "k"), scope(Method::POST, "/x", "K"));
    }
}
