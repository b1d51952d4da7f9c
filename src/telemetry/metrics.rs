//! Every metric of the process: its name, its labels and its meaning, defined once so that dashboards, alerts and code
//! agree.
//!
//! Label values come from the configuration or from closed lists, never from a request: a caller must not be able to
//! create time series. Nothing here knows the exporter; without a recorder, metrics are discarded.

use std::borrow::Cow;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const BUILD: &str = "examgate_build_info";
const REQUESTS: &str = "examgate_http_requests_total";
const CLIENT_REQUESTS: &str = "examgate_client_requests_total";
const REQUEST_SECONDS: &str = "examgate_http_request_seconds";
const OVERHEAD_SECONDS: &str = "examgate_gateway_overhead_seconds";
const IN_FLIGHT: &str = "examgate_http_in_flight";
const CONNECTIONS: &str = "examgate_http_connections";
const HANDSHAKES_FAILED: &str = "examgate_tls_handshakes_failed_total";
const SHED: &str = "examgate_http_shed_total";
const CALL_SECONDS: &str = "examgate_vendor_call_seconds";
const ATTEMPT_SECONDS: &str = "examgate_vendor_attempt_seconds";
const AT_VENDOR: &str = "examgate_vendor_in_flight";
const WAITING: &str = "examgate_vendor_waiting";
const RETRIES: &str = "examgate_vendor_retries_total";
const CIRCUIT: &str = "examgate_circuit_state";
const WRITES: &str = "examgate_writes_total";
const UNMAPPED: &str = "examgate_unmapped_vendor_codes_total";
const UNSETTLED: &str = "examgate_unsettled_writes";
const ROWS: &str = "examgate_operation_rows";
const STALLED: &str = "examgate_operations_stalled";
const STORE_SECONDS: &str = "examgate_store_seconds";
const AUDIT_LOST: &str = "examgate_audit_lost_total";
const RELOADS: &str = "examgate_config_reloads_total";
const RESULTS_AS_OF: &str = "examgate_results_as_of_seconds";
const REPORTS: &str = "examgate_reports";
const FEED_FAULTS: &str = "examgate_feed_faults_total";
const FEED_HOLES: &str = "examgate_feed_holes_total";
const FETCHES: &str = "examgate_report_fetches";
const FETCH_FAILURES: &str = "examgate_report_fetch_failures_total";
const EVENTS: &str = "examgate_events_total";
const WEBHOOK_LAG: &str = "examgate_webhook_lag_events";
const DELIVERIES: &str = "examgate_deliveries_total";

/// Upper bounds of the histogram buckets, in seconds: from the gateway's own overhead to the duration of slow vendor
/// calls.
pub const BUCKETS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// Registers each metric's description and the build information. Call once, after installing the recorder.
pub fn describe() {
    describe_gauge!(BUILD, "Build information; the value is always 1");
    describe_counter!(REQUESTS, "HTTP requests, by route and status");
    describe_counter!(
        CLIENT_REQUESTS,
        "Authenticated requests, by client and the first digits of its key's hash; `key` is empty without a key"
    );
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "HTTP request duration, up to the response headers");
    describe_histogram!(
        OVERHEAD_SECONDS,
        Unit::Seconds,
        "HTTP request duration without the wait for vendors, receivers of webhooks and events"
    );
    describe_gauge!(IN_FLIGHT, "HTTP requests in flight");
    describe_gauge!(CONNECTIONS, "Open client connections");
    describe_counter!(HANDSHAKES_FAILED, "Client connections that ended before the TLS handshake completed");
    describe_counter!(SHED, "Requests and connections rejected as `overloaded`, by exceeded limit");
    describe_histogram!(CALL_SECONDS, Unit::Seconds, "Duration of a vendor call, including waiting");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "Duration of one attempt at the vendor, including signing");
    describe_gauge!(AT_VENDOR, "Vendor calls in flight or about to be sent");
    describe_gauge!(WAITING, "Calls waiting for the connection's limits, by lane: single requests or operations");
    describe_counter!(RETRIES, "Retries of requests that were never sent, including those denied by the retry budget");
    describe_gauge!(CIRCUIT, "Circuit breaker state: 0 closed, 1 half open, 2 open");
    describe_counter!(WRITES, "Rows of vendor calls, by outcome; `code` is empty if the row succeeded");
    describe_counter!(UNMAPPED, "Vendor error codes that the gateway does not map");
    describe_gauge!(UNSETTLED, "Writes with unknown outcome");
    describe_gauge!(ROWS, "Rows of operations that are waiting or being sent");
    describe_gauge!(STALLED, "Running operations without a finished row for five minutes");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "Duration of a store action");
    describe_counter!(AUDIT_LOST, "Audit entries that could not be written");
    describe_counter!(RELOADS, "Configuration reloads, by result: applied or refused");
    describe_gauge!(RESULTS_AS_OF, Unit::Seconds, "Unix time until which all feeds of results are known");
    describe_gauge!(REPORTS, "Vendors' reports of attempts, by state");
    describe_counter!(FEED_FAULTS, "Runs over feeds of results that failed");
    describe_counter!(FEED_HOLES, "Attempts that feeds of results left out and the sweep found");
    describe_gauge!(FETCHES, "Reports that are to be fetched from the vendor, by state: waiting or failing");
    describe_counter!(FETCH_FAILURES, "Reports that a vendor failed to give when they were fetched");
    describe_counter!(EVENTS, "Events that were committed, by type");
    describe_gauge!(WEBHOOK_LAG, "Events that a webhook is still to get");
    describe_counter!(DELIVERIES, "Deliveries to webhooks that have ended, by state: delivered or failed");
    // Create the counter at start: a counter that first appears with a value shows no increase.
    counter!(AUDIT_LOST).absolute(0);
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Records a finished HTTP request. `overhead` is the part of `elapsed` that was not spent waiting for others.
pub fn request(method: &http::Method, route: &str, status: u16, elapsed: Duration, overhead: Duration) {
    let labels = [
        ("method", Cow::from(verb(method))),
        ("route", Cow::from(route.to_owned())),
        ("status", status.to_string().into()),
    ];
    counter!(REQUESTS, &labels).increment(1);
    histogram!(REQUEST_SECONDS, &labels[..2]).record(elapsed);
    histogram!(OVERHEAD_SECONDS, &labels[..2]).record(overhead);
}

/// Counts a request of an authenticated client, and which of its keys it presented.
pub fn client_request(client: &str, key: Option<&str>) {
    client_requests(client, key, 1);
}

/// Creates the counter of a client's key, so that an unused key shows as 0 and is not absent.
pub fn client_key(client: &str, key: &str) {
    client_requests(client, Some(key), 0);
}

fn client_requests(client: &str, key: Option<&str>, count: u64) {
    let key = key.unwrap_or_default().to_owned();
    counter!(CLIENT_REQUESTS, "client" => client.to_owned(), "key" => key).increment(count);
}

/// Sets the number of HTTP requests in flight.
pub fn requests_in_flight(count: usize) {
    gauge!(IN_FLIGHT).set(float(count));
}

/// Sets the number of open client connections.
pub fn connections(count: usize) {
    gauge!(CONNECTIONS).set(float(count));
}

/// Counts a connection that ended before the TLS handshake completed.
pub fn handshake_failed() {
    counter!(HANDSHAKES_FAILED).increment(1);
}

/// The limit that a rejected request or connection exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// Requests in flight.
    Requests,
    /// Bulk uploads in progress.
    Receptions,
    /// Event streams.
    Watchers,
    /// Open connections.
    Connections,
}

/// Counts a request or connection that was rejected as `overloaded`.
pub fn shed(what: ShedReason) {
    let reason = match what {
        ShedReason::Requests => "requests",
        ShedReason::Receptions => "receptions",
        ShedReason::Watchers => "watchers",
        ShedReason::Connections => "connections",
    };
    counter!(SHED, "reason" => reason).increment(1);
}

/// Records a finished vendor call. `status` is the response's status class, or the code of the problem that ended the
/// call.
pub fn vendor_call(connection: &str, operation: &'static str, status: &'static str, elapsed: Duration) {
    let connection = connection.to_owned();
    histogram!(CALL_SECONDS, "connection" => connection, "operation" => operation, "status" => status).record(elapsed);
}

/// Records a finished attempt of a vendor call; `status` as for [`vendor_call`].
pub fn vendor_attempt(connection: &str, operation: &'static str, status: &'static str, elapsed: Duration) {
    let connection = connection.to_owned();
    histogram!(ATTEMPT_SECONDS, "connection" => connection, "operation" => operation, "status" => status)
        .record(elapsed);
}

/// Sets the number of vendor calls in flight.
pub fn at_vendor(connection: &str, count: usize) {
    gauge!(AT_VENDOR, "connection" => connection.to_owned()).set(float(count));
}

/// Sets the number of calls waiting for the connection's limits, from single requests and from operations.
pub fn waiting(connection: &str, single: usize, bulk: usize) {
    gauge!(WAITING, "connection" => connection.to_owned(), "lane" => "single").set(float(single));
    gauge!(WAITING, "connection" => connection.to_owned(), "lane" => "bulk").set(float(bulk));
}

/// Counts a due retry of a request that was never sent, and whether the retry budget allowed it.
pub fn retry(connection: &str, allowed: bool) {
    let result = if allowed { "repeated" } else { "budget_spent" };
    counter!(RETRIES, "connection" => connection.to_owned(), "result" => result).increment(1);
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Calls are sent.
    Closed,
    /// One call is probing.
    HalfOpen,
    /// No call is sent.
    Open,
}

/// Sets the state of a connection's circuit breaker.
pub fn circuit(connection: &str, state: Breaker) {
    let value = match state {
        Breaker::Closed => 0.0,
        Breaker::HalfOpen => 1.0,
        Breaker::Open => 2.0,
    };
    gauge!(CIRCUIT, "connection" => connection.to_owned()).set(value);
}

/// Counts the finished rows of one vendor call: `outcome` and `code` as in the problem, `code` empty without one.
pub fn write(
    vendor: &'static str,
    connection: &str,
    operation: &'static str,
    outcome: &'static str,
    code: &'static str,
    count: usize,
) {
    let connection = connection.to_owned();
    counter!(
        WRITES,
        "vendor" => vendor, "connection" => connection, "operation" => operation, "outcome" => outcome, "code" => code
    )
    .increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Counts a vendor error code that the gateway does not map. `code` must come from a bounded list.
pub fn unmapped(connection: &str, code: String) {
    counter!(UNMAPPED, "connection" => connection.to_owned(), "code" => code).increment(1);
}

/// Sets the number of a connection's writes with unknown outcome.
pub fn unsettled(connection: &str, count: u64) {
    gauge!(UNSETTLED, "connection" => connection.to_owned()).set(float_of(count));
}

/// Sets the number of operation rows in this state.
pub fn operation_rows(state: &'static str, count: u64) {
    gauge!(ROWS, "state" => state).set(float_of(count));
}

/// Sets the number of a connection's running operations that make no progress.
pub fn operations_stalled(connection: &str, count: usize) {
    gauge!(STALLED, "connection" => connection.to_owned()).set(float(count));
}

/// Records a finished store action.
pub fn store(action: &'static str, elapsed: Duration) {
    histogram!(STORE_SECONDS, "action" => action).record(elapsed);
}

/// Counts audit entries that could not be written.
pub fn audit_lost(count: usize) {
    counter!(AUDIT_LOST).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Counts a configuration reload, and whether it was applied.
pub fn reload(applied: bool) {
    counter!(RELOADS, "result" => if applied { "applied" } else { "refused" }).increment(1);
}

/// Sets the Unix time until which all feeds of a connection are known, by the vendor's clock.
pub fn results_as_of(connection: &str, second: i64) {
    gauge!(RESULTS_AS_OF, "connection" => connection.to_owned()).set(float_of(u64::try_from(second).unwrap_or(0)));
}

/// Sets the number of a connection's reports in this state.
pub fn reports(connection: &str, state: &'static str, count: u64) {
    gauge!(REPORTS, "connection" => connection.to_owned(), "state" => state).set(float_of(count));
}

/// Counts runs over a connection's feeds that failed; 0 creates the counter.
pub fn feed_faults(connection: &str, count: u64) {
    counter!(FEED_FAULTS, "connection" => connection.to_owned()).increment(count);
}

/// Counts attempts that a connection's feed left out; 0 creates the counter.
pub fn feed_holes(connection: &str, count: usize) {
    counter!(FEED_HOLES, "connection" => connection.to_owned()).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Sets the number of a connection's reports that are to be fetched, and of those among them that have failed.
pub fn fetches(connection: &str, pending: u64, failing: u64) {
    let waiting = pending.saturating_sub(failing);
    for (state, count) in [("waiting", waiting), ("failing", failing)] {
        gauge!(FETCHES, "connection" => connection.to_owned(), "state" => state).set(float_of(count));
    }
}

/// Counts fetches of a connection's reports that failed; 0 creates the counter.
pub fn fetch_failures(connection: &str, count: u64) {
    counter!(FETCH_FAILURES, "connection" => connection.to_owned()).increment(count);
}

/// Counts an event that was committed.
pub fn event(event_type: &'static str) {
    counter!(EVENTS, "type" => event_type).increment(1);
}

/// Creates the counter of an event type, so that a first event shows as an increase.
pub fn event_type(event_type: &'static str) {
    counter!(EVENTS, "type" => event_type).absolute(0);
}

/// Sets the number of events that a webhook is still to get.
pub fn webhook_lag(webhook: &str, events: u64) {
    gauge!(WEBHOOK_LAG, "webhook" => webhook.to_owned()).set(float_of(events));
}

/// Counts deliveries that have ended in this state; 0 creates the counter.
pub fn deliveries(state: &'static str, count: u64) {
    counter!(DELIVERIES, "state" => state).increment(count);
}

/// Returns the method as a label: only methods that the API knows, because a caller may send any word.
#[must_use]
pub fn verb(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "PUT" => "PUT",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn float(count: usize) -> f64 {
    float_of(u64::try_from(count).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "no count reaches 2^52")]
fn float_of(count: u64) -> f64 {
    count as f64
}
