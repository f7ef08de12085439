//! How many faults there are at a time, so that one may know whether what it saw was its own doing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts faults.
#[derive(Debug, Default)]
pub struct Company {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// Counted until it is dropped.
pub(super) struct Present<'run>(&'run Company);

/// What was there at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    begun: u32,
    ended: u32,
}

impl Company {
    /// One more, from now on.
    pub(super) fn join(&self) -> Present<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Present(self)
    }

    /// By one that is there itself.
    pub(super) fn look(&self) -> Look {
        // In this order one that ends meanwhile counts as there.
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        Look { begun, ended }
    }
}

impl Look {
    /// Nobody else was there at that moment or has come since.
    pub(super) fn is_alone(self, company: &Company) -> bool {
        self.begun == self.ended + 1 && company.look().begun == self.begun
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was there before or comes later is company; one that has left before is not.
    #[test]
    fn company_is_noticed() {
        let company = Company::default();
        drop(company.join());
        let own = company.join();
        let look = company.look();
        assert!(look.is_alone(&company));
        let other = company.join();
        assert!(!look.is_alone(&company), "it has come");
        assert!(!company.look().is_alone(&company), "it is there");
        drop(other);
        assert!(!look.is_alone(&company), "it was there");
        assert!(company.look().is_alone(&company));
        drop(own);
    }
}
