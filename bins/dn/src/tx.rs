//! `dn tx`: signed transactions.

mod governance;
#[cfg(test)]
mod guide;
mod registry;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dn_core::objects::Price;
use dn_core::{Address, Amount, ChannelId, Hash32, ModelId, SecretKey};
use dn_ledger::tx::{Payload, Role, Shares};
use serde::de::DeserializeOwned;

use crate::error::CliError;
use crate::home::Config;
use crate::out;
use crate::query::{RpcArgs, role};
use crate::render::render;
use crate::review_tx::Review;
use crate::wallet::KeyArgs;

/// `dn tx`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    rpc: RpcArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// Print the outcome as JSON, amounts in atto (10^-18 DN).
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    tx: Tx,
}

/// What to sign. Amounts are decimal DN, such as `12.5`.
#[derive(Debug, clap::Subcommand)]
enum Tx {
    /// Send DN to another account.
    Transfer {
        /// Who receives.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Take up a role, or add collateral to a suspended one.
    Register {
        /// `worker`, `validator`, `model-owner` or `gateway`.
        #[arg(value_parser = role)]
        role: Role,
        /// Bond that can be slashed.
        #[arg(long)]
        collateral: Amount,
        /// A name to show.
        #[arg(long)]
        name: String,
        /// Where you are reached, such as a gateway's URL.
        #[arg(long, default_value = "")]
        endpoint: String,
    },
    /// Leave a role; the collateral is free after the unbonding time.
    Retire {
        /// The role.
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Put stake into a validator's pool.
    Stake {
        /// The validator.
        validator: Address,
        /// How much.
        amount: Amount,
    },
    /// Take shares out of a validator's pool; they are free after the unbonding time.
    Unbond {
        /// The validator.
        validator: Address,
        /// How many shares, as `dn query account` shows them.
        shares: u128,
    },
    /// Pay out what unbonding has set free.
    Withdraw,
    /// Publish a model, to earn from every call of it.
    PublishModel {
        /// GGUF file; without it the model inside this program.
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// The name that calls use.
        #[arg(long)]
        name: String,
        /// DN for one prompt token.
        #[arg(long, value_name = "DN")]
        prompt_price: Amount,
        /// DN for one generated token.
        #[arg(long, value_name = "DN")]
        output_price: Amount,
        /// The domain its work counts for.
        #[arg(long, default_value_t = 0)]
        domain: u32,
        /// The salt of a commitment that you made yourself; without it the command makes one where the chain asks for it, and waits.
        #[arg(long)]
        salt: Option<Hash32>,
    },
    /// Change the prices of your model.
    SetModelPrice {
        /// The model.
        model: ModelId,
        /// DN for one prompt token.
        #[arg(long, value_name = "DN")]
        prompt_price: Amount,
        /// DN for one generated token.
        #[arg(long, value_name = "DN")]
        output_price: Amount,
    },
    /// Withdraw your model: no new offers, no batches after a grace time.
    RetireModel {
        /// The model.
        model: ModelId,
    },
    /// Announce that you, a worker, host a model; sent again, it changes the least prices.
    Offer {
        /// The model.
        model: ModelId,
        /// The least DN for one prompt token that you work for.
        #[arg(long, value_name = "DN", default_value = "0")]
        prompt_price: Amount,
        /// The least DN for one generated token.
        #[arg(long, value_name = "DN", default_value = "0")]
        output_price: Amount,
    },
    /// Take an offer back.
    Unoffer {
        /// The model.
        model: ModelId,
    },
    /// Lock DN for calls through a gateway.
    OpenChannel {
        /// The gateway.
        gateway: Address,
        /// How much.
        deposit: Amount,
        /// Who, besides you, may sign vouchers: a spending key; without it only you.
        #[arg(long)]
        spender: Option<Address>,
    },
    /// Add DN to your channel.
    TopUpChannel {
        /// The channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
    },
    /// Start to close your channel.
    CloseChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// Take back what is left in your closed channel once its delay is over.
    FinishChannel {
        /// The channel.
        channel: ChannelId,
    },
    #[command(flatten)]
    Registry(registry::Tx),
    #[command(flatten)]
    Governance(governance::Tx),
    #[command(flatten)]
    Work(work::Tx),
    #[command(flatten)]
    Review(Review),
}

impl Tx {
    fn payload(self, key: &SecretKey) -> Result<Payload, CliError> {
        Ok(match self {
            Self::Review(review) => review.payload(key)?,
            Self::Transfer { to, amount } => Payload::Transfer { to, amount },
            Self::Register { role, collateral, name, endpoint } => {
                Payload::Register { role, collateral, name, endpoint }
            }
            Self::Retire { role } => Payload::Retire { role },
            Self::Stake { validator, amount } => Payload::Stake { validator, amount },
            Self::Unbond { validator, shares } => Payload::Unbond { validator, shares: Shares(shares) },
            Self::Withdraw => Payload::Withdraw {},
            Self::PublishModel { model, name, prompt_price, output_price, domain, salt } => {
                Payload::PublishModel {
                    manifest: crate::model::load(model.as_ref())?.1.manifest().clone(),
                    name,
                    price: Price { prompt_token: prompt_price, output_token: output_price },
                    domain,
                    salt,
                }
            }
            Self::SetModelPrice { model, prompt_price, output_price } => {
                let price = Price { prompt_token: prompt_price, output_token: output_price };
                Payload::SetModelPrice { model, price }
            }
            Self::RetireModel { model } => Payload::RetireModel { model },
            Self::Offer { model, prompt_price, output_price } => {
                let price = Price { prompt_token: prompt_price, output_token: output_price };
                Payload::Offer { model, price }
            }
            Self::Unoffer { model } => Payload::Unoffer { model },
            Self::OpenChannel { gateway, deposit, spender } => Payload::OpenChannel {
                payee: gateway,
                deposit,
                spender: spender.unwrap_or_else(|| key.address()),
            },
            Self::TopUpChannel { channel, amount } => Payload::TopUpChannel { channel, amount },
            Self::CloseChannel { channel } => Payload::CloseChannel { channel },
            Self::FinishChannel { channel } => Payload::FinishChannel { channel },
            Self::Registry(tx) => tx.payload(key.address())?,
            Self::Governance(tx) => tx.payload(key.address())?,
            Self::Work(tx) => tx.payload(key.address())?,
        })
    }
}

/// Runs the command: signs, sends, waits until the block that holds the transaction is durable, and has that proven.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let client = args.rpc.client(config)?;
    let key = args.key.open(config)?;
    let payload = args.tx.payload(&key)?;
    let waiting = out::spinner("waiting for the block");
    let (outcome, place) = crate::runtime()?.block_on(async {
        let payload = client.commit_first(&key, payload).await?;
        let (tx, outcome) = client.submit_signed(&key, payload).await?;
        waiting.set_message("checking the proof");
        Ok::<_, CliError>((outcome, client.prove_tx(&tx).await?))
    })?;
    waiting.finish_and_clear();
    let Some((height, _)) = place else {
        let (id, height) = (outcome.tx_id, outcome.height);
        return Err(CliError::Other(format!(
            "the node says that transaction {id} is in block {height}, and gives no proof of it"
        )));
    };
    let from = args.rpc.trusted(config)?.map_or_else(
        || "the first block that this node showed (--trusted names another)".to_owned(),
        |trusted| format!("block {trusted}"),
    );
    let mut value = serde_json::to_value(&outcome)
        .map_err(|error| CliError::Other(format!("the outcome has no JSON form: {error}")))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("proven_in_block".to_owned(), height.into());
        fields.insert("proven_from".to_owned(), from.into());
    }
    if args.json {
        out::json(&value);
    } else {
        out::text(render(&value));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a JSON file says.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::Other(format!("{shown} cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| CliError::Other(format!("{shown}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        tx: Tx,
    }

    /// Every payload that the ledger knows has its command; the one whose name differs is named here.
    #[test]
    fn every_transaction_has_a_command() {
        let document = dn_ledger::node::openrpc();
        let payloads = document["components"]["schemas"]["Payload"]["oneOf"].as_array().expect("an enum");
        let kinds = payloads.iter().map(|kind| kind["properties"]["type"]["const"].as_str().expect("a tag"));
        let expected: BTreeSet<String> = kinds
            .map(|kind| if kind == "update_identity" { "update" } else { kind })
            .map(|kind| kind.replace('_', "-"))
            .collect();
        let line = <Line as clap::CommandFactory>::command();
        let commands: BTreeSet<String> = line.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert_eq!(commands, expected);
        assert!(expected.len() > 40);
    }

    #[test]
    fn a_price_is_parsed() {
        let (key, model) = (SecretKey::from_bytes(&[7; 32]).expect("a valid key"), ModelId([3; 32]));
        let words =
            ["dn", "set-model-price", &model.to_string(), "--prompt-price", "0.5", "--output-price", "2"];
        let line = Line::try_parse_from(words).expect("a line");
        let half = Amount::from_atto(500_000_000_000_000_000);
        let price = Price { prompt_token: half, output_token: Amount::from_dn(2) };
        assert_eq!(line.tx.payload(&key).expect("a payload"), Payload::SetModelPrice { model, price });
    }
}
