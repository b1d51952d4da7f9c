//! The numbering of events by several instances.

use super::*;
use crate::domain::event::EventFilter;
use crate::store::conformance::{Dice, append, cost_of_an_event, follow_writers, number_all, run_size};
use crate::store::{EventReads as _, postgres::events};

/// Returns the work of a transaction that numbers events.
fn work(limit: usize) -> impl for<'a> Fn(WriteContext<'a>) -> Working<'a, u64> + Send + Sync {
    move |tx| Box::pin(async move { events::number(tx.connection, limit).await })
}

/// Numbers events again and again; most transactions are dropped at a random point, as if the process had ended there.
async fn number_and_die(store: Arc<PostgresStore>, mut dice: Dice) {
    loop {
        let limit = usize::try_from(dice.throw(40) + 1).unwrap();
        let work = work(limit);
        let numbering = store.writer.run_to_commit(&work);
        let turns = dice.throw(400);
        let death = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            numbered = numbering => assert!(numbered.is_ok()),
            () = death => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_several_instances_are_numbered_without_a_gap_although_numbering_is_killed() {
    let Pair { make, one, two, .. } = Pair::open().await;
    let numbering: Vec<_> = [&one, &two, &one]
        .into_iter()
        .zip(1..)
        .map(|(store, seed)| tokio::spawn(number_and_die(Arc::clone(store), Dice::new(seed))))
        .collect();
    let whole = {
        let store = Arc::clone(&two);
        tokio::spawn(async move {
            loop {
                store.number_events(100).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    follow_writers([one, two], &make, run_size()).await;
    assert!(numbering.iter().chain([&whole]).all(|task| !task.is_finished()));
    numbering.iter().chain([&whole]).for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_ended_instance_numbers_nothing() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let event = make.event("t");
    two.commit(vec![append(&event)]).await.unwrap();
    pair.end_one().await;
    assert!(matches!(one.number_events(9).await, Err(StoreError::Fenced)));
    assert_eq!(two.event("t", 1).await.unwrap(), None);
    number_all(&**two).await;
    assert_eq!(two.event("t", 1).await.unwrap().map(|numbered| numbered.event), Some(event));
}

#[tokio::test]
async fn an_event_is_numbered_after_one_that_was_committed_before_its_transaction() {
    let Pair { url, make, one, two, .. } = Pair::open().await;
    let mut beside = beside(&url).await;
    // It has a number of the outbox, and is not committed.
    let mut open = beside.begin().await.unwrap();
    let row = crate::store::codec::NewEventRow::from(make.event("t"));
    events::append(&mut open, &[&row]).await.unwrap();
    let second = make.event("t");
    one.commit(vec![append(&second)]).await.unwrap();
    number_all(&*two).await;
    assert_eq!(two.event("t", 1).await.unwrap().map(|event| event.event.id), Some(second.id));
    open.commit().await.unwrap();
    number_all(&*one).await;
    let page = one.events("t", 1, &EventFilter::default(), 9).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(page.previous, Some(1));
}

/// Run it alone: `scripts/with-postgres cargo test --release --lib an_event_costs -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn an_event_costs() {
    let Pair { make, one, .. } = Pair::open().await;
    cost_of_an_event(one, make).await;
}
