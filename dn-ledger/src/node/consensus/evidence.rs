//! Conflicting signatures that the engine saw: turned into the ledger's own form, which anybody can check again.

use std::time::{Duration, Instant};

use dn_core::{Address, Amount, SecretKey, Signature};
use malachite_channel::app::types::MisbehaviorEvidence;

use super::context::{Ctx, Sig};
use crate::apply::evidence::check;
use crate::chain::Chain;
use crate::node::mempool::MempoolError;
use crate::node::shared::{NotAdmitted, Shared};
use crate::reject::{EvidenceFault, Reject};
use crate::state::ACCOUNTS;
use crate::tx::{Evidence, Payload, SignedTx, Tx};
use crate::vote::{RoundProposal, Vote};

/// Blocks that a report of an equivocation may wait for its own.
const EVIDENCE_BLOCKS: u64 = 100;
/// Time between two lines in the log about a report that is not taken.
const WARN: Duration = Duration::from_secs(60);

/// Two signatures of which an honest validator gives at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equivocation {
    /// Two votes of one kind, height and round.
    Votes { validator: Address, votes: [(Vote, Signature); 2] },
    /// Two proposals of one height and round.
    Proposals { validator: Address, proposals: [(RoundProposal, Signature); 2] },
}

impl Equivocation {
    fn validator(&self) -> Address {
        match self {
            Self::Votes { validator, .. } | Self::Proposals { validator, .. } => *validator,
        }
    }

    /// In the ledger's own form.
    fn to_evidence(self) -> Evidence {
        match self {
            Self::Votes { votes: [(first, first_signature), (second, second_signature)], .. } => {
                Evidence::Votes { first, first_signature, second, second_signature }
            }
            Self::Proposals { proposals: [(first, first_signature), (second, second_signature)], .. } => {
                Evidence::Proposals { first, first_signature, second, second_signature }
            }
        }
    }
}

/// An equivocation until it is punished.
#[derive(Debug)]
pub(crate) struct Report {
    equivocation: Equivocation,
    /// The transaction that was sent last.
    sent: Option<SignedTx>,
    /// When the log said last that it is not taken.
    warned: Option<Instant>,
}

impl From<Equivocation> for Report {
    fn from(equivocation: Equivocation) -> Self {
        Self { equivocation, sent: None, warned: None }
    }
}

impl Report {
    /// Who signed twice.
    pub(crate) fn validator(&self) -> Address {
        self.equivocation.validator()
    }

    /// Brings it before the ledger, unless it waits there. None once there is nothing left to do.
    fn pursue(mut self, shared: &Shared, key: &SecretKey) -> Option<Self> {
        let validator = self.validator();
        // Nobody reports itself.
        if validator == key.address() {
            return None;
        }
        let tx = match self.next_tx(shared, key) {
            Ok(Some(tx)) => tx,
            Ok(None) => return Some(self),
            Err(reason) if is_final(&reason) => {
                tracing::info!(%validator, %reason, "nothing is left to report");
                return None;
            }
            Err(reason) => {
                self.warn(&reason);
                return Some(self);
            }
        };
        match shared.submit(vec![(tx.id(), tx.clone())]).pop() {
            None | Some(Ok(_)) => self.sent = Some(tx),
            // Whatever becomes of the other one, this one is there.
            Some(Err(NotAdmitted::Mempool(MempoolError::Reported { .. }))) => {}
            Some(Err(error)) => self.warn(&error),
        }
        Some(self)
    }

    /// The transaction to send now; none while the last one waits.
    fn next_tx(&self, shared: &Shared, key: &SecretKey) -> Result<Option<SignedTx>, Reject> {
        let (sender, evidence) = (key.address(), self.equivocation.to_evidence());
        {
            let chain = shared.chain();
            check(chain.state(), chain.next(), sender, self.validator(), &evidence)?;
        }
        let (pool, chain) = (shared.pool(), shared.chain());
        if self.sent.as_ref().is_some_and(|tx| pool.mempool.contains(tx, tx.id())) {
            return Ok(None);
        }
        let account = ACCOUNTS.get_or_default(chain.state(), &sender).nonce;
        let nonce = pool.mempool.next_nonce(sender, account);
        Ok(Some(evidence_tx(self.validator(), evidence, key, nonce, &chain)))
    }

    fn warn(&mut self, reason: &dyn std::error::Error) {
        if self.warned.is_none_or(|last| last.elapsed() >= WARN) {
            let validator = self.validator();
            tracing::warn!(%validator, %reason, "a validator signed twice, and the report is not taken; it is sent again");
            self.warned = Some(Instant::now());
        }
    }
}

/// Whether a refusal stays one: the validator is punished, or can be no more, or what was seen proves nothing.
fn is_final(reason: &Reject) -> bool {
    match reason {
        Reject::Evidence(fault) => !matches!(fault, EvidenceFault::Future { .. }),
        Reject::UnknownIdentity { .. } | Reject::ChainId { .. } | Reject::Signature { .. } => true,
        _ => false,
    }
}

/// Collects what the engine saw while a height was decided.
pub(crate) fn collect(ctx: Ctx, seen: &MisbehaviorEvidence<Ctx>) -> Vec<Equivocation> {
    let signature = |sig: &Sig| Signature::from_bytes(sig.0).ok();
    let mut found = Vec::new();
    for (validator, pairs) in seen.votes.iter() {
        found.extend(pairs.iter().filter_map(|(a, b)| {
            let one = (a.message.content(ctx.chain_id)?, signature(&a.signature)?);
            let two = (b.message.content(ctx.chain_id)?, signature(&b.signature)?);
            Some(Equivocation::Votes { validator: validator.address(), votes: [one, two] })
        }));
    }
    for (validator, pairs) in seen.proposals.iter() {
        found.extend(pairs.iter().filter_map(|(a, b)| {
            let one = (a.message.content(ctx.chain_id)?, signature(&a.signature)?);
            let two = (b.message.content(ctx.chain_id)?, signature(&b.signature)?);
            Some(Equivocation::Proposals { validator: validator.address(), proposals: [one, two] })
        }));
    }
    found
}

/// The transaction that brings an equivocation before the ledger, signed by a validator that saw it.
fn evidence_tx(
    validator: Address,
    evidence: Evidence,
    key: &SecretKey,
    nonce: u64,
    chain: &Chain,
) -> SignedTx {
    let (ctx, sender) = (chain.next(), key.address());
    let expires_height = ctx.height + ctx.params.max_expiry_blocks.min(EVIDENCE_BLOCKS);
    let payload = Payload::SubmitEvidence { validator, evidence };
    let mut tx = Tx { chain_id: ctx.chain_id, sender, nonce, expires_height, fee: Amount::ZERO, payload };
    tx.fee = tx.least_fee(ctx.params.min_tx_fee);
    tx.sign(key)
}

/// Reports what was seen, again and again until each validator is punished or can be no more.
pub(crate) fn file(shared: &Shared, key: &SecretKey) {
    for report in shared.take_evidence() {
        if let Some(report) = report.pursue(shared, key) {
            shared.keep_evidence(report);
        }
    }
}

/// Says and keeps what was seen.
pub(crate) fn report(ctx: Ctx, seen: &MisbehaviorEvidence<Ctx>, shared: &Shared) {
    for equivocation in collect(ctx, seen) {
        shared.metrics.evidence.inc();
        tracing::warn!(validator = %equivocation.validator(), ?equivocation, "a validator signed twice");
        shared.keep_evidence(equivocation.into());
    }
}
