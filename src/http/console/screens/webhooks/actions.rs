//! What is done to a webhook or a delivery.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use serde_json::{Value, json};

use super::one::{Occasion, ReplayFields, render};
use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, Problem, Reply, segment};
use crate::http::console::documents::delivery::WebhookPing;
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// The page of a secret that was just made. It is not shown again.
#[derive(Template)]
#[template(path = "webhook-secret.html", config = "src/http/console/askama.toml")]
struct SecretView {
    page: Page,
    webhook: Webhook,
    /// How long the former secret signs as well; `None` for a new webhook.
    overlap: Option<String>,
}

/// Leads from the address of an action, as after signing in again, to the webhook.
pub(super) async fn back(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.redirect(&format!("webhooks/{}", segment(&id)), "")
}

pub(super) async fn ping(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let ping: WebhookPing = act(&visit, &id, "ping", None).await?.read()?;
    render(&visit, &id, Occasion { ping: Some(ping), ..Occasion::default() }).await
}

pub(super) async fn pause(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    act(&visit, &id, "pause", None).await?;
    visit.redirect(&format!("webhooks/{}", segment(&id)), "paused")
}

pub(super) async fn resume(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    act(&visit, &id, "resume", None).await?;
    visit.redirect(&format!("webhooks/{}", segment(&id)), "resumed")
}

pub(super) async fn delete(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.api.delete(&format!("/webhooks/{}", segment(&id)), visit.key()).await?;
    visit.redirect("webhooks", "deleted")
}

pub(super) async fn rotate(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let overlap = visit.field("overlap").trim().to_owned();
    let secret = visit.field("secret").trim();
    let mut order = json!({});
    for (name, value) in [("overlap", &*overlap), ("secret", secret)].into_iter().filter(|(_, value)| !value.is_empty())
    {
        order[name] = json!(value);
    }
    match act(&visit, &id, "rotate", Some(&order)).await {
        Ok(reply) => show_secret(&visit, reply.read()?, Some(overlap)),
        Err(ConsoleError::Problem(problem)) => failed(&visit, &id, *problem, None).await,
        Err(error) => Err(error),
    }
}

pub(super) async fn replay(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let field = |name| visit.field(name).trim().to_owned();
    let entered = ReplayFields {
        since: field("since"),
        until: field("until"),
        after: field("after"),
        types: field("types"),
        only_failed: visit.field("only") != "all",
    };
    let replied = match act(&visit, &id, "replay", Some(&replay_order(&entered))).await {
        Err(ConsoleError::Problem(problem)) => return failed(&visit, &id, *problem, Some(entered)).await,
        replied => replied?,
    };
    let operation = replied.json["id"].as_str().filter(|_| visit.may(Scope::OperationsRead));
    match operation {
        Some(operation) => visit.redirect(&format!("operations/{}", segment(operation)), "begun"),
        None => visit.redirect(&format!("webhooks/{}", segment(&id)), "replaying"),
    }
}

pub(super) async fn retry(
    visit: Visit,
    Path((webhook, delivery)): Path<(String, String)>,
) -> Result<Response, ConsoleError> {
    visit.api.post(&format!("/deliveries/{}/retry", segment(&delivery)), None, visit.key()).await?;
    visit.redirect(&format!("webhooks/{}/deliveries/{}", segment(&webhook), segment(&delivery)), "retried")
}

/// Shows the secret of a webhook that was created, or whose secret was rotated. The page needs nothing else from the API, so
/// that the secret is not lost with another request.
///
/// # Errors
/// The template failed.
pub(super) fn show_secret(visit: &Visit, webhook: Webhook, overlap: Option<String>) -> Result<Response, ConsoleError> {
    let page = visit.page(&format!("Webhook {}", webhook.id), Area::Webhooks);
    let overlap = overlap.map(|given| if given.is_empty() { "24h".to_owned() } else { given });
    visit.render(&SecretView { page, webhook, overlap })
}

async fn act(visit: &Visit, id: &str, action: &str, order: Option<&Value>) -> Result<Reply, ConsoleError> {
    visit.api.post(&format!("/webhooks/{}/{action}", segment(id)), order, visit.key()).await
}

async fn failed(
    visit: &Visit,
    id: &str,
    problem: Problem,
    replay: Option<ReplayFields>,
) -> Result<Response, ConsoleError> {
    render(visit, id, Occasion { problem: Some(problem), replay, ping: None }).await
}

/// Builds the body of a replay. What is not valid is sent as it was entered, so that the API says what is wrong.
fn replay_order(entered: &ReplayFields) -> Value {
    let ReplayFields { since, until, after, types, only_failed } = entered;
    let mut order = json!({ "only": if *only_failed { "failed" } else { "all" } });
    for (name, time) in [("since", since), ("until", until)].into_iter().filter(|(_, time)| !time.is_empty()) {
        order[name] = json!(date_time(time));
    }
    if !after.is_empty() {
        order["after"] = after.parse::<u64>().map_or_else(|_| json!(after), |number| json!(number));
    }
    let types: Vec<&str> = types.split_whitespace().collect();
    if !types.is_empty() {
        order["types"] = json!(types);
    }
    order
}

/// Returns a time of a form (HTML's "local date and time string", which is UTC here) as the API takes it.
fn date_time(entered: &str) -> String {
    match entered.len() {
        16 => format!("{entered}:00Z"),
        19 | 23 => format!("{entered}Z"),
        _ => entered.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_sends_what_was_entered_and_nothing_else() {
        let entered = ReplayFields {
            since: "2026-11-22T09:30".to_owned(),
            until: "2026-11-22T10:30:15".to_owned(),
            types: " result.*  report.parked ".to_owned(),
            only_failed: true,
            ..ReplayFields::default()
        };
        let expected = json!({ "only": "failed", "since": "2026-11-22T09:30:00Z", "until": "2026-11-22T10:30:15Z",
            "types": ["result.*", "report.parked"] });
        assert_eq!(replay_order(&entered), expected);
        let entered = ReplayFields { after: "4711".to_owned(), ..ReplayFields::default() };
        assert_eq!(replay_order(&entered), json!({ "only": "all", "after": 4711 }));
    }

    #[test]
    fn what_is_no_number_or_time_is_left_to_the_api() {
        let entered = ReplayFields { after: "-1".to_owned(), since: "yesterday".to_owned(), ..ReplayFields::default() };
        assert_eq!(replay_order(&entered), json!({ "only": "all", "after": "-1", "since": "yesterday" }));
    }
}
