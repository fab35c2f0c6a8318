//! The scripted tour: paid calls, two kinds of cheating, and an account of every atto.

use std::time::{Duration, Instant};

use dn_core::Amount;
use dn_ledger::events::Event;
use dn_ledger::state::BatchStatus;
use dn_ledger::tx::Role;
use dn_ledger::views::{BatchView, EventView};

use super::account::{self, Split};
use super::cheat::Cheat;
use super::error::DevnetError;
use super::network::{Devnet, until};
use super::report::{Call, Check, Report, SupplyReport, TrustChange};
use crate::client::{Answer, ChatRequest, Client, ClientError, Event as StreamEvent};
use crate::ledger::LedgerError;

/// Questions of the tour; the model knows a little about Rust.
const QUESTIONS: [&str; 8] = [
    "What is a lifetime?",
    "What is a closure?",
    "What is ownership?",
    "What is a trait?",
    "What is borrowing?",
    "What is an iterator?",
    "What is a slice?",
    "What is pattern matching?",
];
/// Output tokens of each call.
const MAX_TOKENS: u32 = 40;
/// Forged answers of each kind that are put before the auditors.
const FORGED_PER_KIND: u64 = 2;
/// Calls after which the tour stops hoping that the cheating worker is drawn.
const MOST_CALLS_PER_KIND: usize = 150;
/// Calls made at once; the two honest workers do four at a time.
const RUSH: usize = 5;
/// How often a call is made again when no worker is free.
const ATTEMPTS: usize = 50;
/// How long a settlement may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(180);

/// Why a tour cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TourError {
    /// The network.
    #[error(transparent)]
    Devnet(#[from] DevnetError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The gateway's URL is none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A call failed or its receipt is not good.
    #[error("call {number}: {source}")]
    Call {
        /// Its number, from 1.
        number: usize,
        /// Why.
        source: ClientError,
    },
    /// The network was started without a worker that can cheat.
    #[error("the network has no worker that can cheat; start it with cheaper weights")]
    NobodyCheats,
    /// No forged answer was given.
    #[error("the cheating worker was not given a call in {calls} calls")]
    NeverDrawn {
        /// Calls made.
        calls: usize,
    },
    /// The history cannot be executed again.
    #[error(transparent)]
    Books(#[from] super::books::BooksError),
}

/// What there is to show while the tour runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Scene<'a> {
    /// A new part begins.
    Chapter {
        /// Its title.
        title: &'static str,
        /// What happens in it.
        text: &'static str,
    },
    /// A call is made.
    Asked {
        /// Its number, from 1.
        number: usize,
        /// The question.
        prompt: &'static str,
        /// Whether the answer comes piece by piece.
        streamed: bool,
    },
    /// A piece of a streamed answer.
    Piece(&'a str),
    /// The answer is complete, its receipt is good.
    Answered(&'a Call),
    /// Something happened on the ledger.
    Happened(&'a EventView),
}

/// Shows scenes.
type Show<'a> = &'a mut dyn FnMut(Scene<'_>);

/// What goes on between the parts of a tour.
struct Guide<'a> {
    devnet: &'a Devnet,
    client: Client,
    calls: Vec<Call>,
    events: Vec<EventView>,
    next_height: u64,
}

/// Takes a network that is fresh and may cheat through the tour.
///
/// # Errors
/// [`TourError`] when it cannot go on. A tour that ends, but not as it should, gives a report whose checks say so.
pub async fn tour(devnet: &Devnet, show: Show<'_>) -> Result<Report, TourError> {
    let started = Instant::now();
    let cheater = devnet.cheater().ok_or(TourError::NobodyCheats)?;
    let before = trust(devnet).await?;
    let client = Client::new(&devnet.gateway_url(), devnet.api_key())?
        .with_chain(super::roster::CHAIN_ID)
        .with_gateway(devnet.keys().gateway.address())
        .with_payer(devnet.keys().payer.address())
        .with_front(devnet.model(), devnet.engine().model().front().clone());
    let mut guide = Guide { devnet, client, calls: Vec::new(), events: Vec::new(), next_height: 0 };

    show(Scene::Chapter {
        title: "Paid calls",
        text: "Each answer is computed by one of three workers, paid from a channel, and comes with a receipt that is \
            checked at once: signature, model, price, and the hash of every token that arrived.",
    });
    for i in 0..6 {
        guide.call(i, i % 2 == 0, show).await?;
    }
    guide.settle(show).await?;

    show(Scene::Chapter {
        title: "A cheat: cheaper weights",
        text: "worker-3 now runs weights of fewer bits and sells their answers as the model's. Its receipts look perfect. \
            Several calls come at once, so that everybody gets some.",
    });
    guide.cheat(Cheat::CheaperWeights, show).await?;

    show(Scene::Chapter {
        title: "Another cheat: one altered token",
        text: "worker-3 computes honestly, then changes a single token, with a trace that fits its forged answer.",
    });
    guide.cheat(Cheat::AlteredToken, show).await?;

    show(Scene::Chapter {
        title: "Back to honest work",
        text: "Everybody answers honestly again. The books are closed with the next epoch.",
    });
    cheater.set(Cheat::Honest);
    for i in 6..8 {
        guide.call(i, i % 2 == 0, show).await?;
    }
    guide.settle(show).await?;
    guide.next_epoch(show).await?;
    guide.report(before, started).await
}

impl Guide<'_> {
    /// Makes a call; the client refuses an answer whose receipt is not good in every respect.
    async fn call(&mut self, question: usize, streamed: bool, show: Show<'_>) -> Result<(), TourError> {
        let number = self.calls.len() + 1;
        let prompt = QUESTIONS[question % QUESTIONS.len()];
        show(Scene::Asked { number, prompt, streamed });
        let request = self.request(number, prompt);
        let started = Instant::now();
        let answer =
            if streamed { self.stream(&request, show).await } else { self.client.chat(&request).await };
        let answer = answer.map_err(|source| TourError::Call { number, source })?;
        self.keep(prompt, streamed, started.elapsed(), &answer, show);
        Ok(())
    }

    /// Makes several calls at once: when the trusted workers are busy, the others get their share.
    async fn rush(&mut self, show: Show<'_>) -> Result<(), TourError> {
        let first = self.calls.len() + 1;
        let calls = (first..first + RUSH).map(|number| {
            let prompt = QUESTIONS[number % QUESTIONS.len()];
            let (client, request) = (&self.client, self.request(number, prompt));
            async move {
                let started = Instant::now();
                let answer = patiently(client, &request).await;
                let answer = answer.map_err(|source| TourError::Call { number, source })?;
                Ok::<_, TourError>((number, prompt, started.elapsed(), answer))
            }
        });
        for answered in futures_util::future::join_all(calls).await {
            let (number, prompt, latency, answer) = answered?;
            show(Scene::Asked { number, prompt, streamed: false });
            self.keep(prompt, false, latency, &answer, show);
        }
        Ok(())
    }

    fn request(&self, number: usize, prompt: &str) -> ChatRequest {
        let mut request = ChatRequest::ask(self.devnet.model_name(), prompt);
        request.settings.max_tokens = Some(MAX_TOKENS);
        request.settings.temperature = Some(0.7);
        request.settings.seed = Some(number as u64);
        request
    }

    fn keep(
        &mut self,
        prompt: &'static str,
        streamed: bool,
        latency: Duration,
        answer: &Answer,
        show: Show<'_>,
    ) {
        let receipt = &answer.receipt.body;
        let forged = self.devnet.cheater().map(|cheater| cheater.forged()).unwrap_or_default();
        let call = Call {
            receipt_id: receipt.id(),
            worker: receipt.worker,
            prompt: prompt.to_owned(),
            text: answer.text.clone(),
            streamed,
            prompt_tokens: receipt.prompt_tokens,
            output_tokens: receipt.output_tokens,
            fee: receipt.fee,
            latency_ms: latency.as_millis() as u64,
            forged: forged.iter().find(|(job, _)| *job == receipt.job).map(|(_, cheat)| *cheat),
        };
        show(Scene::Answered(&call));
        self.calls.push(call);
    }

    async fn stream(&self, request: &ChatRequest, show: Show<'_>) -> Result<Answer, ClientError> {
        let mut stream = self.client.stream(request).await?;
        while let Some(event) = stream.next().await? {
            match event {
                StreamEvent::Text(text) => show(Scene::Piece(&text)),
                StreamEvent::Done(answer) => return Ok(*answer),
            }
        }
        Err(ClientError::Incomplete)
    }

    /// Makes calls until the cheating worker has forged enough, then lets the auditors find out. If the draw spared all
    /// forged answers, once more.
    async fn cheat(&mut self, cheat: Cheat, show: Show<'_>) -> Result<(), TourError> {
        let cheater = self.devnet.cheater().ok_or(TourError::NobodyCheats)?.clone();
        cheater.set(cheat);
        let slashed_before = self.slashes();
        let mut made = 0;
        while self.slashes() == slashed_before {
            let enough = cheater.cheated() + FORGED_PER_KIND;
            while cheater.cheated() < enough {
                if made >= MOST_CALLS_PER_KIND {
                    return Err(TourError::NeverDrawn { calls: made });
                }
                self.rush(show).await?;
                made += RUSH;
            }
            self.settle(show).await?;
        }
        cheater.set(Cheat::Honest);
        Ok(())
    }

    fn slashes(&self) -> usize {
        self.events.iter().filter(|view| matches!(view.event, Event::Slashed { .. })).count()
    }

    /// Has every receipt so far posted, audited and settled or thrown out.
    async fn settle(&mut self, show: Show<'_>) -> Result<(), TourError> {
        let started = Instant::now();
        loop {
            for worker in self.devnet.workers() {
                worker.settle_now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.follow(show).await?;
            let batches = self.batches().await?;
            let posted: u64 = batches.iter().map(|batch| u64::from(batch.count)).sum();
            let open = batches
                .iter()
                .any(|batch| !matches!(batch.status, BatchStatus::Settled | BatchStatus::Voided));
            if posted >= self.calls.len() as u64 && !open {
                return self.follow(show).await;
            }
            if started.elapsed() > SETTLE_TIMEOUT {
                let what = "the settlement of all receipts";
                return Err(DevnetError::Timeout { what, waited: SETTLE_TIMEOUT }.into());
            }
        }
    }

    async fn batches(&self) -> Result<Vec<BatchView>, TourError> {
        let mut batches = Vec::new();
        for key in &self.devnet.keys().workers {
            batches.extend(self.devnet.ledger().batches(key.address()).await?);
        }
        Ok(batches)
    }

    /// Waits until the epoch that runs now is closed and paid.
    async fn next_epoch(&mut self, show: Show<'_>) -> Result<(), TourError> {
        let ledger = self.devnet.ledger();
        let epoch = ledger.status().await?.epoch;
        until("the end of the epoch", SETTLE_TIMEOUT, || async {
            Ok((ledger.status().await?.epoch > epoch).then_some(()))
        })
        .await?;
        self.follow(show).await
    }

    /// Reads what has happened since the last time.
    async fn follow(&mut self, show: Show<'_>) -> Result<(), TourError> {
        loop {
            let view = self.devnet.ledger().events(self.next_height, 1_000).await?;
            let done = view.next_height == self.next_height || view.events.is_empty();
            self.next_height = view.next_height;
            for event in view.events {
                show(Scene::Happened(&event));
                self.events.push(event);
            }
            if done {
                return Ok(());
            }
        }
    }

    async fn report(mut self, before: Vec<TrustChange>, started: Instant) -> Result<Report, TourError> {
        let devnet = self.devnet;
        let status = devnet.ledger().status().await?;
        let balances = devnet.ledger().balances().await?;
        let supply = SupplyReport {
            ledger: devnet.ledger().supply().await?,
            sum_of_holdings: account::sum_of_holdings(&balances),
        };
        self.follow(&mut |_| {}).await?;
        let mut trust = trust(devnet).await?;
        for (now, then) in trust.iter_mut().zip(&before) {
            now.before = then.before;
            now.highest = account::highest_trust(&self.events, now).max(then.before);
        }
        let split = Split::of(&self.events);
        let paid = account::sum(self.calls.iter().map(|call| call.fee));
        let left =
            devnet.ledger().channel(devnet.channel()).await?.map_or(Amount::ZERO, |channel| channel.balance);
        let spent = account::locked(&self.events, devnet.channel()).saturating_sub(left);
        let slashes = account::slashes(&self.events, devnet.roster());
        let price = devnet.ledger().model(devnet.model()).await?.map(|model| model.price);
        let mut records: Vec<_> = devnet.auditors().iter().flat_map(|auditor| auditor.records()).collect();
        records.sort_by_key(|record| (record.batch, record.index));
        let mut checks = account::check_books(&supply, &split, spent, paid);
        let cheater = devnet.workers().last().map(crate::worker::Worker::address).unwrap_or_default();
        checks.extend(account::check_slashes(&slashes, cheater, 2));
        checks.push(self.check_calls());
        let model_owner = devnet.keys().model_owner.address();
        Ok(Report {
            chain_id: status.chain_id,
            genesis: status.genesis,
            height: status.height,
            epoch: status.epoch,
            elapsed_ms: started.elapsed().as_millis() as u64,
            model_id: devnet.model(),
            model_name: devnet.model_name().to_owned(),
            price: price.unwrap_or_else(super::parts::price),
            roster: devnet.roster().clone(),
            earnings: account::earnings(&self.events, devnet.roster(), model_owner),
            trust,
            audits: account::audits(&self.events, records),
            slashes,
            refunds: account::refunds(&self.events),
            supply,
            checks,
            calls: self.calls,
        })
    }

    /// At least ten calls, each with a receipt that was good.
    fn check_calls(&self) -> Check {
        let streamed = self.calls.iter().filter(|call| call.streamed).count();
        Check {
            name: "every call came with a good receipt",
            ok: self.calls.len() >= 10 && streamed > 0,
            detail: format!("{} calls, {streamed} streamed", self.calls.len()),
        }
    }
}

/// A call that is made again while no worker is free.
async fn patiently(client: &Client, request: &ChatRequest) -> Result<Answer, ClientError> {
    let mut attempt = 1;
    loop {
        match client.chat(request).await {
            Err(ClientError::Api(fault)) if fault.status == 503 && attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everybody's trust, as "before" and "after" alike.
async fn trust(devnet: &Devnet) -> Result<Vec<TrustChange>, TourError> {
    let mut changes = Vec::new();
    for member in devnet.roster().members() {
        let Some(role @ (Role::Worker | Role::Validator)) = member.role else { continue };
        if let Some(view) = devnet.ledger().trust(member.address, role).await? {
            let (who, address) = (member.name.clone(), member.address);
            let (before, highest, after) = (view.trust, view.trust, view.trust);
            changes.push(TrustChange { who, address, role, before, highest, after });
        }
    }
    Ok(changes)
}
