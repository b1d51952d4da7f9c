//! What the results of an assignment, taken together, say: the numbers of the attempts, which of them counts, and how far
//! the assignment has got.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::exam_result::{ExamResult, ResultState};
use super::fold::{Activity, FoldedAttempt, Grading};
use super::scoring::{Counts, Score};
use crate::domain::ids::ResultId;
use crate::domain::words::words;

words! {
    /// How far an assignment has got.
    pub enum ProgressActivity {
        /// The vendor knows of no attempt.
        NotStarted "not_started",
        /// An attempt was started, and none is finished.
        InProgress "in_progress",
        /// An attempt is finished.
        Completed "completed",
        /// The window is over, and the vendor knows of no attempt.
        Expired "expired",
    }
}

/// How far an assignment has got, as computed when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How far it has got.
    pub activity: ProgressActivity,
    /// What is known of the score of the attempt that counts.
    pub grading: Grading,
    /// The number of attempts.
    pub attempts: usize,
    /// The result that counts; `None` while no attempt is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultId>,
    /// Until when the vendor's state is known; `None` where the vendor never says that nothing happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

/// What decides whether an assignment without an attempt has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookingWindow {
    /// The end of the validity window, as sent to the vendor.
    pub valid_until: Option<Timestamp>,
    /// How long after it an attempt may still be reported.
    pub expire_after: SignedDuration,
    /// Until when the vendor's feed of the assignment's centre is known, by the vendor's clock; `None` without a feed.
    pub feed_as_of: Option<Timestamp>,
}

impl BookingWindow {
    /// Returns whether the feed has passed the end of the window. The vendor's time is compared with the vendor's only.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let end = self.valid_until.and_then(|until| until.checked_add(self.expire_after).ok());
        end.zip(self.feed_as_of).is_some_and(|(end, as_of)| end < as_of)
    }
}

/// Returns the number of each attempt, from 1: its place in the order in which attempts started or, without a start, were
/// first seen. `attempts` are all of one assignment, else of one candidate at one assessment, whatever series they are of.
#[must_use]
pub fn number_attempts(attempts: &[&FoldedAttempt]) -> Vec<u32> {
    let order =
        |attempt: &FoldedAttempt| (attempt.state.times.started.unwrap_or(attempt.first_seen), attempt.first_seen);
    let mut places: Vec<usize> = (0..attempts.len()).collect();
    places.sort_by_key(|place| order(attempts[*place]));
    let mut numbers = vec![0; attempts.len()];
    for (number, place) in (1..).zip(places) {
        numbers[place] = number;
    }
    numbers
}

/// Returns the position of the attempt that counts: one that is finished and not superseded. `results` are all of one
/// assignment, else of one candidate at one assessment, in any order.
#[must_use]
pub fn counting_attempt(results: &[&ResultState], counts: Counts) -> Option<usize> {
    let finished =
        results.iter().enumerate().filter(|(_, state)| state.activity == Activity::Completed && !state.superseded);
    let number = |(_, state): &(usize, &&ResultState)| state.attempt.number;
    let chosen = match counts {
        Counts::Latest => finished.max_by_key(number),
        Counts::First => finished.min_by_key(number),
        Counts::Best => finished.max_by(|left, right| {
            // Of equal ones the earlier counts; without a score the later, since none of them is better.
            let by_score = percent(left.1).total_cmp(&percent(right.1));
            let scored = percent(left.1) > f64::NEG_INFINITY;
            let by_number = number(left).cmp(&number(right));
            by_score.then(if scored { by_number.reverse() } else { by_number })
        }),
    };
    chosen.map(|(position, _)| position)
}

/// Returns the percentage by which attempts are compared; the lowest possible one if there is none.
fn percent(state: &ResultState) -> f64 {
    state.score.as_ref().and_then(Score::comparable_percent).unwrap_or(f64::NEG_INFINITY)
}

impl Progress {
    /// Computes the progress of an assignment from its results.
    #[must_use]
    pub fn of(results: &[&ExamResult], counts: Counts, window: &BookingWindow) -> Self {
        let live: Vec<&&ExamResult> = results.iter().filter(|result| !result.state.superseded).collect();
        let states: Vec<&ResultState> = live.iter().map(|result| &result.state).collect();
        let counting = counting_attempt(&states, counts).map(|position| live[position]);
        let activity = match counting {
            Some(_) => ProgressActivity::Completed,
            None if !live.is_empty() => ProgressActivity::InProgress,
            None if window.is_over() => ProgressActivity::Expired,
            None => ProgressActivity::NotStarted,
        };
        let seen = live.iter().map(|result| result.as_of).max();
        Self {
            activity,
            grading: counting.map_or(Grading::NotReady, |result| result.state.grading),
            attempts: live.len(),
            result: counting.map(|result| result.id.clone()),
            // Without a feed, an attempt's as-of says nothing about what did not happen.
            as_of: window.feed_as_of.map(|feed| seen.map_or(feed, |seen| seen.max(feed))),
        }
    }
}
