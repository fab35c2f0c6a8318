//! The two products of attention over one block of 64 keys, in 16-bit pairs.

use crate::cpu::isa::Level;
use crate::spec::attention::KEY_BLOCK;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Dot products of the query's two digits with 64 keys.
///
/// `k` is `[element / 2][key][element % 2]`; `high` and `low` hold pairs of digits. A digit is at most 128 in magnitude,
/// a key element 32,639: 256 products stay below `2^31`.
pub(super) fn scores(
    level: Level,
    k: &[i16],
    high: &[i32],
    low: &[i32],
    out_high: &mut [i32; KEY_BLOCK],
    out_low: &mut [i32; KEY_BLOCK],
) {
    assert_eq!((k.len(), low.len()), (high.len() * 2 * KEY_BLOCK, high.len()));
    match level {
        Level::Scalar => {
            out_high.fill(0);
            out_low.fill(0);
            for ((k, high), low) in k.chunks_exact(2 * KEY_BLOCK).zip(high).zip(low) {
                pairs(k, *high, out_high);
                pairs(k, *low, out_low);
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2; the lengths are checked above.
        Level::Avx2(_) | Level::AvxVnni(_) => unsafe { x86::scores_avx2(k, high, low, out_high, out_low) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves these features; the lengths are checked above.
        Level::Avx512(_) | Level::Amx(_) => unsafe { x86::scores_avx512(k, high, low, out_high, out_low) },
    }
}

/// `num[c] = sum over keys of p * v[c]`, exactly.
///
/// `v` is `[key / 2][element][key % 2]`. `p` splits into `128 * high + low`, both below 128: 64 products with a value
/// below `2^15` stay below `2^28`.
pub(super) fn weigh(level: Level, v: &[i16], p: &[u32; KEY_BLOCK], num: &mut [i64]) {
    assert_eq!(v.len(), num.len() * KEY_BLOCK);
    let mut high = [0i32; KEY_BLOCK / 2];
    let mut low = [0i32; KEY_BLOCK / 2];
    for ((high, low), two) in high.iter_mut().zip(&mut low).zip(p.chunks_exact(2)) {
        *high = ((two[0] >> 7) | (two[1] >> 7 << 16)) as i32;
        *low = ((two[0] & 127) | ((two[1] & 127) << 16)) as i32;
    }
    let vector = match level {
        Level::Scalar => 0,
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2; the lengths are checked above.
        Level::Avx2(_) | Level::AvxVnni(_) => unsafe { x86::weigh_avx2(v, &high, &low, num) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves these features; the lengths are checked above.
        Level::Avx512(_) | Level::Amx(_) => unsafe { x86::weigh_avx512(v, &high, &low, num) },
    };
    // What is left of the elements, or all of them.
    let row = 2 * num.len();
    for (c, num) in num.iter_mut().enumerate().skip(vector) {
        let keys = v.chunks_exact(row).zip(p.chunks_exact(2));
        *num = keys
            .map(|(v, p)| i64::from(v[2 * c]) * i64::from(p[0]) + i64::from(v[2 * c + 1]) * i64::from(p[1]))
            .sum();
    }
}

fn pairs(k: &[i16], digits: i32, out: &mut [i32; KEY_BLOCK]) {
    let (even, odd) = (i32::from(digits as i16), digits >> 16);
    for (out, two) in out.iter_mut().zip(k.chunks_exact(2)) {
        *out += i32::from(two[0]) * even + i32::from(two[1]) * odd;
    }
}
