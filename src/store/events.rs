//! Arguments and results of the store that concern events, and what tells its users of new ones.

use tokio::sync::watch;

use crate::domain::event::Event;

/// A part of a tenant's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events that pass the filter, oldest first.
    pub events: Vec<Event>,
    /// The event before the first of them that passes the filter and is kept; `None` if there is none, or no event here.
    pub previous: Option<u64>,
    /// Up to which number all events were looked at: that of the last event if the page is full, else of the tenant's latest
    /// (0 if it has none), also if that is before the position asked for.
    pub scanned: u64,
    /// The first event that was still kept after these were read. If it is greater than the position asked for plus one, events
    /// are missing at the beginning, because retention has removed them.
    pub oldest: u64,
}

/// The first and the last of a tenant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventBounds {
    /// The first event that is kept and has not expired; that after the latest if there is none. Everything before it has
    /// expired.
    pub oldest: u64,
    /// The latest event; 0 if there was none.
    pub latest: u64,
}

/// A change of the last reported state of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStateChange {
    /// The connection.
    pub connection: String,
    /// The state it was read with; `None` if none was reported.
    pub before: Option<String>,
    /// Its state.
    pub state: String,
}

/// What tells the tasks of this process of new events. The numbers mean nothing.
#[derive(Debug)]
pub(super) struct EventSignals {
    visible: watch::Sender<u64>,
    unnumbered: watch::Sender<u64>,
}

impl Default for EventSignals {
    fn default() -> Self {
        Self { visible: watch::Sender::new(0), unnumbered: watch::Sender::new(0) }
    }
}

impl EventSignals {
    /// Tells that events may have become visible.
    pub(super) fn send_visible(&self) {
        self.visible.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells that events may have been committed that are to be numbered.
    pub(super) fn send_unnumbered(&self) {
        self.unnumbered.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn visible(&self) -> watch::Receiver<u64> {
        self.visible.subscribe()
    }

    pub(super) fn unnumbered(&self) -> watch::Receiver<u64> {
        self.unnumbered.subscribe()
    }
}
