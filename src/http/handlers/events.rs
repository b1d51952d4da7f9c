//! `/events`: what happened that no response reported, as a list, by long polling, or as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::HeaderMap;
use tokio::time::Instant;

use crate::domain::error::FieldError;
use crate::domain::event::{EventDocument, EventType, example_of};
use crate::domain::ids::AssignmentId;
use crate::http::app_state::AppState;
use crate::http::dto::event::EventList;
use crate::http::extract::accept;
use crate::http::extract::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::middleware::in_flight_limit::InFlightPermit;
use crate::http::pagination::{cursor_position, encode_cursor};
use crate::http::problem::ApiError;
use crate::http::server::shutdown::ShutdownSignal;
use crate::service::{EventQuery, EventReader, EventStart};

/// The parameter, and the header, that say where to begin.
const AFTER: &str = "after";
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The word for the position after the latest event.
const LATEST: &str = "latest";
/// Number of events that a stream reads at once.
const STREAM_PART: usize = 200;
/// Maximum silence on the stream, so that no intermediary takes it for an end.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long a stream waits for an event before it says how far it has looked.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);
/// The longest that a stream lasts; the client then connects again, and shows that its credentials are still valid.
const MAX_STREAM: Duration = Duration::from_mins(15);

/// Read events
///
/// What happened that no response reported: oldest first, beginning after `after`. Each event is there once it was
/// committed with what it is about, and keeps its number. A client that continues with `nextCursor`, or with the
/// `sequence` of the last event it has handled, misses none, as long as it comes back within `store.event_retention`;
/// after that the response is 410.
///
/// With `Prefer: wait=<seconds>` a response without events is held back until there is one, or the time is over.
///
/// With `Accept: text/event-stream` the response is a stream of Server-Sent Events: `event` is the type, `data` the
/// event and `id` its number. An `id` without `data` says that there was nothing for this reader up to that number; the stream
/// begins with one, which says where it begins. The stream ends after some minutes; a client that connects again with `Last-Event-ID`, as browsers do by themselves,
/// misses none.
#[utoipa::path(
    get, path = "/events", operation_id = "listEvents", tag = "Events",
    params(
        ("after" = Option<String>, Query, description = "Return events after this one: a `nextCursor`, a `sequence`, or `latest` for those that are yet to come. Without it, the oldest that is kept is first.", nullable = false),
        ("types" = Option<String>, Query, description = "Return only events of these types, separated by commas: `result.published`, or `result.*` for all that begin so.", nullable = false),
        ("assignment" = Option<String>, Query, description = "Return only events about this assignment.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of events in the response. Not with a stream.", nullable = false, minimum = 1, maximum = 200),
        ("Last-Event-ID" = Option<String>, Header, description = "Of a stream: the `id` of the last event that was received. Takes precedence over `after`.", nullable = false),
        ("Prefer" = Option<String>, Header, description = "`wait=<seconds>` holds back a response without events for so long, at most for `server.request_timeout`.", nullable = false),
    ),
    responses((status = 200, description = "Events, oldest first, or a stream of them.", content(
        (EventList = "application/json"),
        (String = "text/event-stream", example = json!(stream_example())),
    ))),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    stopping: ShutdownSignal,
    headers: HeaderMap,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    let wanted = EventQuery {
        types: types(&mut query),
        assignment: query.parsed("assignment", "an assignment's identifier", |text| AssignmentId::parse(text).ok()),
    };
    let after = query.parsed(AFTER, "a `nextCursor`, a `sequence` or `latest`", start).unwrap_or(EventStart::Oldest);
    if accept::requests(&headers, accept::EVENTS) {
        if query.text("limit").is_some() {
            query.add_error("limit", "is only valid with JSON");
        }
        let (begin, name) = match last_event_id(&headers) {
            Some(Ok(last)) => (last, LAST_EVENT_ID),
            Some(Err(error)) => return Err(crate::domain::error::Error::from_fields(vec![error]).into()),
            None => (after, "?after"),
        };
        query.finish()?;
        let permit = app.acquire_permit(&app.watchers, &caller.client)?;
        let reader = app.gateway.read_events_from(caller, wanted, begin, name).await?;
        return Ok(stream(EventStream::new(app, reader, stopping, permit)));
    }
    let limit = query.limit();
    query.finish()?;
    let preferences = Preferences::of(&headers);
    let patience = preferences.wait_or(Duration::ZERO, app.terms.now().server.request_timeout.0);
    let mut reader = app.gateway.read_events_from(caller, wanted, after, "?after").await?;
    let items = tokio::select! {
        events = app.gateway.next_events(&mut reader, limit, patience) => events?,
        () = stopping.wait_begun() => Vec::new(),
    };
    let list = EventList { items, next_cursor: encode_cursor(reader.position()) };
    let applied = preferences.wait_applied().map(|applied| [(PREFERENCE_APPLIED, applied)]);
    Ok((applied, Json(list)).into_response())
}

/// Reads `types`: names and patterns, separated by commas.
fn types(query: &mut QueryParams) -> Option<Vec<EventType>> {
    let text = query.text("types")?;
    let mut all = Vec::new();
    for pattern in text.split(',') {
        match EventType::matching(pattern.trim()) {
            Ok(types) => all.extend(types),
            Err(error) => {
                let known: Vec<&str> = listed_types().map(EventType::as_str).collect();
                query.add_refusal(
                    "types",
                    &format!("{error}; there are {}, and patterns such as `result.*`", known.join(", ")),
                );
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Returns the types of events that lists have.
fn listed_types() -> impl Iterator<Item = EventType> {
    EventType::ALL.iter().copied().filter(|event_type| *event_type != EventType::Ping)
}

/// Parses a position: a number, a cursor, or `latest`.
fn start(text: &str) -> Option<EventStart> {
    if text == LATEST {
        return Some(EventStart::Latest);
    }
    let number = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None };
    number.or_else(|| cursor_position(Some(text)).ok()).map(EventStart::After)
}

/// Reads the number of the last event that the client has received; `None` without the header, and if it is empty.
fn last_event_id(headers: &HeaderMap) -> Option<Result<EventStart, FieldError>> {
    let value = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty())?;
    let parsed = value.to_str().ok().and_then(start).filter(|start| matches!(start, EventStart::After(_)));
    Some(parsed.ok_or_else(|| FieldError::invalid(LAST_EVENT_ID, "must be the `id` of an event of this stream")))
}

/// A stream of events.
struct EventStream {
    app: AppState,
    reader: EventReader,
    /// Events that were read and not sent yet.
    ready: VecDeque<EventDocument>,
    /// The number that was sent last; `None` before the first one.
    sent: Option<u64>,
    stopping: ShutdownSignal,
    ends: Instant,
    _permit: InFlightPermit,
}

impl EventStream {
    fn new(app: AppState, reader: EventReader, stopping: ShutdownSignal, permit: InFlightPermit) -> Self {
        let ends = Instant::now() + MAX_STREAM;
        Self { app, reader, ready: VecDeque::new(), sent: None, stopping, ends, _permit: permit }
    }

    /// Returns the next event; `None` at the end. If the store fails, the stream ends; the client connects again and
    /// gets the error.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                let number = document.sequence?;
                self.sent = Some(number);
                let data = serde_json::to_string(&document).ok()?;
                let event_type = document.event_type.as_str();
                return Some(Event::default().event(event_type).id(number.to_string()).data(data));
            }
            // First of all the position at which the stream begins: a client that loses the connection before the first event
            // continues from there.
            if self.sent.is_none_or(|sent| self.reader.position() > sent) {
                self.sent = Some(self.reader.position());
                return Some(Event::default().id(self.reader.position().to_string()));
            }
            let patience = BOOKMARK_INTERVAL.min(self.ends.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return None;
            }
            tokio::select! {
                events = self.app.gateway.next_events(&mut self.reader, STREAM_PART, patience) => {
                    self.ready.extend(events.ok()?);
                }
                () = self.stopping.wait_begun() => return None,
            }
        }
    }
}

fn stream(events: EventStream) -> Response {
    let events = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response()
}

fn stream_example() -> String {
    let event = example_of(EventType::ResultPublished);
    format!("id: 4709\n\nevent: result.published\nid: 4711\ndata: {event}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_number_a_cursor_or_the_latest() {
        assert_eq!(start("4711"), Some(EventStart::After(4711)));
        assert_eq!(start(&encode_cursor(4711)), Some(EventStart::After(4711)));
        assert_eq!(start("latest"), Some(EventStart::Latest));
        for odd in ["", "-1", "newest", "18446744073709551616", "evt_1"] {
            assert_eq!(start(odd), None, "{odd}");
        }
    }

    #[test]
    fn types_are_names_and_patterns() {
        let read = |text: &str| {
            let mut query = QueryParams::of(&format!("/events?types={text}").parse().unwrap());
            let types = types(&mut query);
            query.finish().map(|()| types.unwrap()).map_err(|error| error.errors)
        };
        assert_eq!(
            read("result.*,report.parked,result.corrected").unwrap(),
            [EventType::ResultPublished, EventType::ResultCorrected, EventType::ReportParked]
        );
        for odd in ["result", "results.*", "ping", "*", "result.*,", "result.published.*"] {
            let errors = read(odd).unwrap_err();
            assert_eq!(errors.len(), 1, "{odd}");
            assert!(errors[0].pointer == "?types" && errors[0].detail.contains("result.published"), "{errors:?}");
        }
    }
}
