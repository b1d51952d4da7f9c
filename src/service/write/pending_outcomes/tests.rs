use std::sync::Arc;

use futures_util::FutureExt as _;

use super::*;
use crate::domain::ids::OperationId;
use crate::domain::operation::{ItemId, OperationState};
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
    queue.end(0, None);
    assert!(queue.concludes("a"), "its second outcome is still queued");
    queue.end(1, None);
    assert_eq!(numbers(&queue), Some(vec![2, 3]));
    queue.end(2, None);
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
    queue.end(0, None);
    assert_eq!(queue.first_group().map(|group| group.len()), Some(MAX_SHARED));
}

#[tokio::test]
async fn a_task_that_waits_for_an_outcome_in_doubt_learns_when_it_is_in_the_store() {
    let store = store();
    let ids = operations(store.as_ref(), 1).await;
    let row = ItemId { operation: ids[0].clone(), index: 7 };
    // The first was not made, the second was, and the last one cannot be: there is no such row.
    let committed = vec![Mutation::CancelOperation(ids[0].clone())];
    let rejected = vec![Mutation::ClaimItem(row, "cand_a".to_owned(), Vec::new())];
    let outcomes =
        [(committed, Ok(())), (vec![attempt("cand_gone")], Ok(())), (rejected, Err(StoreError::ItemNotWaiting))];
    let queue = PendingOutcomes::default();
    for (changes, end) in outcomes {
        let mut waiting = Box::pin(queue.push_and_wait(changes));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        queue.flush(store.as_ref()).await;
        assert_eq!(waiting.now_or_never(), Some(end));
    }
    assert_eq!(cancelled(store.as_ref(), &ids).await, [true]);
}

#[tokio::test]
async fn an_outcome_that_an_ended_instance_cannot_decide_is_not_told() {
    let queue = PendingOutcomes::default();
    let mut waiting = Box::pin(queue.push_and_wait(vec![attempt("cand_a")]));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    queue.end(0, None);
    assert_eq!(waiting.now_or_never(), None);
    assert!(!queue.concludes("cand_a"));
}
