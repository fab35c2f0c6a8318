//! What is asked for.

use dn_compute::{ChatMessage, Role};
use dn_core::objects::Grammar;
use serde_json::{Map, Value, json};

/// Sampler settings and limits; what is not set is the gateway's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Most output tokens.
    pub max_tokens: Option<u32>,
    /// 0 is greedy; 1 is the default.
    pub temperature: Option<f64>,
    /// Smallest set of best tokens with at least this probability.
    pub top_p: Option<f64>,
    /// Only so many best tokens.
    pub top_k: Option<u32>,
    /// Only tokens with at least this fraction of the best one's probability.
    pub min_p: Option<f64>,
    /// Divides or multiplies the logits of tokens that were seen, so that they become less likely; 1 is none.
    pub repetition_penalty: Option<f64>,
    /// Taken from the logit of a token that was generated; -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Taken from the logit of a token for each time that it was generated; -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// The penalties see only so many of the latest tokens; all of them when it is 0.
    pub penalty_window: Option<u32>,
    /// Added to tokens' logits; -100 to 100.
    pub logit_bias: Vec<(u32, f64)>,
    /// Tokens that are never chosen.
    pub banned_tokens: Vec<u32>,
    /// Show the log-probability of each token and of so many alternatives.
    pub logprobs: Option<u8>,
    /// What the answer has to be.
    pub grammar: Grammar,
    /// Equal seeds give equal answers.
    pub seed: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// A chat.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name or `0x…` id.
    pub model: String,
    /// The messages so far.
    pub messages: Vec<ChatMessage>,
    /// Settings.
    pub settings: Settings,
}

/// A text to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model's name or `0x…` id.
    pub model: String,
    /// The text.
    pub prompt: String,
    /// Settings.
    pub settings: Settings,
}

impl ChatRequest {
    /// One user message with default settings.
    pub fn ask(model: &str, content: &str) -> Self {
        let message = ChatMessage { role: Role::User, content: content.to_owned() };
        Self { model: model.to_owned(), messages: vec![message], settings: Settings::default() }
    }

    pub(super) fn body(&self) -> Body {
        let prompt = Sent::Chat(self.messages.clone());
        Body::new(&self.model, ("messages", json!(self.messages)), prompt, &self.settings)
    }
}

impl CompletionRequest {
    /// A text with default settings.
    pub fn continue_text(model: &str, prompt: &str) -> Self {
        Self { model: model.to_owned(), prompt: prompt.to_owned(), settings: Settings::default() }
    }

    pub(super) fn body(&self) -> Body {
        let prompt = Sent::Text(self.prompt.clone());
        Body::new(&self.model, ("prompt", json!(self.prompt)), prompt, &self.settings)
    }
}

/// The prompt as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sent {
    Chat(Vec<ChatMessage>),
    Text(String),
}

/// A request body and what the answer is checked against.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Body {
    pub(super) model: String,
    pub(super) prompt: Sent,
    pub(super) settings: Settings,
    pub(super) json: Value,
}

impl Body {
    fn new(model: &str, prompt: (&str, Value), sent: Sent, settings: &Settings) -> Self {
        let mut json = Map::new();
        json.insert("model".into(), json!(model));
        let prompt_is_chat = matches!(sent, Sent::Chat(_));
        json.insert(prompt.0.into(), prompt.1);
        let bias: Map<String, Value> =
            settings.logit_bias.iter().map(|(token, bias)| (token.to_string(), json!(bias))).collect();
        let optional = [
            ("max_tokens", settings.max_tokens.map(|n| json!(n))),
            ("temperature", settings.temperature.map(|n| json!(n))),
            ("top_p", settings.top_p.map(|n| json!(n))),
            ("top_k", settings.top_k.map(|n| json!(n))),
            ("min_p", settings.min_p.map(|n| json!(n))),
            ("repetition_penalty", settings.repetition_penalty.map(|n| json!(n))),
            ("presence_penalty", settings.presence_penalty.map(|n| json!(n))),
            ("frequency_penalty", settings.frequency_penalty.map(|n| json!(n))),
            ("penalty_window", settings.penalty_window.map(|n| json!(n))),
            ("logit_bias", (!bias.is_empty()).then_some(Value::Object(bias))),
            ("banned_tokens", (!settings.banned_tokens.is_empty()).then(|| json!(settings.banned_tokens))),
            // Seeds are signed in the OpenAI API.
            ("seed", settings.seed.map(|n| json!(n.cast_signed()))),
            ("stop", (!settings.stop.is_empty()).then(|| json!(settings.stop))),
        ];
        let shown = settings.logprobs;
        let shown = match prompt_is_chat {
            true => [("logprobs", shown.map(|_| json!(true))), ("top_logprobs", shown.map(|n| json!(n)))],
            false => [("logprobs", shown.map(|n| json!(n))), ("top_logprobs", None)],
        };
        let grammar = match &settings.grammar {
            Grammar::None => None,
            Grammar::JsonObject => Some(("response_format", json!({ "type": "json_object" }))),
            Grammar::JsonSchema { schema } => Some(("guided_json", json!(schema))),
            Grammar::Regex { pattern } => Some(("guided_regex", json!(pattern))),
            Grammar::Lark { grammar } => Some(("guided_grammar", json!(grammar))),
        };
        let grammar = grammar.map(|(name, value)| (name, Some(value)));
        for (name, value) in optional.into_iter().chain(shown).chain(grammar) {
            if let Some(value) = value {
                json.insert(name.into(), value);
            }
        }
        let (model, settings) = (model.to_owned(), settings.clone());
        Self { model, prompt: sent, settings, json: Value::Object(json) }
    }

    /// Asks for a stream with usage.
    pub(super) fn stream(&mut self) {
        self.json["stream"] = json!(true);
        self.json["stream_options"] = json!({ "include_usage": true });
    }
}
