//! What many results come to.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::service;

/// What the results that match come to. Results whose attempt another result holds (`superseded`) are left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(summary_example))]
pub struct ResultSummary {
    /// The number of results that were counted.
    pub results: u64,
    /// Whether these are all that match. Otherwise there are more than 5,000, and only the newest were counted.
    pub complete: bool,
    /// How many of them have got how far, by `activity`; words without a result are omitted.
    #[schema(example = json!({ "in_progress": 3, "completed": 37 }))]
    pub activity: BTreeMap<&'static str, u64>,
    /// How many of them are graded how far, by `grading`; words without a result are omitted.
    #[schema(example = json!({ "fully_graded": 30, "pending": 10 }))]
    pub grading: BTreeMap<&'static str, u64>,
    /// The number that passed.
    pub passed: u64,
    /// The number that did not pass. Results of which that is not known count in neither.
    pub failed: u64,
    /// How their scores are distributed.
    pub scores: ScoreDistribution,
}

/// How the percentages of scores are distributed: the vendor's own, else those of the points.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScoreDistribution {
    /// The number of results with a percentage.
    pub count: u64,
    /// The median of the percentages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_percent: Option<f64>,
    /// How many are in each tenth: below 10 %, from 10 to below 20 %, and so on; the last has all from 90 % on.
    #[schema(min_items = 10, max_items = 10)]
    pub tenths: Vec<u64>,
}

impl From<service::ResultSummary> for ResultSummary {
    fn from(summary: service::ResultSummary) -> Self {
        let service::ResultSummary { results, is_complete, activity, grading, passed, failed, scores } = summary;
        let service::ScoreDistribution { count, median, tenths } = scores;
        let scores = ScoreDistribution { count, median_percent: median, tenths: tenths.into() };
        Self { results, complete: is_complete, activity, grading, passed, failed, scores }
    }
}

fn summary_example() -> Value {
    json!({
        "results": 40, "complete": true,
        "activity": { "in_progress": 3, "completed": 37 },
        "grading": { "fully_graded": 30, "pending": 10 },
        "passed": 21, "failed": 9,
        "scores": { "count": 30, "medianPercent": 71.4, "tenths": [0, 0, 1, 2, 3, 4, 8, 7, 3, 2] },
    })
}
