//! Where the time of one put goes: one client, to the leader, by what nodes count themselves. Ours alone.

use std::time::Duration;

use super::keys::{FILLERS, KEYS, VALUE_BYTES};
use super::{RowError, Settings, Sides, say};
use crate::figure::Figure;
use crate::load::{Load, Times, Where, Work, fill, run};
use crate::server::MEMBERS;

/// What is counted of each put, on the leader.
const HTTP: &str = "blox_http_request_duration_seconds";
const QUEUE: &str = "blox_raft_proposal_queue_duration_seconds";
const COMMIT: &str = "blox_raft_entry_commit_duration_seconds";
const APPLY: &str = "blox_raft_entry_apply_duration_seconds";
/// On each node.
const SYNC: &str = "blox_raft_wal_fsync_duration_seconds";
/// The stages, in the order in which a put passes them. They add up to what the client sees.
const STAGES: [&str; 6] = [
    "client, connection, and HTTP before it is measured",
    "HTTP, and what is neither of the following",
    "waits for its entry",
    "a follower's sync, on average",
    "the rest of the commit: the way there and back, threads",
    "apply",
];

/// A family of metrics on a node at one moment: count and seconds.
type Sum = (f64, f64);

/// What was counted on all nodes at one moment.
struct Counted {
    http: Sum,
    queue: Sum,
    commit: Sum,
    apply: Sum,
    follower_syncs: Sum,
}

/// Round by round.
pub async fn measure(sides: &Sides, settings: &Settings) -> Result<Vec<Figure>, RowError> {
    let mut figures = STAGES.map(|stage| Figure::new(format!("one put: {stage}"), "us"));
    let mut all = Figure::new("one put: all", "us");
    fill(&sides.ours, KEYS, VALUE_BYTES, FILLERS).await?;
    for round in 0..settings.rounds {
        // Nodes count all that comes, so that what counts must be all there is.
        let load = |counts: Duration| Load {
            work: Work::Put { bytes: VALUE_BYTES },
            clients: 1,
            members: Where::Leader,
            keys: KEYS,
            times: Times {
                warm: Duration::ZERO,
                counts,
            },
            seed: settings.seed ^ (round as u64) << 16,
        };
        sides.peer.until_quiet().await?;
        let leader = sides.ours.leader().await?;
        run(&sides.ours, &load(settings.times.warm)).await?;
        let before = counted(sides, leader).await?;
        let window = run(&sides.ours, &load(settings.times.counts)).await?;
        let after = counted(sides, leader).await?;
        let client = window.latency.mean();
        for (figure, micros) in figures.iter_mut().zip(stages(client, &before, &after)) {
            figure.ours.push(micros);
        }
        all.ours.push(client);
        say(&format!("  one put takes {client:.0} us of its client's time"));
    }
    Ok(figures.into_iter().chain([all]).collect())
}

async fn counted(sides: &Sides, leader: usize) -> Result<Counted, RowError> {
    let ours = &sides.ours;
    let mut follower_syncs = (0.0, 0.0);
    for follower in (0..MEMBERS).filter(|member| *member != leader) {
        let (count, seconds) = ours.summed(follower, SYNC, "").await?;
        follower_syncs = (follower_syncs.0 + count, follower_syncs.1 + seconds);
    }
    Ok(Counted {
        http: ours.summed(leader, HTTP, "method=\"PUT\"").await?,
        queue: ours.summed(leader, QUEUE, "").await?,
        commit: ours.summed(leader, COMMIT, "").await?,
        apply: ours.summed(leader, APPLY, "").await?,
        follower_syncs,
    })
}

/// Microseconds of each of [`STAGES`], means.
fn stages(client: f64, before: &Counted, after: &Counted) -> [f64; STAGES.len()] {
    let mean = |of: fn(&Counted) -> Sum| {
        let ((count_before, before), (count_after, after)) = (of(before), of(after));
        1e6 * (after - before) / (count_after - count_before).max(1.0)
    };
    let (http, queue) = (mean(|counted| counted.http), mean(|counted| counted.queue));
    let (commit, apply) = (mean(|counted| counted.commit), mean(|counted| counted.apply));
    let sync = mean(|counted| counted.follower_syncs);
    [
        client - http,
        http - queue - commit - apply,
        queue,
        sync,
        commit - sync,
        apply,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stages add up to what the client sees, by what was counted meanwhile and nothing from before.
    #[test]
    fn stages_add_up() {
        let at = |count: f64, micros: f64| (count, micros / 1e6);
        let before = Counted {
            http: at(1.0, 9_000.0),
            queue: at(1.0, 9_000.0),
            commit: at(1.0, 9_000.0),
            apply: at(1.0, 9_000.0),
            follower_syncs: at(2.0, 9_000.0),
        };
        let after = Counted {
            http: at(3.0, 10_000.0),
            queue: at(3.0, 9_010.0),
            commit: at(3.0, 9_700.0),
            apply: at(3.0, 9_040.0),
            follower_syncs: at(6.0, 9_800.0),
        };
        let stages = stages(600.0, &before, &after).map(f64::round);
        assert_eq!(stages, [100.0, 125.0, 5.0, 200.0, 150.0, 20.0]);
        assert_eq!(stages.iter().sum::<f64>(), 600.0);
    }
}
