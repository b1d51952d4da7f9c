//! The HTTP client with its pooled connections, renewed now and then.
//!
//! A connection that is in use all the time would stay at the address its host name once had. So the pool is given up after
//! a while: what is under way ends on the old one, whatever begins afterwards resolves the name anew.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::root;
use super::client::ClientError;

/// How long an idle connection is kept: below what vendors keep (IIS: 120 s), or one would be used in the moment they close
/// it.
const IDLE: Duration = Duration::from_secs(20);
/// Longest wait for a connection, however long an attempt may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// How long one pool is used.
const LIFE: Duration = Duration::from_mins(5);

/// The connections to one vendor.
pub(super) struct Pool {
    made: Mutex<Made>,
    how: How,
}

#[derive(Clone, Copy)]
struct How {
    timeout: Duration,
    max_in_flight: usize,
}

struct Made {
    client: reqwest::Client,
    at: Instant,
}

impl Pool {
    /// A pool for attempts of at most this long, with as many idle connections as there may be calls.
    pub(super) fn new(timeout: Duration, max_in_flight: usize) -> Result<Self, ClientError> {
        let how = How { timeout, max_in_flight };
        Ok(Self { made: Mutex::new(Made { client: how.make()?, at: Instant::now() }), how })
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
        Self { made: Mutex::new(Made { client: made.client.clone(), at: made.at }), how: self.how }
    }
}

impl How {
    fn make(self) -> Result<reqwest::Client, ClientError> {
        reqwest::Client::builder()
            .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
            // A redirect followed would carry personal data and a signature to an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            // A little less than the attempt has, so that of the two the one that proves "not sent" ends first.
            .connect_timeout((self.timeout / 10 * 9).min(LONGEST_CONNECT))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.max_in_flight)
            .build()
            .map_err(|error| ClientError(format!("the HTTP client cannot be set up: {}", root(&error))))
    }
}
