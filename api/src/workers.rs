//! The threads that serve connections. A connection stays with one of them to its end.
//!
//! Threads that take work from each other wake one another to look for it: two or three times for a request that waits for consensus, on top of
//! the one time that it needs. Here whoever answers a request wakes the thread that sends it, and nobody else.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a thread waits at its end for reads that hang on the disk.
const THREAD_END_MS_MAX: u64 = 1_000;

/// As many as there are processors. They end when this is dropped; who calls [`Workers::end`] waits for that.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    stop: DropGuard,
}

struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// A connection's place with its worker.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts the threads; an error where the system has none left.
    pub fn start() -> io::Result<Workers> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let workers = (0..count).map(|_| Worker::start(stop.clone()));
        Ok(Workers {
            workers: workers.collect::<io::Result<_>>()?,
            stop: guard,
        })
    }

    /// Ends the threads; what they still read from the disk is waited for, [`THREAD_END_MS_MAX`] at most.
    pub async fn end(self) {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(|| {
            let threads = self.workers.into_iter().map(|worker| worker.thread.join());
            threads.filter(Result::is_err).count()
        });
        if !matches!(joined.await, Ok(0)) {
            tracing::error!("a thread that served connections panicked");
        }
    }

    /// Has the worker with the fewest connections serve one more.
    pub fn serve(&self, connections: &mut JoinSet<()>, connection: impl Future<Output = ()> + Send + 'static) {
        let idlest = self
            .workers
            .iter()
            .min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let worker = idlest.expect("there is one at least");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&worker.connections));
        connections.spawn_on(
            async move {
                let _place = place;
                connection.await;
            },
            &worker.handle,
        );
    }
}

impl Worker {
    fn start(stop: CancellationToken) -> io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new()
            .name("blox-http".to_owned())
            .spawn(move || {
                runtime.block_on(stop.cancelled());
                runtime.shutdown_timeout(Duration::from_millis(THREAD_END_MS_MAX));
            })?;
        Ok(Worker {
            handle,
            connections: Arc::default(),
            thread,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread::{self, ThreadId};

    use tokio::sync::{Barrier, mpsc};

    use super::*;

    /// Connections are shared out evenly among the threads, also after some have ended.
    #[tokio::test]
    async fn connections_are_shared_out() {
        let workers = Workers::start().expect("threads");
        let count = workers.workers.len();
        let mut connections = JoinSet::new();
        for _ in 0..2 {
            let all_are_there = Arc::new(Barrier::new(3 * count));
            let (seen, mut threads) = mpsc::unbounded_channel::<ThreadId>();
            for _ in 0..3 * count {
                let (all_are_there, seen) = (Arc::clone(&all_are_there), seen.clone());
                workers.serve(&mut connections, async move {
                    seen.send(thread::current().id()).expect("the test listens");
                    all_are_there.wait().await;
                });
            }
            drop(seen);
            while connections.join_next().await.is_some() {}
            let mut by_thread: HashMap<ThreadId, usize> = HashMap::new();
            while let Some(thread) = threads.recv().await {
                *by_thread.entry(thread).or_default() += 1;
            }
            assert_eq!(by_thread.into_values().collect::<Vec<_>>(), vec![3; count]);
        }
        workers.end().await;
    }
}
