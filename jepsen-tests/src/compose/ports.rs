//! Free ports on loopback for what a run publishes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

/// Below the range from which the kernel picks ports of outgoing connections, so that none takes the port of a node that is down for a moment.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

/// So many different ports that nobody listens on; fewer where that many cannot be found.
pub fn free(count: usize) -> Vec<u16> {
    let mut found = BTreeSet::new();
    for _ in 0..ATTEMPTS_MAX {
        if found.len() == count {
            break;
        }
        let port = rand::rng().random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.insert(port);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::eventually;

    /// Different ones, each free. (A process that another test starts at this moment holds what was open when it was forked, until it is another program.)
    #[tokio::test]
    async fn ports_are_free_and_different() {
        let ports = free(4);
        let mut held = Vec::new();
        for port in &ports {
            let bound = eventually("a free port", Duration::from_secs(10), || {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
                std::future::ready(bound.map_err(|error| format!("{port}: {error}")))
            });
            held.push(bound.await.expect("it is free"));
        }
        assert_eq!(held.len(), 4, "{ports:?}");
    }
}
