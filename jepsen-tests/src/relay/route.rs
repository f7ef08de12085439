//! How packets come to a relay and pass it by on their way out, in the network namespace that it runs in.
//!
//! A table of routes of the relay's own leads to its device, and a rule has it asked for every packet that does not carry the relay's mark. What the relay
//! sends carries it, and the marks of all slots before it: several relays pass packets on to each other in the order of their slots, and each may come
//! and go without the others.

use std::net::Ipv4Addr;

use super::RelayError;
use crate::command;

/// So many relays may stand in one namespace.
pub const SLOTS: u8 = 8;
/// Tables and rules have numbers from here on.
const FIRST: u32 = 7_000;
/// The mark of slot 0; those of the others are the bits above it.
const MARK: u32 = 1 << 20;
/// Packets that the kernel keeps until the relay reads them.
const UNREAD_PACKETS_MAX: u32 = 10_000;

/// The device of a slot.
pub fn device(slot: u8) -> String {
    format!("blox-relay-{slot}")
}

/// The marks that a packet carries which was sent from a slot: its own and those of all before it.
pub fn marks(slot: u8) -> u32 {
    (MARK << (slot + 1)) - MARK
}

fn number(slot: u8) -> u32 {
    FIRST + u32::from(slot)
}

/// The way to a peer without any relay.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    to: Ipv4Addr,
    device: String,
    from: Ipv4Addr,
}

/// The ways of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    slot: u8,
    ways: Vec<Way>,
    /// The longest packet of all ways, bytes.
    pub mtu_bytes: i32,
}

impl Routes {
    /// Asks the kernel for the ways to these peers.
    pub async fn find(slot: u8, peers: &[Ipv4Addr]) -> Result<Routes, RelayError> {
        let all_marks = marks(SLOTS - 1).to_string();
        let mut ways = Vec::new();
        let mut mtu_bytes = i32::MAX;
        for to in peers {
            let address = to.to_string();
            let said = command::run("ip", &["-o", "route", "get", &address, "mark", &all_marks], &[]).await?;
            let way = way(*to, &said).ok_or(RelayError::NoWay { to: *to, said })?;
            let said = command::run("ip", &["-o", "link", "show", "dev", &way.device], &[]).await?;
            let mtu = word_after(&said, "mtu").and_then(|word| word.parse().ok());
            mtu_bytes = mtu_bytes.min(mtu.ok_or(RelayError::NoWay { to: *to, said })?);
            ways.push(way);
        }
        Ok(Routes { slot, ways, mtu_bytes })
    }

    /// From here on packets to the peers come to the device of the slot, which is there already.
    pub async fn enter(&self) -> Result<(), RelayError> {
        command::run("sh", &["-c", &self.enter_script()], &[]).await?;
        Ok(())
    }

    /// From here on they do not.
    pub async fn leave(&self) -> Result<(), RelayError> {
        command::run("sh", &["-c", &self.leave_script()], &[]).await?;
        Ok(())
    }

    fn enter_script(&self) -> String {
        let (device, number, mark) = (device(self.slot), number(self.slot), MARK << self.slot);
        let mut lines = vec!["set -e".to_owned()];
        // Answers come another way than packets go: what is strict about that would drop them.
        let mut devices: Vec<&str> = self.ways.iter().map(|way| &*way.device).collect();
        devices.sort_unstable();
        devices.dedup();
        for one in ["all"].into_iter().chain(devices) {
            let file = format!("/proc/sys/net/ipv4/conf/{one}/rp_filter");
            lines.push(format!("if [ \"$(cat {file})\" = 1 ]; then echo 2 > {file}; fi"));
        }
        lines.push(format!("ip link set {device} txqueuelen {UNREAD_PACKETS_MAX}"));
        lines.push(format!("ip route flush table {number} 2>/dev/null || true"));
        for way in &self.ways {
            lines.push(format!(
                "ip route add {}/32 dev {device} src {} table {number}",
                way.to, way.from
            ));
        }
        // What another one may have left, that was killed.
        lines.push(format!(
            "while ip rule del priority {number} 2>/dev/null; do true; done"
        ));
        // Entered last: all its routes hold from one moment on.
        lines.push(format!(
            "ip rule add priority {number} not fwmark {mark}/{mark} lookup {number}"
        ));
        lines.join("\n")
    }

    fn leave_script(&self) -> String {
        let number = number(self.slot);
        format!("ip rule del priority {number}\nip route flush table {number}")
    }
}

/// Reads `10.0.0.3 dev eth0 src 10.0.0.2 ...`, perhaps with a gateway.
fn way(to: Ipv4Addr, said: &str) -> Option<Way> {
    Some(Way {
        to,
        device: word_after(said, "dev")?.to_owned(),
        from: word_after(said, "src")?.parse().ok()?,
    })
}

fn word_after<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut words = said.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()
}

/// Packets that a device dropped because nobody had read them: of `/proc/net/dev`, the fourth of the columns of what was sent.
pub fn unread(devices: &str, device: &str) -> u64 {
    let line = devices.lines().find_map(|line| {
        let (name, columns) = line.split_once(':')?;
        (name.trim() == device).then_some(columns)
    });
    let column = line.and_then(|columns| columns.split_whitespace().nth(11));
    column.and_then(|column| column.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    /// What `ip` says is read, with a gateway or without; what is no way is none.
    #[test]
    fn ways_are_read() {
        let near = way(TO, "10.0.0.3 dev eth0 src 10.0.0.2 uid 0 \\    cache").expect("a way");
        assert_eq!((&*near.device, near.from), ("eth0", Ipv4Addr::new(10, 0, 0, 2)));
        let far = way(TO, "10.0.0.3 via 10.1.0.1 dev eth1 src 10.1.0.2 mark 0xff").expect("a way");
        assert_eq!(far.device, "eth1");
        assert_eq!(way(TO, "unreachable 10.0.0.3"), None);
        let link = "2: eth0@if7: <BROADCAST,UP> mtu 1450 qdisc noqueue";
        assert_eq!(word_after(link, "mtu"), Some("1450"));
    }

    /// A packet from a slot is not asked for there or before, and is asked for by all that follow.
    #[test]
    fn marks_lead_on() {
        for slot in 0..SLOTS {
            for other in 0..SLOTS {
                let passes_by = marks(slot) & (MARK << other) != 0;
                assert_eq!(passes_by, other <= slot, "from {slot} at {other}");
            }
        }
    }

    /// All routes stand before the rule that leads to them.
    #[test]
    fn routes_stand_before_they_are_entered() {
        let near = |last| Way {
            to: Ipv4Addr::new(10, 0, 0, last),
            device: "eth0".to_owned(),
            from: Ipv4Addr::new(10, 0, 0, 2),
        };
        let routes = Routes {
            slot: 1,
            ways: vec![near(3), near(4)],
            mtu_bytes: 1_500,
        };
        let script = routes.enter_script();
        let rule = script
            .find("ip rule add priority 7001 not fwmark 2097152/2097152 lookup 7001")
            .expect("entered");
        for last in [3, 4] {
            let route = format!("ip route add 10.0.0.{last}/32 dev blox-relay-1 src 10.0.0.2 table 7001");
            assert!(script.find(&route).is_some_and(|at| at < rule), "{script}");
        }
        assert_eq!(script.matches("conf/eth0/rp_filter").count(), 2, "{script}");
    }

    /// The column of the device that is asked for.
    #[test]
    fn unread_packets_are_counted() {
        let devices = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
            blox-relay-0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 0 0 0 0 0 0 0 0 0 0 0 99 0 0 0 0\n";
        assert_eq!(unread(devices, "blox-relay-0"), 12);
        assert_eq!(unread(devices, "blox-relay-1"), 0);
    }
}
