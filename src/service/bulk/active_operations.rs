//! Which operations this instance works on, and which it may begin: no number of them of one tenant at one connection keeps
//! those of another waiting.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::ids::OperationId;
use crate::domain::operation::{Operation, OperationKind};
use crate::service::bulk::memory_budget::MemoryBudget;

/// Operations of one group that have a slot in any case.
const GUARANTEED: usize = 4;
/// Most operations of one group that have a slot.
const SHARE: usize = 16;
/// Slots beyond which a group gets no more than is guaranteed.
const SLOTS: usize = 64;

/// Operations that share slots: of one tenant at one connection. Changes of a program's employees have slots of their own,
/// since their callers wait as with any single write.
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

/// The operations this instance works on, and whom it tells of changes.
#[derive(Default)]
pub(in crate::service) struct ActiveOperations {
    state: Mutex<State>,
    wake: Arc<Notify>,
    /// Notified when an operation has left the board.
    pub(super) changed: Notify,
    /// What the rows in hand may weigh.
    pub(super) budget: MemoryBudget,
}

#[derive(Default)]
struct State {
    /// Those at work; without a group those that have given their slot back.
    working: HashMap<OperationId, Option<SlotGroup>>,
    /// When this instance took an unfinished operation up first. Kept while it rests between two passes.
    taken_up: HashMap<OperationId, Instant>,
}

impl ActiveOperations {
    /// Ends when there may be something to begin.
    pub(in crate::service) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let wake = Arc::clone(&self.wake);
        async move { wake.notified().await }
    }

    pub(in crate::service) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Returns those at work.
    pub(super) fn active(&self) -> Vec<OperationId> {
        self.state().working.keys().cloned().collect()
    }

    /// Tells whether one more operation of the group may begin.
    pub(super) fn has_slot(&self, group: &SlotGroup) -> bool {
        let state = self.state();
        let held = || state.working.values().flatten().filter(|held| held.enrolments == group.enrolments);
        let of_group = held().filter(|held| *held == group).count();
        of_group < GUARANTEED || (of_group < SHARE && held().count() < SLOTS)
    }

    /// Puts the operation on the board, in a slot of its group; whether it was not there.
    pub(super) fn begin(&self, operation: &Operation) -> bool {
        let mut state = self.state();
        if state.working.contains_key(&operation.id) {
            return false;
        }
        state.working.insert(operation.id.clone(), Some(SlotGroup::of(operation)));
        state.taken_up.entry(operation.id.clone()).or_insert_with(Instant::now);
        true
    }

    /// Gives the slot of an operation back that has nothing to send any more and only waits.
    pub(super) fn release_slot(&self, id: &OperationId) {
        if let Some(group) = self.state().working.get_mut(id)
            && group.take().is_some()
        {
            self.notify();
        }
    }

    /// Takes the operation off the board.
    pub(super) fn end(&self, id: &OperationId) {
        self.state().working.remove(id);
        self.changed.notify_waiters();
    }

    /// Returns how long ago this instance took the operation up first.
    pub(super) fn since_taken_up(&self, id: &OperationId) -> Duration {
        self.state().taken_up.get(id).map(Instant::elapsed).unwrap_or_default()
    }

    /// Forgets when an operation was taken up: it has ended.
    pub(super) fn forget(&self, id: &OperationId) {
        self.state().taken_up.remove(id);
    }

    /// Forgets those that are not unfinished any more: another instance has ended them.
    pub(super) fn forget_others(&self, unfinished: &HashSet<OperationId>) {
        self.state().taken_up.retain(|id, _| unfinished.contains(id));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
