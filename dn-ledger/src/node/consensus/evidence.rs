//! Conflicting signatures that the engine saw: turned into the ledger's own form, which anybody can check again.

use dn_core::{Address, Amount, SecretKey, Signature};
use malachite_channel::app::types::MisbehaviorEvidence;

use super::context::{Ctx, Sig};
use crate::chain::Chain;
use crate::node::shared::{NotAdmitted, Shared};
use crate::state::ACCOUNTS;
use crate::tx::{Evidence, Payload, SignedTx, Tx};
use crate::vote::{RoundProposal, Vote};

/// Blocks that a report of an equivocation may wait for its own.
const EVIDENCE_BLOCKS: u64 = 100;

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

/// The transaction that brings an equivocation before the ledger, signed by a validator that saw it. Nobody reports itself.
fn evidence_tx(equivocation: &Equivocation, key: &SecretKey, nonce: u64, chain: &Chain) -> Option<SignedTx> {
    let (validator, sender) = (equivocation.validator(), key.address());
    if validator == sender {
        return None;
    }
    let evidence = match *equivocation {
        Equivocation::Votes { votes: [(first, first_signature), (second, second_signature)], .. } => {
            Evidence::Votes { first, first_signature, second, second_signature }
        }
        Equivocation::Proposals {
            proposals: [(first, first_signature), (second, second_signature)], ..
        } => Evidence::Proposals { first, first_signature, second, second_signature },
    };
    let ctx = chain.next();
    let expires_height = ctx.height + ctx.params.max_expiry_blocks.min(EVIDENCE_BLOCKS);
    let payload = Payload::SubmitEvidence { validator, evidence };
    let mut tx = Tx { chain_id: ctx.chain_id, sender, nonce, expires_height, fee: Amount::ZERO, payload };
    tx.fee = tx.least_fee(ctx.params.min_tx_fee);
    Some(tx.sign(key))
}

/// Submits what can be submitted of what was seen.
pub(crate) fn file(shared: &Shared, key: &SecretKey) {
    for equivocation in shared.take_evidence() {
        let tx = {
            let (pool, chain) = (shared.pool(), shared.chain());
            let account = ACCOUNTS.get_or_default(chain.state(), &key.address()).nonce;
            let nonce = pool.mempool.next_nonce(key.address(), account);
            evidence_tx(&equivocation, key, nonce, &chain)
        };
        match tx.and_then(|tx| shared.submit(vec![(tx.id(), tx)]).pop()) {
            // Who else saw it may have been faster; a refusal stays one.
            None | Some(Ok(_) | Err(NotAdmitted::Rejected(_))) => {}
            Some(Err(NotAdmitted::Mempool(_))) => shared.keep_evidence(equivocation),
        }
    }
}

/// Says and keeps what was seen.
pub(crate) fn report(ctx: Ctx, seen: &MisbehaviorEvidence<Ctx>, shared: &Shared) {
    for equivocation in collect(ctx, seen) {
        shared.metrics.evidence.inc();
        tracing::warn!(validator = %equivocation.validator(), ?equivocation, "a validator signed twice");
        shared.keep_evidence(equivocation);
    }
}
