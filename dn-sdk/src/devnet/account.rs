//! Accounting: from the ledger's events to what everybody earned, and the checks that decide a tour.

use std::collections::BTreeMap;

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, Amount, ChannelId};
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::state::AuditResult;
use dn_ledger::views::{BalancesView, EventView};
use dn_trust::Trust;

use super::report::{AuditSummary, Check, Earning, Refund, Slash, SupplyReport, TrustChange};
use super::roster::Roster;
use crate::validator::AuditRecord;

/// Totals of the fee split over all settled batches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Split {
    pub(super) fees: Amount,
    pub(super) voided: Amount,
    parts: [Amount; 7],
}

impl Split {
    /// Sums up the split of every settled batch and the fees of every voided one.
    pub(super) fn of(events: &[EventView]) -> Self {
        let mut split = Self::default();
        for view in events {
            match &view.event {
                Event::BatchSettled {
                    fees,
                    to_worker,
                    to_owners,
                    to_validators,
                    to_treasuries,
                    to_foundation,
                    burned,
                    to_emission,
                    ..
                } => {
                    add(&mut split.fees, *fees);
                    let parts = [
                        to_worker,
                        to_owners,
                        to_validators,
                        to_treasuries,
                        to_foundation,
                        burned,
                        to_emission,
                    ];
                    split.parts.iter_mut().zip(parts).for_each(|(sum, part)| add(sum, *part));
                }
                Event::BatchVoided { fees, .. } => add(&mut split.voided, *fees),
                _ => {}
            }
        }
        split
    }

    /// The sum of the parts; equals the fees.
    pub(super) fn parts(&self) -> Amount {
        sum(self.parts)
    }
}

/// The supply is capped far below 128 bits, so sums of amounts that exist cannot overflow.
fn add(sum: &mut Amount, amount: Amount) {
    *sum = sum.checked_add(amount).unwrap_or(Amount::from_atto(u128::MAX));
}

/// The sum of amounts that exist.
pub(super) fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::ZERO, |mut sum, amount| {
        add(&mut sum, amount);
        sum
    })
}

/// Every single holding, added up.
pub(super) fn sum_of_holdings(balances: &BalancesView) -> Amount {
    let accounts = balances.accounts.iter().chain(&balances.stake).map(|entry| entry.amount);
    let bonds = balances.collateral.iter().map(|entry| entry.amount);
    let unbonding = balances.unbonding.iter().map(|entry| entry.amount);
    let escrows = balances.channels.iter().map(|entry| entry.amount);
    let batches = balances.batches.iter().map(|entry| entry.amount);
    let pools = balances.pools.iter().map(|entry| entry.amount);
    sum(accounts
        .chain(bonds)
        .chain(unbonding)
        .chain(escrows)
        .chain(batches)
        .chain(pools)
        .chain([balances.burned]))
}

/// What everybody earned and lost: participants in the order of the roster, then the pools.
pub(super) fn earnings(events: &[EventView], roster: &Roster, model_owner: Address) -> Vec<Earning> {
    let mut book: BTreeMap<Address, Earning> = BTreeMap::new();
    let mut pools =
        ["validators' pool", "domain treasury", "foundation", "burned", "back to the community pool"]
            .map(|who| Earning { who: who.to_owned(), ..Earning::default() });
    for view in events {
        let book = &mut book;
        match &view.event {
            Event::FeePaid { sender, amount } => add(&mut of(book, *sender).tx_fees, *amount),
            Event::BatchSettled {
                worker,
                to_worker,
                to_owners,
                to_validators,
                to_treasuries,
                to_foundation,
                burned,
                to_emission,
                ..
            } => {
                add(&mut of(book, *worker).fees, *to_worker);
                add(&mut of(book, model_owner).fees, *to_owners);
                let parts = [to_validators, to_treasuries, to_foundation, burned, to_emission];
                pools.iter_mut().zip(parts).for_each(|(pool, part)| add(&mut pool.fees, *part));
            }
            Event::EmissionPaid { address, amount, .. } => add(&mut of(book, *address).emission, *amount),
            Event::PoolRewarded { validator, amount } => add(&mut of(book, *validator).emission, *amount),
            Event::Slashed { address, amount, reporter, reward, burned, .. } => {
                add(&mut of(book, *address).slashed, *amount);
                if let Some(reporter) = reporter {
                    add(&mut of(book, *reporter).rewards, *reward);
                }
                add(&mut pools[3].rewards, *burned);
            }
            _ => {}
        }
    }
    let mut rows: Vec<Earning> = Vec::new();
    for member in roster.members() {
        if let Some(earning) = book.remove(&member.address) {
            rows.push(Earning { who: member.name.clone(), address: Some(member.address), ..earning });
        }
    }
    rows.extend(book.into_iter().map(|(address, earning)| Earning {
        who: address.to_string(),
        address: Some(address),
        ..earning
    }));
    rows.extend(pools);
    rows
}

fn of(book: &mut BTreeMap<Address, Earning>, address: Address) -> &mut Earning {
    book.entry(address).or_default()
}

/// Every slash.
pub(super) fn slashes(events: &[EventView], roster: &Roster) -> Vec<Slash> {
    let slash = |view: &EventView| match view.event {
        Event::Slashed { address, cause, amount, reporter, reward, burned, .. } => Some(Slash {
            height: view.height,
            who: roster.name(address),
            address,
            cause,
            amount,
            reporter,
            reward,
            burned,
        }),
        _ => None,
    };
    events.iter().filter_map(slash).collect()
}

/// What a payer has put into a channel.
pub(super) fn locked(events: &[EventView], id: ChannelId) -> Amount {
    sum(events.iter().filter_map(|view| match view.event {
        Event::ChannelOpened { channel, deposit, .. } if channel == id => Some(deposit),
        Event::ChannelToppedUp { channel, amount } if channel == id => Some(amount),
        _ => None,
    }))
}

/// The highest trust that the events show of an identity, its present trust included.
pub(super) fn highest_trust(events: &[EventView], of: &TrustChange) -> Trust {
    let seen = events.iter().filter_map(|view| match view.event {
        Event::TrustChanged { address, role, after, .. } if (address, role) == (of.address, of.role) => {
            Some(after)
        }
        _ => None,
    });
    seen.fold(of.after, Trust::max)
}

/// Every batch that was thrown out.
pub(super) fn refunds(events: &[EventView]) -> Vec<Refund> {
    let refund = |view: &EventView| match view.event {
        Event::BatchVoided { batch, worker, fees } => {
            Some(Refund { height: view.height, batch, worker, fees })
        }
        _ => None,
    };
    events.iter().filter_map(refund).collect()
}

/// Counts audits as the ledger closed them, and times as the auditors measured them.
pub(super) fn audits(events: &[EventView], records: Vec<AuditRecord>) -> AuditSummary {
    let mut summary = AuditSummary {
        receipts: 0,
        audited: 0,
        passed: 0,
        fraud: 0,
        other: 0,
        replays: records.len() as u64,
        replay_us: records.iter().map(|record| record.replay_us).sum(),
        generation_us: records.iter().map(|record| record.generation_us).sum(),
        replay_over_generation: 0.0,
        records,
    };
    for view in events {
        match &view.event {
            Event::BatchPosted { count, .. } => summary.receipts += u64::from(*count),
            Event::AuditClosed { result, .. } => {
                summary.audited += 1;
                match result {
                    AuditResult::Passed => summary.passed += 1,
                    AuditResult::Fraud => summary.fraud += 1,
                    _ => summary.other += 1,
                }
            }
            _ => {}
        }
    }
    if summary.generation_us > 0 {
        let ratio = summary.replay_us as f64 / summary.generation_us as f64;
        summary.replay_over_generation = (ratio * 1e4).round() / 1e4;
    }
    summary
}

/// The checks of the books.
pub(super) fn check_books(supply: &SupplyReport, split: &Split, spent: Amount, paid: Amount) -> Vec<Check> {
    let ledger = &supply.ledger;
    let terms = [
        ledger.accounts,
        ledger.collateral,
        ledger.stake,
        ledger.unbonding,
        ledger.channels,
        ledger.batches,
        ledger.pools,
        ledger.burned,
    ];
    let total = sum(terms);
    vec![
        Check {
            name: "the supply equation adds up",
            ok: total == ledger.supply && ledger.total == ledger.supply && ledger.supply == SUPPLY_CAP,
            detail: format!("{total} of {} DN", ledger.supply),
        },
        Check {
            name: "every single holding adds up to the supply",
            ok: supply.sum_of_holdings == ledger.supply,
            detail: format!("{} of {} DN", supply.sum_of_holdings, ledger.supply),
        },
        Check {
            name: "the parts of settled fees are the fees",
            ok: split.parts() == split.fees,
            detail: format!("{} of {} DN", split.parts(), split.fees),
        },
        Check {
            name: "every call was either settled or refunded",
            ok: sum([split.fees, split.voided]) == paid,
            detail: format!("{} settled and {} refunded of {paid} DN", split.fees, split.voided),
        },
        Check {
            name: "the payer's channel lost what was settled, and no more",
            ok: spent == split.fees,
            detail: format!("{spent} of {} DN", split.fees),
        },
    ]
}

/// The checks of justice: the cheat was slashed for fraud each time, nobody else ever was.
pub(super) fn check_slashes(slashes: &[Slash], cheater: Address, expected: usize) -> Vec<Check> {
    let of_cheater = |slash: &&Slash| slash.address == cheater && slash.cause == SlashCause::Fraud;
    let caught = slashes.iter().filter(of_cheater).count();
    let others: Vec<&str> =
        slashes.iter().filter(|slash| slash.address != cheater).map(|slash| slash.who.as_str()).collect();
    vec![
        Check {
            name: "the cheating worker was slashed for each kind of fraud",
            ok: caught >= expected,
            detail: format!("{caught} slashes, {expected} kinds"),
        },
        Check {
            name: "no honest participant was slashed",
            ok: others.is_empty(),
            detail: if others.is_empty() { "none".to_owned() } else { others.join(", ") },
        },
    ]
}
