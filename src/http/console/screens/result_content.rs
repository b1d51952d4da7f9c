//! What a result says, as pages show it, and what each of its versions changed.

use serde::Deserialize;

use crate::http::console::api::List;
use crate::http::console::format::{shortened, spaced};

/// What a version of a result says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Content {
    /// The assessment.
    pub(in crate::http::console) assessment: String,
    /// The candidate.
    pub(in crate::http::console) candidate: Candidate,
    /// The booking.
    pub(in crate::http::console) assignment: Option<Assignment>,
    /// The attempt.
    pub(in crate::http::console) attempt: Attempt,
    /// How far it has got.
    pub(in crate::http::console) activity: String,
    /// What is known of its score.
    pub(in crate::http::console) grading: String,
    /// The score.
    pub(in crate::http::console) score: Option<Score>,
    /// The vendor's word for it.
    pub(in crate::http::console) level: Option<String>,
    /// Whether it passed.
    pub(in crate::http::console) passed: Option<bool>,
    /// The parts of the score.
    #[serde(default)]
    pub(in crate::http::console) parts: Vec<Part>,
    /// Whether another result now holds the attempt.
    #[serde(default)]
    pub(in crate::http::console) superseded: bool,
    /// What is odd about it.
    #[serde(default)]
    pub(in crate::http::console) warnings: Vec<Warning>,
}

/// The candidate of a result.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Candidate {
    /// The gateway's id.
    pub(in crate::http::console) id: String,
    /// The caller's id.
    pub(in crate::http::console) external_id: Option<String>,
}

/// The booking of a result.
#[derive(Deserialize)]
pub(in crate::http::console) struct Assignment {
    /// The gateway's id.
    pub(in crate::http::console) id: String,
    /// The caller's order id.
    pub(in crate::http::console) reference: Option<String>,
}

/// An attempt.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Attempt {
    /// Its number.
    pub(in crate::http::console) number: u32,
    /// When it started.
    pub(in crate::http::console) started_at: Option<String>,
    /// When it ended.
    pub(in crate::http::console) completed_at: Option<String>,
    /// How long the candidate worked.
    elapsed_seconds: Option<u64>,
    /// Who ended it.
    pub(in crate::http::console) closed_by: Option<String>,
    /// The times that the vendor does not say exactly.
    #[serde(default)]
    approximate: Vec<String>,
}

/// Points.
#[derive(Deserialize, PartialEq)]
pub(in crate::http::console) struct Score {
    /// The points given.
    pub(in crate::http::console) given: f64,
    /// The points that can be had.
    pub(in crate::http::console) maximum: Option<f64>,
    /// The vendor's percentage.
    pub(in crate::http::console) percent: Option<f64>,
}

/// A part of a score.
#[derive(Deserialize)]
pub(in crate::http::console) struct Part {
    /// The kind of part.
    pub(in crate::http::console) kind: String,
    /// The vendor's title.
    label: String,
    /// Its points.
    pub(in crate::http::console) score: Option<Score>,
    /// The vendor's word for them.
    pub(in crate::http::console) level: Option<String>,
}

/// What is odd about a result.
#[derive(Deserialize)]
pub(in crate::http::console) struct Warning {
    /// Its code.
    pub(in crate::http::console) code: String,
    /// What it means.
    pub(in crate::http::console) detail: String,
}

impl Attempt {
    /// Returns how long the candidate worked, in milliseconds.
    pub(in crate::http::console) fn elapsed_millis(&self) -> Option<u64> {
        self.elapsed_seconds.map(|seconds| seconds.saturating_mul(1_000))
    }

    /// Returns whether a time is only near.
    pub(in crate::http::console) fn is_approximate(&self, time: &str) -> bool {
        self.approximate.iter().any(|name| name == time)
    }
}

impl Score {
    /// Returns the points: "41 / 50".
    pub(in crate::http::console) fn points(&self) -> String {
        let Self { given, maximum, percent: _ } = self;
        maximum.map_or_else(|| given.to_string(), |maximum| format!("{given} / {maximum}"))
    }
}

impl Part {
    /// Returns its title, or its kind if it has none.
    pub(in crate::http::console) fn title(&self) -> &str {
        if self.label.is_empty() { &self.kind } else { &self.label }
    }
}

impl Content {
    /// Returns the headline of a result.
    pub(in crate::http::console) fn headline(&self) -> String {
        match &self.score {
            Some(Score { given, maximum: Some(maximum), .. }) => format!("{given} of {maximum} points"),
            Some(Score { given, maximum: None, .. }) => format!("{given} points"),
            None => "No score".to_owned(),
        }
    }

    /// Returns whether it passed, in words.
    pub(in crate::http::console) fn passed_word(&self) -> Option<&'static str> {
        self.passed.map(yes_no)
    }

    /// Returns a field in words; `None` for those that words would not fit.
    fn shown(&self, field: &str) -> Option<String> {
        let missing = || "none".to_owned();
        Some(match field {
            "assessment" => self.assessment.clone(),
            "candidate" => shortened(&self.candidate.id),
            "assignment" => self.assignment.as_ref().map_or_else(missing, |it| shortened(&it.id)),
            "activity" => spaced(&self.activity),
            "grading" => spaced(&self.grading),
            "score" => self.score.as_ref().map_or_else(missing, Score::points),
            "level" => self.level.clone().unwrap_or_else(missing),
            "passed" => self.passed_word().map_or_else(missing, str::to_owned),
            "superseded" => yes_no(self.superseded).to_owned(),
            _ => return None,
        })
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// A page of versions.
pub(in crate::http::console) type Versions = List<Version>;

/// A version, as the API describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Version {
    #[serde(rename = "version")]
    number: u32,
    changed: Vec<String>,
    recorded_at: String,
    #[serde(flatten)]
    content: Content,
}

/// A version on a page.
pub(in crate::http::console) struct VersionView {
    /// Its number.
    pub(in crate::http::console) version: u32,
    /// When it was recorded.
    pub(in crate::http::console) recorded_at: String,
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
    pub(in crate::http::console) fn newest_first(versions: Vec<Version>) -> Vec<Self> {
        let mut views = Vec::with_capacity(versions.len());
        let mut before: Option<Content> = None;
        for Version { number, changed, recorded_at, content } in versions {
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

    fn version(number: u32, changed: &[&str], fields: &Value) -> Version {
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
