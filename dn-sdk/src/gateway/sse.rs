//! Streamed answers: server-sent events from a call's events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use dn_compute::TextStream;
use dn_core::objects::TokenLogprobs;
use serde_json::Value;
use tokio::sync::mpsc;

use super::call::{CallEvent, CallStream};
use super::render::{Head, Outcome, Shown};

/// Where a call's events come from.
#[derive(Debug)]
pub(crate) enum Events {
    /// The call itself: dropping it cancels the call.
    Direct(CallStream),
    /// A call that goes on without its caller.
    Detached(mpsc::UnboundedReceiver<CallEvent>),
}

impl Events {
    pub(crate) async fn next(&mut self) -> Option<CallEvent> {
        match self {
            Self::Direct(stream) => stream.next().await,
            Self::Detached(events) => events.recv().await,
        }
    }
}

struct Sse {
    events: Events,
    head: Head,
    text: Option<TextStream>,
    /// Tokens whose text is still held back.
    tokens: Vec<u32>,
    /// One for each of them where that was asked for.
    logprobs: Vec<TokenLogprobs>,
    /// Characters sent.
    offset: usize,
    queue: VecDeque<Bytes>,
    over: bool,
}

impl Sse {
    fn push(&mut self, value: &Value) {
        self.queue.push_back(Bytes::from(format!("data: {value}\n\n")));
    }

    fn event(&mut self, event: CallEvent) {
        match event {
            CallEvent::Tokens { tokens, logprobs } => {
                let Some(stream) = &mut self.text else { return };
                let text: String = tokens.iter().map(|token| stream.push(*token)).collect();
                self.tokens.extend_from_slice(&tokens);
                self.logprobs.extend(logprobs);
                if !text.is_empty() {
                    self.text_event(&text);
                }
            }
            CallEvent::Done(outcome) => self.finish(&outcome),
            CallEvent::Failed(error) => {
                self.push(&error.body());
                self.over = true;
            }
        }
    }

    /// More text, with the tokens that it came from.
    fn text_event(&mut self, text: &str) {
        let (tokens, logprobs) = (std::mem::take(&mut self.tokens), std::mem::take(&mut self.logprobs));
        let shown = Shown { tokens: &tokens, logprobs: &logprobs, offset: self.offset };
        let event = self.head.text(text, shown);
        self.push(&event);
        self.offset += text.chars().count();
    }

    fn finish(&mut self, outcome: &Outcome) {
        let rest = self.text.take().map(TextStream::finish).unwrap_or_default();
        if !rest.is_empty() {
            self.text_event(&rest);
        }
        let shown = Shown { tokens: &self.tokens, logprobs: &self.logprobs, offset: self.offset };
        let last = self.head.finish(shown, outcome);
        self.push(&last);
        if let Some(usage) = self.head.usage(outcome) {
            self.push(&usage);
        }
        self.queue.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.over = true;
    }
}

/// The response; `first` was awaited already, so that a call that cannot start gets a status code of its own.
pub(crate) fn response(head: Head, text: TextStream, first: CallEvent, events: Events) -> Response {
    let (tokens, logprobs, queue) = (Vec::new(), Vec::new(), VecDeque::new());
    let mut sse = Sse { events, head, text: Some(text), tokens, logprobs, offset: 0, queue, over: false };
    if let Some(role) = sse.head.role() {
        sse.push(&role);
    }
    sse.event(first);
    let stream = futures_util::stream::unfold(sse, |mut sse| async move {
        loop {
            if let Some(bytes) = sse.queue.pop_front() {
                return Some((Ok::<_, Infallible>(bytes), sse));
            }
            if sse.over {
                return None;
            }
            match sse.events.next().await {
                Some(event) => sse.event(event),
                None => sse.over = true,
            }
        }
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
