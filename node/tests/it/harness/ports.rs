//! Ports that stay a test's own from first to last, over kills and restarts of what listens there, whatever runs beside it.
//!
//! A port is taken by locking a file named after it: the lock ends with the test process. Ports stand below the range from which the kernel
//! picks ports of outgoing connections, so that none of those takes the port of a node that is down for a moment.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use rand::Rng;

const PORTS: std::ops::Range<u16> = 12_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

/// A port of ours.
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free one.
    pub fn take() -> Port {
        for _ in 0..ATTEMPTS_MAX {
            let number = rand::rng().random_range(PORTS);
            if let Some(lock) = lock(number)
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port among {PORTS:?} in {ATTEMPTS_MAX} attempts");
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn lock(number: u16) -> Option<File> {
    let directory: PathBuf = std::env::temp_dir().join("blox-test-ports");
    fs::create_dir_all(&directory).expect("the temporary directory can be written");
    let file = File::create(directory.join(number.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}
