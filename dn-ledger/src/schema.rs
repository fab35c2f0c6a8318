//! JSON schemas of the types whose JSON form is written by hand.

use std::borrow::Cow;

use dn_core::schema::text;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::bytes::Bytes;
use crate::tx::Shares;
use crate::views::Cursor;

impl JsonSchema for Cursor {
    fn schema_name() -> Cow<'static, str> {
        "Cursor".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text("Where a list goes on: the `next` of the page before.", "^0x([0-9a-fA-F]{2})*$")
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text("Bytes: 0x and two hexadecimal digits each.", "^0x([0-9a-fA-F]{2})*$")
    }
}

impl JsonSchema for Shares {
    fn schema_name() -> Cow<'static, str> {
        "Shares".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text("Shares of a pool as a decimal string.", "^(0|[1-9][0-9]*)$")
    }
}
