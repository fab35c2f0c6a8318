//! Why there is no report.
use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;
use plotters::drawing::DrawingAreaErrorKind;

use crate::outcome::CellKey;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is nothing to report on.
    #[error("no runs: a report needs at least one")]
    NoRuns,
    /// Two runs have the same key, so that one of them would count twice.
    #[error(
        "two runs of policy {:?}, attack {:?}, level {:?}, seed {}: each may be there once",
        key.policy, key.attack, key.level, key.seed
    )]
    Repeated {
        /// Their key.
        key: CellKey,
    },
    /// A file could not be written, for example because the disk is full.
    #[error("{} could not be written; what was there before is unchanged", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A table could not be encoded.
    #[error("{} could not be encoded; what was there before is unchanged", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
    /// A picture could not be drawn.
    #[error("{name} could not be drawn")]
    Plot {
        /// The picture's file name.
        name: String,
        /// What the drawing library said.
        source: DrawingAreaErrorKind<io::Error>,
    },
}
