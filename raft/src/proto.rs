//! The peer protocol, generated from `proto/peer.proto`.
#![allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown)]

tonic::include_proto!("blox.raft.v1");
