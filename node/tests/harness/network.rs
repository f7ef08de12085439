//! A network of our own for a cluster's nodes, whose links can be cut: a namespace for each node, a bridge between them, a link to the test.
//!
//! The bridge stands in a namespace too, so that no rule of the machine's own firewall touches what passes over it. Everything is named
//! after a number that is the test process' own for as long as it lives (a locked file): what a dead run has left behind is known by its
//! free number, and removed. Every fault is verified by datagrams in both directions of every link before the test goes on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// What our namespaces are called; number and place follow.
const NAMESPACE_PREFIX: &str = "blox-test-";
/// Networks at once on one machine.
const NETWORKS_MAX: u8 = 200;
/// Where namespaces stand by name.
const NAMESPACES: &str = "/run/netns";
/// The test's own place in each network.
const TEST_HOST: u8 = 254;
/// Where probes are received. The namespaces are ours, so it is free there; in the test's own place the port is the system's choice.
const PROBE_PORT: u16 = 7;
/// How long a probe may take; what has not come by then does not come.
const PROBE: Duration = Duration::from_millis(100);
/// Until a fault must have taken effect.
const EFFECT: Duration = Duration::from_secs(5);

/// One node's place.
struct Place {
    namespace: String,
    address: Ipv4Addr,
    /// A socket that lives in the namespace.
    probe: UdpSocket,
}

/// See the module. Places are counted as nodes are, from 0; removed with it, also after a panic.
pub struct Network {
    number: u8,
    places: Vec<Place>,
    /// The test's own socket, outside.
    probe: UdpSocket,
    /// Datagrams from the first to the second do not arrive.
    cuts: BTreeSet<(usize, usize)>,
    unplugged: BTreeSet<usize>,
    _lock: File,
}

impl Network {
    /// A network with so many places; without the means (root, `ip`, `iptables`) it says on the test's output what is skipped and why.
    pub fn or_skip(what: &str, places: usize) -> Option<Network> {
        match Network::make(places) {
            Ok(network) => Some(network),
            Err(reason) => {
                println!("SKIPPED {what}: no network namespaces here: {reason}");
                None
            }
        }
    }

    /// A network with so many places, all of which reach each other.
    pub fn make(places: usize) -> Result<Network, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("they need root".to_owned());
        }
        let (number, lock) = take_number()?;
        let mut wreck = Wreck { number, armed: true };
        let hub = namespace(number, "hub");
        ip(&["netns", "add", &hub])?;
        in_namespace(&hub, &["iptables", "-w", "-L", "-n"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        let outside = link(number);
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "outside", "netns", &hub,
        ])?;
        ip(&["-n", &hub, "link", "set", "outside", "master", "bridge", "up"])?;
        let own = address(number, TEST_HOST);
        ip(&["address", "add", &format!("{own}/24"), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        let places = (0..places)
            .map(|place| make_place(number, &hub, place))
            .collect::<Result<Vec<Place>, String>>()?;
        let network = Network {
            number,
            probe: UdpSocket::bind((own, 0)).map_err(|error| format!("{own}: {error}"))?,
            places,
            cuts: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            _lock: lock,
        };
        wreck.armed = false;
        network.takes_effect("a new network")?;
        Ok(network)
    }

    /// Where a node listens.
    pub fn address(&self, place: usize) -> Ipv4Addr {
        self.places[place].address
    }

    /// Where the test listens so that nodes reach it.
    pub fn own_address(&self) -> Ipv4Addr {
        address(self.number, TEST_HOST)
    }

    /// In which namespace a node is started.
    pub fn namespace(&self, place: usize) -> &str {
        &self.places[place].namespace
    }

    /// Cuts a node off from its peers, both ways; the test reaches it still.
    pub fn isolate(&mut self, place: usize) {
        for peer in (0..self.places.len()).filter(|peer| *peer != place) {
            self.drop_packets(peer, place);
            self.drop_packets(place, peer);
        }
        self.verify("isolated");
    }

    /// Cuts one direction: what the first sends to the second does not arrive. Connections stay open and fall silent.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.drop_packets(from, to);
        self.verify("cut");
    }

    /// Pulls the cable: nobody reaches the node, the test neither.
    pub fn unplug(&mut self, place: usize) {
        self.set_cable(place, "down");
        self.unplugged.insert(place);
        self.verify("unplugged");
    }

    /// Everything reaches everything again.
    pub fn heal(&mut self) {
        for place in &self.places {
            in_namespace(&place.namespace, &["iptables", "-w", "-F"]).expect("our own rules can be removed");
        }
        for place in std::mem::take(&mut self.unplugged) {
            self.set_cable(place, "up");
        }
        self.cuts.clear();
        self.verify("healed");
    }

    fn drop_packets(&mut self, from: usize, to: usize) {
        if self.cuts.insert((from, to)) {
            let source = self.places[from].address.to_string();
            let rule = ["iptables", "-w", "-A", "INPUT", "-s", &source, "-j", "DROP"];
            in_namespace(&self.places[to].namespace, &rule).expect("a rule in our own namespace");
        }
    }

    fn set_cable(&self, place: usize, state: &str) {
        let (hub, port) = (namespace(self.number, "hub"), format!("port{place}"));
        ip(&["-n", &hub, "link", "set", &port, state]).expect("our own link can be set");
    }

    fn verify(&self, what: &str) {
        if let Err(wrong) = self.takes_effect(what) {
            panic!("{wrong}");
        }
    }

    /// Probes until exactly what should arrive does.
    fn takes_effect(&self, what: &str) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let wrong = self.wrong_links();
            if wrong.is_empty() {
                return Ok(());
            }
            if started.elapsed() > EFFECT {
                return Err(format!("{what}: not so within {EFFECT:?}: {}", wrong.join(", ")));
            }
        }
    }

    /// The links on which a datagram arrives and should not, or the reverse. The place after the last is the test's own.
    fn wrong_links(&self) -> Vec<String> {
        let outside = self.places.len();
        let nonce: u64 = rand::random();
        let mut expected = BTreeSet::new();
        let mut arrived = BTreeSet::new();
        for from in 0..=outside {
            for to in (0..=outside).filter(|to| *to != from) {
                let broken =
                    self.cuts.contains(&(from, to)) || [from, to].iter().any(|end| self.unplugged.contains(end));
                if !broken {
                    expected.insert((from, to));
                }
                let address = self.socket(to).local_addr().expect("a bound socket");
                let probe = [&nonce.to_be_bytes()[..], &[u8::try_from(from).expect("few nodes")]].concat();
                // Where there is no way at all, sending fails at once: it has not arrived either.
                drop(self.socket(from).send_to(&probe, address));
            }
        }
        let until = Instant::now() + PROBE;
        for to in 0..=outside {
            let left = until.saturating_duration_since(Instant::now());
            for from in receive(self.socket(to), nonce, left.max(Duration::from_millis(1))) {
                arrived.insert((usize::from(from), to));
            }
        }
        expected
            .symmetric_difference(&arrived)
            .map(|link| {
                let seen = if arrived.contains(link) {
                    "arrives"
                } else {
                    "does not arrive"
                };
                format!("from {} to {} it {seen}", link.0, link.1)
            })
            .collect()
    }

    fn socket(&self, place: usize) -> &UdpSocket {
        self.places.get(place).map_or(&self.probe, |place| &place.probe)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(self.number);
    }
}

/// Removes what was begun when making it failed.
struct Wreck {
    number: u8,
    armed: bool,
}

impl Drop for Wreck {
    fn drop(&mut self) {
        if self.armed {
            remove(self.number);
        }
    }
}

fn make_place(number: u8, hub: &str, place: usize) -> Result<Place, String> {
    let (name, port) = (namespace(number, &place.to_string()), format!("port{place}"));
    let host = u8::try_from(place + 1).map_err(|_| "too many places".to_owned())?;
    let address = address(number, host);
    ip(&["netns", "add", &name])?;
    ip(&[
        "-n", hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name,
    ])?;
    ip(&["-n", hub, "link", "set", &port, "master", "bridge", "up"])?;
    ip(&["-n", &name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    ip(&["-n", &name, "link", "set", "lo", "up"])?;
    ip(&["-n", &name, "link", "set", "eth0", "up"])?;
    Ok(Place {
        probe: socket_in(&name, address)?,
        namespace: name,
        address,
    })
}

/// A socket stays in the namespace that the thread was in which opened it.
fn socket_in(namespace: &str, address: Ipv4Addr) -> Result<UdpSocket, String> {
    let path = format!("{NAMESPACES}/{namespace}");
    let opened = std::thread::spawn(move || {
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| format!("{path}: setns: {error}"))?;
        UdpSocket::bind((address, PROBE_PORT)).map_err(|error| format!("{address}: {error}"))
    });
    opened.join().map_err(|_| "a thread panicked".to_owned())?
}

/// Who of this round has got through to a socket.
fn receive(socket: &UdpSocket, nonce: u64, patience: Duration) -> Vec<u8> {
    let until = Instant::now() + patience;
    let mut seen = Vec::new();
    let mut buffer = [0; 16];
    loop {
        // What has arrived already is read however little time is left.
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).expect("a time-out above zero");
        match socket.recv(&mut buffer) {
            Ok(9) if buffer[..8] == nonce.to_be_bytes() => seen.push(buffer[8]),
            Ok(_) => {}
            Err(_) => return seen,
        }
    }
}

fn namespace(number: u8, place: &str) -> String {
    format!("{NAMESPACE_PREFIX}{number}-{place}")
}

/// The link's name outside; Linux allows 15 bytes.
fn link(number: u8) -> String {
    format!("bloxtest{number}")
}

fn address(number: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, number, host)
}

/// A number of our own; whatever a dead run has left under any free number is removed on the way.
fn take_number() -> Result<(u8, File), String> {
    let directory = std::env::temp_dir().join("blox-test-networks");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let lock = |number: u8| -> Option<File> {
        let file = File::create(directory.join(number.to_string())).ok()?;
        file.try_lock().ok()?;
        Some(file)
    };
    for number in left_over() {
        if let Some(_lock) = lock(number) {
            remove(number);
        }
    }
    let taken = (0..NETWORKS_MAX).find_map(|number| Some((number, lock(number)?)));
    taken.ok_or_else(|| format!("{NETWORKS_MAX} networks are in use"))
}

/// Numbers of namespaces that exist.
fn left_over() -> BTreeSet<u8> {
    let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix(NAMESPACE_PREFIX)?.split('-').next()?.parse().ok()
    });
    numbers.collect()
}

/// Removes everything under a number, as far as it exists.
fn remove(number: u8) {
    drop(ip(&["link", "delete", &link(number)]));
    let prefix = namespace(number, "");
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(&prefix)) {
            drop(ip(&["netns", "delete", name]));
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments)
}

fn in_namespace(namespace: &str, command: &[&str]) -> Result<(), String> {
    ip(&[&["netns", "exec", namespace], command].concat())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), why.trim()))
}
