//! Plain encoders of GGUF's block formats: round to nearest, no search for better scales.

use half::f16;

fn nearest(v: f32, low: f32, high: f32) -> i32 {
    if v.is_finite() { v.round_ties_even().clamp(low, high) as i32 } else { 0 }
}

fn stored(v: f32) -> (f32, [u8; 2]) {
    let stored = f16::from_f32(v);
    (stored.to_f32(), stored.to_le_bytes())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |a, v| a.max(v.abs()))
}

/// Blocks of Q8_0.
pub(crate) fn q8_0(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let (scale, bytes) = stored(largest(block) / 127.0);
        let q = |v: &f32| nearest(v / scale, -127.0, 127.0) as u8;
        bytes.into_iter().chain(block.iter().map(q)).collect::<Vec<_>>()
    };
    values.chunks_exact(32).flat_map(block).collect()
}

/// Blocks of Q4_0: the largest value becomes -8, so scales have either sign.
pub(crate) fn q4_0(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let peak = block.iter().fold(0f32, |a, v| if v.abs() > a.abs() { *v } else { a });
        let (scale, bytes) = stored(peak / -8.0);
        let q = |v: f32| (nearest(v / scale, -8.0, 7.0) + 8) as u8;
        bytes.into_iter().chain((0..16).map(|i| q(block[i]) | q(block[i + 16]) << 4)).collect::<Vec<_>>()
    };
    values.chunks_exact(32).flat_map(block).collect()
}

/// Scale, minimum, their packed bytes, and the integers of 256 values up to `top`.
fn with_minima(values: &[f32], top: f32) -> (Vec<u8>, Vec<u8>) {
    let parts: Vec<(f32, f32)> = values
        .chunks_exact(32)
        .map(|block| {
            let least = block.iter().fold(0f32, |a, v| a.min(*v));
            let most = block.iter().fold(least, |a, v| a.max(*v));
            ((most - least) / top, -least)
        })
        .collect();
    let (d, d_bytes) = stored(parts.iter().fold(0f32, |a, p| a.max(p.0)) / 63.0);
    let (m, m_bytes) = stored(parts.iter().fold(0f32, |a, p| a.max(p.1)) / 63.0);
    let six: Vec<(u8, u8)> = parts
        .iter()
        .map(|p| (nearest(p.0 / d, 0.0, 63.0) as u8, nearest(p.1 / m, 0.0, 63.0) as u8))
        .collect();
    let mut head = [d_bytes, m_bytes].concat();
    head.extend((0..4).map(|j| six[j].0 | six[j + 4].0 >> 4 << 6));
    head.extend((0..4).map(|j| six[j].1 | six[j + 4].1 >> 4 << 6));
    head.extend((4..8).map(|j| six[j].0 & 15 | six[j].1 << 4));
    let q = |(i, v): (usize, &f32)| {
        let (s, n) = six[i / 32];
        nearest((v + m * f32::from(n)) / (d * f32::from(s)), 0.0, top) as u8
    };
    (head, values.iter().enumerate().map(q).collect())
}

fn low_fours(q: &[u8]) -> impl Iterator<Item = u8> {
    q.chunks_exact(64).flat_map(|q| (0..32).map(|i| q[i] & 15 | q[i + 32] << 4))
}

/// Blocks of Q4_K.
pub(crate) fn q4_k(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let (mut out, q) = with_minima(block, 15.0);
        out.extend(low_fours(&q));
        out
    };
    values.chunks_exact(256).flat_map(block).collect()
}

/// Blocks of Q5_K.
pub(crate) fn q5_k(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let (mut out, q) = with_minima(block, 31.0);
        out.extend((0..32).map(|i| (0..8).fold(0u8, |a, b| a | (q[b * 32 + i] >> 4) << b)));
        out.extend(low_fours(&q));
        out
    };
    values.chunks_exact(256).flat_map(block).collect()
}

/// Blocks of Q6_K.
pub(crate) fn q6_k(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let scales: Vec<f32> = block.chunks_exact(16).map(|b| largest(b) / 32.0).collect();
        let (d, d_bytes) = stored(largest(&scales) / 127.0);
        let bytes: Vec<i32> = scales.iter().map(|s| nearest(s / d, -128.0, 127.0)).collect();
        let q: Vec<u8> = block
            .iter()
            .enumerate()
            .map(|(i, v)| (nearest(v / (d * bytes[i / 16] as f32), -32.0, 31.0) + 32) as u8)
            .collect();
        let fours = q.chunks_exact(128).flat_map(|q| (0..64).map(|i| q[i] & 15 | q[i + 64] << 4));
        let two = |q: &[u8], i: usize| (0..4).fold(0u8, |a, part| a | (q[part * 32 + i] >> 4) << (2 * part));
        let twos = q.chunks_exact(128).flat_map(|q| (0..32).map(move |i| two(q, i)));
        let mut out: Vec<u8> = fours.chain(twos).collect();
        out.extend(bytes.iter().map(|s| *s as u8));
        out.extend(d_bytes);
        out
    };
    values.chunks_exact(256).flat_map(block).collect()
}
