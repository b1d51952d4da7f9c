//! What an engine remembers of failures, so that they need not be met again to be known.

use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;

/// Whether the last write failed for want of room, or because the disk or the server did.
#[derive(Default)]
pub(super) struct WriteFailure(AtomicBool);

impl WriteFailure {
    /// Notes how a write ended.
    pub(super) fn note<T>(&self, written: &Result<T, StoreError>) {
        match written {
            Ok(_) => self.0.store(false, Ordering::Relaxed),
            Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => self.0.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether the store is known not to answer.
#[derive(Default)]
pub(super) struct Unavailability(AtomicBool);

impl Unavailability {
    /// Says whether it answers, in the log as well where that is new.
    pub(super) fn set(&self, away: bool) {
        if self.0.swap(away, Ordering::Relaxed) == away {
            return;
        }
        if away {
            tracing::warn!("the store does not answer; requests are refused until it does");
        } else {
            tracing::info!("the store answers again");
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_store_itself_count() {
        let failed = WriteFailure::default();
        let note = |written: Result<(), StoreError>| {
            failed.note(&written);
            failed.is_set()
        };
        assert!(!note(Err(StoreError::Conflict)));
        assert!(note(Err(StoreError::Unavailable("x".into()))));
        assert!(note(Err(StoreError::ItemNotWaiting)), "it says nothing about the disk");
        assert!(!note(Ok(())));
        assert!(note(Err(StoreError::InDoubt("x".into()))));
    }
}
