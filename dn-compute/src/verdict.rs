//! What is known of a device from an earlier start: whether it computes rightly, and how fast.
//!
//! A verdict is about a device, its driver and this program's code for it ([`Subject`]); with any of them changed it is no verdict.
//! One file for each device, so that a newer verdict takes an older one's place. A file that is not whole, or about
//! something else, counts as none: then the device is compared again.

use std::path::{Path, PathBuf};

use crate::cached;
use crate::conformance::{Mismatch, Report};

/// Most bytes of a file.
const MOST_BYTES: u64 = 4096;
/// Most bytes of what is told of a difference.
const MOST_TEXT: usize = 2048;

/// What a verdict is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) backend: &'static str,
    pub(crate) device: String,
    pub(crate) driver: String,
    /// What runs on it: the program's own code, and the compiler's version where it is not part of the program.
    pub(crate) code: String,
}

/// The code of this program for devices, and what it is compared with: another after every change.
pub(crate) const CODE: &str = env!("DN_DEVICE_CODE");

/// Whether a device has the reference's bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// Nobody has compared it.
    #[default]
    Unknown,
    /// It had.
    Right,
    /// It had not: what differed.
    Wrong(String),
}

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// Weights multiplied in a second.
    pub(crate) weights_per_s: Option<u64>,
}

/// Why a device is not used. Each message names it and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It computes other bits than the reference.
    #[error(
        "`{device}` ({driver}) computes wrongly and is not used ({source}); update its driver, or use the cpu backend"
    )]
    Differs {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The first difference.
        source: Box<Mismatch>,
    },
    /// It computed other bits than the reference when it was compared, earlier and with this driver.
    #[error(
        "`{device}` ({driver}) computed wrongly when it was compared and is not used ({difference}); update its driver, or use \
         the cpu backend; `dn backends` compares it again"
    )]
    Known {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What differed.
        difference: String,
    },
    /// It failed while it was compared with the reference: of its bits nothing is known.
    #[error("`{device}` ({driver}) could not be compared with the reference: {source}")]
    Failed {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// How it failed.
        source: Box<Mismatch>,
    },
}

impl Refusal {
    /// Of a device that was compared just now. Full memory or a lost device say nothing about its bits, then or now.
    pub(crate) fn new(subject: &Subject, found: Mismatch) -> Self {
        let (device, driver, source) = (subject.device.clone(), subject.driver.clone(), Box::new(found));
        match source.is_failure() {
            true => Self::Failed { device, driver, source },
            false => Self::Differs { device, driver, source },
        }
    }
}

impl Subject {
    /// All of it in one number.
    fn digest(&self) -> String {
        hash(&[self.backend, &self.device, &self.driver, &self.code])
    }

    /// The file of a device, whatever its driver.
    /// Whether its driver says which one it is: of one that does not, nothing is kept, since an update would go unseen.
    fn tells_its_version(&self) -> bool {
        self.driver.contains(char::is_alphanumeric)
    }

    fn place(&self, dir: &Path) -> PathBuf {
        let name = hash(&[self.backend, &self.device]);
        dir.join(format!("verdict-{}.bin", &name[..32]))
    }
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

impl Verdict {
    /// What is kept, or that nothing is known.
    pub(crate) fn read(dir: Option<&Path>, subject: &Subject) -> Self {
        let dir = dir.filter(|_| subject.tells_its_version());
        let content = dir.and_then(|dir| cached::read(&subject.place(dir), MOST_BYTES));
        content.and_then(|content| Self::parse(&content, subject)).unwrap_or_default()
    }

    /// Keeps it. What cannot be kept costs time at the next start, and nothing else.
    pub(crate) fn write(&self, dir: Option<&Path>, subject: &Subject) {
        if let Some(dir) = dir.filter(|_| subject.tells_its_version()) {
            let _ = cached::write(&subject.place(dir), self.text(subject).as_bytes());
        }
    }

    fn text(&self, subject: &Subject) -> String {
        let (word, difference) = match &self.outcome {
            Outcome::Unknown => ("unknown", ""),
            Outcome::Right => ("right", ""),
            Outcome::Wrong(difference) => ("wrong", difference.as_str()),
        };
        let rate = self.weights_per_s.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
        let whole = difference.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MOST_TEXT);
        let difference: String = whole.map(|(_, c)| c).collect();
        format!("{}\n{word}\n{rate}\n{difference}", subject.digest())
    }

    fn parse(content: &[u8], subject: &Subject) -> Option<Self> {
        let mut lines = std::str::from_utf8(content).ok()?.splitn(4, '\n');
        (lines.next()? == subject.digest()).then_some(())?;
        let (word, rate, difference) = (lines.next()?, lines.next()?, lines.next()?);
        let outcome = match word {
            "unknown" => Outcome::Unknown,
            "right" => Outcome::Right,
            "wrong" => Outcome::Wrong(difference.to_owned()),
            _ => return None,
        };
        let weights_per_s = match rate {
            "-" => None,
            rate => Some(rate.parse().ok()?),
        };
        Some(Self { outcome, weights_per_s })
    }
}

/// Says whether a device is right: what is kept says it, or `compare` does, which then is kept. With `anew` it always does.
pub(crate) fn judge(
    dir: Option<&Path>,
    subject: &Subject,
    anew: bool,
    compare: impl FnOnce() -> Result<Report, Mismatch>,
) -> Result<(), Refusal> {
    let known = Verdict::read(dir, subject);
    match known.outcome {
        Outcome::Right if !anew => return Ok(()),
        Outcome::Wrong(difference) if !anew => {
            let (device, driver) = (subject.device.clone(), subject.driver.clone());
            return Err(Refusal::Known { device, driver, difference });
        }
        _ => {}
    }
    let result = compare().map(|_| ()).map_err(|found| Refusal::new(subject, found));
    let outcome = match &result {
        Ok(()) => Outcome::Right,
        Err(Refusal::Differs { source, .. }) => Outcome::Wrong(source.to_string()),
        Err(_) => Outcome::Unknown,
    };
    // What was measured meanwhile stays.
    let now = Verdict::read(dir, subject);
    Verdict { outcome, ..now }.write(dir, subject);
    result
}

#[cfg(test)]
mod tests;
