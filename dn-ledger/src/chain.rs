//! A chain: the state at its tip, and the three things a consensus engine asks of it.
//!
//! The engine drives: it asks the proposer to [`propose`](Chain::propose), every validator to [`validate`](Chain::validate) what
//! was proposed, and all to [`commit`](Chain::commit) what was decided. Feature `node` holds the engine
//! that does, with one validator as with many.

mod panics;

use std::cell::Cell;
use std::sync::Arc;

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, BlockHash, Canonical, Hash32, SecretKey, TxId};

use crate::apply::{BlockContext, Outcome, Signatures, apply_with, begin_block, end_block};
use crate::beacon::{Reveal, RevealError};
use crate::block::{Block, Certificate, CertificateError, Header, tx_root};
use crate::events::Event;
use crate::genesis::Genesis;
use crate::referee::RefereeHandle;
use crate::reject::Reject;
use crate::state::{BEACON, Changes, PARAMS, Pending, State, TURN_SEEDS, Tree, Upgrade, VALIDATOR_SETS};
use crate::supply::{self, Supply, SupplyError};
use crate::tx::SignedTx;
use crate::upgrades::{SUPPORTED_UPGRADES, unknown_upgrade};
use crate::validators::{NEXT_SET, TIP_SET, ValidatorSet};

use panics::attempt;
pub(crate) use panics::caught;
#[cfg(any(test, feature = "faults"))]
pub(crate) use panics::fault;

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
    /// An upgrade is in force that this software does not have: a newer one goes on from here.
    #[error(
        "block {height} needs upgrade `{name}` (version {version}), in force since height {since}; install software that has it"
    )]
    UnknownUpgrade {
        /// The block.
        height: u64,
        /// The upgrade's first height.
        since: u64,
        /// Its name.
        name: String,
        /// Hash of its version.
        version: Hash32,
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
    /// The chain's disputes are judged by a referee that this replica does not have: it can execute no block.
    #[error("block {height}: disputes are judged by rules {expected}; the referee here has {found:?}")]
    Referee {
        /// The block.
        height: u64,
        /// The rules that the parameters name.
        expected: u32,
        /// Those of the referee here, if there is one.
        found: Option<u32>,
    },
    /// A reveal for the beacon that does not hold, or is missing.
    #[error("block {height}: {source}")]
    Reveal {
        /// The block.
        height: u64,
        /// Why.
        source: RevealError,
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
    /// A bug in the rules: executing the block panics. The state is as it was before.
    #[error("block {height}: executing it panics{}: {message}", .tx.map_or(String::new(), |tx| format!(" in transaction {tx}")))]
    Panicked {
        /// The block.
        height: u64,
        /// The transaction, if it was in one.
        tx: Option<TxId>,
        /// The panic's message, if it has one.
        message: String,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Of the transitions before the transactions.
    pub begin: Vec<Event>,
    /// Of each transaction.
    pub outcomes: Vec<Outcome>,
    /// Of the transitions after them, then what each record holds now.
    pub end: Vec<Event>,
    /// Changed records.
    pub changes: Changes,
    /// The authenticated tree after them.
    pub tree: Tree,
    /// What exists after them.
    pub supply: Supply,
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
    supported: &'static [(&'static str, Hash32)],
    referee: Option<RefereeHandle>,
    supply: Supply,
    /// The context of the block after the tip, at time 0.
    next: Arc<BlockContext>,
}

impl Chain {
    /// A chain at its genesis, which must be valid.
    pub fn new(genesis: &Genesis) -> Self {
        let mut state = genesis.state();
        state.seal();
        let tip = genesis.header(&state);
        Self::resume(state, tip, Certificate::default())
    }

    /// A chain at a stored tip. The caller has compared the state's commitment with the header and checked the certificate.
    pub fn resume(state: State, tip: Header, certificate: Certificate) -> Self {
        let supply = supply::supply(&state);
        let next = Arc::new(context(&state, &tip, &certificate, None));
        Self { state, tip, certificate, supported: SUPPORTED_UPGRADES, referee: None, supply, next }
    }

    /// The same chain in software with these upgrades, instead of [`SUPPORTED_UPGRADES`].
    #[must_use]
    pub fn supporting(self, upgrades: &'static [(&'static str, Hash32)]) -> Self {
        Self { supported: upgrades, ..self }
    }

    /// Plugs in the referee that judges disputes. A chain whose parameters name one executes no block without it.
    #[must_use]
    pub fn with_referee(mut self, referee: RefereeHandle) -> Self {
        self.referee = Some(referee);
        self.look_ahead();
        self
    }

    /// Checks that disputes can be judged here as the parameters in force say.
    ///
    /// # Errors
    /// [`BlockError::Referee`].
    pub fn check_referee(&self) -> Result<(), BlockError> {
        let ctx = &self.next;
        let found = ctx.referee.as_ref().map(|referee| referee.rules());
        let expected = ctx.params.dispute.referee;
        if expected == 0 || found == Some(expected) {
            return Ok(());
        }
        Err(BlockError::Referee { height: ctx.height, expected, found })
    }

    /// The state after the tip.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The header of the tip.
    pub fn tip(&self) -> &Header {
        &self.tip
    }

    /// What exists after the tip, by the kind of its holder; follows the blocks at the cost of their changes.
    pub const fn supply(&self) -> &Supply {
        &self.supply
    }

    /// Who stands for the tip; nobody for the genesis.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who decides the block after the tip.
    pub fn validators(&self) -> ValidatorSet {
        VALIDATOR_SETS.get_or_default(&self.state, &NEXT_SET)
    }

    /// What turns are drawn from at the block after the tip.
    pub fn turn_seed(&self) -> Hash32 {
        TURN_SEEDS.get_or_default(&self.state, &NEXT_SET)
    }

    /// Who proposes the block after the tip in a round.
    pub fn proposer(&self, round: u32) -> Address {
        self.validators().proposer(self.tip.chain_id, self.turn_seed(), self.tip.height + 1, round)
    }

    /// Who decided the tip.
    pub fn tip_validators(&self) -> ValidatorSet {
        VALIDATOR_SETS.get_or_default(&self.state, &TIP_SET)
    }

    /// The context of the block after the tip, for checking transactions before they are in one.
    pub fn next_context(&self, time_ms: u64) -> BlockContext {
        BlockContext { time_ms, ..BlockContext::clone(&self.next) }
    }

    /// [`next_context`](Self::next_context) at time 0, shared.
    pub fn next(&self) -> &Arc<BlockContext> {
        &self.next
    }

    /// The earliest time that the block after the tip may have, Unix milliseconds.
    pub fn earliest_ms(&self) -> u64 {
        self.tip.time_ms.saturating_add(self.next.params.min_block_ms)
    }

    fn look_ahead(&mut self) {
        self.next = Arc::new(context(&self.state, &self.tip, &self.certificate, self.referee.clone()));
    }

    fn context(&self, time_ms: u64, proposer: Address, parent: &Certificate) -> BlockContext {
        let ctx = context(&self.state, &self.tip, parent, self.referee.clone());
        BlockContext { time_ms, proposer, ..ctx }
    }

    /// The randomness after the tip.
    pub fn beacon(&self) -> Hash32 {
        BEACON.get_or_default(&self.state, &0)
    }

    /// [`propose_revealing`](Self::propose_revealing) with the reveal of the proposer's key, where the chain wants one.
    ///
    /// # Errors
    /// As there.
    pub fn propose_by(
        &mut self,
        key: &SecretKey,
        time_ms: u64,
        candidates: &[SignedTx],
        signatures: Signatures,
    ) -> Result<Proposal, BlockError> {
        let (height, ctx) = (self.tip.height + 1, self.next_context(time_ms));
        let reveal =
            ctx.params.beacon.required.then(|| Reveal::new(key, ctx.chain_id, height, self.beacon()));
        let failed = |source: dn_core::VrfError| BlockError::Reveal { height, source: source.into() };
        let reveal = reveal.transpose().map_err(failed)?;
        self.propose_revealing(key.address(), reveal, time_ms, candidates, signatures)
    }

    /// [`propose_revealing`](Self::propose_revealing) without a reveal, for chains that want none.
    ///
    /// # Errors
    /// As there.
    pub fn propose(
        &mut self,
        proposer: Address,
        time_ms: u64,
        candidates: &[SignedTx],
    ) -> Result<Proposal, BlockError> {
        self.propose_revealing(proposer, None, time_ms, candidates, Signatures::Check)
    }

    /// Builds a block of the candidates, in their order, that the rules accept, until it is full. What the rules refuse takes no room in it, as nobody
    /// pays for it; after as many refused bytes as a block has, the rest waits. The state is unchanged.
    ///
    /// A candidate with which the rules panic is refused ([`Reject::Bug`]).
    ///
    /// # Errors
    /// [`BlockError::Referee`], [`BlockError::Reveal`], [`BlockError::UnknownUpgrade`]; [`BlockError::Supply`] and
    /// [`BlockError::Panicked`], of an empty block too, are the only other errors of a block that was just built.
    pub fn propose_revealing(
        &mut self,
        proposer: Address,
        reveal: Option<Reveal>,
        time_ms: u64,
        candidates: &[SignedTx],
        signatures: Signatures,
    ) -> Result<Proposal, BlockError> {
        self.check_referee()?;
        let parent_certificate = self.certificate.clone();
        let mut ctx = self.context(time_ms.max(self.earliest_ms()), proposer, &parent_certificate);
        self.check_upgrades(ctx.height)?;
        ctx.reveal = self.check_reveal(&ctx, reveal.as_ref())?;
        self.state.take_back();
        self.build_around(ctx.height, candidates, |chain, candidates| {
            chain.build(&ctx, reveal, &parent_certificate, candidates, signatures)
        })
    }

    fn build(
        &mut self,
        ctx: &BlockContext,
        reveal: Option<Reveal>,
        parent_certificate: &Certificate,
        candidates: &[SignedTx],
        signatures: Signatures,
    ) -> Result<Proposal, BlockError> {
        let begin = begin_block(&mut self.state, ctx);
        let (mut txs, mut outcomes, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let room = ctx.params.max_block_bytes as usize;
        let (mut bytes, mut refused_bytes) = (0, 0);
        for tx in candidates {
            let size = tx.to_bytes().len();
            if txs.len() == ctx.params.max_block_txs as usize || bytes.max(refused_bytes) + size > room {
                break;
            }
            match attempt(&mut self.state, tx, ctx, signatures) {
                Ok(outcome) => {
                    txs.push(tx.clone());
                    outcomes.push(outcome);
                    bytes += size;
                }
                Err(reason) => {
                    // What only waits for the next block comes again, and is then counted.
                    refused_bytes += if reason.is_for_this_block() { 0 } else { size };
                    rejected.push((tx.clone(), reason));
                }
            }
        }
        let validators = self.validators().hash();
        let end = end_block(&mut self.state, ctx);
        let pending = self.state.pending();
        let tree = self.state.commitment_of(&pending);
        let header = Header {
            chain_id: ctx.chain_id,
            height: ctx.height,
            parent: ctx.parent,
            time_ms: ctx.time_ms,
            proposer: ctx.proposer,
            parent_certificate: parent_certificate.hash(),
            validators,
            next_validators: self.validators().hash(),
            tx_root: tx_root(&txs),
            state: tree.hash(),
            reveal,
        };
        let executed = Executed { begin, outcomes, end, tree, ..Executed::default() };
        let executed = self.finish(ctx, &pending, executed)?;
        let parent_certificate = parent_certificate.clone();
        Ok(Proposal { block: Block { header, parent_certificate, txs }, executed, rejected })
    }

    /// Executes a block that somebody proposed after the tip. The state is unchanged, also when the rules panic.
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
        self.state.take_back();
        let start = self.state.checkpoint();
        let at = Cell::new(None);
        let result = caught(|| self.execute(block, signatures, &at));
        self.state.rollback(start);
        let (height, tx) = (block.header.height, at.get());
        result.unwrap_or_else(|message| Err(BlockError::Panicked { height, tx, message }))
    }

    /// Makes a block that was proposed or validated here, and then decided, the tip. The engine has checked the certificate.
    ///
    /// Returns the tree of the block before: freeing its nodes takes a while, for which whoever holds a lock on the chain need not hold it.
    pub fn commit(&mut self, header: &Header, certificate: Certificate, executed: &Executed) -> Tree {
        self.state.write_known(&executed.changes);
        // Until here everything can be taken back; nothing that follows can fail.
        let next = Arc::new(context(&self.state, header, &certificate, self.referee.clone()));
        let before = self.state.seal_known(&executed.tree);
        self.supply = executed.supply;
        self.tip = header.clone();
        self.certificate = certificate;
        self.next = next;
        before
    }

    /// Brings the chain back to its tip after a panic in one of the methods that change it.
    pub fn take_back(&mut self) {
        self.state.take_back();
    }

    /// What a transaction would be refused for in the block after the tip, if it were the first one. The state is unchanged.
    ///
    /// # Errors
    /// [`Reject`].
    pub fn try_tx(&mut self, tx: &SignedTx, signatures: Signatures) -> Result<(), Reject> {
        let ctx = self.next_context(self.tip.time_ms + 1);
        self.state.take_back();
        let start = self.state.checkpoint();
        let result = attempt(&mut self.state, tx, &ctx, signatures);
        self.state.rollback(start);
        result.map(|_| ())
    }

    /// Executes a block; `at` says in which transaction it is.
    fn execute(
        &mut self,
        block: &Block,
        signatures: Signatures,
        at: &Cell<Option<TxId>>,
    ) -> Result<Executed, BlockError> {
        let header = &block.header;
        self.check_referee()?;
        let mut ctx = self.context(header.time_ms, header.proposer, &block.parent_certificate);
        self.check_upgrades(ctx.height)?;
        self.check_header(block, &ctx)?;
        ctx.reveal = self.check_reveal(&ctx, header.reveal.as_ref())?;
        let begin = begin_block(&mut self.state, &ctx);
        let mut outcomes = Vec::with_capacity(block.txs.len());
        for (index, tx) in (0u32..).zip(&block.txs) {
            at.set(Some(tx.id()));
            let outcome = apply_with(&mut self.state, tx, &ctx, signatures)
                .map_err(|reason| BlockError::Tx { height: ctx.height, index, reason })?;
            outcomes.push(outcome);
        }
        at.set(None);
        let end = end_block(&mut self.state, &ctx);
        let root = |field, expected, found| {
            let height = ctx.height;
            if expected == found { Ok(()) } else { Err(BlockError::Root { height, field, expected, found }) }
        };
        root("next_validators", self.validators().hash(), header.next_validators)?;
        let pending = self.state.pending();
        let tree = self.state.commitment_of(&pending);
        root("state", tree.hash(), header.state)?;
        self.finish(&ctx, &pending, Executed { begin, outcomes, end, tree, ..Executed::default() })
    }

    fn check_upgrades(&self, height: u64) -> Result<(), BlockError> {
        match unknown_upgrade(&self.state, self.supported, height) {
            None => Ok(()),
            Some((since, Upgrade { name, version, .. })) => {
                Err(BlockError::UnknownUpgrade { height, since, name, version })
            }
        }
    }

    /// The value that a reveal adds to the beacon.
    fn check_reveal(
        &self,
        ctx: &BlockContext,
        reveal: Option<&Reveal>,
    ) -> Result<Option<Hash32>, BlockError> {
        let height = ctx.height;
        let failed = |source| BlockError::Reveal { height, source };
        match reveal {
            None if ctx.params.beacon.required => Err(failed(RevealError::Missing)),
            None => Ok(None),
            Some(reveal) => {
                let value = reveal.verify(ctx.proposer, ctx.chain_id, height, self.beacon());
                value.map(Some).map_err(failed)
            }
        }
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
        if header.time_ms < self.earliest_ms() {
            number("time_ms", self.earliest_ms(), header.time_ms)?;
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

    /// Checks the supply equation over what the block changed, and completes what executing it gives.
    fn finish(
        &self,
        ctx: &BlockContext,
        pending: &[Pending<'_>],
        mut executed: Executed,
    ) -> Result<Executed, BlockError> {
        let height = ctx.height;
        let moved = supply::changed_holdings(pending);
        supply::check_changes(&moved).map_err(|source| BlockError::Supply { height, source })?;
        if cfg!(debug_assertions) && ctx.ends_epoch() {
            supply::check_all(&self.state).map_err(|source| BlockError::Supply { height, source })?;
        }
        executed.end.extend(moved.iter().map(Event::from));
        executed.supply = self.supply.after(&moved);
        let (expected, found) = (SUPPLY_CAP, executed.supply.total());
        if found != expected {
            return Err(BlockError::Supply { height, source: SupplyError { expected, found } });
        }
        executed.changes = pending.iter().map(Pending::to_change).collect();
        Ok(executed)
    }
}

/// The context of the block after a tip, at time 0, of no proposer.
fn context(
    state: &State,
    tip: &Header,
    certificate: &Certificate,
    referee: Option<RefereeHandle>,
) -> BlockContext {
    let Header { chain_id, height, proposer: parent_proposer, .. } = *tip;
    let turns: ValidatorSet = VALIDATOR_SETS.get_or_default(state, &TIP_SET);
    let seed = TURN_SEEDS.get_or_default(state, &TIP_SET);
    let rounds = (0..certificate.round).take(turns.members.len());
    let missed = rounds.map(|round| turns.proposer(chain_id, seed, height, round));
    BlockContext {
        chain_id,
        height: height + 1,
        time_ms: 0,
        parent: tip.hash(),
        proposer: Address::ZERO,
        parent_signers: certificate.signatures.iter().map(|(signer, _)| *signer).collect(),
        parent_missed: missed.filter(|who| *who != parent_proposer).collect(),
        params: PARAMS.get(state, &0).expect("the genesis sets the parameters"),
        reveal: None,
        referee,
    }
}

#[cfg(test)]
pub(crate) mod tests;
