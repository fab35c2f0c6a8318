//! One connection to a gateway up to the welcome.

use std::time::Duration;

use dn_core::Address;
use dn_core::encoding::Canonical;
use dn_ledger::state::IdentityStatus;
use dn_ledger::tx::Role;
use futures_util::{SinkExt, StreamExt};
use rand_core::{OsRng, RngCore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::WorkerError;
use super::connection::Shared;
use super::error::ConnectionError;
use crate::wire::{self, Abilities, MAX_MESSAGE_BYTES, ToGateway, ToWorker, VERSION, WORKER_PATH};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The WebSocket URL behind a gateway's URL.
pub(super) fn socket_url(url: &str) -> Result<String, WorkerError> {
    let bad = || WorkerError::GatewayUrl { url: url.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|_| bad())?;
    let scheme = match parsed.scheme() {
        "http" => "ws",
        "https" => "wss",
        _ => return Err(bad()),
    };
    let host = parsed.host_str().ok_or_else(bad)?;
    let port = parsed.port_or_known_default().ok_or_else(bad)?;
    let path = parsed.path().trim_end_matches('/');
    Ok(format!("{scheme}://{host}:{port}{path}{WORKER_PATH}"))
}

/// Opens the WebSocket.
pub(super) async fn dial(url: &str) -> Result<Socket, ConnectionError> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(limits), true);
    let late = |what| ConnectionError::Timeout { what, seconds: CONNECT_TIMEOUT.as_secs() };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late("the connection"))?;
    let (socket, _) = connected.map_err(|error| ConnectionError::Connect(Box::new(error)))?;
    Ok(socket)
}

async fn receive(
    socket: &mut Socket,
    within: Duration,
    what: &'static str,
) -> Result<ToWorker, ConnectionError> {
    let late = ConnectionError::Timeout { what, seconds: within.as_secs() };
    let receiving = async {
        loop {
            match socket.next().await {
                None | Some(Ok(Message::Close(_))) => return Err(ConnectionError::Closed),
                Some(Err(error)) => return Err(ConnectionError::Lost(Box::new(error))),
                Some(Ok(Message::Binary(bytes))) => return Ok(wire::decode::<ToWorker>(&bytes)?),
                Some(Ok(_)) => {}
            }
        }
    };
    timeout(within, receiving).await.map_err(|_| late)?
}

pub(super) async fn send(socket: &mut Socket, message: &ToGateway) -> Result<(), ConnectionError> {
    let sent = socket.send(Message::Binary(message.to_bytes().into())).await;
    sent.map_err(|error| ConnectionError::Lost(Box::new(error)))
}

/// Proves this worker's key, checks the gateway's, and that the ledger knows it.
pub(super) async fn greet(
    shared: &Shared,
    socket: &mut Socket,
) -> Result<(Address, Duration), ConnectionError> {
    let first = receive(socket, Duration::from_secs(5), "the challenge").await?;
    if let Some(found) = first.other_version() {
        return Err(wire::HelloError::Version { found }.into());
    }
    let ToWorker::Challenge { chain_id, gateway, nonce: challenge, .. } = first else {
        return Err(wire::HelloError::Unexpected.into());
    };
    let expected = shared.chain_id();
    if chain_id != expected {
        return Err(ConnectionError::Chain { expected, found: chain_id });
    }
    shared.refresh_models().await?;
    let mut nonce = [0; 32];
    OsRng.fill_bytes(&mut nonce);
    let (slots, price) = (shared.config().slots, shared.config().min_price);
    let abilities = Abilities { slots, models: shared.executor().models(), price };
    let digest = wire::hello_digest(chain_id, gateway, &challenge, &nonce, &abilities);
    let signature = shared.key().sign(&digest);
    let worker = shared.address();
    let hello = ToGateway::Hello { version: VERSION, worker, nonce, abilities, signature };
    send(socket, &hello).await?;
    match receive(socket, Duration::from_secs(10), "the welcome").await? {
        ToWorker::Welcome { heartbeat_ms, signature } => {
            wire::verify_welcome(chain_id, gateway, worker, &challenge, &nonce, &signature)?;
            let known = shared.ledger().identity(gateway, Role::Gateway).await?;
            if known.is_none_or(|identity| identity.status != IdentityStatus::Active) {
                return Err(ConnectionError::GatewayUnknown { gateway });
            }
            Ok((gateway, Duration::from_millis(heartbeat_ms.clamp(100, 60_000).into())))
        }
        ToWorker::Refused { reason } => Err(ConnectionError::Refused(reason)),
        _ => Err(wire::HelloError::Unexpected.into()),
    }
}
