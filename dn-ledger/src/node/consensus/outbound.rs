//! What a node sends and hears beside votes: parts of its blocks, and transactions that wait.
//!
//! Transactions travel over the engine's network, in bundles: it delivers a bundle once to everybody, by whatever way. Checking
//! those that are heard happens on a thread of its own, behind a bounded queue: too many of them are dropped rather than
//! kept, and never stand before votes.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dn_core::{Canonical, SecretKey};
use malachite_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use malachite_channel::{Channels, NetworkMsg};

use super::context::Ctx;
use super::parts::{MAX_PART_BYTES, Part, Place, cut};
use crate::block::Block;
use crate::node::shared::Shared;
use crate::tx::SignedTx;

/// Bundles of others that wait to be checked.
const MAX_HEARD: usize = 256;
/// How often what still waits is passed on again, for nodes that did not hear it.
const AGAIN: Duration = Duration::from_secs(5);
/// The most transactions that are passed on again at once.
const MAX_AGAIN: usize = 1_000;

/// The way out.
#[derive(Debug)]
pub(crate) struct Outbound {
    heard: Option<SyncSender<Vec<Vec<u8>>>>,
    checking: Option<JoinHandle<()>>,
    alone: bool,
    bundles: u64,
    again: Instant,
    arrivals: u64,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<super::Fault>,
}

impl Outbound {
    /// The way out of a node; `alone` has nobody to talk to.
    pub(crate) fn new(shared: &Arc<Shared>, alone: bool) -> std::io::Result<Self> {
        let (heard, queue) = sync_channel::<Vec<Vec<u8>>>(MAX_HEARD);
        let shared = Arc::clone(shared);
        let checking = std::thread::Builder::new().name("dn-heard".into()).spawn(move || {
            while let Ok(mut bundle) = queue.recv() {
                // As much at once as there is: checking is spread over the cores.
                while let Ok(more) = queue.try_recv() {
                    bundle.extend(more);
                    if bundle.len() > 4_000 {
                        break;
                    }
                }
                let txs = bundle.iter().filter_map(|bytes| SignedTx::from_untrusted(bytes).ok());
                shared.take_in(txs.collect());
            }
        })?;
        let again = Instant::now();
        Ok(Self {
            heard: Some(heard),
            checking: Some(checking),
            alone,
            bundles: 0,
            again,
            arrivals: 0,
            #[cfg(feature = "faults")]
            fault: None,
        })
    }

    /// Takes in what another node passed on.
    pub(crate) fn heard(&self, txs: Vec<Vec<u8>>) {
        let Some(heard) = &self.heard else { return };
        if let Err(TrySendError::Full(_)) = heard.try_send(txs) {
            tracing::debug!("too many transactions of others; a bundle is dropped");
        }
    }

    /// Passes on what clients sent, and from time to time what still waits.
    pub(crate) async fn pass_on(&mut self, shared: &Shared, channels: &Channels<Ctx>) {
        if self.alone {
            return;
        }
        let mut txs = shared.outgoing();
        if self.again.elapsed() >= AGAIN {
            let pool = shared.pool();
            txs.extend(pool.mempool.older_than(self.arrivals, MAX_AGAIN));
            self.arrivals = pool.mempool.arrivals();
            self.again = Instant::now();
        }
        let (mut bundle, mut size) = (Vec::new(), 0);
        for tx in txs {
            let bytes = tx.to_bytes();
            if size + bytes.len() > MAX_PART_BYTES && !bundle.is_empty() {
                self.send_bundle(std::mem::take(&mut bundle), channels).await;
                size = 0;
            }
            size += bytes.len();
            bundle.push(bytes);
        }
        if !bundle.is_empty() {
            self.send_bundle(bundle, channels).await;
        }
    }

    async fn send_bundle(&mut self, txs: Vec<Vec<u8>>, channels: &Channels<Ctx>) {
        self.bundles += 1;
        let id = StreamId::new(self.bundles.to_le_bytes().to_vec().into());
        let message = StreamMessage::new(id, 0, StreamContent::Data(Part::Txs(txs)));
        send(channels, message).await;
    }

    /// Publishes a block in parts.
    pub(crate) async fn publish(
        &self,
        chain_id: u64,
        place: Place,
        block: &Block,
        key: &SecretKey,
        channels: &Channels<Ctx>,
    ) {
        if self.alone {
            return;
        }
        let id = borsh::to_vec(&place).expect("memory takes every byte");
        let id = StreamId::new(id.into());
        let bytes = block.to_bytes();
        #[cfg(feature = "faults")]
        let bytes = {
            let mut bytes = bytes;
            self.fault.inspect(|fault| fault.spoil_bytes(&mut bytes));
            bytes
        };
        for chunk in cut(chain_id, place, &bytes, key) {
            #[cfg(feature = "faults")]
            if self.fault.is_some_and(|fault| !fault.publishes(&chunk)) {
                continue;
            }
            let sequence = u64::from(chunk.index);
            let part = StreamContent::Data(Part::Chunk(Box::new(chunk)));
            send(channels, StreamMessage::new(id.clone(), sequence, part)).await;
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        drop(self.heard.take());
        if let Some(checking) = self.checking.take() {
            // A panic there was reported when it happened.
            let _ = checking.join();
        }
    }
}

async fn send(channels: &Channels<Ctx>, message: StreamMessage<Part>) {
    // The engine is stopping if it does not listen.
    let _ = channels.network.send(NetworkMsg::PublishProposalPart(message)).await;
}
