//! EIP-712 typed data: what an ordinary wallet shows is what is signed.

use crate::address::Address;
use crate::amount::Amount;
use crate::hash::keccak256;

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
        let mut fields = Fields::of_type("EIP712Domain(string name,string version,uint256 chainId)");
        fields.text(self.name).text(self.version).uint(self.chain_id.into());
        fields.finish()
    }

    /// The digest to sign for a struct: `keccak(0x1901 ‖ separator ‖ hashStruct)`.
    pub fn digest(&self, value: &impl TypedData) -> [u8; 32] {
        keccak256(&[&[0x19, 0x01], &self.separator(), &value.struct_hash()])
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
pub struct Fields(Vec<u8>);

impl Fields {
    fn of_type(encoded: &str) -> Self {
        Self(keccak256(&[encoded.as_bytes()]).to_vec())
    }

    /// `uintN` up to 128 bits.
    pub fn uint(&mut self, value: u128) -> &mut Self {
        self.0.extend_from_slice(&[0; 16]);
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// An amount as `uint128` atto.
    pub fn amount(&mut self, value: Amount) -> &mut Self {
        self.uint(value.atto())
    }

    /// `address`.
    pub fn address(&mut self, value: Address) -> &mut Self {
        self.0.extend_from_slice(&[0; 12]);
        self.0.extend_from_slice(&value.0);
        self
    }

    /// `bytes32`, or the struct hash of a nested struct.
    pub fn word(&mut self, value: &[u8; 32]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// `string`.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// `bytes`.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.word(&keccak256(&[value]))
    }

    /// A nested struct.
    pub fn nested(&mut self, value: &impl TypedData) -> &mut Self {
        self.word(&value.struct_hash())
    }

    /// An array of structs.
    pub fn array<T: TypedData>(&mut self, values: &[T]) -> &mut Self {
        let hashes: Vec<u8> = values.iter().flat_map(TypedData::struct_hash).collect();
        self.word(&keccak256(&[&hashes]))
    }

    fn finish(self) -> [u8; 32] {
        keccak256(&[&self.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    struct Person(&'static str, Address);
    impl TypedData for Person {
        const TYPE: &'static str = "Person(string name,address wallet)";
        fn fields(&self, f: &mut Fields) {
            f.text(self.0).address(self.1);
        }
    }

    struct Mail(Person, Person, &'static str);
    impl TypedData for Mail {
        const TYPE: &'static str =
            "Mail(Person from,Person to,string contents)Person(string name,address wallet)";
        fn fields(&self, f: &mut Fields) {
            f.nested(&self.0).nested(&self.1).text(self.2);
        }
    }

    /// The example of the EIP (its `Example.js`), signed by the key keccak("cow").
    #[test]
    fn mail_example_of_the_eip() {
        let address = |text: &str| text.parse::<Address>().expect(text);
        let mail = Mail(
            Person("Cow", address("0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826")),
            Person("Bob", address("0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB")),
            "Hello, Bob!",
        );
        assert_eq!(
            hex::encode(mail.struct_hash()),
            "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
        );
        // The EIP's domain has a fourth field, verifyingContract, which DeepNode's does not.
        let mut separator = Fields::of_type(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        );
        separator
            .text("Ether Mail")
            .text("1")
            .uint(1)
            .address(address("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"));
        let separator = separator.finish();
        assert_eq!(
            hex::encode(separator),
            "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
        );
        let digest = keccak256(&[&[0x19, 0x01], &separator, &mail.struct_hash()]);
        assert_eq!(hex::encode(digest), "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
        let key = SecretKey::from_bytes(&keccak256(&[b"cow"])).expect("in range");
        assert_eq!(
            hex::encode(key.sign(&digest).as_bytes()),
            "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d\
             07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c"
        );
    }
}
