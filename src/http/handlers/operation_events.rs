//! `/operations/{id}/events`: the progress of an operation as Server-Sent Events.
//!
//! Every event carries the whole operation, so that a client that connects late or reconnects misses nothing. The
//! stream ends with the event that shows the operation ended, or when the listener is about to close.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{HeaderMap, StatusCode};

use crate::domain::ids::OperationId;
use crate::http::app_state::AppState;
use crate::http::dto::operation::Operation;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id};
use crate::http::middleware::in_flight_limit::InFlightPermit;
use crate::http::problem::ApiError;
use crate::http::server::shutdown::ShutdownSignal;
use crate::service::{OperationStatus, RequestContext};

/// Polling interval for progress; the end of the operation is sent at once.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum silence on the stream, so that no intermediary takes it for an end.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Id of the last event.
const LAST_EVENT_ID: &str = "end";

/// Follow an operation
///
/// Server-Sent Events named `progress`, each with the operation as `data`: one at once, one whenever something has changed
/// (at most two a second), and the last when the operation has ended. A client that reconnects with `Last-Event-ID: end`, as browsers do automatically,
/// gets 204 as long as there is nothing new.
#[utoipa::path(
    get, path = "/operations/{id}/events", operation_id = "followOperation", tag = "Operations",
    params(("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71")),
    responses(
        (status = 200, description = "Events until the operation has ended.", content(("text/event-stream", example = json!(example())))),
        (status = 204, description = "The client has already received the last event."),
    ),
)]
pub(in crate::http) async fn follow(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
    stopping: ShutdownSignal,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let first = app.gateway.operation(&caller, &id).await?;
    let seen = headers.get("last-event-id").is_some_and(|last| last == LAST_EVENT_ID);
    if seen && first.operation.state.is_terminal() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let permit = app.acquire_permit(&app.watchers, &caller.client)?;
    let watch = OperationWatch {
        app,
        caller,
        id,
        stopping,
        next: Some(first),
        last_sent: String::new(),
        ended: false,
        _permit: permit,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.event().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response())
}

struct OperationWatch {
    app: AppState,
    caller: Arc<RequestContext>,
    id: OperationId,
    stopping: ShutdownSignal,
    /// The state that was read but not sent yet.
    next: Option<OperationStatus>,
    /// The state that was sent last.
    last_sent: String,
    ended: bool,
    _permit: InFlightPermit,
}

impl OperationWatch {
    /// Returns the next event; `None` at the end. If the store fails, the stream ends; the client reconnects and gets
    /// the error.
    async fn event(&mut self) -> Option<Event> {
        while !self.ended {
            let view = if let Some(view) = self.next.take() {
                view
            } else {
                tokio::select! {
                    view = self.app.gateway.wait_for_operation(&self.caller, &self.id, POLL_INTERVAL) => view.ok()?,
                    () = self.stopping.wait_begun() => return None,
                }
            };
            self.ended = view.operation.state.is_terminal();
            let document = serde_json::to_string(&Operation::from(view)).ok()?;
            if document != self.last_sent {
                self.last_sent.clone_from(&document);
                let event = Event::default().event("progress").data(document);
                return Some(if self.ended { event.id(LAST_EVENT_ID) } else { event });
            }
        }
        None
    }
}

fn example() -> String {
    let operation = crate::http::dto::operation::operation_example();
    format!("event: progress\ndata: {operation}\n\n")
}
