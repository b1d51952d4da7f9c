//! Reports that come by a feed while the store fails and the process is killed: afterwards every session of a known person
//! has one result, and the results are what the fold makes of what the vendor says.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::{CaseRun, config, run_case};
use crate::domain::assignment::IfAssignmentExists;
use crate::domain::candidate::{CandidateState, Identity, IfCandidateExists};
use crate::domain::results::{ExamResult, FoldedAttempt, ReportContext, ReportKind, ScoringRules, Sighting, fold};
use crate::service::simulation::callers::{TENANT, caller};
use crate::service::simulation::feed::{at, entry, fold_settings};
use crate::service::simulation::sim::{CONNECTION, CrashPoint};
use crate::service::simulation::steps::{Case, Newcomer, Order, Sitting, Step, Wish, cases_with_feed};
use crate::service::simulation::vendor_oracle::{Profile, Session};
use crate::service::test_reports::{Said, read_said};
use crate::store::{Page, ResultFilter};

impl CaseRun {
    /// Has someone begin, finish or be corrected at the vendor: someone who is booked there, or else an employee with this
    /// number, who may be unknown to the gateway.
    pub(super) fn sit(&mut self, sitting: &Sitting) {
        let Sitting { who, walks_in, again, given } = sitting;
        let time = &self.world.time;
        let second = self.world.look(async |_| time.passed()) / 1_000_000;
        let mut exam = self.world.exam.lock().unwrap();
        let place = super::pick(&(0..exam.places.len()).collect::<Vec<_>>(), *who).filter(|_| !walks_in);
        let (participant, external_id, test) = match place {
            Some(number) => {
                let place = &exam.places[number];
                (format!("p{number}"), place.candidate.clone(), place.assessment.clone())
            }
            // Nobody books this test: that of a booking whose outcome is unknown would prove that it was made.
            None => (format!("w{}", who % 4), format!("e{}", who % 4), "exam-9".to_owned()),
        };
        let started = at(-5_000 + i64::try_from(exam.sessions.len()).unwrap());
        let mut said = Said {
            participant: Some(participant),
            test: Some(test),
            external_id: Some(external_id),
            started: Some(started),
            finished: given.is_some(),
            given: given.map(f64::from),
            maximum: given.map(|_| 10.0),
            // Without parts, only the report has the score.
            parts: if given.is_some_and(|given| given.is_multiple_of(2)) { vec!["One".to_owned()] } else { Vec::new() },
            ..Said::default()
        };
        let known = exam.sessions.iter_mut().rfind(|session| session.last().1.participant == said.participant);
        match known.filter(|_| !again) {
            Some(session) => {
                said.started = session.last().1.started;
                session.states.push((second, said));
            }
            None => exam.sessions.push(Session { states: vec![(second, said)] }),
        }
    }

    /// Has the gateway read the feed at once.
    pub(super) fn read_feed(&mut self) {
        self.world.run(async |gateway| {
            gateway.read_feed_now(&caller(None), CONNECTION).unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        });
    }

    /// Compares the results with what the vendor says.
    pub(super) fn check_results(&self) -> Result<(), String> {
        let sessions = self.world.exam.lock().unwrap().sessions.clone();
        let mut results: BTreeMap<_, Vec<ExamResult>> = BTreeMap::new();
        let page = Page { limit: 1_000, after: None };
        for result in
            self.world.look(async |store| store.results(TENANT, &ResultFilter::default(), &page).await.unwrap())
        {
            self.check_versions(&result, &sessions)?;
            results.entry((result.series.clone(), result.key)).or_default().push(result);
        }
        for attempt in fold_sessions(&sessions) {
            let Attempt { person, series, folded } = attempt;
            let found = results.remove(&(series, folded.key)).unwrap_or_default();
            let identity = Identity::ExternalId(person.as_str().into());
            let known =
                self.world.look(async |store| store.candidates(TENANT, Some(CONNECTION), &identity).await.unwrap());
            let is_registered = known.iter().any(|candidate| candidate.state == CandidateState::Registered);
            if found.len() > 1 || (found.is_empty() && is_registered) || (!found.is_empty() && known.is_empty()) {
                return Err(format!("{} results of {person} ({known:?}): {folded:?}", found.len()));
            }
            let state = &folded.state;
            for result in found {
                let shown = &result.state;
                let same = shown.attempt.times == state.times
                    && (shown.activity, shown.grading, shown.score) == (state.activity, state.grading, state.score)
                    && shown.parts == state.parts
                    && known.iter().any(|candidate| candidate.id == shown.candidate);
                if !same {
                    return Err(format!("{result:?} should be {folded:?}"));
                }
            }
        }
        results.into_values().flatten().next().map_or(Ok(()), |result| Err(format!("nothing was said of {result:?}")))
    }

    /// Checks that the versions of a result have no gaps, and that each says what the vendor has said.
    fn check_versions(&self, result: &ExamResult, sessions: &[Session]) -> Result<(), String> {
        let versions = self.world.look(async |store| store.result_versions(TENANT, &result.id).await.unwrap());
        if !versions.iter().map(|version| version.version).eq(1..=result.version) {
            return Err(format!("{versions:?} of {result:?}"));
        }
        for version in versions {
            let given = version.state.score.map(|score| score.given.get());
            let started = version.state.attempt.times.started;
            let mut said = sessions.iter().flat_map(|session| &session.states);
            let says = |said: &Said| said.started == started && said.given == given;
            if !said.any(|(_, said)| says(said) || says(&entry(said))) {
                return Err(format!("the vendor never said {version:?}"));
            }
        }
        Ok(())
    }
}

/// An attempt as the vendor says it.
struct Attempt {
    person: String,
    series: crate::domain::results::SeriesKey,
    folded: FoldedAttempt,
}

/// Folds what the vendor says last of each session.
fn fold_sessions(sessions: &[Session]) -> Vec<Attempt> {
    let mut series: BTreeMap<_, (String, Vec<Sighting>)> = BTreeMap::new();
    for (session, arrival) in sessions.iter().zip(0_u64..) {
        let (modified, said) = session.last();
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&arrival.to_be_bytes());
        let reading = read_said(&said.body(), &ReportContext::default(), |_| {}).reading.unwrap();
        let (kind, digest, as_of) = (ReportKind::FeedItem, crate::domain::results::ReportDigest(digest), at(*modified));
        let key = reading.series.clone();
        let (_, sightings) = series.entry(key).or_insert_with(|| (said.external_id.clone().unwrap(), Vec::new()));
        sightings.push(Sighting { kind, digest, as_of, arrival, reading });
    }
    let settings = fold_settings(ScoringRules::default());
    let attempts = series.into_iter().flat_map(|(series, (person, sightings))| {
        fold(&sightings, &settings).into_iter().map(move |folded| Attempt {
            person: person.clone(),
            series: series.clone(),
            folded,
        })
    });
    attempts.collect()
}

proptest! {
    // Each has to wait for the next regular run of the feed, so that fewer are drawn.
    #![proptest_config(ProptestConfig { cases: config().cases * 2 / 5, ..config() })]

    #[test]
    fn results_are_the_fold_of_what_the_vendor_says(case in cases_with_feed()) {
        run_case(&case).map_err(TestCaseError::fail)?;
    }
}

/// Someone is registered and booked, begins, finishes, is corrected and opened again, and finishes at last; somebody else
/// becomes known after their test. The feed is read in between, and the fault comes before each reading in turn. Nothing is read
/// a second time without need: the overlap would hide what a commit has left out.
fn history(fault: &Step, before: usize) -> Case {
    let register = |person| {
        let newcomer = Newcomer { person, user_name: false, password: false, if_exists: IfCandidateExists::Reuse };
        Step::Ask { wish: Wish::Register(newcomer), keyed: false, patience: None }
    };
    let order = Order { person: 0, exam: 0, if_exists: IfAssignmentExists::Reuse, mail: false, by_id: false };
    let booked = |given| Step::Sit(Sitting { who: 0, walks_in: false, again: false, given });
    let unknown = |given| Step::Sit(Sitting { who: 1, walks_in: true, again: false, given });
    let rounds = [
        vec![
            register(0),
            Step::Ask { wish: Wish::Book(order), keyed: false, patience: None },
            booked(None),
            unknown(None),
        ],
        vec![booked(Some(4)), unknown(Some(6))],
        vec![booked(Some(7)), register(1)],
        vec![booked(None), unknown(Some(5))],
        vec![booked(Some(4))],
    ];
    let mut steps = Vec::new();
    for (number, round) in rounds.into_iter().enumerate() {
        steps.extend(round);
        // What was modified in the second in which the feed is read is read again.
        steps.push(Step::Pass { seconds: 2 });
        if number == before {
            steps.push(fault.clone());
        }
        steps.extend([Step::ReadFeed, Step::Pass { seconds: 9 }]);
    }
    Case { profile: Profile::Employees, seed: 1, scripts: Vec::new(), steps, overlap: Some(SignedDuration::ZERO) }
}

#[test]
fn a_failure_of_the_store_or_a_kill_at_any_point_of_a_run_changes_no_result() {
    let mut faults = Vec::new();
    for after in 0..3_u8 {
        for point in [CrashPoint::BeforeCommit, CrashPoint::AfterCommit, CrashPoint::BeforeCall, CrashPoint::DuringCall]
        {
            faults.push(Step::Doom(vec![(point, after.into())]));
        }
        faults.push(Step::Away { after, changes: 1 });
        faults.extend([true, false].map(|done| Step::Doubt { after, changes: 1, done }));
    }
    faults.extend((0..24).step_by(6).map(|after| Step::Unread { after, reads: 2 }));
    for fault in faults {
        for before in 0..5 {
            run_case(&history(&fault, before))
                .unwrap_or_else(|wrong| panic!("{fault:?} before reading {before}: {wrong}"));
        }
    }
}
