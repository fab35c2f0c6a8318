use axum::http::StatusCode;
use dn_core::Address;

use super::*;
use crate::block::Certificate;
use crate::chain::tests::genesis;
use crate::node::quota::BURST;
use crate::node::store::Store;

/// A node's subscriptions over a chain of so many empty blocks.
struct Service {
    subscriptions: Subscriptions,
    shared: Arc<Shared>,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

fn service(blocks: u64) -> Service {
    let dir = tempfile::tempdir().unwrap();
    let genesis = genesis();
    let (store, chain) = Store::open(dir.path(), &genesis).unwrap();
    let shared = Arc::new(Shared::new(chain, store, genesis.hash(), None, false));
    let (stop, stopped) = watch::channel(false);
    let subscriptions = Subscriptions::new(Arc::clone(&shared), Arc::default(), stopped);
    let service = Service { subscriptions, shared, _stop: stop, _dir: dir };
    (0..blocks).for_each(|_| service.block());
    service
}

impl Service {
    fn block(&self) {
        let mut chain = self.shared.chain_mut();
        let time_ms = chain.tip().time_ms + 1;
        let proposal = chain.propose(Address([1; 20]), time_ms, &[]).unwrap();
        let certificate = Certificate::default();
        self.shared.store.commit(&proposal.block, &certificate, &proposal.executed).unwrap();
        chain.commit(&proposal.block.header, certificate, &proposal.executed);
        drop(chain);
        self.shared.answer(&proposal.block, &proposal.executed);
    }

    async fn open(&self, caller: &str, query: &str, last_id: Option<&str>) -> Result<Reader, SubscribeError> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_id {
            headers.insert("last-event-id", id.parse().unwrap());
        }
        let caller = Caller(caller.parse().unwrap());
        let uri = format!("/events?{query}").parse().unwrap();
        self.subscriptions.clone().open(caller, &uri, &headers).await
    }
}

/// What a message says, as it goes over the wire.
fn text(message: &Message) -> String {
    format!("{message:?}")
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_takes_no_more_than_its_places_and_strangers_not_all() {
    let service = service(0);
    let mut open = Vec::new();
    for _ in 0..MAX_OF_CALLER {
        open.push(service.open("192.0.2.1", "", None).await.unwrap());
    }
    let refused = service.open("192.0.2.1", "", None).await.err().unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.to_string(), "no place for a stream: 16 of this address are open");
    for n in 2..=7 {
        for _ in 0..MAX_OF_CALLER {
            open.push(service.open(&format!("192.0.2.{n}"), "", None).await.unwrap());
        }
    }
    assert_eq!(open.len(), 112);
    let refused = service.open("192.0.2.8", "", None).await.err().unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.to_string(), "no place for a stream: 112 are open");
    // Programs of the same machine are not counted, and have places left.
    for _ in 0..MAX_SUBSCRIBERS - 112 {
        open.push(service.open("127.0.0.1", "", None).await.unwrap());
    }
    assert!(service.open("127.0.0.1", "", None).await.is_err());
    drop(open);
    assert!(service.open("192.0.2.1", "", None).await.is_ok());
}

/// A filter that nothing fits reads the whole chain: its caller pays for every block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_are_read_to_catch_up_are_the_callers_to_pay() {
    let service = service(300);
    let few = NonZeroU32::new(BURST - 100).unwrap();
    let (who, other) = (Caller("192.0.2.1".parse().unwrap()), Caller("192.0.2.2".parse().unwrap()));
    let mut reader = service.open("192.0.2.1", "from_height=0&event=jailed", None).await.unwrap();
    assert!(text(&reader.next().await.unwrap()).contains("0.4294967295"), "where it begins");
    let at = tokio::time::timeout(SOON, reader.next()).await.unwrap().unwrap();
    assert!(text(&at).contains(&format!("{}.4294967295", reader.next_height - 1)), "{at:?}");
    assert!(reader.next_height > 200, "{}", reader.next_height);
    assert!(!service.subscriptions.quotas.allows(who, few), "hundreds of blocks are hundreds of calls");
    assert!(service.subscriptions.quotas.allows(other, few));

    // Who owes too much waits; who reads the newest block, or is on the same machine, does not.
    let quotas = Arc::clone(&service.subscriptions.quotas);
    let third = Caller("192.0.2.3".parse().unwrap());
    let mut behind = service.open("192.0.2.3", "from_height=1", None).await.unwrap();
    let mut live = service.open("192.0.2.3", "event=holding_changed", None).await.unwrap();
    let mut own = service.open("127.0.0.1", "from_height=1&event=jailed", None).await.unwrap();
    quotas.charge(third, u32::MAX);
    for reader in [&mut behind, &mut live, &mut own] {
        assert!(reader.next().await.is_some(), "where it begins");
    }
    assert!(tokio::time::timeout(SOON, own.next()).await.unwrap().is_some());
    let waiting = tokio::time::timeout(Duration::from_millis(600), behind.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert_eq!(behind.next_height, 1);
    let next = service.shared.chain().tip().height + 1;
    service.block();
    let reading = tokio::time::timeout(SOON, live.read(next)).await.unwrap();
    assert_eq!((reading, live.next_height), (Some(()), next + 1));
    // Nor is a stream opened for who owes.
    let refused = service.open("192.0.2.3", "", None).await.err().unwrap();
    assert!(matches!(refused, SubscribeError::Calls), "{refused:?}");
}

/// An id without an event is where a subscriber goes on that has seen nothing that fits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_is_known_though_nothing_fits() {
    let service = service(40);
    let mut reader = service.open("127.0.0.1", "from_height=3&event=jailed", None).await.unwrap();
    assert!(text(&reader.next().await.unwrap()).contains("2.4294967295"));
    let seen = tokio::time::timeout(SOON, reader.next()).await.unwrap().unwrap();
    assert!(text(&seen).contains("40.4294967295"), "{seen:?}");
    service.shared.store.prune(38).unwrap();
    let reader = service.open("127.0.0.1", "event=jailed", Some("40.4294967295")).await.unwrap();
    assert_eq!((reader.next_height, reader.ready.len()), (41, 0));
    // All of block 37 was seen, and 38 is held.
    let reader = service.open("127.0.0.1", "", Some("37.4294967295")).await.unwrap();
    assert_eq!(reader.next_height, 38);
    for (query, last_id, height) in [
        ("", Some("37.0"), 37),
        ("", Some("0.0"), 1),
        ("from_height=40", Some("36.4294967295"), 37),
        ("from_height=1", None, 1),
    ] {
        let refused = service.open("127.0.0.1", query, last_id).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::GONE);
        let SubscribeError::Pruned(pruned) = refused else { panic!("{refused:?}") };
        assert_eq!((pruned.height, pruned.first_block), (height, 38), "{query} {last_id:?}");
    }
    let reader = service.open("127.0.0.1", "from_height=0", None).await.unwrap();
    assert_eq!(reader.next_height, 38);
}
