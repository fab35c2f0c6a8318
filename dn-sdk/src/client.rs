//! A client of a gateway that checks the receipt of every answer.

mod answer;
mod error;
mod request;
mod stream;
mod wallet;

pub use answer::{Answer, Usage};
pub use error::{ApiFault, ClientError};
pub use request::{ChatRequest, CompletionRequest, Settings};
pub use stream::{AnswerStream, Event};
pub use wallet::ChannelWallet;
