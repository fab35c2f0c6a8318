//! Lineage: what each ancestor of a model gets of its owner's income.
//!
//! A model grants its parents parts of its owner's income; a parent passes on what it gets as it passes on its own. The
//! shares that result are exact: with at most [`MAX_DEPTH`] generations of basis points they are multiples of 10⁻³⁶, and
//! so are stored. They are computed once, when the model is published, so that paying is one pass over a bounded list.

use dn_core::{Amount, ModelId, canonical_struct};
use serde::{Deserialize, Serialize};

/// The unit of shares: one whole income.
pub const WHOLE: u128 = 10u128.pow(36);
/// The most generations between a model and its farthest ancestor.
pub const MAX_DEPTH: u8 = 8;

const BPS: u128 = dn_powr::BPS as u128;

/// What an ancestor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Royalty {
    /// The ancestor.
    pub model: ModelId,
    /// Its part of the owner's income, in 10⁻³⁶ of it.
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    pub share: u128,
}
canonical_struct!(Royalty { model: ModelId, share: u128 });

/// A parent with what it is granted and what it owes itself.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// The parent.
    pub model: ModelId,
    /// What it is granted, in basis points.
    pub share_bps: u16,
    /// Its own depth.
    pub depth: u8,
    /// What it owes to its ancestors.
    pub royalties: &'a [Royalty],
}

/// A model's depth and its ancestors' shares, sorted by ancestor. The depth may exceed [`MAX_DEPTH`], as the caller has to
/// check; the shares are then rounded down.
///
/// The grants together must be at most 10,000 basis points.
pub fn flatten(grants: &[Grant<'_>]) -> (u8, Vec<Royalty>) {
    let depth = grants.iter().map(|grant| grant.depth.saturating_add(1)).max().unwrap_or(0);
    let mut shares: Vec<Royalty> = Vec::new();
    let mut add = |model: ModelId, of_parent: u128, bps: u16| {
        // Exact: at depth d shares are multiples of 10^(36 − 4·d).
        let share = of_parent / BPS * u128::from(bps);
        if share == 0 {
            return;
        }
        match shares.binary_search_by_key(&model, |royalty| royalty.model) {
            Ok(at) => shares[at].share += share,
            Err(at) => shares.insert(at, Royalty { model, share }),
        }
    };
    for grant in grants {
        add(grant.model, kept(grant.royalties), grant.share_bps);
        for royalty in grant.royalties {
            add(royalty.model, royalty.share, grant.share_bps);
        }
    }
    (depth, shares)
}

/// What is left to the owner.
pub fn kept(royalties: &[Royalty]) -> u128 {
    royalties.iter().fold(WHOLE, |left, royalty| left.saturating_sub(royalty.share))
}

/// The amounts that ancestors get of an income, each rounded down, in their order; and the rest, which is the owner's.
pub fn divide(income: Amount, royalties: &[Royalty]) -> (Vec<(ModelId, Amount)>, Amount) {
    let mut left = income;
    let mut parts = Vec::with_capacity(royalties.len());
    for royalty in royalties {
        let part = income.mul_div(royalty.share, WHOLE).unwrap_or(Amount::ZERO).min(left);
        left = left.saturating_sub(part);
        parts.push((royalty.model, part));
    }
    (parts, left)
}

#[cfg(test)]
mod tests;
