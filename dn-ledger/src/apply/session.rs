//! Sessions: an owner lets another key spend within limits.

use dn_core::objects::{BatchLine, MAX_SESSION_MODELS, SessionGrant};
use dn_core::{Address, Amount, Signed};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::reject::{Field, Reject, SessionFault, SignedObject};
use crate::state::{SESSIONS, Session};
use crate::text::check_size;

impl Step<'_> {
    /// Registers a grant that its owner signed. A serial is good once, and never after it was taken back.
    pub(super) fn grant_session(&mut self, signed: &Signed<SessionGrant>) -> Result<(), Reject> {
        let SessionGrant { owner, session, serial, per_call, total, expires_ms, .. } = signed.body;
        let models = &signed.body.models;
        signed
            .verify(self.ctx.chain_id, self.ctx.time_ms)
            .map_err(|error| Reject::of_object(SignedObject::SessionGrant, owner, error))?;
        if session == owner {
            return Err(SessionFault::OwnKey { owner }.into());
        }
        if per_call.is_zero() || total < per_call {
            return Err(SessionFault::Limits { per_call, total }.into());
        }
        check_size(Field::Models, models.len(), 0, MAX_SESSION_MODELS)?;
        if let Some(at) = (1u32..).zip(models.windows(2)).find(|(_, pair)| pair[0] >= pair[1]) {
            return Err(SessionFault::ModelsUnsorted { at: at.0 }.into());
        }
        let key = (owner, session);
        if let Some(held) = SESSIONS.get(self.state, &key) {
            let newest = held.serial;
            if newest >= serial {
                return Err(SessionFault::Stale { owner, session, newest, found: serial }.into());
            }
            // Whoever served the session relies on its limits until it is over: narrower ones would leave calls unpaid.
            if !held.is_over(self.ctx.height, self.ctx.time_ms) {
                return Err(SessionFault::NotOver { owner, session, serial: newest }.into());
            }
        }
        let (until_height, spent, models) = (None, Amount::ZERO, models.clone());
        let record = Session { serial, until_height, per_call, total, spent, models, expires_ms };
        SESSIONS.put(self.state, &key, &record);
        self.events.push(Event::SessionGranted { owner, session, serial, total, expires_ms });
        Ok(())
    }

    /// Takes grants back, also such as were never registered: what stays is the serial up to which nothing is good.
    ///
    /// Calls that were made are paid: claims are taken as long as on a channel that closes.
    pub(super) fn revoke_session(
        &mut self,
        owner: Address,
        session: Address,
        serial: u64,
    ) -> Result<(), Reject> {
        let before = SESSIONS.get(self.state, &(owner, session));
        let record = match before {
            Some(held) if serial < held.serial || (held.until_height.is_some() && serial == held.serial) => {
                return Err(SessionFault::NothingToRevoke { owner, session, newest: held.serial }.into());
            }
            Some(held) => {
                let delay = self.ctx.params.channel_close_blocks;
                let until = held.until_height.unwrap_or_else(|| self.ctx.height.saturating_add(delay));
                Session { serial, until_height: Some(until), ..held }
            }
            None => Session {
                serial,
                until_height: Some(0),
                per_call: Amount::ZERO,
                total: Amount::ZERO,
                spent: Amount::ZERO,
                models: Vec::new(),
                expires_ms: 0,
            },
        };
        SESSIONS.put(self.state, &(owner, session), &record);
        let until_height = record.until_height.unwrap_or_default();
        self.events.push(Event::SessionRevoked { owner, session, serial, until_height });
        Ok(())
    }

    /// Counts what a voucher by a session key claims. A line's calls are bounded together: the gateway, which sees each,
    /// bounds each.
    pub(super) fn spend_session(
        &mut self,
        owner: Address,
        key: Address,
        lines: &[BatchLine],
        fees: Amount,
    ) -> Result<(), Reject> {
        let session = key;
        let mut record = SESSIONS.get(self.state, &(owner, session)).expect("the caller looked");
        if let Some(until_height) = record.until_height.filter(|until| self.ctx.height > *until) {
            return Err(SessionFault::Revoked { owner, session, until_height }.into());
        }
        let now_ms = self.ctx.time_ms;
        if now_ms > record.expires_ms {
            return Err(SessionFault::Expired { session, expires_ms: record.expires_ms, now_ms }.into());
        }
        for line in lines {
            if !record.models.is_empty() && !record.models.contains(&line.model) {
                return Err(SessionFault::Model { session, model: line.model }.into());
            }
            let (per_call, receipts, fees) = (record.per_call, line.receipts, line.fees);
            if per_call.checked_mul(receipts.into()).is_ok_and(|most| fees > most) {
                return Err(SessionFault::PerCall { session, per_call, receipts, fees }.into());
            }
        }
        let (total, spent) = (record.total, record.spent);
        if total.checked_sub(spent).is_ok_and(|left| fees > left) {
            return Err(SessionFault::Exhausted { session, total, spent, fees }.into());
        }
        record.spent = sum(spent, fees);
        SESSIONS.put(self.state, &(owner, session), &record);
        Ok(())
    }
}
