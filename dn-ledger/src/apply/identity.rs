//! Identities: taking up a role and leaving it.

use dn_core::{Address, Amount};
use dn_trust::{ValidatorTrust, WorkerTrust};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::reject::{Field, Reject};
use crate::state::{
    IDENTITIES, IN_ROLE, Identity, IdentityStatus, Pool, ROLE_COUNTS, State, VALIDATOR_TRUST, WORKER_TRUST,
};
use crate::text::check_text;
use crate::tx::{MAX_ENDPOINT_BYTES, MAX_NAME_BYTES, Role};

impl Step<'_> {
    pub(super) fn register(
        &mut self,
        sender: Address,
        role: Role,
        collateral: Amount,
        name: &str,
        endpoint: &str,
    ) -> Result<(), Reject> {
        check_text(Field::Name, name, 1, MAX_NAME_BYTES)?;
        check_text(Field::Endpoint, endpoint, 0, MAX_ENDPOINT_BYTES)?;
        let before = IDENTITIES.get(self.state, &(role, sender));
        let held = match &before {
            None => Amount::ZERO,
            Some(identity) => match identity.status {
                IdentityStatus::Active => {
                    return Err(Reject::AlreadyRegistered { address: sender, role });
                }
                IdentityStatus::Jailed { .. } => {
                    return Err(Reject::NotActive { address: sender, role, status: identity.status });
                }
                // Retired collateral is withdrawn first, so that nobody waits twice for the same DN.
                IdentityStatus::Retired { .. } if !identity.collateral.is_zero() => {
                    return Err(Reject::NotActive { address: sender, role, status: identity.status });
                }
                _ => identity.collateral,
            },
        };
        let minimum = self.ctx.params.collateral.of(role);
        let found = held.checked_add(collateral)?;
        if found < minimum {
            return Err(Reject::CollateralTooLow { role, minimum, found });
        }
        let limit = self.ctx.params.max_in_role;
        if role.is_capped()
            && !IN_ROLE.contains(self.state, &(role, sender))
            && ROLE_COUNTS.get_or_default(self.state, &role) >= limit
        {
            return Err(Reject::RoleFull { role, limit });
        }
        self.debit(sender, collateral)?;
        let fee = self.ctx.params.registration_fee;
        self.debit(sender, fee)?;
        self.add_to_pool(Pool::Burned, fee);
        let (height, open) = before.map_or((self.ctx.height, 0), |b| (b.registered_height, b.open_batches));
        let identity = Identity {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            collateral: sum(held, collateral),
            status: IdentityStatus::Active,
            registered_height: height,
            open_batches: open,
        };
        self.events.push(Event::Registered { address: sender, role, collateral: identity.collateral });
        put_identity(self.state, &self.ctx.params, role, sender, &identity);
        Ok(())
    }

    pub(super) fn retire(&mut self, sender: Address, role: Role) -> Result<(), Reject> {
        let mut identity = IDENTITIES
            .get(self.state, &(role, sender))
            .ok_or(Reject::UnknownIdentity { address: sender, role })?;
        if identity.status.release_epoch().is_some() {
            return Err(Reject::NotActive { address: sender, role, status: identity.status });
        }
        if identity.open_batches > 0 {
            return Err(Reject::OpenBatches { address: sender, role, open: identity.open_batches });
        }
        let release_epoch = self.ctx.epoch().saturating_add(self.ctx.params.unbonding_epochs);
        identity.status = IdentityStatus::Retired { release_epoch };
        store_identity(self.state, role, sender, &identity);
        self.events.push(Event::Retired { address: sender, role, release_epoch });
        Ok(())
    }

    /// Changes name or endpoint, or adds to the bond. A suspended identity comes back by registering, not by this.
    pub(super) fn update_identity(
        &mut self,
        sender: Address,
        role: Role,
        name: Option<&str>,
        endpoint: Option<&str>,
        add_collateral: Amount,
    ) -> Result<(), Reject> {
        let mut identity = IDENTITIES
            .get(self.state, &(role, sender))
            .ok_or(Reject::UnknownIdentity { address: sender, role })?;
        if identity.status.release_epoch().is_some() {
            return Err(Reject::NotActive { address: sender, role, status: identity.status });
        }
        let before = identity.clone();
        if let Some(name) = name {
            check_text(Field::Name, name, 1, MAX_NAME_BYTES)?;
            name.clone_into(&mut identity.name);
        }
        if let Some(endpoint) = endpoint {
            check_text(Field::Endpoint, endpoint, 0, MAX_ENDPOINT_BYTES)?;
            endpoint.clone_into(&mut identity.endpoint);
        }
        identity.collateral = identity.collateral.checked_add(add_collateral)?;
        if identity == before {
            return Err(Reject::NothingToChange {});
        }
        self.debit(sender, add_collateral)?;
        store_identity(self.state, role, sender, &identity);
        let collateral = identity.collateral;
        self.events.push(Event::IdentityUpdated { address: sender, role, collateral });
        Ok(())
    }

    /// The identity, if it may act in the role now.
    pub(super) fn active(&self, role: Role, address: Address) -> Result<Identity, Reject> {
        let identity =
            IDENTITIES.get(self.state, &(role, address)).ok_or(Reject::UnknownIdentity { address, role })?;
        match identity.status {
            IdentityStatus::Active => Ok(identity),
            status => Err(Reject::NotActive { address, role, status }),
        }
    }

    /// Whether what the identity signed while it acted in the role is still good: it may have been suspended or have left since, as long as its bond
    /// cannot be withdrawn yet.
    pub(super) fn bonded(&self, role: Role, address: Address) -> Result<(), Reject> {
        let identity =
            IDENTITIES.get(self.state, &(role, address)).ok_or(Reject::UnknownIdentity { address, role })?;
        let status = identity.status;
        let bonded = match status {
            IdentityStatus::Active | IdentityStatus::Suspended => true,
            IdentityStatus::Retired { release_epoch } | IdentityStatus::Jailed { release_epoch } => {
                self.ctx.epoch() < release_epoch
            }
        };
        if bonded { Ok(()) } else { Err(Reject::NotActive { address, role, status }) }
    }
}

/// Stores an identity, and keeps the list of those who are in the role: what epochs and elections go through.
pub(super) fn store_identity(state: &mut State, role: Role, address: Address, identity: &Identity) {
    let key = (role, address);
    match (identity.status.release_epoch().is_none(), IN_ROLE.contains(state, &key)) {
        (true, false) => {
            IN_ROLE.put(state, &key, &true);
            ROLE_COUNTS.update(state, &role, |count| *count += 1);
        }
        (false, true) => {
            IN_ROLE.remove(state, &key);
            ROLE_COUNTS.update(state, &role, |count| *count -= 1);
        }
        _ => {}
    }
    IDENTITIES.put(state, &key, identity);
}

/// Everybody in a role, by address, however many have left it; of a [capped](Role::is_capped) one never more than `max_in_role`.
pub(crate) fn in_role(state: &State, role: Role) -> impl Iterator<Item = (Address, Identity)> {
    IN_ROLE.iter_from(state, &role).map(move |((_, address), _)| {
        let identity = IDENTITIES.get(state, &(role, address)).expect("who is in a role is registered");
        (address, identity)
    })
}

/// Stores an identity and, the first time, its newcomer's trust. Trust outlives retirement: coming back does not wash it.
pub(crate) fn put_identity(
    state: &mut State,
    params: &crate::params::Params,
    role: Role,
    address: Address,
    identity: &Identity,
) {
    store_identity(state, role, address, identity);
    match role {
        Role::Worker if !WORKER_TRUST.contains(state, &address) => {
            WORKER_TRUST.put(state, &address, &WorkerTrust::newcomer(&params.trust));
        }
        Role::Validator if !VALIDATOR_TRUST.contains(state, &address) => {
            VALIDATOR_TRUST.put(state, &address, &ValidatorTrust::newcomer(&params.trust));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::chain;

    /// What a gateway has countersigned is good after it was suspended or has left, until its bond may be gone.
    #[test]
    fn a_signature_is_good_while_the_bond_is_there() {
        let (mut state, ctx) = (chain().state().clone(), chain().next_context(1));
        let (role, address, epoch) = (Role::Gateway, Address([7; 20]), ctx.epoch());
        let unknown = Reject::UnknownIdentity { address, role };
        assert_eq!(Step::new(&mut state, &ctx).bonded(role, address), Err(unknown));
        let record = Identity {
            status: IdentityStatus::Active,
            name: String::new(),
            endpoint: String::new(),
            collateral: Amount::ZERO,
            registered_height: 0,
            open_batches: 0,
        };
        let mut bonded = |status| {
            IDENTITIES.put(&mut state, &(role, address), &Identity { status, ..record.clone() });
            Step::new(&mut state, &ctx).bonded(role, address)
        };
        let (free, held) = (epoch, epoch + 1);
        for status in [
            IdentityStatus::Active,
            IdentityStatus::Suspended,
            IdentityStatus::Retired { release_epoch: held },
            IdentityStatus::Jailed { release_epoch: held },
        ] {
            assert_eq!(bonded(status), Ok(()));
        }
        for status in
            [IdentityStatus::Retired { release_epoch: free }, IdentityStatus::Jailed { release_epoch: free }]
        {
            assert_eq!(bonded(status), Err(Reject::NotActive { address, role, status }));
        }
    }
}
