use serde_json::Value;

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
    let mut separator =
        Fields::of_type("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    separator
        .text("Ether Mail")
        .text("1")
        .uint(1)
        .address(address("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"));
    let separator = separator.finish();
    assert_eq!(hex::encode(separator), "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f");
    let digest = keccak256(&[&[0x19, 0x01], &separator, &mail.struct_hash()]);
    assert_eq!(hex::encode(digest), "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
    let key = SecretKey::from_bytes(&keccak256(&[b"cow"])).expect("in range");
    assert_eq!(
        hex::encode(key.sign(&digest).as_bytes()),
        "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d\
         07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c"
    );
}

/// `hashStruct` from the JSON alone, as a wallet computes it.
fn hash_json(types: &Value, name: &str, message: &Value) -> [u8; 32] {
    let fields = |name: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let fields = types[name].as_array().expect(name);
        fields.iter().map(|field| (text(&field["type"]), text(&field["name"]))).collect()
    };
    let encode_type = |name: &str| {
        let list: Vec<String> = fields(name).iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        format!("{name}({})", list.join(","))
    };
    let known = |kind: &str| types.get(kind.trim_end_matches("[]")).is_some();
    let mut others: Vec<String> = Vec::new();
    for (kind, _) in fields(name) {
        let kind = kind.trim_end_matches("[]").to_owned();
        if known(&kind) && !others.contains(&kind) {
            others.push(kind);
        }
    }
    others.sort();
    let full = encode_type(name) + &others.iter().map(|other| encode_type(other)).collect::<String>();
    let mut words = keccak256(&[full.as_bytes()]).to_vec();
    for (kind, field) in fields(name) {
        words.extend(word_json(types, &kind, &message[&field]));
    }
    keccak256(&[&words])
}

fn word_json(types: &Value, kind: &str, value: &Value) -> [u8; 32] {
    if let Some(item) = kind.strip_suffix("[]") {
        let items = value.as_array().expect("an array").iter();
        return keccak256(&[&items.flat_map(|value| word_json(types, item, value)).collect::<Vec<_>>()]);
    }
    if types.get(kind).is_some() {
        return hash_json(types, kind, value);
    }
    let text = value.as_str().expect("a plain value is text");
    let from_hex = |text: &str| hex::decode(text.strip_prefix("0x").expect("0x")).expect("hexadecimal");
    let bytes = match kind {
        "string" => keccak256(&[text.as_bytes()]).to_vec(),
        "bytes" => keccak256(&[&from_hex(text)]).to_vec(),
        "address" | "bytes32" => from_hex(text),
        _ => {
            assert!(kind.starts_with("uint"), "{kind}");
            text.parse::<u128>().expect("a decimal number").to_be_bytes().to_vec()
        }
    };
    let mut word = [0; 32];
    word[32 - bytes.len()..].copy_from_slice(&bytes);
    word
}

fn check_json<T: TypedData>(value: &T) {
    let domain = Domain::deepnode(u64::MAX);
    let json = domain.typed_data_json(value);
    let types = &json["types"];
    let name = json["primaryType"].as_str().expect("a name");
    let separator = hash_json(types, "EIP712Domain", &json["domain"]);
    let digest = keccak256(&[&[0x19, 0x01], &separator, &hash_json(types, name, &json["message"])]);
    assert_eq!(digest, domain.digest(value), "{json}");
    let count = |name: &str| types[name].as_array().map(Vec::len);
    assert_eq!(json["message"].as_object().map(serde_json::Map::len), count(name), "a value for each field");
}

/// A wallet that hashes the JSON comes to the digest that is signed.
#[test]
fn the_json_form_hashes_to_the_same_digest() {
    use crate::encoding::{Canonical, Reader};
    use crate::objects::{BatchRoot, JobAcceptance, Receipt, Voucher};

    // Any bytes will do for numbers; 0 is also a valid tag and an empty list.
    let filler: Vec<u8> = (1..=255).cycle().take(600).collect();
    check_json(&Voucher::decode(&mut Reader::new(&filler)).expect("only numbers"));
    check_json(&JobAcceptance::decode(&mut Reader::new(&filler)).expect("only numbers"));
    check_json(&Receipt::decode(&mut Reader::new(&[0; 600])).expect("zeros"));
    let mut batch = BatchRoot::decode(&mut Reader::new(&[0; 600])).expect("zeros");
    check_json(&batch);
    let line = |start: usize| Canonical::decode(&mut Reader::new(&filler[start..])).expect("only numbers");
    batch.lines = vec![line(0), line(7)];
    check_json(&batch);
    check_json(&Mail(Person("a\"\n", Address([7; 20])), Person("", Address::ZERO), "é"));
}
