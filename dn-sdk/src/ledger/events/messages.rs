//! Server-sent events out of a byte stream, however it is cut.

use std::collections::VecDeque;

use super::METHOD;
use crate::ledger::LedgerError;

/// The most bytes of one message, its comments included.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// One message: what of it counts here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) data: Option<String>,
}

/// Messages that came, and what came of the next one.
#[derive(Debug, Default)]
pub(super) struct Messages {
    line: Vec<u8>,
    message: Message,
    /// Of the message so far.
    bytes: usize,
    ready: VecDeque<Message>,
}

impl Messages {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
                continue;
            }
            self.line.push(*byte);
            self.bytes += 1;
            if self.bytes > MAX_MESSAGE_BYTES {
                return Err(LedgerError::TooLong { method: METHOD, limit: MAX_MESSAGE_BYTES });
            }
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // What is no text is no JSON either, and is refused there.
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            self.bytes = 0;
            let message = std::mem::take(&mut self.message);
            if message != Message::default() {
                self.ready.push_back(message);
            }
            return;
        }
        let Some((field, value)) = line.split_once(':') else { return };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.message.data) {
            ("id", _) => self.message.id = Some(value.to_owned()),
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            ("data", data) => *data = Some(value.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(id: Option<&str>, data: Option<&str>) -> Message {
        Message { id: id.map(str::to_owned), data: data.map(str::to_owned) }
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_where_the_bytes_are_cut(cuts in prop::collection::vec(1usize..9, 1..40)) {
            let bytes = "id: 3.4294967295\n\n:\n\n: word\r\n\r\nid: 4.0\nevent: x\ndata: {\"a\":\"é\"}\n\nid:4.1\r\ndata:1\r\ndata: 2\r\n\r\nid: 5.0\ndata: half"
                .as_bytes();
            let (mut messages, mut at) = (Messages::default(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                messages.push(&bytes[at..end]).unwrap();
                at = end;
            }
            messages.push(&bytes[at..]).unwrap();
            let all: Vec<_> = std::iter::from_fn(|| messages.next()).collect();
            let expected = [
                message(Some("3.4294967295"), None),
                message(Some("4.0"), Some("{\"a\":\"é\"}")),
                message(Some("4.1"), Some("1\n2")),
            ];
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_message_without_an_end_is_refused() {
        for line in [&b"x"[..], b"data: x\n", b": comment\n"] {
            let mut messages = Messages::default();
            let refused = (0..=MAX_MESSAGE_BYTES).find_map(|_| messages.push(line).err());
            assert!(matches!(refused, Some(LedgerError::TooLong { limit: MAX_MESSAGE_BYTES, .. })));
        }
        // However much comes in all.
        let mut messages = Messages::default();
        let long = [vec![b'x'; MAX_MESSAGE_BYTES / 2], b"\n\n".to_vec()].concat();
        for _ in 0..8 {
            messages.push(&long).unwrap();
        }
    }
}
