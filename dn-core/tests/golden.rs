//! Encodings, identities, digests, signatures and roots against vectors from `tools/golden/core.py`, which shares no
//! code with this crate. A changed vector is a changed protocol.

mod common;

use std::collections::BTreeMap;

use dn_core::eip712::{Domain, Fields, TypedData};
use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, token_hash};
use dn_core::{Address, Canonical, Signable, Signed};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    addresses: BTreeMap<String, String>,
    objects: BTreeMap<String, Object>,
    signed: BTreeMap<String, SignedVector>,
    group_struct_hash: String,
    job_id: String,
    token_hash: String,
    verdict_commitment: String,
    merkle_roots: Vec<String>,
}

#[derive(Deserialize)]
struct Object {
    bytes: String,
    keccak: String,
}

#[derive(Deserialize)]
struct SignedVector {
    struct_hash: String,
    digest: String,
    signature: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/core.json")).expect("the committed vectors parse")
}

/// Takes one object's vector out of the map and compares.
fn check<T: Canonical + PartialEq + std::fmt::Debug>(
    left: &mut BTreeMap<String, Object>,
    name: &str,
    value: &T,
) {
    let Object { bytes, keccak } = left.remove(name).expect(name);
    assert_eq!(hex::encode(value.to_bytes()), bytes, "{name}");
    assert_eq!(hex::encode(value.keccak()), keccak, "{name}");
    assert_eq!(T::from_bytes(&hex::decode(bytes).expect(name)).as_ref(), Ok(value), "{name}");
}

#[test]
fn every_object_has_its_golden_encoding() {
    let mut left = golden().objects;
    check(&mut left, "sampling", &common::sampling());
    check(&mut left, "decoding", &common::decoding());
    check(&mut left, "price", &common::price());
    check(&mut left, "job_request", &common::request());
    check(&mut left, "receipt", &common::receipt());
    check(&mut left, "voucher", &common::voucher());
    check(&mut left, "job_acceptance", &common::acceptance());
    check(&mut left, "session_grant", &common::session_grant(&["model", "other model"]));
    check(&mut left, "session_grant_any", &common::session_grant(&[]));
    check(&mut left, "batch_line", &common::batch_line(1));
    check(&mut left, "batch_root", &common::batch_root(&[0, 1]));
    check(&mut left, "batch_root_empty", &common::batch_root(&[]));
    check(&mut left, "hyperparameters", &common::hyperparameters());
    for (name, scaling) in common::rope_scalings() {
        check(&mut left, name, &scaling);
    }
    check(&mut left, "model_manifest", &common::manifest());
    let mut bare = common::manifest();
    (bare.bos_token, bare.stop_tokens) = (None, Vec::new());
    check(&mut left, "model_manifest_bare", &bare);
    check(&mut left, "verdict_match", &common::verdict(AuditOutcome::Match {}));
    check(&mut left, "verdict_mismatch", &common::verdict(AuditOutcome::Mismatch { position: 259 }));
    check(&mut left, "verdict_unavailable", &common::verdict(AuditOutcome::Unavailable {}));
    check(&mut left, "verdict_unjudged", &common::verdict(AuditOutcome::Unjudged {}));
    check(&mut left, "inclusion_proof", &common::proof());
    assert!(left.is_empty(), "not compared: {:?}", left.keys());
}

#[test]
fn identities_are_the_golden_hashes() {
    let Golden { objects, job_id, .. } = golden();
    let keccak = |name: &str| format!("0x{}", objects[name].keccak);
    assert_eq!(common::request().id().to_string(), format!("0x{job_id}"));
    assert_eq!(common::receipt().id().to_string(), keccak("receipt"));
    assert_eq!(common::batch_root(&[0, 1]).id().to_string(), keccak("batch_root"));
    assert_eq!(common::manifest().id().to_string(), keccak("model_manifest"));
}

fn check_signed<T: Signable + Clone>(
    left: &mut BTreeMap<String, SignedVector>,
    name: &str,
    value: &T,
    who: &str,
) {
    let vector = left.remove(name).expect(name);
    assert_eq!(hex::encode(value.struct_hash()), vector.struct_hash, "{name}");
    assert_eq!(hex::encode(Domain::deepnode(common::CHAIN).digest(value)), vector.digest, "{name}");
    let signed = Signed::sign(value.clone(), &common::key(who));
    assert_eq!(hex::encode(signed.signature.as_bytes()), vector.signature, "{name}");
    assert_eq!(signed.verify(common::CHAIN, common::EXPIRES_MS), Ok(()), "{name}");
}

#[test]
fn signed_objects_have_their_golden_digests_and_signatures() {
    let mut left = golden().signed;
    check_signed(&mut left, "receipt", &common::receipt(), "worker");
    check_signed(&mut left, "voucher", &common::voucher(), "payer");
    check_signed(&mut left, "job_acceptance", &common::acceptance(), "payer");
    check_signed(&mut left, "session_grant", &common::session_grant(&["model", "other model"]), "payer");
    check_signed(&mut left, "session_grant_any", &common::session_grant(&[]), "payer");
    check_signed(&mut left, "batch_root", &common::batch_root(&[0, 1]), "gateway");
    check_signed(&mut left, "batch_root_empty", &common::batch_root(&[]), "gateway");
    assert!(left.is_empty(), "not compared: {:?}", left.keys());
}

#[test]
fn keys_have_their_golden_addresses() {
    for (who, address) in golden().addresses {
        assert_eq!(hex::encode(common::key(&who).address().0), address, "{who}");
    }
}

struct Person(&'static str, Address);

impl TypedData for Person {
    const TYPE: &'static str = "Person(string name,address wallet)";
    fn fields(&self, f: &mut Fields) {
        f.text(self.0).address(self.1);
    }
}

struct Group {
    owner: Person,
    members: Vec<Person>,
    note: [u8; 2],
}

impl TypedData for Group {
    const TYPE: &'static str =
        "Group(string name,Person owner,Person[] members,bytes note)Person(string name,address wallet)";
    fn fields(&self, f: &mut Fields) {
        f.text("Herd").nested(&self.owner).array(&self.members).bytes(&self.note);
    }
}

#[test]
fn nested_structs_arrays_and_bytes_hash_as_eip_712_says() {
    let cow = || Person("Cow", common::key("payer").address());
    let group = Group {
        owner: cow(),
        members: vec![cow(), Person("Bob", common::key("worker").address())],
        note: [0, 0xff],
    };
    assert_eq!(hex::encode(group.struct_hash()), golden().group_struct_hash);
}

#[test]
fn merkle_roots_are_the_golden_ones() {
    for (count, root) in golden().merkle_roots.into_iter().enumerate() {
        let tree = MerkleTree::new((0..count).map(|i| vec![i as u8; i]));
        assert_eq!(hex::encode(tree.root().0), root, "{count} leaves");
    }
}

#[test]
fn other_hashes_are_the_golden_ones() {
    let golden = golden();
    assert_eq!(hex::encode(token_hash(&[1, 2, u32::MAX]).0), golden.token_hash);
    let verdict = common::verdict(AuditOutcome::Mismatch { position: 259 });
    assert_eq!(hex::encode(verdict.commitment(&common::label("salt")).0), golden.verdict_commitment);
}
