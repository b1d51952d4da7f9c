//! Every figure the process keeps about itself: its name, its labels and what it means, in one place, so that a dashboard,
//! an alert and the code speak of the same thing.
//!
//! Labels come from the configuration or from closed lists, never from a request: a caller must not be able to make time
//! series. Nothing here knows where the figures go; without a recorder they go nowhere.

use std::borrow::Cow;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const BUILD: &str = "examgate_build_info";
const REQUESTS: &str = "examgate_http_requests_total";
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

/// Upper bounds of the histograms' buckets, in seconds: from what the gateway itself needs to what a vendor may take.
pub const BUCKETS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// Tells the recorder what each figure means, and which program this is. To be called once, after the recorder is set up.
pub fn describe() {
    describe_gauge!(BUILD, "The program's version, always 1");
    describe_counter!(REQUESTS, "Requests of callers, by route and status");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time of a request, from its headers to the answer's");
    describe_histogram!(OVERHEAD_SECONDS, Unit::Seconds, "Time of a request that was not spent at a vendor");
    describe_gauge!(IN_FLIGHT, "Requests of callers being served");
    describe_gauge!(CONNECTIONS, "Open connections of callers");
    describe_counter!(HANDSHAKES_FAILED, "Connections of callers that ended before TLS was agreed on");
    describe_counter!(SHED, "Requests and connections refused as `overloaded`, by what there were too many of");
    describe_histogram!(CALL_SECONDS, Unit::Seconds, "Time of a vendor call, its waiting included");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "Time of one attempt at the vendor, signing included");
    describe_gauge!(AT_VENDOR, "Calls at the vendor, or about to leave for it");
    describe_gauge!(WAITING, "Calls waiting for the vendor's limits, single requests and rows of operations apart");
    describe_counter!(RETRIES, "Repeats of what never left this machine, and those the budget did not allow");
    describe_gauge!(CIRCUIT, "Circuit breaker: 0 closed, 1 half open, 2 open");
    describe_counter!(WRITES, "Rows of vendor calls by what is known of them; `code` is empty where they were applied");
    describe_counter!(UNMAPPED, "Vendor codes nobody has mapped yet");
    describe_gauge!(UNSETTLED, "Writes whose outcome is not known yet");
    describe_gauge!(ROWS, "Rows of operations that wait or are being sent");
    describe_gauge!(STALLED, "Running operations none of whose rows has ended for five minutes");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "Time of an action in the store");
    describe_counter!(AUDIT_LOST, "Lines of the audit record that could not be written");
    describe_counter!(RELOADS, "Reloads of the configuration: applied or refused");
    // From the start on: a counter that appears with its first count shows no increase.
    counter!(AUDIT_LOST).absolute(0);
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// A caller's request ended. `overhead` is the part of `elapsed` that was not spent at a vendor.
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

/// Requests of callers being served now.
pub fn requests_in_flight(count: usize) {
    gauge!(IN_FLIGHT).set(float(count));
}

/// Open connections of callers.
pub fn connections(count: usize) {
    gauge!(CONNECTIONS).set(float(count));
}

/// A connection ended before TLS was agreed on.
pub fn handshake_failed() {
    counter!(HANDSHAKES_FAILED).increment(1);
}

/// What there were too many of when a request or a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// Requests being served.
    Requests,
    /// Bulks being received.
    Receptions,
    /// Streams of events.
    Watchers,
    /// Open connections.
    Connections,
}

/// A request or a connection was refused as `overloaded`.
pub fn shed(what: ShedReason) {
    let reason = match what {
        ShedReason::Requests => "requests",
        ShedReason::Receptions => "receptions",
        ShedReason::Watchers => "watchers",
        ShedReason::Connections => "connections",
    };
    counter!(SHED, "reason" => reason).increment(1);
}

/// A vendor call ended. `status` is the class of the answer's status, or the code of the problem that ended it.
pub fn vendor_call(connection: &str, operation: &'static str, status: &'static str, elapsed: Duration) {
    let connection = connection.to_owned();
    histogram!(CALL_SECONDS, "connection" => connection, "operation" => operation, "status" => status).record(elapsed);
}

/// One attempt of a vendor call ended; `status` as for [`vendor_call`].
pub fn vendor_attempt(connection: &str, operation: &'static str, status: &'static str, elapsed: Duration) {
    let connection = connection.to_owned();
    histogram!(ATTEMPT_SECONDS, "connection" => connection, "operation" => operation, "status" => status)
        .record(elapsed);
}

/// Calls at the vendor now.
pub fn at_vendor(connection: &str, count: usize) {
    gauge!(AT_VENDOR, "connection" => connection.to_owned()).set(float(count));
}

/// Calls waiting for the vendor's limits: of single requests, and of operations.
pub fn waiting(connection: &str, single: usize, bulk: usize) {
    gauge!(WAITING, "connection" => connection.to_owned(), "lane" => "single").set(float(single));
    gauge!(WAITING, "connection" => connection.to_owned(), "lane" => "bulk").set(float(bulk));
}

/// A repeat of what never left this machine was due: whether the budget allowed it.
pub fn retry(connection: &str, allowed: bool) {
    let result = if allowed { "repeated" } else { "budget_spent" };
    counter!(RETRIES, "connection" => connection.to_owned(), "result" => result).increment(1);
}

/// State of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Calls go out.
    Closed,
    /// One call probes.
    HalfOpen,
    /// Nothing is sent.
    Open,
}

/// The state of a connection's circuit breaker.
pub fn circuit(connection: &str, state: Breaker) {
    let value = match state {
        Breaker::Closed => 0.0,
        Breaker::HalfOpen => 1.0,
        Breaker::Open => 2.0,
    };
    gauge!(CIRCUIT, "connection" => connection.to_owned()).set(value);
}

/// So many rows of one vendor call ended: `outcome` and `code` as in the problem, `code` empty without one.
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

/// A vendor answered with a code nobody has mapped. `code` has to come from a bounded list.
pub fn unmapped(connection: &str, code: String) {
    counter!(UNMAPPED, "connection" => connection.to_owned(), "code" => code).increment(1);
}

/// Writes of a connection whose outcome is not known yet.
pub fn unsettled(connection: &str, count: u64) {
    gauge!(UNSETTLED, "connection" => connection.to_owned()).set(float_of(count));
}

/// Rows of operations in this state.
pub fn operation_rows(state: &'static str, count: u64) {
    gauge!(ROWS, "state" => state).set(float_of(count));
}

/// Running operations of a connection that make no progress.
pub fn operations_stalled(connection: &str, count: usize) {
    gauge!(STALLED, "connection" => connection.to_owned()).set(float(count));
}

/// An action in the store ended.
pub fn store(action: &'static str, elapsed: Duration) {
    histogram!(STORE_SECONDS, "action" => action).record(elapsed);
}

/// So many lines of the audit record could not be written.
pub fn audit_lost(count: usize) {
    counter!(AUDIT_LOST).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// The configuration was read again; whether it was applied.
pub fn reload(applied: bool) {
    counter!(RELOADS, "result" => if applied { "applied" } else { "refused" }).increment(1);
}

/// The method as a label: those the API knows, since a caller may send any word.
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

#[expect(clippy::cast_precision_loss, reason = "nothing is counted up to 2^52")]
fn float_of(count: u64) -> f64 {
    count as f64
}
