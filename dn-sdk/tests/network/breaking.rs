//! A backend that panics, and what becomes of a worker whose batch it takes with it.

use std::sync::Arc;

use dn_compute::reference::Reference;
use dn_compute::spec::{Backend, BackendInfo, KvLayer, Mask, Matrix, NumericError, QuantMatrix, RopeTable};
use dn_compute::{Engine, EngineOptions};
use dn_sdk::worker::{EngineExecutor, Executor, WorkerFailure};

use crate::devices::{failure_of, request};
use crate::net::{Net, WORKER, engine};

/// Takes weights, and panics at the first operation.
#[derive(Debug)]
struct Breaking;

impl Backend for Breaking {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "breaking", isa: "scalar", threads: 1 }
    }
    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Reference.prepare(matrix)
    }
    fn linear(&self, _: &[&Matrix], _: &[f32], _: usize, _: &mut [&mut [f32]]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn embed(&self, _: &Matrix, _: &[u32], _: &mut [f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn rms_norm(&self, _: &[f32], _: f32, _: &[f32], _: &mut [f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn rope(&self, _: &RopeTable, _: &[u32], _: &mut [f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn kv_append(&self, _: &mut KvLayer, _: &[f32], _: &[f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn attention(
        &self,
        _: &KvLayer,
        _: Mask,
        _: usize,
        _: usize,
        _: &[f32],
        _: &mut [f32],
    ) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn silu_mul(&self, _: &mut [f32], _: &[f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn layer_norm(&self, _: &[f32], _: &[f32], _: f32, _: &[f32], _: &mut [f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn gelu(&self, _: &mut [f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
    fn add(&self, _: &mut [f32], _: &[f32]) -> Result<(), NumericError> {
        panic!("a mistake in a kernel");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_panics_ends_its_worker() {
    let backend: Arc<dyn Backend> = Arc::new(Breaking);
    let broken = Engine::on(engine().model().clone(), backend, EngineOptions::default()).unwrap();
    let executor = Arc::new(EngineExecutor::new(vec![Arc::new(broken)]));
    let net = Net::start().await;
    let worker = net.worker_with(WORKER, executor.clone()).await;
    assert_eq!(executor.failure(), None);
    net.client().chat(&request(5)).await.unwrap_err();
    assert_eq!(failure_of(&worker).await, WorkerFailure::Stopped);
    assert_eq!(worker.status().done, 0);
    worker.shutdown().await;
}
