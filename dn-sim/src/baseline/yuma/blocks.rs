//! An epoch's work on blocks of miners.
//!
//! Sums over miners are made within a block and then over the blocks in their order, so that no bit depends on the number of threads.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::bonds::{Rule, Tile};
use super::consensus::{Majority, highest};
use super::crew::together;
use super::isa::{Isa, Work};
use super::lanes::{GROUP, Group, LANES, OverValidators, Row, grouped, normalize};
use super::matrix::groups;
use super::pack::Pack;
use super::{Epoch, Matrix, Number, Params, Version};

/// How many times sixteen miners a thread takes at once.
const TILES: usize = 16;

/// What an epoch is computed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    pub(super) threads: usize,
    pub(super) isa: Isa,
}

/// What an epoch starts from, and what it changes.
pub(super) struct Input<'a, N> {
    pub(super) params: &'a Params,
    pub(super) stake: Vec<N>,
    pub(super) weights: &'a Matrix<N>,
    /// The weights that count instead, if others do.
    pub(super) before: Option<&'a Matrix<N>>,
    /// Is filled with the rows of `weights` divided by their sums.
    pub(super) normalized: Option<&'a mut Matrix<N>>,
    pub(super) bonds: &'a mut Matrix<N>,
    /// Whether there were no bonds before.
    pub(super) first: bool,
}

/// Whether an epoch needs room for its normalized weights.
pub(super) fn keeps_weights<N: Number>(params: &Params) -> bool {
    !N::PAID_AT_ONCE || params.version == Version::Two
}

/// A block of miners: a row of each validator for every sixteen of them.
struct Block<'a, N> {
    weights: &'a [Group<Row<N>>],
    before: Option<&'a [Group<Row<N>>]>,
    normalized: Option<&'a mut [Group<Row<N>>]>,
    bonds: &'a mut [Group<Row<N>>],
    consensus: &'a mut [Row<N>],
    incentive: &'a mut [Row<N>],
    /// For each validator a sum over the block: of its weights, then of its clipped weights.
    sums: Vec<Group<Row<N>>>,
    dividends: Vec<Group<Row<N>>>,
}

/// What is done to a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Sums weights.
    Sum,
    /// Divides weights by their sums; finds consensus, trust and what incentives are in proportion to.
    Judge,
    /// Carries bonds through the epoch.
    Pay,
    /// Both while the weights are near, with incentives that are not divided by their sum yet: dividends will be by theirs.
    JudgeAndPay,
}

/// What all blocks share.
struct Plan<'a, N: Number> {
    params: &'a Params,
    stake: &'a [Group<N>],
    majority: Majority<N>,
    first: bool,
    divisors: OnceLock<Vec<Group<N::Divisor>>>,
    rule: OnceLock<Rule<N>>,
    /// What divides incentives.
    all: OnceLock<N::Divisor>,
}

/// One epoch; see the module.
pub(super) fn epoch<N: Number>(input: Input<'_, N>, means: Means) -> Epoch<N> {
    let Input { params, stake, weights, before, normalized, bonds, first } = input;
    let (validators, miners) = (weights.validators(), weights.miners());
    let (mut consensus, mut incentive) =
        (vec![Row::ZERO; miners.div_ceil(LANES)], vec![Row::ZERO; miners.div_ceil(LANES)]);
    let mut before = before.map(|before| before.blocks(TILES));
    let mut normalized = normalized.map(|normalized| normalized.blocks_mut(TILES));
    let found = consensus.chunks_mut(TILES).zip(incentive.chunks_mut(TILES));
    let blocks: Vec<_> = weights
        .blocks(TILES)
        .zip(bonds.blocks_mut(TILES))
        .zip(found)
        .map(|((weights, bonds), (consensus, incentive))| {
            Mutex::new(Block {
                weights,
                before: before.as_mut().and_then(Iterator::next),
                normalized: normalized.as_mut().and_then(Iterator::next),
                bonds,
                consensus,
                incentive,
                sums: vec![[Row::ZERO; GROUP]; groups(validators)],
                dividends: vec![[Row::ZERO; GROUP]; groups(validators)],
            })
        })
        .collect();
    let (majority, grouped_stake) = (Majority::new(&stake, N::of(params.kappa)), grouped(&stake, N::ZERO));
    let (divisors, rule, all) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
    let plan = Plan { params, stake: &grouped_stake, majority, first, divisors, rule, all };
    let steps: &[Step] =
        if N::PAID_AT_ONCE { &[Step::Sum, Step::JudgeAndPay] } else { &[Step::Sum, Step::Judge, Step::Pay] };
    let mut trust = Vec::new();
    let work = |phase: usize, block: &mut Block<'_, N>| {
        means.isa.run(OfBlock { step: steps[phase], plan: &plan, block })
    };
    together(means.threads, &blocks, steps.len(), work, |phase| match steps[phase] {
        Step::Sum => plan.learn_sums(&blocks, validators, means.isa),
        Step::Judge => plan.learn_judgement(&blocks),
        Step::Pay | Step::JudgeAndPay => trust = sums_over(&blocks, validators, |block| &block.sums),
    });
    let mut dividends = sums_over(&blocks, validators, |block| &block.dividends);
    drop(blocks);
    let flat = |rows: Vec<Row<N>>| rows.into_iter().flat_map(|row| row.0).take(miners).collect::<Vec<N>>();
    let (consensus, mut incentive) = (flat(consensus), flat(incentive));
    if N::PAID_AT_ONCE {
        normalize(&mut incentive);
    }
    if params.version == Version::Three {
        dividends.iter_mut().zip(&stake).for_each(|(dividend, stake)| *dividend = *dividend * *stake);
    }
    normalize(&mut dividends);
    Epoch { stake, consensus, incentive, validator_trust: trust, dividends }
}

fn open<'a, 'b, N>(block: &'a Mutex<Block<'b, N>>) -> MutexGuard<'a, Block<'b, N>> {
    block.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For each validator a sum over miners, made of the sums of blocks.
fn sums_over<N: Number>(
    blocks: &[Mutex<Block<'_, N>>],
    validators: usize,
    part: impl for<'a> Fn(&'a Block<'_, N>) -> &'a [Group<Row<N>>],
) -> Vec<N> {
    let mut sums = vec![Row::ZERO; validators];
    for block in blocks {
        let block = open(block);
        sums.iter_mut().zip(part(&block).iter().flatten()).for_each(|(sum, part)| sum.add(part));
    }
    sums.into_iter().map(Row::total).collect()
}

impl<N: Number> Plan<'_, N> {
    fn learn_sums(&self, blocks: &[Mutex<Block<'_, N>>], validators: usize, isa: Isa) {
        let sums = sums_over(blocks, validators, |block| &block.sums);
        let divisors = self
            .divisors
            .get_or_init(|| grouped(&sums.into_iter().map(N::divisor).collect::<Vec<_>>(), N::ONE.divisor()));
        for block in blocks {
            open(block).sums.fill([Row::ZERO; GROUP]);
        }
        if N::PAID_AT_ONCE {
            // Without liquid alpha it makes no difference.
            let agreed = self.params.liquid_alpha
                && blocks
                    .iter()
                    .any(|block| isa.run(Agrees { plan: self, divisors, weights: open(block).weights }));
            self.rule.get_or_init(|| Rule::new(self.params, agreed));
        }
    }

    fn learn_judgement(&self, blocks: &[Mutex<Block<'_, N>>]) {
        let (mut sum, mut agreed) = (Row::<N>::ZERO, false);
        for block in blocks {
            let block = open(block);
            block.incentive.iter().for_each(|incentive| sum.add(incentive));
            agreed |= block.consensus.iter().any(|consensus| *consensus != Row::ZERO);
        }
        self.rule.get_or_init(|| Rule::new(self.params, agreed));
        self.all.get_or_init(|| sum.total().divisor());
    }
}

/// A step of a block.
struct OfBlock<'a, 'b, N: Number> {
    step: Step,
    plan: &'a Plan<'a, N>,
    block: &'a mut Block<'b, N>,
}

impl<N: Number> Work<N> for OfBlock<'_, '_, N> {
    type Output = ();

    #[inline(always)]
    fn call<P: Pack<N>>(self, p: P) {
        let Self { step, plan, block } = self;
        match step {
            Step::Sum => block.sum(p),
            Step::Judge | Step::Pay | Step::JudgeAndPay => block.each_tile(p, step, plan),
        }
    }
}

impl<N: Number> Block<'_, N> {
    #[inline(always)]
    fn sum<P: Pack<N>>(&mut self, p: P) {
        for tile in self.weights.chunks_exact(self.sums.len()) {
            for (sum, weights) in self.sums.iter_mut().flatten().zip(tile.iter().flatten()) {
                for part in 0..P::PARTS {
                    p.add_miners(sum, part, p.load(weights, part));
                }
            }
        }
    }

    #[inline(always)]
    fn each_tile<P: Pack<N>>(&mut self, p: P, step: Step, plan: &Plan<'_, N>) {
        let groups = self.sums.len();
        let (mut room, mut work) = (vec![[Row::ZERO; GROUP]; groups], vec![[Row::ZERO; GROUP]; groups]);
        for part in 0..self.consensus.len() * P::PARTS {
            let (tile, part) = (part / P::PARTS, part % P::PARTS);
            let rows = tile * groups..(tile + 1) * groups;
            let before = self.before.map(|before| &before[rows.clone()]);
            let normalized = match &mut self.normalized {
                Some(normalized) => &mut normalized[rows.clone()],
                None => &mut room,
            };
            if step != Step::Pay
                && let Some(divisors) = plan.divisors.get()
            {
                let agreed = plan.consensus(p, part, &self.weights[rows.clone()], divisors, normalized);
                let rank = plan.clip(p, part, before.unwrap_or(normalized), agreed, &mut self.sums);
                p.store(&mut self.consensus[tile], part, agreed);
                p.store(&mut self.incentive[tile], part, rank);
            }
            let incentive = match plan.all.get() {
                Some(all) => p.over(p.load(&self.incentive[tile], part), p.all_over(*all)),
                None => p.load(&self.incentive[tile], part),
            };
            p.store(&mut self.incentive[tile], part, incentive);
            if step != Step::Judge
                && let Some(rule) = plan.rule.get()
            {
                let (weights, buying) = (&*normalized, before.unwrap_or(normalized));
                let consensus = p.load(&self.consensus[tile], part);
                let tile = Tile {
                    part,
                    weights,
                    buying,
                    stake: plan.stake,
                    consensus,
                    incentive,
                    first: plan.first,
                };
                rule.apply(p, tile, &mut self.bonds[rows], &mut work, &mut self.dividends);
            }
        }
    }
}

impl<N: Number> Plan<'_, N> {
    /// Fills `normalized` with weights divided by their rows' sums; answers consensus.
    #[inline(always)]
    fn consensus<P: Pack<N>>(
        &self,
        p: P,
        part: usize,
        weights: &[Group<Row<N>>],
        divisors: &[Group<N::Divisor>],
        normalized: &mut [Group<Row<N>>],
    ) -> P::Of {
        let mut most = [p.all(N::ZERO); GROUP];
        for ((normalized, weights), divisors) in normalized.iter_mut().zip(weights).zip(divisors) {
            for at in 0..GROUP {
                let shares = p.over(p.load(&weights[at], part), p.all_over(divisors[at]));
                p.store(&mut normalized[at], part, shares);
                most[at] = p.higher(most[at], shares);
            }
        }
        self.majority.of(p, part, normalized, highest(p, most))
    }

    /// Adds to `trust` the weights clipped at consensus; answers their sums weighed by stake.
    #[inline(always)]
    fn clip<P: Pack<N>>(
        &self,
        p: P,
        part: usize,
        weights: &[Group<Row<N>>],
        agreed: P::Of,
        trust: &mut [Group<Row<N>>],
    ) -> P::Of {
        let mut sum = OverValidators::new(p);
        for (group, ((weights, trust), stake)) in weights.iter().zip(trust).zip(self.stake).enumerate() {
            for at in 0..GROUP {
                let clipped = p.lower(p.load(&weights[at], part), agreed);
                p.add_miners(&mut trust[at], part, clipped);
                sum.add(p, group, at, p.mul(p.all(stake[at]), clipped));
            }
        }
        sum.total(p)
    }
}

/// Whether any miner of a block has a consensus weight.
struct Agrees<'a, N: Number> {
    plan: &'a Plan<'a, N>,
    divisors: &'a [Group<N::Divisor>],
    weights: &'a [Group<Row<N>>],
}

impl<N: Number> Work<N> for Agrees<'_, N> {
    type Output = bool;

    #[inline(always)]
    fn call<P: Pack<N>>(self, p: P) -> bool {
        let mut room = vec![[Row::ZERO; GROUP]; self.divisors.len()];
        for tile in self.weights.chunks_exact(self.divisors.len()) {
            let mut consensus = Row::ZERO;
            for part in 0..P::PARTS {
                let agreed = self.plan.consensus(p, part, tile, self.divisors, &mut room);
                p.store(&mut consensus, part, agreed);
            }
            if consensus != Row::ZERO {
                return true;
            }
        }
        false
    }
}
