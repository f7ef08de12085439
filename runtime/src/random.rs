//! Random numbers that decide nothing but how long to wait, and what a thing is called. In a simulation they follow from its seed.

#[cfg(not(feature = "simulation"))]
use std::ops::RangeInclusive;

/// A random number of that range.
#[cfg(not(feature = "simulation"))]
pub fn between(range: RangeInclusive<u64>) -> u64 {
    rand::random_range(range)
}

/// A name nobody else draws: a random UUID.
#[cfg(not(feature = "simulation"))]
pub fn id() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

#[cfg(feature = "simulation")]
pub use seeded::{between, id, seed};

#[cfg(feature = "simulation")]
mod seeded {
    use std::cell::RefCell;
    use std::ops::RangeInclusive;

    use rand::{Rng, RngCore, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    thread_local! {
        static RANDOM: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0));
    }

    /// Begins anew from that seed.
    pub fn seed(seed: u64) {
        RANDOM.with(|random| *random.borrow_mut() = ChaCha8Rng::seed_from_u64(seed));
    }

    /// A random number of that range.
    pub fn between(range: RangeInclusive<u64>) -> u64 {
        RANDOM.with(|random| random.borrow_mut().random_range(range))
    }

    /// A name nobody else draws.
    pub fn id() -> uuid::Uuid {
        let mut bytes = [0; 16];
        RANDOM.with(|random| random.borrow_mut().fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
