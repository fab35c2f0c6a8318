//! What a genesis may have, and whoever wrote it probably did not mean.

use dn_core::{Address, Amount};

use super::Genesis;
use crate::tx::Role;

/// A validator with less than this free cannot do its duties for long: commitments, disputes and votes pay fees out of free DN.
pub const LEAST_FREE: Amount = Amount::from_dn(1);

/// Something that a valid genesis has, and that hinders the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisWarning {
    /// All of a validator's DN, or nearly all, is bond and stake.
    #[error(
        "validator {name} ({address}) has {found} DN free, and at least {expected} DN are expected: what it sends, audits and votes among it, \
         pays fees out of free DN, not out of bond and stake"
    )]
    LittleFree {
        /// The validator.
        address: Address,
        /// Its name.
        name: String,
        /// The least that does, [`LEAST_FREE`].
        expected: Amount,
        /// What its account holds.
        found: Amount,
    },
}

impl Genesis {
    /// What whoever wrote the genesis should hear of, in the order of the identities; a chain starts from it all the same.
    pub fn warnings(&self) -> Vec<GenesisWarning> {
        let validators = self.identities.iter().filter(|identity| identity.role == Role::Validator);
        let poor = validators.filter_map(|identity| {
            let (address, expected) = (identity.address, LEAST_FREE);
            let found = self.free(address);
            (found < expected).then(|| {
                let name = identity.name.clone();
                GenesisWarning::LittleFree { address, name, expected, found }
            })
        });
        poor.collect()
    }

    /// What an account holds at the start, bonds and stakes left out.
    fn free(&self, address: Address) -> Amount {
        let place = self.accounts.binary_search_by_key(&address, |account| account.address);
        place.map_or(Amount::ZERO, |place| self.accounts[place].balance)
    }
}
