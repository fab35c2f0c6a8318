//! The rules: what a transaction does to the state, or why it does nothing.

mod audit;
mod backing;
mod batch;
mod beacon;
mod books;
mod channel;
mod closing;
mod commission;
mod commitment;
mod dispute;
mod domain;
mod draw;
mod emission;
mod epoch;
pub(crate) mod evidence;
mod feedback;
mod governance;
mod identity;
mod jobs;
mod model;
mod proposal;
mod prune;
mod quality;
mod redelegate;
mod registry;
mod session;
mod settle;
mod slash;
mod stake;

use std::cell::OnceCell;

use dn_core::{Address, BlockHash, Hash32, TxId};

pub(crate) use domain::{check_name, domain_emission, domain_fees, put_domain};
#[cfg(feature = "node")]
pub(crate) use draw::{MAX_AUDIT_LOAD, audit_load};
use identity::store_identity;
pub(crate) use identity::{in_role, put_identity};
pub use quality::{canary_input, round_id};

use crate::events::Event;
use crate::params::Params;
use crate::referee::{RefereeHandle, Side};
use crate::reject::{Reject, SignedObject};
use crate::state::{ACCOUNTS, IN_ROLE, Pool, State};
use crate::tx::{Payload, Role, SignedTx, Tx};
use crate::validators::rotate;

/// What the rules may know about the block that a transaction is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockContext {
    /// The chain.
    pub chain_id: u64,
    /// The block's height.
    pub height: u64,
    /// The block's time, Unix milliseconds.
    pub time_ms: u64,
    /// Hash of the block before.
    pub parent: BlockHash,
    /// Who proposed the block.
    pub proposer: Address,
    /// Whose signatures of the parent the block shows.
    pub parent_signers: Vec<Address>,
    /// Who should have proposed the parent, in rounds before the one that decided it, and did not.
    pub parent_missed: Vec<Address>,
    /// The parameters in force.
    pub params: Params,
    /// The value that the proposer reveals for the beacon.
    pub reveal: Option<Hash32>,
    /// Who judges disputed tiles, where the parameters name a referee.
    pub referee: Option<RefereeHandle>,
}

impl BlockContext {
    /// The block's epoch.
    pub const fn epoch(&self) -> u64 {
        self.height / self.params.epoch_blocks
    }

    /// Whether the block is the last of its epoch.
    pub const fn ends_epoch(&self) -> bool {
        (self.height + 1).is_multiple_of(self.params.epoch_blocks)
    }
}

/// What an accepted transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction.
    pub tx_id: TxId,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Whether senders' signatures are checked by the rules, or were by the caller: a node checks each transaction once, on all its
/// cores, however often it executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// The rules check them.
    Check,
    /// The caller did.
    Checked,
}

/// Applies a transaction: all of it, or, when it is refused, nothing.
///
/// # Errors
/// [`Reject`] says which rule refuses it; the state is then what it was, to the byte.
pub fn apply(state: &mut State, tx: &SignedTx, ctx: &BlockContext) -> Result<Outcome, Reject> {
    apply_with(state, tx, ctx, Signatures::Check)
}

pub(crate) fn apply_with(
    state: &mut State,
    tx: &SignedTx,
    ctx: &BlockContext,
    signatures: Signatures,
) -> Result<Outcome, Reject> {
    let point = state.checkpoint();
    let mut step = Step::new(state, ctx);
    let result = step.transact(tx, signatures);
    #[cfg(any(test, feature = "faults"))]
    crate::chain::fault::strike(&tx.tx);
    match result {
        Ok(()) => Ok(Outcome { tx_id: tx.id(), events: step.events }),
        Err(reject) => {
            state.rollback(point);
            Err(reject)
        }
    }
}

/// The transitions at the start of a block: audits of batches whose randomness is there are drawn, deadlines that passed
/// take effect, batches whose window closed are settled.
pub fn begin_block(state: &mut State, ctx: &BlockContext) -> Vec<Event> {
    let mut step = Step::new(state, ctx);
    step.mix_beacon();
    step.count_turns();
    step.expire_audits();
    step.expire_disputes();
    step.settle_rounds();
    step.open_rounds();
    step.process_due_batches();
    step.refund_jobs();
    step.govern();
    step.prune_batches();
    step.prune_commitments();
    step.events
}

/// The transitions at the end of a block: the epoch's, when the block is its last, and who decides the next block.
pub fn end_block(state: &mut State, ctx: &BlockContext) -> Vec<Event> {
    let mut step = Step::new(state, ctx);
    if ctx.ends_epoch() {
        step.close_epoch();
        step.execute_proposals();
    }
    step.close_slice(ctx.ends_epoch());
    let events = step.events;
    rotate(state, &ctx.params, ctx.height);
    #[cfg(test)]
    crate::chain::fault::strike_at_end(state);
    events
}

/// Checks what can be checked without applying: everything but the payload's own rules, and whether a validator's report earns its fee.
///
/// # Errors
/// [`Reject`]; the order is chain, expiry, nonce, fee, signature, balance.
pub fn check_envelope(state: &State, tx: &SignedTx, ctx: &BlockContext) -> Result<(), Reject> {
    check_envelope_with(state, tx, ctx, Signatures::Check)
}

fn check_envelope_with(
    state: &State,
    tx: &SignedTx,
    ctx: &BlockContext,
    signatures: Signatures,
) -> Result<(), Reject> {
    check_static(tx, ctx)?;
    let account = ACCOUNTS.get_or_default(state, &tx.tx.sender);
    if tx.tx.nonce != account.nonce {
        return Err(Reject::Nonce { expected: account.nonce, found: tx.tx.nonce });
    }
    check_paid_and_signed(state, tx, ctx, signatures)
}

pub(crate) fn check_static(tx: &SignedTx, ctx: &BlockContext) -> Result<(), Reject> {
    let SignedTx { tx, .. } = tx;
    if tx.chain_id != ctx.chain_id {
        let object = SignedObject::Transaction;
        return Err(Reject::ChainId { object, expected: ctx.chain_id, found: tx.chain_id });
    }
    if ctx.height > tx.expires_height {
        return Err(Reject::Expired { expires_height: tx.expires_height, height: ctx.height });
    }
    let latest = ctx.height.saturating_add(ctx.params.max_expiry_blocks);
    if tx.expires_height > latest {
        return Err(Reject::ExpiryTooFar { expires_height: tx.expires_height, latest });
    }
    Ok(())
}

pub(crate) fn check_paid_and_signed(
    state: &State,
    tx: &SignedTx,
    ctx: &BlockContext,
    signatures: Signatures,
) -> Result<(), Reject> {
    let Tx { sender, fee, .. } = tx.tx;
    let minimum = tx.tx.least_fee(ctx.params.min_tx_fee);
    if fee < minimum {
        return Err(Reject::FeeTooLow { minimum, found: fee });
    }
    if signatures == Signatures::Check {
        tx.verify_signature()
            .map_err(|_| Reject::Signature { object: SignedObject::Transaction, expected: sender })?;
    }
    let available = ACCOUNTS.get_or_default(state, &sender).balance;
    if available < fee && !pays_afterwards(state, &tx.tx) {
        return Err(Reject::Insufficient { account: sender, available, needed: fee });
    }
    Ok(())
}

/// Whether the fee is taken after the payload has been applied, so that what it earns may pay it: a validator has all that it owns in bond and stake,
/// and is who sees that another one signs twice. What earns too little is refused as a whole.
pub(crate) fn pays_afterwards(state: &State, tx: &Tx) -> bool {
    matches!(tx.payload, Payload::SubmitEvidence { .. })
        && IN_ROLE.contains(state, &(Role::Validator, tx.sender))
}

/// A transition in progress: the state, the block, and what happened so far.
struct Step<'a> {
    state: &'a mut State,
    ctx: &'a BlockContext,
    events: Vec<Event>,
    /// What auditors are drawn by in this block, once somebody asked.
    draws: OnceCell<draw::DrawTable>,
}

impl<'a> Step<'a> {
    fn new(state: &'a mut State, ctx: &'a BlockContext) -> Self {
        Self { state, ctx, events: Vec::new(), draws: OnceCell::new() }
    }

    fn transact(&mut self, signed: &SignedTx, signatures: Signatures) -> Result<(), Reject> {
        check_envelope_with(self.state, signed, self.ctx, signatures)?;
        if pays_afterwards(self.state, &signed.tx) {
            self.act(&signed.tx)?;
            return self.charge(&signed.tx);
        }
        self.charge(&signed.tx)?;
        self.act(&signed.tx)
    }

    /// Takes the fee and counts the nonce up.
    fn charge(&mut self, tx: &Tx) -> Result<(), Reject> {
        let Tx { sender, nonce, fee, .. } = *tx;
        self.debit(sender, fee)?;
        self.add_to_pool(Pool::Validators, fee);
        ACCOUNTS.update(self.state, &sender, |account| account.nonce = nonce + 1);
        self.events.push(Event::FeePaid { sender, amount: fee });
        Ok(())
    }

    fn act(&mut self, tx: &Tx) -> Result<(), Reject> {
        let sender = tx.sender;
        match &tx.payload {
            Payload::Transfer { to, amount } => self.transfer(sender, *to, *amount),
            Payload::Register { role, collateral, name, endpoint } => {
                self.register(sender, *role, *collateral, name, endpoint)
            }
            Payload::Retire { role } => self.retire(sender, *role),
            Payload::Stake { validator, amount } => self.stake(sender, *validator, *amount),
            Payload::Unbond { validator, shares } => self.unbond(sender, *validator, *shares),
            Payload::Withdraw {} => self.withdraw(sender),
            Payload::PublishModel { manifest, name, price, domain, salt } => {
                self.publish_model(sender, manifest, name, *price, *domain, *salt)
            }
            Payload::CommitModel { commitment } => self.commit_model(sender, *commitment),
            Payload::SetModelPrice { model, price } => self.set_model_price(sender, *model, *price),
            Payload::RetireModel { model } => self.retire_model(sender, *model),
            Payload::Offer { model, price } => self.offer(sender, *model, *price),
            Payload::Unoffer { model } => self.unoffer(sender, *model),
            Payload::OpenChannel { payee, deposit, spender } => {
                self.open_channel(sender, tx.nonce, *payee, *deposit, *spender)
            }
            Payload::TopUpChannel { channel, amount } => self.top_up_channel(sender, *channel, *amount),
            Payload::CloseChannel { channel } => self.close_channel(sender, *channel),
            Payload::FinishChannel { channel } => self.finish_channel(sender, *channel),
            Payload::PostBatch { batch, vouchers } => self.post_batch(sender, batch, vouchers),
            Payload::AuditCommit { batch, index, commitment } => {
                self.audit_commit(sender, *batch, *index, *commitment)
            }
            Payload::AuditReveal { verdict, salt } => self.audit_reveal(sender, verdict, salt),
            Payload::CreateDomain { name, terms } => self.create_domain(sender, name, *terms),
            Payload::ConfigureDomain { domain, terms } => self.configure_domain(sender, *domain, *terms),
            Payload::TransferDomain { domain, to } => self.transfer_domain(sender, *domain, *to),
            Payload::SpendTreasury { domain, to, amount } => {
                self.spend_treasury(sender, *domain, *to, *amount)
            }
            Payload::CloseDomain { domain } => self.close_domain(sender, *domain),
            Payload::PublishVersion { version } => self.publish_version(sender, version),
            Payload::TransferModel { family, to } => self.transfer_model(sender, *family, *to),
            Payload::BackModel { family, amount } => self.back_model(sender, *family, *amount),
            Payload::Unback { family, shares } => self.unback(sender, *family, *shares),
            Payload::LockJob { job } => self.lock_job(sender, tx.nonce, job),
            Payload::ClaimJob { batch, receipt, acceptance } => {
                self.claim_job(sender, batch, receipt, acceptance.as_ref())
            }
            Payload::UpdateIdentity { role, name, endpoint, add_collateral } => {
                self.update_identity(sender, *role, name.as_deref(), endpoint.as_deref(), *add_collateral)
            }
            Payload::SetCommission { rate } => self.set_commission(sender, *rate),
            Payload::Redelegate { from, to, shares } => self.redelegate(sender, *from, *to, *shares),
            Payload::SubmitEvidence { validator, evidence } => {
                self.submit_evidence(sender, *validator, evidence)
            }
            Payload::GrantSession { grant } => self.grant_session(grant),
            Payload::RevokeSession { session, serial } => self.revoke_session(sender, *session, *serial),
            Payload::Propose { title, text, kind, deposit } => {
                self.propose(sender, title, text, kind, *deposit)
            }
            Payload::Deposit { proposal, amount } => self.deposit(sender, *proposal, *amount),
            Payload::Vote { proposal, pool, choice } => self.vote(sender, *proposal, *pool, *choice),
            Payload::DisputeOpen { batch, index, receipt, proof, ground } => {
                self.dispute_open(sender, *batch, *index, (receipt, proof, *ground))
            }
            Payload::DisputePick { batch, index, step, bytes } => {
                self.dispute_move(sender, (*batch, *index, *step), Side::Accuser, bytes)
            }
            Payload::DisputeAnswer { batch, index, step, bytes } => {
                self.dispute_move(sender, (*batch, *index, *step), Side::Worker, bytes)
            }
            Payload::QualitySeal { round, commitment } => self.quality_seal(sender, *round, *commitment),
            Payload::QualityCommit { round, commitment } => self.quality_commit(sender, *round, *commitment),
            Payload::QualityReveal { reveal } => self.quality_reveal(sender, reveal),
            Payload::QualityUnseal { seal, draw } => self.quality_unseal(sender, seal, draw),
            Payload::Feedback { feedback, receipt, proof } => self.feedback(feedback, receipt, proof),
        }
    }
}
