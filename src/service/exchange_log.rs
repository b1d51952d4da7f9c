//! Log of this instance's recent exchanges, which shows what a vendor really returned.
//!
//! Kept in memory only: a diagnostic aid, not a record. Durable data is in the store.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::error::{Code, Error};
use crate::domain::exchange::{Cause, Exchange, ExchangeOwner, ExchangeView};
use crate::domain::ids::{ExchangeId, OperationId};
use crate::domain::operation::Operation;
use crate::service::{Gateway, RequestContext};
use crate::telemetry::spans;

/// Number of exchanges kept.
const CAPACITY: usize = 1_000;

/// Ring buffer of exchanges.
#[derive(Default)]
pub(super) struct Exchanges(Mutex<VecDeque<Exchange>>);

/// Filter of exchanges.
#[derive(Debug, Clone, Default)]
pub struct ExchangeFilter {
    /// Only exchanges with a call at this connection.
    pub connection: Option<String>,
    /// Only exchanges that created this operation or run it.
    pub operation: Option<OperationId>,
    /// Only exchanges older than this one.
    pub before: Option<ExchangeId>,
}

impl Exchanges {
    fn keep(&self, exchange: Exchange) {
        let mut kept = self.kept();
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        kept.push_back(exchange);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_operation(&self, id: &OperationId) -> Option<Exchange> {
        self.kept().iter().rev().find(|exchange| exchange.has_operation(id)).cloned()
    }
}

impl Gateway {
    /// Adds the exchange to the log.
    pub fn keep_exchange(&self, exchange: &Exchange, about: ExchangeOwner) {
        exchange.set_owner(about);
        self.0.exchanges.keep(exchange.clone());
    }

    /// Returns the exchange of an operation's calls: that of the request which created it or, after a restart or at
    /// another instance, a new one.
    pub(super) fn exchange_of_operation(&self, operation: &Operation) -> Exchange {
        if let Some(exchange) = self.0.exchanges.of_operation(&operation.id) {
            return exchange;
        }
        let exchange = self.background_exchange(operation.request_id.clone(), operation.traceparent.clone());
        exchange.set_operation(operation.id.clone());
        self.keep_exchange(&exchange, ExchangeOwner { tenant: operation.tenant.clone(), cause: Cause::Operation });
        exchange
    }

    /// Creates an exchange that no request caused.
    pub(super) fn background_exchange(&self, request_id: String, traceparent: Option<String>) -> Exchange {
        let environment = &self.0.system;
        Exchange::new(ExchangeId::generate(environment), request_id, traceparent, environment.now())
    }

    /// Returns the caller's exchange with this id.
    ///
    /// # Errors
    /// `not_found`, also if it is no longer kept.
    pub fn exchange(&self, caller: &RequestContext, id: &ExchangeId) -> Result<ExchangeView, Error> {
        let kept = self.0.exchanges.kept();
        let found = kept.iter().rev().find(|exchange| exchange.id() == id && exchange.belongs_to(&caller.tenant));
        found.map(Exchange::view).filter(|view| may_see(caller, view)).ok_or_else(|| {
            let detail = format!(
                "There is no such exchange. Each instance keeps its last {CAPACITY} exchanges, until it exits."
            );
            Error::new(Code::NotFound, detail)
        })
    }

    /// Returns the caller's exchanges, newest first, and whether there are more.
    #[must_use]
    pub fn exchanges(
        &self,
        caller: &RequestContext,
        filter: &ExchangeFilter,
        limit: usize,
    ) -> (Vec<ExchangeView>, bool) {
        let mine = |exchange: &&Exchange| exchange.belongs_to(&caller.tenant);
        let mut found: Vec<Exchange> = self.0.exchanges.kept().iter().filter(mine).cloned().collect();
        // Ids are ordered by creation time; the ring is ordered by authentication, which is nearly the same.
        found.sort_unstable_by(|a, b| b.id().cmp(a.id()));
        let views = found.into_iter().map(|exchange| exchange.view());
        let mut views = views.filter(|view| may_see(caller, view) && filter.admits(view));
        let part = views.by_ref().take(limit).collect();
        (part, views.next().is_some())
    }
}

/// Returns whether the caller may use every connection that was called, so that it sees no more here than in the
/// records. A delivery calls none: the caller sees it if it sees the webhook and the event.
fn may_see(caller: &RequestContext, view: &ExchangeView) -> bool {
    if let Some(Cause::Delivery { client, connections, connection, .. }) = view.owner.as_ref().map(|owner| &owner.cause)
    {
        return caller.may_use_webhook(client.as_deref(), connections)
            && connection.as_ref().is_none_or(|name| caller.connections.contains(name));
    }
    view.calls.iter().all(|call| caller.connections.contains(&call.connection))
}

/// Returns the trace parent for work started by this request: the gateway's own span if tracing is on, else the
/// caller's.
pub(super) fn traceparent(exchange: &Exchange) -> Option<String> {
    spans::current_context().map(|context| context.traceparent).or_else(|| exchange.traceparent().map(str::to_owned))
}

impl ExchangeFilter {
    fn admits(&self, view: &ExchangeView) -> bool {
        let Self { connection, operation, before } = self;
        connection.as_ref().is_none_or(|name| view.calls.iter().any(|call| call.connection == *name))
            && operation.as_ref().is_none_or(|id| view.operation.as_ref() == Some(id))
            && before.as_ref().is_none_or(|before| view.id < *before)
    }
}
