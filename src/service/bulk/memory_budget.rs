//! Memory budget for the rows of operations. Rows differ in size by a factor of a thousand, so bytes are limited
//! besides rows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::operation::{Item, ItemRequest};

/// Maximum number of bytes of rows per page. An operation may always hold one page.
pub(super) const PAGE_BYTES: usize = 2 << 20;
/// Maximum number of pages that one operation holds.
const MAX_PAGES: usize = 5;
/// Bytes that all operations share, besides the one page that each has for itself.
const SHARED_BYTES: usize = 24 << 20;
/// Minimum size of a row: its person or order, its record and its intent.
const MIN_ROW_BYTES: usize = 2 << 10;
/// Bytes per semaphore permit.
const KIB: usize = 1 << 10;

/// Memory budget shared by all operations.
pub(super) struct MemoryBudget(Arc<Semaphore>);

impl Default for MemoryBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARED_BYTES / KIB)))
    }
}

/// Memory budget of one operation.
pub(super) struct OperationBudget {
    windows: Arc<Semaphore>,
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// Memory of one page, held until its last row has ended.
pub(super) struct MemoryPermit {
    bytes: OwnedSemaphorePermit,
    _window: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// Creates the budget of one more operation.
    pub(super) fn allowance(&self) -> OperationBudget {
        OperationBudget {
            windows: Arc::new(Semaphore::new(MAX_PAGES)),
            own: Arc::new(Semaphore::new(PAGE_BYTES / KIB)),
            shared: Arc::clone(&self.0),
        }
    }
}

impl OperationBudget {
    /// Acquires the memory of one more page: the operation's own, or else shared memory. The operation's own page
    /// suffices to make progress, so a slow vendor never blocks the rows of other operations.
    pub(super) async fn acquire_window(&self) -> Option<MemoryPermit> {
        let permits = u32::try_from(PAGE_BYTES / KIB).unwrap_or(u32::MAX);
        // The semaphores are never closed.
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
    /// Releases the memory these rows do not need.
    pub(super) fn shrink_to(&mut self, items: &[Item]) {
        let needed = items.iter().map(bytes).sum::<usize>().div_ceil(KIB);
        let spare = self.bytes.num_permits().saturating_sub(needed);
        drop(self.bytes.split(spare));
    }
}

/// Estimates how much memory a row takes until it has ended.
fn bytes(item: &Item) -> usize {
    MIN_ROW_BYTES
        + match &item.request {
            Some(ItemRequest::Candidate(new)) => new.person.photo.as_deref().map_or(0, str::len),
            Some(ItemRequest::Assignment(order)) => {
                order.proctoring.parameters.iter().map(|(name, value)| name.len() + value.len()).sum()
            }
            Some(ItemRequest::Enrolment(_)) | None => 0,
        }
}
