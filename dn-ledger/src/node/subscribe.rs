//! `GET /events`: the ledger's events as they happen, as server-sent events.
//!
//! A subscriber reads from the store, block by block, so one that is slow, or was away, falls behind and catches up; nothing is
//! kept for it in memory. It goes on where it stopped with the standard's `Last-Event-ID`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dn_core::{Address, ModelId};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::shared::Shared;
use crate::query::MAX_LIST;
use crate::tx::Role;
use crate::views::EventView;

/// Subscribers at once.
pub(super) const MAX_SUBSCRIBERS: usize = 128;
/// A comment after this silence keeps the connection, and finds out whether somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most bytes of a `Last-Event-ID`.
const MAX_LAST_ID_BYTES: usize = 64;

/// What a subscriber wants to hear of: everything that fits all that is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// The first block; without it the one after the tip.
    from_height: Option<u64>,
    /// The kind, such as `transferred`.
    event: Option<String>,
    /// An address that the event names in whatever part.
    address: Option<Address>,
    /// A role that the event names.
    role: Option<Role>,
    /// A model that the event names.
    model: Option<ModelId>,
}

impl Filter {
    /// Whether an event, in its JSON form, fits.
    fn fits(&self, event: &Value) -> bool {
        let names = |key: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| event.get(key).and_then(Value::as_str) == Some(wanted))
        };
        let somewhere = |wanted: &str| match event {
            Value::Object(fields) => fields.values().any(|value| value.as_str() == Some(wanted)),
            _ => false,
        };
        names("event", &self.event)
            && names("role", &self.role.map(|role| role.to_string()))
            && names("model", &self.model.map(|model| model.to_string()))
            && self.address.is_none_or(|address| somewhere(&address.to_string()))
    }
}

/// Subscribers' places, and the end of the service.
#[derive(Debug, Clone)]
pub(super) struct Subscriptions {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Subscriptions {
    pub(super) fn new(shared: Arc<Shared>, stopped: watch::Receiver<bool>) -> Self {
        Self { shared, slots: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)), stopped }
    }
}

/// Answers `GET /events`.
pub(super) async fn handle(State(service): State<Subscriptions>, uri: Uri, headers: HeaderMap) -> Response {
    let filter = match Query::<Filter>::try_from_uri(&uri) {
        Ok(Query(filter)) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let after = match headers.get("last-event-id").map(|id| last_id(id.as_bytes())) {
        Some(None) => return refuse(StatusCode::BAD_REQUEST, "Last-Event-ID: expected `height.index`"),
        Some(Some(id)) => Some(id),
        None => None,
    };
    let Ok(slot) = service.slots.clone().try_acquire_owned() else {
        let message = format!("{MAX_SUBSCRIBERS} subscribers are connected");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let tip = service.shared.chain().tip().height;
    let next_height = match (after, filter.from_height) {
        (Some((height, _)), _) => height,
        (None, Some(height)) => height,
        (None, None) => tip.saturating_add(1),
    };
    let reader = Reader {
        heights: service.shared.heights(),
        shared: service.shared,
        filter,
        after,
        next_height,
        ready: VecDeque::new(),
        stopped: service.stopped,
        _slot: slot,
    };
    Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": { "message": message } }))).into_response()
}

/// `height.index` of the last event that was seen.
fn last_id(bytes: &[u8]) -> Option<(u64, u32)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_LAST_ID_BYTES)?;
    let (height, index) = text.split_once('.')?;
    Some((height.parse().ok()?, index.parse().ok()?))
}

struct Reader {
    shared: Arc<Shared>,
    filter: Filter,
    /// Events up to this one were seen.
    after: Option<(u64, u32)>,
    next_height: u64,
    ready: VecDeque<Message>,
    heights: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Message, Infallible>> {
        stream::unfold(self, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
    }

    /// The next event; none when the node stops or cannot read its store.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let next = self.next_height;
            tokio::select! {
                reached = self.heights.wait_for(|height| *height >= next) => drop(reached.ok()?),
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Option<()> {
        let (shared, from) = (Arc::clone(&self.shared), self.next_height);
        let page = tokio::task::spawn_blocking(move || {
            let tip = shared.chain().tip().height;
            shared.store.events(from, MAX_LIST, tip)
        });
        let page = match page.await.ok()? {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a subscriber cannot be served");
                return None;
            }
        };
        self.next_height = page.next_height;
        let messages = page.events.iter().filter_map(|event| self.message(event));
        self.ready = messages.collect();
        Some(())
    }

    fn message(&self, view: &EventView) -> Option<Message> {
        if self.after.is_some_and(|after| (view.height, view.index) <= after) {
            return None;
        }
        let value = serde_json::to_value(view).ok()?;
        if !self.filter.fits(value.get("event")?) {
            return None;
        }
        let kind = value.get("event")?.get("event")?.as_str()?;
        let id = format!("{}.{}", view.height, view.index);
        Some(Message::default().id(id).event(kind).data(value.to_string()))
    }
}
