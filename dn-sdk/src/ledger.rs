//! A typed client of a ledger node's JSON-RPC.
//!
//! What it answers about one thing (an account, identity, channel, model, family, batch, domain, job, session, proposal, the parameters)
//! was proven: the client follows the chain's headers as a light client and refuses what a node says without proof. Lists, events,
//! blocks and sums are as the node gives them.

mod agents;
mod events;
mod governance;
mod pages;
mod publish;
mod registry;
mod review;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dn_core::encoding::Canonical;
use dn_core::hexadecimal::to_hex;
use dn_core::{Address, Amount, BatchId, ChannelId, ModelId, SecretKey, TxId};
use dn_ledger::block::Header;
use dn_ledger::light::{
    InclusionView, LightBlock, LightClient, LightError, ProofView, Proven, Subject, SubjectError,
    TrustOptions, TrustedHash,
};
use dn_ledger::params::Params;
use dn_ledger::query;
use dn_ledger::reject::Reject;
use dn_ledger::state::{PARAMS, WORKER_BATCHES, WORKER_SEQUENCES};
use dn_ledger::tx::{Payload, Role, SignedTx, Tx};
use dn_ledger::views::{
    AccountView, AuditView, BatchView, BlockView, ChannelView, EventsView, IdentityView, ModelView,
    PoolRefusal, Pruned, StatusView, SupplyView, TrustView, TxOutcome, TxView,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::clock::now_ms;
pub use events::{EventFilter, EventStream, EventsFrom};
use pages::Entries;
pub use pages::MAX_ENTRIES;
pub use publish::model_salt;

/// The most bytes of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a transaction may take to become durable.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(60);
/// How many times a transaction is signed anew because somebody else used its nonce.
const NONCE_ATTEMPTS: usize = 8;
/// Pause before that, so that earlier transactions arrive first.
const NONCE_PAUSE: Duration = Duration::from_millis(50);
/// How long to wait before it is asked again what became of a transaction.
const TOLD_PAUSE: Duration = Duration::from_secs(1);
/// Blocks after which a transaction that was never included is void.
const EXPIRY_BLOCKS: u64 = 100;

/// JSON-RPC code of a refused transaction.
const REJECTED: i64 = -32001;
/// No room, or not in time; with a reason as `data`: taken in, and not waited for.
const BUSY: i64 = -32002;
/// JSON-RPC code of a transaction that may not wait for a block.
const NOT_POOLED: i64 = -32004;
/// JSON-RPC code of a height that the node holds nothing of any more.
const PRUNED: i64 = -32003;

/// What is at the bottom of an error: of a connection that failed, the reason rather than that it failed.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

/// Why the ledger could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The URL is not one.
    #[error("`{url}` is not an http:// or https:// URL")]
    Url {
        /// The text.
        url: String,
    },
    /// The node cannot be reached, or broke off.
    #[error("cannot reach the ledger at {url}: {}", root(source))]
    Transport {
        /// Where it was expected.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The answer is longer than anything a node sends.
    #[error("the ledger's answer to {method} is longer than {limit} bytes")]
    TooLong {
        /// What was asked.
        method: &'static str,
        /// The most that is read.
        limit: usize,
    },
    /// A list goes on and on.
    #[error("the ledger's answer to {method} has more than {limit} entries, or no end")]
    TooMany {
        /// What was asked.
        method: &'static str,
        /// The most that are read.
        limit: usize,
    },
    /// New blocks came between the pages of an answer that has to be of one block, time and again.
    #[error("the ledger moves on before {method} is read to its end")]
    Moving {
        /// What was asked.
        method: &'static str,
    },
    /// The answer is not what the method returns.
    #[error("the ledger's answer to {method} cannot be read: {source}")]
    Answer {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The node says something that it cannot prove: it lies, or is damaged, or follows another chain.
    #[error("the ledger at {url} is not to be believed: {source}")]
    Untrue {
        /// Where the node is.
        url: String,
        /// What does not hold.
        source: Box<SubjectError>,
    },
    /// What is to be trusted is no block of any chain; that says nothing about the node.
    #[error(transparent)]
    Trusted(Box<LightError>),
    /// The node has no header that is needed to check what it says.
    #[error("the ledger at {url} does not give header {height}, which is needed to check what it says")]
    NoHeader {
        /// Where the node is.
        url: String,
        /// The header.
        height: u64,
    },
    /// The node answers from before what it has shown already.
    #[error("the ledger at {url} answers from height {found}; this client knew height {known} when it asked")]
    Behind {
        /// Where the node is.
        url: String,
        /// The height that was verified before the question.
        known: u64,
        /// The answer's.
        found: u64,
    },
    /// The node holds nothing of the height any more.
    #[error(transparent)]
    Pruned(Pruned),
    /// The node gives no stream of events.
    #[error("the ledger at {url} gives no stream of events (status {status}): {message}")]
    NoStream {
        /// Where the node is.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The node's words.
        message: String,
    },
    /// The node accepts a connection and says nothing.
    #[error("the ledger at {url} says nothing for {} s", wait.as_secs())]
    Silent {
        /// Where the node is.
        url: String,
        /// How long it was waited for.
        wait: Duration,
    },
    /// The transaction breaks a rule; it changed nothing.
    #[error("the ledger refuses the transaction: {0}")]
    Rejected(Box<Reject>),
    /// No rule refuses the transaction, but the node does not let it wait for a block.
    #[error("the ledger does not take the transaction in: {0}")]
    NotPooled(PoolRefusal),
    /// The node has taken the transaction in, and did not wait for its block: too many wait for theirs. It may still come.
    #[error("the ledger has taken the transaction in and tells nobody yet what became of it: {message}")]
    NotWaited {
        /// Why.
        message: String,
    },
    /// The node answers with an error.
    #[error("the ledger answers {method} with error {code}: {message}")]
    Rpc {
        /// What was asked.
        method: &'static str,
        /// The JSON-RPC code.
        code: i64,
        /// The node's words.
        message: String,
    },
}

impl LedgerError {
    /// The rule that a transaction broke, if that is the reason.
    pub fn reject(&self) -> Option<&Reject> {
        match self {
            Self::Rejected(reject) => Some(reject),
            _ => None,
        }
    }
}

/// How long a node is waited for that answers, but gets nowhere.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// For all headers together that an answer needs.
    follow: Duration,
    /// For the next block of a chain whose blocks are waited for.
    standstill: Duration,
}

/// What transactions need to know of the chain. Its id stays; governance may change the rest when an epoch ends.
#[derive(Debug, Clone, Copy)]
struct Terms {
    chain_id: u64,
    min_tx_fee: Amount,
    /// The epoch in which it was read.
    epoch: u64,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    url: String,
    next_id: AtomicU64,
    /// None until it is needed.
    terms: Mutex<Option<Terms>>,
    /// The next nonce of each sender while its transactions are under way, so that this process never races itself.
    nonces: Mutex<HashMap<Address, u64>>,
    trusted: Option<TrustedHash>,
    /// None until the first answer.
    light: Mutex<Option<LightClient>>,
    /// Models as they were proven last, so that a list that says the same needs no proof again.
    models: Mutex<HashMap<ModelId, ModelView>>,
    waits: Waits,
}

/// A client of one ledger node. Clones share connections.
#[derive(Debug, Clone)]
pub struct LedgerClient(Arc<Inner>);

#[derive(Deserialize)]
struct RpcAnswer {
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<RpcFault>,
}

#[derive(Deserialize)]
struct RpcFault {
    #[serde(default)]
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

impl RpcFault {
    /// What was asked for that the node holds no more, if that is the fault.
    fn pruned(&self) -> Option<Pruned> {
        (self.code == PRUNED).then(|| Pruned::deserialize(&self.data).ok()).flatten()
    }

    /// Why a transaction may not wait, if that is the fault.
    fn not_pooled(&self) -> Option<PoolRefusal> {
        (self.code == NOT_POOLED).then(|| PoolRefusal::deserialize(&self.data).ok()).flatten()
    }

    /// Whether the fault is that nobody may wait for a transaction that was taken in.
    fn not_waited(&self) -> bool {
        self.code == BUSY && self.data.get("reason").is_some()
    }
}

impl LedgerClient {
    /// A client of the node at this URL; connects when it is first used. The first block that it sees it trusts, and from there on
    /// nothing that does not follow from it: where that is not enough, [`trusting`](Self::trusting) names the block.
    ///
    /// # Errors
    /// [`LedgerError::Url`].
    pub fn new(url: &str) -> Result<Self, LedgerError> {
        Self::start(url, None)
    }

    /// A client that trusts one block, such as the chain's first, and nothing that does not follow from it.
    ///
    /// # Errors
    /// [`LedgerError::Url`].
    pub fn trusting(url: &str, trusted: TrustedHash) -> Result<Self, LedgerError> {
        Self::start(url, Some(trusted))
    }

    fn start(url: &str, trusted: Option<TrustedHash>) -> Result<Self, LedgerError> {
        let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.ok_or_else(|| LedgerError::Url { url: url.to_owned() })?.to_string();
        // Nodes close connections that are idle for ten seconds: never use one that is about to go.
        let idle = Duration::from_secs(5);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(idle)
            .build();
        let http = http.map_err(|source| LedgerError::Transport { url: url.clone(), source })?;
        let (next_id, terms) = (AtomicU64::new(1), Mutex::default());
        let (nonces, light, models) = (Mutex::default(), Mutex::default(), Mutex::default());
        let waits = Waits { follow: QUERY_TIMEOUT, standstill: publish::STANDSTILL };
        Ok(Self(Arc::new(Inner { http, url, next_id, terms, nonces, trusted, light, models, waits })))
    }

    /// Where the node is.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The chain's id; asked for once.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn chain_id(&self) -> Result<u64, LedgerError> {
        Ok(self.terms(None).await?.chain_id)
    }

    /// What a transaction pays for each KiB, as this client last read it.
    pub(crate) async fn min_tx_fee(&self) -> Result<Amount, LedgerError> {
        Ok(self.terms(None).await?.min_tx_fee)
    }

    /// The terms, proven; read again when they are of another epoch than the one that is asked about.
    async fn terms(&self, epoch: Option<u64>) -> Result<Terms, LedgerError> {
        let known = *self.0.terms.lock().await;
        if let Some(terms) = known.filter(|terms| epoch.is_none_or(|epoch| epoch == terms.epoch)) {
            return Ok(terms);
        }
        let params = self.params().await?;
        let chain_id = self.verified_header().await.map_or(0, |header| header.chain_id);
        let epoch = epoch.or(known.map(|terms| terms.epoch)).unwrap_or_default();
        let terms = Terms { chain_id, min_tx_fee: params.min_tx_fee, epoch };
        *self.0.terms.lock().await = Some(terms);
        Ok(terms)
    }

    /// Signs and sends a transaction; returns once the block that holds it is durable.
    ///
    /// Nonce, expiry and fee (the chain's minimum for its size) are filled in. When another process uses the same key at the same
    /// time the transaction is signed anew with the next nonce; when the minimum has changed, with the new fee.
    ///
    /// # Errors
    /// [`LedgerError::Rejected`] with the rule it breaks, [`LedgerError::NotPooled`], or why the node could not be asked. After
    /// [`LedgerError::Transport`] or [`LedgerError::NotWaited`] the transaction may or may not stand: look before sending it again.
    pub async fn submit(&self, key: &SecretKey, payload: Payload) -> Result<TxOutcome, LedgerError> {
        Ok(self.submit_signed(key, payload).await?.1)
    }

    /// [`submit`](Self::submit), with the transaction as it was signed last, for [`prove_tx`](Self::prove_tx).
    ///
    /// # Errors
    /// As there.
    pub async fn submit_signed(
        &self,
        key: &SecretKey,
        payload: Payload,
    ) -> Result<(SignedTx, TxOutcome), LedgerError> {
        let sender = key.address();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let status = self.status().await?;
            let expires_height = status.height.saturating_add(EXPIRY_BLOCKS);
            let Terms { chain_id, min_tx_fee, .. } = self.terms(Some(status.epoch)).await?;
            let nonce = self.take_nonce(sender).await?;
            let (fee, payload) = (Amount::ZERO, payload.clone());
            let mut tx = Tx { chain_id, sender, nonce, expires_height, fee, payload };
            tx.fee = tx.least_fee(min_tx_fee);
            let tx = tx.sign(key);
            let result = self.send_until_told(&tx).await;
            if result.is_err() {
                // The number was not used, or nobody knows: the node is asked again.
                self.0.nonces.lock().await.remove(&sender);
            }
            match result {
                Err(LedgerError::Rejected(reject))
                    if attempt < NONCE_ATTEMPTS && matches!(*reject, Reject::Nonce { .. }) =>
                {
                    tokio::time::sleep(NONCE_PAUSE).await;
                }
                Err(LedgerError::NotPooled(
                    PoolRefusal::TooFarAhead { .. } | PoolRefusal::Underpriced { .. },
                )) if attempt < NONCE_ATTEMPTS => {
                    tokio::time::sleep(NONCE_PAUSE).await;
                }
                Err(LedgerError::Rejected(reject)) if matches!(*reject, Reject::FeeTooLow { .. }) => {
                    // Governance has raised it in this epoch, or the node makes it up: what is proven counts.
                    *self.0.terms.lock().await = None;
                    let proven = self.terms(Some(status.epoch)).await?.min_tx_fee;
                    if proven <= min_tx_fee || attempt >= NONCE_ATTEMPTS {
                        return Err(LedgerError::Rejected(reject));
                    }
                }
                other => return other.map(|outcome| (tx, outcome)),
            }
        }
    }

    /// Sends the same bytes again while the node has them and does not wait for them: another number would be another transaction.
    async fn send_until_told(&self, tx: &SignedTx) -> Result<TxOutcome, LedgerError> {
        let began = tokio::time::Instant::now();
        loop {
            match self.send(tx).await {
                Err(LedgerError::NotWaited { .. }) if began.elapsed() < SUBMIT_TIMEOUT => {
                    tokio::time::sleep(TOLD_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn take_nonce(&self, sender: Address) -> Result<u64, LedgerError> {
        let mut nonces = self.0.nonces.lock().await;
        let params = json!({ "address": sender });
        let pending = self.query::<AccountView>("dn_account", params).await?.pending_nonce;
        let nonce = nonces.get(&sender).map_or(pending, |next| pending.max(*next));
        nonces.insert(sender, nonce + 1);
        Ok(nonce)
    }

    /// Sends a signed transaction; the same one sent twice is applied once and answered the same.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn send(&self, tx: &SignedTx) -> Result<TxOutcome, LedgerError> {
        self.call("dn_sendTransaction", json!({ "tx": to_hex(&tx.to_bytes()) }), SUBMIT_TIMEOUT).await
    }

    async fn query<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, LedgerError> {
        self.call(method, params, QUERY_TIMEOUT).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<T, LedgerError> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let transport = |source| LedgerError::Transport { url: self.0.url.clone(), source };
        let sent = self.0.http.post(&self.0.url).timeout(timeout).json(&body).send().await;
        let mut answer = sent.map_err(transport)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(LedgerError::TooLong { method, limit: MAX_ANSWER_BYTES });
            }
            bytes.extend_from_slice(&chunk);
        }
        let unreadable = |source| LedgerError::Answer { method, source };
        let answer: RpcAnswer = serde_json::from_slice(&bytes).map_err(unreadable)?;
        match answer.error {
            None => serde_json::from_value(answer.result.unwrap_or(Value::Null)).map_err(unreadable),
            Some(fault) if fault.code == REJECTED => match serde_json::from_value(fault.data) {
                Ok(reject) => Err(LedgerError::Rejected(Box::new(reject))),
                // A rule that this version does not know.
                Err(_) => Err(LedgerError::Rpc { method, code: fault.code, message: fault.message }),
            },
            Some(fault) if fault.not_waited() => Err(LedgerError::NotWaited { message: fault.message }),
            Some(fault) => Err(match (fault.pruned(), fault.not_pooled()) {
                (Some(pruned), _) => LedgerError::Pruned(pruned),
                (None, Some(refusal)) => LedgerError::NotPooled(refusal),
                (None, None) => LedgerError::Rpc { method, code: fault.code, message: fault.message },
            }),
        }
    }
}

/// What makes answers true.
impl LedgerClient {
    /// The newest header that was verified; none before the first answer.
    pub async fn verified_header(&self) -> Option<Header> {
        self.0.light.lock().await.as_ref().map(|light| light.header().clone())
    }

    async fn proven(&self, subject: Subject) -> Result<Proven, LedgerError> {
        let known = self.verified_header().await.map_or(0, |header| header.height);
        let answer: ProofView = self.query("dn_prove", json!({ "subject": subject })).await?;
        self.follow(&answer.block).await?;
        // True once, but what was asked is what is true now.
        let found = answer.block.header.height;
        if found < known {
            return Err(LedgerError::Behind { url: self.0.url.clone(), known, found });
        }
        Proven::open(&answer.block.header, &subject, &answer).map_err(|source| self.untrue(source))
    }

    /// The height and place at which a transaction stands in the chain, proven; none where the node knows no such transaction. What
    /// it did is the node's word. The block must not be much older than the newest that this client has seen.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn prove_tx(&self, tx: &SignedTx) -> Result<Option<(u64, u64)>, LedgerError> {
        let view: Option<InclusionView> = self.query("dn_txProof", json!({ "id": tx.id() })).await?;
        let Some(view) = view else { return Ok(None) };
        self.follow(&view.block).await?;
        view.verify(tx).map_err(|error| self.untrue(error.into()))?;
        Ok(Some((view.block.header.height, view.proof.index)))
    }

    /// Accepts the block of an answer. Signatures are looked at only when it is newer than the last one.
    async fn follow(&self, block: &LightBlock) -> Result<(), LedgerError> {
        // Others wait for the headers that this asks for.
        let followed = tokio::time::timeout(self.0.waits.follow, self.follow_to(block)).await;
        let late = || LedgerError::NoHeader { url: self.0.url.clone(), height: block.header.height };
        followed.map_err(|_| late())?
    }

    async fn follow_to(&self, block: &LightBlock) -> Result<(), LedgerError> {
        let mut light = self.0.light.lock().await;
        let client = match light.as_mut() {
            Some(client) => client,
            None => {
                let first = self.first(block).await?;
                light.insert(first)
            }
        };
        let mut ahead = vec![block.clone()];
        while let Some(block) = ahead.last() {
            match client.update(block, now_ms()) {
                // A chain that stood still: what was seen first is too old, and was trusted for being seen first only.
                Err(LightError::Expired { .. }) if self.0.trusted.is_none() && !client.has_advanced() => {
                    *client = self.first(block).await?;
                    ahead.pop();
                }
                Ok(()) => {
                    ahead.pop();
                }
                // Too much of the power changed hands in between: a header half way leads there.
                Err(LightError::Trust { height, trusted, .. }) => {
                    ahead.push(self.light_block(trusted + (height - trusted) / 2).await?);
                }
                // The answer to a question asked later came first: the headers up to it lead back.
                Err(LightError::Old { found, .. }) if client.reaches(found) => {
                    ahead.push(self.light_block(found + 1).await?);
                }
                Err(error) => return Err(self.untrue(error.into())),
            }
        }
        Ok(())
    }

    async fn first(&self, block: &LightBlock) -> Result<LightClient, LedgerError> {
        let seen = TrustedHash { height: block.header.height, hash: block.header.hash() };
        let (trusted, start) = match self.0.trusted {
            Some(trusted) => (trusted, self.light_block(trusted.height).await?),
            None => (seen, block.clone()),
        };
        LightClient::from_trusted(trusted, &start, TrustOptions::default()).map_err(|error| match error {
            LightError::GenesisHash { .. } => LedgerError::Trusted(Box::new(error)),
            error => self.untrue(error.into()),
        })
    }

    async fn light_block(&self, height: u64) -> Result<LightBlock, LedgerError> {
        // Another height would lead nowhere, for ever.
        let block = self.header(height).await?.filter(|block| block.header.height == height);
        block.ok_or_else(|| LedgerError::NoHeader { url: self.0.url.clone(), height })
    }

    fn untrue(&self, source: SubjectError) -> LedgerError {
        LedgerError::Untrue { url: self.0.url.clone(), source: Box::new(source) }
    }
}

/// Queries. Each fails with [`LedgerError`]; `None` means that there is no such thing.
impl LedgerClient {
    /// Where the chain stands.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn status(&self) -> Result<StatusView, LedgerError> {
        self.query("dn_status", json!({})).await
    }

    /// The chain's parameters, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn params(&self) -> Result<Params, LedgerError> {
        let subject = Subject::Params {};
        let proven = self.proven(subject).await?;
        let params = PARAMS.get(proven.state(), &0);
        params.ok_or_else(|| self.untrue(SubjectError::Missing { table: "params" }))
    }

    /// An account, proven; one that never received anything is empty. Transactions that wait are not counted.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn account(&self, address: Address) -> Result<AccountView, LedgerError> {
        let proven = self.proven(Subject::Account { address }).await?;
        Ok(query::account(proven.state(), address))
    }

    /// An identity in a role, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn identity(&self, address: Address, role: Role) -> Result<Option<IdentityView>, LedgerError> {
        let proven = self.proven(Subject::Identity { address, role }).await?;
        Ok(query::identity(proven.state(), role, address))
    }

    /// Everybody in a role.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn identities(&self, role: Role) -> Result<Vec<IdentityView>, LedgerError> {
        self.list("dn_identities", json!({ "role": role }), Entries::Small).await
    }

    /// A payment channel, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, LedgerError> {
        let proven = self.proven(Subject::Channel { id }).await?;
        Ok(query::channel(proven.state(), id))
    }

    /// A published model, proven; its list of workers may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model(&self, id: ModelId) -> Result<Option<ModelView>, LedgerError> {
        let proven = self.proven(Subject::Model { id }).await?;
        Ok(query::model(proven.state(), id))
    }

    /// All published models, each proven when it is new or has changed; the list may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn models(&self) -> Result<Vec<ModelView>, LedgerError> {
        let listed: Vec<ModelView> = self.list("dn_models", json!({}), Entries::Large).await?;
        let mut models = Vec::with_capacity(listed.len());
        for view in listed {
            if self.0.models.lock().await.get(&view.id) == Some(&view) {
                models.push(view);
            } else if let Some(view) = self.model(view.id).await? {
                self.0.models.lock().await.insert(view.id, view.clone());
                models.push(view);
            }
        }
        Ok(models)
    }

    /// A batch with its audits, proven; the list of audits may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batch(&self, id: BatchId) -> Result<Option<BatchView>, LedgerError> {
        let proven = self.proven(Subject::Batch { id }).await?;
        Ok(query::batch(proven.state(), id))
    }

    /// The sequence of a worker's next batch, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batch_sequence(&self, worker: Address) -> Result<u64, LedgerError> {
        let proven = self.proven(Subject::BatchSequence { worker }).await?;
        Ok(WORKER_SEQUENCES.get_or_default(proven.state(), &worker))
    }

    /// The batch that took a sequence of a worker, proven; it stays so for ever. None while no batch has.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batch_at(&self, worker: Address, sequence: u64) -> Result<Option<BatchId>, LedgerError> {
        let proven = self.proven(Subject::BatchAt { worker, sequence }).await?;
        Ok(WORKER_BATCHES.get(proven.state(), &(worker, sequence)))
    }

    /// A worker's batches, the newest first, as the node lists them.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batches(&self, worker: Address) -> Result<Vec<BatchView>, LedgerError> {
        self.list("dn_batches", json!({ "worker": worker }), Entries::Large).await
    }

    /// Audit tasks: of one auditor or all, open ones or all.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn audits(&self, auditor: Option<Address>, open: bool) -> Result<Vec<AuditView>, LedgerError> {
        let params = match auditor {
            Some(auditor) => json!({ "auditor": auditor, "open": open }),
            None => json!({ "open": open }),
        };
        self.list("dn_audits", params, Entries::Small).await
    }

    /// How far an identity is trusted, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn trust(&self, address: Address, role: Role) -> Result<Option<TrustView>, LedgerError> {
        let proven = self.proven(Subject::Identity { address, role }).await?;
        Ok(query::trust(proven.state(), role, address))
    }

    /// The supply equation.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn supply(&self) -> Result<SupplyView, LedgerError> {
        self.query("dn_supply", json!({})).await
    }

    /// A block.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Pruned`] when the node holds it no more.
    pub async fn block(&self, height: u64) -> Result<Option<BlockView>, LedgerError> {
        self.query("dn_block", json!({ "height": height })).await
    }

    /// A transaction that stands.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn tx(&self, id: TxId) -> Result<Option<TxView>, LedgerError> {
        self.query("dn_tx", json!({ "id": id })).await
    }

    /// Events of whole blocks from a height on; from the first block that the node holds for 0.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Pruned`] when the node holds the height no more.
    pub async fn events(&self, from_height: u64, limit: u32) -> Result<EventsView, LedgerError> {
        self.query("dn_events", json!({ "from_height": from_height, "limit": limit })).await
    }
}

#[cfg(test)]
mod tests;
