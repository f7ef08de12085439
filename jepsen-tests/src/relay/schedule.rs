//! Which packet leaves when: given arrivals and a seed, nothing else decides.
//!
//! Packets for one peer leave in the order in which they came, however long each is to be held, but for those that are late on purpose. None is lost but
//! where that is asked, or where there is no room.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::counters::{Counters, Delays};
use super::shape::Shape;

/// So many packets are held at a time; a full router drops what comes then, and so do we.
pub const PACKETS_MAX: usize = 16_384;
/// So many bytes of them.
pub const BYTES_MAX: usize = 16 << 20;
/// A second copy follows within so long at least, milliseconds.
const COPY_MS: u64 = 2;
const NS_OF_MS: u64 = 1_000_000;

/// One that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Its peer.
    pub to: Ipv4Addr,
    /// From its IP header on.
    pub bytes: Vec<u8>,
}

struct Held {
    packet: Leaving,
    arrived_ns: u64,
    /// Its place among the arrivals for its peer; `None`: a second copy.
    place: Option<u64>,
}

/// What is known of the packets for one peer.
#[derive(Default)]
struct Flow {
    arrived: u64,
    /// The last one in order leaves then: none in order leaves earlier.
    in_order_ns: u64,
    /// The latest arrival that has left.
    newest_left: Option<u64>,
}

/// See the module. Times are nanoseconds since any moment, and do not go back.
pub struct Schedule {
    shape: Shape,
    random: ChaCha8Rng,
    /// By when they leave, then by when they were put here.
    held: BTreeMap<(u64, u64), Held>,
    held_bytes: usize,
    put: u64,
    flows: HashMap<Ipv4Addr, Flow>,
    counters: Counters,
    delays: Delays,
}

impl Schedule {
    /// Empty.
    pub fn new(shape: Shape, seed: u64) -> Schedule {
        Schedule {
            shape,
            random: ChaCha8Rng::seed_from_u64(seed),
            held: BTreeMap::new(),
            held_bytes: 0,
            put: 0,
            flows: HashMap::new(),
            counters: Counters::default(),
            delays: Delays::default(),
        }
    }

    /// A packet has come.
    pub fn arrive(&mut self, now_ns: u64, to: Ipv4Addr, bytes: &[u8]) {
        self.counters.taken += 1;
        self.counters.taken_bytes += bytes.len() as u64;
        if self.drawn(self.shape.lost_percent) {
            self.counters.lost += 1;
            return;
        }
        if !self.has_room(bytes.len()) {
            self.counters.dropped += 1;
            return;
        }
        let hold_ns = self.up_to(self.shape.least_ms, self.shape.most_ms);
        let late_ns = match self.drawn(self.shape.late_percent) {
            true => Some(self.up_to(1, self.shape.late_ms)),
            false => None,
        };
        let flow = self.flows.entry(to).or_default();
        let in_order_ns = flow.in_order_ns.max(now_ns + hold_ns);
        let due_ns = match late_ns {
            Some(late_ns) => in_order_ns + late_ns,
            None => {
                flow.in_order_ns = in_order_ns;
                in_order_ns
            }
        };
        let place = flow.arrived;
        flow.arrived += 1;
        let packet = Leaving {
            to,
            bytes: bytes.to_vec(),
        };
        if self.drawn(self.shape.twice_percent) && self.has_room(2 * bytes.len()) {
            self.counters.twice += 1;
            let again_ns = due_ns + self.up_to(0, self.shape.late_ms.max(COPY_MS));
            let copy = Held {
                packet: packet.clone(),
                arrived_ns: now_ns,
                place: None,
            };
            self.put(due_ns, now_ns, packet, place);
            self.insert(again_ns, copy);
        } else {
            self.put(due_ns, now_ns, packet, place);
        }
    }

    /// When the next one leaves.
    pub fn due_ns(&self) -> Option<u64> {
        self.held.keys().next().map(|(due_ns, _)| *due_ns)
    }

    /// The next one whose time has come.
    pub fn leave(&mut self, now_ns: u64) -> Option<Leaving> {
        let entry = self.held.first_entry().filter(|entry| entry.key().0 <= now_ns)?;
        let ((due_ns, _), held) = entry.remove_entry();
        self.held_bytes -= held.packet.bytes.len();
        if let (Some(place), Some(flow)) = (held.place, self.flows.get_mut(&held.packet.to)) {
            if flow.newest_left.is_some_and(|newest| place < newest) {
                self.counters.overtaken += 1;
            } else {
                flow.newest_left = Some(place);
            }
            if due_ns > held.arrived_ns {
                self.delays.add((now_ns - held.arrived_ns) / 1_000);
            }
        }
        Some(held.packet)
    }

    /// Those that are held still, in the order in which they would leave: it is over, and they are not lost with it. How long they were held does not
    /// count.
    pub fn give_up(&mut self) -> Vec<Leaving> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
            .into_values()
            .map(|held| held.packet)
            .collect()
    }

    /// What was done so far; what became of packets outside is not in it.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        self.delays.tell(&mut counters);
        counters
    }

    fn put(&mut self, due_ns: u64, arrived_ns: u64, packet: Leaving, place: u64) {
        let held = Held {
            packet,
            arrived_ns,
            place: Some(place),
        };
        self.insert(due_ns, held);
    }

    fn insert(&mut self, due_ns: u64, held: Held) {
        self.held_bytes += held.packet.bytes.len();
        self.held.insert((due_ns, self.put), held);
        self.put += 1;
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.held.len() < PACKETS_MAX && self.held_bytes + bytes <= BYTES_MAX
    }

    fn drawn(&mut self, percent: u32) -> bool {
        percent > 0 && self.random.random_ratio(percent.min(100), 100)
    }

    /// Nanoseconds between two times, both of them possible.
    fn up_to(&mut self, least_ms: u64, most_ms: u64) -> u64 {
        self.random
            .random_range(least_ms * NS_OF_MS..=most_ms.max(least_ms) * NS_OF_MS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    /// Between two arrivals.
    const STEP_NS: u64 = NS_OF_MS / 2;
    const SEEDS: u64 = 50;

    /// One as it came and left.
    #[derive(Clone, Debug, PartialEq)]
    struct Passage {
        to: Ipv4Addr,
        number: u32,
        arrived_ns: u64,
        left_ns: u64,
    }

    /// So many packets, to two peers in turn, each let go at the moment at which it is due.
    fn pass(shape: Shape, seed: u64, packets: u32) -> (Vec<Passage>, Counters) {
        let mut schedule = Schedule::new(shape, seed);
        let mut left = Vec::new();
        let go = |schedule: &mut Schedule, until_ns: u64, left: &mut Vec<Passage>| {
            while let Some(due_ns) = schedule.due_ns().filter(|due_ns| *due_ns <= until_ns) {
                let packet = schedule.leave(due_ns).expect("it is due");
                let number = u32::from_be_bytes(packet.bytes[..4].try_into().expect("four"));
                left.push(Passage {
                    to: packet.to,
                    number,
                    arrived_ns: u64::from(number) * STEP_NS,
                    left_ns: due_ns,
                });
            }
        };
        for number in 0..packets {
            let now_ns = u64::from(number) * STEP_NS;
            go(&mut schedule, now_ns, &mut left);
            let to = if number % 2 == 0 { A } else { B };
            schedule.arrive(now_ns, to, &number.to_be_bytes());
        }
        go(&mut schedule, u64::MAX, &mut left);
        assert_eq!(schedule.held_bytes, 0);
        (left, schedule.counters())
    }

    fn delays_ms(passages: &[Passage]) -> (f64, f64) {
        let all: Vec<f64> = passages
            .iter()
            .map(|one| (one.left_ns - one.arrived_ns) as f64 / NS_OF_MS as f64)
            .collect();
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        (least, all.iter().copied().fold(0.0, f64::max))
    }

    /// Packets to one peer that left after one that had come later, second copies apart.
    fn overtaken(passages: &[Passage]) -> u64 {
        let mut newest: HashMap<Ipv4Addr, u32> = HashMap::new();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for one in passages.iter().filter(|one| seen.insert(one.number)) {
            let newest = newest.entry(one.to).or_insert(one.number);
            count += u64::from(one.number < *newest);
            *newest = one.number.max(*newest);
        }
        count
    }

    /// Each once, within the bounds, in order, and the figures say so.
    #[test]
    fn a_delay_loses_nothing_and_keeps_the_order() {
        let shape = Shape {
            least_ms: 15,
            most_ms: 25,
            ..Shape::default()
        };
        for seed in 0..SEEDS {
            let (left, counters) = pass(shape, seed, 500);
            let numbers: BTreeSet<u32> = left.iter().map(|one| one.number).collect();
            assert_eq!((left.len(), numbers.len()), (500, 500), "seed {seed}");
            let (least, most) = delays_ms(&left);
            assert!(least >= 15.0 && most <= 25.0, "seed {seed}: {least} to {most}");
            assert!(most - least > 5.0, "seed {seed}: all are alike");
            assert_eq!((overtaken(&left), counters.overtaken), (0, 0), "seed {seed}");
            assert_eq!((counters.taken, counters.held, counters.twice), (500, 500, 0));
            assert!((15_000..=25_000).contains(&counters.held_p50_us), "{counters:?}");
            assert!(counters.held_max_us <= 25_000, "{counters:?}");
        }
    }

    /// Those that are late are overtaken and nobody else is; they are late by no more than was asked, and nothing is lost.
    #[test]
    fn overtaking_happens_where_it_is_asked() {
        let shape = Shape {
            most_ms: 2,
            late_percent: 20,
            late_ms: 10,
            ..Shape::default()
        };
        for seed in 0..SEEDS {
            let (left, counters) = pass(shape, seed, 500);
            assert_eq!(left.len(), 500, "seed {seed}");
            assert_eq!(overtaken(&left), counters.overtaken, "seed {seed}");
            assert!((20..200).contains(&counters.overtaken), "seed {seed}: {counters:?}");
            assert!(delays_ms(&left).1 <= 12.0, "seed {seed}");
        }
    }

    /// Some leave twice, the second copy not before the first one, and no copy counts as overtaken or held.
    #[test]
    fn some_leave_twice() {
        let shape = Shape {
            least_ms: 5,
            most_ms: 5,
            twice_percent: 10,
            ..Shape::default()
        };
        let (left, counters) = pass(shape, 3, 1_000);
        assert!((50..200).contains(&counters.twice), "{counters:?}");
        assert_eq!(left.len() as u64, 1_000 + counters.twice);
        assert_eq!((counters.overtaken, counters.held), (0, 1_000));
        let (least, most) = delays_ms(&left);
        assert!(least >= 5.0 && most <= 7.0, "{least} to {most}");
    }

    /// Where some are to be lost, all others arrive.
    #[test]
    fn only_what_is_to_be_lost_is_lost() {
        let shape = Shape {
            least_ms: 1,
            most_ms: 1,
            lost_percent: 30,
            ..Shape::default()
        };
        let (left, counters) = pass(shape, 4, 1_000);
        assert!((200..400).contains(&counters.lost), "{counters:?}");
        assert_eq!(left.len() as u64 + counters.lost, 1_000);
        assert_eq!(counters.dropped, 0);
    }

    /// Without a shape each leaves when it comes, and none counts as held.
    #[test]
    fn nothing_is_done_unasked() {
        let (left, counters) = pass(Shape::default(), 5, 100);
        assert!(left.iter().all(|one| one.left_ns == one.arrived_ns));
        assert_eq!((counters.held, counters.held_max_us, counters.overtaken), (0, 0, 0));
    }

    /// The seed decides.
    #[test]
    fn the_same_seed_does_the_same() {
        let shape = Shape {
            least_ms: 1,
            most_ms: 9,
            late_percent: 10,
            late_ms: 5,
            twice_percent: 5,
            lost_percent: 5,
        };
        assert_eq!(pass(shape, 6, 300), pass(shape, 6, 300));
        assert_ne!(pass(shape, 6, 300), pass(shape, 7, 300));
    }

    /// Both limits hold, what finds no room is counted, and there is room again when some have left.
    #[test]
    fn the_queue_is_bounded() {
        let shape = Shape {
            least_ms: 10,
            most_ms: 10,
            ..Shape::default()
        };
        let mut small = Schedule::new(shape, 8);
        let mut large = Schedule::new(shape, 8);
        let packet = vec![0; 64 << 10];
        let fit = (BYTES_MAX / packet.len()) as u64;
        for _ in 0..PACKETS_MAX + 10 {
            small.arrive(0, A, &[0]);
        }
        for _ in 0..fit + 10 {
            large.arrive(0, A, &packet);
        }
        assert_eq!((small.counters().dropped, large.counters().dropped), (10, 10));
        assert!(small.leave(10 * NS_OF_MS).is_some() && large.leave(10 * NS_OF_MS).is_some());
        small.arrive(0, A, &[0]);
        large.arrive(0, A, &packet);
        assert_eq!((small.counters().dropped, large.counters().dropped), (10, 10));
        assert_eq!(small.give_up().len(), PACKETS_MAX);
        assert_eq!(small.due_ns(), None);
    }
}
