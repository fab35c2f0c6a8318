//! `dn tx`: batches and the verdicts on them, as worker, gateway and auditors send them by themselves.

use std::path::PathBuf;

use dn_core::objects::{BatchRoot, Verdict, Voucher};
use dn_core::{Address, Hash32, Signed};
use dn_ledger::tx::Payload;
use serde::Deserialize;

use super::read_json;
use crate::error::CliError;

/// What to sign for work and its audits.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tx {
    /// Post a batch of your receipts that its gateway signed.
    PostBatch {
        /// JSON file with `batch` and `vouchers`, one for each lane; docs/guides/transactions.md shows one.
        #[arg(value_name = "FILE")]
        batch: PathBuf,
    },
    /// Commit to a verdict.
    AuditCommit {
        /// JSON file with `verdict` and `salt`, 32 random bytes; keep it secret and whole for the reveal. docs/guides/transactions.md shows one.
        #[arg(value_name = "FILE")]
        verdict: PathBuf,
    },
    /// Show the verdict that you committed to.
    AuditReveal {
        /// The file of the commitment.
        #[arg(value_name = "FILE")]
        verdict: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    batch: Signed<BatchRoot>,
    vouchers: Vec<Signed<Voucher>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Salted {
    verdict: Verdict,
    salt: Hash32,
}

impl Salted {
    /// The commitment names the batch and the place, not the auditor: one to somebody else's verdict could never be revealed.
    fn read(path: &std::path::Path, sender: Address) -> Result<Self, CliError> {
        let salted: Self = read_json(path)?;
        let auditor = salted.verdict.auditor;
        if auditor != sender {
            let shown = path.display();
            return Err(CliError::Other(format!("{shown}: the verdict is by {auditor}; you are {sender}")));
        }
        Ok(salted)
    }
}

impl Tx {
    pub(super) fn payload(self, sender: Address) -> Result<Payload, CliError> {
        Ok(match self {
            Self::PostBatch { batch } => {
                let Batch { batch, vouchers } = read_json(&batch)?;
                Payload::PostBatch { batch, vouchers }
            }
            Self::AuditCommit { verdict } => {
                let Salted { verdict, salt } = Salted::read(&verdict, sender)?;
                let commitment = verdict.commitment(&salt.0);
                Payload::AuditCommit { batch: verdict.batch, index: verdict.index, commitment }
            }
            Self::AuditReveal { verdict } => {
                let Salted { verdict, salt } = Salted::read(&verdict, sender)?;
                Payload::AuditReveal { verdict, salt }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use dn_core::objects::{AuditOutcome, BatchLine};
    use dn_core::{Amount, BatchId, ChannelId, ModelId, SecretKey};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        tx: Tx,
    }

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32]).expect("a valid key")
    }

    fn parse(command: &str, file: &Path, sender: Address) -> Result<Payload, String> {
        let words = ["dn".as_ref(), command.as_ref(), file.as_os_str()];
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.tx.payload(sender).map_err(|error| error.to_string())
    }

    #[test]
    fn one_file_commits_and_reveals() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("verdict.json");
        let (me, salt) = (key(1).address(), Hash32([9; 32]));
        let outcome = AuditOutcome::Mismatch { position: 3 };
        let verdict = Verdict { batch: BatchId([4; 32]), index: 2, auditor: me, outcome };
        std::fs::write(&file, json!({ "verdict": verdict, "salt": salt }).to_string()).expect("written");
        let commitment = verdict.commitment(&salt.0);
        assert_eq!(
            parse("audit-commit", &file, me),
            Ok(Payload::AuditCommit { batch: verdict.batch, index: 2, commitment })
        );
        assert_eq!(parse("audit-reveal", &file, me), Ok(Payload::AuditReveal { verdict, salt }));
        for command in ["audit-commit", "audit-reveal"] {
            let refused = parse(command, &file, key(2).address());
            assert!(refused.is_err_and(|error| error.contains("the verdict is by")));
        }
        assert!(parse("audit-commit", Path::new("/nowhere/v.json"), me).is_err());
    }

    #[test]
    fn a_batch_comes_with_its_vouchers() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("batch.json");
        let (gateway, payer, channel) = (key(1), key(2), ChannelId([5; 32]));
        let line = BatchLine {
            channel,
            lane: 0,
            model: ModelId([6; 32]),
            domain: 0,
            receipts: 1,
            prompt_tokens: 2,
            output_tokens: 3,
            fees: Amount::from_dn(1),
        };
        let body = BatchRoot {
            chain_id: 1,
            worker: key(3).address(),
            gateway: gateway.address(),
            sequence: 0,
            root: Hash32([7; 32]),
            count: 1,
            lines: vec![line],
            expires_ms: 9,
        };
        let batch = Signed::sign(body, &gateway);
        let max_claimable = Amount::from_dn(1);
        let voucher =
            Voucher { chain_id: 1, channel, lane: 0, max_claimable, signer: payer.address(), expires_ms: 9 };
        let vouchers = vec![Signed::sign(voucher, &payer)];
        std::fs::write(&file, json!({ "batch": batch, "vouchers": vouchers }).to_string()).expect("written");
        let me = key(3).address();
        assert_eq!(parse("post-batch", &file, me), Ok(Payload::PostBatch { batch, vouchers }));
        std::fs::write(&file, "{}").expect("written");
        assert!(parse("post-batch", &file, me).is_err_and(|error| error.contains("batch.json")));
    }
}
