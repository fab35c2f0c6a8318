//! The listener: bounded connections, a deadline for each request's head, an orderly end.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::quota::Caller;

/// What strangers may take of the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; over it they are closed at once instead of being left to wait.
    pub(super) connections: usize,
    /// From the connection, or the answer before, to the end of a request's head.
    pub(super) head_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1_024, head_wait: Duration::from_secs(10) }
    }
}

/// The most bytes of a request's line and headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Wait after an error of the listener: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then until the requests in progress are answered.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop_requested(&mut stopped) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                let app = app.clone().layer(Extension(Caller(peer.ip())));
                let serving = connection(stream, app, limits.head_wait, stopped.clone());
                open.spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "JSON-RPC cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Resolves when the node has to stop, or was dropped.
async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn connection(
    stream: TcpStream,
    app: Router,
    head_wait: Duration,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_wait)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    async move {
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop_requested(&mut stopped) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "JSON-RPC connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HEAD_WAIT: Duration = Duration::from_millis(200);

    async fn start(connections: usize) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let app = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(serve(listener, app, Limits { connections, head_wait: HEAD_WAIT }, stopped));
        (address, stop)
    }

    async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
        let _ = reading.await.expect("the node closes the connection");
        answer
    }

    #[tokio::test]
    async fn who_never_ends_a_head_is_cut_off() {
        let (address, _stop) = start(4).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let began = Instant::now();
        assert_eq!(until_closed(&mut stream).await, b"");
        assert!(began.elapsed() >= HEAD_WAIT / 2);
    }

    #[tokio::test]
    async fn connections_are_bounded_and_come_free() {
        let (address, _stop) = start(1).await;
        let ask = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let _ = second.write_all(ask).await;
        assert_eq!(until_closed(&mut second).await, b"", "no slot is left");
        until_closed(&mut idle).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(ask).await.unwrap();
        assert!(until_closed(&mut third).await.ends_with(b"here"));
    }
}
