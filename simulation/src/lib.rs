//! Whole clusters in a deterministic world: three nodes of the real consensus, state, feed and scheduler, with virtual time, a simulated
//! network, disks that crash, a fleet that lives, and every rule looked at after every step. One seed, one story: what fails once fails again.
//!
//! A tour, from outside inwards:
//! - [`story`]: one run from its beginning to its judgement;
//! - [`cluster`]: the nodes, started, killed, cut from power, held; [`faults`]: when and what; [`weather`]: the network between them;
//! - [`clients`]: who writes and reads, and what they were told; [`operator`]: who says what is to run;
//! - [`duties`]: what the leader does besides, feed, reconcile and scheduler, on [`fleet`], a simulated ECS and SQS;
//! - [`checker`] and [`oracles`]: what must hold, one file each; [`ending`]: what must have come about in the end;
//! - [`trace`]: the story, line by line.
//!
//! Real are: openraft, the batcher, read rounds, bootstrap, the codec and gRPC's own framing, the log above its database, snapshots as
//! files, the store on its memory engine, the feed, reconcile, the scheduler. Simulated are time, threads, connections, the log's disk and power cuts (`raft/src/net/simulated.rs`,
//! `raft/src/log/simulated.rs`, `store/src/engine/memory.rs`, `runtime/src/simulated`).

pub mod checker;
pub mod clients;
pub mod cluster;
pub mod duties;
pub mod ending;
pub mod faults;
pub mod fleet;
mod launcher;
pub mod operator;
pub mod oracles;
pub mod story;
pub mod trace;
pub mod weather;
