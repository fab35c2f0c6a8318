//! Who pays for a call: an API key, or the caller's own voucher.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use dn_core::encoding::Canonical;
use dn_core::hexadecimal::from_hex;
use dn_core::objects::Voucher;
use dn_core::{Hash32, Signed, keccak256};

use super::call::Payer;
use super::error::ApiError;
use super::shared::{Shared, off_thread};
use super::store::{ChargeError, key_hash};
use crate::clock::now_ms;

/// Header with a canonical signed voucher, `0x…`, for callers that sign for themselves.
pub(crate) const VOUCHER_HEADER: &str = "x-dn-voucher";
const MAX_KEY_BYTES: usize = 256;
const MAX_VOUCHER_BYTES: usize = 1024;

/// The payer that the headers name.
pub(crate) async fn payer(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Payer, ApiError> {
    if let Some(value) = headers.get(VOUCHER_HEADER) {
        let bad =
            ApiError::Header { header: VOUCHER_HEADER, expected: "a canonical signed voucher as 0x..." };
        let bytes = value.to_str().ok().and_then(|text| from_hex(text, MAX_VOUCHER_BYTES));
        let voucher = Signed::<Voucher>::from_bytes(&bytes.ok_or(bad.clone())?).map_err(|_| bad)?;
        return by_voucher(shared, voucher).await;
    }
    let key = bearer(headers).ok_or(ApiError::MissingKey)?;
    let hash = key_hash(key);
    let looking = {
        let shared = shared.clone();
        move || shared.store.key(hash)
    };
    let record = off_thread(looking).await?.map_err(|_| ApiError::Internal)?.ok_or(ApiError::WrongKey)?;
    let spending_key = Some(record.spending_key().ok_or(ApiError::Internal)?);
    let (address, channel, lane) = (record.payer, record.channel, record.lane);
    Ok(Payer { address, channel, lane, spending_key, session: None, scope: hash })
}

/// Public endpoints need no key, but say so when one is sent that is not known here: stock clients test their key that way.
pub(crate) async fn no_wrong_key(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(VOUCHER_HEADER) {
        payer(shared, headers).await?;
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && key.len() <= MAX_KEY_BYTES).then_some(key)
}

/// Checks a caller's voucher and accepts it; what it allows is durable before any work is done.
async fn by_voucher(shared: &Arc<Shared>, voucher: Signed<Voucher>) -> Result<Payer, ApiError> {
    let refused = |reason: String| ApiError::Voucher { reason };
    let validity = u64::try_from(shared.limits().voucher_validity.as_millis()).unwrap_or(u64::MAX);
    voucher.verify(shared.chain_id, now_ms()).map_err(|error| refused(error.to_string()))?;
    let Voucher { channel, lane, signer, expires_ms, .. } = voucher.body;
    if expires_ms < now_ms().saturating_add(validity) {
        return Err(refused(format!("it must stay valid for {} s", validity / 1000)));
    }
    let view = shared.channel(channel, Duration::from_secs(2)).await.map_err(|_| ApiError::LedgerDown)?;
    let view = view.ok_or_else(|| refused(format!("channel {channel} does not exist")))?;
    if view.payee != shared.address() {
        return Err(refused(format!("channel {channel} pays {}", view.payee)));
    }
    let by_session = signer != view.payer && signer != view.spender;
    if by_session {
        let known = shared.session(view.payer, signer, Duration::from_secs(2)).await;
        let known = known.map_err(|_| ApiError::LedgerDown)?;
        let known = known.ok_or_else(|| refused(format!("{signer} may not spend from channel {channel}")))?;
        let open = known.check_open(now_ms(), shared.limits().voucher_validity);
        open.map_err(|reason| ApiError::Session { session: signer, reason })?;
    }
    // The ledger takes so many lanes of a channel; work on one more could never be claimed, nor the rest of its batch.
    let limit = shared.max_lanes;
    if lane >= limit {
        return Err(refused(format!("lane {lane} does not exist: a channel has lanes 0 to {}", limit - 1)));
    }
    let found = voucher.body.max_claimable;
    let accepting = {
        let shared = shared.clone();
        move || shared.store.accept_voucher(&voucher, by_session)
    };
    let state = off_thread(accepting).await?.map_err(|error| match error {
        ChargeError::Lower { accepted, found } => ApiError::VoucherLower { channel, lane, accepted, found },
        ChargeError::LaneTaken { lane } => refused(format!("lane {lane} belongs to an API key")),
        ChargeError::OtherSigner { lane } => {
            refused(format!("lane {lane} has vouchers of another key; a session needs a lane of its own"))
        }
        ChargeError::Store(_) | ChargeError::Over { .. } => ApiError::Internal,
    })?;
    debug_assert_eq!(state.max_claimable(), found);
    shared.money.update(&state);
    let scope = Hash32(keccak256(&[&channel.0, &lane.to_le_bytes()]));
    let session = by_session.then_some(signer);
    Ok(Payer { address: view.payer, channel, lane, spending_key: None, session, scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_key_counts() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer dn-1"), Some("dn-1".into()));
        assert_eq!(with("bearer  dn-1"), Some("dn-1".into()));
        for bad in ["dn-1", "Basic dn-1", "Bearer ", "Bearer"] {
            assert_eq!(with(bad), None, "{bad}");
        }
    }
}
