//! `dn query events`: what happened, and what happens.

use dn_core::{Address, ModelId};
use dn_ledger::tx::Role;
use dn_sdk::ledger::{EventFilter, EventsFrom, LedgerClient};
use serde_json::Value;

use super::answer;
use crate::error::CliError;
use crate::out;

/// Which events.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// First block; 0 is the first that the node holds. Without it that one, or, with --follow, the next.
    #[arg(long, value_name = "HEIGHT")]
    from_height: Option<u64>,
    /// Blocks are added until there are so many events; at most 1,000.
    #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "follow")]
    limit: u32,
    /// Print events as they happen, one line of JSON each, until interrupted; goes on over restarts of the node.
    #[arg(long)]
    follow: bool,
    /// Only events of this kind, such as `transferred`.
    #[arg(long, value_name = "KIND", requires = "follow")]
    event: Option<String>,
    /// Only events that name this address, in whatever part.
    #[arg(long, requires = "follow")]
    address: Option<Address>,
    /// Only events that name this role, or that lie in it by their nature.
    #[arg(long, value_parser = super::role, requires = "follow")]
    role: Option<Role>,
    /// Only events that name this model or family.
    #[arg(long, requires = "follow")]
    model: Option<ModelId>,
}

impl Args {
    pub(super) const fn follows(&self) -> bool {
        self.follow
    }
}

/// The events of a page.
pub(super) async fn ask(client: &LedgerClient, args: Args) -> Result<Value, CliError> {
    answer(client.events(args.from_height.unwrap_or(0), args.limit).await?)
}

/// Prints events until the user has enough.
pub(super) async fn follow(client: &LedgerClient, args: Args) -> Result<(), CliError> {
    let Args { from_height, event, address, role, model, .. } = args;
    let filter = EventFilter { event, address, role, model };
    let from = from_height.map_or(EventsFrom::Next, EventsFrom::Height);
    let mut stream = client.subscribe(filter, from).await?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            event = stream.next() => out::json_line(&event?),
            _ = &mut interrupted => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::error::ErrorKind> {
        let words = ["events"].into_iter().chain(words.iter().copied());
        Cli::try_parse_from(words).map(|cli| cli.args).map_err(|error| error.kind())
    }

    #[test]
    fn filters_are_for_those_who_follow() {
        let plain = parse(&["--from-height", "3", "--limit", "7"]).unwrap();
        assert_eq!((plain.from_height, plain.limit, plain.follows()), (Some(3), 7, false));
        let followed = parse(&["--follow", "--event", "staked", "--role", "model-owner"]).unwrap();
        assert!(
            followed.follows() && followed.role == Some(Role::ModelOwner) && followed.from_height.is_none()
        );
        // A page is of all events: that a filter does nothing would not be seen.
        let zero = Address([0; 20]).to_string();
        for filter in [["--event", "staked"], ["--role", "worker"], ["--address", &zero]] {
            assert_eq!(parse(&filter).unwrap_err(), clap::error::ErrorKind::MissingRequiredArgument);
        }
        let both = parse(&["--follow", "--limit", "5"]).unwrap_err();
        assert_eq!(both, clap::error::ErrorKind::ArgumentConflict);
    }
}
