use proptest::prelude::*;

use super::*;

/// A small file with every kind of value.
fn sample() -> GgufWriter {
    let mut w = GgufWriter::new();
    w.string("general.architecture", "llama").u32("llama.block_count", 2).f32("eps", 1e-5).bool("flag", true);
    w.key("i8", Value::Signed(ValueType::I8, -3)).key("u64", Value::Unsigned(ValueType::U64, u64::MAX));
    w.key("i16", Value::Signed(ValueType::I16, -300)).key("u16", Value::Unsigned(ValueType::U16, 65_535));
    w.key("f64", Value::F64(0.5)).key("u8", Value::Unsigned(ValueType::U8, 255));
    w.key("i64", Value::Signed(ValueType::I64, i64::MIN)).key("i32", Value::Signed(ValueType::I32, -1));
    w.strings("tokens", vec!["a".into(), String::new(), "é".into()]);
    w.key("scores", Value::Array(Array::F32(vec![0.0, -1.5])))
        .key("flags", Value::Array(Array::Bool(vec![true])));
    w.key("types", Value::Array(Array::Signed(ValueType::I32, vec![1, 2, 3])));
    w.key("wide", Value::Array(Array::F64(vec![2.0])));
    let nested = Array::Array(vec![Array::Unsigned(ValueType::U8, vec![1]), Array::Bool(vec![])]);
    w.key("nested", Value::Array(nested));
    w.tensor("a", &[3], TensorType::F32, vec![1; 12]);
    w.tensor("b", &[32, 2], TensorType::Q8_0, vec![2; 68]);
    w.tensor("c", &[2, 2], TensorType::F16, vec![3; 8]);
    w.tensor("d", &[1, 1, 1, 2], TensorType::Bf16, vec![4; 4]);
    w
}

fn read(bytes: &[u8], t: &TensorInfo) -> Vec<u8> {
    bytes[t.start as usize..(t.start + t.size) as usize].to_vec()
}

#[test]
fn what_was_written_is_read() {
    for alignment in [None, Some(8), Some(64)] {
        let mut w = sample();
        if let Some(alignment) = alignment {
            w.alignment(alignment);
        }
        let bytes = w.finish();
        let g = Gguf::parse(&bytes).unwrap();
        assert_eq!(g.version, 3);
        let m = &g.metadata;
        assert_eq!(m.string("general.architecture"), Ok(Some("llama")));
        assert_eq!(m.u32("llama.block_count"), Ok(Some(2)));
        assert_eq!(m.f32("eps"), Ok(Some(1e-5)));
        assert_eq!(m.f32("f64"), Ok(Some(0.5)));
        assert_eq!(m.bool("flag"), Ok(Some(true)));
        assert_eq!(m.u32s("types"), Ok(Some(vec![1, 2, 3])));
        assert_eq!(m.f32s("scores"), Ok(Some([0.0, -1.5].as_slice())));
        assert_eq!(m.strings("tokens").unwrap().unwrap(), ["a", "", "é"]);
        assert_eq!(m.value("i8"), Some(&Value::Signed(ValueType::I8, -3)));
        assert_eq!(m.value("u64"), Some(&Value::Unsigned(ValueType::U64, u64::MAX)));
        assert_eq!(m.value("i64"), Some(&Value::Signed(ValueType::I64, i64::MIN)));
        assert!(matches!(m.value("nested"), Some(Value::Array(Array::Array(items))) if items.len() == 2));
        assert_eq!(m.u32("missing"), Ok(None));
        assert!(matches!(m.u32("i32"), Err(GgufError::KeyType { found: ValueType::I32, .. })));
        assert!(matches!(m.string("flag"), Err(GgufError::KeyType { found: ValueType::Bool, .. })));
        for (name, byte, size) in [("a", 1, 12), ("b", 2, 68), ("c", 3, 8), ("d", 4, 4)] {
            assert_eq!(read(&bytes, g.tensor(name).unwrap()), vec![byte; size]);
        }
        assert_eq!(g.tensors().len(), 4);
        assert!(g.tensor("e").is_none());
    }
}

#[test]
fn version_2_is_read_and_others_are_named() {
    let mut bytes = sample().finish();
    bytes[4] = 2;
    assert_eq!(Gguf::parse(&bytes).unwrap().version, 2);
    bytes[4] = 1;
    assert_eq!(Gguf::parse(&bytes), Err(GgufError::Version { found: 1 }));
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert_eq!(Gguf::parse(&bytes), Err(GgufError::BigEndian { version: 3 }));
    assert_eq!(Gguf::parse(b"GGML\x03\0\0\0"), Err(GgufError::Magic { found: *b"GGML" }));
    assert!(matches!(Gguf::parse(b"GG"), Err(GgufError::Truncated { at: 0, needed: 4, left: 2, .. })));
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let good = sample().finish();
    for (at, what) in [(8, "number of tensors"), (16, "number of metadata keys")] {
        for count in [u64::MAX, 1 << 40, 1 << 19] {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            match Gguf::parse(&bytes) {
                Err(GgufError::Limit { what: found, .. } | GgufError::Truncated { what: found, .. }) => {
                    assert_eq!(found, what);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // A string and an array that promise more than the file holds.
    let mut w = GgufWriter::new();
    w.strings("k", vec!["text".into()]);
    let bytes = w.finish();
    let array = bytes.len() - 4 - 8 - 8;
    for at in [array, array + 8] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 3).to_le_bytes());
        assert!(matches!(Gguf::parse(&bytes), Err(GgufError::Truncated { .. })));
    }
}

#[test]
fn the_first_bytes_of_a_file_say_whether_the_rest_is_needed() {
    let good = GgufWriter::new().string("k", "text").finish();
    let at = good.windows(4).position(|w| w == b"text").unwrap();
    let with_length = |length: u64, file: u64| {
        let mut head = good.clone();
        head[at - 8..at].copy_from_slice(&length.to_le_bytes());
        Gguf::parse_header(&head, file)
    };
    let (file, have, start) = (40 << 30, good.len() as u64, at as u64);
    // More than the file has: no reading on would help.
    let (needed, left) = ((1 << 50) + 4, file - start);
    let truncated = GgufError::Truncated { at: start, what: "a string", needed, left };
    assert_eq!(with_length(needed, file), Err(truncated));
    // The file has as much, but no header does.
    for length in [(1 << 34) + 4, MAX_HEADER_BYTES - start + 1] {
        let long = with_length(length, file);
        let (needed, limit) = (start + length, MAX_HEADER_BYTES);
        assert_eq!(long, Err(GgufError::HeaderSize { at: start, what: "a string", needed, limit }));
    }
    let on = |length| Err(GgufError::Partial { at: start, what: "a string", needed: start + length, have });
    for length in [MAX_HEADER_BYTES - start, 1 << 20, have - start + 1] {
        assert_eq!(with_length(length, file), on(length));
    }
    assert!(with_length(4, have).is_ok());
    for cut in 0..at + 4 {
        let cut = Gguf::parse_header(&good[..cut], have);
        assert!(matches!(cut, Err(GgufError::Partial { .. })), "{cut:?}");
    }
}

#[test]
fn deep_arrays_are_refused() {
    let mut nested = Array::Bool(vec![true]);
    for _ in 0..3 {
        nested = Array::Array(vec![nested]);
    }
    let parse = |a: &Array| Gguf::parse(&GgufWriter::new().key("k", Value::Array(a.clone())).finish());
    assert!(parse(&nested).is_ok());
    nested = Array::Array(vec![nested]);
    assert!(matches!(parse(&nested), Err(GgufError::Limit { what: "depth of arrays", .. })));
}

#[test]
fn keys_and_names_are_unique_and_text_is_utf8() {
    let mut w = GgufWriter::new();
    w.u32("k", 1).u32("k", 2);
    assert!(matches!(Gguf::parse(&w.finish()), Err(GgufError::DuplicateKey { key, .. }) if key == "k"));
    let mut w = GgufWriter::new();
    w.tensor("t", &[1], TensorType::F32, vec![0; 4]).tensor("t", &[1], TensorType::F32, vec![0; 4]);
    assert_eq!(Gguf::parse(&w.finish()), Err(GgufError::DuplicateTensor { name: "t".into() }));
    let mut bytes = GgufWriter::new().string("k", "abc").finish();
    let at = bytes.len() - 2;
    bytes[at] = 0xff;
    let err = Gguf::parse(&bytes).unwrap_err();
    assert!(matches!(err, GgufError::Utf8 { at: found, .. } if found as usize == at - 1), "{err}");
    let mut bytes = GgufWriter::new().bool("k", true).finish();
    *bytes.last_mut().unwrap() = 2;
    assert!(matches!(Gguf::parse(&bytes), Err(GgufError::Bool { found: 2, .. })));
    let long = "x".repeat(65);
    let mut w = GgufWriter::new();
    w.tensor(&long, &[1], TensorType::F32, vec![0; 4]);
    assert!(matches!(Gguf::parse(&w.finish()), Err(GgufError::Limit { found: 65, limit: 64, .. })));
    for alignment in [0, 4, 48, 1 << 20] {
        let mut w = GgufWriter::new();
        w.u32("general.alignment", alignment);
        assert_eq!(Gguf::parse(&w.finish()), Err(GgufError::Alignment { found: alignment }));
    }
}

/// Where the entry of a file's only tensor `t` of two dimensions begins: after its name.
fn entry_of(bytes: &[u8]) -> usize {
    let name = [1u64.to_le_bytes().as_slice(), b"t"].concat();
    bytes.windows(9).position(|w| w == name).unwrap() + 9
}

#[test]
fn tensors_that_lie_are_refused() {
    let mut w = GgufWriter::new();
    w.tensor("t", &[32, 4], TensorType::Q8_0, vec![0; 136]);
    let good = w.finish();
    let at = entry_of(&good);
    let patched = |offset: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at + offset..][..bytes.len()].copy_from_slice(bytes);
        Gguf::parse(&file)
    };
    let dims = patched(0, &5u32.to_le_bytes());
    assert!(matches!(dims, Err(GgufError::Limit { found: 5, limit: 4, .. })), "{dims:?}");
    assert!(matches!(patched(4, &0u64.to_le_bytes()), Err(GgufError::TensorShape { .. })));
    assert!(matches!(
        patched(4, &33u64.to_le_bytes()),
        Err(GgufError::TensorBlock { columns: 33, block: 32, .. })
    ));
    assert!(matches!(patched(4, &u64::MAX.to_le_bytes()), Err(GgufError::TensorShape { .. })));
    assert!(matches!(patched(12, &(1u64 << 40).to_le_bytes()), Err(GgufError::TensorRange { .. })));
    assert!(matches!(patched(12, &5u64.to_le_bytes()), Err(GgufError::TensorRange { .. })));
    let kind = patched(20, &10u32.to_le_bytes()).unwrap_err();
    assert!(kind.to_string().contains("Q2_K; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_K"), "{kind}");
    // A type whose blocks are longer than the rows.
    let kind = patched(20, &12u32.to_le_bytes()).unwrap_err();
    assert!(
        kind.to_string().contains("is Q4_K with rows of 32 elements, expected a multiple of 256"),
        "{kind}"
    );
    let kind = patched(20, &99u32.to_le_bytes()).unwrap_err();
    assert!(kind.to_string().contains("number 99"), "{kind}");
    assert!(matches!(patched(24, &8u64.to_le_bytes()), Err(GgufError::TensorAlignment { .. })));
    assert!(matches!(patched(24, &(u64::MAX - 31).to_le_bytes()), Err(GgufError::TensorRange { .. })));
    assert!(matches!(patched(24, &32u64.to_le_bytes()), Err(GgufError::TensorRange { .. })));
}

#[test]
fn overlapping_tensors_are_refused() {
    let mut w = GgufWriter::new();
    w.tensor("t", &[8, 2], TensorType::F32, vec![0; 64]).tensor("u", &[1], TensorType::F32, vec![0; 4]);
    let mut bytes = w.finish();
    let name = [1u64.to_le_bytes().as_slice(), b"u"].concat();
    let at = bytes.windows(9).position(|w| w == name).unwrap() + 9 + 4 + 8 + 4;
    assert!(Gguf::parse(&bytes).is_ok());
    for offset in [0u64, 32] {
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        assert!(matches!(Gguf::parse(&bytes), Err(GgufError::TensorOverlap { .. })));
    }
}

/// What the fuzz target runs too: any bytes give a header or an error, and a header holds what it says.
fn parse_anything(bytes: &[u8]) {
    if let Ok(g) = Gguf::parse(bytes) {
        for t in g.tensors() {
            assert_eq!(read(bytes, t).len() as u64, t.size);
        }
    }
}

proptest! {
    #[test]
    fn every_cut_is_an_error(cut in 0usize..1200) {
        let good = sample().finish();
        let cut = cut % good.len();
        prop_assert!(Gguf::parse(&good[..cut]).is_err());
    }

    #[test]
    fn no_change_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = sample().finish();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        parse_anything(&bytes);
    }

    #[test]
    fn no_changed_word_panics(at in 8usize..1200, word in prop_oneof![any::<u64>(), Just(u64::MAX), 0u64..64]) {
        let mut bytes = sample().finish();
        let at = at % (bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        parse_anything(&bytes);
    }

    #[test]
    fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        parse_anything(&[b"GGUF\x03\0\0\0".as_slice(), &tail].concat());
    }
}
