//! Subscriptions: whatever breaks on the way, each event comes once and in order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dn_core::{Amount, SecretKey};
use dn_ledger::events::Event;
use dn_ledger::node::{History, Node, NodeConfig, free_addrs};
use dn_ledger::tx::{Payload, Role};
use dn_ledger::views::{EventView, Pruned};
use dn_ledger::{Devnet, DevnetValidator, Genesis, Params};
use dn_sdk::ledger::{EventFilter, EventStream, EventsFrom, LedgerClient, LedgerError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Within this every wait of these tests is over, if it ends at all.
const SOON: Duration = Duration::from_secs(60);

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn genesis() -> Genesis {
    let validator = DevnetValidator {
        address: key(1).address(),
        name: "v".into(),
        endpoint: "in-process".into(),
        stake: Amount::from_dn(10_000),
    };
    let devnet = Devnet {
        chain_id: 9,
        time_ms: 1,
        faucet: key(2).address(),
        funded: vec![(key(3).address(), Amount::from_dn(1_000))],
        validators: vec![validator],
    };
    Genesis::devnet(&devnet, Params::devnet()).unwrap()
}

async fn node(dir: &Path, listen: SocketAddr, history: History) -> Node {
    let alone = NodeConfig::alone(dir.to_owned(), genesis(), listen, key(1), 40);
    Node::start(NodeConfig { history, ..alone }).await.unwrap()
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn client(addr: SocketAddr) -> LedgerClient {
    LedgerClient::new(&format!("http://{addr}")).unwrap()
}

/// Pays so often; the height of the last block.
async fn pay(ledger: &LedgerClient, times: u64) -> u64 {
    let mut height = 0;
    for n in 0..times {
        let payload = Payload::Transfer { to: key(4).address(), amount: Amount::from_dn(n + 1) };
        height = ledger.submit(&key(3), payload).await.unwrap().height;
    }
    height
}

/// All events up to a height, as they are asked for.
async fn listed(ledger: &LedgerClient, height: u64) -> Vec<EventView> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let page = ledger.events(from, 1_000).await.unwrap();
        all.extend(page.events.into_iter().filter(|view| view.height <= height));
        if page.next_height > height {
            return all;
        }
        from = page.next_height;
    }
}

async fn read(stream: &mut EventStream, count: usize) -> Vec<EventView> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap());
    }
    all
}

/// Passes connections on and cuts each after some bytes of the answer: never at the same place.
async fn cutting(target: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(anywhere()).await.unwrap();
    let (addr, cuts) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&cuts);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let limit = 900 + 211 * count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                let (mut ask, mut answer) = near.split();
                let (far_answer, mut far_ask) = far.split();
                let mut answered = far_answer.take(limit);
                tokio::select! {
                    _ = tokio::io::copy(&mut answered, &mut answer) => {}
                    _ = async {
                        let _ = tokio::io::copy(&mut ask, &mut far_ask).await;
                        std::future::pending::<()>().await;
                    } => {}
                }
            });
        }
    });
    (addr, cuts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), anywhere(), History::default()).await;
    let ledger = client(node.rpc_addr());
    let (proxy, cuts) = cutting(node.rpc_addr()).await;
    let mut stream = client(proxy).subscribe(EventFilter::default(), EventsFrom::Height(0)).await.unwrap();
    let height = pay(&ledger, 12).await;
    let expected = listed(&ledger, height).await;
    assert!(expected.len() > 40, "{}", expected.len());
    assert_eq!(read(&mut stream, expected.len()).await, expected);
    let connections = cuts.load(Ordering::Relaxed);
    assert!(connections > 3, "{connections}");
    // On from any of them.
    let EventView { height, index, .. } = expected[20];
    let after = EventsFrom::After { height, index };
    let mut rest = ledger.subscribe(EventFilter::default(), after).await.unwrap();
    assert_eq!(read(&mut rest, expected.len() - 21).await, expected[21..]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_node_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_addrs(1).unwrap()[0];
    let first = node(dir.path(), addr, History::default()).await;
    let filter = EventFilter {
        event: Some("transferred".into()),
        address: Some(key(4).address()),
        ..EventFilter::default()
    };
    let mut stream = client(addr).subscribe(filter.clone(), EventsFrom::Next).await.unwrap();
    // Nothing has fitted yet, and the node goes away: what comes after it is heard all the same.
    let mut none = client(addr).subscribe(filter, EventsFrom::Next).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), none.next()).await.is_err());
    pay(&client(addr), 3).await;
    let before = read(&mut stream, 3).await;
    let waiting = tokio::spawn(async move {
        let after = read(&mut stream, 3).await;
        (after, stream)
    });
    first.shutdown().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second = node(dir.path(), addr, History::default()).await;
    let ledger = client(addr);
    let height = pay(&ledger, 3).await;
    let (after, mut stream) = waiting.await.unwrap();
    let heard = [before, after].concat();
    let wanted =
        |view: &EventView| matches!(&view.event, Event::Transferred { to, .. } if *to == key(4).address());
    let expected: Vec<_> = listed(&ledger, height).await.into_iter().filter(wanted).collect();
    assert_eq!((heard.len(), &heard), (6, &expected));
    assert_eq!(read(&mut none, 6).await, expected);
    let more = tokio::time::timeout(Duration::from_millis(500), stream.next()).await;
    assert!(more.is_err(), "{more:?}");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_refuses_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let history = History { keep_blocks: Some(5), ..History::default() };
    let node = node(dir.path(), anywhere(), history).await;
    let ledger = client(node.rpc_addr());
    let filter = EventFilter { event: Some("nonsense".into()), ..EventFilter::default() };
    let refused = ledger.subscribe(filter, EventsFrom::Next).await.unwrap_err();
    let LedgerError::NoStream { status: 400, message, .. } = &refused else { panic!("{refused:?}") };
    assert!(message.contains("`nonsense`") && message.contains("quality_opened"), "{message}");
    // All filters that there are reach the node.
    let filter = EventFilter {
        event: Some("transferred".into()),
        address: Some(key(4).address()),
        role: Some(Role::ModelOwner),
        model: Some(dn_core::ModelId::ZERO),
    };
    assert!(ledger.subscribe(filter, EventsFrom::Next).await.is_ok());

    while ledger.status().await.unwrap().first_block <= 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pruned = |error: LedgerError| match error {
        LedgerError::Pruned(pruned) => pruned,
        other => panic!("{other:?}"),
    };
    for found in [
        pruned(ledger.subscribe(EventFilter::default(), EventsFrom::Height(2)).await.unwrap_err()),
        pruned(ledger.events(2, 10).await.unwrap_err()),
        pruned(ledger.block(2).await.unwrap_err()),
        pruned(ledger.header(2).await.unwrap_err()),
    ] {
        let Pruned { height, first_block, .. } = found;
        assert!(height == 2 && first_block > 3, "{found}");
    }
    let seen = EventsFrom::After { height: 1, index: 0 };
    let found = pruned(ledger.subscribe(EventFilter::default(), seen).await.unwrap_err());
    assert_eq!(found.height, 1);
    assert_eq!(ledger.block(9_999_999).await.unwrap(), None);
    assert!(ledger.events(0, 10).await.is_ok());
    node.shutdown().await;
}

/// A node that never ends a line fills no memory, and one that is not there is said to be so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_an_end_is_not_read_for_ever() {
    let listener = TcpListener::bind(anywhere()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An answer before there is a question is none.
        let mut asked = [0; 1_024];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ";
        stream.write_all(head).await.unwrap();
        while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
    });
    let mut stream = client(addr).subscribe(EventFilter::default(), EventsFrom::Next).await.unwrap();
    let refused = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(refused, LedgerError::TooLong { .. }), "{refused}");
    tokio::time::timeout(SOON, endless).await.unwrap().unwrap();
    let gone = client(addr).subscribe(EventFilter::default(), EventsFrom::Next).await.unwrap_err();
    assert!(matches!(gone, LedgerError::Transport { .. }), "{gone}");
}
