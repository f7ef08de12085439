//! No election under full load with the default heartbeat and election times.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::{Cluster, count, report};
use crate::load::{Load, leadership};

/// Clients, each with one request under way.
const CLIENTS: u64 = 64;
/// Nothing observes ECS here: no source, and nobody listens there.
pub const NO_ECS: &str = "http://127.0.0.1:9";
/// The default times: 50 ms between heartbeats, an election after 150 to 300 ms without.
pub const DEFAULT_TIMING: &str = "[timing]\n";

/// 64 clients write and read on all nodes as fast as they are answered, on the cores that the three nodes share with them: the leader
/// leads from first to last, in one term. What delays heartbeats (API work on the consensus thread, a wait for the disk in it, a thread
/// that the others do not let run) is seen here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_election_under_full_load() {
    let duration: Duration = count(Duration::from_secs(20), Duration::from_secs(600));
    let cluster = Cluster::start_with(Cluster::directory(), NO_ECS, &[], DEFAULT_TIMING).await;
    let before = leadership(&cluster).await;
    let load = Load::start(&cluster, CLIENTS, Duration::ZERO);
    tokio::time::sleep(duration).await;
    let (seen, ran) = load.stop().await;
    let after = leadership(&cluster).await;
    let (writes, reads) = (seen.writes.load(Ordering::Relaxed), seen.reads.load(Ordering::Relaxed));
    let (failed, contact_ms) = (
        seen.failed.load(Ordering::Relaxed),
        seen.contact_ms_max.load(Ordering::Relaxed),
    );
    let core_wait_ms = seen.core_wait_ms_max.load(Ordering::Relaxed);
    let rate = (writes + reads) as f64 / ran.as_secs_f64();
    println!(
        "{writes} writes and {reads} reads in {:.0} s ({rate:.0} a second), {failed} failed; \
         longest without a word of the leader: {contact_ms} ms; longest wait of a plain thread for a core: {core_wait_ms} ms",
        ran.as_secs_f64()
    );
    assert_eq!(
        before, after,
        "(term, leader, leaders seen) by node, before and after; a plain thread waited {core_wait_ms} ms for a core"
    );
    assert_eq!(failed, 0, "requests failed though the leader stayed");
    report(
        "row 19 no election under full load",
        &[
            ("minutes", &format!("{:.1}", ran.as_secs_f64() / 60.0)),
            ("clients", &CLIENTS.to_string()),
            ("requests a second", &format!("{rate:.0}")),
            ("elections", "0"),
            ("longest without a word of the leader", &format!("{contact_ms} ms")),
            (
                "longest wait of a plain thread for a core",
                &format!("{core_wait_ms} ms"),
            ),
        ],
    );
}
