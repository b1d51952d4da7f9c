//! Extracts a write: its headers and its body together, so that no route can read a body and forget the
//! `Idempotency-Key` that came with it.

use std::future::Future;

use axum::extract::{FromRequest, Request};

use crate::domain::error::Error;
use crate::http::app_state::AppState;
use crate::http::extract::fingerprint::{BodyFormat, Fingerprint, request_fingerprint};
use crate::http::extract::idempotency::IdempotencyHeader;
use crate::http::extract::prefer::Preferences;
use crate::http::extract::request_parts::AuthenticatedCaller;
use crate::http::problem::ApiError;
use crate::http::server::shutdown::{ShutdownSignal, WaitBudget};
use crate::service::RequestContext;

/// A write request.
pub(in crate::http) struct WriteRequest<B> {
    /// The caller, with the request's idempotency key.
    pub(in crate::http) caller: RequestContext,
    pub(in crate::http) preferences: Preferences,
    /// How long the caller waits.
    pub(in crate::http) patience: WaitBudget,
    pub(in crate::http) body: B,
}

/// The body of a write.
pub(in crate::http) trait WriteBody: Sized {
    /// Reads the body. Returns a hash of its meaning, not of its spelling.
    fn read(
        request: Request,
        app: &AppState,
        caller: &RequestContext,
    ) -> impl Future<Output = Result<(Self, BodyFormat, Fingerprint), Error>> + Send;
}

impl<B: WriteBody> FromRequest<AppState> for WriteRequest<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let stopping = ShutdownSignal::of(&parts);
        stopping.reject_after_close()?;
        let mut caller = AuthenticatedCaller::take(&mut parts)?;
        let keyed = IdempotencyHeader::of(&parts.headers, &parts.method, parts.uri.path())?;
        let preferences = Preferences::of(&parts.headers);
        let longest = app.terms.now().server.request_timeout.0;
        let patience = WaitBudget::new(preferences.wait(longest), stopping);
        let query = parts.uri.query().map(str::to_owned);
        if let Some(line) = caller.audit_entry.as_ref().filter(|_| patience.is_none()) {
            // The response only reports acceptance, so its audit entry cannot be part of the outcome's transaction.
            line.write_on_acceptance();
        }
        let (body, form, hash) = B::read(Request::from_parts(parts, body), app, &caller).await?;
        caller.key = keyed.map(|keyed| keyed.with_fingerprint(request_fingerprint(query.as_deref(), form, &hash)));
        Ok(Self { caller, preferences, patience, body })
    }
}
