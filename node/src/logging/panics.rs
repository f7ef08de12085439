//! A panic ends the process: a node with a part missing must not go on looking like a whole one.

use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

/// How long the last words may take: whoever should read them may be stuck.
const LAST_WORDS_MS_MAX: u64 = 1_000;

/// Makes every panic, on whatever thread, write its message and abort the process.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let words = format!("{panic}\n{}\n", std::backtrace::Backtrace::capture());
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = std::io::stderr().write_all(words.as_bytes());
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(Duration::from_millis(LAST_WORDS_MS_MAX));
        std::process::abort();
    }));
}
