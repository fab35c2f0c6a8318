use proptest::prelude::*;

use super::*;
use crate::testing::Counter;

const SECRET: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

const PBKDF2: &str = r#"{
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144, "dklen": 32, "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3
}"#;

const SCRYPT: &str = r#"{
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32, "n": 262144, "r": 1, "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3
}"#;

fn secret_of(text: &str, password: &[u8]) -> String {
    hex::encode(
        *Keystore::from_json(text).expect("a keystore").decrypt(password).expect("right password").to_bytes(),
    )
}

/// A light keystore and its key.
fn sample() -> (Keystore, SecretKey) {
    let rng = &mut Counter(9);
    let key = SecretKey::random(rng);
    let kdf = Kdf::Scrypt { log2_n: 1, r: 8, p: 1 };
    (Keystore::encrypt(&key, b"pass", kdf, rng).expect("in bounds"), key)
}

/// The two examples of the Web3 Secret Storage Definition.
#[test]
fn published_vectors() {
    assert_eq!(secret_of(PBKDF2, b"testpassword"), SECRET);
    assert_eq!(secret_of(SCRYPT, b"testpassword"), SECRET);
}

/// The further examples in go-ethereum's test data: keys that were written without their leading zeros.
#[test]
fn published_vectors_of_short_keys() {
    let file = |iv, ciphertext, salt, mac| {
        format!(
            r#"{{"crypto":{{"cipher":"aes-128-ctr","cipherparams":{{"iv":"{iv}"}},"ciphertext":"{ciphertext}",
            "kdf":"scrypt","kdfparams":{{"dklen":32,"n":2,"r":8,"p":1,"salt":"{salt}"}},"mac":"{mac}"}},
            "id":"fecfc4ce-e956-48fd-953b-30f8b52ed66c","version":3}}"#
        )
    };
    let short = file(
        "e0c41130a323adc1446fc82f724bca2f",
        "9517cd5bdbe69076f9bf5057248c6c050141e970efa36ce53692d5d59a3984",
        "711f816911c92d649fb4c84b047915679933555030b3552c1212609b38208c63",
        "d5e116151c6aa71470e67a7d42c9620c75c4d23229847dcc127794f0732b0db5",
    );
    assert_eq!(secret_of(&short, b"foo"), "00fa7b3db73dc7dfdf8c5fbdb796d741e4488628c41fc4febd9160a866ba0f35");
    let shorter = file(
        "3ca92af36ad7c2cd92454c59cea5ef00",
        "108b7d34f3442fc26ab1ab90ca91476ba6bfa8c00975a49ef9051dc675aa",
        "d0769e608fb86cda848065642a9c6fa046845c928175662b8e356c77f914cd3b",
        "75d0e6759f7b3cefa319c3be41680ab6beea7d8328653474bd06706d4cc67420",
    );
    assert_eq!(
        secret_of(&shorter, b"foo"),
        "000081c29e8142bb6a81bef5a92bda7a8328a5c85bb2f9542e76f9b0f94fc018"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let rng = &mut Counter(1);
    let key = SecretKey::random(rng);
    for kdf in [Kdf::scrypt_light(), Kdf::Pbkdf2 { rounds: 3 }] {
        let keystore = Keystore::encrypt(&key, "pässword".as_bytes(), kdf, rng).expect("in bounds");
        let text = keystore.to_json();
        let read = Keystore::from_json(&text).expect("own text");
        assert_eq!(read, keystore);
        assert_eq!((read.address(), read.kdf()), (Some(key.address()), kdf));
        let decrypted = read.decrypt("pässword".as_bytes()).expect("right password");
        assert_eq!(decrypted.to_bytes(), key.to_bytes());
        let secret = hex::encode(*key.to_bytes());
        assert!(!text.contains(&secret) && !format!("{keystore:?}").contains(&secret));
    }
}

#[test]
fn two_encryptions_share_no_randomness() {
    let rng = &mut Counter(1);
    let key = SecretKey::random(rng);
    let mut encrypt = || Keystore::encrypt(&key, b"x", Kdf::Pbkdf2 { rounds: 1 }, rng).expect("in bounds");
    let (a, b) = (encrypt(), encrypt());
    assert!(a.salt != b.salt && a.iv != b.iv && a.id != b.id && a.ciphertext != b.ciphertext);
}

#[test]
fn a_wrong_password_is_named_as_such() {
    let (keystore, _) = sample();
    for password in [b"".as_slice(), b"Pass", b"pass ", b"pas", b"passpass"] {
        let error = keystore.decrypt(password).expect_err("wrong password");
        assert!(matches!(error, KeystoreError::WrongPassword), "{error}");
    }
}

#[test]
fn damage_is_noticed() {
    let (keystore, _) = sample();
    for at in 0..32 {
        let mut damaged = keystore.clone();
        damaged.ciphertext[at] ^= 1;
        assert!(matches!(damaged.decrypt(b"pass"), Err(KeystoreError::WrongPassword)));
        let mut damaged = keystore.clone();
        damaged.mac[at] ^= 0x80;
        assert!(matches!(damaged.decrypt(b"pass"), Err(KeystoreError::WrongPassword)));
    }
    // The definition authenticates neither the vector nor the address; the address then tells.
    let mut damaged = keystore.clone();
    damaged.iv[0] ^= 1;
    assert!(matches!(damaged.decrypt(b"pass"), Err(KeystoreError::AddressMismatch { .. })));
    let mut damaged = keystore;
    damaged.address = Some(Address::ZERO);
    assert!(matches!(damaged.decrypt(b"pass"), Err(KeystoreError::AddressMismatch { .. })));
}

#[test]
fn a_file_without_a_key_is_refused() {
    let (mut keystore, _) = sample();
    let derived = keystore.kdf.derive(b"pass", &keystore.salt).expect("in bounds");
    keystore.ciphertext = vec![0; 32];
    apply_cipher(&derived, &keystore.iv, &mut keystore.ciphertext);
    keystore.mac = authentication_code(&derived, &keystore.ciphertext);
    assert!(matches!(keystore.decrypt(b"pass"), Err(KeystoreError::Key(KeyError::SecretRange))));
}

/// Each replaces one piece of a published file; the message must contain the given words.
#[test]
fn bad_files_are_refused_with_a_reason() {
    let cases = [
        ("\"version\": 3", "\"version\": 1", "version 1; 3 expected"),
        ("\"version\": 3", "\"version\": \"3\"", "invalid type"),
        ("aes-128-ctr", "aes-128-cbc", "`crypto.cipher` is `aes-128-cbc`; aes-128-ctr"),
        ("\"kdf\": \"scrypt\"", "\"kdf\": \"argon2\"", "`crypto.kdf` is `argon2`"),
        ("\"kdf\": \"scrypt\"", "\"kdf\": \"pbkdf2\"", "unknown field `n`"),
        ("\"n\": 262144", "\"n\": 262145", "`n` is 262145; a power of two"),
        ("\"n\": 262144", "\"n\": 0", "`n` is 0"),
        ("\"n\": 262144", "\"n\": 1", "`n` is 1"),
        ("\"n\": 262144", "\"n\": 9223372036854775808", "`n` is 9223372036854775808"),
        ("\"n\": 262144", "\"n\": -2", "invalid value"),
        ("\"n\": 262144", "\"n\": 1e3", "invalid type"),
        ("\"n\": 262144, \"r\": 1,", "\"n\": 16777216, \"r\": 8,", "bytes of memory; at most 536870912"),
        ("\"n\": 262144, \"r\": 1,", "\"n\": 4194304, \"r\": 1,", "bytes of memory"),
        ("\"r\": 1", "\"r\": 0", "`r` is 0"),
        ("\"r\": 1", "\"r\": 4294967295", "`r` is 4294967295"),
        ("\"p\": 8", "\"p\": 0", "`p` is 0"),
        ("\"p\": 8", "\"p\": 65537", "`p` is 65537"),
        ("\"p\": 8", "\"p\": 65", "n·r·p = 17039360 steps"),
        ("\"dklen\": 32", "\"dklen\": 16", "`dklen` is 16; 32 expected"),
        ("\"dklen\": 32", "\"dklen\": 4294967296", "`dklen` is 4294967296"),
        ("83dbcc02", "83dbcc", "`crypto.cipherparams.iv`: 32 hexadecimal digits"),
        ("d172bf74", "d172bf7g", "`crypto.ciphertext`: 2 to 64"),
        ("d172bf74", "00d172bf74", "`crypto.ciphertext`: 2 to 64"),
        ("ab0c7876", "ab0c787", "`crypto.kdfparams.salt`"),
        ("2103ac29", "2103ac2900", "`crypto.mac`: 64"),
        ("3198bc9c-", "3198bc9c", "`id`"),
        ("\"mac\"", "\"extra\": 1, \"mac\"", "unknown field `extra`"),
        ("\"mac\"", "\"max\"", "unknown field `max`"),
        ("\"version\"", "\"address\": \"0x12\", \"version\"", "`address`: 40"),
        ("\"kdf\": \"scrypt\",", "", "missing field `kdf`"),
        ("\"kdf\": \"scrypt\",", "\"kdf\": \"scrypt\", \"kdf\": \"scrypt\",", "duplicate field `kdf`"),
    ];
    for (from, to, reason) in cases {
        assert!(SCRYPT.contains(from), "{from}");
        let message = Keystore::from_json(&SCRYPT.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(message.contains(reason), "{to}: {message}");
    }
    for (from, to, reason) in [
        ("\"c\": 262144", "\"c\": 0", "`c` is 0"),
        ("\"c\": 262144", "\"c\": 10000001", "`c` is 10000001; 1 to 10000000"),
        ("\"c\": 262144", "\"c\": 4294967296", "invalid value"),
        ("hmac-sha256", "hmac-sha1", "`crypto.kdfparams.prf` is `hmac-sha1`"),
    ] {
        let message = Keystore::from_json(&PBKDF2.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(message.contains(reason), "{to}: {message}");
    }
    let long = " ".repeat(MAX_FILE_BYTES) + SCRYPT;
    assert!(matches!(Keystore::from_json(&long), Err(KeystoreError::TooLong { .. })));
    let deep = "[".repeat(MAX_FILE_BYTES);
    assert!(matches!(Keystore::from_json(&deep), Err(KeystoreError::Json(_))));
}

#[test]
fn what_other_wallets_write_is_read() {
    let text = PBKDF2.replace("\"crypto\"", "\"Crypto\"").replace(
        "\"version\"",
        "\"name\": \"mine\", \"address\": \"0x008AEEDA4D805471DF9B2A5B0F38A0C3BCBA786B\", \"version\"",
    );
    let expected = "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b".parse().ok();
    assert_eq!(Keystore::from_json(&text).expect("accepted").address(), expected);
    assert_eq!(secret_of(&text, b"testpassword"), SECRET);
}

#[test]
fn parameters_out_of_bounds_are_not_written_either() {
    let rng = &mut Counter(1);
    let key = SecretKey::random(rng);
    for kdf in [
        Kdf::Pbkdf2 { rounds: 0 },
        Kdf::Scrypt { log2_n: 0, r: 8, p: 1 },
        Kdf::Scrypt { log2_n: 255, r: 8, p: 1 },
        Kdf::Scrypt { log2_n: 20, r: 8, p: 1 },
        Kdf::Scrypt { log2_n: 18, r: u32::MAX, p: u32::MAX },
    ] {
        assert!(Keystore::encrypt(&key, b"x", kdf, rng).is_err(), "{kdf:?}");
    }
    assert!(Kdf::scrypt_default().check().is_ok() && Kdf::pbkdf2_default().check().is_ok());
}

proptest! {
    /// What parses is written back to a text that parses to the same.
    #[test]
    fn parsing_never_panics(at in 0..SCRYPT.len(), byte: u8, cut: bool) {
        let mut bytes = SCRYPT.as_bytes().to_vec();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(keystore) = Keystore::from_json(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(Keystore::from_json(&keystore.to_json()).expect("own text"), keystore);
        }
    }
}
