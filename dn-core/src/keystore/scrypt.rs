//! scrypt, also where RFC 7914 would refuse the parameters.
//!
//! The RFC wants `n < 2^(16 r)`. The keystore definition's own test vector (`n` = 262,144, `r` = 1) breaks that rule
//! and other programs read and write such files, so that one case is computed here; everything else by the crate.

use sha2::Sha256;
use zeroize::Zeroizing;

/// Computes scrypt. The parameters `(log2 n, r, p)` have passed [`Kdf::check`](super::Kdf).
pub(super) fn derive(password: &[u8], salt: &[u8], (log2_n, r, p): (u8, u32, u32), derived: &mut [u8; 32]) {
    match ::scrypt::Params::new(log2_n, r, p, derived.len()) {
        Ok(params) => {
            ::scrypt::scrypt(password, salt, &params, derived).expect("32 bytes is a valid output length");
        }
        Err(_) => derive_any(password, salt, (log2_n, r, p), derived),
    }
}

/// RFC 7914, section 6, without its bound on `n`.
fn derive_any(password: &[u8], salt: &[u8], (log2_n, r, p): (u8, u32, u32), derived: &mut [u8; 32]) {
    let lane_words = 32 * r as usize;
    let mut bytes = Zeroizing::new(vec![0u8; 4 * lane_words * p as usize]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, 1, &mut bytes);
    let mut table = Zeroizing::new(vec![0u32; lane_words << log2_n]);
    for lane in bytes.chunks_exact_mut(4 * lane_words) {
        let mut words = Zeroizing::new(vec![0u32; lane_words]);
        for (word, le) in words.iter_mut().zip(lane.chunks_exact(4)) {
            *word = u32::from_le_bytes(le.try_into().expect("4 bytes"));
        }
        mix_lane(&mut words, &mut table);
        for (le, word) in lane.chunks_exact_mut(4).zip(words.iter()) {
            le.copy_from_slice(&word.to_le_bytes());
        }
    }
    pbkdf2::pbkdf2_hmac::<Sha256>(password, &bytes, 1, derived);
}

/// `scryptROMix`: fills the table, then reads it in an order that depends on the password.
fn mix_lane(lane: &mut Vec<u32>, table: &mut [u32]) {
    let n = table.len() / lane.len();
    let mut next = Zeroizing::new(vec![0u32; lane.len()]);
    for row in table.chunks_exact_mut(lane.len()) {
        row.copy_from_slice(lane);
        mix_blocks(lane, &mut next);
        std::mem::swap(lane, &mut next);
    }
    for _ in 0..n {
        // `Integerify`: the first word of the last block is enough, `n` is a power of two below 2^32.
        let at = (lane[lane.len() - 16] as usize & (n - 1)) * lane.len();
        for (word, other) in lane.iter_mut().zip(&table[at..]) {
            *word ^= other;
        }
        mix_blocks(lane, &mut next);
        std::mem::swap(lane, &mut next);
    }
}

/// `scryptBlockMix`: chains Salsa20/8 over the blocks; even results go to the first half, odd ones to the second.
fn mix_blocks(from: &[u32], to: &mut [u32]) {
    let mut state: [u32; 16] = from[from.len() - 16..].try_into().expect("16 words");
    for (i, block) in from.chunks_exact(16).enumerate() {
        for (word, other) in state.iter_mut().zip(block) {
            *word ^= other;
        }
        salsa20_8(&mut state);
        let at = 16 * (i / 2) + (i % 2) * (from.len() / 2);
        to[at..at + 16].copy_from_slice(&state);
    }
}

/// The Salsa20 core reduced to 8 rounds.
fn salsa20_8(block: &mut [u32; 16]) {
    let mut x = *block;
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
        x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
        x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
        x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
    };
    for _ in 0..4 {
        quarter(0, 4, 8, 12);
        quarter(5, 9, 13, 1);
        quarter(10, 14, 2, 6);
        quarter(15, 3, 7, 11);
        quarter(0, 1, 2, 3);
        quarter(5, 6, 7, 4);
        quarter(10, 11, 8, 9);
        quarter(15, 12, 13, 14);
    }
    for (word, mixed) in block.iter_mut().zip(x) {
        *word = word.wrapping_add(mixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7914, section 8: the Salsa20/8 core.
    #[test]
    fn salsa_vector_of_the_rfc() {
        let input = "7e879a214f3ec9867ca940e641718f26baee555b8c61c1b50df846116dcd3b1d\
                     ee24f319df9b3d8514121e4b5ac5aa3276021d2909c74829edebc68db8b8c25e";
        let output = "a41f859c6608cc993b81cacb020cef05044b2181a2fd337dfd7b1c6396682f29\
                      b4393168e3c9e6bcfe6bc5b7a06d96bae424cc102c91745c24ad673dc7618f81";
        let bytes = hex::decode(input).expect("hexadecimal");
        let mut block = [0u32; 16];
        for (word, le) in block.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(le.try_into().expect("4 bytes"));
        }
        salsa20_8(&mut block);
        assert_eq!(hex::encode(block.map(u32::to_le_bytes).concat()), output);
    }

    /// RFC 7914, section 12, cut to 32 of its 64 bytes: PBKDF2's blocks do not depend on the length.
    #[test]
    fn scrypt_vectors_of_the_rfc_by_both_paths() {
        let cases: [(&[u8], &[u8], _, _); 3] = [
            (b"", b"", (4, 1, 1), "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"),
            (
                b"password",
                b"NaCl",
                (10, 8, 16),
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162",
            ),
            (
                b"pleaseletmein",
                b"SodiumChloride",
                (14, 8, 1),
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2",
            ),
        ];
        for (password, salt, params, expected) in cases {
            for path in [derive, derive_any] {
                let mut derived = [0; 32];
                path(password, salt, params, &mut derived);
                assert_eq!(hex::encode(derived), expected, "{params:?}");
            }
        }
    }
}
