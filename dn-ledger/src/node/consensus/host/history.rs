//! Decided blocks: given to nodes that are behind, taken from those that are ahead.

use bytes::Bytes;
use dn_core::Canonical;
use malachite_channel::app::engine::host::SyncedValueOutcome;
use malachite_channel::app::types::sync::RawDecidedValue;
use malachite_types::{CommitCertificate, CommitSignature, Round, Validity};

use super::{Host, MAX_SYNC_BYTES};
use crate::block::{Block, Certificate};
use crate::node::consensus::ConsensusError;
use crate::node::consensus::codec::decided_value;
use crate::node::consensus::context::{Ctx, Height, Id, Sig};
use crate::node::consensus::parts::{Place, Received};

impl Host {
    /// Decided blocks with their certificates for a node that is behind.
    pub(super) fn decided(&self, first: u64, last: u64) -> Result<Vec<RawDecidedValue<Ctx>>, ConsensusError> {
        let (mut values, mut bytes) = (Vec::new(), 0);
        for height in first.max(1)..=last.min(self.tip()) {
            let (Some(block), Some(certificate)) =
                (self.shared.store.block(height)?, self.shared.store.certificate(height)?)
            else {
                break;
            };
            let certificate = engine_certificate(&block, &certificate);
            let block = block.to_bytes();
            bytes += block.len();
            if bytes > MAX_SYNC_BYTES && !values.is_empty() {
                break;
            }
            values.push(decided_value(block, certificate));
        }
        Ok(values)
    }

    pub(super) fn synced(
        &mut self,
        height: Height,
        round: Round,
        proposer: Id,
        bytes: &Bytes,
    ) -> Result<SyncedValueOutcome<Ctx>, ConsensusError> {
        if height.0 != self.tip() + 1 {
            return Ok(SyncedValueOutcome::LocalTransientError);
        }
        let Ok(block) = Block::from_bytes(bytes) else { return Ok(SyncedValueOutcome::PeerFault) };
        let id = block.header.hash().into();
        let place = Place { height, round, valid_round: Round::Nil, proposer, block: id };
        let Some(received) = Received::decode(place, proposer, bytes) else {
            return Ok(SyncedValueOutcome::PeerFault);
        };
        self.synced = height.0;
        self.shared.metrics.synced_blocks.inc();
        let mut verdict = self.accept(received, false)?;
        if let Some(verdict) = &mut verdict {
            // The engine has checked a certificate of this height, and drops the block unless it is the certificate's. So this says whether it is
            // decided, not whether it can be executed here: if it cannot, the commit says so and the node stops, instead of asking for it for ever.
            verdict.validity = Validity::Valid;
        }
        Ok(verdict.map_or(SyncedValueOutcome::LocalTransientError, SyncedValueOutcome::Verdict))
    }
}

/// The ledger's form of the engine's certificate.
pub(super) fn pure_certificate(certificate: &CommitCertificate<Ctx>) -> Result<Certificate, ConsensusError> {
    let height = certificate.height.0;
    let round = certificate.round.as_u32().ok_or(ConsensusError::Certificate { height })?;
    let signatures = certificate.commit_signatures.iter().map(|s| {
        let signature = dn_core::Signature::from_bytes(s.signature.0);
        Ok((s.address.address(), signature.map_err(|_| ConsensusError::Certificate { height })?))
    });
    let mut signatures = signatures.collect::<Result<Vec<_>, ConsensusError>>()?;
    signatures.sort_by_key(|(signer, _)| *signer);
    signatures.dedup_by_key(|(signer, _)| *signer);
    Ok(Certificate { round, signatures })
}

/// The engine's form of a stored certificate.
fn engine_certificate(block: &Block, certificate: &Certificate) -> CommitCertificate<Ctx> {
    let signature = |(signer, signature): &(dn_core::Address, dn_core::Signature)| {
        CommitSignature::new(Id::from(*signer), Sig::from(*signature))
    };
    CommitCertificate {
        height: Height(block.header.height),
        round: Round::new(certificate.round),
        value_id: block.header.hash().into(),
        commit_signatures: certificate.signatures.iter().map(signature).collect(),
    }
}
