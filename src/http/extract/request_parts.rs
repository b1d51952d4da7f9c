//! What a request says outside its body: who asks, path segments and query parameters.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::Uri;
use http::request::Parts;

use crate::domain::error::{Code, Error, FieldError};
use crate::http::app_state::AppState;
use crate::http::problem::ApiError;
use crate::service::RequestContext;

/// Who asks, as the guard found out.
pub(in crate::http) struct AuthenticatedCaller(pub(in crate::http) RequestContext);

impl FromRequestParts<AppState> for AuthenticatedCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<RequestContext>().cloned();
        caller.map(Self).ok_or_else(|| ApiError::new(Code::Internal, "The request came past the guard."))
    }
}

/// The one parameter of the path, decoded.
pub(in crate::http) struct PathSegment(pub(in crate::http) String);

impl FromRequestParts<AppState> for PathSegment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(text)| Self(text)).map_err(|_| not_found().into())
    }
}

/// An identifier in the path: a malformed one names nothing.
pub(in crate::http) struct Id<T>(pub(in crate::http) T);

impl<T: TryFrom<String>> FromRequestParts<AppState> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let PathSegment(text) = PathSegment::from_request_parts(parts, app).await?;
        T::try_from(text).map(Self).map_err(|_| not_found().into())
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "There is no such object.")
}

/// The query of a request, taken parameter by parameter; what is left at the end nobody knows.
pub(in crate::http) struct QueryParams {
    left: Vec<(String, String)>,
    faults: Vec<FieldError>,
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
        Self { left: pairs.into_owned().collect(), faults: Vec::new() }
    }

    /// The parameter's text. Empty text is a fault: nobody means it.
    pub(in crate::http) fn text(&mut self, name: &str) -> Option<String> {
        let position = self.left.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.left.remove(position);
        if self.left.iter().any(|(known, _)| known == name) {
            self.left.retain(|(known, _)| known != name);
            self.fault(name, "is given more than once");
        } else if value.is_empty() || value.chars().count() > 1000 || value.chars().any(char::is_control) {
            self.fault(name, "must have 1 to 1000 characters and no control characters");
        }
        Some(value)
    }

    /// The parameter's text, which has to be there.
    pub(in crate::http) fn required(&mut self, name: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.faults.push(FieldError::missing(format!("?{name}"), "is needed"));
            String::new()
        })
    }

    /// The parameter in a form of its own; `expected` completes "must be …".
    pub(in crate::http) fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = parse(&text);
        if parsed.is_none() && !self.faults.iter().any(|fault| fault.pointer == format!("?{name}")) {
            self.fault(name, &format!("must be {expected}"));
        }
        parsed
    }

    /// `limit` and `cursor` of a list.
    pub(in crate::http) fn page(&mut self) -> (usize, Option<String>) {
        let limit = |text: &str| usize::from_str(text).ok().filter(|limit| (1..=200).contains(limit));
        (self.parsed("limit", "a number from 1 to 200", limit).unwrap_or(50), self.text("cursor"))
    }

    /// Ends the reading with the connection of a request that may name it here and in its body.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), also where the two differ.
    pub(in crate::http) fn connection(mut self, in_body: Option<String>) -> Result<Option<String>, Error> {
        let named = self.text("connection");
        if in_body.as_ref().is_some_and(|body| named.as_ref().is_some_and(|named| named != body)) {
            self.fault("connection", "differs from the body's own");
        }
        self.finish()?;
        Ok(named.or(in_body))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `validation_failed` with every parameter at fault.
    pub(in crate::http) fn finish(mut self) -> Result<(), Error> {
        let unknown = |(name, _): &(String, String)| {
            FieldError::new(format!("?{name}"), FieldError::UNKNOWN, "unknown query parameter")
        };
        self.faults.extend(self.left.iter().map(unknown));
        if self.faults.is_empty() { Ok(()) } else { Err(Error::from_fields(self.faults)) }
    }

    /// Notes that a parameter cannot be used.
    pub(in crate::http) fn fault(&mut self, name: &str, detail: &str) {
        self.faults.push(FieldError::invalid(format!("?{name}"), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_query_is_told() {
        let uri: Uri = "/x?limit=0&stat=1&candidate=a&candidate=b&cursor=&state=odd".parse().unwrap();
        let mut query = QueryParams::of(&uri);
        query.page();
        query.text("candidate");
        query.required("assessment");
        query.parsed("state", "a state", |text| (text == "pending").then_some(()));
        let errors = query.finish().unwrap_err().errors;
        let told: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(told, ["?limit", "?cursor", "?candidate", "?assessment", "?state", "?stat"]);
    }

    #[test]
    fn values_are_decoded() {
        let mut query = QueryParams::of(&"/x?externalId=a%20b+c%2Fd&limit=200".parse().unwrap());
        assert_eq!(query.required("externalId"), "a b c/d");
        assert_eq!(query.page(), (200, None));
        assert!(query.finish().is_ok());
    }
}
