//! Sequences of launches that come again and again: a layer's, for each token. The device gets them once and repeats them.
//!
//! What is run is always what was asked for: a launch that differs from the recorded one is changed first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::driver::{Driver, Launch, Recording};
use crate::spec::DeviceFault;

/// Most sequences that are kept: more than a model has layers.
const MOST: usize = 1024;

/// Sequences by what they belong to.
#[derive(Debug, Default)]
pub(super) struct Graphs(Mutex<BTreeMap<u64, Kept>>);

#[derive(Debug)]
struct Kept {
    launches: Vec<Launch>,
    recording: Recording,
}

impl Graphs {
    /// Runs launches one after another; `key` says of which the next will be alike.
    pub(super) fn run(&self, driver: &dyn Driver, key: u64, launches: &[Launch]) -> Result<(), DeviceFault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.remove(&key);
        let kept = match kept {
            Some(kept) if kept.alike(launches) => kept.changed(driver, launches)?,
            other => {
                if let Some(other) = other {
                    driver.forget(other.recording);
                }
                if all.len() >= MOST {
                    forget(driver, &mut all);
                }
                Kept { launches: launches.to_vec(), recording: driver.record(launches)? }
            }
        };
        let recording = kept.recording;
        all.insert(key, kept);
        driver.repeat(recording)
    }

    /// Gives all of them up.
    pub(super) fn clear(&self, driver: &dyn Driver) {
        forget(driver, &mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn forget(driver: &dyn Driver, all: &mut BTreeMap<u64, Kept>) {
    std::mem::take(all).values().for_each(|kept| driver.forget(kept.recording));
}

impl Kept {
    /// Whether the same kernels run in the same order.
    fn alike(&self, launches: &[Launch]) -> bool {
        self.launches.iter().map(|launch| launch.kernel).eq(launches.iter().map(|launch| launch.kernel))
    }

    /// The same with these launches' grids and arguments.
    fn changed(mut self, driver: &dyn Driver, launches: &[Launch]) -> Result<Self, DeviceFault> {
        for (index, (own, new)) in self.launches.iter_mut().zip(launches).enumerate() {
            if own != new {
                if let Err(fault) = driver.change(self.recording, index, new) {
                    driver.forget(self.recording);
                    return Err(fault);
                }
                *own = *new;
            }
        }
        Ok(self)
    }
}
