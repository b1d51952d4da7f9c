//! Events as clients read them: from a position on, in order, without a gap. A reader of fewer connections or types
//! sees gaps in the numbers, and none in the chain of `previous`.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::{Event, EventDocument, EventFilter, EventType};
use crate::domain::ids::AssignmentId;
use crate::service::errors::StoreResultExt as _;
use crate::service::{ConnectionAccess, Gateway, RequestContext};
use crate::store::{EventBounds, EventPage};

/// Which events a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Of these types; of all if `None`.
    pub types: Option<Vec<EventType>>,
    /// About this assignment.
    pub assignment: Option<AssignmentId>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStart {
    /// At the oldest event that is kept.
    Oldest,
    /// After the event with this number.
    After(u64),
    /// After the latest event.
    Latest,
}

/// A reader of events, at its position.
#[derive(Debug, Clone)]
pub struct EventReader {
    caller: Arc<RequestContext>,
    filter: EventFilter,
    position: u64,
    /// What wakes it, once it has waited.
    head: Option<watch::Receiver<u64>>,
}

impl EventReader {
    /// Returns the number up to which the reader has seen all events that it wants.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl Gateway {
    /// Begins to read events. The caller gets those of its tenant at connections that it may use, and those without a
    /// connection. `name` is the parameter or header from which `start` was read.
    ///
    /// # Errors `cursor_expired` if events after the position were removed; `validation_failed` for a position after
    /// the latest event; `store_unavailable`.
    pub async fn read_events_from(
        &self,
        caller: Arc<RequestContext>,
        query: EventQuery,
        start: EventStart,
        name: &str,
    ) -> Result<EventReader, Error> {
        let EventBounds { oldest, latest } = self.event_bounds(&caller).await?;
        let position = match start {
            EventStart::Oldest => oldest.saturating_sub(1),
            EventStart::Latest => latest,
            EventStart::After(position) if position > latest => {
                let detail = format!("is after the latest event, which has the number {latest}");
                return Err(Error::from_fields(vec![FieldError::invalid(name, detail)]));
            }
            EventStart::After(position) => position,
        };
        ensure_kept(position, oldest)?;
        let connections = match &caller.connections {
            ConnectionAccess::All => None,
            ConnectionAccess::Named(names) => Some(names.iter().cloned().collect()),
        };
        let EventQuery { types, assignment } = query;
        let filter = EventFilter { types, connections, assessments: None, assignment };
        Ok(EventReader { caller, filter, position, head: None })
    }

    /// Reads the next events, at most `limit`, and moves the reader behind them. Waits up to `patience` for the first
    /// one.
    ///
    /// # Errors `cursor_expired` if events after the reader's position were removed; `store_unavailable`.
    pub async fn next_events(
        &self,
        reader: &mut EventReader,
        limit: usize,
        patience: Duration,
    ) -> Result<Vec<EventDocument>, Error> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(head) = &mut reader.head {
                head.mark_unchanged();
            }
            let documents = self.read_events(reader, limit).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !documents.is_empty() || left.is_zero() {
                return Ok(documents);
            }
            match &mut reader.head {
                Some(head) => {
                    let began = Instant::now();
                    // The sender lives as long as this gateway.
                    drop(tokio::time::timeout(left, head.changed()).await);
                    reader.caller.exchange.add_wait(began.elapsed());
                }
                // What has become visible meanwhile is read once more.
                None => reader.head = Some(self.0.event_heads.subscribe(&reader.caller.tenant)),
            }
        }
    }

    async fn read_events(&self, reader: &mut EventReader, limit: usize) -> Result<Vec<EventDocument>, Error> {
        let _permit = self.read_permit(&reader.caller).await;
        let tenant = &reader.caller.tenant;
        let page = self.0.store.events(tenant, reader.position, &reader.filter, limit).await.or_not_applied()?;
        let EventPage { events, mut previous, scanned, oldest } = page;
        ensure_kept(reader.position, oldest)?;
        reader.position = reader.position.max(scanned);
        let document = |event: &Event| {
            let document = event.document(previous);
            previous = Some(event.sequence);
            document
        };
        Ok(events.iter().map(document).collect())
    }

    async fn event_bounds(&self, caller: &RequestContext) -> Result<EventBounds, Error> {
        self.0.store.event_bounds(&caller.tenant, self.events_kept_since()).await.or_not_applied()
    }

    /// Returns the time before which events are no longer kept, by the steady clock.
    pub(in crate::service) fn events_kept_since(&self) -> Timestamp {
        let kept = SignedDuration::try_from(self.configured().retention.events).unwrap_or(SignedDuration::MAX);
        self.now().saturating_sub(kept).unwrap_or(Timestamp::MIN)
    }
}

/// Rejects a position after which events were removed.
fn ensure_kept(position: u64, oldest: u64) -> Result<(), Error> {
    if position.saturating_add(1) >= oldest {
        return Ok(());
    }
    let detail = format!("Events after number {position} are no longer kept; the oldest one has the number {oldest}.");
    Err(Error { oldest: Some(oldest), ..Error::new(Code::CursorExpired, detail) })
}
