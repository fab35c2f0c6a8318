//! The one canonical binary encoding of everything that is hashed or signed.
//!
//! # Format
//! - integers: fixed width, little-endian; `bool`: one byte, 0 or 1;
//! - `[u8; N]`, ids, addresses: their bytes;
//! - `Vec<T>`, `String`: a `u32` count, then the items (UTF-8 for text);
//! - `Option<T>`: 0, or 1 and the value;
//! - structs: their fields in order; enums: one tag byte, then the variant's fields.
//!
//! Every value has exactly one encoding. [`Canonical::from_bytes`] refuses trailing bytes, other tags, and any
//! count that the remaining bytes cannot hold *before* it allocates.

/// Why bytes are not the canonical encoding of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends at byte {at}: {needed} more bytes expected, {left} left")]
    UnexpectedEnd {
        /// Offset of the value.
        at: usize,
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the value.
    #[error("{count} bytes follow the value, which ends at byte {at}")]
    TrailingBytes {
        /// Where the value ends.
        at: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// A tag or boolean byte has no meaning.
    #[error("byte {at}: {found} is not a tag of {what}")]
    Tag {
        /// Offset of the byte.
        at: usize,
        /// The type that was being read.
        what: &'static str,
        /// The byte.
        found: u8,
    },
    /// A count is over the limit of its field or over what the input can hold.
    #[error("byte {at}: count {found} is over the limit of {limit}")]
    Count {
        /// Offset of the count.
        at: usize,
        /// The count.
        found: usize,
        /// The most that is accepted here.
        limit: usize,
    },
    /// Text that is not UTF-8.
    #[error("byte {at}: text is not UTF-8")]
    Utf8 {
        /// Offset of the text.
        at: usize,
    },
    /// A value that its type refuses, such as a high-s signature.
    #[error("byte {at}: {what}")]
    Invalid {
        /// Offset of the value.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A value with one canonical binary encoding.
pub trait Canonical: Sized {
    /// The fewest bytes an encoding of this type has: bounds what a count can promise.
    const MIN_LEN: usize;

    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one value.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not canonical.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The encoding as a vector.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::MIN_LEN);
        self.encode(&mut out);
        out
    }

    /// Decodes the whole input.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not canonical or more bytes follow.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let value = Self::decode(&mut r)?;
        r.finish()?;
        Ok(value)
    }

    /// Keccak-256 of the encoding.
    fn keccak(&self) -> [u8; 32] {
        crate::hash::keccak256(&[&self.to_bytes()])
    }
}

/// A position in bytes that are being decoded.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes not yet read.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`].
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if n > self.left() {
            return Err(DecodeError::UnexpectedEnd { at: self.at, needed: n, left: self.left() });
        }
        let out = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(out)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`].
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Reads a `u32` count of items of at least `min_len` bytes each, at most `limit` of them.
    ///
    /// # Errors
    /// [`DecodeError::Count`] before anything is allocated.
    pub fn count(&mut self, min_len: usize, limit: usize) -> Result<usize, DecodeError> {
        let at = self.at;
        let found = u32::decode(self)? as usize;
        let limit = limit.min(self.left() / min_len.max(1));
        if found > limit {
            return Err(DecodeError::Count { at, found, limit });
        }
        Ok(found)
    }

    /// Refuses bytes after the value.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { at: self.at, count }),
        }
    }
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Canonical for $t {
            const MIN_LEN: usize = size_of::<$t>();
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$t>::from_le_bytes(r.array()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

impl Canonical for bool {
    const MIN_LEN: usize = 1;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        match u8::decode(r)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::Tag { at, what: "bool", found }),
        }
    }
}

impl<const N: usize> Canonical for [u8; N] {
    const MIN_LEN: usize = N;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array()
    }
}

impl Canonical for String {
    const MIN_LEN: usize = 4;
    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.count(1, usize::MAX)?;
        let at = r.position();
        let text = std::str::from_utf8(r.take(n)?).map_err(|_| DecodeError::Utf8 { at })?;
        Ok(text.to_owned())
    }
}

impl<T: Canonical> Canonical for Vec<T> {
    const MIN_LEN: usize = 4;
    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.len(), out);
        for item in self {
            item.encode(out);
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.count(T::MIN_LEN, usize::MAX)?;
        // An item may be larger in memory than in bytes: grow with what is really read.
        let mut out = Self::with_capacity(n.min(4096));
        for _ in 0..n {
            out.push(T::decode(r)?);
        }
        Ok(out)
    }
}

impl<T: Canonical> Canonical for Option<T> {
    const MIN_LEN: usize = 1;
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::decode(r)? { T::decode(r).map(Some) } else { Ok(None) }
    }
}

/// As the value itself.
impl<T: Canonical> Canonical for Box<T> {
    const MIN_LEN: usize = T::MIN_LEN;
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(r).map(Self::new)
    }
}

impl<A: Canonical, B: Canonical> Canonical for (A, B) {
    const MIN_LEN: usize = A::MIN_LEN + B::MIN_LEN;
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(r)?, B::decode(r)?))
    }
}

/// Writes the `u32` count of a list.
///
/// # Panics
/// On 2^32 items or more, which no object of the protocol can hold.
pub fn encode_count(n: usize, out: &mut Vec<u8>) {
    u32::try_from(n).expect("a list has fewer than 2^32 items").encode(out);
}

/// Implements [`Canonical`] for a struct: the listed fields in order, which must be all of them.
#[macro_export]
macro_rules! canonical_struct {
    ($name:ident { $($field:ident : $ty:ty),+ $(,)? }) => {
        impl $crate::encoding::Canonical for $name {
            const MIN_LEN: usize = 0 $(+ <$ty as $crate::encoding::Canonical>::MIN_LEN)+;
            fn encode(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($crate::encoding::Canonical::encode($field, out);)+
            }
            fn decode(
                r: &mut $crate::encoding::Reader<'_>,
            ) -> Result<Self, $crate::encoding::DecodeError> {
                $(let $field = <$ty as $crate::encoding::Canonical>::decode(r)?;)+
                Ok(Self { $($field),+ })
            }
        }
    };
}

/// Implements [`Canonical`] for an enum: a tag byte, then the variant's fields.
///
/// ```
/// # use dn_core::{canonical_enum, encoding::Canonical};
/// #[derive(Debug, PartialEq)]
/// enum Shape { Dot, Circle { radius: u32 } }
/// canonical_enum!(Shape { 0 => Dot {}, 1 => Circle { radius: u32 } });
/// assert_eq!(Shape::Circle { radius: 2 }.to_bytes(), [1, 2, 0, 0, 0]);
/// assert_eq!(Shape::from_bytes(&[0]), Ok(Shape::Dot));
/// ```
#[macro_export]
macro_rules! canonical_enum {
    ($name:ident { $($tag:literal => $variant:ident { $($field:ident : $ty:ty),* $(,)? }),+ $(,)? }) => {
        impl $crate::encoding::Canonical for $name {
            const MIN_LEN: usize = 1;
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.push($tag);
                        $($crate::encoding::Canonical::encode($field, out);)*
                    })+
                }
            }
            fn decode(
                r: &mut $crate::encoding::Reader<'_>,
            ) -> Result<Self, $crate::encoding::DecodeError> {
                let at = r.position();
                match <u8 as $crate::encoding::Canonical>::decode(r)? {
                    $($tag => {
                        $(let $field = <$ty as $crate::encoding::Canonical>::decode(r)?;)*
                        Ok(Self::$variant { $($field),* })
                    })+
                    found => Err($crate::encoding::DecodeError::Tag { at, what: stringify!($name), found }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Pair {
        a: u16,
        b: Option<String>,
    }
    canonical_struct!(Pair { a: u16, b: Option<String> });

    #[test]
    fn structs_round_trip_and_refuse_every_truncation_and_trailing_byte() {
        let value = vec![Pair { a: 7, b: None }, Pair { a: 9, b: Some("é".into()) }];
        let bytes = value.to_bytes();
        assert_eq!(hex::encode(&bytes), "020000000700000900010200 0000c3a9".replace(' ', ""));
        assert_eq!(Vec::<Pair>::from_bytes(&bytes), Ok(value));
        for end in 0..bytes.len() {
            assert!(Vec::<Pair>::from_bytes(&bytes[..end]).is_err(), "truncated at {end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        let at = bytes.len();
        assert_eq!(Vec::<Pair>::from_bytes(&longer), Err(DecodeError::TrailingBytes { at, count: 1 }));
    }

    #[test]
    fn a_count_that_the_input_cannot_hold_is_refused_before_allocation() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(
            Vec::<u64>::from_bytes(&bytes),
            Err(DecodeError::Count { at: 0, found: u32::MAX as usize, limit: 0 })
        );
    }

    #[test]
    fn tags_are_strict() {
        assert_eq!(bool::from_bytes(&[2]), Err(DecodeError::Tag { at: 0, what: "bool", found: 2 }));
        assert_eq!(String::from_bytes(&[1, 0, 0, 0, 0xff]), Err(DecodeError::Utf8 { at: 4 }));
    }
}
