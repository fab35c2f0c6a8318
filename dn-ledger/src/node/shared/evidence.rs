//! Who signed twice: what waits to be reported, and reports that no balance pays.
//!
//! A validator may report another one without free DN: the fee comes out of the reward. So that nobody fills the pool with what is never paid for,
//! such a report is tried as a whole before it waits, it is the sender's next transaction, and one waits about each validator.

use std::collections::VecDeque;
use std::sync::PoisonError;

use dn_core::TxId;

use super::{MAX_EVIDENCE, Pool, Shared};
use crate::apply::Signatures;
use crate::node::consensus::evidence::Report;
use crate::node::mempool::MempoolError;
use crate::reject::Reject;
use crate::state::{ACCOUNTS, Account, State};
use crate::tx::{Payload, SignedTx};

/// What pays the fee of a transaction that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Funds {
    /// What the sender holds.
    Balance,
    /// What the transaction earns; it was tried.
    Reward,
}

impl Funds {
    /// Of a transaction that passed `check_paid_and_signed`: one that the balance does not cover is paid by what it earns.
    pub(super) fn of(state: &State, tx: &SignedTx) -> Self {
        let balance = ACCOUNTS.get_or_default(state, &tx.tx.sender).balance;
        if balance < tx.tx.fee { Self::Reward } else { Self::Balance }
    }
}

impl Shared {
    /// Tries what only its reward would pay, as the next block would: a proof that is none, or a reward under the fee, is refused. The lock on the
    /// chain is free between two of them.
    pub(super) fn try_unpaid(
        &self,
        txs: &[(TxId, SignedTx)],
        checks: Vec<Result<Funds, Reject>>,
    ) -> Vec<Result<Funds, Reject>> {
        let tried = checks.into_iter().zip(txs).map(|(check, (_, tx))| match check? {
            Funds::Balance => Ok(Funds::Balance),
            Funds::Reward => self.chain_mut().try_tx(tx, Signatures::Checked).map(|()| Funds::Reward),
        });
        tried.collect()
    }

    /// Keeps what shows that a validator signed twice until it is punished; one report of each is enough, as nobody is punished twice.
    pub(in crate::node) fn keep_evidence(&self, report: Report) {
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if evidence.iter().any(|kept| kept.validator() == report.validator()) {
            return;
        }
        if evidence.len() >= MAX_EVIDENCE {
            evidence.pop_front();
        }
        evidence.push_back(report);
    }

    /// What was kept; whoever takes it keeps again what is not done.
    pub(in crate::node) fn take_evidence(&self) -> VecDeque<Report> {
        std::mem::take(&mut *self.evidence.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pool {
    /// Takes in a transaction whose funds are known. False if it waits already.
    pub(super) fn admit(
        &mut self,
        tx: &SignedTx,
        id: TxId,
        account: Account,
        funds: Funds,
    ) -> Result<bool, MempoolError> {
        let (Funds::Reward, Payload::SubmitEvidence { validator, .. }) = (funds, &tx.tx.payload) else {
            return self.take_in(tx, id, account);
        };
        let waits = |report: &SignedTx| self.mempool.contains(report, report.id());
        self.unpaid.retain(|_, report| waits(report));
        if self.unpaid.get(validator).is_some_and(|report| report.tx.sender != tx.tx.sender) {
            return Err(MempoolError::Reported { validator: *validator });
        }
        // Its fee is there once it is in a block, and the sender has nothing else waiting that counts on it.
        let added = self.take_in(tx, id, Account { balance: account.balance.max(tx.tx.fee), ..account })?;
        self.unpaid.insert(*validator, tx.clone());
        Ok(added)
    }
}

#[cfg(test)]
mod tests;
