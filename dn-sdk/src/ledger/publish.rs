//! The first step of a publication: the commitment that keeps a copied manifest from being published first.

use std::time::Duration;

use dn_core::{Canonical, Hash32, ModelId, SecretKey, keccak256};
use dn_ledger::Reject;
use dn_ledger::reject::RegistryReject;
use dn_ledger::tx::{Payload, model_commitment};

use super::{LedgerClient, LedgerError};

/// How long to wait before the node is asked again how high the chain is.
const PAUSE: Duration = Duration::from_millis(200);
/// What a salt is made with.
const SALT_DOMAIN: &[u8] = b"DeepNode model salt v1";

/// The salt of an owner's commitment to a model: the same each time, so that a publication that broke off goes on, and known to nobody else, as it comes out of
/// a signature that is never shown.
pub fn model_salt(key: &SecretKey, model: ModelId) -> Hash32 {
    let signature = key.sign(&keccak256(&[SALT_DOMAIN, &model.0]));
    Hash32(keccak256(&[SALT_DOMAIN, &signature.to_bytes()]))
}

impl LedgerClient {
    /// What is to be sent now instead of a publication without a salt: where the chain asks for a commitment to the model, one is made, or the one that
    /// stands is taken, the blocks that it has to wait are waited for, and the payload has its salt. Everything else is given back as it is.
    ///
    /// # Errors
    /// [`LedgerError`]; what was committed to stands, and another call goes on from there.
    pub async fn commit_first(&self, key: &SecretKey, mut payload: Payload) -> Result<Payload, LedgerError> {
        let (manifest, salt) = match &mut payload {
            Payload::PublishModel { manifest, salt, .. } => (manifest, salt),
            Payload::PublishVersion { version } => (&mut version.manifest, &mut version.salt),
            _ => return Ok(payload),
        };
        if salt.is_some() {
            return Ok(payload);
        }
        let blocks = self.params().await?.registry.commit_blocks;
        if blocks == 0 {
            return Ok(payload);
        }
        let model = manifest.id();
        let secret = model_salt(key, model);
        *salt = Some(secret);
        let commitment = model_commitment(model, key.address(), &secret);
        let made = match self.submit(key, Payload::CommitModel { commitment }).await {
            Ok(outcome) => outcome.height,
            Err(LedgerError::Rejected(reject)) => match *reject {
                Reject::Registry(RegistryReject::CommitmentExists { height, .. }) => height,
                reject => return Err(LedgerError::Rejected(Box::new(reject))),
            },
            Err(error) => return Err(error),
        };
        // The publication is for the next block.
        while self.status().await?.height.saturating_add(1) < made.saturating_add(blocks) {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(payload)
    }
}
