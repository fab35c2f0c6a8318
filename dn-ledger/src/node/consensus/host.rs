//! The application that the engine drives: it builds, checks, keeps and commits blocks.

mod history;
mod judge;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_core::SecretKey;
use malachite_channel::app::engine::host::{HeightParams, Next};
use malachite_channel::app::types::{LocallyProposedValue, ProposedValue};
use malachite_channel::{AppMsg, Channels, Reply};
use malachite_types::{CommitCertificate, Round};

use history::pure_certificate;
pub use judge::NotExecuted;

use super::context::{Ctx, Height, Validators};
use super::directory::UNDECIDED_FILE;
use super::outbound::Outbound;
use super::parts::{Assembly, Place, Received};
use super::undecided::{Candidate, Undecided};
use super::{ConsensusError, Pace, evidence};
use crate::apply::Signatures;
use crate::block::{Block, Certificate};
use crate::node::shared::{Shared, now_ms};

/// Complete blocks of later heights that wait for theirs.
const MAX_WAITING: usize = 16;
/// The most bytes of blocks in one answer to a node that is behind.
const MAX_SYNC_BYTES: usize = 6 * 1024 * 1024;

/// The start of the next height, held back until its block is due.
struct Held {
    reply: Reply<Next<Ctx>>,
    since: Instant,
}

/// A node's part in consensus.
pub(crate) struct Host {
    shared: Arc<Shared>,
    ctx: Ctx,
    /// The key that signs parts of blocks; none while the node only follows.
    key: Option<SecretKey>,
    pace: Pace,
    undecided: Undecided,
    assembly: Assembly,
    waiting: VecDeque<Received>,
    held: Option<Held>,
    outbound: Outbound,
    started: Instant,
    last_decided: Instant,
    /// The height whose block came by synchronisation.
    synced: u64,
    /// Heights decided in a row that did not come by synchronisation.
    live: u32,
    /// The first height since the start whose block carries a signature of this node's key.
    signed: Option<u64>,
    #[cfg(feature = "faults")]
    fault: Option<super::Fault>,
}

impl Host {
    pub(crate) fn new(
        shared: Arc<Shared>,
        ctx: Ctx,
        pace: Pace,
        dir: &Path,
        max_block_bytes: usize,
        outbound: Outbound,
    ) -> Result<Self, ConsensusError> {
        let tip = shared.chain().tip().height;
        let undecided = Undecided::open(&dir.join(UNDECIDED_FILE), tip)?;
        let assembly = Assembly::new(ctx.chain_id, max_block_bytes);
        let now = Instant::now();
        Ok(Self {
            shared,
            ctx,
            key: None,
            pace,
            undecided,
            assembly,
            waiting: VecDeque::new(),
            held: None,
            outbound,
            started: now,
            last_decided: now,
            synced: 0,
            live: 0,
            signed: None,
            #[cfg(feature = "faults")]
            fault: None,
        })
    }

    #[cfg(feature = "faults")]
    pub(crate) fn misbehaving(mut self, fault: Option<super::Fault>) -> Self {
        (self.fault, self.outbound.fault) = (fault, fault);
        self
    }

    /// A new engine runs, with or without a key to sign.
    pub(crate) fn restarted(&mut self, key: Option<SecretKey>) {
        self.shared.metrics.signing.set(i64::from(key.is_some()));
        self.key = key;
        self.held = None;
        self.live = 0;
        self.started = Instant::now();
    }

    /// Heights in a row that were decided while this node listened.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    /// The first height since the start whose block, as its proposer or in its certificate, this node's key signed.
    pub(crate) const fn signed(&self) -> Option<u64> {
        self.signed
    }

    /// How long nothing was decided.
    pub(crate) fn standstill(&self) -> Duration {
        self.last_decided.max(self.started).elapsed()
    }

    /// The height of the tip.
    pub(crate) fn tip(&self) -> u64 {
        self.shared.chain().tip().height
    }

    /// When the held height is due; none if none is held.
    pub(crate) fn due(&self) -> Option<Instant> {
        let held = self.held.as_ref()?;
        let interval = self.pace.interval;
        let paced = held.since + if self.shared.pool().ready { interval / 4 } else { interval };
        // The chain's own pace: a block from before its time would have to be dated ahead.
        let early = self.shared.chain().earliest_ms().saturating_sub(now_ms());
        Some(paced.max(Instant::now() + Duration::from_millis(early)))
    }

    /// Starts the height that was held back.
    pub(crate) fn start_held(&mut self) {
        if let Some(Held { reply, .. }) = self.held.take() {
            let _ = reply.send(self.next());
        }
    }

    /// Passes waiting transactions on.
    pub(crate) async fn pass_on(&mut self, channels: &Channels<Ctx>) {
        self.outbound.pass_on(&self.shared, channels).await;
    }

    /// Does what the engine asks for.
    pub(crate) async fn handle(
        &mut self,
        message: AppMsg<Ctx>,
        channels: &Channels<Ctx>,
    ) -> Result<(), ConsensusError> {
        // A reply that nobody waits for is of an engine that stops.
        match message {
            AppMsg::ConsensusReady { reply } => {
                let next = Height(self.tip() + 1);
                let _ = reply.send((next, self.params()));
            }
            AppMsg::StartedRound { height, round, reply_value, .. } => {
                self.shared.metrics.round.set(round.as_i64());
                let _ = reply_value.send(self.started_round(height, round)?);
            }
            AppMsg::GetValue { height, round, reply, .. } => {
                self.get_value(height, round, reply, channels).await?;
            }
            AppMsg::ReceivedProposalPart { part, reply, .. } => {
                let _ = reply.send(self.received(part.content.into_data())?);
            }
            AppMsg::RestreamProposal { height, round, valid_round, address, value_id } => {
                let place = Place { height, round, valid_round, proposer: address, block: value_id };
                if let Some(candidate) = self.undecided.block(height, value_id) {
                    let block = Arc::clone(&candidate.block);
                    self.publish(place, &block, channels).await;
                }
            }
            AppMsg::Decided { certificate, reply, .. } => {
                self.commit(&certificate)?;
                let _ = reply.send(());
            }
            AppMsg::Finalized { certificate, evidence, reply, .. } => {
                self.commit(&certificate)?;
                evidence::report(self.ctx, &evidence, &self.shared);
                self.begin_or_hold(reply);
            }
            AppMsg::GetHistoryMinHeight { reply } => {
                let _ = reply.send(Height(self.shared.store.horizon()?));
            }
            AppMsg::GetDecidedValues { range, reply } => {
                let _ = reply.send(self.decided(range.start().0, range.end().0)?);
            }
            AppMsg::ProcessSyncedValue { height, round, proposer, value_bytes, reply } => {
                let _ = reply.send(self.synced(height, round, proposer, &value_bytes)?);
            }
            AppMsg::ExtendVote { reply, .. } => {
                let _ = reply.send(None);
            }
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                let _ = reply.send(extensions.into_iter().map(|(who, ())| (who, Ok(()))).collect());
            }
        }
        Ok(())
    }

    fn validators(&self) -> Validators {
        let chain = self.shared.chain();
        Validators::new(chain.validators(), chain.turn_seed())
    }

    fn params(&self) -> HeightParams<Ctx> {
        HeightParams::new(self.validators(), self.pace.timeouts(), None)
    }

    fn next(&self) -> Next<Ctx> {
        Next::Start(Height(self.tip() + 1), self.params())
    }

    /// Whose turn it is paces the chain: it waits until its block is due, everybody else is ready at once.
    fn begin_or_hold(&mut self, reply: Reply<Next<Ctx>>) {
        let own = self.key.as_ref().map(SecretKey::address);
        if own == Some(self.shared.chain().proposer(0)) {
            self.held = Some(Held { reply, since: self.last_decided });
        } else {
            let _ = reply.send(self.next());
        }
    }

    fn started_round(
        &mut self,
        height: Height,
        round: Round,
    ) -> Result<Vec<ProposedValue<Ctx>>, ConsensusError> {
        let waiting = std::mem::take(&mut self.waiting);
        let (now, later) = waiting.into_iter().partition(|r| r.place.height == height);
        self.waiting = later;
        for received in now {
            self.accept(received, true)?;
        }
        let proposed = self.undecided.in_round(height, round);
        proposed.into_iter().map(|candidate| self.judge(candidate.place, &candidate.block, true)).collect()
    }

    async fn get_value(
        &mut self,
        height: Height,
        round: Round,
        reply: Reply<LocallyProposedValue<Ctx>>,
        channels: &Channels<Ctx>,
    ) -> Result<(), ConsensusError> {
        let Some(key) = self.key.clone() else { return Ok(()) };
        if height.0 != self.tip() + 1 {
            return Ok(());
        }
        #[cfg(feature = "faults")]
        if self.fault == Some(super::Fault::Silent) {
            return Ok(());
        }
        // After a crash the block that was built before: the engine may have signed for it.
        let (place, block) = match self.undecided.own(height, round) {
            Some(candidate) => (candidate.place, Arc::clone(&candidate.block)),
            None => self.build(height, round, &key)?,
        };
        let _ = reply.send(LocallyProposedValue::new(height, round, place.block));
        self.publish(place, &block, channels).await;
        Ok(())
    }

    fn build(
        &mut self,
        height: Height,
        round: Round,
        key: &SecretKey,
    ) -> Result<(Place, Arc<Block>), ConsensusError> {
        let candidates = self.shared.candidates();
        let proposal = {
            let mut chain = self.shared.chain_mut();
            chain.propose_by(key, now_ms(), &candidates, Signatures::Checked)?
        };
        self.shared.reject(&proposal.rejected);
        #[cfg(feature = "faults")]
        let proposal = {
            let mut proposal = proposal;
            self.fault.inspect(|fault| fault.spoil(&mut proposal.block));
            proposal
        };
        let (proposer, block) = (key.address().into(), proposal.block.header.hash().into());
        let place = Place { height, round, valid_round: Round::Nil, proposer, block };
        let executed = Some(Arc::new(proposal.executed));
        let block = Arc::new(proposal.block);
        let (publisher, kept) = (place.proposer, Arc::clone(&block));
        let own = Candidate { place, publisher, block: kept, own: true, old: false, executed };
        self.undecided.insert(own, true)?;
        Ok((place, block))
    }

    async fn publish(&self, place: Place, block: &Block, channels: &Channels<Ctx>) {
        if let Some(key) = &self.key {
            self.outbound.publish(self.ctx.chain_id, place, block, key, channels).await;
        }
    }

    fn commit(&mut self, certificate: &CommitCertificate<Ctx>) -> Result<(), ConsensusError> {
        let (height, value) = (certificate.height, certificate.value_id);
        if height.0 <= self.tip() {
            return Ok(());
        }
        let candidate = self.undecided.block(height, value).cloned();
        let candidate = candidate.ok_or(ConsensusError::Unknown { height: height.0, block: value.hash() })?;
        let (place, block) = (candidate.place, candidate.block);
        let executed = self.execute(&place, &block).map_err(|source| ConsensusError::Invalid {
            height: height.0,
            block: value.hash(),
            source,
        })?;
        let certificate = pure_certificate(certificate)?;
        let own = |who| Some(who) == self.shared.own_key;
        if own(block.header.proposer) || certificate.signatures.iter().any(|(signer, _)| own(*signer)) {
            self.signed.get_or_insert(height.0);
        }
        let began = Instant::now();
        // On disk first: nothing is answered, or visible to queries, that a crash could take back.
        self.shared.store.commit(&block, &certificate, &executed)?;
        self.measure(&block, &certificate, began.elapsed());
        let before = self.shared.chain_mut().commit(&block.header, certificate, &executed);
        rayon::spawn(move || drop(before));
        self.shared.answer(&block, &executed);
        self.shared.look_again(height.0);
        self.undecided.prune(height.0)?;
        self.assembly.prune(height.0);
        self.waiting.retain(|r| r.place.height.0 > height.0);
        self.live = if self.synced == height.0 { 0 } else { self.live + 1 };
        self.last_decided = Instant::now();
        Ok(())
    }

    fn measure(&self, block: &Block, certificate: &Certificate, commit: Duration) {
        let metrics = &self.shared.metrics;
        metrics.height.set(i64::try_from(block.header.height).unwrap_or(i64::MAX));
        metrics.block_interval.observe(self.last_decided.elapsed().as_secs_f64());
        metrics.commit_seconds.set(commit.as_secs_f64());
        metrics.txs.inc_by(block.txs.len() as u64);
        metrics.block_txs.observe(block.txs.len() as f64);
        if certificate.round > 0 {
            metrics.rounds_over_zero.inc();
        }
        metrics.validators.set(self.shared.chain().validators().members.len() as i64);
    }
}
