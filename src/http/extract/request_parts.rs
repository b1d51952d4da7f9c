//! The parts of a request outside its body: the caller, path segments and query parameters.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use http::Uri;
use http::request::Parts;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::identity::ExternalId;
use crate::http::app_state::AppState;
use crate::http::problem::ApiError;
use crate::service::RequestContext;

/// The authenticated caller, as the `authorize` middleware determined it.
pub(in crate::http) struct AuthenticatedCaller(pub(in crate::http) Arc<RequestContext>);

impl AuthenticatedCaller {
    /// Takes the caller out of a request that nothing else reads it from, without a copy.
    ///
    /// # Errors
    /// `internal` if the middleware is not installed.
    pub(in crate::http) fn take(parts: &mut Parts) -> Result<RequestContext, Error> {
        parts.extensions.remove::<Arc<RequestContext>>().map(Arc::unwrap_or_clone).ok_or_else(not_installed)
    }
}

impl FromRequestParts<AppState> for AuthenticatedCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Arc<RequestContext>>().cloned();
        caller.map(Self).ok_or_else(|| not_installed().into())
    }
}

fn not_installed() -> Error {
    Error::new(Code::Internal, "Authentication middleware is not installed.")
}

/// The path's only parameter, decoded.
pub(in crate::http) struct PathSegment(pub(in crate::http) String);

impl FromRequestParts<AppState> for PathSegment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(text)| Self(text)).map_err(|_| not_found().into())
    }
}

/// An identifier in the path; a malformed one is `not_found`.
pub(in crate::http) struct Id<T>(pub(in crate::http) T);

impl<T: TryFrom<String>> FromRequestParts<AppState> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let PathSegment(text) = PathSegment::from_request_parts(parts, app).await?;
        T::try_from(text).map(Self).map_err(|_| not_found().into())
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "No such object.")
}

/// Lists the words a parameter may have, to complete "must be …".
pub(in crate::http) fn one_of<T: Copy>(values: &[T], word: fn(T) -> &'static str) -> String {
    format!("one of {}", values.iter().map(|value| word(*value)).collect::<Vec<_>>().join(", "))
}

/// The query of a request, read parameter by parameter; parameters left at the end are unknown.
pub(in crate::http) struct QueryParams {
    left: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl FromRequestParts<AppState> for QueryParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self::of(&parts.uri))
    }
}

impl QueryParams {
    pub(in crate::http) fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self { left: pairs.into_owned().collect(), errors: Vec::new() }
    }

    /// Returns the parameter's text. Empty text is an error: no caller means it.
    pub(in crate::http) fn text(&mut self, name: &str) -> Option<String> {
        let position = self.left.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.left.remove(position);
        if self.left.iter().any(|(known, _)| known == name) {
            self.left.retain(|(known, _)| known != name);
            self.add_error(name, "is given more than once");
        } else if value.is_empty() || value.chars().count() > 1000 || value.chars().any(char::is_control) {
            self.add_error(name, "must have 1 to 1000 characters and no control characters");
        }
        Some(value)
    }

    /// Returns the parsed parameter; `expected` completes "must be …".
    pub(in crate::http) fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = parse(&text);
        if parsed.is_none() && !self.errors.iter().any(|error| error.pointer == format!("?{name}")) {
            self.add_error(name, &format!("must be {expected}"));
        }
        parsed
    }

    /// Reads the caller's own id of a person.
    pub(in crate::http) fn external_id(&mut self) -> Option<ExternalId> {
        let text = self.text("externalId")?;
        let parsed = ExternalId::parse(&text);
        parsed.inspect_err(|detail| self.add_refusal("externalId", detail)).ok()
    }

    /// Reads `limit` and `cursor` of a list.
    pub(in crate::http) fn page(&mut self) -> (usize, Option<String>) {
        (self.limit(), self.text("cursor"))
    }

    /// Reads the `limit` of a list.
    pub(in crate::http) fn limit(&mut self) -> usize {
        let limit = |text: &str| usize::from_str(text).ok().filter(|limit| (1..=200).contains(limit));
        self.parsed("limit", "a number from 1 to 200", limit).unwrap_or(50)
    }

    /// Finishes with the connection of a request that may name it both here and in its body.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), and if the two differ.
    pub(in crate::http) fn connection(mut self, in_body: Option<String>) -> Result<Option<String>, Error> {
        let named = self.text("connection");
        if in_body.as_ref().is_some_and(|body| named.as_ref().is_some_and(|named| named != body)) {
            self.add_error("connection", "differs from the connection in the body");
        }
        self.finish()?;
        Ok(named.or(in_body))
    }

    /// Finishes reading: rejects the query if any parameter was invalid or unknown.
    ///
    /// # Errors
    /// `validation_failed` with every invalid parameter.
    pub(in crate::http) fn finish(mut self) -> Result<(), Error> {
        let unknown = |(name, _): &(String, String)| {
            FieldError::new(format!("?{name}"), FieldError::UNKNOWN, "unknown query parameter")
        };
        self.errors.extend(self.left.iter().map(unknown));
        if self.errors.is_empty() { Ok(()) } else { Err(Error::from_fields(self.errors)) }
    }

    /// Records that a parameter cannot be parsed, unless an error about it is recorded already.
    pub(in crate::http) fn add_refusal(&mut self, name: &str, detail: &str) {
        if !self.errors.iter().any(|error| error.pointer == format!("?{name}")) {
            self.add_error(name, detail);
        }
    }

    /// Records that a parameter is invalid.
    pub(in crate::http) fn add_error(&mut self, name: &str, detail: &str) {
        self.errors.push(FieldError::invalid(format!("?{name}"), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_error_is_reported() {
        let uri: Uri = "/x?limit=0&stat=1&candidate=a&candidate=b&cursor=&state=odd".parse().unwrap();
        let mut query = QueryParams::of(&uri);
        query.page();
        query.text("candidate");
        query.parsed("state", "a state", |text| (text == "pending").then_some(()));
        let errors = query.finish().unwrap_err().errors;
        let found: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(found, ["?limit", "?cursor", "?candidate", "?state", "?stat"]);
    }

    #[test]
    fn values_are_decoded() {
        let mut query = QueryParams::of(&"/x?externalId=a%20b+c%2Fd&limit=200".parse().unwrap());
        assert_eq!(query.external_id().as_deref(), Some("a b c/d"));
        assert_eq!(query.page(), (200, None));
        assert!(query.finish().is_ok());
    }
}
