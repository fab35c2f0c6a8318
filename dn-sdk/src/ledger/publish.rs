//! The first step of a publication: the commitment that keeps a copied manifest from being published first.

use std::time::{Duration, Instant};

use dn_core::{Address, Canonical, Hash32, ModelId, SecretKey, keccak256};
use dn_ledger::light::{Subject, SubjectError};
use dn_ledger::state::{MODEL_COMMITMENTS, ModelCommitment};
use dn_ledger::tx::{Payload, model_commitment};

use super::{LedgerClient, LedgerError};

/// How long to wait before the node is asked again how high the chain is.
const PAUSE: Duration = Duration::from_millis(200);
/// How long no block may come before waiting is given up.
pub(super) const STANDSTILL: Duration = Duration::from_secs(60);
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
        let model = manifest.id();
        // Of a model that is there already the ledger refuses the publication.
        if blocks == 0 || self.model(model).await?.is_some() {
            return Ok(payload);
        }
        let secret = model_salt(key, model);
        *salt = Some(secret);
        let commitment = model_commitment(model, key.address(), &secret);
        let made = match self.commitment(key.address(), commitment).await? {
            Some(made) => made,
            None => {
                self.submit(key, Payload::CommitModel { commitment }).await?;
                // Proven: whoever sees the manifest before it stands could commit to it first.
                let made = self.commitment(key.address(), commitment).await?;
                made.ok_or_else(|| self.untrue(SubjectError::Missing { table: "model_commitments" }))?
            }
        };
        // The publication is for the next block.
        let from = made.height.saturating_add(blocks).saturating_sub(1);
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            self.proven(Subject::Params {}).await?;
            let height = self.verified_header().await.map_or(0, |header| header.height);
            if height >= from {
                return Ok(payload);
            }
            if height > seen {
                (seen, since) = (height, Instant::now());
            } else if since.elapsed() > self.0.waits.standstill {
                return Err(LedgerError::NoHeader { url: self.0.url.clone(), height: from });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An owner's commitment that is neither used nor forgotten, proven.
    async fn commitment(
        &self,
        owner: Address,
        commitment: Hash32,
    ) -> Result<Option<ModelCommitment>, LedgerError> {
        let proven = self.proven(Subject::ModelCommitment { owner, commitment }).await?;
        Ok(MODEL_COMMITMENTS.get(proven.state(), &(owner, commitment)))
    }
}
