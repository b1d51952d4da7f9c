//! What this process keeps in memory about the reading of reports. All of it can be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::domain::ids::AssignmentId;
use crate::service::mutex::lock_unpoisoned;
use crate::service::results::receiver_limit::ReceiverLimit;

/// The readers of reports of this process.
#[derive(Default)]
pub(in crate::service) struct ResultsState {
    readers: Mutex<BTreeMap<String, Arc<ReaderSignals>>>,
    limits: Mutex<BTreeMap<String, Arc<ReceiverLimit>>>,
    centers: Mutex<BTreeMap<String, KnownCenters>>,
    ending_windows: Mutex<BTreeMap<String, BTreeSet<EndingWindow>>>,
    /// Whether a commit of reports is in doubt.
    pub(super) in_doubt: AtomicBool,
}

/// A booking whose window ends soon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndingWindow {
    pub(super) valid_until: Timestamp,
    pub(super) id: AssignmentId,
    pub(super) tenant: String,
    pub(super) center: Option<String>,
}

/// Signals to the tasks that read a connection's reports.
#[derive(Default)]
pub(super) struct ReaderSignals {
    /// Something has come or become due.
    pub(super) reports: Notify,
    /// Reports are to be fetched.
    pub(super) fetches: Notify,
    /// The feeds are to be read now.
    pub(super) feed: Notify,
    feed_now: AtomicBool,
}

/// The centres of a connection's bookings that are known so far.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownCenters {
    pub(super) centers: BTreeSet<String>,
    /// The last booking that was looked at.
    pub(super) after: Option<AssignmentId>,
}

impl ReaderSignals {
    /// Has the feeds read at once.
    pub(super) fn read_feed(&self) {
        self.feed_now.store(true, Ordering::SeqCst);
        self.feed.notify_one();
    }

    /// Returns whether the feeds were to be read at once, and takes note of it.
    pub(super) fn take_feed_request(&self) -> bool {
        self.feed_now.swap(false, Ordering::SeqCst)
    }
}

impl ResultsState {
    /// Registers the readers of a connection; `None` if it has some.
    pub(super) fn begin_reading(&self, connection: &str) -> Option<Arc<ReaderSignals>> {
        let mut readers = lock_unpoisoned(&self.readers);
        if readers.contains_key(connection) {
            return None;
        }
        let signals = Arc::new(ReaderSignals::default());
        readers.insert(connection.to_owned(), Arc::clone(&signals));
        Some(signals)
    }

    /// Returns whether these are the connection's readers. Unless `needed`, they are not from now on.
    pub(super) fn is_reading(&self, connection: &str, signals: &Arc<ReaderSignals>, needed: bool) -> bool {
        let mut readers = lock_unpoisoned(&self.readers);
        let own = readers.get(connection).is_some_and(|known| Arc::ptr_eq(known, signals));
        if own && !needed {
            readers.remove(connection);
        }
        own && needed
    }

    /// Returns the signals to a connection's readers.
    pub(super) fn signals(&self, connection: &str) -> Option<Arc<ReaderSignals>> {
        lock_unpoisoned(&self.readers).get(connection).cloned()
    }

    /// Returns the limit of a configured connection's receiver.
    pub(super) fn limit(&self, connection: &str) -> Arc<ReceiverLimit> {
        Arc::clone(lock_unpoisoned(&self.limits).entry(connection.to_owned()).or_default())
    }

    /// Returns the known centres of a connection's bookings.
    pub(super) fn known_centers(&self, connection: &str) -> KnownCenters {
        lock_unpoisoned(&self.centers).get(connection).cloned().unwrap_or_default()
    }

    /// Keeps the known centres of a connection's bookings.
    pub(super) fn keep_centers(&self, connection: &str, known: KnownCenters) {
        lock_unpoisoned(&self.centers).insert(connection.to_owned(), known);
    }

    /// Returns the bookings of a connection whose windows end soon.
    pub(super) fn ending_windows(&self, connection: &str) -> BTreeSet<EndingWindow> {
        lock_unpoisoned(&self.ending_windows).get(connection).cloned().unwrap_or_default()
    }

    /// Keeps bookings of a connection whose windows end soon.
    pub(super) fn keep_ending_windows(&self, connection: &str, ending: BTreeSet<EndingWindow>) {
        lock_unpoisoned(&self.ending_windows).entry(connection.to_owned()).or_default().extend(ending);
    }

    /// Forgets bookings of a connection that need not be looked at again.
    pub(super) fn forget_ending_windows(&self, connection: &str, done: &[EndingWindow]) {
        if let Some(ending) = lock_unpoisoned(&self.ending_windows).get_mut(connection) {
            for window in done {
                ending.remove(window);
            }
        }
    }

    /// Has all bookings of a connection looked at again for their centres: one may have been made known late.
    pub(super) fn forget_centers(&self, connection: &str) {
        if let Some(known) = lock_unpoisoned(&self.centers).get_mut(connection) {
            known.after = None;
        }
    }
}
