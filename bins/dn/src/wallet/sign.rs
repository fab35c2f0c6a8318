//! `dn wallet sign-grant`, `sign-acceptance`: signatures that somebody else brings to the ledger.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use dn_core::objects::Receipt;
use dn_core::{Address, Amount, ChannelId, ModelId, ReceiptId, SecretKey, Signed};
use dn_sdk::signing::{SessionTerms, accept_receipt, sign_acceptance, sign_grant};
use serde::Deserialize;
use serde_json::Value;

use super::KeyArgs;
use crate::error::CliError;
use crate::home::{self, Config};
use crate::out;
use crate::query::RpcArgs;

/// The most bytes of a file with a receipt, its request and output among them.
const MAX_RECEIPT_FILE: usize = 16 * 1024 * 1024;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// Who signs, for which chain, and until when.
#[derive(Debug, clap::Args)]
struct SigningArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    rpc: RpcArgs,
    /// The chain; without it the ledger node is asked.
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,
    /// For how many hours from now it is good.
    #[arg(long, value_name = "N", default_value_t = 24, conflicts_with = "expires_ms")]
    hours: u64,
    /// The last millisecond since 1970 at which it is good, instead of --hours.
    #[arg(long, value_name = "MS")]
    expires_ms: Option<u64>,
}

impl SigningArgs {
    /// Chain, end and key: the password is asked for last.
    fn open(&self, config: &Config) -> Result<(u64, u64, SecretKey), CliError> {
        let chain_id = match self.chain_id {
            Some(chain_id) => chain_id,
            None => crate::runtime()?.block_on(self.rpc.client(config)?.chain_id())?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let after = || now_ms.saturating_add(self.hours.saturating_mul(HOUR_MS));
        Ok((chain_id, self.expires_ms.unwrap_or_else(after), self.key.open(config)?))
    }
}

/// `dn wallet sign-grant`.
#[derive(Debug, clap::Args)]
pub(crate) struct GrantArgs {
    /// The address of the session key, which may then spend from the signing key's channels.
    session: Address,
    /// The most that one call may cost.
    #[arg(long, value_name = "DN")]
    per_call: Amount,
    /// The most that may be spent in all.
    #[arg(long, value_name = "DN")]
    total: Amount,
    /// A model that may be called; repeat it for each. Without it every model.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelId>,
    /// Higher than that of the grant to the same session key before, which must be over; `dn query sessions` shows it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    serial: u64,
    #[command(flatten)]
    signing: SigningArgs,
}

/// `dn wallet sign-acceptance`.
#[derive(Debug, clap::Args)]
pub(crate) struct AcceptanceArgs {
    /// The job's escrow, which its receipt names as the channel.
    escrow: ChannelId,
    /// JSON file with the job's signed receipt, alone or as `receipt` among others, such as the file of its claim; it is checked.
    #[arg(long, value_name = "FILE", required_unless_present = "receipt_id", conflicts_with = "receipt_id")]
    receipt: Option<PathBuf>,
    /// The receipt's id instead: nothing is checked.
    #[arg(long, value_name = "ID")]
    receipt_id: Option<ReceiptId>,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Prints a grant as `dn tx grant-session` takes it.
pub(super) fn grant(args: GrantArgs, config: &Config) -> Result<(), CliError> {
    let (chain_id, expires_ms, key) = args.signing.open(config)?;
    let GrantArgs { session, per_call, total, models, serial, .. } = args;
    let terms = SessionTerms { session, serial, per_call, total, models, expires_ms };
    out::json(&sign_grant(&key, chain_id, terms)?);
    Ok(())
}

/// Prints an acceptance as `dn tx claim-job --acceptance` takes it.
pub(super) fn acceptance(args: &AcceptanceArgs, config: &Config) -> Result<(), CliError> {
    // Before the password is asked for.
    let receipt = args.receipt.as_deref().map(read_receipt).transpose()?;
    let (chain_id, expires_ms, key) = args.signing.open(config)?;
    let signed = match (&receipt, args.receipt_id) {
        (Some(receipt), _) => accept_receipt(&key, chain_id, args.escrow, receipt, expires_ms)?,
        (None, Some(id)) => sign_acceptance(&key, chain_id, args.escrow, id, expires_ms)?,
        (None, None) => return Err(CliError::argument("--receipt", "a file, or --receipt-id, expected")),
    };
    out::json(&signed);
    Ok(())
}

/// The signed receipt of a file: all of it, or its field `receipt`.
fn read_receipt(path: &Path) -> Result<Signed<Receipt>, CliError> {
    let refused = |error: serde_json::Error| CliError::Other(format!("{}: {error}", path.display()));
    let text = home::read_text(path, MAX_RECEIPT_FILE)?;
    let value: Value = serde_json::from_str(&text).map_err(refused)?;
    let receipt = value.get("receipt").unwrap_or(&value);
    Signed::deserialize(receipt).map_err(refused)
}
