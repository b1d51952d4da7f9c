//! Clock and randomness of the machine, injected so that tests can control them.

use std::sync::Arc;

use jiff::Timestamp;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// Returns the current time (UTC).
    fn now(&self) -> Timestamp;
}

/// A source of unpredictable bytes.
pub trait SecureRandom: Send + Sync {
    /// Fills the buffer with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Clock and entropy together, passed down from `main`.
#[derive(Clone)]
pub struct System {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of unpredictable bytes.
    pub entropy: Arc<dyn SecureRandom>,
}

impl System {
    /// Returns the current time (UTC).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns an array of unpredictable bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}
