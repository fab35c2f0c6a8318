//! What an epoch's end leaves for the blocks after it: trust in models, so many in each block, and the epoch's work, which is paid and forgotten.
//!
//! Workers and validators are capped and their epoch closes at once; models are not. What happens to a model meanwhile counts for its next epoch:
//! accumulators have their epoch in the key. Few enough are closed in the epoch's last block itself.

use std::collections::BTreeMap;

use dn_core::ModelId;
use dn_trust::ModelEpoch;

use super::Step;
use crate::events::Event;
use crate::state::{BUSY_EPOCHS, CLASS_EPOCHS, ClassEpoch, EPOCH_WORK, MODEL_EPOCHS, MODEL_TRUST, MODELS};

/// The most models whose epoch a block closes. Each changes two records, as a transfer does.
const MAX_MODELS_CLOSED: usize = 1_024;
/// The most entries of work that was paid that a block removes.
const MAX_WORK_FORGOTTEN: usize = 4_096;

impl Step<'_> {
    /// Fixes what the models of each domain are compared with: the median of the epoch's paid work. A model's class is its domain.
    pub(super) fn close_classes(&mut self) {
        let epoch = self.ctx.epoch();
        let mut classes = BTreeMap::<u32, Vec<u128>>::new();
        for ((_, id), events) in MODEL_EPOCHS.iter_from(self.state, &epoch) {
            let works = classes.entry(self.domain_of(&id)).or_default();
            if events.paid_work() > 0 {
                works.push(events.paid_work());
            }
        }
        for (domain, works) in classes {
            let busy_epochs = BUSY_EPOCHS.get_or_default(self.state, &domain);
            if !works.is_empty() {
                BUSY_EPOCHS.put(self.state, &domain, &busy_epochs.saturating_add(1));
            }
            let class = ClassEpoch { median: lower_median(works), busy_epochs };
            CLASS_EPOCHS.put(self.state, &(epoch, domain), &class);
        }
    }

    /// A block's share of what ended epochs left, the oldest first.
    pub(super) fn close_slice(&mut self, epoch_ends: bool) {
        // The epoch that this block is in has not ended, unless it is its last.
        let open_epoch = self.ctx.epoch().saturating_add(u64::from(epoch_ends));
        self.close_models(open_epoch, MAX_MODELS_CLOSED);
        let paid = EPOCH_WORK.iter(self.state).map(|(key, _)| key).take_while(|key| key.0 < open_epoch);
        let paid: Vec<_> = paid.take(MAX_WORK_FORGOTTEN).collect();
        paid.iter().for_each(|key| EPOCH_WORK.remove(self.state, key));
    }

    /// Closes the epoch of models that worked or were heard of in one before `open_epoch`, after those that passed them by since they last did. Others
    /// are not looked at, however many there are.
    fn close_models(&mut self, open_epoch: u64, limit: usize) {
        let ended = MODEL_EPOCHS.iter(self.state).take_while(|((epoch, _), _)| *epoch < open_epoch);
        let slice: Vec<_> = ended.take(limit).collect();
        for ((epoch, id), events) in &slice {
            MODEL_EPOCHS.remove(self.state, &(*epoch, *id));
            self.close_model(*epoch, *id, events);
        }
        // What classes were compared with goes with the last model of its epoch.
        let oldest = MODEL_EPOCHS.iter(self.state).next().map_or(open_epoch, |((epoch, _), _)| epoch);
        let classes = CLASS_EPOCHS.iter(self.state).map(|(key, _)| key);
        let done: Vec<_> = classes.take_while(|(epoch, _)| *epoch < oldest).collect();
        done.iter().for_each(|key| CLASS_EPOCHS.remove(self.state, key));
    }

    fn close_model(&mut self, epoch: u64, id: ModelId, events: &ModelEpoch) {
        let params = &self.ctx.params.trust;
        let class = CLASS_EPOCHS
            .get(self.state, &(epoch, self.domain_of(&id)))
            .expect("classes are closed before their models");
        let mut record = MODEL_TRUST.get(self.state, &id).expect("made at the first event");
        let before = record.trust.weight(params);
        let (idle, busy) = (epoch.saturating_sub(record.from_epoch), class.busy_epochs);
        record.trust.close_idle_epochs(params, idle, busy.saturating_sub(record.busy_epochs));
        record.trust.close_epoch(params, events, class.median);
        record.from_epoch = epoch.saturating_add(1);
        record.busy_epochs = busy.saturating_add(u64::from(class.median > 0));
        MODEL_TRUST.put(self.state, &id, &record);
        let after = record.trust.weight(params);
        if after != before {
            self.events.push(Event::ModelTrustChanged { model: id, before, after });
        }
    }

    fn domain_of(&self, model: &ModelId) -> u32 {
        MODELS.get(self.state, model).expect("models are never removed").domain
    }
}

fn lower_median(mut values: Vec<u128>) -> u128 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
