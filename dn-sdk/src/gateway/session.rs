//! Vouchers signed by session keys: what an owner lets a key spend, checked before each call as the ledger will check it at the claim.
//!
//! The ledger counts a claim towards the session that signed the lane's newest voucher. So a lane whose vouchers a session signs is
//! that session's alone, and what is charged here but not claimed yet is held against the session's total.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dn_core::{Amount, ChannelId, ModelId};
use dn_ledger::views::SessionView;

/// What the ledger has claimed of lanes.
pub(crate) type Claimed = HashMap<(ChannelId, u32), Amount>;

/// A session as the ledger has it, and what was claimed when it was read, or before.
#[derive(Debug, Clone)]
pub(crate) struct KnownSession {
    pub(crate) read: Instant,
    pub(crate) view: SessionView,
    pub(crate) claimed: Claimed,
}

/// Why a session key may not spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionRefusal {
    #[error("its owner took it back")]
    Revoked,
    #[error("it ends at {expires_ms} ms; calls need {needed_ms} ms, so that they can be claimed")]
    Expires { expires_ms: u64, needed_ms: u64 },
    #[error("it may not call model {model}")]
    Model { model: ModelId },
    #[error("a call may cost {per_call} DN; this one may cost {needed} DN")]
    PerCall { per_call: Amount, needed: Amount },
    #[error("it has {left} DN left that are not spoken for; this call may cost {needed} DN")]
    Exhausted { left: Amount, needed: Amount },
}

impl KnownSession {
    /// Whether the session can still be claimed from when a call has ended and its batch is posted.
    pub(crate) fn check_open(&self, now_ms: u64, validity: Duration) -> Result<(), SessionRefusal> {
        if self.view.until_height.is_some() {
            return Err(SessionRefusal::Revoked);
        }
        let validity_ms = u64::try_from(validity.as_millis()).unwrap_or(u64::MAX);
        let (expires_ms, needed_ms) = (self.view.expires_ms, now_ms.saturating_add(validity_ms));
        if expires_ms < needed_ms { Err(SessionRefusal::Expires { expires_ms, needed_ms }) } else { Ok(()) }
    }

    /// Whether it may make a call of a model that costs so much at most.
    pub(crate) fn check_call(&self, model: ModelId, needed: Amount) -> Result<(), SessionRefusal> {
        let SessionView { ref models, per_call, .. } = self.view;
        if !models.is_empty() && !models.contains(&model) {
            return Err(SessionRefusal::Model { model });
        }
        if needed > per_call { Err(SessionRefusal::PerCall { per_call, needed }) } else { Ok(()) }
    }

    /// What the ledger lets it spend yet.
    pub(crate) fn left(&self) -> Amount {
        self.view.total.saturating_sub(self.view.spent)
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Address;

    use super::*;

    fn session(change: impl FnOnce(&mut SessionView)) -> KnownSession {
        let mut view = SessionView {
            owner: Address([1; 20]),
            session: Address([2; 20]),
            serial: 1,
            until_height: None,
            per_call: Amount::from_dn(2),
            total: Amount::from_dn(10),
            spent: Amount::from_dn(4),
            models: vec![ModelId([3; 32])],
            expires_ms: 10_000,
        };
        change(&mut view);
        KnownSession { read: Instant::now(), view, claimed: Claimed::new() }
    }

    #[test]
    fn a_session_spends_within_what_the_ledger_will_take() {
        let open = session(|_| {});
        assert_eq!(open.left(), Amount::from_dn(6));
        assert_eq!(open.check_open(4_000, Duration::from_secs(6)), Ok(()));
        let (expires_ms, needed_ms) = (10_000, 10_001);
        let ends = SessionRefusal::Expires { expires_ms, needed_ms };
        assert_eq!(open.check_open(4_001, Duration::from_secs(6)), Err(ends));
        let revoked = session(|view| view.until_height = Some(1_000_000));
        assert_eq!(revoked.check_open(0, Duration::ZERO), Err(SessionRefusal::Revoked));

        let (per_call, needed) = (Amount::from_dn(2), Amount::from_atto(Amount::from_dn(2).atto() + 1));
        assert_eq!(open.check_call(ModelId([3; 32]), per_call), Ok(()));
        assert_eq!(
            open.check_call(ModelId([3; 32]), needed),
            Err(SessionRefusal::PerCall { per_call, needed })
        );
        let model = ModelId([4; 32]);
        assert_eq!(open.check_call(model, per_call), Err(SessionRefusal::Model { model }));
        assert_eq!(session(|view| view.models.clear()).check_call(model, per_call), Ok(()));
        // A newer, smaller grant than what was spent leaves nothing.
        assert_eq!(session(|view| view.total = Amount::from_dn(1)).left(), Amount::ZERO);
    }
}
