//! How fast whole populations are closed, scored and paid, beside how fast the machine copies memory.

use std::num::NonZeroUsize;
use std::time::Instant;

use dn_core::hash::blake3_256;
use dn_core::{Amount, Canonical, Hash32};
use dn_powr::population::{Block, Narrowed, PopulationError, Pot, Survey, settle_idle};
use dn_trust::{Params, Unit, Weight, WorkerEpoch, WorkerSums, WorkerTrust};
use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

/// What each epoch pays.
const POT: Amount = Amount::from_dn(1_000);
/// By how many rows the behaviour of an epoch is shifted against the one before: every row meets others' epochs in turn.
const TURN: usize = 4_099;
/// A thread copies a buffer of this size to another: together more than a last-level cache holds.
const COPY_BYTES: usize = 64 << 20;
/// Copies of which the fastest counts.
const COPIES: usize = 8;
/// Rows that are hashed in one go.
const HASHED: usize = 1 << 16;
/// Bytes of a row that an epoch reads or writes: state and idle epochs both; sums, work and quality once; the score twice (written, paid)
/// and once more for each survey; the amount once.
const BYTES_PER_NODE: u64 = 2 * (28 + 2) + 28 + 8 + 8 + 2 * 8 + 16;
/// What of that an idle row does not touch.
const BYTES_OF_STATE: u64 = 2 * 28;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Rows of the population.
    pub nodes: u32,
    /// Epochs.
    pub epochs: u32,
    /// Threads that share the rows.
    pub threads: NonZeroUsize,
    /// Rows that are worked on in one go.
    pub block: NonZeroUsize,
    /// Seed of the population.
    pub seed: u64,
}

/// What a run took. Times are those of epochs alone, without making the population.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// Rows of the population.
    pub nodes: u32,
    /// Epochs.
    pub epochs: u32,
    /// Threads.
    pub threads: usize,
    /// Median time of an epoch.
    pub ms_per_epoch: f64,
    /// The shortest.
    pub best_ms_per_epoch: f64,
    /// All epochs together, in seconds.
    pub total_s: f64,
    /// Median time of an epoch over rows.
    pub ns_per_node: f64,
    /// Bytes of the columns that an epoch reads and writes, over rows.
    pub bytes_per_node: f64,
    /// Bytes that a copy reads and writes, in 10^9 a second.
    pub copy_gb_per_s: f64,
    /// Bytes an epoch reads and writes in its median time, over what a copy reads and writes in that time.
    pub share_of_copy_bandwidth: f64,
    /// BLAKE3 over all states and amounts at the end: the same for every number of threads and every block.
    pub digest: Hash32,
}

/// The columns of a population.
struct Columns {
    states: Vec<WorkerTrust>,
    idle_epochs: Vec<u16>,
    sums: Vec<WorkerSums>,
    work: Vec<u64>,
    quality: Vec<Unit>,
    scores: Vec<u64>,
    amounts: Vec<Amount>,
}

/// Builds a population from the seed and runs it. The columns' bytes are touched once before the first epoch is timed.
///
/// # Errors
/// [`PopulationError`].
pub fn run(load: Load) -> Result<Throughput, PopulationError> {
    let params = Params::default();
    let copy_gb_per_s = copy_gb_per_s(load.threads);
    let mut columns = Columns::new(&params, load);
    let mut ms = Vec::new();
    let mut bytes = 0;
    for epoch in 0..load.epochs {
        let turn = (epoch as usize).wrapping_mul(TURN) % columns.states.len().max(1);
        let start = Instant::now();
        let surveys = columns.epoch(&params, load, turn)?;
        ms.push(start.elapsed().as_secs_f64() * 1e3);
        bytes += columns.bytes(surveys);
    }
    let digest = columns.digest(&params)?;
    // The machine may have changed its speed meanwhile. The columns' memory is free again.
    let copy_gb_per_s = copy_gb_per_s.max(self::copy_gb_per_s(load.threads));
    let total_s = ms.iter().sum::<f64>() / 1e3;
    ms.sort_by(f64::total_cmp);
    let median = ms.get(ms.len() / 2).copied().unwrap_or(0.0);
    let each = |x: f64| if load.nodes == 0 { 0.0 } else { x / f64::from(load.nodes) };
    let bytes_per_epoch = bytes as f64 / f64::from(load.epochs.max(1));
    Ok(Throughput {
        nodes: load.nodes,
        epochs: load.epochs,
        threads: load.threads.get(),
        ms_per_epoch: median,
        best_ms_per_epoch: ms.first().copied().unwrap_or(0.0),
        total_s,
        ns_per_node: each(median * 1e6),
        bytes_per_node: each(bytes_per_epoch),
        copy_gb_per_s,
        share_of_copy_bandwidth: if median > 0.0 {
            bytes_per_epoch / (median * 1e6) / copy_gb_per_s
        } else {
            0.0
        },
        digest,
    })
}

/// How fast so many threads copy memory that no cache holds: bytes read and bytes written, in 10^9 a second, best of several.
pub fn copy_gb_per_s(threads: NonZeroUsize) -> f64 {
    // Not zero: memory that was never written would be read from one page.
    let mut buffers: Vec<_> =
        (0..threads.get()).map(|n| (vec![n as u8 | 1; COPY_BYTES], vec![0u8; COPY_BYTES])).collect();
    let mut best = f64::INFINITY;
    for _ in 0..COPIES {
        let start = Instant::now();
        each(buffers.iter_mut().collect(), |(from, to)| to.copy_from_slice(from));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (2 * COPY_BYTES * threads.get()) as f64 / best / 1e9
}

/// Runs the jobs, each on a thread of its own; the first on this one. Results are in the order of the jobs.
fn each<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let mut jobs = jobs.into_iter();
    let Some(first) = jobs.next() else { return Vec::new() };
    std::thread::scope(|scope| {
        let others: Vec<_> = jobs.map(|job| scope.spawn(|| work(job))).collect();
        let mut results = vec![work(first)];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// [`Block::close`], compiled for the vectors that the machine has.
struct Close<'a> {
    block: Block<'a>,
    params: &'a Params,
}

impl pulp::NullaryFnOnce for Close<'_> {
    type Output = Result<u128, PopulationError>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        self.block.close(self.params)
    }
}

impl Columns {
    fn new(params: &Params, load: Load) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(load.seed);
        let rows = load.nodes as usize;
        let mut columns = Self {
            states: vec![WorkerTrust::newcomer(params); rows],
            idle_epochs: vec![0; rows],
            sums: Vec::with_capacity(rows),
            work: Vec::with_capacity(rows),
            quality: Vec::with_capacity(rows),
            scores: vec![0; rows],
            amounts: vec![Amount::ZERO; rows],
        };
        for _ in 0..rows {
            let (epoch, work, quality) = behaviour(params, &mut rng);
            columns.sums.push(epoch.sums(params));
            columns.work.push(work);
            columns.quality.push(quality);
        }
        columns
    }

    /// One epoch: trust, scores, payout. Returns how often the scores were surveyed.
    fn epoch(&mut self, params: &Params, load: Load, turn: usize) -> Result<u64, PopulationError> {
        let rows = self.states.len();
        let span = rows.div_ceil(load.threads.get()).max(1);
        let firsts = || (0..rows).step_by(span);
        let (sums, work, quality) = (&self.sums[..], &self.work[..], &self.quality[..]);
        let jobs = firsts()
            .zip(self.states.chunks_mut(span).zip(self.idle_epochs.chunks_mut(span)))
            .zip(self.scores.chunks_mut(span))
            .collect();
        let points = each(jobs, |((first, (mut states, mut idle)), mut scores)| {
            let (mut points, mut at) = (0, (first + turn) % rows);
            while !states.is_empty() {
                // Up to the end of the shifted inputs.
                let count = load.block.get().min(states.len()).min(rows - at);
                let inputs = at..at + count;
                let block = Block {
                    states: states.split_off_mut(..count).unwrap_or_default(),
                    idle_epochs: idle.split_off_mut(..count).unwrap_or_default(),
                    sums: &sums[inputs.clone()],
                    work: &work[inputs.clone()],
                    quality: &quality[inputs],
                    scores: scores.split_off_mut(..count).unwrap_or_default(),
                };
                points += pulp::Arch::new().dispatch(Close { block, params })?;
                at = (at + count) % rows;
            }
            Ok(points)
        });
        let total = points.into_iter().sum::<Result<u128, _>>()?;
        self.pay(total, span)
    }

    fn pay(&mut self, total: u128, span: usize) -> Result<u64, PopulationError> {
        let rows = self.states.len();
        // Ids have 32 bits: `nodes` has.
        let firsts = || (0..rows).step_by(span).map(|first| first as u32);
        let mut pot = Pot::new(POT, total)?;
        let mut surveys = 0;
        let shares = loop {
            surveys += 1;
            let parts = each(firsts().zip(self.scores.chunks(span)).collect(), |(first, scores)| {
                let mut survey = Survey::default();
                pot.survey(first, scores, &mut survey).map(|()| survey)
            });
            let mut all = Survey::default();
            for part in parts {
                all.merge(&part?);
            }
            match pot.narrow(&all) {
                Narrowed::Further(narrower) => pot = narrower,
                Narrowed::Ready(shares) => break shares,
            }
        };
        let jobs = firsts().zip(self.scores.chunks(span).zip(self.amounts.chunks_mut(span))).collect();
        let parts = each(jobs, |(first, (scores, amounts))| {
            let mut near = Vec::new();
            shares.pay(first, scores, amounts, &mut near).map(|()| near)
        });
        let mut near = Vec::new();
        for part in parts {
            near.extend(part?);
        }
        shares.settle(&mut near, &mut self.amounts);
        Ok(surveys)
    }

    /// Bytes that the epoch just run has read and written.
    fn bytes(&self, surveys: u64) -> u64 {
        let idle = self.idle_epochs.iter().filter(|idle| **idle > 0).count() as u64;
        self.states.len() as u64 * (BYTES_PER_NODE + 8 * surveys) - idle * BYTES_OF_STATE
    }

    fn digest(mut self, params: &Params) -> Result<Hash32, PopulationError> {
        settle_idle(params, &mut self.states, &mut self.idle_epochs)?;
        let mut digest = [0; 32];
        let mut bytes = Vec::new();
        for (states, amounts) in self.states.chunks(HASHED).zip(self.amounts.chunks(HASHED)) {
            bytes.clear();
            states.iter().for_each(|state| state.encode(&mut bytes));
            amounts.iter().for_each(|amount| amount.encode(&mut bytes));
            digest = blake3_256(&[&digest, &bytes]);
        }
        Ok(Hash32(digest))
    }
}

/// What a row does in an epoch: nothing (one in 16), or work of ½ to 1½ units, of which some fails, three quarters are audited, and some
/// is wrong; frauds are rare.
fn behaviour(params: &Params, rng: &mut Xoshiro256PlusPlus) -> (WorkerEpoch, u64, Unit) {
    let mut epoch = WorkerEpoch::default();
    let mut below = |bound: u64| rng.next_u64() % bound;
    if below(16) == 0 {
        return (epoch, 0, Unit::ZERO);
    }
    let weight = Weight::ONE.bits() / 2 + below(Weight::ONE.bits());
    let failed = if below(4) == 0 { weight * below(16) / 256 } else { 0 };
    epoch.completed(Weight::from_bits(weight - failed));
    epoch.failed(Weight::from_bits(failed));
    if below(4) > 0 {
        let wrong = if below(16) == 0 { weight * below(64) / 256 } else { 0 };
        epoch.audit_passed(Weight::from_bits(weight - wrong));
        epoch.audit_failed(Weight::from_bits(wrong));
    }
    for _ in 0..12 {
        if below(50) == 0 { epoch.offline() } else { epoch.online() }
    }
    epoch.latency(Weight::ONE, 900, 800 + below(400) as u32);
    if below(4_096) == 0 {
        epoch.proven_fraud();
    }
    // Weight is Q16 of the unit.
    let work = (u128::from(weight) * u128::from(params.work_unit)) >> 16;
    (epoch, u64::try_from(work).unwrap_or(u64::MAX), Unit::from_bits((1 << 32) - below(1 << 30)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(nodes: u32, threads: usize, block: usize) -> Load {
        let positive = |n| NonZeroUsize::new(n).expect("positive");
        Load { nodes, epochs: 5, threads: positive(threads), block: positive(block), seed: 7 }
    }

    fn digest(load: Load) -> Hash32 {
        let params = Params::default();
        let mut columns = Columns::new(&params, load);
        for epoch in 0..load.epochs as usize {
            let turn = epoch * TURN % columns.states.len().max(1);
            columns.epoch(&params, load, turn).expect("in bounds");
            let paid = Amount::sum(columns.amounts.iter().copied()).expect("at most the pot");
            assert_eq!(paid, if load.nodes == 0 { Amount::ZERO } else { POT });
        }
        columns.digest(&params).expect("in bounds")
    }

    #[test]
    fn threads_and_blocks_change_no_bit() {
        let one = digest(load(10_007, 1, 10_007));
        for (threads, block) in [(1, 1), (1, 64), (2, 100), (3, 4_096), (7, 1_000), (64, 33)] {
            assert_eq!(digest(load(10_007, threads, block)), one, "{threads} threads, blocks of {block}");
        }
        assert_ne!(digest(Load { seed: 8, ..load(10_007, 1, 64) }), one);
        assert_ne!(digest(Load { epochs: 4, ..load(10_007, 1, 64) }), one);
    }

    /// The digest above is of the widest vectors; these are all that this machine has, beside none.
    #[test]
    fn vectors_change_no_bit() {
        let params = Params::default();
        let closed = |with: &dyn Fn(Close<'_>) -> Result<u128, PopulationError>| {
            let mut c = Columns::new(&params, load(5_003, 1, 5_003));
            let points: Vec<_> = (0..20)
                .map(|_| {
                    // Frauds and failures pile up where they fell first; the rest grows old.
                    let block = Block {
                        states: &mut c.states,
                        idle_epochs: &mut c.idle_epochs,
                        sums: &c.sums,
                        work: &c.work,
                        quality: &c.quality,
                        scores: &mut c.scores,
                    };
                    with(Close { block, params: &params })
                })
                .collect();
            (points, c.scores, c.states)
        };
        let plain = closed(&|close| close.block.close(close.params));
        assert_eq!(closed(&|close| pulp::Arch::new().dispatch(close)), plain);
        #[cfg(target_arch = "x86_64")]
        {
            use pulp::x86::{V2, V3, V4};
            V2::try_new().inspect(|v2| assert_eq!(closed(&|close| v2.vectorize(close)), plain));
            V3::try_new().inspect(|v3| assert_eq!(closed(&|close| v3.vectorize(close)), plain));
            V4::try_new().inspect(|v4| assert_eq!(closed(&|close| v4.vectorize(close)), plain));
        }
    }

    #[test]
    fn the_smallest_populations() {
        for nodes in 0..4 {
            assert_eq!(digest(load(nodes, 3, 64)), digest(load(nodes, 1, 1)));
        }
    }

    #[test]
    fn figures_are_there() {
        let run = run(load(1_000, 2, 128)).expect("in bounds");
        assert!(run.ms_per_epoch >= run.best_ms_per_epoch && run.best_ms_per_epoch > 0.0);
        assert!(run.copy_gb_per_s > 0.0 && run.share_of_copy_bandwidth > 0.0);
        assert!((130.0..160.0).contains(&run.bytes_per_node), "{}", run.bytes_per_node);
        let json = serde_json::to_value(&run).expect("plain");
        assert_eq!(json["threads"], 2);
    }
}
