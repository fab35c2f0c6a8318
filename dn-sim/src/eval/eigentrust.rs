//! `eigentrust`: trust that flows along what peers say of each other.

use serde_json::json;

use super::EvalError;
use super::yuma3::{amounts, rows};
use crate::baseline::eigentrust::eigentrust;
use crate::document::Node;

/// The most peers.
const MAX_PEERS: usize = 4096;

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&["pretrust", "local_trust", "alpha"])?;
    let pretrust = input.field("pretrust")?;
    let peers = pretrust.length(1, MAX_PEERS)?;
    let pretrust = amounts(&pretrust, peers)?;
    let local = rows(&input.field("local_trust")?, peers, peers, (f64::MAX, "a number from 0"))?;
    let alpha = input.field("alpha")?.number(0.0, 1.0)?;
    let trust = eigentrust(&pretrust, &local, alpha)
        .map_err(|source| EvalError::EigenTrust { path: input.path(), source })?;
    Ok(json!({ "trust": trust }).to_string())
}
