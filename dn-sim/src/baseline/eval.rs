//! The baselines as operations on JSON documents, for a researcher's pipe.
//!
//! Numbers may be JSON numbers or decimal strings anywhere. A key that an operation does not know is refused.
//!
//! # `yuma3`
//! In: `stake` \[validator\], or \[epoch\]\[validator\] where it changes, any amounts, used as shares of their sum; `weights_per_epoch` \[epoch\]\[validator\]\[miner\], any amounts: each row
//! counts divided by its sum, a row of zeros gives nothing; and, all optional,
//! `bonds0` \[validator\]\[miner\] in \[0, 1\] (default zeros), `kappa` (default 32767 ÷ 65535), `bond_penalty` (default 1), `liquid_alpha` (default
//! `false`), `alpha_low` (default 45875 ÷ 65535), `alpha_high` (default 58982 ÷ 65535), `alpha_steepness` (default 10), `bond_rate`, what a bond takes in of the new per
//! epoch when liquid alpha is off (default 0.1), `arithmetic`: `f64` (default) or `i32f32`, the chain's, and `bond_storage`: `full` (default) or `u16`, the chain's.
//! The defaults are those of subtensor's runtime. Shares may be written as the chain stores them: above one they are parts of 65,535, and a
//! steepness above 100 is in hundredths.
//!
//! Out, for every epoch: `dividends` \[epoch\]\[validator\] and `incentive` \[epoch\]\[miner\], which each sum to one or are all zero, `consensus`
//! \[epoch\]\[miner\], and `bonds` \[epoch\]\[validator\]\[miner\] as they are after the epoch. See [`yuma`](super::yuma).
//!
//! # `weighted_median`
//! In: `stake` and `values`, one each per voter, and `support`: a share of all stake up to 1, an amount of stake above. Out: `median`. See
//! [`weighted_median`].
//!
//! # `eigentrust`
//! In: `pretrust` \[peer\], any amounts, `local_trust` \[from\]\[to\] and `alpha`. Out: `trust` \[peer\]. See [`eigentrust`].
//!
//! ```
//! use dn_sim::baseline::eval::eval;
//! use serde_json::json;
//! let input = json!({ "stake": [49, 1, "50"], "values": [0.5, 0.7, 1], "support": 0.51 });
//! assert_eq!(eval("weighted_median", &input), Some(Ok(json!({ "median": 0.7 }))));
//! assert_eq!(eval("no such thing", &input), None);
//! let input = json!({ "stake": [1, 2], "weights_per_epoch": [[[1, 2, 3], [1, 2]]] });
//! let error = eval("yuma3", &input).unwrap().unwrap_err();
//! assert_eq!(error.to_string(), "weights_per_epoch[0][1]: 2 entries, expected 3");
//! ```

use fixed::types::I32F32;
use serde_json::{Value, json};
use thiserror::Error;

use super::eigentrust::{EigenTrustError, eigentrust};
use super::median::{MedianError, weighted_median};
use super::yuma::{BondStorage, MAX_CELLS, Matrix, Number, Params, Yuma, YumaError};
use crate::document::{DocumentError, Node};

/// The operations.
pub const OPERATIONS: [&str; 3] = ["yuma3", "weighted_median", "eigentrust"];

/// The most validators, voters or epochs of a document.
const MAX_LEN: usize = 1 << 20;
/// The most peers that EigenTrust takes.
const MAX_PEERS: usize = 4096;
const UNITS: f64 = 65_535.0;

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The document is not what the operation reads.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// All weights of all epochs together are too many.
    #[error("weights_per_epoch: {cells} cells, at most {MAX_CELLS}")]
    Cells {
        /// How many.
        cells: u128,
    },
    /// Yuma refuses the numbers.
    #[error(transparent)]
    Yuma(#[from] YumaError),
    /// The median refuses the numbers.
    #[error(transparent)]
    Median(#[from] MedianError),
    /// EigenTrust refuses the numbers.
    #[error(transparent)]
    EigenTrust(#[from] EigenTrustError),
}

/// Runs an operation on a document; `None` if it is not one of [`OPERATIONS`].
pub fn eval(operation: &str, input: &Value) -> Option<Result<Value, EvalError>> {
    let root = Node::root(input);
    match operation {
        "yuma3" => Some(yuma3(&root)),
        "weighted_median" => Some(median(&root)),
        "eigentrust" => Some(trust(&root)),
        _ => None,
    }
}

fn yuma3(root: &Node<'_>) -> Result<Value, EvalError> {
    root.keys(&[
        "stake",
        "weights_per_epoch",
        "bonds0",
        "kappa",
        "bond_penalty",
        "liquid_alpha",
        "alpha_low",
        "alpha_high",
        "alpha_steepness",
        "bond_rate",
        "arithmetic",
        "bond_storage",
    ])?;
    let params = params(root)?;
    let fixed = choice(root, "arithmetic", ["f64", "i32f32"], "f64 or i32f32")?;
    if fixed { epochs::<I32F32>(root, params) } else { epochs::<f64>(root, params) }
}

fn params(root: &Node<'_>) -> Result<Params, EvalError> {
    let chain = Params::default();
    let bond_rate = share(root, "bond_rate", 1.0 - chain.bonds_moving_average)?;
    let params = Params {
        kappa: share(root, "kappa", chain.kappa)?,
        bond_penalty: share(root, "bond_penalty", chain.bond_penalty)?,
        bonds_moving_average: 1.0 - bond_rate,
        alpha_low: share(root, "alpha_low", chain.alpha_low)?,
        alpha_high: share(root, "alpha_high", chain.alpha_high)?,
        alpha_steepness: match root.optional("alpha_steepness")? {
            None => chain.alpha_steepness,
            Some(node) => {
                let steepness =
                    node.number_in(0.0, 32_767.0, "a steepness from 0 to 100, or in hundredths above")?;
                if steepness > 100.0 { steepness / 100.0 } else { steepness }
            }
        },
        liquid_alpha: match root.optional("liquid_alpha")? {
            None => chain.liquid_alpha,
            Some(node) => node.boolean()?,
        },
        storage: match choice(root, "bond_storage", ["full", "u16"], "full or u16")? {
            true => BondStorage::U16,
            false => BondStorage::Full,
        },
        ..chain
    };
    match root.optional("alpha_low")? {
        Some(node) if params.alpha_low > params.alpha_high => Err(node.refuse("at most alpha_high").into()),
        _ => Ok(params),
    }
}

/// Whether the second of two words is chosen; the first if none is.
fn choice(root: &Node<'_>, name: &str, words: [&str; 2], expected: &'static str) -> Result<bool, EvalError> {
    let Some(node) = root.optional(name)? else { return Ok(false) };
    match node.text()? {
        word if word == words[0] => Ok(false),
        word if word == words[1] => Ok(true),
        _ => Err(node.refuse(expected).into()),
    }
}

fn share(root: &Node<'_>, name: &str, default: f64) -> Result<f64, EvalError> {
    let Some(node) = root.optional(name)? else { return Ok(default) };
    let share = node.number_in(0.0, UNITS, "a share from 0 to 1, or in parts of 65535 above")?;
    Ok(if share > 1.0 { share / UNITS } else { share })
}

fn epochs<N: Number>(root: &Node<'_>, params: Params) -> Result<Value, EvalError> {
    let weights_node = root.field("weights_per_epoch")?;
    let epochs = weights_node.length(MAX_LEN)?;
    let (validators, stakes) = stakes(&root.field("stake")?, epochs)?;
    let miners = match weights_node.items()?.next() {
        Some(first) => {
            first.length(MAX_LEN)?;
            width(&first)?
        }
        None => 0,
    };
    let cells = epochs as u128 * validators as u128 * miners as u128;
    if cells > MAX_CELLS as u128 {
        return Err(EvalError::Cells { cells });
    }
    let mut yuma = match root.optional("bonds0")? {
        None => Yuma::<N>::new(params)?,
        Some(node) => {
            let rows = rows(&node, validators, miners, 1.0, "a bond from 0 to 1")?;
            Yuma::with_bonds(params, Matrix::from_rows(&rows)?)?
        }
    };
    let (mut dividends, mut bonds, mut incentive, mut consensus) = (vec![], vec![], vec![], vec![]);
    for (node, stake) in weights_node.items()?.zip(stakes.iter().cycle()) {
        let rows = rows(&node, validators, miners, N::MAX_SUM, "a weight from 0, not beyond the arithmetic")?;
        let epoch = yuma.step(stake, &Matrix::from_rows(&rows)?)?;
        dividends.push(floats(&epoch.dividends));
        incentive.push(floats(&epoch.incentive));
        consensus.push(floats(&epoch.consensus));
        bonds.push(yuma.bonds());
    }
    Ok(json!({ "dividends": dividends, "bonds": bonds, "incentive": incentive, "consensus": consensus }))
}

fn floats<N: Number>(numbers: &[N]) -> Vec<f64> {
    numbers.iter().map(|number| number.to_f64()).collect()
}

/// How many entries the first entry of a list has.
fn width(node: &Node<'_>) -> Result<usize, DocumentError> {
    match node.items()?.next() {
        Some(first) => first.length(MAX_LEN),
        None => Ok(0),
    }
}

/// The stakes of every epoch, and how many validators there are.
fn stakes(node: &Node<'_>, epochs: usize) -> Result<(usize, Vec<Vec<f64>>), DocumentError> {
    let length = node.length(MAX_LEN)?;
    if !node.items()?.next().is_some_and(|first| first.value().is_array()) {
        return Ok((length, vec![amounts(node, length)?]));
    }
    let validators = width(node)?;
    let stakes = node.exactly(epochs)?.map(|epoch| amounts(&epoch, validators)).collect::<Result<_, _>>()?;
    Ok((validators, stakes))
}

fn rows(
    node: &Node<'_>,
    height: usize,
    width: usize,
    max: f64,
    expected: &'static str,
) -> Result<Vec<Vec<f64>>, DocumentError> {
    let row = |row: Node<'_>| row.exactly(width)?.map(|cell| cell.number_in(0.0, max, expected)).collect();
    node.exactly(height)?.map(row).collect()
}

fn amounts(node: &Node<'_>, expected: usize) -> Result<Vec<f64>, DocumentError> {
    let amount = |node: Node<'_>| node.number_in(0.0, f64::MAX, "a number from 0");
    node.exactly(expected)?.map(amount).collect()
}

fn median(root: &Node<'_>) -> Result<Value, EvalError> {
    root.keys(&["stake", "values", "support"])?;
    let stake_node = root.field("stake")?;
    let voters = stake_node.length(MAX_LEN)?;
    let stake = stake_node.items()?.map(|node| node.decimal()).collect::<Result<Vec<_>, _>>()?;
    let values = amounts(&root.field("values")?, voters)?;
    let median = weighted_median(&stake, &values, root.field("support")?.decimal()?)?;
    Ok(json!({ "median": median }))
}

fn trust(root: &Node<'_>) -> Result<Value, EvalError> {
    root.keys(&["pretrust", "local_trust", "alpha"])?;
    let pretrust_node = root.field("pretrust")?;
    let peers = pretrust_node.length(MAX_PEERS)?;
    let pretrust = amounts(&pretrust_node, peers)?;
    let local = rows(&root.field("local_trust")?, peers, peers, f64::MAX, "a number from 0")?;
    let alpha = root.field("alpha")?.number_in(0.0, 1.0, "a number from 0 to 1")?;
    Ok(json!({ "trust": eigentrust(&pretrust, &local, alpha)? }))
}

#[cfg(test)]
mod tests;
