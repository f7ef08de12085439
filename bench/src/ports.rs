//! Free ports of loopback, below the range from which the kernel takes those of outgoing connections.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

const PORTS: std::ops::Range<u16> = 12_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

/// There is none.
#[derive(Debug, thiserror::Error)]
#[error("no {0} free ports of 127.0.0.1 among {PORTS:?} in {ATTEMPTS_MAX} attempts")]
pub struct NoPorts(usize);

/// So many, no two alike. They are free at this moment, and nobody's: what listens there must be started soon.
pub fn free(count: usize) -> Result<Vec<u16>, NoPorts> {
    let mut held = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        if held.len() == count {
            break;
        }
        let port = rand::rng().random_range(PORTS);
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|listener| (port, listener)));
    }
    if held.len() < count {
        return Err(NoPorts(count));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
