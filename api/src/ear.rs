//! What the streams of one connection wait for. The state wakes whoever listens to it in no order of theirs: with an ear of its own, those of a
//! connection are woken together, and what they have to say is sent together ([`crate::gathered`]).

use std::sync::{Arc, OnceLock};

use blox_store::{Progress, Store};
use tokio::sync::watch;

/// One connection's. It listens once the first stream asks for it, until the connection is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ear(Arc<OnceLock<watch::Receiver<Progress>>>);

impl Ear {
    /// How far the state has come, as this connection hears it.
    pub(crate) fn progress(&self, store: &Store) -> watch::Receiver<Progress> {
        self.0.get_or_init(|| listen(store.progress())).clone()
    }
}

fn listen(mut state: watch::Receiver<Progress>) -> watch::Receiver<Progress> {
    let now = state.borrow_and_update().clone();
    let (told, heard) = watch::channel(now);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = told.closed() => return,
                // Without a state there is nothing to tell: those who listen hear that too.
                changed = state.changed() => if changed.is_err() { return },
            }
            let now = state.borrow_and_update().clone();
            told.send_replace(now);
        }
    });
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> Progress {
        Progress {
            revision,
            ..Progress::default()
        }
    }

    /// Everybody on a connection hears each change, and that the state is gone.
    #[tokio::test]
    async fn changes_are_told_on() {
        let (state, receiver) = watch::channel(at(1));
        let mut one = listen(receiver);
        let mut other = one.clone();
        for revision in 2..5 {
            state.send_replace(at(revision));
            for ear in [&mut one, &mut other] {
                ear.changed().await.expect("the state is there");
                assert_eq!(ear.borrow_and_update().revision, revision);
            }
        }
        drop(state);
        one.changed().await.expect_err("the state is gone");
        other.changed().await.expect_err("the state is gone");
    }

    /// Who listens no more costs nothing.
    #[tokio::test]
    async fn it_ends_with_those_who_listen() {
        let (state, receiver) = watch::channel(at(1));
        drop(listen(receiver));
        state.closed().await;
    }
}
