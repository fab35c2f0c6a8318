//! The emission of a whole epoch: divided among domains by paid, verified demand, then within each by its own weights.

use dn_core::{Amount, canonical_struct};

use crate::domain::{DomainShares, DomainSplit};
use crate::emission::EmissionParams;
use crate::fees::FeeSplit;
use crate::payout::{Payout, PayoutError};

/// What an epoch's emission needs to know of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainDemand {
    /// Points of its tasks: [`counted_work`](EmissionParams::counted_work) times quality, summed.
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    pub points: u128,
    /// How it splits fees, which decides what paying oneself costs there.
    pub fees: FeeSplit,
    /// How it splits emission.
    pub split: DomainSplit,
}
canonical_struct!(DomainDemand { points: u128, fees: FeeSplit, split: DomainSplit });

/// The emission of an epoch. A domain gets its part, by points, of what the pool may emit, and at most its own wash bound; what is over the
/// bound stays in the pool.
///
/// ```
/// use dn_core::Amount;
/// use dn_powr::{DomainDemand, DomainSplit, EmissionParams, EpochEmission, FeeSplit};
/// let (fees, split) = (FeeSplit::default(), DomainSplit::default());
/// // 10^12 points at 0.001 DN, a tenth of which is lost by paying oneself: at most 0.0001 DN.
/// let demand = DomainDemand { points: 1_000_000_000_000, fees, split };
/// let epoch = EpochEmission::new(EmissionParams::default(), Amount::from_dn(50_000_000), [("code", demand)]).unwrap();
/// assert_eq!(epoch.of_domain("code", &demand).to_string(), "0.0001");
/// assert_eq!(epoch.shares_of("code", &demand).workers.to_string(), "0.00005");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEmission<Id> {
    params: EmissionParams,
    plan: Payout<Id>,
    pool: Amount,
    emitted: Amount,
}

impl<Id: Ord + Copy> EpochEmission<Id> {
    /// Plans the emission out of a pool. The domains need no order; an id has one entry.
    ///
    /// # Errors
    /// [`PayoutError::Overflow`] when the points exceed 128 bits.
    pub fn new<I>(params: EmissionParams, pool: Amount, domains: I) -> Result<Self, PayoutError>
    where
        I: IntoIterator<Item = (Id, DomainDemand)>,
        I::IntoIter: Clone,
    {
        let domains = domains.into_iter();
        let plan = Payout::new(params.decay(pool), domains.clone().map(|(id, d)| (id, d.points)))?;
        let mut epoch = Self { params, plan, pool, emitted: Amount::ZERO };
        let parts = domains.map(|(id, d)| epoch.of_domain(id, &d));
        // The parts of a plan add up to at most its pot.
        epoch.emitted = Amount::sum(parts).map_or(pool, |sum| sum.min(pool));
        Ok(epoch)
    }

    /// The emission of a domain, given the entry that it was planned with: `min(part of the decay, wash bound)`.
    pub fn of_domain(&self, id: Id, demand: &DomainDemand) -> Amount {
        self.plan.share_of(id, demand.points).min(self.params.wash_bound(demand.points, &demand.fees))
    }

    /// The emission of a domain by role.
    pub fn shares_of(&self, id: Id, demand: &DomainDemand) -> DomainShares {
        demand.split.split(self.of_domain(id, demand))
    }

    /// What all domains get together.
    pub const fn emitted(&self) -> Amount {
        self.emitted
    }

    /// What stays in the pool: `emitted + left = pool`.
    pub const fn left(&self) -> Amount {
        self.pool.saturating_sub(self.emitted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bps::BPS;
    use crate::fees::{FeeBounds, FeeMove};

    const TERA: u128 = 1_000_000_000_000;

    fn demand(points: u128) -> DomainDemand {
        DomainDemand { points, fees: FeeSplit::default(), split: DomainSplit::default() }
    }

    #[test]
    fn an_epoch_by_hand() {
        // Half of 800 atto may be emitted. Demand 3 : 1 gives 300 and 100; the bounds are far above (10^12 points: 10^14 atto).
        let p = EmissionParams { half_life_epochs: 1, ..EmissionParams::default() };
        let domains = [(1, demand(3 * TERA)), (2, demand(TERA)), (3, demand(0))];
        let e = EpochEmission::new(p, Amount::from_atto(800), domains).expect("fits");
        let of = |i: usize| e.of_domain(domains[i].0, &domains[i].1).atto();
        assert_eq!([of(0), of(1), of(2)], [300, 100, 0]);
        assert_eq!((e.emitted().atto(), e.left().atto()), (400, 400));
        // 30 points are bounded to 30 · 10^15 / 10^12 · 10 % = 3,000 atto, whatever the pool.
        let e = EpochEmission::new(p, Amount::from_dn(1), [(1, demand(30))]).expect("fits");
        assert_eq!(e.emitted().atto(), 3_000);
        assert_eq!(e.shares_of(1, &demand(30)).validators.atto(), 600);
        // Nobody asked for anything.
        let e = EpochEmission::new(p, Amount::from_dn(1), [(1, demand(0))]).expect("fits");
        assert_eq!((e.emitted(), e.left()), (Amount::ZERO, Amount::from_dn(1)));
        let much = [(1, demand(u128::MAX)), (2, demand(1))];
        assert!(matches!(
            EpochEmission::new(p, Amount::ZERO, much),
            Err(PayoutError::Overflow { entries: 2 })
        ));
    }

    fn domains() -> impl Strategy<Value = Vec<(u32, DomainDemand)>> {
        let points = prop_oneof![Just(0u128), 0..1000u128, 0..1u128 << 100];
        let fees = (500..=1_500u16).prop_map(|validators| {
            let to = FeeMove { worker: 7_300 - validators, owner: 2_000, validators, domain: 400 };
            FeeSplit::default().moved(to, &FeeBounds::default()).expect("in bounds")
        });
        let split = (0..=1_000u16, 0..=3_000u16).prop_map(|(treasury, creators)| DomainSplit {
            treasury,
            creators,
            workers: 10_000 - 100 - 2_000 - 1_000 - treasury - creators,
            ..DomainSplit::default()
        });
        let one =
            (points, fees, split).prop_map(|(points, fees, split)| DomainDemand { points, fees, split });
        prop::collection::btree_map(any::<u32>(), one, 0..20).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn exact_in_any_order_and_within_every_bound(
            (a, b) in domains().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
            pool in prop_oneof![0..1000u128, 0..=1u128 << 90],
            half_life in prop_oneof![1..10u64, 1..=EmissionParams::MAX_HALF_LIFE],
            price in 1..=1u128 << 60,
        ) {
            let p = EmissionParams { half_life_epochs: half_life, reference_price: Amount::from_atto(price) };
            let pool = Amount::from_atto(pool);
            let e = EpochEmission::new(p, pool, a.iter().copied()).expect("fits");
            prop_assert_eq!(e, EpochEmission::new(p, pool, b).expect("fits"));
            prop_assert_eq!(e.emitted().checked_add(e.left()), Ok(pool));
            prop_assert!(e.emitted() <= p.decay(pool));
            let mut sum = 0u128;
            for (id, d) in &a {
                prop_assert_eq!(d.split.validate(), Ok(()));
                let whole = e.of_domain(*id, d);
                let s = e.shares_of(*id, d);
                let parts = [s.workers, s.validators, s.stakers, s.creators, s.treasury, s.foundation];
                prop_assert_eq!(Amount::sum(parts), Ok(whole));
                sum += whole.atto();
                // Exactly: emission · 10^12 · 10^4 ≤ points · price · lost, in 256 bits.
                let lost = u128::from(d.fees.lost_by_self_payment());
                let (left, right) = (dn_core::wide::mul(whole.atto(), TERA * u128::from(BPS)), dn_core::wide::mul(d.points, price * lost));
                prop_assert!(left <= right);
            }
            prop_assert_eq!(sum, e.emitted().atto());
        }

        /// With one split for all, a domain gets what dividing the bounded emission of all gives, up to rounding.
        #[test]
        fn agrees_with_the_emission_of_all(points in prop::collection::vec(0..1u128 << 80, 1..10), pool in 0..=1u128 << 90) {
            let p = EmissionParams::default();
            let domains: Vec<_> = points.iter().enumerate().map(|(id, x)| (id, demand(*x))).collect();
            let pool = Amount::from_atto(pool);
            let e = EpochEmission::new(p, pool, domains.iter().copied()).expect("fits");
            let all = p.emission(pool, points.iter().sum(), &FeeSplit::default());
            prop_assert!(e.emitted() <= all && all.atto() - e.emitted().atto() <= points.len() as u128);
        }
    }
}
