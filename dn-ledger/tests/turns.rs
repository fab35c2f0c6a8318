//! Turns in proposing: what set and seed a block's turns come from, and what whoever proposes an epoch's last block gains by choosing
//! stake in it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{CHAIN_ID, World, address, dn, key, params};
use dn_core::{Address, Amount, BlockHash, Hash32, SecretKey};
use dn_ledger::block::Certificate;
use dn_ledger::reject::EvidenceFault;
use dn_ledger::state::{DRAW_WEIGHTS, ELECTIONS, IDENTITIES, IdentityStatus, PARAMS, STAKE_SHARES, State};
use dn_ledger::tx::{Evidence, Shares};
use dn_ledger::validators::elect;
use dn_ledger::vote::RoundProposal;
use dn_ledger::{Chain, Params, Payload, Reject, Role, Signatures, SignedTx, Tx, ValidatorSet, query};
use proptest::prelude::*;

const VALIDATORS: [&str; 3] = ["v1", "v2", "v3"];

fn with(epoch_blocks: u64, delay_blocks: u64) -> Params {
    let mut params = params();
    params.beacon.required = true;
    params.unbonding_epochs = 17;
    (params.epoch_blocks, params.beacon.delay_blocks) = (epoch_blocks, delay_blocks);
    params
}

fn equivocation(who: &str, height: u64) -> Payload {
    let first =
        RoundProposal { chain_id: CHAIN_ID, height, round: 0, block: BlockHash([1; 32]), valid_round: None };
    let second = RoundProposal { block: BlockHash([2; 32]), ..first };
    let sign = |proposal: &RoundProposal| key(who).sign(&proposal.digest());
    let evidence =
        Evidence::Proposals { first_signature: sign(&first), second_signature: sign(&second), first, second };
    Payload::SubmitEvidence { validator: address(who), evidence }
}

/// What happens in a block of the property below.
#[derive(Debug, Clone, Copy)]
enum Move {
    Nothing,
    Stake { validator: usize, dn: u64 },
    Unbond { validator: usize, part: u128 },
    Retire { validator: usize },
    Jail { validator: usize },
}

fn moves() -> impl Strategy<Value = Move> {
    let validator = 0usize..3;
    prop_oneof![
        4 => Just(Move::Nothing),
        4 => (validator.clone(), 1u64..300).prop_map(|(validator, dn)| Move::Stake { validator, dn }),
        3 => (validator.clone(), 2u128..9).prop_map(|(validator, part)| Move::Unbond { validator, part }),
        1 => validator.clone().prop_map(|validator| Move::Retire { validator }),
        1 => validator.prop_map(|validator| Move::Jail { validator }),
    ]
}

impl Move {
    fn tx(self, w: &World) -> Option<SignedTx> {
        let (sender, payload) = match self {
            Self::Nothing => return None,
            Self::Stake { validator, dn: amount } => {
                let validator = address(VALIDATORS[validator]);
                ("payer", Payload::Stake { validator, amount: dn(amount) })
            }
            Self::Unbond { validator, part } => {
                let (name, validator) = (VALIDATORS[validator], address(VALIDATORS[validator]));
                let held = STAKE_SHARES.get_or_default(w.state(), &(validator, validator)).0;
                (name, Payload::Unbond { validator, shares: Shares(held / part) })
            }
            Self::Retire { validator } => (VALIDATORS[validator], Payload::Retire { role: Role::Validator }),
            Self::Jail { validator } => ("stranger", equivocation(VALIDATORS[validator], w.height())),
        };
        Some(w.tx(sender, payload))
    }
}

fn is_jailed(w: &World, who: Address) -> bool {
    let identity = IDENTITIES.get(w.state(), &(Role::Validator, who));
    identity.is_some_and(|identity| matches!(identity.status, IdentityStatus::Jailed { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The set and the seed of a block, and the weights of its draws, are those of the last epoch's end E that lies more than `delay_blocks` before it: who was elected by the
    /// state after E, less who was jailed since, and the beacon of block E + delay. Whatever else happens after E changes
    /// neither.
    #[test]
    fn sets_and_seeds_were_fixed_before(
        (epoch_blocks, delay) in (2u64..9).prop_flat_map(|blocks| (Just(blocks), 1..blocks)),
        moves in prop::collection::vec(moves(), 34),
    ) {
        let mut w = World::with(with(epoch_blocks, delay));
        let genesis_set = w.chain.validators();
        let mut elected: BTreeMap<u64, ValidatorSet> = BTreeMap::new();
        let mut beacons = BTreeMap::new();
        // Voting power of the active ones, by the epoch's end that fixed it for draws.
        let powers = |w: &World| {
            let views = VALIDATORS.map(|name| query::identity(w.state(), Role::Validator, address(name)).unwrap());
            views.map(|view| view.voting_power)
        };
        let genesis_powers = powers(&w);
        let mut weights = BTreeMap::new();
        // Who decides and cannot be replaced: the set before, as long as an election or all its jailings leave nobody.
        let mut standing = genesis_set;
        for next in moves {
            let height = w.height() + 1;
            let (set, seed) = (w.chain.validators(), w.chain.turn_seed());
            let end = height.checked_sub(delay + 1).map(|latest| (latest + 1) / epoch_blocks * epoch_blocks);
            let end = end.filter(|first| *first > 0).map(|first| first - 1);
            let expected = end.map(|end| elected[&end].clone()).filter(|set| !set.members.is_empty());
            if end.is_some_and(|end| height == end + delay + 1) && expected.is_some() {
                let mut handed = expected.unwrap();
                handed.members.retain(|m| !is_jailed(&w, m.address));
                if !handed.members.is_empty() {
                    standing = handed;
                }
            }
            let mut left = standing.clone();
            left.members.retain(|m| !is_jailed(&w, m.address));
            if !left.members.is_empty() {
                standing = left;
            }
            prop_assert_eq!(&set, &standing, "block {}", height);
            let drawn_from = end.map_or(Hash32::ZERO, |end| beacons[&(end + delay)]);
            prop_assert_eq!(seed, drawn_from, "block {}", height);
            let weight = |name| DRAW_WEIGHTS.get_or_default(w.state(), &address(name)).at(height);
            let fixed = end.map_or(genesis_powers, |end| weights[&end]);
            prop_assert_eq!(VALIDATORS.map(weight), fixed, "block {}", height);
            let waits = (height % epoch_blocks) < delay && height >= epoch_blocks;
            prop_assert_eq!(ELECTIONS.get(w.state(), &0).is_some(), waits, "before block {}", height);
            let view = query::beacon(w.state(), height - 1);
            prop_assert_eq!((view.turn_seed, view.election.is_some()), (seed, waits));

            let txs: Vec<_> = next.tx(&w).into_iter().collect();
            // Whoever joins here from a snapshot has all that it needs.
            let entries = w.state().entries().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            let (tip, certificate) = (w.chain.tip().clone(), w.chain.certificate().clone());
            let mut joined = Chain::resume(State::from_entries(entries), tip, certificate);
            prop_assert_eq!(joined.proposer(0), w.chain.proposer(0));
            let proposal = w.block(&txs);
            prop_assert_eq!(joined.validate(&proposal.block).unwrap(), proposal.executed);
            beacons.insert(height, w.chain.beacon());
            if (height + 1).is_multiple_of(epoch_blocks) {
                weights.insert(height, powers(&w));
                elected.insert(height, elect(w.state(), &PARAMS.get(w.state(), &0).unwrap()));
            }
        }
    }
}

/// Who leaves in an epoch's last block still decides the first blocks of the next epoch, and answers for them as long as its bond is held.
#[test]
fn who_left_at_an_epochs_end_answers_for_its_last_blocks() {
    let mut params = with(8, 3);
    (params.audit_times.commit_blocks, params.audit_times.reveal_blocks) = (1, 1);
    params.unbonding_epochs = 3;
    let mut w = World::with(params);
    w.blocks(6);
    let (role, validator) = (Role::Validator, address("v1"));
    w.ok("v1", Payload::Retire { role });
    let status = |w: &World| IDENTITIES.get(w.state(), &(role, validator)).unwrap().status;
    assert_eq!(status(&w), IdentityStatus::Retired { release_epoch: 3 });
    // Block 10 is its last; the bond is free in epoch 3, so block 10 is reported in epoch 2.
    w.blocks(2);
    assert_eq!((w.height(), w.chain.validators().power(validator) > 0), (9, true));
    w.blocks(1);
    assert_eq!((w.height(), w.chain.validators().power(validator)), (10, 0));
    w.blocks(12);
    assert!(w.chain.next_context(0).ends_epoch());
    let mut early = World { chain: w.chain.clone(), genesis: w.genesis.clone(), log: Vec::new(), ..w };
    assert!(!early.ok("payer", equivocation("v1", 10)).is_empty());
    assert!(matches!(status(&early), IdentityStatus::Jailed { release_epoch: 3 }));
    // A block later the bond is free, and there is nothing to take for it.
    let mut late = World { chain: w.chain, log: Vec::new(), ..early };
    late.blocks(1);
    let refused = |height| match late.reject("payer", equivocation("v1", height)) {
        Reject::Evidence(fault) => fault,
        other => panic!("{other}"),
    };
    assert_eq!(refused(10), EvidenceFault::TooOld { oldest: 1, found: 0 });
    // Block 11 is of the set that was elected without it: what backed it can leave in epoch 1 at the earliest.
    late.ok("payer", equivocation("v2", 11));
}

/// A chain on which one of three equal validators chooses, whenever it proposes the last block of an epoch, how much is staked there.
struct Grinder {
    chain: Chain,
    nonce: u64,
    tries: u64,
}

/// How often the grinder had what it wanted of an epoch, in epochs before which it proposed the last block, and in others.
#[derive(Debug, Default)]
struct Gains {
    own: u32,
    wanted: u32,
    /// In which it knew what it would get before it chose.
    known: u32,
    others: u32,
    others_wanted: u32,
}

const EPOCH: u64 = 6;

impl Grinder {
    fn new(delay: u64, tries: u64) -> Self {
        let mut params = with(EPOCH, delay);
        // From a millionth of the grinder's own stake on.
        params.min_stake = Amount::from_atto(1);
        Self { chain: Chain::new(&common::genesis(params)), nonce: 0, tries }
    }

    /// A block in round 0 by whose turn it is.
    fn block(chain: &mut Chain, txs: &[SignedTx]) {
        let keys: [SecretKey; 3] = VALIDATORS.map(key);
        let proposer = keys.iter().find(|key| key.address() == chain.proposer(0)).unwrap();
        let proposal =
            chain.propose_by(proposer, chain.tip().time_ms + 1_000, txs, Signatures::Check).unwrap();
        assert_eq!(proposal.rejected, []);
        let header = &proposal.block.header;
        chain.commit(header, Certificate::sign(header, 0, &keys), &proposal.executed);
    }

    fn is_own_turn(chain: &Chain) -> bool {
        chain.proposer(0) == address("v1")
    }

    /// The chain after the last block of an epoch with this stake in it.
    fn staking(&self, amount: u64) -> Chain {
        let mut chain = self.chain.clone();
        let payload = Payload::Stake {
            validator: address("v1"),
            amount: Amount::from_atto(u128::from(amount) * 10_u128.pow(16)),
        };
        let tx = Tx {
            chain_id: CHAIN_ID,
            sender: address("payer"),
            nonce: self.nonce,
            expires_height: chain.tip().height + 9,
            fee: dn(1),
            payload,
        };
        Self::block(&mut chain, &[tx.sign(&key("payer"))]);
        chain
    }

    /// Goes on with the grinder's own turns until the new set and seed hold; none when somebody else has a turn before, whose reveal
    /// nobody knows.
    fn foresee(chain: &Chain) -> Option<bool> {
        let mut chain = chain.clone();
        let (seed, last) = (chain.turn_seed(), chain.tip().height);
        while chain.turn_seed() == seed || chain.tip().height == last {
            if !Self::is_own_turn(&chain) {
                return None;
            }
            Self::block(&mut chain, &[]);
        }
        Some(Self::has_wanted(&chain, last + EPOCH))
    }

    /// What it wants: to propose the last two blocks of the new epoch, so that it chooses once more. One chance in nine.
    fn has_wanted(chain: &Chain, end: u64) -> bool {
        let (set, seed) = (chain.validators(), chain.turn_seed());
        [end - 1, end].iter().all(|height| set.proposer(CHAIN_ID, seed, *height, 0) == address("v1"))
    }

    fn play(&mut self, epochs: u32) -> Gains {
        let mut gains = Gains::default();
        for _ in 0..epochs {
            while !self.chain.next_context(0).ends_epoch() {
                Self::block(&mut self.chain, &[]);
            }
            let (own, end) = (Self::is_own_turn(&self.chain), self.chain.tip().height + 1);
            if own {
                let (mut best, mut known) = (self.staking(1), false);
                for amount in 1..=self.tries {
                    let chain = self.staking(amount);
                    match Self::foresee(&chain) {
                        None => continue,
                        Some(wanted) if wanted => {
                            (best, known) = (chain, true);
                            break;
                        }
                        Some(_) => known = true,
                    }
                }
                self.chain = best;
                self.nonce += 1;
                gains.known += u32::from(known);
            } else {
                Self::block(&mut self.chain, &[]);
            }
            // Until set and seed of the new epoch hold, under every rule that was ever tried here.
            while self.chain.tip().height < end + EPOCH - 2 {
                Self::block(&mut self.chain, &[]);
            }
            let wanted = u32::from(Self::has_wanted(&self.chain, end + EPOCH));
            if own {
                (gains.own, gains.wanted) = (gains.own + 1, gains.wanted + wanted);
            } else {
                (gains.others, gains.others_wanted) = (gains.others + 1, gains.others_wanted + wanted);
            }
        }
        gains
    }
}

/// Stake chosen in an epoch's last block buys no schedule: with a delay of two the chooser knows the seed only when both blocks after it are
/// its own too, and even then a little stake moves no turn.
#[test]
fn stake_chosen_at_an_epochs_end_buys_no_turns() {
    let gains = Grinder::new(2, 24).play(240);
    println!("{gains:?}");
    let rate = |wanted: u32, of: u32| wanted * 1_000 / of.max(1);
    assert!(gains.own > 50 && gains.others > 100, "{gains:?}");
    // One in nine is 111 of 1,000; four standard deviations of 80 draws are 140.
    assert!(rate(gains.wanted, gains.own) < 111 + 140, "{gains:?}");
    assert!(rate(gains.others_wanted, gains.others) < 111 + 100, "{gains:?}");
    // Both blocks after the last one: one in nine again.
    assert!(rate(gains.known, gains.own) < 111 + 140, "{gains:?}");
}
