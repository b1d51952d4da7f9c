//! The events as the gateway delivers them to webhooks: what OpenAPI 3.1 describes under `webhooks`.

use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, Required};

use crate::domain::event::{EventType, example_of};

/// The headers of a delivery (Standard Webhooks 1.0).
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "The event's `id`. A delivery that is attempted again has the same."),
    ("webhook-timestamp", "When the attempt was made: seconds since 1970. Refuse one that is older than some minutes."),
    (
        "webhook-signature",
        "One or more signatures, separated by spaces: `v1,` and the Base64 form of the HMAC-SHA256 of \
         `<webhook-id>.<webhook-timestamp>.<body>` under the webhook's secret. One that is right is enough.",
    ),
];

/// Describes the delivery of each event type.
pub(super) fn webhooks() -> Paths {
    let describe = |paths: PathsBuilder, event_type: &EventType| {
        paths.path(event_type.as_str(), PathItem::new(HttpMethod::Post, delivery(*event_type)))
    };
    EventType::ALL.iter().fold(PathsBuilder::new(), describe).build()
}

fn delivery(event_type: EventType) -> Operation {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Event")))
        .example(Some(example_of(event_type)))
        .build();
    let body = RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True)).build();
    let response = |description: &str| ResponseBuilder::new().description(description).build();
    OperationBuilder::new()
        .tag("Events")
        .operation_id(Some(operation_id(event_type)))
        .summary(Some(summary(event_type)))
        .parameters(Some(HEADERS.map(|(name, description)| header(name, description))))
        .request_body(Some(body))
        .response("2XX", response("The receiver has the event; what it says is ignored."))
        .response("410", response("The receiver wants no more: the webhook is disabled."))
        .response("default", response("The delivery is attempted again later."))
        // The signature takes the place of credentials.
        .securities(Some([]))
        .build()
}

fn header(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// Returns the name of the operation: `onResultPublished`.
fn operation_id(event_type: EventType) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    let words: Vec<String> = event_type.as_str().split('.').map(capital).collect();
    format!("on{}", words.concat())
}

const fn summary(event_type: EventType) -> &'static str {
    match event_type {
        EventType::OperationCompleted => "An operation has ended",
        EventType::CandidateSettled => "A candidate's unknown write has become known",
        EventType::AssignmentSettled => "An assignment's unknown write has become known",
        EventType::AttemptStarted => "An attempt has started",
        EventType::AttemptCompleted => "An attempt has ended",
        EventType::AttemptReopened => "A completed attempt is in progress again",
        EventType::ResultPublished => "A result is final for the first time",
        EventType::ResultCorrected => "A published result has changed",
        EventType::AssignmentExpired => "The window of an assignment has ended without an attempt",
        EventType::ReportParked => "A report has arrived that fits no known candidate or assignment",
        EventType::ReportRejected => "A report has arrived that cannot be read",
        EventType::ConnectionChanged => "The state of a connection has changed",
        EventType::WebhookFailing => "A webhook's deliveries fail",
        EventType::WebhookDisabled => "A webhook was disabled",
        EventType::WebhookGap => "Events were removed before a webhook got them",
        EventType::Ping => "A test that a client asked for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_described() {
        let webhooks = webhooks().paths;
        let names: Vec<&str> = webhooks.keys().map(String::as_str).collect();
        assert_eq!(names.len(), EventType::ALL.len(), "{names:?}");
        assert_eq!(operation_id(EventType::AttemptReopened), "onAttemptReopened");
    }
}
