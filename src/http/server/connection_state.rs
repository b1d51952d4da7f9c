//! The state of one connection: its requests in flight, which side it waits for, and its deadlines.
//!
//! hyper's own header timeout also ends connections that are idle between requests and does not cover HTTP/2, and hyper
//! has no timeout for a caller that does not read its response. This module combines all timeouts, with one timer per
//! connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Maximum time for a request's headers; for the first request it counts from the opening of the connection.
pub(in crate::http) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller may read nothing of a response that waits for it.
pub(in crate::http) const STALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a closing connection without any request is kept: its first request may be on its way.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// How long a connection may take to close once it was asked to and has no requests in flight.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time between two checks. HTTP/2 requests end in their own tasks, which do not wake the connection's task.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The next action on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum TimeoutAction {
    /// Nothing to do before this time.
    Wait(Instant),
    /// Close the connection as its protocol provides; requests in flight run to their end.
    GracefulClose,
    /// Drop the connection, for this reason.
    Abort(&'static str),
}

/// The state of one connection, shared by its task, its stream and its requests.
pub(in crate::http) struct ConnectionState {
    state: Mutex<State>,
    /// Wakes the connection's task when the connection is asked to close.
    pub(in crate::http) woken: Notify,
}

struct State {
    opened: Instant,
    /// Requests in flight, until the last byte of their response has been handed over.
    requests: usize,
    /// Whether the connection has had a request.
    served: bool,
    http2: bool,
    /// When the first byte of the incomplete headers arrived. Meaningless for HTTP/2, which also sends frames between
    /// requests.
    head: Option<Instant>,
    /// Since when no request has been in flight.
    idle: Instant,
    /// Responses whose headers or a chunk were handed over and that have not been polled for more since.
    offered: usize,
    /// When a caller last took a chunk, or one was last offered.
    taken: Instant,
    /// Since when a write has made no progress.
    stalled: Option<Instant>,
    /// When closing was requested.
    asked: Option<Instant>,
    /// When the graceful close began.
    closed: Option<Instant>,
}

impl ConnectionState {
    pub(in crate::http) fn new() -> Self {
        let now = Instant::now();
        let state = State {
            opened: now,
            requests: 0,
            served: false,
            http2: false,
            head: None,
            idle: now,
            offered: 0,
            taken: now,
            stalled: None,
            asked: None,
            closed: None,
        };
        Self { state: Mutex::new(state), woken: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that bytes arrived.
    pub(in crate::http) fn on_read(&self) {
        let mut state = self.state();
        if state.requests == 0 && state.head.is_none() {
            state.head = Some(Instant::now());
        }
    }

    /// Records whether a write made progress.
    pub(in crate::http) fn on_write(&self, progress: bool) {
        let mut state = self.state();
        match (progress, state.stalled) {
            (true, Some(_)) => state.stalled = None,
            (false, None) => state.stalled = Some(Instant::now()),
            _ => {}
        }
    }

    /// Records that a request's headers are complete.
    pub(in crate::http) fn on_request(&self, http2: bool) {
        let mut state = self.state();
        (state.requests, state.served, state.http2, state.head) = (state.requests + 1, true, http2, None);
    }

    /// Records that a request ended, whether or not its response was complete.
    pub(in crate::http) fn on_response_end(&self) {
        let mut state = self.state();
        state.requests -= 1;
        state.idle = Instant::now();
    }

    /// Records that a chunk of a response waits for the caller.
    pub(in crate::http) fn on_body_ready(&self) {
        let mut state = self.state();
        (state.offered, state.taken) = (state.offered + 1, Instant::now());
    }

    /// Records that the caller took the chunk.
    pub(in crate::http) fn on_body_taken(&self) {
        let mut state = self.state();
        (state.offered, state.taken) = (state.offered - 1, Instant::now());
    }

    /// Asks the connection to close as soon as no request would be lost.
    pub(in crate::http) fn close(&self) {
        self.state().asked.get_or_insert_with(Instant::now);
        self.woken.notify_one();
    }

    /// Like [`close`](Self::close), but only if the protocol can announce it without losing a request on its way.
    pub(in crate::http) fn close_if_announced(&self) {
        if self.state().http2 {
            self.close();
        }
    }

    /// Returns since when the connection has been idle, if closing it would lose no request.
    pub(in crate::http) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        let silent = state.requests == 0 && state.asked.is_none() && (state.http2 || state.head.is_none());
        let settled = state.served || state.opened.elapsed() > FIRST_REQUEST_GRACE;
        (silent && settled).then_some(state.idle)
    }

    /// Returns the action due now; `keep_alive` is how long the connection may be idle.
    pub(in crate::http) fn action(&self, keep_alive: Duration) -> TimeoutAction {
        let now = Instant::now();
        let mut state = self.state();
        let (due, verdict) = state.next(keep_alive);
        if due.is_none_or(|due| now < due) {
            return TimeoutAction::Wait(due.unwrap_or(now + MAX_CHECK_INTERVAL).min(now + MAX_CHECK_INTERVAL));
        }
        if verdict == TimeoutAction::GracefulClose {
            state.closed = Some(now);
        }
        verdict
    }
}

impl State {
    /// Returns the next action and its deadline; no deadline if only the gateway itself is awaited.
    fn next(&self, keep_alive: Duration) -> (Option<Instant>, TimeoutAction) {
        if let Some(stalled) = self.stalled {
            return (Some(stalled + STALL_TIMEOUT), TimeoutAction::Abort("the caller does not read"));
        }
        if self.requests > 0 {
            if let (Some(asked), None) = (self.asked, self.closed) {
                return (Some(asked), TimeoutAction::GracefulClose);
            }
            let due = (self.offered > 0).then(|| self.taken + STALL_TIMEOUT);
            return (due, TimeoutAction::Abort("the caller does not take its response"));
        }
        if !self.served {
            // Once the first bytes of a request have arrived it is served, even if closing was requested.
            let hopeless = self.asked.is_some() && self.head.is_none();
            let time = if hopeless { FIRST_REQUEST_GRACE } else { HEADER_TIMEOUT };
            return (Some(self.opened + time), TimeoutAction::Abort("no request came"));
        }
        if let (Some(head), false) = (self.head, self.http2) {
            return (Some(head + HEADER_TIMEOUT), TimeoutAction::Abort("the headers took too long"));
        }
        match (self.closed, self.asked) {
            (Some(closed), _) => {
                (Some(closed.max(self.idle) + CLOSE_TIMEOUT), TimeoutAction::Abort("the caller did not close"))
            }
            (None, Some(asked)) => (Some(asked), TimeoutAction::GracefulClose),
            (None, None) => (Some(self.idle + keep_alive), TimeoutAction::GracefulClose),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    fn verdict(pulse: &ConnectionState) -> TimeoutAction {
        pulse.action(KEEP_ALIVE)
    }

    fn waits(pulse: &ConnectionState) -> bool {
        matches!(verdict(pulse), TimeoutAction::Wait(_))
    }

    #[tokio::test(start_paused = true)]
    async fn first_request_has_ten_seconds_even_if_its_bytes_trickle() {
        let pulse = ConnectionState::new();
        for _ in 0..9 {
            advance(Duration::from_secs(1)).await;
            pulse.on_read();
            assert!(waits(&pulse));
        }
        advance(Duration::from_secs(1)).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("no request came"));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_kept_and_later_headers_have_ten_seconds() {
        let pulse = ConnectionState::new();
        pulse.on_request(false);
        pulse.on_response_end();
        advance(Duration::from_secs(74)).await;
        assert!(waits(&pulse));
        pulse.on_read();
        advance(Duration::from_secs(5)).await;
        pulse.on_read();
        assert!(waits(&pulse), "a request is on its way");
        advance(Duration::from_secs(5)).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("the headers took too long"));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_closed_then_dropped() {
        for http2 in [false, true] {
            let pulse = ConnectionState::new();
            pulse.on_request(http2);
            advance(KEEP_ALIVE * 10).await;
            assert!(waits(&pulse), "the gateway may take as long as it needs");
            pulse.on_response_end();
            advance(KEEP_ALIVE).await;
            assert_eq!(verdict(&pulse), TimeoutAction::GracefulClose);
            assert!(waits(&pulse));
            advance(CLOSE_TIMEOUT).await;
            assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller did not close"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_reads_nothing_is_dropped() {
        let pulse = ConnectionState::new();
        pulse.on_request(true);
        pulse.on_body_ready();
        advance(STALL_TIMEOUT / 2).await;
        pulse.on_body_taken();
        advance(STALL_TIMEOUT).await;
        assert!(waits(&pulse), "the connection waits for the gateway");
        pulse.on_body_ready();
        advance(STALL_TIMEOUT).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller does not take its response"));

        let pulse = ConnectionState::new();
        pulse.on_request(false);
        pulse.on_response_end();
        pulse.on_write(false);
        advance(STALL_TIMEOUT / 2).await;
        pulse.on_write(false);
        assert!(waits(&pulse));
        advance(STALL_TIMEOUT / 2).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller does not read"));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_loses_no_request_on_its_way() {
        let first = ConnectionState::new();
        first.close();
        assert!(waits(&first), "its first request may be on its way");
        first.on_request(false);
        assert_eq!(verdict(&first), TimeoutAction::GracefulClose);

        let next = ConnectionState::new();
        next.on_request(false);
        next.on_response_end();
        next.on_read();
        next.close();
        assert!(waits(&next));
        next.on_request(false);
        assert_eq!(verdict(&next), TimeoutAction::GracefulClose);

        let silent = ConnectionState::new();
        advance(FIRST_REQUEST_GRACE).await;
        silent.close();
        assert_eq!(verdict(&silent), TimeoutAction::Abort("no request came"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_idle_connections_are_evicted() {
        let pulse = ConnectionState::new();
        assert_eq!(pulse.idle_since(), None, "its first request may be on its way");
        pulse.on_request(false);
        assert_eq!(pulse.idle_since(), None);
        pulse.on_response_end();
        assert!(pulse.idle_since().is_some());
        pulse.on_read();
        assert_eq!(pulse.idle_since(), None);
        let silent = ConnectionState::new();
        advance(FIRST_REQUEST_GRACE * 2).await;
        assert!(silent.idle_since().is_some());
        silent.close();
        assert_eq!(silent.idle_since(), None, "it is already closing");
    }
}
