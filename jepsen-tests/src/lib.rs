//! Failure tests of Blox on the shipped `docker-compose.yml`, from outside: containers are killed, paused, cut off, removed, while clients write, read,
//! query and follow streams, and every promise is judged by what they saw.
//!
//! The rooms: [`compose`] drives the containers and their network, [`load`] and [`stream`] are the clients, [`simulator`] is the other end of the
//! nodes, [`own_scheduler`] is a scheduler of a user's own beside them, [`history`] records every operation, [`observe`] asks the nodes who leads.
//! Pure, and tested by themselves: [`compare`] for streams, [`verdict`], [`percentile`], [`readiness`], [`daemons`], [`confinement`], [`timeline`].
//! [`story`] puts it together: `make failover`.
//!
//! The campaign `make jepsen` has rooms of its own beside these: [`workload`] is what clients do, [`nemesis`] what is done to the cluster, [`suite`] a
//! run from its seed to its verdict, [`check`] judges the run's files, [`relay`] holds packets on their way, and [`lossy`] is a disk for nodes that loses
//! what was not synced.

pub mod check;
pub mod client;
pub mod clock;
pub mod command;
pub mod compare;
pub mod compose;
pub mod confinement;
pub mod daemons;
pub mod history;
pub mod load;
pub mod lossy;
pub mod nemesis;
pub mod observe;
pub mod own_scheduler;
pub mod percentile;
pub mod readiness;
pub mod relay;
pub mod report;
pub mod screen;
pub mod simulator;
pub mod story;
pub mod stream;
pub mod suite;
pub mod timeline;
pub mod verdict;
pub mod workload;
