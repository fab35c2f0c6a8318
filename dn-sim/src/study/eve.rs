//! The eve of an attack: the epochs before it, which are the same for every attack of one group.

use crate::attack::{Attacker, Honest};
use crate::policy::Policy;
use crate::scenario::Scenario;
use crate::world::{Game, RunError, Simulation, Trajectory};

use super::PolicyFactory;

/// A population under a policy, from which attackers go on, one independently of the other.
pub(super) struct Eve<'a> {
    scenario: &'a Scenario,
    simulation: Simulation<'a>,
    policy: &'a PolicyFactory,
    /// After the warm-up; without it each run starts from the first epoch.
    warm: Option<(Game<'a>, Box<dyn Policy>)>,
}

impl<'a> Eve<'a> {
    pub(super) fn new(scenario: &'a Scenario, simulation: Simulation<'a>, policy: &'a PolicyFactory) -> Self {
        Self { scenario, simulation, policy, warm: None }
    }

    /// Plays the warm-up, worth it for more than one run, if the policy can be copied then.
    pub(super) fn warmed(mut self) -> Result<Self, RunError> {
        let mut policy = (self.policy)(self.scenario)?;
        if policy.fork().is_some() {
            let mut game = self.simulation.start(policy.as_mut())?;
            game.play(self.scenario.warmup, &mut Honest, policy.as_mut())?;
            self.warm = Some((game, policy));
        }
        Ok(self)
    }

    /// A whole run with this attacker.
    pub(super) fn run(&self, attacker: &mut dyn Attacker) -> Result<Trajectory, RunError> {
        let warm = self.warm.as_ref().and_then(|(game, policy)| Some((game.clone(), policy.fork()?)));
        let Some((mut game, mut policy)) = warm else {
            return self.simulation.run(attacker, (self.policy)(self.scenario)?.as_mut());
        };
        game.play(self.scenario.total_epochs(), attacker, policy.as_mut())?;
        Ok(game.finish())
    }
}
