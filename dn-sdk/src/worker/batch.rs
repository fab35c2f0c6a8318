//! Settling: receipts become a batch, the gateway countersigns it, the ledger takes it.
//!
//! The countersigned batch is on disk before it is sent to the ledger, and whether it stands is asked of the ledger, so a
//! crash anywhere between leads to the same batch once.

use std::sync::Arc;
use std::time::Duration;

use dn_core::objects::{BatchLine, BatchRoot, Receipt};
use dn_core::{Address, Amount, ChannelId, ModelId, ReceiptId, Signed};
use dn_ledger::reject::{Field, Reject, SignedObject};
use dn_ledger::tx::{Payload, Role};
use tokio::sync::watch;

use super::WorkerError;
use super::choose::{MAX_LINES, Waiting};
use super::connection::Shared;
use super::store::OpenBatch;
use crate::batch::{batch_lines, receipts_root};
use crate::clock::now_ms;
use crate::ledger::LedgerError;
use crate::store::StoreError;
use crate::wire::{CountersignReason, ToWorker};

/// How long a countersigned batch can be posted.
const BATCH_VALIDITY_MS: u64 = 3_600_000;
/// When a receipt that the gateway does not know is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// After so long a receipt that the gateway does not know is lost: no call takes longer.
const GIVE_UP_MS: u64 = 1_800_000;
/// When receipts are tried again whose gateway gave something that the ledger refuses.
const MUCH_LATER: Duration = Duration::from_secs(300);

/// Settles every interval until told to stop.
pub(super) async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(shared.config().batch_interval) => {}
            () = shared.settle_requested() => {}
        }
        if let Err(error) = settle(&shared).await {
            tracing::warn!(%error, "settling will be tried again");
        }
    }
}

async fn settle(shared: &Arc<Shared>) -> Result<(), WorkerError> {
    if let Some(open) = shared.store().open_batch()? {
        return post(shared, &open).await;
    }
    for gateway in shared.gateways() {
        let Settling { receipts, pays } = next_receipts(shared, gateway).await?;
        if let Some(open) = countersigned(shared, gateway, receipts).await? {
            if !pays {
                shared.small_batch_done(gateway);
            }
            shared.store().set_open_batch(&open)?;
            post(shared, &open).await?;
        }
    }
    Ok(())
}

/// What of the receipts that wait is to be settled next. All are looked at, however many: those that cannot go now keep no others waiting.
async fn next_receipts(shared: &Shared, gateway: Address) -> Result<Settling, WorkerError> {
    // A receipt that is about to expire or costs nothing cannot be settled.
    let soon = now_ms() + 60_000;
    let lost = |receipt: &Receipt| receipt.expires_ms <= soon || receipt.fee.is_zero();
    let (mut waiting, mut any_lost) = (Waiting::default(), false);
    shared.store().each_pending(gateway, |receipt| {
        if lost(receipt) {
            any_lost = true;
        } else if !shared.is_held_back(receipt.id()) {
            waiting.add(receipt);
        }
    })?;
    if any_lost {
        let of_this = |receipt: &Receipt| receipt.gateway == gateway && lost(receipt);
        shared.store().set_aside("expired before it was settled, or without fee", of_this)?;
    }
    let min_tx_fee = shared.ledger().min_tx_fee().await?;
    let chosen = waiting.choose(shared.batch_limit(), min_tx_fee);
    let pays = chosen.pays(min_tx_fee);
    if chosen.is_empty() || !(pays || shared.may_post_small(gateway)) {
        return Ok(Settling::default());
    }
    let receipts = shared.store().pending(gateway, usize::MAX, |receipt| chosen.has(receipt))?;
    Ok(Settling { receipts, pays })
}

/// Receipts to be settled.
#[derive(Default)]
struct Settling {
    receipts: Vec<Signed<Receipt>>,
    /// Whether they bring more than the transaction costs.
    pays: bool,
}

async fn countersigned(
    shared: &Shared,
    gateway: Address,
    mut receipts: Vec<Signed<Receipt>>,
) -> Result<Option<OpenBatch>, WorkerError> {
    let lines = fit_lines(&mut receipts);
    if receipts.is_empty() {
        return Ok(None);
    }
    let sequence = shared.ledger().batch_sequence(shared.address()).await?;
    let batch = BatchRoot {
        chain_id: shared.chain_id(),
        worker: shared.address(),
        gateway,
        sequence,
        root: receipts_root(&receipts),
        count: u32::try_from(receipts.len()).expect("a batch has at most 4096 receipts"),
        lines,
        expires_ms: now_ms() + BATCH_VALIDITY_MS,
    };
    let ids: Vec<ReceiptId> = receipts.iter().map(|receipt| receipt.body.id()).collect();
    match shared.ask_countersign(batch.clone(), ids.clone()).await {
        Some(ToWorker::Countersigned { batch: signed, vouchers }) => {
            if signed.body != batch || signed.verify(shared.chain_id(), now_ms()).is_err() {
                tracing::warn!(%gateway, "the gateway signed another batch than asked");
                return Ok(None);
            }
            Ok(Some(OpenBatch { batch: signed, vouchers, receipts: ids }))
        }
        Some(ToWorker::CountersignRefused { reason: CountersignReason::Receipts { refused }, .. }) => {
            set_refused_aside(shared, &receipts, &refused)?;
            shared.settle_now();
            Ok(None)
        }
        Some(ToWorker::CountersignRefused { reason, .. }) => {
            tracing::warn!(%gateway, ?reason, "the gateway does not countersign");
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Receipts that the gateway does not know: young ones may still be on their way to the client, old ones are lost.
fn set_refused_aside(
    shared: &Shared,
    receipts: &[Signed<Receipt>],
    refused: &[ReceiptId],
) -> Result<(), StoreError> {
    let old = now_ms().saturating_sub(GIVE_UP_MS);
    let (young, lost): (Vec<&Receipt>, Vec<&Receipt>) = receipts
        .iter()
        .map(|receipt| &receipt.body)
        .filter(|receipt| refused.contains(&receipt.id()))
        .partition(|receipt| receipt.finished_ms > old);
    young.iter().for_each(|receipt| shared.hold_back(receipt.id(), ASK_AGAIN));
    if !lost.is_empty() {
        tracing::warn!(count = lost.len(), "the gateway never settled these receipts; they are set aside");
        let lost: Vec<_> = lost.iter().map(|receipt| receipt.id()).collect();
        let reason = "the gateway says that it never settled this receipt";
        shared.store().set_aside(reason, |receipt| lost.contains(&receipt.id()))?;
    }
    Ok(())
}

async fn post(shared: &Shared, open: &OpenBatch) -> Result<(), WorkerError> {
    let id = open.batch.body.id();
    // Not by its record, which the ledger forgets some time after its end.
    let sequence = open.batch.body.sequence;
    if shared.ledger().batch_at(shared.address(), sequence).await? == Some(id) {
        return Ok(close(shared, open, true)?);
    }
    let payload = Payload::PostBatch { batch: open.batch.clone(), vouchers: open.vouchers.clone() };
    match shared.ledger().submit(shared.key(), payload).await {
        Ok(outcome) => {
            tracing::info!(batch = %id, height = outcome.height, receipts = open.receipts.len(), "batch posted");
            Ok(close(shared, open, true)?)
        }
        Err(LedgerError::Rejected(reject)) => {
            tracing::warn!(batch = %id, reason = %reject, "the ledger refuses the batch");
            refused(shared, open, &reject).await
        }
        Err(error) => Err(error.into()),
    }
}

fn close(shared: &Shared, open: &OpenBatch, posted: bool) -> Result<(), StoreError> {
    if posted {
        shared.batch_done();
        let limit = shared.batch_limit();
        if open.receipts.len() >= limit {
            // More may wait, and more may be allowed by now.
            shared.set_batch_limit(limit + limit / 8 + 1);
            shared.settle_now();
        }
    }
    shared.store().close_batch(open, posted)
}

/// Takes out of the way what can never be paid, and tries the rest again under a new batch.
async fn refused(shared: &Shared, open: &OpenBatch, reject: &Reject) -> Result<(), WorkerError> {
    match next_step(reject) {
        Next::Keep => Ok(()),
        Next::Offer => Ok(shared.refresh_models().await?),
        Next::Again => {
            close(shared, open, false)?;
            shared.settle_now();
            Ok(())
        }
        Next::Smaller { receipts } => {
            close(shared, open, false)?;
            shared.set_batch_limit(receipts);
            shared.settle_now();
            Ok(())
        }
        Next::Cheaper { each } => {
            close(shared, open, false)?;
            shared.refresh_bond().await?;
            let ids = &open.receipts;
            let dear = |receipt: &Receipt| ids.contains(&receipt.id()) && receipt.fee > each;
            let count = shared.store().set_aside(&reject.to_string(), dear)?;
            tracing::warn!(count, %each, "receipts set aside: the collateral does not stand for their fees");
            shared.settle_now();
            Ok(())
        }
        Next::Later => {
            // The gateway's fault: settling with the others does not wait for it.
            close(shared, open, false)?;
            open.receipts.iter().for_each(|id| shared.hold_back(*id, MUCH_LATER));
            shared.settle_now();
            Ok(())
        }
        Next::Unpaid { channel, model } => {
            close(shared, open, false)?;
            let ids = &open.receipts;
            let count = shared.store().set_aside(&reject.to_string(), |receipt| {
                ids.contains(&receipt.id())
                    && channel.is_none_or(|channel| receipt.channel == channel)
                    && model.is_none_or(|model| receipt.model == model)
            })?;
            tracing::warn!(count, reason = %reject, "receipts set aside: they cannot be paid");
            shared.settle_now();
            Ok(())
        }
    }
}

/// What to do about a batch that the ledger refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Send the same batch again: the worker itself may not act now.
    Keep,
    /// Offer the model again, then send the same batch.
    Offer,
    /// Have another batch signed at once.
    Again,
    /// Have a batch of at most so many receipts signed at once: less trust, more audits, smaller batches.
    Smaller { receipts: usize },
    /// Set receipts of higher fees than this aside and have a batch of the others signed.
    Cheaper { each: Amount },
    /// Have another batch signed after [`MUCH_LATER`].
    Later,
    /// Set the channel's or model's receipts aside and have a batch of the others signed.
    Unpaid { channel: Option<ChannelId>, model: Option<ModelId> },
}

fn next_step(reject: &Reject) -> Next {
    let unpaid = |channel, model| Next::Unpaid { channel, model };
    match reject {
        Reject::BatchSequence { .. } | Reject::ObjectExpired { object: SignedObject::BatchRoot, .. } => {
            Next::Again
        }
        Reject::UnknownChannel { channel }
        | Reject::LineGateway { channel, .. }
        | Reject::VoucherMissing { channel, .. }
        | Reject::VoucherSigner { channel, .. }
        | Reject::VoucherTooLow { channel, .. }
        | Reject::ChannelExhausted { channel, .. } => unpaid(Some(*channel), None),
        Reject::Session(fault) if fault.channel().is_some() => unpaid(fault.channel(), None),
        Reject::UnknownModel { model }
        | Reject::ModelRetired { model, .. }
        | Reject::LineDomain { model, .. } => unpaid(None, Some(*model)),
        Reject::NotOffered { .. } => Next::Offer,
        // What is open settles, and then the collateral stands for more.
        Reject::FeesOverBond { open: 1.., .. } => Next::Later,
        Reject::FeesOverBond { receipts, limit, .. } => {
            Next::Cheaper { each: Amount::from_atto(limit.atto() / u128::from(*receipts).max(1)) }
        }
        Reject::Size { field: Field::Receipts, max, found, .. } if found > max => {
            Next::Smaller { receipts: usize::try_from(*max).unwrap_or(usize::MAX) }
        }
        Reject::UnknownIdentity { role: Role::Gateway, .. }
        | Reject::NotActive { role: Role::Gateway, .. }
        | Reject::Signature { object: SignedObject::BatchRoot | SignedObject::Voucher, .. }
        | Reject::ChainId { object: SignedObject::BatchRoot | SignedObject::Voucher, .. }
        | Reject::ObjectExpired { object: SignedObject::Voucher, .. }
        | Reject::VoucherUnexpected { .. }
        | Reject::LineTokens { .. }
        | Reject::Size { .. } => Next::Later,
        // The worker may not act now, or cannot pay the fee; that can change, and the batch stays as it is.
        _ => Next::Keep,
    }
}

/// Keeps as many receipts as fit the most lines of a batch.
fn fit_lines(receipts: &mut Vec<Signed<Receipt>>) -> Vec<BatchLine> {
    loop {
        match batch_lines(receipts.iter().map(|receipt| &receipt.body)) {
            Ok(lines) if lines.len() <= MAX_LINES => return lines,
            // Fees beyond 128 bits cannot come from one supply, but a smaller batch is right for both.
            _ => receipts.truncate(receipts.len() / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use dn_ledger::state::IdentityStatus;

    use super::*;

    #[test]
    fn a_gateway_that_gives_what_the_ledger_refuses_does_not_block_the_others() {
        let address = Address([1; 20]);
        let status = IdentityStatus::Retired { release_epoch: 3 };
        let expired = |object| Reject::ObjectExpired { object, expires_ms: 1, now_ms: 2 };
        for reject in [
            Reject::NotActive { address, role: Role::Gateway, status },
            Reject::UnknownIdentity { address, role: Role::Gateway },
            Reject::Signature { object: SignedObject::Voucher, expected: address },
            Reject::Signature { object: SignedObject::BatchRoot, expected: address },
            Reject::Size { field: Field::Lanes, min: 1, max: 256, found: 257 },
            // Asking again at once would be answered with the same voucher, and so on without an end.
            expired(SignedObject::Voucher),
        ] {
            assert_eq!(next_step(&reject), Next::Later, "{reject}");
        }
        assert_eq!(next_step(&expired(SignedObject::BatchRoot)), Next::Again);
        let worker = Reject::NotActive { address, role: Role::Worker, status };
        assert_eq!(next_step(&worker), Next::Keep);
        let (available, needed) = (Amount::ZERO, Amount::from_dn(1));
        assert_eq!(next_step(&Reject::Insufficient { account: address, available, needed }), Next::Keep);
        let large = Reject::Size { field: Field::Receipts, min: 1, max: 48, found: 512 };
        assert_eq!(next_step(&large), Next::Smaller { receipts: 48 });
        let (worker, collateral, bond) = (address, Amount::from_dn(62), Amount::ZERO);
        let (limit, found) = (Amount::from_dn(3), Amount::from_dn(4));
        let dear = |open| Reject::FeesOverBond { worker, receipts: 3, collateral, bond, open, limit, found };
        assert_eq!(next_step(&dear(0)), Next::Cheaper { each: Amount::from_dn(1) });
        assert_eq!(next_step(&dear(2)), Next::Later);
        let channel = ChannelId([4; 32]);
        let unpaid = Next::Unpaid { channel: Some(channel), model: None };
        assert_eq!(next_step(&Reject::UnknownChannel { channel }), unpaid);
    }
}
