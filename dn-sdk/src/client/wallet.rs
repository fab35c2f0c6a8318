//! Vouchers that the client signs itself: no key leaves it.

use dn_core::encoding::Canonical;
use dn_core::hexadecimal::to_hex;
use dn_core::objects::Voucher;
use dn_core::{Address, Amount, ChannelId, SecretKey, Signed};
use tokio::sync::Mutex;

use super::ClientError;
use crate::clock::now_ms;

/// How long a voucher can be claimed.
const VALIDITY_MS: u64 = 30 * 24 * 3_600_000;

/// A key that may spend from one lane of a channel, and what it has signed.
///
/// Vouchers are cumulative, so losing this state loses nothing: the gateway says what it needs, and the wallet signs it
/// when it is within its limit.
#[derive(Debug)]
pub struct ChannelWallet {
    key: SecretKey,
    chain_id: u64,
    payer: Option<Address>,
    channel: ChannelId,
    lane: u32,
    limit: Amount,
    signed: Mutex<Amount>,
}

impl ChannelWallet {
    /// A wallet that signs at most `limit` in all on this lane.
    pub fn new(key: SecretKey, chain_id: u64, channel: ChannelId, lane: u32, limit: Amount) -> Self {
        Self { key, chain_id, payer: None, channel, lane, limit, signed: Mutex::new(Amount::ZERO) }
    }

    /// Accepts receipts that charge this payer only.
    #[must_use]
    pub const fn of_payer(mut self, payer: Address) -> Self {
        self.payer = Some(payer);
        self
    }

    /// What was signed on the lane before, such as before a restart.
    #[must_use]
    pub fn starting_at(mut self, signed: Amount) -> Self {
        *self.signed.get_mut() = signed;
        self
    }

    /// The most that it has signed for.
    pub async fn signed(&self) -> Amount {
        *self.signed.lock().await
    }

    pub(super) const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(super) const fn payer(&self) -> Option<Address> {
        self.payer
    }

    /// The newest voucher as `0x…`.
    pub(super) async fn current(&self) -> String {
        self.voucher(*self.signed.lock().await)
    }

    /// A voucher over what the gateway needs in all.
    pub(super) async fn sign(&self, needed: Amount) -> Result<String, ClientError> {
        let limit = self.limit;
        if needed > limit {
            return Err(ClientError::WalletLimit { needed, limit });
        }
        let mut signed = self.signed.lock().await;
        *signed = needed.max(*signed);
        Ok(self.voucher(*signed))
    }

    fn voucher(&self, max_claimable: Amount) -> String {
        let voucher = Voucher {
            chain_id: self.chain_id,
            channel: self.channel,
            lane: self.lane,
            max_claimable,
            signer: self.key.address(),
            expires_ms: now_ms() + VALIDITY_MS,
        };
        to_hex(&Signed::sign(voucher, &self.key).to_bytes())
    }
}
