//! Waiting for something to become true, with a deadline and a reason.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Ok`; past the deadline it panics with the last `Err`.
pub async fn eventually<T, F, A>(what: &str, deadline: Duration, mut ask: F) -> T
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(why) if started.elapsed() > deadline => panic!("{what}: not within {deadline:?}: {why}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
