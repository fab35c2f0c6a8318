//! Upgrades: which decided rules this software follows.

use dn_core::Hash32;

use crate::state::{State, UPGRADES, Upgrade};

/// The rules that a chain of this software starts with, a record of its genesis: whoever has others has another genesis block. Counted up whenever
/// a state would go on differently; what is decided by vote is an upgrade instead.
///
/// 2: an elected set decides, with the seed of its turns, some blocks after its election. 3: audits and committees are drawn by the weights of such an
/// election. 4: a block's audits are bounded, ended batches are forgotten, an auditor may say that it cannot judge.
/// 5: jobs have bonds, models are committed to, offers have prices, models may be inexact. 6: clocks of disputes wait for room in blocks, open batches
/// lower what a worker may be paid. 7: fees count each KiB, who calls all validators for nothing pays, whoever left a role and was heard of has its
/// trust closed. 8: trust in models closes in slices, an epoch's work is kept by epoch, a KiB costs a hundredth of a DN at most,
/// a validator's report pays its fee from its reward, scores weigh stake up to a cap times trust, backers' terms of a family stay.
pub const RULES: u32 = 8;

/// Names and versions of the upgrades whose rules this software has. Governance names them the same way.
pub const SUPPORTED_UPGRADES: &[(&str, Hash32)] = &[];

/// An upgrade that is in force at a height and that the software does not have.
pub(crate) fn unknown_upgrade(
    state: &State,
    supported: &[(&str, Hash32)],
    height: u64,
) -> Option<(u64, Upgrade)> {
    let known = |upgrade: &Upgrade| {
        supported.iter().any(|(name, version)| *name == upgrade.name && *version == upgrade.version)
    };
    UPGRADES.iter(state).take_while(|(from, _)| *from <= height).find(|(_, upgrade)| !known(upgrade))
}
