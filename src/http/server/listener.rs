//! The accept loop. `axum::serve` has no timeout for headers, no limit on connections and leaves Nagle's algorithm on,
//! so a few slow callers could block the gateway; this loop fixes all three.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use futures_util::FutureExt as _;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::Accept;
use tokio_util::io::InspectReader;

use crate::http::server::connection_limit::{ConnectionLimiter, ConnectionSlot, ListenerOptions};
use crate::http::server::connection_state::{ConnectionState, HEADER_TIMEOUT, TimeoutAction};
use crate::http::server::io::{ChunkedBody, RequestGuard, StallTracker};
use crate::http::server::peer::PeerAddress;
use crate::http::server::shutdown::{ShutdownHandle, ShutdownSignal};
use crate::http::server::tls::MaybeTls;
use crate::telemetry::metrics;

/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 100;
/// Maximum size of a request's headers, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Maximum number of bytes buffered per HTTP/2 request for a caller that does not read its response.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Maximum number of connections accepted from the kernel's backlog when the listener closes: more than it can hold.
const LAST: usize = 4096;

/// Serves until `ending` closes the listener; then accepts no more connections, gives requests in flight their grace
/// period, and drops the rest.
pub async fn serve(listener: TcpListener, router: Router, options: ListenerOptions, ending: ShutdownHandle) {
    let stopping = ShutdownSignal::default();
    let router = router.layer(Extension(stopping.clone()));
    let limiter = Arc::new(ConnectionLimiter::new(options));
    let mut acceptor =
        Acceptor { builder: builder(), router, limiter, ending: ending.clone(), connections: JoinSet::new() };
    let mut left = false;
    loop {
        tokio::select! {
            () = ending.wait_closed() => break,
            () = ending.wait_announced(), if !left => {
                left = true;
                acceptor.limiter.each(ConnectionState::close_if_announced);
            }
            Some(_) = acceptor.connections.join_next() => {}
            (stream, peer) = accept(&listener) => acceptor.receive(stream, peer),
        }
    }
    // Accept connections already in the kernel's backlog; otherwise they would be reset.
    for (stream, peer) in (0..LAST).map_while(|_| accept(&listener).now_or_never()) {
        acceptor.receive(stream, peer);
    }
    drop(listener);
    stopping.begin();
    acceptor.limiter.each(ConnectionState::close);
    let mut connections = acceptor.connections;
    let all = async { while connections.join_next().await.is_some() {} };
    let hurried = async {
        sleep(ending.grace() * 3 / 4).await;
        stopping.end_waits();
        std::future::pending::<()>().await;
    };
    let ended = timeout(ending.grace(), async {
        tokio::select! {
            () = all => {}
            () = hurried => {}
        }
    });
    if ended.await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight were dropped after the grace period");
    }
    connections.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `ConnectionState` has its own timeouts for headers and for idle connections.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_LIST_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_streams(100)
        .max_send_buf_size(MAX_SEND_BUFFER)
        // Also bounds headers that trickle in: no response to a ping may come between their frames.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEADER_TIMEOUT);
    builder
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, PeerAddress) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Responses are small and written whole: Nagle's algorithm would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "connection closed before it could be served");
                    continue;
                }
                return (stream, PeerAddress(peer.ip()));
            }
            // Most likely out of file descriptors: without a pause the loop would spin until some are closed.
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves accepted connections.
struct Acceptor {
    builder: Builder<TokioExecutor>,
    router: Router,
    limiter: Arc<ConnectionLimiter>,
    ending: ShutdownHandle,
    connections: JoinSet<()>,
}

impl Acceptor {
    fn receive(&mut self, stream: TcpStream, peer: PeerAddress) {
        let state = Arc::new(ConnectionState::new());
        match self.limiter.take_slot(&state) {
            Some(slot) => self.serve((stream, peer), state, slot),
            None => self.limiter.reject(stream),
        }
    }

    fn serve(&mut self, (stream, peer): (TcpStream, PeerAddress), state: Arc<ConnectionState>, slot: ConnectionSlot) {
        let (served, ending, request_state) =
            (TowerToHyperService::new(self.router.clone()), self.ending.clone(), Arc::clone(&state));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let http2 = request.version() == Version::HTTP_2;
            let guard = RequestGuard::new(Arc::clone(&request_state), http2);
            let (response, ending, state) = (served.call(request), ending.clone(), Arc::clone(&request_state));
            async move {
                let Ok(response) = response.await;
                let response = response.map(|body| ChunkedBody::new(body, guard));
                Ok::<_, Infallible>(if ending.is_leaving() {
                    announce_close(response, &state, http2)
                } else {
                    response
                })
            }
        });
        let (builder, keep_alive) = (self.builder.clone(), self.limiter.keep_alive());
        let stream = StallTracker::new(stream, Arc::clone(&state));
        let tls = self.limiter.tls().cloned();
        self.connections.spawn(async move {
            let _slot = slot;
            let stream = match tls {
                None => MaybeTls::Left(stream),
                Some(tls) => match tls_handshake(Box::pin(tls.accept(stream)), &state, keep_alive).await {
                    Some(stream) => stream,
                    None => return,
                },
            };
            let read_state = Arc::clone(&state);
            // Above TLS, whose own bytes do not count. At its end a stream yields no bytes.
            let io = TokioIo::new(InspectReader::new(stream, move |bytes| {
                if !bytes.is_empty() {
                    read_state.on_read();
                }
            }));
            // Boxed: otherwise the task reserves space for it twice, as its argument and in its own state.
            let connection = Box::pin(builder.serve_connection(io, service).into_owned());
            let close = |connection: &mut Pin<Box<Connection<_, _>>>| connection.as_mut().graceful_shutdown();
            let ended = drive(connection, close, &state, keep_alive).await;
            if let Err(reason) = ended.and_then(|ended| ended.map_err(|error| error.to_string())) {
                // The caller disconnected or was too slow: no one needs to act.
                tracing::debug!(reason, "connection ended");
            }
        });
    }
}

/// Asks the caller not to reuse this connection.
fn announce_close(mut response: Response<ChunkedBody>, state: &ConnectionState, http2: bool) -> Response<ChunkedBody> {
    if http2 {
        state.close_if_announced();
    } else {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

type Connection<I, S> = hyper_util::server::conn::auto::Connection<'static, I, S, TokioExecutor>;

/// Completes the TLS handshake; returns `None` if it fails. Its time counts towards the time limit of the first
/// request.
async fn tls_handshake(
    handshake: Pin<Box<Accept<StallTracker<TcpStream>>>>,
    state: &ConnectionState,
    keep_alive: Duration,
) -> Option<MaybeTls> {
    let ended = drive(handshake, |_| {}, state, keep_alive).await;
    let reason = match ended {
        Ok(Ok(stream)) => return Some(MaybeTls::Right(Box::new(stream))),
        Ok(Err(error)) => error.to_string(),
        Err(reason) => reason,
    };
    metrics::handshake_failed();
    tracing::debug!(reason, "TLS handshake failed");
    None
}

/// Drives a connection or its handshake until it ends or a timeout of its state ends it. Calls `close` first if the
/// state allows a graceful close.
async fn drive<C: Future + Unpin>(
    mut connection: C,
    close: impl Fn(&mut C),
    state: &ConnectionState,
    keep_alive: Duration,
) -> Result<C::Output, String> {
    let mut woken = pin!(state.woken.notified());
    let mut heard = false;
    let mut alarm = pin!(sleep_until(Instant::now() + HEADER_TIMEOUT));
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(Ok(ended));
            }
            heard = heard || woken.as_mut().poll(context).is_ready();
            match state.action(keep_alive) {
                TimeoutAction::GracefulClose => close(&mut connection),
                TimeoutAction::Abort(reason) => return Poll::Ready(Err(reason.to_owned())),
                TimeoutAction::Wait(until) => {
                    // A later deadline is set when the timer fires; otherwise every request would have to reset it.
                    if until < alarm.deadline() || alarm.is_elapsed() {
                        alarm.as_mut().reset(until);
                    }
                    if alarm.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}
