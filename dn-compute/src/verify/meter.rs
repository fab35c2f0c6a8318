//! Counts of the referee's work, in tests: what its time is proportional to, on any machine.

/// Work that was done.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// Bytes that went through BLAKE3 or Keccak.
    pub(crate) hashed: usize,
    /// Values that were read, multiplied, quantised or compared.
    pub(crate) steps: usize,
}

#[cfg(test)]
thread_local! {
    static WORK: std::cell::Cell<Work> = const { std::cell::Cell::new(Work { hashed: 0, steps: 0 }) };
}

/// Takes what was counted on this thread since the last call.
#[cfg(test)]
pub(crate) fn take() -> Work {
    WORK.take()
}

/// Counts bytes that are hashed.
#[cfg(test)]
pub(crate) fn hashed(bytes: usize) {
    WORK.with(|work| work.set(Work { hashed: work.get().hashed + bytes, ..work.get() }));
}

/// Counts bytes that are hashed.
#[cfg(not(test))]
pub(crate) const fn hashed(_: usize) {}

/// Counts values that are worked on.
#[cfg(test)]
pub(crate) fn steps(values: usize) {
    WORK.with(|work| work.set(Work { steps: work.get().steps + values, ..work.get() }));
}

/// Counts values that are worked on.
#[cfg(not(test))]
pub(crate) const fn steps(_: usize) {}
