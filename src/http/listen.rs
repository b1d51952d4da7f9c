//! The accept loop. `axum::serve` has no time-out for headers, no bound on connections and leaves Nagle's algorithm on, so
//! that a few slow callers could hold the gateway; this one has all three.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stopping::Stopping;
use super::stream::Guarded;

/// Connections at once; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 10_000;
/// How long a request's headers may take.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Most headers of a request.
const MOST_HEADERS: usize = 100;
/// Longest headers of a request, in bytes.
const LONGEST_HEADERS: u32 = 64 * 1024;

/// Serves until `shutdown` ends; after that takes no connection, lets requests under way take at most `grace`, and drops
/// what is left.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>, grace: Duration) {
    let builder = builder();
    let stopping = Stopping::default();
    let router = router.layer(Extension(stopping.clone()));
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(Guarded::new(stream)), service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A caller that went away or was too slow: nothing anybody has to act on.
            if let Err(error) = connection.await {
                tracing::debug!(error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    stopping.begin();
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests under way were dropped at the end of the grace");
    }
    connections.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEADERS as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(LONGEST_HEADERS)
        .max_concurrent_streams(100)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEADER_TIME);
    builder
}

/// The next connection, as soon as there is room for one.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a permit in the end.
    let permit = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and written whole: waiting for more would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "connection ended before it began");
                    continue;
                }
                return (stream, permit);
            }
            // Out of file descriptors, most likely: without a pause this would spin until some are closed.
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
