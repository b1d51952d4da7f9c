//! What the last candidates written are found by. An outcome rarely changes that, so most updates need not read it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::store::codec::Lookup;
use crate::store::encryption::BlindIndex;

/// Maximum candidates: as many as may be at a vendor at once; some 600 bytes each.
const CAPACITY: usize = 2_048;

/// The look-ups of candidates whose entries agree with them, as of the open transaction.
#[derive(Default)]
pub(super) struct LookupMemo {
    known: RefCell<HashMap<String, Vec<BlindIndex>>>,
    /// Whether a transaction is open that has changed it.
    is_staged: Cell<bool>,
}

impl LookupMemo {
    /// Returns whether the entries of the candidate agree with these look-ups.
    pub(super) fn agrees(&self, candidate: &str, lookups: &[Lookup]) -> bool {
        let known = self.known.borrow();
        known.get(candidate).is_some_and(|known| known.iter().eq(lookups.iter().map(|lookup| &lookup.blind)))
    }

    /// Records that the entries of the candidate agree with these look-ups.
    pub(super) fn record(&self, candidate: &str, lookups: &[Lookup]) {
        let mut known = self.known.borrow_mut();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(candidate.to_owned(), lookups.iter().map(|lookup| lookup.blind).collect());
        self.is_staged.set(true);
    }

    /// Begins a transaction; what one that was not committed recorded is forgotten.
    pub(super) fn begin(&self) {
        if self.is_staged.get() {
            self.clear();
        }
    }

    /// Keeps what the transaction recorded: it was committed.
    pub(super) fn keep(&self) {
        self.is_staged.set(false);
    }

    /// Forgets the candidate.
    pub(super) fn forget(&self, candidate: &str) {
        self.known.borrow_mut().remove(candidate);
    }

    /// Forgets every candidate.
    pub(super) fn clear(&self) {
        self.known.borrow_mut().clear();
        self.is_staged.set(false);
    }
}
