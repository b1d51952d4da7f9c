//! The screens of webhooks: how far each one is and what its receiver said last, its settings, its deliveries and their
//! attempts, and what can be done about them.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::future::try_join_all;

use self::one::NOTICES;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::delivery::{Delivery, DeliveryAttempt, latest_attempt};
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

mod actions;
mod form;
mod one;

/// Number of webhooks on a page. For each one its deliveries are looked through.
const MOST: &str = "20";
/// Number of deliveries in which the last response of a receiver is looked for. Behind a receiver that fails, many wait that
/// were not attempted yet.
const RECENT: (u32, u32) = (5, 200);

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/webhooks", get(list).post(form::create))
        .route("/console/webhooks/new", get(form::show_new))
        .route("/console/webhooks/{id}", get(one::show))
        .route("/console/webhooks/{id}/edit", get(form::show_edit).post(form::change))
        .route("/console/webhooks/{id}/ping", post(actions::ping).get(actions::back))
        .route("/console/webhooks/{id}/pause", post(actions::pause).get(actions::back))
        .route("/console/webhooks/{id}/resume", post(actions::resume).get(actions::back))
        .route("/console/webhooks/{id}/rotate", post(actions::rotate).get(actions::back))
        .route("/console/webhooks/{id}/replay", post(actions::replay).get(actions::back))
        .route("/console/webhooks/{id}/delete", post(actions::delete).get(actions::back))
        .route("/console/webhooks/{id}/deliveries/{delivery}", get(one::delivery))
        .route("/console/webhooks/{id}/deliveries/{delivery}/retry", post(actions::retry))
}

#[derive(Template)]
#[template(path = "webhooks.html", config = "src/http/console/askama.toml")]
struct ListView {
    page: Page,
    rows: Vec<Row>,
    next_cursor: Option<String>,
    is_first: bool,
}

struct Row {
    webhook: Webhook,
    last: Option<DeliveryAttempt>,
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    let cursor = visit.query("cursor").unwrap_or_default();
    let webhooks = visit.api.list::<Webhook>("/webhooks", &[("limit", MOST), ("cursor", cursor)]).await?;
    let List { items, next_cursor } = webhooks;
    let rows = try_join_all(items.into_iter().map(|webhook| with_last_attempt(&visit, webhook))).await?;
    let page = visit.page("Webhooks", Area::Webhooks).with_notices(NOTICES);
    visit.render(&ListView { page, rows, next_cursor, is_first: cursor.is_empty() })
}

async fn with_last_attempt(visit: &Visit, webhook: Webhook) -> Result<Row, ConsoleError> {
    let (few, many) = RECENT;
    let most = if webhook.state == "enabled" { few } else { many };
    let path = format!("/webhooks/{}/deliveries?limit={most}", segment(&webhook.id));
    // It may have been deleted meanwhile.
    let deliveries = visit.part("last responses", visit.api.find::<List<Delivery>>(&path).await)?;
    let last = deliveries.flatten().and_then(|deliveries| latest_attempt(deliveries.items));
    Ok(Row { webhook, last })
}
