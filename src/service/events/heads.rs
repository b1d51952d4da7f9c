//! The numbers of the tenants' latest events, which one task of the process reads for all that wait for events: readers that
//! hold back a response, streams, and the senders of webhooks. So an idle process asks the store once, however many wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::service::Gateway;
use crate::service::mutex::lock_unpoisoned;
use crate::store::StoreError;

/// Interval between looks at a shared store: other instances number events, too.
const SHARED_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between looks at a store of this process, in case that a signal was missed.
const OWN_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Shortest time between two looks, so that many commits in a row cause one.
const SHORTEST: Duration = Duration::from_millis(5);

/// The latest events of the tenants for which something waits.
#[derive(Default)]
pub(in crate::service) struct EventHeads {
    tenants: Mutex<HashMap<String, watch::Sender<u64>>>,
    subscribed: Arc<Notify>,
}

impl EventHeads {
    /// Returns what changes after events of a tenant have become visible. Those that became visible before the call may change it,
    /// too.
    pub(in crate::service) fn subscribe(&self, tenant: &str) -> watch::Receiver<u64> {
        let mut tenants = lock_unpoisoned(&self.tenants);
        if let Some(head) = tenants.get(tenant) {
            return head.subscribe();
        }
        let (head, receiver) = watch::channel(0);
        tenants.insert(tenant.to_owned(), head);
        self.subscribed.notify_one();
        receiver
    }

    /// Returns whether anything waits; forgets the tenants for which nothing does.
    fn is_watched(&self) -> bool {
        let mut tenants = lock_unpoisoned(&self.tenants);
        tenants.retain(|_, head| head.receiver_count() > 0);
        !tenants.is_empty()
    }

    fn publish(&self, heads: &[(String, u64)]) {
        let tenants = lock_unpoisoned(&self.tenants);
        for (tenant, latest) in heads {
            if let Some(head) = tenants.get(tenant) {
                head.send_if_modified(|known| std::mem::replace(known, *latest) != *latest);
            }
        }
    }
}

impl Gateway {
    /// Spawns the task that reads the latest events while something waits. It holds the gateway weakly and ends with it.
    pub(in crate::service) fn spawn_event_heads(&self) {
        let gateway = Arc::downgrade(&self.0);
        let (mut visible, subscribed) = (self.0.store.event_signal(), Arc::clone(&self.0.event_heads.subscribed));
        let usual = if self.0.store.is_shared() { SHARED_INTERVAL } else { OWN_INTERVAL };
        tokio::spawn(async move {
            loop {
                let Some(inner) = gateway.upgrade() else { return };
                let current = Self(inner);
                let is_watched = current.0.event_heads.is_watched();
                visible.mark_unchanged();
                let read = if is_watched { current.read_heads().await } else { Ok(()) };
                drop(current);
                let interval = if let Err(error) = read {
                    tracing::warn!(%error, "reading the latest events failed; will retry");
                    PAUSE
                } else {
                    tokio::time::sleep(SHORTEST).await;
                    usual
                };
                tokio::select! {
                    changed = visible.changed() => {
                        if changed.is_err() {
                            // The store ends, and with it the gateway.
                            return;
                        }
                    }
                    () = subscribed.notified() => {}
                    () = tokio::time::sleep(interval), if is_watched => {}
                }
            }
        });
    }

    /// Reads the latest events of all tenants, and wakes what waits for them.
    pub(in crate::service) async fn read_heads(&self) -> Result<(), StoreError> {
        self.0.event_heads.publish(&self.0.store.event_heads().await?);
        Ok(())
    }
}
