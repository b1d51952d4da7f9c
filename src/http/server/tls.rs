//! The layer between a listener's connections and HTTP: plain TCP or TLS.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tokio_util::either::Either;

use crate::http::server::io::StallTracker;

/// A listener's TLS configuration, certificate included; clones share it.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Uses this configuration.
    #[must_use]
    pub fn new(server: Arc<ServerConfig>) -> Self {
        Self(Arc::new(ArcSwap::new(server)))
    }

    /// Replaces the configuration for new connections; existing ones keep theirs.
    pub fn replace(&self, server: Arc<ServerConfig>) {
        self.0.store(server);
    }

    /// Starts the handshake with a caller.
    pub(in crate::http) fn accept(&self, stream: StallTracker<TcpStream>) -> Accept<StallTracker<TcpStream>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream)
    }
}

/// A connection that can carry HTTP: plain or, boxed for its buffers and keys, TLS.
pub(in crate::http) type MaybeTls = Either<StallTracker<TcpStream>, Box<TlsStream<StallTracker<TcpStream>>>>;
