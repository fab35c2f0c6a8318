//! The epoch's emission: among domains by paid, verified demand, within a domain by the owner's weights.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::{Address, Amount};
use dn_powr::{Payout, score};

use super::Step;
use super::books::sum;
use super::domain::domain_emission;
use super::epoch::divide;
use crate::events::Event;
use crate::state::{EPOCH_WORK, EpochWork, IDENTITIES, IdentityStatus, POOLS, Pool, WORKER_TRUST};
use crate::tx::Role;

/// What a worker did in a domain for the models of an owner.
#[derive(Debug, Clone, Copy)]
struct Score {
    domain: u32,
    worker: Address,
    owner: Address,
    points: EpochWork,
}

impl Step<'_> {
    /// Pays the epoch's emission by score and returns it with the score's sum.
    ///
    /// The decay of the pool is divided among domains by counted work. Each gets at most its wash bound: the sum over its tasks
    /// of counted work × reference price × the share of the fee that *this* task's split loses to someone who pays himself. Within
    /// a domain it is divided by work weighted with that same share, so that no task earns more than its own fee
    /// lost, however its model or domain splits fees. The treasury's share is not among the lost ones: a domain's owner may be the one
    /// who pays himself.
    pub(super) fn pay_emission(&mut self) -> (Amount, u128) {
        let scores = self.take_scores();
        let mut domains = BTreeMap::<u32, EpochWork>::new();
        let mut total = EpochWork::default();
        for score in &scores {
            // Scores are bounded by paid fees; should they ever exceed 128 bits, the epoch emits nothing.
            if add(&mut total, &score.points).is_none() {
                return (Amount::ZERO, 0);
            }
            add(domains.entry(score.domain).or_default(), &score.points).expect("a part of the total");
        }
        let params = self.ctx.params.emission;
        let pot = params.decay(POOLS.get_or_default(self.state, &Pool::Community));
        let demand = || domains.iter().map(|(domain, points)| (*domain, points.counted));
        let Ok(plan) = Payout::new(pot, demand().collect::<Vec<_>>()) else { return (Amount::ZERO, 0) };
        let mut emitted = Amount::ZERO;
        // They come by domain.
        for own in scores.chunk_by(|a, b| a.domain == b.domain) {
            let (domain, points) = (own[0].domain, domains[&own[0].domain]);
            let share = plan.share_of(domain, points.counted).min(params.weighted_bound(points.weighted));
            self.take_from_pool(Pool::Community, share);
            emitted = sum(emitted, share);
            self.pay_domain(domain, share, own);
        }
        (emitted, total.counted)
    }

    /// What workers did in the epoch that are active, times their quality and trust. The blocks to come remove the entries.
    fn take_scores(&mut self) -> Vec<Score> {
        let params = &self.ctx.params.trust;
        let work: Vec<_> = EPOCH_WORK.iter_from(self.state, &self.ctx.epoch()).collect();
        let subjects: BTreeSet<_> =
            work.iter().map(|((_, domain, (_, owner)), _)| (*domain, *owner)).collect();
        self.note_subjects(&subjects);
        let mut scores = Vec::new();
        for ((_, domain, (worker, owner)), work) in work {
            let active = IDENTITIES
                .get(self.state, &(Role::Worker, worker))
                .is_some_and(|identity| identity.status == IdentityStatus::Active);
            let Some(trust) = WORKER_TRUST.get(self.state, &worker).filter(|_| active) else { continue };
            let quality = self.quality_of(domain, owner);
            let points = |work| score(work, quality, trust.weight(params));
            let points = EpochWork { counted: points(work.counted), weighted: points(work.weighted) };
            scores.push(Score { domain, worker, owner, points });
        }
        scores
    }

    fn pay_domain(&mut self, domain: u32, share: Amount, scores: &[Score]) {
        let parts = domain_emission(&self.ctx.params, &self.domain_terms(domain)).split(share);
        self.pay_all(Role::Worker, parts.workers, &points_by(scores, |score| score.worker));
        self.pay_all(Role::ModelOwner, parts.creators, &points_by(scores, |score| score.owner));
        // Stakers of a domain are the validators' pools until domains have stake of their own.
        self.add_to_pool(Pool::Validators, sum(parts.validators, parts.stakers));
        self.add_to_treasury(domain, parts.treasury);
        self.add_to_pool(Pool::Foundation, parts.foundation);
    }

    fn pay_all(&mut self, role: Role, pot: Amount, points: &BTreeMap<Address, u128>) {
        for (address, amount) in divide(pot, points) {
            self.credit(address, amount);
            if !amount.is_zero() {
                self.events.push(Event::EmissionPaid { address, role, amount });
            }
        }
    }
}

fn add(total: &mut EpochWork, more: &EpochWork) -> Option<()> {
    total.counted = total.counted.checked_add(more.counted)?;
    total.weighted = total.weighted.checked_add(more.weighted)?;
    Some(())
}

/// The weighted points of scores that share an identity.
fn points_by(scores: &[Score], key: impl Fn(&Score) -> Address) -> BTreeMap<Address, u128> {
    let mut points = BTreeMap::new();
    for score in scores {
        let held: &mut u128 = points.entry(key(score)).or_default();
        *held += score.points.weighted; // their sum fits, as `pay_emission` checked
    }
    points
}
