//! The relay of packets between two network namespaces of our own. Speaks the runner's own protocol, so that where they cannot be made (without root,
//! `/dev/net/tun`, `ip` or `nsenter`) its stories are listed as ignored, and counted as skipped by their names, instead of passing silently.

mod network;
mod talk;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use blox_jepsen_tests::relay::{Counters, Order, Process, Shape};
use network::{ADDRESSES, Network, run};

type Told = Result<(), String>;
type Story = (&'static str, fn(&Network) -> Told);

/// By name.
const STORIES: [Story; 4] = [
    ("a_delay_is_felt_and_nothing_is_lost", delay),
    ("packets_overtake_each_other_and_come_twice", disorder),
    ("relays_pass_packets_on_to_each_other", several),
    ("a_relay_that_is_ended_takes_itself_away", ended),
];
/// A round trip on the bare wire is shorter than this, the shortest of some, on a busy machine too.
const BARE: Duration = Duration::from_millis(12);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let obstacle = obstacle();
    if given("--list") {
        // Asked twice: for all tests, and for the ignored ones.
        if !given("--ignored") || obstacle.is_some() {
            for (name, _) in STORIES {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut code = ExitCode::SUCCESS;
    for (name, story) in STORIES {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let told = match &obstacle {
            Some(why) => format!("ignored, {why}"),
            None => match Network::make(name).and_then(|network| story(&network)) {
                Ok(()) => "ok".to_owned(),
                Err(why) => {
                    code = ExitCode::FAILURE;
                    format!("FAILED: {why}")
                }
            },
        };
        println!("test {name} ... {told}");
    }
    code
}

/// Why the stories cannot be told here, if they cannot.
fn obstacle() -> Option<String> {
    if run("id -u").is_ok_and(|id| id.trim() != "0") {
        return Some("only root can make network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun here".to_owned());
    }
    let missing = ["ip", "nsenter"]
        .into_iter()
        .find(|program| run(&format!("command -v {program}")).is_err())?;
    Some(format!("there is no {missing} here"))
}

/// A relay on side 0 for what goes to side 1, as a blocking caller has it.
struct Relay {
    runtime: tokio::runtime::Runtime,
    process: Process,
}

impl Relay {
    fn begin(network: &Network, slot: u8, shape: Shape) -> Result<Relay, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let order = Order {
            peers: vec![ADDRESSES[1]],
            slot,
            seed: 7,
            shape,
        };
        let program = Path::new(env!("CARGO_BIN_EXE_jepsen-tests"));
        let begun = runtime.block_on(Process::begin(program, &network.path(0), &order));
        let process = begun.map_err(|error| error.to_string())?;
        Ok(Relay { runtime, process })
    }

    fn tell(&mut self) -> Result<Counters, String> {
        self.runtime
            .block_on(self.process.tell())
            .map_err(|error| error.to_string())
    }

    fn probe(&mut self, count: u32) -> Told {
        self.runtime
            .block_on(self.process.probe(count))
            .map_err(|error| error.to_string())
    }

    fn end(self) -> Result<Counters, String> {
        self.runtime
            .block_on(self.process.end())
            .map_err(|error| error.to_string())
    }
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Told {
    if holds { Ok(()) } else { Err(what()) }
}

/// Connections that stood before are held up and new ones are, megabytes arrive as they were sent, and when it is over all is as before.
fn delay(network: &Network) -> Told {
    probes(network)?;
    talk::echo(network)?;
    let (mut old, _) = talk::connect(network)?;
    let before = talk::round_trip(&mut old)?;
    check(before < BARE, || format!("the bare wire takes {before:?}"))?;
    let asked = Duration::from_millis(20);
    let shape = Shape {
        least_ms: 20,
        most_ms: 30,
        ..Shape::default()
    };
    let relay = Relay::begin(network, 0, shape)?;
    let (mut new, connecting) = talk::connect(network)?;
    let trips = [connecting, talk::round_trip(&mut new)?, talk::round_trip(&mut old)?];
    check(trips.iter().all(|trip| *trip >= asked), || {
        format!("new, then old, at least 20 ms: {trips:?}")
    })?;
    talk::transfer(&mut new, 4 << 20)?;
    talk::transfer(&mut old, 1 << 20)?;
    let counters = relay.end()?;
    check(
        counters.held_p50_us >= 20_000 && counters.held >= 3_000 && counters.taken_bytes > 5 << 20,
        || format!("{counters:?}"),
    )?;
    let failed = counters.overtaken + counters.dropped + counters.unsent + counters.unread + counters.lost;
    check(failed == 0 && counters.sent == counters.taken, || {
        format!("{counters:?}")
    })?;
    let after = talk::round_trip(&mut old)?;
    check(after < BARE, || format!("afterwards it takes {after:?}"))
}

/// Each probe passes, and where nobody speaks nothing else does. Connections would be counted as well: what they confirm may come late.
fn probes(network: &Network) -> Told {
    let mut relay = Relay::begin(network, 0, Shape::default())?;
    let before = relay.tell()?;
    relay.probe(3)?;
    let counters = relay.end()?;
    check(before.taken == 0 && counters.taken == 3 && counters.sent == 3, || {
        format!("three of its own, after {before:?}: {counters:?}")
    })
}

/// Datagrams arrive in order where that is not to be disturbed; where it is, some later than those that follow, some twice, and each at least once.
/// Connections make up for all of it.
fn disorder(network: &Network) -> Told {
    const COUNT: u32 = 400;
    let jitter = Shape {
        least_ms: 5,
        most_ms: 25,
        ..Shape::default()
    };
    let relay = Relay::begin(network, 0, jitter)?;
    let hearing = talk::hear(network)?;
    talk::send(network, 0..COUNT)?;
    let numbers: Vec<u32> = talk::joined(hearing)?.into_iter().map(|(number, _)| number).collect();
    relay.end()?;
    check(numbers.iter().copied().eq(0..COUNT), || {
        format!("not in order: {numbers:?}")
    })?;

    let shape = Shape {
        most_ms: 2,
        late_percent: 20,
        late_ms: 20,
        twice_percent: 10,
        ..Shape::default()
    };
    let relay = Relay::begin(network, 0, shape)?;
    let hearing = talk::hear(network)?;
    talk::send(network, 0..COUNT)?;
    let numbers: Vec<u32> = talk::joined(hearing)?.into_iter().map(|(number, _)| number).collect();
    let counters = relay.end()?;
    let different: BTreeSet<u32> = numbers.iter().copied().collect();
    let twice = numbers.len() - different.len();
    let mut newest = 0;
    let inversions = numbers.iter().filter(|number| {
        newest = newest.max(**number);
        **number < newest
    });
    let inversions = inversions.count();
    check(different.len() == COUNT as usize, || {
        format!("{} are missing", COUNT as usize - different.len())
    })?;
    check(
        counters.overtaken > 0 && inversions as u64 >= counters.overtaken,
        || format!("{inversions} came after later ones: {counters:?}"),
    )?;
    check(twice as u64 == counters.twice && twice > 0, || {
        format!("{twice} came twice: {counters:?}")
    })?;

    let lossy = Shape {
        lost_percent: 2,
        ..shape
    };
    talk::echo(network)?;
    let relay = Relay::begin(network, 0, lossy)?;
    let (mut stream, _) = talk::connect(network)?;
    talk::transfer(&mut stream, 1 << 20)?;
    let counters = relay.end()?;
    check(counters.overtaken > 0 && counters.lost > 0, || format!("{counters:?}"))
}

/// Delays of two relays add up, whichever of them ends first, also where the kernel is strict about the ways of answers.
fn several(network: &Network) -> Told {
    network.script(
        0,
        "for one in all wire; do echo 1 > /proc/sys/net/ipv4/conf/$one/rp_filter; done",
    )?;
    talk::echo(network)?;
    let (mut stream, _) = talk::connect(network)?;
    let held = |ms| Shape {
        least_ms: ms,
        most_ms: ms,
        ..Shape::default()
    };
    let late = Relay::begin(network, 2, held(30))?;
    let early = Relay::begin(network, 0, held(20))?;
    let both = talk::round_trip(&mut stream)?;
    check(both >= Duration::from_millis(50), || format!("20 and 30 ms: {both:?}"))?;
    early.end()?;
    let one = talk::round_trip(&mut stream)?;
    check((30..50).contains(&one.as_millis()), || format!("30 ms: {one:?}"))?;
    let early = Relay::begin(network, 0, held(20))?;
    late.end()?;
    let other = talk::round_trip(&mut stream)?;
    check((20..50).contains(&other.as_millis()), || format!("20 ms: {other:?}"))?;
    early.end()?;
    let none = talk::round_trip(&mut stream)?;
    check(none < BARE, || format!("afterwards it takes {none:?}"))
}

/// SIGTERM and the end of its input end it: what it holds is sent at once, and rule, routes and device are gone. One that is killed leaves nothing in
/// the way, and its place can be taken again.
fn ended(network: &Network) -> Told {
    let shape = Shape {
        least_ms: 9_000,
        most_ms: 9_000,
        ..Shape::default()
    };
    for signal in ["TERM", "none", "KILL"] {
        let mut relay = Relay::begin(network, 0, shape)?;
        let there = network.script(0, "ip rule; ip -o link")?;
        check(there.contains("7000") && there.contains("blox-relay-0"), || {
            there.clone()
        })?;
        let hearing = talk::hear(network)?;
        let began = Instant::now();
        talk::send(network, 0..3)?;
        let taken = relay.tell()?.taken;
        check(taken == 3, || format!("{taken} taken"))?;
        let id = relay.process.id().ok_or("it has ended")?;
        if signal != "none" {
            run(&format!("kill -{signal} {id}"))?;
        }
        let last = relay.end();
        check(last.is_ok() == (signal != "KILL"), || format!("{signal}: {last:?}"))?;
        if signal == "KILL" {
            // What it held is gone with it; what follows takes the bare wire.
            talk::send(network, 0..3)?;
        }
        let heard = talk::joined(hearing)?;
        let at_once = heard
            .iter()
            .all(|(_, at)| *at - began < Duration::from_millis(shape.least_ms));
        check(heard.len() == 3 && at_once, || format!("{signal}: {heard:?}"))?;
        let left = network.script(0, "ip rule; ip -o link; ip route show table all")?;
        check(!left.contains("blox-relay-0"), || left.clone())?;
        check(signal == "KILL" || !left.contains("7000"), || left.clone())?;
    }
    Relay::begin(network, 0, Shape::default())?.end().map(|_| ())
}
