//! An attack as a scenario writes it: `{ kind = "junk", stake = 0.45 }`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Group, Kind, Script};
use crate::baseline::yuma::MAX_CELLS;
use crate::scenario::{Problem, Scenario, ScenarioError, number};

/// A built-in attack with the parameters that a scenario gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct AttackSpec {
    kind: Kind,
    values: BTreeMap<String, f64>,
}

#[derive(Serialize, Deserialize)]
struct Table {
    kind: String,
    #[serde(flatten)]
    values: BTreeMap<String, f64>,
}

impl TryFrom<Table> for AttackSpec {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let known = |names: Vec<&str>| names.join(", ");
        let kind = Kind::by_name(&table.kind).ok_or_else(|| {
            let kinds = known(Kind::ALL.map(Kind::name).to_vec());
            format!("unknown attack `{}`; known: {kinds}", table.kind)
        })?;
        for name in table.values.keys() {
            if kind.parameters().iter().all(|p| p.name != name) {
                let names = known(kind.parameters().iter().map(|p| p.name).collect());
                return Err(format!("the attack `{}` has no parameter `{name}`; it has {names}", table.kind));
            }
        }
        Ok(Self { kind, values: table.values })
    }
}

impl From<AttackSpec> for Table {
    fn from(spec: AttackSpec) -> Self {
        Self { kind: spec.kind.name().into(), values: spec.values }
    }
}

impl AttackSpec {
    /// An attack with all parameters at their defaults.
    pub fn new(kind: Kind) -> Self {
        Self { kind, values: BTreeMap::new() }
    }

    /// Which attack.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of a parameter; 0 for one that the attack does not have.
    pub fn value(&self, name: &str) -> f64 {
        let default = || self.kind.parameters().iter().find(|p| p.name == name).map_or(0.0, |p| p.default);
        self.values.get(name).copied().unwrap_or_else(default)
    }

    /// The strength as reports show it: the parameters that the scenario gave, such as `stake=0.45`.
    pub fn level(&self) -> String {
        let given = self
            .kind
            .parameters()
            .iter()
            .filter_map(|p| self.values.get(p.name).map(|value| format!("{}={value}", p.name)));
        given.collect::<Vec<_>>().join(" ")
    }

    /// The group and what it does.
    pub fn build(&self) -> (Group, Script) {
        self.kind.build(&|name| self.value(name))
    }

    /// Checks the ranges, and that the scenario has room for the group.
    pub(crate) fn check(&self, path: &str, scenario: &Scenario) -> Result<(), ScenarioError> {
        for parameter in self.kind.parameters() {
            let value = self.value(parameter.name);
            let path = format!("{path}.{}", parameter.name);
            number(&path, value, parameter.min, parameter.max)?;
            if parameter.whole && value.fract() != 0.0 {
                let message = format!("{value} must be a whole number");
                return Err(ScenarioError::Parse { path, message });
            }
        }
        let (group, _) = self.build();
        let error = |found, of, what| {
            Err(ScenarioError::Invalid { path: path.to_owned(), problem: Problem::Group { found, of, what } })
        };
        let workers = group.worker_count(scenario.workers.count);
        if workers >= scenario.workers.count {
            return error(workers, scenario.workers.count, "workers");
        }
        let validators = group.validator_count(scenario.validators.count);
        if validators >= scenario.validators.count {
            return error(validators, scenario.validators.count, "validators");
        }
        let identities = (scenario.workers.count + workers * group.identities as usize) as f64;
        number(&format!("{path}.identities"), identities, 0.0, 1e6)?;
        let cells = identities * scenario.validators.count as f64;
        if scenario.policies.iter().any(|name| name.starts_with("yuma")) && cells > MAX_CELLS as f64 {
            let message = format!(
                "{cells} pairs of validators and identities are too many for Yuma; at most {MAX_CELLS}"
            );
            return Err(ScenarioError::Parse { path: path.to_owned(), message });
        }
        Ok(())
    }
}

impl Group {
    /// How many of so many workers belong to it: at least one where it takes a part; one where only its identities matter.
    pub fn worker_count(&self, of: usize) -> usize {
        if self.workers > 0.0 {
            ((self.workers * of as f64).round() as usize).max(1)
        } else {
            usize::from(self.identities > 1 || self.late || self.stake == 0.0)
        }
    }

    /// How many of so many validators belong to it.
    pub fn validator_count(&self, of: usize) -> usize {
        if self.stake > 0.0 { ((self.stake * of as f64).round() as usize).max(1) } else { 0 }
    }
}
