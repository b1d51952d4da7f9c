//! An exchange: one caller's request with the vendor calls it caused, as recorded while it runs and shown to operators.
//!
//! Everything recorded here must be safe to show: the transport keeps only the parts of requests and responses that an
//! adapter's allow-list names. Nothing here may hold a raw body, query or header.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::ids::{ExchangeId, OperationId};

/// Maximum vendor calls kept per exchange; beyond it, the latest are kept and successful calls are dropped before
/// failed ones.
pub const MAX_CALLS: usize = 16;

/// A running or finished exchange; clones share their state.
#[derive(Debug, Clone)]
pub struct Exchange(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: ExchangeId,
    request_id: String,
    traceparent: Option<String>,
    started: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    about: Option<ExchangeOwner>,
    operation: Option<OperationId>,
    answer: Option<ResponseSummary>,
    calls: VecDeque<VendorCall>,
    left_out: u64,
    at_vendor: u32,
    since: Option<Instant>,
    vendor_time: Duration,
    waited: Duration,
}

/// The owner of an exchange and its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeOwner {
    /// The tenant that may see the exchange.
    pub tenant: String,
    /// The cause of the exchange.
    pub cause: Cause,
}

/// The cause of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A client's request.
    Request {
        /// The configured client.
        client: String,
        /// The id of the client's key: the first digits of its hash. Absent without a key.
        key: Option<String>,
        /// The HTTP method.
        method: String,
        /// The route, never the path, because a path may name a person.
        route: String,
    },
    /// An operation that continued on another instance than the one that received it, or after a restart.
    Operation,
    /// Reading a vendor's reports in the background.
    Reports,
    /// A delivery to a webhook, or a ping, that the receiver did not accept.
    Delivery {
        /// Path of the webhook.
        resource: String,
        /// The client whose webhook it was; `None` if the operator has configured it.
        client: Option<String>,
        /// The connections that the webhook named.
        connections: Vec<String>,
        /// The connection that the event is about.
        connection: Option<String>,
    },
    /// The reconciliation of an unknown write.
    Settling {
        /// Path of the record's resource.
        resource: String,
    },
}

/// The response to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseSummary {
    /// The HTTP status.
    pub status: u16,
    /// The problem's code, if the response is a problem.
    pub code: Option<&'static str>,
    /// Time from the request's headers to the response's.
    pub took: Duration,
}

/// One attempt at a vendor, or a call that was never sent; redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorCall {
    /// The operator's name for the connection.
    pub connection: String,
    /// The kind of vendor.
    pub vendor: String,
    /// The call in the gateway's words, e.g. `assignments.create`.
    pub operation: &'static str,
    /// Whether the call determines the outcome of an earlier one.
    pub settling: bool,
    /// The start of the attempt.
    pub started: Timestamp,
    /// Time the call waited for the connection's limits before it.
    pub waited: Duration,
    /// Time from signing to the end of the response.
    pub took: Duration,
    /// The HTTP method.
    pub method: String,
    /// Scheme, host and path; never the query.
    pub address: String,
    /// `answered`, or the code of the problem that ended the call.
    pub ended: &'static str,
    /// A sentence about the failure, if no response arrived.
    pub detail: Option<String>,
    /// The status of the vendor's response.
    pub status: Option<u16>,
    /// The redacted request, as JSON.
    pub request: Option<String>,
    /// The response headers that may be shown.
    pub headers: Vec<(&'static str, String)>,
    /// The redacted response body, as JSON.
    pub answer: Option<String>,
}

/// A snapshot of an exchange.
#[derive(Debug, Clone)]
pub struct ExchangeView {
    /// The id of the exchange.
    pub id: ExchangeId,
    /// The request's id, for logs.
    pub request_id: String,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<String>,
    /// The start of the exchange.
    pub started: Timestamp,
    /// The owner and cause.
    pub owner: Option<ExchangeOwner>,
    /// The operation that the exchange started or works on.
    pub operation: Option<OperationId>,
    /// The response to the caller, once sent.
    pub response: Option<ResponseSummary>,
    /// Time spent at vendors, including waiting for their limits; concurrent calls count once.
    pub vendor_time: Duration,
    /// The vendor calls, oldest first.
    pub calls: Vec<VendorCall>,
    /// Number of calls that were dropped.
    pub left_out: u64,
}

impl Exchange {
    /// Creates an exchange without an owner; it stays invisible until it has one.
    #[must_use]
    pub fn new(id: ExchangeId, request_id: String, traceparent: Option<String>, started: Timestamp) -> Self {
        Self(Arc::new(Inner { id, request_id, traceparent, started, state: Mutex::default() }))
    }

    /// Returns the id of the exchange.
    #[must_use]
    pub fn id(&self) -> &ExchangeId {
        &self.0.id
    }

    /// Returns the request's id, for logs.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Returns the W3C `traceparent` of the request.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.as_deref()
    }

    /// Sets the owner.
    pub fn set_owner(&self, about: ExchangeOwner) {
        self.state().about = Some(about);
    }

    /// Returns whether this tenant may see the exchange.
    #[must_use]
    pub fn belongs_to(&self, tenant: &str) -> bool {
        self.state().about.as_ref().is_some_and(|about| about.tenant == tenant)
    }

    /// Sets the operation that the exchange started or works on.
    pub fn set_operation(&self, operation: OperationId) {
        self.state().operation = Some(operation);
    }

    /// Returns whether the exchange concerns this operation.
    #[must_use]
    pub fn has_operation(&self, operation: &OperationId) -> bool {
        self.state().operation.as_ref() == Some(operation)
    }

    /// Records the response to the caller.
    pub fn set_response(&self, answer: ResponseSummary) {
        self.state().answer = Some(answer);
    }

    /// Adds a vendor call.
    pub fn add(&self, call: VendorCall) {
        let mut state = self.state();
        if state.calls.len() == MAX_CALLS {
            let dull = state.calls.iter().position(VendorCall::is_success).unwrap_or(0);
            state.calls.remove(dull);
            state.left_out += 1;
        }
        state.calls.push_back(call);
    }

    /// Returns the connection of the last vendor call.
    #[must_use]
    pub fn last_connection(&self) -> Option<String> {
        self.state().calls.back().map(|call| call.connection.clone())
    }

    /// Counts the time until the guard is dropped as spent at a vendor.
    #[must_use]
    pub fn start_vendor_timer(&self) -> VendorTimer<'_> {
        let mut state = self.state();
        state.at_vendor += 1;
        state.since.get_or_insert_with(Instant::now);
        VendorTimer(self)
    }

    /// Returns the time spent at vendors so far.
    #[must_use]
    pub fn vendor_time(&self) -> Duration {
        self.state().vendor_time()
    }

    /// Counts time in which the gateway waited for others than vendors: for an event to happen, or for a receiver of webhooks.
    pub fn add_wait(&self, time: Duration) {
        self.state().waited += time;
    }

    /// Returns the time in which the gateway waited for vendors or others so far.
    #[must_use]
    pub fn waiting_time(&self) -> Duration {
        let state = self.state();
        state.vendor_time() + state.waited
    }

    /// Returns a snapshot of the exchange.
    #[must_use]
    pub fn view(&self) -> ExchangeView {
        let Inner { id, request_id, traceparent, started, state: _ } = &*self.0;
        let state = self.state();
        ExchangeView {
            id: id.clone(),
            request_id: request_id.clone(),
            traceparent: traceparent.clone(),
            started: *started,
            owner: state.about.clone(),
            operation: state.operation.clone(),
            response: state.answer,
            vendor_time: state.vendor_time(),
            calls: state.calls.iter().cloned().collect(),
            left_out: state.left_out,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves a complete state, so a panic elsewhere cannot have left a half-made one.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Exchange {
    /// Creates an exchange for tests.
    #[expect(clippy::missing_panics_doc, reason = "the constant is a valid id")]
    #[must_use]
    pub fn example() -> Self {
        let id = ExchangeId::parse("exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").unwrap();
        Self::new(id, "req_1".to_owned(), None, Timestamp::UNIX_EPOCH)
    }
}

impl State {
    fn vendor_time(&self) -> Duration {
        self.vendor_time + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl VendorCall {
    fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A guard that counts time at a vendor until it is dropped.
#[derive(Debug)]
pub struct VendorTimer<'a>(&'a Exchange);

impl Drop for VendorTimer<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_vendor = state.at_vendor.saturating_sub(1);
        if state.at_vendor == 0 {
            state.vendor_time = state.vendor_time();
            state.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(status: u16, operation: &'static str) -> VendorCall {
        VendorCall {
            connection: "c".to_owned(),
            vendor: "v".to_owned(),
            operation,
            settling: false,
            started: Timestamp::UNIX_EPOCH,
            waited: Duration::ZERO,
            took: Duration::ZERO,
            method: "POST".to_owned(),
            address: "https://v.example/".to_owned(),
            ended: "answered",
            detail: None,
            status: Some(status),
            request: None,
            headers: Vec::new(),
            answer: None,
        }
    }

    #[test]
    fn failed_and_latest_calls_are_kept() {
        let exchange = Exchange::example();
        exchange.add(call(500, "first"));
        (0..100).for_each(|_| exchange.add(call(200, "dull")));
        exchange.add(call(200, "last"));
        let view = exchange.view();
        assert_eq!((view.calls.len(), view.left_out), (MAX_CALLS, 102 - MAX_CALLS as u64));
        assert_eq!((view.calls[0].operation, view.calls[MAX_CALLS - 1].operation), ("first", "last"));
        (0..100).for_each(|_| exchange.add(call(503, "worse")));
        assert!(exchange.view().calls.iter().all(|call| call.operation == "worse"), "the number of calls is bounded");
    }

    #[test]
    fn concurrent_calls_count_once() {
        let exchange = Exchange::example();
        let (first, second) = (exchange.start_vendor_timer(), exchange.start_vendor_timer());
        let began = exchange.state().since;
        drop(first);
        assert_eq!(exchange.state().since, began, "the second call is still running");
        drop(second);
        let spent = exchange.vendor_time();
        assert_eq!(exchange.state().since, None);
        assert_eq!(exchange.vendor_time(), spent, "no time passes afterwards");
    }

    #[test]
    fn a_wait_for_others_is_no_time_at_vendors() {
        let exchange = Exchange::example();
        exchange.add_wait(Duration::from_secs(3));
        exchange.add_wait(Duration::from_secs(4));
        assert_eq!((exchange.vendor_time(), exchange.waiting_time()), (Duration::ZERO, Duration::from_secs(7)));
    }
}
