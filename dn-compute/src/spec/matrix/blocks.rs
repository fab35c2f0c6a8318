//! How the columns of a row share scales.

use std::fmt;
use std::str::FromStr;

/// Columns that share one mantissa, from the start of each row; the last block of a row may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockLength {
    /// 16 columns.
    B16,
    /// 32 columns.
    B32,
    /// 128 columns.
    B128,
    /// All columns of a row.
    Row,
}

impl BlockLength {
    /// Every length.
    pub const ALL: [Self; 4] = [Self::B16, Self::B32, Self::B128, Self::Row];

    /// The number that canonical bytes and manifests carry: the columns, or 0 for a whole row.
    pub const fn code(self) -> u8 {
        match self {
            Self::B16 => 16,
            Self::B32 => 32,
            Self::B128 => 128,
            Self::Row => 0,
        }
    }

    /// The length with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            16 => Some(Self::B16),
            32 => Some(Self::B32),
            128 => Some(Self::B128),
            0 => Some(Self::Row),
            _ => None,
        }
    }

    /// Columns of a full block in a row of `cols`.
    pub const fn columns(self, cols: usize) -> usize {
        match self {
            Self::Row => cols,
            fixed => fixed.code() as usize,
        }
    }
}

impl fmt::Display for BlockLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::B16 => "16",
            Self::B32 => "32",
            Self::B128 => "128",
            Self::Row => "row",
        })
    }
}

/// A block length that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no block length `{found}`; there are 16, 32, 128 and row")]
pub struct ParseBlockLengthError {
    /// What was asked for.
    pub found: String,
}

impl FromStr for BlockLength {
    type Err = ParseBlockLengthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let same = |length: &Self| length.to_string() == text;
        Self::ALL.into_iter().find(same).ok_or_else(|| ParseBlockLengthError { found: text.to_owned() })
    }
}

/// The form of a matrix's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// Columns that share a mantissa.
    pub length: BlockLength,
    /// Whether every block also has a minimum.
    pub minima: bool,
}

impl Blocks {
    /// Blocks of a mantissa each.
    pub const fn plain(length: BlockLength) -> Self {
        Self { length, minima: false }
    }

    /// Blocks of a mantissa and a minimum each.
    pub const fn with_minima(length: BlockLength) -> Self {
        Self { length, minima: true }
    }

    /// Blocks of a row of `cols` columns.
    pub const fn count(self, cols: usize) -> usize {
        cols.div_ceil(self.length.columns(cols))
    }

    /// Canonical bytes of one row of `cols` columns.
    pub const fn row_bytes(self, cols: usize) -> usize {
        2 + self.count(cols) * if self.minima { 4 } else { 2 } + cols
    }

    /// The two bytes that begin the canonical bytes of a tile: the block length's number, and 1 with minima, else 0.
    pub const fn header(self) -> [u8; 2] {
        [self.length.code(), self.minima as u8]
    }

    /// The inverse of [`header`](Self::header).
    pub const fn from_header(header: [u8; 2]) -> Option<Self> {
        match (BlockLength::from_code(header[0]), header[1]) {
            (Some(length), minima @ (0 | 1)) => Some(Self { length, minima: minima == 1 }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_come_back() {
        for length in BlockLength::ALL {
            assert_eq!(length.to_string().parse(), Ok(length));
            assert_eq!(BlockLength::from_code(length.code()), Some(length));
            for blocks in [Blocks::plain(length), Blocks::with_minima(length)] {
                assert_eq!(Blocks::from_header(blocks.header()), Some(blocks));
            }
        }
        assert_eq!(BlockLength::from_code(64), None);
        assert_eq!(Blocks::from_header([32, 2]), None);
        assert!("64".parse::<BlockLength>().unwrap_err().to_string().contains("64"));
    }

    #[test]
    fn short_last_blocks_count() {
        let count = |length, cols| Blocks::plain(length).count(cols);
        assert_eq!(
            (count(BlockLength::B16, 33), count(BlockLength::B32, 33), count(BlockLength::B128, 33)),
            (3, 2, 1)
        );
        assert_eq!((count(BlockLength::Row, 1), count(BlockLength::Row, 32_768)), (1, 1));
        assert_eq!(Blocks::with_minima(BlockLength::B32).row_bytes(33), 2 + 4 * 2 + 33);
        assert_eq!(Blocks::plain(BlockLength::Row).row_bytes(33), 2 + 2 + 33);
    }
}
