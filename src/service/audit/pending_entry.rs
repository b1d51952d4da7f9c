//! The audit entry of a request whose response is pending.
//!
//! For a registration or booking it can be committed in the transaction of the outcome it reports, which saves a
//! transaction of its own. Otherwise the HTTP layer writes it with the response. Taking
//! the entry transfers responsibility for writing it; it is written once, or twice if that transaction is in doubt.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::audit::{AuditEvent, Entry};

/// Shared handle of a pending audit entry; clones refer to the same entry.
#[derive(Debug, Clone)]
pub struct PendingAuditEntry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// HTTP status of a response that reports a new resource.
    created: Option<u16>,
    state: Mutex<State>,
    restored: Notify,
}

#[derive(Debug)]
enum State {
    /// Available to the first taker.
    Open(Box<Entry>),
    /// Reserved for the HTTP layer: the response does not wait for the outcome.
    Reserved(Box<Entry>),
    /// Committed with the outcome.
    Committed,
    /// Taken by the HTTP layer.
    Taken,
}

impl PendingAuditEntry {
    /// Creates an entry that describes only the request. `created` is the HTTP status of a response that reports a new
    /// resource; `None` if the service must not commit the entry with the outcome.
    #[must_use]
    pub fn new(entry: Entry, created: Option<u16>) -> Self {
        let state = Mutex::new(State::Open(Box::new(entry)));
        Self(Arc::new(Inner { created, state, restored: Notify::new() }))
    }

    /// Takes the entry for the HTTP layer to write; `None` if it is already written.
    #[must_use]
    pub fn take(&self) -> Option<Entry> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Open(entry) | State::Reserved(entry) => Some(*entry),
            gone => {
                *state = gone;
                None
            }
        }
    }

    /// Reserves the entry for the HTTP layer from the start, because the response does not depend on the outcome.
    pub fn write_on_acceptance(&self) {
        self.defer_to_http();
    }

    /// Reserves the entry for the HTTP layer; returns `false` if it is already committed with the outcome, which the
    /// response must then report.
    pub(in crate::service) fn defer_to_http(&self) -> bool {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Open(entry) => *state = State::Reserved(entry),
            other => *state = other,
        }
        !matches!(*state, State::Committed)
    }

    /// Takes the entry for the transaction of an outcome that creates something.
    pub(in crate::service) fn take_for_commit(&self) -> Option<Entry> {
        let created = self.0.created?;
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Committed) {
            State::Open(entry) => Some(Entry { event: AuditEvent::Answered, status: Some(created), ..*entry }),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Puts the entry back after its transaction failed.
    pub(in crate::service) fn restore(&self, entry: Entry) {
        *self.state() = State::Open(Box::new(entry));
        self.0.restored.notify_one();
    }

    /// Completes when the entry was put back.
    pub(in crate::service) async fn restored(&self) {
        self.0.restored.notified().await;
    }

    /// Returns whether the entry was committed with the outcome.
    pub(in crate::service) fn is_committed(&self) -> bool {
        matches!(*self.state(), State::Committed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> PendingAuditEntry {
        PendingAuditEntry::new(Entry::example("t", "req_1"), Some(201))
    }

    #[test]
    fn an_entry_is_written_once() {
        let committed = pending();
        assert_eq!(committed.take_for_commit().unwrap().status, Some(201));
        assert!(committed.is_committed() && committed.take().is_none() && !committed.defer_to_http());

        let written = pending();
        assert!(written.take().is_some() && written.take_for_commit().is_none() && written.take().is_none());
        assert!(!written.is_committed());
    }

    #[test]
    fn an_entry_reserved_for_http_is_not_committed_with_the_outcome() {
        let deferred = pending();
        assert!(deferred.defer_to_http() && deferred.take_for_commit().is_none() && deferred.take().is_some());
        let silent = PendingAuditEntry::new(Entry::example("t", "req_1"), None);
        assert!(silent.take_for_commit().is_none() && silent.take().is_some());
    }

    #[tokio::test]
    async fn an_entry_is_available_again_after_its_transaction_failed() {
        let pending = pending();
        let entry = pending.take_for_commit().unwrap();
        pending.restore(entry);
        pending.restored().await;
        assert!(!pending.is_committed() && pending.take().is_some());
    }
}
