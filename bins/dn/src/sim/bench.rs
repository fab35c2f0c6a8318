//! `dn bench sim`: trust, score and payout of a large population, beside what the machine can copy.

use std::num::{NonZeroU32, NonZeroUsize};
use std::process::ExitCode;
use std::thread::available_parallelism;

use dn_sim::throughput::{Load, Throughput, run as measure};

use crate::error::CliError;
use crate::out::{self, Align, Table};

/// What `dn bench sim` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes of the population.
    #[arg(long, default_value = "1048576", value_name = "N")]
    nodes: NonZeroU32,
    /// Epochs that are closed, scored and paid.
    #[arg(long, default_value = "24", value_name = "N")]
    epochs: NonZeroU32,
    /// Threads; the digest is the same for any number. Default: one, then all cores.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Nodes that are worked on in one go.
    #[arg(long, default_value = "2048", value_name = "N")]
    block: NonZeroUsize,
    /// Seed of the population.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print one JSON object a run instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let all = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut counts = args.threads.map_or_else(|| vec![NonZeroUsize::MIN, all], |n| vec![n]);
    counts.dedup();
    let mut results = Vec::new();
    for threads in counts {
        let load = Load {
            nodes: args.nodes.get(),
            epochs: args.epochs.get(),
            threads,
            block: args.block,
            seed: args.seed,
        };
        let result = measure(load).map_err(|error| CliError::argument("--nodes", error.to_string()))?;
        if args.json {
            out::json_line(&result);
        }
        results.push(result);
    }
    if results.windows(2).any(|pair| pair[0].digest != pair[1].digest) {
        return Err(CliError::Other("the digests differ between numbers of threads: this is a bug".into()));
    }
    if !args.json {
        print(&results);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(results: &[Throughput]) {
    let mut columns = vec![("", Align::Left)];
    let names: Vec<_> = results.iter().map(|r| format!("{} threads", r.threads)).collect();
    columns.extend(names.iter().map(|name| (name.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    let mut row = |name: &str, of: &dyn Fn(&Throughput) -> String| {
        table.row(std::iter::once(name.to_owned()).chain(results.iter().map(of)));
    };
    row("nodes", &|r| r.nodes.to_string());
    row("epochs", &|r| r.epochs.to_string());
    row("ms per epoch, median", &|r| format!("{:.2}", r.ms_per_epoch));
    row("ms per epoch, best", &|r| format!("{:.2}", r.best_ms_per_epoch));
    row("ns per node", &|r| format!("{:.2}", r.ns_per_node));
    row("bytes per node", &|r| format!("{:.1}", r.bytes_per_node));
    row("copy, GB/s", &|r| format!("{:.2}", r.copy_gb_per_s));
    row("share of copy bandwidth", &|r| format!("{:.0} %", 100.0 * r.share_of_copy_bandwidth));
    out::text(table.render());
    if let Some(result) = results.first() {
        out::line(format_args!("\n  digest {}", result.digest));
    }
}
