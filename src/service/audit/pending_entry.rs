//! The line of the audit record about a request whose answer is waited for.
//!
//! It stands in the transaction that writes down the outcome it tells, so that an answer costs no transaction of its own. Where
//! nothing was done, or nobody waits for the end, the public face writes it when it answers. Whoever writes it takes it, so
//! there is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::audit::{AuditEvent, Entry};

/// The line; clones are the same one.
#[derive(Debug, Clone)]
pub struct PendingAuditEntry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The status that tells the caller of something new.
    created: Option<u16>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Whoever comes first.
    Open(Box<Entry>),
    /// It is the face's to write: the answer does not wait for the outcome.
    OfFace(Box<Entry>),
    /// It was written with the outcome.
    Told,
    /// The face has taken it.
    Taken,
}

impl PendingAuditEntry {
    /// A line of which only the request is known; `created` is how the caller would be told of something new, where the
    /// gateway may say so in the face's stead.
    #[must_use]
    pub fn new(entry: Entry, created: Option<u16>) -> Self {
        Self(Arc::new(Inner { created, state: Mutex::new(State::Open(Box::new(entry))) }))
    }

    /// For the face, which writes it; `None` where it is written.
    #[must_use]
    pub fn take(&self) -> Option<Entry> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Open(entry) | State::OfFace(entry) => Some(*entry),
            gone => {
                *state = gone;
                None
            }
        }
    }

    /// Leaves the line to the face from the beginning: what is answered does not depend on the outcome.
    pub fn write_on_acceptance(&self) {
        self.defer_to_http();
    }

    /// From now on it is the face's; `false` where it is written, and the outcome is there to be told.
    pub(in crate::service) fn defer_to_http(&self) -> bool {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Open(entry) => *state = State::OfFace(entry),
            other => *state = other,
        }
        !matches!(*state, State::Told)
    }

    /// For the transaction of an outcome that is something new.
    pub(in crate::service) fn take_for_commit(&self) -> Option<Entry> {
        let created = self.0.created?;
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Told) {
            State::Open(entry) => Some(Entry { event: AuditEvent::Answered, status: Some(created), ..*entry }),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The transaction was lost, so it is to be written all the same.
    pub(in crate::service) fn restore(&self, entry: Entry) {
        *self.state() = State::Open(Box::new(entry));
    }

    /// Whether it was written with the outcome.
    pub(in crate::service) fn is_taken(&self) -> bool {
        matches!(*self.state(), State::Told)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> PendingAuditEntry {
        PendingAuditEntry::new(Entry::example("t", "req_1"), Some(201))
    }

    #[test]
    fn it_is_written_once() {
        let told = line();
        assert_eq!(told.take_for_commit().unwrap().status, Some(201));
        assert!(told.is_taken() && told.take().is_none() && !told.defer_to_http());

        let answered = line();
        assert!(answered.take().is_some() && answered.take_for_commit().is_none() && answered.take().is_none());
        assert!(!answered.is_taken());
    }

    #[test]
    fn one_left_to_the_face_is_not_told_with_the_outcome() {
        let left = line();
        assert!(left.defer_to_http() && left.take_for_commit().is_none() && left.take().is_some());
        let silent = PendingAuditEntry::new(Entry::example("t", "req_1"), None);
        assert!(silent.take_for_commit().is_none() && silent.take().is_some());
    }

    #[test]
    fn one_whose_transaction_was_lost_is_there_again() {
        let line = line();
        let entry = line.take_for_commit().unwrap();
        line.restore(entry);
        assert!(!line.is_taken() && line.take().is_some());
    }
}
