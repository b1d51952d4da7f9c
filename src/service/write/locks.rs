//! One writer a subject: writes about one person, one booking or one program run one after the other, in this process and
//! among all that share the store.
//!
//! Within the process a lock decides, first come, first served. Where the store is shared, its holder then takes the turn
//! in the store too, and gives it back there before the lock is free again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};

use crate::domain::intent::{Intent, Write};
use crate::domain::vendor::EnrolmentBatch;
use crate::store::{Store, StoreError};

/// First and longest pause between two looks at a turn that another instance has.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Pause before turns are given back once more after the store failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// Most turns given back in one call.
const AT_ONCE: usize = 512;

/// A lock for every subject somebody writes about at the moment.
pub(in crate::service) struct SubjectLocks {
    locks: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    store: Arc<dyn Store>,
    /// Where turns go that have to be given back in the store; none where the store is this process's own.
    returned: Option<mpsc::UnboundedSender<HeldLock>>,
}

/// What a write is ordered by: a change of a program's employees by each of them, since one program may have two names at the
/// vendor that nobody can tell apart; any other by its one subject.
pub(in crate::service) fn subjects_of(intent: &Intent) -> BTreeSet<String> {
    match &intent.write {
        Write::Enrol(enrolment) => employee_subjects(&intent.connection, &enrolment.call),
        _ => BTreeSet::from([intent.subject.clone()]),
    }
}

/// What writes about the employees of a call are ordered by.
pub(in crate::service) fn employee_subjects(connection: &str, call: &EnrolmentBatch) -> BTreeSet<String> {
    call.enrolment.employees().map(|id| format!("{connection}\nemployee\n{id}")).collect()
}

/// The right to write about a subject, given back when dropped.
pub(in crate::service) struct SubjectLock {
    held: Option<HeldLock>,
    returned: Option<mpsc::UnboundedSender<HeldLock>>,
}

struct HeldLock {
    subject: String,
    _lock: OwnedMutexGuard<()>,
}

impl SubjectLocks {
    /// Turns over this store; has to be called within a runtime.
    pub(in crate::service) fn new(store: Arc<dyn Store>) -> Self {
        let returned = store.shared().then(|| {
            let (returned, turns) = mpsc::unbounded_channel();
            tokio::spawn(release_locks(Arc::clone(&store), turns));
            returned
        });
        Self { locks: Mutex::default(), store, returned }
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn lock(&self, subject: &str) -> Result<SubjectLock, StoreError> {
        let lock = self.lock_of(subject).lock_owned().await;
        self.wait_in_store(&[subject]).await?;
        Ok(self.held(subject, lock))
    }

    /// Waits for the turns of several subjects. None is held in the store while another is waited for there, and in the
    /// process they are taken in one order, so that two that want the same never wait for each other.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn lock_all(
        &self,
        subjects: &BTreeSet<String>,
    ) -> Result<Vec<SubjectLock>, StoreError> {
        let mut locks = Vec::with_capacity(subjects.len());
        for subject in subjects {
            locks.push(self.lock_of(subject).lock_owned().await);
        }
        self.wait_in_store(&names(subjects)).await?;
        Ok(subjects.iter().zip(locks).map(|(subject, lock)| self.held(subject, lock)).collect())
    }

    /// The turns of several subjects, if nobody has one of them.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn try_lock_all(
        &self,
        subjects: &BTreeSet<String>,
    ) -> Result<Option<Vec<SubjectLock>>, StoreError> {
        let mut locks = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let Ok(lock) = self.lock_of(subject).try_lock_owned() else { return Ok(None) };
            locks.push(lock);
        }
        if self.returned.is_some() && !self.store.acquire_locks(&names(subjects)).await? {
            return Ok(None);
        }
        Ok(Some(subjects.iter().zip(locks).map(|(subject, lock)| self.held(subject, lock)).collect()))
    }

    async fn wait_in_store(&self, subjects: &[&str]) -> Result<(), StoreError> {
        if self.returned.is_some() {
            let mut pause = PAUSES.0;
            while !self.store.acquire_locks(subjects).await? {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
        Ok(())
    }

    /// The turn, if nobody has it.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn try_lock(&self, subject: &str) -> Result<Option<SubjectLock>, StoreError> {
        let Ok(lock) = self.lock_of(subject).try_lock_owned() else { return Ok(None) };
        if self.returned.is_some() && !self.store.acquire_locks(&[subject]).await? {
            return Ok(None);
        }
        Ok(Some(self.held(subject, lock)))
    }

    /// The turn of a subject that was made just now, so that no other instance can know of it before its first intent is
    /// in the store, which then tells them to wait.
    pub(in crate::service) async fn lock_new(&self, subject: &str) -> SubjectLock {
        let lock = self.lock_of(subject).lock_owned().await;
        SubjectLock { held: Some(HeldLock { subject: subject.to_owned(), _lock: lock }), returned: None }
    }

    fn held(&self, subject: &str, lock: OwnedMutexGuard<()>) -> SubjectLock {
        SubjectLock {
            held: Some(HeldLock { subject: subject.to_owned(), _lock: lock }),
            returned: self.returned.clone(),
        }
    }

    fn lock_of(&self, subject: &str) -> Arc<AsyncMutex<()>> {
        // A poisoned map is still a map: no code that holds the lock can leave it half changed.
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
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

impl Drop for SubjectLock {
    fn drop(&mut self) {
        if let (Some(held), Some(returned)) = (self.held.take(), &self.returned) {
            // Only a process that is ending has nobody to give it back any more; then its instance ends too.
            drop(returned.send(held));
        }
    }
}

fn names(subjects: &BTreeSet<String>) -> Vec<&str> {
    subjects.iter().map(String::as_str).collect()
}

/// Gives turns back in the store, many at once, and only then frees their locks. Ends with the gateway.
async fn release_locks(store: Arc<dyn Store>, mut turns: mpsc::UnboundedReceiver<HeldLock>) {
    let mut held = Vec::with_capacity(AT_ONCE);
    while turns.recv_many(&mut held, AT_ONCE).await > 0 {
        let subjects: Vec<String> = held.iter().map(|turn| turn.subject.clone()).collect();
        loop {
            match store.release_locks(&subjects).await {
                Ok(()) | Err(StoreError::Fenced) => break,
                Err(error) => {
                    tracing::warn!(%error, turns = subjects.len(), "turns cannot be given back yet");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Keyring, SqliteStore};

    fn turns() -> SubjectLocks {
        let environment = crate::store::conformance::environment();
        let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
        SubjectLocks::new(Arc::new(SqliteStore::in_memory(ring, environment).unwrap()))
    }

    #[tokio::test]
    async fn one_at_a_time_for_each_subject() {
        let turns = turns();
        let turn = turns.lock("a").await.unwrap();
        assert!(turns.try_lock("a").await.unwrap().is_none());
        assert!(turns.try_lock("b").await.unwrap().is_some());
        drop(turn);
        assert!(turns.try_lock("a").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn several_subjects_are_taken_all_or_none() {
        let turns = turns();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let both = turns.lock_all(&set(&["a", "b"])).await.unwrap();
        assert!(turns.try_lock_all(&set(&["b", "c"])).await.unwrap().is_none());
        assert!(turns.try_lock("c").await.unwrap().is_some(), "none was kept");
        drop(both);
        assert_eq!(turns.try_lock_all(&set(&["b", "c"])).await.unwrap().map(|taken| taken.len()), Some(2));
    }

    #[tokio::test]
    async fn forgotten_subjects_are_swept() {
        let turns = turns();
        for number in 0..10_000 {
            drop(turns.lock(&number.to_string()).await);
        }
        assert!(turns.locks.lock().unwrap().capacity() < 100);
    }
}
