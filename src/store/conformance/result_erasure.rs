//! Required behaviour of every engine: whom reports are about, and what an erasure leaves of them.

use super::reports::{change, due, parked, update};
use super::results::{participant, put, record};
use super::*;
use crate::domain::results::{MatchHints, Report, ReportState, SeriesKey};
use crate::store::{ReportChange, ReportFilter, ReportHint, ResultFilter};

const PAGE: Page = Page { limit: 99, after: None };

/// Returns a booking of the candidate with this registration.
pub(crate) fn registered(make: &Maker, candidate: &Candidate, participant: &str) -> Assignment {
    Assignment {
        candidate_id: Some(candidate.id.clone()),
        vendor_ref: Map::from_iter([("id".to_owned(), json!(participant))]),
        ..make.assignment(&candidate.tenant, &candidate.connection, &make.name("subject"))
    }
}

fn by_email(candidate: &Candidate) -> MatchHints {
    MatchHints { email: candidate.person.email.clone(), ..MatchHints::default() }
}

/// Asserts that a report is dismissed and has nothing of a person.
async fn assert_dismissed(store: &dyn Store, report: &Report) {
    let left = store.report(&report.id).await.unwrap().unwrap();
    let Report { id, tenant, connection, kind, received, as_of, digest, .. } = report.clone();
    let expected = Report {
        id,
        tenant,
        connection,
        kind,
        state: ReportState::Dismissed,
        parked_for: None,
        rejection: None,
        received,
        as_of,
        digest,
        repeats: left.report.repeats,
        by_hand: false,
        context: crate::domain::results::ReportContext { participant: None, ..report.context.clone() },
        candidate: None,
        assignment: None,
        result: None,
    };
    assert_eq!((&left.report, &left.reading), (&expected, &None));
    assert_eq!(store.report_body(&report.id).await.unwrap(), None);
}

pub(crate) async fn bookings_are_found_by_registration_and_person(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let booked = registered(&make, &candidate, "p-1");
    let numbered = Assignment {
        vendor_ref: Map::from_iter([("id".to_owned(), json!(77))]),
        ..make.assignment(&make.name("tenant"), connection, "s")
    };
    let elsewhere = Assignment { connection: make.name("connection"), ..registered(&make, &candidate, "p-1") };
    let external = candidate.person.external_id.clone().unwrap();
    let unlinked = Assignment {
        identity: Some(Identity::ExternalId(external.clone())),
        state: AssignmentState::Unknown,
        ..make.assignment(tenant, connection, "u")
    };
    for assignment in [&booked, &numbered, &elsewhere, &unlinked] {
        store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    }
    let of = async |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        store.assignments_of_participants(connection, &ids).await.unwrap()
    };
    assert_eq!(of(&["p-1", "unheard-of"]).await, std::slice::from_ref(&booked));
    assert_eq!(of(&["77"]).await, std::slice::from_ref(&numbered));
    assert_eq!(of(&[]).await, []);
    // A registration that becomes known later is found from then on, also under several.
    let later = Assignment { vendor_ref: Map::from_iter([("id".to_owned(), json!("p-2"))]), ..unlinked.clone() };
    store.commit(vec![Mutation::Assignment(later.clone())]).await.unwrap();
    assert_eq!(of(&["p-2", "p-1", "p-2"]).await, [booked.clone(), later.clone()]);

    let identities = [Identity::ExternalId(external), Identity::UserName("unheard-of".into())];
    let people =
        store.assignments_of_people(connection, std::slice::from_ref(&candidate.id), &identities).await.unwrap();
    assert_eq!(people, [booked.clone(), later.clone()]);
    assert_eq!(store.assignments_of_people(connection, &[], &identities).await.unwrap(), std::slice::from_ref(&later));
    assert_eq!(store.assignments_of_people(connection, &[], &[]).await.unwrap(), []);
    let there = store.assignments_of_people(&elsewhere.connection, std::slice::from_ref(&candidate.id), &identities);
    assert_eq!(there.await.unwrap(), [elsewhere]);

    let cancelled = Assignment { state: AssignmentState::Cancelled, ..booked.clone() };
    assert_eq!(
        store.booked_assignments(connection, None, 9).await.unwrap(),
        [booked.clone(), numbered.clone(), later.clone()]
    );
    assert_eq!(
        store.booked_assignments(connection, Some(&booked.id), 1).await.unwrap(),
        std::slice::from_ref(&numbered)
    );
    store.commit(vec![Mutation::Assignment(cancelled)]).await.unwrap();
    assert_eq!(store.booked_assignments(connection, None, 9).await.unwrap(), [numbered, later]);
    assert!(store.index_participants(10).await.unwrap(), "nothing is left of an earlier version");
}

pub(crate) async fn candidates_of_all_tenants_are_found_at_a_connection(store: Arc<dyn Store>, make: Maker) {
    let one = make.claimed(&*store).await;
    let connection = &one.connection.clone();
    let photo = Some("QUJD".to_owned().into());
    let person = Person { email: one.person.email.clone(), photo, ..make.person() };
    let mut two = make.candidate(&make.name("tenant"), connection, person);
    assert_eq!(make.claim(&*store, &two).await, BeginResult::Begun);
    two.person.photo = None;
    let elsewhere = make.candidate(&one.tenant, &make.name("connection"), one.person.clone());
    assert_eq!(make.claim(&*store, &elsewhere).await, BeginResult::Begun);
    let email = one.person.email.clone().map(Identity::Email).unwrap();
    let external = one.person.external_id.clone().map(Identity::ExternalId).unwrap();
    let at = async |name: &str, identities: &[Identity]| {
        let mut found = store.candidates_at(name, identities).await.unwrap();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found
    };
    assert_eq!(at(connection, std::slice::from_ref(&email)).await, [one.clone(), two.clone()]);
    assert_eq!(at(connection, std::slice::from_ref(&external)).await, std::slice::from_ref(&one));
    assert_eq!(at(connection, &[external, email.clone()]).await, [one, two]);
    assert_eq!(at(&elsewhere.connection, &[email]).await, std::slice::from_ref(&elsewhere));
    assert_eq!(at(connection, &[Identity::Email("unheard-of@example.org".into())]).await, []);
    assert_eq!(at(connection, &[]).await, []);
}

pub(crate) async fn an_erasure_leaves_no_result_and_dismisses_the_reports(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, id, .. } = &candidate;
    let neighbour = make.candidate(tenant, connection, make.person());
    make.claim(&*store, &neighbour).await;
    store.commit(vec![Mutation::Assignment(registered(&make, &candidate, "p-booked"))]).await.unwrap();
    let own = SeriesKey::CandidateAtTest { candidate: id.to_string(), test: Some("1401".to_owned()) };
    let applied = [make.applied(&*store, &candidate, &participant("p-own")), make.applied(&*store, &candidate, &own)];
    let (result, first) = make.result(&candidate, &own);
    let (theirs, their_first) = make.result(&neighbour, &participant("p-theirs"));
    // It has the erased person's address, too.
    let mut kept = make.applied(&*store, &neighbour, &participant("p-theirs"));
    kept.reading.as_mut().unwrap().hints = by_email(&candidate);
    // Parked, though its person is known, and parked without that.
    let mut waiting = parked(&make, &*store, tenant, connection, MatchHints::default());
    waiting.report.candidate = Some(id.clone());
    let hinted = parked(&make, &*store, tenant, connection, by_email(&candidate));
    let of_booking = MatchHints { participant: Some("p-booked".to_owned()), ..MatchHints::default() };
    let of_booking = parked(&make, &*store, tenant, connection, of_booking);
    let strange = parked(&make, &*store, tenant, connection, by_email(&neighbour));
    let mut changes: Vec<Mutation> =
        applied.iter().chain([&kept, &waiting, &hinted, &of_booking, &strange]).map(record).collect();
    changes.extend([put(&result, Some(&first)), put(&theirs, Some(&their_first))]);
    store.commit(changes).await.unwrap();

    store.commit(vec![Mutation::EraseCandidate(id.clone())]).await.unwrap();
    assert_eq!(store.result(tenant, &result.id).await.unwrap(), None);
    assert_eq!(store.result_versions(tenant, &result.id).await.unwrap(), []);
    assert_eq!(store.results_of_candidate(id, "fa19e351").await.unwrap(), []);
    for report in applied.iter().chain([&waiting, &hinted, &of_booking]) {
        assert_dismissed(&*store, &report.report).await;
    }
    let series = store.series(connection, &[participant("p-own"), own.clone()]).await.unwrap();
    assert!(series.iter().all(|series| series.sightings.is_empty() && series.results.is_empty()));
    // Everyone else's stay.
    assert_eq!(store.results(tenant, &ResultFilter::default(), &PAGE).await.unwrap(), std::slice::from_ref(&theirs));
    assert_eq!(store.report_body(&kept.report.id).await.unwrap(), kept.body);
    assert_eq!(store.series(connection, &[participant("p-theirs")]).await.unwrap()[0].sightings.len(), 1);
    assert_eq!(due(&*store, connection).await, std::slice::from_ref(&strange.report.id));
    let filter = ReportFilter { state: Some(ReportState::Dismissed), connections: None };
    assert_eq!(store.reports(Some(tenant), &filter, &PAGE).await.unwrap().len(), 5);

    let email = |candidate: &Candidate| ReportHint::Email(candidate.person.email.clone().unwrap().to_string());
    let hints = [
        ReportHint::Participant("p-booked".to_owned()),
        ReportHint::Participant("planted-participant".to_owned()),
        ReportHint::ExternalId(candidate.person.external_id.clone().unwrap().to_string()),
        email(&candidate),
        email(&neighbour),
        ReportHint::Participant("p-theirs".to_owned()),
    ];
    assert_eq!(store.erased_hints(connection, &hints).await.unwrap(), [true, true, true, true, false, false]);
    assert_eq!(store.erased_hints(&make.name("connection"), &hints).await.unwrap(), [false; 6]);
    assert!(store.erased_hints(connection, &[]).await.unwrap().is_empty());
}

pub(crate) async fn late_reports_and_results_of_an_erased_candidate_leave_nothing(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, id, .. } = &candidate;
    let series = participant("p");
    let waiting = parked(&make, &*store, tenant, connection, MatchHints::default());
    let (mut result, first) = make.result(&candidate, &series);
    store.commit(vec![record(&waiting), put(&result, Some(&first))]).await.unwrap();
    let read = store.report(&waiting.report.id).await.unwrap().unwrap();
    store.commit(vec![Mutation::EraseCandidate(id.clone())]).await.unwrap();
    // What was read before the erasure is written after it.
    let late = make.applied(&*store, &candidate, &series);
    let applied = Report { state: ReportState::Applied, candidate: Some(id.clone()), ..read.report.clone() };
    let matched = ReportChange { report: applied, series: Some(series.clone()), ..change(read) };
    result.as_of = make.0.now();
    let (other, version) = make.result(&candidate, &series);
    let changes = vec![record(&late), update(matched), put(&result, None), put(&other, Some(&version))];
    store.commit(changes).await.unwrap();
    assert_dismissed(&*store, &late.report).await;
    assert_dismissed(&*store, &waiting.report).await;
    assert_eq!(store.results(tenant, &ResultFilter::default(), &PAGE).await.unwrap(), []);
    assert!(store.series(connection, &[series]).await.unwrap()[0].sightings.is_empty());
    // The same report again is still the same one.
    let found = store.reports_by_digest(connection, &[late.report.digest]).await.unwrap();
    assert_eq!(found.iter().map(|report| &report.id).collect::<Vec<_>>(), [&late.report.id]);
    assert!(matches!(store.commit(vec![record(&late)]).await, Err(StoreError::Superseded)));
}

pub(crate) async fn a_report_that_may_be_about_another_person_outlives_an_erasure(store: Arc<dyn Store>, make: Maker) {
    let erased = make.claimed(&*store).await;
    let Candidate { tenant, connection, .. } = &erased;
    // Of another tenant, with the same e-mail address, which is no identity at this connection.
    let person = Person { email: erased.person.email.clone(), ..make.person() };
    let other = make.candidate(&make.name("tenant"), connection, person);
    assert_eq!(make.claim(&*store, &other).await, BeginResult::Begun);
    let hints =
        |external: &Candidate| MatchHints { external_id: external.person.external_id.clone(), ..by_email(&erased) };
    let ambiguous = parked(&make, &*store, tenant, connection, by_email(&erased));
    let named = parked(&make, &*store, tenant, connection, hints(&erased));
    let reports = [&ambiguous, &named];
    store.commit(reports.map(record).to_vec()).await.unwrap();
    let read = store.due_reports(connection, 9).await.unwrap();
    store.commit(read.into_iter().map(change).map(update).collect()).await.unwrap();
    assert_eq!(due(&*store, connection).await, []);
    store.commit(vec![Mutation::EraseCandidate(erased.id.clone())]).await.unwrap();
    assert_eq!(due(&*store, connection).await, std::slice::from_ref(&ambiguous.report.id), "it is no longer ambiguous");
    assert_dismissed(&*store, &named.report).await;
    let email = ReportHint::Email(erased.person.email.clone().unwrap().to_string());
    assert_eq!(store.erased_hints(connection, std::slice::from_ref(&email)).await.unwrap(), [false]);
    store.commit(vec![Mutation::EraseCandidate(other.id.clone())]).await.unwrap();
    assert_dismissed(&*store, &ambiguous.report).await;
    assert_eq!(store.erased_hints(connection, &[email]).await.unwrap(), [true]);
}

pub(crate) async fn a_dismissed_report_without_a_reading_loses_its_body(store: Arc<dyn Store>, make: Maker) {
    let connection = make.name("connection");
    let reports = [(); 2].map(|()| parked(&make, &*store, "t", &connection, MatchHints::default()));
    store.commit(reports.iter().map(record).collect()).await.unwrap();
    for (place, stored) in store.due_reports(&connection, 9).await.unwrap().into_iter().enumerate() {
        let mut change = change(stored);
        change.report.state = ReportState::Dismissed;
        // As a person dismisses it, and as it is dismissed because its person was erased.
        change.reading = change.reading.filter(|_| place == 0);
        store.commit(vec![update(change)]).await.unwrap();
    }
    assert_eq!(store.report_body(&reports[0].report.id).await.unwrap(), reports[0].body);
    assert_eq!(store.report_body(&reports[1].report.id).await.unwrap(), None);
    assert_eq!(store.report(&reports[0].report.id).await.unwrap().unwrap().reading, reports[0].reading);
}

pub(crate) async fn an_erasure_finds_what_a_person_has_dismissed(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, id, .. } = &candidate;
    let report = parked(&make, &*store, tenant, connection, by_email(&candidate));
    store.commit(vec![record(&report)]).await.unwrap();
    let mut change = change(store.due_reports(connection, 9).await.unwrap().remove(0));
    change.report.state = ReportState::Dismissed;
    store.commit(vec![update(change)]).await.unwrap();
    let hint = ReportHint::Email(candidate.person.email.clone().unwrap().to_string());
    store.commit(vec![Mutation::RecheckReports(connection.clone(), vec![hint])]).await.unwrap();
    assert_eq!(due(&*store, connection).await, [], "it waits for nothing");
    assert_eq!(store.report_body(&report.report.id).await.unwrap(), report.body);
    store.commit(vec![Mutation::EraseCandidate(id.clone())]).await.unwrap();
    assert_dismissed(&*store, &report.report).await;
}
