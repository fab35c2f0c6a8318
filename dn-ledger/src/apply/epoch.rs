//! The end of an epoch: trust of workers and validators closes, then emission and the validators' pool are paid. Models follow in slices
//! ([`closing`](super::closing)).

use std::collections::{BTreeMap, BTreeSet};

use dn_core::{Address, Amount};
use dn_powr::Payout;

use super::books::sum;
use super::{Step, in_role};
use crate::events::Event;
use crate::power::reward_weight;
use crate::state::{
    IdentityStatus, POOLS, Pool, VALIDATOR_EPOCHS, VALIDATOR_TRUST, WORKER_EPOCHS, WORKER_TRUST,
};
use crate::tx::Role;

impl Step<'_> {
    pub(super) fn close_epoch(&mut self) {
        self.judge_turns();
        self.close_worker_trust();
        self.close_validator_trust();
        self.close_classes();
        let (emitted, work) = self.pay_emission();
        let paid = self.pay_validators();
        self.clear_turns();
        let epoch = self.ctx.epoch();
        self.events.push(Event::EpochClosed { epoch, emitted, paid, work: work.to_string() });
    }

    /// Whose trust an epoch changes: all in the role, and those of whom something was heard that have left it, or were thrown out for it.
    fn with_role(&self, role: Role, heard_of: BTreeSet<Address>) -> BTreeSet<Address> {
        let in_role = in_role(self.state, role).map(|(address, _)| address);
        in_role.chain(heard_of).collect()
    }

    fn close_worker_trust(&mut self) {
        let params = &self.ctx.params.trust;
        let heard_of = WORKER_EPOCHS.iter(self.state).map(|(address, _)| address).collect();
        for address in self.with_role(Role::Worker, heard_of) {
            let Some(mut trust) = WORKER_TRUST.get(self.state, &address) else { continue };
            let before = trust.weight(params);
            trust.close_epoch(params, &WORKER_EPOCHS.get_or_default(self.state, &address));
            WORKER_TRUST.put(self.state, &address, &trust);
            WORKER_EPOCHS.remove(self.state, &address);
            let after = trust.weight(params);
            if after != before {
                self.events.push(Event::TrustChanged { address, role: Role::Worker, before, after });
            }
        }
    }

    fn close_validator_trust(&mut self) {
        let params = &self.ctx.params.trust;
        let heard_of = VALIDATOR_EPOCHS.iter(self.state).map(|(address, _)| address).collect();
        for address in self.with_role(Role::Validator, heard_of) {
            let Some(mut trust) = VALIDATOR_TRUST.get(self.state, &address) else { continue };
            let before = trust.weight(params);
            trust.close_epoch(params, &VALIDATOR_EPOCHS.get_or_default(self.state, &address));
            VALIDATOR_TRUST.put(self.state, &address, &trust);
            VALIDATOR_EPOCHS.remove(self.state, &address);
            let after = trust.weight(params);
            if after != before {
                self.events.push(Event::TrustChanged { address, role: Role::Validator, before, after });
            }
        }
    }

    /// Divides the validators' pool among the stake pools by stake × trust; without any it carries over.
    fn pay_validators(&mut self) -> Amount {
        let weights: BTreeMap<_, _> = in_role(self.state, Role::Validator)
            .filter(|(_, identity)| identity.status == IdentityStatus::Active)
            .map(|(address, _)| (address, reward_weight(self.state, &self.ctx.params, address)))
            .collect();
        let held = POOLS.get_or_default(self.state, &Pool::Validators);
        let mut paid = Amount::ZERO;
        for (validator, amount) in divide(held, &weights) {
            let amount = self.charge_turns(validator, amount);
            if amount.is_zero() || !self.reward_pool(validator, amount) {
                continue;
            }
            self.take_from_pool(Pool::Validators, amount);
            paid = sum(paid, amount);
        }
        paid
    }
}

/// A pot divided by points; nothing when nobody has points.
pub(super) fn divide<K: Ord + Copy>(pot: Amount, points: &BTreeMap<K, u128>) -> Vec<(K, Amount)> {
    let entries = || points.iter().map(|(id, points)| (*id, *points));
    let Ok(plan) = Payout::new(pot, entries().collect::<Vec<_>>()) else { return Vec::new() };
    if plan.total_points() == 0 {
        return Vec::new();
    }
    entries().map(|(id, points)| (id, plan.share_of(id, points))).collect()
}
