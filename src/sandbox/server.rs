//! Accepts connections, reads requests, and ends exchanges in ways no well-behaved server would.
//!
//! hyper implements HTTP; what hyper rightly refuses to do (a reset, a body shorter than announced, bytes that are not
//! HTTP) is written directly to its socket. A call runs to its end even if its caller has hung up.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Incoming, rt::ReadBufCursor, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::sandbox::http_types::{Answer, Body, Call, End, Reply};
use crate::sandbox::simulator::Simulator;

/// Maximum size of a request body in bytes; larger ones get 413.
const BODY_LIMIT: usize = 16 << 20;
/// How long open calls may take to finish when the sandbox stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Shutdown handle for one port or all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct ShutdownHandle {
    /// Cancelled when no new connections or requests are accepted.
    closing: CancellationToken,
    /// Cancelled when everything ends at once.
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl ShutdownHandle {
    /// Stops gracefully: open calls get a limited time to finish.
    pub(super) async fn stop(&self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            self.ended.cancel();
            self.tasks.wait().await;
        }
    }

    /// Ends everything without waiting.
    pub(super) fn end(&self) {
        self.closing.cancel();
        self.ended.cancel();
    }

    /// Spawns a task that ends when everything ends.
    fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<Option<T>> {
        let ended = self.ended.clone();
        self.tasks.spawn(async move { ended.run_until_cancelled(task).await })
    }
}

/// Accepts connections for one vendor in the background until stopped.
pub(super) fn serve(listener: TcpListener, desk: Arc<Simulator>, stopper: &ShutdownHandle) {
    let own = stopper.clone();
    stopper.run(async move {
        while let Some(accepted) = own.closing.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => connection(stream, &desk, &own),
                // Most likely out of file descriptors; retrying at once would only spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
}

fn connection(stream: TcpStream, desk: &Arc<Simulator>, stopper: &ShutdownHandle) {
    // Without it, a response in two segments waits for the peer's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let socket = Arc::new(stream);
    let (desk, own) = (desk.clone(), stopper.clone());
    stopper.run(async move {
        let io = Io(socket.clone());
        let service = service_fn(|request| exchange(desk.clone(), own.clone(), socket.clone(), request));
        let mut served = std::pin::pin!(http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service));
        tokio::select! {
            // Failing connections are this sandbox's purpose; the call log records what happened.
            _ = served.as_mut() => {}
            () = own.closing.cancelled() => {
                served.as_mut().graceful_shutdown();
                let _ = served.await;
            }
        }
    });
}

/// The error that ends a connection on purpose.
#[derive(Debug, thiserror::Error)]
#[error("connection ended on purpose")]
struct Ended;

async fn exchange(
    desk: Arc<Simulator>,
    stopper: ShutdownHandle,
    socket: Arc<TcpStream>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Ended> {
    let reply = match read(request).await {
        // Spawned as a task, since hyper drops this future as soon as the caller hangs up.
        Ok(call) => stopper.run(async move { desk.handle(call).await }).await.ok().flatten().ok_or(Ended)?,
        Err(reply) => reply.ok_or(Ended)?,
    };
    match reply {
        Reply::Answer { status, headers, body } => response(status, &headers, body).map_err(|_| Ended),
        Reply::Raw { bytes, pace, end } => {
            write(&socket, &bytes, pace).await.map_err(|_| Ended)?;
            if end == End::Reset {
                socket.set_zero_linger().map_err(|_| Ended)?;
            }
            Err(Ended)
        }
    }
}

async fn read(request: Request<Incoming>) -> Result<Call, Option<Reply>> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), value.as_bytes().iter().copied().map(char::from).collect::<String>())
    });
    let headers = headers.collect();
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Some(too_large()));
        }
        Err(_) => return Err(None),
    };
    Ok(Call {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers,
        body,
    })
}

fn too_large() -> Reply {
    let body = Body::Text("the sandbox accepts bodies of up to 16 MiB\n".to_owned());
    let answer = Answer::new(413, "text/plain; charset=utf-8", body);
    let bytes = answer.body.to_bytes();
    Reply::Raw { bytes: answer.to_http(&bytes, bytes.len()), pace: None, end: End::Close }
}

fn response(
    status: u16,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<Response<Full<Bytes>>, http::Error> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(Full::new(body.into()))
}

async fn write(socket: &TcpStream, bytes: &[u8], pace: Option<(usize, Duration)>) -> io::Result<()> {
    let (step, interval) = pace.unwrap_or((usize::MAX, Duration::ZERO));
    for (index, chunk) in bytes.chunks(step).enumerate() {
        if index > 0 {
            tokio::time::sleep(interval).await;
        }
        write_all(socket, chunk).await?;
    }
    Ok(())
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A socket shared between hyper and the exchange.
struct Io(Arc<TcpStream>);

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper's cursor offers uninitialised memory, which safe code cannot pass to the socket.
        let mut chunk = [0; 16 << 10];
        let room = buffer.remaining().min(chunk.len());
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(&mut chunk[..room]) {
                Ok(read) => {
                    buffer.put_slice(&chunk[..read]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket closes when its last handle is dropped, which follows at once.
        Poll::Ready(Ok(()))
    }
}
