//! What the program takes from the machine it runs on, passed in so that tests can hold it: the time and randomness.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;
}

/// Gives unpredictable bytes.
pub trait SecureRandom: Send + Sync {
    /// Fills the buffer with bytes nobody can foresee.
    fn fill(&self, bytes: &mut [u8]);
}

/// Clock and entropy together, as handed from `main` downwards.
#[derive(Clone)]
pub struct System {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Unpredictable bytes.
    pub entropy: Arc<dyn SecureRandom>,
}

impl System {
    /// The present moment, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An array of unpredictable bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}
