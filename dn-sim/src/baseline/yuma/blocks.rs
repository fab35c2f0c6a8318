//! An epoch's work on blocks of miners, on one thread or more.
//!
//! Sums over miners are made within a block and then over the blocks in their order, so that no bit depends on the number of threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::bonds::{Column, Rule};
use super::consensus::Majority;
use super::lanes::{each, each_sum, normalize};
use super::{Epoch, Matrix, Number, Version};

/// How many miners a thread takes at a time.
pub(super) const BLOCK: usize = 256;

/// Does `work` on every task; which thread takes which is left to chance.
fn share<T>(threads: usize, tasks: impl ExactSizeIterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let helpers = threads.min(tasks.len()).saturating_sub(1);
    if helpers == 0 {
        return tasks.for_each(work);
    }
    let tasks = Mutex::new(tasks);
    let labour = || {
        loop {
            let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
            match task {
                Some(task) => work(task),
                None => break,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            // A thread that the system refuses is one that the others work for.
            let _refused = thread::Builder::new().spawn_scoped(scope, labour).is_err();
        }
        labour();
    });
}

/// For each validator a sum over miners, made of the sums of blocks.
fn sums_over<N: Number>(validators: usize, parts: &[N]) -> Vec<N> {
    let mut sums = vec![N::ZERO; validators];
    for part in parts.chunks_exact(validators) {
        each(&mut sums, part, |sum, part| sum + part);
    }
    sums
}

fn parts<N: Number>(weights: &Matrix<N>) -> Vec<N> {
    vec![N::ZERO; weights.validators() * weights.miners().div_ceil(BLOCK)]
}

/// What divides each row so that it sums to one.
fn row_divisors<N: Number>(weights: &Matrix<N>, threads: usize) -> Vec<N::Divisor> {
    let validators = weights.validators();
    let mut parts = parts(weights);
    share(threads, weights.blocks().zip(parts.chunks_exact_mut(validators)), |(block, sums)| {
        for column in block.chunks_exact(validators) {
            each(sums, column, |sum, weight| sum + weight);
        }
    });
    sums_over(validators, &parts).into_iter().map(N::divisor).collect()
}

/// Fills `normalized` with the rows of `weights` divided by their sums, and finds consensus, trust and incentive; no dividends yet. `before`
/// holds the weights that count instead, if others do.
pub(super) fn judge<N: Number>(
    stake: Vec<N>,
    weights: &Matrix<N>,
    normalized: &mut Matrix<N>,
    before: Option<&Matrix<N>>,
    kappa: N,
    threads: usize,
) -> Epoch<N> {
    let (validators, miners) = (weights.validators(), weights.miners());
    let divisors = row_divisors(weights, threads);
    let majority = Majority::new(&stake, kappa);
    let (mut consensus, mut incentive) = (vec![N::ZERO; miners], vec![N::ZERO; miners]);
    let mut parts = parts(weights);
    let found =
        consensus.chunks_mut(BLOCK).zip(incentive.chunks_mut(BLOCK)).zip(parts.chunks_exact_mut(validators));
    let tasks = weights.blocks().zip(normalized.blocks_mut()).zip(found).enumerate();
    share(threads, tasks, |(number, ((weights, normalized), ((consensus, incentive), trust)))| {
        let mut majority = majority.clone();
        let mut before =
            before.and_then(|before| before.blocks().nth(number)).map(|block| block.chunks_exact(validators));
        let columns = weights.chunks_exact(validators).zip(normalized.chunks_exact_mut(validators));
        for ((weights, column), (consensus, incentive)) in columns.zip(consensus.iter_mut().zip(incentive)) {
            for ((share, weight), divisor) in column.iter_mut().zip(weights).zip(&divisors) {
                *share = weight.over(*divisor);
            }
            let agreed = majority.of(column);
            let counting = before.as_mut().and_then(Iterator::next).unwrap_or(column);
            *consensus = agreed;
            *incentive = each_sum(trust, counting, &stake, |trust, weight, stake| {
                let clipped = weight.lower(agreed);
                (trust + clipped, stake * clipped)
            });
        }
    });
    let validator_trust = sums_over(validators, &parts);
    normalize(&mut incentive);
    Epoch { stake, consensus, incentive, validator_trust, dividends: vec![N::ZERO; validators] }
}

/// Carries all bonds through the epoch and fills in its dividends. `first`: there were none before.
pub(super) fn pay<N: Number>(
    rule: &Rule<N>,
    epoch: &mut Epoch<N>,
    (weights, buying): (&Matrix<N>, &Matrix<N>),
    bonds: &mut Matrix<N>,
    first: bool,
    threads: usize,
) {
    let validators = weights.validators();
    let mut parts = parts(weights);
    let found = epoch
        .consensus
        .chunks(BLOCK)
        .zip(epoch.incentive.chunks(BLOCK))
        .zip(parts.chunks_exact_mut(validators));
    let tasks = bonds.blocks_mut().zip(weights.blocks()).zip(buying.blocks()).zip(found);
    let stake = &epoch.stake[..];
    share(threads, tasks, |(((bonds, weights), buying), ((consensus, incentive), dividends))| {
        let mut work = vec![N::ZERO; validators];
        let columns = bonds.chunks_exact_mut(validators).zip(weights.chunks_exact(validators));
        let columns = columns.zip(buying.chunks_exact(validators)).zip(consensus.iter().zip(incentive));
        for (((bonds, weights), buying), (consensus, incentive)) in columns {
            let (consensus, incentive) = (*consensus, *incentive);
            let column = Column { weights, buying, stake, consensus, incentive, first };
            rule.apply(column, bonds, &mut work, dividends);
        }
    });
    epoch.dividends = sums_over(validators, &parts);
    if rule.version() == Version::Three {
        each(&mut epoch.dividends, &epoch.stake, |dividend, stake| dividend * stake);
    }
    normalize(&mut epoch.dividends);
}
