//! A relay for the packets that a container sends to some of its peers: it holds them for a while, lets some overtake others, sends some twice. What
//! `netem` does where the kernel has it.
//!
//! `jepsen-tests relay`, which people need not know of, runs in the network namespace of the container ([`Process`] starts it there) with a TUN device,
//! to which [`route`] leads the packets. It reads them whole, holds them as [`schedule`] says, and sends them by a raw socket past its own rule, from
//! where they go as they would have gone. The kernel has cut and summed them before they come to the device, as that offers nothing else.
//!
//! It says `{"ready":true}` when packets come to it. A line `tell` on its input has it say its [`Counters`], `probe N` sends so many datagrams of its own
//! to each peer. When its input ends, or on SIGTERM, it takes itself out of the way, sends what it holds, and says its counters with `"end":true`. Device
//! and routes go with it, however it ends; a rule that leads nowhere may stay.

mod counters;
mod process;
mod route;
mod schedule;
mod shape;

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tun::Tun;

pub use counters::{Counters, Delays};
pub use process::{Process, ProcessError};
pub use route::SLOTS;
pub use schedule::{BYTES_MAX, Leaving, PACKETS_MAX, Schedule};
pub use shape::Shape;

use crate::clock::Clock;
use crate::command::CommandError;

/// The longest IP packet, bytes.
const PACKET_BYTES_MAX: usize = 65_535;
/// So many packets are read before those that are due leave.
const BATCH_PACKETS_MAX: usize = 256;
/// What the kernel keeps of what leaves, bytes.
const SENT_BYTES_MAX: usize = 4 << 20;
/// Lines of our input that wait to be read.
const WORDS_MAX: usize = 16;
/// So many datagrams are sent to a peer at once.
const PROBES_MAX: u32 = 100;
/// Nobody listens there.
const PROBED: u16 = 9;
/// IP headers are given with what is sent.
const IPPROTO_RAW: i32 = 255;

/// What a relay is to do.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Order {
    /// Packets to this address come to it; several may be given.
    #[arg(long = "peer", required = true)]
    pub peers: Vec<Ipv4Addr>,
    /// Its place among several in one namespace.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..i64::from(SLOTS)))]
    pub slot: u8,
    /// Of its choices.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What becomes of packets.
    #[command(flatten)]
    pub shape: Shape,
}

impl Order {
    /// As the command line has it.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self
            .peers
            .iter()
            .flat_map(|peer| ["--peer".to_owned(), peer.to_string()])
            .collect();
        words.extend(["--slot".to_owned(), self.slot.to_string()]);
        words.extend(["--seed".to_owned(), self.seed.to_string()]);
        words.extend(self.shape.words());
        words
    }
}

/// It cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// `ip` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What `ip` says of a peer.
    #[error("there is no way to {to}: {said}")]
    NoWay {
        /// The peer.
        to: Ipv4Addr,
        /// Instead.
        said: String,
    },
    /// No device, without the right to one or without its driver.
    #[error("cannot make the TUN device {name}: {source}")]
    Device {
        /// Its name.
        name: String,
        /// Why.
        source: tokio_tun::Error,
    },
    /// The device, the socket, or signals.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> RelayError {
    move |source| RelayError::Io { what, source }
}

/// Where packets leave.
struct Exit {
    socket: Socket,
    sent: u64,
    sent_bytes: u64,
    unsent: u64,
}

impl Exit {
    fn open(slot: u8) -> std::io::Result<Exit> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        socket.set_header_included_v4(true)?;
        socket.set_mark(route::marks(slot))?;
        socket.set_send_buffer_size(SENT_BYTES_MAX)?;
        socket.set_nonblocking(true)?;
        Ok(Exit {
            socket,
            sent: 0,
            sent_bytes: 0,
            unsent: 0,
        })
    }

    fn send(&mut self, packet: &Leaving) {
        let to = SockAddr::from(SocketAddr::from((packet.to, 0)));
        match self.socket.send_to(&packet.bytes, &to) {
            Ok(_) => {
                self.sent += 1;
                self.sent_bytes += packet.bytes.len() as u64;
            }
            // As on any way: whoever needs it sends it again.
            Err(_) => self.unsent += 1,
        }
    }
}

/// A line of our input.
enum Word {
    Tell,
    Probe(u32),
}

/// One relay in its place.
struct Relay {
    order: Order,
    tun: Tun,
    clock: Clock,
    schedule: Schedule,
    exit: Exit,
}

/// Runs a relay in the network namespace of this process until its input ends or it is told to end by a signal.
pub async fn run(order: Order) -> Result<(), RelayError> {
    let mut stops = [SignalKind::terminate(), SignalKind::interrupt()]
        .map(|kind| signal(kind).map_err(io("listen for signals")))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let routes = route::Routes::find(order.slot, &order.peers).await?;
    let name = route::device(order.slot);
    let device = |source| RelayError::Device {
        name: name.clone(),
        source,
    };
    let built = Tun::builder().name(&name).mtu(routes.mtu_bytes).up().build();
    let tun = built.map_err(device)?.pop().ok_or(RelayError::Io {
        what: "make a device",
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let mut relay = Relay {
        schedule: Schedule::new(order.shape, order.seed),
        exit: Exit::open(order.slot).map_err(io("open a raw socket"))?,
        clock: Clock::start(),
        order,
        tun,
    };
    routes.enter().await?;
    say(&json!({"ready": true}));
    let words = listen();
    let stopped = async {
        let all = stops.iter_mut().map(|stop| Box::pin(stop.recv()));
        futures::future::select_all(all).await;
    };
    let passed = tokio::select! {
        passed = relay.pass(words) => passed,
        () = stopped => Ok(()),
    };
    let left = routes.leave().await;
    relay.read_all();
    for packet in relay.schedule.give_up() {
        relay.exit.send(&packet);
    }
    let mut last = relay.counters().to_json();
    last["end"] = json!(true);
    say(&last);
    passed?;
    left
}

impl Relay {
    /// Takes packets and lets them go, and does what it is told, until there is nobody to tell it anything.
    async fn pass(&mut self, mut words: mpsc::Receiver<Word>) -> Result<(), RelayError> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let due = self.schedule.due_ns();
            let wait = due.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.clock.now_ns())));
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Tell) => say(&self.counters().to_json()),
                    Some(Word::Probe(count)) => self.probe(count),
                    None => return Ok(()),
                },
                read = self.tun.recv(&mut buffer) => {
                    let bytes = read.map_err(io("read from the device"))?;
                    self.take(&buffer[..bytes]);
                    self.read_more(&mut buffer, BATCH_PACKETS_MAX);
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            while let Some(packet) = self.schedule.leave(self.clock.now_ns()) {
                self.exit.send(&packet);
            }
        }
    }

    fn take(&mut self, packet: &[u8]) {
        // The kernel talks IPv6 to every device: that is nobody's packet.
        let to = destination(packet).filter(|to| self.order.peers.contains(to));
        if let Some(to) = to {
            self.schedule.arrive(self.clock.now_ns(), to, packet);
        }
    }

    /// What is there without waiting, and not more than so many; how many it was.
    fn read_more(&mut self, buffer: &mut [u8], at_most: usize) -> usize {
        for count in 0..at_most {
            // An error is told by who waits for the next one.
            let Ok(bytes) = self.tun.try_recv(buffer) else {
                return count;
            };
            self.take(&buffer[..bytes]);
        }
        at_most
    }

    /// Whatever came before the way led past us.
    fn read_all(&mut self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while self.read_more(&mut buffer, BATCH_PACKETS_MAX) > 0 {}
    }

    /// Datagrams of our own, which take the way of all others: where nobody talks at the moment there is something to hold.
    fn probe(&self, count: u32) {
        let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else {
            return;
        };
        for peer in &self.order.peers {
            for _ in 0..count.min(PROBES_MAX) {
                // It says nothing to anybody, lost or not.
                let _ = socket.send_to(b"\n", (*peer, PROBED));
            }
        }
    }

    fn counters(&self) -> Counters {
        let devices = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
        Counters {
            sent: self.exit.sent,
            sent_bytes: self.exit.sent_bytes,
            unsent: self.exit.unsent,
            unread: route::unread(&devices, &route::device(self.order.slot)),
            ..self.schedule.counters()
        }
    }
}

/// To whom an IPv4 packet goes; `None` of any other.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (packet[0] >> 4 == 4).then_some(Ipv4Addr::from(address))
}

/// Whoever started us may be gone: then nobody reads it.
fn say(said: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{said}").and_then(|()| out.flush());
}

/// Reads our input on a thread of its own, which nobody waits for when we end.
fn listen() -> mpsc::Receiver<Word> {
    let (sender, receiver) = mpsc::channel(WORDS_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let word = match line.split_once(' ') {
                None if line == "tell" => Word::Tell,
                Some(("probe", count)) => Word::Probe(count.parse().unwrap_or(1)),
                _ => continue,
            };
            if sender.blocking_send(word).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// An order is understood as it is given.
    #[test]
    fn orders_are_read_as_they_are_said() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            order: Order,
        }
        let order = Order {
            peers: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)],
            slot: 2,
            seed: 7,
            shape: Shape {
                least_ms: 1,
                most_ms: 2,
                late_percent: 3,
                late_ms: 4,
                twice_percent: 5,
                lost_percent: 6,
            },
        };
        let words = ["relay".to_owned()].into_iter().chain(order.words());
        let line = Line::try_parse_from(words).expect("understood");
        assert_eq!(line.order, order);
        assert!(Line::try_parse_from(["relay", "--peer", "10.0.0.2", "--slot", "8"]).is_err());
        assert!(Line::try_parse_from(["relay"]).is_err(), "to nobody");
    }

    /// IPv4 packets have somebody to go to; IPv6 and fragments of headers have not.
    #[test]
    fn destinations_are_read() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[172, 18, 0, 3]);
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(172, 18, 0, 3)));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None);
        assert_eq!(destination(&[]), None);
    }
}
