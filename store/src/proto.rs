//! The schemas of `proto/state.proto`, generated.
#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/blox.store.v1.rs"));
