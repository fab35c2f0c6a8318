//! The beacon at the start of a block, and whose turn was missed.

use dn_core::{Address, Amount, Hash32};
use dn_trust::Weight;

use super::Step;
use crate::beacon::mix;
use crate::events::Event;
use crate::state::{BEACON, IDENTITIES, Pool, TURNS, Turns, VALIDATOR_EPOCHS};
use crate::tx::Role;

impl Step<'_> {
    /// Mixes the block's reveal in, before anything is drawn.
    pub(super) fn mix_beacon(&mut self) {
        let before = self.beacon();
        let after = mix(before, self.ctx.reveal, Hash32(self.ctx.parent.0));
        BEACON.put(self.state, &0, &after);
    }

    /// The randomness of this block. Nobody could know it before the block was proposed, but for a proposer that had all the turns since.
    pub(super) fn beacon(&self) -> Hash32 {
        BEACON.get_or_default(self.state, &0)
    }

    /// Counts who proposed and who should have.
    pub(super) fn count_turns(&mut self) {
        let is_validator = |step: &Self, who| IDENTITIES.contains(step.state, &(Role::Validator, who));
        let proposer = self.ctx.proposer;
        if is_validator(self, proposer) {
            TURNS.update(self.state, &proposer, |turns| turns.made = turns.made.saturating_add(1));
        }
        for validator in self.ctx.parent_missed.clone() {
            if is_validator(self, validator) {
                TURNS.update(self.state, &validator, |turns| turns.missed = turns.missed.saturating_add(1));
                self.events.push(Event::TurnMissed { validator, height: self.ctx.height - 1 });
            }
        }
    }

    /// What an epoch's turns say about timeliness: one event, so that they do not drown the audits.
    pub(super) fn judge_turns(&mut self) {
        let turns: Vec<_> = TURNS.iter(self.state).collect();
        for (validator, turns) in turns {
            if turns.made == 0 && turns.missed == 0 {
                continue;
            }
            VALIDATOR_EPOCHS.update(self.state, &validator, |epoch| {
                if turns.missed > turns.made { epoch.missed(Weight::ONE) } else { epoch.timely(Weight::ONE) }
            });
        }
    }

    /// Whoever called all validators for nothing pays what a missed turn costs.
    pub(super) fn count_false_alarm(&mut self, validator: Address) {
        TURNS.update(self.state, &validator, |turns| turns.alarms = turns.alarms.saturating_add(1));
    }

    /// Takes the penalty for missed turns and false alarms out of a validator's pay of the epoch; never more than that. Returns what is left.
    pub(super) fn charge_turns(&mut self, validator: Address, pay: Amount) -> Amount {
        let Turns { missed, alarms, .. } = TURNS.get_or_default(self.state, &validator);
        let each = self.ctx.params.beacon.miss_penalty.atto();
        let count = u128::from(missed) + u128::from(alarms);
        let penalty = Amount::from_atto(each.saturating_mul(count)).min(pay);
        if penalty.is_zero() {
            return pay;
        }
        self.take_from_pool(Pool::Validators, penalty);
        self.add_to_pool(Pool::Burned, penalty);
        self.events.push(Event::TurnsCharged { validator, missed, alarms, amount: penalty });
        pay.saturating_sub(penalty)
    }

    /// A new epoch: nobody has had a turn yet.
    pub(super) fn clear_turns(&mut self) {
        let validators: Vec<Address> = TURNS.iter(self.state).map(|(validator, _)| validator).collect();
        validators.iter().for_each(|validator| TURNS.remove(self.state, validator));
    }
}
