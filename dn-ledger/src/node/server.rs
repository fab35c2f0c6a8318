//! The listener: bounded connections in all, for each address and for each site, deadlines for what a client sends and reads, an orderly end.

mod patient;
mod places;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use patient::Patient;
pub use places::NoPlace;
pub(super) use places::{Place, Places};

use super::quota::Caller;
use super::rpc::CODE_BUSY;

/// What strangers may take of a node's service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Connections at once; over it they are refused at once instead of being left to wait. Programs on the same machine are never refused
    /// the last eighth of them, and nobody else gets it.
    pub connections: usize,
    /// Connections at once of one address, or of one IPv6 network of a customer (/64); a site of many such networks (/48) has four times as
    /// many. Programs on the same machine are not counted.
    pub connections_per_address: usize,
    /// From the connection, or the answer before, to the end of a request's head.
    pub head_wait: Duration,
    /// In so long a client takes 256 KiB of what it is sent, or all that there is.
    pub read_wait: Duration,
    /// Bytes of answers, of all clients together, that are not taken yet; an answer that would be more is refused.
    pub answer_bytes: usize,
}

impl Default for ServiceLimits {
    /// 1,024 connections, 64 of them of one address; ten and thirty seconds; 256 MiB.
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_address: 64,
            head_wait: Duration::from_secs(10),
            read_wait: Duration::from_secs(30),
            answer_bytes: 256 * 1024 * 1024,
        }
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
    limits: ServiceLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Places::new(limits.connections, limits.connections_per_address));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop_requested(&mut stopped) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = match places.take(peer.ip()) {
                    Ok(place) => place,
                    Err(error) => {
                        refuse(&stream, error);
                        continue;
                    }
                };
                let app = app.clone().layer(Extension(Caller(peer.ip())));
                let serving = connection(stream, app, limits, stopped.clone());
                open.spawn(async move {
                    serving.await;
                    drop(place);
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

/// Says why there is no place, if that fits into what the system sends without waiting.
fn refuse(stream: &TcpStream, error: NoPlace) {
    tracing::debug!(%error, "JSON-RPC refuses a connection");
    let error = json!({ "code": CODE_BUSY, "message": error.to_string() });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    // A client that takes nothing gets nothing.
    let _: io::Result<usize> = stream.try_write(answer.as_bytes());
}

/// Resolves when the node has to stop, or was dropped.
async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn connection(
    stream: TcpStream,
    app: Router,
    limits: ServiceLimits,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_wait)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Patient::new(stream, limits.read_wait)),
            TowerToHyperService::new(app),
        );
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
mod tests;
