//! The auditor's loop: look up tasks, fetch and replay what is to be judged, commit, and reveal.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dn_core::hexadecimal::to_hex;
use dn_core::objects::{AuditOutcome, BatchLine, Verdict};
use dn_core::{Address, BatchId, Hash32, ReceiptId};
use dn_ledger::reject::Reject;
use dn_ledger::state::AuditPhase;
use dn_ledger::tx::{Payload, Role};
use dn_ledger::views::AuditView;
use rand_core::{OsRng, RngCore};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::store::{AuditStore, Kept};
use super::{AuditError, AuditRecord, Auditor, AuditorConfig, FetchError, Judgement, accuse, judge};
use crate::clock::now_ms;
use crate::ledger::LedgerError;
use crate::opening::{
    AUDITOR_HEADER, MAX_OPENING_BYTES, Opening, SIGNATURE_HEADER, TIME_HEADER, opening_digest,
};

const MAX_RECORDS: usize = 10_000;
/// How long a gateway that does not answer is asked again before its silence is the verdict.
const PATIENCE: Duration = Duration::from_secs(20);
/// Blocks before the commit deadline at which silence becomes the verdict in any case.
const LAST_BLOCKS: u64 = 8;
/// How long verdicts are kept.
const KEEP_MS: u64 = 7 * 24 * 3_600_000;

/// What the auditor's task and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: AuditorConfig,
    chain_id: u64,
    pub(super) store: AuditStore,
    http: reqwest::Client,
    records: Mutex<VecDeque<AuditRecord>>,
    pub(super) replays: AtomicU64,
    waiting: Mutex<Waiting>,
    fetching: Semaphore,
    pub(super) judging: Semaphore,
}

/// Openings that are fetched at once: gateways that trickle do not hold up the audits of others.
const FETCHES: usize = 16;

/// Since when a gateway does not answer for a task.
type Waiting = HashMap<Place, Instant>;
/// A receipt: its batch and its index there.
pub(super) type Place = (BatchId, u32);

impl Shared {
    pub(super) fn address(&self) -> Address {
        self.config.key.address()
    }

    pub(super) fn records(&self) -> Vec<AuditRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, record: AuditRecord) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == MAX_RECORDS {
            records.pop_front();
        }
        records.push_back(record);
    }
}

pub(super) async fn start(config: AuditorConfig) -> Result<Auditor, AuditError> {
    let chain_id = config.ledger.chain_id().await?;
    let store = AuditStore::open(&config.data_dir, chain_id, config.key.address())?;
    store.prune(now_ms().saturating_sub(KEEP_MS))?;
    // Strangers register the addresses that are asked here; none of them sends the auditor elsewhere.
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let http = http.map_err(AuditError::Http)?;
    let (records, replays, waiting) = (Mutex::default(), AtomicU64::default(), Mutex::default());
    let (fetching, judging) = (Semaphore::new(FETCHES), Semaphore::new(1));
    let shared =
        Arc::new(Shared { config, chain_id, store, http, records, replays, waiting, fetching, judging });
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(shared.clone(), stopped));
    Ok(Auditor { shared, task, stop })
}

/// What is being done now.
#[derive(Default)]
pub(super) struct Working {
    pub(super) tasks: JoinSet<(Place, Result<(), AuditError>)>,
    pub(super) busy: HashSet<Place>,
}

async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut working = Working::default();
    let mut poll = tokio::time::interval(shared.config.poll_interval);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(done) = working.tasks.join_next(), if !working.tasks.is_empty() => {
                finished(&mut working, done);
                continue;
            }
            _ = poll.tick() => {}
        }
        if let Err(error) = start_due(&shared, &mut working).await {
            tracing::warn!(%error, "audits will be looked up again");
        }
        if let Err(error) = accuse::start_due(&shared, &mut working).await {
            tracing::warn!(%error, "disputes will be looked up again");
        }
    }
    // They hold the store, which may be opened again at once.
    working.tasks.shutdown().await;
}

fn finished(working: &mut Working, done: Result<(Place, Result<(), AuditError>), JoinError>) {
    match done {
        Ok((place, worked)) => {
            working.busy.remove(&place);
            if let Err(error) = worked {
                tracing::warn!(batch = %place.0, index = place.1, %error, "audit will be tried again");
            }
        }
        Err(error) => {
            // It cannot say which task it was: those that run are looked up again, and what is kept is not judged twice.
            tracing::error!(%error, "an audit broke off");
            working.busy.clear();
        }
    }
}

/// Starts whatever is due on the open tasks that are not being worked on, all side by side: one slow gateway delays
/// neither the audits of others nor a reveal.
async fn start_due(shared: &Arc<Shared>, working: &mut Working) -> Result<(), AuditError> {
    let tasks = shared.config.ledger.audits(Some(shared.address()), true).await?;
    if tasks.is_empty() {
        return Ok(());
    }
    let height = shared.config.ledger.status().await?.height;
    for task in tasks {
        if working.busy.insert((task.batch, task.index)) {
            let shared = shared.clone();
            working.tasks.spawn(async move {
                let worked = work(&shared, &task, height).await;
                ((task.batch, task.index), worked)
            });
        }
    }
    Ok(())
}

async fn work(shared: &Arc<Shared>, task: &AuditView, height: u64) -> Result<(), AuditError> {
    let payload = match task.phase {
        AuditPhase::Commit => commitment(shared, task, height).await?,
        AuditPhase::Reveal if height + 1 >= task.reveal_from => reveal(shared, task)?,
        _ => None,
    };
    if let Some(payload) = payload {
        let sent = shared.config.ledger.submit(&shared.config.key, payload).await;
        report(task, sent.err());
    }
    Ok(())
}

fn report(task: &AuditView, error: Option<LedgerError>) {
    let Some(error) = error else { return };
    match error.reject() {
        // Sent before a restart, or the block is not there yet.
        Some(
            Reject::AlreadyCommitted { .. } | Reject::AlreadyRevealed { .. } | Reject::RevealTooEarly { .. },
        ) => {}
        // Another auditor's accusation ended the whole batch in the meantime.
        Some(Reject::NotAssigned { .. }) => {
            tracing::info!(batch = %task.batch, index = task.index, "audit ended before the verdict");
        }
        _ => tracing::warn!(batch = %task.batch, index = task.index, %error, "verdict not taken"),
    }
}

/// The commitment to a verdict, judged now or before a restart.
async fn commitment(
    shared: &Arc<Shared>,
    task: &AuditView,
    height: u64,
) -> Result<Option<Payload>, AuditError> {
    let kept = match shared.store.kept(task.batch, task.index)? {
        Some(kept) => kept,
        None => match audit(shared, task, height).await? {
            Some(outcome) => keep(shared, task, outcome)?,
            None => return Ok(None),
        },
    };
    let commitment = kept.verdict.commitment(&kept.salt.0);
    Ok(Some(Payload::AuditCommit { batch: task.batch, index: task.index, commitment }))
}

fn keep(shared: &Shared, task: &AuditView, outcome: AuditOutcome) -> Result<Kept, AuditError> {
    let verdict = Verdict { batch: task.batch, index: task.index, auditor: shared.address(), outcome };
    let mut salt = [0; 32];
    OsRng.fill_bytes(&mut salt);
    let kept = Kept { verdict, salt: Hash32(salt), judged_ms: now_ms() };
    shared.store.keep(&kept)?;
    Ok(kept)
}

fn reveal(shared: &Shared, task: &AuditView) -> Result<Option<Payload>, AuditError> {
    let kept = shared.store.kept(task.batch, task.index)?;
    if kept.is_none() {
        tracing::error!(batch = %task.batch, index = task.index, "the verdict to reveal is lost");
    }
    Ok(kept.map(|Kept { verdict, salt, .. }| Payload::AuditReveal { verdict, salt }))
}

/// Fetches and replays; `None` when it has to be tried again later.
async fn audit(
    shared: &Arc<Shared>,
    task: &AuditView,
    height: u64,
) -> Result<Option<AuditOutcome>, AuditError> {
    let place = (task.batch, task.index);
    let fetched = {
        let _slot = shared.fetching.acquire().await.map_err(|_| AuditError::Interrupted)?;
        fetch(shared, task).await
    };
    let opening = match fetched {
        Ok(opening) => opening,
        Err(error) => {
            let since = *shared.waiting().entry(place).or_insert_with(Instant::now);
            let out_of_time = since.elapsed() > PATIENCE || height + LAST_BLOCKS >= task.commit_deadline;
            if error.is_transient() && !out_of_time {
                return Ok(None);
            }
            tracing::warn!(batch = %task.batch, index = task.index, %error, "receipt unavailable");
            shared.waiting().remove(&place);
            let outcome = AuditOutcome::Unavailable {};
            shared.remember(without_replay(task, None, outcome, Some(error.to_string())));
            return Ok(Some(outcome));
        }
    };
    shared.waiting().remove(&place);
    let Some(claimed) = shared.config.ledger.batch(task.batch).await? else { return Ok(None) };
    if BatchLine::holding(&claimed.lines, &opening.receipt.body).is_none() {
        let reason = "no line of the batch can hold this receipt".to_owned();
        return conclude(shared, task, &opening, Judgement::mismatch(0, reason, Duration::ZERO)).map(Some);
    }
    let model = opening.receipt.body.model;
    let engine = shared.config.engines.iter().find(|engine| engine.model().id() == model).cloned();
    let Some(engine) = engine else {
        tracing::error!(%model, batch = %task.batch, "cannot audit: the model is not loaded here");
        let (outcome, receipt) = (AuditOutcome::Unjudged {}, Some(opening.receipt.body.id()));
        let reason = Some(format!("model {model} is not loaded here"));
        shared.remember(without_replay(task, receipt, outcome, reason));
        return Ok(Some(outcome));
    };
    let _turn = shared.judging.acquire().await.map_err(|_| AuditError::Interrupted)?;
    shared.replays.fetch_add(1, Ordering::Relaxed);
    let (opening, judgement) = tokio::task::spawn_blocking(move || {
        let judgement = judge(&engine, &opening);
        (opening, judgement)
    })
    .await
    .map_err(|_| AuditError::Interrupted)?;
    conclude(shared, task, &opening, judgement?).map(Some)
}

/// Takes note of what was found, and returns it.
fn conclude(
    shared: &Shared,
    task: &AuditView,
    opening: &Opening,
    judgement: Judgement,
) -> Result<AuditOutcome, AuditError> {
    if matches!(judgement.outcome, AuditOutcome::Mismatch { .. }) {
        // On disk before the verdict is: nobody has to hand it over again for the dispute.
        shared.store.accuse(task.batch, task.index, opening)?;
    }
    let receipt = &opening.receipt.body;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    shared.remember(AuditRecord {
        batch: task.batch,
        index: task.index,
        worker: task.worker,
        receipt: Some(receipt.id()),
        outcome: judgement.outcome,
        reason: judgement.reason,
        replay_us: micros(judgement.elapsed),
        generation_us: (receipt.finished_ms - receipt.started_ms).saturating_mul(1000),
    });
    Ok(judgement.outcome)
}

/// The record of an audit that ended before any replay.
const fn without_replay(
    task: &AuditView,
    receipt: Option<ReceiptId>,
    outcome: AuditOutcome,
    reason: Option<String>,
) -> AuditRecord {
    let (batch, index, worker) = (task.batch, task.index, task.worker);
    AuditRecord { batch, index, worker, receipt, outcome, reason, replay_us: 0, generation_us: 0 }
}

/// Asks the gateway for the opening and checks that it is the right one.
async fn fetch(shared: &Shared, task: &AuditView) -> Result<Opening, FetchError> {
    let identity = shared.config.ledger.identity(task.gateway, Role::Gateway).await;
    let identity = identity.ok().flatten().filter(|identity| !identity.endpoint.is_empty());
    let endpoint = identity.ok_or(FetchError::NoEndpoint)?.endpoint;
    let url = format!("{}/v1/openings/{}/{}", endpoint.trim_end_matches('/'), task.batch, task.index);
    let time_ms = now_ms();
    let digest = opening_digest(shared.chain_id, task.gateway, task.batch, task.index, time_ms);
    let signature = shared.config.key.sign(&digest);
    let request = shared
        .http
        .get(url)
        .timeout(shared.config.fetch_timeout)
        .header(AUDITOR_HEADER, shared.address().to_string())
        .header(TIME_HEADER, time_ms)
        .header(SIGNATURE_HEADER, to_hex(signature.as_bytes()));
    let mut answer = request.send().await?;
    if !answer.status().is_success() {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > MAX_OPENING_BYTES {
            return Err(FetchError::TooLong { limit: MAX_OPENING_BYTES });
        }
        bytes.extend_from_slice(&chunk);
    }
    let opening = Opening::from_untrusted(&bytes)?;
    opening.verify(task.root, task.count, task.worker, task.index)?;
    Ok(opening)
}
