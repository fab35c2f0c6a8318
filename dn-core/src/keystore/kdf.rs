//! Stretching passwords: scrypt and PBKDF2, with bounds on what a file may ask for.

use sha2::Sha256;
use zeroize::Zeroizing;

use super::KeystoreError;

/// Most memory that scrypt may take, in bytes: twice that of the standard parameters.
pub const MAX_SCRYPT_MEMORY_BYTES: u64 = 512 * 1024 * 1024;
/// Largest `n · r · p`: eight times that of the standard parameters, some seconds of work.
pub const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Most rounds of PBKDF2, some seconds of work.
pub const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// How a password becomes a key. The work is what makes guessing dear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// scrypt (RFC 7914): costs memory as well as time.
    Scrypt {
        /// `log2` of the cost `n`.
        log2_n: u8,
        /// Block size.
        r: u32,
        /// Lanes, computed one after another.
        p: u32,
    },
    /// PBKDF2 with HMAC-SHA-256 (RFC 8018): costs time only.
    Pbkdf2 {
        /// Rounds, called `c` in the file.
        rounds: u32,
    },
}

impl Kdf {
    /// scrypt with `n` = 262,144: 256 MiB and about a second. For keys that hold value.
    pub const fn scrypt_default() -> Self {
        Self::Scrypt { log2_n: 18, r: 8, p: 1 }
    }

    /// scrypt with `n` = 4,096 and `p` = 6: 4 MiB and a tenth of a second. For development networks and small devices.
    pub const fn scrypt_light() -> Self {
        Self::Scrypt { log2_n: 12, r: 8, p: 6 }
    }

    /// PBKDF2 with 600,000 rounds, for programs that know no scrypt.
    pub const fn pbkdf2_default() -> Self {
        Self::Pbkdf2 { rounds: 600_000 }
    }

    /// Refuses parameters that are meaningless or ask for too much, before anything is allocated.
    pub(super) fn check(self) -> Result<(), KeystoreError> {
        let refuse = |field, expected, found| Err(KeystoreError::KdfParameter { field, expected, found });
        match self {
            Self::Pbkdf2 { rounds: 0 } => refuse("c", "1 to 10000000", 0),
            Self::Pbkdf2 { rounds } if rounds > MAX_PBKDF2_ROUNDS => {
                refuse("c", "1 to 10000000", rounds.into())
            }
            Self::Pbkdf2 { .. } => Ok(()),
            Self::Scrypt { log2_n, r, p } => {
                // These bounds keep the products below in 64 bits.
                if !(1..=24).contains(&log2_n) {
                    let found = 1u64.checked_shl(log2_n.into()).unwrap_or(u64::MAX);
                    return refuse("n", "a power of two from 2 to 2^24", found);
                }
                for (field, value) in [("r", r), ("p", p)] {
                    if !(1..=1 << 16).contains(&value) {
                        return refuse(field, "1 to 65536", value.into());
                    }
                }
                let (n, r, p) = (1u64 << log2_n, u64::from(r), u64::from(p));
                let memory = 128 * r * (n + p + 1);
                if memory > MAX_SCRYPT_MEMORY_BYTES {
                    return Err(KeystoreError::KdfMemory { found: memory });
                }
                if n * r * p > MAX_SCRYPT_WORK {
                    return Err(KeystoreError::KdfWork { found: n * r * p });
                }
                Ok(())
            }
        }
    }

    /// The 32-byte derived key.
    pub(super) fn derive(self, password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        self.check()?;
        let mut derived = Zeroizing::new([0; 32]);
        match self {
            Self::Pbkdf2 { rounds } => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, derived.as_mut());
            }
            Self::Scrypt { log2_n, r, p } => {
                super::scrypt::derive(password, salt, (log2_n, r, p), &mut derived)
            }
        }
        Ok(derived)
    }
}
