//! The lease that permits this process to write: if the store is shared, an instance must renew it by heartbeats.
//!
//! Wall clocks do not decide. Each instance counts its heartbeats in the store. A peer that sees the count unchanged
//! for [`FAILURE_TIMEOUT`], while it can reach the store itself, fences the instance and adopts its work. The instance
//! stops sending [`LEASE_VALIDITY`] after its last heartbeat, which is earlier, so no write is sent by both. A
//! suspended machine is detected by a jump of the wall clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::system::System;
use crate::store::{Peer, Store, StoreError};

/// Interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long this instance may send after the start of a heartbeat that reached the store.
const LEASE_VALIDITY: Duration = Duration::from_millis(5_500);
/// How long a peer's count must stay unchanged before the peer is fenced.
const FAILURE_TIMEOUT: Duration = Duration::from_millis(7_500);

/// Permission of this process to send writes from the store.
#[derive(Clone)]
pub(in crate::service) struct Lease(Arc<State>);

struct State {
    environment: System,
    /// Start of the last heartbeat that reached the store; `None` if only this process uses the store.
    beaten: Option<Mutex<Heartbeat>>,
    lost: CancellationToken,
    /// Cancelled when the instance has released the lease.
    given_back: CancellationToken,
    /// Changes when a peer has ended; the number means nothing.
    departures: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct Heartbeat {
    at: Instant,
    day: Timestamp,
}

impl Lease {
    /// Acquires the lease and spawns the task that renews it as long as the process lives.
    ///
    /// # Errors
    /// The store's, if the first heartbeat does not reach it.
    pub(in crate::service) async fn take(store: &Arc<dyn Store>, environment: &System) -> Result<Self, StoreError> {
        let now = || Heartbeat { at: Instant::now(), day: environment.now() };
        let began = now();
        let peers = store.renew_lease().await?;
        let beaten = store.is_shared().then(|| Mutex::new(began));
        let lease = Self(Arc::new(State {
            environment: environment.clone(),
            beaten,
            lost: CancellationToken::new(),
            given_back: CancellationToken::new(),
            departures: watch::Sender::new(0),
        }));
        if store.is_shared() {
            let mut watch = FailureDetector::default();
            watch.dead(peers, Instant::now());
            tokio::spawn(lease.clone().heartbeat_loop(Arc::clone(store), watch));
        }
        Ok(lease)
    }

    /// Returns whether this process may send now.
    pub(in crate::service) fn holds(&self) -> bool {
        let Some(beaten) = &self.0.beaten else { return true };
        let beaten = *beaten.lock().unwrap_or_else(PoisonError::into_inner);
        let by_day = self.0.environment.now().duration_since(beaten.day);
        let valid = SignedDuration::try_from(LEASE_VALIDITY).unwrap_or(SignedDuration::ZERO);
        let over = self.0.lost.is_cancelled() || self.0.given_back.is_cancelled();
        beaten.at.elapsed() < LEASE_VALIDITY && by_day < valid && !over
    }

    /// Completes when another instance has declared this one dead.
    pub(in crate::service) async fn lost(&self) {
        self.0.lost.cancelled().await;
    }

    /// Returns what changes when a peer has ended, so that what it has held is free.
    pub(in crate::service) fn departures(&self) -> watch::Receiver<u64> {
        self.0.departures.subscribe()
    }

    /// Releases the lease so that peers need not wait for it to expire. No write may be in flight.
    pub(in crate::service) async fn release(&self, store: &dyn Store) {
        if !store.is_shared() {
            return;
        }
        // Stop sending before peers may start.
        self.0.given_back.cancel();
        match store.end_own_instance().await {
            Ok(()) => tracing::info!("lease released; peers may take over"),
            // Peers notice when the heartbeats stop, as after a crash.
            Err(error) => tracing::warn!(%error, "releasing the lease failed; peers will take over once it expires"),
        }
    }

    /// Returns whether another instance has declared this one dead.
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
                    tracing::error!(
                        "another instance declared this one dead and took over its work; this process must exit"
                    );
                    self.0.lost.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "heartbeat did not reach the store");
                    // Peers cannot renew either while the store is unavailable, so an unchanged count proves nothing.
                    watch = FailureDetector::default();
                    continue;
                }
            };
            if let Some(beaten) = &self.0.beaten {
                *beaten.lock().unwrap_or_else(PoisonError::into_inner) = began;
            }
            let mut has_departed = watch.misses_one_of(&peers);
            for peer in watch.dead(peers, Instant::now()) {
                match store.end_instance(&peer).await {
                    Ok(true) => {
                        has_departed = true;
                        tracing::warn!(instance = peer.instance, "an instance is dead; taking over its work");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "fencing a dead instance failed; will retry"),
                }
            }
            if has_departed {
                self.0.departures.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
}

/// Detector of dead peers: the last heartbeat count of each, and since when it is unchanged.
#[derive(Default)]
struct FailureDetector(HashMap<String, (i64, Instant)>);

impl FailureDetector {
    /// Returns whether a peer that was there is none of these.
    fn misses_one_of(&self, peers: &[Peer]) -> bool {
        self.0.keys().any(|instance| peers.iter().all(|peer| peer.instance != *instance))
    }

    /// Records the current counts and returns the peers whose count was unchanged for too long.
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
    fn an_instance_is_dead_once_its_count_stays_unchanged() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = FailureDetector::default();
        assert_eq!(watch.dead(peer(1), at(0)), []);
        assert_eq!(watch.dead(peer(2), at(5)), [], "it has beaten since");
        assert_eq!(watch.dead(peer(2), at(10)), []);
        assert_eq!(watch.dead(peer(2), at(13)), peer(2));
        assert!(!watch.misses_one_of(&peer(2)) && watch.misses_one_of(&[]));
        assert_eq!(watch.dead(Vec::new(), at(14)), []);
        assert_eq!(watch.dead(peer(2), at(30)), [], "watched anew");
    }

    #[test]
    fn an_instance_stops_sending_before_it_can_be_taken_over() {
        // A peer sees the count at the earliest when the heartbeat arrives, and the lease is valid from the heartbeat's
        // start.
        assert!(LEASE_VALIDITY + HEARTBEAT_INTERVAL < FAILURE_TIMEOUT);
    }
}
