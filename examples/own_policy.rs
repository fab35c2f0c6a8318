//! A reward policy and an attacker of one's own, beside everything that is built in; writes `own-policy/report.html`.
use std::{error::Error, path::Path};

use dn_sim::attack::{Attacker, Conduct, Group, WorkerView};
use dn_sim::policy::{Epoch, Payment, Policy};
use dn_sim::scenario::{FIRST, Scenario};
use dn_sim::{report, study};

/// Pays the work of those who finished every job.
struct Finishers;
impl Policy for Finishers {
    fn name(&self) -> &str {
        "finishers"
    }
    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        for (points, seen) in payment.workers.iter_mut().zip(&epoch.workers) {
            *points = if seen.failed == 0 { seen.delivered as f64 } else { 0.0 };
        }
    }
}

/// Cheats in every tenth epoch.
struct Tenth;
impl Attacker for Tenth {
    fn work(&mut self, view: &WorkerView) -> Conduct {
        Conduct { cheat: f64::from(view.epoch.is_multiple_of(10)), ..Conduct::HONEST }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut study = study::Study::new(Scenario::from_toml(FIRST)?)?;
    study.policy("finishers", |_| Box::new(Finishers));
    study.attacker("tenth", Group::new(0.2, 0.0), || Box::new(Tenth));
    let cells = study.run(2, None, &|_| true)?;
    let provenance = report::Provenance::of(study.scenario(), FIRST, "cargo run --example own_policy");
    report::write_all(Path::new("own-policy"), &provenance, &study::gates(&cells), &cells)?;
    Ok(())
}
