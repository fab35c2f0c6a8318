//! The world in which audits are compared: seven validators, one of them a worker and one a payer, two workers, a gateway, three models.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dn_core::objects::{ModelManifest, NO_NUMERIC_SPEC};
use dn_core::{Address, Amount, BlockHash, ChannelId, Hash32};
use dn_ledger::params::DisputeParams;
use dn_ledger::state::{
    ACCOUNTS, CHANNELS, DRAW_WEIGHTS, IDENTITIES, PARAMS, POOLS, STAKE_POOLS, State, UNBONDING_POOLS,
};
use dn_ledger::{
    BlockContext, Chain, Devnet, DevnetValidator, Genesis, Params, Payload, RefereeHandle, Role,
};
use dn_powr::EmissionParams;
use dn_trust::AuditParams;

use super::Machine;
use super::audits::Both;
use super::audits_records::Books;
use super::audits_script::{RULES, Scripted, UNKNOWN};
use super::audits_spec::Spec;
use crate::common::{CHAIN_ID, START_MS, dn, manifest, offer, params, price};

/// One of them is a worker, too, and one pays for work.
pub(super) const VALIDATORS: [&str; 7] = ["v1", "v2", "v3", "v4", "v5", "v6", "worker2"];
pub(super) const WORKERS: [&str; 2] = ["worker", "worker2"];
pub(super) const PAYERS: [&str; 2] = ["payer", "v1"];
const OTHERS: [&str; 7] = ["owner", "worker", "gateway", "payer", "spender", "stranger", "faucet"];
const FUNDED: [&str; 5] = ["owner", "worker", "gateway", "payer", "stranger"];

/// Everybody's address, which takes long to find.
static ADDRESSES: LazyLock<BTreeMap<&str, Address>> = LazyLock::new(|| {
    let names = VALIDATORS.into_iter().chain(OTHERS);
    names.map(|name| (name, crate::common::address(name))).collect()
});

pub(super) fn address(name: &str) -> Address {
    ADDRESSES[name]
}

pub(super) fn name_of(who: Address) -> &'static str {
    ADDRESSES.iter().find(|(_, address)| **address == who).unwrap().0
}

/// Short deadlines; with a referee or without, everything audited or by trust, blocks that take two moves or many.
pub(super) fn rules(kind: u8) -> Params {
    let mut params = params();
    (params.epoch_blocks, params.unbonding_epochs) = (8, 5);
    (params.audit_times.window_blocks, params.audit_times.max_per_batch) = (3, 4);
    (params.audit_times.commit_blocks, params.audit_times.reveal_blocks) = (4, 2);
    params.beacon.delay_blocks = 2;
    params.beacon.miss_penalty = Amount::from_atto(3_000_000_000_000_001);
    let all = 10_000;
    let (ceiling, floor, referee, max_moves_per_block) = [
        (all, all, 0, 1),
        (all, all, RULES, 1),
        (5_000, 5_000, RULES, 64),
        (9_000, 3_000, 0, 1),
        (all, all, RULES, 64),
        (9_000, 4_000, RULES, 2),
    ][usize::from(kind)];
    params.audit_rate = AuditParams { ceiling, floor };
    params.dispute = DisputeParams { referee, open_blocks: 3, clock_blocks: 6, max_moves_per_block };
    // Nothing is emitted: that is specified elsewhere.
    params.emission = EmissionParams { half_life_epochs: u64::MAX, reference_price: dn(3_000) };
    params
}

fn published(tag: u8) -> ModelManifest {
    match tag {
        2 => ModelManifest { architecture: UNKNOWN.into(), ..manifest(tag) },
        3 => ModelManifest { numeric_spec: NO_NUMERIC_SPEC, ..manifest(tag) },
        _ => manifest(tag),
    }
}

/// A chain of these validators: two are as strong as each other, no others are.
fn machine(params: Params, seed: u8) -> Machine {
    let validator = |n: usize| DevnetValidator {
        address: address(VALIDATORS[n]),
        name: VALIDATORS[n].to_owned(),
        endpoint: "there.example:1".into(),
        stake: dn([10_000, 9_000, 8_000, 7_000, 5_000, 5_000, 6_000][n]),
    };
    let devnet = Devnet {
        chain_id: CHAIN_ID,
        time_ms: START_MS,
        faucet: address("faucet"),
        funded: VALIDATORS.into_iter().chain(FUNDED).map(|name| (address(name), dn(20_000))).collect(),
        validators: (0..VALIDATORS.len()).map(validator).collect(),
    };
    // No genesis takes clocks as short as these, nor prices of work.
    let genesis = Genesis::devnet(&devnet, crate::common::params()).unwrap();
    let chain = Chain::new(&genesis);
    let mut state = chain.state().clone();
    PARAMS.put(&mut state, &0, &params);
    state.seal();
    let referee = Some(RefereeHandle::new(Scripted));
    let (parent, proposer) = (BlockHash([seed; 32]), address("v1"));
    let ctx = BlockContext { params, referee, parent, proposer, ..chain.next_context(START_MS + 1_000) };
    Machine { state, ctx, offences: 0 }
}

impl Books {
    /// Who has what by the ledger.
    pub(super) fn read(state: &State) -> Self {
        let mut books = Self {
            balances: ACCOUNTS.iter(state).map(|(who, account)| (who, account.balance.atto())).collect(),
            pools: POOLS.iter(state).map(|(pool, held)| (pool, held.atto())).collect(),
            bonds: IDENTITIES.iter(state).map(|(key, i)| (key, (i.collateral.atto(), i.status))).collect(),
            stakes: STAKE_POOLS.iter(state).map(|(who, pool)| (who, pool.tokens().atto())).collect(),
            leaving: UNBONDING_POOLS.iter(state).map(|(key, pool)| (key, pool.tokens().atto())).collect(),
            channels: CHANNELS.iter(state).map(|(id, channel)| (id, channel.deposit.atto())).collect(),
        };
        books.tidy();
        books
    }

    /// Nobody has nothing.
    pub(super) fn tidy(&mut self) {
        self.balances.retain(|_, held| *held > 0);
        self.pools.retain(|_, held| *held > 0);
    }
}

impl Both {
    pub(super) fn new(rules: Params, seed: u8) -> Self {
        let mut m = machine(rules.clone(), seed);
        let mut ok = |who: &str, payload| {
            assert!(m.send(who, payload).is_some());
        };
        let register = |role, collateral| {
            let (collateral, name, endpoint) = (dn(collateral), "n".to_owned(), String::new());
            Payload::Register { role, collateral, name, endpoint }
        };
        ok("owner", register(Role::ModelOwner, 10));
        ok("gateway", register(Role::Gateway, 102));
        ok("worker", register(Role::Worker, 1_000));
        ok("worker2", register(Role::Worker, 130));
        let ids = [1, 2, 3].map(|tag| published(tag).id());
        for tag in [1, 2, 3] {
            let (manifest, name, price) = (published(tag), "m".to_owned(), price());
            ok("owner", Payload::PublishModel { manifest, name, price, domain: 0, salt: None });
        }
        for (who, model) in WORKERS.into_iter().flat_map(|who| ids.map(|id| (who, id))) {
            ok(who, offer(model));
        }
        // Some can lose a part and still be in the role.
        for who in ["v1", "v3", "v6", "worker2"] {
            let (role, add_collateral) = (Role::Validator, dn(2_000));
            ok(who, Payload::UpdateIdentity { role, name: None, endpoint: None, add_collateral });
        }
        let models = ids.map(|id| (id, (address("owner"), published(1))));
        let models = models.into_iter().zip(1..).map(|((id, (owner, _)), tag)| (id, (owner, published(tag))));
        let weights = DRAW_WEIGHTS.iter(&m.state).map(|(who, weight)| (who, weight.at(m.ctx.height).atto()));
        let spec = Spec {
            params: rules,
            chain_id: CHAIN_ID,
            height: m.ctx.height,
            beacon: Hash32::ZERO,
            books: Books::default(),
            models: models.collect(),
            batches: BTreeMap::new(),
            weights: vec![(0, weights.collect())],
            trust: BTreeMap::new(),
            heard: BTreeMap::new(),
            worked: BTreeMap::new(),
            turns: BTreeMap::new(),
            moves: BTreeMap::new(),
            cut: 0,
            told: Vec::new(),
        };
        let (fates, receipts, jobs, seen) = Default::default();
        let channels = PAYERS.map(|payer| (ChannelId::ZERO, payer));
        let mut both = Self { m, spec, models: ids, channels, fates, receipts, jobs, seen, seed };
        (0..PAYERS.len()).for_each(|payer| both.change_channel(payer));
        both.take_over();
        both
    }
}
