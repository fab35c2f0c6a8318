//! `trust`: a record's indicators and weight, epoch by epoch.

use dn_trust::{
    ModelEpoch, ModelTrust, Params, Trust, Unit, ValidatorEpoch, ValidatorTrust, WorkerEpoch, WorkerTrust,
};
use serde_json::{Map, Value, json};

use super::EvalError;
use super::history::{epoch, params};
use crate::document::Node;

/// The most epochs of one history: fifteen years of hours. An empty epoch takes three bytes and its answer hundreds.
pub(super) const MAX_EPOCHS: usize = 1 << 17;

pub(super) fn eval(input: &Node<'_>) -> Result<String, EvalError> {
    input.known(&["role", "epochs", "class_median_work", "params"])?;
    let p = params(input)?;
    let role = input.field("role")?;
    let median = match input.optional("class_median_work")? {
        Some(node) if role.value() != "model" => {
            return Err(node.refuse("nothing, since only models have a class of demand").into());
        }
        Some(node) => node.u128()?,
        None => 0,
    };
    let epochs = input.field("epochs")?;
    match role.text()? {
        "worker" => replay(
            &epochs,
            WorkerTrust::newcomer(&p),
            |w| worker(w, &p),
            |w, e| {
                w.close_epoch(&p, &epoch::<WorkerEpoch>(e, &p)?);
                Ok(())
            },
        ),
        "validator" => replay(
            &epochs,
            ValidatorTrust::newcomer(&p),
            |v| validator(v, &p),
            |v, e| {
                v.close_epoch(&p, &epoch::<ValidatorEpoch>(e, &p)?);
                Ok(())
            },
        ),
        "model" => replay(
            &epochs,
            ModelTrust::newcomer(&p),
            |m| model(m, &p),
            |m, e| {
                m.close_epoch(&p, &epoch::<ModelEpoch>(e, &p)?, median);
                Ok(())
            },
        ),
        _ => Err(role.refuse("one of worker, validator, model").into()),
    }
}

fn replay<R>(
    epochs: &Node<'_>,
    mut record: R,
    shown: impl Fn(&R) -> Value,
    close: impl Fn(&mut R, &Node<'_>) -> Result<(), EvalError>,
) -> Result<String, EvalError> {
    epochs.length(0, MAX_EPOCHS)?;
    // Written as it comes: as values, so many states would take a gigabyte.
    let mut last = shown(&record).to_string();
    let mut answer = format!("{{\"start\":{last},\"epochs\":[");
    for (n, node) in epochs.items()?.enumerate() {
        close(&mut record, &node)?;
        last = shown(&record).to_string();
        answer.push_str(if n == 0 { "" } else { "," });
        answer.push_str(&last);
    }
    answer.push_str(&format!("],\"final\":{last}}}"));
    Ok(answer)
}

fn worker(w: &WorkerTrust, p: &Params) -> Value {
    let i = w.indicators(p);
    let named = [
        ("completion", i.completion),
        ("accuracy", i.accuracy),
        ("stability", i.stability),
        ("speed", i.speed),
        ("history", i.history),
    ];
    state(&named, w.weight(p))
}

fn validator(v: &ValidatorTrust, p: &Params) -> Value {
    let i = v.indicators(p);
    let named = [
        ("canary", i.canary),
        ("alignment", i.alignment),
        ("timeliness", i.timeliness),
        ("history", i.history),
    ];
    state(&named, v.weight(p))
}

fn model(m: &ModelTrust, p: &Params) -> Value {
    let i = m.indicators(p);
    let named =
        [("success", i.success), ("feedback", i.feedback), ("demand", i.demand), ("history", i.history)];
    state(&named, m.weight(p))
}

fn state(indicators: &[(&str, Unit)], weight: Trust) -> Value {
    let numbers: Map<_, _> =
        indicators.iter().map(|(name, x)| ((*name).to_owned(), number(*x).into())).collect();
    let bits: Map<_, _> = indicators.iter().map(|(name, x)| ((*name).to_owned(), x.bits().into())).collect();
    let w = weight.value();
    json!({"indicators": numbers, "indicators_q32": bits, "weight": number(w), "weight_q32": w.bits()})
}

/// The exact number: 33 bits over a power of two.
pub(super) fn number(x: Unit) -> f64 {
    x.bits() as f64 / 4_294_967_296.0
}
