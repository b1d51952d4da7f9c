//! What all requests of the console share.

use std::sync::Arc;

use axum::Router;

use crate::http::app_state::AppState;
use crate::http::console::session::Sessions;
use crate::http::console::sign_in_limit::SignInLimiter;
use crate::http::console_parts::ConsoleParts;

/// The shared state of the console; cheap to clone.
#[derive(Clone)]
pub(in crate::http::console) struct Console(Arc<Shared>);

pub(in crate::http::console) struct Shared {
    pub(in crate::http::console) app: AppState,
    /// The API's own router.
    pub(in crate::http::console) api: Router,
    pub(in crate::http::console) sessions: Sessions,
    pub(in crate::http::console) sign_ins: SignInLimiter,
}

impl Console {
    pub(in crate::http::console) fn new(app: &AppState, parts: &ConsoleParts, api: Router) -> Self {
        Self(Arc::new(Shared {
            app: app.clone(),
            api,
            sessions: Sessions::new(parts, &app.environment),
            sign_ins: SignInLimiter::new(parts.settings.sign_in_rate),
        }))
    }
}

impl std::ops::Deref for Console {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
