//! Payment channels: locked DN that vouchers draw on.

use dn_core::{Address, Amount, ChannelId};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::reject::Reject;
use crate::state::{CHANNELS, Channel, LANES};
use crate::tx::{Role, channel_id};

impl Step<'_> {
    pub(super) fn open_channel(
        &mut self,
        payer: Address,
        nonce: u64,
        payee: Address,
        deposit: Amount,
        spender: Address,
    ) -> Result<(), Reject> {
        let minimum = self.ctx.params.min_deposit;
        if deposit < minimum {
            return Err(Reject::AmountTooSmall { minimum, found: deposit });
        }
        self.active(Role::Gateway, payee)?;
        self.debit(payer, deposit)?;
        // A nonce is used once, so the id is new.
        let id = channel_id(payer, payee, nonce);
        let (claimed, lanes, finish_height) = (Amount::ZERO, 0, None);
        let channel = Channel { payer, payee, spender, deposit, claimed, lanes, finish_height };
        CHANNELS.put(self.state, &id, &channel);
        self.events.push(Event::ChannelOpened { channel: id, payer, payee, deposit });
        Ok(())
    }

    pub(super) fn top_up_channel(
        &mut self,
        sender: Address,
        id: ChannelId,
        amount: Amount,
    ) -> Result<(), Reject> {
        if amount.is_zero() {
            return Err(Reject::AmountTooSmall { minimum: Amount::from_atto(1), found: amount });
        }
        let mut channel = self.channel_of(sender, id)?;
        if let Some(finish_height) = channel.finish_height {
            return Err(Reject::ChannelClosing { channel: id, finish_height });
        }
        self.debit(sender, amount)?;
        channel.deposit = channel.deposit.checked_add(amount)?;
        CHANNELS.put(self.state, &id, &channel);
        self.events.push(Event::ChannelToppedUp { channel: id, amount });
        Ok(())
    }

    pub(super) fn close_channel(&mut self, sender: Address, id: ChannelId) -> Result<(), Reject> {
        let mut channel = self.channel_of(sender, id)?;
        if let Some(finish_height) = channel.finish_height {
            return Err(Reject::ChannelClosing { channel: id, finish_height });
        }
        let finish_height = self.ctx.height.saturating_add(self.ctx.params.channel_close_blocks);
        channel.finish_height = Some(finish_height);
        CHANNELS.put(self.state, &id, &channel);
        self.events.push(Event::ChannelClosing { channel: id, finish_height });
        Ok(())
    }

    pub(super) fn finish_channel(&mut self, sender: Address, id: ChannelId) -> Result<(), Reject> {
        let channel = self.channel_of(sender, id)?;
        let finish_height = channel.finish_height.ok_or(Reject::ChannelNotClosing { channel: id })?;
        let height = self.ctx.height;
        if height < finish_height {
            return Err(Reject::ChannelDelay { channel: id, finish_height, height });
        }
        // At most `max_lanes` records.
        let lanes: Vec<_> = LANES.iter_from(self.state, &id).map(|(key, _)| key).collect();
        for key in lanes {
            LANES.remove(self.state, &key);
        }
        CHANNELS.remove(self.state, &id);
        let refund = channel.balance();
        self.credit(channel.payer, refund);
        self.events.push(Event::ChannelFinished { channel: id, payer: channel.payer, refund });
        Ok(())
    }

    /// Returns fees of a voided batch to their channel, or to the payer when the channel is gone.
    pub(super) fn refund(&mut self, id: ChannelId, payer: Address, fees: Amount) {
        match CHANNELS.get(self.state, &id) {
            Some(mut channel) => {
                // Claims only rise, so what comes back counts as a new deposit.
                channel.deposit = sum(channel.deposit, fees);
                CHANNELS.put(self.state, &id, &channel);
            }
            None => self.credit(payer, fees),
        }
    }

    /// The channel, if the sender may act on it.
    fn channel_of(&self, sender: Address, id: ChannelId) -> Result<Channel, Reject> {
        let channel = CHANNELS.get(self.state, &id).ok_or(Reject::UnknownChannel { channel: id })?;
        if sender != channel.payer && sender != channel.payee {
            return Err(Reject::NotParty { channel: id, payer: channel.payer, payee: channel.payee });
        }
        Ok(channel)
    }
}
