//! A request of a person who may see the console: what a screen reads it from and answers it with.

use std::sync::{Arc, Mutex, PoisonError};

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::domain::scope::Scope;
use crate::http::console::api::{Api, ConsoleError};
use crate::http::console::page::{Area, Page, Viewer};

/// A page's request, after session and token were checked.
#[derive(Clone)]
pub(in crate::http::console) struct Visit {
    /// The API, as this client.
    pub(in crate::http::console) api: Api,
    inner: Arc<Inner>,
}

struct Inner {
    root: String,
    viewer: Viewer,
    query: Vec<(String, String)>,
    form: Form,
    assets: (&'static str, &'static str),
    now: Timestamp,
    /// The parts that the page lacks, each with the reason.
    lacking: Mutex<Vec<(&'static str, String)>>,
}

/// The fields of a posted form.
#[derive(Debug, Default)]
pub(in crate::http::console) struct Form {
    /// Names and values, in the form's order.
    pub(in crate::http::console) fields: Vec<(String, String)>,
    /// The files, with the names of their fields.
    pub(in crate::http::console) uploads: Vec<(String, Upload)>,
}

impl Form {
    /// Returns the value of a field; empty if there is none.
    pub(in crate::http::console) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A file of a form.
#[derive(Debug, Clone)]
pub(in crate::http::console) struct Upload {
    /// The name the browser gave.
    pub(in crate::http::console) file_name: String,
    /// The content.
    pub(in crate::http::console) bytes: Bytes,
}

impl Visit {
    pub(in crate::http::console) fn new(
        api: Api,
        parts: &Parts,
        viewer: Viewer,
        form: Form,
        (assets, now): ((&'static str, &'static str), Timestamp),
    ) -> Self {
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let query = query.into_owned().collect();
        let root = root_of(parts.uri.path());
        Self { api, inner: Arc::new(Inner { root, viewer, query, form, assets, now, lacking: Mutex::default() }) }
    }

    /// Returns a parameter of the query that is not empty.
    pub(in crate::http::console) fn query(&self, name: &str) -> Option<&str> {
        let found = self.inner.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns a field of the form; empty if there is none.
    pub(in crate::http::console) fn field(&self, name: &str) -> &str {
        self.inner.form.field(name)
    }

    /// Returns the names and values of the form's fields, in its order.
    pub(in crate::http::console) fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.inner.form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the file in the field with this name.
    pub(in crate::http::console) fn upload(&self, name: &str) -> Option<&Upload> {
        self.inner.form.uploads.iter().find(|(known, _)| known == name).map(|(_, upload)| upload)
    }

    /// Returns the `Idempotency-Key` of the form.
    pub(in crate::http::console) fn key(&self) -> Option<&str> {
        Some(self.field("key")).filter(|key| !key.is_empty())
    }

    /// Returns who asks.
    pub(in crate::http::console) fn viewer(&self) -> &Viewer {
        &self.inner.viewer
    }

    /// Returns whether the client has this scope.
    pub(in crate::http::console) fn may(&self, scope: Scope) -> bool {
        self.inner.viewer.may(scope)
    }

    /// Checks that the client has this scope.
    ///
    /// # Errors
    /// The page that names it.
    pub(in crate::http::console) fn require(&self, scope: Scope) -> Result<(), ConsoleError> {
        if self.may(scope) { Ok(()) } else { Err(ConsoleError::Scope(scope)) }
    }

    /// Returns the page that the form was on, as its field `back` says: a path below `console/`.
    pub(in crate::http::console) fn back(&self) -> String {
        below_console(self.field("back")).to_owned()
    }

    /// Returns the time of the request.
    pub(in crate::http::console) fn now(&self) -> Timestamp {
        self.inner.now
    }

    /// Returns a part of the page that it can do without. `None` if the client has exceeded its rate, or the number of its
    /// requests in flight: the page then says that it lacks the part.
    ///
    /// # Errors
    /// Every other problem.
    pub(in crate::http::console) fn part<T>(
        &self,
        name: &'static str,
        read: Result<T, ConsoleError>,
    ) -> Result<Option<T>, ConsoleError> {
        match read {
            Err(ConsoleError::Problem(problem)) if ["rate_limited", "overloaded"].contains(&problem.code.as_str()) => {
                let mut lacking = self.inner.lacking.lock().unwrap_or_else(PoisonError::into_inner);
                lacking.push((name, problem.detail));
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Creates the frame of the page, after its parts were read.
    pub(in crate::http::console) fn page(&self, title: &str, area: Area) -> Page {
        let Inner { root, viewer, assets, lacking, .. } = &*self.inner;
        Page::new(root, title, Some(area), viewer.clone(), *assets)
            .with_notice_word(self.query("notice"))
            .with_key(self.key())
            .with_lacking(&lacking.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Creates the frame of the page that shows an error.
    pub(in crate::http::console) fn error_page(&self, title: &str) -> Page {
        let Inner { root, viewer, assets, .. } = &*self.inner;
        Page::new(root, title, None, viewer.clone(), *assets)
    }

    /// Renders a page.
    ///
    /// # Errors
    /// The template failed.
    #[expect(clippy::unused_self, reason = "an answer to this visit, beside `redirect`")]
    pub(in crate::http::console) fn render(&self, view: &impl Template) -> Result<Response, ConsoleError> {
        rendered(StatusCode::OK, view)
    }

    /// Renders a page with this status.
    ///
    /// # Errors
    /// The template failed.
    #[expect(clippy::unused_self, reason = "an answer to this visit, beside `redirect`")]
    pub(in crate::http::console) fn render_as(
        &self,
        status: StatusCode,
        view: &impl Template,
    ) -> Result<Response, ConsoleError> {
        rendered(status, view)
    }

    /// Leads to a page below `console/`, with the notice of this word; an empty one gives no notice.
    ///
    /// # Errors
    /// The path cannot be in a header.
    pub(in crate::http::console) fn redirect(&self, path: &str, notice: &str) -> Result<Response, ConsoleError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let notice = if notice.is_empty() { String::new() } else { format!("{separator}notice={notice}") };
        see_other(&format!("{}{path}{notice}", self.inner.root))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = ConsoleError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ConsoleError> {
        let visit = parts.extensions.get::<Self>().cloned();
        visit.ok_or_else(|| ConsoleError::Internal("the console's guard is not installed".to_owned()))
    }
}

/// Returns the relative address of `console/` from this path.
pub(in crate::http::console) fn root_of(path: &str) -> String {
    let below = path.split_once("/console/").map_or("", |(_, below)| below);
    match below.matches('/').count() {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    }
}

/// Returns the path if it is of a page below `console/`; else that of the first screen.
pub(in crate::http::console) fn below_console(path: &str) -> &str {
    let inside = path.split('/').all(|segment| segment != ".." && segment != ".");
    let fit = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    if inside && fit && !path.starts_with('/') && !path.contains("//") { path } else { "" }
}

/// Leads to this relative address.
///
/// # Errors
/// The address cannot be in a header.
pub(in crate::http::console) fn see_other(location: &str) -> Result<Response, ConsoleError> {
    let location = HeaderValue::from_str(location)
        .map_err(|_| ConsoleError::Internal("an address cannot be in a header".to_owned()))?;
    Ok((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response())
}

/// Renders a template as a page.
///
/// # Errors
/// The template failed.
pub(in crate::http::console) fn rendered(status: StatusCode, view: &impl Template) -> Result<Response, ConsoleError> {
    let text = view.render().map_err(|error| ConsoleError::Internal(format!("a template failed: {error}")))?;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    Ok((status, [(CONTENT_TYPE, html)], text).into_response())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::attention("/console/", "./")]
    #[case::list("/console/people", "./")]
    #[case::one("/console/people/cand_1", "../")]
    #[case::action("/console/people/cand_1/settle", "../../")]
    #[case::below_a_base_path("/exams/console/people/cand_1", "../")]
    fn pages_lead_to_the_root_by_their_depth(#[case] path: &str, #[case] root: &str) {
        assert_eq!(root_of(path), root);
    }

    #[rstest]
    #[case::nothing("", "")]
    #[case::screen("people/cand_1", "people/cand_1")]
    #[case::other_host("//evil.example", "")]
    #[case::url("https://evil.example", "")]
    #[case::script("javascript:alert(1)", "")]
    #[case::above("../docs/", "")]
    #[case::absolute("/candidates", "")]
    #[case::query("people?x=1", "")]
    fn a_given_destination_is_below_the_console(#[case] given: &str, #[case] to: &str) {
        assert_eq!(below_console(given), to);
    }
}
