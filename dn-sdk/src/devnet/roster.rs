//! Who takes part in a local network, and the genesis that they start from.

use dn_core::{Address, Amount, ChannelId};
use dn_ledger::genesis::GenesisIdentity;
use dn_ledger::tx::{Role, channel_id};
use dn_ledger::{Devnet as LedgerDevnet, DevnetValidator, Genesis, GenesisError, Params};

use super::keys::Keys;

/// The chain id of local networks.
pub const CHAIN_ID: u64 = 31_741;
/// What a worker bonds: enough to be slashed several times before it falls under the minimum.
const WORKER_COLLATERAL: Amount = Amount::from_dn(250);
/// Where the ledger's only node is reached: nowhere, it has no peers.
const LEDGER_ENDPOINT: &str = "in-process";
/// What each validator stakes.
const VALIDATOR_STAKE: Amount = Amount::from_dn(5_000);
/// What each identity starts with, to pay transaction fees.
const POCKET_MONEY: Amount = Amount::from_dn(100);
/// What the payer starts with.
const PAYER_FUNDS: Amount = Amount::from_dn(10_000);
/// How much of a newcomer's work is audited, in basis points: everybody is new on a local network, and whoever tries it
/// wants to see audits.
const AUDIT_CEILING_BPS: u16 = 9_000;

/// One participant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Its name, which is also that of its keystore file.
    pub name: String,
    /// Its role; none for payers and other plain accounts.
    pub role: Option<Role>,
    /// Its address.
    pub address: Address,
}

/// All participants.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Roster(Vec<Member>);

impl Roster {
    /// The participants that these keys belong to.
    pub fn new(keys: &Keys) -> Self {
        let member = |name: String, role, address| Member { name, role, address };
        let mut members = Vec::new();
        for (i, key) in keys.validators.iter().enumerate() {
            members.push(member(format!("validator-{}", i + 1), Some(Role::Validator), key.address()));
        }
        for (i, key) in keys.workers.iter().enumerate() {
            members.push(member(format!("worker-{}", i + 1), Some(Role::Worker), key.address()));
        }
        members.push(member("gateway".into(), Some(Role::Gateway), keys.gateway.address()));
        members.push(member("model-owner".into(), Some(Role::ModelOwner), keys.model_owner.address()));
        members.push(member("payer".into(), None, keys.payer.address()));
        members.push(member("faucet".into(), None, keys.faucet.address()));
        Self(members)
    }

    /// The participants in order.
    pub fn members(&self) -> &[Member] {
        &self.0
    }

    /// The participant with this address.
    pub fn find(&self, address: Address) -> Option<&Member> {
        self.0.iter().find(|member| member.address == address)
    }

    /// The name of an address, or the address where it has none.
    pub fn name(&self, address: Address) -> String {
        self.find(address).map_or_else(|| address.to_string(), |member| member.name.clone())
    }
}

/// The channel that the payer opens to the gateway with its first transaction.
pub(crate) fn first_channel(keys: &Keys) -> ChannelId {
    channel_id(keys.payer.address(), keys.gateway.address(), 0)
}

/// The genesis of a local network in which everybody is registered already.
///
/// # Errors
/// [`GenesisError`] for parameters out of bounds.
pub fn genesis(keys: &Keys, gateway_url: &str, time_ms: u64) -> Result<Genesis, GenesisError> {
    let mut params = Params::devnet();
    params.audit_rate.ceiling = AUDIT_CEILING_BPS;
    let roster = Roster::new(keys);
    let faucet = keys.faucet.address();
    let funded = roster.members().iter().filter(|member| member.address != faucet).map(|member| {
        let is_payer = member.address == keys.payer.address();
        (member.address, if is_payer { PAYER_FUNDS } else { POCKET_MONEY })
    });
    // The first validator's node decides the blocks; the others audit.
    let endpoints = std::iter::once(LEDGER_ENDPOINT).chain(std::iter::repeat(""));
    let validators = keys.validators.iter().zip(endpoints).map(|(key, endpoint)| DevnetValidator {
        address: key.address(),
        name: roster.name(key.address()),
        endpoint: endpoint.to_owned(),
        stake: VALIDATOR_STAKE,
    });
    let devnet = LedgerDevnet {
        chain_id: CHAIN_ID,
        time_ms,
        faucet,
        funded: funded.collect(),
        validators: validators.collect(),
    };
    let mut genesis = Genesis::devnet(&devnet, params)?;
    register_everybody(&mut genesis, &roster, gateway_url, faucet);
    genesis.validate()?;
    Ok(genesis)
}

/// Registers workers, gateway and model owner; their bonds come from the faucet.
fn register_everybody(genesis: &mut Genesis, roster: &Roster, gateway_url: &str, faucet: Address) {
    let mut bonded = Amount::ZERO;
    for member in roster.members() {
        let Some(role) = member.role.filter(|role| *role != Role::Validator) else { continue };
        let minimum = genesis.params.collateral.of(role);
        let collateral = if role == Role::Worker { minimum.max(WORKER_COLLATERAL) } else { minimum };
        let endpoint = if role == Role::Gateway { gateway_url.to_owned() } else { String::new() };
        bonded = bonded.checked_add(collateral).unwrap_or(bonded);
        genesis.identities.push(GenesisIdentity {
            address: member.address,
            role,
            collateral,
            name: member.name.clone(),
            endpoint,
        });
    }
    genesis.identities.sort_by_key(|identity| (identity.role, identity.address));
    if let Some(account) = genesis.accounts.iter_mut().find(|account| account.address == faucet) {
        account.balance = account.balance.saturating_sub(bonded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_mints_the_cap_and_knows_everybody() {
        let keys = Keys::for_tests();
        let genesis = genesis(&keys, "http://127.0.0.1:8080", 1_700_000_000_000).unwrap();
        assert_eq!(genesis.identities.len(), 2 + 3 + 1 + 1);
        let gateway = genesis.identities.iter().find(|identity| identity.role == Role::Gateway).unwrap();
        assert_eq!(gateway.endpoint, "http://127.0.0.1:8080");
        assert_eq!(Genesis::from_json(&genesis.to_json()).unwrap(), genesis);
    }
}
