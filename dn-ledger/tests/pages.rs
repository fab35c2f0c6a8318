//! Lists in pages: complete, in order, stable while entries come and go, and bounded work for each page.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::{World, address, dn, price};
use dn_core::objects::Price;
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, JobId, ModelId, keccak256};
use dn_ledger::query::{self, MAX_SCAN, PageError};
use dn_ledger::state::{
    ACCOUNTS, Account, BACKING_RELEASES, BACKING_SHARES, BATCHES, DOMAINS, IDENTITIES, JOBS, JobEscrow,
    MODEL_COMMITMENTS, MODELS, ModelCommitment, OFFERS, OPEN_PROPOSALS, Offer, PROPOSALS, REDELEGATIONS,
    SESSIONS, STAKE_SHARES, Session, State, UNBONDING, WORKER_BATCHES, WORKER_SEQUENCES,
};
use dn_ledger::tx::Shares;
use dn_ledger::views::{BalancesView, Cursor, Page, PageRequest};
use dn_ledger::{Payload, Role, supply};

/// More than any page holds.
const MANY: u64 = 2_345;

fn hash(what: &str, n: u64) -> [u8; 32] {
    keccak256(&[what.as_bytes(), &n.to_be_bytes()])
}

fn someone(n: u64) -> Address {
    Address(hash("someone", n)[..20].try_into().unwrap())
}

fn job(worker: Option<Address>) -> JobEscrow {
    JobEscrow {
        payer: address("payer"),
        worker,
        gateway: address("gateway"),
        model: ModelId::ZERO,
        job: JobId([5; 32]),
        price: price(),
        amount: dn(1),
        expires_height: 100,
        bond: dn(2),
    }
}

/// A state with more than two pages of everything.
fn crowd() -> State {
    let mut w = World::ready();
    let batch = w.post(1, dn(1), Amount::ZERO);
    let kind = dn_ledger::tx::ProposalKind::Text {};
    let deposit = w.genesis.params.governance.min_deposit;
    w.ok("payer", Payload::Propose { title: "t".into(), text: String::new(), kind, deposit });
    let mut state = w.state().clone();
    let identity = IDENTITIES.get(&state, &(Role::Worker, address("worker"))).unwrap();
    let model = MODELS.get(&state, &w.model).unwrap();
    let domain = DOMAINS.get(&state, &0).unwrap();
    let batch = BATCHES.get(&state, &batch).unwrap();
    let proposal = PROPOSALS.get(&state, &0).unwrap();
    let (total, per_call) = (dn(3), dn(1));
    let (spent, models, expires_ms) = (Amount::ZERO, vec![], 1);
    let session = Session { serial: 1, until_height: None, per_call, total, spent, models, expires_ms };
    let worker = address("worker");
    for n in 0..MANY {
        ACCOUNTS.put(&mut state, &someone(n), &Account { balance: dn(2), nonce: n });
        IDENTITIES.put(&mut state, &(Role::Worker, someone(n)), &identity);
        MODELS.put(&mut state, &ModelId(hash("model", n)), &model);
        DOMAINS.put(&mut state, &(10 + u32::try_from(n).unwrap()), &domain);
        JOBS.put(&mut state, &ChannelId(hash("job", n)), &job(None));
        let (who, by) = (address("payer"), someone(n));
        STAKE_SHARES.put(&mut state, &(who, by), &Shares(1));
        UNBONDING.put(&mut state, &(who, n, by), &Shares(1));
        REDELEGATIONS.put(&mut state, &(who, n, (by, worker)), &Shares(1));
        BACKING_SHARES.put(&mut state, &(who, ModelId(hash("family", n))), &Shares(1));
        BACKING_RELEASES.put(&mut state, &(who, n, ModelId(hash("family", n))), &dn(1));
        let commitment = ModelCommitment { height: n, expires_height: n + 9 };
        MODEL_COMMITMENTS.put(&mut state, &(who, Hash32(hash("commitment", n))), &commitment);
        OFFERS.put(
            &mut state,
            &(ModelId::ZERO, by),
            &Offer { since_height: 0, until_height: None, price: Price::default() },
        );
        SESSIONS.put(&mut state, &(address("payer"), someone(n)), &session);
        PROPOSALS.put(&mut state, &(n + 1), &proposal);
        OPEN_PROPOSALS.put(&mut state, &(n + 1), &proposal.status);
        let id = BatchId(hash("batch", n));
        BATCHES.put(&mut state, &id, &batch);
        WORKER_BATCHES.put(&mut state, &(worker, n + 1), &id);
    }
    WORKER_SEQUENCES.put(&mut state, &worker, &(MANY + 1));
    state
}

fn request(limit: u32, after: Option<Cursor>) -> PageRequest {
    PageRequest { limit: Some(limit), after }
}

/// All entries, read in pages of this size; none is longer, only the last shorter.
fn walk<T>(limit: u32, page: impl Fn(&PageRequest) -> Result<Page<T>, PageError>) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Page { items, next } = page(&request(limit, after)).unwrap();
        assert!(items.len() <= limit as usize);
        assert!(next.is_none() || items.len() == limit as usize);
        all.extend(items);
        if next.is_none() {
            return all;
        }
        after = next;
    }
}

/// Whatever the size of the pages: the same entries, each once.
fn check<T: std::fmt::Debug, K: Ord + std::fmt::Debug>(
    expected: usize,
    page: impl Fn(&PageRequest) -> Result<Page<T>, PageError>,
    key: impl Fn(&T) -> K,
) {
    let keys: Vec<K> = walk(1_000, &page).iter().map(&key).collect();
    assert_eq!(keys.len(), expected);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), expected, "each once");
    let again: Vec<K> = walk(97, &page).iter().map(&key).collect();
    assert_eq!(keys, again);
    assert_eq!(page(&PageRequest::default()).unwrap().items.len(), query::DEFAULT_LIMIT);
    for found in [0, 1_001, u32::MAX] {
        assert_eq!(page(&request(found, None)).unwrap_err(), PageError::Limit { max: 1_000, found });
    }
    let foreign: Cursor = serde_json::from_value("0xff0102".into()).unwrap();
    assert!(matches!(page(&request(1, Some(foreign))), Err(PageError::Cursor { .. })));
}

#[test]
fn every_list_is_whole_whatever_the_size_of_its_pages() {
    let state = crowd();
    let (many, worker) = (usize::try_from(MANY).unwrap(), address("worker"));
    let domains = DOMAINS.iter(&state).filter(|(id, _)| *id < 10).count();
    check(many + 2, |r| query::identities(&state, Role::Worker, r), |i| i.address);
    check(many + 1, |r| query::models(&state, r), |m| m.id);
    check(many + domains, |r| query::domains(&state, 0, r), |d| d.id);
    check(many, |r| query::jobs(&state, Some(worker), r), |j| j.escrow);
    check(many, |r| query::sessions(&state, address("payer"), r), |s| s.session);
    check(many + 1, |r| query::proposals(&state, false, r), |p| p.id);
    check(many + 1, |r| query::proposals(&state, true, r), |p| p.id);
    check(many + 1, |r| query::batches(&state, worker, r), |b| b.id);
    let who = address("payer");
    check(many, |r| query::stakes(&state, who, r), |s| s.validator);
    check(many, |r| query::unbonding(&state, who, r), |u| (u.release_epoch, u.validator));
    check(many, |r| query::redelegations(&state, who, r), |l| (l.release_epoch, l.from, l.to));
    check(many, |r| query::backings(&state, who, r), |b| b.family);
    check(many, |r| query::backing_releases(&state, who, r), |b| (b.release_epoch, b.family));
    check(many, |r| query::model_commitments(&state, who, r), |c| c.commitment);
    check(many, |r| query::model_workers(&state, ModelId::ZERO, r), |o| o.worker);
    // An answer about the account holds their beginning.
    let account = query::account(&state, who);
    let lists = [account.stakes.len(), account.unbonding.len(), account.redelegating.len()];
    assert_eq!(lists, [query::MAX_LIST; 3]);
    let backing = query::backing(&state, who);
    assert_eq!([backing.backing.len(), backing.releases.len()], [query::MAX_LIST; 2]);
    // The newest first, down to number 0.
    let first = query::batches(&state, worker, &request(3, None)).unwrap();
    assert_eq!(first.items[0].id, BatchId(hash("batch", MANY - 1)));
    let none = query::batches(&state, address("worker2"), &request(3, None)).unwrap();
    assert_eq!((none.items.len(), none.next), (0, None));
    // A cursor of another role's list is none of this one's.
    let next = query::identities(&state, Role::Worker, &request(1, None)).unwrap().next;
    let e = query::identities(&state, Role::Gateway, &request(1, next)).unwrap_err();
    assert_eq!(e, PageError::Cursor { table: "identities" });
}

/// A page that ends exactly at the list's end says so.
#[test]
fn the_last_page_has_no_next_however_full_it_is() {
    let mut state = State::default();
    for n in 0..10 {
        JOBS.put(&mut state, &ChannelId([n; 32]), &job(None));
    }
    let five = query::jobs(&state, None, &request(5, None)).unwrap();
    let ten = query::jobs(&state, None, &request(5, five.next.clone())).unwrap();
    assert!(five.next.is_some());
    assert_eq!((ten.items.len(), ten.next), (5, None));
    assert_eq!(query::jobs(&state, None, &request(10, None)).unwrap().next, None);
}

/// What stays is seen once, though its neighbours, and the entry of the cursor itself, go and new ones come.
#[test]
fn pages_are_stable_while_entries_come_and_go() {
    let mut state = State::default();
    let id = |n: u8| ChannelId([n; 32]);
    for n in (0..200).step_by(2) {
        JOBS.put(&mut state, &id(n), &job(None));
    }
    let (mut seen, mut after, mut turn) = (Vec::new(), None, 0u8);
    loop {
        let page = query::jobs(&state, None, &request(10, after)).unwrap();
        seen.extend(page.items.iter().map(|view| view.escrow));
        let Some(next) = page.next else { break };
        after = Some(next);
        // The last one shown goes, and so does one ahead; one comes before the cursor and one behind it.
        let last = page.items.last().unwrap().escrow.0[0];
        JOBS.remove(&mut state, &id(last));
        JOBS.remove(&mut state, &id(last.saturating_add(4)));
        JOBS.put(&mut state, &id(2 * turn + 1), &job(None));
        JOBS.put(&mut state, &id(last.saturating_add(1)), &job(None));
        turn += 1;
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "none twice");
    let stayed: Vec<_> = (0..200).step_by(2).map(id).filter(|id| JOBS.contains(&state, id)).collect();
    assert!(stayed.len() > 70 && stayed.iter().all(|id| seen.contains(id)), "none missed");
}

/// However few entries fit the question, a page looks at no more than so many records.
#[test]
fn a_page_of_a_filtered_list_looks_at_a_bounded_number_of_records() {
    let mut state = State::default();
    let scan = u64::try_from(MAX_SCAN).unwrap();
    for n in 0..2 * scan + 5 {
        JOBS.put(&mut state, &ChannelId(hash("job", n)), &job(Some(address("worker2"))));
    }
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = query::jobs(&state, Some(address("worker")), &request(10, after)).unwrap();
        assert_eq!(page.items.len(), 0);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
}

#[test]
fn the_pages_of_all_holdings_add_up() {
    let state = crowd();
    let all = query::balances(&state, 7);
    assert!(all.accounts.len() > 2_000 && all.jobs.len() > 2_000);
    for limit in [13, 1_000] {
        let (mut view, mut after, mut pages) = (BalancesView::default(), None, 0);
        loop {
            let page = query::balances_page(&state, 7, &request(limit, after)).unwrap();
            let held = &page.balances;
            let count = held.accounts.len() + held.collateral.len() + held.stake.len() + held.jobs.len();
            assert!(count <= limit as usize);
            if pages == 0 {
                view = page.balances;
            } else {
                view.append(page.balances);
            }
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(view, all, "pages of {limit}");
        assert!(pages > 5);
    }
    let foreign: Cursor = serde_json::from_value("0xff".into()).unwrap();
    let e = query::balances_page(&state, 7, &request(1, Some(foreign))).unwrap_err();
    assert_eq!(e, PageError::Cursor { table: "balances" });
    // The holdings of the chain itself sum to the supply, as its running totals say.
    let w = World::ready();
    assert_eq!(*w.chain.supply(), supply::supply(w.state()));
    let view = query::balances(w.state(), w.height());
    let sum = Amount::sum(
        view.accounts
            .iter()
            .map(|b| b.amount)
            .chain(view.collateral.iter().map(|b| b.amount))
            .chain(view.stake.iter().map(|b| b.amount))
            .chain(view.channels.iter().map(|b| b.amount))
            .chain(view.domains.iter().map(|b| b.amount))
            .chain(view.pools.iter().map(|b| b.amount))
            .chain([view.burned]),
    );
    assert_eq!(sum, Ok(view.supply));
}

/// Open audits are found by their deadlines, in pages as well.
#[test]
fn open_audits_come_in_pages() {
    let mut w = World::ready();
    w.post(8, dn(8), Amount::ZERO);
    w.blocks(3);
    let all = query::audits(w.state(), None, true, &request(1_000, None)).unwrap();
    assert_eq!(all.next, None);
    assert!(all.items.len() >= 3, "{}", all.items.len());
    let paged = walk(1, |r| query::audits(w.state(), None, true, r));
    assert_eq!(paged, all.items);
    let every = walk(2, |r| query::audits(w.state(), None, false, r));
    assert_eq!(every.len(), all.items.len());
    let of = all.items[0].auditor;
    let one = walk(1, |r| query::audits(w.state(), Some(of), true, r));
    assert!(!one.is_empty() && one.iter().all(|task| task.auditor == of));
}
