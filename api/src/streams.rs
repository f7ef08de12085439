//! Streams: a bounded number of them, each a body that goes on until its reader leaves, the history is lost or the node stops.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use blox_store::{WatchBatch, WatchEnd, Watcher};
use bytes::Bytes;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::state::ApiState;

/// How long what was sent last has to leave before a stream breaks off: a broken body takes along whatever is not written yet.
const LAST_LINE_GRACE: Duration = Duration::from_millis(50);

/// A place among the streams that may run at once; given back when it is dropped.
pub(crate) struct StreamPlace {
    _permit: OwnedSemaphorePermit,
}

impl ApiState {
    /// A place for one more stream; `None`: all are taken.
    pub(crate) fn stream_place(&self) -> Option<StreamPlace> {
        let permit = self.stream_permits().try_acquire_owned().ok()?;
        Some(StreamPlace { _permit: permit })
    }
}

/// Why a stream breaks off.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The watch ended.
    Watch(WatchEnd),
    /// The node stops.
    Stopping,
}

/// What a stream waits for next.
pub(crate) enum StreamEvent {
    Batch(WatchBatch),
    /// Nothing was delivered for the idle time; everything up to this revision was.
    Idle(u64),
}

/// A running watch with everything that may end it.
pub(crate) struct StreamSource {
    watcher: Watcher,
    // Both are waited for as long as the stream goes on, not anew for each change.
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    /// `None`: nobody is told of silence.
    silence: Option<Silence>,
    _place: StreamPlace,
}

impl StreamSource {
    pub(crate) fn new(watcher: Watcher, state: &ApiState, idle: Option<Duration>, place: StreamPlace) -> StreamSource {
        StreamSource {
            watcher,
            ending: Box::pin(state.streams_end().cancelled_owned()),
            silence: idle.map(Silence::begin),
            _place: place,
        }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.watcher.delivered()
    }

    /// The next changes, whole revisions in order. Revisions that hold nothing asked for do not end a silence.
    pub(crate) async fn next(&mut self) -> Result<StreamEvent, StreamEnd> {
        loop {
            let silence = async {
                match &mut self.silence {
                    Some(silence) => silence.lasts().await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                () = &mut self.ending => return Err(StreamEnd::Stopping),
                () = silence => StreamEvent::Idle(self.watcher.delivered()),
                batch = self.watcher.next() => StreamEvent::Batch(batch.map_err(StreamEnd::Watch)?),
            };
            if matches!(&event, StreamEvent::Batch(batch) if batch.changes.is_empty()) {
                continue;
            }
            if let Some(silence) = &mut self.silence {
                silence.since = Instant::now();
            }
            return Ok(event);
        }
    }
}

/// How long nothing was said.
struct Silence {
    since: Instant,
    /// So long is told.
    told: Duration,
    /// Rings when the present silence has lasted so long, or one before it would have.
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn begin(told: Duration) -> Silence {
        let since = Instant::now();
        Silence {
            since,
            told,
            timer: Box::pin(sleep_until(since + told)),
        }
    }

    /// Waits until it has lasted so long.
    async fn lasts(&mut self) {
        loop {
            self.timer.as_mut().await;
            let due = self.since + self.told;
            if due <= Instant::now() {
                return;
            }
            self.timer.as_mut().reset(due);
        }
    }
}

/// What a stream's writer makes of what it waited for.
pub(crate) struct StreamStep {
    /// Bytes to send; may be empty.
    pub(crate) bytes: Bytes,
    /// After them, the connection breaks off without the last chunk, or its stream is reset, so that its reader sees a failure and not an end.
    pub(crate) broken: bool,
}

/// A body made of steps. `step` is called again and again with the same writer until it says `broken`.
pub(crate) fn stream_body<Writer, Step, Next>(writer: Writer, step: Step) -> Body
where
    Writer: Send + 'static,
    Step: Fn(Writer) -> Next + Send + Sync + 'static,
    Next: Future<Output = (Writer, StreamStep)> + Send + 'static,
{
    enum Phase<Writer> {
        Running(Writer),
        Breaking,
        Over,
    }
    let step = Arc::new(step);
    let chunks = stream::unfold(Phase::Running(writer), move |phase| {
        let step = Arc::clone(&step);
        async move {
            let mut writer = match phase {
                Phase::Running(writer) => writer,
                Phase::Breaking => return break_off(Phase::Over).await,
                Phase::Over => return None,
            };
            loop {
                let (next, done) = step(writer).await;
                writer = next;
                match (done.bytes.is_empty(), done.broken) {
                    (true, true) => return break_off(Phase::Over).await,
                    (false, true) => return Some((Ok(done.bytes), Phase::Breaking)),
                    (false, false) => return Some((Ok(done.bytes), Phase::Running(writer))),
                    (true, false) => {}
                }
            }
        }
    });
    Body::from_stream(chunks)
}

async fn break_off<Phase>(over: Phase) -> Option<(io::Result<Bytes>, Phase)> {
    tokio::time::sleep(LAST_LINE_GRACE).await;
    Some((Err(io::Error::other("the stream was broken off")), over))
}
