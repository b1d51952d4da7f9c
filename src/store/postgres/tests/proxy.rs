//! A proxy between the store and the server that can cut the connection at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The fate of the next COMMIT, or of the next group.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Cut {
    /// It arrives and gets its response.
    Never,
    /// It arrives, but the connection is cut before its response.
    AfterCommit,
    /// The connection is cut before it arrives.
    BeforeCommit,
    /// The beginning of a group arrives; then the store's connection is cut, and the server's is not, whose transaction
    /// stays open.
    AfterBegin,
}

/// A proxy to a server; cuts a connection at most once per [`Proxy::arm`].
pub(super) struct Proxy {
    url: String,
    cut: Arc<AtomicU8>,
    sent: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy to the server at this address.
    pub(super) async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (before, rest) = url.split_once('@').unwrap();
        let (server, after) = rest.split_once('/').unwrap();
        let url = format!("{before}@{}/{after}", listener.local_addr().unwrap());
        let (server, cut) = (server.to_owned(), Arc::new(AtomicU8::new(Cut::Never as u8)));
        let (armed, sent) = (Arc::clone(&cut), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&sent);
        let refuses = Arc::<AtomicBool>::default();
        let shared = Arc::clone(&refuses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&armed), Arc::clone(&counted)));
            }
        });
        Self { url, cut, sent, refuses }
    }

    /// Returns the address of the proxy.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns how often something was sent to the server, which then responds.
    pub(super) fn round_trips(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Refuses new connections from now on, or accepts them again.
    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Cuts the connection at the next COMMIT, or at the beginning of the next group.
    pub(super) fn arm(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Returns whether it has cut a connection since.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

async fn carry(client: TcpStream, server: TcpStream, armed: Arc<AtomicU8>, sent: Arc<AtomicUsize>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
        let message = &bytes[..read];
        sent.fetch_add(1, Ordering::SeqCst);
        let is_begin = message.windows(6).any(|part| part == b"BEGIN;");
        if is_begin && armed.load(Ordering::SeqCst) == Cut::AfterBegin as u8 {
            armed.store(Cut::Never as u8, Ordering::SeqCst);
            back.abort();
            drop((back.await, from_client));
            to_server.write_all(message).await.unwrap();
            return std::future::pending().await;
        }
        if message.windows(6).any(|part| part == b"COMMIT") && armed.load(Ordering::SeqCst) != Cut::AfterBegin as u8 {
            let cut = armed.swap(Cut::Never as u8, Ordering::SeqCst);
            if cut == Cut::BeforeCommit as u8 {
                break;
            }
            if cut == Cut::AfterCommit as u8 {
                // Stop forwarding responses from here on.
                back.abort();
                drop(back.await);
                to_server.write_all(message).await.unwrap();
                // The server closes only after it has executed the COMMIT.
                to_server.shutdown().await.unwrap();
                return;
            }
        }
        if to_server.write_all(message).await.is_err() {
            break;
        }
    }
    back.abort();
}
