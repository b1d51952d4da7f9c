//! Limits on concurrent work: requests, bulk requests being received, and event streams. No client may hold more
//! permits of one kind than it leaves free, so that later clients still get one.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};

use crate::domain::error::{Code, Error};
use crate::telemetry::metrics;
use crate::telemetry::metrics::ShedReason;

/// The permits of one kind.
pub(in crate::http) struct InFlightLimiter {
    most: usize,
    kind: ShedReason,
    /// The number of permits each client holds.
    taken: Mutex<HashMap<String, usize>>,
    /// The number of permits held, for the metrics.
    count: Arc<AtomicUsize>,
}

/// A client's in-flight permit; released when dropped.
pub(in crate::http) struct InFlightPermit {
    places: Arc<InFlightLimiter>,
    client: String,
}

impl InFlightLimiter {
    /// Creates a limiter with `most` permits of this kind; `count` receives the number held.
    pub(in crate::http) fn new(most: usize, kind: ShedReason, count: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { most, kind, taken: Mutex::default(), count })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires a permit for this client. If it is the only client (`alone`), it may hold all permits.
    ///
    /// # Errors
    /// `overloaded`, with the kind of work there is too much of.
    pub(in crate::http) fn acquire(self: &Arc<Self>, client: &str, alone: bool) -> Result<InFlightPermit, Error> {
        let mut taken = self.taken();
        let free = self.most.saturating_sub(taken.values().sum());
        let own = taken.get(client).copied().unwrap_or(0);
        if free == 0 {
            return Err(self.overloaded(""));
        }
        if !alone && own >= free {
            return Err(self.overloaded(" of this client"));
        }
        taken.insert(client.to_owned(), own + 1);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(InFlightPermit { places: Arc::clone(self), client: client.to_owned() })
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
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
        self.places.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlightPermit {
    /// Attaches the permit to a response body, which holds it until the whole body has been handed over.
    pub(in crate::http) fn attach_to_body(self, body: Body) -> Body {
        Body::new(PermitBody { body, _place: self })
    }
}

struct PermitBody {
    body: Body,
    _place: InFlightPermit,
}

impl http_body::Body for PermitBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

    fn fill(places: &Arc<InFlightLimiter>, client: &str, alone: bool) -> Vec<InFlightPermit> {
        std::iter::from_fn(|| places.acquire(client, alone).ok()).collect()
    }

    #[test]
    fn every_client_gets_a_permit_whatever_the_others_hold() {
        let (places, count) = so_many(64);
        let taken = ["a", "b", "c", "d", "e"].map(|client| fill(&places, client, false));
        assert_eq!(taken.each_ref().map(Vec::len), [32, 16, 8, 4, 2]);
        assert_eq!(count.load(Ordering::Relaxed), 62);
        let refused = places.acquire("a", false).err().unwrap();
        assert_eq!(refused.detail, "Too many bulk requests of this client are being received.");
        drop(taken);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(places.taken().is_empty(), "clients without permits are forgotten");
        assert_eq!(fill(&places, "b", false).len(), 32);
    }

    #[test]
    fn only_client_may_hold_all_permits() {
        let (places, _) = so_many(4);
        assert_eq!(fill(&places, "a", true).len(), 4);
        let (none, _) = so_many(0);
        assert_eq!(none.acquire("a", true).err().unwrap().detail, "Too many bulk requests are being received.");
    }

    #[tokio::test]
    async fn permit_is_held_until_the_response_is_sent() {
        let (places, count) = so_many(4);
        let place = places.acquire("a", false).unwrap();
        let mut body = place.attach_to_body(Body::from("whole"));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "whole");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(body);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
