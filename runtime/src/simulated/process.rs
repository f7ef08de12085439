//! Processes: tasks that live, rest and die together.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::runtime::JoinError;

type Step = Box<dyn FnMut(&Process)>;

thread_local! {
    static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
    static AFTER_STEP: RefCell<Option<Step>> = const { RefCell::new(None) };
    static WORLD: RefCell<Option<Process>> = const { RefCell::new(None) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has `step` called after every poll of a task of any process, with that process. It must not wait, spawn or end a process.
pub fn after_each_step(step: impl FnMut(&Process) + 'static) {
    AFTER_STEP.with(|slot| *slot.borrow_mut() = Some(Box::new(step)));
}

/// What has panicked since this was asked last: a panic ends its task only, as it would not in a node.
pub fn panics() -> Vec<String> {
    PANICS.with(RefCell::take)
}

pub(super) fn reset() {
    CURRENT.with(RefCell::take);
    drop(WORLD.with(RefCell::take));
    drop(AFTER_STEP.with(RefCell::take));
    PANICS.with(RefCell::take);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Running,
    Held,
    Dead,
}

struct Inner {
    name: String,
    state: Mutex<State>,
}

struct State {
    condition: Condition,
    next_task: u64,
    /// Of every task that waits for something.
    waiting: BTreeMap<u64, Waker>,
}

/// A process. What a task of it spawns belongs to it too.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

impl Process {
    /// A process that runs.
    pub fn new(name: &str) -> Process {
        Process(Arc::new(Inner {
            name: name.to_owned(),
            state: Mutex::new(State {
                condition: Condition::Running,
                next_task: 0,
                waiting: BTreeMap::new(),
            }),
        }))
    }

    /// The world itself, to which every task belongs that no process has spawned. It has no name.
    pub(super) fn world() -> Process {
        WORLD.with(|world| world.borrow_mut().get_or_insert_with(|| Process::new("")).clone())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The process whose task is being polled.
    pub fn current() -> Option<Process> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Process) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.0.state.lock().condition == Condition::Dead
    }

    /// Kills it: none of its tasks takes another step, and all are dropped before time moves on.
    pub fn kill(&self) {
        self.set(Condition::Dead);
    }

    /// Holds it: no task of it takes a step until it is released. Its timers go off all the same.
    pub fn hold(&self) {
        self.set(Condition::Held);
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.set(Condition::Running);
    }

    fn set(&self, condition: Condition) {
        let waiting = {
            let mut state = self.0.state.lock();
            if state.condition == Condition::Dead {
                return;
            }
            state.condition = condition;
            if condition == Condition::Held {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// Runs `work` as this process: what it spawns belongs to it.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.with(|current| current.replace(Some(self.clone())));
        let result = work();
        CURRENT.with(|current| *current.borrow_mut() = before);
        result
    }

    /// Runs `work` as no process: what it spawns belongs to the world.
    pub(super) fn outside<T>(work: impl FnOnce() -> T) -> T {
        let before = CURRENT.with(RefCell::take);
        let result = work();
        CURRENT.with(|current| *current.borrow_mut() = before);
        result
    }

    /// A future as a task of this process.
    pub(super) fn task<F: Future>(&self, future: F) -> Task<F> {
        let mut state = self.0.state.lock();
        state.next_task += 1;
        Task {
            process: self.clone(),
            number: state.next_task,
            future: Some(Box::pin(future)),
            state: Arc::default(),
        }
    }
}

/// What is known of a task from outside.
#[derive(Default)]
pub(super) struct TaskState {
    aborted: AtomicBool,
    finished: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl TaskState {
    /// Has the task dropped before it takes another step.
    pub(super) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        let waker = self.waker.lock().take();
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}

/// A task of a process.
pub(super) struct Task<F> {
    state: Arc<TaskState>,
    process: Process,
    number: u64,
    future: Option<Pin<Box<F>>>,
}

impl<F> Task<F> {
    /// What is known of it from outside.
    pub(super) fn state(&self) -> Arc<TaskState> {
        self.state.clone()
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        self.state.finished.store(true, Ordering::Relaxed);
        self.process.0.state.lock().waiting.remove(&self.number);
    }
}

impl<F: Future> Future for Task<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let condition = {
            let mut state = self.process.0.state.lock();
            if state.condition != Condition::Dead {
                let waker = state.waiting.entry(self.number);
                waker
                    .and_modify(|waker| waker.clone_from(context.waker()))
                    .or_insert_with(|| context.waker().clone());
            }
            state.condition
        };
        let is_over = condition == Condition::Dead || self.state.aborted.load(Ordering::Relaxed);
        *self.state.waker.lock() = Some(context.waker().clone());
        match condition {
            _ if is_over => {
                let future = self.future.take();
                self.process.enter(|| drop(future));
                return Poll::Ready(Err(JoinError::Cancelled));
            }
            Condition::Held => return Poll::Pending,
            Condition::Running | Condition::Dead => {}
        }
        let process = self.process.clone();
        let Some(future) = self.future.as_mut() else {
            return Poll::Ready(Err(JoinError::Cancelled));
        };
        let polled = process.enter(|| catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))));
        let result = match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => {
                let message = message(payload.as_ref());
                PANICS.with(|panics| panics.borrow_mut().push(format!("{}: {message}", process.name())));
                Poll::Ready(Err(JoinError::Panic(message)))
            }
        };
        if result.is_ready() {
            self.state.finished.store(true, Ordering::Relaxed);
            // Dropped here, where it is known whose it is.
            let future = self.future.take();
            process.enter(|| drop(future));
        }
        AFTER_STEP.with(|step| {
            if !process.name().is_empty()
                && let Ok(mut step) = step.try_borrow_mut()
                && let Some(step) = step.as_mut()
            {
                step(&process);
            }
        });
        result
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
