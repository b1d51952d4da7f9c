//! Events: their numbers, what readers get, retention, and the signals.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::domain::event::{Event, EventFilter, EventSubject, EventType, NewEvent};
use crate::domain::ids::EventId;
use crate::store::{ConnectionStateChange, EventBounds, EventPage};

/// Time within which what is waited for happens, on any machine.
const DEADLINE: Duration = Duration::from_mins(1);

impl Maker {
    /// Returns an event of the tenant, about nothing.
    pub(crate) fn event(&self, tenant: &str) -> NewEvent {
        NewEvent {
            id: EventId::generate(&self.0),
            tenant: tenant.to_owned(),
            event_type: EventType::ResultPublished,
            timestamp: self.0.now(),
            subject: EventSubject::default(),
            data: Map::from_iter([("resource".to_owned(), json!("/results/res_1")), ("version".to_owned(), json!(1))]),
        }
    }
}

pub(crate) fn append(event: &NewEvent) -> Mutation {
    Mutation::Event(Box::new(event.clone()))
}

/// Numbers everything that is committed.
pub(crate) async fn number_all(store: &dyn Store) {
    while store.number_events(1_000).await.unwrap() > 0 {}
}

async fn all(store: &dyn Store, tenant: &str) -> Vec<Event> {
    store.events(tenant, 0, &EventFilter::default(), 100_000).await.unwrap().events
}

/// Fails once the attempt that it requires is looked for.
pub(super) fn refused() -> Mutation {
    Mutation::RequireAttempt("cand_none".to_owned(), Timestamp::UNIX_EPOCH)
}

pub(crate) async fn events_are_numbered_in_the_order_of_commits(store: Arc<dyn Store>, make: Maker) {
    let (tenant, other) = (make.name("tenant"), make.name("tenant"));
    let assignment = make.assignment(&tenant, "c", "s").id;
    let full = NewEvent {
        event_type: EventType::AttemptStarted,
        subject: EventSubject {
            connection: Some("c".to_owned()),
            assignment: Some(assignment),
            assessment_ref: Some("fa19e351".to_owned()),
        },
        ..make.event(&tenant)
    };
    let events = [full, make.event(&tenant), make.event(&other), make.event(&tenant)];
    store.commit(events[..2].iter().map(append).collect()).await.unwrap();
    store.commit(events[2..].iter().map(append).collect()).await.unwrap();
    number_all(&*store).await;
    store.commit(vec![append(&make.event(&other))]).await.unwrap();
    number_all(&*store).await;

    let expected: Vec<Event> = [&events[0], &events[1], &events[3]]
        .into_iter()
        .zip(1..)
        .map(|(event, sequence)| Event { sequence, event: event.clone() })
        .collect();
    assert_eq!(all(&*store, &tenant).await, expected);
    assert_eq!(all(&*store, &other).await.len(), 2);
    assert_eq!(store.event(&tenant, 3).await.unwrap().as_ref(), expected.last());
    assert_eq!(store.event(&tenant, 4).await.unwrap(), None);
    assert_eq!(
        store.events_by_sequence(&tenant, &[3, 9, 1]).await.unwrap(),
        [&expected[0], &expected[2]].map(Clone::clone)
    );
    assert!(store.events_by_sequence(&tenant, &[]).await.unwrap().is_empty());
    assert!(all(&*store, &make.name("tenant")).await.is_empty());
}

pub(crate) async fn an_event_is_committed_only_with_its_transaction(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let failed = store.commit(vec![append(&make.event(&tenant)), refused()]).await;
    assert!(matches!(failed, Err(StoreError::Superseded)), "{failed:?}");
    // Among others, whose events are kept.
    let commits = (0..40).map(|number| {
        let mut changes = vec![append(&make.event(&tenant))];
        changes.extend((number % 5 == 0).then(refused));
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(changes).await })
    });
    let commits: Vec<_> = commits.collect();
    let mut kept = 0;
    for commit in commits {
        kept += u64::from(commit.await.unwrap().is_ok());
    }
    number_all(&*store).await;
    assert_eq!(kept, 32);
    let sequences: Vec<u64> = all(&*store, &tenant).await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=kept).collect::<Vec<_>>());
}

pub(crate) async fn an_event_about_an_erased_candidate_is_not_appended(store: Arc<dyn Store>, make: Maker) {
    let (one, two) = (make.claimed(&*store).await, make.claimed(&*store).await);
    let about =
        |candidate: &Candidate| Mutation::EventAbout(candidate.id.clone(), Box::new(make.event(&candidate.tenant)));
    store.commit(vec![Mutation::EraseCandidate(one.id.clone())]).await.unwrap();
    store.commit(vec![about(&one), about(&two), append(&make.event(&one.tenant))]).await.unwrap();
    store.commit(vec![about(&one)]).await.unwrap();
    number_all(&*store).await;
    assert_eq!((all(&*store, &one.tenant).await.len(), all(&*store, &two.tenant).await.len()), (1, 1));
}

/// Returns what a page must be, from all events of the tenant.
fn expected_page(events: &[Event], after: u64, filter: &EventFilter, limit: usize) -> EventPage {
    let passing = |event: &&Event| filter.admits(&event.event);
    let page: Vec<Event> =
        events.iter().filter(|event| event.sequence > after).filter(passing).take(limit).cloned().collect();
    let first = page.first().map(|first| first.sequence);
    let mut before = events.iter().filter(|event| first.is_some_and(|first| event.sequence < first));
    let previous = before.rfind(passing).map(|event| event.sequence);
    let full = page.last().filter(|_| page.len() == limit).map(|last| last.sequence);
    let scanned = full.unwrap_or_else(|| events.last().map_or(0, |last| last.sequence));
    EventPage { events: page, previous, scanned, oldest: 1 }
}

pub(crate) async fn readers_get_the_events_that_pass_their_filter(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let booked = make.assignment(&tenant, "c", "s").id;
    let event = |index: usize| {
        let subject = EventSubject {
            connection: [None, Some("one"), Some("two"), Some("tw")][index % 4].map(str::to_owned),
            assignment: (index % 701 == 3).then(|| booked.clone()),
            assessment_ref: [None, Some("a"), Some("b")][index % 3].map(str::to_owned),
        };
        let event_type = match index {
            2 | 5_200 => EventType::WebhookGap,
            _ if index.is_multiple_of(2) => EventType::ResultPublished,
            _ => EventType::ReportParked,
        };
        NewEvent { event_type, subject, ..make.event(&tenant) }
    };
    let events: Vec<NewEvent> = (0..5_300).map(event).collect();
    store.commit(events.iter().map(append).collect()).await.unwrap();
    number_all(&*store).await;
    let events: Vec<Event> = events.into_iter().zip(1..).map(|(event, sequence)| Event { sequence, event }).collect();

    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let pairs = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(at, id)| ((*at).to_owned(), (*id).to_owned())).collect::<Vec<_>>())
    };
    let rare = Some(vec![EventType::WebhookGap]);
    let filters = [
        EventFilter::default(),
        EventFilter { types: rare.clone(), ..EventFilter::default() },
        EventFilter { types: Some(Vec::new()), ..EventFilter::default() },
        EventFilter { types: rare, connections: texts(&["one"]), ..EventFilter::default() },
        EventFilter { connections: texts(&["two", "three"]), ..EventFilter::default() },
        EventFilter { connections: texts(&["no\nne"]), assessments: pairs(&[("one", "a")]), ..EventFilter::default() },
        EventFilter { assessments: pairs(&[("one", "a"), ("two", "b"), ("three", "a")]), ..EventFilter::default() },
        EventFilter { assessments: pairs(&[("two", "a")]), connections: texts(&["two"]), ..EventFilter::default() },
        EventFilter { assignment: Some(booked.clone()), ..EventFilter::default() },
        EventFilter { assignment: Some(booked), connections: texts(&["tw"]), ..EventFilter::default() },
        EventFilter { assignment: Some(AssignmentId::generate(&make.0)), ..EventFilter::default() },
    ];
    for filter in &filters {
        for (after, limit) in [(0, 3), (0, 20_000), (2, 1), (4_999, 400), (5_201, 5), (5_300, 5), (9_999, 5)] {
            let page = store.events(&tenant, after, filter, limit).await.unwrap();
            assert_eq!(
                page,
                expected_page(&events, after, filter, limit),
                "after {after}, at most {limit}: {filter:?}"
            );
        }
        let last = events.iter().rev().find(|event| filter.admits(&event.event)).map(|event| event.sequence);
        assert_eq!(store.last_event(&tenant, filter).await.unwrap(), last, "{filter:?}");
    }
}

pub(crate) async fn retention_removes_events_from_the_first_on(store: Arc<dyn Store>, make: Maker) {
    let (tenant, other) = (make.name("tenant"), make.name("tenant"));
    let start = make.0.now();
    let at = |tenant: &str, hours: i64| NewEvent { timestamp: start + hours.hours(), ..make.event(tenant) };
    let hours = [1, 5, 2, 9];
    store.commit(hours.iter().map(|hours| append(&at(&tenant, *hours))).collect()).await.unwrap();
    store.commit(vec![append(&at(&other, 4))]).await.unwrap();
    number_all(&*store).await;
    let all = EventFilter::default();
    // Before the purge, and after it.
    for (since, oldest) in [(0, 1), (3, 2), (6, 4), (10, 5)] {
        let since = start + since.hours();
        assert_eq!(store.event_bounds(&tenant, since).await.unwrap(), EventBounds { oldest, latest: 4 });
        store.purge_events(since).await.unwrap();
        assert_eq!(store.event_bounds(&tenant, start).await.unwrap(), EventBounds { oldest, latest: 4 });
        let page = store.events(&tenant, 0, &all, 9).await.unwrap();
        assert_eq!(
            page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(),
            (oldest..=4).collect::<Vec<_>>()
        );
        assert_eq!((page.oldest, page.scanned, page.previous), (oldest, 4, None));
        let is_left = oldest <= 4;
        assert_eq!(store.last_event(&tenant, &all).await.unwrap(), is_left.then_some(4));
    }
    assert_eq!(store.event_bounds(&other, start).await.unwrap(), EventBounds { oldest: 2, latest: 1 });
    store.commit(vec![append(&at(&tenant, 1))]).await.unwrap();
    number_all(&*store).await;
    let page = store.events(&tenant, 4, &all, 9).await.unwrap();
    assert_eq!((page.events[0].sequence, page.previous, page.oldest), (5, None, 5), "a number is never used again");
    assert_eq!((store.latest_event(&tenant).await.unwrap(), store.latest_event(&other).await.unwrap()), (5, 1));
    let heads = store.event_heads().await.unwrap();
    assert!(heads.contains(&(tenant, 5)) && heads.contains(&(other, 1)), "{heads:?}");
    let none = store.event_bounds(&make.name("tenant"), start).await.unwrap();
    assert_eq!(none, EventBounds { oldest: 1, latest: 0 });
}

pub(crate) async fn the_first_event_since_a_time_is_found_in_a_long_log(store: Arc<dyn Store>, make: Maker) {
    const COUNT: i64 = 4_000;
    let (tenant, start) = (make.name("tenant"), make.0.now());
    // One a minute; one in seven was made hours before it was committed, and one in thousand hours after.
    let minute = |index: i64| match index {
        _ if index % 1_000 == 999 => index + 300,
        _ if index % 7 == 3 => index - 200,
        _ => index,
    };
    let events = (0..COUNT).map(|index| NewEvent { timestamp: start + minute(index).minutes(), ..make.event(&tenant) });
    store.commit(events.map(|event| append(&event)).collect()).await.unwrap();
    number_all(&*store).await;
    for removed in [0, 1_500] {
        store.purge_events(start + removed.minutes()).await.unwrap();
        let kept = store.event_bounds(&tenant, Timestamp::UNIX_EPOCH).await.unwrap().oldest;
        for since in (0..COUNT + 400).step_by(37).chain([COUNT - 1, COUNT + 299, COUNT + 300]) {
            let first = (0..COUNT).find(|index| minute(*index) >= since).unwrap_or(COUNT);
            let oldest = (u64::try_from(first).unwrap() + 1).max(kept);
            let found = store.event_bounds(&tenant, start + since.minutes()).await.unwrap();
            assert_eq!(found, EventBounds { oldest, latest: COUNT.unsigned_abs() }, "{since} minutes");
        }
    }
}

pub(crate) async fn new_events_are_signalled(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let (mut visible, mut unnumbered) = (store.event_signal(), store.unnumbered_signal());
    store.commit(vec![Mutation::RemoveIntent("cand_none".to_owned())]).await.unwrap();
    number_all(&*store).await;
    assert!(!visible.has_changed().unwrap() && !unnumbered.has_changed().unwrap(), "there is no event");
    for is_awaited in [true, false] {
        let committing = store.commit(vec![append(&make.event(&tenant))]);
        // A caller that stops waiting: what was handed over is committed all the same.
        let _: Option<Result<(), StoreError>> =
            if is_awaited { Some(committing.await) } else { committing.now_or_never() };
        if store.is_shared() {
            tokio::time::timeout(DEADLINE, unnumbered.changed()).await.unwrap().unwrap();
            number_all(&*store).await;
        }
        tokio::time::timeout(DEADLINE, visible.changed()).await.unwrap().unwrap();
        visible.mark_unchanged();
    }
    assert_eq!(all(&*store, &tenant).await.len(), 2);
}

pub(crate) async fn states_that_events_report_are_changed_from_what_was_read(store: Arc<dyn Store>, make: Maker) {
    let (connection, tenant) = (make.name("connection"), make.name("tenant"));
    let state = |before: Option<&str>, state: &str| {
        let change = ConnectionStateChange {
            connection: connection.clone(),
            before: before.map(str::to_owned),
            state: state.to_owned(),
        };
        vec![Mutation::ConnectionState(change), append(&make.event(&tenant))]
    };
    let superseded = |changed: Result<(), StoreError>| assert!(matches!(changed, Err(StoreError::Superseded)));
    superseded(store.commit(state(Some("ok"), "degraded")).await);
    store.commit(state(None, "ok")).await.unwrap();
    superseded(store.commit(state(None, "degraded")).await);
    store.commit(state(Some("ok"), "degraded")).await.unwrap();
    superseded(store.commit(state(Some("ok"), "degraded")).await);
    let states = store.connection_states().await.unwrap();
    assert!(states.contains(&(connection.clone(), "degraded".to_owned())));
    assert_eq!(states.iter().filter(|(name, _)| *name == connection).count(), 1);

    number_all(&*store).await;
    assert_eq!(all(&*store, &tenant).await.len(), 2, "one for each change");
}
