//! Whether this process may write: where the store is shared, an instance lives as long as it beats.
//!
//! No clock of the day decides. An instance counts its beats in the store; another one that watches the count stand still for
//! [`FAILURE_TIMEOUT`], while it reaches the store itself, ends it and takes its work over. The instance itself stops sending
//! [`LEASE_VALIDITY`] after its last beat, which is earlier, so that what was taken over is not sent by the first owner as well. A
//! machine that was suspended is told by the time of day having jumped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::system::System;
use crate::store::{Peer, Store, StoreError};

/// Between two beats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long after the beginning of a beat that arrived this instance may send.
const LEASE_VALIDITY: Duration = Duration::from_millis(5_500);
/// How long another instance's count has to stand still before it is ended.
const FAILURE_TIMEOUT: Duration = Duration::from_millis(7_500);

/// The right of this process to send what is in the store.
#[derive(Clone)]
pub(in crate::service) struct Lease(Arc<State>);

struct State {
    environment: System,
    /// When the last beat that arrived began; `None` where nobody else uses the store.
    beaten: Option<Mutex<Heartbeat>>,
    lost: CancellationToken,
    /// Set when the instance has ended by itself.
    given_back: CancellationToken,
}

#[derive(Clone, Copy)]
struct Heartbeat {
    at: Instant,
    day: Timestamp,
}

impl Lease {
    /// The lease of this process, kept up by a task of its own for as long as the process lives.
    ///
    /// # Errors
    /// The store's, if the first beat does not arrive.
    pub(in crate::service) async fn take(store: &Arc<dyn Store>, environment: &System) -> Result<Self, StoreError> {
        let now = || Heartbeat { at: Instant::now(), day: environment.now() };
        let began = now();
        let peers = store.renew_lease().await?;
        let beaten = store.shared().then(|| Mutex::new(began));
        let lease = Self(Arc::new(State {
            environment: environment.clone(),
            beaten,
            lost: CancellationToken::new(),
            given_back: CancellationToken::new(),
        }));
        if store.shared() {
            let mut watch = FailureDetector::default();
            watch.dead(peers, Instant::now());
            tokio::spawn(lease.clone().heartbeat_loop(Arc::clone(store), watch));
        }
        Ok(lease)
    }

    /// Whether what is in the store may be sent now.
    pub(in crate::service) fn holds(&self) -> bool {
        let Some(beaten) = &self.0.beaten else { return true };
        let beaten = *beaten.lock().unwrap_or_else(PoisonError::into_inner);
        let by_day = self.0.environment.now().duration_since(beaten.day);
        let valid = SignedDuration::try_from(LEASE_VALIDITY).unwrap_or(SignedDuration::ZERO);
        let over = self.0.lost.is_cancelled() || self.0.given_back.is_cancelled();
        beaten.at.elapsed() < LEASE_VALIDITY && by_day < valid && !over
    }

    /// Ends when another instance has taken this one for dead.
    pub(in crate::service) async fn lost(&self) {
        self.0.lost.cancelled().await;
    }

    /// Ends this instance, so that the others need not wait for its death. Nothing may be under way any more.
    pub(in crate::service) async fn release(&self, store: &dyn Store) {
        if !store.shared() {
            return;
        }
        // Before the others may begin: nothing is sent from now on.
        self.0.given_back.cancel();
        match store.start_draining().await {
            Ok(()) => tracing::info!("handed over to the other instances"),
            // They find out by themselves, as after a crash.
            Err(error) => tracing::warn!(%error, "the other instances cannot be told that this one ends"),
        }
    }

    /// Whether another instance has taken this one for dead.
    pub(in crate::service) fn is_lost(&self) -> bool {
        self.0.lost.is_cancelled()
    }

    async fn heartbeat_loop(self, store: Arc<dyn Store>, mut watch: FailureDetector) {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.0.given_back.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let began = Heartbeat { at: Instant::now(), day: self.0.environment.now() };
            let peers = match store.renew_lease().await {
                Ok(peers) => peers,
                Err(StoreError::Fenced) if self.0.given_back.is_cancelled() => return,
                Err(StoreError::Fenced) => {
                    tracing::error!("another instance took this one for dead and has taken its work over; it must end");
                    self.0.lost.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the store was not reached for a beat");
                    // Nobody can beat while the store is away: what stood still then says nothing.
                    watch = FailureDetector::default();
                    continue;
                }
            };
            if let Some(beaten) = &self.0.beaten {
                *beaten.lock().unwrap_or_else(PoisonError::into_inner) = began;
            }
            for peer in watch.dead(peers, Instant::now()) {
                match store.end_instance(&peer).await {
                    Ok(true) => tracing::warn!(instance = peer.instance, "an instance is dead; its work is taken over"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "a dead instance cannot be ended yet"),
                }
            }
        }
    }
}

/// Since when each other instance's count stands where it stands.
#[derive(Default)]
struct FailureDetector(HashMap<String, (i64, Instant)>);

impl FailureDetector {
    /// Takes the counts of the moment in; those that stood still for too long.
    fn dead(&mut self, peers: Vec<Peer>, now: Instant) -> Vec<Peer> {
        self.0.retain(|instance, _| peers.iter().any(|peer| peer.instance == *instance));
        let still = |peer: &Peer| {
            let seen = self.0.entry(peer.instance.clone()).or_insert((peer.heartbeats, now));
            if seen.0 != peer.heartbeats {
                *seen = (peer.heartbeats, now);
            }
            now.duration_since(seen.1) >= FAILURE_TIMEOUT
        };
        peers.into_iter().filter(still).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(heartbeats: i64) -> Vec<Peer> {
        vec![Peer { instance: "p".to_owned(), heartbeats }]
    }

    #[test]
    fn an_instance_is_dead_when_its_count_stands_still_and_not_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = FailureDetector::default();
        assert_eq!(watch.dead(peer(1), at(0)), []);
        assert_eq!(watch.dead(peer(2), at(5)), [], "it has beaten since");
        assert_eq!(watch.dead(peer(2), at(10)), []);
        assert_eq!(watch.dead(peer(2), at(13)), peer(2));
        assert_eq!(watch.dead(Vec::new(), at(14)), []);
        assert_eq!(watch.dead(peer(2), at(30)), [], "watched anew");
    }

    #[test]
    fn whoever_may_be_taken_over_has_stopped_sending_before() {
        // The count was seen at the earliest when the beat arrived, and a beat is valid from its beginning.
        assert!(LEASE_VALIDITY + HEARTBEAT_INTERVAL < FAILURE_TIMEOUT);
    }
}
