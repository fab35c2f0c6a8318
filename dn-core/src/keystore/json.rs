//! The JSON form of a keystore file.

use serde::{Deserialize, Serialize};

use super::{Kdf, Keystore, KeystoreError, MAX_FILE_BYTES};
use crate::address::Address;

const CIPHER: &str = "aes-128-ctr";
const PRF: &str = "hmac-sha256";
const DERIVED_BYTES: u64 = 32;

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    // Some programs write a capital letter.
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    id: String,
    version: u64,
}

/// Only the version, so that a file of another one is named as such whatever else it holds.
#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: serde_json::Value,
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScryptParams {
    dklen: u64,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pbkdf2Params {
    c: u32,
    dklen: u64,
    prf: String,
    salt: String,
}

pub(super) fn parse(text: &str) -> Result<Keystore, KeystoreError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(KeystoreError::TooLong { found: text.len() });
    }
    let found = serde_json::from_str::<VersionOnly>(text)?.version;
    if found != 3 {
        return Err(KeystoreError::Version { found });
    }
    let File { address, crypto, id, .. } = serde_json::from_str(text)?;
    require("crypto.cipher", CIPHER, &crypto.cipher)?;
    let (kdf, salt) = parse_kdf(&crypto.kdf, crypto.kdfparams)?;
    kdf.check()?;
    let ciphertext = bytes("crypto.ciphertext", "2 to 64", &crypto.ciphertext)?;
    if !(1..=32).contains(&ciphertext.len()) {
        return Err(KeystoreError::Hex { field: "crypto.ciphertext", expected: "2 to 64" });
    }
    Ok(Keystore {
        address: address.map(|text| parse_address(&text)).transpose()?,
        id: parse_uuid(&id)?,
        iv: array("crypto.cipherparams.iv", "32", &crypto.cipherparams.iv)?,
        ciphertext,
        kdf,
        salt: bytes("crypto.kdfparams.salt", "an even number of", &salt)?,
        mac: array("crypto.mac", "64", &crypto.mac)?,
    })
}

fn parse_kdf(name: &str, params: serde_json::Value) -> Result<(Kdf, String), KeystoreError> {
    let check_length = |found| {
        let wrong = KeystoreError::KdfParameter { field: "dklen", expected: "32", found };
        if found == DERIVED_BYTES { Ok(()) } else { Err(wrong) }
    };
    match name {
        "scrypt" => {
            let ScryptParams { dklen, n, p, r, salt } = serde_json::from_value(params)?;
            check_length(dklen)?;
            if !n.is_power_of_two() {
                let expected = "a power of two from 2 to 2^24";
                return Err(KeystoreError::KdfParameter { field: "n", expected, found: n });
            }
            // At most 63, which `Kdf::check` judges.
            Ok((Kdf::Scrypt { log2_n: n.trailing_zeros() as u8, r, p }, salt))
        }
        "pbkdf2" => {
            let Pbkdf2Params { c, dklen, prf, salt } = serde_json::from_value(params)?;
            check_length(dklen)?;
            require("crypto.kdfparams.prf", PRF, &prf)?;
            Ok((Kdf::Pbkdf2 { rounds: c }, salt))
        }
        other => Err(unsupported("crypto.kdf", "`scrypt` or `pbkdf2`", other)),
    }
}

pub(super) fn write(keystore: &Keystore) -> String {
    let salt = hex::encode(&keystore.salt);
    let (kdf, kdfparams) = match keystore.kdf {
        Kdf::Scrypt { log2_n, r, p } => (
            "scrypt",
            serde_json::to_value(ScryptParams { dklen: DERIVED_BYTES, n: 1 << log2_n, p, r, salt }),
        ),
        Kdf::Pbkdf2 { rounds: c } => (
            "pbkdf2",
            serde_json::to_value(Pbkdf2Params { c, dklen: DERIVED_BYTES, prf: PRF.to_owned(), salt }),
        ),
    };
    let file = File {
        // Without prefix and capitals, as other programs expect it.
        address: keystore.address.map(|address| hex::encode(address.0)),
        crypto: Crypto {
            cipher: CIPHER.to_owned(),
            cipherparams: CipherParams { iv: hex::encode(keystore.iv) },
            ciphertext: hex::encode(&keystore.ciphertext),
            kdf: kdf.to_owned(),
            kdfparams: kdfparams.expect("numbers and text are JSON"),
            mac: hex::encode(keystore.mac),
        },
        id: write_uuid(&keystore.id),
        version: 3,
    };
    serde_json::to_string_pretty(&file).expect("numbers and text are JSON")
}

fn unsupported(field: &'static str, expected: &'static str, found: &str) -> KeystoreError {
    KeystoreError::Unsupported { field, expected, found: found.chars().take(64).collect() }
}

fn require(field: &'static str, expected: &'static str, found: &str) -> Result<(), KeystoreError> {
    if found == expected { Ok(()) } else { Err(unsupported(field, expected, found)) }
}

fn bytes(field: &'static str, expected: &'static str, digits: &str) -> Result<Vec<u8>, KeystoreError> {
    hex::decode(digits).map_err(|_| KeystoreError::Hex { field, expected })
}

fn array<const N: usize>(
    field: &'static str,
    expected: &'static str,
    digits: &str,
) -> Result<[u8; N], KeystoreError> {
    let mut out = [0; N];
    hex::decode_to_slice(digits, &mut out).map_err(|_| KeystoreError::Hex { field, expected })?;
    Ok(out)
}

/// With or without `0x`; capitals mean nothing here.
fn parse_address(text: &str) -> Result<Address, KeystoreError> {
    array("address", "40", text.strip_prefix("0x").unwrap_or(text)).map(Address)
}

/// Any version of UUID: the definition's own examples are not of version 4.
fn parse_uuid(text: &str) -> Result<[u8; 16], KeystoreError> {
    let expected = "8-4-4-4-12";
    let groups = text.split('-').map(str::len);
    if !groups.eq([8, 4, 4, 4, 12]) {
        return Err(KeystoreError::Hex { field: "id", expected });
    }
    array("id", expected, &text.replace('-', ""))
}

fn write_uuid(id: &[u8; 16]) -> String {
    let digits = hex::encode(id);
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    groups.join("-")
}
