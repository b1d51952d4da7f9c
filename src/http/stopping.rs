//! That the listener is about to close: answers that have no end of their own, and those that only wait, end then.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

/// Told to every request of a listener.
#[derive(Clone, Default)]
pub(super) struct Stopping(CancellationToken);

impl Stopping {
    /// From now on the listener takes no more requests.
    pub(super) fn begin(&self) {
        self.0.cancel();
    }

    /// Ends when it does.
    pub(super) async fn begun(&self) {
        self.0.cancelled().await;
    }
}

impl<S: Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // A router that is served by something else is never told.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
