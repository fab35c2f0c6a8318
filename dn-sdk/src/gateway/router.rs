//! Which worker gets a job: a weighted draw, pure.

/// One worker that could take a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Trust from the ledger, 0 to 1.
    pub(crate) trust: f64,
    /// Moving average of the time to the first token, in milliseconds; `None` before the first job.
    pub(crate) latency_ms: Option<f64>,
    /// Slots that are free here, of how many.
    pub(crate) free: usize,
    pub(crate) slots: usize,
    /// It ran this model before on this connection.
    pub(crate) warm: bool,
    /// Failures since its last success.
    pub(crate) failures: u32,
}

/// Part of the jobs that goes to any free worker alike, so that newcomers can earn trust.
const EXPLORATION: f64 = 0.05;
/// Latency at which the weight halves, in milliseconds.
const HALF_LATENCY_MS: f64 = 500.0;
/// What a cold worker's weight is multiplied by.
const COLD: f64 = 0.8;
/// The least trust that counts, so that a newcomer is not shut out.
const LEAST_TRUST: f64 = 0.02;

impl Candidate {
    /// Trust × latency × free slots × warmth, cut by recent failures. Of prices only whether they fit counts, before: what is paid is the
    /// model's price, whoever works.
    pub(crate) fn weight(&self) -> f64 {
        if self.free == 0 || self.slots == 0 {
            return 0.0;
        }
        let latency = HALF_LATENCY_MS / (HALF_LATENCY_MS + self.latency_ms.unwrap_or(HALF_LATENCY_MS));
        #[allow(clippy::cast_precision_loss)]
        let free = self.free as f64 / self.slots as f64;
        let warmth = if self.warm { 1.0 } else { COLD };
        let failures = 0.25_f64.powi(i32::try_from(self.failures.min(8)).unwrap_or(8));
        self.trust.max(LEAST_TRUST) * latency * free * warmth * failures
    }
}

/// Draws one of the candidates with a free slot; `draws` are two uniform numbers in 0..1.
pub(crate) fn choose(candidates: &[Candidate], draws: (f64, f64)) -> Option<usize> {
    let free: Vec<usize> = (0..candidates.len()).filter(|i| candidates[*i].weight() > 0.0).collect();
    if draws.0 < EXPLORATION && !free.is_empty() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (draws.1 * free.len() as f64) as usize;
        return free.get(at.min(free.len() - 1)).copied();
    }
    let total: f64 = free.iter().map(|i| candidates[*i].weight()).sum();
    let mut left = draws.1 * total;
    for i in &free {
        left -= candidates[*i].weight();
        if left < 0.0 {
            return Some(*i);
        }
    }
    free.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Candidate =
        Candidate { trust: 0.5, latency_ms: Some(100.0), free: 2, slots: 2, warm: true, failures: 0 };

    #[test]
    fn every_factor_counts_in_its_direction() {
        let weight = GOOD.weight();
        assert!(Candidate { trust: 0.6, ..GOOD }.weight() > weight);
        assert!(Candidate { latency_ms: Some(50.0), ..GOOD }.weight() > weight);
        assert!(Candidate { free: 1, ..GOOD }.weight() < weight);
        assert!(Candidate { warm: false, ..GOOD }.weight() < weight);
        assert!(Candidate { failures: 1, ..GOOD }.weight() < weight);
        assert!(Candidate { trust: 0.0, ..GOOD }.weight() > 0.0, "a newcomer can be drawn");
    }

    #[test]
    fn exploration_ignores_weights() {
        let poor = Candidate { trust: 0.0, failures: 8, ..GOOD };
        assert_eq!(choose(&[GOOD, poor], (0.01, 0.9)), Some(1));
        assert_eq!(choose(&[GOOD, poor], (0.5, 0.9)), Some(0));
    }

    proptest! {
        #[test]
        fn a_full_worker_is_never_drawn(free in prop::collection::vec(0usize..3, 0..8), a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let candidates: Vec<_> = free.iter().map(|free| Candidate { free: *free, slots: 2, ..GOOD }).collect();
            match choose(&candidates, (a, b)) {
                Some(at) => prop_assert!(free[at] > 0),
                None => prop_assert!(free.iter().all(|free| *free == 0)),
            }
        }
    }
}
