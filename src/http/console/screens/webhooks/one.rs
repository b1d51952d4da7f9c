//! The page of one webhook with its deliveries, and that of one delivery.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;

use crate::http::console::api::{ConsoleError, List, Problem, segment};
use crate::http::console::documents::delivery::{Delivery, WebhookPing};
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// The words of `?notice=` after actions on a webhook.
pub(super) const NOTICES: &[(&str, &str)] = &[
    ("changed", "The webhook is changed."),
    ("paused", "The webhook is paused. It keeps its place."),
    ("resumed", "The webhook continues where it was."),
    ("replaying", "The events are being delivered again."),
    ("retried", "The delivery is being attempted. Look again in a moment."),
    ("deleted", "The webhook is deleted."),
];

/// The states of deliveries, by which the list is filtered; empty for all.
const STATES: [&str; 4] = ["", "pending", "delivered", "failed"];
/// Number of deliveries on a page.
const DELIVERIES: &str = "50";

/// What the page shows besides the webhook itself.
#[derive(Default)]
pub(super) struct Occasion {
    /// What came back from a ping.
    pub(super) ping: Option<WebhookPing>,
    /// Why the action failed.
    pub(super) problem: Option<Problem>,
    /// What was entered in the form of a replay, which is shown open then.
    pub(super) replay: Option<ReplayFields>,
}

/// The fields of the form of a replay.
#[derive(Default)]
pub(super) struct ReplayFields {
    pub(super) since: String,
    pub(super) until: String,
    pub(super) after: String,
    pub(super) types: String,
    pub(super) only_failed: bool,
}

#[derive(Template)]
#[template(path = "webhook.html", config = "src/http/console/askama.toml")]
struct WebhookView {
    page: Page,
    webhook: Webhook,
    deliveries: List<Delivery>,
    state: String,
    is_first: bool,
    ping: Option<WebhookPing>,
    replay: ReplayFields,
    is_replay_open: bool,
}

impl WebhookView {
    fn is_state(&self, state: &str) -> bool {
        self.state == state
    }
}

#[derive(Template)]
#[template(path = "delivery.html", config = "src/http/console/askama.toml")]
struct DeliveryView {
    page: Page,
    delivery: Delivery,
}

pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    render(&visit, &id, Occasion::default()).await
}

pub(super) async fn delivery(visit: Visit, Path((_, id)): Path<(String, String)>) -> Result<Response, ConsoleError> {
    let delivery: Delivery = visit.api.get(&format!("/deliveries/{}", segment(&id))).await?;
    let page = visit.page(&format!("Delivery {}", delivery.id), Area::Webhooks).with_notices(NOTICES);
    visit.render(&DeliveryView { page, delivery })
}

/// Renders the page of a webhook, with the status of the problem if there is one.
///
/// # Errors
/// The webhook or its deliveries cannot be read.
pub(super) async fn render(visit: &Visit, id: &str, occasion: Occasion) -> Result<Response, ConsoleError> {
    let path = format!("/webhooks/{}", segment(id));
    let state = visit.query("state").filter(|state| STATES.contains(state)).unwrap_or_default();
    let cursor = visit.query("cursor").unwrap_or_default();
    let query = [("state", state), ("limit", DELIVERIES), ("cursor", cursor)];
    let deliveries_path = format!("{path}/deliveries");
    let (webhook, deliveries) =
        tokio::try_join!(visit.api.get::<Webhook>(&path), visit.api.list::<Delivery>(&deliveries_path, &query))?;
    let mut page = visit.page(&format!("Webhook {}", webhook.id), Area::Webhooks).with_notices(NOTICES);
    let Occasion { ping, problem, replay } = occasion;
    let mut status = StatusCode::OK;
    if let Some(problem) = problem {
        status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        page = page.with_problem(problem);
    }
    let is_replay_open = replay.is_some();
    let replay = replay.unwrap_or(ReplayFields { only_failed: true, ..ReplayFields::default() });
    let (state, is_first) = (state.to_owned(), cursor.is_empty());
    visit.render_as(status, &WebhookView { page, webhook, deliveries, state, is_first, ping, replay, is_replay_open })
}
