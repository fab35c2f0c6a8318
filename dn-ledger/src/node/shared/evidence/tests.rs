use std::path::Path;

use dn_core::{Amount, BlockHash, SecretKey, Signature};

use super::*;
use crate::block::Certificate;
use crate::genesis::{Devnet, DevnetValidator, Genesis};
use crate::node::consensus::evidence::{Equivocation, file};
use crate::node::shared::NotAdmitted;
use crate::node::store::Store;
use crate::params::Params;
use crate::reject::EvidenceFault;
use crate::tx::{Evidence, Tx};
use crate::vote::{Vote, VoteKind};

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

/// Four validators that hold bond and stake, and not an atto beside.
fn shared(dir: &Path) -> Shared {
    let validators = (1..=4).map(|n| DevnetValidator {
        address: key(n).address(),
        name: format!("v{n}"),
        endpoint: format!("v{n}"),
        stake: Amount::from_dn(10_000),
    });
    let (faucet, validators) = (key(9).address(), validators.collect());
    let devnet = Devnet { chain_id: 1, time_ms: 1, faucet, funded: Vec::new(), validators };
    let genesis = Genesis::devnet(&devnet, Params::devnet()).unwrap();
    let (store, chain) = Store::open(dir, &genesis).unwrap();
    Shared::new(chain, store, genesis.hash(), None, false)
}

/// Two votes, the first one of the first validator, the second one with this key's signature.
fn votes(signer: u8) -> [(Vote, Signature); 2] {
    let vote = |block, signer| {
        let vote = Vote { chain_id: 1, height: 1, round: 0, kind: VoteKind::Prevote, block };
        (vote, key(signer).sign(&vote.digest()))
    };
    [vote(None, 1), vote(Some(BlockHash([1; 32])), signer)]
}

/// A report of these votes, the first one signed by the accused.
fn report(sender: u8, accused: u8, signer: u8) -> Tx {
    let [(first, mut first_signature), (second, second_signature)] = votes(signer);
    if accused != 1 {
        first_signature = key(accused).sign(&first.digest());
    }
    let evidence = Evidence::Votes { first, first_signature, second, second_signature };
    let payload = Payload::SubmitEvidence { validator: key(accused).address(), evidence };
    let (sender, fee) = (key(sender).address(), Amount::ZERO);
    let mut tx = Tx { chain_id: 1, sender, nonce: 0, expires_height: 50, fee, payload };
    tx.fee = tx.least_fee(Params::devnet().min_tx_fee);
    tx
}

fn submit(shared: &Shared, tx: &SignedTx) -> Result<(), NotAdmitted> {
    shared.submit(vec![(tx.id(), tx.clone())]).pop().unwrap().map(|_| ())
}

fn waiting(shared: &Shared) -> usize {
    shared.pool().mempool.len()
}

#[test]
fn reports_that_no_balance_pays_are_tried_before_they_wait() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let refused = |tx: Tx, signer: u8| {
        let tx = tx.sign(&key(signer));
        let refused = match submit(&shared, &tx) {
            Err(NotAdmitted::Rejected(reject)) => reject,
            other => panic!("{other:?}"),
        };
        // Nor from another node.
        shared.take_in(vec![tx]);
        assert_eq!(waiting(&shared), 0);
        refused
    };
    let accused = key(1).address();
    assert!(matches!(refused(report(2, 1, 5), 2), Reject::Signature { expected, .. } if expected == accused));
    let own = EvidenceFault::Own { validator: accused };
    assert_eq!(refused(report(1, 1, 1), 1), Reject::Evidence(own));
    let (stranger, needed) = (key(8).address(), report(8, 1, 1).fee);
    let insufficient = |account, available, needed| Reject::Insufficient { account, available, needed };
    assert_eq!(refused(report(8, 1, 1), 8), insufficient(stranger, Amount::ZERO, needed));
    assert!(matches!(
        refused(Tx { nonce: 1, ..report(2, 1, 1) }, 2),
        Reject::Nonce { expected: 0, found: 1 }
    ));
    let dear = Tx { fee: Amount::from_dn(1_000_000), ..report(2, 1, 1) };
    assert!(matches!(refused(dear, 2), Reject::Insufficient { available, .. } if !available.is_zero()));

    let first = report(2, 1, 1).sign(&key(2));
    for _ in 0..2 {
        submit(&shared, &first).unwrap();
        assert_eq!(waiting(&shared), 1, "the same again is nothing new");
    }
    // One about each validator.
    let second = report(3, 1, 1).sign(&key(3));
    let refused = submit(&shared, &second);
    assert!(
        matches!(refused, Err(NotAdmitted::Mempool(MempoolError::Reported { validator })) if validator == accused),
        "{refused:?}"
    );
    submit(&shared, &report(3, 4, 4).sign(&key(3))).unwrap();
    assert_eq!(waiting(&shared), 2);
    let candidates = shared.candidates();
    let proposal = shared.chain_mut().propose(accused, 10, &candidates).unwrap();
    assert_eq!((proposal.block.txs.len(), proposal.rejected.len()), (2, 0));
    // The first one's place is free once it waits no longer.
    shared.pool().mempool.remove(key(2).address(), 0);
    submit(&shared, &report(4, 1, 1).sign(&key(4))).unwrap();
}

/// What a node has seen stays with it through refusals and losses, until the validator is punished.
#[test]
fn reports_wait_until_the_validator_is_punished() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let seen = |n: u8| Equivocation::Votes { validator: key(1).address(), votes: votes(n) };
    let kept = || shared.evidence.lock().unwrap().len();
    // Nothing proves it, nothing is to be reported.
    shared.keep_evidence(seen(5).into());
    file(&shared, &key(2));
    assert_eq!((kept(), waiting(&shared)), (0, 0));

    shared.keep_evidence(seen(1).into());
    shared.keep_evidence(seen(1).into());
    assert_eq!(kept(), 1, "one of each validator");
    // A key in no role pays beforehand, and has nothing.
    file(&shared, &key(8));
    assert_eq!((kept(), waiting(&shared)), (1, 0));
    for _ in 0..2 {
        file(&shared, &key(2));
        assert_eq!((kept(), waiting(&shared)), (1, 1), "sent once");
    }
    // It made room for others, say.
    shared.pool().mempool.remove(key(2).address(), 0);
    file(&shared, &key(2));
    assert_eq!((kept(), waiting(&shared)), (1, 1), "and again");

    let candidates = shared.candidates();
    let mut chain = shared.chain_mut();
    let proposal = chain.propose(key(1).address(), 10, &candidates).unwrap();
    assert_eq!(proposal.block.txs, candidates);
    chain.commit(&proposal.block.header, Certificate::default(), &proposal.executed);
    drop(chain);
    file(&shared, &key(2));
    assert_eq!(kept(), 0, "it is punished");
}
