//! The listener: bounded connections, a deadline for headers, and an orderly end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::error::GatewayError;
use super::shared::Shared;
use super::{Gateway, GatewayConfig, http};

/// How long running calls may take to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long tasks may take to let go of the store after that.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The gateway's tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

pub(crate) async fn start(config: GatewayConfig) -> Result<Gateway, GatewayError> {
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::open(config, stopped.clone()).await?);
    let wanted = shared.config().listen;
    let listen = |source| GatewayError::Listen { addr: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(shared.clone().keep_fresh(stopped.clone()));
    tasks.spawn(accept(shared.clone(), listener, stopped));
    tracing::info!(%addr, gateway = %shared.address(), "gateway listens");
    Ok(Gateway { shared: shared.clone(), addr, tasks: Tasks { shared, stop, tasks } })
}

impl Tasks {
    pub(crate) async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT + Duration::from_secs(1), ending).await;
        // The store can be opened again once every task that uses it is gone.
        let began = Instant::now();
        while Arc::strong_count(&self.shared) > 2 && began.elapsed() < RELEASE_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Resolves when the gateway has to stop, or was dropped.
pub(crate) async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let router = http::router(shared.clone());
    let connections = Arc::new(Semaphore::new(shared.limits().max_connections));
    // Dropping the set at the end closes what is still open, workers' sockets included.
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream: TcpStream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: wait for connections to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Over the limit the connection is closed at once instead of being left to wait.
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        let serving = connection(&shared, &router, stream, stopped.clone());
        open.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    drop(listener);
    let ending = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ending).await;
}

fn connection(
    shared: &Shared,
    router: &Router,
    stream: TcpStream,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let service = TowerToHyperService::new(router.clone());
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits().header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    async move {
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop_requested(&mut stopped) => {
                // The request that runs is answered, then the connection closes.
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection");
        }
    }
}
