//! A watch channel like tokio's, whose waiters wake in the order in which they began to wait: tokio's draws lots.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// Every sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

impl std::fmt::Display for RecvError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "channel closed")
    }
}

impl std::error::Error for RecvError {}

struct Channel<T> {
    value: RwLock<(T, u64)>,
    waiters: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    next: u64,
    queue: VecDeque<(u64, Waker)>,
    senders: usize,
}

impl<T> Channel<T> {
    fn wake_all(&self) {
        let queue = std::mem::take(&mut self.waiters.lock().queue);
        queue.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// See [`tokio::sync::watch::Sender`].
#[derive(Debug)]
pub struct Sender<T>(Arc<Channel<T>>);

impl<T> std::fmt::Debug for Channel<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a watch channel")
    }
}

/// See [`tokio::sync::watch::Receiver`].
#[derive(Debug)]
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

/// The value while it is looked at.
pub struct Ref<'a, T>(RwLockReadGuard<'a, (T, u64)>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

/// A channel and its first receiver.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A channel without receivers.
    pub fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Channel {
            value: RwLock::new((value, 0)),
            waiters: Mutex::new(Waiters {
                senders: 1,
                ..Waiters::default()
            }),
        }))
    }

    /// One more receiver, which has seen the value of now.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.value.read().1,
            channel: self.0.clone(),
        }
    }

    /// The value.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    /// Puts another value there and tells the receivers; the one before.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|current| std::mem::swap(current, &mut value));
        value
    }

    /// Changes the value and tells the receivers.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Changes the value, and tells the receivers if `modify` says that it did.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut value = self.0.value.write();
            let modified = modify(&mut value.0);
            value.1 += u64::from(modified);
            modified
        };
        if modified {
            self.0.wake_all();
        }
        modified
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.waiters.lock().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let last = {
            let mut waiters = self.0.waiters.lock();
            waiters.senders -= 1;
            waiters.senders == 0
        };
        if last {
            self.0.wake_all();
        }
    }
}

impl<T> Receiver<T> {
    /// The value.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.channel.value.read())
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.channel.value.read();
        self.seen = value.1;
        Ref(value)
    }

    /// Resolves once the value is one that was not seen yet; it counts as seen then.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        let mut waiter = Waiter {
            channel: self.channel.clone(),
            number: None,
        };
        let seen = &mut self.seen;
        poll_fn(|context| {
            let version = waiter.channel.value.read().1;
            if version != *seen {
                *seen = version;
                return Poll::Ready(Ok(()));
            }
            if waiter.channel.waiters.lock().senders == 0 {
                return Poll::Ready(Err(RecvError));
            }
            waiter.wait(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Resolves once the value is as asked.
    pub async fn wait_for(&mut self, mut asked: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let found = asked(&self.borrow_and_update());
            if found {
                return Ok(self.borrow());
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver {
            channel: self.channel.clone(),
            seen: self.seen,
        }
    }
}

/// A place in the queue, given up when the wait is.
struct Waiter<T> {
    channel: Arc<Channel<T>>,
    number: Option<u64>,
}

impl<T> Waiter<T> {
    fn wait(&mut self, waker: &Waker) {
        let mut waiters = self.channel.waiters.lock();
        if let Some((_, waiting)) = waiters
            .queue
            .iter_mut()
            .find(|(number, _)| Some(*number) == self.number)
        {
            waiting.clone_from(waker);
            return;
        }
        waiters.next += 1;
        let number = waiters.next;
        waiters.queue.push_back((number, waker.clone()));
        self.number = Some(number);
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.channel
                .waiters
                .lock()
                .queue
                .retain(|(waiting, _)| *waiting != number);
        }
    }
}
