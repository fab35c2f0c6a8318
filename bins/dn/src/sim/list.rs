//! `dn sim attacks`, `defaults`, `import`: what there is to build a scenario from.

use std::path::Path;
use std::process::ExitCode;

use dn_sim::attack::Kind;
use dn_sim::import::Snapshot;
use dn_sim::policy::{MORE_NAMES, NAMES};
use dn_sim::scenario::{Review, Scenario, defaults as all_defaults};
use dn_sim::stats;
use dn_sim::study::Study;

use crate::error::CliError;
use crate::out::{self, Align, Table};

pub(super) fn attacks() -> Result<ExitCode, CliError> {
    let mut table = Table::new(&[
        ("attack", Align::Left),
        ("parameter", Align::Left),
        ("default", Align::Right),
        ("from", Align::Right),
        ("to", Align::Right),
    ]);
    for kind in Kind::ALL {
        for (n, p) in kind.parameters().iter().enumerate() {
            let name = if n == 0 { kind.name() } else { "" };
            table.row([
                name.to_owned(),
                p.name.to_owned(),
                p.default.to_string(),
                p.min.to_string(),
                p.max.to_string(),
            ]);
        }
    }
    out::text(table.render());
    out::line(format_args!("\n  policies: {} (also {})", NAMES.join(", "), MORE_NAMES.join(", ")));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn defaults() -> Result<ExitCode, CliError> {
    out::text(all_defaults());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(path: &Path) -> Result<ExitCode, CliError> {
    let snapshot =
        Snapshot::read(path).map_err(|error| CliError::Other(format!("{}: {error}", path.display())))?;
    let power: Vec<f64> = snapshot.workers.iter().map(|w| w.power).collect();
    let gini = |values: &[f64]| stats::gini(values).unwrap_or(0.0);
    // A committee needs validators to be drawn from.
    let review = match snapshot.validator_stakes.len() {
        few if few < Review::default().committee => {
            let auditors = few.min(Review::default().auditors);
            format!("\n[review]\ncommittee = {few}\nauditors = {auditors}\n")
        }
        _ => String::new(),
    };
    let scenario = format!(
        "# {} workers (Gini of their power {:.3}), {} validators (Gini of their stake {:.3})\n\
         name = \"snapshot\"\nattacks = [{{ kind = \"cabal\", stake = 0.45 }}, {{ kind = \"cheaper-model\", rate = 0.1 }}]\n\n\
         [population]\nsnapshot = {}\n{review}",
        snapshot.workers.len(),
        gini(&power),
        snapshot.validator_stakes.len(),
        gini(&snapshot.validator_stakes),
        toml::Value::String(
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
        ),
    );
    Study::new(Scenario::from_toml(&scenario)?)?;
    out::text(scenario);
    Ok(ExitCode::SUCCESS)
}
