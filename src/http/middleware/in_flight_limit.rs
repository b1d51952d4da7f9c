//! Limits on concurrent work: requests, bulk requests being received, and event streams. No client may hold more
//! permits of one kind than it leaves free, so that later clients still get one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use http_body_util::BodyExt as _;

use crate::domain::error::{Code, Error};
use crate::telemetry::metrics;
use crate::telemetry::metrics::ShedReason;

/// The permits of one kind.
pub(in crate::http) struct InFlightLimiter {
    most: usize,
    kind: ShedReason,
    /// The number of permits each client holds.
    held: Mutex<HashMap<String, usize>>,
    /// The number of permits held, for the metrics.
    count: Arc<AtomicUsize>,
}

/// A client's in-flight permit; released when dropped.
pub(in crate::http) struct InFlightPermit {
    limiter: Arc<InFlightLimiter>,
    client: String,
}

impl InFlightLimiter {
    /// Creates a limiter with `most` permits of this kind; `count` receives the number held.
    pub(in crate::http) fn new(most: usize, kind: ShedReason, count: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { most, kind, held: Mutex::default(), count })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires a permit for this client. If it is the only client (`alone`), it may hold all permits.
    ///
    /// # Errors
    /// `overloaded`, with the kind of work there is too much of.
    pub(in crate::http) fn acquire(self: &Arc<Self>, client: &str, alone: bool) -> Result<InFlightPermit, Error> {
        let mut held = self.held();
        let free = self.most.saturating_sub(held.values().sum());
        let own = held.get(client).copied().unwrap_or(0);
        if free == 0 {
            return Err(self.overloaded(""));
        }
        if !alone && own >= free {
            return Err(self.overloaded(" of this client"));
        }
        held.insert(client.to_owned(), own + 1);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(InFlightPermit { limiter: Arc::clone(self), client: client.to_owned() })
    }

    fn overloaded(&self, whose: &str) -> Error {
        metrics::shed(self.kind);
        let detail = match self.kind {
            ShedReason::Requests => format!("Too many requests{whose} are being served."),
            ShedReason::Receptions => format!("Too many bulk requests{whose} are being received."),
            ShedReason::Watchers => format!("Too many event streams{whose} are open."),
            ShedReason::Connections => format!("Too many connections{whose} are open."),
        };
        Error::new(Code::Overloaded, detail)
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut held = self.limiter.held();
        if let Some(own) = held.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.client);
            }
        }
        self.limiter.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlightPermit {
    /// Attaches the permit to a response body, which holds it until the whole body has been handed over.
    pub(in crate::http) fn attach_to_body(self, body: Body) -> Body {
        // The closure owns the permit; it is dropped with the body.
        Body::new(body.map_err(move |error| {
            let _permit = &self;
            error
        }))
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn so_many(most: usize) -> (Arc<InFlightLimiter>, Arc<AtomicUsize>) {
        let count = Arc::default();
        (InFlightLimiter::new(most, ShedReason::Receptions, Arc::clone(&count)), count)
    }

    fn fill(limiter: &Arc<InFlightLimiter>, client: &str, alone: bool) -> Vec<InFlightPermit> {
        std::iter::from_fn(|| limiter.acquire(client, alone).ok()).collect()
    }

    #[test]
    fn every_client_gets_a_permit_whatever_the_others_hold() {
        let (limiter, count) = so_many(64);
        let held = ["a", "b", "c", "d", "e"].map(|client| fill(&limiter, client, false));
        assert_eq!(held.each_ref().map(Vec::len), [32, 16, 8, 4, 2]);
        assert_eq!(count.load(Ordering::Relaxed), 62);
        let refused = limiter.acquire("a", false).err().unwrap();
        assert_eq!(refused.detail, "Too many bulk requests of this client are being received.");
        drop(held);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(limiter.held().is_empty(), "clients without permits are forgotten");
        assert_eq!(fill(&limiter, "b", false).len(), 32);
    }

    #[test]
    fn only_client_may_hold_all_permits() {
        let (limiter, _) = so_many(4);
        assert_eq!(fill(&limiter, "a", true).len(), 4);
        let (none, _) = so_many(0);
        assert_eq!(none.acquire("a", true).err().unwrap().detail, "Too many bulk requests are being received.");
    }

    #[tokio::test]
    async fn permit_is_held_until_the_response_is_sent() {
        let (limiter, count) = so_many(4);
        let permit = limiter.acquire("a", false).unwrap();
        let mut body = permit.attach_to_body(Body::from("whole"));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "whole");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(body);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
