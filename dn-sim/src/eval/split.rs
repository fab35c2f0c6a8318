//! `split`: the shares of a fee.

use dn_core::Amount;
use dn_powr::{BPS, FeeSplit};
use serde_json::{Value, json};

use super::EvalError;
use crate::document::Node;

const SHARES: [&str; 7] = ["worker", "owner", "validators", "domain", "foundation", "burn", "reinforcement"];

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&["fee", "fee_dn", "shares"])?;
    let fee = match input.one_of(&["fee", "fee_dn"])? {
        (0, atto) => Amount::from_atto(atto.u128()?),
        (_, dn) => {
            let text = match dn.value() {
                Value::Number(number) => number.to_string(),
                _ => dn.text()?.to_owned(),
            };
            text.parse().map_err(|source| EvalError::Amount { path: dn.path(), source })?
        }
    };
    let mut split = FeeSplit::default();
    if let Some(shares) = input.optional("shares")? {
        shares.known(&SHARES)?;
        let fields = [
            &mut split.worker,
            &mut split.owner,
            &mut split.validators,
            &mut split.domain,
            &mut split.foundation,
            &mut split.burn,
            &mut split.reinforcement,
        ];
        for (name, field) in SHARES.into_iter().zip(fields) {
            if let Some(share) = shares.optional(name)? {
                *field = share.integer(0, BPS.into())? as u16; // at most 10,000
            }
        }
        split.validate().map_err(|source| EvalError::Split { path: shares.path(), source })?;
    }
    let s = split.split(fee);
    Ok(json!({
        "worker": s.worker,
        "owner": s.owner,
        "validators": s.validators,
        "domain": s.domain,
        "foundation": s.foundation,
        "burn": s.burn,
        "reinforcement": s.reinforcement,
    })
    .to_string())
}
