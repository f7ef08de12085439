//! Who belongs to the cluster: identities that are refused, members listed, replaced, removed, promoted.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod load;
mod operated;
mod replaced;
