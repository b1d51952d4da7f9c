//! One caller's request with the vendor calls it led to: what is known of it while it runs, and what an operator is shown
//! afterwards.
//!
//! What gets here has to be fit to be shown: the transport leaves out of requests and answers whatever an adapter's
//! allow-list does not name. Nothing here may hold a body, a URL's query or a header as it was sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::ids::{ExchangeId, OperationId};

/// Most vendor calls kept under one exchange; of more, the latest are kept, and faulty ones rather than answered ones.
pub const MAX_CALLS: usize = 16;

/// An exchange under way or over; clones are the same one.
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
}

/// Whose exchange it is, and why there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeOwner {
    /// Who may see it.
    pub tenant: String,
    /// Why there is one.
    pub cause: Cause,
}

/// Why there is an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A client asked.
    Request {
        /// The configured client.
        client: String,
        /// The verb.
        method: String,
        /// The route, never the path: that may name a person.
        route: String,
    },
    /// An operation went on whose request came to another instance, or before a restart.
    Operation,
    /// An unknown write was settled; its record.
    Settling {
        /// Path of the record's resource.
        resource: String,
    },
}

/// How the caller was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseSummary {
    /// The HTTP status.
    pub status: u16,
    /// The problem's code, if it was one.
    pub code: Option<&'static str>,
    /// From the request's headers to the answer's.
    pub took: Duration,
}

/// One attempt at a vendor, or a call that never left, redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorCall {
    /// The operator's name of the connection.
    pub connection: String,
    /// The kind of vendor.
    pub vendor: String,
    /// The gateway's word for what was done.
    pub operation: &'static str,
    /// Whether it was made to learn what became of an earlier one.
    pub settling: bool,
    /// When it began.
    pub started: Timestamp,
    /// How long it waited for the connection's limits before.
    pub waited: Duration,
    /// From its signing to the end of the answer.
    pub took: Duration,
    /// The verb.
    pub method: String,
    /// Scheme, host and path: never the query.
    pub address: String,
    /// `answered`, or the code of the problem that ended it.
    pub ended: &'static str,
    /// What ended it, in a sentence, where it was not answered.
    pub detail: Option<String>,
    /// The status of the vendor's answer.
    pub status: Option<u16>,
    /// What of the request may be shown, as JSON.
    pub request: Option<String>,
    /// What of the answer's headers may be shown.
    pub headers: Vec<(&'static str, String)>,
    /// What of the answer's body may be shown, as JSON.
    pub answer: Option<String>,
}

/// An exchange as it stood when it was looked at.
#[derive(Debug, Clone)]
pub struct ExchangeView {
    /// Its id.
    pub id: ExchangeId,
    /// The request's id, for logs.
    pub request_id: String,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// Whose it is and why there is one.
    pub owner: Option<ExchangeOwner>,
    /// The operation it began or works on.
    pub operation: Option<OperationId>,
    /// How the caller was answered, once that happened.
    pub response: Option<ResponseSummary>,
    /// How long it was at vendors, their limits included; calls at the same time count once.
    pub vendor_time: Duration,
    /// The vendor calls, oldest first.
    pub calls: Vec<VendorCall>,
    /// Calls that are not shown any more.
    pub left_out: u64,
}

impl Exchange {
    /// A new exchange that nobody is shown yet.
    #[must_use]
    pub fn new(id: ExchangeId, request_id: String, traceparent: Option<String>, started: Timestamp) -> Self {
        Self(Arc::new(Inner { id, request_id, traceparent, started, state: Mutex::default() }))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ExchangeId {
        &self.0.id
    }

    /// The request's id, for logs.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// W3C `traceparent` of the request.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.as_deref()
    }

    /// Says whose it is.
    pub fn set_owner(&self, about: ExchangeOwner) {
        self.state().about = Some(about);
    }

    /// Whether this tenant may see it.
    #[must_use]
    pub fn belongs_to(&self, tenant: &str) -> bool {
        self.state().about.as_ref().is_some_and(|about| about.tenant == tenant)
    }

    /// Says which operation it began or works on.
    pub fn set_operation(&self, operation: OperationId) {
        self.state().operation = Some(operation);
    }

    /// Whether it is about this operation.
    #[must_use]
    pub fn has_operation(&self, operation: &OperationId) -> bool {
        self.state().operation.as_ref() == Some(operation)
    }

    /// Says how the caller was answered.
    pub fn set_response(&self, answer: ResponseSummary) {
        self.state().answer = Some(answer);
    }

    /// Adds a vendor call.
    pub fn add(&self, call: VendorCall) {
        let mut state = self.state();
        if state.calls.len() == MAX_CALLS {
            let dull = state.calls.iter().position(VendorCall::went_well).unwrap_or(0);
            state.calls.remove(dull);
            state.left_out += 1;
        }
        state.calls.push_back(call);
    }

    /// Counts the time until the guard is dropped as spent at a vendor.
    #[must_use]
    pub fn start_vendor_timer(&self) -> VendorTimer<'_> {
        let mut state = self.state();
        state.at_vendor += 1;
        state.since.get_or_insert_with(Instant::now);
        VendorTimer(self)
    }

    /// How long it was at vendors so far.
    #[must_use]
    pub fn vendor_time(&self) -> Duration {
        self.state().vendor_time()
    }

    /// The exchange as it stands now.
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
        // Every change leaves a whole state, so a panic elsewhere cannot have left half of one.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Exchange {
    /// An exchange for tests.
    #[expect(clippy::missing_panics_doc, reason = "a constant of the right form")]
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
    fn went_well(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Time at a vendor, until it is dropped.
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
    fn of_many_calls_the_faulty_and_the_latest_are_kept() {
        let exchange = Exchange::example();
        exchange.add(call(500, "first"));
        (0..100).for_each(|_| exchange.add(call(200, "dull")));
        exchange.add(call(200, "last"));
        let view = exchange.view();
        assert_eq!((view.calls.len(), view.left_out), (MAX_CALLS, 102 - MAX_CALLS as u64));
        assert_eq!((view.calls[0].operation, view.calls[MAX_CALLS - 1].operation), ("first", "last"));
        (0..100).for_each(|_| exchange.add(call(503, "worse")));
        assert!(exchange.view().calls.iter().all(|call| call.operation == "worse"), "bounded whatever comes");
    }

    #[test]
    fn calls_at_the_same_time_count_once() {
        let exchange = Exchange::example();
        let (first, second) = (exchange.start_vendor_timer(), exchange.start_vendor_timer());
        let began = exchange.state().since;
        drop(first);
        assert_eq!(exchange.state().since, began, "still there");
        drop(second);
        let spent = exchange.vendor_time();
        assert_eq!(exchange.state().since, None);
        assert_eq!(exchange.vendor_time(), spent, "no time passes afterwards");
    }
}
