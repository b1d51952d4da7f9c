//! Registry of the operations this instance runs, and the slots that limit them: however many operations one tenant has
//! at one connection, those of other tenants and connections can start.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::ids::OperationId;
use crate::domain::operation::{Operation, OperationKind};
use crate::service::bulk::memory_budget::MemoryBudget;

/// Number of slots guaranteed to each group.
const MIN_GROUP_SLOTS: usize = 4;
/// Maximum number of slots of one group.
const MAX_GROUP_SLOTS: usize = 16;
/// Number of occupied slots from which on a group gets no more than its guaranteed ones.
const MAX_SHARED_SLOTS: usize = 64;

/// Group of operations that share slots: those of one tenant at one connection. Changes of a program's employees have
/// separate slots, because their callers wait for them as for any single write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::service) struct SlotGroup {
    connection: String,
    tenant: String,
    enrolments: bool,
}

impl SlotGroup {
    pub(super) fn of(operation: &Operation) -> Self {
        Self {
            connection: operation.connection.clone(),
            tenant: operation.tenant.clone(),
            enrolments: operation.kind == OperationKind::ProgramEmployees,
        }
    }
}

/// Registry of the operations this instance runs, with change notifications.
#[derive(Default)]
pub(in crate::service) struct ActiveOperations {
    state: Mutex<State>,
    wake: Arc<Notify>,
    /// Notified when an operation was removed from the registry.
    pub(super) changed: Notify,
    /// Memory budget of the rows in memory.
    pub(super) budget: MemoryBudget,
}

#[derive(Default)]
struct State {
    /// Running operations; `None` for those that have released their slot.
    working: HashMap<OperationId, Option<SlotGroup>>,
    /// When this instance first started an unfinished operation. Kept between two passes.
    taken_up: HashMap<OperationId, Instant>,
}

impl ActiveOperations {
    /// Completes when there may be an operation to start.
    pub(in crate::service) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let wake = Arc::clone(&self.wake);
        async move { wake.notified().await }
    }

    pub(in crate::service) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Returns the running operations.
    pub(super) fn active(&self) -> Vec<OperationId> {
        self.state().working.keys().cloned().collect()
    }

    /// Returns whether one more operation of the group may start.
    pub(super) fn has_slot(&self, group: &SlotGroup) -> bool {
        let state = self.state();
        let held = || state.working.values().flatten().filter(|held| held.enrolments == group.enrolments);
        let of_group = held().filter(|held| *held == group).count();
        of_group < MIN_GROUP_SLOTS || (of_group < MAX_GROUP_SLOTS && held().count() < MAX_SHARED_SLOTS)
    }

    /// Registers the operation in a slot of its group; returns `false` if it is already running.
    pub(super) fn begin(&self, operation: &Operation) -> bool {
        let mut state = self.state();
        if state.working.contains_key(&operation.id) {
            return false;
        }
        state.working.insert(operation.id.clone(), Some(SlotGroup::of(operation)));
        state.taken_up.entry(operation.id.clone()).or_insert_with(Instant::now);
        true
    }

    /// Releases the slot of an operation that has nothing left to send and only waits.
    pub(super) fn release_slot(&self, id: &OperationId) {
        if let Some(group) = self.state().working.get_mut(id)
            && group.take().is_some()
        {
            self.notify();
        }
    }

    /// Removes the operation from the registry.
    pub(super) fn end(&self, id: &OperationId) {
        self.state().working.remove(id);
        self.changed.notify_waiters();
    }

    /// Returns the time since this instance first started the operation.
    pub(super) fn time_since_start(&self, id: &OperationId) -> Duration {
        self.state().taken_up.get(id).map(Instant::elapsed).unwrap_or_default()
    }

    /// Removes the start time of an operation that has ended.
    pub(super) fn forget(&self, id: &OperationId) {
        self.state().taken_up.remove(id);
    }

    /// Removes the start times of operations that another instance has ended.
    pub(super) fn forget_others(&self, unfinished: &HashSet<OperationId>) {
        self.state().taken_up.retain(|id, _| unfinished.contains(id));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code can leave the state half changed, so poisoning is ignored.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
