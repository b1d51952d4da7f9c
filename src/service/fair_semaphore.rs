//! Fair places: what a connection lends to operations, handed out call by call, by tenant in turn and, within a tenant, by
//! operation in turn. So neither a tenant with many operations nor an operation with many rows makes another one wait for its
//! end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The queue a call waits in for its place: an operation's, among those of its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueKey {
    /// The tenant.
    pub(super) tenant: String,
    /// The operation, or what else goes on for the tenant.
    pub(super) operation: String,
}

/// A limited number of places, shared fairly.
pub(super) struct FairSemaphore(Mutex<State>);

struct State {
    size: usize,
    taken: usize,
    /// Those that wait, the tenant whose turn is next first.
    tenants: VecDeque<TenantQueue>,
}

/// A tenant's operations that wait, the one whose turn is next first; never empty.
struct TenantQueue {
    name: String,
    operations: VecDeque<OperationQueue>,
}

/// An operation's calls that wait, in order; never empty.
struct OperationQueue {
    name: String,
    calls: VecDeque<oneshot::Sender<FairPermit>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct FairPermit(Option<Arc<FairSemaphore>>);

impl std::fmt::Debug for FairSemaphore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let State { size, taken, tenants: _ } = &*self.state();
        formatter.debug_struct("Places").field("size", size).field("taken", taken).finish_non_exhaustive()
    }
}

impl FairSemaphore {
    /// Makes so many places, at least one.
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { size: size.max(1), taken: 0, tenants: VecDeque::new() })))
    }

    /// Waits for a place.
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
        // A sender is dropped by a grant only.
        granted.await.unwrap_or(FairPermit(None))
    }

    /// Sets another number of places. What is taken stays so and counts.
    pub(super) fn resize(self: &Arc<Self>, size: usize) {
        self.state().size = size.max(1);
        self.wake_waiters();
    }

    /// Gives free places to those that wait.
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
            // Outside the lock: a place that nobody waits for any more comes straight back.
            if let Err(mut refused) = next.send(FairPermit(Some(Arc::clone(self)))) {
                refused.0 = None;
                self.state().taken -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
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

    /// Takes out the call whose turn it is; its operation and its tenant go to the end.
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
    async fn tenants_take_turns_and_within_one_its_operations() {
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
                if let std::task::Poll::Ready(place) = poll!(&mut waits[at].1) {
                    order.push(format!("{}{}", waits[at].0.tenant, waits[at].0.operation));
                    held = Some(place);
                    drop(waits.remove(at));
                    break;
                }
            }
            assert!(held.is_some(), "a place was lost");
        }
        assert_eq!(order, ["a1", "b9", "c7", "a2", "b9", "a3", "a1"]);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_takes_no_place_and_another_size_holds_at_once() {
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
