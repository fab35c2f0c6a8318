//! Conflicting signatures that the engine saw: turned into the ledger's own form, which anybody can check again.

use dn_core::{Address, Signature};
use malachite_channel::app::types::MisbehaviorEvidence;

use super::context::{Ctx, Sig};
use crate::node::shared::Shared;
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

/// Says and keeps what was seen.
pub(crate) fn report(ctx: Ctx, seen: &MisbehaviorEvidence<Ctx>, shared: &Shared) {
    for equivocation in collect(ctx, seen) {
        shared.metrics.evidence.inc();
        tracing::warn!(validator = %equivocation.validator(), ?equivocation, "a validator signed twice");
        shared.keep_evidence(equivocation);
    }
}
