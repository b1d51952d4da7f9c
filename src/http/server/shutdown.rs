//! Two-phase graceful shutdown of a listener: it announces the shutdown while still serving, then stops accepting.
//! Event streams end with the second phase; requests that only wait for a vendor end late in the grace period.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use crate::domain::error::{Code, Error};
use crate::service::{WriteHandle, WriteReply};

/// Controls a listener's shutdown from outside.
#[derive(Clone)]
pub struct ShutdownHandle {
    leaving: CancellationToken,
    closing: CancellationToken,
    grace: Duration,
}

impl ShutdownHandle {
    /// Creates a handle with no shutdown requested. `grace` is how long requests in flight may take once the listener
    /// closes.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { leaving: CancellationToken::new(), closing: CancellationToken::new(), grace }
    }

    /// Announces the shutdown: the listener keeps serving, but asks callers to reconnect elsewhere.
    pub fn announce(&self) {
        self.leaving.cancel();
    }

    /// Stops accepting connections, and closes each connection once its requests have been answered.
    pub fn close(&self) {
        self.leaving.cancel();
        self.closing.cancel();
    }

    pub(in crate::http) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    pub(in crate::http) async fn wait_announced(&self) {
        self.leaving.cancelled().await;
    }

    /// Completes once [`close`](Self::close) has been called.
    pub async fn wait_closed(&self) {
        self.closing.cancelled().await;
    }

    pub(in crate::http) fn grace(&self) -> Duration {
        self.grace
    }
}

/// The shutdown state, shared with every request of a listener.
#[derive(Clone, Default)]
pub(in crate::http) struct ShutdownSignal {
    begun: CancellationToken,
    hurried: CancellationToken,
}

impl ShutdownSignal {
    /// Marks the listener as taking no more requests.
    pub(in crate::http) fn begin(&self) {
        self.begun.cancel();
    }

    /// Ends all waits for vendors: their callers get 202 and the work continues.
    pub(in crate::http) fn end_waits(&self) {
        self.hurried.cancel();
    }

    /// Rejects a write that arrived after the listener closed. One that arrived earlier is served: its caller could not
    /// know.
    ///
    /// # Errors
    /// `draining`.
    pub(in crate::http) fn reject_after_close(&self) -> Result<(), Error> {
        if self.begun.is_cancelled() {
            let wait = Some(Duration::from_secs(1));
            return Err(Error::new(Code::Draining, "This instance is shutting down.").with_retry_after(wait));
        }
        Ok(())
    }

    /// Completes once the listener takes no more requests.
    pub(in crate::http) async fn wait_begun(&self) {
        self.begun.cancelled().await;
    }

    /// Returns the signal in a request's extensions. A request served by anything other than a listener gets one that
    /// never fires.
    pub(in crate::http) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// How long a caller waits for its write: its own limit, but no longer than the listener's shutdown allows.
pub(in crate::http) struct WaitBudget {
    time: Duration,
    stopping: ShutdownSignal,
}

impl WaitBudget {
    pub(in crate::http) fn new(time: Duration, stopping: ShutdownSignal) -> Self {
        Self { time, stopping }
    }

    /// Returns whether the caller waits only until its write is accepted.
    pub(in crate::http) fn is_none(&self) -> bool {
        self.time.is_zero()
    }

    /// Waits for the write as long as the budget allows.
    ///
    /// # Errors
    /// The error that ended the write.
    pub(in crate::http) async fn wait<T>(self, handle: WriteHandle<T>) -> Result<WriteReply<T>, Error>
    where
        T: Clone + Send + Sync + 'static,
    {
        // 202 for whatever is accepted, however fast the vendor is: the response must not depend on a race.
        if self.is_none() {
            handle.result_or_accepted().await
        } else {
            handle.result_or_accepted_after(self.expired()).await
        }
    }

    /// Completes when the budget is used up.
    async fn expired(self) {
        tokio::select! {
            () = tokio::time::sleep(self.time) => {}
            () = self.stopping.hurried.cancelled() => {}
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ShutdownSignal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
