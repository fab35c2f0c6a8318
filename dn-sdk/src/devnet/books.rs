//! The books of every block, made anew: the whole history is executed again from the genesis, and each state is compared
//! with what the block's header commits to.

use std::io::{self, Write};

use dn_core::BlockHash;
use dn_ledger::block::{Block, Certificate};
use dn_ledger::chain::{BlockError, Chain};
use dn_ledger::query;
use dn_ledger::views::BlockView;

use super::error::DevnetError;
use super::network::Devnet;
use crate::ledger::LedgerError;

/// Why the history cannot be executed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BooksError {
    /// The genesis is gone or damaged.
    #[error(transparent)]
    Devnet(#[from] DevnetError),
    /// The ledger cannot be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The node does not hand out a block or transaction that it has.
    #[error("the ledger has no {what} of block {height}, although its tip is higher")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Of which block.
        height: u64,
    },
    /// A block does not follow from the history.
    #[error("the history is not what it claims: {0}")]
    Block(#[from] BlockError),
    /// A block has another hash than the node says.
    #[error("block {height} has hash {found}; the node says {expected}")]
    Hash {
        /// The block.
        height: u64,
        /// What the node says.
        expected: BlockHash,
        /// What it is.
        found: BlockHash,
    },
    /// The balances have no JSON form.
    #[error("balances: {0}")]
    Json(#[from] serde_json::Error),
    /// The output cannot be written.
    #[error("cannot write the balances: {0}")]
    Write(#[from] io::Error),
}

/// Executes the whole history again and writes one JSON line of every holding for each block, the genesis first.
///
/// # Errors
/// [`BooksError`].
pub async fn write_balances(devnet: &Devnet, mut out: impl Write) -> Result<(), BooksError> {
    let genesis = devnet.genesis();
    let mut chain = Chain::new(genesis);
    let tip = devnet.ledger().status().await?.height;
    line(&mut out, &chain)?;
    for height in 1..=tip {
        let (block, certificate) = block(devnet, height).await?;
        let executed = chain.validate(&block)?;
        chain.commit(&block.header, certificate, &executed);
        line(&mut out, &chain)?;
    }
    Ok(out.flush()?)
}

fn line(out: &mut impl Write, chain: &Chain) -> Result<(), BooksError> {
    let balances = query::balances(chain.state(), chain.tip().height);
    serde_json::to_writer(&mut *out, &balances)?;
    Ok(out.write_all(b"\n")?)
}

async fn block(devnet: &Devnet, height: u64) -> Result<(Block, Certificate), BooksError> {
    let missing = |what| BooksError::Missing { what, height };
    let view = devnet.ledger().block(height).await?.ok_or(missing("header"))?;
    let found = view.header.hash();
    if found != view.hash {
        return Err(BooksError::Hash { height, expected: view.hash, found });
    }
    let mut txs = Vec::with_capacity(view.txs.len());
    for &id in &view.txs {
        txs.push(devnet.ledger().tx(id).await?.ok_or(missing("transaction"))?.tx);
    }
    let BlockView { header, parent_certificate, certificate, .. } = view;
    Ok((Block { header, parent_certificate, txs }, certificate))
}
