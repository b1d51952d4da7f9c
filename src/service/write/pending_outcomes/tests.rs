use std::sync::Arc;

use super::*;
use crate::domain::event::EventFilter;
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationState;
use crate::store::conformance::{Maker, environment};
use crate::store::{Keyring, SqliteStore};

const TENANT: &str = "t";

fn store() -> Arc<dyn Store> {
    let ring = Keyring::new(&Keyring::generate(&environment()), &[]).unwrap();
    Arc::new(SqliteStore::in_memory(ring, environment()).unwrap())
}

/// Opens operations whose cancellation shows that an outcome was committed.
async fn operations(store: &dyn Store, count: usize) -> Vec<OperationId> {
    let maker = Maker(environment());
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut operation = maker.operation(TENANT, 0);
        operation.state = OperationState::Running;
        store.open_operation(&operation).await.unwrap();
        ids.push(operation.id);
    }
    ids
}

async fn cancelled(store: &dyn Store, ids: &[OperationId]) -> Vec<bool> {
    let mut all = Vec::new();
    for id in ids {
        all.push(store.operation(TENANT, id).await.unwrap().unwrap().0.cancelling);
    }
    all
}

fn attempt(record: &str) -> Mutation {
    Mutation::RequireAttempt(record.to_owned(), Timestamp::UNIX_EPOCH)
}

#[tokio::test]
async fn a_refused_outcome_does_not_hold_back_those_that_share_its_transaction() {
    let store = store();
    let ids = operations(store.as_ref(), 3).await;
    let queue = PendingOutcomes::default();
    queue.push(vec![Mutation::CancelOperation(ids[0].clone())]);
    // No attempt about this record is in flight: the outcome was committed before, or another instance has taken the write over.
    queue.push(vec![attempt("cand_gone"), Mutation::CancelOperation(ids[1].clone())]);
    queue.push(vec![Mutation::CancelOperation(ids[2].clone())]);
    assert!(queue.concludes("cand_gone"));
    assert_eq!(queue.first_group().map(|group| group.len()), Some(3));
    queue.flush(store.as_ref()).await;
    assert_eq!(cancelled(store.as_ref(), &ids).await, [true, false, true]);
    assert!(queue.first_group().is_none() && !queue.concludes("cand_gone"));
}

#[test]
fn outcomes_about_one_record_are_committed_one_after_the_other() {
    let queue = PendingOutcomes::default();
    for record in ["a", "b", "a", "c"] {
        queue.push(vec![attempt(record)]);
    }
    let numbers = |queue: &PendingOutcomes| {
        queue.first_group().map(|group| group.into_iter().map(|(number, _)| number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(&queue), Some(vec![0, 1]));
    queue.remove(0);
    assert!(queue.concludes("a"), "its second outcome is still queued");
    queue.remove(1);
    assert_eq!(numbers(&queue), Some(vec![2, 3]));
    queue.remove(2);
    assert!(!queue.concludes("a") && queue.concludes("c"));
}

#[test]
fn a_group_is_limited_and_a_large_outcome_goes_alone() {
    let queue = PendingOutcomes::default();
    let large = (0..=MAX_SHARED).map(|number| Mutation::RemoveIntent(number.to_string())).collect::<Vec<_>>();
    queue.push(large);
    for _ in 0..2 * MAX_SHARED {
        queue.push(vec![Mutation::RemoveIntent("x".to_owned())]);
    }
    assert_eq!(queue.first_group().map(|group| group.len()), Some(1));
    queue.remove(0);
    assert_eq!(queue.first_group().map(|group| group.len()), Some(MAX_SHARED));
}

/// Commits what is queued, and again, and returns how often there is an event.
async fn flushed(store: &dyn Store, queue: &PendingOutcomes, event: &NewEvent) -> usize {
    for _ in 0..2 {
        queue.flush(store).await;
    }
    assert!(queue.first_group().is_none());
    let events = store.events(TENANT, 0, &EventFilter::default(), 100).await.unwrap().events;
    events.iter().filter(|it| it.event.id == event.id).count()
}

#[tokio::test]
async fn a_refused_outcome_whose_first_commit_was_in_doubt_and_made_still_has_its_event() {
    let store = store();
    for (is_in_doubt, is_there, count) in [(true, false, 1), (true, true, 1), (false, false, 0)] {
        let event = Maker(environment()).event(TENANT);
        if is_there {
            // Another commit in doubt was made: that of the event itself.
            store.commit(vec![Mutation::Event(Box::new(event.clone()))]).await.unwrap();
        }
        let queue = PendingOutcomes::default();
        queue.push_with_event(vec![attempt("cand_gone")], event.clone(), is_in_doubt);
        assert_eq!(flushed(store.as_ref(), &queue, &event).await, count, "in doubt: {is_in_doubt}, there: {is_there}");
    }
}
