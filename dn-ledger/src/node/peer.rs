//! Asking another node over JSON-RPC, from a blocking thread, within limits of bytes and time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Wait before a peer that is busy is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// Longest silence of a peer.
const SILENCE: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// Why a peer gives no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Not a URL of a node.
    #[error("`{url}` is not of the form http://host:port")]
    Url {
        /// The text.
        url: String,
    },
    /// The connection.
    #[error("{url}: {source}")]
    Io {
        /// Who was asked.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The whole exchange takes too long.
    #[error("{url}: not done in time")]
    Deadline {
        /// Who was asked.
        url: String,
    },
    /// An answer that is longer than anything it may say.
    #[error("{url}: an answer of {found} bytes to {method}; at most {limit}")]
    TooLong {
        /// Who was asked.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The most.
        limit: usize,
        /// What it announces.
        found: usize,
    },
    /// Not HTTP, or a refusal.
    #[error("{url}: not an answer to {method}: {line}")]
    Http {
        /// Who was asked.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The first line, shortened.
        line: String,
    },
    /// Not what the method returns.
    #[error("{url}: the answer to {method} cannot be read: {source}")]
    Json {
        /// Who was asked.
        url: String,
        /// What was asked.
        method: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// An error, or nothing where something was expected.
    #[error("{url}: no result of {method}: {message}")]
    NoResult {
        /// Who was asked.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The peer's words, shortened.
        message: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

/// A node that is asked.
#[derive(Debug, Clone)]
pub struct Peer {
    url: String,
    authority: String,
    deadline: Instant,
}

impl Peer {
    /// A node at `http://host:port`, which may be asked until the deadline.
    ///
    /// # Errors
    /// [`PeerError::Url`].
    pub fn new(url: &str, deadline: Instant) -> Result<Self, PeerError> {
        let rest = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let valid = |rest: &&str| {
            rest.contains(':') && rest.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != '@')
        };
        match rest.filter(valid) {
            Some(rest) => Ok(Self { url: url.to_owned(), authority: rest.to_owned(), deadline }),
            None => Err(PeerError::Url { url: url.to_owned() }),
        }
    }

    /// Calls a method; `limit` bounds the bytes of the answer. A peer that is busy is asked again.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
        limit: usize,
    ) -> Result<T, PeerError> {
        let url = || self.url.clone();
        let body = loop {
            match self.exchange(method, params, limit) {
                // It has much to do, or has done much for us: we come again, until the deadline.
                Err(PeerError::Http { line, .. }) if line.contains(" 429 ") || line.contains(" 503 ") => {
                    std::thread::sleep(BUSY_PAUSE.min(self.left()?));
                }
                other => break other?,
            }
        };
        let json = |source| PeerError::Json { url: url(), method, source };
        let answer: Answer = serde_json::from_slice(&body).map_err(json)?;
        if answer.result.is_null() {
            let message =
                answer.error["message"].as_str().unwrap_or("it has none").chars().take(200).collect();
            return Err(PeerError::NoResult { url: url(), method, message });
        }
        serde_json::from_value(answer.result).map_err(json)
    }

    fn exchange(&self, method: &'static str, params: &Value, limit: usize) -> Result<Vec<u8>, PeerError> {
        let io = |source| PeerError::Io { url: self.url.clone(), source };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut addresses = self.authority.to_socket_addrs().map_err(io)?;
        let address = addresses.next().ok_or_else(|| PeerError::Url { url: self.url.clone() })?;
        let mut stream = TcpStream::connect_timeout(&address, self.left()?).map_err(io)?;
        stream.set_write_timeout(Some(self.left()?)).map_err(io)?;
        stream.set_read_timeout(Some(self.left()?)).map_err(io)?;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(io)?;
        let mut reader = BufReader::new(stream);
        let length = self.read_head(method, &mut reader)?;
        if length > limit {
            return Err(PeerError::TooLong { url: self.url.clone(), method, limit, found: length });
        }
        let (mut body, mut part) = (Vec::new(), [0; 64 * 1024]);
        while body.len() < length {
            // Whoever sends a byte at a time is not waited for beyond the deadline.
            self.left()?;
            let want = part.len().min(length - body.len());
            match reader.read(&mut part[..want]).map_err(io)? {
                0 => return Err(io(std::io::ErrorKind::UnexpectedEof.into())),
                n => body.extend_from_slice(&part[..n]),
            }
        }
        Ok(body)
    }

    fn read_head(&self, method: &'static str, reader: &mut impl BufRead) -> Result<usize, PeerError> {
        let io = |source| PeerError::Io { url: self.url.clone(), source };
        let (mut first, mut length, mut head) = (String::new(), None, reader.take(MAX_HEAD_BYTES));
        loop {
            self.left()?;
            let mut line = String::new();
            if head.read_line(&mut line).map_err(io)? == 0 {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if first.is_empty() {
                first = line.chars().take(200).collect();
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        let answered = first.starts_with("HTTP/1.1 200");
        length.filter(|_| answered).ok_or(PeerError::Http { url: self.url.clone(), method, line: first })
    }

    /// The time that is left for the next step.
    fn left(&self) -> Result<Duration, PeerError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(PeerError::Deadline { url: self.url.clone() })
        } else {
            Ok(left.min(SILENCE))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A peer that answers each call with the next of these.
    fn peer(answers: Vec<&'static str>) -> (Peer, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            for (asked, answer) in answers.iter().enumerate() {
                let (mut stream, _) = listener.accept().unwrap();
                if stream.read(&mut [0; 4_096]).unwrap() == 0 {
                    return asked;
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
            answers.len()
        });
        (Peer::new(&url, Instant::now() + Duration::from_secs(4)).unwrap(), serving)
    }

    const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn a_busy_peer_is_asked_again_until_the_deadline() {
        let seven = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"result\":7}";
        let full = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let (one, serving) = peer(vec![BUSY, full, seven]);
        assert_eq!(one.call::<u32>("dn_status", &Value::Null, 100).unwrap(), 7);
        assert_eq!(serving.join().unwrap(), 3);
        let (other, _) = peer(vec![BUSY; 100]);
        let ended = other.call::<u32>("dn_status", &Value::Null, 100);
        assert!(matches!(ended, Err(PeerError::Deadline { .. })), "{ended:?}");
        let (refused, serving) = peer(vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]);
        let ended = refused.call::<u32>("dn_status", &Value::Null, 100);
        assert!(matches!(ended, Err(PeerError::Http { .. })), "{ended:?}");
        assert_eq!(serving.join().unwrap(), 1);
    }
}
