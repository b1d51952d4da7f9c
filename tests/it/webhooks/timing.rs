//! Measurements rather than assertions about time: how soon an event is read and delivered, also beside receivers that are dead or
//! slow, and what a thousand idle webhooks cost.
//!
//! `scripts/with-postgres cargo test --release --test it -- webhooks::timing --ignored --nocapture --test-threads 1`;
//! `EXAMGATE_EVENTS` is the number of events of each series, `EXAMGATE_WEBHOOKS` that of idle webhooks. What a commit costs more
//! with an event is measured by `cost_of_an_event` of the store's tests.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::support::postgres::Server;

/// Pause between two events, so that each is measured alone.
const PAUSE: Duration = Duration::from_millis(20);

/// Environment of the gateways: their logs are no part of what is measured.
const QUIET: &[(&str, &str)] = &[("RUST_LOG", "warn")];

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("stderr");
}

/// Returns how long ago an event was made, by the clock that both processes share. It includes the commit.
fn age(event: &Value) -> Duration {
    let made: jiff::Timestamp = event["timestamp"].as_str().expect("a time").parse().expect("a time");
    jiff::Timestamp::now().duration_since(made).try_into().unwrap_or_default()
}

/// Prints the quantiles of a series.
fn report(what: &str, mut ages: Vec<Duration>) {
    ages.sort_unstable();
    let at = |permille: usize| ages.get((ages.len() * permille / 1_000).min(ages.len().saturating_sub(1)));
    let [half, most, last] = [500, 990, 1_000].map(|permille| at(permille).map_or(0, Duration::as_millis));
    say(&format!("{what}: {} events, p50 {half} ms, p99 {most} ms, longest {last} ms", ages.len()));
}

/// A receiver in this process, which passes on how old the events of operations are when they arrive.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Duration>) {
    let (sender, ages) = mpsc::unbounded_channel();
    let take = move |body: Bytes| {
        let event: Value = serde_json::from_slice(&body).expect("JSON");
        if event["type"] == "operation.completed" {
            sender.send(age(&event)).ok();
        }
        std::future::ready(StatusCode::NO_CONTENT)
    };
    (serve(Router::new().fallback(take)).await, ages)
}

/// Serves on this machine as long as the runtime lives; returns the address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Starts a gateway on this engine; more of the configuration may be given.
async fn start_on(engine: &str, sandbox: &Sandbox, more: &str) -> Gateway {
    let config = startexam(&format!("http://{}", sandbox.startexam()), "") + &delivery("") + more;
    match engine {
        "PostgreSQL" => Gateway::replica_with_env(&Server::shared().schema().await, &config, QUIET).await,
        _ => Gateway::start_with_env(&config, &lms(), QUIET).await,
    }
}

/// Makes events, one after the other, and returns how old each was when it arrived.
async fn series(
    gateway: &Gateway,
    name: &str,
    events: usize,
    ages: &mut mpsc::UnboundedReceiver<Duration>,
) -> Vec<Duration> {
    let mut all = Vec::with_capacity(events);
    for number in 0..events {
        complete_operation(gateway, &format!("{name}{number}")).await;
        all.push(ages.recv().await.expect("an arrival"));
        tokio::time::sleep(PAUSE).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_soon_events_are_read_and_delivered() {
    let events = number("EXAMGATE_EVENTS", 300);
    for engine in ["SQLite", "PostgreSQL"] {
        let sandbox = sandbox().await;
        let gateway = Arc::new(start_on(engine, &sandbox, "").await);
        let reader = Arc::clone(&gateway);
        let (sender, mut ages) = mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            let mut path = "/events?types=operation.completed&after=latest".to_owned();
            loop {
                let page = reader.request(Method::GET, &path).header("Prefer", "wait=20").send().await;
                page.body["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|event| sender.send(age(event)).unwrap_or_default());
                path = format!("/events?types=operation.completed&after={}", page.text("/nextCursor"));
            }
        });
        complete_operation(&gateway, "first").await;
        // Whether the reader has begun before it does not matter for those that follow.
        tokio::time::sleep(Duration::from_secs(1)).await;
        while ages.try_recv().is_ok() {}
        report(&format!("{engine}: made to read by long polling"), series(&gateway, "r", events, &mut ages).await);
        reading.abort();

        let (url, mut ages) = receiver().await;
        create(&gateway, &json!({ "url": url })).await;
        report(
            &format!("{engine}: made to arrived at an idle webhook"),
            series(&gateway, "d", events, &mut ages).await,
        );

        // Nobody listens here any more; and here nobody answers.
        let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let slow = serve(Router::new().fallback(std::future::pending::<StatusCode>)).await;
        create_unanswered(&gateway, &format!("http://{dead}/")).await;
        create_unanswered(&gateway, &slow).await;
        report(
            &format!("{engine}: the same beside a dead and a slow receiver"),
            series(&gateway, "b", events, &mut ages).await,
        );
    }
}

/// Creates a webhook whose ping is not answered.
async fn create_unanswered(gateway: &Gateway, url: &str) {
    let created = gateway.request(Method::POST, "/webhooks").json(&json!({ "url": url }));
    let created = created.timeout(Duration::from_mins(1)).send().await;
    assert_eq!(created.status, 201, "{created:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn what_idle_webhooks_cost() {
    let webhooks = number("EXAMGATE_WEBHOOKS", 1_000);
    let table = |number: usize| {
        format!("[webhooks.w{number}]\ntenant = \"lms\"\nurl = \"http://127.0.0.1:9/\"\nsecret = \"plain:{SECRET}\"\n")
    };
    let configured: String = (0..webhooks).map(table).collect();
    for engine in ["SQLite", "PostgreSQL"] {
        for (what, more) in [("no webhook", ""), ("idle webhooks", configured.as_str())] {
            let sandbox = sandbox().await;
            let gateway = start_on(engine, &sandbox, more).await;
            // Until they are taken over and their senders have started.
            tokio::time::sleep(Duration::from_secs(10)).await;
            let (before, ticks, began) = (transactions(engine).await, processor_ticks(gateway.id()), Instant::now());
            tokio::time::sleep(Duration::from_secs(10)).await;
            let ticks = processor_ticks(gateway.id()) - ticks;
            let done = transactions(engine).await - before;
            let seconds = began.elapsed().as_secs().max(1);
            let done = done / i64::try_from(seconds).expect("seconds");
            let memory = gateway.memory_kib("VmRSS") / 1_024;
            let count = if more.is_empty() { 0 } else { webhooks };
            say(&format!(
                "{engine}, {count} {what}: {memory} MiB, {ticks} ticks of processor time in 10 s, \
                 {done} transactions of the database a second"
            ));
        }
    }
}

/// Returns the processor time of a process, in the ticks of the kernel.
fn processor_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Returns the number of transactions of the database so far; 0 without a server.
async fn transactions(engine: &str) -> i64 {
    use sqlx::Connection as _;
    if engine != "PostgreSQL" {
        return 0;
    }
    // What sessions have done is counted within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let url = Server::shared().schema().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("the server");
    let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a number")
}
