//! `powr`: quality, scores and payouts of a population.

use std::collections::BTreeMap;
use std::fmt;

use dn_core::Amount;
use dn_powr::{Consensus, Payout, Vote, score, vote_weight};
use dn_trust::{Params, Trust, Unit, WorkerEpoch, WorkerTrust};
use serde::Serialize;
use serde_json::Value;

use super::history::{epoch, params};
use super::trust::{MAX_EPOCHS, number};
use super::{EvalError, written};
use crate::document::{DocumentError, Node};

/// The longest id, in bytes.
const MAX_ID: usize = 256;

/// Numbers come before texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
enum Id<'a> {
    Number(u64),
    Text(&'a str),
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What holds for all nodes.
struct Rules {
    params: Params,
    stake_cap: Amount,
    quality_cap: Unit,
}

struct Scored<'a> {
    id: Id<'a>,
    consensus: Option<Consensus>,
    quality: Unit,
    trust: Trust,
    score: u128,
}

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&["pot", "nodes", "stake_cap", "quality_cap", "params"])?;
    let pot = Amount::from_atto(input.field("pot")?.u128()?);
    let stake_cap = input.optional("stake_cap")?.map_or(Ok(u128::MAX), |n| n.u128())?;
    let quality_cap = input.optional("quality_cap")?.map_or(Ok(Unit::ONE), |n| n.unit())?;
    let rules = Rules { params: params(input)?, stake_cap: Amount::from_atto(stake_cap), quality_cap };
    let list = input.field("nodes")?;
    let mut places = BTreeMap::new();
    let mut nodes = Vec::with_capacity(list.items()?.len());
    for (at, node) in list.items()?.enumerate() {
        let id = read_id(&node)?;
        if let Some(first) = places.insert(id, at) {
            let (path, first) = (node.path(), format!("{}[{first}]", list.path()));
            let id = id.to_string();
            return Err(DocumentError::Duplicate { path, id, first }.into());
        }
        nodes.push(scored(id, &node, &rules)?);
    }
    let entries = nodes.iter().map(|n| (n.id, n.score));
    let plan = Payout::new(pot, entries).map_err(|source| EvalError::Payout { path: list.path(), source })?;
    let out: Vec<_> = nodes.iter().map(|n| n.shown(plan.share_of(n.id, n.score))).collect();
    let carried = plan.carried_over();
    let out = Answer {
        nodes: out,
        total_score: plan.total_points().to_string(),
        paid: pot.saturating_sub(carried),
        carried_over: carried,
    };
    Ok(written(&out))
}

fn read_id<'a>(node: &Node<'a>) -> Result<Id<'a>, DocumentError> {
    let field = node.field("id")?;
    let id = match node.value().get("id") {
        Some(Value::String(text)) if text.len() <= MAX_ID => Some(Id::Text(text)),
        Some(Value::Number(n)) => n.as_u64().map(Id::Number),
        _ => None,
    };
    id.ok_or_else(|| {
        field.refuse(format!("a string of at most {MAX_ID} bytes, or an integer from 0 to {}", u64::MAX))
    })
}

fn scored<'a>(id: Id<'a>, node: &Node<'_>, rules: &Rules) -> Result<Scored<'a>, EvalError> {
    node.known(&["id", "work", "quality", "votes", "trust", "history"])?;
    let work = node.field("work")?.u128()?;
    let (consensus, quality) = match node.one_of(&["quality", "votes"])? {
        (0, quality) => (None, quality.unit()?),
        (_, votes) => {
            let consensus = consensus(&votes, rules)?;
            (Some(consensus), consensus.quality)
        }
    };
    let quality = quality.min(rules.quality_cap);
    let trust = match node.one_of(&["trust", "history"])? {
        (0, trust) => Trust::new(trust.unit()?),
        (_, history) => {
            history.length(0, MAX_EPOCHS)?;
            let mut worker = WorkerTrust::newcomer(&rules.params);
            for e in history.items()? {
                worker.close_epoch(&rules.params, &epoch::<WorkerEpoch>(&e, &rules.params)?);
            }
            worker.weight(&rules.params)
        }
    };
    Ok(Scored { id, consensus, quality, trust, score: score(work, quality, trust) })
}

fn consensus(votes: &Node<'_>, rules: &Rules) -> Result<Consensus, EvalError> {
    let mut read = Vec::with_capacity(votes.items()?.len());
    for node in votes.items()? {
        node.known(&["score", "weight", "stake", "trust"])?;
        let score = node.field("score")?.unit()?;
        let weight = match node.one_of(&["weight", "stake"])? {
            (0, weight) => {
                if let Some(trust) = node.optional("trust")? {
                    return Err(trust.refuse("nothing, since a weight has the trust in it").into());
                }
                weight.u128()?
            }
            (_, stake) => {
                let stake = Amount::from_atto(stake.u128()?);
                vote_weight(stake, rules.stake_cap, Trust::new(node.field("trust")?.unit()?))
            }
        };
        read.push(Vote { score, weight });
    }
    Consensus::of(&mut read).map_err(|source| EvalError::Votes { path: votes.path(), source })
}

impl Scored<'_> {
    fn shown(&self, payout: Amount) -> NodeAnswer<'_> {
        let (q, t) = (self.quality, self.trust.value());
        NodeAnswer {
            id: self.id,
            consensus: self.consensus.map(|c| Quartiles {
                low: number(c.low),
                quality: number(c.quality),
                high: number(c.high),
            }),
            quality: number(q),
            quality_q32: q.bits(),
            trust: number(t),
            trust_q32: t.bits(),
            score: self.score.to_string(),
            payout,
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    nodes: Vec<NodeAnswer<'a>>,
    total_score: String,
    paid: Amount,
    carried_over: Amount,
}

#[derive(Serialize)]
struct NodeAnswer<'a> {
    id: Id<'a>,
    /// Of votes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    consensus: Option<Quartiles>,
    quality: f64,
    quality_q32: u64,
    trust: f64,
    trust_q32: u64,
    score: String,
    payout: Amount,
}

#[derive(Serialize)]
struct Quartiles {
    low: f64,
    quality: f64,
    high: f64,
}
