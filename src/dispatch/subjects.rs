//! One writer a subject: writes about one person or one booking run one after the other in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The right to write about a subject, given back when dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

/// A lock for every subject somebody writes about at the moment.
#[derive(Default)]
pub(super) struct Subjects(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Subjects {
    /// Waits for the turn.
    pub(super) async fn turn(&self, subject: &str) -> Turn {
        self.lock_of(subject).lock_owned().await
    }

    /// The turn, if nobody has it.
    pub(super) fn try_turn(&self, subject: &str) -> Option<Turn> {
        self.lock_of(subject).try_lock_owned().ok()
    }

    fn lock_of(&self, subject: &str) -> Arc<AsyncMutex<()>> {
        // A poisoned map is still a map: no code that holds the lock can leave it half changed.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(subject).and_then(Weak::upgrade) {
            return lock;
        }
        // Forgotten subjects are swept when the map is about to grow, so that its size follows the work under way.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(subject.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_for_each_subject() {
        let subjects = Subjects::default();
        let turn = subjects.turn("a").await;
        assert!(subjects.try_turn("a").is_none());
        assert!(subjects.try_turn("b").is_some());
        drop(turn);
        assert!(subjects.try_turn("a").is_some());
    }

    #[tokio::test]
    async fn forgotten_subjects_are_swept() {
        let subjects = Subjects::default();
        for number in 0..10_000 {
            drop(subjects.turn(&number.to_string()).await);
        }
        assert!(subjects.0.lock().unwrap().capacity() < 100);
    }
}
