//! The reads of events that are the same for every engine.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::event::{Event, EventFilter, EventType};
use crate::store::codec::{EventRow, micros};
use crate::store::engine::{Access, Engine};
use crate::store::event_sql as sql;
use crate::store::result_reads::{column, lines};
use crate::store::sql::{SqlValue, values};
use crate::store::{EventBounds, EventPage, StoreError};

/// Number of events that one statement looks at.
const WINDOW: u64 = 5_000;

/// Number of events among which the last one that passes a filter is looked for without an index of its type.
const NEAR: u64 = 200;

/// Number of events by which the order of their numbers may differ from that of their times: clocks differ, and what is made
/// first may be committed last.
const DISORDER: u64 = 500;

/// The reads of a [`Store`](crate::store::Store) that concern events.
#[async_trait]
pub trait EventReads: Send + Sync {
    /// Returns the tenant's next events after this one that pass the filter, at most `limit`.
    async fn events(
        &self,
        tenant: &str,
        after: u64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, StoreError>;

    /// Returns the first and the last of the tenant's events, of those made at or after `since` and everything that follows them.
    /// Reads a limited number of events: it finds the first one by the order of times, from which numbers may differ by
    /// some hundred events.
    async fn event_bounds(&self, tenant: &str, since: Timestamp) -> Result<EventBounds, StoreError>;

    /// Returns the number of the tenant's latest event; 0 if there was none.
    async fn latest_event(&self, tenant: &str) -> Result<u64, StoreError>;

    /// Returns the number of the latest event of each tenant that has had one.
    async fn event_heads(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Returns the last of the tenant's events that passes the filter and is kept.
    async fn last_event(&self, tenant: &str, filter: &EventFilter) -> Result<Option<u64>, StoreError>;

    /// Returns the tenant's event with this number.
    async fn event(&self, tenant: &str, sequence: u64) -> Result<Option<Event>, StoreError>;

    /// Returns the tenant's events with these numbers, oldest first. Omits those that are gone.
    async fn events_by_sequence(&self, tenant: &str, sequences: &[u64]) -> Result<Vec<Event>, StoreError>;

    /// Returns the last reported state of each connection.
    async fn connection_states(&self) -> Result<Vec<(String, String)>, StoreError>;
}

#[async_trait]
impl<E: Engine> EventReads for E {
    async fn events(
        &self,
        tenant: &str,
        after: u64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, StoreError> {
        let limit = limit.max(1);
        let head = Head::read(self, tenant).await?;
        let texts = FilterTexts::of(filter);
        let (mut events, mut from) = (Vec::new(), after.max(head.removed));
        while from < head.latest && events.len() < limit {
            // The events of one assignment are few.
            let is_few = texts.assignment.is_some();
            let to = if is_few { head.latest } else { from.saturating_add(WINDOW).min(head.latest) };
            events.extend(between(self, tenant, from, to, &texts, limit - events.len()).await?);
            from = to;
        }
        let scanned = events.last().filter(|_| events.len() >= limit).map_or(head.latest, |last: &Event| last.sequence);
        let first = events.first().map(|first| first.sequence - 1);
        let previous = match first {
            Some(until) => last(self, tenant, until, &head, &texts).await?,
            None => None,
        };
        let oldest = Head::read(self, tenant).await?.removed.saturating_add(1);
        Ok(EventPage { events, previous, scanned, oldest })
    }

    async fn event_bounds(&self, tenant: &str, since: Timestamp) -> Result<EventBounds, StoreError> {
        let head = Head::read(self, tenant).await?;
        Ok(EventBounds { oldest: first_since(self, tenant, since, &head).await?, latest: head.latest })
    }

    async fn latest_event(&self, tenant: &str) -> Result<u64, StoreError> {
        Ok(Head::read(self, tenant).await?.latest)
    }

    async fn event_heads(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let heads: Vec<(String, i64)> = self.select(Access::Key, sql::EVENT_HEADS, &values![]).await?;
        Ok(heads.into_iter().map(|(tenant, latest)| (tenant, number(latest))).collect())
    }

    async fn last_event(&self, tenant: &str, filter: &EventFilter) -> Result<Option<u64>, StoreError> {
        let head = Head::read(self, tenant).await?;
        last(self, tenant, head.latest, &head, &FilterTexts::of(filter)).await
    }

    async fn event(&self, tenant: &str, sequence: u64) -> Result<Option<Event>, StoreError> {
        Ok(self.events_by_sequence(tenant, &[sequence]).await?.pop())
    }

    async fn events_by_sequence(&self, tenant: &str, sequences: &[u64]) -> Result<Vec<Event>, StoreError> {
        let sequences: Vec<i64> = sequences.iter().copied().map(column).collect();
        let access = if sequences.len() > 1 { Access::Scan } else { Access::Key };
        let rows: Vec<EventRow> = self.select(access, sql::EVENTS_BY_SEQUENCE, &values![tenant, &*sequences]).await?;
        rows.into_iter().map(|row| row.event(tenant)).collect()
    }

    async fn connection_states(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.select(Access::Scan, sql::CONNECTION_STATES, &values![]).await
    }
}

/// Returns the tenants with events made before this time, each with the last event before the first that was not.
pub(super) async fn expired_events<E: Engine>(engine: &E, before: Timestamp) -> Result<Vec<(String, u64)>, StoreError> {
    let tenants: Vec<(String,)> = engine.select(Access::Scan, sql::EVENT_TENANTS, &values![]).await?;
    let mut expired = Vec::new();
    for (tenant,) in tenants {
        let until = engine.event_bounds(&tenant, before).await?.oldest.saturating_sub(1);
        if until > Head::read(engine, &tenant).await?.removed {
            expired.push((tenant, until));
        }
    }
    Ok(expired)
}

/// Returns the number of the first event that is kept and was made at this time or later; the one after the latest if there is
/// none.
async fn first_since<E: Engine>(engine: &E, tenant: &str, since: Timestamp, head: &Head) -> Result<u64, StoreError> {
    // Retention removes what is old, so mostly it is the first one.
    let near = head.removed.saturating_add(DISORDER).min(head.latest);
    if let Some(first) = first_between(engine, tenant, (head.removed, near), since).await? {
        return Ok(first);
    }
    let (mut first, mut end) = (near.saturating_add(1), head.latest.saturating_add(1));
    while first < end {
        let middle = first + (end - first) / 2;
        let values = values![tenant, column(middle)];
        let made: Option<(i64,)> = engine.select_one(Access::Key, sql::EVENT_TIME, &values).await?;
        // One that retention has removed meanwhile was made before.
        if made.is_some_and(|(made,)| made >= micros(since)) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    let from = first.saturating_sub(1 + DISORDER).max(near);
    Ok(first_between(engine, tenant, (from, first - 1), since).await?.unwrap_or(first))
}

/// Returns the first event between two numbers that was made at this time or later.
async fn first_between<E: Engine>(
    engine: &E,
    tenant: &str,
    (from, to): (u64, u64),
    since: Timestamp,
) -> Result<Option<u64>, StoreError> {
    if from >= to {
        return Ok(None);
    }
    let values = values![tenant, column(from), column(to), micros(since)];
    let first: Option<(i64,)> = engine.select_one(Access::Key, sql::FIRST_EVENT_SINCE, &values).await?;
    Ok(first.map(|(first,)| number(first)))
}

/// The numbers of a tenant's latest event, and of the latest that was removed; 0 if there is none.
struct Head {
    latest: u64,
    removed: u64,
}

impl Head {
    async fn read<E: Engine>(engine: &E, tenant: &str) -> Result<Self, StoreError> {
        let head: Option<(i64, i64)> = engine.select_one(Access::Key, sql::EVENT_HEAD, &values![tenant]).await?;
        let (latest, removed) = head.unwrap_or_default();
        Ok(Self { latest: number(latest), removed: number(removed) })
    }
}

/// A filter in the form of statements.
struct FilterTexts {
    /// The names of types, and the types themselves.
    types: (Option<String>, Vec<EventType>),
    /// The text of statements, and the names.
    connections: Option<(String, Vec<String>)>,
    /// The text of statements, connections and ids separated by a space, and the pairs.
    assessments: Option<(String, Vec<(String, String)>)>,
    assignment: Option<String>,
}

impl FilterTexts {
    fn of(filter: &EventFilter) -> Self {
        let EventFilter { types, connections, assessments, assignment } = filter;
        // No connection has a space in its name.
        let pair = |(at, id): &(String, String)| format!("{at} {id}");
        let pairs = assessments.as_ref().map(|all| all.iter().map(pair).collect::<Vec<_>>());
        let names = types.as_ref().map(|types| types.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>());
        let all = || EventType::ALL.to_vec();
        Self {
            types: (names.as_deref().map(lines), types.clone().unwrap_or_else(all)),
            connections: connections.as_ref().map(|names| (lines(names), names.clone())),
            assessments: pairs.as_deref().map(lines).zip(assessments.clone()),
            assignment: assignment.as_ref().map(ToString::to_string),
        }
    }

    /// Returns the values of a statement about the events of a tenant between two numbers.
    fn values<'a>(&'a self, tenant: &'a str, from: u64, to: u64) -> Vec<SqlValue<'a>> {
        let (types, connections) = (self.types.0.as_deref(), self.connections.as_ref().map(|(text, _)| text.as_str()));
        let assessments = self.assessments.as_ref().map(|(text, _)| text.as_str());
        values![tenant, column(from), column(to), types, connections, assessments].into()
    }
}

/// Returns the events between two numbers that pass a filter.
async fn between<E: Engine>(
    engine: &E,
    tenant: &str,
    from: u64,
    to: u64,
    texts: &FilterTexts,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let mut values = texts.values(tenant, from, to);
    let sql = if let Some(assignment) = &texts.assignment {
        values.extend(values![assignment]);
        sql::EVENTS_OF_ASSIGNMENT
    } else {
        sql::EVENTS
    };
    values.extend(values![limit]);
    let rows: Vec<EventRow> = engine.select(Access::List, sql, &values).await?;
    rows.into_iter().map(|row| row.event(tenant)).collect()
}

/// Returns the last event up to this one that passes a filter and is kept.
async fn last<E: Engine>(
    engine: &E,
    tenant: &str,
    until: u64,
    head: &Head,
    texts: &FilterTexts,
) -> Result<Option<u64>, StoreError> {
    if until <= head.removed {
        return Ok(None);
    }
    if let Some(assignment) = &texts.assignment {
        let mut values = texts.values(tenant, head.removed, until);
        values.extend(values![assignment]);
        let found: Option<(i64,)> = engine.select_one(Access::List, sql::LAST_EVENT_OF_ASSIGNMENT, &values).await?;
        return Ok(found.map(|(found,)| number(found)));
    }
    let near = until.saturating_sub(NEAR).max(head.removed);
    let found: Option<(i64,)> =
        engine.select_one(Access::Key, sql::LAST_EVENT, &texts.values(tenant, near, until)).await?;
    if let Some((found,)) = found {
        return Ok(Some(number(found)));
    }
    if near <= head.removed {
        return Ok(None);
    }
    let best = last_by_index(engine, tenant, (head.removed, near), texts).await?;
    Ok((best > head.removed).then_some(best))
}

/// Returns the last event between two numbers that passes a filter, or the first of the numbers. Each statement finds its event by
/// an index, however many others there are.
async fn last_by_index<E: Engine>(
    engine: &E,
    tenant: &str,
    (mut from, to): (u64, u64),
    texts: &FilterTexts,
) -> Result<u64, StoreError> {
    let later = |found: Option<(i64,)>, best| found.map_or(best, |(found,)| number(found));
    if let Some((_, assessments)) = &texts.assessments {
        for (connection, assessment_ref) in assessments {
            let (types, connections) =
                (texts.types.0.as_deref(), texts.connections.as_ref().map(|(text, _)| text.as_str()));
            let values = values![tenant, column(from), column(to), types, connections, connection, assessment_ref];
            from = later(engine.select_one(Access::List, sql::LAST_EVENT_OF_ASSESSMENT, &values).await?, from);
        }
        return Ok(from);
    }
    for event_type in texts.types.1.iter().map(|event_type| event_type.as_str()) {
        let Some((_, connections)) = &texts.connections else {
            let values = values![tenant, event_type, column(from), column(to)];
            from = later(engine.select_one(Access::Key, sql::LAST_EVENT_OF_TYPE, &values).await?, from);
            continue;
        };
        let values = values![tenant, event_type, column(from), column(to)];
        from = later(engine.select_one(Access::Key, sql::LAST_EVENT_AT_NO_CONNECTION, &values).await?, from);
        for connection in connections {
            let values = values![tenant, event_type, connection, column(from), column(to)];
            from = later(engine.select_one(Access::Key, sql::LAST_EVENT_AT_CONNECTION, &values).await?, from);
        }
    }
    Ok(from)
}

/// Converts a column to a number.
fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
