//! EIP-712 typed data: what an ordinary wallet shows is what is signed.

use serde_json::Value;

use crate::address::Address;
use crate::amount::Amount;
use crate::hash::keccak256;

mod json;

/// `encodeType` of [`Domain`].
const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId)";

/// The signing domain: name, version and chain.
///
/// # Source
/// EIP-712, "Definition of domainSeparator", with the fields `name`, `version` and `chainId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain<'a> {
    /// Name of the protocol.
    pub name: &'a str,
    /// Version of the protocol.
    pub version: &'a str,
    /// The chain that gives the signature its meaning.
    pub chain_id: u64,
}

impl Domain<'_> {
    /// DeepNode's own domain on a chain.
    pub const fn deepnode(chain_id: u64) -> Domain<'static> {
        Domain { name: "DeepNode", version: "1", chain_id }
    }

    /// The domain separator.
    pub fn separator(&self) -> [u8; 32] {
        let mut fields = Fields::of_type(DOMAIN_TYPE);
        fields.text(self.name).text(self.version).uint(self.chain_id.into());
        fields.finish()
    }

    /// The digest to sign for a struct: `keccak(0x1901 ‖ separator ‖ hashStruct)`.
    pub fn digest(&self, value: &impl TypedData) -> [u8; 32] {
        keccak256(&[&[0x19, 0x01], &self.separator(), &value.struct_hash()])
    }

    /// The same as JSON, in the form that wallets take (`eth_signTypedData_v4`), so that an ordinary one can show
    /// and sign it: `types`, `primaryType`, `domain` and `message`.
    ///
    /// ```
    /// use dn_core::eip712::{Domain, Fields, TypedData};
    ///
    /// struct Vote { choice: u8 }
    /// impl TypedData for Vote {
    ///     const TYPE: &'static str = "Vote(uint8 choice)";
    ///     fn fields(&self, f: &mut Fields) {
    ///         f.uint(self.choice.into());
    ///     }
    /// }
    /// let json = Domain::deepnode(1).typed_data_json(&Vote { choice: 2 });
    /// assert_eq!(json["primaryType"], "Vote");
    /// assert_eq!(json["types"]["Vote"][0]["type"], "uint8");
    /// assert_eq!(json["message"]["choice"], "2");
    /// ```
    pub fn typed_data_json<T: TypedData>(&self, value: &T) -> Value {
        json::typed_data(self, value)
    }
}

/// A struct that can be signed as EIP-712 typed data.
pub trait TypedData {
    /// `encodeType`: the struct's name and fields, then the types it uses, as EIP-712 writes them.
    const TYPE: &'static str;

    /// Appends every field in the order of [`TYPE`](Self::TYPE).
    fn fields(&self, fields: &mut Fields);

    /// `hashStruct`.
    fn struct_hash(&self) -> [u8; 32] {
        let mut fields = Fields::of_type(Self::TYPE);
        self.fields(&mut fields);
        fields.finish()
    }
}

/// `encodeData` under construction: the type hash, then one 32-byte word a field.
#[derive(Debug, Clone)]
pub struct Fields {
    words: Vec<u8>,
    /// The values as JSON, when a wallet is to show them.
    shown: Option<Vec<Value>>,
}

impl Fields {
    fn of_type(encoded: &str) -> Self {
        Self { words: keccak256(&[encoded.as_bytes()]).to_vec(), shown: None }
    }

    fn push(&mut self, word: &[u8; 32], show: impl FnOnce() -> Value) -> &mut Self {
        self.words.extend_from_slice(word);
        if let Some(shown) = &mut self.shown {
            shown.push(show());
        }
        self
    }

    /// `uintN` up to 128 bits.
    pub fn uint(&mut self, value: u128) -> &mut Self {
        let mut word = [0; 32];
        word[16..].copy_from_slice(&value.to_be_bytes());
        // As text: JSON readers round large numbers.
        self.push(&word, || value.to_string().into())
    }

    /// An amount as `uint128` atto.
    pub fn amount(&mut self, value: Amount) -> &mut Self {
        self.uint(value.atto())
    }

    /// `address`.
    pub fn address(&mut self, value: Address) -> &mut Self {
        let mut word = [0; 32];
        word[12..].copy_from_slice(&value.0);
        self.push(&word, || value.to_string().into())
    }

    /// `bytes32`.
    pub fn word(&mut self, value: &[u8; 32]) -> &mut Self {
        self.push(value, || hex_text(value))
    }

    /// `string`.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.push(&keccak256(&[value.as_bytes()]), || value.into())
    }

    /// `bytes`.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(&keccak256(&[value]), || hex_text(value))
    }

    /// `bytes32[]`.
    pub fn words<'a>(&mut self, values: impl Iterator<Item = &'a [u8; 32]> + Clone) -> &mut Self {
        let joined: Vec<u8> = values.clone().flatten().copied().collect();
        self.push(&keccak256(&[&joined]), || values.map(|value| hex_text(value)).collect())
    }

    /// A nested struct.
    pub fn nested(&mut self, value: &impl TypedData) -> &mut Self {
        self.push(&value.struct_hash(), || json::message(value))
    }

    /// An array of structs.
    pub fn array<T: TypedData>(&mut self, values: &[T]) -> &mut Self {
        let hashes: Vec<u8> = values.iter().flat_map(TypedData::struct_hash).collect();
        self.push(&keccak256(&[&hashes]), || values.iter().map(json::message).collect())
    }

    fn finish(self) -> [u8; 32] {
        keccak256(&[&self.words])
    }
}

fn hex_text(bytes: &[u8]) -> Value {
    format!("0x{}", hex::encode(bytes)).into()
}

#[cfg(test)]
mod tests;
