//! How much a test does.

/// `reduced` in `make test`, `full` in `make soak` (which sets BLOX_SOAK).
pub fn count<T>(reduced: T, full: T) -> T {
    if soaks() { full } else { reduced }
}

/// Whether this is `make soak`.
pub fn soaks() -> bool {
    std::env::var_os("BLOX_SOAK").is_some_and(|value| !value.is_empty())
}
