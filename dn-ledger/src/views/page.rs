//! Lists in pages.

use dn_core::hexadecimal::{from_hex, to_hex};
use serde::{Deserialize, Serialize};

/// The most bytes of a cursor; longer ones are no entry's.
const MAX_CURSOR_BYTES: usize = 128;

/// An entry of a list, after which its next page begins. It names the entry, not a place, so that pages neither repeat nor miss what
/// stays in the list while others come and go. What its bytes are is the node's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(crate) Vec<u8>);

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = from_hex(&text, MAX_CURSOR_BYTES);
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("expected the `next` of another page"))
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// The most entries; [`DEFAULT_LIMIT`](crate::query::DEFAULT_LIMIT) when it is not said.
    pub limit: Option<u32>,
    /// The `next` of the page before; the first page without.
    pub after: Option<Cursor>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "PageOf{T}"))]
pub struct Page<T> {
    /// The entries, in the list's order.
    pub items: Vec<T>,
    /// What to ask for the page after this one; none when the list ends here. A page may have fewer entries than were asked for, or
    /// none, though the list goes on: then many were looked at that are not asked for.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_are_bounded() {
        let cursor = Cursor(vec![1, 0xab]);
        let json = serde_json::to_string(&cursor).unwrap();
        assert_eq!(json, "\"0x01ab\"");
        assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
        let longest = to_hex(&[7; MAX_CURSOR_BYTES]);
        assert!(serde_json::from_value::<Cursor>(longest.into()).is_ok());
        for bad in [to_hex(&[7; MAX_CURSOR_BYTES + 1]), "0x0".into(), "zz".into(), "0x€1".into()] {
            assert!(serde_json::from_value::<Cursor>(bad.clone().into()).is_err(), "{bad}");
        }
    }
}
