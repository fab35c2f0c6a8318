use proptest::prelude::*;

use super::*;

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data, 7);
    out
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
"b":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]},"c":{"dtype":"I64","shape":[],"data_offsets":[34,42]}}   "#;

fn refused(header: &str, data: usize) -> SafetensorsError {
    Safetensors::parse(&file(header, data)).unwrap_err()
}

#[test]
fn a_header_says_where_its_tensors_are() {
    let good = file(GOOD, 42);
    let read = Safetensors::parse(&good).unwrap();
    assert_eq!(read.tensors().len(), 3);
    let b = read.tensor("b").unwrap();
    let end = good.len() as u64 - 42;
    assert_eq!((b.dtype, b.shape.as_slice(), b.start, b.size), (Dtype::Bf16, &[5][..], end + 24, 10));
    assert_eq!(read.tensor("c").unwrap().size, 8);
    assert!(read.tensor("__metadata__").is_none());
    for dtype in Dtype::ALL {
        assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
    }
    let empty = Safetensors::parse(&file("{}", 0)).unwrap();
    assert!(empty.tensors().is_empty());
}

#[test]
fn headers_that_lie_are_refused() {
    use SafetensorsError as E;
    assert!(matches!(Safetensors::parse(&[1, 2, 3]), Err(E::Short { file: 3 })));
    assert!(matches!(Safetensors::parse(&u64::MAX.to_le_bytes()), Err(E::HeaderSize { .. })));
    assert!(matches!(Safetensors::parse(&9u64.to_le_bytes()), Err(E::Truncated { needed: 9, left: 0 })));
    assert!(matches!(refused("[]", 0), E::Json(_)));
    assert!(matches!(
        refused(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4),
        E::Json(_)
    ));
    let one = |dtype: &str, shape: &str, offsets: &str, data| {
        refused(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
    };
    assert!(matches!(one("F32", "[1]", "[0,-4]", 4), E::Json(_)));
    assert!(matches!(one("Q9", "[1]", "[0,4]", 4), E::Dtype { .. }));
    assert!(matches!(one("F32", "[2]", "[0,4]", 4), E::Size { expected: 8, .. }));
    assert!(matches!(one("F32", "[1]", "[4,0]", 4), E::Size { .. }));
    assert!(matches!(one("F32", "[18446744073709551615,2]", "[0,4]", 4), E::Size { expected: u64::MAX, .. }));
    assert!(matches!(one("U8", "[18446744073709551615]", "[0,18446744073709551615]", 4), E::Range { .. }));
    assert!(matches!(one("F32", "[1]", "[4,8]", 4), E::Range { end: 8, .. }));
    assert!(matches!(one("F32", "[1]", "[4,8]", 8), E::Gap { found: 4, expected: 0, .. }));
    assert!(matches!(one("F32", "[1]", "[0,4]", 8), E::Rest { end: 4, data: 8 }));
    assert!(matches!(one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]", 4), E::Limit { found: 9, .. }));
    let two = |second: &str| {
        refused(&format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},{second}}}"#), 8)
    };
    let again = two(r#""a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#);
    assert!(matches!(again, E::Duplicate { name } if name == "a"));
    let overlap = two(r#""b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}"#);
    assert!(matches!(overlap, E::Gap { found: 3, expected: 4, .. }));
}

proptest! {
    #[test]
    fn no_change_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let good = file(GOOD, 42);
        prop_assert!(Safetensors::parse(&good[..cut.index(good.len())]).is_err());
        let mut bytes = good;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Safetensors::parse(&bytes) {
            for t in read.tensors() {
                prop_assert!(t.start + t.size <= bytes.len() as u64);
            }
        }
    }
}
