//! An auditor that cannot judge says so: somebody else judges, and nobody is to blame.

use std::time::{Duration, Instant};

use dn_core::objects::AuditOutcome;
use dn_core::{Amount, BatchId};
use dn_ledger::events::Event;
use dn_ledger::state::{AuditPhase, AuditResult, BatchStatus};
use dn_ledger::tx::Role;
use dn_ledger::views::AuditView;
use dn_sdk::client::ChatRequest;
use dn_sdk::validator::{Auditor, AuditorConfig};

use crate::net::{MODEL, Net, VALIDATOR, WORKER, key};

/// How long anything here may take; a second or two usually.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Makes calls until a receipt falls to this auditor: about one in four.
async fn first_task(net: &Net, auditor: &Auditor) -> (BatchId, u32) {
    let mut request = ChatRequest::ask(MODEL, "How do I write a loop?");
    request.settings.max_tokens = Some(4);
    let began = Instant::now();
    loop {
        if let Some(record) = auditor.records().first() {
            assert_eq!(record.outcome, AuditOutcome::Unjudged {});
            assert!(record.receipt.is_some(), "it was fetched");
            assert!(record.reason.as_ref().is_some_and(|reason| reason.contains("not loaded")), "{record:?}");
            return (record.batch, record.index);
        }
        assert!(began.elapsed() < PATIENCE, "no receipt falls to the auditor");
        net.client().chat(&request).await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who was asked about a receipt, once its batch is paid.
async fn tasks_of(net: &Net, (batch, index): (BatchId, u32)) -> Vec<AuditView> {
    let began = Instant::now();
    loop {
        let status = net.ledger.batch(batch).await.unwrap().unwrap().status;
        if status == BatchStatus::Settled {
            let all = net.ledger.audits(None, false).await.unwrap();
            return all.into_iter().filter(|task| (task.batch, task.index) == (batch, index)).collect();
        }
        assert!(status != BatchStatus::Voided && began.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Everything that happened up to now.
async fn all_events(net: &Net) -> Vec<Event> {
    let (tip, mut from, mut events) = (net.ledger.status().await.unwrap().height, 1, Vec::new());
    while from <= tip {
        let page = net.ledger.events(from, 1_000).await.unwrap();
        assert!(page.next_height > from, "the answer goes on");
        from = page.next_height;
        events.extend(page.events.into_iter().map(|view| view.event));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_without_the_model_says_so_and_is_replaced() {
    let net = Net::start().await;
    let dir = net.dir.path().join("without-models");
    let mut config = AuditorConfig::new(key(VALIDATOR), net.ledger.clone(), Vec::new(), dir);
    config.poll_interval = PAUSE;
    let without = Auditor::start(config).await.unwrap();
    let with = net.auditor(VALIDATOR + 1).await;
    let worker = net.worker(WORKER).await;
    let place = first_task(&net, &without).await;
    let tasks = tasks_of(&net, place).await;

    let said = |auditor: &Auditor| {
        let task = tasks.iter().find(|task| task.auditor == auditor.address());
        task.map(|task| (task.phase, task.outcome, task.result, task.disputed))
    };
    let judged = |outcome| Some((AuditPhase::Done, Some(outcome), Some(AuditResult::Passed), false));
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    assert_eq!(said(&without), judged(AuditOutcome::Unjudged {}));
    assert_eq!(said(&with), judged(AuditOutcome::Match {}));
    assert_eq!(without.replays(), 0, "it has nothing to replay with");
    assert!(without.records().iter().all(|record| record.outcome == AuditOutcome::Unjudged {}));
    let blamed = |event: &Event| matches!(event, Event::Slashed { .. } | Event::AuditMissed { .. });
    let blame: Vec<_> = all_events(&net).await.into_iter().filter(blamed).collect();
    assert_eq!(blame, []);
    let identity = net.ledger.identity(worker.address(), Role::Worker).await.unwrap().unwrap();
    assert_eq!(identity.collateral, Amount::from_dn(100));
}
