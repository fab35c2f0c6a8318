//! Events as they happen.

mod messages;

use std::time::Duration;

use dn_core::{Address, ModelId};
use dn_ledger::tx::Role;
use dn_ledger::views::EventView;
use reqwest::header::ACCEPT;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use self::messages::{Message, Messages};
use super::{LedgerClient, LedgerError, QUERY_TIMEOUT, RpcFault};

/// What is asked, as errors name it.
const METHOD: &str = "GET /events";
/// Nodes say something every 15 seconds: whoever is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// The pause before a connection is made anew; it doubles with each one in a row that brings nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The most bytes that are read of why a node gives no stream.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Which events are wanted: those that fit all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// The kind, such as `transferred`; `dn_ledger::events::Event::KINDS` are all.
    pub event: Option<String>,
    /// An address that the event names in whatever part.
    pub address: Option<Address>,
    /// A role that the event names, or lies in by its nature.
    pub role: Option<Role>,
    /// A model or family that the event names.
    pub model: Option<ModelId>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventsFrom {
    /// With the next block.
    #[default]
    Next,
    /// With a block; 0 is the first that the node holds.
    Height(u64),
    /// After an event that was seen.
    After {
        /// Its block.
        height: u64,
        /// Its place among the block's events.
        index: u32,
    },
}

/// Events as they come, each once and in order, as the node tells them. When the connection breaks, or the node is away, it goes on where it
/// stopped.
#[derive(Debug)]
pub struct EventStream {
    client: LedgerClient,
    filter: EventFilter,
    from: EventsFrom,
    seen: Seen,
    connection: Option<Connection>,
    /// Connections in a row that brought nothing.
    failed: u32,
}

#[derive(Debug)]
struct Connection {
    response: Response,
    messages: Messages,
}

/// All up to this event was seen.
#[derive(Debug, Default)]
struct Seen(Option<(u64, u32)>);

enum Step {
    Event(Box<EventView>),
    More,
    Broken,
}

/// Why a node gives no stream, in the form of a JSON-RPC answer.
#[derive(Deserialize)]
struct Refusal {
    error: RpcFault,
}

impl LedgerClient {
    /// Subscribes to events. What comes is what the node says, without proof.
    ///
    /// # Errors
    /// [`LedgerError::Pruned`] when the node does not hold so early a block any more, [`LedgerError::NoStream`] when it refuses the filter or has
    /// no place, or why it could not be asked.
    pub async fn subscribe(&self, filter: EventFilter, from: EventsFrom) -> Result<EventStream, LedgerError> {
        let seen = match from {
            EventsFrom::After { height, index } => Seen(Some((height, index))),
            EventsFrom::Next | EventsFrom::Height(_) => Seen::default(),
        };
        let client = self.clone();
        let mut stream = EventStream { client, filter, from, seen, connection: None, failed: 0 };
        stream.connection = Some(stream.connect().await?);
        Ok(stream)
    }
}

impl EventStream {
    /// The next event; waits for it as long as it takes, over broken connections and restarts of the node. May be dropped while it waits:
    /// the next call goes on.
    ///
    /// # Errors
    /// [`LedgerError::Pruned`] when the node has forgotten what comes next, [`LedgerError::TooLong`] and [`LedgerError::Answer`] for what is no
    /// event.
    pub async fn next(&mut self) -> Result<EventView, LedgerError> {
        loop {
            match self.step().await {
                Ok(Step::Event(view)) => return Ok(*view),
                Ok(Step::More) => {}
                Ok(Step::Broken) => self.wait().await,
                Err(error) if passes(&error) => self.wait().await,
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, LedgerError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = self.connect().await?;
                self.connection.insert(connection)
            }
        };
        while let Some(message) = connection.messages.next() {
            if let Some(view) = self.seen.take(message)? {
                return Ok(Step::Event(Box::new(view)));
            }
        }
        match tokio::time::timeout(SILENCE, connection.response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.failed = 0;
                connection.messages.push(&bytes)?;
                Ok(Step::More)
            }
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(Step::Broken),
        }
    }

    /// Before the next connection.
    async fn wait(&mut self) {
        self.connection = None;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed.min(16)).min(LAST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        tokio::time::sleep(pause).await;
    }

    async fn connect(&self) -> Result<Connection, LedgerError> {
        let url = || self.client.url().to_owned();
        let mut request = self.client.0.http.get(self.address()?).header(ACCEPT, "text/event-stream");
        if let Seen(Some((height, index))) = self.seen {
            request = request.header("last-event-id", format!("{height}.{index}"));
        }
        let sent = tokio::time::timeout(QUERY_TIMEOUT, request.send()).await;
        let silent = |_| LedgerError::Silent { url: url(), wait: QUERY_TIMEOUT };
        let response =
            sent.map_err(silent)?.map_err(|source| LedgerError::Transport { url: url(), source })?;
        match response.status() {
            StatusCode::OK => Ok(Connection { response, messages: Messages::default() }),
            status => Err(self.refusal(status, response).await),
        }
    }

    fn address(&self) -> Result<Url, LedgerError> {
        let wrong = || LedgerError::Url { url: self.client.url().to_owned() };
        let mut url = Url::parse(self.client.url()).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().push("events");
        let EventFilter { event, address, role, model } = &self.filter;
        let from = match self.from {
            EventsFrom::Height(height) => Some(height.to_string()),
            EventsFrom::Next | EventsFrom::After { .. } => None,
        };
        let fields = [
            ("from_height", from),
            ("event", event.clone()),
            ("address", address.map(|address| address.to_string())),
            ("role", role.map(|role| role.to_string())),
            ("model", model.map(|model| model.to_string())),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        Ok(url)
    }

    /// Why there is no stream.
    async fn refusal(&self, status: StatusCode, mut response: Response) -> LedgerError {
        let mut bytes = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(QUERY_TIMEOUT, response.chunk()).await {
            if bytes.len() + chunk.len() > MAX_REFUSAL_BYTES {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let (url, status) = (self.client.url().to_owned(), status.as_u16());
        let message = match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(Refusal { error }) => match error.pruned() {
                Some(pruned) => return LedgerError::Pruned(pruned),
                None => error.message,
            },
            Err(_) => String::new(),
        };
        LedgerError::NoStream { url, status, message }
    }
}

/// Whether it may be over when the node is asked again.
fn passes(error: &LedgerError) -> bool {
    match error {
        LedgerError::Transport { .. } | LedgerError::Silent { .. } => true,
        LedgerError::NoStream { status, .. } => *status == 429 || *status >= 500,
        _ => false,
    }
}

impl Seen {
    /// The event of a message, if it is a new one.
    fn take(&mut self, message: Message) -> Result<Option<EventView>, LedgerError> {
        let Some(data) = message.data else {
            // All up to there was seen, and nothing of it fits.
            self.0 = self.0.max(message.id.as_deref().and_then(place));
            return Ok(None);
        };
        let named = message.id.as_deref().and_then(place);
        if named.is_some() && named <= self.0 {
            return Ok(None);
        }
        // Before it is read: one that cannot be read is told of once, and the stream goes on behind it.
        self.0 = self.0.max(named);
        let unreadable = |source| LedgerError::Answer { method: METHOD, source };
        let view: EventView = serde_json::from_str(&data).map_err(unreadable)?;
        let at = Some((view.height, view.index));
        if named.is_none() && at <= self.0 {
            return Ok(None);
        }
        self.0 = self.0.max(at);
        Ok(Some(view))
    }
}

/// `height.index`.
fn place(id: &str) -> Option<(u64, u32)> {
    let (height, index) = id.split_once('.')?;
    Some((height.parse().ok()?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event that this version does not know is told of once; what comes after it is not kept back.
    #[test]
    fn a_stream_goes_on_behind_what_it_cannot_read() {
        let message = |id: &str, data: &str| Message { id: Some(id.to_owned()), data: Some(data.to_owned()) };
        let mut seen = Seen(Some((4, 0)));
        let unknown = || message("5.1", "{\"event\": \"of a later version\"}");
        assert!(seen.take(unknown()).is_err());
        assert_eq!(seen.0, Some((5, 1)), "what is asked for after a new connection");
        assert!(seen.take(unknown()).unwrap().is_none());
    }
}
