//! Required behaviour of every engine: received webhooks and reports.

use super::results::{participant, put, reading, record};
use super::*;
use crate::domain::results::{
    MatchHints, ParkReason, Reading, Report, ReportContext, ReportState, SeriesKey, digest_input,
};
use crate::store::{NewReport, ReceivedWebhook, RepeatedReport, ReportChange, ReportFilter, ReportHint, StoredReport};

fn webhook(make: &Maker, connection: &str, body: &[u8]) -> ReceivedWebhook {
    let context = ReportContext { assessment: Some("1401".to_owned()), ..ReportContext::default() };
    ReceivedWebhook { id: 0, connection: connection.to_owned(), context, arrived: make.0.now(), body: body.to_vec() }
}

/// Returns a parked report with these hints, of a tenant.
pub(crate) fn parked(make: &Maker, store: &dyn Store, tenant: &str, connection: &str, hints: MatchHints) -> NewReport {
    let report = Report {
        tenant: Some(tenant.to_owned()),
        parked_for: Some(ParkReason::UnknownCandidate),
        ..make.report(store, connection, ReportState::Parked)
    };
    let reading = Reading { hints, ..reading("p") };
    NewReport { report, body: Some(b"planted-body".to_vec()), reading: Some(reading), series: None }
}

/// Returns the change of a report that leaves it as it is.
pub(crate) fn change(stored: StoredReport) -> ReportChange {
    let StoredReport { report, reading, arrival: _, rechecks } = stored;
    ReportChange { report, reading, series: None, rechecks }
}

pub(crate) fn update(change: ReportChange) -> Mutation {
    Mutation::UpdateReport(Box::new(change))
}

pub(super) async fn due(store: &dyn Store, connection: &str) -> Vec<crate::domain::ids::ReportId> {
    store.due_reports(connection, 99).await.unwrap().into_iter().map(|stored| stored.report.id).collect()
}

pub(crate) async fn webhooks_are_kept_in_order_until_they_are_read(store: Arc<dyn Store>, make: Maker) {
    let (here, there) = (make.name("connection"), make.name("connection"));
    let sent: Vec<_> = [&b"one"[..], b"", &[0, 255, 10]].iter().map(|body| webhook(&make, &here, body)).collect();
    for webhook in &sent {
        store.commit(vec![Mutation::ReceiveWebhook(webhook.clone())]).await.unwrap();
        store
            .commit(vec![Mutation::ReceiveWebhook(ReceivedWebhook { connection: there.clone(), ..webhook.clone() })])
            .await
            .unwrap();
    }
    let kept = store.received_webhooks(&here, 9).await.unwrap();
    assert!(kept.is_sorted_by_key(|webhook| webhook.id));
    let without_ids: Vec<_> = kept.iter().map(|webhook| ReceivedWebhook { id: 0, ..webhook.clone() }).collect();
    assert_eq!(without_ids, sent);
    assert_eq!(store.received_webhooks(&here, 2).await.unwrap(), kept[..2]);

    let report =
        |store: &dyn Store| NewReport { body: None, ..parked(&make, store, "t", &here, MatchHints::default()) };
    let read = report(&*store);
    store.commit(vec![record(&read), Mutation::RemoveReceived(kept[0].id)]).await.unwrap();
    // Another instance has read it, too.
    let again = report(&*store);
    let late = store.commit(vec![record(&again), Mutation::RemoveReceived(kept[0].id)]).await;
    assert!(matches!(late, Err(StoreError::Superseded)), "{late:?}");
    assert_eq!(store.report(&again.report.id).await.unwrap(), None);
    assert_eq!(store.received_webhooks(&here, 9).await.unwrap(), kept[1..]);
    // A number is not given again.
    for webhook in &kept[1..] {
        store.commit(vec![Mutation::RemoveReceived(webhook.id)]).await.unwrap();
    }
    store.commit(vec![Mutation::ReceiveWebhook(sent[0].clone())]).await.unwrap();
    assert!(store.received_webhooks(&here, 9).await.unwrap()[0].id > kept[2].id);
    assert_eq!(store.received_webhooks(&there, 9).await.unwrap().len(), 3);
}

pub(crate) async fn a_report_is_recorded_once(store: Arc<dyn Store>, make: Maker) {
    let (here, there) = (make.name("connection"), make.name("connection"));
    let new = parked(&make, &*store, "t", &here, MatchHints::default());
    let other = make.report(&*store, &here, ReportState::Rejected);
    let other = NewReport { report: other, body: Some(b"{".to_vec()), reading: None, series: None };
    store.commit(vec![record(&new), record(&other)]).await.unwrap();
    let twin = Report { id: make.report(&*store, &here, ReportState::Parked).id, ..new.report.clone() };
    let twin = NewReport { report: twin, ..new.clone() };
    let fresh = parked(&make, &*store, "t", &here, MatchHints::default());
    for changes in [vec![record(&twin)], vec![record(&fresh), record(&twin)], vec![record(&fresh), record(&fresh)]] {
        let result = store.commit(changes).await;
        assert!(matches!(result, Err(StoreError::Superseded)), "{result:?}");
    }
    assert_eq!(store.report(&fresh.report.id).await.unwrap(), None);

    let digests = [new.report.digest, fresh.report.digest, other.report.digest];
    let mut found = store.reports_by_digest(&here, &digests).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(found, [new.report.clone(), other.report.clone()]);
    assert_eq!(store.reports_by_digest(&there, &digests).await.unwrap(), []);
    assert_eq!(store.reports_by_digest(&here, &[]).await.unwrap(), []);
    let stored = store.report(&new.report.id).await.unwrap().unwrap();
    assert_eq!((&stored.report, &stored.reading), (&new.report, &new.reading));
    assert_eq!(store.report_body(&new.report.id).await.unwrap(), new.body);
    let refused = store.report(&other.report.id).await.unwrap().unwrap();
    assert_eq!((&refused.report, refused.reading), (&other.report, None));
    assert!(refused.arrival > stored.arrival);
    assert_eq!(store.report_body(&fresh.report.id).await.unwrap(), None);
    // The digest depends on the connection.
    let input = |name: &str| digest_input(name, crate::domain::results::ReportKind::Webhook, b"{}");
    assert_ne!(store.report_digest(&input(&here)), store.report_digest(&input(&there)));
    assert_eq!(store.report_digest(&input(&here)), store.report_digest(&input(&here)));
}

pub(crate) async fn a_repeat_is_counted_and_moves_the_time_forward_only(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let series = participant("p");
    let new = make.applied(&*store, &candidate, &series);
    let (later, latest) = (new.report.as_of + 1.hours(), new.report.as_of + 2.hours());
    let repeat = |as_of| {
        let Report { connection, digest, id, .. } = new.report.clone();
        Mutation::RepeatReport(RepeatedReport { connection, digest, as_of, count: 1, id })
    };
    // Also in the transaction that records it.
    store.commit(vec![record(&new), repeat(Some(later))]).await.unwrap();
    for (times, expected) in
        [(vec![None], later), (vec![Some(latest), Some(later)], latest), (vec![Some(later)], latest)]
    {
        store.commit(times.iter().map(|as_of| repeat(*as_of)).collect()).await.unwrap();
        let stored = store.report(&new.report.id).await.unwrap().unwrap();
        assert_eq!(stored.report.as_of, expected);
        let of_series = store.series(&candidate.connection, std::slice::from_ref(&series)).await.unwrap();
        assert_eq!(of_series[0].sightings[0].as_of, expected);
    }
    let stored = store.report(&new.report.id).await.unwrap().unwrap();
    assert_eq!(stored.report, Report { repeats: 5, as_of: latest, ..new.report.clone() });
    // A change that was read before a repeat takes nothing back.
    let change = ReportChange { series: Some(series), ..change(StoredReport { report: new.report, ..stored.clone() }) };
    store.commit(vec![update(change)]).await.unwrap();
    assert_eq!(store.report(&stored.report.id).await.unwrap(), Some(stored));
    let counts = store.count_reports().await.unwrap();
    let of = |state| counts.iter().find(|count| count.connection == candidate.connection && count.state == state);
    assert_eq!(of(ReportState::Repeated).unwrap().count, 5);
    assert_eq!(of(ReportState::Applied).unwrap().count, 1);
}

pub(crate) async fn a_series_has_its_applied_reports_and_results(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { connection, .. } = &candidate;
    let at_test = |candidate: &str, test: Option<&str>| SeriesKey::CandidateAtTest {
        candidate: candidate.to_owned(),
        test: test.map(str::to_owned),
    };
    let keys = [participant("p"), at_test("c", Some("t")), at_test("c", None), participant("q")];
    let mut reports = Vec::new();
    let mut results = Vec::new();
    for place in [0, 1, 0, 2, 0, 1] {
        let report = make.applied(&*store, &candidate, &keys[place]);
        let (result, first) = make.result(&candidate, &keys[place]);
        store.commit(vec![record(&report), put(&result, Some(&first))]).await.unwrap();
        reports.push((place, report));
        results.push((place, result));
    }
    let stored = store.report(&reports[0].1.report.id).await.unwrap().unwrap();
    let mut other = reports[1].1.clone();
    other.report.state = ReportState::Rejected;
    other.report.digest = make.report(&*store, connection, ReportState::Rejected).digest;
    other.report.id = make.report(&*store, connection, ReportState::Rejected).id;
    store.commit(vec![record(&other)]).await.unwrap();
    let asked = [&keys[3], &keys[1], &keys[0], &keys[2], &keys[0]].map(Clone::clone);
    let found = store.series(connection, &asked).await.unwrap();
    for (series, (key, place)) in found.iter().zip(asked.iter().zip([3, 1, 0, 2, 0])) {
        assert_eq!(series.key, *key);
        let expected: Vec<_> =
            reports.iter().filter(|(of, _)| *of == place).map(|(_, new)| new.report.digest).collect();
        assert_eq!(series.sightings.iter().map(|sighting| sighting.digest).collect::<Vec<_>>(), expected, "{key:?}");
        assert!(series.sightings.is_sorted_by_key(|sighting| sighting.arrival));
        let expected: Vec<_> =
            results.iter().filter(|(of, _)| *of == place).map(|(_, result)| result.clone()).collect();
        assert_eq!(series.results, expected, "{key:?}");
    }
    assert_eq!(found[2].sightings[0].reading, stored.reading.clone().unwrap());
    assert_eq!(found[2].sightings[0].arrival, stored.arrival);
    let elsewhere = store.series(&make.name("connection"), &asked).await.unwrap();
    assert!(elsewhere.iter().all(|series| series.sightings.is_empty() && series.results.is_empty()));
    assert!(store.series(connection, &[]).await.unwrap().is_empty());
    // A report that is read again as one of another series leaves the first.
    store.commit(vec![update(ReportChange { series: Some(keys[3].clone()), ..change(stored) })]).await.unwrap();
    let found = store.series(connection, &keys).await.unwrap();
    assert_eq!(found.iter().map(|series| series.sightings.len()).collect::<Vec<_>>(), [2, 2, 1, 1]);
}

pub(crate) async fn parked_reports_are_looked_at_again_by_each_hint(store: Arc<dyn Store>, make: Maker) {
    let (here, there) = (make.name("connection"), make.name("connection"));
    let hints = MatchHints {
        participant: Some("p-1".to_owned()),
        external_id: Some("Emp-1".into()),
        email: Some("Jane@Example.com".into()),
        ..MatchHints::default()
    };
    let first = parked(&make, &*store, "t", &here, hints.clone());
    let second = parked(&make, &*store, "t", &here, MatchHints { participant: Some("p-2".to_owned()), ..hints });
    store.commit(vec![record(&first), record(&second)]).await.unwrap();
    let (one, two) = (&first.report.id, &second.report.id);
    assert_eq!(due(&*store, &here).await, [one.clone(), two.clone()], "what they wait for may be known already");
    assert_eq!(store.due_reports(&here, 1).await.unwrap().len(), 1);
    assert_eq!(due(&*store, &there).await, []);
    let settle = async || {
        let stored = store.due_reports(&here, 9).await.unwrap();
        store.commit(stored.into_iter().map(change).map(update).collect()).await.unwrap();
        assert_eq!(due(&*store, &here).await, []);
    };
    settle().await;
    let recheck =
        |connection: &str, hint: &ReportHint| Mutation::RecheckReports(connection.to_owned(), vec![hint.clone()]);
    let text = str::to_owned;
    let cases = [
        (ReportHint::Participant(text("p-1")), vec![one.clone()]),
        (ReportHint::Participant(text("p-2")), vec![two.clone()]),
        (ReportHint::Participant(text("p-3")), vec![]),
        (ReportHint::ExternalId(text("Emp-1")), vec![one.clone(), two.clone()]),
        (ReportHint::ExternalId(text("p-1")), vec![]),
        (ReportHint::Email(text("jane@example.com")), vec![one.clone(), two.clone()]),
        (ReportHint::Email(text("JANE@example.COM")), vec![one.clone(), two.clone()]),
    ];
    for (hint, expected) in cases {
        store.commit(vec![recheck(&there, &hint)]).await.unwrap();
        assert_eq!(due(&*store, &here).await, []);
        store.commit(vec![recheck(&here, &hint)]).await.unwrap();
        assert_eq!(due(&*store, &here).await, expected, "{hint:?}");
        settle().await;
    }
    // One that becomes due while it is being looked at stays due.
    let hint = ReportHint::Participant(text("p-1"));
    store.commit(vec![recheck(&here, &hint)]).await.unwrap();
    let read = store.due_reports(&here, 9).await.unwrap().remove(0);
    store.commit(vec![recheck(&here, &hint)]).await.unwrap();
    store.commit(vec![update(change(read))]).await.unwrap();
    assert_eq!(due(&*store, &here).await, std::slice::from_ref(one));
    // One that is applied waits for a booking that claims it, and then for nothing.
    let candidate = make.candidate("t", &here, make.person());
    assert_eq!(make.claim(&*store, &candidate).await, BeginResult::Begun);
    for (booking, expected) in [(None, vec![one.clone()]), (Some(AssignmentId::generate(&make.0)), vec![])] {
        let read = store.due_reports(&here, 9).await.unwrap().remove(0);
        let mut applied = change(read);
        applied.report.state = ReportState::Applied;
        applied.report.candidate = Some(candidate.id.clone());
        applied.report.assignment = booking;
        applied.series = Some(participant("p-1"));
        store.commit(vec![update(applied)]).await.unwrap();
        assert_eq!(due(&*store, &here).await, []);
        store.commit(vec![recheck(&here, &hint)]).await.unwrap();
        assert_eq!(due(&*store, &here).await, expected);
    }
    assert_eq!(store.parked_reports(&here, 0, 9).await.unwrap().len(), 1);
    assert_eq!(store.series(&here, &[participant("p-1")]).await.unwrap()[0].sightings.len(), 1);
}

pub(crate) async fn reports_are_read_in_order_of_arrival(store: Arc<dyn Store>, make: Maker) {
    let (here, there) = (make.name("connection"), make.name("connection"));
    let mut all = Vec::new();
    for place in 0..5 {
        let mut new = parked(&make, &*store, "t", &here, MatchHints::default());
        if place == 2 {
            new.report.state = ReportState::Dismissed;
        }
        store
            .commit(vec![record(&new), record(&parked(&make, &*store, "t", &there, MatchHints::default()))])
            .await
            .unwrap();
        all.push(store.report(&new.report.id).await.unwrap().unwrap());
    }
    let since = all[1].report.received;
    assert_eq!(store.reports_since(&here, since, 0, 9).await.unwrap(), all[1..]);
    assert_eq!(store.reports_since(&here, since, all[1].arrival, 2).await.unwrap(), all[2..4]);
    assert_eq!(store.reports_since(&here, since, all[4].arrival, 2).await.unwrap(), []);
    let parked = [&all[0], &all[1], &all[3], &all[4]].map(Clone::clone);
    assert_eq!(store.parked_reports(&here, 0, 9).await.unwrap(), parked);
    assert_eq!(store.parked_reports(&here, all[1].arrival, 1).await.unwrap(), parked[2..3]);
}

pub(crate) async fn reports_are_listed_newest_first_and_filtered(store: Arc<dyn Store>, make: Maker) {
    use ReportState::{Applied, Dismissed, Parked, Rejected, Repeated};
    let (tenant, stranger) = (make.name("tenant"), make.name("tenant"));
    let (here, there) = (make.name("connection"), make.name("connection"));
    let mut all = Vec::new();
    for (connection, state) in
        [(&here, Applied), (&here, Parked), (&there, Parked), (&there, Rejected), (&here, Applied)]
    {
        for owner in [Some(&tenant), Some(&stranger), None] {
            let report = Report { tenant: owner.cloned(), ..make.report(&*store, connection, state) };
            let new = NewReport { report: report.clone(), body: None, reading: None, series: None };
            store.commit(vec![record(&new)]).await.unwrap();
            if owner == Some(&tenant) {
                all.push(report);
            }
        }
    }
    let any = ReportFilter::default;
    let of = |state| ReportFilter { state: Some(state), ..any() };
    let at = |name: &String| Some(vec![name.clone()]);
    let cases: [(ReportFilter, &[usize]); 9] = [
        (any(), &[4, 3, 2, 1, 0]),
        (of(Applied), &[4, 0]),
        (of(Parked), &[2, 1]),
        (ReportFilter { connections: at(&there), ..of(Parked) }, &[2]),
        (of(Rejected), &[3]),
        (of(Dismissed), &[]),
        (of(Repeated), &[]),
        (ReportFilter { connections: at(&here), ..any() }, &[4, 1, 0]),
        (ReportFilter { connections: Some(Vec::new()), ..any() }, &[]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<&Report> = expected.iter().map(|place| &all[*place]).collect();
        let found = store.reports(Some(&tenant), &filter, &Page { limit: 9, after: None }).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        if let [first, second, ..] = expected[..] {
            let page = Page { limit: 1, after: Some(first.id.to_string()) };
            assert_eq!(store.reports(Some(&tenant), &filter, &page).await.unwrap(), std::slice::from_ref(second));
        }
    }
    let page = Page { limit: 9, after: None };
    let unowned = store.reports(None, &any(), &page).await.unwrap();
    assert_eq!(unowned.len(), 5);
    assert!(unowned.iter().all(|report| report.tenant.is_none()));
    let counts = store.count_reports().await.unwrap();
    let count =
        |name: &str, state| counts.iter().find(|it| it.connection == name && it.state == state).map(|it| it.count);
    assert_eq!((count(&here, Applied), count(&here, Parked)), (Some(6), Some(3)));
    assert_eq!((count(&there, Parked), count(&there, Rejected), count(&there, Applied)), (Some(3), Some(3), None));
    // A change of state moves the count, and the report from one list to the other.
    let stored = store.report(&all[1].id).await.unwrap().unwrap();
    let dismissed = Report { state: Dismissed, ..stored.report.clone() };
    store.commit(vec![update(ReportChange { report: dismissed.clone(), ..change(stored) })]).await.unwrap();
    assert_eq!(store.reports(Some(&tenant), &of(Dismissed), &page).await.unwrap(), [dismissed]);
    let counts = store.count_reports().await.unwrap();
    let count = |state| counts.iter().find(|it| it.connection == here && it.state == state).map(|it| it.count);
    assert_eq!((count(Parked), count(Dismissed)), (Some(2), Some(1)));
}

pub(crate) async fn bodies_and_reports_are_purged(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let hints = MatchHints { participant: Some("p".to_owned()), ..MatchHints::default() };
    let old = [
        make.applied(&*store, &candidate, &participant("p")),
        parked(&make, &*store, tenant, connection, hints.clone()),
    ];
    let middle = make.0.now();
    let new = [make.applied(&*store, &candidate, &participant("p")), parked(&make, &*store, tenant, connection, hints)];
    for report in old.iter().chain(&new) {
        store.commit(vec![record(report)]).await.unwrap();
    }
    let never = candidate.created;
    assert_eq!(store.purge_reports(never, never).await.unwrap(), 0);
    assert_eq!(store.purge_reports(middle, never).await.unwrap(), 1);
    assert_eq!(store.purge_reports(never, middle).await.unwrap(), 1);
    assert_eq!(store.purge_reports(middle, middle).await.unwrap(), 0);
    assert_eq!(store.report_body(&old[0].report.id).await.unwrap(), None);
    let kept = store.report(&old[0].report.id).await.unwrap().unwrap();
    assert_eq!((&kept.report, &kept.reading), (&old[0].report, &old[0].reading), "a reading outlives the body");
    assert_eq!(store.series(connection, &[participant("p")]).await.unwrap()[0].sightings.len(), 2);
    assert_eq!(store.report(&old[1].report.id).await.unwrap(), None);
    for report in &new {
        assert_eq!(store.report_body(&report.report.id).await.unwrap(), report.body);
    }
    let counts = store.count_reports().await.unwrap();
    let mut counts: Vec<_> =
        counts.iter().filter(|it| it.connection == *connection).map(|it| (it.state.as_str(), it.count)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [("applied", 2), ("parked", 1)]);
    // Updated once more, it gets no hints either.
    for changes in [Vec::new(), vec![update(change(kept))]] {
        let hints = ["p", "planted-participant"].map(|participant| ReportHint::Participant(participant.to_owned()));
        let recheck = Mutation::RecheckReports(connection.clone(), hints.to_vec());
        store.commit(changes.into_iter().chain([recheck]).collect()).await.unwrap();
        let found = new.iter().map(|report| report.report.id.clone()).collect::<Vec<_>>();
        assert_eq!(due(&*store, connection).await, found, "what has lost its body has lost its hints");
    }
    // A report that is gone is not updated.
    let gone = StoredReport { report: old[1].report.clone(), reading: None, arrival: 1, rechecks: 1 };
    store.commit(vec![update(change(gone))]).await.unwrap();
    assert_eq!(store.report(&old[1].report.id).await.unwrap(), None);
}
