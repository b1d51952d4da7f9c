//! The progress of assignments, and which attempts count: computed when they are read.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _};

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::error::Error;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::results::exam_result::ResultState;
use crate::domain::results::{BookingWindow, Counts, ExamResult, Progress, ReportChannel, counting_attempt};
use crate::service::Gateway;
use crate::service::catalogue::Catalogue;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::sweep::{FeedPositions, window};
use crate::service::snapshot::Snapshot;
use crate::service::streams::complete_all;

/// Maximum number of look-ups of people's results at once.
const MAX_CONCURRENT_LOOKUPS: usize = 8;

/// Returns which attempt of an assessment counts.
fn counts_rule(catalogue: &Catalogue, connection: &str, assessment_ref: &str) -> Counts {
    let mut entries = catalogue.assessments.values();
    let entry = entries.find(|entry| entry.connection == connection && entry.reference == assessment_ref);
    entry.map_or_else(Counts::default, |entry| entry.scoring.counts)
}

/// Returns how the vendor tells of the assignment's attempts; `None` if it tells nothing.
fn channel_of<'a>(configured: &'a Snapshot, assignment: &Assignment) -> Option<&'a ReportChannel> {
    let connection = configured.connections.get(&assignment.connection)?;
    let channel = connection.report_source()?.channel();
    (assignment.state != AssignmentState::Failed).then_some(channel)
}

impl Gateway {
    /// Returns the progress of these assignments of one tenant, one each, in order; `None` where the vendor tells nothing.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn progress_of(&self, assignments: &[&Assignment]) -> Result<Vec<Option<Progress>>, Error> {
        let configured = self.configured();
        let channels: Vec<Option<&ReportChannel>> =
            assignments.iter().map(|assignment| channel_of(&configured, assignment)).collect();
        let telling = assignments.iter().zip(&channels).filter(|(_, channel)| channel.is_some());
        let ids: Vec<AssignmentId> = telling.map(|(assignment, _)| assignment.id.clone()).collect();
        if ids.is_empty() {
            return Ok(vec![None; assignments.len()]);
        }
        let mut results: HashMap<AssignmentId, Vec<ExamResult>> = HashMap::new();
        for result in self.0.store.results_of_assignments(&ids).await.or_not_applied()? {
            if let Some(assignment) = result.state.assignment.clone() {
                results.entry(assignment).or_default().push(result);
            }
        }
        let mut positions: HashMap<&str, FeedPositions> = HashMap::new();
        for (assignment, channel) in assignments.iter().zip(&channels) {
            let name = assignment.connection.as_str();
            if matches!(channel, Some(ReportChannel::Feed(_))) && !positions.contains_key(name) {
                positions.insert(name, self.feed_positions(name).await?);
            }
        }
        let progress = assignments.iter().zip(channels).map(|(assignment, channel)| {
            let window = match channel? {
                ReportChannel::Feed(plan) => {
                    let feed = positions.get(assignment.connection.as_str()).and_then(|known| known.of(assignment));
                    window(assignment, plan, feed)
                }
                // The vendor never says that nothing happened.
                ReportChannel::Receiver(_) => {
                    BookingWindow { valid_until: None, expire_after: jiff::SignedDuration::ZERO, feed_as_of: None }
                }
            };
            let own: Vec<&ExamResult> = results.get(&assignment.id).into_iter().flatten().collect();
            let counts = counts_rule(&configured.catalogue, &assignment.connection, &assignment.assessment_ref);
            Some(Progress::of(&own, counts, &window))
        });
        Ok(progress.collect())
    }

    /// Returns those of these results that count, each within its assignment, else within candidate and assessment.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn counting_results(&self, results: &[ExamResult]) -> Result<HashSet<ResultId>, Error> {
        let configured = self.configured();
        let bookings: HashSet<AssignmentId> =
            results.iter().filter_map(|result| result.state.assignment.clone()).collect();
        let alone = results.iter().filter(|result| result.state.assignment.is_none());
        let people: HashSet<(CandidateId, String)> =
            alone.map(|result| (result.state.candidate.clone(), result.state.assessment_ref.clone())).collect();
        let store = &self.0.store;
        let mut all = Vec::new();
        if !bookings.is_empty() {
            let bookings: Vec<AssignmentId> = bookings.into_iter().collect();
            all = store.results_of_assignments(&bookings).await.or_not_applied()?;
        }
        let of_people = stream::iter(people)
            .map(
                |(candidate, test)| async move { store.results_of_candidate(&candidate, &test).await.or_not_applied() },
            )
            .buffered(MAX_CONCURRENT_LOOKUPS);
        let of_people = complete_all(of_people).await?.into_iter().flatten();
        all.extend(of_people.filter(|result| result.state.assignment.is_none()));
        let mut groups: HashMap<(Option<AssignmentId>, CandidateId, String), Vec<ExamResult>> = HashMap::new();
        for result in all {
            let ResultState { assignment, candidate, assessment_ref, .. } = &result.state;
            let group = (assignment.clone(), candidate.clone(), assessment_ref.clone());
            groups.entry(group).or_default().push(result);
        }
        let counting = groups.into_values().filter_map(|group| {
            let first = group.first()?;
            let rule = counts_rule(&configured.catalogue, &first.connection, &first.state.assessment_ref);
            let states: Vec<&ResultState> = group.iter().map(|result| &result.state).collect();
            counting_attempt(&states, rule).map(|position| group[position].id.clone())
        });
        Ok(counting.collect())
    }
}
