//! JSON schemas of the types whose JSON form is written by hand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::hash::{BatchId, BlockHash, ChannelId, Hash32, JobId, ModelId, ReceiptId, TxId};
use crate::{Address, Amount, PublicKey, Signature, VrfProof};

/// A text that a regular expression describes.
pub fn text(description: &str, pattern: &str) -> Schema {
    json_schema!({ "type": "string", "description": description, "pattern": pattern })
}

/// Any 128-bit number as a decimal string, so that no reader rounds it.
#[derive(Debug)]
pub struct Decimal;

macro_rules! texts {
    ($($name:ident, $description:literal, $pattern:literal;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text($description, $pattern)
            }
        }
    )*};
}
texts! {
    Address, "An address: 0x and 40 hexadecimal digits, of either case or with the checksum of EIP-55.", "^0x[0-9a-fA-F]{40}$";
    Amount, "An amount in atto (10^-18 DN) as a decimal string.", "^(0|[1-9][0-9]*)$";
    Decimal, "A number of at most 128 bits as a decimal string.", "^(0|[1-9][0-9]*)$";
    PublicKey, "A compressed secp256k1 public key: 0x and 66 hexadecimal digits.", "^0x[0-9a-fA-F]{66}$";
    Signature, "A signature (r, s, v): 0x and 130 hexadecimal digits.", "^0x[0-9a-fA-F]{130}$";
    VrfProof, "A proof of a verifiable random function: 0x and hexadecimal digits.", "^0x[0-9a-fA-F]*$";
    Hash32, "A hash: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    BatchId, "The id of a batch: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    BlockHash, "The hash of a block: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    ChannelId, "The id of a channel or escrow: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    JobId, "The id of a job: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    ModelId, "The id of a model or family: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    ReceiptId, "The id of a receipt: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
    TxId, "The id of a transaction: 0x and 64 hexadecimal digits.", "^0x[0-9a-fA-F]{64}$";
}
