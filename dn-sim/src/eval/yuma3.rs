//! `yuma3`: Yuma consensus, epoch after epoch.

use fixed::types::I32F32;
use serde::Serialize;

use super::{EvalError, written};
use crate::baseline::yuma::{BondStorage, MAX_CELLS, Matrix, Number, Params, Yuma};
use crate::document::{DocumentError, Node};

/// The most validators, miners or epochs.
const MAX_LEN: usize = 1 << 20;
/// What the chain stores a share of one as.
const WHOLE: f64 = 65_535.0;

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&[
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
    let params = params(input)?;
    match choice(input, "arithmetic", ["f64", "i32f32"])? {
        false => epochs::<f64>(input, params),
        true => epochs::<I32F32>(input, params),
    }
}

fn params(input: &Node<'_>) -> Result<Params, EvalError> {
    let chain = Params::default();
    let bond_rate = share(input, "bond_rate", 1.0 - chain.bonds_moving_average)?;
    let params = Params {
        kappa: share(input, "kappa", chain.kappa)?,
        bond_penalty: share(input, "bond_penalty", chain.bond_penalty)?,
        bonds_moving_average: 1.0 - bond_rate,
        alpha_low: share(input, "alpha_low", chain.alpha_low)?,
        alpha_high: share(input, "alpha_high", chain.alpha_high)?,
        alpha_steepness: match input.optional("alpha_steepness")? {
            None => chain.alpha_steepness,
            Some(node) => {
                let expected = "a steepness from 0 to 100, or in hundredths above";
                let steepness = node.number_as(0.0, 32_767.0, expected)?;
                if steepness > 100.0 { steepness / 100.0 } else { steepness }
            }
        },
        liquid_alpha: match input.optional("liquid_alpha")? {
            None => chain.liquid_alpha,
            Some(node) => node.boolean()?,
        },
        storage: match choice(input, "bond_storage", ["full", "u16"])? {
            true => BondStorage::U16,
            false => BondStorage::Full,
        },
        ..chain
    };
    match input.optional("alpha_low")? {
        Some(node) if params.alpha_low > params.alpha_high => Err(node.refuse("at most alpha_high").into()),
        _ => Ok(params),
    }
}

/// Whether the second of two words is chosen; the first if none is.
fn choice(input: &Node<'_>, name: &'static str, words: [&str; 2]) -> Result<bool, EvalError> {
    let Some(node) = input.optional(name)? else { return Ok(false) };
    match words.iter().position(|word| node.value() == word) {
        Some(at) => Ok(at == 1),
        None => Err(node.refuse(words.join(" or ")).into()),
    }
}

fn share(input: &Node<'_>, name: &'static str, default: f64) -> Result<f64, EvalError> {
    let Some(node) = input.optional(name)? else { return Ok(default) };
    let expected = "a share from 0 to 1, or a whole number of parts of 65535 above";
    let share = node.number_as(0.0, WHOLE, expected)?;
    match share > 1.0 {
        true if share.fract() > 0.0 => Err(node.refuse(expected).into()),
        true => Ok(share / WHOLE),
        false => Ok(share),
    }
}

/// A list for every epoch.
#[derive(Default, Serialize)]
struct Answer {
    dividends: Vec<Vec<f64>>,
    bonds: Vec<Option<Vec<Vec<f64>>>>,
    incentive: Vec<Vec<f64>>,
    consensus: Vec<Vec<f64>>,
}

fn epochs<N: Number>(input: &Node<'_>, params: Params) -> Result<String, EvalError> {
    let refused = |path: String| move |source| EvalError::Yuma { path, source };
    let weights = input.field("weights_per_epoch")?;
    let epochs = weights.length(1, MAX_LEN)?;
    let (validators, stakes) = stakes(&input.field("stake")?, epochs)?;
    let miners = match weights.items()?.next() {
        Some(first) => {
            first.length(1, MAX_LEN)?;
            width(&first)?
        }
        None => 0,
    };
    let cells = epochs as u128 * validators as u128 * miners as u128;
    if cells > MAX_CELLS as u128 {
        return Err(EvalError::Cells { path: weights.path(), cells });
    }
    let mut yuma = match input.optional("bonds0")? {
        None => Yuma::<N>::new(params).map_err(refused(input.path()))?,
        Some(node) => {
            let rows = rows(&node, validators, miners, (1.0, "a bond from 0 to 1"))?;
            Matrix::from_rows(&rows)
                .and_then(|bonds| Yuma::with_bonds(params, bonds))
                .map_err(refused(node.path()))?
        }
    };
    let mut answer = Answer::default();
    for (node, stake) in weights.items()?.zip(stakes.iter().cycle()) {
        let limit = (N::MAX_SUM, "a weight from 0, not beyond the arithmetic");
        let rows = rows(&node, validators, miners, limit)?;
        let epoch = Matrix::from_rows(&rows).and_then(|weights| yuma.step(stake, &weights));
        let epoch = epoch.map_err(|source| refused(node.path())(source))?;
        answer.dividends.push(floats(&epoch.dividends));
        answer.incentive.push(floats(&epoch.incentive));
        answer.consensus.push(floats(&epoch.consensus));
        answer.bonds.push(yuma.bonds());
    }
    Ok(written(&answer))
}

fn floats<N: Number>(numbers: &[N]) -> Vec<f64> {
    numbers.iter().map(|number| number.to_f64()).collect()
}

/// How many entries the first entry of a list has.
fn width(node: &Node<'_>) -> Result<usize, DocumentError> {
    match node.items()?.next() {
        Some(first) => first.length(1, MAX_LEN),
        None => Ok(0),
    }
}

/// How many validators there are, and their stakes: of every epoch, or one list for all.
fn stakes(node: &Node<'_>, epochs: usize) -> Result<(usize, Vec<Vec<f64>>), DocumentError> {
    let length = node.length(1, MAX_LEN)?;
    if !node.items()?.next().is_some_and(|first| first.value().is_array()) {
        return Ok((length, vec![amounts(node, length)?]));
    }
    let validators = width(node)?;
    let stakes = node.exactly(epochs)?.map(|epoch| amounts(&epoch, validators)).collect::<Result<_, _>>()?;
    Ok((validators, stakes))
}

/// A matrix of numbers from 0 to `max`; `expected` says so.
pub(super) fn rows(
    node: &Node<'_>,
    height: usize,
    width: usize,
    (max, expected): (f64, &str),
) -> Result<Vec<Vec<f64>>, DocumentError> {
    let row = |row: Node<'_>| row.exactly(width)?.map(|cell| cell.number_as(0.0, max, expected)).collect();
    node.exactly(height)?.map(row).collect()
}

/// So many numbers from 0.
pub(super) fn amounts(node: &Node<'_>, length: usize) -> Result<Vec<f64>, DocumentError> {
    node.exactly(length)?.map(|node| node.number_as(0.0, f64::MAX, "a number from 0")).collect()
}
