//! The connections of one listener: how many there are, which of them make room, and what one is told for which there is
//! none.

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

/// Most connections of a listener, however many files the process may have open.
const MAX_CONNECTIONS: usize = 20_000;
/// Files that are kept for the store, the vendors, the operators and refusals.
const RESERVE: usize = 512;
/// Refusals under way at once; beyond that a connection is closed without a word.
const MAX_REFUSALS: usize = 128;
/// How long a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Least time between two looks for connections that make room, and between two words about it in the log.
const LOOK: Duration = Duration::from_millis(100);
const WORD: Duration = Duration::from_secs(10);

/// What a listener may take.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Connections at once; further ones are refused as `overloaded`.
    pub connections: usize,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// Where they are counted, if anybody wants to know.
    pub busy: Option<LoadGauges>,
    /// What callers are shown over TLS; `None`: plain HTTP.
    pub tls: Option<Tls>,
}

impl ListenerOptions {
    /// As many connections as a process that may have so many files open can take.
    #[must_use]
    pub fn within(files: usize, keep_alive: Duration) -> Self {
        let connections = files.saturating_sub(RESERVE).max(files / 2).min(MAX_CONNECTIONS);
        Self { connections, keep_alive, busy: None, tls: None }
    }
}

/// All connections of a listener.
pub(in crate::http) struct ConnectionLimiter {
    keeping: ListenerOptions,
    rooms: Mutex<ConnectionSlots>,
    refusals: Arc<Semaphore>,
    refusal: Arc<[u8]>,
}

struct ConnectionSlots {
    taken: HashMap<u64, Arc<ConnectionState>>,
    next: u64,
    /// When room may be made again.
    look: Instant,
    /// When the log may tell again that there is none.
    word: Instant,
}

/// A connection's room, free again when dropped.
pub(in crate::http) struct ConnectionSlot {
    house: Arc<ConnectionLimiter>,
    number: u64,
}

impl ConnectionLimiter {
    pub(in crate::http) fn new(keeping: ListenerOptions) -> Self {
        let now = Instant::now();
        Self {
            keeping,
            rooms: Mutex::new(ConnectionSlots { taken: HashMap::new(), next: 0, look: now, word: now }),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            refusal: refusal().into(),
        }
    }

    fn rooms(&self) -> MutexGuard<'_, ConnectionSlots> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::http) fn keep_alive(&self) -> Duration {
        self.keeping.keep_alive
    }

    /// A room for one more connection. When few are left, those that are idle longest are asked to go.
    pub(in crate::http) fn room(self: &Arc<Self>, pulse: &Arc<ConnectionState>) -> Option<ConnectionSlot> {
        let most = self.keeping.connections;
        let spare = most / 64;
        let mut rooms = self.rooms();
        if rooms.taken.len() + spare >= most && rooms.look <= Instant::now() {
            rooms.look = Instant::now() + LOOK;
            make_room(&rooms.taken, spare.max(1));
        }
        if rooms.taken.len() >= most {
            return None;
        }
        let number = rooms.next;
        rooms.next += 1;
        rooms.taken.insert(number, Arc::clone(pulse));
        self.count(&rooms);
        Some(ConnectionSlot { house: Arc::clone(self), number })
    }

    fn count(&self, rooms: &ConnectionSlots) {
        if let Some(busy) = &self.keeping.busy {
            busy.connections(rooms.taken.len());
        }
    }

    /// Tells every connection something.
    pub(in crate::http) fn each(&self, tell: impl Fn(&ConnectionState)) {
        self.rooms().taken.values().for_each(|pulse| tell(pulse));
    }

    pub(in crate::http) fn tls(&self) -> Option<&Tls> {
        self.keeping.tls.as_ref()
    }

    /// Answers a connection for which there is no room, in a task of its own; over TLS it is closed without a word.
    pub(in crate::http) fn refuse(&self, stream: TcpStream) {
        metrics::shed(ShedReason::Connections);
        let mut rooms = self.rooms();
        if rooms.word <= Instant::now() {
            rooms.word = Instant::now() + WORD;
            tracing::warn!(most = self.keeping.connections, "connections are refused: there are too many");
        }
        drop(rooms);
        if self.keeping.tls.is_some() {
            // The words would come after a handshake, which costs more than anything else here.
            return;
        }
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        let refusal = Arc::clone(&self.refusal);
        tokio::spawn(async move {
            let refused = timeout(REFUSAL_TIME, refused(stream, &refusal)).await;
            if let Ok(Err(error)) = refused {
                tracing::debug!(%error, "a connection that was refused went away");
            }
            drop(permit);
        });
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut rooms = self.house.rooms();
        rooms.taken.remove(&self.number);
        self.house.count(&rooms);
    }
}

/// Asks so many connections to close, those that are idle longest first.
fn make_room(taken: &HashMap<u64, Arc<ConnectionState>>, wanted: usize) {
    let mut idle: Vec<(Instant, &Arc<ConnectionState>)> =
        taken.values().filter_map(|pulse| Some((pulse.idle_since()?, pulse))).collect();
    if idle.len() > wanted {
        idle.select_nth_unstable_by_key(wanted, |(since, _)| *since);
    }
    idle.iter().take(wanted).for_each(|(_, pulse)| pulse.close());
}

/// Says so, and waits for the caller to close: bytes of it that nobody has read would otherwise reset the connection, and
/// the answer with it.
async fn refused(mut stream: TcpStream, refusal: &[u8]) -> std::io::Result<()> {
    stream.write_all(refusal).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The whole answer. It has no id: no request was read.
fn refusal() -> Vec<u8> {
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
    fn files_are_left_for_the_store_and_the_vendors() {
        let of = |files| ListenerOptions::within(files, Duration::ZERO).connections;
        assert_eq!(of(1_048_576), MAX_CONNECTIONS);
        assert_eq!(of(20_000), 20_000 - RESERVE);
        assert_eq!(of(1024), 512);
        assert_eq!(of(256), 128);
    }

    #[tokio::test(start_paused = true)]
    async fn those_idle_longest_make_room() {
        let keeping = ListenerOptions { connections: 2, keep_alive: Duration::from_secs(75), busy: None, tls: None };
        let house = Arc::new(ConnectionLimiter::new(keeping));
        let [first, second] = [0, 1].map(|_| Arc::new(ConnectionState::new()));
        let kept = house.room(&first).unwrap();
        let _also_kept = house.room(&second).unwrap();
        for pulse in [&second, &first] {
            pulse.on_request(false);
            pulse.on_response_end();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let newcomer = Arc::new(ConnectionState::new());
        assert!(house.room(&newcomer).is_none(), "not before somebody has gone");
        assert!(second.idle_since().is_none() && first.idle_since().is_some(), "the second was asked to go");
        drop(kept);
        assert!(house.room(&newcomer).is_some());
    }
}
