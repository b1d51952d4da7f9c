//! How a listener ends: first it says goodbye and goes on serving, then it takes nothing more. Answers that have no end of
//! their own, and those that only wait, end then.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use crate::domain::error::{Code, Error};
use crate::service::{WriteHandle, WriteReply};

/// The end of a listener, said from outside.
#[derive(Clone)]
pub struct ShutdownHandle {
    leaving: CancellationToken,
    closing: CancellationToken,
    grace: Duration,
}

impl ShutdownHandle {
    /// An end that nobody has asked for yet; requests under way may then take this long.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { leaving: CancellationToken::new(), closing: CancellationToken::new(), grace }
    }

    /// From now on callers are told to go elsewhere, and served meanwhile.
    pub fn announce(&self) {
        self.leaving.cancel();
    }

    /// From now on no connection is taken, and none is kept when its requests are answered.
    pub fn close(&self) {
        self.leaving.cancel();
        self.closing.cancel();
    }

    pub(in crate::http) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    pub(in crate::http) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Ends when [`close`](Self::close) was called.
    pub async fn closed(&self) {
        self.closing.cancelled().await;
    }

    pub(in crate::http) fn grace(&self) -> Duration {
        self.grace
    }
}

/// Told to every request of a listener.
#[derive(Clone, Default)]
pub(in crate::http) struct ShutdownSignal {
    begun: CancellationToken,
    hurried: CancellationToken,
}

impl ShutdownSignal {
    /// From now on the listener takes no more requests.
    pub(in crate::http) fn begin(&self) {
        self.begun.cancel();
    }

    /// From now on whoever waits for a vendor is answered that the work goes on.
    pub(in crate::http) fn end_waits(&self) {
        self.hurried.cancel();
    }

    /// Refuses a write that came after the listener was closed. One that came before is served: its caller could not know.
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

    /// Ends when the listener takes no more requests.
    pub(in crate::http) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// What was told to the request. One that is served by something else than a listener is told nothing.
    pub(in crate::http) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// How long a caller waits for its write: its own time, but not beyond the end of the listener.
pub(in crate::http) struct WaitBudget {
    time: Duration,
    stopping: ShutdownSignal,
}

impl WaitBudget {
    pub(in crate::http) fn new(time: Duration, stopping: ShutdownSignal) -> Self {
        Self { time, stopping }
    }

    /// Whether the caller waits for nothing but that its write is accepted.
    pub(in crate::http) fn is_none(&self) -> bool {
        self.time.is_zero()
    }

    /// Waits for the write as long as the caller does.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub(in crate::http) async fn wait<T>(self, ticket: WriteHandle<T>) -> Result<WriteReply<T>, Error>
    where
        T: Clone + Send + Sync + 'static,
    {
        // However quick the vendor is: what is answered must not depend on a race.
        if self.is_none() {
            ticket.result_or_accepted().await
        } else {
            ticket.result_or_accepted_after(self.expired()).await
        }
    }

    /// Ends when it does.
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
