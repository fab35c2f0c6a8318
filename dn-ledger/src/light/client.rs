//! Following headers.

use std::collections::BTreeMap;

use dn_core::{BlockHash, Hash32, TxId};
use serde::{Deserialize, Serialize};

use super::block::LightBlock;
use crate::block::{CertificateError, Header};
use crate::chain::Chain;
use crate::genesis::Genesis;
use crate::params::Params;
use crate::state::ProofError;
use crate::validators::ValidatorSet;

/// A block that is trusted for reasons outside the protocol: from a configuration, or seen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustedHash {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// Why a text names no trusted block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no block; a height, a colon and the hash of the block expected, such as 0:0x12…")]
pub struct ParseTrustedError {
    /// The text.
    pub found: String,
}

impl std::str::FromStr for TrustedHash {
    type Err = ParseTrustedError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once(':')
            .and_then(|(height, hash)| Some(Self { height: height.parse().ok()?, hash: hash.parse().ok()? }));
        parsed.ok_or_else(|| ParseTrustedError { found: text.chars().take(128).collect() })
    }
}

impl std::fmt::Display for TrustedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.height, self.hash)
    }
}

/// How far trust reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustOptions {
    /// Headers in between may be skipped when more than this part of the trusted set's power, numerator and denominator, signed.
    pub threshold: (u64, u64),
    /// For how long a header vouches for others: shorter than stake stays slashable.
    ///
    /// # Units
    /// Milliseconds.
    pub period_ms: u64,
    /// How far a header's time may be ahead of the client's clock.
    ///
    /// # Units
    /// Milliseconds.
    pub drift_ms: u64,
}

/// Unbonding in less time than this is a local network's, whose validators everybody knows.
const LOCAL_MS: u64 = 3_600_000;
/// For how long headers of such a network vouch.
const LOCAL_PERIOD_MS: u64 = 24 * 3_600_000;

impl TrustOptions {
    /// For a chain of these parameters: more than a third; two thirds of the time in which stake is free at the earliest, so that there
    /// is time to report who signs another chain; ten seconds. Headers of a local network, whose stake is free within an hour, vouch
    /// for a day.
    pub fn of(params: &Params) -> Self {
        let unbonding_ms = params.unbonding_ms();
        let period_ms = if unbonding_ms < LOCAL_MS { LOCAL_PERIOD_MS } else { unbonding_ms / 3 * 2 };
        Self { threshold: (1, 3), period_ms, drift_ms: 10_000 }
    }
}

impl Default for TrustOptions {
    /// For a main network: its stake is free after a week less an hour, so headers vouch for four days and a half.
    fn default() -> Self {
        Self::of(&Params::main())
    }
}

/// Why what a node says is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LightError {
    /// Another chain's header.
    #[error("a header of chain {found}; chain {expected} expected")]
    ChainId {
        /// The chain that is followed.
        expected: u64,
        /// The header's.
        found: u64,
    },
    /// Another block than the one that is trusted.
    #[error("block {height} is {found}; the trusted one is {expected}")]
    Trusted {
        /// The height.
        height: u64,
        /// What is trusted.
        expected: BlockHash,
        /// What came.
        found: BlockHash,
    },
    /// The hash of the genesis where that of the first block is expected: they look alike, and nodes show both.
    #[error(
        "0:{genesis} names the genesis, whose hash is not that of block 0: `dn genesis show` of the genesis file prints the right \
         --trusted 0:HASH"
    )]
    GenesisHash {
        /// What was named; block 0, whose hash is expected, follows it.
        genesis: Hash32,
    },
    /// A header below the newest one.
    #[error("header {found} is older than the trusted header {trusted}")]
    Old {
        /// The newest trusted height.
        trusted: u64,
        /// The header's.
        found: u64,
    },
    /// The next header does not follow the trusted one.
    #[error("header {height} follows {found}; the trusted header is {expected}")]
    Parent {
        /// The header.
        height: u64,
        /// The trusted one.
        expected: BlockHash,
        /// Its parent.
        found: BlockHash,
    },
    /// A header whose time does not pass.
    #[error("header {height} is of {found} ms; later than {trusted} ms expected")]
    TimeBack {
        /// The header.
        height: u64,
        /// Time of the trusted one.
        trusted: u64,
        /// Its time.
        found: u64,
    },
    /// A header from the future.
    #[error("header {height} is of {found} ms; the clock says {now} ms")]
    Future {
        /// The header.
        height: u64,
        /// The clock.
        now: u64,
        /// Its time.
        found: u64,
    },
    /// The trusted header is too old to vouch for another one.
    #[error(
        "trusted header {height} is {age_ms} ms old, and vouches for others for {period_ms} ms: whoever decided it may have taken \
         its stake since; name a newer block that you know to be the chain's (--trusted HEIGHT:HASH)"
    )]
    Expired {
        /// The trusted header; 0 is the genesis.
        height: u64,
        /// Its age by the client's clock.
        age_ms: u64,
        /// For how long it vouches.
        period_ms: u64,
    },
    /// A validator set that is not the header's.
    #[error("header {height}: {field} hashes to {found}; {expected} expected")]
    Set {
        /// The header.
        height: u64,
        /// Which set.
        field: &'static str,
        /// What the header says, or the trusted one.
        expected: Hash32,
        /// What came.
        found: Hash32,
    },
    /// No quorum stands for the header.
    #[error("header {height}: {source}")]
    Certificate {
        /// The header.
        height: u64,
        /// Why.
        source: CertificateError,
    },
    /// Too few of those who are trusted signed: a header in between must be verified first.
    #[error(
        "header {height}: power {found} of {total} that header {trusted} trusts signed; more than {num}/{den} expected"
    )]
    Trust {
        /// The header.
        height: u64,
        /// The trusted header.
        trusted: u64,
        /// What signed.
        found: u128,
        /// All of the trusted set.
        total: u128,
        /// The threshold's numerator.
        num: u64,
        /// The threshold's denominator.
        den: u64,
    },
    /// A transaction that the block does not hold.
    #[error("transaction {tx} in block {height}: {source}")]
    Transaction {
        /// The transaction.
        tx: TxId,
        /// The block.
        height: u64,
        /// Why.
        source: dn_core::merkle::ProofError,
    },
    /// A proof that does not hold.
    #[error("table {table} at height {height}: {source}")]
    Proof {
        /// The record's table.
        table: &'static str,
        /// The header that it is checked against.
        height: u64,
        /// Why.
        source: ProofError,
    },
}

/// How many blocks below the newest header others are still accepted: answers to questions that were asked at once arrive in any order.
const REACH: u64 = 64;

/// Follows a chain by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LightClient {
    options: TrustOptions,
    trusted: Header,
    next: ValidatorSet,
    /// The height of the start.
    start: u64,
    /// What was accepted below the newest, by height.
    recent: BTreeMap<u64, Header>,
}

impl LightClient {
    /// Starts at the genesis, which must be valid. It expires like every block: of an older chain a newer block must be known.
    pub fn from_genesis(genesis: &Genesis, options: TrustOptions) -> Self {
        let chain = Chain::new(genesis);
        Self::at(chain.tip().clone(), chain.validators(), options)
    }

    /// Starts at a block whose hash is trusted.
    ///
    /// # Errors
    /// [`LightError`] when the block is another one, its sets are not its header's, or nobody stands for it.
    pub fn from_trusted(
        trusted: TrustedHash,
        block: &LightBlock,
        options: TrustOptions,
    ) -> Result<Self, LightError> {
        let (header, found) = (&block.header, block.header.hash());
        if (header.height, trusted.height) == (0, 0) && header.parent == trusted.hash {
            return Err(LightError::GenesisHash { genesis: Hash32(trusted.hash.0) });
        }
        if header.height != trusted.height || found != trusted.hash {
            return Err(LightError::Trusted { height: trusted.height, expected: trusted.hash, found });
        }
        block.check_sets()?;
        if header.height > 0 {
            verify_certificate(block)?;
        }
        Ok(Self::at(header.clone(), block.next_set().clone(), options))
    }

    const fn at(trusted: Header, next: ValidatorSet, options: TrustOptions) -> Self {
        Self { options, start: trusted.height, trusted, next, recent: BTreeMap::new() }
    }

    /// Whether a newer header was accepted since the start.
    pub const fn has_advanced(&self) -> bool {
        self.trusted.height > self.start
    }

    /// Whether a header of this height, though older than the newest, is accepted once those between it and one that is trusted are.
    pub const fn reaches(&self, height: u64) -> bool {
        height <= self.trusted.height && self.trusted.height - height <= REACH
    }

    /// The newest trusted header.
    pub const fn header(&self) -> &Header {
        &self.trusted
    }

    /// Who decides the block after it.
    pub const fn next_validators(&self) -> &ValidatorSet {
        &self.next
    }

    /// Accepts a newer header: the next one, or a later one that enough of the trusted power signed. An older one within
    /// [reach](Self::reaches) is accepted when it was before, or when the one after it was and names it as its parent.
    ///
    /// # Errors
    /// [`LightError`]; the client is unchanged. After [`LightError::Trust`] a header in between helps, after [`LightError::Old`]
    /// the one after it, where it is within reach.
    pub fn update(&mut self, block: &LightBlock, now_ms: u64) -> Result<(), LightError> {
        let (header, trusted) = (&block.header, &self.trusted);
        let height = header.height;
        if header.chain_id != trusted.chain_id {
            return Err(LightError::ChainId { expected: trusted.chain_id, found: header.chain_id });
        }
        if height <= trusted.height {
            return self.accept_older(header);
        }
        self.check_times(header, now_ms)?;
        block.check_sets()?;
        if height == trusted.height + 1 {
            let (expected, found) = (trusted.hash(), header.parent);
            if expected != found {
                return Err(LightError::Parent { height, expected, found });
            }
            let (expected, found) = (trusted.next_validators, header.validators);
            if expected != found {
                return Err(LightError::Set { height, field: "validators", expected, found });
            }
            verify_certificate(block)?;
        } else {
            // What its own set decided counts only when enough of those who are trusted take part.
            self.check_trust(block)?;
            verify_certificate(block)?;
        }
        let before = std::mem::replace(&mut self.trusted, header.clone());
        self.recent.insert(before.height, before);
        self.recent = self.recent.split_off(&height.saturating_sub(REACH));
        self.next = block.next_set().clone();
        Ok(())
    }

    fn accept_older(&mut self, header: &Header) -> Result<(), LightError> {
        let (height, found) = (header.height, header.hash());
        let known = |height| {
            if height == self.trusted.height { Some(&self.trusted) } else { self.recent.get(&height) }
        };
        let expected = known(height).map(Header::hash).or_else(|| Some(known(height + 1)?.parent));
        match expected.filter(|_| self.reaches(height)) {
            None => Err(LightError::Old { trusted: self.trusted.height, found: height }),
            Some(expected) if expected != found => Err(LightError::Trusted { height, expected, found }),
            Some(_) => {
                if height < self.trusted.height {
                    self.recent.insert(height, header.clone());
                }
                Ok(())
            }
        }
    }

    fn check_times(&self, header: &Header, now_ms: u64) -> Result<(), LightError> {
        let (height, found, trusted) = (header.height, header.time_ms, &self.trusted);
        if found <= trusted.time_ms {
            return Err(LightError::TimeBack { height, trusted: trusted.time_ms, found });
        }
        if found > now_ms.saturating_add(self.options.drift_ms) {
            return Err(LightError::Future { height, now: now_ms, found });
        }
        // The genesis too: its validators may be gone, and then sign whatever a newcomer is to believe.
        let (age_ms, period_ms) = (now_ms.saturating_sub(trusted.time_ms), self.options.period_ms);
        if age_ms >= period_ms {
            return Err(LightError::Expired { height: trusted.height, age_ms, period_ms });
        }
        Ok(())
    }

    fn check_trust(&self, block: &LightBlock) -> Result<(), LightError> {
        let mut signers: Vec<_> = block.certificate.signatures.iter().map(|(signer, _)| *signer).collect();
        signers.sort_unstable();
        signers.dedup();
        let found: u128 = signers.iter().map(|signer| u128::from(self.next.power(*signer))).sum();
        let ((num, den), total) = (self.options.threshold, self.next.total());
        if u128::from(den) * found > u128::from(num) * total {
            return Ok(());
        }
        let (height, trusted) = (block.header.height, self.trusted.height);
        Err(LightError::Trust { height, trusted, found, total, num, den })
    }
}

fn verify_certificate(block: &LightBlock) -> Result<(), LightError> {
    let height = block.header.height;
    block
        .certificate
        .verify(&block.header, &block.validators)
        .map_err(|source| LightError::Certificate { height, source })
}
