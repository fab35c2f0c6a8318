//! What a gateway must not forget: keys, accepted vouchers, what was charged, receipts, batches, idempotency records.
//!
//! One call's charge, voucher, receipt and idempotency record are one transaction; so are a batch and the marks on its
//! receipts. Holds are not kept: they belong to running calls, which end with the process. API keys are kept as hashes.
//! Spending keys are kept as they are, in a file that only its owner can read: each can spend at most one channel.

use std::path::Path;

use dn_core::encoding::Canonical;
use dn_core::objects::{BatchRoot, JobRequest, Receipt, TokenLogprobs, Voucher};
use dn_core::{
    Address, Amount, BatchId, ChannelId, Hash32, ReceiptId, SecretKey, Signed, canonical_struct, keccak256,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::store::{self, StoreError, record};

type Table<K> = TableDefinition<'static, K, &'static [u8]>;
const KEYS: Table<[u8; 32]> = TableDefinition::new("api_keys");
const LANES: Table<([u8; 32], u32)> = TableDefinition::new("lanes");
const RECEIPTS: Table<[u8; 32]> = TableDefinition::new("receipts");
const BATCHES: Table<[u8; 32]> = TableDefinition::new("batches");
const IDEMPOTENCY: Table<[u8; 32]> = TableDefinition::new("idempotency");

/// An API key: what it spends from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) label: String,
    pub(crate) payer: Address,
    pub(crate) channel: ChannelId,
    pub(crate) lane: u32,
    pub(crate) created_ms: u64,
    spending_key: [u8; 32],
}
canonical_struct!(KeyRecord {
    label: String,
    payer: Address,
    channel: ChannelId,
    lane: u32,
    created_ms: u64,
    spending_key: [u8; 32],
});

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRecord({} on lane {} of {})", self.label, self.lane, self.channel)
    }
}

/// An API key to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub(crate) payer: Address,
    pub(crate) channel: ChannelId,
    pub(crate) spending_key: SecretKey,
    pub(crate) label: String,
    pub(crate) created_ms: u64,
}

impl KeyRecord {
    /// The key that signs this record's vouchers; `None` if the record was damaged.
    pub(crate) fn spending_key(&self) -> Option<SecretKey> {
        SecretKey::from_bytes(&self.spending_key).ok()
    }
}

/// One lane of a channel, as the gateway charged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// Charged in all.
    pub charged: Amount,
    /// The newest voucher.
    pub voucher: Option<Signed<Voucher>>,
}
canonical_struct!(LaneState {
    channel: ChannelId,
    lane: u32,
    charged: Amount,
    voucher: Option<Signed<Voucher>>,
});

impl LaneState {
    fn empty(channel: ChannelId, lane: u32) -> Self {
        Self { channel, lane, charged: Amount::ZERO, voucher: None }
    }

    /// The most that the newest voucher allows.
    pub fn max_claimable(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |voucher| voucher.body.max_claimable)
    }
}

/// A batch that a receipt was countersigned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) batch: BatchId,
    pub(crate) sequence: u64,
}
canonical_struct!(Assignment { batch: BatchId, sequence: u64 });

/// A charged call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceiptRecord {
    pub(crate) receipt: Signed<Receipt>,
    pub(crate) request: JobRequest,
    pub(crate) output: Vec<u32>,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    pub(crate) assignments: Vec<Assignment>,
}
canonical_struct!(ReceiptRecord {
    receipt: Signed<Receipt>,
    request: JobRequest,
    output: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    assignments: Vec<Assignment>,
});

/// A countersigned batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRecord {
    pub(crate) batch: Signed<BatchRoot>,
    pub(crate) receipts: Vec<ReceiptId>,
}
canonical_struct!(BatchRecord { batch: Signed<BatchRoot>, receipts: Vec<ReceiptId> });

/// What an `Idempotency-Key` led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdempotencyRecord {
    pub(crate) body: Hash32,
    pub(crate) receipt: ReceiptId,
    pub(crate) settled_ms: u64,
}
canonical_struct!(IdempotencyRecord { body: Hash32, receipt: ReceiptId, settled_ms: u64 });

/// What a finished call writes, all or nothing.
pub(crate) struct Settlement<'a> {
    pub(crate) record: &'a ReceiptRecord,
    /// Signs the lane's next voucher; `None` where the client signs.
    pub(crate) spending_key: Option<&'a SecretKey>,
    pub(crate) voucher_expires_ms: u64,
    pub(crate) idempotency: Option<(Hash32, IdempotencyRecord)>,
}

/// Why a charge or voucher is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChargeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("voucher over {found} DN after one over {accepted} DN")]
    Lower { accepted: Amount, found: Amount },
    #[error("lane {lane} belongs to an API key")]
    LaneTaken { lane: u32 },
    #[error("lane {lane} has vouchers of another key")]
    OtherSigner { lane: u32 },
    #[error("charge of {charged} DN is over the voucher's {allowed} DN")]
    Over { charged: Amount, allowed: Amount },
}

macro_rules! charge_from_redb {
    ($($t:ty),*) => {$(
        impl From<$t> for ChargeError {
            fn from(error: $t) -> Self {
                Self::Store(error.into())
            }
        }
    )*};
}
charge_from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

#[derive(Debug)]
pub(crate) struct GatewayStore(Database);

/// What an API key is kept as.
pub(crate) fn key_hash(key: &str) -> Hash32 {
    Hash32(keccak256(&[b"DeepNode API key v1", key.as_bytes()]))
}

impl GatewayStore {
    pub(crate) fn open(dir: &Path, chain_id: u64, gateway: Address) -> Result<Self, StoreError> {
        let database = store::open(dir, "gateway", chain_id, gateway)?;
        let write = database.begin_write()?;
        write.open_table(KEYS)?;
        write.open_table(LANES)?;
        write.open_table(RECEIPTS)?;
        write.open_table(BATCHES)?;
        write.open_table(IDEMPOTENCY)?;
        write.commit()?;
        Ok(Self(database))
    }

    fn read<K: redb::Key + 'static, T: Canonical>(
        &self,
        table: TableDefinition<'static, K, &'static [u8]>,
        name: &'static str,
        key: K::SelfType<'_>,
    ) -> Result<Option<T>, StoreError> {
        let table = self.0.begin_read()?.open_table(table)?;
        table.get(key)?.map(|bytes| record(name, bytes.value())).transpose()
    }

    /// Adds an API key on the first free lane below `max_lanes` that is not `claimed` on the ledger; `None` when there
    /// is none.
    pub(crate) fn add_key(
        &self,
        hash: Hash32,
        new: &NewKey,
        max_lanes: u32,
        claimed: &[u32],
    ) -> Result<Option<KeyRecord>, StoreError> {
        let NewKey { payer, channel, ref spending_key, ref label, created_ms } = *new;
        let write = self.0.begin_write()?;
        let key = {
            let mut lanes = write.open_table(LANES)?;
            let mut free = None;
            for lane in 0..max_lanes {
                if !claimed.contains(&lane) && lanes.get((channel.0, lane))?.is_none() {
                    free = Some(lane);
                    break;
                }
            }
            let Some(lane) = free else { return Ok(None) };
            lanes.insert((channel.0, lane), LaneState::empty(channel, lane).to_bytes().as_slice())?;
            let (label, spending_key) = (label.clone(), *spending_key.to_bytes());
            let key = KeyRecord { label, payer, channel, lane, created_ms, spending_key };
            write.open_table(KEYS)?.insert(hash.0, key.to_bytes().as_slice())?;
            key
        };
        write.commit()?;
        Ok(Some(key))
    }

    pub(crate) fn key(&self, hash: Hash32) -> Result<Option<KeyRecord>, StoreError> {
        self.read(KEYS, "api_keys", hash.0)
    }

    pub(crate) fn lanes(&self) -> Result<Vec<LaneState>, StoreError> {
        let table = self.0.begin_read()?.open_table(LANES)?;
        let lanes = table.iter()?.map(|entry| record("lanes", entry?.1.value()));
        lanes.collect()
    }

    pub(crate) fn receipt(&self, id: ReceiptId) -> Result<Option<ReceiptRecord>, StoreError> {
        self.read(RECEIPTS, "receipts", id.0)
    }

    pub(crate) fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>, StoreError> {
        self.read(BATCHES, "batches", id.0)
    }

    pub(crate) fn idempotency(&self, key: Hash32) -> Result<Option<IdempotencyRecord>, StoreError> {
        self.read(IDEMPOTENCY, "idempotency", key.0)
    }

    /// Accepts a client's voucher; durable before any work is done for it.
    ///
    /// One by a session is accepted only on a lane of its own: the ledger counts all that is claimed next towards it.
    pub(crate) fn accept_voucher(
        &self,
        voucher: &Signed<Voucher>,
        by_session: bool,
    ) -> Result<LaneState, ChargeError> {
        let (channel, lane) = (voucher.body.channel, voucher.body.lane);
        let write = self.0.begin_write()?;
        let state = {
            let keys = write.open_table(KEYS)?;
            for entry in keys.iter()? {
                let key: KeyRecord = record("api_keys", entry?.1.value())?;
                if (key.channel, key.lane) == (channel, lane) {
                    return Err(ChargeError::LaneTaken { lane });
                }
            }
            let mut lanes = write.open_table(LANES)?;
            let mut state = read_lane(&lanes, channel, lane)?;
            let others = state.voucher.as_ref().is_some_and(|v| v.body.signer != voucher.body.signer);
            if by_session && others {
                return Err(ChargeError::OtherSigner { lane });
            }
            let (accepted, found) = (state.max_claimable(), voucher.body.max_claimable);
            if found < accepted {
                return Err(ChargeError::Lower { accepted, found });
            }
            state.voucher = Some(voucher.clone());
            lanes.insert((channel.0, lane), state.to_bytes().as_slice())?;
            state
        };
        write.commit()?;
        Ok(state)
    }

    /// Charges a finished call.
    pub(crate) fn settle(&self, settlement: &Settlement<'_>) -> Result<LaneState, ChargeError> {
        let receipt = &settlement.record.receipt.body;
        let write = self.0.begin_write()?;
        let state = charge(&write, settlement)?;
        write.open_table(RECEIPTS)?.insert(receipt.id().0, settlement.record.to_bytes().as_slice())?;
        if let Some((key, record)) = settlement.idempotency {
            write.open_table(IDEMPOTENCY)?.insert(key.0, record.to_bytes().as_slice())?;
        }
        write.commit()?;
        Ok(state)
    }

    /// Keeps a countersigned batch and marks its receipts.
    pub(crate) fn add_batch(&self, batch: &BatchRecord) -> Result<(), StoreError> {
        let (id, sequence) = (batch.batch.body.id(), batch.batch.body.sequence);
        let write = self.0.begin_write()?;
        {
            let mut receipts = write.open_table(RECEIPTS)?;
            for receipt in &batch.receipts {
                let found =
                    receipts.get(receipt.0)?.map(|bytes| record("receipts", bytes.value())).transpose()?;
                let Some(mut found): Option<ReceiptRecord> = found else { continue };
                let assignment = Assignment { batch: id, sequence };
                if !found.assignments.contains(&assignment) {
                    found.assignments.push(assignment);
                    receipts.insert(receipt.0, found.to_bytes().as_slice())?;
                }
            }
            write.open_table(BATCHES)?.insert(id.0, batch.to_bytes().as_slice())?;
        }
        Ok(write.commit()?)
    }

    /// Forgets what `Idempotency-Key`s led to before this time.
    pub(crate) fn prune_idempotency(&self, before_ms: u64) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(IDEMPOTENCY)?;
            let mut old = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                let kept: IdempotencyRecord = record("idempotency", value.value())?;
                if kept.settled_ms < before_ms {
                    old.push(key.value());
                }
            }
            for key in old {
                table.remove(key)?;
            }
        }
        Ok(write.commit()?)
    }
}

fn read_lane(
    lanes: &impl ReadableTable<([u8; 32], u32), &'static [u8]>,
    channel: ChannelId,
    lane: u32,
) -> Result<LaneState, StoreError> {
    let found = lanes.get((channel.0, lane))?.map(|bytes| record("lanes", bytes.value())).transpose()?;
    Ok(found.unwrap_or_else(|| LaneState::empty(channel, lane)))
}

fn charge(write: &WriteTransaction, settlement: &Settlement<'_>) -> Result<LaneState, ChargeError> {
    let receipt = &settlement.record.receipt.body;
    let (channel, lane) = (receipt.channel, receipt.lane);
    let mut lanes = write.open_table(LANES)?;
    let mut state = read_lane(&lanes, channel, lane)?;
    let allowed = state.max_claimable();
    let over = |charged| ChargeError::Over { charged, allowed };
    state.charged = state.charged.checked_add(receipt.fee).map_err(|_| over(Amount::from_atto(u128::MAX)))?;
    match settlement.spending_key {
        Some(key) => {
            let voucher = Voucher {
                chain_id: receipt.chain_id,
                channel,
                lane,
                max_claimable: state.charged,
                signer: key.address(),
                expires_ms: settlement.voucher_expires_ms,
            };
            state.voucher = Some(Signed::sign(voucher, key));
        }
        None if state.charged > allowed => return Err(over(state.charged)),
        None => {}
    }
    lanes.insert((channel.0, lane), state.to_bytes().as_slice())?;
    Ok(state)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// A lane with something charged and a voucher that says who signed it; the signature is anybody's.
    pub(crate) fn signed_lane(channel: ChannelId, lane: u32, charged: Amount, signer: Address) -> LaneState {
        let max_claimable = charged;
        let body = Voucher { chain_id: 1, channel, lane, max_claimable, signer, expires_ms: 1 };
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        LaneState { channel, lane, charged, voucher: Some(Signed::sign(body, &key)) }
    }
}
