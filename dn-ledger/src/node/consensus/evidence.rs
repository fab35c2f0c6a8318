//! Conflicting signatures that the engine saw: turned into the ledger's own form, which anybody can check again.

use dn_core::{Address, SecretKey, Signature};
use malachite_channel::app::types::MisbehaviorEvidence;

use super::context::{Ctx, Sig};
use crate::chain::Chain;
use crate::node::shared::{NotAdmitted, Shared};
use crate::state::ACCOUNTS;
use crate::tx::SignedTx;
use crate::vote::{RoundProposal, Vote};

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

/// The transaction that brings an equivocation before the ledger, signed by a validator that saw it.
///
/// The ledger has no payload for it yet: until it has one, what is seen is logged, counted and kept. This function is the
/// only place that has to know the payload; whatever it returns is submitted like a client's transaction.
pub(crate) fn evidence_tx(
    _equivocation: &Equivocation,
    _key: &SecretKey,
    _nonce: u64,
    _chain: &Chain,
) -> Option<SignedTx> {
    None
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
        match tx.map(|tx| shared.submit(tx)) {
            // Who else saw it may have been faster.
            Some(Ok(_) | Err(NotAdmitted::Rejected(_))) => {}
            Some(Err(NotAdmitted::Mempool(_))) | None => shared.keep_evidence(equivocation),
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
