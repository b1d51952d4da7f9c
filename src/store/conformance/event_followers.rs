//! Writers of events, and readers that follow them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;

use super::*;
use crate::domain::event::{Event, EventFilter, NewEvent};
use crate::domain::ids::EventId;

/// Source of numbers that are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `sides`.
    pub(crate) fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Returns the number of events of a run: that of `EXAMGATE_EVENTS`, else a few.
pub(crate) fn run_size() -> u64 {
    let size = std::env::var_os("EXAMGATE_EVENTS").and_then(|size| size.into_string().ok());
    size.map_or(1_200, |size| size.parse().expect("EXAMGATE_EVENTS is a number"))
}

/// What the writers of a run have done: events that were committed, and events of which they do not know it.
#[derive(Default)]
struct Written {
    sure: BTreeMap<EventId, (u64, u64)>,
    perhaps: BTreeSet<EventId>,
}

/// Has eight writers, half of them through each store, append events of two tenants, while a reader of each tenant follows at
/// full speed. Some commits fail, and some callers stop waiting. Asserts that a reader finds no gap, no repeat and nothing that
/// appears late, and at the end exactly what was committed, what one writer has written in its order.
pub(crate) async fn follow_writers(stores: [Arc<dyn Store>; 2], make: &Maker, events: u64) {
    let tenants = [make.name("tenant"), make.name("tenant")];
    let written = Arc::new(Mutex::new(Written::default()));
    let writers = (0..8_u64).map(|writer| {
        let (stores, written) = (stores.clone(), Arc::clone(&written));
        let (store, tenant) = (usize::try_from(writer % 2).unwrap(), tenants[usize::from(writer / 2 % 2 == 0)].clone());
        let (make, share) = (Maker(make.0.clone()), events / 8);
        tokio::spawn(async move { write_events(&*stores[store], &make, &tenant, writer, share, &written).await })
    });
    let writers: Vec<_> = writers.collect();
    let (done, is_done) = tokio::sync::watch::channel(false);
    let readers = tenants.each_ref().map(|tenant| {
        let (store, tenant, is_done) = (Arc::clone(&stores[1]), tenant.clone(), is_done.clone());
        tokio::spawn(async move { read_to_the_end(&*store, &tenant, &is_done).await })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    number_all(&*stores[0]).await;
    done.send(true).unwrap();
    let mut seen = Vec::new();
    for reader in readers {
        seen.extend(reader.await.unwrap());
    }
    let written = written.lock().unwrap();
    let ids: HashSet<&EventId> = seen.iter().map(|event| &event.event.id).collect();
    assert_eq!(ids.len(), seen.len(), "an event was read twice");
    assert!(written.sure.keys().all(|id| ids.contains(id)), "an event is missing");
    assert!(
        ids.iter().all(|id| written.sure.contains_key(id) || written.perhaps.contains(id)),
        "an event was invented"
    );
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (writer, number) in seen.iter().filter_map(|event| written.sure.get(&event.event.id)) {
        let before = last.insert(*writer, *number);
        assert!(before < Some(*number), "writer {writer} wrote {number} after {before:?}");
    }
}

async fn write_events(
    store: &dyn Store,
    make: &Maker,
    tenant: &str,
    writer: u64,
    share: u64,
    written: &Mutex<Written>,
) {
    let mut dice = Dice::new(writer + 1);
    let mut number = 0;
    while number < share {
        let batch: Vec<NewEvent> = (0..=dice.throw(3)).map(|_| make.event(tenant)).collect();
        let mut changes: Vec<Mutation> = batch.iter().map(append).collect();
        let kind = dice.throw(16);
        match kind {
            0 => {
                changes.push(refused());
                assert!(matches!(store.commit(changes).await, Err(StoreError::Superseded)));
            }
            1 => {
                written.lock().unwrap().perhaps.extend(batch.into_iter().map(|event| event.id));
                drop(store.commit(changes).now_or_never());
            }
            _ => {
                store.commit(changes).await.unwrap();
                let mut written = written.lock().unwrap();
                for event in batch {
                    number += 1;
                    written.sure.insert(event.id, (writer, number));
                }
            }
        }
    }
}

/// Reads page after page until everything was read and no writer is left.
async fn read_to_the_end(store: &dyn Store, tenant: &str, is_done: &tokio::sync::watch::Receiver<bool>) -> Vec<Event> {
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let is_last = *is_done.borrow();
        let page = store.events(tenant, after, &EventFilter::default(), 100).await.unwrap();
        if page.events.is_empty() {
            assert_eq!(page.scanned, after);
            if is_last {
                return seen;
            }
            tokio::task::yield_now().await;
        }
        for event in page.events {
            assert_eq!(event.sequence, after + 1, "no gap, and nothing appears late");
            assert_eq!(event.event.data.get("version"), Some(&Value::from(1)));
            after = event.sequence;
            seen.push(event);
        }
    }
}

pub(crate) async fn a_follower_misses_no_event(store: Arc<dyn Store>, make: Maker) {
    let is_numbering = store.is_shared();
    let numbering = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if is_numbering {
                loop {
                    store.number_events(50).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    follow_writers([Arc::clone(&store), store], &make, run_size()).await;
    numbering.abort();
}

/// Prints how many commits a second eight callers make that change one record, without an event and with one, and how many
/// events a second are numbered.
pub(crate) async fn cost_of_an_event(store: Arc<dyn Store>, make: Maker) {
    let (tenant, calls) = (make.name("tenant"), 500);
    let rate = |count: u32, took: Duration| f64::from(count) / took.as_secs_f64();
    for round in 0..3 {
        for has_event in [false, true] {
            let begun = std::time::Instant::now();
            let callers = (0..8).map(|_| {
                let (store, make, tenant) = (Arc::clone(&store), Maker(make.0.clone()), tenant.clone());
                tokio::spawn(async move {
                    let booked = make.assignment(&tenant, "c", &make.name("subject"));
                    for _ in 0..calls {
                        let mut changes = vec![Mutation::Assignment(booked.clone())];
                        changes.extend(has_event.then(|| append(&make.event(&tenant))));
                        store.commit(changes).await.unwrap();
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
            eprintln!("{round}: with an event: {has_event}: {:.0} commits a second", rate(8 * calls, begun.elapsed()));
        }
        let begun = std::time::Instant::now();
        number_all(&*store).await;
        if store.is_shared() {
            eprintln!("{round}: {:.0} events a second numbered", rate(8 * calls, begun.elapsed()));
        }
    }
}
