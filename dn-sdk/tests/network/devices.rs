//! What happens when the device is lost that a worker computes on: the worker ends, and nobody is to blame for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dn_compute::GenerateError;
use dn_compute::spec::{DeviceFailure, DeviceFault, NumericError, Op};
use dn_core::objects::JobRequest;
use dn_core::{Amount, Hash32, ModelId};
use dn_sdk::client::{ChatRequest, ClientError};
use dn_sdk::worker::{
    EngineExecutor, ExecuteError, Execution, Executor, TokenSink, Worker, WorkerFailure, WorkerStatus,
};

use crate::net::{MODEL, Net, WORKER, engine};

/// Its device is lost in its first job.
#[derive(Default)]
struct Losing {
    /// Whether that is told by a panic.
    panics: bool,
    lost: AtomicBool,
    jobs: AtomicUsize,
}

fn lost() -> DeviceFailure {
    DeviceFailure { device: "a card".into(), fault: DeviceFault::Lost }
}

impl Executor for Losing {
    fn models(&self) -> Vec<ModelId> {
        vec![engine().model().id()]
    }
    fn execute(&self, _: &JobRequest, _: &[u32], _: TokenSink<'_>) -> Result<Execution, ExecuteError> {
        self.jobs.fetch_add(1, Ordering::SeqCst);
        self.lost.store(true, Ordering::SeqCst);
        assert!(!self.panics, "a device whose loss is a panic");
        let DeviceFailure { device, fault } = lost();
        Err(GenerateError::Numeric(NumericError::Device { op: Op::Layer, device, fault }).into())
    }
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        EngineExecutor::new(vec![engine()]).cut(job, output)
    }
    fn failure(&self) -> Option<WorkerFailure> {
        self.lost.load(Ordering::SeqCst).then(|| lost().into())
    }
}

pub(crate) async fn failure_of(worker: &Worker) -> WorkerFailure {
    let waited = tokio::time::timeout(Duration::from_secs(20), worker.broken()).await;
    waited.expect("a worker without its device says so")
}

pub(crate) fn request(max_tokens: u32) -> ChatRequest {
    let mut request = ChatRequest::ask(MODEL, "How do I write a loop?");
    request.settings.max_tokens = Some(max_tokens);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_device_is_lost_takes_no_more_jobs_and_says_why() {
    lost_in_its_first_job(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_when_the_job_panics() {
    lost_in_its_first_job(true).await;
}

async fn lost_in_its_first_job(panics: bool) {
    let net = Net::start().await;
    let executor = Arc::new(Losing { panics, ..Losing::default() });
    let worker = net.worker_with(WORKER, executor.clone()).await;
    let failed = |error: ClientError| matches!(&error, ClientError::Api(fault) if fault.code.is_some());
    assert!(failed(net.client().chat(&request(5)).await.unwrap_err()));
    assert_eq!(failure_of(&worker).await, WorkerFailure::Device(lost()));
    // Whoever asks later is told so at once, and not after the worker failed once more.
    for _ in 0..3 {
        assert!(failed(net.client().chat(&request(5)).await.unwrap_err()));
    }
    assert_eq!(executor.jobs.load(Ordering::SeqCst), 1);
    assert_eq!(net.charged(), Amount::ZERO);
    // Another worker serves on, and this one still ends as it should.
    let other = net.worker(WORKER + 1).await;
    let answer = net.client().chat(&request(5)).await.unwrap();
    assert_eq!(answer.receipt.body.worker, other.address());
    assert_eq!(failure_of(&worker).await, WorkerFailure::Device(lost()), "it can be asked again");
    let WorkerStatus { jobs, done, .. } = worker.status();
    assert_eq!((jobs, done), (0, 0));
    worker.shutdown().await;
}

/// On this machine's device: in CI the software driver.
#[cfg(feature = "gpu")]
mod on_a_device {
    use dn_compute::spec::Backend;
    use dn_compute::wgpu::{Wgpu, WgpuError, WgpuOptions};
    use dn_compute::{Engine, EngineOptions};
    use dn_sdk::client::Event;
    use dn_sdk::validator::{Auditor, AuditorConfig};

    use super::*;
    use crate::net::{VALIDATOR, eventually, key};

    /// The device and the model's engine on it, or `None` where there is no driver and none is required.
    #[allow(clippy::print_stdout, reason = "a skip must be seen")]
    fn opened() -> Option<(Wgpu, Arc<Engine>)> {
        let device = match Wgpu::unchecked(&WgpuOptions::default()) {
            Ok(device) => device,
            Err(error @ WgpuError::NoAdapter) => {
                let required = std::env::var_os("DN_REQUIRE_WGPU").is_some_and(|value| value == "1");
                assert!(!required, "DN_REQUIRE_WGPU is set: {error}");
                println!("SKIPPED: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let backend: Arc<dyn Backend> = Arc::new(device.clone());
        let gpu = Engine::on(engine().model().clone(), backend, EngineOptions::default()).unwrap();
        Some((device, Arc::new(gpu)))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_device_lost_in_an_answer_ends_its_worker() {
        let Some((device, gpu)) = opened() else { return };
        let net = Net::start().await;
        let worker = net.worker_with(WORKER, Arc::new(EngineExecutor::new(vec![gpu]))).await;
        let client = net.client();
        let mut stream = client.stream(&request(200)).await.unwrap();
        assert!(matches!(stream.next().await.unwrap(), Some(Event::Text(_))));
        device.close();
        let error = loop {
            match stream.next().await {
                Ok(event) => assert!(matches!(event, Some(Event::Text(_))), "{event:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ClientError::Api(_)), "{error}");
        let WorkerFailure::Device(DeviceFailure { device: name, fault }) = failure_of(&worker).await else {
            panic!("another failure");
        };
        assert_eq!((&*name, fault), (device.adapter().name.as_str(), DeviceFault::Lost));
        eventually("no job runs", || worker.status().jobs == 0).await;
        client.chat(&request(5)).await.unwrap_err();
        worker.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn auditors_whose_device_is_lost_accuse_nobody() {
        let Some((device, gpu)) = opened() else { return };
        device.close();
        let net = Net::start().await;
        let mut auditors = Vec::new();
        for n in [VALIDATOR, VALIDATOR + 1] {
            let dir = net.dir.path().join(format!("validator-{n}"));
            let mut config = AuditorConfig::new(key(n), net.ledger.clone(), vec![gpu.clone()], dir);
            config.poll_interval = Duration::from_millis(100);
            auditors.push(Auditor::start(config).await.unwrap());
        }
        let worker = net.worker(WORKER).await;
        // Half of a newcomer's receipts are audited: of twelve, one at least but once in some thousand runs.
        for _ in 0..12 {
            net.client().chat(&request(5)).await.unwrap();
        }
        eventually("the batch is posted", || worker.status().batches > 0).await;
        // Whoever is asked tries it again, and never says anything.
        let replays = || auditors.iter().map(Auditor::replays).sum::<u64>();
        eventually("the device is asked for several replays", || replays() >= 4).await;
        let records: Vec<_> = auditors.iter().flat_map(Auditor::records).collect();
        assert!(records.is_empty(), "{records:?}");
    }
}
