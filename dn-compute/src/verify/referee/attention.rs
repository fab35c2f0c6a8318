//! Attention: one element of one head, from blocks of keys, from keys.

use super::{Bench, Finding, Wrong, shown, wrong_claim, wrong_opening};
use crate::spec::Op;
use crate::spec::attention::{KEY_BLOCK, MAX_P, MAX_SCORE, merge, normalise, reciprocal, score};
use crate::spec::exp2::{exp2_q16, shift_round_u32};
use crate::spec::float::mul;
use crate::spec::limits::MAX_ACTIVATION;
use crate::spec::quantise::quantise;
use crate::spec::trig::score_scale;
use crate::trace::Leaf;
use crate::verify::claim::{KeyBlock, KeyTerm, Parts, PastEntry};
use crate::verify::error::RefereeError;
use crate::verify::meter;

/// Steps 4 and 5 from the blocks; `None` for blocks that no keys can have.
pub(crate) fn element_of(blocks: &[KeyBlock]) -> Option<f32> {
    meter::steps(blocks.len());
    let (most, most_num) = (KEY_BLOCK as i64 * i64::from(MAX_P), 1i64 << 35);
    let whole = MAX_SCORE as i32 >> 16;
    let possible = |b: &KeyBlock| {
        (-whole..=whole).contains(&b.top)
            && (-whole - 256..=whole + 256).contains(&b.top_value)
            && (1..=most).contains(&b.denominator)
            && b.numerator.abs() < most_num
    };
    if !blocks.iter().all(possible) {
        return None;
    }
    let top = blocks.iter().map(|b| b.top).max()?;
    let top_value = blocks.iter().map(|b| b.top_value).max()?;
    let den: i64 = blocks.iter().map(|b| merge(b.denominator, top - b.top)).sum();
    let num: i64 = blocks.iter().map(|b| merge(b.numerator, top_value - b.top_value)).sum();
    let shift = top_value - top;
    (den > 0 && (-256..=256).contains(&shift)).then(|| normalise(num, reciprocal(den), shift))
}

/// Step 3 from a block's keys; `None` for keys that no cache holds.
pub(crate) fn block_of(keys: &[KeyTerm]) -> Option<KeyBlock> {
    meter::steps(keys.len());
    let possible = |k: &KeyTerm| {
        i64::from(k.score).abs() <= MAX_SCORE
            && (-128..=127).contains(&k.exponent)
            && i32::from(k.value).abs() <= MAX_ACTIVATION
    };
    if !keys.iter().all(possible) {
        return None;
    }
    let whole = |k: &KeyTerm| k.score >> 16;
    let with_value = |k: &KeyTerm| whole(k) + i32::from(k.exponent);
    let top = keys.iter().map(whole).max()?;
    let top_value = keys.iter().map(with_value).max()?;
    let p = |k: &KeyTerm, below: i32| {
        let power = exp2_q16((k.score & 0xffff) as u32);
        i64::from(shift_round_u32(power, below.unsigned_abs() + 3).min(MAX_P))
    };
    let denominator = keys.iter().map(|k| p(k, top - whole(k))).sum();
    let numerator = keys.iter().map(|k| p(k, top_value - with_value(k)) * i64::from(k.value)).sum();
    Some(KeyBlock { top, top_value, denominator, numerator })
}

/// Steps 1 and 2 for one key: its score, exponent and integer. `None` where the query cannot be quantised.
pub(crate) fn term_of(query: &[f32], entry: &[u8], element: usize) -> Option<KeyTerm> {
    let d = query.len();
    meter::steps(3 * d);
    let field = |i: usize| i16::from_le_bytes([entry[2 * i], entry[2 * i + 1]]);
    let factor = score_scale(d);
    let scaled: Vec<f32> = query.iter().map(|q| mul(*q, factor)).collect();
    let mut a = vec![0i16; d];
    let eq = quantise(Op::Attention, "q", &scaled, &mut a).ok()?;
    let dot: i64 = a.iter().enumerate().map(|(c, a)| i64::from(*a) * i64::from(field(2 + c))).sum();
    let score = score(dot, eq + i32::from(field(0)) + 16);
    Some(KeyTerm { score, exponent: field(1), value: field(2 + d + element) })
}

/// The keys of a block that a position attends to.
pub(crate) fn keys_of(first: u32, position: u32, block: u32) -> std::ops::Range<u32> {
    let size = KEY_BLOCK as u32;
    let start = (first / size + block) * size;
    start.max(first)..(start + size).min(position + 1)
}

/// How many blocks of keys a position attends to.
pub(crate) fn blocks(first: u32, position: u32) -> u32 {
    position / KEY_BLOCK as u32 - first / KEY_BLOCK as u32 + 1
}

impl Bench<'_> {
    pub(super) fn attention(&self) -> Finding {
        self.expect_rows(1)?;
        let crate::verify::plan::Stage::Layer { layer } = self.claim.stage else {
            return Err(wrong_claim("stage", 2, 0));
        };
        let (blocks, block, keys) = self.stated(layer)?;
        let h = &self.geometry.h;
        let d = h.head_size as usize;
        let (head, element) = (self.element() / d, self.element() % d);
        let kv_head = head / (h.heads / h.kv_heads) as usize;
        let range = keys_of(self.geometry.first_key(layer, self.claim.position), self.claim.position, block);
        let pick = self.opening.pick;
        let Some(key) = range.start.checked_add(pick).filter(|key| range.contains(key)) else {
            return Err(wrong_opening("picked key", u64::from(range.end - range.start) - 1, pick.into()));
        };
        let query = self.input(0, 0, self.op.len, head * d..(head + 1) * d)?;
        let entry = self.past(layer, key, kv_head)?;
        match element_of(blocks) {
            Some(expected) if self.value(expected).is_none() => {}
            _ => return Ok(Some(Wrong::Combination)),
        }
        if block_of(keys) != Some(blocks[block as usize]) {
            return Ok(Some(Wrong::Combination));
        }
        let own = term_of(&query, entry, element);
        Ok((own != Some(keys[pick as usize])).then_some(Wrong::Part { index: key }))
    }

    fn stated(&self, layer: u32) -> Result<(&[KeyBlock], u32, &[KeyTerm]), RefereeError> {
        let first = self.geometry.first_key(layer, self.claim.position);
        let expected = blocks(first, self.claim.position);
        let Parts::Keys { blocks, block, keys } = &self.claim.parts else {
            return Err(wrong_claim("number of key blocks", expected.into(), 0));
        };
        if blocks.len() as u64 != u64::from(expected) {
            return Err(wrong_claim("number of key blocks", expected.into(), blocks.len() as u64));
        }
        if *block >= expected {
            return Err(wrong_claim("key block", u64::from(expected) - 1, (*block).into()));
        }
        let range = keys_of(first, self.claim.position, *block);
        if keys.len() != range.len() {
            return Err(wrong_claim("number of keys", range.len() as u64, keys.len() as u64));
        }
        Ok((blocks, *block, keys))
    }

    /// What a layer keeps of a head at a key's position, opened through that position's leaf.
    fn past(&self, layer: u32, key: u32, kv_head: usize) -> Result<&[u8], RefereeError> {
        let Some(PastEntry { leaf, proof, body, entry }) = &self.opening.past else {
            return Err(wrong_opening("number of cache entries", 1, 0));
        };
        if proof.index != u64::from(key) {
            return Err(wrong_opening("position of the cache entry", key.into(), proof.index));
        }
        let subject = &self.claim.subject;
        meter::hashed(64 * (proof.path.len() + 2));
        let proved = proof.verify(subject.trace_root, &leaf.0);
        proved.map_err(|source| RefereeError::Proof { what: "a position's leaf", source })?;
        let len = Leaf::bytes(self.geometry.h.layers as usize, subject.chooses(key));
        let at = Leaf::entry_offset(layer as usize);
        let bytes = shown("a position's leaf", body, *leaf, len, at..at + 32)?;
        let mut hash = [0; 32];
        hash.copy_from_slice(bytes);
        let head = (2 + 2 * self.geometry.h.head_size as usize) * 2;
        let range = kv_head * head..(kv_head + 1) * head;
        shown("a cache entry", entry, dn_core::Hash32(hash), self.geometry.entry_len() * 2, range)
    }
}
