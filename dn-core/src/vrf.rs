//! A verifiable random function over secp256k1: a value that only the key's holder can compute, that everybody can check, and of which
//! there is one for each key and input.
//!
//! # Source
//! RFC 9381, ECVRF with try-and-increment, SHA-256 and RFC 6979 nonces, over secp256k1 with suite byte `0xFE`. The RFC leaves this curve out; byte and
//! test vectors are those that other implementations share.

use std::fmt;

use k256::elliptic_curve::bigint::ArrayEncoding;
use k256::elliptic_curve::generic_array::GenericArray;
use k256::elliptic_curve::ops::Reduce;
use k256::elliptic_curve::sec1::{FromEncodedPoint, ToEncodedPoint};
use k256::elliptic_curve::{Curve, PrimeField};
use k256::{AffinePoint, EncodedPoint, ProjectivePoint, Scalar, Secp256k1, U256};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::encoding::{Canonical, DecodeError, Reader};
use crate::hash::{Hash32, parse_hex};
use crate::keys::{PublicKey, SecretKey};

const SUITE: u8 = 0xfe;
const ENCODE_TO_CURVE: u8 = 1;
const CHALLENGE: u8 = 2;
const PROOF_TO_HASH: u8 = 3;
const END: u8 = 0;
/// Bytes of a challenge.
const CHALLENGE_LEN: usize = 16;
/// Bytes of a proof: a compressed point, a challenge, a scalar.
pub const PROOF_LEN: usize = 33 + CHALLENGE_LEN + 32;

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VrfError {
    /// The first 33 bytes are no compressed point of the curve.
    #[error("the proof's point is not one of secp256k1 in compressed form")]
    Point,
    /// The last 32 bytes are not below the group order.
    #[error("the proof's scalar is not below the group order")]
    Scalar,
    /// No try gave a point: this happens to one input in 2^256.
    #[error("the input cannot be encoded to the curve")]
    Input,
    /// The proof is of another key or input, or of another value.
    #[error("the proof does not belong to this key and input")]
    Challenge,
}

/// A proof, and in it the value. Fixed size: 81 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VrfProof(pub [u8; PROOF_LEN]);

impl VrfProof {
    /// Proves the value of a key at an input.
    ///
    /// # Errors
    /// [`VrfError::Input`], which nobody will see.
    pub fn new(key: &SecretKey, input: &[u8]) -> Result<Self, VrfError> {
        let public = key.public().to_compressed();
        let x = secret_scalar(key);
        let h = encode_to_curve(&public, input)?;
        let gamma = h * *x;
        let h_bytes = compressed(&h);
        let k = nonce(key, &h_bytes);
        let c = challenge(&[public, h_bytes, compressed(&gamma), base(&k), compressed(&(h * *k))]);
        let s = *k + scalar_of(&c) * *x;
        let mut bytes = [0; PROOF_LEN];
        bytes[..33].copy_from_slice(&compressed(&gamma));
        bytes[33..49].copy_from_slice(&c);
        bytes[49..].copy_from_slice(&s.to_bytes());
        Ok(Self(bytes))
    }

    /// Checks the proof and gives the value, 32 bytes that nobody without the key could have known.
    ///
    /// # Errors
    /// [`VrfError`].
    pub fn verify(&self, key: &PublicKey, input: &[u8]) -> Result<Hash32, VrfError> {
        let public = key.to_compressed();
        let y = point(&public)?;
        let gamma = point(&self.0[..33])?;
        let c: [u8; CHALLENGE_LEN] = self.0[33..49].try_into().expect("16 of 81 bytes");
        let s = Scalar::from_repr(*GenericArray::from_slice(&self.0[49..]));
        let s = Option::<Scalar>::from(s).ok_or(VrfError::Scalar)?;
        let h = encode_to_curve(&public, input)?;
        let minus_c = -scalar_of(&c);
        let u = ProjectivePoint::GENERATOR * s + y * minus_c;
        let v = h * s + gamma * minus_c;
        let gamma = compressed(&gamma);
        if challenge(&[public, compressed(&h), gamma, compressed(&u), compressed(&v)]) != c {
            return Err(VrfError::Challenge);
        }
        Ok(Hash32(
            Sha256::new()
                .chain_update([SUITE, PROOF_TO_HASH])
                .chain_update(gamma)
                .chain_update([END])
                .finalize()
                .into(),
        ))
    }
}

impl fmt::Debug for VrfProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VrfProof(0x{})", hex::encode(self.0))
    }
}

impl serde::Serialize for VrfProof {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("0x{}", hex::encode(self.0)))
    }
}

impl<'de> serde::Deserialize<'de> for VrfProof {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse_hex(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Canonical for VrfProof {
    const MIN_LEN: usize = PROOF_LEN;
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
}

fn secret_scalar(key: &SecretKey) -> Zeroizing<Scalar> {
    let bytes = key.to_bytes();
    let scalar = Scalar::from_repr(*GenericArray::from_slice(&*bytes));
    Zeroizing::new(Option::from(scalar).expect("a secret key lies in 1..n"))
}

/// The nonce of RFC 6979 for the hash of the encoded input.
fn nonce(key: &SecretKey, h: &[u8; 33]) -> Zeroizing<Scalar> {
    let digest = Sha256::digest(h);
    let reduced = <Scalar as Reduce<U256>>::reduce_bytes(&digest).to_bytes();
    let secret = key.to_bytes();
    let order = Secp256k1::ORDER.to_be_byte_array();
    let mut k = rfc6979::generate_k::<Sha256, _>(GenericArray::from_slice(&*secret), &order, &reduced, &[]);
    let scalar = Scalar::from_repr(k);
    k.zeroize();
    Zeroizing::new(Option::from(scalar).expect("RFC 6979 gives a scalar below the order"))
}

fn encode_to_curve(public: &[u8; 33], input: &[u8]) -> Result<ProjectivePoint, VrfError> {
    let head = Sha256::new().chain_update([SUITE, ENCODE_TO_CURVE]).chain_update(public).chain_update(input);
    for attempt in 0..=u8::MAX {
        let mut bytes = [2; 33];
        bytes[1..].copy_from_slice(&head.clone().chain_update([attempt, END]).finalize());
        if let Ok(point) = point(&bytes) {
            return Ok(point);
        }
    }
    Err(VrfError::Input)
}

fn challenge(points: &[[u8; 33]; 5]) -> [u8; CHALLENGE_LEN] {
    let mut hash = Sha256::new().chain_update([SUITE, CHALLENGE]);
    points.iter().for_each(|point| hash.update(point));
    hash.update([END]);
    hash.finalize()[..CHALLENGE_LEN].try_into().expect("16 of 32 bytes")
}

fn scalar_of(challenge: &[u8; CHALLENGE_LEN]) -> Scalar {
    Scalar::from(u128::from_be_bytes(*challenge))
}

fn point(bytes: &[u8]) -> Result<ProjectivePoint, VrfError> {
    // Compressed form only: every point has one encoding.
    if !matches!(bytes.first(), Some(2 | 3)) {
        return Err(VrfError::Point);
    }
    let encoded = EncodedPoint::from_bytes(bytes).map_err(|_| VrfError::Point)?;
    let point = Option::<AffinePoint>::from(AffinePoint::from_encoded_point(&encoded));
    point.map(ProjectivePoint::from).ok_or(VrfError::Point)
}

fn compressed(point: &ProjectivePoint) -> [u8; 33] {
    // The point at infinity has one byte; padded, it is unlike every other.
    let mut bytes = [0; 33];
    let encoded = point.to_affine().to_encoded_point(true);
    bytes[..encoded.len()].copy_from_slice(encoded.as_bytes());
    bytes
}

fn base(k: &Scalar) -> [u8; 33] {
    compressed(&(ProjectivePoint::GENERATOR * k))
}

#[cfg(test)]
mod tests;
