//! Limits the connections of a listener: evicts the longest-idle ones and rejects the rest with 503.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::domain::error::Code;
use crate::http::app_state::LoadGauges;
use crate::http::problem::{MEDIA_TYPE, status};
use crate::http::server::connection_state::ConnectionState;
use crate::http::server::tls::Tls;
use crate::telemetry::metrics;
use crate::telemetry::metrics::ShedReason;

/// Maximum number of connections of a listener, whatever the process's limit on open files.
const MAX_CONNECTIONS: usize = 20_000;
/// File descriptors reserved for the store, the vendors, the operators and rejections.
const RESERVED_FILES: usize = 512;
/// Maximum number of concurrent rejections; further connections are closed without a response.
const MAX_REJECTIONS: usize = 128;
/// How long sending a rejection may take.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Minimum time between two evictions.
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);
/// Minimum time between two log messages about rejections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What a listener serves, and its limits.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Maximum number of concurrent connections; further ones are rejected as `overloaded`.
    pub connections: usize,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// Gauges for the number of connections, if wanted.
    pub busy: Option<LoadGauges>,
    /// TLS configuration; `None` means plain HTTP.
    pub tls: Option<Tls>,
}

impl ListenerOptions {
    /// Derives the number of connections from the process's limit on open files.
    #[must_use]
    pub fn within(files: usize, keep_alive: Duration) -> Self {
        let connections = files.saturating_sub(RESERVED_FILES).max(files / 2).min(MAX_CONNECTIONS);
        Self { connections, keep_alive, busy: None, tls: None }
    }
}

/// All connections of a listener.
pub(in crate::http) struct ConnectionLimiter {
    options: ListenerOptions,
    slots: Mutex<ConnectionSlots>,
    rejections: Arc<Semaphore>,
    rejection: Arc<[u8]>,
}

struct ConnectionSlots {
    taken: HashMap<u64, Arc<ConnectionState>>,
    next: u64,
    /// When connections may be evicted again.
    next_eviction: Instant,
    /// When rejections may be logged again.
    next_log: Instant,
}

/// A connection's slot; freed when dropped.
pub(in crate::http) struct ConnectionSlot {
    limiter: Arc<ConnectionLimiter>,
    number: u64,
}

impl ConnectionLimiter {
    pub(in crate::http) fn new(options: ListenerOptions) -> Self {
        let now = Instant::now();
        Self {
            options,
            slots: Mutex::new(ConnectionSlots { taken: HashMap::new(), next: 0, next_eviction: now, next_log: now }),
            rejections: Arc::new(Semaphore::new(MAX_REJECTIONS)),
            rejection: rejection_response().into(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, ConnectionSlots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::http) fn keep_alive(&self) -> Duration {
        self.options.keep_alive
    }

    /// Takes a slot for one more connection. If few are left, asks the longest-idle connections to close.
    pub(in crate::http) fn take_slot(self: &Arc<Self>, state: &Arc<ConnectionState>) -> Option<ConnectionSlot> {
        let most = self.options.connections;
        let spare = most / 64;
        let mut slots = self.slots();
        if slots.taken.len() + spare >= most && slots.next_eviction <= Instant::now() {
            slots.next_eviction = Instant::now() + EVICTION_INTERVAL;
            evict_idle(&slots.taken, spare.max(1));
        }
        if slots.taken.len() >= most {
            return None;
        }
        let number = slots.next;
        slots.next += 1;
        slots.taken.insert(number, Arc::clone(state));
        self.count(&slots);
        Some(ConnectionSlot { limiter: Arc::clone(self), number })
    }

    fn count(&self, slots: &ConnectionSlots) {
        if let Some(busy) = &self.options.busy {
            busy.connections(slots.taken.len());
        }
    }

    /// Calls `call` with the state of every connection.
    pub(in crate::http) fn each(&self, call: impl Fn(&ConnectionState)) {
        self.slots().taken.values().for_each(|state| call(state));
    }

    pub(in crate::http) fn tls(&self) -> Option<&Tls> {
        self.options.tls.as_ref()
    }

    /// Sends the rejection in its own task; over TLS it closes the connection without a response.
    pub(in crate::http) fn reject(&self, stream: TcpStream) {
        metrics::shed(ShedReason::Connections);
        let mut slots = self.slots();
        if slots.next_log <= Instant::now() {
            slots.next_log = Instant::now() + LOG_INTERVAL;
            tracing::warn!(most = self.options.connections, "rejecting connections: too many are open");
        }
        drop(slots);
        if self.options.tls.is_some() {
            // A response would require a handshake, which costs more than anything else here.
            return;
        }
        let Ok(permit) = Arc::clone(&self.rejections).try_acquire_owned() else { return };
        let rejection = Arc::clone(&self.rejection);
        tokio::spawn(async move {
            let sent = timeout(REJECTION_TIMEOUT, send_rejection(stream, &rejection)).await;
            if let Ok(Err(error)) = sent {
                tracing::debug!(%error, "a rejected connection closed early");
            }
            drop(permit);
        });
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut slots = self.limiter.slots();
        slots.taken.remove(&self.number);
        self.limiter.count(&slots);
    }
}

/// Asks `wanted` connections to close, longest-idle first.
fn evict_idle(taken: &HashMap<u64, Arc<ConnectionState>>, wanted: usize) {
    let mut idle: Vec<(Instant, &Arc<ConnectionState>)> =
        taken.values().filter_map(|state| Some((state.idle_since()?, state))).collect();
    if idle.len() > wanted {
        idle.select_nth_unstable_by_key(wanted, |(since, _)| *since);
    }
    idle.iter().take(wanted).for_each(|(_, state)| state.close());
}

/// Sends the rejection and waits for the caller to close: unread bytes from it would otherwise reset the connection and
/// lose the response.
async fn send_rejection(mut stream: TcpStream, rejection: &[u8]) -> std::io::Result<()> {
    stream.write_all(rejection).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Builds the complete response. It has no request id: no request was read.
fn rejection_response() -> Vec<u8> {
    let code = Code::Overloaded;
    let status = status(code);
    let problem = serde_json::json!({
        "type": format!("/problems/{}", code.as_str()),
        "title": code.title(),
        "status": status.as_u16(),
        "detail": "Too many connections are open.",
        "code": code.as_str(),
        "origin": "gateway",
        "retryable": true,
        "outcome": "not_applied",
    })
    .to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\nRetry-After: 1\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{problem}",
        problem.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_descriptors_are_reserved_for_the_store_and_the_vendors() {
        let of = |files| ListenerOptions::within(files, Duration::ZERO).connections;
        assert_eq!(of(1_048_576), MAX_CONNECTIONS);
        assert_eq!(of(20_000), 20_000 - RESERVED_FILES);
        assert_eq!(of(1024), 512);
        assert_eq!(of(256), 128);
    }

    #[tokio::test(start_paused = true)]
    async fn longest_idle_connections_are_evicted() {
        let options = ListenerOptions { connections: 2, keep_alive: Duration::from_secs(75), busy: None, tls: None };
        let limiter = Arc::new(ConnectionLimiter::new(options));
        let [first, second] = [0, 1].map(|_| Arc::new(ConnectionState::new()));
        let kept = limiter.take_slot(&first).unwrap();
        let _also_kept = limiter.take_slot(&second).unwrap();
        for state in [&second, &first] {
            state.on_request(false);
            state.on_response_end();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let newcomer = Arc::new(ConnectionState::new());
        assert!(limiter.take_slot(&newcomer).is_none(), "not before a slot is freed");
        assert!(second.idle_since().is_none() && first.idle_since().is_some(), "the second was asked to close");
        drop(kept);
        assert!(limiter.take_slot(&newcomer).is_some());
    }
}
