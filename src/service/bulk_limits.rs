//! How many bulk calls of a connection may be in flight, shared fairly by tenant and operation.

use std::sync::Arc;

use crate::service::fair_semaphore::{FairPermit, FairSemaphore};
use crate::transport::ConnectionSettings;

/// Concurrency budget of a connection for bulk operations, shared fairly by tenant and operation.
#[derive(Clone)]
pub(super) struct BulkLimits {
    /// In-flight permits for bulk calls, as many as the connection has. Which of them are kept for single requests is
    /// decided where both meet (`transport::concurrency_limit`).
    pub(super) calls: Arc<FairSemaphore>,
    /// Claim permits, for batches in flight or with committed intents and waiting for an in-flight permit, so that a
    /// free one is used at once. Only a quarter more than in-flight permits: after a crash, each claimed row must be
    /// reconciled.
    pub(super) begun: Arc<FairSemaphore>,
    /// Permits for changes of programs' employees. Their callers wait as for any single write, so they never wait for a
    /// bulk.
    pub(super) enrolments: Arc<FairSemaphore>,
}

/// Permit to claim a batch's rows and send them; released on drop.
pub(super) struct ClaimPermit {
    /// Claim permit if `ahead`, else in-flight permit.
    pub(super) _permit: FairPermit,
    /// Whether the rows are claimed before an in-flight permit is available.
    pub(super) ahead: bool,
}

impl BulkLimits {
    pub(super) fn new(settings: &ConnectionSettings) -> Self {
        let LimitSizes { calls, begun, enrolments } = LimitSizes::of(settings);
        Self {
            calls: FairSemaphore::new(calls),
            begun: FairSemaphore::new(begun),
            enrolments: FairSemaphore::new(enrolments),
        }
    }

    pub(super) fn resize(&self, settings: &ConnectionSettings) {
        let LimitSizes { calls, begun, enrolments } = LimitSizes::of(settings);
        self.calls.resize(calls);
        self.begun.resize(begun);
        self.enrolments.resize(enrolments);
    }
}

/// Sizes of the bulk limits.
struct LimitSizes {
    calls: usize,
    begun: usize,
    enrolments: usize,
}

impl LimitSizes {
    fn of(settings: &ConnectionSettings) -> Self {
        let calls = settings.max_in_flight.max(1);
        let begun = calls.saturating_add(calls.div_ceil(4));
        Self { calls, begun, enrolments: settings.max_in_flight.div_ceil(4) }
    }
}
