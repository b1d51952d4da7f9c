//! The one way a write comes in: its headers and its body together, so that no route can read a body and forget the
//! `Idempotency-Key` it came with.

use std::future::Future;

use axum::extract::{FromRequest, FromRequestParts as _, Request};

use super::canonical::{Form, Hash, content};
use super::idempotency::Keyed;
use super::prefer::Preferences;
use super::problem::Refused;
use super::request::Asking;
use super::state::App;
use super::stopping::{Patience, Stopping};
use crate::dispatch::Caller;
use crate::domain::problem::Fault;

/// A write.
pub(super) struct Writing<B> {
    /// Who asks, with the key of the request.
    pub(super) caller: Caller,
    pub(super) preferences: Preferences,
    /// How long the caller waits.
    pub(super) patience: Patience,
    pub(super) body: B,
}

/// A body of a write.
pub(super) trait WriteBody: Sized {
    /// Reads it. The hash is of what it says, not of how it is written.
    fn read(
        request: Request,
        app: &App,
        caller: &Caller,
    ) -> impl Future<Output = Result<(Self, Form, Hash), Fault>> + Send;
}

impl<B: WriteBody> FromRequest<App> for Writing<B> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let stopping = Stopping::of(&parts);
        stopping.refuse_late()?;
        let Asking(mut caller) = Asking::from_request_parts(&mut parts, app).await?;
        let keyed = Keyed::of(&parts.headers, &parts.method, parts.uri.path())?;
        let preferences = Preferences::of(&parts.headers);
        let longest = app.terms.now().server.request_timeout.0;
        let patience = Patience::new(preferences.patience(longest), stopping);
        let query = parts.uri.query().map(str::to_owned);
        if let Some(line) = caller.line.as_ref().filter(|_| patience.is_none()) {
            // The answer says that the write was accepted, so its line cannot be part of the outcome's transaction.
            line.tell_acceptance();
        }
        let (body, form, hash) = B::read(Request::from_parts(parts, body), app, &caller).await?;
        caller.key = keyed.map(|keyed| keyed.saying(content(query.as_deref(), form, &hash)));
        Ok(Self { caller, preferences, patience, body })
    }
}
