//! Vouchers that clients sign themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_core::encoding::Canonical;
use dn_core::objects::{Price, SessionGrant, Voucher};
use dn_core::{Address, Amount, ModelId, Signed};
use dn_ledger::tx::Payload;
use dn_sdk::client::{ChannelWallet, ChatRequest, Client, ClientError};
use dn_sdk::worker::EngineExecutor;
use serde_json::{Value, json};

use crate::net::{CHAIN, MODEL, Net, OWNER, PAYER, SESSION, WORKER, engine, key, model_id, price};

fn request() -> ChatRequest {
    let mut request = ChatRequest::ask(MODEL, "What is a String?");
    request.settings.max_tokens = Some(6);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_not_asked_below_its_price() {
    let net = Net::start().await;
    let executor = || Arc::new(EngineExecutor::new(vec![engine()]));
    let dearer =
        Price { output_token: price().output_token.checked_add(Amount::from_atto(1)).unwrap(), ..price() };
    let worker = net.worker_for(WORKER, executor(), dearer).await;
    let offered = || async { net.ledger.offer(engine().model().id(), key(WORKER).address()).await.unwrap() };
    assert_eq!(offered().await.map(|offer| offer.price), Some(dearer));
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 4 });
    let answer = net.post("/v1/chat/completions", &body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let refused: Value = answer.json().await.unwrap();
    assert_eq!(refused["error"]["code"], "price_too_low", "waiting does not help: {refused}");
    let metrics = net.get("/metrics").send().await.unwrap().text().await.unwrap();
    let leases = metrics.lines().filter(|line| line.starts_with("dn_gateway_leases_total")).count();
    assert_eq!(leases, 0, "nobody was asked: {metrics}");
    worker.shutdown().await;
    let _worker = net.worker_for(WORKER, executor(), price()).await;
    assert_eq!(offered().await.map(|offer| offer.price), Some(price()), "the offer has changed");
    let answer = net.post("/v1/chat/completions", &body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// A collateral of 100 DN stands for 1.6 DN a call, a little less beside open batches: for more it would be a batch that the ledger refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_takes_no_call_that_its_collateral_does_not_stand_for() {
    let net = Net::with_deposit(Amount::from_dn(50)).await;
    let _worker = net.worker(WORKER).await;
    let fifth = Amount::from_dn(1).mul_div(1, 5).unwrap();
    let payload =
        Payload::SetModelPrice { model: model_id(), price: Price { output_token: fifth, ..price() } };
    net.ledger.submit(&key(OWNER), payload).await.unwrap();
    let ask = async |tokens: u32| {
        let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": tokens });
        let answer = net.post("/v1/chat/completions", &body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let began = Instant::now();
    let (status, refused) = loop {
        let before = net.charged();
        let (status, body) = ask(9).await;
        if status != 200 {
            assert_eq!(net.charged(), before, "nobody pays for it");
            break (status, body);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the gateway does not hear of the price");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((status, refused["error"]["code"].as_str()), (502, Some("workers_failed")), "{refused}");
    assert_eq!(ask(6).await.0, 200, "1.2 DN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_pays_without_giving_a_key_away() {
    let net = Net::start().await;
    let _worker = net.worker(WORKER).await;
    let wallet =
        |limit| ChannelWallet::new(key(PAYER), CHAIN, net.channel, 9, limit).of_payer(key(PAYER).address());
    let client = Client::with_wallet(&net.url(), wallet(Amount::from_dn(1))).unwrap();
    let first = client.chat(&request()).await.unwrap();
    let second = client.chat(&request()).await.unwrap();
    let fees = first.receipt.body.fee.checked_add(second.receipt.body.fee).unwrap();
    let lane = net.gateway().lanes(net.channel).unwrap().into_iter().find(|lane| lane.lane == 9).unwrap();
    assert_eq!(lane.charged, fees);
    assert!(lane.max_claimable() >= fees);

    let forgetful = Client::with_wallet(&net.url(), wallet(Amount::from_dn(1))).unwrap();
    forgetful.chat(&request()).await.unwrap();
    let poor = Client::with_wallet(&net.url(), wallet(Amount::from_atto(1))).unwrap();
    let error = poor.chat(&request()).await.unwrap_err();
    assert!(matches!(error, ClientError::WalletLimit { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_vouchers_are_refused_and_change_nothing() {
    let net = Net::start().await;
    let _worker = net.worker(WORKER).await;
    let voucher = |max: u64, lane: u32, signer: u8| {
        let body = Voucher {
            chain_id: CHAIN,
            channel: net.channel,
            lane,
            max_claimable: Amount::from_dn(max),
            signer: key(signer).address(),
            expires_ms: u64::MAX,
        };
        Signed::sign(body, &key(signer)).to_bytes()
    };
    let send = |bytes: Vec<u8>| {
        let hex = dn_core::hexadecimal::to_hex(&bytes);
        let body =
            json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 2 });
        let url = format!("{}/v1/chat/completions", net.url());
        let request = net.http.post(url).header("x-dn-voucher", hex).json(&body);
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.json::<Value>().await.unwrap()["error"]["code"].as_str().map(str::to_owned))
        }
    };
    let is = |found: (u16, Option<String>), status: u16, code: &str| {
        assert_eq!(found, (status, Some(code.to_owned())));
    };
    assert_eq!(send(voucher(1, 9, PAYER)).await, (200, None));
    let charged = net.charged();
    is(send(voucher(0, 9, PAYER)).await, 409, "voucher_lower");
    is(send(voucher(1, 9, WORKER)).await, 400, "invalid_voucher");
    is(send(voucher(1, 0, PAYER)).await, 400, "invalid_voucher");
    // The ledger takes lanes 0 to 255; a batch with a receipt on another one would be refused as a whole.
    is(send(voucher(1, 256, PAYER)).await, 400, "invalid_voucher");
    is(send(voucher(1, u32::MAX, PAYER)).await, 400, "invalid_voucher");
    is(send(vec![1, 2, 3]).await, 400, "invalid_header");
    let mut flipped = voucher(2, 9, PAYER);
    flipped[40] ^= 1;
    is(send(flipped).await, 400, "invalid_voucher");
    is(send(voucher(0, 10, PAYER)).await, 402, "voucher_short");
    assert_eq!(net.charged(), charged);
}

/// A key that was granted a part of the payer's channel spends it, is settled, and spends no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_key_spends_what_it_was_granted() {
    let net = Net::start().await;
    let worker = net.worker(WORKER).await;
    let owner = key(PAYER).address();
    let client = |session: u8, lane| {
        let wallet = ChannelWallet::new(key(session), CHAIN, net.channel, lane, Amount::from_dn(1));
        Client::with_wallet(&net.url(), wallet.of_payer(owner)).unwrap()
    };
    let code = |error: ClientError| match error {
        ClientError::Api(fault) => fault.code.unwrap_or_default(),
        other => panic!("{other}"),
    };
    assert_eq!(code(client(SESSION, 9).chat(&request()).await.unwrap_err()), "invalid_voucher");
    let ledger = &net.ledger;
    let grant = |session: u8, per_call, total, models| {
        let (session, expires_ms) = (key(session).address(), u64::MAX);
        let grant =
            SessionGrant { chain_id: CHAIN, owner, session, serial: 1, per_call, total, models, expires_ms };
        let payload = Payload::GrantSession { grant: Signed::sign(grant, &key(PAYER)) };
        async move { ledger.submit(&key(PAYER), payload).await.unwrap() }
    };
    let (much, atto) = (Amount::from_dn(1), Amount::from_atto);
    grant(SESSION, much, much, vec![]).await;
    let fee = client(SESSION, 9).chat(&request()).await.unwrap().receipt.body.fee;
    eventually_settled(&net, worker.address(), fee).await;
    let session = key(SESSION).address();
    let spent = net.ledger.session(owner, session).await.unwrap().unwrap().spent;
    assert_eq!(spent, fee, "the ledger counted it");

    // Too little for a call; another model.
    let limits = [(atto(1), much, vec![]), (much, much, vec![ModelId([1; 32])])];
    for (other, (per_call, total, models)) in (SESSION + 1..).zip(limits) {
        grant(other, per_call, total, models).await;
        let lane = u32::from(other);
        assert_eq!(code(client(other, lane).chat(&request()).await.unwrap_err()), "session_limit");
    }
    net.ledger.submit(&key(PAYER), Payload::RevokeSession { session, serial: 1 }).await.unwrap();
    // The gateway may believe for two seconds what it read.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(code(client(SESSION, 9).chat(&request()).await.unwrap_err()), "session_limit");
}

async fn eventually_settled(net: &Net, worker: Address, fee: Amount) {
    let began = Instant::now();
    loop {
        let batches = net.ledger.batches(worker).await.unwrap();
        let fees = Amount::sum(batches.iter().map(|batch| batch.fees)).unwrap();
        if fees == fee {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not settled: {batches:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
