//! The genesis: where a chain starts.

mod plan;
mod warning;

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, Amount, BlockHash, Canonical, Hash32, canonical_struct};
use dn_powr::GenesisSplit;
use serde::{Deserialize, Serialize};

use crate::apply::{check_name, put_domain, put_identity};
use crate::block::{Certificate, Header, tx_root};
use crate::params::{Params, ParamsError};
use crate::power::fix_draw_weights;
use crate::reject::{Field, Reject};
use crate::state::{
    ACCOUNTS, Account, BASE_RULES, Domain, Identity, IdentityStatus, PARAMS, POOLS, Pool, STAKE_POOLS,
    STAKE_SHARES, State, VALIDATOR_SETS,
};
use crate::text::check_text;
use crate::tx::{MAX_ENDPOINT_BYTES, MAX_NAME_BYTES, Role, Shares};
use crate::upgrades::RULES;
use crate::validators::{NEXT_SET, TIP_SET, ValidatorSet, elect};

pub use plan::{Grant, Holders, Member, Plan, Preset, Purse};
pub use warning::{GenesisWarning, LEAST_FREE};

/// The most bytes of a genesis file.
pub const MAX_GENESIS_BYTES: usize = 16 * 1024 * 1024;

/// Why a genesis is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Not the JSON of a genesis.
    #[error("genesis: {0}")]
    Json(#[from] serde_json::Error),
    /// More bytes than a genesis has.
    #[error("genesis of {found} bytes; at most {max}")]
    TooLong {
        /// Its bytes.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A parameter out of bounds.
    #[error("genesis: {0}")]
    Params(#[from] ParamsError),
    /// Chain id 0 means no chain.
    #[error("genesis: chain id 0 is reserved")]
    ChainId,
    /// Mints more or less than the cap.
    #[error("genesis mints {found} DN; the supply is {expected} DN exactly")]
    Supply {
        /// The cap.
        expected: Amount,
        /// What the genesis mints.
        found: Amount,
    },
    /// A plan that gives more than there is.
    #[error("genesis: {needed} DN out of the {purse} purse, which has {available} DN left")]
    Purse {
        /// The purse.
        purse: Purse,
        /// What is left in it.
        available: Amount,
        /// What is asked of it.
        needed: Amount,
    },
    /// An address or identity appears twice, or out of order.
    #[error("genesis: {list} must be sorted without repeats; {address} is not")]
    Order {
        /// The list.
        list: &'static str,
        /// The address.
        address: Address,
    },
    /// Stake for somebody who is no validator of the genesis.
    #[error("genesis: stake for {validator}, which is not registered as validator")]
    UnknownValidator {
        /// Whose pool.
        validator: Address,
    },
    /// Without validators nobody decides blocks.
    #[error("genesis: no validator with stake and an endpoint")]
    NoValidator,
    /// Not as many domains as there may be, at least the general one.
    #[error("genesis: {found} domains; from 1 to {limit} expected")]
    Domains {
        /// How many it has.
        found: usize,
        /// The most.
        limit: u32,
    },
    /// A domain with a bad name, one with another's name, or a general one with an owner.
    #[error("genesis: domain {index} ({name:?}): a new name is expected, and no owner of domain 0")]
    Domain {
        /// Its place in the list.
        index: usize,
        /// Its name.
        name: String,
    },
    /// An identity that a registration would refuse.
    #[error("genesis: {address} as {role}: {reason}")]
    Identity {
        /// The identity.
        address: Address,
        /// Its role.
        role: Role,
        /// Why.
        reason: Box<Reject>,
    },
}

/// DN of an account at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Whose.
    pub address: Address,
    /// How much.
    pub balance: Amount,
}
canonical_struct!(GenesisAccount { address: Address, balance: Amount });

/// An identity that is registered from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisIdentity {
    /// The identity.
    pub address: Address,
    /// Its role.
    pub role: Role,
    /// Its bond.
    pub collateral: Amount,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub endpoint: String,
}
canonical_struct!(GenesisIdentity {
    address: Address,
    role: Role,
    collateral: Amount,
    name: String,
    endpoint: String,
});

/// Stake in a validator's pool from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisStake {
    /// Who holds the shares.
    pub delegator: Address,
    /// Whose pool.
    pub validator: Address,
    /// How much.
    pub amount: Amount,
}
canonical_struct!(GenesisStake { delegator: Address, validator: Address, amount: Amount });

/// A domain that exists from the start, without deposit. Its id is its place in the list; 0 is the general one, which
/// nobody owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisDomain {
    /// Its name.
    pub name: String,
    /// Who configures it, if anybody.
    pub owner: Option<Address>,
}
canonical_struct!(GenesisDomain { name: String, owner: Option<Address> });

impl GenesisDomain {
    /// The general domain.
    pub fn general() -> Self {
        Self { name: "general".to_owned(), owner: None }
    }
}

/// Where a chain starts. Its lists are sorted and mint the supply cap to the last atto.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The chain.
    pub chain_id: u64,
    /// When it starts, Unix milliseconds.
    pub time_ms: u64,
    /// The rules' parameters.
    pub params: Params,
    /// The community pool, out of which all emission is paid.
    pub community: Amount,
    /// The ecosystem reserve.
    pub reserve: Amount,
    /// Accounts, sorted by address.
    pub accounts: Vec<GenesisAccount>,
    /// Identities, sorted by role and address.
    pub identities: Vec<GenesisIdentity>,
    /// Stakes, sorted by delegator and validator.
    pub stakes: Vec<GenesisStake>,
    /// Domains, in the order of their ids.
    pub domains: Vec<GenesisDomain>,
}
canonical_struct!(Genesis {
    chain_id: u64,
    time_ms: u64,
    params: Params,
    community: Amount,
    reserve: Amount,
    accounts: Vec<GenesisAccount>,
    identities: Vec<GenesisIdentity>,
    stakes: Vec<GenesisStake>,
    domains: Vec<GenesisDomain>,
});

/// A validator of a local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevnetValidator {
    /// The validator.
    pub address: Address,
    /// Its name.
    pub name: String,
    /// Where its node is reached; one without decides no blocks.
    pub endpoint: String,
    /// Its own stake.
    pub stake: Amount,
}

/// What a local network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devnet {
    /// The chain.
    pub chain_id: u64,
    /// When it starts, Unix milliseconds.
    pub time_ms: u64,
    /// Receives whatever is neither in a pool nor given to somebody else.
    pub faucet: Address,
    /// Who starts with how much.
    pub funded: Vec<(Address, Amount)>,
    /// Validators, registered with the smallest collateral; they produce blocks and audit.
    pub validators: Vec<DevnetValidator>,
}

impl Genesis {
    /// A local network: the supply is split by `dn_powr`'s preset, community and reserve go into their pools, and
    /// the rest is the faucet's except for what validators bond and `funded` names.
    ///
    /// # Errors
    /// [`GenesisError`] when the rest does not suffice, an address appears twice, or there is no validator.
    pub fn devnet(devnet: &Devnet, params: Params) -> Result<Self, GenesisError> {
        let split = GenesisSplit::default().allocate(SUPPLY_CAP);
        let mut free = SUPPLY_CAP.saturating_sub(split.community).saturating_sub(split.reserve);
        let total = free;
        let mut take = |amount: Amount| {
            free = free
                .checked_sub(amount)
                .map_err(|_| GenesisError::Supply { expected: total, found: amount })?;
            Ok::<_, GenesisError>(amount)
        };
        let mut accounts = Vec::new();
        for &(address, amount) in &devnet.funded {
            accounts.push(GenesisAccount { address, balance: take(amount)? });
        }
        let (mut identities, mut stakes) = (Vec::new(), Vec::new());
        for v in &devnet.validators {
            identities.push(GenesisIdentity {
                address: v.address,
                role: Role::Validator,
                collateral: take(params.collateral.validator)?,
                name: v.name.clone(),
                endpoint: v.endpoint.clone(),
            });
            stakes.push(GenesisStake { delegator: v.address, validator: v.address, amount: take(v.stake)? });
        }
        match accounts.iter_mut().find(|a| a.address == devnet.faucet) {
            Some(faucet) => faucet.balance = faucet.balance.checked_add(free).expect("within the supply"),
            None => accounts.push(GenesisAccount { address: devnet.faucet, balance: free }),
        }
        accounts.sort_by_key(|a| a.address);
        identities.sort_by_key(|i| (i.role, i.address));
        stakes.sort_by_key(|s| (s.delegator, s.validator));
        let genesis = Self {
            chain_id: devnet.chain_id,
            time_ms: devnet.time_ms,
            params,
            community: split.community,
            reserve: split.reserve,
            accounts,
            identities,
            stakes,
            domains: vec![GenesisDomain::general()],
        };
        genesis.validate()?;
        Ok(genesis)
    }

    /// Parses and validates JSON.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        if text.len() > MAX_GENESIS_BYTES {
            return Err(GenesisError::TooLong { found: text.len(), max: MAX_GENESIS_BYTES });
        }
        let genesis: Self = serde_json::from_str(text)?;
        genesis.validate()?;
        Ok(genesis)
    }

    /// The genesis as JSON for a person to read.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a genesis has only string keys")
    }

    /// Keccak-256 of the canonical bytes: what nodes of one chain agree on.
    pub fn hash(&self) -> Hash32 {
        Hash32(self.keccak())
    }

    /// Checks parameters, order, identities and that exactly the supply cap is minted.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn validate(&self) -> Result<(), GenesisError> {
        if self.chain_id == 0 {
            return Err(GenesisError::ChainId);
        }
        self.params.validate()?;
        sorted("accounts", &self.accounts, |a| a.address, |a| a.address)?;
        sorted("identities", &self.identities, |i| (i.role, i.address), |i| i.address)?;
        sorted("stakes", &self.stakes, |s| (s.delegator, s.validator), |s| s.delegator)?;
        self.check_domains()?;
        for identity in &self.identities {
            self.check_identity(identity)?;
        }
        for stake in &self.stakes {
            let key = (Role::Validator, stake.validator);
            if self.identities.binary_search_by_key(&key, |i| (i.role, i.address)).is_err() {
                return Err(GenesisError::UnknownValidator { validator: stake.validator });
            }
        }
        let minted = [self.community, self.reserve].into_iter();
        let minted = minted
            .chain(self.accounts.iter().map(|a| a.balance))
            .chain(self.identities.iter().map(|i| i.collateral))
            .chain(self.stakes.iter().map(|s| s.amount));
        let found = Amount::sum(minted).unwrap_or(Amount::from_atto(u128::MAX));
        if found != SUPPLY_CAP {
            return Err(GenesisError::Supply { expected: SUPPLY_CAP, found });
        }
        if self.validators().members.is_empty() {
            return Err(GenesisError::NoValidator);
        }
        Ok(())
    }

    /// Who decides the first block of a valid genesis.
    pub fn validators(&self) -> ValidatorSet {
        elect(&self.state(), &self.params)
    }

    /// The state at height 0 of a valid genesis.
    pub(crate) fn state(&self) -> State {
        let mut state = State::default();
        BASE_RULES.put(&mut state, &0, &RULES);
        PARAMS.put(&mut state, &0, &self.params);
        POOLS.put(&mut state, &Pool::Community, &self.community);
        POOLS.put(&mut state, &Pool::Reserve, &self.reserve);
        for domain in &self.domains {
            put_domain(&mut state, &Domain::new(domain.owner, domain.name.clone(), Amount::ZERO, 0));
        }
        for account in &self.accounts {
            let record = Account { balance: account.balance, nonce: 0 };
            ACCOUNTS.put(&mut state, &account.address, &record);
        }
        for identity in &self.identities {
            let record = Identity {
                name: identity.name.clone(),
                endpoint: identity.endpoint.clone(),
                collateral: identity.collateral,
                status: IdentityStatus::Active,
                registered_height: 0,
                open_batches: 0,
            };
            put_identity(&mut state, &self.params, identity.role, identity.address, &record);
        }
        for stake in self.stakes.iter().filter(|stake| !stake.amount.is_zero()) {
            let mut pool = STAKE_POOLS.get_or_default(&state, &stake.validator);
            let shares = pool.deposit(stake.amount).expect("the first price of a share is one atto");
            STAKE_POOLS.put(&mut state, &stake.validator, &pool);
            STAKE_SHARES.put(&mut state, &(stake.delegator, stake.validator), &Shares(shares));
        }
        let set = elect(&state, &self.params);
        VALIDATOR_SETS.put(&mut state, &NEXT_SET, &set);
        fix_draw_weights(&mut state, &self.params, 0, 0);
        state
    }

    /// The header of block 0. Its parent is the genesis hash, so that chains of different geneses share no block.
    pub(crate) fn header(&self, state: &State) -> Header {
        Header {
            chain_id: self.chain_id,
            height: 0,
            parent: BlockHash(self.hash().0),
            time_ms: self.time_ms,
            proposer: Address::ZERO,
            parent_certificate: Certificate::default().hash(),
            validators: VALIDATOR_SETS.get_or_default(state, &TIP_SET).hash(),
            next_validators: VALIDATOR_SETS.get_or_default(state, &NEXT_SET).hash(),
            tx_root: tx_root(&[]),
            state: state.commitment().hash(),
            reveal: None,
        }
    }

    fn check_domains(&self) -> Result<(), GenesisError> {
        let (found, limit) = (self.domains.len(), self.params.registry.max_domains);
        if found == 0 || found > limit as usize {
            return Err(GenesisError::Domains { found, limit });
        }
        for (index, domain) in self.domains.iter().enumerate() {
            let taken = self.domains[..index].iter().any(|other| other.name == domain.name);
            if taken || check_name(&domain.name).is_err() || (index == 0 && domain.owner.is_some()) {
                return Err(GenesisError::Domain { index, name: domain.name.clone() });
            }
        }
        Ok(())
    }

    fn check_identity(&self, identity: &GenesisIdentity) -> Result<(), GenesisError> {
        let (role, address) = (identity.role, identity.address);
        let minimum = self.params.collateral.of(role);
        let found = identity.collateral;
        let enough =
            if found < minimum { Err(Reject::CollateralTooLow { role, minimum, found }) } else { Ok(()) };
        enough
            .and_then(|()| check_text(Field::Name, &identity.name, 1, MAX_NAME_BYTES))
            .and_then(|()| check_text(Field::Endpoint, &identity.endpoint, 0, MAX_ENDPOINT_BYTES))
            .map_err(|reason| GenesisError::Identity { address, role, reason: Box::new(reason) })
    }
}

fn sorted<T, K: Ord>(
    list: &'static str,
    items: &[T],
    key: impl Fn(&T) -> K,
    address: impl Fn(&T) -> Address,
) -> Result<(), GenesisError> {
    match items.windows(2).find(|pair| key(&pair[0]) >= key(&pair[1])) {
        None => Ok(()),
        Some(pair) => Err(GenesisError::Order { list, address: address(&pair[1]) }),
    }
}
