//! A publication on a chain that asks for a commitment first: both steps by themselves, and on from where they broke off.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use dn_compute::Model;
use dn_core::objects::Price;
use dn_core::{Amount, SecretKey};
use dn_ledger::genesis::{Devnet, DevnetValidator, Genesis};
use dn_ledger::node::{Node, NodeConfig};
use dn_ledger::params::Params;
use dn_ledger::reject::{RegistryReject, Reject};
use dn_ledger::tx::{Payload, Role, model_commitment};
use dn_sdk::ledger::{LedgerClient, model_salt};

const BLOCKS: u64 = 4;

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn genesis() -> Genesis {
    let (owner, validator) = (key(1).address(), key(2).address());
    let mut params = Params::devnet();
    params.registry.commit_blocks = BLOCKS;
    let stake = Amount::from_dn(5_000);
    let devnet = Devnet {
        chain_id: 77,
        time_ms: 1,
        faucet: key(9).address(),
        funded: vec![(owner, Amount::from_dn(1_000)), (validator, Amount::from_dn(100))],
        validators: vec![DevnetValidator {
            address: validator,
            name: "v".into(),
            endpoint: "in-process".into(),
            stake,
        }],
    };
    Genesis::devnet(&devnet, params).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_commits_first_and_goes_on_where_it_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        NodeConfig::alone(dir.path().join("ledger"), genesis(), (Ipv4Addr::LOCALHOST, 0).into(), key(2), 50);
    let node = Node::start(config).await.unwrap();
    let ledger = LedgerClient::new(&format!("http://{}", node.rpc_addr())).unwrap();
    let owner = key(1);
    let (role, collateral) = (Role::ModelOwner, Amount::from_dn(100));
    let register = Payload::Register { role, collateral, name: "n".into(), endpoint: String::new() };
    ledger.submit(&owner, register).await.unwrap();

    let manifest = Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap().manifest().clone();
    let model = manifest.id();
    let one = Amount::from_atto(1);
    let price = Price { prompt_token: one, output_token: one };
    let publish = Payload::PublishModel { manifest, name: "m".into(), price, domain: 0, salt: None };
    let refused = ledger.submit(&owner, publish.clone()).await.unwrap_err();
    let needed = RegistryReject::CommitmentNeeded { model, blocks: BLOCKS };
    assert_eq!(refused.reject(), Some(&Reject::Registry(needed)));

    // A call that broke off after its commitment: the next one takes it up.
    let salt = model_salt(&owner, model);
    let commitment = model_commitment(model, owner.address(), &salt);
    let made = ledger.submit(&owner, Payload::CommitModel { commitment }).await.unwrap().height;
    let ready = ledger.commit_first(&owner, publish.clone()).await.unwrap();
    assert!(matches!(&ready, Payload::PublishModel { salt: found, .. } if *found == Some(salt)));
    let outcome = ledger.submit(&owner, ready.clone()).await.unwrap();
    assert!(outcome.height >= made + BLOCKS);
    assert_eq!(ledger.model(model).await.unwrap().unwrap().owner, owner.address());

    // Nothing else is touched, and a salt of one's own is left alone.
    let status = ledger.status().await.unwrap();
    for payload in [Payload::Withdraw {}, ready] {
        assert_eq!(ledger.commit_first(&owner, payload.clone()).await.unwrap(), payload);
    }
    let after = ledger.account(owner.address()).await.unwrap();
    assert!(status.height > 0 && after.nonce == 3, "{after:?}");
    // From the start: it commits and waits.
    let mut version = publish;
    let Payload::PublishModel { manifest, .. } = &mut version else { unreachable!() };
    manifest.stop_tokens.clear();
    let model = manifest.id();
    let ready = ledger.commit_first(&owner, version).await.unwrap();
    ledger.submit(&owner, ready).await.unwrap();
    assert_eq!(ledger.model(model).await.unwrap().unwrap().id, model);
}
