//! Subject locks: writes about the same person, booking or program are serialised, within this process and across all
//! instances that share the store.
//!
//! A fair in-process mutex comes first. If the store is shared, its holder then acquires the lock in the store too, and
//! releases it there before it releases the mutex.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};

use crate::domain::intent::{Intent, Write};
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::EnrolmentBatch;
use crate::store::{Store, StoreError};

/// Initial and maximum interval between polls of a lock that another instance holds.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Interval between attempts to release locks while the store fails.
const RELEASE_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum number of locks released in one store call.
const MAX_RELEASE_BATCH: usize = 512;

/// Table of the locks of all subjects with writes in progress.
pub(in crate::service) struct SubjectLocks {
    locks: Mutex<HashMap<SubjectKey, Weak<AsyncMutex<()>>>>,
    store: Arc<dyn Store>,
    /// Channel of the locks to release in the store; `None` if only this process uses the store.
    returned: Option<mpsc::UnboundedSender<HeldLock>>,
}

/// Returns the subjects a write locks: a change of a program's employees locks each employee, because one program may
/// have two names at the vendor that the gateway cannot match; any other write locks its one subject.
pub(in crate::service) fn subjects_of(intent: &Intent) -> BTreeSet<SubjectKey> {
    match &intent.write {
        Write::Enrol(enrolment) => employee_subjects(&intent.connection, &enrolment.call),
        _ => BTreeSet::from([intent.subject.clone()]),
    }
}

/// Returns the lock subjects of a call's employees.
pub(in crate::service) fn employee_subjects(connection: &str, call: &EnrolmentBatch) -> BTreeSet<SubjectKey> {
    call.enrolment.employees().map(|id| SubjectKey::employee(connection, id)).collect()
}

/// Guard of a subject's lock; released on drop.
pub(in crate::service) struct SubjectLock {
    held: Option<HeldLock>,
    /// The channel of the locks to release in the store; `None` while this one is held in the process only.
    returned: Option<mpsc::UnboundedSender<HeldLock>>,
}

impl SubjectLock {
    /// Creates the guard of a lock that is held in the process only.
    fn new(subject: &SubjectKey, lock: OwnedMutexGuard<()>) -> Self {
        Self { held: Some(HeldLock { subject: subject.clone(), _lock: lock }), returned: None }
    }

    fn subject(&self) -> Option<&SubjectKey> {
        self.held.as_ref().map(|held| &held.subject)
    }
}

struct HeldLock {
    subject: SubjectKey,
    _lock: OwnedMutexGuard<()>,
}

impl SubjectLocks {
    /// Creates the lock table of a store; must be called within a Tokio runtime.
    pub(in crate::service) fn new(store: Arc<dyn Store>) -> Self {
        let returned = store.is_shared().then(|| {
            let (returned, locks) = mpsc::unbounded_channel();
            tokio::spawn(release_locks(Arc::clone(&store), locks));
            returned
        });
        Self { locks: Mutex::default(), store, returned }
    }

    /// Acquires a subject's lock, waiting as long as it takes.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn lock(&self, subject: &SubjectKey) -> Result<SubjectLock, StoreError> {
        let mut lock = SubjectLock::new(subject, self.lock_of(subject).lock_owned().await);
        self.wait_in_store(std::slice::from_mut(&mut lock)).await?;
        Ok(lock)
    }

    /// Acquires the locks of several subjects, waiting as long as it takes. Deadlock-free: the store grants all of them
    /// or none, and within the process callers acquire them in one order.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn lock_all(
        &self,
        subjects: &BTreeSet<SubjectKey>,
    ) -> Result<Vec<SubjectLock>, StoreError> {
        let mut locks = Vec::with_capacity(subjects.len());
        for subject in subjects {
            locks.push(SubjectLock::new(subject, self.lock_of(subject).lock_owned().await));
        }
        self.wait_in_store(&mut locks).await?;
        Ok(locks)
    }

    /// Acquires the locks of several subjects; `None` if any of them is held.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn try_lock_all(
        &self,
        subjects: &BTreeSet<SubjectKey>,
    ) -> Result<Option<Vec<SubjectLock>>, StoreError> {
        let mut locks = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let Ok(lock) = self.lock_of(subject).try_lock_owned() else { return Ok(None) };
            locks.push(SubjectLock::new(subject, lock));
        }
        Ok(self.acquire_in_store(&mut locks).await?.then_some(locks))
    }

    /// Acquires a subject's lock; `None` if it is held.
    ///
    /// # Errors
    /// The store's, where it is shared.
    pub(in crate::service) async fn try_lock(&self, subject: &SubjectKey) -> Result<Option<SubjectLock>, StoreError> {
        let Ok(lock) = self.lock_of(subject).try_lock_owned() else { return Ok(None) };
        let mut lock = SubjectLock::new(subject, lock);
        Ok(self.acquire_in_store(std::slice::from_mut(&mut lock)).await?.then_some(lock))
    }

    async fn wait_in_store(&self, locks: &mut [SubjectLock]) -> Result<(), StoreError> {
        let mut pause = POLL_INTERVALS.0;
        while !self.acquire_in_store(locks).await? {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_INTERVALS.1);
        }
        Ok(())
    }

    /// Acquires locks in the store that are held in this process, all or none. While the store is asked, they already have it
    /// release what it grants: the caller may be dropped before the response arrives.
    async fn acquire_in_store(&self, locks: &mut [SubjectLock]) -> Result<bool, StoreError> {
        let Some(returned) = &self.returned else { return Ok(true) };
        for lock in &mut *locks {
            lock.returned = Some(returned.clone());
        }
        let subjects: Vec<SubjectKey> = locks.iter().filter_map(SubjectLock::subject).cloned().collect();
        let subjects: Vec<&str> = subjects.iter().map(SubjectKey::as_str).collect();
        let granted = self.store.acquire_locks(&subjects).await;
        if !matches!(granted, Ok(true)) {
            for lock in locks {
                lock.returned = None;
            }
        }
        granted
    }

    /// Acquires the lock of a newly created subject in this process only: other instances cannot know the subject
    /// before its first intent is in the store, and that intent makes them wait.
    pub(in crate::service) async fn lock_new(&self, subject: &SubjectKey) -> SubjectLock {
        SubjectLock::new(subject, self.lock_of(subject).lock_owned().await)
    }

    fn lock_of(&self, subject: &SubjectKey) -> Arc<AsyncMutex<()>> {
        // A poisoned map is still a map: no code that holds the lock can leave it half changed.
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(subject).and_then(Weak::upgrade) {
            return lock;
        }
        // Sweep unused locks when the map is about to grow, so that its size follows the work in progress.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(subject.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl Drop for SubjectLock {
    fn drop(&mut self) {
        if let (Some(held), Some(returned)) = (self.held.take(), &self.returned) {
            // The receiver is gone only while the process exits; then its instance, and with it the lock, ends too.
            drop(returned.send(held));
        }
    }
}

/// Releases locks in the store, in batches, and only then the in-process mutexes. Ends with the gateway.
async fn release_locks(store: Arc<dyn Store>, mut locks: mpsc::UnboundedReceiver<HeldLock>) {
    let mut held = Vec::with_capacity(MAX_RELEASE_BATCH);
    while locks.recv_many(&mut held, MAX_RELEASE_BATCH).await > 0 {
        let subjects: Vec<String> = held.iter().map(|lock| lock.subject.to_string()).collect();
        loop {
            match store.release_locks(&subjects).await {
                Ok(()) | Err(StoreError::Fenced) => break,
                Err(error) => {
                    tracing::warn!(%error, locks = subjects.len(), "releasing locks failed; will retry");
                    tokio::time::sleep(RELEASE_RETRY_INTERVAL).await;
                }
            }
        }
        held.clear();
    }
}

#[cfg(test)]
mod tests;
