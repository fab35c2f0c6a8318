//! Why session grants, and vouchers by session keys, are refused.

use dn_core::{Address, Amount, ChannelId, ModelId};
use serde::{Deserialize, Serialize};

/// A rule of sessions that refuses a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum SessionFault {
    /// A session key that is the owner's.
    #[error("{owner} needs no session for its own key")]
    OwnKey { owner: Address },
    /// Limits that nothing fits.
    #[error(
        "{per_call} DN a call of {total} DN in all; at least 1 atto a call, and the total covers one call"
    )]
    Limits { per_call: Amount, total: Amount },
    /// Models out of order or repeated.
    #[error("model {at} is not after the one before")]
    ModelsUnsorted { at: u32 },
    /// A grant that was used, replaced or taken back.
    #[error("grant {found} of {owner} to {session} was used or taken back; {newest} is the newest")]
    Stale { owner: Address, session: Address, newest: u64, found: u64 },
    /// Nothing that is not taken back already.
    #[error("grants of {owner} to {session} up to {newest} are taken back already")]
    NothingToRevoke { owner: Address, session: Address, newest: u64 },
    /// A session that its owner took back.
    #[error(
        "channel {channel}: the session of {session} was taken back; claims were taken until height {until_height}"
    )]
    Revoked { channel: ChannelId, session: Address, until_height: u64 },
    /// A grant while another one is in force.
    #[error("grant {serial} of {owner} to {session} is not over; it ends by its time or by being taken back")]
    NotOver { owner: Address, session: Address, serial: u64 },
    /// A session whose time is over.
    #[error(
        "channel {channel}: the session of {session} expired at {expires_ms} ms; the block is at {now_ms} ms"
    )]
    Expired { channel: ChannelId, session: Address, expires_ms: u64, now_ms: u64 },
    /// A model that the session may not call.
    #[error("channel {channel}: the session of {session} may not call model {model}")]
    Model { channel: ChannelId, session: Address, model: ModelId },
    /// Calls that cost more than the session may spend on them.
    #[error(
        "channel {channel}: {fees} DN for {receipts} calls; the session of {session} may spend {per_call} DN on each"
    )]
    PerCall { channel: ChannelId, session: Address, per_call: Amount, receipts: u32, fees: Amount },
    /// More than the session may spend in all.
    #[error(
        "channel {channel}: {fees} DN claimed and {spent} DN spent; the session of {session} may spend {total} DN in all"
    )]
    Exhausted { channel: ChannelId, session: Address, total: Amount, spent: Amount, fees: Amount },
}

impl SessionFault {
    /// The channel that a batch cannot claim from, if that is what was refused.
    pub const fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Revoked { channel, .. }
            | Self::Expired { channel, .. }
            | Self::Model { channel, .. }
            | Self::PerCall { channel, .. }
            | Self::Exhausted { channel, .. } => Some(*channel),
            _ => None,
        }
    }
}
