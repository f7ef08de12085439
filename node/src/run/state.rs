//! The state of this node when it turns out damaged: it is put aside and rebuilt where log and identity are there, and never served from.

use std::path::Path;

use blox_store::{FeatureLevel, Store, StoreError};

/// Opens the state. A damaged one beside a member's log is put aside for an empty one, which consensus fills again: from the log, from this
/// node's own snapshot or from a peer's. `known`: the newest feature level this node knows.
pub(super) fn open(directory: &Path, member: bool, known: FeatureLevel) -> Result<Store, StoreError> {
    match Store::open_knowing(directory, known) {
        Ok(store) => {
            Store::forget_aside(directory)?;
            Ok(store)
        }
        Err(StoreError::Corrupt(what)) if member => {
            let aside = Store::put_aside(directory)?;
            tracing::error!(
                what,
                aside = %aside.display(),
                "the state is damaged: it is put aside until the next start, and rebuilt from the log, a snapshot or a peer"
            );
            Store::open_knowing(directory, known)
        }
        Err(error) => Err(error),
    }
}

/// Resolves with what is wrong once the running state turns out damaged.
pub(super) async fn damaged(store: &Store) -> String {
    let mut damage = store.damage();
    let found = damage
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|found| found.clone());
    match found {
        Some(what) => what,
        // The store is gone, and the process with it.
        None => std::future::pending().await,
    }
}

/// What to do about it.
pub(super) fn advised(what: &str) -> String {
    format!(
        "the state is damaged ({what}): nothing was served from the damaged part. Start this node again: it puts the damaged state aside and \
         rebuilds it. If this happens again, the disk is failing: replace it"
    )
}
