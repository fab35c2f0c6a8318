//! A connection that ends when the client takes too little for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// What a client takes at least within the wait, while there is more for it. What it does not take is kept in memory.
const LEAST_BYTES: usize = 256 * 1024;

/// A stream whose writes make so much progress within a time, or fail.
#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    wait: Duration,
    /// Runs from the first write that waits.
    timer: Pin<Box<Sleep>>,
    /// What was taken since then; `None` while no write waits.
    taken: Option<usize>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, wait: Duration) -> Self {
        Self { stream, wait, timer: Box::pin(sleep(wait)), taken: None }
    }

    /// The result of a write, or that the client takes too little.
    fn within(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(more)) = written {
            // Enough of it begins the time anew.
            self.taken = self.taken.map(|taken| taken + more).filter(|taken| *taken < LEAST_BYTES);
        }
        if written.is_ready() {
            return written;
        }
        if self.taken.is_none() {
            self.taken = Some(0);
            self.timer.as_mut().reset(Instant::now() + self.wait);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.within(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.within(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for when all that there was has been taken.
        self.taken = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
