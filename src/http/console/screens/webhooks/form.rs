//! The form by which a webhook is created or changed. A form of a change carries the settings that it has shown: only what
//! differs from them is sent, and nothing if the webhook was changed since.

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
    /// The settings that the form was filled in from, as JSON; empty for a new webhook.
    shown: String,
    /// Settings that were changed since, with their present values.
    changed: Vec<(&'static str, String)>,
    errors: Vec<(String, String)>,
}

/// The fields of the API's document, with their labels.
const LABELS: [(&str, &str); 9] = [
    ("url", "Address"),
    ("description", "Description"),
    ("types", "Types"),
    ("connections", "Connections"),
    ("assessments", "Assessments"),
    ("payload", "What a delivery holds"),
    ("order", "Order"),
    ("maxInFlight", "At most in flight"),
    ("requestsPerSecond", "At most a second"),
];

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

/// What a form is shown with besides its fields.
#[derive(Default)]
struct Occasion {
    shown: String,
    changed: Vec<(&'static str, String)>,
    problem: Option<Problem>,
}

pub(super) async fn show_new(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::WebhooksWrite)?;
    render(&visit, "", Fields::of_new(), Occasion::default())
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
        Err(ConsoleError::Problem(problem)) => {
            render(&visit, "", fields, Occasion { problem: Some(*problem), ..Occasion::default() })
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn show_edit(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.require(Scope::WebhooksWrite)?;
    let webhook: Webhook = visit.api.get(&format!("/webhooks/{}", segment(&id))).await?;
    if webhook.is_configured() {
        return visit.redirect(&format!("webhooks/{}", segment(&id)), "");
    }
    let fields = Fields::of_webhook(webhook);
    let shown = Value::Object(fields.document()).to_string();
    render(&visit, &id, fields, Occasion { shown, ..Occasion::default() })
}

pub(super) async fn change(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let (fields, path) = (Fields::entered(&visit), format!("/webhooks/{}", segment(&id)));
    let present = match visit.api.get(&path).await {
        Ok(webhook) => Fields::of_webhook(webhook).document(),
        Err(ConsoleError::Problem(problem)) => {
            let shown = visit.field("shown").to_owned();
            return render(&visit, &id, fields, Occasion { shown, problem: Some(*problem), ..Occasion::default() });
        }
        Err(error) => return Err(error),
    };
    let shown = serde_json::from_str::<Map<String, Value>>(visit.field("shown")).unwrap_or_default();
    let entered = fields.document();
    let changed = differences(&shown, &present);
    // A form that is sent again finds its own changes.
    if !changed.is_empty() && present != entered {
        let shown = Value::Object(present).to_string();
        return render(&visit, &id, fields, Occasion { shown, changed, problem: None });
    }
    match visit.api.patch(&path, &Value::Object(changes(&shown, entered)), visit.key()).await {
        Ok(_) => visit.redirect(&format!("webhooks/{}", segment(&id)), "changed"),
        Err(ConsoleError::Problem(problem)) => {
            let shown = visit.field("shown").to_owned();
            render(&visit, &id, fields, Occasion { shown, problem: Some(*problem), ..Occasion::default() })
        }
        Err(error) => Err(error),
    }
}

/// Returns what was entered without what is as it was shown, so that a change at the same moment of another setting stays.
fn changes(shown: &Map<String, Value>, entered: Map<String, Value>) -> Map<String, Value> {
    entered.into_iter().filter(|(name, value)| shown.get(name) != Some(value)).collect()
}

/// Returns the settings that differ, with their labels and present values.
fn differences(shown: &Map<String, Value>, present: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let differ = LABELS.into_iter().filter(|(name, _)| shown.get(*name) != present.get(*name));
    differ.map(|(name, label)| (label, present.get(name).map(in_words).unwrap_or_default())).collect()
}

/// Returns a setting for people; empty if it has none.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Renders the form, with the status of the problem if there is one.
fn render(visit: &Visit, id: &str, fields: Fields, occasion: Occasion) -> Result<Response, ConsoleError> {
    let Occasion { shown, changed, problem } = occasion;
    let title = if id.is_empty() { "New webhook".to_owned() } else { format!("Webhook {id}") };
    let mut page = visit.page(&title, Area::Webhooks);
    let (mut status, mut errors) = (StatusCode::OK, Vec::new());
    if !changed.is_empty() {
        status = StatusCode::CONFLICT;
    }
    if let Some(problem) = problem {
        status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        errors = problem.errors.iter().map(|field| (field.pointer.clone(), field.detail.clone())).collect();
        page = page.with_problem(problem);
    }
    visit.render_as(status, &FormView { page, id: id.to_owned(), fields, shown, changed, errors })
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

    #[test]
    fn what_was_changed_meanwhile_is_named_with_its_present_value() {
        let fields =
            |url: &str, types: &str| Fields { url: url.to_owned(), types: types.to_owned(), ..Fields::default() };
        let shown = fields("https://a.example/", "result.*").document();
        assert_eq!(differences(&shown, &shown), []);
        let present = fields("https://b.example/", "result.* report.parked").document();
        let changed = [("Address", "https://b.example/"), ("Types", "result.*, report.parked")];
        assert_eq!(differences(&shown, &present), changed.map(|(label, value)| (label, value.to_owned())));
        // A form that does not say what it has shown is not taken to have shown anything.
        assert_eq!(differences(&Map::new(), &shown).len(), LABELS.len());
    }

    #[test]
    fn only_what_was_entered_anew_is_sent() {
        let fields =
            |url: &str, types: &str| Fields { url: url.to_owned(), types: types.to_owned(), ..Fields::default() };
        let shown = fields("https://a.example/", "result.*").document();
        assert_eq!(
            Value::Object(changes(&shown, fields("https://a.example/", "").document())),
            json!({ "types": null })
        );
        assert_eq!(changes(&shown, shown.clone()), Map::new());
    }

    #[test]
    fn every_setting_has_a_label() {
        let document = Fields::default().document();
        assert_eq!(document.len(), LABELS.len());
        assert!(LABELS.iter().all(|(name, _)| document.contains_key(*name)));
    }
}
