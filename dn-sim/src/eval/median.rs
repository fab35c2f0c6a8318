//! `weighted_median`: the median of values by stake.

use serde_json::json;

use super::EvalError;
use super::yuma3::amounts;
use crate::baseline::median::weighted_median;
use crate::document::Node;

/// The most voters.
const MAX_VOTERS: usize = 1 << 20;

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&["stake", "values", "support"])?;
    let stake = input.field("stake")?;
    let voters = stake.length(1, MAX_VOTERS)?;
    let stake = stake.items()?.map(|node| node.decimal()).collect::<Result<Vec<_>, _>>()?;
    let values = amounts(&input.field("values")?, voters)?;
    let support = input.field("support")?.decimal()?;
    let median = weighted_median(&stake, &values, support)
        .map_err(|source| EvalError::Median { path: input.path(), source })?;
    Ok(json!({ "median": median }).to_string())
}
