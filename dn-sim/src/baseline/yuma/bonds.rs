//! Bonds: what a column of them becomes in an epoch, and what it then pays.

use super::lanes::{each_sum, sum};
use super::number::Liquid;
use super::{BondStorage, Number, Params, Version};

/// The whole in the chain's 16 bits.
const UNITS: f64 = 65_535.0;

/// The rule for a column of bonds, the same for all columns of an epoch.
#[derive(Debug)]
pub(super) struct Rule<N: Number> {
    version: Version,
    storage: BondStorage,
    penalty: N,
    rate: N,
    liquid: Option<Liquid<N>>,
    units: N,
    per_unit: N::Divisor,
}

/// What is known of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a, N> {
    /// This epoch's weights.
    pub(super) weights: &'a [N],
    /// The weights that buy: this epoch's, or in Yuma 2 those of the epoch before.
    pub(super) buying: &'a [N],
    /// Shares of stake.
    pub(super) stake: &'a [N],
    /// The miner's consensus weight.
    pub(super) consensus: N,
    /// The miner's incentive.
    pub(super) incentive: N,
    /// Whether there are no bonds yet.
    pub(super) first: bool,
}

impl<N: Number> Rule<N> {
    /// `agreed`: whether any miner has a consensus weight; without, no liquid alpha applies.
    pub(super) fn new(params: &Params, agreed: bool) -> Self {
        let liquid = Liquid {
            low: N::of(params.alpha_low),
            high: N::of(params.alpha_high),
            steepness: params.alpha_steepness,
        };
        Self {
            version: params.version,
            storage: params.storage,
            penalty: N::of(params.bond_penalty),
            rate: N::ONE - N::of(params.bonds_moving_average),
            liquid: (params.liquid_alpha && agreed).then_some(liquid),
            units: N::of(UNITS),
            per_unit: N::of(UNITS).divisor(),
        }
    }

    /// Carries a column of bonds through the epoch and adds to each validator's `dividends` what its bond pays.
    pub(super) fn apply(&self, column: Column<'_, N>, bonds: &mut [N], work: &mut [N], dividends: &mut [N]) {
        match self.version {
            Version::One => self.shared(column, bonds, work, dividends),
            Version::Two => self.earlier(column, bonds, work, dividends),
            Version::Three => self.relative(column, bonds, dividends),
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// A bond as a share of the largest possible.
    pub(super) fn share(&self, stored: N) -> N {
        match (self.version, self.storage) {
            (Version::One, BondStorage::U16) => stored.over(self.per_unit),
            _ => stored,
        }
    }

    fn shared(&self, column: Column<'_, N>, bonds: &mut [N], work: &mut [N], dividends: &mut [N]) {
        let (held, bought) = (sum(bonds).divisor(), self.buy(column, work));
        let kept = N::ONE - self.rate;
        let divisor = each_sum(bonds, work, work, |bond, work, _| {
            let bond = self.rate * work.over(bought) + kept * bond.over(held);
            (bond, bond)
        })
        .divisor();
        for (dividend, bond) in dividends.iter_mut().zip(&mut *bonds) {
            *bond = bond.over(divisor);
            *dividend = *dividend + *bond * column.incentive;
        }
        if self.storage == BondStorage::U16 {
            let most = bonds.iter().fold(N::ZERO, |most, bond| most.higher(*bond)).divisor();
            bonds.iter_mut().for_each(|bond| *bond = (bond.over(most) * self.units).whole());
        }
    }

    fn earlier(&self, column: Column<'_, N>, bonds: &mut [N], work: &mut [N], dividends: &mut [N]) {
        let divisor = self.buy(column, work);
        work.iter_mut().for_each(|bought| *bought = bought.over(divisor));
        if column.first {
            bonds.copy_from_slice(work);
        } else {
            for ((bond, bought), weight) in bonds.iter_mut().zip(&*work).zip(column.weights) {
                let rate = self.rate(*weight, *bond, column.consensus);
                *bond = rate * *bought + (N::ONE - rate) * *bond;
            }
        }
        pay(bonds, column.incentive, dividends);
        self.store(bonds);
    }

    fn relative(&self, column: Column<'_, N>, bonds: &mut [N], dividends: &mut [N]) {
        let consensus = column.consensus;
        let grown = |bond: N, weight: N, rate: N| (rate * weight + (N::ONE - rate) * bond).lower(N::ONE);
        let twice = |bond| (bond, bond);
        let sum = match self.liquid {
            Some(liquid) => each_sum(bonds, column.weights, column.weights, |bond, weight, _| {
                let weight = self.for_bond(weight, consensus);
                twice(grown(bond, weight, liquid.rate(weight, bond, consensus)))
            }),
            None => each_sum(bonds, column.weights, column.weights, |bond, weight, _| {
                twice(grown(bond, self.for_bond(weight, consensus), self.rate))
            }),
        };
        let divisor = sum.divisor();
        for (dividend, bond) in dividends.iter_mut().zip(&*bonds) {
            *dividend = *dividend + bond.over(divisor) * column.incentive;
        }
        self.store(bonds);
    }

    /// Fills `bought` with what stake × weight buys of the column; answers what divides it into shares.
    fn buy(&self, column: Column<'_, N>, bought: &mut [N]) -> N::Divisor {
        let sum = each_sum(bought, column.buying, column.stake, |_, weight, stake| {
            let bought = self.for_bond(weight, column.consensus) * stake;
            (bought, bought)
        });
        sum.divisor()
    }

    /// The weight that buys: between the weight itself (penalty 0) and the weight clipped at consensus (penalty 1).
    fn for_bond(&self, weight: N, consensus: N) -> N {
        weight + self.penalty * (weight.lower(consensus) - weight)
    }

    /// How much of the new a bond takes in this epoch.
    fn rate(&self, weight: N, bond: N, consensus: N) -> N {
        self.liquid.map_or(self.rate, |liquid| liquid.rate(weight, bond, consensus))
    }

    fn store(&self, bonds: &mut [N]) {
        if self.storage == BondStorage::U16 {
            bonds.iter_mut().for_each(|bond| *bond = (*bond * self.units).whole().over(self.per_unit));
        }
    }
}

fn pay<N: Number>(bonds: &[N], incentive: N, dividends: &mut [N]) {
    for (dividend, bond) in dividends.iter_mut().zip(bonds) {
        *dividend = *dividend + *bond * incentive;
    }
}
