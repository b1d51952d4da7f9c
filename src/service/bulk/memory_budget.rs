//! How much of operations' rows is in memory at once. Rows differ a thousandfold in size, so bytes are counted beside rows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::operation::{Item, ItemRequest};

/// Bytes of rows that are read at once. An operation may always have one window of them in hand.
pub(super) const WINDOW: usize = 2 << 20;
/// Windows that one operation has in hand at most.
const WINDOWS: usize = 5;
/// Bytes that all operations share, beyond the one window that each has for itself.
const SHARED: usize = 24 << 20;
/// What a row takes at least: its person or its order, its record and its intent.
const ROW: usize = 2 << 10;
/// What a permit of the semaphores stands for.
const KIB: usize = 1 << 10;

/// The memory that all operations share.
pub(super) struct MemoryBudget(Arc<Semaphore>);

impl Default for MemoryBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARED / KIB)))
    }
}

/// What one operation may take of the memory for rows.
pub(super) struct OperationBudget {
    windows: Arc<Semaphore>,
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// Memory that is taken, until the last row in it has ended.
pub(super) struct MemoryPermit {
    bytes: OwnedSemaphorePermit,
    _window: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// The allowance of one more operation.
    pub(super) fn allowance(&self) -> OperationBudget {
        OperationBudget {
            windows: Arc::new(Semaphore::new(WINDOWS)),
            own: Arc::new(Semaphore::new(WINDOW / KIB)),
            shared: Arc::clone(&self.0),
        }
    }
}

impl OperationBudget {
    /// Waits for the memory of one more window: the operation's own, or else of that which all share. It waits for nothing
    /// but the operation's own rows, so a vendor that is slow keeps the rows of no other operation waiting.
    pub(super) async fn acquire_window(&self) -> Option<MemoryPermit> {
        let permits = u32::try_from(WINDOW / KIB).unwrap_or(u32::MAX);
        // Never closed.
        let window = Arc::clone(&self.windows).acquire_owned().await.ok()?;
        let bytes = tokio::select! {
            biased;
            own = Arc::clone(&self.own).acquire_many_owned(permits) => own,
            shared = Arc::clone(&self.shared).acquire_many_owned(permits) => shared,
        };
        Some(MemoryPermit { bytes: bytes.ok()?, _window: window })
    }
}

impl MemoryPermit {
    /// Gives back what these rows do not need.
    pub(super) fn shrink_to(&mut self, items: &[Item]) {
        let needed = items.iter().map(bytes).sum::<usize>().div_ceil(KIB);
        let spare = self.bytes.num_permits().saturating_sub(needed);
        drop(self.bytes.split(spare));
    }
}

/// About how much memory a row takes until it has ended.
fn bytes(item: &Item) -> usize {
    ROW + match &item.request {
        Some(ItemRequest::Candidate(new)) => new.person.photo.as_deref().map_or(0, str::len),
        Some(ItemRequest::Assignment(order)) => {
            order.proctoring.parameters.iter().map(|(name, value)| name.len() + value.len()).sum()
        }
        Some(ItemRequest::Enrolment(_)) | None => 0,
    }
}
