//! Renewal of the index entries that find people: earlier versions made them of an identity as it stood, this one makes
//! them of its key. The entries are keyed hashes, so that no migration in SQL can compute them.
//!
//! Runs before the gateway serves. On a shared store, instances of the earlier version may still add their entries; until
//! the last of them has ended, look-ups ask for both, and the renewal continues in the background.

use std::sync::atomic::Ordering;

use crate::domain::error::Error;
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::store::{IdentityUpkeep, ReindexedPage};

/// Maximum number of records renewed in one transaction.
const PAGE_SIZE: usize = 500;

impl Gateway {
    /// Returns whether the vendors may know people by spellings that a request cannot have any more.
    pub(in crate::service) fn has_former_spellings(&self) -> bool {
        self.0.former_spellings.load(Ordering::Relaxed)
    }

    /// Renews the index entries page by page; a killed process continues after its last page.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(in crate::service) async fn renew_identities(&self) -> Result<(), Error> {
        if self.0.identities_renewed.load(Ordering::Relaxed) {
            return Ok(());
        }
        loop {
            match self.0.store.reindex_identities(PAGE_SIZE).await.or_not_applied()? {
                IdentityUpkeep::Page(page) => report(&page),
                // An instance of the earlier version is alive; the next pass of the background continues.
                IdentityUpkeep::Waiting => return Ok(()),
                IdentityUpkeep::Done { found } => {
                    if found > 0 {
                        tracing::info!(
                            found,
                            "the vendors know some people by spellings of their ids that are not the present form"
                        );
                    }
                    self.0.former_spellings.store(found > 0, Ordering::Relaxed);
                    self.0.identities_renewed.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
    }
}

/// Logs what a person has to resolve. The progress is committed with the page, so each record is logged once.
fn report(page: &ReindexedPage) {
    for collision in &page.collisions {
        tracing::warn!(
            candidate = collision.candidate,
            holder = collision.holder,
            kind = collision.kind,
            "two candidates have the same identity in different spellings; requests find only the holder"
        );
    }
    for record in &page.unreadable {
        tracing::warn!(record, "a record cannot be read, so its index entries were not renewed");
    }
}
