//! The HTTP client with its pooled connections, renewed now and then.
//!
//! A connection that is in use all the time would stay at the address its host name once had. So the pool is given up after
//! a while: what is under way ends on the old one, whatever begins afterwards resolves the name anew.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::root;
use super::client::ClientError;
use super::settings::ConnectionSettings;
use crate::transport::root_certificates::RootCertificates;

/// How long an idle connection is kept: below what vendors keep (IIS: 120 s), or one would be used in the moment they close
/// it.
const IDLE: Duration = Duration::from_secs(20);
/// Longest wait for a connection, however long an attempt may take.
const MAX_CONNECT: Duration = Duration::from_secs(10);
/// How long one pool is used.
const LIFE: Duration = Duration::from_mins(5);

/// The connections to one vendor.
pub(super) struct RotatingClient {
    made: Mutex<Current>,
    how: ClientConfig,
}

#[derive(Clone)]
struct ClientConfig {
    timeout: Duration,
    max_in_flight: usize,
    authorities: RootCertificates,
}

struct Current {
    client: reqwest::Client,
    at: Instant,
}

impl RotatingClient {
    /// A pool for attempts of at most `timeout`, with as many idle connections as there may be calls.
    pub(super) fn new(settings: &ConnectionSettings) -> Result<Self, ClientError> {
        let how = ClientConfig {
            timeout: settings.timeout.0,
            max_in_flight: settings.max_in_flight,
            authorities: settings.authorities.clone(),
        };
        Ok(Self { made: Mutex::new(Current { client: how.make()?, at: Instant::now() }), how })
    }

    /// The client to use for the next attempt.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.at.elapsed() >= LIFE {
            made.at = Instant::now();
            match self.how.make() {
                Ok(client) => made.client = client,
                // It was made from the same settings before; the old one is as good as it was.
                Err(error) => tracing::warn!(%error, "the connections to a vendor could not be renewed"),
            }
        }
        made.client.clone()
    }

    /// The same connections and their age, for another client.
    pub(super) fn shared(&self) -> Self {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        Self { made: Mutex::new(Current { client: made.client.clone(), at: made.at }), how: self.how.clone() }
    }
}

impl ClientConfig {
    fn make(&self) -> Result<reqwest::Client, ClientError> {
        reqwest::Client::builder()
            .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
            // A redirect followed would carry personal data and a signature to an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            // A little less than the attempt has, so that of the two the one that proves "not sent" ends first.
            .connect_timeout((self.timeout / 10 * 9).min(MAX_CONNECT))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.max_in_flight)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .tls_certs_merge(self.authorities.certificates())
            .build()
            .map_err(|error| ClientError(format!("the HTTP client cannot be set up: {}", root(&error))))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, watch};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Keeps each connection and answers once the gate is open; tells of each connection, and of each request.
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
        pool.made.lock().unwrap().at -= LIFE;
    }

    #[tokio::test]
    async fn connections_are_made_anew_after_a_while_and_not_before() {
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
    async fn what_is_under_way_when_connections_are_made_anew_ends_on_its_old_one() {
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

    #[tokio::test]
    async fn a_shared_pool_is_as_old_as_the_first() {
        let pool = pool();
        age(&pool);
        assert_eq!(pool.shared().made.lock().unwrap().at, pool.made.lock().unwrap().at);
    }
}
