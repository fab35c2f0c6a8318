//! A typed client of a ledger node's JSON-RPC.

mod registry;
mod review;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dn_core::encoding::Canonical;
use dn_core::{Address, Amount, BatchId, ChannelId, ModelId, SecretKey, TxId};
use dn_ledger::params::Params;
use dn_ledger::reject::Reject;
use dn_ledger::tx::{Payload, Role, SignedTx, Tx};
use dn_ledger::views::{
    AccountView, AuditView, BalancesView, BatchView, BlockView, ChannelView, EventsView, IdentityView,
    ModelView, StatusView, SupplyView, TrustView, TxOutcome, TxView,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

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
/// Blocks after which a transaction that was never included is void.
const EXPIRY_BLOCKS: u64 = 100;

/// JSON-RPC code of a refused transaction.
const REJECTED: i64 = -32001;

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
    /// The answer is not what the method returns.
    #[error("the ledger's answer to {method} cannot be read: {source}")]
    Answer {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The transaction breaks a rule; it changed nothing.
    #[error("the ledger refuses the transaction: {0}")]
    Rejected(Box<Reject>),
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

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    url: String,
    next_id: AtomicU64,
    chain: OnceCell<(u64, Amount)>,
    /// The next nonce of each sender while its transactions are under way, so that this process never races itself.
    nonces: Mutex<HashMap<Address, u64>>,
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
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

impl LedgerClient {
    /// A client of the node at this URL; connects when it is first used.
    ///
    /// # Errors
    /// [`LedgerError::Url`].
    pub fn new(url: &str) -> Result<Self, LedgerError> {
        let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.ok_or_else(|| LedgerError::Url { url: url.to_owned() })?.to_string();
        // Nodes close connections that are idle for ten seconds: never use one that is about to go.
        let idle = Duration::from_secs(5);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(idle)
            .build();
        let http = http.map_err(|source| LedgerError::Transport { url: url.clone(), source })?;
        let (next_id, chain) = (AtomicU64::new(1), OnceCell::new());
        Ok(Self(Arc::new(Inner { http, url, next_id, chain, nonces: Mutex::default() })))
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
        Ok(self.chain().await?.0)
    }

    async fn chain(&self) -> Result<(u64, Amount), LedgerError> {
        let ask = || async {
            let (status, params) = (self.status().await?, self.params().await?);
            Ok((status.chain_id, params.min_tx_fee))
        };
        self.0.chain.get_or_try_init(ask).await.copied()
    }

    /// Signs and sends a transaction; returns once the block that holds it is durable.
    ///
    /// Nonce, expiry and fee (the chain's minimum) are filled in. When another process uses the same key at the same
    /// time the transaction is signed anew with the next nonce.
    ///
    /// # Errors
    /// [`LedgerError::Rejected`] with the rule it breaks, or why the node could not be asked. After
    /// [`LedgerError::Transport`] the transaction may or may not stand: look before sending it again.
    pub async fn submit(&self, key: &SecretKey, payload: Payload) -> Result<TxOutcome, LedgerError> {
        let (chain_id, fee) = self.chain().await?;
        let sender = key.address();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let expires_height = self.status().await?.height + EXPIRY_BLOCKS;
            let nonce = self.take_nonce(sender).await?;
            let tx = Tx { chain_id, sender, nonce, expires_height, fee, payload: payload.clone() };
            let result = self.send(&tx.sign(key)).await;
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
                other => return other,
            }
        }
    }

    async fn take_nonce(&self, sender: Address) -> Result<u64, LedgerError> {
        let mut nonces = self.0.nonces.lock().await;
        let pending = self.account(sender).await?.pending_nonce;
        let nonce = nonces.get(&sender).map_or(pending, |next| pending.max(*next));
        nonces.insert(sender, nonce + 1);
        Ok(nonce)
    }

    /// Sends a signed transaction; the same one sent twice is applied once and answered the same.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn send(&self, tx: &SignedTx) -> Result<TxOutcome, LedgerError> {
        let hex: String = tx.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.call("dn_sendTransaction", json!({ "tx": format!("0x{hex}") }), SUBMIT_TIMEOUT).await
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
            Some(RpcFault { code, message, .. }) => Err(LedgerError::Rpc { method, code, message }),
        }
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

    /// The chain's parameters.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn params(&self) -> Result<Params, LedgerError> {
        self.query("dn_params", json!({})).await
    }

    /// An account; one that never received anything is empty.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn account(&self, address: Address) -> Result<AccountView, LedgerError> {
        self.query("dn_account", json!({ "address": address })).await
    }

    /// An identity in a role.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn identity(&self, address: Address, role: Role) -> Result<Option<IdentityView>, LedgerError> {
        self.query("dn_identity", json!({ "address": address, "role": role })).await
    }

    /// Everybody in a role.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn identities(&self, role: Role) -> Result<Vec<IdentityView>, LedgerError> {
        self.query("dn_identities", json!({ "role": role })).await
    }

    /// A payment channel.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, LedgerError> {
        self.query("dn_channel", json!({ "id": id })).await
    }

    /// A published model.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model(&self, id: ModelId) -> Result<Option<ModelView>, LedgerError> {
        self.query("dn_model", json!({ "id": id })).await
    }

    /// All published models.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn models(&self) -> Result<Vec<ModelView>, LedgerError> {
        self.query("dn_models", json!({})).await
    }

    /// A batch with its audits.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batch(&self, id: BatchId) -> Result<Option<BatchView>, LedgerError> {
        self.query("dn_batch", json!({ "id": id })).await
    }

    /// A worker's batches.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn batches(&self, worker: Address) -> Result<Vec<BatchView>, LedgerError> {
        self.query("dn_batches", json!({ "worker": worker })).await
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
        self.query("dn_audits", params).await
    }

    /// How far an identity is trusted.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn trust(&self, address: Address, role: Role) -> Result<Option<TrustView>, LedgerError> {
        self.query("dn_trust", json!({ "address": address, "role": role })).await
    }

    /// The supply equation.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn supply(&self) -> Result<SupplyView, LedgerError> {
        self.query("dn_supply", json!({})).await
    }

    /// Every holding at the tip.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn balances(&self) -> Result<BalancesView, LedgerError> {
        self.query("dn_balances", json!({})).await
    }

    /// A block.
    ///
    /// # Errors
    /// [`LedgerError`].
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

    /// Events of whole blocks from a height on.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn events(&self, from_height: u64, limit: u32) -> Result<EventsView, LedgerError> {
        self.query("dn_events", json!({ "from_height": from_height, "limit": limit })).await
    }
}
