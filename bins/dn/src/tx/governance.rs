//! `dn tx`: identities, stake, sessions and governance.

use std::path::PathBuf;

use dn_core::objects::SessionGrant;
use dn_core::{Address, Amount, Hash32, Signed};
use dn_ledger::state::Pool;
use dn_ledger::tx::{Choice, Evidence, ParamChange, Payload, ProposalKind, Role, Shares};

use super::read_json;
use crate::error::CliError;
use crate::query::role;

/// What to sign. Amounts are decimal DN, such as `12.5`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tx {
    /// Change your name or endpoint in a role, or add to its collateral.
    Update {
        /// `worker`, `validator`, `model-owner` or `gateway`.
        #[arg(value_parser = role)]
        role: Role,
        /// A new name to show.
        #[arg(long)]
        name: Option<String>,
        /// Where you are reached now.
        #[arg(long)]
        endpoint: Option<String>,
        /// What to add to the bond.
        #[arg(long, default_value = "0")]
        add_collateral: Amount,
    },
    /// Set your commission as a validator; a higher one is announced and comes later.
    SetCommission {
        /// Basis points of your pool's reward, 0 to 10000: 250 is 2.5 %.
        #[arg(value_parser = basis_points)]
        rate: u16,
    },
    /// Move stake to another validator without waiting.
    Redelegate {
        /// The validator that it leaves.
        from: Address,
        /// The validator that it goes to.
        to: Address,
        /// How many shares of the old pool, as `dn query account` shows them.
        shares: u128,
    },
    /// Report that a validator signed two conflicting messages.
    SubmitEvidence {
        /// The validator.
        validator: Address,
        /// JSON file with both messages and signatures; docs/guides/transactions.md shows one.
        #[arg(value_name = "FILE")]
        evidence: PathBuf,
    },
    /// Register a session grant that its owner signed.
    GrantSession {
        /// JSON file with the signed grant, as `dn wallet sign-grant` prints it.
        #[arg(value_name = "FILE")]
        grant: PathBuf,
    },
    /// Take back what you granted a session key.
    RevokeSession {
        /// The session key's address.
        session: Address,
        /// Grants up to this serial are void.
        serial: u64,
    },
    /// Make a proposal.
    Propose {
        /// A title.
        #[arg(long)]
        title: String,
        /// What to say about it.
        #[arg(long, default_value = "")]
        text: String,
        /// Your deposit.
        #[arg(long)]
        deposit: Amount,
        #[command(subcommand)]
        kind: Kind,
    },
    /// Add to a proposal's deposit.
    Deposit {
        /// The proposal.
        proposal: u64,
        /// How much.
        amount: Amount,
    },
    /// Vote: as a validator for your pool, as a delegator with your own shares of a pool.
    Vote {
        /// The proposal.
        proposal: u64,
        /// `yes`, `no`, `abstain` or `no-with-veto`.
        #[arg(value_parser = choice)]
        choice: Choice,
        /// The validator in whose pool your stake is; without it your own pool.
        #[arg(long, value_name = "VALIDATOR")]
        pool: Option<Address>,
    },
}

/// What a proposal does.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Kind {
    /// Nothing: a statement.
    Text,
    /// Changes parameters.
    Params {
        /// JSON of one change, such as `{"parameter":"max_lanes","value":128}`; amounts in atto. May be repeated.
        #[arg(long = "change", required = true, value_parser = change)]
        changes: Vec<ParamChange>,
    },
    /// Pays out of a pool.
    Spend {
        /// `reserve`, `foundation`, or the number of a domain.
        #[arg(value_parser = pool)]
        pool: Pool,
        /// To whom.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// From a height on, blocks need software with an upgrade.
    Upgrade {
        /// Its name.
        name: String,
        /// Hash of its version.
        version: Hash32,
        /// First height of the new rules.
        height: u64,
    },
}

impl Tx {
    pub(super) fn payload(self, sender: Address) -> Result<Payload, CliError> {
        Ok(match self {
            Self::Update { role, name, endpoint, add_collateral } => {
                Payload::UpdateIdentity { role, name, endpoint, add_collateral }
            }
            Self::SetCommission { rate } => Payload::SetCommission { rate },
            Self::Redelegate { from, to, shares } => Payload::Redelegate { from, to, shares: Shares(shares) },
            Self::SubmitEvidence { validator, evidence } => {
                Payload::SubmitEvidence { validator, evidence: read_json::<Evidence>(&evidence)? }
            }
            Self::GrantSession { grant } => {
                Payload::GrantSession { grant: read_json::<Signed<SessionGrant>>(&grant)? }
            }
            Self::RevokeSession { session, serial } => Payload::RevokeSession { session, serial },
            Self::Propose { title, text, deposit, kind } => {
                Payload::Propose { title, text, kind: kind.into(), deposit }
            }
            Self::Deposit { proposal, amount } => Payload::Deposit { proposal, amount },
            Self::Vote { proposal, choice, pool } => {
                Payload::Vote { proposal, pool: pool.unwrap_or(sender), choice }
            }
        })
    }
}

impl From<Kind> for ProposalKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text {},
            Kind::Params { changes } => Self::Params { changes },
            Kind::Spend { pool, to, amount } => Self::Spend { pool, to, amount },
            Kind::Upgrade { name, version, height } => Self::Upgrade { name, version, height },
        }
    }
}

fn choice(text: &str) -> Result<Choice, String> {
    match text {
        "yes" => Ok(Choice::Yes),
        "no" => Ok(Choice::No),
        "abstain" => Ok(Choice::Abstain),
        "no-with-veto" => Ok(Choice::NoWithVeto),
        _ => Err("expected `yes`, `no`, `abstain` or `no-with-veto`".into()),
    }
}

fn basis_points(text: &str) -> Result<u16, String> {
    let rate = text.parse::<u16>().ok().filter(|rate| *rate <= 10_000);
    rate.ok_or_else(|| "expected basis points, a whole number from 0 to 10000, such as 250 for 2.5 %".into())
}

fn pool(text: &str) -> Result<Pool, String> {
    match text {
        "reserve" => Ok(Pool::Reserve),
        "foundation" => Ok(Pool::Foundation),
        domain => match domain.parse() {
            Ok(domain) => Ok(Pool::Domain { domain }),
            Err(_) => Err("expected `reserve`, `foundation` or the number of a domain".into()),
        },
    }
}

fn change(text: &str) -> Result<ParamChange, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        tx: Tx,
    }

    const ME: Address = Address([7; 20]);
    const OTHER: Address = Address([8; 20]);

    fn parse(line: &str) -> Result<Payload, String> {
        let other = OTHER.to_string();
        let words = line.split('|').map(|word| word.trim().replace("OTHER", &other));
        let line = Line::try_parse_from(std::iter::once("dn".to_owned()).chain(words));
        line.map_err(|error| error.to_string())?.tx.payload(ME).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_become_payloads() {
        let dn = Amount::from_dn;
        let role = Role::Validator;
        assert_eq!(
            parse("update|validator|--name|n|--add-collateral|5"),
            Ok(Payload::UpdateIdentity {
                role,
                name: Some("n".into()),
                endpoint: None,
                add_collateral: dn(5)
            })
        );
        assert_eq!(parse("set-commission|250"), Ok(Payload::SetCommission { rate: 250 }));
        assert_eq!(parse("set-commission|10000"), Ok(Payload::SetCommission { rate: 10_000 }));
        for wrong in ["0.01", "2.5%", "10001", "70000"] {
            let refused = parse(&format!("set-commission|{wrong}"));
            assert!(
                refused.is_err_and(|error| error.contains("basis points, a whole number from 0 to 10000"))
            );
        }
        let (from, to, shares) = (OTHER, OTHER, Shares(9));
        assert_eq!(parse("redelegate|OTHER|OTHER|9"), Ok(Payload::Redelegate { from, to, shares }));
        let session = OTHER;
        assert_eq!(parse("revoke-session|OTHER|3"), Ok(Payload::RevokeSession { session, serial: 3 }));
        assert_eq!(parse("deposit|4|2"), Ok(Payload::Deposit { proposal: 4, amount: dn(2) }));
        let choice = Choice::NoWithVeto;
        assert_eq!(parse("vote|4|no-with-veto"), Ok(Payload::Vote { proposal: 4, pool: ME, choice }));
        assert_eq!(
            parse("vote|4|no-with-veto|--pool|OTHER"),
            Ok(Payload::Vote { proposal: 4, pool: OTHER, choice })
        );
        assert!(parse("vote|4|maybe").is_err());
        assert!(parse("grant-session|/nowhere/grant.json").is_err_and(|error| error.contains("/nowhere")));
    }

    #[test]
    fn proposals_are_parsed() {
        let proposal = |kind: &str| match parse(&format!("propose|--title|t|--deposit|100|{kind}"))? {
            Payload::Propose { title, deposit, kind, .. }
                if title == "t" && deposit == Amount::from_dn(100) =>
            {
                Ok(kind)
            }
            other => Err(format!("{other:?}")),
        };
        assert_eq!(proposal("text"), Ok(ProposalKind::Text {}));
        assert_eq!(
            proposal(r#"params|--change|{"parameter":"max_lanes","value":9}"#),
            Ok(ProposalKind::Params { changes: vec![ParamChange::MaxLanes { value: 9 }] })
        );
        assert!(proposal(r#"params|--change|{"parameter":"epoch_blocks","value":9}"#).is_err());
        assert!(proposal("params").is_err());
        let (to, amount) = (OTHER, Amount::from_dn(3));
        let spend = |pool| Ok(ProposalKind::Spend { pool, to, amount });
        assert_eq!(proposal("spend|reserve|OTHER|3"), spend(Pool::Reserve));
        assert_eq!(proposal("spend|2|OTHER|3"), spend(Pool::Domain { domain: 2 }));
        assert!(proposal("spend|burned|OTHER|3").is_err());
        let version = Hash32([1; 32]);
        assert_eq!(
            proposal(&format!("upgrade|v2|{version}|900")),
            Ok(ProposalKind::Upgrade { name: "v2".into(), version, height: 900 })
        );
    }
}
