//! Lists of events in responses. The document of an event is [`EventDocument`], since a delivery has the same.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::event::{EventDocument, EventType, example_of};

/// Events, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(list_example))]
pub struct EventList {
    /// The events.
    pub items: Vec<EventDocument>,
    /// The `after` of the next request: always present, also if there are no events yet.
    pub next_cursor: String,
}

fn list_example() -> Value {
    json!({ "items": [example_of(EventType::ResultPublished)], "nextCursor": "YXQ6NDcxMQ" })
}
