//! Required behaviour of every engine: results with their versions, and how far feeds were read.

use super::*;
use crate::domain::ids::{ReportId, ResultId};
use crate::domain::results::{
    Activity, AttemptKey, AttemptState, AttemptTimes, ExamResult, Grading, Match, MatchHints, Provenance, Reading,
    Report, ReportContext, ReportKind, ReportState, ReportedScore, ResultOwner, ResultState, ResultVersion, SeriesKey,
    digest_input,
};
use crate::store::{FeedPosition, NewReport, ResultFilter};

/// Returns the series of a registration.
pub(crate) fn participant(name: &str) -> SeriesKey {
    SeriesKey::Participant(name.to_owned())
}

pub(super) fn reading(participant: &str) -> Reading {
    let hints = MatchHints { participant: Some(participant.to_owned()), ..MatchHints::default() };
    Reading {
        series: SeriesKey::Participant(participant.to_owned()),
        hints,
        times: AttemptTimes::default(),
        finished: true,
        closed_by: None,
        score: ReportedScore::default(),
        level: Some("planted-level".to_owned()),
        parts: Vec::new(),
        warnings: Vec::new(),
    }
}

impl Maker {
    /// Returns a report of the connection that belongs to no one.
    pub(crate) fn report(&self, store: &dyn Store, connection: &str, state: ReportState) -> Report {
        let (now, canonical) = (self.0.now(), self.name("canonical"));
        Report {
            id: ReportId::generate(&self.0),
            tenant: None,
            connection: connection.to_owned(),
            kind: ReportKind::FeedItem,
            state,
            parked_for: None,
            rejection: None,
            received: now,
            as_of: now,
            digest: store.report_digest(&digest_input(connection, ReportKind::FeedItem, canonical.as_bytes())),
            repeats: 0,
            by_hand: false,
            context: ReportContext { center: Some("center".to_owned()), ..ReportContext::default() },
            candidate: None,
            assignment: None,
            result: None,
        }
    }

    /// Returns a report of the candidate in this series, with a body.
    pub(crate) fn applied(&self, store: &dyn Store, candidate: &Candidate, series: &SeriesKey) -> NewReport {
        let report = Report {
            tenant: Some(candidate.tenant.clone()),
            candidate: Some(candidate.id.clone()),
            ..self.report(store, &candidate.connection, ReportState::Applied)
        };
        let reading = Reading { series: series.clone(), ..reading("planted-participant") };
        NewReport { report, body: Some(b"planted-body".to_vec()), reading: Some(reading), series: Some(series.clone()) }
    }

    /// Returns a finished attempt of the candidate, with its first version.
    pub(crate) fn result(&self, candidate: &Candidate, series: &SeriesKey) -> (ExamResult, ResultVersion) {
        let attempt = AttemptState {
            times: AttemptTimes::default(),
            closed_by: None,
            activity: Activity::Completed,
            grading: Grading::FullyGraded,
            score: None,
            level: Some("planted-level".to_owned()),
            passed: None,
            parts: Vec::new(),
            warnings: Vec::new(),
        };
        let matched = Match {
            assessment_ref: "fa19e351".to_owned(),
            candidate: candidate.id.clone(),
            assignment: None,
            vendor_ref: Map::new(),
            warnings: Vec::new(),
        };
        let owner = ResultOwner {
            id: ResultId::generate(&self.0),
            tenant: candidate.tenant.clone(),
            connection: candidate.connection.clone(),
            series: series.clone(),
        };
        let now = self.0.now();
        let provenance = Provenance { as_of: now, source: ReportKind::FeedItem };
        ExamResult::create(owner, AttemptKey::Series, ResultState::of(attempt, 1, matched), provenance, now)
    }

    /// Records a result of the candidate.
    pub(crate) async fn recorded(
        &self,
        store: &dyn Store,
        candidate: &Candidate,
        change: impl FnOnce(&mut ExamResult),
    ) -> ExamResult {
        let (mut result, mut first) = self.result(candidate, &participant(&self.name("participant")));
        change(&mut result);
        first.state = result.state.clone();
        store.commit(vec![put(&result, Some(&first))]).await.unwrap();
        result
    }
}

pub(crate) fn record(report: &NewReport) -> Mutation {
    Mutation::Report(Box::new(report.clone()))
}

pub(crate) fn put(result: &ExamResult, version: Option<&ResultVersion>) -> Mutation {
    Mutation::Result(Box::new(result.clone()), version.cloned().map(Box::new))
}

/// Gives the result another level; returns the version.
fn revise(make: &Maker, result: &mut ExamResult, level: &str) -> ResultVersion {
    let state = ResultState { level: Some(level.to_owned()), ..result.state.clone() };
    let provenance = Provenance { as_of: make.0.now(), source: ReportKind::FetchedReport };
    result.revise(result.key, state, provenance, make.0.now()).unwrap()
}

pub(crate) async fn a_result_has_its_versions(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, .. } = &candidate;
    let (mut result, first) = make.result(&candidate, &participant("p"));
    store.commit(vec![put(&result, Some(&first))]).await.unwrap();
    assert_eq!(store.result(tenant, &result.id).await.unwrap().as_ref(), Some(&result));
    // What makes no version replaces the result all the same.
    result.as_of = make.0.now();
    store.commit(vec![put(&result, None)]).await.unwrap();
    // Two versions of one transaction.
    let second = revise(&make, &mut result, "second");
    let before = result.clone();
    let third = revise(&make, &mut result, "third");
    store.commit(vec![put(&before, Some(&second)), put(&result, Some(&third))]).await.unwrap();
    assert_eq!(store.result(tenant, &result.id).await.unwrap().as_ref(), Some(&result));
    assert_eq!(store.result_versions(tenant, &result.id).await.unwrap(), [first, second, third]);

    let stranger = make.name("tenant");
    assert_eq!(store.result(&stranger, &result.id).await.unwrap(), None);
    assert_eq!(store.result_versions(&stranger, &result.id).await.unwrap(), []);
    let page = Page { limit: 9, after: None };
    assert_eq!(store.results(&stranger, &ResultFilter::default(), &page).await.unwrap(), []);
}

pub(crate) async fn a_version_is_made_of_the_one_before_only(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let (mut result, first) = make.result(&candidate, &participant("p"));
    store.commit(vec![put(&result, Some(&first))]).await.unwrap();
    let mut other = result.clone();
    let theirs = revise(&make, &mut other, "theirs");
    store.commit(vec![put(&other, Some(&theirs))]).await.unwrap();
    let mine = revise(&make, &mut result, "mine");
    let watermark = FeedPosition {
        connection: make.name("connection"),
        center: String::new(),
        watermark: make.0.now(),
        read: make.0.now(),
    };
    let late = vec![Mutation::Watermark(watermark.clone()), put(&result, Some(&mine))];
    assert!(matches!(store.commit(late).await, Err(StoreError::Superseded)));
    let (new, gap) = make.result(&candidate, &participant("q"));
    let gap = ResultVersion { version: 2, ..gap };
    let new = ExamResult { version: 2, ..new };
    assert!(matches!(store.commit(vec![put(&new, Some(&gap))]).await, Err(StoreError::Superseded)));
    let stale = ExamResult { version: 1, ..other.clone() };
    assert!(matches!(store.commit(vec![put(&stale, None)]).await, Err(StoreError::Superseded)));
    assert_eq!(store.result(&candidate.tenant, &other.id).await.unwrap().as_ref(), Some(&other));
    assert_eq!(store.result_versions(&candidate.tenant, &other.id).await.unwrap(), [first, theirs]);
    assert_eq!(store.feed_positions(&watermark.connection).await.unwrap(), [], "nothing was written");
}

pub(crate) async fn results_are_filtered(store: Arc<dyn Store>, make: Maker) {
    let one = make.claimed(&*store).await;
    let two = make.candidate(&one.tenant, &make.name("connection"), make.person());
    make.claim(&*store, &two).await;
    let theirs = make.claimed(&*store).await;
    let booked = AssignmentId::generate(&make.0);
    let first = make.recorded(&*store, &one, |result| result.state.assignment = Some(booked.clone())).await;
    let second = make
        .recorded(&*store, &one, |result| {
            result.state.assessment_ref = "other".to_owned();
            result.state.activity = Activity::InProgress;
            result.state.grading = Grading::NotReady;
        })
        .await;
    let third = make.recorded(&*store, &two, |result| result.state.grading = Grading::Pending).await;
    // Another tenant's result names the same booking and the same test.
    make.recorded(&*store, &theirs, |result| result.state.assignment = Some(booked.clone())).await;
    let any = ResultFilter::default;
    let of = |candidates: &[&Candidate]| {
        let ids = candidates.iter().map(|candidate| candidate.id.clone()).collect();
        ResultFilter { candidates: Some(ids), ..any() }
    };
    let tests = |refs: &[&str]| Some(refs.iter().map(|text| (*text).to_owned()).collect());
    let cases = [
        (any(), vec![&third, &second, &first]),
        (ResultFilter { assignment: Some(booked.clone()), ..any() }, vec![&first]),
        (ResultFilter { assignment: Some(booked), ..of(&[&two]) }, vec![]),
        (ResultFilter { assignment: Some(AssignmentId::generate(&make.0)), ..any() }, vec![]),
        (of(&[&one]), vec![&second, &first]),
        (of(&[&one, &two, &theirs]), vec![&third, &second, &first]),
        (of(&[]), vec![]),
        (ResultFilter { assessment_refs: tests(&["fa19e351"]), ..any() }, vec![&third, &first]),
        (ResultFilter { assessment_refs: tests(&["fa19e351"]), ..of(&[&one]) }, vec![&first]),
        (ResultFilter { assessment_refs: tests(&["\0", "fa19e351", ""]), ..any() }, vec![&third, &first]),
        (ResultFilter { assessment_refs: tests(&["fa19", "e351", "fa19e351\nother"]), ..any() }, vec![]),
        (ResultFilter { connections: Some(vec![two.connection.clone()]), ..any() }, vec![&third]),
        (ResultFilter { connections: Some(Vec::new()), ..any() }, vec![]),
        (ResultFilter { activity: Some(Activity::InProgress), ..any() }, vec![&second]),
        (ResultFilter { grading: Some(Grading::Pending), ..any() }, vec![&third]),
        (ResultFilter { grading: Some(Grading::Pending), activity: Some(Activity::InProgress), ..any() }, vec![]),
        (ResultFilter { modified_since: Some(second.last_modified), ..any() }, vec![&third, &second]),
    ];
    for (filter, expected) in cases {
        let page = |limit, after: Option<&ExamResult>| Page { limit, after: after.map(|last| last.id.to_string()) };
        let found = store.results(&one.tenant, &filter, &page(9, None)).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        // The same in pages of one.
        let mut after = None;
        for expected in &expected {
            let found = store.results(&one.tenant, &filter, &page(1, after)).await.unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), [*expected], "{filter:?}");
            after = Some(expected);
        }
        assert_eq!(
            store.results(&one.tenant, &filter, &page(1, after)).await.unwrap().len(),
            usize::from(after.is_none() && !found.is_empty())
        );
    }
    let page = Page { limit: 9, after: Some("\0".to_owned()) };
    assert_eq!(store.results(&one.tenant, &any(), &page).await.unwrap(), []);
}

pub(crate) async fn results_of_bookings_and_candidates_are_found(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let bookings = [(); 3].map(|()| AssignmentId::generate(&make.0));
    let mut results = Vec::new();
    for booking in [Some(&bookings[0]), Some(&bookings[1]), None] {
        results.push(make.recorded(&*store, &candidate, |result| result.state.assignment = booking.cloned()).await);
    }
    let other = make.recorded(&*store, &candidate, |result| result.state.assessment_ref = "other".to_owned()).await;
    let mut found = store.results_of_assignments(&bookings).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(found, results[..2]);
    assert_eq!(store.results_of_assignments(&[]).await.unwrap(), []);
    assert_eq!(store.results_of_candidate(&candidate.id, "fa19e351").await.unwrap(), results);
    assert_eq!(store.results_of_candidate(&candidate.id, "other").await.unwrap(), [other]);
    // A result that is claimed by another booking is found by that one only.
    let mut moved = results[0].clone();
    let state = ResultState { assignment: Some(bookings[2].clone()), ..moved.state.clone() };
    let provenance = Provenance { as_of: moved.as_of, source: moved.source };
    let version = moved.revise(moved.key, state, provenance, make.0.now()).unwrap();
    store.commit(vec![put(&moved, Some(&version))]).await.unwrap();
    assert_eq!(store.results_of_assignments(&bookings[..1]).await.unwrap(), []);
    assert_eq!(store.results_of_assignments(&bookings[2..]).await.unwrap(), [moved]);
}

pub(crate) async fn a_watermark_never_moves_backwards(store: Arc<dyn Store>, make: Maker) {
    let (here, there) = (make.name("connection"), make.name("connection"));
    let (early, late) = (make.0.now(), make.0.now() + 1.hours());
    let at = |connection: &str, center: &str, watermark| FeedPosition {
        connection: connection.to_owned(),
        center: center.to_owned(),
        watermark,
        read: watermark,
    };
    let mark = |position: &FeedPosition| Mutation::Watermark(position.clone());
    let (own, other) = (at(&here, "", late), at(&here, "c", early));
    store.commit(vec![mark(&own), mark(&other), mark(&at(&there, "", early))]).await.unwrap();
    store.commit(vec![mark(&at(&here, "", early)), mark(&at(&here, "", early))]).await.unwrap();
    assert_eq!(store.feed_positions(&here).await.unwrap(), [own.clone(), other]);
    let moved = [at(&here, "c", late), at(&here, "c", early)];
    store.commit(moved.iter().map(mark).collect()).await.unwrap();
    assert_eq!(store.feed_positions(&here).await.unwrap(), [own, at(&here, "c", late)]);
    assert_eq!(store.feed_positions(&make.name("connection")).await.unwrap(), []);
}

pub(crate) async fn a_sweep_is_remembered_for_its_connection(store: Arc<dyn Store>, make: Maker) {
    let (connection, now) = (make.name("connection"), make.0.now());
    assert_eq!(store.last_sweep(&connection).await.unwrap(), None);
    for begun in [now, now + 1.hours()] {
        store.commit(vec![Mutation::RecordSweep(connection.clone(), begun)]).await.unwrap();
        assert_eq!(store.last_sweep(&connection).await.unwrap(), Some(begun));
    }
    assert_eq!(store.last_sweep(&make.name("other")).await.unwrap(), None);
}
