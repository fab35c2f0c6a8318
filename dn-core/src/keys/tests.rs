use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::testing::Counter;

/// The group order n, big-endian.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

fn bytes32(digits: &str) -> [u8; 32] {
    let mut out = [0; 32];
    hex::decode_to_slice(digits, &mut out).expect("64 hexadecimal digits");
    out
}

fn key(digits: &str) -> SecretKey {
    SecretKey::from_bytes(&bytes32(digits)).expect("in range")
}

fn signature(r: &str, s: &str, v: u8) -> Result<Signature, SignatureError> {
    let mut bytes = [0; 65];
    bytes[..32].copy_from_slice(&bytes32(r));
    bytes[32..64].copy_from_slice(&bytes32(s));
    bytes[64] = v;
    Signature::from_bytes(bytes)
}

/// The deterministic signatures that libraries of this curve test against: (key, message of SHA-256, r ‖ s).
#[test]
fn rfc_6979_vectors() {
    let one = format!("{:064x}", 1);
    let minus_one = format!("{}0", &ORDER[..63]);
    let cases = [
        (
            one.as_str(),
            "Satoshi Nakamoto",
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d82442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
        ),
        (
            &one,
            "All those moments will be lost in time, like tears in rain. Time to die...",
            "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
        ),
        (
            &minus_one,
            "Satoshi Nakamoto",
            "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d06b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5",
        ),
        (
            "f8b8af8ce3c7cca5e300d33939540c10d45ce001b8f252bfbc57ba0342904181",
            "Alan Turing",
            "7063ae83e7f62bbb171798131b4a0564b956930092b33b07b395615d9ec7e15c58dfcc1e00a35e1572f366ffe34ba0fc47db1e7189759b9fb233c5b05ab388ea",
        ),
    ];
    for (secret, message, expected) in cases {
        let digest = Sha256::digest(message).into();
        let signature = key(secret).sign(&digest);
        assert_eq!(hex::encode(&signature.as_bytes()[..64]), expected, "{message}");
        assert_eq!(signature.verify(&digest, key(secret).address()), Ok(()));
    }
}

#[test]
fn the_generator_is_the_public_key_of_one() {
    let public = key(&format!("{:064x}", 1)).public();
    let compressed = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    assert_eq!(hex::encode(public.to_compressed()), compressed);
    assert_eq!(public.address().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
    assert_eq!(PublicKey::from_sec1(&public.to_compressed()), Ok(public));
    let uncompressed = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                        483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    assert_eq!(PublicKey::from_sec1(&hex::decode(uncompressed).expect("hexadecimal")), Ok(public));
}

/// Ethereum's `ecrecover` example. Its s is high, so it is refused; its low twin recovers the published address.
#[test]
fn recovery_vector_and_its_malleable_twin() {
    let digest = bytes32("18c547e4f7b0f325ad1e56f57e26c745b09a3e503d86e00e5255ff7f715d3d1c");
    let r = "73b1693892219d736caba55bdb67216e485557ea6b6af75f37096c9aa6a5a75f";
    let high = "eeb940b1d03b21e36b0e47e79769f095fe2ab855bd91e3a38756b7d75a9c4549";
    // n - s
    let low = "1146bf4e2fc4de1c94f1b81868960f68bc842490f1b6bc98387ba6b57599fbf8";
    assert_eq!(signature(r, high, 28), Err(SignatureError::HighS));
    let low = signature(r, low, 27).expect("low s");
    assert_eq!(
        low.recover(&digest).map(|a| hex::encode(a.0)).as_deref(),
        Ok("a94f5374fce5edbc8e2a8697c15331677e6ebf0b")
    );
}

#[test]
fn scalars_out_of_range_are_refused() {
    let (zero, one) = ("0".repeat(64), format!("{:064x}", 1));
    let above = format!("{}2", &ORDER[..63]);
    let max = "f".repeat(64);
    for bad in [zero.as_str(), ORDER, &above, &max] {
        assert_eq!(signature(bad, &one, 27), Err(SignatureError::Range), "r = {bad}");
        assert_eq!(signature(&one, bad, 27), Err(SignatureError::Range), "s = {bad}");
        assert!(matches!(SecretKey::from_bytes(&bytes32(bad)), Err(KeyError::SecretRange)), "key {bad}");
    }
    // The bounds of low s themselves: (n - 1) / 2 is low, one more is high.
    let half = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";
    let over = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1";
    assert!(signature(&one, half, 27).is_ok());
    assert_eq!(signature(&one, over, 27), Err(SignatureError::HighS));
    for found in [0, 1, 26, 29, 37, 255] {
        assert_eq!(signature(&one, &one, found), Err(SignatureError::RecoveryByte { found }));
    }
    // No point of the curve has x = 5.
    let nobody = signature(&format!("{:064x}", 5), &one, 27).expect("in range");
    assert_eq!(nobody.recover(&[1; 32]), Err(SignatureError::Unrecoverable));
}

#[test]
fn other_forms_of_public_keys_are_refused() {
    let good = key(&format!("{:064x}", 1)).public().to_compressed();
    for tag in [0, 1, 4, 5, 6, 7, 255] {
        let mut bad = good;
        bad[0] = tag;
        assert_eq!(PublicKey::from_sec1(&bad), Err(KeyError::PublicPoint), "tag {tag}");
    }
    for bad in [&good[..32], &[good.as_slice(), &[0]].concat(), &[0], &[]] {
        assert_eq!(PublicKey::from_sec1(bad), Err(KeyError::PublicPoint), "{} bytes", bad.len());
    }
    let mut not_on_curve = good;
    not_on_curve[1..].copy_from_slice(&bytes32(&format!("{:064x}", 5)));
    assert_eq!(PublicKey::from_sec1(&not_on_curve), Err(KeyError::PublicPoint));
}

#[test]
fn secrets_are_not_printed() {
    let key = SecretKey::random(&mut Counter(3));
    let printed = format!("{key:?} {key:#?}");
    assert!(printed.contains(&key.address().to_string()));
    assert!(!printed.to_lowercase().contains(&hex::encode(&key.to_bytes()[..4])));
}

proptest! {
    #[test]
    fn signatures_verify_for_their_digest_and_key_only(seed: u64, digest: [u8; 32], other: [u8; 32]) {
        let key = SecretKey::random(&mut Counter(seed));
        let signature = key.sign(&digest);
        prop_assert_eq!(Signature::from_bytes(*signature.as_bytes()), Ok(signature));
        prop_assert_eq!(signature.recover(&digest), Ok(key.address()));
        prop_assert_eq!(key.sign(&digest), signature);
        prop_assert!(other == digest || signature.verify(&other, key.address()).is_err());
        let mut flipped = *signature.as_bytes();
        flipped[64] ^= 27 ^ 28;
        let flipped = Signature::from_bytes(flipped).expect("both recovery bytes are valid");
        prop_assert!(flipped.verify(&digest, key.address()).is_err());
    }

    #[test]
    fn keys_survive_their_bytes(seed: u64) {
        let key = SecretKey::random(&mut Counter(seed));
        let again = SecretKey::from_bytes(&key.to_bytes()).expect("own bytes");
        prop_assert_eq!(again.public(), key.public());
        prop_assert_eq!(PublicKey::from_sec1(&key.public().to_compressed()), Ok(key.public()));
    }
}

/// Two replicas with different libraries must not disagree about any bytes.
#[cfg(feature = "libsecp256k1")]
mod two_libraries {
    use super::*;
    use crate::keys::{recovery_k256, recovery_secp256k1};

    fn agree(bytes: [u8; 65], digest: [u8; 32]) -> Result<(), TestCaseError> {
        let rust = recovery_k256::signer(&bytes, &digest);
        prop_assert_eq!(recovery_secp256k1::signer(&bytes, &digest), rust);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn signed_and_then_bent(secret in 1u64.., digest: [u8; 32], at in 0usize..65, bit in 0u8..8, bend: bool) {
            let mut bytes = *key(&format!("{secret:064x}")).sign(&digest).as_bytes();
            bytes[at.min(if bend { 63 } else { 64 })] ^= u8::from(bend) << bit;
            if Signature::from_bytes(bytes).is_ok() {
                agree(bytes, digest)?;
            }
        }

        #[test]
        fn made_of_nothing(head: [u8; 32], tail: [u8; 32], v in 27u8..=28, digest: [u8; 32]) {
            let mut bytes = [v; 65];
            bytes[..32].copy_from_slice(&head);
            bytes[32..64].copy_from_slice(&tail);
            bytes[32] &= 0x7f;
            if Signature::from_bytes(bytes).is_ok() {
                agree(bytes, digest)?;
            }
        }
    }

    #[test]
    fn digests_and_scalars_at_the_edges() {
        let (one, top) = ([[0; 31].as_slice(), &[1]].concat(), bytes32(ORDER));
        let mut below = top;
        below[31] -= 1;
        let digests = [[0; 32], [0xff; 32], top, below, one.clone().try_into().unwrap()];
        let small = [one, vec![2; 32], below.to_vec()];
        for digest in digests {
            let signed = *key(&format!("{:064x}", 9)).sign(&digest).as_bytes();
            agree(signed, digest).unwrap();
            for (r, s, v) in small.iter().flat_map(|r| small.iter().map(move |s| (r, s, 27))) {
                let mut bytes = [v; 65];
                bytes[..32].copy_from_slice(r);
                bytes[32..64].copy_from_slice(s);
                if Signature::from_bytes(bytes).is_ok() {
                    agree(bytes, digest).unwrap();
                    bytes[64] = 28;
                    agree(bytes, digest).unwrap();
                }
            }
        }
    }
}
