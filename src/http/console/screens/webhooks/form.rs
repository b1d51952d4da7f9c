//! The form by which a webhook is created or changed.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::actions::show_secret;
use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, Problem, segment};
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

#[derive(Template)]
#[template(path = "webhook-form.html", config = "src/http/console/askama.toml")]
struct FormView {
    page: Page,
    /// The webhook that is changed; empty for a new one.
    id: String,
    fields: Fields,
    errors: Vec<(String, String)>,
}

/// The fields as they are entered.
#[derive(Default)]
struct Fields {
    url: String,
    description: String,
    types: String,
    connections: String,
    assessments: String,
    payload: String,
    order: String,
    max_in_flight: String,
    requests_per_second: String,
}

impl FormView {
    /// Returns what is wrong with a field, or with an entry of its list.
    fn error(&self, name: &str) -> Option<&str> {
        let of_field = |pointer: &str| pointer.strip_prefix('/').and_then(|path| path.split('/').next()) == Some(name);
        self.errors.iter().find(|(pointer, _)| of_field(pointer)).map(|(_, detail)| detail.as_str())
    }
}

impl Fields {
    fn of_new() -> Self {
        let text = str::to_owned;
        Self {
            payload: text("thin"),
            order: text("resource"),
            max_in_flight: text("4"),
            requests_per_second: text("0"),
            ..Self::default()
        }
    }

    fn of_webhook(webhook: Webhook) -> Self {
        Self {
            url: webhook.url,
            description: webhook.description.unwrap_or_default(),
            types: webhook.types.join(" "),
            connections: webhook.connections.join("\n"),
            assessments: webhook.assessments.join("\n"),
            payload: webhook.payload,
            order: webhook.order,
            max_in_flight: webhook.max_in_flight.to_string(),
            requests_per_second: webhook.requests_per_second.to_string(),
        }
    }

    fn entered(visit: &Visit) -> Self {
        let field = |name| visit.field(name).trim().to_owned();
        Self {
            url: field("url"),
            description: field("description"),
            types: field("types"),
            connections: field("connections"),
            assessments: field("assessments"),
            payload: field("payload"),
            order: field("order"),
            max_in_flight: field("maxInFlight"),
            requests_per_second: field("requestsPerSecond"),
        }
    }

    /// Returns the fields as the API takes them; `null` for those that are empty. What is not valid is sent as it was entered,
    /// so that the API says what is wrong.
    fn document(&self) -> Map<String, Value> {
        let text = |value: &str| if value.is_empty() { Value::Null } else { json!(value) };
        let number = |value: &str| value.parse::<u64>().map_or_else(|_| text(value), |number| json!(number));
        let list = |items: Vec<&str>| if items.is_empty() { Value::Null } else { json!(items) };
        let lines =
            |value: &'_ str| list(value.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>());
        Map::from_iter([
            ("url".to_owned(), text(&self.url)),
            ("description".to_owned(), text(&self.description)),
            ("types".to_owned(), list(self.types.split_whitespace().collect())),
            ("connections".to_owned(), lines(&self.connections)),
            ("assessments".to_owned(), lines(&self.assessments)),
            ("payload".to_owned(), text(&self.payload)),
            ("order".to_owned(), text(&self.order)),
            ("maxInFlight".to_owned(), number(&self.max_in_flight)),
            ("requestsPerSecond".to_owned(), number(&self.requests_per_second)),
        ])
    }
}

pub(super) async fn show_new(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::WebhooksWrite)?;
    render(&visit, "", Fields::of_new(), None)
}

pub(super) async fn create(visit: Visit) -> Result<Response, ConsoleError> {
    let fields = Fields::entered(&visit);
    let mut document = fields.document();
    document.retain(|_, value| !value.is_null());
    let secret = visit.field("secret").trim();
    if !secret.is_empty() {
        document.insert("secret".to_owned(), json!(secret));
    }
    match visit.api.post("/webhooks", Some(&Value::Object(document)), visit.key()).await {
        Ok(reply) => show_secret(&visit, reply.read()?, None),
        Err(ConsoleError::Problem(problem)) => render(&visit, "", fields, Some(*problem)),
        Err(error) => Err(error),
    }
}

pub(super) async fn show_edit(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.require(Scope::WebhooksWrite)?;
    let webhook: Webhook = visit.api.get(&format!("/webhooks/{}", segment(&id))).await?;
    if webhook.is_configured() {
        return visit.redirect(&format!("webhooks/{}", segment(&id)), "");
    }
    render(&visit, &id, Fields::of_webhook(webhook), None)
}

pub(super) async fn change(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let fields = Fields::entered(&visit);
    let changes = Value::Object(fields.document());
    match visit.api.patch(&format!("/webhooks/{}", segment(&id)), &changes, visit.key()).await {
        Ok(_) => visit.redirect(&format!("webhooks/{}", segment(&id)), "changed"),
        Err(ConsoleError::Problem(problem)) => render(&visit, &id, fields, Some(*problem)),
        Err(error) => Err(error),
    }
}

/// Renders the form, with the status of the problem if there is one.
fn render(visit: &Visit, id: &str, fields: Fields, problem: Option<Problem>) -> Result<Response, ConsoleError> {
    let title = if id.is_empty() { "New webhook".to_owned() } else { format!("Webhook {id}") };
    let mut page = visit.page(&title, Area::Webhooks);
    let (mut status, mut errors) = (StatusCode::OK, Vec::new());
    if let Some(problem) = problem {
        status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        errors = problem.errors.iter().map(|field| (field.pointer.clone(), field.detail.clone())).collect();
        page = page.with_problem(problem);
    }
    visit.render_as(status, &FormView { page, id: id.to_owned(), fields, errors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_null_and_lists_are_split() {
        let fields = Fields {
            url: "https://lms.example.com/in".to_owned(),
            types: "result.*  report.parked".to_owned(),
            connections: "startexam-main\r\n\r\n thinkexam-main ".to_owned(),
            max_in_flight: "9".to_owned(),
            requests_per_second: "many".to_owned(),
            ..Fields::default()
        };
        let expected = json!({
            "url": "https://lms.example.com/in", "description": null, "types": ["result.*", "report.parked"],
            "connections": ["startexam-main", "thinkexam-main"], "assessments": null, "payload": null, "order": null,
            "maxInFlight": 9, "requestsPerSecond": "many",
        });
        assert_eq!(Value::Object(fields.document()), expected);
    }
}
