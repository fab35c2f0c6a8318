//! Streamed answers.

use std::collections::VecDeque;

use serde_json::Value;

use super::answer::{Listed, Parts};
use super::request::Body;
use super::{Answer, ApiFault, Client, ClientError};

/// The most bytes of one event.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One thing that a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// More text.
    Text(String),
    /// The end: the whole answer, checked.
    Done(Box<Answer>),
}

/// An answer as it comes. Dropping it cancels the call; what was delivered until then is charged.
#[derive(Debug)]
pub struct AnswerStream {
    client: Client,
    terms: Listed,
    body: Body,
    response: reqwest::Response,
    lines: Lines,
    parts: Parts,
    over: bool,
}

impl AnswerStream {
    pub(super) fn new(client: Client, terms: Listed, body: Body, response: reqwest::Response) -> Self {
        let (lines, parts) = (Lines::default(), Parts::default());
        Self { client, terms, body, response, lines, parts, over: false }
    }

    /// The next event; `None` after [`Event::Done`].
    ///
    /// # Errors
    /// [`ClientError`]: the connection broke, the gateway reports a failure, or the answer fails its check.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        while !self.over {
            while let Some(data) = self.lines.next() {
                if data == "[DONE]" {
                    self.over = true;
                    let parts = std::mem::take(&mut self.parts);
                    let answer = self.client.check(&self.terms, &self.body, parts).await?;
                    return Ok(Some(Event::Done(Box::new(answer))));
                }
                let event: Value = serde_json::from_str(&data)?;
                if !event["error"].is_null() {
                    self.over = true;
                    return Err(ClientError::Api(Box::new(ApiFault::parse(200, None, data.as_bytes()))));
                }
                let text = self.parts.event(&event)?;
                if !text.is_empty() {
                    return Ok(Some(Event::Text(text)));
                }
            }
            match self.response.chunk().await? {
                Some(bytes) => self.lines.push(&bytes)?,
                None => {
                    self.over = true;
                    return Err(ClientError::Incomplete);
                }
            }
        }
        Ok(None)
    }
}

/// Takes the `data:` lines out of a byte stream, however it is cut.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    ready: VecDeque<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for byte in bytes {
            if *byte != b'\n' {
                self.buffer.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.buffer);
            let line = String::from_utf8(line).map_err(|_| ClientError::Shape { field: "data" })?;
            if let Some(data) = line.trim_end_matches('\r').strip_prefix("data:") {
                self.ready.push_back(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        if self.buffer.len() > MAX_EVENT_BYTES {
            return Err(ClientError::TooLong { limit: MAX_EVENT_BYTES });
        }
        Ok(())
    }

    fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_the_bytes_are_cut(cuts in prop::collection::vec(1usize..9, 1..40)) {
            let bytes = "data: {\"a\":\"é\"}\n\n: comment\r\ndata:[1]\r\n\r\nevent: x\ndata: [DONE]\n\n".as_bytes();
            let (mut lines, mut at) = (Lines::default(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                lines.push(&bytes[at..end]).unwrap();
                at = end;
            }
            lines.push(&bytes[at..]).unwrap();
            let all: Vec<_> = std::iter::from_fn(|| lines.next()).collect();
            prop_assert_eq!(all, ["{\"a\":\"é\"}", "[1]", "[DONE]"]);
        }
    }
}
