//! Sends the deliveries of one webhook, in one task of one instance: the one that holds the webhook's lock.
//!
//! The results of attempts are committed before others begin. An attempt whose result is lost with its process is made again
//! with the same `webhook-id`, so that every event arrives at least once. A commit of an instance that was declared dead is
//! refused, so that two of them never disagree.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::event::{EventDocument, EventFilter};
use crate::domain::ids::{AssignmentId, WebhookId};
use crate::domain::subject::SubjectKey;
use crate::domain::webhook::{Delivery, DeliveryState, Webhook, WebhookState};
use crate::service::webhooks::attempt::BegunAttempt;
use crate::service::webhooks::reading::ChainedEvent;
use crate::service::webhooks::settings::DeliveryContext;
use crate::service::webhooks::state::SenderSignals;
use crate::service::webhooks::verdict::{BackOff, EndedAttempt, Rules, Turn, conclude};
use crate::service::webhooks::window::{PendingWindow, Preference};
use crate::service::write::locks::SubjectLock;
use crate::service::{Gateway, Inner};
use crate::store::{Mutation, StoreError, WebhookHealth};
use crate::telemetry::metrics;

/// Pause before a webhook is looked at again after an error of the store, or if the process must not send now.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause before a webhook is looked at again whose lock another instance holds. The end of an instance ends it, too.
const MAX_LOCK_INTERVAL: Duration = Duration::from_secs(15);
/// Longest time without a look, unless the store fails.
const POLL_INTERVAL: Duration = Duration::from_secs(15);
/// Interval between reads of the webhook and its deliveries, in case that a signal of a change was missed.
const REFRESH_INTERVAL: Duration = Duration::from_mins(1);

/// The sender of a webhook's deliveries, which holds its lock.
pub(super) struct Sender {
    pub(super) context: Arc<DeliveryContext>,
    pub(super) webhook: Webhook,
    pub(super) filter: EventFilter,
    /// Up to which event all were looked at. The webhook's own position follows it.
    pub(super) scanned: u64,
    pub(super) window: PendingWindow,
    /// Whether the store may have pending deliveries that are not in the window.
    pub(super) is_partial: bool,
    /// Up to which event such deliveries were looked for last.
    pub(super) looked_to: u64,
    /// Whether the next delivery is rather one that was never attempted.
    prefers_fresh: bool,
    /// Whether all visible events were looked at.
    pub(super) is_caught_up: bool,
    pub(super) visible: watch::Receiver<u64>,
    pub(super) times: SenderTimes,
    pub(super) signals: Arc<SenderSignals>,
    back_off: BackOff,
    /// Attempts in flight.
    attempts: JoinSet<Result<EndedAttempt, Unmade>>,
    begun: HashMap<Id, BegunAttempt>,
    ended: Vec<EndedAttempt>,
    next_send: Option<Instant>,
    stopping: CancellationToken,
    /// Counts as work in progress, so that the process does not exit before the ends of attempts are committed.
    _token: TaskTrackerToken,
}

/// Why nothing was sent.
enum Unmade {
    /// It could not be sent now, and is due again at this time.
    Later(Timestamp),
    /// The webhook or the delivery has changed since it was read.
    Changed,
}

/// When the sender last did what it does from time to time.
#[derive(Default)]
pub(super) struct SenderTimes {
    pub(super) refreshed: Option<Instant>,
    pub(super) looked: Option<Instant>,
    pub(super) persisted: Option<Instant>,
    pub(super) expired: Option<Instant>,
}

/// Runs the sender of a webhook until there is nothing to send to, or until the gateway ends.
pub(super) async fn run(gateway: Weak<Inner>, tenant: String, id: WebhookId, signals: Arc<SenderSignals>) {
    let Some(mut departures) = gateway.upgrade().map(|inner| inner.lease.departures()) else { return };
    let mut pause = RETRY_INTERVAL;
    loop {
        let Some(inner) = gateway.upgrade() else { return };
        departures.mark_unchanged();
        let opened = Gateway(inner).open_sender(&tenant, &id, &signals).await;
        pause = if matches!(opened, Ok(Opened::Locked)) { (pause * 2).min(MAX_LOCK_INTERVAL) } else { RETRY_INTERVAL };
        match opened {
            Ok(Opened::Sender(mut sender, lock)) => {
                signals.is_sending.store(true, Ordering::SeqCst);
                sender.run(&gateway).await;
                signals.is_sending.store(false, Ordering::SeqCst);
                drop(lock);
            }
            Ok(Opened::Locked | Opened::Later) => {}
            Ok(Opened::Never) => return,
            Err(error) => tracing::warn!(webhook = %id, %error, "a webhook cannot be served now; will retry"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = signals.wake.notified() => {}
            // The process that has held the lock may be the one that has ended. An error means that this one ends.
            Ok(()) = departures.changed() => {}
        }
    }
}

/// The end of an attempt to become a webhook's sender.
pub(super) enum Opened {
    Sender(Box<Sender>, SubjectLock),
    /// Another instance is.
    Locked,
    /// The process must not send now, or the webhook has no owner.
    Later,
    /// The webhook is gone, paused or disabled, or the process ends.
    Never,
}

impl Gateway {
    /// Becomes the sender of a webhook, if there is no other one.
    pub(super) async fn open_sender(
        &self,
        tenant: &str,
        id: &WebhookId,
        signals: &Arc<SenderSignals>,
    ) -> Result<Opened, StoreError> {
        if self.is_stopping() {
            return Ok(Opened::Never);
        }
        let _permit = self.0.webhooks.read_permit().await;
        let Some(lock) = self.0.subject_locks.try_lock(&SubjectKey::webhook(id)).await? else {
            return Ok(Opened::Locked);
        };
        signals.take_refresh();
        let Some(context) = self.0.webhooks.context().filter(|_| self.0.lease.holds()) else {
            return Ok(Opened::Later);
        };
        let Some(webhook) = self.0.store.webhook(tenant, id).await?.filter(is_sendable) else {
            return Ok(Opened::Never);
        };
        let Some(owner) = context.owners.owner(&webhook) else { return Ok(Opened::Later) };
        let mut sender = Sender {
            filter: self.filter_of(&webhook, &owner),
            scanned: webhook.scanned,
            // Only the time until which nothing is sent is stored; the failures in a row are at least as many as its steps.
            back_off: BackOff { step: webhook.resume_at.map_or(0, |_| webhook.failures), ..BackOff::default() },
            visible: self.0.event_heads.subscribe(tenant),
            context,
            webhook,
            window: PendingWindow::default(),
            is_partial: false,
            looked_to: 0,
            prefers_fresh: false,
            is_caught_up: false,
            times: SenderTimes::default(),
            signals: Arc::clone(signals),
            attempts: JoinSet::new(),
            begun: HashMap::new(),
            ended: Vec::new(),
            next_send: None,
            stopping: self.0.stopping.clone(),
            _token: self.0.tasks.token(),
        };
        sender.load_window(self).await?;
        sender.times.refreshed = Some(Instant::now());
        Ok(Opened::Sender(Box::new(sender), lock))
    }
}

/// Returns whether deliveries are sent to the webhook.
pub(super) fn is_sendable(webhook: &Webhook) -> bool {
    matches!(webhook.state, WebhookState::Enabled | WebhookState::Failing)
}

impl Sender {
    async fn run(&mut self, gateway: &Weak<Inner>) {
        let mut is_retried = false;
        loop {
            let Some(inner) = gateway.upgrade() else { return };
            let gateway = Gateway(inner);
            let wake = match self.step(&gateway).await {
                Ok(Some(wake)) => {
                    is_retried = false;
                    wake
                }
                Ok(None) | Err(StoreError::Fenced) => return,
                // The webhook or a delivery has changed since it was read: both are read again.
                Err(StoreError::Superseded) if !is_retried => {
                    (is_retried, self.times.refreshed) = (true, None);
                    Instant::now()
                }
                Err(error) => {
                    tracing::warn!(webhook = %self.webhook.id, %error, "sending deliveries failed; will retry");
                    // What was committed is not certain.
                    self.times.refreshed = None;
                    if gateway.is_stopping() {
                        return;
                    }
                    Instant::now() + RETRY_INTERVAL
                }
            };
            let can_make_more = self.can_make_more(gateway.now());
            drop(gateway);
            self.wait_until(wake, can_make_more).await;
        }
    }

    /// Does what is due. Returns when to look again; `None` if this is no longer the webhook's sender.
    pub(super) async fn step(&mut self, gateway: &Gateway) -> Result<Option<Instant>, StoreError> {
        while let Some(joined) = self.attempts.try_join_next_with_id() {
            self.note_end(joined);
        }
        if !self.conclude_ended(gateway).await? {
            return Ok(None);
        }
        if gateway.is_stopping() || !gateway.0.lease.holds() || !is_sendable(&self.webhook) {
            let wake = Instant::now() + POLL_INTERVAL;
            return Ok((!self.attempts.is_empty()).then_some(wake));
        }
        if self.signals.take_refresh() || is_due(self.times.refreshed, REFRESH_INTERVAL) {
            if !self.refresh(gateway).await? {
                return Ok(None);
            }
            if !is_sendable(&self.webhook) {
                return Ok(Some(Instant::now()));
            }
        }
        self.skip_expired(gateway).await?;
        self.load_due(gateway).await?;
        self.make_deliveries(gateway).await?;
        self.start_attempts(gateway).await?;
        Ok(Some(self.next_look(gateway)))
    }

    async fn wait_until(&mut self, wake: Instant, can_make_more: bool) {
        tokio::select! {
            Some(joined) = self.attempts.join_next_with_id() => self.note_end(joined),
            () = self.signals.wake.notified() => {}
            () = self.stopping.cancelled(), if !self.stopping.is_cancelled() => {}
            changed = self.visible.changed(), if can_make_more => {
                if changed.is_err() {
                    // The store ends, and with it the gateway.
                    tokio::time::sleep_until(wake).await;
                }
                self.is_caught_up = false;
            }
            () = tokio::time::sleep_until(wake) => {}
        }
    }

    fn note_end(&mut self, joined: Result<(Id, Result<EndedAttempt, Unmade>), tokio::task::JoinError>) {
        match joined {
            Ok((id, Ok(end))) => {
                self.begun.remove(&id);
                self.ended.push(end);
            }
            Ok((id, Err(unmade))) => {
                let begun = self.begun.remove(&id);
                if let Some(delivery) = begun.and_then(|begun| self.window.get(begun.sequence).cloned()) {
                    let due = match unmade {
                        Unmade::Later(due) => Some(due),
                        Unmade::Changed => delivery.due,
                    };
                    self.window.end(Delivery { due, ..delivery });
                }
                if matches!(unmade, Unmade::Changed) {
                    self.times.refreshed = None;
                }
            }
            Err(error) => {
                tracing::error!(webhook = %self.webhook.id, panicked = error.is_panic(), "an attempt ended unexpectedly");
                // It takes a step of the schedule: if it was made again at once, it would end so at once, again and again.
                self.ended.extend(self.begun.remove(&error.id()).map(BegunAttempt::unknown_end));
            }
        }
    }

    /// Commits the ends of attempts. Returns `false` if the webhook is gone.
    async fn conclude_ended(&mut self, gateway: &Gateway) -> Result<bool, StoreError> {
        while !self.ended.is_empty() {
            let (mut webhook, mut back_off) = (self.webhook.clone(), self.back_off);
            let mut deliveries: HashMap<u64, Delivery> = HashMap::new();
            let mut turns = Vec::new();
            let settings = &self.context.settings;
            for end in &self.ended {
                let known = deliveries.remove(&end.sequence).or_else(|| self.window.get(end.sequence).cloned());
                let Some(mut delivery) = known else { continue };
                let random = u64::from_be_bytes(gateway.0.system.random());
                let rules = Rules { schedule: &settings.schedule, disable_after: settings.disable_after, random };
                turns.extend(conclude(end, &mut delivery, &mut webhook, &mut back_off, &rules));
                deliveries.insert(end.sequence, delivery);
            }
            for delivery in deliveries.values_mut() {
                delivery.version += 1;
            }
            let changes = self.changes(gateway, &mut webhook, &deliveries, &turns);
            match gateway.0.store.commit(changes).await {
                Ok(()) => {
                    let followed = self.note_committed(webhook, back_off, deliveries, &turns);
                    self.ended.clear();
                    self.load_followers(gateway, &followed).await?;
                }
                Err(StoreError::Superseded) => {
                    // A client has changed the webhook or a delivery meanwhile.
                    if !self.refresh(gateway).await? {
                        return Ok(false);
                    }
                    self.reread_ended(gateway).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads the deliveries again whose attempts have ended. Drops the ends that are recorded, by a commit that was in doubt.
    async fn reread_ended(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let (mut unrecorded, mut followed) = (Vec::new(), Vec::new());
        for end in self.ended.clone() {
            let Some(known) = self.window.get(end.sequence).cloned() else { continue };
            match gateway.0.store.delivery(&known.tenant, &known.id).await? {
                Some(stored) if stored.attempts.contains(&end.attempt) => followed.extend(self.window.end(stored)),
                Some(stored) => {
                    self.window.replace(stored);
                    unrecorded.push(end);
                }
                None => followed.extend(self.window.end(Delivery { due: None, ..known })),
            }
        }
        self.ended = unrecorded;
        self.load_followers(gateway, &followed).await
    }

    /// Returns the changes of one transaction with the ends of attempts.
    fn changes(
        &self,
        gateway: &Gateway,
        webhook: &mut Webhook,
        deliveries: &HashMap<u64, Delivery>,
        turns: &[Turn],
    ) -> Vec<Mutation> {
        let mut changes: Vec<Mutation> =
            deliveries.values().map(|delivery| Mutation::Delivery(Box::new(delivery.clone()))).collect();
        if (webhook.state, webhook.reason) != (self.webhook.state, self.webhook.reason) {
            webhook.version += 1;
            webhook.last_modified = gateway.now();
            changes.push(Mutation::Webhook(Box::new(webhook.clone())));
        }
        let health = health_of(webhook);
        if health != health_of(&self.webhook) {
            changes.push(Mutation::WebhookHealth(health));
        }
        let emitter = gateway.emitter();
        changes.extend(turns.iter().map(|turn| {
            let event = match turn {
                Turn::Failing => emitter.webhook_failing(&webhook.tenant, &webhook.id),
                Turn::Disabled(reason) => emitter.webhook_disabled(&webhook.tenant, &webhook.id, *reason),
            };
            Mutation::Event(Box::new(event))
        }));
        changes
    }

    /// Takes note of what was committed. Returns the assignments of which later deliveries may have waited.
    fn note_committed(
        &mut self,
        webhook: Webhook,
        back_off: BackOff,
        deliveries: HashMap<u64, Delivery>,
        turns: &[Turn],
    ) -> Vec<AssignmentId> {
        for turn in turns {
            match turn {
                Turn::Failing => tracing::warn!(webhook = %webhook.id, "a webhook is failing"),
                Turn::Disabled(reason) => {
                    tracing::warn!(webhook = %webhook.id, reason = reason.as_str(), "a webhook was disabled");
                }
            }
        }
        let mut followed = Vec::new();
        for delivery in deliveries.into_values() {
            match delivery.state {
                DeliveryState::Pending => {}
                state @ (DeliveryState::Delivered | DeliveryState::Failed) => metrics::deliveries(state.as_str(), 1),
            }
            followed.extend(self.window.end(delivery));
        }
        (self.webhook, self.back_off) = (webhook, back_off);
        followed
    }

    /// Reads the webhook and its deliveries again. Returns `false` if it is gone, or has no owner any more.
    async fn refresh(&mut self, gateway: &Gateway) -> Result<bool, StoreError> {
        let _permit = gateway.0.webhooks.read_permit().await;
        let found = gateway.0.store.webhook(&self.webhook.tenant, &self.webhook.id).await?;
        let (Some(webhook), Some(context)) = (found, gateway.0.webhooks.context()) else { return Ok(false) };
        let Some(owner) = context.owners.owner(&webhook) else { return Ok(false) };
        self.filter = gateway.filter_of(&webhook, &owner);
        if webhook.version == self.webhook.version {
            self.scanned = self.scanned.max(webhook.scanned);
        } else {
            // It may have been paused, and resumed before this was noticed.
            self.times.expired = None;
            // Another filter may admit events that were passed over, of which no delivery was made.
            self.scanned = webhook.scanned;
            self.is_caught_up = false;
        }
        if webhook.resume_at.is_none() {
            self.back_off.end();
        }
        (self.webhook, self.context) = (webhook, context);
        self.load_window(gateway).await?;
        self.times.refreshed = Some(Instant::now());
        Ok(true)
    }

    async fn start_attempts(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let settings = self.webhook.settings.clone();
        loop {
            let now = gateway.now();
            let is_probe = self.webhook.resume_at.is_some();
            if self.webhook.resume_at.is_some_and(|resume_at| resume_at > now)
                || self.window.in_flight() >= self.max_in_flight()
                || self.next_send.is_some_and(|next| next > Instant::now())
            {
                return Ok(());
            }
            let preference = match (is_probe, self.prefers_fresh) {
                (true, _) => Preference::Probe,
                (false, true) => Preference::Fresh,
                (false, false) => Preference::First,
            };
            let next = self.window.next(now, settings.order, preference);
            let Some(delivery) = next.and_then(|number| self.window.get(number).cloned()) else { return Ok(()) };
            let number = delivery.sequence;
            if self.signals.is_stale() {
                // What it may get has changed, in the store or in the configuration.
                return Ok(());
            }
            let chained = gateway.chained_event(&self.webhook, &self.filter, number).await;
            let chained = chained.map_err(|error| StoreError::Unavailable(error.detail))?;
            let (event, previous) = match chained {
                ChainedEvent::Included(event, previous) => (event, previous),
                ChainedEvent::Excluded => {
                    self.exclude(gateway, number).await?;
                    continue;
                }
                ChainedEvent::Gone => {
                    // Retention has removed it meanwhile.
                    self.times.expired = None;
                    self.skip_expired(gateway).await?;
                    if self.window.get(number).is_some() {
                        // The store has ended it, and the window does not know.
                        self.times.refreshed = None;
                    }
                    return Ok(());
                }
            };
            if let Some(pause) = Duration::from_secs(1).checked_div(settings.requests_per_second) {
                self.next_send = Some(Instant::now() + pause);
            }
            self.prefers_fresh = !self.prefers_fresh;
            self.window.begin(number);
            self.spawn_attempt(gateway, delivery, event.document(previous));
        }
    }

    fn spawn_attempt(&mut self, gateway: &Gateway, delivery: Delivery, document: EventDocument) {
        let sequence = delivery.sequence;
        let attempt = BegunAttempt::now(gateway, sequence);
        let began = attempt.began;
        let (gateway, context, webhook) = (gateway.clone(), Arc::clone(&self.context), self.webhook.clone());
        let spawned = self.attempts.spawn(async move {
            let later = || {
                let pause = SignedDuration::try_from(RETRY_INTERVAL).unwrap_or_default();
                Unmade::Later(gateway.now().saturating_add(pause).unwrap_or(began))
            };
            let document = gateway.with_resource(&context, &webhook, document).await.map_err(|error| {
                let (code, detail) = (error.code.as_str(), error.detail);
                tracing::warn!(webhook = %webhook.id, code, detail, "a resource cannot be read now; will retry");
                later()
            })?;
            // Last of all, so that a change that was answered is in force: a paused webhook gets nothing, and a former secret
            // signs nothing.
            match gateway.0.store.is_attemptable(&delivery, webhook.version).await {
                Ok(true) => {}
                Ok(false) => return Err(Unmade::Changed),
                Err(error) => {
                    tracing::warn!(webhook = %webhook.id, %error, "a webhook cannot be read now; will retry");
                    return Err(later());
                }
            }
            let (attempt, verdict) = gateway.attempt(&context, &webhook, &document).await;
            Ok(EndedAttempt { sequence, began, ended: gateway.now(), attempt, verdict })
        });
        self.begun.insert(spawned.id(), attempt);
    }

    /// Returns how many attempts may be in flight: one that probes a receiver that was away.
    fn max_in_flight(&self) -> usize {
        let most = if self.webhook.resume_at.is_some() { 1 } else { self.webhook.settings.max_in_flight.max(1) };
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Returns when something may be due next, if nothing happens before.
    fn next_look(&self, gateway: &Gateway) -> Instant {
        let now = Instant::now();
        let mut look = now + POLL_INTERVAL;
        if self.can_make_more(gateway.now()) && !self.is_caught_up {
            return now;
        }
        if self.window.in_flight() < self.max_in_flight()
            && let Some(due) = self.window.next_due(self.webhook.settings.order)
        {
            let due = due.max(self.webhook.resume_at.unwrap_or(Timestamp::MIN));
            let due = now + Duration::try_from(due.duration_since(gateway.now())).unwrap_or_default();
            look = look.min(due.max(self.next_send.unwrap_or(now)));
        }
        if self.is_partial {
            look = look.min(now + RETRY_INTERVAL);
        }
        look
    }
}

pub(super) fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

fn health_of(webhook: &Webhook) -> WebhookHealth {
    let Webhook { id, version, failures, failing_since, resume_at, .. } = webhook;
    let (failing_since, resume_at) = (*failing_since, *resume_at);
    WebhookHealth { id: id.clone(), version: *version, failures: *failures, failing_since, resume_at }
}
