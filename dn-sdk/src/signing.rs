//! What an owner or payer signs outside transactions, for others to bring to the ledger: grants of sessions, acceptances of jobs.
//!
//! What the ledger would refuse for reasons that are known here is refused before it is signed.

use dn_core::objects::{JobAcceptance, MAX_SESSION_MODELS, Receipt, SessionGrant};
use dn_core::{Address, Amount, ChannelId, ModelId, ReceiptId, SecretKey, Signed, VerifyError};

use crate::clock::now_ms;

/// Why something is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// Chain 0 means no chain.
    #[error("chain 0 is no chain; the id of the chain that settles it expected")]
    ChainId,
    /// Nobody would take it any more.
    #[error("it would have expired at {expires_ms} ms; a time after {now_ms} ms expected (both since 1970)")]
    Expired {
        /// When it would end, Unix milliseconds.
        expires_ms: u64,
        /// The time now, Unix milliseconds.
        now_ms: u64,
    },
    /// A grant to the owner's own key.
    #[error("{owner} may spend what it owns without a grant; the address of another key expected")]
    OwnKey {
        /// Owner and session key.
        owner: Address,
    },
    /// Limits under which no call can be paid.
    #[error(
        "{per_call} DN a call of {total} DN in all; more than 0 a call expected, and at least as much in all"
    )]
    Limits {
        /// The most for one call.
        per_call: Amount,
        /// The most in all.
        total: Amount,
    },
    /// More models than a grant can name.
    #[error("{found} models; at most {max} expected, none for all")]
    Models {
        /// How many different ones there are.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A receipt that is paid from elsewhere.
    #[error("the receipt is paid from {found}; the escrow {expected} expected")]
    Escrow {
        /// The escrow to be accepted for.
        expected: ChannelId,
        /// What the receipt names.
        found: ChannelId,
    },
    /// Somebody else's receipt: its acceptance would be refused.
    #[error("the receipt is paid by {found}, who has to accept it; the key is that of {expected}")]
    Payer {
        /// Whose key signs.
        expected: Address,
        /// Who pays.
        found: Address,
    },
    /// A receipt of another chain, or not by the worker that it names.
    #[error("the receipt: {0}")]
    Receipt(#[from] VerifyError),
}

/// What a session key may spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTerms {
    /// The key that may spend, by its address.
    pub session: Address,
    /// The grant's place among those to this key: higher than the one before, which must be over.
    pub serial: u64,
    /// The most that one call may cost.
    pub per_call: Amount,
    /// The most that may be spent in all.
    pub total: Amount,
    /// The models that may be called, in any order; none means every model.
    pub models: Vec<ModelId>,
    /// Last millisecond (Unix time) at which the session may spend.
    pub expires_ms: u64,
}

/// Lets a session key spend from its owner's channels, within terms. Good once the ledger has it, which anybody may bring it
/// (`dn tx grant-session`), until it expires, is spent or is taken back.
///
/// ```
/// use dn_core::{Address, Amount, SecretKey};
/// use dn_sdk::signing::{SessionTerms, sign_grant};
///
/// let owner = SecretKey::from_bytes(&[7; 32]).expect("a key");
/// let terms = SessionTerms {
///     session: Address([9; 20]),
///     serial: 1,
///     per_call: Amount::from_dn(1),
///     total: Amount::from_dn(20),
///     models: Vec::new(),
///     expires_ms: u64::MAX,
/// };
/// let grant = sign_grant(&owner, 31_742, terms)?;
/// assert!(grant.verify_any_time(31_742).is_ok());
/// # Ok::<(), dn_sdk::signing::SigningError>(())
/// ```
///
/// # Errors
/// [`SigningError`]. What only the ledger knows is not looked at: whether a session to this key runs, and whether the serial is new.
pub fn sign_grant(
    key: &SecretKey,
    chain_id: u64,
    terms: SessionTerms,
) -> Result<Signed<SessionGrant>, SigningError> {
    let SessionTerms { session, serial, per_call, total, mut models, expires_ms } = terms;
    check(chain_id, expires_ms)?;
    let owner = key.address();
    if session == owner {
        return Err(SigningError::OwnKey { owner });
    }
    if per_call.is_zero() || total < per_call {
        return Err(SigningError::Limits { per_call, total });
    }
    models.sort_unstable();
    models.dedup();
    let (found, max) = (models.len(), MAX_SESSION_MODELS);
    if found > max {
        return Err(SigningError::Models { found, max });
    }
    let body = SessionGrant { chain_id, owner, session, serial, per_call, total, models, expires_ms };
    Ok(Signed::sign(body, key))
}

/// The payer's word that the result of a job, which it has looked at, is right: with it the claim is not audited for certain. The worker
/// brings it with its claim (`dn tx claim-job --acceptance`).
///
/// # Errors
/// [`SigningError`]. By its id alone a receipt is not looked at; [`accept_receipt`] does.
pub fn sign_acceptance(
    key: &SecretKey,
    chain_id: u64,
    escrow: ChannelId,
    receipt: ReceiptId,
    expires_ms: u64,
) -> Result<Signed<JobAcceptance>, SigningError> {
    check(chain_id, expires_ms)?;
    let body = JobAcceptance { chain_id, escrow, receipt, payer: key.address(), expires_ms };
    Ok(Signed::sign(body, key))
}

/// [`sign_acceptance`] of a receipt that is at hand: it must be of this chain and escrow, paid by this key, and signed by its worker.
///
/// # Errors
/// [`SigningError`].
pub fn accept_receipt(
    key: &SecretKey,
    chain_id: u64,
    escrow: ChannelId,
    receipt: &Signed<Receipt>,
    expires_ms: u64,
) -> Result<Signed<JobAcceptance>, SigningError> {
    receipt.verify_any_time(chain_id)?;
    let (body, payer) = (&receipt.body, key.address());
    if body.channel != escrow {
        return Err(SigningError::Escrow { expected: escrow, found: body.channel });
    }
    if body.payer != payer {
        return Err(SigningError::Payer { expected: payer, found: body.payer });
    }
    sign_acceptance(key, chain_id, escrow, body.id(), expires_ms)
}

fn check(chain_id: u64, expires_ms: u64) -> Result<(), SigningError> {
    let now_ms = now_ms();
    if chain_id == 0 {
        return Err(SigningError::ChainId);
    }
    if expires_ms <= now_ms {
        return Err(SigningError::Expired { expires_ms, now_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dn_core::objects::{FinishReason, Price};
    use dn_core::{Hash32, JobId};

    use super::*;

    const CHAIN: u64 = 9;
    const ESCROW: ChannelId = ChannelId([3; 32]);

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32]).unwrap()
    }

    fn terms() -> SessionTerms {
        SessionTerms {
            session: key(2).address(),
            serial: 4,
            per_call: Amount::from_dn(1),
            total: Amount::from_dn(5),
            models: vec![ModelId([8; 32]), ModelId([7; 32]), ModelId([8; 32])],
            expires_ms: u64::MAX,
        }
    }

    #[test]
    fn a_grant_is_what_the_ledger_takes() {
        let grant = sign_grant(&key(1), CHAIN, terms()).unwrap();
        grant.verify(CHAIN, now_ms()).unwrap();
        let SessionGrant { chain_id, owner, session, serial, per_call, total, models, expires_ms } =
            grant.body;
        assert_eq!((chain_id, owner, session, serial), (CHAIN, key(1).address(), key(2).address(), 4));
        assert_eq!((per_call, total, expires_ms), (Amount::from_dn(1), Amount::from_dn(5), u64::MAX));
        assert_eq!(models, [ModelId([7; 32]), ModelId([8; 32])], "ascending, each once");
    }

    #[test]
    fn what_the_ledger_would_refuse_is_not_signed() {
        let refused = |change: &dyn Fn(&mut SessionTerms)| {
            let mut terms = terms();
            change(&mut terms);
            sign_grant(&key(1), CHAIN, terms).unwrap_err()
        };
        let owner = key(1).address();
        assert_eq!(refused(&|t| t.session = owner), SigningError::OwnKey { owner });
        let (one, zero) = (Amount::from_dn(1), Amount::ZERO);
        let limits = |per_call, total| SigningError::Limits { per_call, total };
        assert_eq!(refused(&|t| t.per_call = zero), limits(zero, Amount::from_dn(5)));
        assert_eq!(refused(&|t| t.total = zero), limits(one, zero));
        let many = |t: &mut SessionTerms| t.models = (0..17).map(|n| ModelId([n; 32])).collect();
        assert_eq!(refused(&many), SigningError::Models { found: 17, max: MAX_SESSION_MODELS });
        assert!(matches!(refused(&|t| t.expires_ms = 5), SigningError::Expired { expires_ms: 5, .. }));
        assert_eq!(sign_grant(&key(1), 0, terms()).unwrap_err(), SigningError::ChainId);
    }

    fn receipt() -> Signed<Receipt> {
        let price = Price { prompt_token: Amount::from_atto(1), output_token: Amount::from_atto(2) };
        let body = Receipt {
            chain_id: CHAIN,
            job: JobId([1; 32]),
            domain: 0,
            model: ModelId([2; 32]),
            numeric_spec: 1,
            prompt_hash: Hash32([4; 32]),
            output_hash: Hash32([5; 32]),
            trace_root: Hash32([6; 32]),
            prompt_tokens: 3,
            output_tokens: 4,
            finish: FinishReason::Stop,
            price,
            fee: Amount::from_atto(11),
            payer: key(1).address(),
            channel: ESCROW,
            lane: 0,
            worker: key(5).address(),
            gateway: key(6).address(),
            started_ms: 1,
            finished_ms: 2,
            expires_ms: 3,
        };
        Signed::sign(body, &key(5))
    }

    #[test]
    fn a_receipt_is_looked_at_before_it_is_accepted() {
        let (receipt, end) = (receipt(), u64::MAX);
        let accepted = accept_receipt(&key(1), CHAIN, ESCROW, &receipt, end).unwrap();
        accepted.verify(CHAIN, now_ms()).unwrap();
        assert_eq!((accepted.body.escrow, accepted.body.receipt), (ESCROW, receipt.body.id()));
        let by_id = sign_acceptance(&key(1), CHAIN, ESCROW, receipt.body.id(), end).unwrap();
        assert_eq!(by_id, accepted);

        let (other, found) = (ChannelId([9; 32]), ESCROW);
        let refused = |n: u8, escrow| accept_receipt(&key(n), CHAIN, escrow, &receipt, end).unwrap_err();
        assert_eq!(refused(1, other), SigningError::Escrow { expected: other, found });
        let (expected, found) = (key(2).address(), key(1).address());
        assert_eq!(refused(2, ESCROW), SigningError::Payer { expected, found });
        let altered =
            Signed { body: Receipt { output_tokens: 5, ..receipt.body.clone() }, ..receipt.clone() };
        let refused = accept_receipt(&key(1), CHAIN, ESCROW, &altered, end).unwrap_err();
        assert!(matches!(refused, SigningError::Receipt(VerifyError::Signature(_))), "{refused}");
        let elsewhere = accept_receipt(&key(1), CHAIN + 1, ESCROW, &receipt, end).unwrap_err();
        assert!(matches!(elsewhere, SigningError::Receipt(VerifyError::ChainId { .. })), "{elsewhere}");
        let late = sign_acceptance(&key(1), CHAIN, ESCROW, receipt.body.id(), 5).unwrap_err();
        assert!(matches!(late, SigningError::Expired { expires_ms: 5, .. }));
    }
}
