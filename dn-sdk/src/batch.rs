//! How receipts become the totals and the root of a batch: computed by the worker, checked by the gateway.

use std::collections::BTreeMap;

use dn_core::encoding::Canonical;
use dn_core::merkle::MerkleTree;
use dn_core::objects::{BatchLine, Receipt};
use dn_core::{AmountError, ChannelId, ModelId, Signed};

/// The Merkle root over canonical signed receipts.
pub(crate) fn receipts_root(receipts: &[Signed<Receipt>]) -> dn_core::Hash32 {
    MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root()
}

/// Totals by channel, lane, model and domain, in that order.
///
/// # Errors
/// [`AmountError`] when fees overflow.
pub(crate) fn batch_lines<'a>(
    receipts: impl IntoIterator<Item = &'a Receipt>,
) -> Result<Vec<BatchLine>, AmountError> {
    let mut lines: BTreeMap<(ChannelId, u32, ModelId, u32), BatchLine> = BTreeMap::new();
    for receipt in receipts {
        let (channel, lane, model, domain) = (receipt.channel, receipt.lane, receipt.model, receipt.domain);
        let line = lines.entry((channel, lane, model, domain)).or_insert_with(|| BatchLine {
            channel,
            lane,
            model,
            domain,
            receipts: 0,
            prompt_tokens: 0,
            output_tokens: 0,
            fees: dn_core::Amount::ZERO,
        });
        line.receipts += 1;
        line.prompt_tokens += u64::from(receipt.prompt_tokens);
        line.output_tokens += u64::from(receipt.output_tokens);
        line.fees = line.fees.checked_add(receipt.fee)?;
    }
    Ok(lines.into_values().collect())
}
