use std::collections::BTreeMap;

use jmt::mock::MockTreeStore;
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue};
use proptest::prelude::*;
use sha3::Keccak256;

use super::*;
use crate::state::ProofError;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type Ops = Vec<(u16, Option<u8>)>;

fn key(n: u16) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn tree_of(entries: &Entries) -> Tree {
    Tree::of_leaves(entries.iter().map(|(key, value)| LeafHash::of(key, value)).collect())
}

fn ops() -> impl Strategy<Value = Ops> {
    prop::collection::vec((0u16..60, prop::option::weighted(0.7, 0u8..4)), 0..50)
}

fn apply(entries: &mut Entries, ops: &Ops) {
    for (n, value) in ops {
        match value {
            Some(v) => entries.insert(key(*n), vec![*v]),
            None => entries.remove(&key(*n)),
        };
    }
}

fn changes(ops: &Ops) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    ops.iter().map(|(n, value)| (key(*n), value.map(|v| vec![v]))).collect()
}

fn updated(tree: &Tree, ops: &Ops) -> Tree {
    let changes = changes(ops);
    tree.update(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())))
}

/// Every byte of a proof is bound: whichever is changed, it proves nothing any more.
fn refuses_mutations(proof: &StateProof, root: Hash32, key: &[u8], value: Option<&[u8]>) {
    use dn_core::Canonical;
    let bytes = proof.to_bytes();
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            let Ok(bad) = StateProof::from_bytes(&bad) else { continue };
            assert!(bad.verify(root, key, value).is_err(), "byte {at} ^ {flip}");
        }
    }
}

/// So many changes at once that the sides of the upper branches are hashed on several threads.
#[test]
fn many_changes_at_once() {
    let mut entries: Entries = (0..2_000).map(|n| (key(n), vec![1])).collect();
    let tree = tree_of(&entries);
    let ops: Ops = (0..1_500).map(|n| (n * 3, (n % 5 > 0).then_some(n as u8))).collect();
    apply(&mut entries, &ops);
    assert_eq!(updated(&tree, &ops).hash(), tree_of(&entries).hash());
}

proptest! {
    /// Along any way the tree is that of its entries; every proof holds, says nothing else, and survives no changed byte.
    #[test]
    fn updates_and_proofs(first in ops(), second in ops()) {
        let mut entries = Entries::new();
        apply(&mut entries, &first);
        let one = updated(&Tree::default(), &first);
        prop_assert_eq!(one.hash(), tree_of(&entries).hash());
        let before = one.hash();
        apply(&mut entries, &second);
        let two = updated(&one, &second);
        prop_assert_eq!(two.hash(), tree_of(&entries).hash());
        prop_assert_eq!(one.hash(), before);
        for n in 0..60 {
            let (key, proof) = (key(n), two.prove(&key(n)));
            let value = entries.get(&key).map(Vec::as_slice);
            prop_assert_eq!(proof.verify(two.hash(), &key, value), Ok(()));
            prop_assert!(proof.verify(two.hash(), &key, Some(b"other")).is_err());
            let opposite = if value.is_some() { None } else { Some(&b""[..]) };
            let refused = matches!(
                proof.verify(two.hash(), &key, opposite),
                Err(ProofError::End { .. } | ProofError::Neighbour { .. })
            );
            prop_assert!(refused);
            let other = self::key(n + 100);
            prop_assert!(proof.verify(two.hash(), &other, value).is_err() || value.is_none());
        }
        let proof = two.prove(&key(7));
        refuses_mutations(&proof, two.hash(), &key(7), entries.get(&key(7)).map(Vec::as_slice));
    }

    /// Roots are those of `jmt`, and `jmt`'s proofs lead to ours.
    #[test]
    fn roots_are_those_of_jmt(first in ops(), second in ops()) {
        let store = MockTreeStore::default();
        let theirs = JellyfishMerkleTree::<_, Keccak256>::new(&store);
        let mut entries = Entries::new();
        let mut ours = Tree::default();
        for (version, ops) in [first, second].into_iter().enumerate() {
            apply(&mut entries, &ops);
            ours = updated(&ours, &ops);
            let set: BTreeMap<Vec<u8>, Option<OwnedValue>> = changes(&ops).into_iter().collect();
            let set = set.into_iter().map(|(key, value)| (KeyHash::with::<Keccak256>(key), value));
            let (root, batch) = theirs.put_value_set(set, version as u64).expect("in memory");
            store.write_tree_update_batch(batch).expect("in memory");
            prop_assert_eq!(root.0, ours.hash().0);
        }
        for (key, value) in &entries {
            let key = KeyHash::with::<Keccak256>(key);
            let (_, proof) = theirs.get_with_proof(key, 1).expect("in memory");
            prop_assert!(proof.verify_existence(jmt::RootHash(ours.hash().0), key, value).is_ok());
        }
    }

    /// The pieces of a cut are subtrees: each root follows from its leaves alone, and together they hold every leaf.
    #[test]
    fn cuts_cover_the_tree(first in ops(), limit in 1usize..20) {
        let mut entries = Entries::new();
        apply(&mut entries, &first);
        let mut leaves: Vec<_> = entries.iter().map(|(k, v)| LeafHash::of(k, v)).collect();
        leaves.sort_by_key(|leaf| leaf.key);
        let tree = tree_of(&entries);
        let keys: Vec<_> = leaves.iter().map(|leaf| leaf.key).collect();
        let cuts = tree.cut(&keys, &|range| range.len() > limit);
        let all: Vec<_> = cuts.iter().flat_map(|cut| cut.keys.clone()).collect();
        prop_assert_eq!(all, (0..leaves.len()).collect::<Vec<_>>());
        for cut in &cuts {
            prop_assert!(cut.keys.len() <= limit);
            prop_assert_eq!(subtree_hash(&leaves[cut.keys.clone()], cut.depth), cut.hash);
        }
    }
}

#[test]
fn the_empty_tree_proves_absence() {
    let tree = Tree::default();
    let proof = tree.prove(b"x");
    assert_eq!(proof.verify(tree.hash(), b"x", None), Ok(()));
    assert!(matches!(proof.verify(tree.hash(), b"x", Some(b"")), Err(ProofError::End { .. })));
}

/// The only other entry of a subtree cannot be passed off as a neighbour when it is the entry itself, or lies elsewhere.
#[test]
fn absence_cannot_be_faked() {
    let entries: Entries = (0..40u16).map(|n| (key(n), vec![1])).collect();
    let tree = tree_of(&entries);
    let leaf = LeafHash::of(&key(3), &[1]);
    let siblings = tree.prove(&key(3)).siblings;
    let own = StateProof { end: ProofEnd::Other { key: leaf.key, value: leaf.value }, siblings };
    assert!(matches!(own.verify(tree.hash(), &key(3), None), Err(ProofError::Neighbour { .. })));
    let elsewhere = (0..40).map(key).find(|k| own.verify(tree.hash(), k, None).is_ok());
    assert_eq!(elsewhere, None);
    let long = StateProof { end: ProofEnd::Empty {}, siblings: vec![Hash32::ZERO; 257] };
    assert!(matches!(long.verify(tree.hash(), b"", None), Err(ProofError::Depth { found: 257, .. })));
}
