//! Partitions and lossy links. Clients always reach the nodes.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::SliceRandom;

use super::act::Act;
use super::links::Link;
use super::{Cluster, Effect, Nemesis, NemesisError};

/// Where ECS is.
const ECS: &str = "simulator";
/// Packets dropped, of a hundred: at least and at most.
const LOSS_PERCENT: std::ops::Range<u32> = 5..30;
/// A flapping link stays as it is for so long, milliseconds.
const FLAP_MS: std::ops::Range<u64> = 300..1_500;
/// How often it is asked whether a packet was dropped.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether rules must be set again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long it may take until one is: heartbeats come all the time.
const FIRST_DROP: Duration = Duration::from_secs(5);

/// Some links are broken for as long as the fault lasts.
pub(super) async fn partition(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    cluster.all_run().await;
    let chosen = act.choose().await;
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let (links, told) = match act.fault.nemesis {
        Nemesis::Halves => halves(&names, &chosen, act.random.random()),
        Nemesis::Ring => {
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.shuffle(&mut act.random);
            ring(&names, &order)
        }
        Nemesis::Cut => {
            let peer = (chosen[0] + act.random.random_range(1..names.len())) % names.len();
            let (links, told) = cut(&names, chosen[0], peer, act.random.random());
            act.goes(format!("{}>{}", links[0].from, links[0].to));
            (links, told)
        }
        _ => (
            isolated(&names, &chosen),
            format!("{} and its peers", cluster.names(&chosen)),
        ),
    };
    let probability =
        (act.fault.nemesis == Nemesis::Loss).then(|| f64::from(act.random.random_range(LOSS_PERCENT)) / 100.0);
    let number = act.fault.number;
    act.begins(&chosen);
    cluster
        .links
        .sever(&cluster.compose, number, links, probability)
        .await?;
    first_drop(cluster, number).await?;
    hold(cluster, act).await?;
    act.mends();
    let dropped = cluster.links.mend(&cluster.compose, number).await?;
    let share = probability.map_or(String::new(), |share| {
        format!(" ({:.0} % of them to be)", share * 100.0)
    });
    let sentence = format!("{dropped} packets dropped{share} between {told}");
    Ok(Effect {
        seen: dropped > 0,
        evidence: vec![sentence],
    })
}

/// Cut off and back, again and again.
pub(super) async fn flap(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    cluster.all_run().await;
    let chosen = act.choose().await;
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let links = isolated(&names, &chosen);
    let number = act.fault.number;
    act.begins(&chosen);
    let (mut times, mut dropped) = (0, 0);
    let began = Instant::now();
    loop {
        cluster
            .links
            .sever(&cluster.compose, number, links.clone(), None)
            .await?;
        tokio::time::sleep(Duration::from_millis(act.random.random_range(FLAP_MS))).await;
        dropped += cluster.links.mend(&cluster.compose, number).await?;
        times += 1;
        if began.elapsed() >= act.fault.lasts {
            break;
        }
        tokio::time::sleep(Duration::from_millis(act.random.random_range(FLAP_MS))).await;
    }
    act.mends();
    let sentence = format!(
        "{} cut off {times} times, {dropped} packets dropped",
        cluster.names(&chosen)
    );
    Ok(Effect {
        seen: dropped > 0,
        evidence: vec![sentence],
    })
}

/// Holds what is broken for as long as the fault lasts, whoever starts containers meanwhile.
pub(super) async fn hold(cluster: &Cluster, act: &mut Act<'_>) -> Result<(), NemesisError> {
    act.sees();
    let began = Instant::now();
    loop {
        let rest = act.fault.lasts.saturating_sub(began.elapsed());
        if rest.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(rest.min(LOOK_AGAIN)).await;
        cluster.links.refresh(&cluster.compose, act.fault.number).await?;
    }
}

/// Waits until a packet was dropped, for a while: a node that is down gets its rules when it is started.
pub(super) async fn first_drop(cluster: &Cluster, fault: u32) -> Result<(), NemesisError> {
    let began = Instant::now();
    while began.elapsed() < FIRST_DROP {
        cluster.links.refresh(&cluster.compose, fault).await?;
        cluster.links.probe(&cluster.compose, fault).await?;
        if cluster.links.dropped(&cluster.compose, fault).await? > 0 {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn link(from: &str, to: &str) -> Link {
    Link {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

/// Each of the chosen from every other node, in both directions.
pub(super) fn isolated(names: &[String], chosen: &[usize]) -> Vec<Link> {
    let mut links = Vec::new();
    for (one, from) in names.iter().enumerate() {
        for (other, to) in names.iter().enumerate() {
            if one != other && (chosen.contains(&one) || chosen.contains(&other)) {
                links.push(link(from, to));
            }
        }
    }
    links
}

/// The chosen on one side, the others on the other; ECS on either.
fn halves(names: &[String], chosen: &[usize], ecs_with_them: bool) -> (Vec<Link>, String) {
    let (mut left, mut right): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (position, name) in names.iter().enumerate() {
        if chosen.contains(&position) {
            &mut left
        } else {
            &mut right
        }
        .push(name);
    }
    if ecs_with_them { &mut left } else { &mut right }.push(ECS);
    let mut links = Vec::new();
    for one in &left {
        for other in &right {
            links.extend([link(one, other), link(other, one)]);
        }
    }
    (links, format!("{} and {}", left.join(", "), right.join(", ")))
}

/// In this order each reaches the next one only, and the last does not reach the first: of three, the ends do not reach each other, and both
/// reach the middle. With more, each still sees a majority, and no two the same.
fn ring(names: &[String], order: &[usize]) -> (Vec<Link>, String) {
    let count = order.len();
    let reach = count / 2;
    let mut links = Vec::new();
    for (place, from) in order.iter().enumerate() {
        for (other, to) in order.iter().enumerate() {
            let ahead = (other + count - place) % count;
            let near = ahead.min(count - ahead) <= reach.div_ceil(2) && (count > 3 || place.abs_diff(other) == 1);
            if place != other && !near {
                links.push(link(&names[*from], &names[*to]));
            }
        }
    }
    let told: Vec<&str> = order.iter().map(|position| names[*position].as_str()).collect();
    (links, format!("those that are no neighbours in {}", told.join(" - ")))
}

/// One direction between two nodes.
pub(super) fn cut(names: &[String], chosen: usize, peer: usize, outward: bool) -> (Vec<Link>, String) {
    let (from, to) = if outward { (chosen, peer) } else { (peer, chosen) };
    let told = format!("{} and {}, this way only", names[from], names[to]);
    (vec![link(&names[from], &names[to])], told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("n{number}")).collect()
    }

    fn told(links: &[Link]) -> Vec<String> {
        let mut told: Vec<String> = links.iter().map(|link| format!("{}>{}", link.from, link.to)).collect();
        told.sort();
        told
    }

    /// The links that each partition breaks.
    #[test]
    fn partitions_are_what_they_say() {
        assert_eq!(told(&isolated(&names(3), &[0])), ["n1>n2", "n1>n3", "n2>n1", "n3>n1"]);
        assert_eq!(told(&isolated(&names(3), &[0, 1])).len(), 6);
        let (links, sides) = halves(&names(3), &[0], true);
        assert_eq!(sides, "n1, simulator and n2, n3");
        assert_eq!(
            told(&links),
            [
                "n1>n2",
                "n1>n3",
                "n2>n1",
                "n2>simulator",
                "n3>n1",
                "n3>simulator",
                "simulator>n2",
                "simulator>n3"
            ]
        );
        assert_eq!(told(&ring(&names(3), &[1, 0, 2]).0), ["n2>n3", "n3>n2"]);
        assert_eq!(told(&cut(&names(3), 0, 2, true).0), ["n1>n3"]);
        assert_eq!(told(&cut(&names(3), 0, 2, false).0), ["n3>n1"]);
    }

    /// Of five, each reaches itself and two others: a majority, and no two the same.
    #[test]
    fn a_ring_leaves_majorities() {
        let (links, _) = ring(&names(5), &[0, 1, 2, 3, 4]);
        for name in names(5) {
            assert_eq!(links.iter().filter(|link| link.from == name).count(), 2, "{links:?}");
        }
    }
}
