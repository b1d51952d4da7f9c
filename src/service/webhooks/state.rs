//! What this process keeps in memory about the sending of deliveries. All of it can be lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::domain::ids::WebhookId;
use crate::service::Inner;
use crate::service::mutex::lock_unpoisoned;
use crate::service::webhooks::settings::DeliveryContext;

/// Number of senders that read their webhook and its deliveries at once: a thousand of them start together, and what each
/// needs for its reads would otherwise be in memory at the same time.
const MAX_CONCURRENT_READS: usize = 16;

/// The senders of this process.
#[derive(Default)]
pub(in crate::service) struct WebhooksState {
    context: ArcSwapOption<DeliveryContext>,
    senders: Mutex<BTreeMap<WebhookId, Arc<SenderSignals>>>,
    /// A webhook has changed: there may be one without a sender.
    changed: Arc<Notify>,
    /// Whether the store has the configured webhooks as they are configured now.
    pub(super) is_registered: AtomicBool,
    is_supervised: AtomicBool,
    reads: ReadPermits,
}

/// Permits of senders to read.
struct ReadPermits(Semaphore);

impl Default for ReadPermits {
    fn default() -> Self {
        Self(Semaphore::new(MAX_CONCURRENT_READS))
    }
}

/// Signals to the sender of a webhook.
#[derive(Default)]
pub(super) struct SenderSignals {
    pub(super) wake: Notify,
    /// Whether the sender holds the lock of its webhook.
    pub(super) is_sending: AtomicBool,
    is_stale: AtomicBool,
}

impl SenderSignals {
    /// Has the sender read its webhook and its deliveries again.
    pub(super) fn refresh(&self) {
        self.is_stale.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Returns whether the sender is to read them again before it sends anything.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::SeqCst)
    }

    /// Returns whether the sender is to read them again, and takes note of it.
    pub(super) fn take_refresh(&self) -> bool {
        self.is_stale.swap(false, Ordering::SeqCst)
    }
}

impl WebhooksState {
    /// Completes when there may be a webhook without a sender.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let changed = Arc::clone(&self.changed);
        async move { changed.notified().await }
    }

    /// Returns everything that sending needs; `None` until it is configured.
    pub(super) fn context(&self) -> Option<Arc<DeliveryContext>> {
        self.context.load_full()
    }

    /// Replaces what sending needs. Senders take note of it.
    pub(super) fn set_context(&self, context: DeliveryContext) {
        self.context.store(Some(Arc::new(context)));
        self.is_registered.store(false, Ordering::SeqCst);
        for signals in lock_unpoisoned(&self.senders).values() {
            signals.refresh();
        }
        self.changed.notify_one();
    }

    /// Acquires the permit to read a webhook and its deliveries. Never `None`: the semaphore is not closed.
    pub(super) async fn read_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.reads.0.acquire().await.ok()
    }

    /// Returns whether this is the first time that the senders are started.
    pub(super) fn begin_supervision(&self) -> bool {
        !self.is_supervised.swap(true, Ordering::SeqCst)
    }

    /// Registers the sender of a webhook; `None` if it has one.
    pub(super) fn begin_sending(&self, webhook: &WebhookId) -> Option<Arc<SenderSignals>> {
        let mut senders = lock_unpoisoned(&self.senders);
        if senders.contains_key(webhook) {
            return None;
        }
        let signals = Arc::new(SenderSignals::default());
        senders.insert(webhook.clone(), Arc::clone(&signals));
        Some(signals)
    }

    /// Removes the sender of a webhook.
    fn end_sending(&self, webhook: &WebhookId) {
        lock_unpoisoned(&self.senders).remove(webhook);
        // One that panics is started again at the next look, and not at once.
        if !std::thread::panicking() {
            self.changed.notify_one();
        }
    }

    /// Has the sender of a webhook, if there is one, read it again.
    pub(super) fn refresh(&self, webhook: &WebhookId) {
        if let Some(signals) = lock_unpoisoned(&self.senders).get(webhook) {
            signals.refresh();
        }
    }

    /// Has the sender of a webhook read its deliveries again, if it holds the webhook's lock.
    pub(super) fn refresh_sending(&self, webhook: &WebhookId) {
        let senders = lock_unpoisoned(&self.senders);
        if let Some(signals) = senders.get(webhook).filter(|signals| signals.is_sending.load(Ordering::SeqCst)) {
            signals.refresh();
        }
    }

    /// Takes note of a change of a webhook or its deliveries.
    pub(super) fn notify(&self, webhook: &WebhookId) {
        self.refresh(webhook);
        self.changed.notify_one();
    }
}

/// Entry of a sender among those of its process, which ends with it, also if it panics.
pub(super) struct Sending {
    gateway: Weak<Inner>,
    webhook: WebhookId,
}

impl Sending {
    pub(super) const fn new(gateway: Weak<Inner>, webhook: WebhookId) -> Self {
        Self { gateway, webhook }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(inner) = self.gateway.upgrade() {
            inner.webhooks.end_sending(&self.webhook);
        }
    }
}
