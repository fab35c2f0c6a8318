//! What an operator watches, in the Prometheus text format; units are in the names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    endpoint: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    how: &'static str,
}

/// Counters and times of one gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    leases: Family<Ended, Counter>,
    first_token: Histogram,
    call: Histogram,
    prompt_tokens: Counter,
    output_tokens: Counter,
    fees: Counter<f64, AtomicU64>,
    resumed: Counter,
    calls: Gauge,
    workers: Gauge,
    slots_free: Gauge,
    held: Gauge<f64, AtomicU64>,
}

/// What is looked up when the metrics are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) workers: usize,
    pub(crate) slots_free: usize,
    pub(crate) calls: usize,
    pub(crate) held_dn: f64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            leases: Family::default(),
            first_token: seconds(),
            call: seconds(),
            prompt_tokens: Counter::default(),
            output_tokens: Counter::default(),
            fees: Counter::default(),
            resumed: Counter::default(),
            calls: Gauge::default(),
            workers: Gauge::default(),
            slots_free: Gauge::default(),
            held: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("dn_gateway_requests", "HTTP answers by endpoint and status", self.requests.clone());
        r.register("dn_gateway_leases", "Leases by how they ended", self.leases.clone());
        let help = "Time from the request to the first token, in seconds";
        r.register("dn_gateway_time_to_first_token_seconds", help, self.first_token.clone());
        r.register("dn_gateway_call_seconds", "Time of a charged call, in seconds", self.call.clone());
        r.register("dn_gateway_prompt_tokens", "Prompt tokens charged", self.prompt_tokens.clone());
        r.register("dn_gateway_output_tokens", "Output tokens charged", self.output_tokens.clone());
        r.register("dn_gateway_fees_dn", "Fees charged, in DN", self.fees.clone());
        r.register("dn_gateway_resumed_calls", "Calls that went on on another worker", self.resumed.clone());
        r.register("dn_gateway_running_calls", "Calls that run now", self.calls.clone());
        r.register("dn_gateway_connected_workers", "Workers connected now", self.workers.clone());
        r.register("dn_gateway_free_slots", "Jobs that could start now", self.slots_free.clone());
        r.register("dn_gateway_held_dn", "Held for running calls, in DN", self.held.clone());
        self
    }

    pub(crate) fn answered(&self, endpoint: &'static str, status: u16) {
        self.requests.get_or_create(&Answer { endpoint, status }).inc();
    }

    pub(crate) fn lease_ended(&self, how: &'static str) {
        self.leases.get_or_create(&Ended { how }).inc();
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    pub(crate) fn resumed(&self) {
        self.resumed.inc();
    }

    pub(crate) fn charged(&self, prompt_tokens: u32, output_tokens: u32, fee_dn: f64, took: Duration) {
        self.prompt_tokens.inc_by(prompt_tokens.into());
        self.output_tokens.inc_by(output_tokens.into());
        self.fees.inc_by(fee_dn);
        self.call.observe(took.as_secs_f64());
    }

    /// The text that a Prometheus server scrapes.
    pub(crate) fn text(&self, now: Now) -> String {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.workers.set(gauge(now.workers));
        self.slots_free.set(gauge(now.slots_free));
        self.calls.set(gauge(now.calls));
        self.held.set(now.held_dn);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// DN for people and graphs; never used to compute money.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn approximate_dn(amount: dn_core::Amount) -> f64 {
    amount.atto() as f64 / dn_core::amount::ATTO_PER_DN as f64
}
