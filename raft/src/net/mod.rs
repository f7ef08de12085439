//! The peer network: gRPC. Four connections a peer, so that nothing large stands before what keeps a leader alive: heartbeats and votes,
//! appends (one bidirectional stream), snapshots, and what followers ask of the leader for their callers.

mod append;
mod channels;
mod client;
mod envelope;
mod failures;
mod forwarded;
mod requests;
mod server;
mod silence;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod snapshot;
mod transport;

use std::time::Duration;

pub(crate) use channels::Channels;
pub(crate) use client::Network;
pub(crate) use requests::{ForwardFailure, Requests, fetch_snapshot, identify};
pub(crate) use server::serve;
pub(crate) use transport::{Listener, listen};

/// Largest gRPC message, bytes: an append of [`crate::propose::COMMAND_BYTES_MAX`] and more fits.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A connection on which nothing moves is asked for a sign of life after this, ...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// ... and closed when none comes within this.
const KEEP_ALIVE_DEADLINE: Duration = Duration::from_millis(1500);
