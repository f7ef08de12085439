//! What an operator may set.

use std::time::Duration;

const MEBIBYTE: usize = 1024 * 1024;
/// Large reads at once: so many a processor, since one may wait for the disk; and so many at least.
const LARGE_READS_A_PROCESSOR: usize = 2;
const LARGE_READS_MIN: usize = 4;

/// Deadlines and bounds of the HTTP interface. The defaults suit production.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// From a request's head to its answer's head, body upload included (streams then go on without a deadline).
    pub request_deadline: Duration,
    /// A wait for a leader's confirmation, or for this node to catch up, before a read.
    pub read_deadline: Duration,
    /// A wait for a proposal's outcome.
    pub propose_deadline: Duration,
    /// How long one request carries a change of the members on, or waits for the leader to list them.
    pub members_deadline: Duration,
    /// A wait for one answer of ECS.
    pub catalog_deadline: Duration,
    /// Between two bookmarks of an idle watch.
    pub bookmark_interval: Duration,
    /// A connection whose reader takes nothing for this long is dropped; one of HTTP/2 with all that is on it, also where that reader is one of
    /// many, where it does not answer a PING, and where it does not end when it is asked to.
    pub write_stall: Duration,
    /// Between the end of one answer and the next request's head: how long an idle connection is kept, and how slowly a head may arrive
    /// (of HTTP/2 the first bytes of all; half as often it is sent a PING).
    pub keep_alive: Duration,
    /// How long a stopping server waits for requests in flight.
    pub shutdown_grace: Duration,
    /// Requests being handled at once (health and metrics are not counted); more are answered 429.
    pub requests_in_flight: usize,
    /// Bytes of request bodies in memory at once; more are answered 429.
    pub body_bytes_in_flight: usize,
    /// Bytes of answers that are whole in memory and not written yet, at once: values and pages of them. More are answered 429.
    pub answer_bytes_in_flight: usize,
    /// Work off the request threads at once beside large reads: summaries, metrics, the beginning of a backup. Others wait for their turn.
    pub small_reads: usize,
    /// Lists and pages being read from the state at once, a thread each; others wait for their turn, between two chunks too. More threads take
    /// memory, and the processors from consensus.
    pub large_reads: usize,
    /// Streams and watches at once; more are answered 429.
    pub streams: usize,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Ready while no more committed entries than this wait to be applied.
    pub applied_lag_entries: u64,
    /// Ready while a leader with a quorum was heard of within this time, and the state was as new as any within it.
    pub leader_contact: Duration,
}

impl Default for ApiConfig {
    fn default() -> ApiConfig {
        ApiConfig {
            request_deadline: Duration::from_secs(30),
            read_deadline: Duration::from_secs(5),
            propose_deadline: Duration::from_secs(5),
            members_deadline: Duration::from_secs(3),
            catalog_deadline: Duration::from_secs(8),
            bookmark_interval: Duration::from_secs(5),
            write_stall: Duration::from_secs(60),
            // Longer than clients keep them (those of Go and Rust: 90 s), so that none is closed at the moment it is used again.
            keep_alive: Duration::from_secs(120),
            shutdown_grace: Duration::from_secs(10),
            requests_in_flight: 1024,
            body_bytes_in_flight: 128 * MEBIBYTE,
            answer_bytes_in_flight: 128 * MEBIBYTE,
            small_reads: 8,
            large_reads: large_reads(),
            streams: 5000,
            connections: 10_000,
            applied_lag_entries: 1000,
            leader_contact: Duration::from_secs(5),
        }
    }
}

fn large_reads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (LARGE_READS_A_PROCESSOR * processors).max(LARGE_READS_MIN)
}
