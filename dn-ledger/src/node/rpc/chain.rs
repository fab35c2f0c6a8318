//! Methods of the chain as a whole: status, parameters, blocks, transactions, events, proofs, sums.

use dn_core::hexadecimal::to_hex;
use dn_core::merkle::MerkleTree;
use dn_core::{Canonical, TxId};

use super::params::{About, All, ByChunk, ByHeight, ById, EventRange, Nothing};
use super::table::Method;
use super::{RpcError, internal};
use crate::light::{InclusionView, LightBlock, ProofView, Subject};
use crate::node::history::CODE_PRUNED;
use crate::node::shared::Shared;
use crate::node::snapshot::{SnapshotFile, SnapshotFileError, SnapshotsView};
use crate::node::store::PastError;
use crate::params::Params;
use crate::query;
use crate::state::PARAMS;
use crate::views::{BalancesPage, BlockView, EventsView, StatusView, TxView};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query("dn_status", "Where the chain stands.", |shared, Nothing {}| status(shared)),
        Method::query("dn_params", "The parameters in force.", |shared, Nothing {}| params(shared)),
        Method::query("dn_supply", "The supply equation at the tip.", |shared, Nothing {}| {
            let chain = shared.chain();
            Ok(query::supply_view(chain.supply(), chain.tip().height))
        }),
        Method::query("dn_balances", "Every single holding at the tip, in pages.", balances),
        Method::query(
            "dn_pools",
            "The pools of DN that belong to no account, the burned among them.",
            |shared, all: All| Ok(query::pools(shared.chain().state(), &all.page())?),
        ),
        Method::query("dn_beacon", "The randomness of the tip.", |shared, Nothing {}| {
            let chain = shared.chain();
            Ok(query::beacon(chain.state(), chain.tip().height))
        }),
        Method::query("dn_block", "A block with what its transactions did; null where there is none.", block)
            .past(),
        Method::query(
            "dn_header",
            "A header with its certificate and validator sets, for light clients.",
            header,
        )
        .past(),
        Method::query("dn_tx", "A transaction that stands, and what it did.", |shared, by: ById<TxId>| {
            Ok::<Option<TxView>, _>(shared.store.tx(by.id)?)
        }),
        Method::query(
            "dn_txProof",
            "The block of a transaction with what proves it, and the proof that the transaction stands in it; null where there is none.",
            |shared, by: ById<TxId>| inclusion(shared, by.id),
        )
        // A whole block is read and hashed.
        .heavy(20),
        Method::query("dn_events", "Events of whole blocks from a height on, in order.", events).past(),
        Method::query(
            "dn_prove",
            "The records of a subject under the state root of the tip, each with its proof, and what proves the tip.",
            |shared, about: About| Ok(prove(shared, &about.subject)),
        ),
        Method::query(
            "dn_snapshots",
            "Heights of the snapshots that this node has.",
            |shared, Nothing {}| Ok(SnapshotsView { heights: SnapshotFile::list(shared.store.dir())? }),
        ),
        Method::query(
            "dn_snapshot",
            "The manifest of a snapshot in the canonical encoding, hexadecimal; null where there is no such snapshot.",
            |shared, by: ByHeight| snapshot(shared, by.height, |file| file.manifest_bytes().map(Some)),
        ),
        Method::query(
            "dn_snapshotChunk",
            "A chunk of a snapshot in the canonical encoding, hexadecimal; null where there is no such snapshot or chunk.",
            |shared, by: ByChunk| {
                snapshot(shared, by.height, |file| {
                    (by.index < file.chunks()).then(|| file.chunk_bytes(by.index)).transpose()
                })
            },
        ),
    ]
}

fn params(shared: &Shared) -> Result<Params, RpcError> {
    PARAMS.get(shared.chain().state(), &0).ok_or_else(internal)
}

fn balances(shared: &Shared, all: All) -> Result<BalancesPage, RpcError> {
    let chain = shared.chain();
    Ok(query::balances_page(chain.state(), chain.tip().height, &all.page())?)
}

fn block(shared: &Shared, by: ByHeight) -> Result<Option<BlockView>, RpcError> {
    let found = shared.store.block_view(by.height)?;
    told(shared, by.height, found)
}

fn header(shared: &Shared, by: ByHeight) -> Result<Option<LightBlock>, RpcError> {
    let found = shared.store.light_block(by.height)?;
    told(shared, by.height, found)
}

/// What was found at a height; that there is nothing is said only of what was not pruned.
fn told<T>(shared: &Shared, height: u64, found: Option<T>) -> Result<Option<T>, RpcError> {
    if found.is_none() {
        shared.store.held_from(height)?;
    }
    Ok(found)
}

impl From<PastError> for RpcError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Pruned(pruned) => {
                let data = serde_json::to_value(pruned).ok();
                Self { code: CODE_PRUNED, message: pruned.to_string(), data }
            }
            PastError::Store(error) => error.into(),
        }
    }
}

fn inclusion(shared: &Shared, id: TxId) -> Result<Option<InclusionView>, RpcError> {
    let Some(TxView { outcome, .. }) = shared.store.tx(id)? else { return Ok(None) };
    let (block, light) = (shared.store.block(outcome.height)?, shared.store.light_block(outcome.height)?);
    // Pruned in between.
    let (Some(block), Some(light)) = (block, light) else { return Ok(None) };
    let tree = MerkleTree::new(block.txs.iter().map(Canonical::to_bytes));
    let proof = tree.prove(outcome.index.into()).ok_or_else(internal)?;
    Ok(Some(InclusionView { block: light, proof }))
}

fn events(shared: &Shared, range: EventRange) -> Result<EventsView, RpcError> {
    let limit = range.limit.unwrap_or(query::MAX_LIST).clamp(1, query::MAX_LIST);
    let tip = shared.chain().tip().height;
    Ok(shared.store.events(range.from_height.unwrap_or(0), limit, tip)?)
}

/// The records of a subject under the tip's state root, with what proves the tip.
fn prove(shared: &Shared, subject: &Subject) -> ProofView {
    let chain = shared.chain();
    let (tip, certificate) = (chain.tip().clone(), chain.certificate().clone());
    let block = LightBlock::new(tip, certificate, chain.tip_validators(), chain.validators());
    ProofView::answer(subject, chain.state(), block)
}

/// A part of a snapshot as text; none when there is no snapshot of this height, or no such part.
fn snapshot(
    shared: &Shared,
    height: u64,
    read: impl FnOnce(&mut SnapshotFile) -> Result<Option<Vec<u8>>, SnapshotFileError>,
) -> Result<Option<String>, RpcError> {
    let path = SnapshotFile::path(shared.store.dir(), height);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(&mut SnapshotFile::open(&path)?)?;
    Ok(bytes.map(|bytes| to_hex(&bytes)))
}

fn status(shared: &Shared) -> Result<StatusView, RpcError> {
    let first_block = shared.store.horizon()?;
    let mempool = shared.pool().mempool.len() as u64;
    let chain = shared.chain();
    let (tip, ctx) = (chain.tip(), chain.next());
    let epoch = tip.height / ctx.params.epoch_blocks;
    Ok(StatusView {
        chain_id: tip.chain_id,
        genesis: shared.genesis,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        height: tip.height,
        first_block,
        tip: tip.hash(),
        state: tip.state,
        time_ms: tip.time_ms,
        epoch,
        next_epoch_height: (epoch + 1) * ctx.params.epoch_blocks,
        mempool,
        node_key: shared.own_key,
    })
}
