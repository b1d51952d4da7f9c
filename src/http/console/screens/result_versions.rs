//! The versions of a result on its page: what each of them changed.

use jiff::Timestamp;

use crate::http::console::documents::result::{ResultContent, ResultVersion, Score};

/// A version on a page.
pub(in crate::http::console) struct VersionView {
    /// Its number.
    pub(in crate::http::console) version: u32,
    /// When it was recorded.
    pub(in crate::http::console) recorded_at: Timestamp,
    /// What is known of the score.
    pub(in crate::http::console) grading: String,
    /// The score.
    pub(in crate::http::console) points: Option<String>,
    /// The fields that it changed.
    pub(in crate::http::console) changes: Vec<Change>,
}

/// A changed field.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http::console) struct Change {
    /// The field's name.
    pub(in crate::http::console) field: String,
    /// What was known before and is known now, if both can be said in a word.
    pub(in crate::http::console) values: Option<(String, String)>,
}

impl VersionView {
    /// Describes versions, which the API lists oldest first.
    pub(in crate::http::console) fn newest_first(versions: Vec<ResultVersion>) -> Vec<Self> {
        let mut views = Vec::with_capacity(versions.len());
        let mut before: Option<ResultContent> = None;
        for ResultVersion { number, changed, recorded_at, content } in versions {
            let change = |field: String| {
                let values = before.as_ref().and_then(|before| before.shown(&field).zip(content.shown(&field)));
                Change { field, values }
            };
            let changes = changed.into_iter().map(change).collect();
            let (grading, points) = (content.grading.clone(), content.score.as_ref().map(Score::points));
            views.push(Self { version: number, recorded_at, grading, points, changes });
            before = Some(content);
        }
        views.reverse();
        views
    }

    /// Returns whether it changed fields whose values are not shown.
    pub(in crate::http::console) fn has_other_changes(&self) -> bool {
        self.changes.iter().any(|change| change.values.is_none())
    }

    /// Returns the names of those fields.
    pub(in crate::http::console) fn other_changes(&self) -> String {
        let others = self.changes.iter().filter(|change| change.values.is_none());
        others.map(|change| change.field.as_str()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn version(number: u32, changed: &[&str], fields: &Value) -> ResultVersion {
        let mut version = json!({
            "version": number, "changed": changed, "recordedAt": "2026-11-30T09:12:03.871Z", "assessment": "rust-101",
            "candidate": { "id": "cand_1" }, "attempt": { "number": 1 }, "activity": "completed", "grading": "pending",
            "parts": [], "warnings": [],
        });
        version.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(version).unwrap()
    }

    #[test]
    fn a_version_says_what_it_changed_from_what() {
        let first = version(1, &["attempt", "activity", "grading"], &json!({}));
        let graded = json!({ "grading": "fully_graded", "score": { "given": 41.5, "maximum": 50.0 }, "passed": true });
        let second = version(2, &["grading", "score", "passed", "attempt"], &graded);
        let versions = VersionView::newest_first(vec![first, second]);
        assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [2, 1]);
        let change = |field: &str, before: &str, after: &str| Change {
            field: field.to_owned(),
            values: Some((before.to_owned(), after.to_owned())),
        };
        assert_eq!(
            versions[0].changes,
            [
                change("grading", "pending", "fully graded"),
                change("score", "none", "41.5 / 50"),
                change("passed", "none", "yes"),
                Change { field: "attempt".to_owned(), values: None },
            ]
        );
        assert!(versions[1].changes.iter().all(|change| change.values.is_none()), "nothing was known before");
        assert_eq!((versions[0].points.as_deref(), versions[1].points.as_deref()), (Some("41.5 / 50"), None));
    }

    #[test]
    fn points_are_shown_as_the_vendor_gave_them() {
        let points = |score: Value| serde_json::from_value::<Score>(score).unwrap().points();
        assert_eq!(points(json!({ "given": -0.5 })), "-0.5");
        assert_eq!(points(json!({ "given": 41.0, "maximum": 50.0, "percent": 82.0 })), "41 / 50");
    }
}
