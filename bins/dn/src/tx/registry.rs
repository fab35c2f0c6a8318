//! `dn tx`: domains, model families, backers and jobs.

use std::path::{Path, PathBuf};

use dn_core::objects::{BatchRoot, JobAcceptance, Price, Receipt};
use dn_core::{Address, Amount, Hash32, JobId, ModelId, Signed};
use dn_ledger::tx::{
    BackingTerms, DomainTerms, FeeMove, Licence, NewJob, NewVersion, Parent, Payload, Shares,
    model_commitment,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::read_json;
use crate::error::CliError;

/// What to sign for domains, model families, backers and jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tx {
    /// Create a domain: its fee is burned, its deposit locked until you close it.
    CreateDomain {
        /// Lower-case letters, digits and hyphens.
        name: String,
        /// TOML file with `admission` (`"open"`, or `"owner"`: nobody else publishes in it), `[emission]` and `[fees]`, in basis points; what it leaves
        /// out is the chain's, and open.
        #[arg(long, value_name = "FILE")]
        terms: Option<PathBuf>,
    },
    /// Change who may publish in your domain and how it splits emission and fees, from the next epoch on.
    ConfigureDomain {
        /// The domain.
        domain: u32,
        /// TOML file as for `create-domain`, all of it anew; without it the chain's, and open.
        #[arg(long, value_name = "FILE")]
        terms: Option<PathBuf>,
    },
    /// Give your domain to somebody else.
    TransferDomain {
        /// The domain.
        domain: u32,
        /// Its new owner.
        to: Address,
    },
    /// Pay out of your domain's treasury, within the epoch's bound.
    SpendTreasury {
        /// The domain.
        domain: u32,
        /// Who receives.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Close your domain, which has no models any more.
    CloseDomain {
        /// The domain.
        domain: u32,
    },
    /// Publish a model with terms: the first of a family, or its next version.
    PublishVersion {
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
        /// The family it is the next version of.
        #[arg(long)]
        family: Option<ModelId>,
        /// TOML file with `[licence]`, `[[parents]]`, `[fees]` and `[backing]`; amounts are texts, in atto.
        #[arg(long, value_name = "FILE")]
        terms: PathBuf,
        /// The salt of a commitment that you made yourself; without it the command makes one where the chain asks for it, and waits.
        #[arg(long)]
        salt: Option<Hash32>,
    },
    /// Commit to a model that you are going to publish; `publish-model` and `publish-version` do it by themselves.
    CommitModel {
        /// The model's id.
        model: ModelId,
        /// 32 bytes that nobody knows; publish with the same.
        #[arg(long)]
        salt: Hash32,
    },
    /// Give your model family, with all its versions, to another model owner.
    TransferModel {
        /// The family: its first model.
        family: ModelId,
        /// Its new owner.
        to: Address,
    },
    /// Put DN behind a model family, for a part of what its owner earns.
    BackModel {
        /// The family: its first model.
        family: ModelId,
        /// How much.
        amount: Amount,
    },
    /// Take backing out; it is free after the unbacking time.
    Unback {
        /// The family: its first model.
        family: ModelId,
        /// How many shares, as `dn query backing` shows them.
        shares: u128,
    },
    /// Lock DN for a long job.
    LockJob {
        /// Who is to do it; without it any worker that offers the model.
        #[arg(long)]
        worker: Option<Address>,
        /// Who passes it on.
        #[arg(long)]
        gateway: Address,
        /// The model.
        #[arg(long)]
        model: ModelId,
        /// Hash of the canonical request.
        #[arg(long)]
        job: JobId,
        /// DN for one prompt token.
        #[arg(long, value_name = "DN")]
        prompt_price: Amount,
        /// DN for one generated token.
        #[arg(long, value_name = "DN")]
        output_price: Amount,
        /// The most it can cost.
        #[arg(long)]
        amount: Amount,
        /// Last height at which it can be claimed.
        #[arg(long, value_name = "HEIGHT")]
        expires_height: u64,
        /// What the worker puts up when it claims: back when the job is settled, lost by a proven fraud. At most a hundred times the amount.
        #[arg(long, value_name = "DN", default_value = "0")]
        bond: Amount,
    },
    /// Claim a job with its receipt.
    ClaimJob {
        /// JSON file with `batch`, `receipt` and, if the payer signed one, `acceptance`; docs/guides/transactions.md shows one.
        #[arg(value_name = "FILE")]
        claim: PathBuf,
        /// JSON file with the payer's acceptance, as `dn wallet sign-acceptance` prints it, if the other file has none.
        #[arg(long, value_name = "FILE")]
        acceptance: Option<PathBuf>,
    },
}

/// What a file says about a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionTerms {
    licence: Licence,
    #[serde(default)]
    parents: Vec<Parent>,
    fees: Option<FeeMove>,
    backing: Option<BackingTerms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    batch: Signed<BatchRoot>,
    receipt: Box<Signed<Receipt>>,
    acceptance: Option<Signed<JobAcceptance>>,
}

impl Tx {
    pub(super) fn payload(self, sender: Address) -> Result<Payload, CliError> {
        Ok(match self {
            Self::CreateDomain { name, terms } => {
                Payload::CreateDomain { name, terms: domain_terms(terms.as_deref())? }
            }
            Self::ConfigureDomain { domain, terms } => {
                Payload::ConfigureDomain { domain, terms: domain_terms(terms.as_deref())? }
            }
            Self::TransferDomain { domain, to } => Payload::TransferDomain { domain, to },
            Self::SpendTreasury { domain, to, amount } => Payload::SpendTreasury { domain, to, amount },
            Self::CloseDomain { domain } => Payload::CloseDomain { domain },
            Self::CommitModel { model, salt } => {
                Payload::CommitModel { commitment: model_commitment(model, sender, &salt) }
            }
            Self::PublishVersion { model, name, prompt_price, output_price, domain, family, terms, salt } => {
                let VersionTerms { licence, parents, fees, backing } = toml_file(&terms)?;
                let manifest = crate::model::load(model.as_ref())?.1.manifest().clone();
                let price = Price { prompt_token: prompt_price, output_token: output_price };
                let version = NewVersion {
                    family,
                    manifest,
                    name,
                    price,
                    domain,
                    licence,
                    parents,
                    fees,
                    backing,
                    salt,
                };
                Payload::PublishVersion { version }
            }
            Self::TransferModel { family, to } => Payload::TransferModel { family, to },
            Self::BackModel { family, amount } => Payload::BackModel { family, amount },
            Self::Unback { family, shares } => Payload::Unback { family, shares: Shares(shares) },
            Self::LockJob {
                worker,
                gateway,
                model,
                job,
                prompt_price,
                output_price,
                amount,
                expires_height,
                bond,
            } => {
                let price = Price { prompt_token: prompt_price, output_token: output_price };
                Payload::LockJob {
                    job: NewJob { worker, gateway, model, job, price, amount, expires_height, bond },
                }
            }
            Self::ClaimJob { claim, acceptance } => claim_job(&claim, acceptance.as_deref())?,
        })
    }
}

fn claim_job(claim: &Path, apart: Option<&Path>) -> Result<Payload, CliError> {
    let Claim { batch, receipt, acceptance: inside } = read_json(claim)?;
    let acceptance = match (inside, apart) {
        (Some(_), Some(_)) => {
            let reason = format!("{} has an acceptance already; one expected", claim.display());
            return Err(CliError::argument("--acceptance", reason));
        }
        (inside, None) => inside,
        (None, Some(path)) => Some(read_json(path)?),
    };
    Ok(Payload::ClaimJob { batch, receipt, acceptance })
}

fn domain_terms(file: Option<&Path>) -> Result<DomainTerms, CliError> {
    file.map_or_else(|| Ok(DomainTerms::default()), toml_file)
}

fn toml_file<T: DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    toml::from_str(&read(path)?).map_err(|error| unreadable(path, error))
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::Other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use dn_ledger::tx::Admission;

    use super::*;

    #[test]
    fn files_of_terms_are_read() {
        let text = r#"
            [licence]
            id = "MIT"
            derivatives = true
            commercial = true
            royalty_bps = 500

            [[parents]]
            model = "0x0101010101010101010101010101010101010101010101010101010101010101"
            share_bps = 700

            [backing]
            share_bps = 2000
            cap = "1000000000000000000000"
        "#;
        let terms: VersionTerms = toml::from_str(text).expect("good terms");
        assert_eq!(terms.parents[0].share_bps, 700);
        assert_eq!(terms.backing.map(|b| b.cap), Some(Amount::from_dn(1_000)));
        let split = "[fees]\nworker = 6500\nowner = 2000\nvalidators = 800\ndomain = 400\n";
        let terms: DomainTerms = toml::from_str(split).expect("good terms");
        assert!(terms.emission.is_none() && terms.fees.is_some_and(|fees| fees.owner == 2_000));
        assert_eq!(terms.admission, Admission::Open);
        let terms: DomainTerms = toml::from_str(&format!("admission = \"owner\"\n{split}")).expect("good");
        assert_eq!((terms.admission, terms.fees.map(|fees| fees.owner)), (Admission::Owner, Some(2_000)));
        assert!(toml::from_str::<DomainTerms>("admission = \"nobody\"").is_err());
        assert!(toml::from_str::<DomainTerms>("surprise = 1").is_err());
    }
}
