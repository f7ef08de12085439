//! Packets between nodes that are late, overtake each other, or come twice. Clients always reach the nodes.

use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::act::Act;
use super::links::Link;
use super::network::{cut, isolated};
use super::relays::{Lag, Told};
use super::{Cluster, Effect, Nemesis, NemesisError, Target};
use crate::relay::Shape;

/// In the middle packets are held so long, milliseconds: from the next building to another continent.
const DELAY_MS: std::ops::RangeInclusive<u64> = 5..=100;
/// Off by so much of that, of a hundred.
const JITTER_PERCENT: std::ops::RangeInclusive<u64> = 0..=50;
/// One in so many delays is this one: one that a cluster must not even elect a leader for.
const MILD_ONE_IN: u32 = 4;
const MILD: Shape = Shape {
    least_ms: 15,
    most_ms: 25,
    late_percent: 0,
    late_ms: 0,
    twice_percent: 0,
    lost_percent: 1,
};
/// Of packets out of order: how many of a hundred, and how late, milliseconds.
const LATE_PERCENT: std::ops::RangeInclusive<u32> = 5..=25;
const LATE_MS: std::ops::RangeInclusive<u64> = 5..=40;
/// How many of a hundred come twice meanwhile.
const TWICE_PERCENT: std::ops::RangeInclusive<u32> = 1..=10;
/// How often it is asked for the effect, and for how long: who does not run at the moment is started within that.
const LOOK: Duration = Duration::from_millis(100);
const SEEN: Duration = Duration::from_secs(10);
/// Datagrams that are sent each time, so that there is something to hold.
const PROBES: u32 = 8;

/// Which of the packets of the chosen nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Sent,
    Heard,
    Both,
    OneLink,
}

/// Packets pass relays for as long as the fault lasts.
pub(super) async fn lag(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let chosen = act.choose().await;
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let (links, told) = drawn_links(&names, &chosen, act.fault.target, &mut act.random);
    let shape = drawn_shape(act.fault.nemesis, &mut act.random);
    let lag = Lag {
        links,
        shape,
        slot: u8::try_from(act.fault.lane).unwrap_or(0),
        seed: act.fault.seed,
    };
    let number = act.fault.number;
    let before = leads(cluster).await;
    act.begins(&chosen);
    cluster.relays.begin(&cluster.compose, number, lag).await?;
    let began = Instant::now();
    while began.elapsed() < SEEN && !is_seen(&cluster.relays.told(number).await?, act.fault.nemesis, shape) {
        cluster.relays.probe(number, PROBES).await?;
        tokio::time::sleep(LOOK).await;
    }
    act.hold().await;
    let after = leads(cluster).await;
    let alone = act.is_alone();
    act.mends();
    let gone = cluster.relays.gone(&cluster.compose, number).await?;
    let all = cluster.relays.end(number).await?;
    let mut evidence = vec![format!("{told}: {}", shape.told())];
    evidence.extend(all.iter().map(|one| sentence(one, shape)));
    if !gone.is_empty() {
        evidence.push(format!("at the end no more of what {} sends", gone.join(", ")));
    }
    evidence.push(led(before.as_ref(), after.as_ref(), alone));
    Ok(Effect {
        seen: is_seen(&all, act.fault.nemesis, shape),
        evidence,
    })
}

/// Packets were held as long as was asked, or overtaken.
fn is_seen(all: &[Told], nemesis: Nemesis, shape: Shape) -> bool {
    let held = all.iter().filter(|one| one.counters.held > 0);
    match nemesis {
        Nemesis::Reorder => all.iter().any(|one| one.counters.overtaken > 0),
        _ => {
            held.clone().count() > 0
                && held
                    .clone()
                    .all(|one| one.counters.held_p50_us >= shape.least_ms * 1_000)
        }
    }
}

fn sentence(told: &Told, shape: Shape) -> String {
    let counters = &told.counters;
    let ms = |us: u64| us as f64 / 1_000.0;
    let mut said = format!(
        "{} sent {} packets, {} held: p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        told.from,
        counters.taken,
        counters.held,
        ms(counters.held_p50_us),
        ms(counters.held_p99_us),
        ms(counters.held_max_us)
    );
    let more = [
        (shape.late_percent > 0, counters.overtaken, "overtaken"),
        (shape.twice_percent > 0, counters.twice, "twice"),
        (shape.lost_percent > 0, counters.lost, "lost"),
        (
            counters.dropped + counters.unread > 0,
            counters.dropped + counters.unread,
            "without room",
        ),
        (counters.unsent > 0, counters.unsent, "refused by the network"),
    ];
    for (_, count, what) in more.iter().filter(|(told, ..)| *told) {
        said += &format!(", {count} {what}");
    }
    said
}

/// Who leads, and since which term; `None`: nobody says so.
async fn leads(cluster: &Cluster) -> Option<(String, u64)> {
    let position = cluster.leader().await?;
    let term = cluster.observer.status(position).await.ok()?.term;
    Some((cluster.name(position).to_owned(), term))
}

/// No word about a promise: a fault that happened beside this one may have moved the leader.
fn led(before: Option<&(String, u64)>, after: Option<&(String, u64)>, alone: bool) -> String {
    let told =
        |one: Option<&(String, u64)>| one.map_or("nobody".to_owned(), |(name, term)| format!("{name} in term {term}"));
    let company = if alone {
        "no other fault meanwhile"
    } else {
        "other faults meanwhile"
    };
    match before == after {
        true => format!("{} led before and after, {company}", told(before)),
        false => format!("{} led before, {} after, {company}", told(before), told(after)),
    }
}

fn drawn_links(names: &[String], chosen: &[usize], target: Target, random: &mut ChaCha8Rng) -> (Vec<Link>, String) {
    let way = match target {
        Target::All => Way::Both,
        _ => [Way::Sent, Way::Heard, Way::Both, Way::OneLink][random.random_range(0..4)],
    };
    let peer = (chosen[0] + random.random_range(1..names.len())) % names.len();
    late_links(names, chosen, way, peer)
}

/// The links of that way between the chosen and the others, or from the first of the chosen to this peer.
fn late_links(names: &[String], chosen: &[usize], way: Way, peer: usize) -> (Vec<Link>, String) {
    let is_chosen = |name: &String| chosen.iter().any(|position| names[*position] == *name);
    let all: Vec<&str> = chosen.iter().map(|position| names[*position].as_str()).collect();
    let (all, mut links) = (all.join(", "), isolated(names, chosen));
    let told = match way {
        Way::Sent => {
            links.retain(|link| is_chosen(&link.from));
            format!("what {all} sends to its peers")
        }
        Way::Heard => {
            links.retain(|link| is_chosen(&link.to));
            format!("what {all} hears from its peers")
        }
        Way::Both => format!("what {all} and their peers send each other"),
        Way::OneLink => {
            links = cut(names, chosen[0], peer, true).0;
            format!("what {} sends to {}", names[chosen[0]], names[peer])
        }
    };
    (links, told)
}

fn drawn_shape(nemesis: Nemesis, random: &mut ChaCha8Rng) -> Shape {
    if nemesis == Nemesis::Reorder {
        return Shape {
            late_percent: random.random_range(LATE_PERCENT),
            late_ms: random.random_range(LATE_MS),
            twice_percent: random.random_range(TWICE_PERCENT),
            ..Shape::default()
        };
    }
    if random.random_ratio(1, MILD_ONE_IN) {
        return MILD;
    }
    let middle_ms = random.random_range(DELAY_MS);
    let jitter_ms = middle_ms * random.random_range(JITTER_PERCENT) / 100;
    Shape {
        least_ms: middle_ms - jitter_ms,
        most_ms: middle_ms + jitter_ms,
        ..Shape::default()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::relay::Counters;

    fn names() -> Vec<String> {
        ["n1", "n2", "n3"].map(str::to_owned).to_vec()
    }

    fn late(chosen: &[usize], way: Way) -> Vec<String> {
        let (links, _) = late_links(&names(), chosen, way, 1);
        let mut told: Vec<String> = links.iter().map(|link| format!("{}>{}", link.from, link.to)).collect();
        told.sort();
        told
    }

    /// The links of each way, and all of them where it falls on all.
    #[test]
    fn ways_are_what_they_say() {
        assert_eq!(late(&[0], Way::Sent), ["n1>n2", "n1>n3"]);
        assert_eq!(late(&[0], Way::Heard), ["n2>n1", "n3>n1"]);
        assert_eq!(late(&[0], Way::Both), ["n1>n2", "n1>n3", "n2>n1", "n3>n1"]);
        assert_eq!(late(&[0], Way::OneLink), ["n1>n2"]);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (links, _) = drawn_links(&names(), &[0, 1, 2], Target::All, &mut random);
        assert_eq!(links.len(), 6);
    }

    /// Whatever the seed, a delay delays in order, by what it says; packets out of order are late and come twice.
    #[test]
    fn shapes_do_what_their_names_say() {
        for seed in 0..200 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let delay = drawn_shape(Nemesis::Delay, &mut random);
            assert!(delay.least_ms >= 2 && delay.least_ms <= delay.most_ms && delay.most_ms <= 150);
            assert_eq!((delay.late_percent, delay.twice_percent), (0, 0));
            let reorder = drawn_shape(Nemesis::Reorder, &mut random);
            assert!(reorder.late_percent >= 5 && reorder.late_ms >= 5 && reorder.twice_percent >= 1);
            assert_eq!(reorder.lost_percent, 0);
        }
    }

    /// A delay is seen where all that held packets held them long enough, disorder where one was overtaken.
    #[test]
    fn effects_are_measured() {
        let told = |held, held_p50_us, overtaken| Told {
            from: "n1".to_owned(),
            counters: Counters {
                held,
                held_p50_us,
                overtaken,
                ..Counters::default()
            },
        };
        let seen = |all: &[Told], nemesis| is_seen(all, nemesis, MILD);
        assert!(seen(&[told(1, 15_000, 0), told(0, 0, 0)], Nemesis::Delay));
        assert!(!seen(&[told(1, 15_000, 0), told(9, 14_900, 0)], Nemesis::Delay));
        assert!(!seen(&[told(0, 0, 0)], Nemesis::Delay) && !seen(&[], Nemesis::Delay));
        assert!(seen(&[told(0, 0, 0), told(1, 1, 1)], Nemesis::Reorder));
        assert!(!seen(&[told(9, 9_000, 0)], Nemesis::Reorder));
    }

    /// A leader that stays is told from one that does not.
    #[test]
    fn leaders_are_told() {
        let one = ("n1".to_owned(), 3);
        let other = ("n1".to_owned(), 5);
        assert_eq!(
            led(Some(&one), Some(&one), true),
            "n1 in term 3 led before and after, no other fault meanwhile"
        );
        assert_eq!(
            led(Some(&one), Some(&other), false),
            "n1 in term 3 led before, n1 in term 5 after, other faults meanwhile"
        );
        assert!(led(Some(&one), None, true).contains("nobody after"));
    }
}
