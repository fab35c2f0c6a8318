use super::*;
use crate::testing::Counter;

const JUNK: &str = "test test test test test test test test test test test junk";

/// (entropy, phrase, seed with passphrase "TREZOR"): the vectors that BIP-39 links to.
const BIP_39: [(&str, &str, &str); 8] = [
    (
        "00000000000000000000000000000000",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
    ),
    (
        "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
        "legal winner thank year wave sausage worth useful legal winner thank yellow",
        "2e8905819b8723fe2c1d161860e5ee1830318dbf49a83bd451cfb8440c28bd6fa457fe1296106559a3c80937a1c1069be3a3a5bd381ee6260e8d9739fce1f607",
    ),
    (
        "ffffffffffffffffffffffffffffffff",
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong",
        "ac27495480225222079d7be181583751e86f571027b0497b5b5d11218e0a8a13332572917f0f8e5a589620c6f15b11c61dee327651a14c34e18231052e48c069",
    ),
    (
        "000000000000000000000000000000000000000000000000",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon agent",
        "035895f2f481b1b0f01fcf8c289c794660b289981a78f8106447707fdd9666ca06da5a9a565181599b79f53b844d8a71dd9f439c52a3d7b3e8a79c906ac845fa",
    ),
    (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
        "dd48c104698c30cfe2b6142103248622fb7bb0ff692eebb00089b32d22484e1613912f0a5b694407be899ffd31ed3992c456cdf60f5d4564b8ba3f05a69890ad",
    ),
    (
        "9e885d952ad362caeb4efe34a8e91bd2",
        "ozone drill grab fiber curtain grace pudding thank cruise elder eight picnic",
        "274ddc525802f7c828d8ef7ddbcdc5304e87ac3535913611fbbfa986d0c9e5476c91689f9c8a54fd55bd38606aa6a8595ad213d4c9c9f9aca3fb217069a41028",
    ),
    (
        "6610b25967cdcca9d59875f5cb50b0ea75433311869e930b",
        "gravity machine north sort system female filter attitude volume fold club stay feature office ecology stable narrow fog",
        "628c3827a8823298ee685db84f55caa34b5cc195a778e52d45f59bcf75aba68e4d7590e101dc414bc1bbd5737666fbbef35d1f1903953b66624f910feef245ac",
    ),
    (
        "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
        "64c87cde7e12ecf6704ab95bb1408bef047c22db4cc7491c4271d170a1b213d20b385bc1588d9c7b38f1b39d415665b8a9030c9ec653d75e65f847d8fc1fc440",
    ),
];

/// (seed, path, extended private key): test vectors 1 to 4 of BIP-32; 3 and 4 are about leading zeros.
const BIP_32: [(&str, &str, &str); 14] = [
    (
        "000102030405060708090a0b0c0d0e0f",
        "m",
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "m/0'",
        "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "m/0'/1",
        "xprv9wTYmMFdV23N2TdNG573QoEsfRrWKQgWeibmLntzniatZvR9BmLnvSxqu53Kw1UmYPxLgboyZQaXwTCg8MSY3H2EU4pWcQDnRnrVA1xe8fs",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "m/0'/1/2'",
        "xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "m/0'/1/2'/2",
        "xprvA2JDeKCSNNZky6uBCviVfJSKyQ1mDYahRjijr5idH2WwLsEd4Hsb2Tyh8RfQMuPh7f7RtyzTtdrbdqqsunu5Mm3wDvUAKRHSC34sJ7in334",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "m/0h/1/2h/2/1000000000",
        "xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76",
    ),
    (
        "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542",
        "m/0/2147483647'",
        "xprv9wSp6B7kry3Vj9m1zSnLvN3xH8RdsPP1Mh7fAaR7aRLcQMKTR2vidYEeEg2mUCTAwCd6vnxVrcjfy2kRgVsFawNzmjuHc2YmYRmagcEPdU9",
    ),
    (
        "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542",
        "m/0/2147483647'/1/2147483646'",
        "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc",
    ),
    (
        "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542",
        "m/0/2147483647'/1/2147483646'/2",
        "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j",
    ),
    (
        "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
        "m",
        "xprv9s21ZrQH143K25QhxbucbDDuQ4naNntJRi4KUfWT7xo4EKsHt2QJDu7KXp1A3u7Bi1j8ph3EGsZ9Xvz9dGuVrtHHs7pXeTzjuxBrCmmhgC6",
    ),
    (
        "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
        "m/0'",
        "xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L",
    ),
    (
        "3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
        "m",
        "xprv9s21ZrQH143K48vGoLGRPxgo2JNkJ3J3fqkirQC2zVdk5Dgd5w14S7fRDyHH4dWNHUgkvsvNDCkvAwcSHNAQwhwgNMgZhLtQC63zxwhQmRv",
    ),
    (
        "3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
        "m/0'",
        "xprv9vB7xEWwNp9kh1wQRfCCQMnZUEG21LpbR9NPCNN1dwhiZkjjeGRnaALmPXCX7SgjFTiCTT6bXes17boXtjq3xLpcDjzEuGLQBM5ohqkao9G",
    ),
    (
        "3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
        "m/0'/1'",
        "xprv9xJocDuwtYCMNAo3Zw76WENQeAS6WGXQ55RCy7tDJ8oALr4FWkuVoHJeHVAcAqiZLE7Je3vZJHxspZdFHfnBEjHqU5hG1Jaj32dVoS6XLT1",
    ),
];

#[test]
fn bip_39_vectors() {
    for (entropy, phrase, seed) in BIP_39 {
        let made = Mnemonic::from_entropy(&hex::decode(entropy).expect("hexadecimal")).expect(entropy);
        assert_eq!(*made.phrase(), phrase);
        let read = Mnemonic::parse(phrase).expect(phrase);
        assert_eq!(*read.phrase(), phrase);
        assert_eq!(hex::encode(*read.seed("TREZOR")), seed);
    }
}

#[test]
fn bip_32_vectors() {
    for (seed, path, extended) in BIP_32 {
        let expected: bip32::ExtendedKey = extended.parse().expect(extended);
        let path: DerivationPath = path.parse().expect(path);
        let key = path.key(&hex::decode(seed).expect("hexadecimal")).expect("derivable");
        assert_eq!(hex::encode(*key.to_bytes()), hex::encode(&expected.key_bytes[1..]), "{path}");
    }
}

/// The accounts that common development chains create from this phrase.
#[test]
fn the_well_known_phrase_gives_its_well_known_addresses() {
    let phrase = Mnemonic::parse(JUNK).expect(JUNK);
    for (index, address) in [
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    ]
    .into_iter()
    .enumerate()
    {
        let key = phrase.derive("", DerivationPath::ethereum(index as u32)).expect("derivable");
        assert_eq!(key.address().to_string(), address);
    }
    let other = phrase.derive("extra", DerivationPath::ethereum(0)).expect("derivable");
    assert_ne!(other.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
}

/// Passphrases are normalised (NFKD), so both spellings of an accent are one.
#[test]
fn passphrases_are_normalised() {
    let phrase = Mnemonic::parse(JUNK).expect(JUNK);
    assert_eq!(phrase.seed("caf\u{e9}"), phrase.seed("cafe\u{301}"));
    assert_ne!(phrase.seed("caf\u{e9}"), phrase.seed("cafe"));
}

#[test]
fn fresh_phrases_have_the_length_asked_for_and_are_read_back() {
    let rng = &mut Counter(0);
    for words in [12, 15, 18, 21, 24] {
        let made = Mnemonic::generate(words, rng).expect("a length of BIP-39");
        assert_eq!(made.phrase().split(' ').count(), words);
        assert_eq!(*Mnemonic::parse(&made.phrase()).expect("own phrase").phrase(), *made.phrase());
    }
    assert_ne!(
        *Mnemonic::generate(12, rng).expect("12").phrase(),
        *Mnemonic::generate(12, rng).expect("12").phrase()
    );
    for found in [0, 11, 13, 27, usize::MAX] {
        assert_eq!(Mnemonic::generate(found, rng).err(), Some(MnemonicError::WordCount { found }));
    }
    assert_eq!(Mnemonic::from_entropy(&[0; 17]).err(), Some(MnemonicError::EntropyLength { found: 17 }));
}

#[test]
fn bad_phrases_are_refused_without_repeating_them() {
    let refuse = |phrase: &str| Mnemonic::parse(phrase).expect_err(phrase);
    assert_eq!(refuse(""), MnemonicError::WordCount { found: 0 });
    assert_eq!(refuse("test test junk"), MnemonicError::WordCount { found: 3 });
    assert_eq!(refuse(&"test ".repeat(100_000)), MnemonicError::WordCount { found: 100_000 });
    assert_eq!(refuse(&JUNK.replace("junk", "test")), MnemonicError::Checksum);
    let misspelt = refuse(&JUNK.replace("junk", "junq"));
    assert_eq!(misspelt, MnemonicError::UnknownWord { position: 12 });
    assert!(!misspelt.to_string().contains("junq"));
    let messy = format!("  {}\n", JUNK.to_uppercase().replace(' ', " \t\n"));
    assert_eq!(*Mnemonic::parse(&messy).expect("only space and capitals").phrase(), JUNK);
    assert_eq!(format!("{:?}", Mnemonic::parse(JUNK)), "Ok(Mnemonic(12 words))");
}

#[test]
fn paths_are_strict() {
    for text in ["m", "m/0", "m/44'/60'/0'/0/7", "m/2147483647'"] {
        assert_eq!(text.parse::<DerivationPath>().expect(text).to_string(), text);
    }
    assert_eq!(DerivationPath::ethereum(7).to_string(), "m/44'/60'/0'/0/7");
    for (text, position) in [
        ("", 0),
        ("44'/60'", 0),
        ("M/0", 0),
        ("m/", 1),
        ("m/0//1", 2),
        ("m/+1", 1),
        ("m/-1", 1),
        ("m/1''", 1),
        ("m/'", 1),
        ("m/0/2147483648", 2),
        ("m/0/99999999999", 2),
        ("m/0 ", 1),
    ] {
        assert_eq!(text.parse::<DerivationPath>(), Err(MnemonicError::Path { position }), "{text}");
    }
    let longest = format!("m{}", "/0".repeat(255));
    assert!(longest.parse::<DerivationPath>().is_ok());
    assert_eq!((longest + "/0").parse::<DerivationPath>(), Err(MnemonicError::Path { position: 256 }));
    let phrase = Mnemonic::parse(JUNK).expect(JUNK);
    let error = phrase.derive("", DerivationPath::ethereum(1 << 31)).expect_err("too high");
    assert_eq!(error, MnemonicError::Path { position: 5 });
}
