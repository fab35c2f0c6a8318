//! The end of an epoch: trust closes, then emission and the validators' pool are paid.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::{Address, Amount};
use dn_powr::{Payout, score};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::power::reward_weight;
use crate::state::{
    EPOCH_WORK, IDENTITIES, IdentityStatus, POOLS, Pool, STAKE_POOLS, VALIDATOR_EPOCHS, VALIDATOR_TRUST,
    WORKER_EPOCHS, WORKER_TRUST,
};
use crate::tx::Role;

impl Step<'_> {
    pub(super) fn close_epoch(&mut self) {
        self.judge_turns();
        self.close_worker_trust();
        self.close_validator_trust();
        self.close_model_trust();
        let (emitted, work) = self.pay_emission();
        let paid = self.pay_validators();
        self.clear_turns();
        let epoch = self.ctx.epoch();
        self.events.push(Event::EpochClosed { epoch, emitted, paid, work: work.to_string() });
    }

    fn in_role(&self, role: Role) -> Vec<(Address, IdentityStatus)> {
        IDENTITIES
            .iter_from(self.state, &role)
            .map(|((_, address), identity)| (address, identity.status))
            .filter(|(_, status)| !matches!(status, IdentityStatus::Retired { .. }))
            .collect()
    }

    fn close_worker_trust(&mut self) {
        let params = &self.ctx.params.trust;
        for (address, _) in self.in_role(Role::Worker) {
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
        for (address, _) in self.in_role(Role::Validator) {
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

    /// Pays the epoch's emission by score and returns it with the score's sum.
    ///
    /// A score is at most the counted work, so dividing by scores keeps the wash-work bound: nobody earns more for a
    /// task than its fee lost.
    fn pay_emission(&mut self) -> (Amount, u128) {
        let params = &self.ctx.params;
        let work: Vec<_> = EPOCH_WORK.iter(self.state).collect();
        let subjects: BTreeSet<_> = work.iter().map(|((domain, _, owner), _)| (*domain, *owner)).collect();
        self.note_subjects(&subjects);
        let mut scores = Vec::new();
        for ((domain, worker, owner), counted) in work {
            EPOCH_WORK.remove(self.state, &(domain, worker, owner));
            let active = IDENTITIES
                .get(self.state, &(Role::Worker, worker))
                .is_some_and(|identity| identity.status == IdentityStatus::Active);
            let Some(trust) = WORKER_TRUST.get(self.state, &worker).filter(|_| active) else { continue };
            let quality = self.quality_of(domain, owner);
            scores.push(((domain, worker, owner), score(counted, quality, trust.weight(&params.trust))));
        }
        // Scores are bounded by paid fees; should they ever exceed 128 bits, the epoch emits nothing.
        let sum_of =
            |scores: &[(_, u128)]| scores.iter().try_fold(0u128, |t, (_, points)| t.checked_add(*points));
        let Some(total) = sum_of(&scores) else { return (Amount::ZERO, 0) };
        let community = POOLS.get_or_default(self.state, &Pool::Community);
        let emission = params.emission.emission(community, total, &params.fees);
        // By domain, then within a domain by role and identity.
        let domains = points_by(&scores, |(domain, _, _)| *domain);
        let mut emitted = Amount::ZERO;
        for (domain, share) in divide(emission, &domains) {
            self.take_from_pool(Pool::Community, share);
            emitted = sum(emitted, share);
            let parts = params.domain_split.split(share);
            let own: Vec<_> = scores.iter().filter(|((d, _, _), _)| *d == domain).copied().collect();
            self.pay_all(Role::Worker, parts.workers, &points_by(&own, |(_, worker, _)| *worker));
            self.pay_all(Role::ModelOwner, parts.creators, &points_by(&own, |(_, _, owner)| *owner));
            // Stakers of a domain are the validators' pools until domains have stake of their own.
            self.add_to_pool(Pool::Validators, sum(parts.validators, parts.stakers));
            self.add_to_pool(Pool::Domain { domain }, parts.treasury);
            self.add_to_pool(Pool::Foundation, parts.foundation);
        }
        (emitted, total)
    }

    fn pay_all(&mut self, role: Role, pot: Amount, points: &BTreeMap<Address, u128>) {
        for (address, amount) in divide(pot, points) {
            self.credit(address, amount);
            if !amount.is_zero() {
                self.events.push(Event::EmissionPaid { address, role, amount });
            }
        }
    }

    /// Divides the validators' pool among the stake pools by stake × trust; without any it carries over.
    fn pay_validators(&mut self) -> Amount {
        let weights: BTreeMap<_, _> = self
            .in_role(Role::Validator)
            .into_iter()
            .filter(|(_, status)| *status == IdentityStatus::Active)
            .map(|(address, _)| (address, reward_weight(self.state, &self.ctx.params, address)))
            .collect();
        let held = POOLS.get_or_default(self.state, &Pool::Validators);
        let mut paid = Amount::ZERO;
        for (validator, amount) in divide(held, &weights) {
            let amount = self.charge_missed_turns(validator, amount);
            let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
            if amount.is_zero() || pool.reward(amount).is_err() {
                continue;
            }
            STAKE_POOLS.put(self.state, &validator, &pool);
            self.take_from_pool(Pool::Validators, amount);
            paid = sum(paid, amount);
            self.events.push(Event::PoolRewarded { validator, amount });
        }
        paid
    }
}

/// The points of scores that share a key.
fn points_by<K: Ord>(
    scores: &[((u32, Address, Address), u128)],
    key: impl Fn(&(u32, Address, Address)) -> K,
) -> BTreeMap<K, u128> {
    let mut points = BTreeMap::new();
    for (who, score) in scores {
        let held: &mut u128 = points.entry(key(who)).or_default();
        *held += *score; // their sum fits, as `pay_emission` checked
    }
    points
}

/// A pot divided by points; nothing when nobody has points.
fn divide<K: Ord + Copy>(pot: Amount, points: &BTreeMap<K, u128>) -> Vec<(K, Amount)> {
    let entries = || points.iter().map(|(id, points)| (*id, *points));
    let Ok(plan) = Payout::new(pot, entries().collect::<Vec<_>>()) else { return Vec::new() };
    if plan.total_points() == 0 {
        return Vec::new();
    }
    entries().map(|(id, points)| (id, plan.share_of(id, points))).collect()
}
