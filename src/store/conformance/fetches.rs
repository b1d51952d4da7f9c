//! Required behaviour of every engine: reports that are still to be fetched.

use super::results::{participant, record};
use super::*;
use crate::store::{FetchCount, FetchEnd, NewFetch, ReportFetch};

/// Returns a fetch of a registration of the candidate that is due at this time.
pub(crate) fn fetch(candidate: &Candidate, participant: &str, due: Timestamp) -> NewFetch {
    NewFetch {
        connection: candidate.connection.clone(),
        candidate: candidate.id.clone(),
        participant: participant.to_owned(),
        center: Some("center".to_owned()),
        due,
    }
}

pub(crate) fn request(fetch: &NewFetch) -> Mutation {
    Mutation::RequestFetch(Box::new(fetch.clone()))
}

/// Returns the mutation that ends a fetch, or postpones it.
pub(crate) fn end(fetch: &ReportFetch, postponed: Option<(u32, Timestamp)>) -> Mutation {
    Mutation::EndFetch(FetchEnd { number: fetch.number, requests: fetch.requests, postponed })
}

fn names(fetches: &[ReportFetch]) -> Vec<(&str, u32)> {
    fetches.iter().map(|fetch| (fetch.participant.as_str(), fetch.failures)).collect()
}

pub(crate) async fn a_fetch_is_due_until_it_ends(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let (connection, now) = (&candidate.connection, make.0.now());
    let (one, two) = (fetch(&candidate, "p-1", now - 1.hours()), fetch(&candidate, "p-2", now));
    // In the transaction that records the report, and of one that has none.
    let report = make.applied(&*store, &candidate, &participant("p-1"));
    store.commit(vec![record(&report), request(&one), request(&two), request(&two)]).await.unwrap();
    assert!(store.due_fetches(connection, now - 2.hours(), 9).await.unwrap().is_empty());
    assert!(store.due_fetches(&make.name("connection"), now, 9).await.unwrap().is_empty());
    let due = store.due_fetches(connection, now, 9).await.unwrap();
    assert_eq!(names(&due), [("p-1", 0), ("p-2", 0)]);
    assert_eq!(due[0].center, one.center);
    assert_eq!(store.due_fetches(connection, now, 1).await.unwrap(), due[..1]);

    let counted = async || {
        let counts = store.count_fetches().await.unwrap();
        let own = counts.into_iter().find(|counted| counted.connection == *connection);
        own.map(|FetchCount { pending, failing, .. }| (pending, failing))
    };
    assert_eq!(counted().await, Some((2, 0)));
    let later = now + 1.hours();
    store.commit(vec![end(&due[0], Some((1, later))), end(&due[1], None)]).await.unwrap();
    assert!(store.due_fetches(connection, now, 9).await.unwrap().is_empty());
    assert_eq!(counted().await, Some((1, 1)));
    // Another request neither hurries nor forgets it.
    store.commit(vec![request(&one)]).await.unwrap();
    assert!(store.due_fetches(connection, now, 9).await.unwrap().is_empty());
    let due = store.due_fetches(connection, later, 9).await.unwrap();
    assert_eq!(names(&due), [("p-1", 1)]);
    store.commit(vec![end(&due[0], None)]).await.unwrap();
    assert_eq!(counted().await, None);
}

pub(crate) async fn a_fetch_that_is_requested_again_meanwhile_stays_due(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let (connection, now) = (&candidate.connection, make.0.now());
    let asked = fetch(&candidate, "p-1", now);
    store.commit(vec![request(&asked)]).await.unwrap();
    for postponed in [None, Some((1, now + 1.hours()))] {
        let read = store.due_fetches(connection, now, 9).await.unwrap().remove(0);
        store.commit(vec![request(&asked)]).await.unwrap();
        store.commit(vec![end(&read, postponed)]).await.unwrap();
        let due = store.due_fetches(connection, now, 9).await.unwrap();
        assert_eq!(names(&due), [("p-1", 0)], "{postponed:?}");
    }
}

pub(crate) async fn an_erasure_leaves_no_fetch_and_a_late_request_none(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let (connection, now) = (&candidate.connection, make.0.now());
    let asked = fetch(&candidate, "p-1", now);
    let report = make.applied(&*store, &candidate, &participant("p-1"));
    store.commit(vec![record(&report), request(&asked)]).await.unwrap();
    assert_eq!(store.due_fetches(connection, now, 9).await.unwrap().len(), 1);
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    assert!(store.due_fetches(connection, now, 9).await.unwrap().is_empty());
    store.commit(vec![request(&asked)]).await.unwrap();
    assert!(store.due_fetches(connection, now, 9).await.unwrap().is_empty());
}
