//! The accept loop. `axum::serve` has no time-out for headers, no bound on connections and leaves Nagle's algorithm on, so
//! that a few slow callers could hold the gateway; this one has all three.

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

use crate::http::server::connection_limit::{ConnectionLimiter, ConnectionSlot, ListenerOptions};
use crate::http::server::connection_state::{ConnectionState, HEADER_TIME, TimeoutAction};
use crate::http::server::io::{ChunkedBody, ReadTracker, RequestGuard, StallTracker};
use crate::http::server::shutdown::{ShutdownHandle, ShutdownSignal};
use crate::http::server::tls::MaybeTls;
use crate::telemetry::metrics;

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Longest headers of a request, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Most of an answer that is kept for a caller of HTTP/2 that does not take it, a request.
const MAX_WAITING: usize = 64 * 1024;
/// Most connections taken from the kernel's queue when the listener closes: more than it can hold.
const LAST: usize = 4096;

/// Serves until `ending` says so; after that takes no connection, lets requests under way take at most their grace, and
/// drops what is left.
pub async fn serve(listener: TcpListener, router: Router, keeping: ListenerOptions, ending: ShutdownHandle) {
    let stopping = ShutdownSignal::default();
    let router = router.layer(Extension(stopping.clone()));
    let house = Arc::new(ConnectionLimiter::new(keeping));
    let mut hall = Acceptor { builder: builder(), router, house, ending: ending.clone(), connections: JoinSet::new() };
    let mut left = false;
    loop {
        tokio::select! {
            () = ending.closed() => break,
            () = ending.left(), if !left => {
                left = true;
                hall.house.each(ConnectionState::close_if_announced);
            }
            Some(_) = hall.connections.join_next() => {}
            stream = accept(&listener) => hall.receive(stream),
        }
    }
    // Whoever was let in by the kernel already would otherwise be reset.
    for stream in (0..LAST).map_while(|_| accept(&listener).now_or_never()) {
        hall.receive(stream);
    }
    drop(listener);
    stopping.begin();
    hall.house.each(ConnectionState::close);
    let mut connections = hall.connections;
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
        tracing::warn!(connections = connections.len(), "requests under way were dropped at the end of the grace");
    }
    connections.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Pulse` has times of its own for the headers and for what is idle.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_LIST_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_streams(100)
        .max_send_buf_size(MAX_WAITING)
        // Also bounds headers that drip in: no answer to a ping may come between their frames.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEADER_TIME);
    builder
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and written whole: waiting for more would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "connection ended before it began");
                    continue;
                }
                return stream;
            }
            // Out of file descriptors, most likely: without a pause this would spin until some are closed.
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Where connections are served.
struct Acceptor {
    builder: Builder<TokioExecutor>,
    router: Router,
    house: Arc<ConnectionLimiter>,
    ending: ShutdownHandle,
    connections: JoinSet<()>,
}

impl Acceptor {
    fn receive(&mut self, stream: TcpStream) {
        let pulse = Arc::new(ConnectionState::new());
        match self.house.room(&pulse) {
            Some(room) => self.serve(stream, pulse, room),
            None => self.house.refuse(stream),
        }
    }

    fn serve(&mut self, stream: TcpStream, pulse: Arc<ConnectionState>, room: ConnectionSlot) {
        let (served, ending, of_requests) =
            (TowerToHyperService::new(self.router.clone()), self.ending.clone(), Arc::clone(&pulse));
        let service = service_fn(move |request: Request<Incoming>| {
            let http2 = request.version() == Version::HTTP_2;
            let under_way = RequestGuard::new(Arc::clone(&of_requests), http2);
            let (answer, ending, pulse) = (served.call(request), ending.clone(), Arc::clone(&of_requests));
            async move {
                let Ok(response) = answer.await;
                let response = response.map(|body| ChunkedBody::new(body, under_way));
                Ok::<_, Infallible>(if ending.is_leaving() {
                    announce_close(response, &pulse, http2)
                } else {
                    response
                })
            }
        });
        let (builder, keep_alive) = (self.builder.clone(), self.house.keep_alive());
        let stream = StallTracker::new(stream, Arc::clone(&pulse));
        let tls = self.house.tls().cloned();
        self.connections.spawn(async move {
            let _room = room;
            let line = match tls {
                None => MaybeTls::Plain(stream),
                Some(tls) => match tls_handshake(Box::pin(tls.accept(stream)), &pulse, keep_alive).await {
                    Some(line) => line,
                    None => return,
                },
            };
            let io = TokioIo::new(ReadTracker::new(line, Arc::clone(&pulse)));
            // Boxed: the task would otherwise have room for it twice, as its argument and where it stays.
            let connection = Box::pin(builder.serve_connection(io, service).into_owned());
            let close = |connection: &mut Pin<Box<Connection<_>>>| connection.as_mut().graceful_shutdown();
            let ended = drive(connection, close, &pulse, keep_alive).await;
            if let Err(reason) = ended.and_then(|ended| ended.map_err(|error| error.to_string())) {
                // A caller that went away or was too slow: nothing anybody has to act on.
                tracing::debug!(reason, "connection ended");
            }
        });
    }
}

/// The caller is told not to come again on this connection.
fn announce_close(mut response: Response<ChunkedBody>, pulse: &ConnectionState, http2: bool) -> Response<ChunkedBody> {
    if http2 {
        pulse.close_if_announced();
    } else {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

type Connection<S> =
    hyper_util::server::conn::auto::Connection<'static, TokioIo<ReadTracker<MaybeTls>>, S, TokioExecutor>;

/// The connection once TLS is agreed on; `None` where it was not. Its time is a part of what the first request has.
async fn tls_handshake(
    handshake: Pin<Box<Accept<StallTracker<TcpStream>>>>,
    pulse: &ConnectionState,
    keep_alive: Duration,
) -> Option<MaybeTls> {
    let ended = drive(handshake, |_| {}, pulse, keep_alive).await;
    let reason = match ended {
        Ok(Ok(stream)) => return Some(MaybeTls::Tls(Box::new(stream))),
        Ok(Err(error)) => error.to_string(),
        Err(reason) => reason,
    };
    metrics::handshake_failed();
    tracing::debug!(reason, "TLS was not agreed on");
    None
}

/// Drives a connection, or its beginning, to an end, which comes by itself or when its pulse says so. Whoever has to go is
/// told by `close`, if there is time for it.
async fn drive<C: Future + Unpin>(
    mut connection: C,
    close: impl Fn(&mut C),
    pulse: &ConnectionState,
    keep_alive: Duration,
) -> Result<C::Output, String> {
    let mut woken = pin!(pulse.woken.notified());
    let mut heard = false;
    let mut alarm = pin!(sleep_until(Instant::now() + HEADER_TIME));
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(Ok(ended));
            }
            heard = heard || woken.as_mut().poll(context).is_ready();
            match pulse.action(keep_alive) {
                TimeoutAction::GracefulClose => close(&mut connection),
                TimeoutAction::Abort(reason) => return Poll::Ready(Err(reason.to_owned())),
                TimeoutAction::Wait(until) => {
                    // Later is told when it rings: it would have to be set with every request otherwise.
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
