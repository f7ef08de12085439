//! openraft's view of the simulated world, and ours.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_sim::{Elapsed, SimInstant, SimJoinHandle, SimRuntime, SimSleep, SimTimeout};

use super::process::{self, Process, TaskState};
use super::time::sleep;
use crate::random;

/// How long what would block a thread takes here, microseconds.
const BLOCKING_MICROSECONDS: std::ops::RangeInclusive<u64> = 10..=2_000;

/// One run of the world.
pub struct Simulation {
    runtime: SimRuntime,
}

impl Simulation {
    /// A world in which everything that is left to chance follows from `seed`. One at a time on a thread.
    pub fn new(seed: u64) -> Simulation {
        process::reset();
        random::seed(seed);
        Simulation {
            runtime: SimRuntime::with_seed(seed),
        }
    }

    /// Has the executor note every poll, wake and timer, for [`Simulation::take_trace`].
    pub fn record_trace(&mut self) {
        self.runtime.record_trace(true);
    }

    /// What the executor noted.
    pub fn take_trace(&self) -> Vec<String> {
        self.runtime.take_trace()
    }

    /// Runs `story` to its end.
    pub fn run<F: Future>(&mut self, story: F) -> F::Output {
        self.runtime.block_on(story)
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        process::reset();
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked.
    Panic(String),
    /// Its process was killed.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panic(message) => write!(formatter, "a task panicked: {message}"),
            JoinError::Cancelled => write!(formatter, "a task was cancelled"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Resolves to what a task gives. Dropping it leaves the task alone.
pub struct JoinHandle<T> {
    joined: SimJoinHandle<Result<T, JoinError>>,
    task: Arc<TaskState>,
}

impl<T> JoinHandle<T> {
    /// Has the task dropped before it takes another step.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether its task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.joined)
            .poll(context)
            .map(|joined| joined.unwrap_or(Err(JoinError::Cancelled)))
    }
}

/// Spawns a task into the process whose task spawns it; outside of all processes, into the world itself.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let process = Process::current().unwrap_or_else(Process::world);
    let task = process.task(future);
    JoinHandle {
        task: task.state(),
        joined: SimRuntime::spawn(task),
    }
}

/// Spawns a task into the world itself: it goes on whichever process dies.
pub fn spawn_outside<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    Process::outside(|| drop(spawn(future)));
}

/// Work that would block a thread: done at once, a moment later.
pub fn spawn_blocking<W, T>(work: W) -> JoinHandle<T>
where
    W: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn(async move {
        sleep(Duration::from_micros(random::between(BLOCKING_MICROSECONDS))).await;
        work()
    })
}

/// What openraft runs on: `openraft-rt-sim`, with tasks that belong to processes.
#[derive(Debug)]
pub struct Simulated(SimRuntime);

impl AsyncRuntime for Simulated {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = SimSleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = SimTimeout<T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> SimSleep {
        SimRuntime::sleep(duration)
    }

    fn sleep_until(deadline: SimInstant) -> SimSleep {
        SimRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> SimTimeout<F> {
        SimRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: SimInstant, future: F) -> SimTimeout<F> {
        SimRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Panic(_))
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        Simulated(SimRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let handle = spawn_blocking(work);
        async move { handle.await.map_err(io::Error::other) }
    }
}

/// Virtual time since the world began.
pub(super) fn since_the_beginning() -> Duration {
    SimInstant::now().elapsed_since_start()
}
