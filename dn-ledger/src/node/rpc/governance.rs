//! Methods of proposals and upgrades.

use super::params::{All, ById, Proposals};
use super::table::Method;
use crate::params::MAX_OPEN_PROPOSALS;
use crate::query;

/// Counting votes goes through all validators.
const TALLY: u32 = 8;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query("dn_proposal", "A proposal with its votes.", |shared, by: ById<u64>| {
            Ok(query::proposal(shared.chain().state(), by.id))
        })
        .heavy(TALLY),
        Method::query("dn_proposals", "Proposals in the order of their numbers.", |shared, of: Proposals| {
            Ok(query::proposals(shared.chain().state(), of.open, &of.page())?)
        })
        .heavy(TALLY * MAX_OPEN_PROPOSALS),
        Method::query(
            "dn_upgrades",
            "The upgrades that were decided, by their first height.",
            |shared, all: All| Ok(query::upgrades(shared.chain().state(), &all.page())?),
        ),
    ]
}
