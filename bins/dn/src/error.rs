//! Why a command failed, in words for the person who typed it.

use std::io;
use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    /// A file could not be read, written or created.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("configuration file {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where they are known.
        reason: String,
    },
    /// An argument has a value that cannot be used.
    #[error("{argument}: {reason}")]
    Argument {
        /// The flag or argument.
        argument: &'static str,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The model file is refused.
    #[error("model {name}: {source}")]
    Model {
        /// The file, or `embedded`.
        name: String,
        /// Why.
        source: dn_compute::ModelError,
    },
    /// Neither a file nor a name on the hub.
    #[error(
        "there is no file or directory {name}; a model on the Hugging Face hub is called org/name, and org/name@revision or \
         org/name:file where it could be taken for a file, such as Qwen/Qwen3-0.6B@main"
    )]
    NoModel {
        /// What was asked for.
        name: String,
    },
    /// The model cannot be fetched.
    #[error(transparent)]
    Hub(#[from] dn_compute::hub::HubError),
    /// The engine cannot run the model as asked.
    #[error(transparent)]
    Engine(#[from] dn_compute::EngineError),
    /// The request cannot be served.
    #[error(transparent)]
    Generate(#[from] dn_compute::GenerateError),
    /// The encoder is refused, or cannot run as asked.
    #[error("encoder {name}: {source}")]
    Encoder {
        /// The directory or file.
        name: String,
        /// Why.
        source: Box<dn_compute::encoder::EncoderError>,
    },
    /// The texts cannot be embedded.
    #[error(transparent)]
    Embed(#[from] dn_compute::encoder::EmbedError),
    /// The text has no tokens.
    #[error(transparent)]
    Tokenizer(#[from] dn_compute::TokenizerError),
    /// The chat gives no prompt.
    #[error(transparent)]
    Chat(#[from] dn_compute::ChatError),
    /// The ledger does not answer.
    #[error("{0}; `dn devnet` starts a network here, --rpc URL names another")]
    NoLedger(dn_sdk::ledger::LedgerError),
    /// The ledger answers with an error, or refuses a transaction.
    #[error(transparent)]
    Ledger(dn_sdk::ledger::LedgerError),
    /// The local network.
    #[error(transparent)]
    Devnet(Box<dn_sdk::devnet::DevnetError>),
    /// The keystores of a local network.
    #[error(transparent)]
    Keys(#[from] dn_sdk::devnet::KeysError),
    /// What is to be signed would be refused.
    #[error(transparent)]
    Signing(#[from] dn_sdk::signing::SigningError),
    /// The tour of the local network.
    #[error(transparent)]
    Tour(Box<dn_sdk::devnet::TourError>),
    /// The books of the local network.
    #[error(transparent)]
    Books(Box<dn_sdk::devnet::BooksError>),
    /// The scenario of a simulation is refused.
    #[error("scenario: {0}")]
    Scenario(#[from] dn_sim::scenario::ScenarioError),
    /// The simulation stopped.
    #[error(transparent)]
    Study(Box<dn_sim::study::StudyError>),
    /// The finished runs of a simulation cannot be kept or read.
    #[error(transparent)]
    Runs(#[from] dn_sim::study::StoreError),
    /// The report of a simulation cannot be written.
    #[error(transparent)]
    Report(Box<dn_sim::report::ReportError>),
    /// No password could be had.
    #[error("no password: {reason}; on a terminal you are asked, elsewhere give --password-file FILE")]
    NoPassword {
        /// Why.
        reason: &'static str,
    },
    /// Something else is wrong; the text says what, where and how to go on.
    #[error("{0}")]
    Other(String),
}

/// Large errors are boxed, so that every result of a command stays small.
macro_rules! boxed {
    ($($source:ty => $variant:ident),*) => {
        $(impl From<$source> for CliError {
            fn from(error: $source) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}
boxed!(
    dn_sdk::devnet::DevnetError => Devnet,
    dn_sdk::devnet::TourError => Tour,
    dn_sdk::devnet::BooksError => Books,
    dn_sim::study::StudyError => Study,
    dn_sim::report::ReportError => Report
);

impl From<dn_sdk::ledger::LedgerError> for CliError {
    fn from(error: dn_sdk::ledger::LedgerError) -> Self {
        match error {
            error @ dn_sdk::ledger::LedgerError::Transport { .. } => Self::NoLedger(error),
            error => Self::Ledger(error),
        }
    }
}

impl CliError {
    /// A failed file operation.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// A refused argument.
    pub(crate) fn argument(argument: &'static str, reason: impl Into<String>) -> Self {
        Self::Argument { argument, reason: reason.into() }
    }

    /// The exit code: 2 for a wrong command line, as `clap` has it, or a wrong scenario, otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Argument { .. } | Self::Scenario(_) => 2,
            _ => 1,
        }
    }
}
