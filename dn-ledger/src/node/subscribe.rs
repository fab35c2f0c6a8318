//! `GET /events`: the ledger's events as they happen, as server-sent events.
//!
//! A subscriber reads from the store, block by block, so one that is slow, or was away, falls behind and catches up; nothing is
//! kept for it in memory. It goes on where it stopped with the standard's `Last-Event-ID`: each event has an id `height.index`, and
//! an id without an event, of the highest index there can be, says that all up to the end of a block was seen.

mod filter;
mod refuse;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use self::filter::Filter;
use self::refuse::SubscribeError;
use super::quota::{Caller, Quotas};
use super::server::{Place, Places};
use super::shared::Shared;
use super::store::PastError;
use crate::query::MAX_LIST;
use crate::views::EventView;

/// Subscribers at once. An eighth of the places is for programs of the same machine.
const MAX_SUBSCRIBERS: usize = 128;
/// Those of one caller, if it is on another machine.
const MAX_OF_CALLER: usize = 16;
/// A comment after this silence keeps the connection, and finds out whether somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most bytes of a `Last-Event-ID`.
const MAX_LAST_ID_BYTES: usize = 64;
/// After so many blocks without a fitting event a subscriber is told how far it is.
const PROGRESS_BLOCKS: u64 = 16;
/// Between looks whether what a caller has read is paid off.
const PAUSE: Duration = Duration::from_millis(250);

/// Subscribers' places, and the end of the service.
#[derive(Debug, Clone)]
pub(super) struct Subscriptions {
    shared: Arc<Shared>,
    places: Arc<Places>,
    quotas: Arc<Quotas>,
    stopped: watch::Receiver<bool>,
}

impl Subscriptions {
    pub(super) fn new(shared: Arc<Shared>, quotas: Arc<Quotas>, stopped: watch::Receiver<bool>) -> Self {
        let places = Arc::new(Places::new(MAX_SUBSCRIBERS, MAX_OF_CALLER));
        Self { shared, places, quotas, stopped }
    }

    async fn open(self, caller: Caller, uri: &Uri, headers: &HeaderMap) -> Result<Reader, SubscribeError> {
        let Query(filter) = Query::<Filter>::try_from_uri(uri)?;
        filter.check()?;
        let last_id = headers.get("last-event-id");
        let after = last_id.map(|id| last_id_of(id.as_bytes()).ok_or(SubscribeError::LastId)).transpose()?;
        if !self.quotas.allows(caller, NonZeroU32::MIN) {
            return Err(SubscribeError::Calls);
        }
        let place = self.places.take(caller.0)?;
        let (shared, from) = (Arc::clone(&self.shared), filter.from_height);
        let first = tokio::task::spawn_blocking(move || first_height(&shared, after, from));
        let next_height = first.await.map_err(|_| SubscribeError::Broken)??;
        let told = next_height.saturating_sub(1);
        Ok(Reader {
            heights: self.shared.heights(),
            shared: self.shared,
            filter,
            after,
            next_height,
            told,
            // Whoever breaks off before the first event goes on from here.
            ready: after.is_none().then(|| progress(told)).into_iter().collect(),
            stopped: self.stopped,
            caller,
            quotas: self.quotas,
            _place: place,
        })
    }
}

/// Answers `GET /events`.
pub(super) async fn handle(
    State(service): State<Subscriptions>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match service.open(caller, &uri, &headers).await {
        Ok(reader) => {
            Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// `height.index` of the last event that was seen.
fn last_id_of(bytes: &[u8]) -> Option<(u64, u32)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_LAST_ID_BYTES)?;
    let (height, index) = text.split_once('.')?;
    Some((height.parse().ok()?, index.parse().ok()?))
}

/// The first block that is read.
fn first_height(shared: &Shared, after: Option<(u64, u32)>, from: Option<u64>) -> Result<u64, PastError> {
    match (after, from) {
        (Some((height, u32::MAX)), _) => shared.store.held_from(height.saturating_add(1)),
        // There is no block 0, and whoever names a height does not ask for the first that is held.
        (Some((height, _)), _) => shared.store.held_from(height.max(1)),
        (None, Some(height)) => shared.store.held_from(height),
        (None, None) => Ok(shared.chain().tip().height.saturating_add(1)),
    }
}

/// Tells a subscriber that it has seen all up to the end of a block.
fn progress(height: u64) -> Message {
    Message::default().id(format!("{height}.{}", u32::MAX))
}

struct Reader {
    shared: Arc<Shared>,
    filter: Filter,
    /// Events up to this one were seen.
    after: Option<(u64, u32)>,
    next_height: u64,
    /// The height of the last id that was sent.
    told: u64,
    ready: VecDeque<Message>,
    heights: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    caller: Caller,
    quotas: Arc<Quotas>,
    _place: Place,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Message, Infallible>> {
        stream::unfold(self, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
    }

    /// The next event; none when the node stops, cannot read its store, or has pruned what was to be read next: whoever comes back is
    /// told so.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let next = self.next_height;
            let tip = tokio::select! {
                reached = self.heights.wait_for(|height| *height >= next) => *reached.ok()?,
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            };
            self.read(tip).await?;
        }
    }

    async fn read(&mut self, tip: u64) -> Option<()> {
        // The newest block is everybody's; what is read to catch up with it is the caller's to pay.
        let behind = self.next_height < tip;
        if behind {
            self.paid_off().await?;
        }
        let (shared, from) = (Arc::clone(&self.shared), self.next_height);
        let page = tokio::task::spawn_blocking(move || {
            let tip = shared.chain().tip().height;
            shared.store.events(from, MAX_LIST, tip)
        });
        let page = match page.await.ok()? {
            Ok(page) => page,
            Err(PastError::Pruned(pruned)) => {
                tracing::debug!(%pruned, "a subscriber is overtaken");
                return None;
            }
            Err(PastError::Store(error)) => {
                tracing::error!(%error, "a subscriber cannot be served");
                return None;
            }
        };
        self.next_height = page.next_height;
        if behind {
            // One was counted before.
            let blocks = page.next_height.saturating_sub(from).saturating_sub(1);
            self.quotas.charge(self.caller, u32::try_from(blocks).unwrap_or(u32::MAX));
        }
        for view in &page.events {
            if self.wants(view) {
                self.ready.extend(message(view));
                self.told = view.height;
            }
        }
        let seen = page.next_height.saturating_sub(1);
        if seen >= self.told.saturating_add(PROGRESS_BLOCKS) {
            self.ready.push_back(progress(seen));
            self.told = seen;
        }
        Some(())
    }

    /// Waits until the caller may ask again; none when the node stops.
    async fn paid_off(&mut self) -> Option<()> {
        while !self.quotas.allows(self.caller, NonZeroU32::MIN) {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            }
        }
        Some(())
    }

    fn wants(&self, view: &EventView) -> bool {
        self.after.is_none_or(|after| (view.height, view.index) > after) && self.filter.fits(&view.event)
    }
}

fn message(view: &EventView) -> Option<Message> {
    let id = format!("{}.{}", view.height, view.index);
    let data = serde_json::to_string(view).ok()?;
    Some(Message::default().id(id).event(view.event.kind()).data(data))
}

#[cfg(test)]
mod tests;
