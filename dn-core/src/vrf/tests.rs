use proptest::prelude::*;

use super::*;

fn key(hex_text: &str) -> SecretKey {
    SecretKey::from_bytes(&hex::decode(hex_text).unwrap().try_into().unwrap()).unwrap()
}

fn proof(hex_text: &str) -> VrfProof {
    VrfProof(hex::decode(hex_text).unwrap().try_into().unwrap())
}

/// The vector that other implementations of this suite publish (key of RFC 6979 A.2.5, input "sample").
#[test]
fn a_published_vector() {
    let key = key("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    assert_eq!(
        hex::encode(key.public().to_compressed()),
        "032c8c31fc9f990c6b55e3865a184a4ce50e09481f2eaeb3e60ec1cea13a6ae645"
    );
    let h = encode_to_curve(&key.public().to_compressed(), b"sample").unwrap();
    assert_eq!(
        hex::encode(compressed(&h)),
        "0221ceb1ce22cd34d8b73a619164ed64e917ca31fd454075d02e4bdfa9c5ce0b48"
    );
    let published = proof(
        "0338ec99b5d0f94ebcc2c704c04af3de8b4289df8798e5fb9f920d7f5d77ac03d7718b9677d1c9348649ac2ec4f7ecbe51\
         9b30dd10c4eb5efc21dd5944709f2f3b7e97a25f6f095334593502d05103bc5b",
    );
    assert_eq!(VrfProof::new(&key, b"sample").unwrap(), published);
    let value = published.verify(&key.public(), b"sample").unwrap();
    assert_eq!(hex::encode(value.0), "d466c22e14dc3b7fd169668dd3ee9ac6351429a24aebc5e8af61a0f0de89b65a");
}

#[test]
fn every_flipped_bit_is_refused() {
    let key = key(&"07".repeat(32));
    let proof = VrfProof::new(&key, b"input").unwrap();
    for bit in 0..PROOF_LEN * 8 {
        let mut flipped = proof;
        flipped.0[bit / 8] ^= 1 << (bit % 8);
        assert!(flipped.verify(&key.public(), b"input").is_err(), "bit {bit}");
    }
    let mut scalar = proof;
    scalar.0[49..].fill(0xff);
    assert_eq!(scalar.verify(&key.public(), b"input"), Err(VrfError::Scalar));
    let mut point = proof;
    point.0[0] = 4;
    assert_eq!(point.verify(&key.public(), b"input"), Err(VrfError::Point));
    let json = serde_json::to_string(&proof).unwrap();
    assert_eq!(serde_json::from_str::<VrfProof>(&json).unwrap(), proof);
    assert_eq!(VrfProof::from_bytes(&proof.to_bytes()), Ok(proof));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// There is one value for a key and an input: whoever holds the key can prove no other, not even by choosing nonce and point freely.
    #[test]
    fn a_second_value_has_no_proof(secret in 1u64.., other in 1u64.., nonce in 1u64.., input in any::<[u8; 12]>()) {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&secret.to_be_bytes());
        let key = SecretKey::from_bytes(&bytes).unwrap();
        let public = key.public();
        let honest = VrfProof::new(&key, &input).unwrap();
        let value = honest.verify(&public, &input).unwrap();
        // Another input, another key.
        prop_assert!(honest.verify(&public, b"another").is_err());
        bytes[24..].copy_from_slice(&secret.wrapping_add(1).max(1).to_be_bytes());
        prop_assert!(honest.verify(&SecretKey::from_bytes(&bytes).unwrap().public(), &input).is_err());
        // A forger takes another point and a nonce of its own, and computes the rest as the prover would.
        let (x, k) = (secret_scalar(&key), Scalar::from(nonce));
        let h = encode_to_curve(&public.to_compressed(), &input).unwrap();
        let gamma = h * Scalar::from(other);
        let c = challenge(&[public.to_compressed(), compressed(&h), compressed(&gamma), base(&k), compressed(&(h * k))]);
        let s = k + scalar_of(&c) * *x;
        let mut forged = VrfProof([0; PROOF_LEN]);
        forged.0[..33].copy_from_slice(&compressed(&gamma));
        forged.0[33..49].copy_from_slice(&c);
        forged.0[49..].copy_from_slice(&s.to_bytes());
        match forged.verify(&public, &input) {
            Ok(again) => prop_assert!(other == secret && again == value),
            Err(error) => prop_assert_eq!(error, VrfError::Challenge),
        }
        // Another nonce is another proof of the same value.
        let gamma = h * *x;
        let c = challenge(&[public.to_compressed(), compressed(&h), compressed(&gamma), base(&k), compressed(&(h * k))]);
        let s = k + scalar_of(&c) * *x;
        forged.0[..33].copy_from_slice(&compressed(&gamma));
        forged.0[33..49].copy_from_slice(&c);
        forged.0[49..].copy_from_slice(&s.to_bytes());
        prop_assert_eq!(forged.verify(&public, &input), Ok(value));
    }
}
