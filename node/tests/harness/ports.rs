//! Ports that stay a test's own from first to last, over kills and restarts of what listens there, whatever runs beside it.
//!
//! A port is taken by locking a file named after it: the lock ends with the test process. Ports stand below the range from which the kernel
//! picks ports of outgoing connections, so that none of those takes the port of a node that is down for a moment.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use rand::Rng;

use super::Network;

const PORTS: std::ops::Range<u16> = 12_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

/// A port of ours.
pub struct Port {
    pub number: u16,
    ip: Ipv4Addr,
    /// Where that address is; `None`: on this machine as it is.
    namespace: Option<String>,
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
                return Port {
                    number,
                    ip: Ipv4Addr::LOCALHOST,
                    namespace: None,
                    _lock: lock,
                };
            }
        }
        panic!("no free port among {PORTS:?} in {ATTEMPTS_MAX} attempts");
    }

    /// One at a node's place in a network.
    pub fn take_at(network: &Network, place: usize) -> Port {
        Port {
            ip: network.address(place),
            namespace: Some(network.namespace(place).to_owned()),
            ..Port::take()
        }
    }

    /// One at the test's own place in a network, where nodes in it reach what listens.
    pub fn take_beside(network: &Network) -> Port {
        Port {
            ip: network.own_address(),
            ..Port::take()
        }
    }

    /// `127.0.0.1:PORT`, or that of its network.
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.number)
    }

    /// The namespace to start in what listens here.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub fn is_loopback(&self) -> bool {
        self.ip.is_loopback()
    }
}

fn lock(number: u16) -> Option<File> {
    let directory: PathBuf = std::env::temp_dir().join("blox-test-ports");
    fs::create_dir_all(&directory).expect("the temporary directory can be written");
    let file = File::create(directory.join(number.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}
