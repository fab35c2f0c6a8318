//! Quality rounds.

use dn_core::{Address, Hash32, canonical_struct};
use dn_powr::Round;
use dn_trust::Unit;

/// A round in which a committee scores what an owner's models are good for in a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualityRound {
    /// The domain.
    pub domain: u32,
    /// Whose models.
    pub owner: Address,
    /// Who sets the task and seals what is known about it.
    pub setter: Address,
    /// The randomness of the block that opened the round.
    pub beacon: Hash32,
    /// Who scores, with the weight of each vote.
    pub committee: Vec<(Address, u128)>,
    /// Last height to seal at.
    pub seal_until: u64,
    /// Last height to commit at.
    pub commit_until: u64,
    /// Last height to reveal at.
    pub reveal_until: u64,
    /// Last height to open the seal at.
    pub open_until: u64,
    /// The round once it is sealed.
    pub round: Option<Round>,
    /// The seal once it is opened.
    pub seal: Option<dn_powr::Seal>,
}
canonical_struct!(QualityRound {
    domain: u32,
    owner: Address,
    setter: Address,
    beacon: Hash32,
    committee: Vec<(Address, u128)>,
    seal_until: u64,
    commit_until: u64,
    reveal_until: u64,
    open_until: u64,
    round: Option<Round>,
    seal: Option<dn_powr::Seal>,
});

/// What the last committee agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledQuality {
    /// The weighted lower median.
    pub quality: Unit,
    /// The epoch of the round.
    pub epoch: u64,
}
canonical_struct!(SettledQuality { quality: Unit, epoch: u64 });
