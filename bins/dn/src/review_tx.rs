//! `dn tx` for disputes, quality rounds and feedback.

use std::path::{Path, PathBuf};

use dn_core::objects::feedback::Feedback;
use dn_core::{BatchId, Hash32, SecretKey, Signed, VrfProof, keccak256};
use dn_ledger::apply::canary_input;
use dn_ledger::beacon::Reveal as Draw;
use dn_ledger::bytes::Bytes;
use dn_ledger::tx::{Ground, Payload};
use dn_powr::{Reveal, Seal};
use dn_sdk::opening::Opening;
use dn_trust::Unit;

use crate::error::CliError;

/// What validators, workers and payers say about work.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Review {
    /// Open the dispute that your accusation called.
    DisputeOpen {
        /// The batch.
        batch: BatchId,
        /// The opening of the receipt, as its gateway handed it over.
        #[arg(long, value_name = "FILE")]
        opening: PathBuf,
        /// What is wrong is shown by no tile: the validators' weight decides.
        #[arg(long)]
        rest: bool,
    },
    /// Point to what differs: the accuser's move.
    DisputePick {
        #[command(flatten)]
        next: Move,
    },
    /// Open what your receipt commits to: the worker's move.
    DisputeAnswer {
        #[command(flatten)]
        next: Move,
    },
    /// Seal the task of a quality round that you set.
    QualitySeal {
        #[command(flatten)]
        task: Task,
    },
    /// Commit to a score.
    QualityCommit {
        #[command(flatten)]
        score: Scored,
    },
    /// Show the score that you committed to.
    QualityReveal {
        #[command(flatten)]
        score: Scored,
    },
    /// Open the seal of a quality round that you set.
    QualityUnseal {
        #[command(flatten)]
        task: Task,
    },
    /// Say what an answer that you paid for was worth.
    Feedback {
        /// The settled batch.
        batch: BatchId,
        /// The opening of the receipt.
        #[arg(long, value_name = "FILE")]
        opening: PathBuf,
        /// From 0, useless, to 100.
        #[arg(long)]
        score: u8,
        /// A word for what you score.
        #[arg(long, default_value = "")]
        tag: String,
        /// Hash of a longer text.
        #[arg(long)]
        uri_hash: Option<Hash32>,
    },
}

/// A move of a dispute.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The batch.
    batch: BatchId,
    /// The receipt's place in it.
    index: u32,
    /// Moves so far.
    step: u32,
    /// The move's canonical bytes.
    #[arg(long, value_name = "FILE")]
    bytes: PathBuf,
}

/// A quality round's task.
#[derive(Debug, clap::Args)]
pub(crate) struct Task {
    /// The round.
    round: Hash32,
    /// The known score of a canary, in per cent.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    known: Option<u8>,
}

/// A score.
#[derive(Debug, clap::Args)]
pub(crate) struct Scored {
    /// The round.
    round: Hash32,
    /// In per cent.
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    score: u8,
}

impl Review {
    /// What to sign.
    pub(crate) fn payload(self, key: &SecretKey) -> Result<Payload, CliError> {
        Ok(match self {
            Self::DisputeOpen { batch, opening, rest } => {
                let Opening { receipt, proof, .. } = read_opening(&opening)?;
                let ground = if rest { Ground::Rest } else { Ground::Computation };
                Payload::DisputeOpen { batch, index: place(proof.index)?, receipt, proof, ground }
            }
            Self::DisputePick { next: Move { batch, index, step, bytes } } => {
                Payload::DisputePick { batch, index, step, bytes: Bytes(read(&bytes)?) }
            }
            Self::DisputeAnswer { next: Move { batch, index, step, bytes } } => {
                Payload::DisputeAnswer { batch, index, step, bytes: Bytes(read(&bytes)?) }
            }
            Self::QualitySeal { task } => {
                let seal = seal(&task, key);
                Payload::QualitySeal { round: task.round, commitment: seal.commitment() }
            }
            Self::QualityCommit { score } => {
                let reveal = reveal(&score, key);
                Payload::QualityCommit { round: score.round, commitment: reveal.commitment() }
            }
            Self::QualityReveal { score } => Payload::QualityReveal { reveal: reveal(&score, key) },
            Self::QualityUnseal { task } => {
                let proof = VrfProof::new(key, &canary_input(&task.round))
                    .map_err(|error| CliError::Other(error.to_string()))?;
                Payload::QualityUnseal { seal: seal(&task, key), draw: Draw { public: key.public(), proof } }
            }
            Self::Feedback { batch, opening, score, tag, uri_hash } => {
                let Opening { receipt, proof, .. } = read_opening(&opening)?;
                let body = Feedback {
                    chain_id: receipt.body.chain_id,
                    batch,
                    index: place(proof.index)?,
                    receipt: receipt.body.id(),
                    score,
                    tag,
                    uri_hash: uri_hash.unwrap_or(Hash32::ZERO),
                    signer: key.address(),
                    expires_ms: u64::MAX,
                };
                Payload::Feedback { feedback: Signed::sign(body, key), receipt, proof }
            }
        })
    }
}

/// The salt of a commitment: only this key can make it, and it makes it again for the reveal.
fn salt(purpose: &[u8], round: &Hash32, key: &SecretKey) -> Hash32 {
    let secret = key.sign(&keccak256(&[b"DeepNode quality salt v1", purpose, round.as_bytes()]));
    Hash32(keccak256(&[secret.as_bytes()]))
}

fn seal(task: &Task, key: &SecretKey) -> Seal {
    Seal { round: task.round, known: task.known.map(percent), salt: salt(b"seal", &task.round, key) }
}

fn reveal(score: &Scored, key: &SecretKey) -> Reveal {
    let salt = salt(b"score", &score.round, key);
    Reveal { round: score.round, validator: key.address(), score: percent(score.score), salt }
}

fn percent(percent: u8) -> Unit {
    Unit::from_bits((u64::from(percent) << 32) / 100)
}

fn place(index: u64) -> Result<u32, CliError> {
    u32::try_from(index).map_err(|_| CliError::Other(format!("no batch has a receipt {index}")))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::Other(format!("cannot read {}: {error}", path.display())))
}

fn read_opening(path: &Path) -> Result<Opening, CliError> {
    Opening::from_untrusted(&read(path)?)
        .map_err(|error| CliError::Other(format!("{} is no opening: {error}", path.display())))
}
