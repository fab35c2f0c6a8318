//! Which receipts go into a batch: of one kind, on so many lines, and on no lane whose place in the transaction costs more than it brings.
//!
//! The ledger's fee is for each KiB begun, and each lane brings a line and a voucher. Without a choice whoever spreads cheap calls over many lanes would
//! make the worker pay. A lane that pays for its place goes, the one that expires first before others; cheap ones fill what is left of the KiB
//! begun, so they go too, a few with each batch, or with the calls that are still to come on them.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{NO_NUMERIC_SPEC, Receipt};
use dn_core::{Amount, ChannelId, ModelId};
use dn_ledger::tx::FEE_BYTES;

/// The most lines of one batch: channels × lanes × models.
pub(super) const MAX_LINES: usize = 256;
/// Bytes of the transaction without any lane.
const HEAD_BYTES: usize = 234;
/// Bytes of a line.
const LINE_BYTES: usize = 108;
/// Bytes of a lane's signed voucher.
const VOUCHER_BYTES: usize = 153;
/// How many times its cost a lane has to bring: at least half of a fee is the worker's.
const WORTH: u128 = 2;

/// Receipts on one lane that wait.
#[derive(Debug)]
struct Lane {
    models: BTreeSet<ModelId>,
    receipts: usize,
    fees: Amount,
    expires_ms: u64,
}

impl Lane {
    fn bytes(&self) -> usize {
        VOUCHER_BYTES + self.models.len() * LINE_BYTES
    }

    /// Whether it brings more than its bytes cost.
    fn pays(&self, min_tx_fee: Amount) -> bool {
        let cost = min_tx_fee.atto().saturating_mul(self.bytes() as u128) / FEE_BYTES as u128;
        self.fees.atto() >= cost.saturating_mul(WORTH)
    }
}

/// What waits for one gateway, added up.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<(bool, ChannelId, u32), Lane>);

/// The lanes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Receipts that can be checked, and those that cannot, go into batches of their own.
    exact: bool,
    lanes: BTreeSet<(ChannelId, u32)>,
}

impl Waiting {
    pub(super) fn add(&mut self, receipt: &Receipt) {
        let lane = self.0.entry(key(receipt)).or_insert_with(|| Lane {
            models: BTreeSet::new(),
            receipts: 0,
            fees: Amount::ZERO,
            expires_ms: u64::MAX,
        });
        lane.models.insert(receipt.model);
        lane.receipts += 1;
        lane.fees = lane.fees.checked_add(receipt.fee).unwrap_or(Amount::from_atto(u128::MAX));
        lane.expires_ms = lane.expires_ms.min(receipt.expires_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lanes of the next batch of at most so many receipts, of the kind that brings more.
    pub(super) fn choose(&self, receipts: usize, min_tx_fee: Amount) -> Chosen {
        let of = |exact| self.lanes(exact, receipts, min_tx_fee);
        let ((checked, fees), (loose, loose_fees)) = (of(true), of(false));
        let exact = fees >= loose_fees;
        Chosen { exact, lanes: if exact { checked } else { loose } }
    }

    fn lanes(&self, exact: bool, receipts: usize, min_tx_fee: Amount) -> (BTreeSet<(ChannelId, u32)>, u128) {
        let mut all: Vec<_> = self.0.iter().filter(|(key, _)| key.0 == exact).collect();
        all.sort_by_cached_key(|(_, lane)| {
            let pays = lane.pays(min_tx_fee);
            // Those that pay by what expires first, then the others by what they bring.
            (!pays, if pays { lane.expires_ms.into() } else { u128::MAX - lane.fees.atto() })
        });
        let (mut chosen, mut fees) = (BTreeSet::new(), 0u128);
        let (mut bytes, mut lines, mut count) = (HEAD_BYTES, 0, 0);
        for ((_, channel, lane_id), lane) in all {
            let larger = bytes + lane.bytes();
            let free = larger.div_ceil(FEE_BYTES) == bytes.div_ceil(FEE_BYTES);
            if count >= receipts {
                break;
            }
            if lines + lane.models.len() > MAX_LINES || !(free || lane.pays(min_tx_fee)) {
                continue;
            }
            (bytes, lines, count) = (larger, lines + lane.models.len(), count + lane.receipts);
            fees = fees.saturating_add(lane.fees.atto());
            chosen.insert((*channel, *lane_id));
        }
        // More models on one lane than a batch has lines: some of its receipts.
        let first = self.0.keys().find(|key| key.0 == exact).filter(|_| chosen.is_empty());
        chosen.extend(first.map(|(_, channel, lane)| (*channel, *lane)));
        (chosen, fees)
    }
}

impl Chosen {
    /// Whether a receipt is among them.
    pub(super) fn has(&self, receipt: &Receipt) -> bool {
        let (exact, channel, lane) = key(receipt);
        exact == self.exact && self.lanes.contains(&(channel, lane))
    }
}

const fn key(receipt: &Receipt) -> (bool, ChannelId, u32) {
    (receipt.numeric_spec != NO_NUMERIC_SPEC, receipt.channel, receipt.lane)
}

#[cfg(test)]
mod tests;
