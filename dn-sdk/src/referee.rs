//! The ledger's referee: the engine's dispute machine behind the ledger's interface, and what the two sides say in it.

use dn_compute::Engine;
use dn_compute::verify::record::Record;
use dn_compute::verify::{
    Answer, Dispute, Move, MoveError, Outcome, Party, Pick, RefereeError, Stage, Subject, Verdict,
    WitnessError,
};
use dn_core::objects::{JobRequest, ModelManifest};
use dn_core::{Canonical, Hash32, JobId};
use dn_ledger::bytes::Bytes;
use dn_ledger::referee::{Case, Ending, Finding, MoveFault, Played, Referee, RefereeHandle, Side, Standing};
use dn_ledger::tx::{Ground, Payload};
use dn_ledger::views::DisputeView;

/// The version of the rules by which [`TileReferee`] judges. Whatever changes the result of any dispute has to raise it.
pub const REFEREE_RULES: u32 = 1;

/// Judges tiles with the engine's referee. Pure: no clock, thread, entropy or file.
#[derive(Debug, Clone, Copy, Default)]
pub struct TileReferee;

impl TileReferee {
    /// For [`Chain::with_referee`](dn_ledger::Chain::with_referee) and a node's configuration.
    pub fn handle() -> RefereeHandle {
        RefereeHandle::new(Self)
    }
}

impl Referee for TileReferee {
    fn rules(&self) -> u32 {
        REFEREE_RULES
    }

    fn judges(&self, manifest: &ModelManifest) -> bool {
        // One position fits every context: only the manifest can be wrong.
        let (prompt_tokens, output_tokens) = (1, 1);
        let (trace_root, job, output_hash) = (Hash32::ZERO, JobId([0; 32]), Hash32::ZERO);
        let manifest = manifest.clone();
        let subject = Subject { manifest, trace_root, job, output_hash, prompt_tokens, output_tokens };
        Dispute::open(subject).is_ok()
    }

    fn open(&self, case: Case<'_>) -> Standing {
        // Nobody computes without a prompt, by another numeric spec, or beyond the context.
        let possible =
            case.receipt.prompt_tokens > 0 && case.receipt.numeric_spec == case.manifest.numeric_spec;
        match start(case).filter(|_| possible) {
            Some(dispute) => standing(&dispute),
            None => Standing::Ended(Ending::Impossible {}),
        }
    }

    fn play(
        &self,
        case: Case<'_>,
        moves: &[Played],
        side: Side,
        bytes: &[u8],
    ) -> Result<Standing, MoveFault> {
        let moves = moves.iter().map(|played| (played.side, played.bytes.0.as_slice()));
        let mut dispute = resume(case, moves).ok_or(MoveFault::NotDue)?;
        match side {
            Side::Worker => {
                let answer = Answer::from_bytes(bytes).map_err(|_| MoveFault::Encoding)?;
                dispute.answer(answer).map_err(|error| fault(&error))?;
            }
            Side::Accuser => {
                let pick = Pick::from_bytes(bytes).map_err(|_| MoveFault::Encoding)?;
                dispute.pick(pick).map_err(|error| fault(&error))?;
            }
        }
        Ok(standing(&dispute))
    }
}

fn start(case: Case<'_>) -> Option<Dispute> {
    Dispute::open(Subject::new(case.receipt, case.manifest.clone())?).ok()
}

/// The dispute after moves that were taken.
fn resume<'a>(case: Case<'_>, moves: impl Iterator<Item = (Side, &'a [u8])>) -> Option<Dispute> {
    let of = |(side, bytes): (Side, &[u8])| match side {
        Side::Worker => Answer::from_bytes(bytes).ok().map(|answer| Move::Answer { answer }),
        Side::Accuser => Pick::from_bytes(bytes).ok().map(|pick| Move::Pick { pick }),
    };
    let subject = Subject::new(case.receipt, case.manifest.clone())?;
    Dispute::resume(Record { subject, moves: moves.map(of).collect::<Option<_>>()? }).ok()
}

fn standing(dispute: &Dispute) -> Standing {
    match dispute.outcome() {
        None if dispute.turn() == Some(Party::Worker) => Standing::Turn(Side::Worker),
        None => Standing::Turn(Side::Accuser),
        Some(Outcome::Fraud { verdict: Verdict::Fraud { position, stage, op, element, .. } }) => {
            let (stage, op) = (stage_number(stage), op.into());
            Standing::Ended(Ending::Fraud { finding: Finding { position, stage, op, element } })
        }
        Some(Outcome::Fraud { verdict: Verdict::Consistent } | Outcome::Refuted) => {
            Standing::Ended(Ending::Refuted {})
        }
        Some(Outcome::WorkerSilent) => Standing::Ended(Ending::WorkerSilent {}),
        Some(Outcome::AccuserSilent) => Standing::Ended(Ending::AccuserSilent {}),
    }
}

/// A stage as [`Finding`] carries it: 0 the token, 1 the embedding, 2 + n layer n, then the two largest numbers logits and choice.
const fn stage_number(stage: Stage) -> u32 {
    match stage {
        Stage::Token => 0,
        Stage::Embedding => 1,
        Stage::Layer { layer } => layer.saturating_add(2),
        Stage::Logits => u32::MAX - 1,
        Stage::Choice => u32::MAX,
    }
}

const fn fault(error: &MoveError) -> MoveFault {
    match error {
        MoveError::Turn { .. } => MoveFault::NotDue,
        MoveError::Count { .. } | MoveError::Form { .. } => MoveFault::Form,
        MoveError::Referee(RefereeError::TooLarge { .. }) => MoveFault::TooLarge,
        MoveError::Referee(RefereeError::Unsupported { .. }) => MoveFault::Unjudged,
        _ => MoveFault::Unbound,
    }
}

/// A dispute as the ledger shows it, for whoever has to move; `None` when it is not open, or of another model.
pub fn dispute_of(view: &DisputeView, manifest: &ModelManifest) -> Option<Dispute> {
    let receipt = view.receipt.as_ref().filter(|_| view.outcome.is_none())?;
    let moves = view.moves.iter().map(|played| (played.side, played.bytes.0.as_slice()));
    resume(Case { receipt, manifest }, moves)
}

/// What a worker says with its move.
pub fn answer_payload(view: &DisputeView, answer: &Answer) -> Payload {
    let (batch, index, step) = (view.batch, view.index, view.step);
    Payload::DisputeAnswer { batch, index, step, bytes: Bytes(answer.to_bytes()) }
}

/// What an accuser says with its move.
pub fn pick_payload(view: &DisputeView, pick: &Pick) -> Payload {
    let (batch, index, step) = (view.batch, view.index, view.step);
    Payload::DisputePick { batch, index, step, bytes: Bytes(pick.to_bytes()) }
}

/// The ground on which a mismatch can be shown: by a tile where a computed value, or a choice without a grammar, is wrong.
///
/// # Errors
/// [`WitnessError`].
pub fn ground_of(
    engine: &Engine,
    request: &JobRequest,
    output: &[u32],
    trace_root: Hash32,
) -> Result<Ground, WitnessError> {
    let witness = engine.witness(request, output)?;
    let shown = witness.root() != trace_root || witness.wrong_choice().is_some();
    Ok(if shown { Ground::Computation } else { Ground::Rest })
}
