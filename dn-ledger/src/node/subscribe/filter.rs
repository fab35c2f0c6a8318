//! Which events a subscriber hears of.

use dn_core::{Address, ModelId};
use serde::Deserialize;

use crate::events::Event;
use crate::tx::Role;

/// What a subscriber wants to hear of: everything that fits all that is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// The first block; the first that is held for 0, without it the one after the tip.
    pub(super) from_height: Option<u64>,
    /// The kind, such as `transferred`.
    event: Option<String>,
    /// An address that the event names in whatever part.
    address: Option<Address>,
    /// A role that the event names, or lies in by its nature.
    role: Option<Role>,
    /// A model or family that the event names.
    model: Option<ModelId>,
}

/// A kind of event was asked for that there is not: nothing would ever fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event: there is no `{found}`; the kinds are {}", .known.join(", "))]
pub(super) struct UnknownKind {
    /// What was asked for.
    pub(super) found: String,
    /// What there is.
    pub(super) known: &'static [&'static str],
}

/// The most characters of a wrong kind that are said back.
const MAX_SHOWN: usize = 64;

impl Filter {
    /// Refuses what no event ever fits.
    pub(super) fn check(&self) -> Result<(), UnknownKind> {
        match &self.event {
            Some(kind) if !Event::KINDS.contains(&kind.as_str()) => {
                Err(UnknownKind { found: kind.chars().take(MAX_SHOWN).collect(), known: Event::KINDS })
            }
            _ => Ok(()),
        }
    }

    /// Whether an event fits.
    pub(super) fn fits(&self, event: &Event) -> bool {
        self.event.as_deref().is_none_or(|kind| event.kind() == kind)
            && self.role.is_none_or(|role| event.roles().contains(&role))
            && self.model.is_none_or(|model| event.models().contains(&model))
            && self.address.is_none_or(|address| event.addresses().contains(&address))
    }
}

#[cfg(test)]
mod tests;
