//! A connection that does not wait for ever: for its first bytes, nor for a caller that does not read its answer.
//!
//! hyper counts the time of headers only once it knows the protocol, and never that of a write.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes by which the protocol is known (the HTTP/2 preface, RFC 9113 §3.4).
const OPENING: usize = 24;
/// How long the first bytes may take.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// How long a write may make no progress.
const STALL_TIME: Duration = Duration::from_secs(15);

/// The guarded stream.
pub(super) struct Guarded<S> {
    inner: S,
    read: usize,
    opening: Pin<Box<Sleep>>,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S) -> Self {
        let (opening, stall) = (Box::pin(sleep(OPENING_TIME)), Box::pin(sleep(STALL_TIME)));
        Self { inner, read: 0, opening, stall, stalled: false }
    }

    /// Passes the result of a write on, or gives up when writes have made no progress for too long.
    fn progress<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = false;
            return result;
        }
        if !self.stalled {
            self.stalled = true;
            self.stall.as_mut().reset(Instant::now() + STALL_TIME);
        }
        self.stall.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.read = self.read.saturating_add(buffer.filled().len() - before);
        if result.is_pending() && self.read < OPENING {
            return self.opening.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.progress(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.progress(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.progress(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.progress(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_at_the_beginning_ends_the_connection() {
        let (mut caller, ours) = duplex(64);
        caller.write_all(b"P").await.unwrap();
        let mut ours = Guarded::new(ours);
        let mut buffer = [0; 32];
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(ours.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_later_is_left_to_the_protocol() {
        let (mut caller, ours) = duplex(64);
        caller.write_all(&[b'x'; OPENING]).await.unwrap();
        let mut ours = Guarded::new(ours);
        let mut buffer = [0; OPENING];
        ours.read_exact(&mut buffer).await.unwrap();
        let waited = tokio::time::timeout(OPENING_TIME * 10, ours.read(&mut buffer)).await;
        assert!(waited.is_err(), "still open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_does_not_read_is_dropped() {
        let (_caller, ours) = duplex(64);
        let mut ours = Guarded::new(ours);
        assert_eq!(ours.write_all(&[0; 1000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
