//! A chain: the state at its tip, and the three things a consensus engine asks of it.
//!
//! The engine drives: it asks the proposer to [`propose`](Chain::propose), every validator to [`validate`](Chain::validate) what
//! was proposed, and all to [`commit`](Chain::commit) what was decided. On this floor one producer does all three; the BFT
//! engine of a later issue calls the same functions.

use dn_core::{Address, BlockHash, Canonical, Hash32, TxId};

use crate::apply::{BlockContext, Outcome, Signatures, apply_with, begin_block, end_block};
use crate::block::{Block, Certificate, CertificateError, Header, tx_root};
use crate::events::Event;
use crate::genesis::Genesis;
use crate::reject::Reject;
use crate::state::{Changes, PARAMS, State, VALIDATOR_SETS};
use crate::supply::{self, SupplyError};
use crate::tx::SignedTx;
use crate::validators::{NEXT_SET, TIP_SET, ValidatorSet};

/// Why a block is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A header field that does not follow from the parent.
    #[error("block {height}: {field} is {found}; {expected} expected")]
    Number {
        /// The block.
        height: u64,
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A block that follows another one than the tip.
    #[error("block {height} follows {found}; the tip is {expected}")]
    Parent {
        /// The block.
        height: u64,
        /// The tip.
        expected: BlockHash,
        /// Its parent.
        found: BlockHash,
    },
    /// Transactions or state that the header does not commit to.
    #[error("block {height}: {field} is {found}; the transactions give {expected}")]
    Root {
        /// The block.
        height: u64,
        /// The field.
        field: &'static str,
        /// What follows from the transactions.
        expected: Hash32,
        /// What the header says.
        found: Hash32,
    },
    /// A proposer that is not in the set.
    #[error("block {height}: {found} is not in the validator set")]
    Proposer {
        /// The block.
        height: u64,
        /// Who proposed it.
        found: Address,
    },
    /// Nobody, or too few, stand for the parent.
    #[error("block {height}: the parent's certificate: {source}")]
    ParentCertificate {
        /// The block.
        height: u64,
        /// Why.
        source: CertificateError,
    },
    /// More transactions than a block may hold.
    #[error("block {height} holds {found} transactions; at most {limit}")]
    TooManyTxs {
        /// The block.
        height: u64,
        /// The most.
        limit: u32,
        /// How many.
        found: usize,
    },
    /// More bytes of transactions than a block may hold.
    #[error("block {height} holds {found} bytes of transactions; at most {limit}")]
    TooManyBytes {
        /// The block.
        height: u64,
        /// The most.
        limit: u32,
        /// How many.
        found: usize,
    },
    /// A transaction that the rules refuse.
    #[error("block {height}, transaction {index}: {reason}")]
    Tx {
        /// The block.
        height: u64,
        /// Its place.
        index: u32,
        /// Why.
        reason: Reject,
    },
    /// The block would make or lose DN: a bug in the rules.
    #[error("block {height}: {source}")]
    Supply {
        /// The block.
        height: u64,
        /// By how much.
        source: SupplyError,
    },
}

/// What executing a block gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Of the transitions before the transactions.
    pub begin: Vec<Event>,
    /// Of each transaction.
    pub outcomes: Vec<Outcome>,
    /// Of the transitions after them, then what each record holds now.
    pub end: Vec<Event>,
    /// Changed records.
    pub changes: Changes,
}

impl Executed {
    /// All events in order, each with the transaction that caused it.
    pub fn events(&self) -> impl Iterator<Item = (Option<TxId>, &Event)> {
        self.begin
            .iter()
            .map(|event| (None, event))
            .chain(self.outcomes.iter().flat_map(|o| o.events.iter().map(|event| (Some(o.tx_id), event))))
            .chain(self.end.iter().map(|event| (None, event)))
    }
}

/// A block that could follow the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The block.
    pub block: Block,
    /// What it does.
    pub executed: Executed,
    /// Candidates that the rules refuse now.
    pub rejected: Vec<(SignedTx, Reject)>,
}

/// A chain at its tip.
#[derive(Debug, Clone)]
pub struct Chain {
    state: State,
    tip: Header,
    certificate: Certificate,
}

impl Chain {
    /// A chain at its genesis, which must be valid.
    pub fn new(genesis: &Genesis) -> Self {
        let mut state = genesis.state();
        state.seal();
        let tip = genesis.header(&state);
        Self { state, tip, certificate: Certificate::default() }
    }

    /// A chain at a stored tip. The caller has compared the state's commitment with the header and checked the certificate.
    pub fn resume(state: State, tip: Header, certificate: Certificate) -> Self {
        Self { state, tip, certificate }
    }

    /// The state after the tip.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The header of the tip.
    pub fn tip(&self) -> &Header {
        &self.tip
    }

    /// Who stands for the tip; nobody for the genesis.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who decides the block after the tip.
    pub fn validators(&self) -> ValidatorSet {
        VALIDATOR_SETS.get_or_default(&self.state, &NEXT_SET)
    }

    /// Who decided the tip.
    pub fn tip_validators(&self) -> ValidatorSet {
        VALIDATOR_SETS.get_or_default(&self.state, &TIP_SET)
    }

    /// The context of the block after the tip, for checking transactions before they are in one.
    pub fn next_context(&self, time_ms: u64) -> BlockContext {
        self.context(time_ms, Address::ZERO, &self.certificate)
    }

    fn context(&self, time_ms: u64, proposer: Address, parent: &Certificate) -> BlockContext {
        let Header { chain_id, height, proposer: parent_proposer, .. } = self.tip;
        let turns = self.tip_validators();
        let missed = (0..parent.round).take(turns.members.len()).map(|r| turns.proposer(chain_id, height, r));
        BlockContext {
            chain_id,
            height: height + 1,
            time_ms,
            parent: self.tip.hash(),
            proposer,
            parent_signers: parent.signatures.iter().map(|(signer, _)| *signer).collect(),
            parent_missed: missed.filter(|who| *who != parent_proposer).collect(),
            params: PARAMS.get(&self.state, &0).expect("the genesis sets the parameters"),
        }
    }

    /// Builds a block of the candidates, in their order, that the rules accept, until it is full. The state is unchanged.
    ///
    /// # Errors
    /// [`BlockError::Supply`], the only error of a block that was just built.
    pub fn propose(
        &mut self,
        proposer: Address,
        time_ms: u64,
        candidates: &[SignedTx],
    ) -> Result<Proposal, BlockError> {
        self.propose_with(proposer, time_ms, candidates, Signatures::Check)
    }

    /// [`propose`](Self::propose) for a caller who may have checked the senders' signatures.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub fn propose_with(
        &mut self,
        proposer: Address,
        time_ms: u64,
        candidates: &[SignedTx],
        signatures: Signatures,
    ) -> Result<Proposal, BlockError> {
        let parent_certificate = self.certificate.clone();
        let ctx = self.context(time_ms.max(self.tip.time_ms + 1), proposer, &parent_certificate);
        let start = self.state.checkpoint();
        let begin = begin_block(&mut self.state, &ctx);
        let (mut txs, mut outcomes, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for tx in candidates.iter().take(ctx.params.max_block_txs as usize) {
            bytes += tx.to_bytes().len();
            if bytes > ctx.params.max_block_bytes as usize {
                break;
            }
            match apply_with(&mut self.state, tx, &ctx, signatures) {
                Ok(outcome) => {
                    txs.push(tx.clone());
                    outcomes.push(outcome);
                }
                Err(reason) => rejected.push((tx.clone(), reason)),
            }
        }
        let validators = self.validators().hash();
        let end = end_block(&mut self.state, &ctx);
        let header = Header {
            chain_id: ctx.chain_id,
            height: ctx.height,
            parent: ctx.parent,
            time_ms: ctx.time_ms,
            proposer,
            parent_certificate: parent_certificate.hash(),
            validators,
            next_validators: self.validators().hash(),
            tx_root: tx_root(&txs),
            state: self.state.commitment().hash(),
        };
        let result = self.finish(&ctx, begin, outcomes, end);
        self.state.rollback(start);
        Ok(Proposal { block: Block { header, parent_certificate, txs }, executed: result?, rejected })
    }

    /// Executes a block that somebody proposed after the tip. The state is unchanged.
    ///
    /// # Errors
    /// [`BlockError`] says what is wrong with it.
    pub fn validate(&mut self, block: &Block) -> Result<Executed, BlockError> {
        self.validate_with(block, Signatures::Check)
    }

    /// [`validate`](Self::validate) for a caller who may have checked the senders' signatures.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn validate_with(&mut self, block: &Block, signatures: Signatures) -> Result<Executed, BlockError> {
        let start = self.state.checkpoint();
        let result = self.execute(block, signatures);
        self.state.rollback(start);
        result
    }

    /// Makes a block that was proposed or validated here, and then decided, the tip. The engine has checked the certificate.
    pub fn commit(&mut self, header: &Header, certificate: Certificate, executed: &Executed) {
        self.state.apply_changes(&executed.changes);
        self.tip = header.clone();
        self.certificate = certificate;
    }

    /// What a transaction would be refused for in the block after the tip, if it were the first one. The state is unchanged.
    ///
    /// # Errors
    /// [`Reject`].
    pub fn try_tx(&mut self, tx: &SignedTx, signatures: Signatures) -> Result<(), Reject> {
        let ctx = self.next_context(self.tip.time_ms + 1);
        let start = self.state.checkpoint();
        let result = apply_with(&mut self.state, tx, &ctx, signatures);
        self.state.rollback(start);
        result.map(|_| ())
    }

    fn execute(&mut self, block: &Block, signatures: Signatures) -> Result<Executed, BlockError> {
        let header = &block.header;
        let ctx = self.context(header.time_ms, header.proposer, &block.parent_certificate);
        self.check_header(block, &ctx)?;
        let begin = begin_block(&mut self.state, &ctx);
        let mut outcomes = Vec::with_capacity(block.txs.len());
        for (index, tx) in (0u32..).zip(&block.txs) {
            let outcome = apply_with(&mut self.state, tx, &ctx, signatures)
                .map_err(|reason| BlockError::Tx { height: ctx.height, index, reason })?;
            outcomes.push(outcome);
        }
        let end = end_block(&mut self.state, &ctx);
        let root = |field, expected, found| {
            let height = ctx.height;
            if expected == found { Ok(()) } else { Err(BlockError::Root { height, field, expected, found }) }
        };
        root("next_validators", self.validators().hash(), header.next_validators)?;
        root("state", self.state.commitment().hash(), header.state)?;
        self.finish(&ctx, begin, outcomes, end)
    }

    fn check_header(&self, block: &Block, ctx: &BlockContext) -> Result<(), BlockError> {
        let (header, height) = (&block.header, block.header.height);
        let number = |field, expected, found| {
            if expected == found {
                Ok(())
            } else {
                Err(BlockError::Number { height, field, expected, found })
            }
        };
        number("chain_id", ctx.chain_id, header.chain_id)?;
        number("height", ctx.height, height)?;
        if header.time_ms <= self.tip.time_ms {
            number("time_ms", self.tip.time_ms + 1, header.time_ms)?;
        }
        if header.parent != ctx.parent {
            return Err(BlockError::Parent { height, expected: ctx.parent, found: header.parent });
        }
        let (limit, found) = (ctx.params.max_block_txs, block.txs.len());
        if found > limit as usize {
            return Err(BlockError::TooManyTxs { height, limit, found });
        }
        let (limit, found) =
            (ctx.params.max_block_bytes, block.txs.iter().map(|tx| tx.to_bytes().len()).sum::<usize>());
        if found > limit as usize {
            return Err(BlockError::TooManyBytes { height, limit, found });
        }
        let root = |field, expected, found| {
            if expected == found { Ok(()) } else { Err(BlockError::Root { height, field, expected, found }) }
        };
        root("tx_root", tx_root(&block.txs), header.tx_root)?;
        let validators = self.validators();
        root("validators", validators.hash(), header.validators)?;
        if validators.power(header.proposer) == 0 {
            return Err(BlockError::Proposer { height, found: header.proposer });
        }
        root("parent_certificate", block.parent_certificate.hash(), header.parent_certificate)?;
        self.check_parent_certificate(&block.parent_certificate)
            .map_err(|source| BlockError::ParentCertificate { height, source })
    }

    /// The genesis has no certificate; the one that this chain holds was checked before.
    fn check_parent_certificate(&self, found: &Certificate) -> Result<(), CertificateError> {
        if *found == self.certificate {
            return Ok(());
        }
        found.verify(&self.tip, &self.tip_validators())
    }

    fn finish(
        &self,
        ctx: &BlockContext,
        begin: Vec<Event>,
        outcomes: Vec<Outcome>,
        mut end: Vec<Event>,
    ) -> Result<Executed, BlockError> {
        let height = ctx.height;
        let moved = supply::changed_holdings(&self.state);
        supply::check_changes(&moved).map_err(|source| BlockError::Supply { height, source })?;
        end.extend(moved.iter().map(Event::from));
        if ctx.ends_epoch() {
            supply::check_all(&self.state).map_err(|source| BlockError::Supply { height, source })?;
        }
        Ok(Executed { begin, outcomes, end, changes: self.state.changes() })
    }
}
