//! A client of a gateway that checks the receipt of every answer.
//!
//! What is always checked: the worker's signature and the chain; that the receipt is for the canonical request that the
//! gateway returned, and that this request has the sampler settings, stop texts, limits and seed asked for; model and
//! price as listed before the call (or pinned); that the fee is price times tokens; that the hash of the output tokens
//! received is the receipt's. With [`Client::with_front`] also that prompt and text are those tokens, and with
//! [`Client::with_replay`] that the model really says this.

mod answer;
mod check;
mod error;
mod request;
mod stream;
mod wallet;

pub use answer::{Answer, Usage};
pub use error::{ApiFault, CheckError, ClientError};
pub use request::{ChatRequest, CompletionRequest, Settings};
pub use stream::{AnswerStream, Event};
pub use wallet::ChannelWallet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_compute::{Engine, ModelFront};
use dn_core::objects::{Price, Receipt};
use dn_core::{Address, ModelId, ReceiptId, Signed};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use answer::Listed;
use request::Body;

/// The most bytes of a whole answer.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How often a wallet signs what the gateway says is needed: once when it forgot what it had signed, once for the call,
/// once more when other calls run besides.
const WALLET_ATTEMPTS: usize = 3;
/// How long a listed price is believed.
const LIST_AGE: Duration = Duration::from_secs(30);

/// Who pays, as the client proves it.
#[derive(Debug, Clone)]
enum Credential {
    Key(Secret),
    Wallet(Arc<ChannelWallet>),
}

/// Text that is never printed.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What the gateway listed, and when.
type List = (Instant, Vec<Listed>);

/// A client of one gateway. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    credential: Credential,
    models: Arc<Mutex<Option<List>>>,
    chain_id: Option<u64>,
    gateway: Option<Address>,
    payer: Option<Address>,
    max_price: Option<Price>,
    fronts: Vec<(ModelId, Arc<ModelFront>)>,
    engines: Vec<Arc<Engine>>,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct ReceiptAnswer {
    receipt: Signed<Receipt>,
}

impl Client {
    /// A client that pays by API key.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn new(gateway_url: &str, api_key: &str) -> Result<Self, ClientError> {
        Self::with_credential(gateway_url, Credential::Key(Secret(api_key.to_owned())))
    }

    /// A client that signs its own vouchers: the gateway holds no key of the payer's.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn with_wallet(gateway_url: &str, wallet: ChannelWallet) -> Result<Self, ClientError> {
        let (chain_id, payer) = (wallet.chain_id(), wallet.payer());
        let client = Self::with_credential(gateway_url, Credential::Wallet(Arc::new(wallet)))?;
        Ok(Self { chain_id: Some(chain_id), payer, ..client })
    }

    fn with_credential(gateway_url: &str, credential: Credential) -> Result<Self, ClientError> {
        let parsed = reqwest::Url::parse(gateway_url).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.ok_or_else(|| ClientError::Url { url: gateway_url.to_owned() })?;
        let base = url.to_string().trim_end_matches('/').trim_end_matches("/v1").to_owned();
        // Gateways close connections that are idle for ten seconds: never use one that is about to go.
        let idle = Duration::from_secs(5);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(idle)
            .build()?;
        Ok(Self {
            http,
            base,
            credential,
            models: Arc::default(),
            chain_id: None,
            gateway: None,
            payer: None,
            max_price: None,
            fronts: Vec::new(),
            engines: Vec::new(),
        })
    }

    /// Accepts receipts of this chain only. Without it the gateway's word for its chain is taken.
    #[must_use]
    pub const fn with_chain(mut self, chain_id: u64) -> Self {
        self.chain_id = Some(chain_id);
        self
    }

    /// Accepts receipts that name this gateway only.
    #[must_use]
    pub const fn with_gateway(mut self, gateway: Address) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Accepts receipts that charge this payer only.
    #[must_use]
    pub const fn with_payer(mut self, payer: Address) -> Self {
        self.payer = Some(payer);
        self
    }

    /// Makes no call to a model that costs more.
    #[must_use]
    pub const fn with_max_price(mut self, price: Price) -> Self {
        self.max_price = Some(price);
        self
    }

    /// Checks also that prompt and answer of this model are the tokens of the receipt.
    #[must_use]
    pub fn with_front(mut self, model: ModelId, front: Arc<ModelFront>) -> Self {
        self.fronts.push((model, front));
        self
    }

    /// Replays every answer of this engine's model: the strongest check, for about the cost of reading the prompt.
    #[must_use]
    pub fn with_replay(mut self, engine: Arc<Engine>) -> Self {
        let model = engine.model();
        self.fronts.push((model.id(), model.front().clone()));
        self.engines.push(engine);
        self
    }

    /// Names of the models that the gateway serves.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn models(&self) -> Result<Vec<String>, ClientError> {
        Ok(self.listed().await?.into_iter().map(|model| model.id).collect())
    }

    /// A chat answer, checked.
    ///
    /// # Errors
    /// [`ClientError`]; with [`ClientError::Check`] the answer is not what the receipt says or should say.
    pub async fn chat(&self, request: &ChatRequest) -> Result<Answer, ClientError> {
        self.whole("chat/completions", request.body()).await
    }

    /// A plain completion, checked.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub async fn completion(&self, request: &CompletionRequest) -> Result<Answer, ClientError> {
        self.whole("completions", request.body()).await
    }

    /// A chat answer as it comes; the last event is the checked answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stream(&self, request: &ChatRequest) -> Result<AnswerStream, ClientError> {
        let mut body = request.body();
        body.stream();
        let terms = self.terms(&body.model).await?;
        let response = self.post("chat/completions", &body).await?;
        Ok(AnswerStream::new(self.clone(), terms, body, response))
    }

    /// A receipt that this gateway handed out, its signature checked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(&self, id: ReceiptId) -> Result<Signed<Receipt>, ClientError> {
        let response = self.http.get(format!("{}/v1/receipts/{id}", self.base)).send().await?;
        let answer: ReceiptAnswer = serde_json::from_slice(&accepted(response).await?)?;
        let chain_id = self.chain_id.unwrap_or(answer.receipt.body.chain_id);
        answer
            .receipt
            .verify_any_time(chain_id)
            .map_err(crate::receipt::ReceiptError::from)
            .map_err(CheckError::from)?;
        if answer.receipt.body.id() != id {
            let found = answer.receipt.body.id();
            return Err(CheckError::ReceiptId { expected: id, found }.into());
        }
        Ok(answer.receipt)
    }

    async fn whole(&self, path: &str, body: Body) -> Result<Answer, ClientError> {
        let terms = self.terms(&body.model).await?;
        let response = self.post(path, &body).await?;
        let answer: Value = serde_json::from_slice(&read(response).await?)?;
        let answer = answer::Parts::whole(&answer)?;
        self.check(&terms, &body, answer).await
    }

    async fn listed(&self) -> Result<Vec<Listed>, ClientError> {
        let response = self.http.get(format!("{}/v1/models", self.base)).send().await?;
        let list: ModelList = serde_json::from_slice(&accepted(response).await?)?;
        *self.models.lock().await = Some((Instant::now(), list.data.clone()));
        Ok(list.data)
    }

    /// What the gateway said of a model before the call.
    async fn terms(&self, model: &str) -> Result<Listed, ClientError> {
        let find = |models: &[Listed]| models.iter().find(|listed| listed.is(model)).cloned();
        let cached = self
            .models
            .lock()
            .await
            .as_ref()
            .filter(|(at, _)| at.elapsed() < LIST_AGE)
            .and_then(|(_, models)| find(models));
        let listed = match cached {
            Some(listed) => Some(listed),
            None => find(&self.listed().await?),
        };
        let listed = listed.ok_or_else(|| ClientError::UnknownModel { model: model.to_owned() })?;
        let price = listed.dn.price;
        if let Some(max) = self.max_price
            && (price.prompt_token > max.prompt_token || price.output_token > max.output_token)
        {
            return Err(ClientError::PriceTooHigh { max, found: price });
        }
        Ok(listed)
    }

    /// Sends a call. A wallet signs what the gateway says is needed, within its own limit.
    async fn post(&self, path: &str, body: &Body) -> Result<reqwest::Response, ClientError> {
        let url = format!("{}/v1/{path}", self.base);
        let request = || self.http.post(&url).header("x-dn-tokens", "1").json(&body.json);
        match &self.credential {
            Credential::Key(key) => checked_status(request().bearer_auth(&key.0).send().await?).await,
            Credential::Wallet(wallet) => {
                let send = |voucher: String| request().header("x-dn-voucher", voucher).send();
                let mut voucher = wallet.current().await;
                for _ in 0..WALLET_ATTEMPTS {
                    match checked_status(send(voucher).await?).await {
                        Err(ClientError::Api(fault)) if fault.needed.is_some() => {
                            voucher = wallet.sign(fault.needed.unwrap_or_default()).await?;
                        }
                        other => return other,
                    }
                }
                checked_status(send(voucher).await?).await
            }
        }
    }
}

/// The response when its status is a success, else the error it holds.
async fn checked_status(response: reqwest::Response) -> Result<reqwest::Response, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let retry_after_s =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(response).await.unwrap_or_default();
    Err(ClientError::Api(Box::new(ApiFault::parse(status, retry_after_s, &body))))
}

async fn accepted(response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
    read(checked_status(response).await?).await
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::TooLong { limit: MAX_ANSWER_BYTES });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
