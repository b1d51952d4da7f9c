//! Known failures of an engine, so that callers need not wait for the same failure again.

use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;

/// Whether the last write failed because the disk was full or the disk or server failed.
#[derive(Default)]
pub(super) struct WriteFailure(AtomicBool);

impl WriteFailure {
    /// Records the result of a write.
    pub(super) fn record<T>(&self, written: &Result<T, StoreError>) {
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

/// Whether the store is known to be unavailable.
#[derive(Default)]
pub(super) struct Unavailability(AtomicBool);

impl Unavailability {
    /// Sets whether the store is unavailable and logs every change.
    pub(super) fn set(&self, away: bool) {
        if self.0.swap(away, Ordering::Relaxed) == away {
            return;
        }
        if away {
            tracing::warn!("store not responding; rejecting requests until it does");
        } else {
            tracing::info!("store is responding again");
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
            failed.record(&written);
            failed.is_set()
        };
        assert!(!note(Err(StoreError::Conflict)));
        assert!(note(Err(StoreError::Unavailable("x".into()))));
        assert!(note(Err(StoreError::ItemNotWaiting)), "this error is unrelated to the disk");
        assert!(!note(Ok(())));
        assert!(note(Err(StoreError::InDoubt("x".into()))));
    }
}
