//! Histories of events, and parameters of trust, out of documents.

use dn_trust::{ModelEpoch, Params, Unit, ValidatorEpoch, Weight, WorkerEpoch};

use super::EvalError;
use crate::document::{DocumentError, Node};

/// The heaviest event, in units of work; an epoch counts at most 128.
const MAX_WEIGHT: f64 = 1_048_576.0;
/// The most events without weight that an entry of an object can stand for: they are added one by one.
const MAX_COUNT: u128 = 100;

/// How much an event counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) weight: Weight,
    /// In operations.
    pub(super) work: u128,
}

impl Size {
    /// One unit of work.
    fn one(params: &Params) -> Self {
        Self { weight: Weight::ONE, work: params.work_unit.into() }
    }

    fn of_weight(params: &Params, node: &Node<'_>) -> Result<Self, DocumentError> {
        // Rounded up, as the weight of work is; at most 2^36.
        let bits = (node.number(0.0, MAX_WEIGHT)? * 65_536.0).ceil() as u64;
        let work = (u128::from(params.work_unit) * u128::from(bits)) >> 16;
        Ok(Self { weight: Weight::from_bits(bits), work })
    }
}

/// An epoch that events are added to.
pub(super) trait Epoch: Default {
    /// Names of the events that have a weight.
    const WEIGHED: &'static [&'static str];
    /// Names of the events that have none.
    const COUNTED: &'static [&'static str];
    /// Names of the events that need more than a size.
    const SPECIAL: &'static [&'static str] = &[];

    /// Adds the event of this name, which is one of the two lists.
    fn add(&mut self, name: &str, size: Size);

    /// Adds an event that needs more than a size and is of the third list.
    fn add_special(&mut self, _event: &Node<'_>, _params: &Params) -> Result<(), DocumentError> {
        Ok(())
    }
}

impl Epoch for WorkerEpoch {
    const WEIGHED: &'static [&'static str] = &["completed", "failed", "audit_passed", "audit_failed"];
    const COUNTED: &'static [&'static str] = &["proven_fraud", "online", "offline"];
    const SPECIAL: &'static [&'static str] = &["latency"];

    fn add(&mut self, name: &str, size: Size) {
        match name {
            "completed" => self.completed(size.weight),
            "failed" => self.failed(size.weight),
            "audit_passed" => self.audit_passed(size.weight),
            "audit_failed" => self.audit_failed(size.weight),
            "proven_fraud" => self.proven_fraud(),
            "online" => self.online(),
            _ => self.offline(),
        }
    }

    fn add_special(&mut self, event: &Node<'_>, params: &Params) -> Result<(), DocumentError> {
        event.known(&["event", "weight", "work", "own_ms", "class_median_ms"])?;
        let ms = |name| -> Result<u32, DocumentError> {
            Ok(event.field(name)?.integer(0, u32::MAX.into())? as u32) // at most 32 bits
        };
        self.latency(size_of(event, params)?.weight, ms("class_median_ms")?, ms("own_ms")?);
        Ok(())
    }
}

impl Epoch for ValidatorEpoch {
    const WEIGHED: &'static [&'static str] =
        &["aligned", "misaligned", "timely", "missed", "canary_passed", "canary_failed"];
    const COUNTED: &'static [&'static str] = &["proven_fraud"];

    fn add(&mut self, name: &str, size: Size) {
        match name {
            "aligned" => self.aligned(size.weight),
            "misaligned" => self.misaligned(size.weight),
            "timely" => self.timely(size.weight),
            "missed" => self.missed(size.weight),
            "canary_passed" => self.canary_passed(size.weight),
            "canary_failed" => self.canary_failed(size.weight),
            _ => self.proven_fraud(),
        }
    }
}

impl Epoch for ModelEpoch {
    const WEIGHED: &'static [&'static str] =
        &["succeeded", "failed", "liked", "disliked", "audit_passed", "audit_failed"];
    const COUNTED: &'static [&'static str] = &["proven_fraud"];

    fn add(&mut self, name: &str, size: Size) {
        match name {
            "succeeded" => self.succeeded(size.weight, size.work),
            "failed" => self.failed(size.weight),
            "liked" => self.liked(size.weight),
            "disliked" => self.disliked(size.weight),
            "audit_passed" => self.audit_passed(size.weight),
            "audit_failed" => self.audit_failed(size.weight),
            _ => self.proven_fraud(),
        }
    }
}

/// An epoch: a list of events, or an object of event and weight.
pub(super) fn epoch<E: Epoch>(node: &Node<'_>, params: &Params) -> Result<E, DocumentError> {
    let mut epoch = E::default();
    if node.value().is_array() {
        for event in node.items()? {
            add_event(&mut epoch, &event, params)?;
        }
        return Ok(epoch);
    }
    if !node.value().is_object() {
        return Err(node.refuse("a list of events, or an object of event and weight"));
    }
    for (name, size) in node.entries()? {
        if E::WEIGHED.contains(&name) {
            epoch.add(name, Size::of_weight(params, &size)?);
        } else if E::COUNTED.contains(&name) {
            for _ in 0..size.integer(0, MAX_COUNT)? {
                epoch.add(name, Size::one(params));
            }
        } else {
            return Err(node.unknown(name, [E::WEIGHED, E::COUNTED].concat()));
        }
    }
    Ok(epoch)
}

fn add_event<E: Epoch>(epoch: &mut E, event: &Node<'_>, params: &Params) -> Result<(), DocumentError> {
    let plain = event.value().is_string();
    if !plain && !event.value().is_object() {
        return Err(event.refuse("an event's name, or an object with it as `event`"));
    }
    let named = if plain { *event } else { event.field("event")? };
    let name = named.text()?;
    if E::WEIGHED.contains(&name) {
        let size = if plain {
            Size::one(params)
        } else {
            event.known(&["event", "weight", "work"])?;
            size_of(event, params)?
        };
        epoch.add(name, size);
    } else if E::COUNTED.contains(&name) {
        if !plain {
            event.known(&["event"])?;
        }
        epoch.add(name, Size::one(params));
    } else if E::SPECIAL.contains(&name) && !plain {
        epoch.add_special(event, params)?;
    } else if E::SPECIAL.contains(&name) {
        return Err(event.refuse(format!("an object: `{name}` needs more than its name")));
    } else {
        let known = [E::WEIGHED, E::COUNTED, E::SPECIAL].concat().join(", ");
        return Err(named.refuse(format!("one of {known}")));
    }
    Ok(())
}

/// The size of an event object: its `work`, its `weight`, or one.
fn size_of(event: &Node<'_>, params: &Params) -> Result<Size, DocumentError> {
    match (event.optional("work")?, event.optional("weight")?) {
        (None, None) => Ok(Size::one(params)),
        (None, Some(weight)) => Size::of_weight(params, &weight),
        (Some(work), None) => {
            let work = work.u128()?;
            Ok(Size { weight: Weight::of_work(params, work), work })
        }
        (Some(_), Some(_)) => Err(DocumentError::OneOf { path: event.path(), names: &["work", "weight"] }),
    }
}

/// The default parameters with the fields that `params` of this node replaces, checked.
pub(super) fn params(input: &Node<'_>) -> Result<Params, EvalError> {
    let mut p = Params::default();
    let Some(node) = input.optional("params")? else { return Ok(p) };
    node.known(&[
        "version",
        "keep_good",
        "keep_bad",
        "bad_weight",
        "confidence",
        "work_unit",
        "epoch_cap",
        "stability_up",
        "stability_down",
        "stability_start",
        "average_rate",
        "average_start",
        "history_start",
        "history_gain",
        "history_loss",
        "fraud_keep",
        "trust_min",
    ])?;
    for (name, field) in [
        ("keep_good", &mut p.keep_good),
        ("keep_bad", &mut p.keep_bad),
        ("bad_weight", &mut p.bad_weight),
        ("confidence", &mut p.confidence),
        ("epoch_cap", &mut p.epoch_cap),
        ("stability_up", &mut p.stability_up),
        ("stability_down", &mut p.stability_down),
        ("stability_start", &mut p.stability_start),
        ("average_rate", &mut p.average_rate),
        ("average_start", &mut p.average_start),
        ("history_start", &mut p.history_start),
        ("history_gain", &mut p.history_gain),
        ("history_loss", &mut p.history_loss),
        ("fraud_keep", &mut p.fraud_keep),
    ] {
        if let Some(value) = node.optional(name)? {
            *field = value.integer(0, u32::MAX.into())? as u32; // at most 32 bits
        }
    }
    if let Some(value) = node.optional("version")? {
        p.version = value.integer(0, u16::MAX.into())? as u16; // at most 16 bits
    }
    if let Some(value) = node.optional("work_unit")? {
        p.work_unit = value.integer(0, u64::MAX.into())? as u64; // at most 64 bits
    }
    if let Some(value) = node.optional("trust_min")? {
        p.trust_min = Unit::from_bits(value.integer(0, Unit::ONE.bits().into())? as u64); // at most 2^32
    }
    p.validate().map_err(|source| EvalError::Params { path: node.path(), source })?;
    Ok(p)
}
