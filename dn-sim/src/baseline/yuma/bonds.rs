//! Bonds: what a tile of them becomes in an epoch, and what it then pays.

use super::lanes::{GROUP, Group, OverValidators, Row};
use super::number::Liquid;
use super::pack::Pack;
use super::{BondStorage, Number, Params, Version};

/// The whole in the chain's 16 bits.
const UNITS: f64 = 65_535.0;

/// The rule for bonds, the same for all columns of an epoch.
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

/// What is known of a part of sixteen columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a, N: Number, P: Pack<N>> {
    /// Which part.
    pub(super) part: usize,
    /// This epoch's weights.
    pub(super) weights: &'a [Group<Row<N>>],
    /// The weights that buy: this epoch's, or in Yuma 2 those of the epoch before.
    pub(super) buying: &'a [Group<Row<N>>],
    /// Shares of stake.
    pub(super) stake: &'a [Group<N>],
    /// The miners' consensus weights.
    pub(super) consensus: P::Of,
    /// The miners' incentives.
    pub(super) incentive: P::Of,
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

    /// Carries a tile of bonds through the epoch and adds to each validator's `dividends` what its bonds pay.
    #[inline(always)]
    pub(super) fn apply<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &mut [Group<Row<N>>],
        work: &mut [Group<Row<N>>],
        dividends: &mut [Group<Row<N>>],
    ) {
        match self.version {
            Version::One => self.shared(p, tile, bonds, work, dividends),
            Version::Two => self.earlier(p, tile, bonds, work, dividends),
            Version::Three => self.relative(p, tile, bonds, dividends),
        }
    }

    /// A bond as a share of the largest possible.
    pub(super) fn share(&self, stored: N) -> N {
        match (self.version, self.storage) {
            (Version::One, BondStorage::U16) => stored.over(self.per_unit),
            _ => stored,
        }
    }

    #[inline(always)]
    fn shared<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &mut [Group<Row<N>>],
        work: &mut [Group<Row<N>>],
        dividends: &mut [Group<Row<N>>],
    ) {
        let (held, bought) = self.buy(p, tile, bonds, work);
        let (rate, kept) = (p.all(self.rate), p.all(N::ONE - self.rate));
        let mut sum = OverValidators::new(p);
        for (group, (bonds, work)) in bonds.iter_mut().zip(&*work).enumerate() {
            for at in 0..GROUP {
                let new = p.over(p.load(&work[at], tile.part), bought);
                let old = p.over(p.load(&bonds[at], tile.part), held);
                let bond = p.add(p.mul(rate, new), p.mul(kept, old));
                p.store(&mut bonds[at], tile.part, bond);
                sum.add(p, group, at, bond);
            }
        }
        let divisors = p.divisors(sum.total(p));
        for (dividends, bonds) in dividends.iter_mut().zip(&mut *bonds) {
            for at in 0..GROUP {
                let bond = p.over(p.load(&bonds[at], tile.part), divisors);
                p.store(&mut bonds[at], tile.part, bond);
                p.add_miners(&mut dividends[at], tile.part, p.mul(bond, tile.incentive));
            }
        }
        if self.storage == BondStorage::U16 {
            let mut most = p.all(N::ZERO);
            for bonds in bonds.iter().flatten() {
                most = p.higher(most, p.load(bonds, tile.part));
            }
            let most = p.divisors(most);
            for bonds in bonds.iter_mut().flatten() {
                let bond = p.mul(p.over(p.load(bonds, tile.part), most), p.all(self.units));
                p.store(bonds, tile.part, p.whole(bond));
            }
        }
    }

    #[inline(always)]
    fn earlier<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &mut [Group<Row<N>>],
        work: &mut [Group<Row<N>>],
        dividends: &mut [Group<Row<N>>],
    ) {
        let (_, divisors) = self.buy(p, tile, bonds, work);
        let found = bonds.iter_mut().flatten().zip(work.iter().flatten());
        let found = found.zip(tile.weights.iter().flatten().zip(dividends.iter_mut().flatten()));
        for ((bonds, work), (weights, dividends)) in found {
            let bought = p.over(p.load(work, tile.part), divisors);
            let bond = if tile.first {
                bought
            } else {
                let bond = p.load(bonds, tile.part);
                let rate = self.rate(p, self.liquid, p.load(weights, tile.part), bond, tile.consensus);
                p.add(p.mul(rate, bought), p.mul(p.sub(p.all(N::ONE), rate), bond))
            };
            p.add_miners(dividends, tile.part, p.mul(bond, tile.incentive));
            p.store(bonds, tile.part, self.stored(p, bond));
        }
    }

    #[inline(always)]
    fn relative<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &mut [Group<Row<N>>],
        dividends: &mut [Group<Row<N>>],
    ) {
        // Said twice so that each loop is made for its case.
        let sum = match self.liquid {
            Some(liquid) => self.grow(p, tile, bonds, Some(liquid)),
            None => self.grow(p, tile, bonds, None),
        };
        let divisors = p.divisors(sum);
        for (dividends, bonds) in dividends.iter_mut().zip(bonds) {
            for at in 0..GROUP {
                let bond = p.load(&bonds[at], tile.part);
                p.add_miners(&mut dividends[at], tile.part, p.mul(p.over(bond, divisors), tile.incentive));
                if self.storage == BondStorage::U16 {
                    p.store(&mut bonds[at], tile.part, self.stored(p, bond));
                }
            }
        }
    }

    /// Moves bonds to the weights that buy; answers their sum.
    #[inline(always)]
    fn grow<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &mut [Group<Row<N>>],
        liquid: Option<Liquid<N>>,
    ) -> P::Of {
        let mut sum = OverValidators::new(p);
        let one = p.all(N::ONE);
        for (group, (bonds, weights)) in bonds.iter_mut().zip(tile.weights).enumerate() {
            for at in 0..GROUP {
                let bond = p.load(&bonds[at], tile.part);
                let weight = self.for_bond(p, p.load(&weights[at], tile.part), tile.consensus);
                let rate = self.rate(p, liquid, weight, bond, tile.consensus);
                let bond = p.lower(p.add(p.mul(rate, weight), p.mul(p.sub(one, rate), bond)), one);
                p.store(&mut bonds[at], tile.part, bond);
                sum.add(p, group, at, bond);
            }
        }
        sum.total(p)
    }

    /// Fills `work` with what stake × weight buys of each column; answers what divides bonds and what divides that into shares.
    #[inline(always)]
    fn buy<P: Pack<N>>(
        &self,
        p: P,
        tile: Tile<'_, N, P>,
        bonds: &[Group<Row<N>>],
        work: &mut [Group<Row<N>>],
    ) -> (P::Divisors, P::Divisors) {
        let (mut held, mut sum) = (OverValidators::new(p), OverValidators::new(p));
        let groups = bonds.iter().zip(work).zip(tile.buying.iter().zip(tile.stake));
        for (group, ((bonds, work), (weights, stake))) in groups.enumerate() {
            for at in 0..GROUP {
                held.add(p, group, at, p.load(&bonds[at], tile.part));
                let weight = self.for_bond(p, p.load(&weights[at], tile.part), tile.consensus);
                let bought = p.mul(weight, p.all(stake[at]));
                p.store(&mut work[at], tile.part, bought);
                sum.add(p, group, at, bought);
            }
        }
        (p.divisors(held.total(p)), p.divisors(sum.total(p)))
    }

    /// The weight that buys: between the weight itself (penalty 0) and the weight clipped at consensus (penalty 1).
    #[inline(always)]
    fn for_bond<P: Pack<N>>(&self, p: P, weight: P::Of, consensus: P::Of) -> P::Of {
        p.add(weight, p.mul(p.all(self.penalty), p.sub(p.lower(weight, consensus), weight)))
    }

    /// How much of the new a bond takes in this epoch.
    #[inline(always)]
    fn rate<P: Pack<N>>(
        &self,
        p: P,
        liquid: Option<Liquid<N>>,
        weight: P::Of,
        bond: P::Of,
        consensus: P::Of,
    ) -> P::Of {
        match liquid {
            Some(liquid) => liquid.of(p, weight, bond, consensus),
            None => p.all(self.rate),
        }
    }

    /// As bonds are kept.
    #[inline(always)]
    fn stored<P: Pack<N>>(&self, p: P, bond: P::Of) -> P::Of {
        match self.storage {
            BondStorage::U16 => p.over(p.whole(p.mul(bond, p.all(self.units))), p.all_over(self.per_unit)),
            BondStorage::Full => bond,
        }
    }
}
