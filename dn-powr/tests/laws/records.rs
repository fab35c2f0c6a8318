//! Random parameters, and random lives of workers, validators and models under one interface.

use dn_trust::{
    ModelEpoch, ModelTrust, Params, Trust, Unit, ValidatorEpoch, ValidatorTrust, Weight, WorkerEpoch,
    WorkerTrust,
};
use proptest::prelude::*;

/// An event of any role: `kind` chooses among the good or the bad ones of the role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) good: bool,
    pub(crate) kind: u8,
    pub(crate) weight: u64,
}

/// An epoch's events, and for how many epochs they repeat.
pub(crate) type Stretch = (Vec<Event>, u16);

/// A trust record of some role.
pub(crate) trait Record: Copy {
    type Epoch: Default;
    fn newcomer(params: &Params) -> Self;
    fn add(epoch: &mut Self::Epoch, event: Event);
    fn close(&mut self, params: &Params, epoch: &Self::Epoch);
    fn weight(&self, params: &Params) -> Trust;
}

impl Record for WorkerTrust {
    type Epoch = WorkerEpoch;
    fn newcomer(params: &Params) -> Self {
        Self::newcomer(params)
    }
    fn add(e: &mut WorkerEpoch, event: Event) {
        let w = Weight::from_bits(event.weight);
        match (event.good, event.kind % 5) {
            (true, 0) => e.completed(w),
            (true, 1 | 2) => e.audit_passed(w),
            (true, 3) => e.online(),
            (true, _) => e.latency(w, 1, 1),
            (false, 0) => e.failed(w),
            (false, 1) => e.audit_failed(w),
            (false, 2) => e.proven_fraud(),
            (false, 3) => e.offline(),
            (false, _) => e.latency(w, 1, u32::MAX),
        }
    }
    fn close(&mut self, params: &Params, epoch: &WorkerEpoch) {
        self.close_epoch(params, epoch);
    }
    fn weight(&self, params: &Params) -> Trust {
        self.weight(params)
    }
}

impl Record for ValidatorTrust {
    type Epoch = ValidatorEpoch;
    fn newcomer(params: &Params) -> Self {
        Self::newcomer(params)
    }
    fn add(e: &mut ValidatorEpoch, event: Event) {
        let w = Weight::from_bits(event.weight);
        match (event.good, event.kind % 4) {
            (true, 0) => e.aligned(w),
            (true, 1) => e.timely(w),
            (true, _) => e.canary_passed(w),
            (false, 0) => e.misaligned(w),
            (false, 1) => e.missed(w),
            (false, 2) => e.canary_failed(w),
            (false, _) => e.proven_fraud(),
        }
    }
    fn close(&mut self, params: &Params, epoch: &ValidatorEpoch) {
        self.close_epoch(params, epoch);
    }
    fn weight(&self, params: &Params) -> Trust {
        self.weight(params)
    }
}

/// Paid work of the median model in the lives of models.
const MEDIAN_WORK: u128 = 1 << 20;

impl Record for ModelTrust {
    type Epoch = ModelEpoch;
    fn newcomer(params: &Params) -> Self {
        Self::newcomer(params)
    }
    fn add(e: &mut ModelEpoch, event: Event) {
        let w = Weight::from_bits(event.weight);
        match (event.good, event.kind % 4) {
            (true, 0) => e.succeeded(w, event.weight.into()),
            (true, 1) => e.liked(w),
            (true, _) => e.audit_passed(w),
            (false, 0) => e.failed(w),
            (false, 1) => e.disliked(w),
            (false, 2) => e.audit_failed(w),
            (false, _) => e.proven_fraud(),
        }
    }
    fn close(&mut self, params: &Params, epoch: &ModelEpoch) {
        self.close_epoch(params, epoch, MEDIAN_WORK);
    }
    fn weight(&self, params: &Params) -> Trust {
        self.weight(params)
    }
}

/// The weight after each epoch; `extra` is one more event in the epoch of that number.
pub(crate) fn live<R: Record>(
    params: &Params,
    life: &[Stretch],
    extra: Option<(usize, Event)>,
) -> Vec<Trust> {
    let mut record = R::newcomer(params);
    let mut path = Vec::new();
    for (events, epochs) in life {
        for _ in 0..*epochs {
            let mut epoch = R::Epoch::default();
            events.iter().for_each(|event| R::add(&mut epoch, *event));
            if let Some((at, event)) = extra
                && at == path.len()
            {
                R::add(&mut epoch, event);
            }
            record.close(params, &epoch);
            path.push(record.weight(params));
        }
    }
    path
}

fn weight() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 1..100u64, 6 => 1..20u64 << 16, 1 => any::<u64>()]
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    // Frauds and outages among the bad ones would keep every life at the bottom if they were as many as the good ones.
    let good = prop_oneof![4 => Just(true), 1 => Just(false)];
    (good, any::<u8>(), weight()).prop_map(|(good, kind, weight)| Event { good, kind, weight })
}

pub(crate) fn life() -> impl Strategy<Value = Vec<Stretch>> {
    let epochs = prop_oneof![4 => 1..3u16, 1 => 1..120u16];
    prop::collection::vec((prop::collection::vec(event(), 0..6), epochs), 1..10)
}

/// Valid parameters from all over their bounds, half of the time the defaults.
pub(crate) fn params() -> impl Strategy<Value = Params> {
    prop_oneof![Just(Params::default()), any_params()]
}

fn any_params() -> impl Strategy<Value = Params> {
    let free = (0..=2u32 << 16, 1..=u64::MAX, any::<[u32; 3]>(), 0..=1u32 << 15, 1..=1u64 << 28);
    let rates = (1..=1u32 << 16, 1..=1u32 << 16, 1..=1u32 << 16);
    let bad = (1 << 12..=128u32 << 16, 1 << 16..=16u32 << 16);
    (free, rates, bad)
        .prop_flat_map(|(free, rates, (cap, bad_weight))| {
            // Slow enough to forget that the counts fit, fast enough that γ is at least one half.
            let least = ((u64::from(cap) * u64::from(bad_weight)) << 16).div_ceil((1 << 30) - 1).max(1);
            let most_loss = ((1u64 << 32) / u64::from(cap)).min(1 << 15) as u32;
            (Just((free, rates, cap, bad_weight)), least..=1 << 31, 1..=most_loss)
        })
        .prop_flat_map(|(head, forget_bad, loss)| {
            (Just((head, forget_bad, loss)), forget_bad..=1 << 31, 1..=loss.min(1 << 13))
        })
        .prop_map(|(((free, rates, epoch_cap, bad_weight), forget_bad, history_loss), forget_good, gain)| {
            let (confidence, work_unit, [stability_start, average_start, history_start], fraud_keep, least) =
                free;
            Params {
                version: Params::VERSION,
                keep_good: ((1u64 << 32) - forget_good) as u32,
                keep_bad: ((1u64 << 32) - forget_bad) as u32,
                bad_weight,
                confidence,
                work_unit,
                epoch_cap,
                stability_up: rates.0.min(rates.1),
                stability_down: rates.0.max(rates.1),
                stability_start,
                average_rate: rates.2,
                average_start,
                history_start,
                history_gain: gain,
                history_loss,
                fraud_keep,
                trust_min: Unit::from_bits(least),
            }
        })
}
