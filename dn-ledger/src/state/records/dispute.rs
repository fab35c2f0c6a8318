//! Disputes about a receipt's computation.

use dn_core::objects::Receipt;
use dn_core::{Address, canonical_struct};

use crate::referee::{Ending, Side};

/// A dispute, called by an accusation. Its moves have a table of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// Who doubts.
    pub accuser: Address,
    /// Whose work it is.
    pub worker: Address,
    /// The receipt, from the accuser's opening to the end.
    pub receipt: Option<Receipt>,
    /// Who has to move.
    pub turn: Side,
    /// Since when.
    pub since_height: u64,
    /// Last height at which that side can move.
    pub deadline: u64,
    /// Blocks that the worker may still take in all.
    pub worker_blocks: u64,
    /// Blocks that the accuser may still take in all.
    pub accuser_blocks: u64,
    /// Moves so far.
    pub moves: u32,
    /// How it ended.
    pub ending: Option<Ending>,
}
canonical_struct!(Dispute {
    accuser: Address,
    worker: Address,
    receipt: Option<Receipt>,
    turn: Side,
    since_height: u64,
    deadline: u64,
    worker_blocks: u64,
    accuser_blocks: u64,
    moves: u32,
    ending: Option<Ending>,
});

impl Dispute {
    /// What a side has left on its clock.
    pub fn clock(&mut self, side: Side) -> &mut u64 {
        match side {
            Side::Worker => &mut self.worker_blocks,
            Side::Accuser => &mut self.accuser_blocks,
        }
    }

    /// The identity on a side.
    pub const fn party(&self, side: Side) -> Address {
        match side {
            Side::Worker => self.worker,
            Side::Accuser => self.accuser,
        }
    }
}

/// How many moves of disputes and how many votes a block has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DisputeLoad {
    /// The block.
    pub height: u64,
    /// Its moves so far.
    pub moves: u32,
    /// The votes that it has asked for.
    pub votes: u32,
    /// The newest block that has taken as many moves as a block takes.
    pub full_height: u64,
}
canonical_struct!(DisputeLoad { height: u64, moves: u32, votes: u32, full_height: u64 });

/// How many audits the batches of a block may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditLoad {
    /// The block.
    pub height: u64,
    /// One for each batch, and its receipts up to the most audits of a batch.
    pub load: u32,
}
canonical_struct!(AuditLoad { height: u64, load: u32 });

impl AuditLoad {
    /// Takes a batch in, if the block may have it besides those before it: the first one always.
    pub(crate) fn take(&mut self, load: u32, limit: u32) -> bool {
        let after = self.load.saturating_add(load);
        let fits = self.load == 0 || after <= limit;
        if fits {
            self.load = after;
        }
        fits
    }
}
