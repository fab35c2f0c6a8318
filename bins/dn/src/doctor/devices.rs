//! The ways to compute of this machine: which are right, how fast they are, which one `auto` takes.

use dn_compute::BackendKind;
use dn_compute::devices::{Candidate, Depth, State, Survey};

use super::BackendRow;

/// A row for each device of each way to it, CUDA's last; one that says why where there is none.
pub(super) fn rows(survey: &Survey) -> Vec<BackendRow> {
    let devices = survey.candidates.iter().enumerate().skip(1);
    let mut rows: Vec<BackendRow> =
        devices.map(|(index, candidate)| row(candidate, survey.is_taken(index))).collect();
    rows.extend(survey.absent.iter().map(|(backend, error)| {
        let note = match error {
            dn_compute::EngineError::NotBuilt { .. } => "not built in this version".into(),
            error => error.to_string().into(),
        };
        BackendRow { note, ..BackendRow::new(backend.name(), "") }
    }));
    rows.sort_by_key(|row| row.backend == BackendKind::Cuda.name());
    rows
}

fn row(candidate: &Candidate, auto: bool) -> BackendRow {
    let Candidate { name, driver, kind, isa, weights_per_s, state, .. } = candidate;
    let verdict = match state {
        State::Right => "qualified".to_owned(),
        State::Refused(error) => format!("REFUSED: {error}"),
        State::NotCompared => "not compared".to_owned(),
    };
    BackendRow {
        available: matches!(state, State::Right),
        auto,
        weights_per_s: *weights_per_s,
        note: format!("{name} ({kind}, {driver}): {verdict}").into(),
        ..BackendRow::new(candidate.backend.name(), isa)
    }
}

/// Looks at the machine. `dn backends` asks every device anew: it is the remedy for a verdict that no longer holds.
pub(super) fn survey(anew: bool) -> Survey {
    let cache = dn_compute::devices::user_cache().map(|dir| &*dir.leak());
    let options = dn_compute::EngineOptions { cache, ..dn_compute::EngineOptions::default() };
    Survey::of(&options, if anew { Depth::Anew } else { Depth::Compare })
}

/// What `auto` takes, in a sentence.
pub(super) fn sentence(survey: &Survey) -> String {
    let taken = survey.taken();
    let name = if taken.name.is_empty() { String::new() } else { format!(", {}", taken.name) };
    let why = match (taken.weights_per_s, survey.candidates[0].weights_per_s) {
        _ if survey.candidates.len() == 1 => "there is no device".to_owned(),
        (Some(rate), _) if taken.backend == BackendKind::Cpu => {
            format!("no device that is right is faster than its {} weights/s", short(rate))
        }
        (Some(rate), Some(cpu)) => {
            format!("{} weights/s; the CPU has {}", short(rate), short(cpu))
        }
        _ => "the rate of the others is not known".to_owned(),
    };
    format!("auto takes {}{name}: {why}", taken.backend)
}

/// A rate in three digits and a unit.
pub(super) fn short(rate: u64) -> String {
    match rate {
        1_000_000_000.. => format!("{:.1} G", rate as f64 / 1e9),
        1_000_000.. => format!("{:.1} M", rate as f64 / 1e6),
        _ => rate.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        for (rate, expected) in
            [(0, "0"), (999_999, "999999"), (1_500_000, "1.5 M"), (3_149_000_000, "3.1 G")]
        {
            assert_eq!(short(rate), expected);
        }
    }
}
