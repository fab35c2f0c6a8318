//! Models: publication, price, retirement, and the workers that host them.

use dn_core::objects::{MAX_STOP_TOKENS, ModelManifest, Price};
use dn_core::{Address, Hash32, ModelId};

use super::Step;
use crate::events::Event;
use crate::reject::{Field, ManifestFault, Reject};
use crate::state::{MODELS, Model, OFFERS, Offer};
use crate::text::{check_size, check_text};
use crate::tx::{MAX_NAME_BYTES, Role};

/// The newest numeric spec; results by another one nobody could check.
const NEWEST_NUMERIC_SPEC: u16 = 1;
/// The most bytes of an architecture's name.
const MAX_ARCHITECTURE_BYTES: usize = 32;

impl Step<'_> {
    pub(super) fn publish_model(
        &mut self,
        owner: Address,
        manifest: &ModelManifest,
        name: &str,
        price: Price,
        domain: u32,
        salt: Option<Hash32>,
    ) -> Result<(), Reject> {
        let id = self.put_model(owner, manifest, name, price, domain, salt)?;
        self.put_plain_version(owner, id);
        Ok(())
    }

    /// Stores a new model; the caller stores its terms.
    pub(super) fn put_model(
        &mut self,
        owner: Address,
        manifest: &ModelManifest,
        name: &str,
        price: Price,
        domain: u32,
        salt: Option<Hash32>,
    ) -> Result<ModelId, Reject> {
        self.active(Role::ModelOwner, owner)?;
        check_text(Field::Name, name, 1, MAX_NAME_BYTES)?;
        check_manifest(manifest)?;
        self.check_price(price)?;
        self.admits(domain, owner)?;
        let id = manifest.id();
        if let Some(model) = MODELS.get(self.state, &id) {
            return Err(Reject::ModelExists { model: id, owner: model.owner });
        }
        self.use_commitment(owner, id, salt)?;
        let model = Model {
            owner,
            name: name.to_owned(),
            price,
            domain,
            published_height: self.ctx.height,
            retired_height: None,
            manifest: manifest.clone(),
        };
        MODELS.put(self.state, &id, &model);
        self.count_model(domain, true);
        self.events.push(Event::ModelPublished { model: id, owner, name: model.name, price });
        Ok(id)
    }

    pub(super) fn set_model_price(
        &mut self,
        sender: Address,
        id: ModelId,
        price: Price,
    ) -> Result<(), Reject> {
        let mut model = self.own_model(sender, id)?;
        self.check_price(price)?;
        model.price = price;
        MODELS.put(self.state, &id, &model);
        self.events.push(Event::ModelPriceSet { model: id, price });
        Ok(())
    }

    pub(super) fn retire_model(&mut self, sender: Address, id: ModelId) -> Result<(), Reject> {
        let mut model = self.own_model(sender, id)?;
        model.retired_height = Some(self.ctx.height);
        MODELS.put(self.state, &id, &model);
        self.count_model(model.domain, false);
        self.events.push(Event::ModelRetired { model: id });
        Ok(())
    }

    pub(super) fn offer(&mut self, worker: Address, id: ModelId, price: Price) -> Result<(), Reject> {
        self.active(Role::Worker, worker)?;
        self.live_model(id)?;
        self.check_price(price)?;
        let offered = OFFERS.get(self.state, &(id, worker)).filter(|offer| offer.until_height.is_none());
        if offered.is_some_and(|offer| offer.price == price) {
            return Err(Reject::AlreadyOffered { model: id, worker });
        }
        let since_height = offered.map_or(self.ctx.height, |offer| offer.since_height);
        OFFERS.put(self.state, &(id, worker), &Offer { since_height, until_height: None, price });
        self.events.push(Event::Offered { model: id, worker, price });
        Ok(())
    }

    pub(super) fn unoffer(&mut self, worker: Address, id: ModelId) -> Result<(), Reject> {
        let mut offer = OFFERS
            .get(self.state, &(id, worker))
            .filter(|offer| offer.until_height.is_none())
            .ok_or(Reject::NotOffered { model: id, worker })?;
        offer.until_height = Some(self.ctx.height.saturating_add(self.ctx.params.model_grace_blocks));
        OFFERS.put(self.state, &(id, worker), &offer);
        self.events.push(Event::Unoffered { model: id, worker });
        Ok(())
    }

    /// The model, if batches for it are taken from this worker: hosted and published, or not longer ago than the grace time.
    pub(super) fn served_model(&self, id: ModelId, worker: Address) -> Result<Model, Reject> {
        let model = MODELS.get(self.state, &id).ok_or(Reject::UnknownModel { model: id })?;
        let over = |height: &u64| self.ctx.height > height.saturating_add(self.ctx.params.model_grace_blocks);
        if let Some(height) = model.retired_height.filter(over) {
            return Err(Reject::ModelRetired { model: id, height });
        }
        let served = |offer: Offer| offer.until_height.is_none_or(|until| self.ctx.height <= until);
        if !OFFERS.get(self.state, &(id, worker)).is_some_and(served) {
            return Err(Reject::NotOffered { model: id, worker });
        }
        Ok(model)
    }

    /// Whether a published model computes exactly, so that its receipts are audited.
    pub(super) fn is_exact(&self, id: ModelId) -> bool {
        MODELS.get(self.state, &id).expect("models are never removed").manifest.is_exact()
    }

    pub(super) fn live_model(&self, id: ModelId) -> Result<Model, Reject> {
        let model = MODELS.get(self.state, &id).ok_or(Reject::UnknownModel { model: id })?;
        match model.retired_height {
            None => Ok(model),
            Some(height) => Err(Reject::ModelRetired { model: id, height }),
        }
    }

    fn own_model(&self, sender: Address, id: ModelId) -> Result<Model, Reject> {
        let model = self.live_model(id)?;
        if model.owner == sender {
            Ok(model)
        } else {
            Err(Reject::NotOwner { model: id, owner: model.owner })
        }
    }

    pub(super) fn check_price(&self, price: Price) -> Result<(), Reject> {
        let maximum = self.ctx.params.max_token_price;
        let found = price.prompt_token.max(price.output_token);
        if found > maximum { Err(Reject::PriceTooHigh { maximum, found }) } else { Ok(()) }
    }
}

fn check_manifest(manifest: &ModelManifest) -> Result<(), Reject> {
    check_text(Field::Architecture, &manifest.architecture, 1, MAX_ARCHITECTURE_BYTES)?;
    check_size(Field::StopTokens, manifest.stop_tokens.len(), 0, MAX_STOP_TOKENS)?;
    let fault = |what| Err(Reject::Manifest { what });
    if manifest.numeric_spec > NEWEST_NUMERIC_SPEC {
        return fault(ManifestFault::NumericSpec);
    }
    let h = &manifest.hyperparameters;
    let sizes = [h.layers, h.width, h.heads, h.kv_heads, h.head_size, h.ffn_width];
    if sizes.contains(&0) || h.vocabulary == 0 || h.context == 0 || manifest.block == 0 {
        return fault(ManifestFault::ZeroSize);
    }
    if sizes.iter().any(|size| *size > 1 << 24) || h.vocabulary.max(h.context) > 1 << 31 {
        return fault(ManifestFault::HugeSize);
    }
    if !h.heads.is_multiple_of(h.kv_heads) {
        return fault(ManifestFault::Heads);
    }
    let stops = &manifest.stop_tokens;
    let tokens_exist = stops.iter().chain(&manifest.bos_token).all(|token| *token < h.vocabulary);
    if !tokens_exist || stops.windows(2).any(|pair| pair[0] >= pair[1]) {
        return fault(ManifestFault::StopTokens);
    }
    Ok(())
}
