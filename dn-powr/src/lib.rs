//! Proof of useful work rewards: what work counts, what quality it had, who is paid what.
//!
//! Pure functions over integers. The ledger calls them for one identity at a time, the simulator for whole populations;
//! both get the same bits.
//!
//! - [`WorkCost`]: verified work units of a receipt's tokens;
//! - [`FeeSplit`]: the shares of a task's fee;
//! - [`draw_committee`], [`is_audited`], [`is_canary`]: who judges what, by verifiable randomness;
//! - [`Round`]: commit and reveal; [`Settled`]: what a round says about its committee;
//! - [`Consensus`]: the quality that a committee's votes agree on;
//! - [`QualitySum`], [`Quality`]: a worker's quality out of many rounds, and its two factors;
//! - [`score`]: work × quality × trust;
//! - [`EmissionParams`]: how much an epoch emits, and the bound that makes wash work pointless;
//! - [`Payout`]: the division of a pot by scores;
//! - [`population`]: trust, scores and payouts of millions of workers at once;
//! - [`DomainSplit`]: the division of a domain's emission by role;
//! - [`EpochEmission`]: the emission of a whole epoch, by domain and role;
//! - [`StakePool`]: delegated stake as shares;
//! - [`SlashParams`]: what an offence costs;
//! - [`GenesisSplit`]: where the supply starts.
//!
//! ```
//! use dn_core::Amount;
//! use dn_powr::{FeeSplit, Payout};
//! let shares = FeeSplit::default().split(Amount::from_dn(1));
//! assert_eq!(shares.worker.to_string(), "0.65");
//!
//! let entries = [("a", 1), ("b", 2)];
//! let payout = Payout::new(Amount::from_atto(100), entries).unwrap();
//! assert_eq!(payout.share_of("a", 1), Amount::from_atto(33));
//! assert_eq!(payout.share_of("b", 2), Amount::from_atto(67));
//! ```
//!
//! `docs/economics.md` has every formula with a worked example.
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

mod bps;
mod division;
mod domain;
mod draw;
mod emission;
mod epoch;
mod fees;
mod mean;
mod payout;
mod pool;
pub mod population;
mod quality;
mod review;
mod round;
mod score;
mod slash;
mod supply;
mod work;

pub use bps::{BPS, SplitError};
pub use domain::{DomainShares, DomainSplit};
pub use draw::{DrawError, MAX_SEATS, draw_committee, is_audited, is_canary, secret_commitment};
pub use emission::{EmissionError, EmissionParams};
pub use epoch::{DomainDemand, EpochEmission};
pub use fees::{FeeBounds, FeeMove, FeeShares, FeeSplit, Range};
pub use mean::{MeanError, Quality, QualitySum};
pub use payout::{Payout, PayoutError, payout};
pub use pool::{PoolError, StakePool};
pub use quality::{Consensus, MAX_WEIGHT, QualityError, Vote, vote_weight};
pub use review::{Attendance, Finding, ReviewError, ReviewParams, Settled, Settlement};
pub use round::{Reveal, Round, RoundError, Seal};
pub use score::score;
pub use slash::{Offence, Penalty, SlashParams};
pub use supply::{Allocation, GenesisSplit};
pub use work::{WorkCost, WorkError};
