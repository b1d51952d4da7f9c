//! How one connection stands: what is under way on it, whose turn it is, and by when something has to happen.
//!
//! hyper's own time for headers also ends connections that are idle between requests, knows none for HTTP/2, and there is
//! none for a caller that does not read its answer. Here all of them stand in one place, watched with one timer a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long the headers of a request may take in all; those of the first count from the connection's beginning.
pub(in crate::http) const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a caller may take nothing of an answer that waits for it.
pub(in crate::http) const STALL_TIME: Duration = Duration::from_secs(15);
/// How long a connection that has not asked anything yet is kept when it is to be closed: its first request may be on its way.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// How long a connection may take to close once it was told so and nothing is under way on it.
const FAREWELL: Duration = Duration::from_secs(10);
/// Longest time between two looks. Requests of HTTP/2 end in tasks of their own, which do not wake the connection's.
const LOOK: Duration = Duration::from_secs(10);

/// What has to happen to a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum TimeoutAction {
    /// Nothing before this.
    Wait(Instant),
    /// It is closed as its protocol wants: what is under way goes on to its end.
    GracefulClose,
    /// It is dropped, for this reason.
    Abort(&'static str),
}

/// The state of one connection, shared by its task, its stream and its requests.
pub(in crate::http) struct ConnectionState {
    state: Mutex<State>,
    /// Wakes the connection's task when it is to be closed.
    pub(in crate::http) woken: Notify,
}

struct State {
    opened: Instant,
    /// Requests under way, until the last byte of their answer was handed over.
    requests: usize,
    /// Whether there was a request.
    served: bool,
    http2: bool,
    /// When the first byte came of the headers that are not whole yet. Means nothing for HTTP/2, whose frames also come
    /// between requests.
    head: Option<Instant>,
    /// Since when no request is under way.
    idle: Instant,
    /// Answers of which a part was handed over, or the headers, and nothing was asked for since.
    offered: usize,
    /// When something was taken last.
    taken: Instant,
    /// Since when a write makes no progress.
    stalled: Option<Instant>,
    /// When it was asked to close.
    asked: Option<Instant>,
    /// When it was told to close.
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

    /// Bytes have come.
    pub(in crate::http) fn on_read(&self) {
        let mut state = self.state();
        if state.requests == 0 && state.head.is_none() {
            state.head = Some(Instant::now());
        }
    }

    /// A write made progress, or made none.
    pub(in crate::http) fn on_write(&self, progress: bool) {
        let mut state = self.state();
        match (progress, state.stalled) {
            (true, Some(_)) => state.stalled = None,
            (false, None) => state.stalled = Some(Instant::now()),
            _ => {}
        }
    }

    /// A request's headers are whole.
    pub(in crate::http) fn on_request(&self, http2: bool) {
        let mut state = self.state();
        (state.requests, state.served, state.http2, state.head) = (state.requests + 1, true, http2, None);
    }

    /// A request is over, whether or not its answer was.
    pub(in crate::http) fn on_response_end(&self) {
        let mut state = self.state();
        state.requests -= 1;
        state.idle = Instant::now();
    }

    /// A part of an answer waits for the caller.
    pub(in crate::http) fn on_body_ready(&self) {
        let mut state = self.state();
        (state.offered, state.taken) = (state.offered + 1, Instant::now());
    }

    /// The caller has taken what was offered.
    pub(in crate::http) fn on_body_taken(&self) {
        let mut state = self.state();
        (state.offered, state.taken) = (state.offered - 1, Instant::now());
    }

    /// Asks the connection to close as soon as that hurts nobody.
    pub(in crate::http) fn close(&self) {
        self.state().asked.get_or_insert_with(Instant::now);
        self.woken.notify_one();
    }

    /// As [`close`](Self::close), where the protocol can say so without losing a request that is on its way.
    pub(in crate::http) fn close_if_announced(&self) {
        if self.state().http2 {
            self.close();
        }
    }

    /// Since when the connection could make room for another without a request being lost.
    pub(in crate::http) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        let silent = state.requests == 0 && state.asked.is_none() && (state.http2 || state.head.is_none());
        let settled = state.served || state.opened.elapsed() > FIRST_WORD;
        (silent && settled).then_some(state.idle)
    }

    /// What has to happen now; `keep_alive` is how long it may be idle.
    pub(in crate::http) fn action(&self, keep_alive: Duration) -> TimeoutAction {
        let now = Instant::now();
        let mut state = self.state();
        let (due, verdict) = state.next(keep_alive);
        if due.is_none_or(|due| now < due) {
            return TimeoutAction::Wait(due.unwrap_or(now + LOOK).min(now + LOOK));
        }
        if verdict == TimeoutAction::GracefulClose {
            state.closed = Some(now);
        }
        verdict
    }
}

impl State {
    /// What is due next, and when; nothing where only the gateway itself is waited for.
    fn next(&self, keep_alive: Duration) -> (Option<Instant>, TimeoutAction) {
        if let Some(stalled) = self.stalled {
            return (Some(stalled + STALL_TIME), TimeoutAction::Abort("the caller does not read"));
        }
        if self.requests > 0 {
            if let (Some(asked), None) = (self.asked, self.closed) {
                return (Some(asked), TimeoutAction::GracefulClose);
            }
            let due = (self.offered > 0).then(|| self.taken + STALL_TIME);
            return (due, TimeoutAction::Abort("the caller does not take its answer"));
        }
        if !self.served {
            // Whose first bytes have come is served, whatever was asked.
            let hopeless = self.asked.is_some() && self.head.is_none();
            let time = if hopeless { FIRST_WORD } else { HEADER_TIME };
            return (Some(self.opened + time), TimeoutAction::Abort("no request came"));
        }
        if let (Some(head), false) = (self.head, self.http2) {
            return (Some(head + HEADER_TIME), TimeoutAction::Abort("the headers took too long"));
        }
        match (self.closed, self.asked) {
            (Some(closed), _) => {
                (Some(closed.max(self.idle) + FAREWELL), TimeoutAction::Abort("the caller does not close"))
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
    async fn the_first_request_has_ten_seconds_however_its_bytes_drip() {
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
    async fn a_connection_may_be_idle_for_long_and_later_headers_have_ten_seconds() {
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
    async fn an_idle_connection_is_closed_and_one_that_stays_is_dropped() {
        for http2 in [false, true] {
            let pulse = ConnectionState::new();
            pulse.on_request(http2);
            advance(KEEP_ALIVE * 10).await;
            assert!(waits(&pulse), "the gateway may take its time");
            pulse.on_response_end();
            advance(KEEP_ALIVE).await;
            assert_eq!(verdict(&pulse), TimeoutAction::GracefulClose);
            assert!(waits(&pulse));
            advance(FAREWELL).await;
            assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller does not close"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_is_dropped() {
        let pulse = ConnectionState::new();
        pulse.on_request(true);
        pulse.on_body_ready();
        advance(STALL_TIME / 2).await;
        pulse.on_body_taken();
        advance(STALL_TIME).await;
        assert!(waits(&pulse), "it is the gateway's turn");
        pulse.on_body_ready();
        advance(STALL_TIME).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller does not take its answer"));

        let pulse = ConnectionState::new();
        pulse.on_request(false);
        pulse.on_response_end();
        pulse.on_write(false);
        advance(STALL_TIME / 2).await;
        pulse.on_write(false);
        assert!(waits(&pulse));
        advance(STALL_TIME / 2).await;
        assert_eq!(verdict(&pulse), TimeoutAction::Abort("the caller does not read"));
    }

    #[tokio::test(start_paused = true)]
    async fn being_asked_to_close_loses_no_request_that_is_on_its_way() {
        let first = ConnectionState::new();
        first.close();
        assert!(waits(&first), "it may just be about to ask");
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
        advance(FIRST_WORD).await;
        silent.close();
        assert_eq!(verdict(&silent), TimeoutAction::Abort("no request came"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_idle_connection_makes_room() {
        let pulse = ConnectionState::new();
        assert_eq!(pulse.idle_since(), None, "it may just be about to ask");
        pulse.on_request(false);
        assert_eq!(pulse.idle_since(), None);
        pulse.on_response_end();
        assert!(pulse.idle_since().is_some());
        pulse.on_read();
        assert_eq!(pulse.idle_since(), None);
        let silent = ConnectionState::new();
        advance(FIRST_WORD * 2).await;
        assert!(silent.idle_since().is_some());
        silent.close();
        assert_eq!(silent.idle_since(), None, "it does already");
    }
}
