//! Tries of stake, evidence, sessions and governance.

use dn_core::objects::SessionGrant;
use dn_core::{Amount, BlockHash, Hash32, Signed};
use dn_ledger::Payload;
use dn_ledger::state::{OPEN_PROPOSALS, Pool, ProposalStatus, SESSIONS, STAKE_SHARES, UNBONDING};
use dn_ledger::tx::{Choice, Evidence, ParamChange, ProposalKind, Role, Shares};
use dn_ledger::vote::{Vote, VoteKind};

use super::common::{CHAIN_ID, World, address, dn, key};
use super::{NAMES, Try, choose};

/// Kinds of tries from this file.
pub(super) const KINDS: std::ops::Range<u8> = 18..27;

pub(super) fn payload(w: &World, t: &Try) -> Payload {
    let other = address(NAMES[t.a as usize % 9]);
    let amount = Amount::from_atto(u128::from(t.b) * 5_000_000_000_000_000);
    match t.kind {
        18 => Payload::UpdateIdentity {
            role: Role::ALL[t.a as usize % 4],
            name: t.b.is_multiple_of(2).then(|| format!("name {}", t.b)),
            endpoint: None,
            add_collateral: if t.b.is_multiple_of(3) { amount } else { Amount::ZERO },
        },
        19 => Payload::SetCommission { rate: u16::try_from(t.b % 150).unwrap() },
        20 => {
            let from = address(NAMES[t.a as usize % 3]);
            let held = STAKE_SHARES.get_or_default(w.state(), &(address(NAMES[t.who]), from));
            let shares = Shares(held.0 / u128::from(t.b % 4).max(1));
            Payload::Redelegate { from, to: address(NAMES[t.a as usize / 3 % 3]), shares }
        }
        21 => evidence(w, t),
        22 => grant(w, t),
        23 => {
            let key = (address(NAMES[t.who]), address("session"));
            let newest = SESSIONS.get(w.state(), &key).map_or(0, |s| s.serial);
            Payload::RevokeSession { session: address("session"), serial: newest + t.b % 2 }
        }
        24 => Payload::Propose { title: "t".into(), text: String::new(), kind: kind(w, t), deposit: amount },
        25 => Payload::Deposit { proposal: proposal(w, t, false), amount },
        _ => {
            // Mostly one choice, so that something passes.
            let choice = Choice::ALL[if t.b.is_multiple_of(4) { t.a as usize % 4 } else { 0 }];
            let pool = if t.who < 3 && !t.b.is_multiple_of(3) { address(NAMES[t.who]) } else { other };
            Payload::Vote { proposal: proposal(w, t, true), pool, choice }
        }
    }
}

/// Somebody whose stake is free, or will be first.
pub(super) fn leaving(w: &World) -> Option<usize> {
    let first = UNBONDING.iter(w.state()).min_by_key(|((_, release, _), _)| *release)?.0.0;
    NAMES.iter().position(|name| address(name) == first)
}

fn proposal(w: &World, t: &Try, voting: bool) -> u64 {
    let wanted = |status: &ProposalStatus| matches!(status, ProposalStatus::Voting { .. }) == voting;
    let open: Vec<_> = OPEN_PROPOSALS.iter(w.state()).filter(|(_, s)| wanted(s)).map(|(id, _)| id).collect();
    choose(&open, t.a, 99)
}

fn kind(w: &World, t: &Try) -> ProposalKind {
    match t.a % 5 {
        0 => ProposalKind::Text {},
        1 => {
            // Most within the step that one proposal may make.
            let lanes = w.genesis.params.max_lanes;
            let value = lanes / 2 + u32::try_from(t.b).unwrap() % (2 * lanes);
            ProposalKind::Params { changes: vec![ParamChange::MaxLanes { value }] }
        }
        // Now and then out of bounds.
        2 => {
            let value = u16::try_from(t.b * 2).unwrap();
            ProposalKind::Params { changes: vec![ParamChange::SlashEquivocation { value: value * 2 }] }
        }
        3 => {
            let pool = [Pool::Reserve, Pool::Domain { domain: 0 }, Pool::Community][t.b as usize % 3];
            ProposalKind::Spend { pool, to: address("owner"), amount: dn(t.b) }
        }
        // Never reached here.
        _ => {
            let height = w.height() + t.b * 1_000;
            ProposalKind::Upgrade { name: "v2".into(), version: Hash32([2; 32]), height }
        }
    }
}

fn grant(w: &World, t: &Try) -> Payload {
    let owner = if t.a < 200 { "payer" } else { NAMES[t.who] };
    let key_of = if t.a == 7 { "stranger" } else { owner };
    let session = address("session");
    let newest = SESSIONS.get(w.state(), &(address(owner), session)).map_or(0, |s| s.serial);
    let body = SessionGrant {
        chain_id: CHAIN_ID,
        owner: address(owner),
        session,
        serial: newest + t.b % 4,
        per_call: dn(t.b % 7),
        total: dn(t.b % 30),
        models: if t.b.is_multiple_of(2) { vec![] } else { vec![w.model] },
        expires_ms: w.chain.tip().time_ms + t.b * 20,
    };
    Payload::GrantSession { grant: Signed::sign(body, &key(key_of)) }
}

/// Only the third validator is ever caught, so that audits go on; mostly it is forged.
fn evidence(w: &World, t: &Try) -> Payload {
    let vote = |block| Vote {
        chain_id: CHAIN_ID,
        height: w.height().saturating_sub(t.b % 24),
        round: 0,
        kind: VoteKind::Precommit,
        block,
    };
    let (first, second) = (vote(None), vote((t.a != 3).then_some(BlockHash([1; 32]))));
    let signer = if t.a.is_multiple_of(2) { "v3" } else { NAMES[t.who] };
    let evidence = Evidence::Votes {
        first,
        first_signature: key("v3").sign(&first.digest()),
        second,
        second_signature: key(signer).sign(&second.digest()),
    };
    Payload::SubmitEvidence { validator: address("v3"), evidence }
}
