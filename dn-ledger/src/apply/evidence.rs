//! Evidence: who signs two conflicting messages pays and is out for good.

use dn_core::Address;
use dn_powr::Offence;

use super::{BlockContext, Step, store_identity};
use crate::events::{Event, SlashCause};
use crate::reject::{EvidenceFault, Reject, SignedObject};
use crate::state::{IDENTITIES, IdentityStatus, State, VALIDATOR_EPOCHS};
use crate::tx::{Evidence, Role};

impl Step<'_> {
    pub(super) fn submit_evidence(
        &mut self,
        reporter: Address,
        validator: Address,
        evidence: &Evidence,
    ) -> Result<(), Reject> {
        check(self.state, self.ctx, reporter, validator, evidence)?;
        let (_, offence_height) = evidence.place();
        VALIDATOR_EPOCHS.update(self.state, &validator, |epoch| epoch.proven_fraud());
        self.slash_validator(validator, Offence::Equivocation, SlashCause::Equivocation, Some(reporter));
        self.jail(validator, offence_height);
        Ok(())
    }

    /// Out for good. Who had left already waits no longer for the rest of the collateral.
    fn jail(&mut self, validator: Address, height: u64) {
        let key = (Role::Validator, validator);
        let mut identity = IDENTITIES.get(self.state, &key).expect("the caller looked");
        let waited = identity.status.release_epoch();
        let release_epoch =
            waited.unwrap_or_else(|| self.ctx.epoch().saturating_add(self.ctx.params.unbonding_epochs));
        identity.status = IdentityStatus::Jailed { release_epoch };
        store_identity(self.state, Role::Validator, validator, &identity);
        self.events.push(Event::Jailed { validator, height, release_epoch });
    }
}

/// What a report is refused for in a block. A node has seen the messages, this ledger has not: both signatures are checked again.
pub(crate) fn check(
    state: &State,
    ctx: &BlockContext,
    reporter: Address,
    validator: Address,
    evidence: &Evidence,
) -> Result<(), Reject> {
    if reporter == validator {
        return Err(EvidenceFault::Own { validator }.into());
    }
    let key = (Role::Validator, validator);
    let Some(identity) = IDENTITIES.get(state, &key) else {
        return Err(Reject::UnknownIdentity { address: validator, role: Role::Validator });
    };
    let object = SignedObject::ConsensusMessage;
    let ((found, offence_height), expected) = (evidence.place(), ctx.chain_id);
    if found != expected {
        return Err(Reject::ChainId { object, expected, found });
    }
    if !evidence.conflicts() {
        return Err(EvidenceFault::NoConflict {}.into());
    }
    check_age(ctx, offence_height)?;
    // Once, whatever else it signed: its delegators pay most of it, and a quarter goes to whoever reports, perhaps to the validator itself.
    if matches!(identity.status, IdentityStatus::Jailed { .. }) {
        return Err(EvidenceFault::Known { validator, height: offence_height }.into());
    }
    for (digest, signature) in evidence.signed() {
        signature
            .verify(&digest, validator)
            .map_err(|_| Reject::Signature { object, expected: validator })?;
    }
    Ok(())
}

/// What backed a vote is bonded until `unbonding_epochs` after the last epoch in which its stake could leave; later there is nobody to hold.
/// That is the vote's epoch, but for the first blocks of one: the set before still decides them, and who left at its epoch's end leaves no later for
/// that.
fn check_age(ctx: &BlockContext, found: u64) -> Result<(), Reject> {
    let (height, params) = (ctx.height, &ctx.params);
    if found > height {
        return Err(EvidenceFault::Future { height, found }.into());
    }
    let oldest = (ctx.epoch() + 1).saturating_sub(params.unbonding_epochs);
    let found = found.saturating_sub(params.beacon.delay_blocks) / params.epoch_blocks;
    if found < oldest {
        return Err(EvidenceFault::TooOld { oldest, found }.into());
    }
    Ok(())
}
