//! `dn sim`: reward policies, tried out.

pub(crate) mod bench;
mod list;
mod run;
mod sweep;

use std::io::{BufReader, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use dn_sim::scenario::{BUILTIN, SUITE};

use crate::error::CliError;
use crate::out;

/// What `dn sim` does.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a scenario: every policy against every attack with every seed; tables, plots and a report.
    Run {
        /// The scenario (TOML), or the name of a built-in one.
        scenario: PathBuf,
        #[command(flatten)]
        options: run::Options,
    },
    /// The attack suite of docs/economics.md.
    Suite {
        #[command(flatten)]
        options: run::Options,
    },
    /// Run a scenario again and again with some of its values changed.
    Sweep {
        /// The scenario (TOML), or the name of a built-in one.
        scenario: PathBuf,
        /// A value and what to try for it, such as `powr.trust.history_gain=128,256,512` or `attacks[0].stake=0.3,0.45`; several make a grid.
        #[arg(long = "set", required = true, value_name = "PATH=V,V,…")]
        sets: Vec<String>,
        #[command(flatten)]
        options: run::Options,
    },
    /// Write the tables, plots and report of a folder again, of the runs that are finished.
    Report {
        /// The folder of a run.
        folder: PathBuf,
    },
    /// Answer questions, one JSON object a line: {"id", "op", "in"} gives {"id", "out"} or {"id", "error"}.
    Eval,
    /// Print a built-in scenario, to start one's own from; without a name, list them.
    Scenario {
        /// Its name.
        name: Option<String>,
    },
    /// Print every value that a scenario may set, with its default.
    Defaults,
    /// List the attacks with their parameters, and the policies.
    Attacks,
    /// Look at a snapshot of a real network (JSON) and print a scenario that starts from it.
    Import {
        /// The snapshot.
        snapshot: PathBuf,
    },
}

pub(crate) fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Run { scenario, options } => run::scenario(&scenario, &options),
        Command::Suite { options } => run::text(SUITE, None, "dn sim suite", &options),
        Command::Sweep { scenario, sets, options } => sweep::run(&scenario, &sets, &options),
        Command::Report { folder } => run::report(&folder),
        Command::Eval => {
            let done = dn_sim::eval::run(BufReader::new(stdin().lock()), stdout().lock());
            match done {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::from(141)),
                done => done
                    .map(|()| ExitCode::SUCCESS)
                    .map_err(CliError::file("read standard input or write", "standard output")),
            }
        }
        Command::Scenario { name } => builtin(name.as_deref()),
        Command::Defaults => list::defaults(),
        Command::Attacks => list::attacks(),
        Command::Import { snapshot } => list::import(&snapshot),
    }
}

fn builtin(name: Option<&str>) -> Result<ExitCode, CliError> {
    let names = || BUILTIN.map(|(name, _)| name).join(", ");
    let Some(name) = name else {
        out::line(names());
        return Ok(ExitCode::SUCCESS);
    };
    let found = BUILTIN.iter().find(|(known, _)| *known == name);
    let (_, text) = found
        .ok_or_else(|| CliError::argument("NAME", format!("`{name}` is unknown; known: {}", names())))?;
    out::text(text);
    Ok(ExitCode::SUCCESS)
}
