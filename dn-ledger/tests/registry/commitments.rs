//! Commitments to models: whoever reads a manifest in a transaction that waits commits too late.

use dn_core::{Address, Hash32, ModelId};
use dn_ledger::events::Event;
use dn_ledger::reject::{RegistryReject, Reject};
use dn_ledger::state::{DUE_COMMITMENTS, MODEL_COMMITMENTS, MODELS};
use dn_ledger::tx::{NewVersion, model_commitment};
use dn_ledger::{Params, Payload, Role};

use crate::common::{World, address, manifest, params, price};
use crate::{model_owner, refused, version};

const BLOCKS: u64 = 4;
const SALT: Hash32 = Hash32([9; 32]);

/// Two model owners on a chain that asks for commitments.
fn start() -> World {
    let mut params: Params = params();
    params.registry.commit_blocks = BLOCKS;
    let mut w = World::with(params);
    ["owner", "stranger"].into_iter().for_each(|name| drop(w.ok(name, model_owner())));
    w
}

fn id(tag: u8) -> ModelId {
    manifest(tag).id()
}

fn commitment(tag: u8, owner: &str) -> Hash32 {
    model_commitment(id(tag), address(owner), &SALT)
}

fn commit(w: &mut World, name: &str, commitment: Hash32) -> Vec<Event> {
    w.ok(name, Payload::CommitModel { commitment })
}

fn plain(tag: u8, salt: Option<Hash32>) -> Payload {
    Payload::PublishModel { manifest: manifest(tag), name: "m".into(), price: price(), domain: 0, salt }
}

fn with_terms(tag: u8, salt: Option<Hash32>) -> Payload {
    Payload::PublishVersion { version: NewVersion { salt, ..version(tag) } }
}

fn open(w: &World) -> [usize; 2] {
    [MODEL_COMMITMENTS.iter(w.state()).count(), DUE_COMMITMENTS.iter(w.state()).count()]
}

#[test]
fn who_copies_a_manifest_commits_too_late() {
    for publish in [plain, with_terms] {
        let mut w = start();
        let model = id(3);
        let events = commit(&mut w, "owner", commitment(3, "owner"));
        let (made, owner) = (w.height(), address("owner"));
        let from_height = made + BLOCKS;
        let expires_height = from_height + 10_000;
        let own = commitment(3, "owner");
        let expected = Event::ModelCommitted { owner, commitment: own, from_height, expires_height };
        assert!(events.contains(&expected), "{events:?}");
        // Whoever copies the commitment has one of somebody else.
        commit(&mut w, "stranger", own);
        while w.height() + 1 < from_height {
            let height = w.height() + 1;
            let young = RegistryReject::CommitmentYoung { commitment: own, from_height, height };
            assert_eq!(refused(&w, "owner", publish(3, Some(SALT))), young);
            w.block(&[]);
        }
        // The publication waits; now the stranger reads it, salt and all, and is first with its own publication.
        commit(&mut w, "stranger", commitment(3, "stranger"));
        let theirs = commitment(3, "stranger");
        let unknown = |salt: Hash32, owner: Address| RegistryReject::UnknownCommitment {
            model,
            commitment: model_commitment(model, owner, &salt),
        };
        let other = Hash32([1; 32]);
        assert_eq!(refused(&w, "stranger", publish(3, Some(other))), unknown(other, address("stranger")));
        assert_eq!(refused(&w, "owner", publish(3, Some(other))), unknown(other, owner));
        let needed = RegistryReject::CommitmentNeeded { model, blocks: BLOCKS };
        assert_eq!(refused(&w, "owner", publish(3, None)), needed);
        let height = w.height() + 1;
        let young =
            RegistryReject::CommitmentYoung { commitment: theirs, from_height: w.height() + BLOCKS, height };
        assert_eq!(refused(&w, "stranger", publish(3, Some(SALT))), young);
        // It is old enough now, and of this model alone.
        assert_eq!(
            refused(&w, "owner", publish(4, Some(SALT))),
            RegistryReject::UnknownCommitment { model: id(4), commitment: commitment(4, "owner") }
        );
        assert_eq!(open(&w), [3, 3]);
        w.ok("owner", publish(3, Some(SALT)));
        assert_eq!(MODELS.get(w.state(), &model).unwrap().owner, owner);
        assert_eq!(open(&w), [2, 2], "it is used up, the stranger's are not");
        assert!(!MODEL_COMMITMENTS.contains(w.state(), &(owner, own)));
        w.blocks(BLOCKS);
        let late = w.reject("stranger", publish(3, Some(SALT)));
        assert_eq!(late, Reject::ModelExists { model, owner });
    }
}

/// Not one block longer.
#[test]
fn a_commitment_waits_as_long_as_it_is_told() {
    let mut w = start();
    commit(&mut w, "owner", commitment(5, "owner"));
    let made = w.height();
    w.blocks(BLOCKS - 1);
    w.ok("owner", plain(5, Some(SALT)));
    assert_eq!(w.height(), made + BLOCKS);
}

#[test]
fn commitments_are_bounded() {
    let mut w = start();
    let of = |n: u8| Hash32([n; 32]);
    let role = Role::ModelOwner;
    let unknown = Reject::UnknownIdentity { address: address("payer"), role };
    assert_eq!(w.reject("payer", Payload::CommitModel { commitment: of(1) }), unknown);
    commit(&mut w, "owner", of(0));
    let height = w.height();
    let exists = RegistryReject::CommitmentExists { commitment: of(0), height };
    assert_eq!(refused(&w, "owner", Payload::CommitModel { commitment: of(0) }), exists);
    (1..16).for_each(|n| drop(commit(&mut w, "owner", of(n))));
    let full = RegistryReject::CommitmentsFull { limit: 16 };
    assert_eq!(refused(&w, "owner", Payload::CommitModel { commitment: of(16) }), full);
    // Somebody else has places of its own.
    commit(&mut w, "stranger", of(16));
    assert_eq!(open(&w), [17, 17]);
}

/// A chain that asks for none takes a publication with or without a salt, and touches no commitment.
#[test]
fn no_commitment_is_needed_where_none_is_asked_for() {
    let mut w = World::bare();
    w.ok("owner", model_owner());
    commit(&mut w, "owner", commitment(6, "owner"));
    w.ok("owner", plain(6, Some(SALT)));
    w.ok("owner", with_terms(7, None));
    assert_eq!(open(&w), [1, 1]);
    assert!(Params::main().registry.commit_blocks > 0, "a main network asks");
}
