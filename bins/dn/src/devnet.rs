//! `dn devnet`: a whole network on this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use dn_compute::EngineOptions;
use dn_ledger::events::Event;
use dn_ledger::referee::Ending;
use dn_ledger::views::EventView;
use dn_sdk::devnet::{Devnet, DevnetConfig, DevnetModel, Report, Scene};
use dn_sdk::operator::stop_signal;

use crate::error::CliError;
use crate::home::{self, Config};
use crate::out;

mod show;

/// Bits that the cheating worker of the demo keeps of each weight.
const CHEAPER_BITS: u32 = 5;

/// What `dn devnet` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the network is kept; it goes on there at the next start [default: `devnet` in the data directory].
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    data_dir: Option<PathBuf>,
    /// Where the gateway serves the OpenAI-compatible API; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the ledger node answers JSON-RPC; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    ledger_listen: SocketAddr,
    /// GGUF file of the Llama family for the workers; without it the small demonstration model inside this program.
    #[arg(long, env = "DN_MODEL", value_name = "FILE")]
    model: Option<PathBuf>,
    /// A tour that ends by itself, on a fresh network that is thrown away: paid calls, a worker that cheats and is
    /// caught, and the books. Fails unless every check holds.
    #[arg(long)]
    demo: bool,
    /// Where the demo writes report.json, receipts/ and balances.jsonl.
    #[arg(long, value_name = "DIR", requires = "demo")]
    report: Option<PathBuf>,
    /// Instead of running anything, write keys, genesis and settings files for the same network as separate processes,
    /// and say how to start them.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["demo", "data_dir"])]
    write_config: Option<PathBuf>,
    /// Print JSON: one line that says where the network is once it is up, or with --demo the report.
    #[arg(long, conflicts_with = "write_config")]
    json: bool,
}

impl Args {
    /// Whether this is the tour that ends by itself.
    pub(crate) const fn is_demo(&self) -> bool {
        self.demo
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    if let Some(dir) = &args.write_config {
        return write_config(dir, &args);
    }
    let runtime = crate::runtime()?;
    if args.demo {
        return runtime.block_on(demo(&args));
    }
    runtime.block_on(serve(&args, config))
}

fn devnet_model(path: Option<&PathBuf>) -> Result<DevnetModel, CliError> {
    let (_, model) = crate::model::load(path)?;
    let file_name = path.and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    let name = file_name.unwrap_or_else(|| "tiny-rust".to_owned());
    Ok(DevnetModel { name, model })
}

/// Writes the files of a network of separate processes and prints how to start it.
fn write_config(dir: &Path, args: &Args) -> Result<ExitCode, CliError> {
    let model = args.model.as_ref().map(|path| path.canonicalize().map_err(CliError::file("find", path)));
    let model = model.transpose()?;
    let written = dn_sdk::devnet::write_config(dir, args.listen, args.ledger_listen, model.as_deref(), 250)?;
    let rpc = format!("http://{}", args.ledger_listen);
    let at = dir.display();
    let tx = |key: &str| {
        format!("dn tx --rpc {rpc} --key {at}/keys/{key}.json --password-file {at}/keys/password")
    };
    let file = model.as_ref().map(|path| format!(" --model {}", path.display())).unwrap_or_default();
    out::line(format_args!("Written to {at}. Each of these in a terminal of its own, the ledger first:\n"));
    out::line(format_args!("dn-validator --config {}\n", written.validators[0].display()));
    out::line("Once: publish the model and open the payer's channel.\n");
    out::line(format_args!(
        "{} publish-model --name {}{file} --prompt-price 0.001 --output-price 0.002",
        tx("model-owner"),
        devnet_model(args.model.as_ref())?.name
    ));
    let (gateway, spender) = (written.gateway_address, written.spender);
    out::line(format_args!("{} open-channel {gateway} 1000 --spender {spender}\n", tx("payer")));
    out::line("Then everybody else:\n");
    out::line(format_args!("dn-gateway --config {}", written.gateway.display()));
    for validator in &written.validators[1..] {
        out::line(format_args!("dn-validator --config {}", validator.display()));
    }
    for worker in &written.workers {
        out::line(format_args!("dn-worker --config {}", worker.display()));
    }
    out::line(format_args!(
        "\nbase URL   http://{}/v1\nAPI key    in {} once the gateway runs",
        args.listen,
        written.api_key_file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Args, config: &Config) -> Result<ExitCode, CliError> {
    let dir = args.data_dir.clone().or_else(|| config.devnet_dir.clone());
    let dir = dir.unwrap_or_else(|| home::data_dir().join("devnet"));
    let waiting = out::spinner("starting the network");
    let mut settings = DevnetConfig::new(dir, devnet_model(args.model.as_ref().or(config.model.as_ref()))?);
    settings.listen = args.listen;
    settings.ledger_listen = args.ledger_listen;
    let started = Devnet::start(settings).await;
    waiting.finish_and_clear();
    let devnet = started?;
    if args.json {
        out::json_line(&serde_json::json!({
            "base_url": devnet.base_url(),
            "api_key": devnet.api_key(),
            "model": devnet.model_name(),
            "model_id": devnet.model(),
            "ledger_url": devnet.ledger().url(),
            "data_dir": devnet.home().path(),
        }));
    } else {
        greet(&devnet);
    }
    let broken = tokio::select! {
        () = stop_signal() => None,
        failure = devnet.broken() => Some(failure),
    };
    out::note("\nstopping: calls that run may end");
    devnet.shutdown().await;
    match broken {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => Err(CliError::Other(format!(
            "{failure}; once the cause is gone, the next start goes on where this one stopped"
        ))),
    }
}

/// What to do with a network that is up.
fn greet(devnet: &Devnet) {
    let (base, key, model) = (devnet.base_url(), devnet.api_key(), devnet.model_name());
    let ledger = devnet.ledger().url().trim_end_matches('/');
    let members = devnet.roster().members().len();
    out::line(format_args!(
        "A DeepNode network is running: a ledger, 2 auditing validators, 3 workers, a gateway ({members} accounts).\n\n\
         base URL   {base}\n\
         API key    {key}\n\
         model      {model}  {}\n\
         ledger     {ledger}\n\
         data       {}\n",
        devnet.model(),
        devnet.home().path().display(),
    ));
    out::line(format_args!(
        "curl {base}/chat/completions \\\n  -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\\n  \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What is a lifetime?\"}}], \
         \"max_tokens\": 48}}'\n"
    ));
    out::line(format_args!(
        "from openai import OpenAI\n\
         client = OpenAI(base_url=\"{base}\", api_key=\"{key}\")\n\
         answer = client.chat.completions.create(\n    \
         model=\"{model}\", max_tokens=48, messages=[{{\"role\": \"user\", \"content\": \"What is a lifetime?\"}}])\n\
         print(answer.choices[0].message.content)\n"
    ));
    out::line(format_args!(
        "dn query supply --rpc {ledger}      the books\n\
         dn query models --rpc {ledger}      what can be asked\n\
         Ctrl-C stops it; the next start goes on where it stopped."
    ));
}

async fn demo(args: &Args) -> Result<ExitCode, CliError> {
    if let Some(dir) = &args.report {
        // A report that cannot be written is told before the tour, not after it.
        fs::create_dir_all(dir).map_err(CliError::file("create", dir))?;
    }
    let dir = tempfile::tempdir().map_err(CliError::file("create", std::env::temp_dir()))?;
    let waiting = out::spinner("starting the network");
    let model = devnet_model(args.model.as_ref())?;
    if model.model.front().chat_template().is_none() {
        let reason = format!("{} has no chat template, and the tour asks questions", model.name);
        return Err(CliError::argument("--model", reason));
    }
    let cheaper = model.model.coarsened(CHEAPER_BITS).map_err(|source| CliError::Model {
        name: format!("{} in {CHEAPER_BITS} bits", model.name),
        source,
    })?;
    let mut settings = DevnetConfig::new(dir.path(), model);
    settings.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.ledger_listen = settings.listen;
    settings.engine = EngineOptions::default();
    settings.cheaper = Some(Arc::new(cheaper));
    let started = Devnet::start(settings).await;
    waiting.finish_and_clear();
    let devnet = started?;
    let report = guided(&devnet, args.json).await?;
    if let Some(dir) = &args.report {
        write_report(&devnet, &report, dir).await?;
        out::note(format_args!("\nwritten to {}", dir.display()));
    }
    devnet.shutdown().await;
    let seconds = report.elapsed_ms as f64 / 1e3;
    if report.passed() {
        let (calls, blocks) = (report.calls.len(), report.height);
        out::note(format_args!("\n{calls} calls, {blocks} blocks, {seconds:.1} s. All checks hold."));
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Other(format!("the tour took {seconds:.1} s and not all of its checks hold: see above")))
}

/// Takes the tour and tells it, or prints nothing but its report.
async fn guided(devnet: &Devnet, json: bool) -> Result<Report, CliError> {
    if json {
        let report = dn_sdk::devnet::tour(devnet, &mut |_| {}).await?;
        out::json(&report);
        return Ok(report);
    }
    out::line(format_args!(
        "A network of its own on this machine: a ledger, 2 auditing validators, 3 workers, a gateway.\nmodel  {}  {}",
        devnet.model_name(),
        devnet.model()
    ));
    let roster = devnet.roster().clone();
    let report = dn_sdk::devnet::tour(devnet, &mut |scene| narrate(&scene, &roster)).await?;
    show::report(&report);
    Ok(report)
}

/// Tells one scene.
fn narrate(scene: &Scene<'_>, roster: &dn_sdk::devnet::Roster) {
    match scene {
        Scene::Chapter { title, text } => {
            out::line(format_args!(
                "\n{title}\n{}\n{}\n",
                "─".repeat(title.chars().count()),
                wrap(text, 100)
            ));
        }
        Scene::Asked { number, prompt, streamed } => {
            out::text(format_args!("  {number:>2}  {prompt}  "));
            if *streamed {
                out::text("\n      ");
            }
        }
        Scene::Piece(piece) => out::text(piece.replace('\n', " ")),
        Scene::Answered(call) => {
            if !call.streamed {
                out::text(clip(&call.text, 60));
            }
            out::line(format_args!(
                "\n      {} · {} tokens · {:.4} DN · receipt ok",
                roster.name(call.worker),
                call.output_tokens,
                call.fee
            ));
        }
        Scene::Happened(view) => happened(view, roster),
        _ => {}
    }
}

/// Tells what a person following the story wants to know of the ledger.
fn happened(view: &EventView, roster: &dn_sdk::devnet::Roster) {
    let text = match &view.event {
        Event::BatchPosted { worker, count, fees, .. } => {
            format!("{} posts a batch of {count} receipts, {fees:.4} DN in escrow", roster.name(*worker))
        }
        Event::DisputeCalled { accuser, index, .. } => {
            format!("{} replayed receipt {index} and disputes it", roster.name(*accuser))
        }
        Event::DisputeEnded { index, outcome, .. } => match outcome {
            Ending::Fraud { finding } => format!(
                "the referee computed one tile of receipt {index} (position {}): the worker is wrong",
                finding.position
            ),
            ending => format!("the dispute about receipt {index} is lost by the {}", ending.loser()),
        },
        Event::DisputeOpened { accuser, index, outcome, .. } => {
            format!("{} replayed receipt {index} and accuses: {}", roster.name(*accuser), words(outcome))
        }
        Event::BatchSettled { worker, fees, to_worker, .. } => {
            format!(
                "batch of {} settled: {fees:.4} DN split, {to_worker:.4} of it the worker's",
                roster.name(*worker)
            )
        }
        Event::BatchVoided { worker, fees, .. } => {
            format!("batch of {} thrown out: {fees:.4} DN back to the payer", roster.name(*worker))
        }
        Event::Slashed { address, amount, burned, reward, .. } => format!(
            "{} SLASHED: {amount:.4} DN of its bond, {reward:.4} to the accuser, {burned:.4} burned",
            roster.name(*address)
        ),
        Event::Suspended { address, role, .. } => format!("{} suspended as {role}", roster.name(*address)),
        Event::EpochClosed { epoch, paid, .. } => {
            format!("epoch {epoch} closed: {paid:.4} DN of emission paid")
        }
        _ => return,
    };
    out::line(format_args!("      block {:>3}  {text}", view.height));
}

fn words(outcome: &dn_core::objects::AuditOutcome) -> String {
    use dn_core::objects::AuditOutcome;
    match outcome {
        AuditOutcome::Match {} => "every bit is right".to_owned(),
        AuditOutcome::Mismatch { position } => format!("not the model's output from position {position} on"),
        AuditOutcome::Unavailable {} => "not handed over".to_owned(),
        AuditOutcome::Unjudged {} => "not judged: the auditor does not hold the model".to_owned(),
    }
}

/// The beginning of a text, in one line.
fn clip(text: &str, most: usize) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).chain(['…']).collect()
}

/// Breaks a text at spaces.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Writes the report, the receipts and the balances of every block.
async fn write_report(devnet: &Devnet, report: &Report, dir: &Path) -> Result<(), CliError> {
    let receipts = dir.join("receipts");
    fs::create_dir_all(&receipts).map_err(CliError::file("create", &receipts))?;
    let path = dir.join("report.json");
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| CliError::Other(format!("the report has no JSON form: {error}")))?;
    fs::write(&path, json + "\n").map_err(CliError::file("write", &path))?;
    for call in &report.calls {
        let path = receipts.join(format!("{}.json", call.receipt_id));
        let json = devnet.receipt_json(call.receipt_id).await?;
        fs::write(&path, json).map_err(CliError::file("write", &path))?;
    }
    let path = dir.join("balances.jsonl");
    let file = fs::File::create(&path).map_err(CliError::file("create", &path))?;
    Ok(dn_sdk::devnet::write_balances(devnet, std::io::BufWriter::new(file)).await?)
}
