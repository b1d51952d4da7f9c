//! Tracks a connection's traffic in its [`ConnectionState`]: writes that stall, and responses that wait for their caller.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::server::connection_state::ConnectionState;

/// The connection's stream as the network sees it; tracks stalled writes. TLS buffers much before it reports that
/// nothing is being sent.
pub(in crate::http) struct StallTracker<S> {
    inner: S,
    state: Arc<ConnectionState>,
}

impl<S> StallTracker<S> {
    pub(in crate::http) fn new(inner: S, state: Arc<ConnectionState>) -> Self {
        Self { inner, state }
    }

    fn written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.state.on_write(result.is_ready());
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallTracker<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallTracker<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Marks a request as in flight until dropped.
pub(in crate::http) struct RequestGuard {
    state: Arc<ConnectionState>,
    offered: bool,
}

impl RequestGuard {
    pub(in crate::http) fn new(state: Arc<ConnectionState>, http2: bool) -> Self {
        state.on_request(http2);
        Self { state, offered: false }
    }

    /// Records whether the response is waiting for the caller or for the gateway.
    fn offer(&mut self, offered: bool) {
        match (self.offered, offered) {
            (false, true) => self.state.on_body_ready(),
            (true, false) => self.state.on_body_taken(),
            _ => {}
        }
        self.offered = offered;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.offer(false);
        self.state.on_response_end();
    }
}

/// Maximum size of a chunk handed to hyper at once.
const MAX_CHUNK: usize = 16 * 1024;

/// A response body; its request counts as in flight until the last chunk has been handed over.
///
/// Splits the body into chunks: hyper takes whatever it is given before it checks whether an HTTP/2 caller has window
/// for it, so a long response would count as finished, and stay buffered, while its caller reads nothing.
pub(in crate::http) struct ChunkedBody {
    body: Body,
    /// The rest of the last chunk, not yet handed over.
    rest: Bytes,
    request: RequestGuard,
}

impl ChunkedBody {
    pub(in crate::http) fn new(body: Body, mut request: RequestGuard) -> Self {
        request.offer(true);
        Self { body, rest: Bytes::new(), request }
    }

    /// Returns the first chunk and keeps the rest.
    fn first_of(&mut self, mut data: Bytes) -> Bytes {
        let first = data.split_to(data.len().min(MAX_CHUNK));
        self.rest = data;
        first
    }
}

impl http_body::Body for ChunkedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // hyper polls for more only when the caller has room for it.
        self.request.offer(false);
        let frame = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(context)
        } else {
            let rest = std::mem::take(&mut self.rest);
            Poll::Ready(Some(Ok(Frame::data(rest))))
        };
        let frame = frame.map_ok(|frame| match frame.into_data() {
            Ok(data) => Frame::data(self.first_of(data)),
            Err(other) => other,
        });
        if matches!(frame, Poll::Ready(Some(_))) {
            self.request.offer(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body::Body as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::advance;

    use super::*;
    use crate::http::server::connection_state::{STALL_TIMEOUT, TimeoutAction};

    fn cut(state: &ConnectionState) -> bool {
        matches!(state.action(Duration::from_secs(75)), TimeoutAction::Abort(_))
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_and_resumed_writes_are_tracked() {
        let (mut caller, ours) = duplex(64);
        let state = Arc::new(ConnectionState::new());
        state.on_request(false);
        let mut ours = StallTracker::new(ours, Arc::clone(&state));
        let writing = tokio::spawn(async move { ours.write_all(&[0; 100]).await });
        tokio::task::yield_now().await;
        advance(STALL_TIMEOUT).await;
        assert!(cut(&state));
        caller.read_exact(&mut [0; 100]).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(!cut(&state));
    }

    #[tokio::test]
    async fn long_response_is_chunked_and_complete() {
        use http_body_util::BodyExt as _;
        let long: Bytes = (0..=MAX_CHUNK * 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut answer =
            ChunkedBody::new(Body::from(long.clone()), RequestGuard::new(Arc::new(ConnectionState::new()), false));
        let (mut pieces, mut whole) = (0, Vec::new());
        while !answer.is_end_stream() {
            let left = (long.len() - whole.len()) as u64;
            assert_eq!(answer.size_hint().exact(), Some(left));
            whole.extend(answer.frame().await.unwrap().unwrap().into_data().unwrap());
            pieces += 1;
        }
        assert_eq!((whole, pieces), (long.to_vec(), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn response_waits_for_the_caller_until_it_polls_for_more() {
        let state = Arc::new(ConnectionState::new());
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("a")]);
        let pieces = futures_util::StreamExt::chain(pieces, futures_util::stream::pending());
        let mut answer = ChunkedBody::new(Body::from_stream(pieces), RequestGuard::new(Arc::clone(&state), true));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut answer).poll_frame(&mut context).is_ready());
        advance(STALL_TIMEOUT).await;
        assert!(cut(&state), "a chunk was handed over, and the caller polled for no more");
        assert!(Pin::new(&mut answer).poll_frame(&mut context).is_pending());
        assert!(!cut(&state), "the gateway has no data yet");
        drop(answer);
        assert!(state.idle_since().is_some());
    }
}
