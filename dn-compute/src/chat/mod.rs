//! Chat templates: from messages to prompt tokens.
//!
//! # Control tokens
//! The template's own markers (`<|user|>` and the like) become control tokens; the same characters in a message
//! never do. Before rendering, a reserved character goes into each message wherever the message could complete a
//! control token's text, inside it or over its edges. The rendered text is split at the control tokens that are still
//! whole; the rest is encoded as plain text, the reserved character taken out again. Control tokens of a single character
//! are never read in a template: nothing could be put inside them.
//!
//! # Limits
//! Template, messages, rendered text and instructions are bounded; templates reach no files, clock or environment.
//! So is everything that one rendering builds, whether it is printed or not: 256 MiB of texts and lists together, made by
//! operators, filters, functions, methods, arguments, blocks and macros. Lists and maps are at most 64 deep in each other. Time is bounded by
//! the number of instructions and by what they read: 1 GiB of texts and values together, each as often as it is searched,
//! compared, counted or walked through.

mod bounds;
mod operators;
mod reads;
mod shield;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use dn_core::{Hash32, blake3_256};
use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

use crate::tokenizer::special::Matcher;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Longest template, in bytes.
const MAX_TEMPLATE_BYTES: usize = 256 * 1024;
/// Most messages of a chat.
const MAX_MESSAGES: usize = 4096;
/// Longest rendered chat, in bytes.
const MAX_RENDERED_BYTES: usize = 16 * 1024 * 1024;
/// Template instructions for any chat, and for each message.
const FUEL: u64 = 50_000;
const FUEL_PER_MESSAGE: u64 = 5_000;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that templates and requests use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ChatError;

    fn from_str(text: &str) -> Result<Self, ChatError> {
        [Self::System, Self::User, Self::Assistant]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ChatError::Role { found: text.to_owned() })
    }
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    /// A message of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }
}

/// A model's chat template, compiled: Jinja as Hugging Face's tokenizers use it.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the tokens that start and end texts.
    ///
    /// # Errors
    /// [`ChatError::TemplateSize`], [`ChatError::Template`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ChatError::TemplateSize { found: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let mut env = Environment::new();
        env.set_recursion_limit(100);
        // Errors do not carry the variables, which are what users wrote.
        env.set_debug(false);
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message).with_source(Refusal))
        });
        env.add_global("bos_token", bos);
        env.add_global("eos_token", eos);
        operators::compile(source).map_err(ChatError::Template)?;
        Ok(Self { env, source: source.to_owned() })
    }

    /// BLAKE3 of the template's bytes.
    pub fn hash(&self) -> Hash32 {
        Hash32(blake3_256(&[self.source.as_bytes()]))
    }

    /// The template as the file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tokens of a chat, up to where the assistant is to answer.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn prompt(&self, messages: &[ChatMessage], tokenizer: &Tokenizer) -> Result<Vec<u32>, ChatError> {
        let (text, blind) = self.render(messages, tokenizer.control())?;
        Ok(tokenizer.encode_template(&text, blind)?)
    }

    /// The rendered chat and the character that blinds control tokens in messages.
    fn render(&self, messages: &[ChatMessage], control: &Matcher) -> Result<(String, char), ChatError> {
        self.render_within(messages, control, reads::MAX_READ_BYTES)
    }

    /// As [`render`](Self::render), reading at most `limit` bytes.
    fn render_within(
        &self,
        messages: &[ChatMessage],
        control: &Matcher,
        limit: usize,
    ) -> Result<(String, char), ChatError> {
        if messages.is_empty() {
            return Err(ChatError::Empty);
        }
        if messages.len() > MAX_MESSAGES {
            return Err(ChatError::TooManyMessages { found: messages.len(), limit: MAX_MESSAGES });
        }
        let size = messages.iter().map(|m| m.content.len()).sum::<usize>();
        if size > MAX_RENDERED_BYTES {
            return Err(ChatError::Size { limit: MAX_RENDERED_BYTES });
        }
        let texts = messages.iter().map(|m| m.content.as_str()).chain([self.source.as_str()]);
        let blind = shield::blind_for(texts).ok_or(ChatError::Reserved)?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| {
                let content = shield::shield(&m.content, control, blind);
                context! { role => m.role.as_str(), content => content }
            })
            .collect();
        let mut env = self.env.clone();
        env.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        bounds::measure(&mut env, &reads::Reads::new(limit));
        let program = operators::compile(&self.source).map_err(ChatError::Template)?;
        let context = context! { messages => messages, add_generation_prompt => true };
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        Vm::new(&env)
            .eval(&program.main, context, &program.blocks, &mut out, AutoEscape::None)
            .map_err(failure)?;
        if text.len() > MAX_RENDERED_BYTES {
            return Err(ChatError::Size { limit: MAX_RENDERED_BYTES });
        }
        Ok((text, blind))
    }
}

/// The mark of an error that the template itself raised.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Refusal;

fn failure(error: minijinja::Error) -> ChatError {
    let source = std::error::Error::source(&error);
    if source.is_some_and(|s| s.is::<Refusal>()) {
        return ChatError::Refused { reason: error.detail().unwrap_or_default().to_owned() };
    }
    if source.is_some_and(|s| s.is::<bounds::TooMuch>()) {
        return ChatError::Built { limit: bounds::MAX_BUILT_BYTES };
    }
    if let Some(read) = source.and_then(|s| s.downcast_ref::<reads::TooMuchRead>()) {
        return ChatError::Read { limit: read.limit };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => ChatError::Fuel,
        _ => ChatError::Template(error),
    }
}

/// Why messages give no prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The model file holds no template.
    #[error("the model has no chat template")]
    Missing,
    /// No messages.
    #[error("a chat needs at least one message")]
    Empty,
    /// A role that does not exist.
    #[error("`{found}` is no role; expected system, user or assistant")]
    Role {
        /// The role.
        found: String,
    },
    /// More messages than are accepted.
    #[error("the chat has {found} messages, at most {limit} allowed")]
    TooManyMessages {
        /// Messages.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The template is too long.
    #[error("the chat template has {found} bytes, at most {limit} allowed")]
    TemplateSize {
        /// Its bytes.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The template is no valid Jinja, or failed on these messages.
    #[error("chat template: {0}")]
    Template(#[source] minijinja::Error),
    /// The template refuses these messages.
    #[error("the chat template refuses these messages: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// The template runs for too long.
    #[error("the chat template did not finish within its instruction limit")]
    Fuel,
    /// The chat is too long.
    #[error("the rendered chat is longer than {limit} bytes")]
    Size {
        /// The most allowed.
        limit: usize,
    },
    /// The template builds too much on the way to its output, or nests it too deeply.
    #[error("the chat template builds texts and lists of more than {limit} bytes, or too many in each other")]
    Built {
        /// The most allowed.
        limit: usize,
    },
    /// The template reads too much on the way to its output.
    #[error("the chat template reads texts and lists of more than {limit} bytes, each as often as it does")]
    Read {
        /// The most allowed.
        limit: usize,
    },
    /// The messages use every reserved character.
    #[error("the messages use all 32 reserved characters U+FDD0 to U+FDEF")]
    Reserved,
    /// The text cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
