//! Which receipts go into a batch: of one kind, on so many lines, and on no lane whose place in the transaction costs more than it brings.
//!
//! The ledger's fee is for each KiB begun, and each lane brings a line and a voucher. Without a choice whoever spreads cheap calls over many lanes would
//! make the worker pay. A lane that pays for its place goes, the one that expires first before others; cheap ones fill what is left of the KiB
//! begun. Whether a batch pays as a whole is for the caller to look at: small ones need not be posted often.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{NO_NUMERIC_SPEC, Receipt};
use dn_core::{Amount, ChannelId, ModelId, ReceiptId};
use dn_ledger::tx::FEE_BYTES;

/// The most lines of one batch: channels × lanes × models.
pub(super) const MAX_LINES: usize = 256;
/// Bytes of the transaction without any lane.
const HEAD_BYTES: usize = 234;
/// Bytes of a line.
const LINE_BYTES: usize = 108;
/// Bytes of a lane's signed voucher.
const VOUCHER_BYTES: usize = 153;
/// How many times its cost a place has to bring: at least half of a fee is the worker's.
const WORTH: u128 = 2;

/// What counts of a receipt.
#[derive(Debug, Clone, Copy)]
struct Item {
    id: ReceiptId,
    model: ModelId,
    fee: u128,
    expires_ms: u64,
}

/// Receipts on lanes that wait for one gateway, by whether they can be checked: those that can and those that cannot go into batches of their own.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<(bool, ChannelId, u32), Vec<Item>>);

/// The receipts of a batch.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    receipts: BTreeSet<ReceiptId>,
    lines: usize,
    bytes: usize,
    fees: u128,
    expires_ms: u64,
}

/// What of a lane would go.
struct Part {
    items: Vec<Item>,
    models: usize,
}

impl Part {
    /// The first receipts of an order, as many as there is room for.
    fn of<'a>(items: impl Iterator<Item = &'a Item>, receipts: usize, lines: usize) -> Self {
        let (mut models, mut taken) = (BTreeSet::new(), Vec::new());
        for item in items {
            if taken.len() == receipts {
                break;
            }
            if models.contains(&item.model) || models.len() < lines {
                models.insert(item.model);
                taken.push(*item);
            }
        }
        Self { items: taken, models: models.len() }
    }

    /// What expires first; or, where that does not pay, what brings most.
    fn best(lane: &[Item], receipts: usize, lines: usize, min_tx_fee: Amount) -> Self {
        let mut order: Vec<&Item> = lane.iter().collect();
        order.sort_by_key(|item| (item.expires_ms, item.id));
        let first = Self::of(order.iter().copied(), receipts, lines);
        if first.pays(min_tx_fee) {
            return first;
        }
        order.sort_by_key(|item| (Reverse(item.fee), item.expires_ms, item.id));
        let dearest = Self::of(order.into_iter(), receipts, lines);
        dearest.cut(min_tx_fee)
    }

    /// As much of it, from its beginning, as pays best: cheap calls for other models, each with a line, keep a dear one from nothing. All of it where no
    /// beginning pays.
    fn cut(mut self, min_tx_fee: Amount) -> Self {
        let (mut models, mut fees) = (BTreeSet::new(), 0u128);
        let (mut best, mut most) = (None, 0u128);
        for (n, item) in self.items.iter().enumerate() {
            models.insert(item.model);
            fees = fees.saturating_add(item.fee);
            let needed = needed(models.len(), min_tx_fee);
            if fees >= needed && (best.is_none() || fees - needed >= most) {
                (best, most) = (Some((n + 1, models.len())), fees - needed);
            }
        }
        if let Some((items, models)) = best {
            self.items.truncate(items);
            self.models = models;
        }
        self
    }

    fn fees(&self) -> u128 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.fee))
    }

    fn expires_ms(&self) -> u64 {
        self.items.iter().map(|item| item.expires_ms).min().unwrap_or(u64::MAX)
    }

    const fn bytes(&self) -> usize {
        VOUCHER_BYTES + self.models * LINE_BYTES
    }

    /// Whether it brings more than its bytes cost.
    fn pays(&self, min_tx_fee: Amount) -> bool {
        self.fees() >= needed(self.models, min_tx_fee)
    }
}

/// What a lane with so many lines has to bring.
fn needed(models: usize, min_tx_fee: Amount) -> u128 {
    let bytes = VOUCHER_BYTES + models * LINE_BYTES;
    let cost = min_tx_fee.atto().saturating_mul(bytes as u128) / FEE_BYTES as u128;
    cost.saturating_mul(WORTH)
}

impl Waiting {
    pub(super) fn add(&mut self, receipt: &Receipt) {
        let exact = receipt.numeric_spec != NO_NUMERIC_SPEC;
        let (model, fee, expires_ms) = (receipt.model, receipt.fee.atto(), receipt.expires_ms);
        let item = Item { id: receipt.id(), model, fee, expires_ms };
        self.0.entry((exact, receipt.channel, receipt.lane)).or_default().push(item);
    }

    /// The next batch of at most so many receipts: one that pays, if there is any, and of those the one whose receipts expire first.
    pub(super) fn choose(&self, receipts: usize, min_tx_fee: Amount) -> Chosen {
        let batches = [true, false].map(|exact| self.batch(exact, receipts, min_tx_fee));
        let rank = |batch: &Chosen| (batch.receipts.is_empty(), !batch.pays(min_tx_fee), batch.expires_ms);
        batches.into_iter().min_by_key(rank).unwrap_or_default()
    }

    fn batch(&self, exact: bool, receipts: usize, min_tx_fee: Amount) -> Chosen {
        let lanes = self.0.iter().filter(|(key, _)| key.0 == exact);
        let mut parts: Vec<_> = lanes
            .map(|(_, lane)| {
                let part = Part::best(lane, receipts, MAX_LINES, min_tx_fee);
                let pays = part.pays(min_tx_fee);
                // Those that pay by what expires first, then the others by what they bring.
                let rank = (!pays, if pays { part.expires_ms().into() } else { u128::MAX - part.fees() });
                (rank, lane)
            })
            .collect();
        parts.sort_by_key(|(rank, _)| *rank);
        let mut batch = Chosen { bytes: HEAD_BYTES, expires_ms: u64::MAX, ..Chosen::default() };
        for (_, lane) in parts {
            let room = receipts - batch.receipts.len();
            let part = Part::best(lane, room, MAX_LINES - batch.lines, min_tx_fee);
            if part.items.is_empty() {
                break;
            }
            let bytes = batch.bytes + part.bytes();
            let is_free = bytes.div_ceil(FEE_BYTES) == batch.bytes.div_ceil(FEE_BYTES);
            // Something goes, however many models are on it.
            if is_free || part.pays(min_tx_fee) || batch.receipts.is_empty() {
                batch.bytes = bytes;
                batch.lines += part.models;
                batch.fees = batch.fees.saturating_add(part.fees());
                batch.expires_ms = batch.expires_ms.min(part.expires_ms());
                batch.receipts.extend(part.items.iter().map(|item| item.id));
            }
        }
        batch
    }
}

impl Chosen {
    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }

    /// Whether a receipt is among them.
    pub(super) fn has(&self, receipt: &Receipt) -> bool {
        self.receipts.contains(&receipt.id())
    }

    /// Whether the worker's part of the fees is more than the transaction's.
    pub(super) fn pays(&self, min_tx_fee: Amount) -> bool {
        let cost = min_tx_fee.atto().saturating_mul(self.bytes.div_ceil(FEE_BYTES) as u128);
        self.fees >= cost.saturating_mul(WORTH)
    }
}

#[cfg(test)]
mod tests;
