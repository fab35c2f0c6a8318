//! What is held and charged on each channel: a pure account book in front of the store.
//!
//! `available = deposit − charged − held`. The deposit comes from the ledger (fees that a voided batch gave back are
//! added to it there), what was charged from the store, holds from the calls that run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dn_core::{Address, Amount, ChannelId};
use dn_ledger::views::ChannelView;

use super::error::ApiError;
use super::session::{Claimed, SessionRefusal};
use super::store::LaneState;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lane {
    charged: Amount,
    max_claimable: Amount,
    held: Amount,
    /// What the ledger has claimed, as far as it is known.
    claimed: Amount,
    /// Who signed its newest voucher.
    signer: Option<Address>,
}

#[derive(Debug, Default)]
struct Book {
    lanes: HashMap<(ChannelId, u32), Lane>,
    calls: HashMap<ChannelId, usize>,
}

impl Book {
    fn lane(&mut self, channel: ChannelId, lane: u32) -> &mut Lane {
        self.lanes.entry((channel, lane)).or_default()
    }

    /// What is charged or held on lanes of one signer beyond what was claimed of them.
    fn unclaimed(&self, signer: Address, claimed: &Claimed) -> Amount {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.signer == Some(signer));
        let open = lanes.map(|(id, lane)| {
            let spoken_for = Amount::sum([lane.charged, lane.held]).unwrap_or(Amount::from_atto(u128::MAX));
            spoken_for.saturating_sub(claimed.get(id).copied().unwrap_or_default())
        });
        Amount::sum(open).unwrap_or(Amount::from_atto(u128::MAX))
    }

    /// What is spoken for on a channel: charged and held.
    fn spoken_for(&self, channel: ChannelId) -> Amount {
        let of_channel = self.lanes.iter().filter(|((id, _), _)| *id == channel);
        let amounts = of_channel.flat_map(|(_, lane)| [lane.charged, lane.held]);
        Amount::sum(amounts).unwrap_or(Amount::from_atto(u128::MAX))
    }
}

/// The account book.
#[derive(Debug, Clone, Default)]
pub(crate) struct Money(Arc<Mutex<Book>>);

/// Money held for one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    book: Arc<Mutex<Book>>,
    channel: ChannelId,
    lane: u32,
    amount: Amount,
}

/// What bounds a session's calls together.
#[derive(Debug, Clone)]
pub(crate) struct SessionHold {
    pub(crate) session: Address,
    /// What the ledger lets it spend yet.
    pub(crate) left: Amount,
    /// What was claimed of lanes when that was read.
    pub(crate) claimed: Claimed,
}

/// What a call asks to be held.
#[derive(Debug, Clone)]
pub(crate) struct HoldRequest {
    pub(crate) channel: ChannelId,
    pub(crate) lane: u32,
    pub(crate) amount: Amount,
    /// Everything that was ever put into the channel.
    pub(crate) deposit: Amount,
    /// The client signs: its newest voucher must cover the hold too.
    pub(crate) by_voucher: bool,
    /// The most calls at a time on one channel.
    pub(crate) max_calls: usize,
    /// A session key signs.
    pub(crate) session: Option<SessionHold>,
}

fn locked(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Money {
    /// The book as the store has it.
    pub(crate) fn load(lanes: &[LaneState]) -> Self {
        let money = Self::default();
        lanes.iter().for_each(|lane| money.update(lane));
        money
    }

    /// Takes over what the store says of a lane.
    pub(crate) fn update(&self, state: &LaneState) {
        let mut book = locked(&self.0);
        let lane = book.lane(state.channel, state.lane);
        // Settlements of one lane may report out of order; both amounts only rise.
        lane.charged = lane.charged.max(state.charged);
        lane.max_claimable = lane.max_claimable.max(state.max_claimable());
        lane.signer = state.voucher.as_ref().map(|voucher| voucher.body.signer).or(lane.signer);
    }

    /// Takes over what the ledger says was claimed of a channel.
    pub(crate) fn set_claimed(&self, channel: &ChannelView) {
        let mut book = locked(&self.0);
        for view in &channel.lanes {
            let lane = book.lane(channel.id, view.lane);
            lane.claimed = lane.claimed.max(view.claimed);
        }
    }

    /// What was claimed of a signer's lanes, as far as it is known.
    pub(crate) fn claimed_of(&self, signer: Address) -> Claimed {
        let book = locked(&self.0);
        let lanes = book.lanes.iter().filter(|(_, lane)| lane.signer == Some(signer));
        lanes.map(|(id, lane)| (*id, lane.claimed)).collect()
    }

    /// Holds the most that a call can cost.
    pub(crate) fn hold(&self, request: HoldRequest) -> Result<Hold, ApiError> {
        let HoldRequest { channel, lane, amount, deposit, by_voucher, max_calls, session } = request;
        let mut book = locked(&self.0);
        if book.calls.get(&channel).copied().unwrap_or(0) >= max_calls {
            return Err(ApiError::TooManyCalls { channel, limit: max_calls });
        }
        let available = deposit.saturating_sub(book.spoken_for(channel));
        if amount > available {
            return Err(ApiError::Balance { channel, available, needed: amount });
        }
        if let Some(SessionHold { session, left, claimed }) = session {
            let left = left.saturating_sub(book.unclaimed(session, &claimed));
            if amount > left {
                let reason = SessionRefusal::Exhausted { left, needed: amount };
                return Err(ApiError::Session { session, reason });
            }
        }
        let state = book.lane(channel, lane);
        let needed = Amount::sum([state.charged, state.held, amount]).map_err(|_| ApiError::Internal)?;
        if by_voucher && needed > state.max_claimable {
            return Err(ApiError::VoucherShort { channel, lane, found: state.max_claimable, needed });
        }
        state.held = state.held.checked_add(amount).map_err(|_| ApiError::Internal)?;
        *book.calls.entry(channel).or_default() += 1;
        Ok(Hold { book: self.0.clone(), channel, lane, amount })
    }

    /// Held on all channels.
    pub(crate) fn held(&self) -> Amount {
        let book = locked(&self.0);
        Amount::sum(book.lanes.values().map(|lane| lane.held)).unwrap_or(Amount::from_atto(u128::MAX))
    }
}

impl Hold {
    /// Gives the hold back and takes over the charge in one step, so that nobody sees the money twice or not at all.
    pub(crate) fn charge(mut self, state: &LaneState) {
        let mut book = locked(&self.book);
        release(&mut book, self.channel, self.lane, self.amount);
        let lane = book.lane(state.channel, state.lane);
        lane.charged = lane.charged.max(state.charged);
        lane.max_claimable = lane.max_claimable.max(state.max_claimable());
        drop(book);
        self.amount = Amount::ZERO;
        // Released above; nothing is left for drop to do.
        self.channel = ChannelId::ZERO;
    }
}

fn release(book: &mut Book, channel: ChannelId, lane: u32, amount: Amount) {
    let lane = book.lane(channel, lane);
    lane.held = lane.held.saturating_sub(amount);
    if let Some(calls) = book.calls.get_mut(&channel) {
        *calls -= 1;
        if *calls == 0 {
            book.calls.remove(&channel);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.channel != ChannelId::ZERO {
            release(&mut locked(&self.book), self.channel, self.lane, self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHANNEL: ChannelId = ChannelId([7; 32]);

    fn atto(n: u64) -> Amount {
        Amount::from_atto(n.into())
    }

    fn request(amount: u64, deposit: u64) -> HoldRequest {
        HoldRequest {
            channel: CHANNEL,
            lane: 0,
            amount: atto(amount),
            deposit: atto(deposit),
            by_voucher: false,
            max_calls: 100,
            session: None,
        }
    }

    fn charged(n: u64) -> LaneState {
        LaneState { channel: CHANNEL, lane: 0, charged: atto(n), voucher: None }
    }

    #[test]
    fn what_is_held_cannot_be_held_again_and_comes_back() {
        let money = Money::default();
        let hold = money.hold(request(60, 100)).unwrap();
        let refused = money.hold(request(50, 100)).unwrap_err();
        assert_eq!(refused, ApiError::Balance { channel: CHANNEL, available: atto(40), needed: atto(50) });
        drop(hold);
        money.hold(request(60, 100)).unwrap().charge(&charged(30));
        assert_eq!(money.held(), Amount::ZERO);
        assert!(money.hold(request(71, 100)).is_err());
        assert!(money.hold(request(70, 100)).is_ok());
    }

    #[test]
    fn a_voucher_must_cover_what_runs_besides() {
        let money = Money::load(&[charged(10)]);
        let short = money.hold(HoldRequest { by_voucher: true, ..request(5, 100) }).unwrap_err();
        let expected =
            ApiError::VoucherShort { channel: CHANNEL, lane: 0, found: Amount::ZERO, needed: atto(15) };
        assert_eq!(short, expected);
    }

    /// A session's calls on all its lanes share its total, whatever is not claimed yet among it.
    #[test]
    fn what_a_session_has_not_paid_yet_counts_against_its_total() {
        use crate::gateway::store::tests_support::signed_lane;
        let money = Money::default();
        let session = Address([9; 20]);
        money.update(&signed_lane(CHANNEL, 0, atto(30), session));
        money.update(&signed_lane(ChannelId([8; 32]), 3, atto(20), session));
        money.update(&signed_lane(CHANNEL, 1, atto(500), Address([1; 20])));
        let hold = |amount: u64, left: u64, claimed: &[((ChannelId, u32), u64)]| {
            let claimed = claimed.iter().map(|(id, amount)| (*id, atto(*amount))).collect();
            let session = Some(SessionHold { session, left: atto(left), claimed });
            money.hold(HoldRequest { session, ..request(amount, 10_000) })
        };
        let refused = |left: u64, needed: u64| ApiError::Session {
            session,
            reason: SessionRefusal::Exhausted { left: atto(left), needed: atto(needed) },
        };
        // 50 are charged and unclaimed.
        assert_eq!(hold(11, 60, &[]).unwrap_err(), refused(10, 11));
        let first = hold(10, 60, &[]).unwrap();
        assert_eq!(hold(1, 60, &[]).unwrap_err(), refused(0, 1), "what runs counts too");
        drop(first);
        // The ledger has claimed 25 of them, and counts them itself.
        let claimed = [((CHANNEL, 0), 25)];
        assert_eq!(hold(11, 35, &claimed).unwrap_err(), refused(10, 11));
        assert!(hold(10, 35, &claimed).is_ok());
    }

    #[test]
    fn calls_of_one_channel_are_counted() {
        let money = Money::default();
        let limited = HoldRequest { max_calls: 1, ..request(1, 100) };
        let hold = money.hold(limited.clone()).unwrap();
        assert!(matches!(money.hold(limited.clone()), Err(ApiError::TooManyCalls { limit: 1, .. })));
        drop(hold);
        assert!(money.hold(limited).is_ok());
    }

    proptest! {
        #[test]
        fn charged_and_held_never_exceed_the_deposit(steps in prop::collection::vec((1u64..40, any::<bool>(), 0u64..40), 1..60)) {
            let money = Money::default();
            let (mut holds, mut total) = (Vec::new(), 0);
            for (amount, settle, part) in steps {
                if let Ok(hold) = money.hold(request(amount, 200)) {
                    holds.push((hold, amount));
                }
                if settle && !holds.is_empty() {
                    let (hold, amount) = holds.swap_remove(usize::try_from(part).unwrap() % holds.len());
                    total += part.min(amount);
                    hold.charge(&charged(total));
                }
                let held: u64 = holds.iter().map(|(_, amount)| amount).sum();
                prop_assert_eq!(money.held(), atto(held));
                prop_assert!(total + held <= 200);
            }
        }
    }
}
