//! What many results come to: how many there are of each kind, and how their scores are distributed.

use std::collections::BTreeMap;

use crate::domain::error::Error;
use crate::domain::results::{Activity, ExamResult, Grading};
use crate::service::errors::StoreResultExt as _;
use crate::service::results::queries::ResultQuery;
use crate::service::{Gateway, RequestContext};
use crate::store::Page;

/// Maximum number of results that a summary is made of: scores are sealed, so each result is read.
const MAX_RESULTS: usize = 5_000;
/// Number of results read at once.
const PART: usize = 500;

/// What results come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultSummary {
    /// The results that were counted.
    pub results: u64,
    /// Whether these are all that match; otherwise the newest.
    pub is_complete: bool,
    /// How many of them have got how far.
    pub activity: BTreeMap<&'static str, u64>,
    /// How many of them are graded how far.
    pub grading: BTreeMap<&'static str, u64>,
    /// Those that passed.
    pub passed: u64,
    /// Those that did not pass.
    pub failed: u64,
    /// Their percentages.
    pub scores: ScoreDistribution,
}

/// The distribution of the percentages of scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreDistribution {
    /// The results with a percentage.
    pub count: u64,
    /// The median of the percentages; of an even number of them, the mean of the two in the middle.
    pub median: Option<f64>,
    /// How many are in each tenth, from 0 % on; what is below is in the first, what is above in the last.
    pub tenths: [u64; 10],
}

impl Gateway {
    /// Returns what the caller's results that match come to; of more than 5,000, the newest. Results whose attempt another
    /// result holds are left out.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `store_unavailable`.
    pub async fn result_summary(&self, caller: &RequestContext, query: &ResultQuery) -> Result<ResultSummary, Error> {
        let mut tally = Tally::default();
        let Some(filter) = self.result_filter(caller, query).await? else {
            return Ok(tally.finish(true));
        };
        let _permit = self.read_permit(caller).await;
        let mut after = None;
        for _ in 0..MAX_RESULTS / PART {
            // One extra entry shows whether there are more.
            let page = Page { limit: PART + 1, after: after.take() };
            let mut found = self.0.store.results(&caller.tenant, &filter, &page).await.or_not_applied()?;
            let has_more = found.len() > PART;
            found.truncate(PART);
            for result in &found {
                tally.add(result);
            }
            after = found.last().filter(|_| has_more).map(|last| last.id.to_string());
            if after.is_none() {
                break;
            }
        }
        Ok(tally.finish(after.is_none()))
    }
}

#[derive(Default)]
struct Tally {
    summary: ResultSummary,
    percents: Vec<f64>,
}

impl Tally {
    fn add(&mut self, result: &ExamResult) {
        let state = &result.state;
        if state.superseded {
            return;
        }
        let Self { summary, percents } = self;
        summary.results += 1;
        *summary.activity.entry(Activity::as_str(state.activity)).or_default() += 1;
        *summary.grading.entry(Grading::as_str(state.grading)).or_default() += 1;
        match state.passed {
            Some(true) => summary.passed += 1,
            Some(false) => summary.failed += 1,
            None => {}
        }
        if let Some(percent) = state.score.and_then(|score| score.comparable_percent()) {
            percents.push(percent);
            summary.scores.tenths[tenth_of(percent)] += 1;
        }
    }

    fn finish(self, is_complete: bool) -> ResultSummary {
        let Self { mut summary, mut percents } = self;
        percents.sort_by(f64::total_cmp);
        summary.is_complete = is_complete;
        summary.scores.count = percents.len() as u64;
        summary.scores.median = median(&percents);
        summary
    }
}

/// Returns the tenth of a percentage.
fn tenth_of(percent: f64) -> usize {
    (1..10_u8).filter(|tenth| percent >= f64::from(*tenth) * 10.0).count()
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted.get(sorted.len() / 2 - 1)? } else { upper };
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_beyond_the_range_are_in_the_first_or_last_tenth() {
        for (percent, tenth) in
            [(-20.0, 0), (0.0, 0), (9.99, 0), (10.0, 1), (57.14, 5), (89.9, 8), (90.0, 9), (100.0, 9), (140.0, 9)]
        {
            assert_eq!(tenth_of(percent), tenth, "{percent}");
        }
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 50.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 50.0]), Some(3.0));
    }
}
