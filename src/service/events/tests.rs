//! Reading, retention and the monitor, over an in-memory store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::domain::error::{Code, Error};
use crate::domain::event::{EventDocument, EventSubject, EventType, NewEvent};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, EventId};
use crate::domain::intent::WriteOrigin;
use crate::domain::scope::ScopeSet;
use crate::domain::vendor::Priority;
use crate::service::{Catalogue, ConnectionAccess, Gateway, RequestContext, Retention};
use crate::store::{Keyring, Mutation, SqliteStore, Store};

const DAY: Duration = Duration::from_hours(24);

struct World {
    gateway: Gateway,
    store: Arc<dyn Store>,
}

impl World {
    async fn new() -> Self {
        let environment = crate::store::conformance::environment();
        let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(ring, environment.clone()).unwrap());
        let retention = Retention { operations: DAY, keys: DAY, reports: DAY, parked_reports: DAY, events: DAY };
        let catalogue = Catalogue { assessments: BTreeMap::new(), programs: BTreeMap::new() };
        let gateway =
            Gateway::start(Arc::clone(&store), BTreeMap::new(), catalogue, environment, retention).await.unwrap();
        Self { gateway, store }
    }

    /// Commits an event that was made some hours ago.
    async fn add(&self, tenant: &str, event_type: EventType, connection: Option<&str>, hours_ago: i64) {
        let event = NewEvent {
            id: EventId::generate(&self.gateway.0.system),
            tenant: tenant.to_owned(),
            event_type,
            timestamp: self.gateway.now() - SignedDuration::from_hours(hours_ago),
            subject: EventSubject { connection: connection.map(str::to_owned), ..EventSubject::default() },
            data: serde_json::Map::new(),
        };
        self.store.commit(vec![Mutation::Event(Box::new(event))]).await.unwrap();
    }

    async fn begin(&self, caller: RequestContext, start: EventStart) -> Result<EventReader, Error> {
        self.gateway.read_events_from(Arc::new(caller), EventQuery::default(), start, "?after").await
    }

    async fn read(&self, reader: &mut EventReader, limit: usize) -> Vec<(u64, Option<u64>)> {
        numbers(&self.gateway.next_events(reader, limit, Duration::ZERO).await.unwrap())
    }
}

fn caller(tenant: &str, connections: ConnectionAccess) -> RequestContext {
    RequestContext {
        tenant: tenant.to_owned(),
        client: tenant.to_owned(),
        scopes: ScopeSet::all(),
        connections,
        default_connection: None,
        exchange: Exchange::example(),
        priority: Priority::Interactive,
        key: None,
        origin: WriteOrigin::default(),
        resumed: None,
        audit_entry: None,
    }
}

fn all(tenant: &str) -> RequestContext {
    caller(tenant, ConnectionAccess::All)
}

fn numbers(events: &[EventDocument]) -> Vec<(u64, Option<u64>)> {
    events.iter().map(|event| (event.sequence.unwrap(), event.previous)).collect()
}

#[tokio::test]
async fn pages_and_previous_make_up_the_whole() {
    let world = World::new().await;
    for _ in 0..5 {
        world.add("a", EventType::ResultPublished, Some("main"), 0).await;
    }
    let mut reader = world.begin(all("a"), EventStart::Oldest).await.unwrap();
    assert_eq!(world.read(&mut reader, 2).await, [(1, None), (2, Some(1))]);
    assert_eq!(reader.position(), 2);
    assert_eq!(world.read(&mut reader, 2).await, [(3, Some(2)), (4, Some(3))]);
    assert_eq!(world.read(&mut reader, 2).await, [(5, Some(4))]);
    assert_eq!((world.read(&mut reader, 2).await, reader.position()), (Vec::new(), 5));
    let mut latest = world.begin(all("a"), EventStart::Latest).await.unwrap();
    assert_eq!(latest.position(), 5);
    world.add("a", EventType::ResultPublished, Some("main"), 0).await;
    assert_eq!(world.read(&mut latest, 2).await, [(6, Some(5))]);
}

#[tokio::test]
async fn each_reader_has_a_chain_of_its_own() {
    let world = World::new().await;
    for connection in [Some("main"), Some("other"), None, Some("main"), Some("other")] {
        world.add("a", EventType::ResultPublished, connection, 0).await;
    }
    world.add("b", EventType::ResultPublished, Some("main"), 0).await;
    let only_main = || caller("a", ConnectionAccess::Named(BTreeSet::from(["main".to_owned()])));
    let mut reader = world.begin(only_main(), EventStart::Oldest).await.unwrap();
    assert_eq!(world.read(&mut reader, 10).await, [(1, None), (3, Some(1)), (4, Some(3))]);
    assert_eq!(reader.position(), 5, "what it does not get was looked at");
    let mut reader = world.begin(only_main(), EventStart::After(3)).await.unwrap();
    assert_eq!(world.read(&mut reader, 10).await, [(4, Some(3))]);
    let mut reader = world.begin(all("b"), EventStart::Oldest).await.unwrap();
    assert_eq!(world.read(&mut reader, 10).await, [(1, None)], "tenants have numbers of their own");
}

#[tokio::test]
async fn filters_choose_types_and_an_assignment() {
    let world = World::new().await;
    world.add("a", EventType::ResultPublished, Some("main"), 0).await;
    world.add("a", EventType::ReportParked, Some("main"), 0).await;
    let query = |types: &[EventType], assignment: Option<&str>| EventQuery {
        types: (!types.is_empty()).then(|| types.to_vec()),
        assignment: assignment.map(|id| AssignmentId::parse(id).unwrap()),
    };
    for (query, expected) in [
        (query(&[EventType::ReportParked], None), vec![2]),
        (query(&[EventType::ReportParked, EventType::ResultPublished], None), vec![1, 2]),
        (query(&[EventType::Ping], None), vec![]),
        (query(&[], Some("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")), vec![]),
    ] {
        let begun = world.gateway.read_events_from(Arc::new(all("a")), query, EventStart::Oldest, "?after").await;
        let read = world.gateway.next_events(&mut begun.unwrap(), 10, Duration::ZERO).await.unwrap();
        assert_eq!(read.iter().map(|event| event.sequence.unwrap()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_waiting_reader_wakes_with_the_commit() {
    let world = World::new().await;
    let mut reader = world.begin(all("a"), EventStart::Latest).await.unwrap();
    let gateway = world.gateway.clone();
    let waiting = tokio::spawn(async move { gateway.next_events(&mut reader, 10, Duration::from_mins(5)).await });
    world.add("a", EventType::ResultPublished, None, 0).await;
    assert_eq!(numbers(&waiting.await.unwrap().unwrap()), [(1, None)]);
    let mut reader = world.begin(all("b"), EventStart::Oldest).await.unwrap();
    let empty = world.gateway.next_events(&mut reader, 10, Duration::from_millis(1)).await.unwrap();
    assert!(empty.is_empty());
}

#[tokio::test]
async fn the_wait_for_an_event_is_counted_as_a_wait() {
    let world = World::new().await;
    let caller = all("a");
    let exchange = caller.exchange.clone();
    let mut reader = world.begin(caller, EventStart::Latest).await.unwrap();
    world.read(&mut reader, 10).await;
    assert_eq!(exchange.waiting_time(), Duration::ZERO);
    for _ in 0..100 {
        // On a slow machine all of this time may pass before the wait.
        world.gateway.next_events(&mut reader, 10, Duration::from_millis(20)).await.unwrap();
    }
    assert!(exchange.waiting_time() > Duration::ZERO);
}

#[tokio::test]
async fn what_is_no_longer_kept_is_refused_before_and_after_it_is_removed() {
    let world = World::new().await;
    for hours_ago in [30, 26, 2, 1] {
        world.add("a", EventType::ResultPublished, None, hours_ago).await;
    }
    for purged in [false, true] {
        if purged {
            world.gateway.purge_events().await;
        }
        let mut reader = world.begin(all("a"), EventStart::Oldest).await.unwrap();
        assert_eq!(world.read(&mut reader, 10).await.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4]);
        let error = world.begin(all("a"), EventStart::After(1)).await.unwrap_err();
        assert_eq!((error.code, error.oldest), (Code::CursorExpired, Some(3)), "purged: {purged}");
        assert!(world.begin(all("a"), EventStart::After(2)).await.is_ok(), "it has seen all that is gone");
    }
    let error = world.begin(all("a"), EventStart::After(9)).await.unwrap_err();
    assert_eq!((error.code, error.errors[0].pointer.as_str()), (Code::ValidationFailed, "?after"));
    assert!(world.begin(all("nobody"), EventStart::After(0)).await.is_ok());
}
