//! What an epoch's events come to for a worker's trust, in 28 bytes.

use super::WorkerEpoch;
use crate::fixed::Unit;
use crate::params::Params;

const ONLINE_SEEN: u8 = 1;
const ONLINE_WHOLE: u8 = 2;
const SPEED_SEEN: u8 = 4;
const SPEED_WHOLE: u8 = 8;

/// The sums of a [`WorkerEpoch`] as far as trust depends on them, for populations: 28 bytes instead of 120.
///
/// Nothing that moves the state is lost: `WorkerTrust::close_epoch` is this reduction followed by `WorkerTrust::close_sums`. Weights are
/// capped by the parameters' `epoch_cap` and so have 32 bits; probes and latencies come to a share each, or to nothing seen; more than 64 frauds
/// leave what 64 leave, nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerSums {
    /// Good and bad weight.
    jobs: (u32, u32),
    audits: (u32, u32),
    /// Q32, less one where the mark says that it is one.
    online: u32,
    speed: u32,
    marks: u8,
    frauds: u8,
}

impl WorkerEpoch {
    /// The sums that trust depends on.
    pub fn sums(&self, params: &Params) -> WorkerSums {
        // Both are at most the cap, which has 32 bits.
        let narrow = |(good, bad): (u64, u64)| (good as u32, bad as u32);
        let (online, seen_online) = share(self.probes.good_share(), ONLINE_SEEN, ONLINE_WHOLE);
        let (speed, seen_speed) = share(self.speed(), SPEED_SEEN, SPEED_WHOLE);
        WorkerSums {
            jobs: narrow(self.jobs.capped(params.epoch_cap)),
            audits: narrow(self.audits.capped(params.epoch_cap)),
            online,
            speed,
            marks: seen_online | seen_speed,
            frauds: self.frauds.min(64) as u8,
        }
    }
}

fn share(value: Option<Unit>, seen: u8, whole: u8) -> (u32, u8) {
    match value {
        None => (0, 0),
        Some(Unit::ONE) => (u32::MAX, seen | whole),
        Some(part) => (part.to_fraction(), seen),
    }
}

impl WorkerSums {
    /// True when nothing was seen: closing such an epoch is closing an idle one.
    #[inline]
    pub fn is_idle(&self) -> bool {
        let weights = self.jobs.0 | self.jobs.1 | self.audits.0 | self.audits.1;
        weights | u32::from(self.marks) | u32::from(self.frauds) == 0
    }

    #[inline]
    pub(super) fn jobs(&self) -> (u64, u64) {
        (self.jobs.0.into(), self.jobs.1.into())
    }

    #[inline]
    pub(super) fn audits(&self) -> (u64, u64) {
        (self.audits.0.into(), self.audits.1.into())
    }

    #[inline]
    pub(super) fn online(&self) -> Option<Unit> {
        let whole = u64::from(self.marks & ONLINE_WHOLE != 0);
        (self.marks & ONLINE_SEEN != 0).then(|| Unit::from_bits(u64::from(self.online) + whole))
    }

    #[inline]
    pub(super) fn speed(&self) -> Option<Unit> {
        let whole = u64::from(self.marks & SPEED_WHOLE != 0);
        (self.marks & SPEED_SEEN != 0).then(|| Unit::from_bits(u64::from(self.speed) + whole))
    }

    #[inline]
    pub(super) fn frauds(&self) -> u32 {
        self.frauds.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::{Tally, Weight};
    use crate::fixed::Trust;
    use crate::history;
    use crate::worker::{WorkerTrust, worker_weights};

    fn tally() -> impl Strategy<Value = Tally> {
        let weight = || prop_oneof![Just(0), 1..1u64 << 20, any::<u64>()].prop_map(Weight::from_bits);
        (weight(), weight()).prop_map(|(good, bad)| Tally { good, bad })
    }

    fn epoch() -> impl Strategy<Value = WorkerEpoch> {
        let speed = prop_oneof![Just((0, 0)), Just((1 << 40, 1 << 8)), any::<(u64, u64)>()];
        let frauds = prop_oneof![Just(0), 0..70u32, any::<u32>()];
        (tally(), tally(), tally(), speed, frauds).prop_map(
            |(jobs, audits, probes, (sum, weight), frauds)| WorkerEpoch {
                jobs,
                audits,
                speed_sum: sum.into(),
                speed_weight: weight.into(),
                probes,
                frauds,
            },
        )
    }

    /// An epoch closed from its raw sums, without anything in between.
    fn close_by_definition(state: &mut WorkerTrust, p: &Params, epoch: &WorkerEpoch) {
        let audits = epoch.audits.capped(p.epoch_cap);
        state.completion.close_epoch(p, epoch.jobs.capped(p.epoch_cap));
        state.accuracy.close_epoch(p, audits);
        if let Some(online) = epoch.probes.good_share() {
            state.stability = history::leak(state.stability, p.stability_up, p.stability_down, online);
        }
        if let Some(speed) = epoch.speed() {
            state.speed = history::leak(state.speed, p.average_rate, p.average_rate, speed);
        }
        state.history = history::close_epoch(p, state.history, audits, epoch.frauds);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn sums_lose_nothing_that_moves_trust(life in prop::collection::vec(epoch(), 0..8)) {
            let p = Params::default();
            let (mut one, mut other) = (WorkerTrust::newcomer(&p), WorkerTrust::newcomer(&p));
            for epoch in &life {
                one.close_sums(&p, &epoch.sums(&p));
                close_by_definition(&mut other, &p, epoch);
                prop_assert_eq!(one, other);
                let idle = epoch.sums(&p).is_idle();
                prop_assert_eq!(idle, epoch.sums(&p) == WorkerEpoch::default().sums(&p));
            }
        }
    }

    fn together_as_one_by_one(lives: &[WorkerEpoch]) -> Result<(), TestCaseError> {
        let p = Params::default();
        let mut states = vec![WorkerTrust::newcomer(&p); lives.len()];
        for (at, epoch) in lives.iter().enumerate() {
            // Row k lives through k epochs or so.
            states[at / 2..].iter_mut().for_each(|state| state.close_epoch(&p, epoch));
        }
        let mut weights = vec![Trust::ONE; states.len()];
        worker_weights(&p, states.iter(), &mut weights);
        let single: Vec<_> = states.iter().map(|state| state.weight(&p)).collect();
        prop_assert_eq!(&weights, &single);
        // Room beyond the last state is left alone.
        weights.resize(single.len() + 100, Trust::ONE);
        worker_weights(&p, states.iter(), &mut weights);
        let (own, beyond) = weights.split_at(single.len());
        prop_assert!(own == single && beyond.iter().all(|weight| *weight == Trust::ONE));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn weights_together_are_weights_one_by_one(lives in prop::collection::vec(epoch(), 0..150)) {
            together_as_one_by_one(&lives)?;
        }
    }

    mod long {
        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(5_000))]

            #[test]
            #[ignore = "long: cargo test --release -p dn-trust -- --ignored"]
            fn weights_together_are_weights_one_by_one(lives in prop::collection::vec(epoch(), 0..150)) {
                together_as_one_by_one(&lives)?;
            }
        }
    }

    #[test]
    fn the_sums_are_small() {
        assert_eq!(size_of::<WorkerSums>(), 28);
        assert_eq!(size_of::<WorkerTrust>(), 28);
    }
}
