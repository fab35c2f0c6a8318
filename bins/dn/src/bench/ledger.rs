//! `dn bench ledger`: what a chain of several validators, each a process on this machine, decides a second, and how soon.
//!
//! The load is open-loop: transfers are signed before, and sent at a steady rate whatever the answers do, so a chain that
//! falls behind shows in the times. A transfer is done when its node answers, which is when its block is durable there.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dn_core::hexadecimal::to_digits;
use dn_core::{Amount, Canonical, SecretKey};
use dn_ledger::node::MAX_BATCH;
use dn_ledger::{Params, Payload, SignedTx, Tx};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::error::CliError;
use crate::ledger::local::{self, CHAIN_ID, Processes};
use crate::out;

/// What `dn bench ledger` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Validators, each a process.
    #[arg(long, value_name = "N", default_value_t = 4)]
    validators: usize,
    /// Transfers sent a second, over all validators.
    #[arg(long, value_name = "TX_PER_S", default_value_t = 3_000)]
    rate: u64,
    /// Seconds that are measured, after a few that are not.
    #[arg(long, value_name = "S", default_value_t = 20)]
    seconds: u64,
    /// Seconds at the same rate before.
    #[arg(long, value_name = "S", default_value_t = 3)]
    warm_up: u64,
    /// Accounts that send.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    accounts: usize,
    /// Time between blocks while no transaction waits; otherwise a quarter of it.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    interval_ms: u64,
    /// Keep the chain here instead of throwing it away.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    validators: usize,
    cores: usize,
    load_average_before: Option<f64>,
    offered_tx_per_s: u64,
    seconds: f64,
    tx_per_s: f64,
    finality_ms_p50: f64,
    finality_ms_p90: f64,
    finality_ms_p99: f64,
    refused: u64,
    first_refusal: Option<String>,
    unanswered: u64,
    blocks_per_s: f64,
    tx_per_block: f64,
    blocks_over_one_round: u64,
    tx_bytes: f64,
    disk_bytes_per_tx: f64,
    validators_cpu_us_per_tx: Option<f64>,
    signatures_per_s_one_core: f64,
}

/// What came back of the transfers that were sent in the measured time.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    refused: AtomicU64,
    first_refusal: OnceLock<String>,
    unanswered: AtomicU64,
    /// Milliseconds times ten, one for each transfer of a batch.
    finality: std::sync::Mutex<Vec<u32>>,
}

/// One request, ready to be sent.
struct Request {
    bytes: Vec<u8>,
    txs: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, CliError> {
    if args.validators == 0 || args.rate == 0 || args.accounts == 0 || args.seconds == 0 {
        return Err(CliError::argument(
            "--validators, --rate, --accounts, --seconds",
            "at least 1 each expected",
        ));
    }
    let load_average_before = load_average();
    let temporary = tempfile::tempdir().map_err(CliError::file("create", std::env::temp_dir()))?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let waiting = out::spinner("signing transfers");
    let keys: Vec<_> = (0..args.accounts).map(|i| local::secret("account", i)).collect();
    let funded = keys.iter().map(|key| (key.address(), Amount::from_dn(1_000))).collect();
    // Room for as much as is sent in the longest time between blocks that the target allows.
    let params = Params { max_block_txs: 10_000, epoch_blocks: 1_000, ..Params::devnet() };
    let genesis = local::genesis(args.validators, params, funded)?;
    let (requests, sample) = sign(args, &keys, genesis.params.min_tx_fee);
    let signatures_per_s_one_core = signature_rate(&sample);
    waiting.set_message("measuring");
    let network = Processes::start(&dir, &genesis, args.validators, args.interval_ms)?;
    let result = crate::runtime()?.block_on(measure(args, &network, requests, &dir));
    let measured = result?;
    network.stop();
    waiting.finish_and_clear();
    let report = measured.report(args, &sample, signatures_per_s_one_core, load_average_before);
    if args.json {
        out::json(&report)
    } else {
        show(&report)
    }
    Ok(ExitCode::SUCCESS)
}

/// All requests by validator, in the order in which they are sent, and one transfer.
fn sign(args: &Args, keys: &[SecretKey], fee: Amount) -> (Vec<VecDeque<Request>>, SignedTx) {
    let total = (args.rate * (args.seconds + args.warm_up)) as usize;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let transfer = |n: usize| {
        let (from, nonce) = (n % keys.len(), (n / keys.len()) as u64);
        // Each transfer to another account than the one before of the same sender.
        let to = keys[(from * 7 + 1 + n / keys.len()) % keys.len()].address();
        let payload = Payload::Transfer { to, amount: Amount::from_atto(1_000) };
        let sender = keys[from].address();
        Tx { chain_id: CHAIN_ID, sender, nonce, expires_height: 950, fee, payload }.sign(&keys[from])
    };
    let chunk = total.div_ceil(threads).max(1);
    let signed: Vec<SignedTx> = std::thread::scope(|scope| {
        let starts = (0..total).step_by(chunk);
        let parts: Vec<_> = starts
            .map(|start| {
                scope.spawn(move || (start..(start + chunk).min(total)).map(transfer).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("signing does not panic")).collect()
    });
    let sample = signed[0].clone();
    let mut requests: Vec<VecDeque<Request>> = (0..args.validators).map(|_| VecDeque::new()).collect();
    let mut open: Vec<Vec<String>> = vec![Vec::new(); args.validators];
    for (n, tx) in signed.iter().enumerate() {
        // An account always asks the same validator: its transfers stay in order.
        let to = (n % keys.len()) % args.validators;
        open[to].push(call(tx));
        if open[to].len() == MAX_BATCH {
            requests[to].push_back(request(&std::mem::take(&mut open[to])));
        }
    }
    (requests, sample)
}

fn call(tx: &SignedTx) -> String {
    let tx = to_digits(&tx.to_bytes());
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"dn_sendTransaction","params":{{"tx":"{tx}"}}}}"#)
}

fn request(calls: &[String]) -> Request {
    let body = format!("[{}]", calls.join(","));
    let head = format!(
        "POST / HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Request { bytes: [head.as_bytes(), body.as_bytes()].concat(), txs: calls.len() as u64 }
}

/// How many senders' signatures one core checks a second: what bounds every validator.
fn signature_rate(tx: &SignedTx) -> f64 {
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < Duration::from_millis(500) {
        std::hint::black_box(tx.verify_signature().is_ok());
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

struct Measured {
    seconds: f64,
    tally: Arc<Tally>,
    before: Counters,
    after: Counters,
    cpu_seconds: Option<f64>,
    disk_bytes: f64,
}

/// What a validator's metrics say.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    height: f64,
    txs: f64,
    late: f64,
}

async fn measure(
    args: &Args,
    network: &Processes,
    mut requests: Vec<VecDeque<Request>>,
    dir: &Path,
) -> Result<Measured, CliError> {
    let addresses: Vec<String> =
        network.rpc.iter().map(|rpc| rpc.trim_start_matches("http://").to_owned()).collect();
    wait_for_blocks(&addresses[0]).await?;
    let pools: Vec<_> = addresses.iter().map(|a| Arc::new(Connections::new(a))).collect();
    let (ignored, tally) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let every = Duration::from_secs_f64(MAX_BATCH as f64 / args.rate as f64);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (warm, whole) = (Duration::from_secs(args.warm_up), Duration::from_secs(args.warm_up + args.seconds));
    let began = Instant::now();
    let mut start: Option<(Instant, Counters, Option<f64>, f64)> = None;
    let (mut turn, mut running) = (0, tokio::task::JoinSet::new());
    while began.elapsed() < whole {
        ticks.tick().await;
        if start.is_none() && began.elapsed() >= warm {
            let counters = counters(&addresses[0]).await?;
            start = Some((Instant::now(), counters, network.cpu_seconds(), size(dir)));
        }
        let to = turn % addresses.len();
        turn += 1;
        let Some(request) = requests[to].pop_front() else { continue };
        let tally = Arc::clone(if start.is_some() { &tally } else { &ignored });
        let (pool, sent) = (Arc::clone(&pools[to]), Instant::now());
        running.spawn(async move { pool.send(&request, sent, &tally).await });
    }
    let (from, before, cpu, disk) = start.unwrap_or((began, Counters::default(), None, 0.0));
    let seconds = from.elapsed().as_secs_f64();
    let after = counters(&addresses[0]).await?;
    let cpu_seconds = cpu.and_then(|before| Some(network.cpu_seconds()? - before));
    let disk_bytes = size(dir) - disk;
    let rest = async { while running.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(35), rest).await;
    Ok(Measured { seconds, tally, before, after, cpu_seconds, disk_bytes })
}

async fn wait_for_blocks(address: &str) -> Result<(), CliError> {
    for _ in 0..600 {
        if counters(address).await.is_ok_and(|c| c.height >= 2.0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(CliError::Other("the validators decide no blocks".to_owned()))
}

async fn counters(address: &str) -> Result<Counters, CliError> {
    let get = b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n";
    let failed = |e| CliError::file("read from", address.to_owned())(e);
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let text = exchange(&mut stream, get).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| {
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    Ok(Counters {
        height: value("dn_ledger_height"),
        txs: value("dn_ledger_txs_total"),
        late: value("dn_ledger_late_blocks_total"),
    })
}

/// Connections to a validator: as many as there are requests on the way.
struct Connections {
    address: String,
    idle: Mutex<Vec<TcpStream>>,
}

impl Connections {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    async fn send(&self, request: &Request, sent: Instant, tally: &Tally) {
        let Ok(answer) = self.exchange(request).await else {
            tally.unanswered.fetch_add(request.txs, Ordering::Relaxed);
            return;
        };
        // Each call has either an error or a result; a result holds no such key. One error alone is of the whole request.
        let whole = answer.first() != Some(&b'[');
        let refused = if whole { request.txs } else { count(&answer, br#""error":{"#).min(request.txs) };
        if refused > 0 {
            tally.first_refusal.get_or_init(|| refusal(&answer));
        }
        let done = request.txs - refused;
        tally.refused.fetch_add(refused, Ordering::Relaxed);
        tally.done.fetch_add(done, Ordering::Relaxed);
        let tenths = u32::try_from(sent.elapsed().as_micros() / 100).unwrap_or(u32::MAX);
        let mut finality = tally.finality.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        finality.extend(std::iter::repeat_n(tenths, done as usize));
    }

    async fn exchange(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let idle = self.idle.lock().await.pop();
        if let Some(mut stream) = idle
            && let Ok(answer) = exchange(&mut stream, &request.bytes).await
        {
            self.idle.lock().await.push(stream);
            return Ok(answer);
        }
        // Nodes close connections that rest; the same transaction sent twice is applied once.
        let mut stream = TcpStream::connect(&self.address).await?;
        let answer = exchange(&mut stream, &request.bytes).await?;
        self.idle.lock().await.push(stream);
        Ok(answer)
    }
}

/// The first error of an answer, cut short.
fn refusal(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let error = text.find(r#""error":"#).map_or(&*text, |at| &text[at..]);
    error.chars().take(240).collect()
}

fn count(text: &[u8], what: &[u8]) -> u64 {
    text.windows(what.len()).filter(|window| *window == what).count() as u64
}

/// Sends a request and reads an answer that states its length.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(16 * 1024);
    let end = loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    while answer.len() < end + length {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer.split_off(end))
}

/// Bytes of all files under a directory.
fn size(dir: &Path) -> f64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len() as f64,
            Err(_) => 0.0,
        })
        .sum()
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

impl Measured {
    fn report(
        self,
        args: &Args,
        sample: &SignedTx,
        signatures: f64,
        load_average_before: Option<f64>,
    ) -> Report {
        let mut finality = self.tally.finality.lock().map(|f| f.clone()).unwrap_or_default();
        finality.sort_unstable();
        let part = |share: f64| {
            let at = ((finality.len() as f64 * share) as usize).min(finality.len().saturating_sub(1));
            finality.get(at).map_or(0.0, |tenths| f64::from(*tenths) / 10.0)
        };
        let (blocks, txs) = (self.after.height - self.before.height, self.after.txs - self.before.txs);
        let per_tx = |all: f64| if txs > 0.0 { (all / txs * 10.0).round() / 10.0 } else { 0.0 };
        Report {
            validators: args.validators,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average_before,
            offered_tx_per_s: args.rate,
            seconds: (self.seconds * 10.0).round() / 10.0,
            tx_per_s: (txs / self.seconds).round(),
            finality_ms_p50: part(0.5),
            finality_ms_p90: part(0.9),
            finality_ms_p99: part(0.99),
            refused: self.tally.refused.load(Ordering::Relaxed),
            first_refusal: self.tally.first_refusal.get().cloned(),
            unanswered: self.tally.unanswered.load(Ordering::Relaxed),
            blocks_per_s: (blocks / self.seconds * 100.0).round() / 100.0,
            tx_per_block: if blocks > 0.0 { (txs / blocks).round() } else { 0.0 },
            blocks_over_one_round: (self.after.late - self.before.late) as u64,
            tx_bytes: sample.to_bytes().len() as f64,
            disk_bytes_per_tx: per_tx(self.disk_bytes / args.validators as f64),
            validators_cpu_us_per_tx: self.cpu_seconds.map(|seconds| per_tx(seconds * 1e6)),
            signatures_per_s_one_core: signatures.round(),
        }
    }
}

fn show(report: &Report) {
    use out::Align::{Left, Right};
    let mut table = out::Table::new(&[("measured", Left), ("value", Right), ("unit", Left)]);
    let mut add = |name: &str, value: String, unit: &str| {
        table.row([name.to_owned(), value, unit.to_owned()]);
    };
    add("validators", report.validators.to_string(), "");
    add("offered", report.offered_tx_per_s.to_string(), "transfers/s");
    add("decided", format!("{:.0}", report.tx_per_s), "transfers/s");
    add("finality, median", format!("{:.0}", report.finality_ms_p50), "ms");
    add("finality, 90 %", format!("{:.0}", report.finality_ms_p90), "ms");
    add("finality, 99 %", format!("{:.0}", report.finality_ms_p99), "ms");
    add("refused", report.refused.to_string(), "transfers");
    if let Some(first) = &report.first_refusal {
        add("first refusal", first.clone(), "");
    }
    add("unanswered", report.unanswered.to_string(), "transfers");
    add("blocks", format!("{:.2}", report.blocks_per_s), "1/s");
    add("transfers of a block", format!("{:.0}", report.tx_per_block), "");
    add("blocks over one round", report.blocks_over_one_round.to_string(), "");
    add("signed transfer", format!("{:.0}", report.tx_bytes), "bytes");
    add("on each disk", format!("{:.0}", report.disk_bytes_per_tx), "bytes/transfer");
    if let Some(cpu) = report.validators_cpu_us_per_tx {
        add("CPU of all validators", format!("{cpu:.0}"), "µs/transfer");
    }
    add("signatures of one core", format!("{:.0}", report.signatures_per_s_one_core), "1/s");
    out::text(table.render());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_whole_batches_in_the_order_of_nonces() {
        let args = Args {
            validators: 2,
            rate: 64,
            seconds: 2,
            warm_up: 0,
            accounts: 4,
            interval_ms: 1,
            data_dir: None,
            json: false,
        };
        let keys: Vec<_> = (0..4).map(|i| local::secret("account", i)).collect();
        let (requests, sample) = sign(&args, &keys, Amount::from_atto(1));
        assert_eq!(requests.iter().map(VecDeque::len).collect::<Vec<_>>(), [2, 2]);
        assert!(requests.iter().flatten().all(|r| r.txs == MAX_BATCH as u64));
        assert_eq!(sample.tx.nonce, 0);
    }

    #[test]
    fn an_error_counts_once() {
        let answer = br#"[{"error":{"code":1}},{"result":{}},{"error":{"code":2}}]"#;
        assert_eq!(count(answer, br#""error":{"#), 2);
    }
}
