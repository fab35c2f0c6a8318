//! A plan for a genesis: who holds what, in DN, for a person to write; [`Genesis`] is what follows from it, to the atto.

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, Amount};
use dn_powr::GenesisSplit;
use serde::{Deserialize, Deserializer};

use super::{Genesis, GenesisAccount, GenesisDomain, GenesisError, GenesisIdentity, GenesisStake};
use crate::params::Params;
use crate::tx::Role;

/// Which parameters a chain starts with; governance moves them later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Preset {
    /// [`Params::main`]: hourly epochs.
    Main,
    /// [`Params::devnet`]: epochs of seconds.
    Devnet,
}

impl Preset {
    fn params(self) -> Params {
        match self {
            Self::Main => Params::main(),
            Self::Devnet => Params::devnet(),
        }
    }
}

/// The parts of the supply that belong to somebody at the start. The community pool and the reserve belong to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purse {
    /// 15 % of the supply.
    Team,
    /// 13 %.
    Investors,
    /// 10 %.
    Liquidity,
    /// 2 %.
    Airdrop,
}

impl std::fmt::Display for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Team => "team",
            Self::Investors => "investors",
            Self::Liquidity => "liquidity",
            Self::Airdrop => "airdrop",
        })
    }
}

/// Who holds what is left of each purse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holders {
    /// Of the team's.
    pub team: Address,
    /// Of the investors'.
    pub investors: Address,
    /// Of the liquidity.
    pub liquidity: Address,
    /// Of the airdrop.
    pub airdrop: Address,
}

/// DN for one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whose.
    pub address: Address,
    /// How much.
    #[serde(deserialize_with = "decimal")]
    pub amount: Amount,
    /// Out of which purse.
    pub from: Purse,
}

/// An identity that is registered from the start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The identity.
    pub address: Address,
    /// Its role.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Where it is reached. A validator with an endpoint decides blocks.
    #[serde(default)]
    pub endpoint: String,
    /// Its bond; without it the role's smallest.
    #[serde(default, deserialize_with = "optional_decimal")]
    pub collateral: Option<Amount>,
    /// A validator's own stake.
    #[serde(default, deserialize_with = "optional_decimal")]
    pub stake: Option<Amount>,
    /// Out of which purse bond and stake are paid.
    pub from: Purse,
}

/// A plan for a genesis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The chain.
    pub chain_id: u64,
    /// When it starts, Unix milliseconds.
    pub time_ms: u64,
    /// Its parameters.
    pub preset: Preset,
    /// Who holds the purses.
    pub holders: Holders,
    /// Who else gets DN.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Who is registered.
    pub members: Vec<Member>,
    /// Domains after the general one, in the order of their ids.
    #[serde(default)]
    pub domains: Vec<GenesisDomain>,
}

fn decimal<'de, D: Deserializer<'de>>(d: D) -> Result<Amount, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map_err(|e| serde::de::Error::custom(format!("expected DN as a decimal text: {e}")))
}

fn optional_decimal<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Amount>, D::Error> {
    decimal(d).map(Some)
}

impl Plan {
    /// The genesis that follows: the supply split by `dn_powr`'s preset, bonds, stakes and grants taken out of their purses, and
    /// the rest of each purse given to its holder.
    ///
    /// # Errors
    /// [`GenesisError`]: a purse that does not suffice, a stake of somebody who is no validator, and what
    /// [`Genesis::validate`] finds.
    pub fn genesis(&self) -> Result<Genesis, GenesisError> {
        let params = self.preset.params();
        let split = GenesisSplit::default().allocate(SUPPLY_CAP);
        let Holders { team, investors, liquidity, airdrop } = self.holders;
        let mut purses = [
            (Purse::Team, split.team, team),
            (Purse::Investors, split.investors, investors),
            (Purse::Liquidity, split.liquidity, liquidity),
            (Purse::Airdrop, split.airdrop, airdrop),
        ];
        let mut take = |purse: Purse, needed: Amount| {
            let (_, left, _) = purses.iter_mut().find(|(p, ..)| *p == purse).expect("every purse is listed");
            let available = *left;
            *left = available.checked_sub(needed).map_err(|_| GenesisError::Purse {
                purse,
                available,
                needed,
            })?;
            Ok::<_, GenesisError>(needed)
        };
        let (mut accounts, mut identities, mut stakes) = (Vec::new(), Vec::new(), Vec::new());
        for &Grant { address, amount, from } in &self.grants {
            accounts.push((address, take(from, amount)?));
        }
        for member in &self.members {
            let (address, role) = (member.address, member.role);
            let collateral = take(member.from, member.collateral.unwrap_or(params.collateral.of(role)))?;
            let (name, endpoint) = (member.name.clone(), member.endpoint.clone());
            identities.push(GenesisIdentity { address, role, collateral, name, endpoint });
            match member.stake {
                Some(_) if role != Role::Validator => {
                    return Err(GenesisError::UnknownValidator { validator: address });
                }
                Some(stake) => stakes.push(GenesisStake {
                    delegator: address,
                    validator: address,
                    amount: take(member.from, stake)?,
                }),
                None => {}
            }
        }
        accounts.extend(purses.iter().map(|(_, left, holder)| (*holder, *left)));
        identities.sort_by_key(|i| (i.role, i.address));
        stakes.sort_by_key(|s| (s.delegator, s.validator));
        let genesis = Genesis {
            chain_id: self.chain_id,
            time_ms: self.time_ms,
            params,
            community: split.community,
            reserve: split.reserve,
            accounts: merged(accounts),
            identities,
            stakes,
            domains: std::iter::once(GenesisDomain::general()).chain(self.domains.clone()).collect(),
        };
        genesis.validate()?;
        Ok(genesis)
    }
}

/// One account an address, in order: a person may hold several purses.
fn merged(mut holdings: Vec<(Address, Amount)>) -> Vec<GenesisAccount> {
    holdings.sort_by_key(|(address, _)| *address);
    let mut accounts: Vec<GenesisAccount> = Vec::new();
    for (address, amount) in holdings {
        match accounts.last_mut() {
            Some(last) if last.address == address => {
                last.balance = last.balance.checked_add(amount).expect("parts of the supply");
            }
            _ => accounts.push(GenesisAccount { address, balance: amount }),
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::{GenesisWarning, LEAST_FREE};
    use crate::validators::elect;

    fn plan() -> Plan {
        let address = |n: u8| Address([n; 20]);
        let validator = |n: u8| Member {
            address: address(n),
            role: Role::Validator,
            name: format!("v{n}"),
            endpoint: format!("10.0.0.{n}:26656"),
            collateral: None,
            stake: Some(Amount::from_dn(50_000)),
            from: Purse::Team,
        };
        Plan {
            chain_id: 9,
            time_ms: 1,
            preset: Preset::Main,
            holders: Holders {
                team: address(50),
                investors: address(51),
                liquidity: address(52),
                airdrop: address(52),
            },
            grants: vec![Grant { address: address(60), amount: Amount::from_dn(7), from: Purse::Airdrop }],
            members: (1..=4).map(validator).collect(),
            domains: vec![GenesisDomain { name: "code".into(), owner: Some(address(60)) }],
        }
    }

    #[test]
    fn every_atto_of_the_supply_has_a_place() {
        let genesis = plan().genesis().unwrap();
        let held = |n: u8| genesis.accounts.iter().find(|a| a.address.0 == [n; 20]).unwrap().balance;
        assert_eq!(genesis.community, Amount::from_dn(50_000_000));
        assert_eq!(genesis.domains[0], GenesisDomain::general());
        assert_eq!(genesis.domains[1].owner, Some(Address([60; 20])));
        assert_eq!(held(50), Amount::from_dn(15_000_000 - 4 * (50_000 + 10_000)));
        assert_eq!(held(52), Amount::from_dn(10_000_000 + 2_000_000 - 7));
        assert_eq!(elect(&genesis.state(), &genesis.params).members.len(), 4);
        assert_eq!(Genesis::from_json(&genesis.to_json()).unwrap(), genesis);
    }

    #[test]
    fn validators_that_can_pay_no_fee_are_named() {
        let mut plan = plan();
        let grant = |n: u8, amount| Grant { address: Address([n; 20]), amount, from: Purse::Team };
        let below = LEAST_FREE.saturating_sub(Amount::from_atto(1));
        plan.grants.extend([grant(2, LEAST_FREE), grant(3, below)]);
        // Who is no validator needs nothing.
        plan.members[3].role = Role::Worker;
        plan.members[3].stake = None;
        let little = |n: u8, found| GenesisWarning::LittleFree {
            address: Address([n; 20]),
            name: format!("v{n}"),
            expected: LEAST_FREE,
            found,
        };
        let warnings = plan.genesis().unwrap().warnings();
        assert_eq!(warnings, [little(1, Amount::ZERO), little(3, below)]);
        let said = warnings[0].to_string();
        assert!(said.contains("v1") && said.contains("0 DN free") && said.contains("1 DN"), "{said}");
    }

    #[test]
    fn plans_that_do_not_work_out_say_why() {
        let refused = |change: &dyn Fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.genesis().expect_err("refused").to_string()
        };
        let rich = refused(&|p| p.grants[0].amount = Amount::from_dn(2_000_001));
        assert!(rich.contains("airdrop") && rich.contains("2000001"), "{rich}");
        let twice = refused(&|p| p.members[1] = p.members[0].clone());
        assert!(twice.contains("identities"), "{twice}");
        let worker = refused(&|p| p.members[0].role = Role::Worker);
        assert!(worker.contains("not registered as validator"), "{worker}");
        let nobody = refused(&|p| p.members.clear());
        assert!(nobody.contains("no validator"), "{nobody}");
        assert!(refused(&|p| p.chain_id = 0).contains("reserved"));
    }
}
