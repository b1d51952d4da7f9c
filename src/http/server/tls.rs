//! The layer between a listener's connections and HTTP: plain TCP or TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

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

/// A connection that can carry HTTP.
pub(in crate::http) enum MaybeTls {
    Plain(StallTracker<TcpStream>),
    // Boxed: its buffers and keys would make the plain variant as large.
    Tls(Box<TlsStream<StallTracker<TcpStream>>>),
}

macro_rules! on_either {
    ($line:expr, $stream:ident => $call:expr) => {
        match $line.get_mut() {
            MaybeTls::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            MaybeTls::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for MaybeTls {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for MaybeTls {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
