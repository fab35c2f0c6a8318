//! Streamed answers: server-sent events from a call's events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use dn_compute::TextStream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::call::{CallEvent, CallStream};
use super::render::{Head, Outcome};

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
    queue: VecDeque<Bytes>,
    over: bool,
}

impl Sse {
    fn push(&mut self, value: &Value) {
        self.queue.push_back(Bytes::from(format!("data: {value}\n\n")));
    }

    fn event(&mut self, event: CallEvent) {
        match event {
            CallEvent::Tokens(tokens) => {
                let Some(stream) = &mut self.text else { return };
                let text: String = tokens.iter().map(|token| stream.push(*token)).collect();
                self.tokens.extend_from_slice(&tokens);
                if !text.is_empty() {
                    let tokens = std::mem::take(&mut self.tokens);
                    self.push(&self.head.text(&text, &tokens));
                }
            }
            CallEvent::Done(outcome) => self.finish(&outcome),
            CallEvent::Failed(error) => {
                self.push(&error.body());
                self.over = true;
            }
        }
    }

    fn finish(&mut self, outcome: &Outcome) {
        let rest = self.text.take().map(TextStream::finish).unwrap_or_default();
        if !rest.is_empty() {
            let tokens = std::mem::take(&mut self.tokens);
            self.push(&self.head.text(&rest, &tokens));
        }
        let tokens = std::mem::take(&mut self.tokens);
        self.push(&self.head.finish(&tokens, outcome));
        if let Some(usage) = self.head.usage(outcome) {
            self.push(&usage);
        }
        self.queue.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.over = true;
    }
}

/// The response; `first` was awaited already, so that a call that cannot start gets a status code of its own.
pub(crate) fn response(head: Head, text: TextStream, first: CallEvent, events: Events) -> Response {
    let (tokens, queue) = (Vec::new(), VecDeque::new());
    let mut sse = Sse { events, head, text: Some(text), tokens, queue, over: false };
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
