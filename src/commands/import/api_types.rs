//! The parts of the gateway's responses that an import reads. Unknown fields and words are ignored: new ones may be
//! added (docs/API-DESIGN.md). None of these types implements `Debug`: they hold people, passwords and links.

use serde::Deserialize;

/// What the presented key may do.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Access {
    pub(super) client: String,
    pub(super) scopes: Vec<String>,
    /// The names of the connections it may use; `*` means all.
    pub(super) connections: Vec<String>,
}

/// A connection of the gateway.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionInfo {
    pub(super) status: String,
    pub(super) detail: String,
}

/// The response to a bulk request: an operation (202), or its id among the results (207).
#[derive(Deserialize)]
pub(super) struct Accepted {
    pub(super) id: Option<String>,
    pub(super) operation: Option<String>,
}

/// A bulk operation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) state: String,
    #[serde(default)]
    pub(super) finished_at: Option<String>,
    #[serde(default)]
    pub(super) progress: Progress,
}

impl Operation {
    /// Returns whether the operation has finished.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "cancelled")
    }
}

/// Row counts by outcome; every row counts once.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Progress {
    pub(super) total: usize,
    pub(super) applied: usize,
    pub(super) not_applied: usize,
    pub(super) unknown: usize,
    pub(super) skipped: usize,
    pub(super) pending: usize,
    /// The rows, counted above too, whose outcome the gateway is finding out after a restart.
    pub(super) settling: usize,
}

/// A page of results.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    pub(super) next_cursor: Option<String>,
}

/// The result of one row.
#[derive(Deserialize)]
pub(super) struct Item {
    /// Zero-based position in the file.
    pub(super) index: usize,
    pub(super) status: Option<u16>,
    pub(super) outcome: Option<String>,
    pub(super) resource: Option<Resource>,
    pub(super) problem: Option<Problem>,
}

impl Item {
    /// Returns whether the row was not sent because the operation stopped first.
    pub(super) fn is_skipped(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.is("skipped"))
    }

    /// Returns whether the row is applied.
    pub(super) fn is_applied(&self) -> bool {
        self.outcome.as_deref() == Some("applied") && !self.is_skipped()
    }

    /// Returns whether the row found its person or booking on record (status 200 instead of 201).
    pub(super) fn is_reused(&self) -> bool {
        self.is_applied() && self.status == Some(200)
    }

    /// Returns the pointers of the fields in which the record differs from the row.
    pub(super) fn differing_fields(&self) -> impl Iterator<Item = &str> {
        let warnings = self.resource.iter().flat_map(|resource| &resource.warnings);
        let differs = warnings.filter(|warning| warning.code == "existing_differs");
        differs.map(|warning| warning.pointer.as_deref().unwrap_or(""))
    }
}

/// A candidate or an assignment.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    pub(super) id: Option<String>,
    pub(super) state: Option<String>,
    pub(super) user_name: Option<String>,
    pub(super) initial_password: Option<String>,
    pub(super) candidate: Option<BookedCandidate>,
    pub(super) assessment: Option<String>,
    pub(super) valid_from: Option<String>,
    pub(super) valid_until: Option<String>,
    pub(super) launch: Option<Launch>,
    pub(super) warnings: Vec<Warning>,
}

/// The candidate of an assignment, as the order named them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BookedCandidate {
    pub(super) id: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) email: Option<String>,
}

/// The address that starts a test.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Launch {
    pub(super) url: Option<String>,
    pub(super) expires_at: Option<String>,
}

/// A warning about an applied row.
#[derive(Deserialize)]
pub(super) struct Warning {
    pub(super) code: String,
    pub(super) pointer: Option<String>,
}

/// A problem document (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) code: Option<String>,
    pub(super) title: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) retryable: Option<bool>,
    /// Path of the resource that will show the reconciled state.
    pub(super) resource: Option<String>,
    pub(super) vendor: Option<VendorAnswer>,
    pub(super) errors: Vec<ProblemField>,
}

/// What the vendor itself answered.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct VendorAnswer {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

/// An error about one field.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ProblemField {
    pub(super) pointer: String,
    pub(super) detail: String,
}

impl Problem {
    /// Returns whether the problem has this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Returns the detail, with each error that it does not repeat.
    pub(super) fn explanation(&self) -> String {
        let detail = self.detail.clone().or_else(|| self.title.clone()).unwrap_or_default();
        let is_new = |error: &&ProblemField| !(detail.contains(&error.detail) && detail.contains(&error.pointer));
        self.errors.iter().filter(is_new).fold(detail.clone(), |mut text, error| {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text + &error.sentence()
        })
    }

    /// Formats the problem as lines of text.
    pub(super) fn describe(&self, status: u16) -> String {
        let part = |text: &Option<String>| text.as_deref().map(readable).unwrap_or_default();
        let (code, title, detail) = (part(&self.code), part(&self.title), part(&self.detail));
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|error| format!("{}: {}", readable(&error.pointer), readable(&error.detail)))
            .collect();
        // With a single invalid field the detail usually repeats its error.
        let detail = Some(detail).filter(|detail| !detail.is_empty() && *detail != title && !errors.contains(detail));
        let lines = detail.into_iter().chain(errors).map(|line| format!("\n  {line}"));
        format!("{status} {code}: {title}{}", lines.collect::<String>())
    }
}

impl ProblemField {
    /// Returns the error with its field: `/email is not an e-mail address`.
    pub(super) fn sentence(&self) -> String {
        format!("{} {}", self.pointer, self.detail).trim().to_owned()
    }
}

/// Makes text from the server safe for a terminal: replaces control characters and limits the length.
pub(super) fn readable(text: &str) -> String {
    const MAX: usize = 500;
    text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_formatted_in_lines() {
        let problem: Problem = serde_json::from_str(
            r#"{ "type": "/problems/validation_failed", "title": "Not valid", "status": 422, "detail": "2 fields\u001b[2J",
                 "code": "validation_failed", "origin": "request", "outcome": "not_applied", "retryable": false,
                 "errors": [ { "pointer": "?connection", "code": "invalid_field", "detail": "must not be blank" },
                             { "pointer": "/email", "code": "missing_field", "detail": "is missing" } ] }"#,
        )
        .unwrap();
        assert_eq!(
            problem.describe(422),
            "422 validation_failed: Not valid\n  2 fields [2J\n  ?connection: must not be blank\n  /email: is missing"
        );
        assert!(problem.is("validation_failed") && !problem.is("not_found"));
    }

    #[test]
    fn an_explanation_repeats_no_error() {
        let explanation = |text: &str| serde_json::from_str::<Problem>(text).unwrap().explanation();
        let error = r#""errors": [{ "pointer": "/email", "detail": "is missing" }]"#;
        assert_eq!(explanation(&format!(r#"{{ "detail": "/email: is missing", {error} }}"#)), "/email: is missing");
        assert_eq!(explanation(&format!(r#"{{ "detail": "1 field", {error} }}"#)), "1 field; /email is missing");
        assert_eq!(explanation(&format!("{{ {error} }}")), "/email is missing");
        assert_eq!(explanation(r#"{ "title": "Not valid" }"#), "Not valid");
    }

    #[test]
    fn unknown_fields_and_words_are_accepted() {
        let operation: Operation =
            serde_json::from_str(r#"{ "state": "resting", "odd": 1, "progress": { "total": 3, "odd": 2 } }"#).unwrap();
        assert!(!operation.is_terminal() && operation.progress.total == 3);
        let page: Page = serde_json::from_str(r#"{ "items": [{ "index": 0, "outcome": "odd" }] }"#).unwrap();
        assert!(page.next_cursor.is_none() && page.items[0].resource.is_none() && !page.items[0].is_applied());
        let access: Access = serde_json::from_str(r#"{ "client": "lms", "scopes": ["a"], "odd": 1 }"#).unwrap();
        assert!(access.client == "lms" && access.connections.is_empty());
    }
}
