//! Ending with the parent: a child whose standard input closes has lost its parent, however that died.

use std::io::Read;

use tokio::sync::oneshot;

/// Resolves when standard input closes; where `wanted` is false, never. Reads on a thread of its own, which ends with the process.
pub async fn closed(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (closed, wait) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _closed = closed;
        let mut discarded = [0; 64];
        while matches!(std::io::stdin().read(&mut discarded), Ok(count) if count > 0) {}
    });
    let _ = wait.await;
}
