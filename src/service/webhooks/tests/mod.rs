//! Tests of webhooks and deliveries, over a store in memory and a receiver in the same process.

mod changing;
mod colliding;
mod delivering;
mod expiring;
mod failing;
mod idling;
mod killing;
mod loading;
mod permitting;
mod purging;
mod receiver;
mod resuming;
mod superseding;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use self::receiver::{Received, Receiver};
use crate::domain::error::{Code, Error};
use crate::domain::event::{EventFilter, EventSubject, EventType, NewEvent};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, EventId, WebhookId};
use crate::domain::intent::WriteOrigin;
use crate::domain::scope::{Scope, ScopeSet};
use crate::domain::subject::SubjectKey;
use crate::domain::system::System;
use crate::domain::vendor::Priority;
use crate::domain::webhook::schedule::RetrySchedule;
use crate::domain::webhook::{
    Delivery, DeliveryOrder, DeliveryState, Webhook, WebhookPayload, WebhookSettings, WebhookState,
};
use crate::service::simulation::counted;
use crate::service::webhooks::settings::{
    DeliveryContext, DeliverySettings, DeliveryTransport, EventResource, WebhookOwner, WebhookOwners,
};
use crate::service::webhooks::types::{NewWebhook, WebhookReply};
use crate::service::{Catalogue, ConnectionAccess, Gateway, RequestContext, Retention};
use crate::store::{DeliveryFilter, Keyring, Mutation, Page, SqliteStore, Store};
use crate::transport::delivery::{HostPattern, TargetPolicy};

const TENANT: &str = "lms";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The owners of all webhooks: their access, and the only resource there is.
struct Owners {
    connections: Mutex<ConnectionAccess>,
    /// Whether reads of the resource end, or wait.
    is_readable: watch::Sender<bool>,
    /// Whether the resource cannot be read now, and how often it was tried.
    is_away: AtomicBool,
    /// Whether there is no such client any more.
    is_gone: AtomicBool,
    reads: AtomicUsize,
    /// Whether the next look at an owner panics.
    panics: AtomicBool,
    /// The type of the events at whose resources every read panics.
    panics_at: Mutex<Option<EventType>>,
}

#[async_trait]
impl WebhookOwners for Owners {
    fn owner(&self, _: &Webhook) -> Option<WebhookOwner> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "planted");
        let owner = WebhookOwner { connections: self.connections.lock().unwrap().clone() };
        (!self.is_gone.load(Ordering::SeqCst)).then_some(owner)
    }

    async fn read(&self, _: &Gateway, webhook: &Webhook, kind: EventType, path: &str) -> Result<EventResource, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.is_readable.subscribe().wait_for(|is_readable| *is_readable).await.ok();
        let panics_at = *self.panics_at.lock().unwrap();
        assert_ne!(panics_at, Some(kind), "planted");
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::new(Code::StoreUnavailable, "away"));
        }
        let object = Some(json!({ "path": path, "readFor": webhook.owner }));
        Ok(EventResource { object, is_erased: false })
    }
}

struct World {
    gateway: Gateway,
    sqlite: Arc<SqliteStore>,
    store: Arc<dyn Store>,
    receiver: Arc<Receiver>,
    owners: Arc<Owners>,
    system: System,
}

fn caller(client: &str) -> RequestContext {
    RequestContext {
        tenant: TENANT.to_owned(),
        client: client.to_owned(),
        scopes: ScopeSet::all(),
        connections: ConnectionAccess::All,
        default_connection: None,
        exchange: Exchange::example(),
        priority: Priority::Interactive,
        key: None,
        origin: WriteOrigin::default(),
        resumed: None,
        audit_entry: None,
    }
}

fn settings(url: &str) -> WebhookSettings {
    WebhookSettings {
        url: url.to_owned(),
        description: None,
        types: Vec::new(),
        connections: Vec::new(),
        assessments: Vec::new(),
        payload: WebhookPayload::Thin,
        order: DeliveryOrder::Resource,
        max_in_flight: 4,
        requests_per_second: 0,
    }
}

/// Returns settings with short pauses.
fn delivery_settings() -> DeliverySettings {
    let millis = [0, 5, 10, 20, 40].map(Duration::from_millis);
    DeliverySettings {
        policy: TargetPolicy {
            allow_hosts: vec![HostPattern::parse("*.example.com").unwrap()],
            ..TargetPolicy::default()
        },
        schedule: RetrySchedule::new(&millis).unwrap(),
        ..DeliverySettings::default()
    }
}

/// Starts a gateway whose webhooks are not configured yet.
async fn start_gateway(store: &Arc<dyn Store>) -> Gateway {
    let kept = Retention { operations: DAY, keys: DAY, reports: DAY, parked_reports: DAY, events: 7 * DAY };
    let catalogue = Catalogue { assessments: BTreeMap::new(), programs: BTreeMap::new() };
    let system = crate::store::conformance::environment();
    Gateway::start(Arc::clone(store), BTreeMap::new(), catalogue, system, kept).await.unwrap()
}

fn sqlite_in_memory() -> Arc<SqliteStore> {
    let system = crate::store::conformance::environment();
    let ring = Keyring::new(&Keyring::generate(&system), &[]).unwrap();
    Arc::new(SqliteStore::in_memory(ring, system).unwrap())
}

impl World {
    async fn new() -> Self {
        Self::with(delivery_settings()).await
    }

    async fn with(settings: DeliverySettings) -> Self {
        let world = Self::unconfigured().await;
        world.gateway.start_deliveries(world.context(settings)).await;
        world
    }

    /// Returns a world whose gateway does not know yet how webhooks are delivered.
    async fn unconfigured() -> Self {
        let sqlite = sqlite_in_memory();
        let store: Arc<dyn Store> = Arc::<SqliteStore>::clone(&sqlite);
        Self::over(sqlite, store).await
    }

    /// Creates a world in which no webhook has a sender, over a store that counts its calls.
    async fn without_senders() -> Self {
        let sqlite = sqlite_in_memory();
        let store = counted(Arc::<SqliteStore>::clone(&sqlite));
        let world = Self::over(sqlite, store).await;
        world.gateway.0.webhooks.set_context(world.context(delivery_settings()));
        world
    }

    async fn over(sqlite: Arc<SqliteStore>, store: Arc<dyn Store>) -> Self {
        let owners = Arc::new(Owners {
            connections: Mutex::new(ConnectionAccess::All),
            is_readable: watch::Sender::new(true),
            is_away: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            panics_at: Mutex::default(),
        });
        let (receiver, system) = (Arc::new(Receiver::default()), crate::store::conformance::environment());
        let gateway = start_gateway(&store).await;
        Self { gateway, sqlite, store, receiver, owners, system }
    }

    /// Returns what sending needs.
    fn context(&self, settings: DeliverySettings) -> DeliveryContext {
        self.receiver.judge_by(settings.policy.clone());
        let owners: Arc<dyn WebhookOwners> = Arc::<Owners>::clone(&self.owners);
        let client: Arc<dyn DeliveryTransport> = Arc::<Receiver>::clone(&self.receiver);
        DeliveryContext { settings, owners, client }
    }

    /// Replaces the gateway by another one over the same store, as after a kill.
    async fn restart(&mut self, settings: DeliverySettings) {
        self.gateway = start_gateway(&self.store).await;
        self.gateway.start_deliveries(self.context(settings)).await;
    }

    async fn create(&self, settings: WebhookSettings) -> WebhookReply {
        let new = NewWebhook { settings, secret: None };
        self.gateway.create_webhook_now(&caller("lms"), new).await.unwrap()
    }

    /// Creates a webhook at this host and forgets its ping.
    async fn webhook(&self, host: &str) -> WebhookId {
        let created = self.create(settings(&format!("https://{host}.example.com/hook"))).await;
        self.receiver.forget();
        created.view.webhook.id
    }

    /// Commits an event of an assignment, made so long ago; returns its id.
    async fn emit_old(&self, assignment: Option<u64>, age: Duration) -> EventId {
        self.emit_about(EventType::ResultPublished, subject_of(assignment), age).await
    }

    async fn emit_about(&self, event_type: EventType, subject: EventSubject, age: Duration) -> EventId {
        let event = self.event_about(event_type, subject, age);
        let id = event.id.clone();
        self.store.commit(vec![Mutation::Event(Box::new(event))]).await.unwrap();
        id
    }

    /// Commits events in one transaction.
    async fn emit_all(&self, events: impl IntoIterator<Item = (EventType, EventSubject, Duration)>) {
        let events = events.into_iter().map(|(kind, subject, age)| self.event_about(kind, subject, age));
        self.store.commit(events.map(|event| Mutation::Event(Box::new(event))).collect()).await.unwrap();
    }

    /// Waits until no task holds the webhook's lock.
    async fn wait_for_sender_end(&self, id: &WebhookId) {
        let subject = SubjectKey::webhook(id);
        wait_until(async || self.gateway.0.subject_locks.try_lock(&subject).await.unwrap().is_some()).await;
    }

    /// Lets the purge end that every gateway begins with: it takes far fewer steps than these.
    async fn finish_first_purge(&self) {
        for _ in 0..30 {
            self.gateway.purge_events().await;
        }
    }

    fn event_about(&self, event_type: EventType, subject: EventSubject, age: Duration) -> NewEvent {
        let id = EventId::generate(&self.system);
        let age = SignedDuration::try_from(age).unwrap();
        let mut data = Map::new();
        data.insert("resource".to_owned(), Value::from("/results/res_1"));
        NewEvent {
            id,
            tenant: TENANT.to_owned(),
            event_type,
            timestamp: self.system.now().saturating_sub(age).unwrap(),
            subject,
            data,
        }
    }

    async fn emit(&self, assignment: Option<u64>) -> EventId {
        self.emit_old(assignment, Duration::ZERO).await
    }

    async fn stored(&self, id: &WebhookId) -> Webhook {
        self.store.webhook(TENANT, id).await.unwrap().unwrap()
    }

    /// Returns the deliveries to a webhook, the oldest event first.
    async fn deliveries(&self, id: &WebhookId) -> Vec<Delivery> {
        let (filter, page) = (DeliveryFilter::default(), Page { limit: 10_000, after: None });
        let mut all = self.store.deliveries(TENANT, id, &filter, &page).await.unwrap();
        all.sort_by_key(|delivery| delivery.sequence);
        all
    }

    async fn wait_for_state(&self, id: &WebhookId, state: WebhookState) {
        wait_until(async || self.stored(id).await.state == state).await;
    }

    /// Waits until this many deliveries to the webhook have succeeded.
    async fn wait_for_delivered(&self, id: &WebhookId, count: usize) {
        let delivered = async || {
            let all = self.deliveries(id).await;
            all.iter().filter(|delivery| delivery.state == DeliveryState::Delivered).count() >= count
        };
        wait_until(delivered).await;
    }

    /// Waits until all these events were accepted at a host.
    async fn wait_for_arrival(&self, host: &str, ids: &[String]) {
        let arrived = async || {
            let found: std::collections::BTreeSet<String> =
                self.receiver.accepted(host).into_iter().map(|one| one.headers.id).collect();
            ids.iter().all(|id| found.contains(id))
        };
        wait_until(arrived).await;
    }

    /// Returns the data of all events of a type.
    async fn reported(&self, kind: EventType) -> Vec<Map<String, Value>> {
        let filter = EventFilter { types: Some(vec![kind]), ..EventFilter::default() };
        let page = self.store.events(TENANT, 0, &filter, 1_000).await.unwrap();
        page.events.into_iter().map(|event| event.event.data).collect()
    }
}

fn subject_of(assignment: Option<u64>) -> EventSubject {
    let assignment = assignment.map(|number| AssignmentId::parse(&format!("asg_{number:032x}")).unwrap());
    EventSubject { connection: Some("exam".to_owned()), assignment, assessment_ref: None }
}

/// Waits for something that must happen, however slow the machine is.
async fn wait_until(condition: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it never happened");
}

fn sequences(received: &[Received]) -> Vec<u64> {
    received.iter().filter_map(|one| one.sequence).collect()
}

fn now() -> Timestamp {
    crate::store::conformance::environment().now()
}
