//! Crash points that hold one order back and leave the rest of the process alone: tests of what comes too late stop the process there.

use std::time::Duration;

use crate::executor::Executor;

impl Executor {
    /// Waits as many milliseconds as the crash point says (`1*return(4000)`); where none is set, as in every release, not at all.
    pub(super) async fn hold(&self, point: &'static str) {
        let Some(milliseconds) = held_ms(point) else { return };
        tracing::info!(point, milliseconds, "an order is held at a crash point");
        self.surroundings.timer.sleep(Duration::from_millis(milliseconds)).await;
        tracing::info!(point, "an order goes on from a crash point");
    }
}

fn held_ms(point: &'static str) -> Option<u64> {
    // Without crash points nothing else names it.
    let _ = point;
    fail::fail_point!(point, |milliseconds| milliseconds?.parse().ok());
    None
}
