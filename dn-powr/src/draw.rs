//! Draws from verifiable randomness: who sits on a committee, which receipts are audited, which audits are canaries.
//!
//! Every draw is Keccak-256 of a domain, the beacon and what is drawn for, so that nobody can tell it before the beacon is known
//! and everybody can repeat it afterwards.

use dn_core::wide::mul;
use dn_core::{Hash32, ReceiptId, keccak256};

use crate::bps::BPS;
use crate::quality::MAX_WEIGHT;

/// The most seats of a committee.
pub const MAX_SEATS: usize = 64;

/// Why a committee cannot be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// No seats, or too many.
    #[error("{found} seats asked for; a committee has from 1 to {MAX_SEATS}")]
    Seats {
        /// Seats asked for.
        found: usize,
    },
    /// Too few candidates.
    #[error("{found} candidates have weight and are not excluded; {needed} seats are to be filled")]
    Candidates {
        /// Candidates that could be drawn.
        found: usize,
        /// Seats.
        needed: usize,
    },
    /// An id came twice.
    #[error("a candidate came twice: places {first} and {second} in the order of ids")]
    Duplicate {
        /// Its first place among those that can be drawn, by rising id.
        first: usize,
        /// Its second place.
        second: usize,
    },
    /// The weights add up to too much.
    #[error("the weights of the {candidates} candidates add up to more than 2^126")]
    Overflow {
        /// Candidates that could be drawn.
        candidates: usize,
    },
}

/// Draws a committee: `seats` different candidates (id, weight), one after another, each with a chance in proportion to its weight among
/// those that are left. Excluded ids and candidates without weight are never drawn. Returns them with their weights in the order of the
/// draw; the order of the candidates and of the excluded does not matter.
///
/// A seat's ticket is `⌊hash · total / 2^256⌋`, so a candidate's chance differs from its share of the weight by less than 2^-256: over
/// a whole committee of n candidates by less than 64·n·2^-256 together.
///
/// Takes O(n log n) steps, none of which depends on the weights.
///
/// # Source
/// Successive draws without replacement, as in Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006), whose
/// definition this follows; the ticket by a wide product instead of a remainder is in Lemire, "Fast random integer generation in an
/// interval" (2019).
///
/// # Errors
/// [`DrawError`].
pub fn draw_committee<Id: Ord + Copy>(
    beacon: &[u8; 32],
    round: &Hash32,
    seats: usize,
    candidates: &[(Id, u128)],
    excluded: &[Id],
) -> Result<Vec<(Id, u128)>, DrawError> {
    if !(1..=MAX_SEATS).contains(&seats) {
        return Err(DrawError::Seats { found: seats });
    }
    let mut barred = excluded.to_vec();
    barred.sort_unstable();
    let mut line: Vec<(Id, u128)> =
        candidates.iter().copied().filter(|(id, w)| *w > 0 && barred.binary_search(id).is_err()).collect();
    line.sort_unstable();
    if let Some(at) = line.windows(2).position(|pair| pair[0].0 == pair[1].0) {
        return Err(DrawError::Duplicate { first: at, second: at + 1 });
    }
    if line.len() < seats {
        return Err(DrawError::Candidates { found: line.len(), needed: seats });
    }
    let ends = ends(&line).ok_or(DrawError::Overflow { candidates: line.len() })?;
    let mut left = ends.last().copied().unwrap_or(0);
    // Places that were drawn, rising.
    let mut taken: Vec<usize> = Vec::with_capacity(seats);
    let mut committee = Vec::with_capacity(seats);
    for seat in 0..seats {
        let hash = keccak256(&[
            b"DeepNode committee draw v1",
            beacon,
            round.as_bytes(),
            &(seat as u32).to_le_bytes(), // at most 64
        ]);
        let mut ticket = below(&hash, left);
        // The line without those who sit already: each of them before the ticket moves it on by its own length.
        for place in &taken {
            let (length, end) = (line[*place].1, ends[*place]);
            if ticket >= end - length {
                ticket += length;
            }
        }
        let place = ends.partition_point(|end| *end <= ticket);
        left -= line[place].1;
        taken.insert(taken.partition_point(|other| *other < place), place);
        committee.push(line[place]);
    }
    Ok(committee)
}

/// Where each candidate's part of the line ends; `None` over [`MAX_WEIGHT`].
fn ends<Id>(line: &[(Id, u128)]) -> Option<Vec<u128>> {
    let mut sum = 0u128;
    line.iter()
        .map(|(_, weight)| {
            sum = sum.checked_add(*weight).filter(|sum| *sum <= MAX_WEIGHT)?;
            Some(sum)
        })
        .collect()
}

/// `⌊hash · bound / 2^256⌋`, below the bound; the hash read as a little-endian number.
fn below(hash: &[u8; 32], bound: u128) -> u128 {
    let (low, high) = hash.split_at(16);
    let half = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().expect("16 of 32 bytes"));
    let (top, middle) = mul(half(high), bound);
    let carry = middle.overflowing_add(mul(half(low), bound).0).1;
    top + u128::from(carry)
}

/// Whether a receipt is audited, with a chance of `rate` basis points; over 10,000 means always. The chance is exact to 2^-256.
pub fn is_audited(beacon: &[u8; 32], receipt: &ReceiptId, rate: u16) -> bool {
    let hash = keccak256(&[b"DeepNode audit choice v1", beacon, receipt.as_bytes()]);
    below(&hash, BPS.into()) < rate.into()
}

/// Whether a round is a canary, with a chance of `rate` basis points, exact to 2^-256.
///
/// The beacon alone would tell everybody, so a secret is in it as well. Its holder publishes [`secret_commitment`] before the beacon is
/// known, so that it cannot choose, and the secret after the rounds are settled, so that everybody can check.
pub fn is_canary(secret: &[u8; 32], beacon: &[u8; 32], round: &Hash32, rate: u16) -> bool {
    let hash = keccak256(&[b"DeepNode canary choice v1", secret, beacon, round.as_bytes()]);
    below(&hash, BPS.into()) < rate.into()
}

/// What the holder of a canary secret publishes before the beacon is known.
pub fn secret_commitment(secret: &[u8; 32]) -> Hash32 {
    Hash32(keccak256(&[b"DeepNode canary secret v1", secret]))
}

#[cfg(test)]
mod tests;
