//! Fair semaphore for a connection's bulk calls. It grants permits round-robin across tenants and, within a tenant,
//! across operations, so neither a tenant with many operations nor an operation with many rows blocks others until its
//! end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Key of the queue in which a call waits for its permit: one queue per operation of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueKey {
    /// Tenant.
    pub(super) tenant: String,
    /// Operation, or another kind of work for the tenant.
    pub(super) operation: String,
}

/// Semaphore whose permits are shared fairly.
pub(super) struct FairSemaphore(Mutex<State>);

struct State {
    size: usize,
    taken: usize,
    /// Tenants with waiting calls; the next to be served first.
    tenants: VecDeque<TenantQueue>,
}

/// Tenant's operations with waiting calls, the next to be served first; never empty.
struct TenantQueue {
    name: String,
    operations: VecDeque<OperationQueue>,
}

/// Operation's waiting calls, in order; never empty.
struct OperationQueue {
    name: String,
    calls: VecDeque<oneshot::Sender<FairPermit>>,
}

/// Permit of a [`FairSemaphore`]; released on drop.
#[derive(Debug)]
pub(super) struct FairPermit(Option<Arc<FairSemaphore>>);

impl std::fmt::Debug for FairSemaphore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let State { size, taken, tenants: _ } = &*self.state();
        formatter.debug_struct("FairSemaphore").field("size", size).field("taken", taken).finish_non_exhaustive()
    }
}

impl FairSemaphore {
    /// Creates a semaphore with `size` permits, at least one.
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { size: size.max(1), taken: 0, tenants: VecDeque::new() })))
    }

    /// Acquires a permit, waiting for it in the queue of `key`. Cancel-safe: a dropped wait consumes no permit.
    pub(super) async fn acquire(self: &Arc<Self>, key: &QueueKey) -> FairPermit {
        let granted = {
            let mut state = self.state();
            if state.taken < state.size {
                state.taken += 1;
                return FairPermit(Some(Arc::clone(self)));
            }
            let (sender, granted) = oneshot::channel();
            state.join(key, sender);
            granted
        };
        // A sender is dropped only after it has sent a permit.
        granted.await.unwrap_or(FairPermit(None))
    }

    /// Changes the number of permits. Permits in use stay valid and count.
    pub(super) fn resize(self: &Arc<Self>, size: usize) {
        self.state().size = size.max(1);
        self.wake_waiters();
    }

    /// Grants free permits to waiting calls.
    fn wake_waiters(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                if state.taken >= state.size {
                    return;
                }
                let Some(next) = state.next() else { return };
                state.taken += 1;
                next
            };
            // Send outside the lock: a permit whose receiver was dropped comes straight back.
            if let Err(mut refused) = next.send(FairPermit(Some(Arc::clone(self)))) {
                refused.0 = None;
                self.state().taken -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code can leave the state half changed, so poisoning is ignored.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, key: &QueueKey, call: oneshot::Sender<FairPermit>) {
        let at = self.tenants.iter().position(|tenant| tenant.name == key.tenant).unwrap_or_else(|| {
            self.tenants.push_back(TenantQueue { name: key.tenant.clone(), operations: VecDeque::new() });
            self.tenants.len() - 1
        });
        let operations = &mut self.tenants[at].operations;
        match operations.iter_mut().find(|operation| operation.name == key.operation) {
            Some(operation) => operation.calls.push_back(call),
            None => {
                operations.push_back(OperationQueue { name: key.operation.clone(), calls: VecDeque::from([call]) });
            }
        }
    }

    /// Removes the next call to be served, and moves its operation and tenant to the end of their queues.
    fn next(&mut self) -> Option<oneshot::Sender<FairPermit>> {
        let mut tenant = self.tenants.pop_front()?;
        let mut operation = tenant.operations.pop_front()?;
        let call = operation.calls.pop_front();
        if !operation.calls.is_empty() {
            tenant.operations.push_back(operation);
        }
        if !tenant.operations.is_empty() {
            self.tenants.push_back(tenant);
        }
        call
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            places.state().taken -= 1;
            places.wake_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn key(tenant: &str, operation: &str) -> QueueKey {
        QueueKey { tenant: tenant.to_owned(), operation: operation.to_owned() }
    }

    #[tokio::test]
    async fn permits_rotate_across_tenants_and_their_operations() {
        let places = FairSemaphore::new(1);
        let mut held = Some(places.acquire(&key("a", "1")).await);
        let wanted = [("a", "1"), ("a", "1"), ("a", "2"), ("a", "3"), ("b", "9"), ("c", "7"), ("b", "9")];
        let keys: Vec<QueueKey> = wanted.iter().map(|(tenant, operation)| key(tenant, operation)).collect();
        let mut waits: Vec<_> = keys.iter().map(|key| (key, Box::pin(places.acquire(key)))).collect();
        for (_, wait) in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        let mut order = Vec::new();
        while !waits.is_empty() {
            drop(held.take());
            for at in 0..waits.len() {
                if let std::task::Poll::Ready(permit) = poll!(&mut waits[at].1) {
                    order.push(format!("{}{}", waits[at].0.tenant, waits[at].0.operation));
                    held = Some(permit);
                    drop(waits.remove(at));
                    break;
                }
            }
            assert!(held.is_some(), "a permit was lost");
        }
        assert_eq!(order, ["a1", "b9", "c7", "a2", "b9", "a3", "a1"]);
    }

    #[tokio::test]
    async fn a_dropped_wait_takes_no_permit_and_a_resize_applies_at_once() {
        let places = FairSemaphore::new(2);
        let (first, second) = (places.acquire(&key("a", "1")).await, places.acquire(&key("a", "1")).await);
        let (one, two) = (key("a", "2"), key("b", "3"));
        let mut gone = Box::pin(places.acquire(&one));
        let mut third = Box::pin(places.acquire(&two));
        assert!(poll!(&mut gone).is_pending() && poll!(&mut third).is_pending());
        drop(gone);
        places.resize(1);
        drop(first);
        assert!(poll!(&mut third).is_pending(), "one is still too many");
        drop(second);
        let third = third.await;
        assert_eq!(places.state().taken, 1);
        places.resize(2);
        let fourth = places.acquire(&key("a", "4")).await;
        drop((third, fourth));
        assert_eq!(places.state().taken, 0);
    }
}
