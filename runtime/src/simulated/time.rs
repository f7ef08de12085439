//! Virtual time: it stands still while anything can run, and jumps to the next timer when nothing can.

use std::future::Future;
use std::ops::{Add, AddAssign, Sub};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant as _};
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::runtime::since_the_beginning;

pub use openraft_rt_sim::SimSleep as Sleep;

/// A moment of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(SimInstant);

impl Instant {
    /// This moment.
    pub fn now() -> Instant {
        Instant(SimInstant::now())
    }

    /// Time since this moment.
    pub fn elapsed(&self) -> Duration {
        Instant::now() - *self
    }

    /// Time since an earlier moment; none since a later one.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        *self - earlier
    }

    /// Time since an earlier moment; none since a later one.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        *self - earlier
    }

    /// Time since an earlier moment; `None` since a later one.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        (*self >= earlier).then(|| *self - earlier)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0 - duration)
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// Virtual time since the world began.
pub fn elapsed() -> Duration {
    since_the_beginning()
}

/// Resolves after that time.
pub fn sleep(duration: Duration) -> Sleep {
    SimRuntime::sleep(duration)
}

/// Resolves at that moment.
pub fn sleep_until(moment: Instant) -> Sleep {
    SimRuntime::sleep_until(moment.0)
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// What a future gives, if it does within that time.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout::new(sleep(duration), future)
}

/// What a future gives, if it does before that moment.
pub fn timeout_at<F: Future>(moment: Instant, future: F) -> Timeout<F> {
    Timeout::new(sleep_until(moment), future)
}

/// See [`timeout`]. A type with a name, as tokio's: of an opaque one the compiler often cannot tell that it may be sent.
pub struct Timeout<F> {
    time: Pin<Box<Sleep>>,
    future: Pin<Box<F>>,
}

impl<F> Timeout<F> {
    fn new(time: Sleep, future: F) -> Timeout<F> {
        Timeout {
            time: Box::pin(time),
            future: Box::pin(future),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        self.time.as_mut().poll(context).map(|()| Err(Elapsed))
    }
}

/// Ticks at once, and then after each period.
pub fn interval(period: Duration) -> Interval {
    Interval {
        next: Instant::now(),
        period,
    }
}

/// See [`interval`].
pub struct Interval {
    next: Instant,
    period: Duration,
}

impl Interval {
    /// Resolves at the next tick; ticks that were missed come at once.
    pub async fn tick(&mut self) -> Instant {
        let tick = self.next;
        sleep_until(tick).await;
        self.next = tick + self.period;
        tick
    }
}
