//! Whether the engine's network still runs.
//!
//! It ends by itself when it cannot listen, or after a fault of the engine's log, and nothing else of the engine ends with it: the node would be alone
//! for good and look healthy.

/// Looks in a row, a second apart, at which the engine's network is not there, until it counts as ended.
const MAX_SILENCE: u32 = 5;

/// For how long it was not there.
#[derive(Debug, Default)]
pub(super) struct Silence {
    looks: u32,
    heard: bool,
}

impl Silence {
    /// Notes a look: what the network says of itself. Nothing, or nobody who could answer, is its end; an answer that is only late is not.
    pub(super) fn note<T, E, L>(&mut self, look: Result<Result<Option<T>, E>, L>) -> Option<T> {
        match look {
            Ok(Ok(Some(answer))) => {
                *self = Self { looks: 0, heard: true };
                return Some(answer);
            }
            Ok(Ok(None) | Err(_)) => self.looks += 1,
            Err(_) => {}
        }
        None
    }

    /// Whether the network ever answered.
    pub(super) const fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether the network has ended.
    pub(super) const fn is_over(&self) -> bool {
        self.looks >= MAX_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Look = Result<Result<Option<u8>, ()>, ()>;

    #[test]
    fn a_network_that_is_not_there_has_ended_and_a_late_one_has_not() {
        let (answer, late): (Look, Look) = (Ok(Ok(Some(7))), Err(()));
        for gone in [Ok(Ok(None)), Ok(Err(()))] {
            let mut silence = Silence::default();
            for look in 1..MAX_SILENCE {
                assert_eq!(silence.note::<u8, (), ()>(gone), None);
                assert!(!silence.is_over(), "after {look}");
            }
            assert_eq!(silence.note(late), None);
            assert!(!silence.is_over() && !silence.was_heard(), "it may only be slow");
            assert_eq!(silence.note(answer), Some(7));
            assert!(silence.was_heard());
            for _ in 0..MAX_SILENCE {
                assert!(!silence.is_over());
                assert_eq!(silence.note(gone), None);
            }
            assert!(silence.is_over());
        }
    }
}
