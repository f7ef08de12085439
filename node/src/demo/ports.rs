//! Ports of the demo: those of the documentation where they are free, else what the operating system gives.

use std::net::{Ipv4Addr, TcpListener};

/// Ports taken at the same moment, so that no two get the same.
#[derive(Default)]
pub struct Ports {
    held: Vec<TcpListener>,
    /// Wanted ports that were taken by others.
    pub taken: Vec<u16>,
}

impl Ports {
    /// The wanted port, or a free one. It stays held until the whole is dropped, just before the children start.
    pub fn choose(&mut self, wanted: u16) -> std::io::Result<u16> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
            Ok(listener) => listener,
            Err(_) => {
                self.taken.push(wanted);
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            }
        };
        let port = listener.local_addr()?.port();
        self.held.push(listener);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that is taken is replaced by another and remembered.
    #[test]
    fn a_taken_port_is_replaced() {
        let mut ports = Ports::default();
        let first = ports.choose(0).expect("the system has a port");
        let second = ports.choose(first).expect("the system has another");
        assert_ne!(first, second);
        assert_eq!(ports.taken, [first]);
    }
}
