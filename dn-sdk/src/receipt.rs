//! What makes a receipt good: used by the client, the gateway and the auditor alike.

use dn_core::objects::{FinishReason, JobRequest, Price, Receipt, token_hash};
use dn_core::{Address, Amount, Hash32, JobId, ModelId, Signed, VerifyError};

/// Why a receipt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Chain, time or signature.
    #[error(transparent)]
    Signature(#[from] VerifyError),
    /// Another worker signed.
    #[error("receipt of worker {found}; {expected} expected")]
    Worker {
        /// Who should have.
        expected: Address,
        /// Who did.
        found: Address,
    },
    /// For another request.
    #[error("receipt for job {found}; {expected} expected")]
    Job {
        /// The request's hash.
        expected: JobId,
        /// The receipt's.
        found: JobId,
    },
    /// For another model.
    #[error("receipt for model {found}; {expected} expected")]
    Model {
        /// The model that was asked for.
        expected: ModelId,
        /// The receipt's.
        found: ModelId,
    },
    /// Another numeric spec, domain, payer, channel, lane or gateway.
    #[error("receipt names another {field} than the request")]
    Terms {
        /// Which.
        field: &'static str,
    },
    /// Another price.
    #[error("receipt charges {} and {} atto a token; {} and {} agreed",
        found.prompt_token.atto(), found.output_token.atto(), expected.prompt_token.atto(), expected.output_token.atto())]
    Price {
        /// Agreed.
        expected: Price,
        /// The receipt's.
        found: Price,
    },
    /// The fee is not price times tokens.
    #[error("receipt charges {found} DN; its tokens cost {expected} DN")]
    Fee {
        /// Price times tokens.
        expected: Amount,
        /// The receipt's.
        found: Amount,
    },
    /// The hash of the prompt or output tokens differs.
    #[error("hash of the {what} tokens is {found}; {expected} expected")]
    Tokens {
        /// `prompt` or `output`.
        what: &'static str,
        /// Of the tokens sent or received.
        expected: Hash32,
        /// The receipt's.
        found: Hash32,
    },
    /// The number of prompt or output tokens differs.
    #[error("receipt counts {found} {what} tokens; {expected} expected")]
    Count {
        /// `prompt` or `output`.
        what: &'static str,
        /// Sent or received.
        expected: u32,
        /// The receipt's.
        found: u32,
    },
    /// It ended for another reason than can be.
    #[error("receipt ends with {found:?}, which cannot be here")]
    Finish {
        /// The receipt's.
        found: FinishReason,
    },
    /// Ended before it started, or no time is left to settle it.
    #[error(
        "receipt's times are impossible: started {started_ms} ms, finished {finished_ms} ms, expires {expires_ms} ms"
    )]
    Times {
        /// Start, Unix milliseconds.
        started_ms: u64,
        /// End, Unix milliseconds.
        finished_ms: u64,
        /// Expiry, Unix milliseconds.
        expires_ms: u64,
    },
}

/// Checks a receipt against the request it answers and the output tokens that arrived.
///
/// The signature is checked whatever the time is; callers that accept a fresh receipt check its expiry besides.
///
/// # Errors
/// [`ReceiptError`], the first that applies.
pub fn check_receipt(
    signed: &Signed<Receipt>,
    request: &JobRequest,
    output: &[u32],
) -> Result<(), ReceiptError> {
    signed.verify_any_time(request.chain_id)?;
    let receipt = &signed.body;
    let job = request.id();
    if receipt.job != job {
        return Err(ReceiptError::Job { expected: job, found: receipt.job });
    }
    if receipt.model != request.model {
        return Err(ReceiptError::Model { expected: request.model, found: receipt.model });
    }
    check_terms(receipt, request)?;
    check_tokens("prompt", &request.prompt, receipt.prompt_tokens, receipt.prompt_hash)?;
    check_tokens("output", output, receipt.output_tokens, receipt.output_hash)?;
    check_fee(receipt, request.price)?;
    let full = receipt.output_tokens >= request.max_tokens;
    if receipt.output_tokens > request.max_tokens || (receipt.finish == FinishReason::Cancelled && full) {
        return Err(ReceiptError::Finish { found: receipt.finish });
    }
    if receipt.finished_ms < receipt.started_ms || receipt.expires_ms <= receipt.finished_ms {
        return Err(ReceiptError::Times {
            started_ms: receipt.started_ms,
            finished_ms: receipt.finished_ms,
            expires_ms: receipt.expires_ms,
        });
    }
    Ok(())
}

/// Checks that a receipt charges exactly its tokens at this price.
///
/// # Errors
/// [`ReceiptError::Price`] or [`ReceiptError::Fee`].
pub fn check_fee(receipt: &Receipt, price: Price) -> Result<(), ReceiptError> {
    if receipt.price != price {
        return Err(ReceiptError::Price { expected: price, found: receipt.price });
    }
    let fee = price.fee(receipt.prompt_tokens.into(), receipt.output_tokens.into());
    let expected = fee.unwrap_or(Amount::from_atto(u128::MAX));
    if fee != Ok(receipt.fee) {
        return Err(ReceiptError::Fee { expected, found: receipt.fee });
    }
    Ok(())
}

/// Checks count and hash of tokens.
///
/// # Errors
/// [`ReceiptError::Count`] or [`ReceiptError::Tokens`].
pub fn check_tokens(
    what: &'static str,
    tokens: &[u32],
    count: u32,
    hash: Hash32,
) -> Result<(), ReceiptError> {
    let expected = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    if expected != count {
        return Err(ReceiptError::Count { what, expected, found: count });
    }
    let expected = token_hash(tokens);
    if expected != hash {
        return Err(ReceiptError::Tokens { what, expected, found: hash });
    }
    Ok(())
}

fn check_terms(receipt: &Receipt, request: &JobRequest) -> Result<(), ReceiptError> {
    let terms = [
        ("numeric spec", receipt.numeric_spec == request.numeric_spec),
        ("domain", receipt.domain == request.domain),
        ("payer", receipt.payer == request.payer),
        ("channel", receipt.channel == request.channel),
        ("lane", receipt.lane == request.lane),
        ("gateway", receipt.gateway == request.gateway),
    ];
    match terms.into_iter().find(|(_, same)| !same) {
        Some((field, _)) => Err(ReceiptError::Terms { field }),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
