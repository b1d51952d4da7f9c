//! The HTTP client and its connection pool, replaced periodically.
//!
//! A constantly used connection would stay at the address that its host name once resolved to. The pool is therefore
//! replaced after a while: requests in flight finish on the old one, new requests resolve the name again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::root_cause;
use super::settings::ConnectionSettings;

/// Idle timeout of pooled connections: below the vendors' own (IIS: 120 s), because otherwise a request could use a
/// connection just as the vendor closes it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum time to connect, regardless of the attempt's timeout.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Lifetime of one pool.
const POOL_LIFETIME: Duration = Duration::from_mins(5);

/// The connection pool of one vendor connection.
pub(super) struct RotatingClient {
    settings: ConnectionSettings,
    current: Mutex<Pool>,
}

struct Pool {
    client: reqwest::Client,
    created: Instant,
}

impl RotatingClient {
    /// Creates a pool for attempts of at most `timeout`, with as many idle connections as calls in flight.
    pub(super) fn new(settings: &ConnectionSettings) -> Result<Self, String> {
        let pool = Pool { client: build(settings)?, created: Instant::now() };
        Ok(Self { settings: settings.clone(), current: Mutex::new(pool) })
    }

    /// Returns the client for the next attempt, replacing the pool if it is too old.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut pool = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.created.elapsed() >= POOL_LIFETIME {
            pool.created = Instant::now();
            match build(&self.settings) {
                Ok(client) => pool.client = client,
                // The settings are unchanged, so the old client still works.
                Err(error) => tracing::warn!(%error, "connection pool not replaced; keeping the old one"),
            }
        }
        pool.client.clone()
    }
}

fn build(settings: &ConnectionSettings) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
        // Following a redirect would send personal data and a signature to an address that is not configured.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        // Slightly below the attempt's timeout, so that the connect timeout, which proves "not sent", fires first.
        .connect_timeout((settings.timeout.0 / 10 * 9).min(MAX_CONNECT_TIMEOUT))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.max_in_flight)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .tls_certs_merge(settings.authorities.certificates())
        .build()
        .map_err(|error| format!("the HTTP client cannot be created: {}", root_cause(&error)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, watch};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Keeps each connection and responds once the gate is open; reports each connection and each request.
    async fn vendor(open: watch::Receiver<bool>) -> (SocketAddr, mpsc::UnboundedReceiver<&'static str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                told.send("connection").unwrap();
                tokio::spawn(answer(stream, open.clone(), told.clone()));
            }
        });
        (address, heard)
    }

    async fn answer(mut stream: TcpStream, mut open: watch::Receiver<bool>, told: mpsc::UnboundedSender<&'static str>) {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            told.send("request").ok();
            open.wait_for(|open| *open).await.ok();
            stream.write_all(ANSWER).await.ok();
        }
    }

    fn pool() -> RotatingClient {
        RotatingClient::new(&ConnectionSettings::default()).unwrap()
    }

    fn age(pool: &RotatingClient) {
        pool.current.lock().unwrap().created -= POOL_LIFETIME;
    }

    #[tokio::test]
    async fn the_pool_is_replaced_only_after_its_lifetime() {
        let (_gate, open) = watch::channel(true);
        let (address, mut heard) = vendor(open).await;
        let pool = pool();
        let mut made = Vec::new();
        for aged in [false, false, true, false] {
            if aged {
                age(&pool);
            }
            let response = pool.client().get(format!("http://{address}/")).send().await.unwrap();
            assert!(response.bytes().await.unwrap().is_empty());
            made.push(std::iter::from_fn(|| heard.try_recv().ok()).filter(|what| *what == "connection").count());
        }
        assert_eq!(made, [1, 0, 1, 0]);
    }

    #[tokio::test]
    async fn requests_in_flight_finish_on_the_old_pool() {
        let (gate, open) = watch::channel(false);
        let (address, mut heard) = vendor(open).await;
        let pool = pool();
        let ask = |client: reqwest::Client| {
            tokio::spawn(async move { client.get(format!("http://{address}/")).send().await.unwrap().status() })
        };
        let early = ask(pool.client());
        assert_eq!((heard.recv().await, heard.recv().await), (Some("connection"), Some("request")));
        age(&pool);
        let late = ask(pool.client());
        assert_eq!((heard.recv().await, heard.recv().await), (Some("connection"), Some("request")));
        gate.send_replace(true);
        assert_eq!((early.await.unwrap(), late.await.unwrap()), (http::StatusCode::OK, http::StatusCode::OK));
        assert!(heard.try_recv().is_err(), "nothing was sent again");
    }
}
