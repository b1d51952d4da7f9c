//! The time line of a person: what happened to them, from all that the API gives, newest first.

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, List, Permitted as _, segment};
use crate::http::console::documents::delivery::{Delivery, DeliveryAttempt};
use crate::http::console::documents::exchange::{Exchange, ExchangeCall};
use crate::http::console::documents::result::{ExamResult, ResultContent, ResultVersion, Score};
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::visit::Visit;

/// Maximum number of bookings whose events are read, and of results whose versions are.
const MOST_SUBJECTS: usize = 10;
/// Maximum number of events whose deliveries are read, and of webhooks whose deliveries are.
const MOST_EVENTS: usize = 6;
const MOST_WEBHOOKS: usize = 3;
/// Number of deliveries of a webhook, the newest, in which those of the events are looked for first.
const NEWEST_DELIVERIES: &str = "100";
/// How far the clocks of two replicas may differ, of which one has made an event and the other its delivery.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(60);

/// One thing that happened.
pub(in crate::http::console) struct LineEntry {
    pub(in crate::http::console) time: Timestamp,
    pub(in crate::http::console) text: String,
    /// The API's word for how it ended; empty if there is none.
    pub(in crate::http::console) word: String,
    /// The tone, if it is not that of the word.
    pub(in crate::http::console) tone: &'static str,
    pub(in crate::http::console) notes: Vec<String>,
    /// Addresses below `console/`, and their texts.
    pub(in crate::http::console) links: Vec<(String, &'static str)>,
}

impl LineEntry {
    /// Creates an entry without notes.
    pub(in crate::http::console) fn new(time: Timestamp, text: impl Into<String>, word: &str) -> Self {
        Self {
            time,
            text: text.into(),
            word: word.to_owned(),
            tone: filters::tone_of(word),
            notes: Vec::new(),
            links: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct Event {
    id: String,
    sequence: u64,
    #[serde(rename = "type")]
    kind: String,
    timestamp: Timestamp,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    outcome: Option<String>,
    by: Option<String>,
    action: Option<String>,
}

/// Reads a person's results with their versions.
///
/// # Errors
/// The problem of the API.
pub(in crate::http::console) async fn of_results(
    visit: &Visit,
    candidate: &str,
) -> Result<Vec<LineEntry>, ConsoleError> {
    if !visit.may(Scope::ResultsRead) {
        return Ok(Vec::new());
    }
    let query = [("candidate", candidate), ("limit", "50")];
    let results = visit.part("results", visit.api.list::<ExamResult>("/results", &query).await)?;
    let Some(results) = results else { return Ok(Vec::new()) };
    let read = results.items.into_iter().enumerate().map(async |(index, result)| {
        if index >= MOST_SUBJECTS || result.version == 1 {
            return Ok(vec![of_result(&result)]);
        }
        let path = format!("/results/{}/versions", segment(&result.id));
        let versions =
            visit.part("versions of results", visit.api.list::<ResultVersion>(&path, &[("limit", "20")]).await)?;
        let Some(versions) = versions else { return Ok(vec![of_result(&result)]) };
        Ok(versions.items.iter().map(|version| of_version(&result.id, version)).collect())
    });
    Ok(try_join_all(read).await?.into_iter().flatten().collect())
}

fn of_result(result: &ExamResult) -> LineEntry {
    entry_of(&result.id, result.version, result.meta.created, &result.content)
}

fn of_version(result: &str, version: &ResultVersion) -> LineEntry {
    let mut entry = entry_of(result, version.number, version.recorded_at, &version.content);
    if version.number > 1 && !version.changed.is_empty() {
        entry.notes.push(format!("changed: {}", version.changed.join(", ")));
    }
    entry
}

fn entry_of(result: &str, version: u32, time: Timestamp, content: &ResultContent) -> LineEntry {
    let ResultContent { assessment, activity, grading, score, passed, attempt, .. } = content;
    let word = if activity == "completed" { grading } else { activity };
    let score = score.as_ref().map(|score| format!(": {}", shown_score(score))).unwrap_or_default();
    let passed = passed.map_or("", |passed| if passed { ", passed" } else { ", not passed" });
    let mut entry = LineEntry::new(time, format!("Result of {assessment}, version {version}{score}{passed}"), word);
    let took = attempt.elapsed_seconds.map(|seconds| format!(" · {} min {} s", seconds / 60, seconds % 60));
    let closed = attempt.closed_by.as_ref().map(|by| format!(" · closed by {}", filters::spaced(by)));
    entry.notes.push(format!("attempt {}{}{}", attempt.number, took.unwrap_or_default(), closed.unwrap_or_default()));
    entry.links.push((format!("results/{}", segment(result)), "Result"));
    entry
}

fn shown_score(score: &Score) -> String {
    match (score.maximum, score.percent) {
        (Some(maximum), _) => format!("{} of {maximum}", score.given),
        (None, Some(percent)) => format!("{percent} %"),
        (None, None) => score.given.to_string(),
    }
}

/// Reads the events about these bookings, and the deliveries of the latest.
///
/// # Errors
/// The problem of the API.
pub(in crate::http::console) async fn of_events(
    visit: &Visit,
    assignments: &[&str],
) -> Result<Vec<LineEntry>, ConsoleError> {
    if !visit.may(Scope::EventsRead) {
        return Ok(Vec::new());
    }
    let read = assignments.iter().take(MOST_SUBJECTS).map(async |assignment| {
        let query = [("assignment", *assignment), ("limit", "200")];
        let listed = visit.part("events", visit.api.list::<Event>("/events", &query).await)?;
        Ok::<_, ConsoleError>(listed.map(|list| list.items).unwrap_or_default())
    });
    let mut events: Vec<Event> = try_join_all(read).await?.into_iter().flatten().collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.sequence));
    let mut entries: Vec<LineEntry> = events.iter().map(of_event).collect();
    entries.extend(deliveries(visit, &events).await?);
    Ok(entries)
}

fn of_event(event: &Event) -> LineEntry {
    let Event { sequence, kind, timestamp, data, .. } = event;
    let mut entry = LineEntry::new(*timestamp, format!("Event {kind}"), data.outcome.as_deref().unwrap_or_default());
    let by = data.by.as_ref().map(|by| format!(" · by the {by}")).unwrap_or_default();
    let action = data.action.as_ref().map(|action| format!(" · {action}")).unwrap_or_default();
    entry.notes.push(format!("sequence {sequence}{action}{by}"));
    entry
}

async fn deliveries(visit: &Visit, events: &[Event]) -> Result<Vec<LineEntry>, ConsoleError> {
    if !visit.may(Scope::WebhooksRead) || events.is_empty() {
        return Ok(Vec::new());
    }
    let limit = MOST_WEBHOOKS.to_string();
    let webhooks = visit.part("deliveries", visit.api.list::<Webhook>("/webhooks", &[("limit", &limit)]).await)?;
    let webhooks = webhooks.map(|list| list.items).unwrap_or_default();
    let events: Vec<&Event> = events.iter().take(MOST_EVENTS).collect();
    let read = webhooks.iter().map(async |webhook| {
        let found = deliveries_of(visit, webhook, &events).await?;
        Ok::<_, ConsoleError>(found.iter().map(|delivery| of_delivery(webhook, delivery)).collect::<Vec<_>>())
    });
    Ok(try_join_all(read).await?.into_iter().flatten().collect())
}

/// Reads a webhook's deliveries of these events: from its newest and, of events that are older than those, one by one.
async fn deliveries_of(visit: &Visit, webhook: &Webhook, events: &[&Event]) -> Result<Vec<Delivery>, ConsoleError> {
    let path = format!("/webhooks/{}/deliveries", segment(&webhook.id));
    let newest = listed_deliveries(visit, &path, &[("limit", NEWEST_DELIVERIES)]).await?;
    let Some(List { items: newest, next_cursor }) = newest else { return Ok(Vec::new()) };
    // A delivery is made after its event, so that of a newer event is not among those that are left out.
    let oldest = newest.last().filter(|_| next_cursor.is_some()).map(|last| last.created_at);
    let left_out = oldest.map(|oldest| oldest.saturating_add(CLOCK_DIFFERENCE).unwrap_or(Timestamp::MAX));
    let older = events.iter().filter(|event| left_out.is_some_and(|until| event.timestamp <= until));
    let older = try_join_all(older.map(async |event| {
        let query = [("event", event.id.as_str()), ("limit", "10")];
        listed_deliveries(visit, &path, &query).await
    }));
    let mut found: Vec<Delivery> = older.await?.into_iter().flatten().flat_map(|list| list.items).collect();
    for delivery in newest {
        let is_meant = events.iter().any(|event| event.id == delivery.event);
        if is_meant && found.iter().all(|known| known.id != delivery.id) {
            found.push(delivery);
        }
    }
    Ok(found)
}

/// Reads deliveries; `None` if the client may not, or if they cannot be read just now.
async fn listed_deliveries(
    visit: &Visit,
    path: &str,
    query: &[(&str, &str)],
) -> Result<Option<List<Delivery>>, ConsoleError> {
    Ok(visit.part("deliveries", visit.api.list::<Delivery>(path, query).await.permitted())?.flatten())
}

fn of_delivery(webhook: &Webhook, delivery: &Delivery) -> LineEntry {
    let name = webhook.name.clone().unwrap_or_else(|| filters::shortened(&webhook.id));
    let last = delivery.attempts.last();
    let time = last.map_or(delivery.created_at, |attempt| attempt.at);
    let mut entry = LineEntry::new(time, format!("Delivery of {} to {name}", delivery.event_type), &delivery.state);
    if let Some(DeliveryAttempt { status, duration_ms, error, .. }) = last {
        let status = status.map(|status| format!(" · {status}")).unwrap_or_default();
        let error = error.as_ref().map(|error| format!(" · {error}")).unwrap_or_default();
        entry.notes.push(format!("attempt {}{status} after {duration_ms} ms{error}", delivery.attempts.len()));
    }
    if let Some(next) = delivery.next_attempt_at {
        entry.notes.push(format!("next attempt {}", filters::utc(next, true)));
    }
    entry.links.push((format!("webhooks/{}", segment(&webhook.id)), "Webhook"));
    entry
}

/// Reads the recent exchanges in which the gateway found out what became of these records.
///
/// # Errors
/// The problem of the API.
pub(in crate::http::console) async fn of_exchanges(
    visit: &Visit,
    resources: &[String],
) -> Result<Vec<LineEntry>, ConsoleError> {
    if !visit.may(Scope::ExchangesRead) {
        return Ok(Vec::new());
    }
    let exchanges = visit.part("exchanges", visit.api.list::<Exchange>("/exchanges", &[("limit", "200")]).await)?;
    let exchanges = exchanges.map(|list| list.items).unwrap_or_default();
    let ours = exchanges
        .iter()
        .filter(|exchange| exchange.resource.as_ref().is_some_and(|resource| resources.contains(resource)));
    Ok(ours.map(of_exchange).collect())
}

fn of_exchange(exchange: &Exchange) -> LineEntry {
    let mut entry = LineEntry::new(exchange.started_at, format!("Exchange: {}", filters::spaced(&exchange.cause)), "");
    let calls = exchange
        .calls
        .iter()
        .map(|ExchangeCall { operation, ended, .. }| format!("{operation}: {}", filters::spaced(ended)));
    entry.notes.extend(calls);
    entry.links.push((format!("exchanges/{}", segment(&exchange.id)), "Exchange"));
    entry
}
