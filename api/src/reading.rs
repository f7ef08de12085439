//! Reads: a barrier as fresh as asked, then one consistent view.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use blox_raft::{Consistency, ReadError};
use blox_store::{Revision, StoreError, View, ViewError};

use tokio::sync::Semaphore;

use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::state::ApiState;

/// The request header that chooses consistency where a query key cannot.
pub(crate) const CONSISTENCY_HEADER: &str = "x-blox-consistency";

/// The query keys that choose consistency in `/v2`.
pub(crate) const READING_KEYS: [&str; 3] = ["consistency", "max_stale", "min_revision"];

/// How fresh a read must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) consistency: Consistency,
    /// At least this revision; 0: any.
    pub(crate) min_revision: Revision,
}

/// Why there is no view to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    #[error(transparent)]
    Barrier(#[from] ReadError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("a read was interrupted: {0}")]
    Interrupted(String),
}

impl From<StoreError> for ReadFailure {
    fn from(error: StoreError) -> ReadFailure {
        ReadFailure::View(ViewError::Store(error))
    }
}

impl Reading {
    /// Sees everything acknowledged before it began.
    pub(crate) const LINEARIZABLE: Reading = Reading {
        consistency: Consistency::Linearizable,
        min_revision: 0,
    };

    /// Whatever this node has, once it has come to `min_revision`.
    pub(crate) fn at_least(min_revision: Revision) -> Reading {
        Reading {
            consistency: Consistency::Stale { max: None },
            min_revision,
        }
    }

    /// By `X-Blox-Consistency`; `Err`: the value that is neither.
    pub(crate) fn from_header(headers: &HeaderMap) -> Result<Reading, String> {
        let Some(value) = headers.get(CONSISTENCY_HEADER) else {
            return Ok(Reading::LINEARIZABLE);
        };
        match value.as_bytes() {
            b"" | b"linearizable" => Ok(Reading::LINEARIZABLE),
            b"stale" => Ok(Reading::at_least(0)),
            other => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// By `consistency`, `max_stale` and `min_revision`.
    pub(crate) fn from_query(query: &Query) -> Result<Reading, Problem> {
        let max = query.text("max_stale")?.map(parse_duration).transpose()?;
        let consistency = match query.text("consistency")? {
            None | Some("linearizable") if max.is_some() => {
                return Err(invalid("max_stale", "goes with 'consistency=stale' only"));
            }
            None | Some("linearizable") => Consistency::Linearizable,
            Some("stale") => Consistency::Stale { max },
            Some(_) => return Err(invalid("consistency", "is neither 'linearizable' nor 'stale'")),
        };
        Ok(Reading {
            consistency,
            min_revision: query.number("min_revision")?.unwrap_or(0),
        })
    }
}

impl ApiState {
    /// Waits until the local state is as fresh as asked.
    pub(crate) async fn barrier(&self, reading: Reading) -> Result<(), ReadError> {
        self.cluster()
            .read_barrier(reading.consistency, reading.min_revision, self.config().read_deadline)
            .await
            .map(|_| ())
    }

    /// A view of the head, as fresh as asked.
    pub(crate) async fn view(&self, reading: Reading) -> Result<View, ReadFailure> {
        self.barrier(reading).await?;
        Ok(self.store().view()?)
    }

    /// Runs work that reads much off the request threads, once it has its place among those that run.
    pub(crate) async fn read_much<T, Work>(&self, work: Work) -> Result<T, ReadFailure>
    where
        T: Send + 'static,
        Work: FnOnce() -> Result<T, ReadFailure> + Send + 'static,
    {
        off_request_threads(self.large_reads(), work).await
    }

    /// Runs work off the request threads that is done soon, and answered however much is read meanwhile.
    pub(crate) async fn read_little<T, Work>(&self, work: Work) -> Result<T, ReadFailure>
    where
        T: Send + 'static,
        Work: FnOnce() -> Result<T, ReadFailure> + Send + 'static,
    {
        off_request_threads(self.small_reads(), work).await
    }
}

/// Runs work on a thread of its own, once it has its place among those that run.
async fn off_request_threads<T, Work>(places: Arc<Semaphore>, work: Work) -> Result<T, ReadFailure>
where
    T: Send + 'static,
    Work: FnOnce() -> Result<T, ReadFailure> + Send + 'static,
{
    let place = places.acquire_owned().await.map_err(interrupted)?;
    let done = tokio::task::spawn_blocking(move || {
        // Not the request's: a thread goes on after its request has gone.
        let _place = place;
        work()
    });
    done.await.unwrap_or_else(|error| Err(interrupted(error)))
}

/// Work that was never done, or broke off.
pub(crate) fn interrupted(error: impl std::fmt::Display) -> ReadFailure {
    ReadFailure::Interrupted(error.to_string())
}

/// Reads `500ms`, `2s` or `1m`.
fn parse_duration(text: &str) -> Result<Duration, Problem> {
    let wrong = || invalid("max_stale", "is not a time such as '500ms', '2s' or '1m'");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose request has gone keeps its place until its work is done: there is never more of it than there are places.
    #[tokio::test]
    async fn abandoned_work_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let (begun, begins) = std::sync::mpsc::channel();
        let (finish, finishes) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn(off_request_threads(Arc::clone(&places), move || {
            begun.send(()).expect("somebody waits for it");
            finishes.recv().map_err(interrupted)
        }));
        let begins = tokio::task::spawn_blocking(move || begins.recv());
        begins.await.expect("no panic").expect("it has begun");
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(places.available_permits(), 0);
        finish.send(()).expect("it goes on");
        assert_eq!(
            off_request_threads(places, || Ok(1)).await.expect("its turn has come"),
            1
        );
    }

    #[test]
    fn durations_need_their_unit() {
        let read = |text| parse_duration(text).ok();
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("2s"), Some(Duration::from_secs(2)));
        assert_eq!(read("1m"), Some(Duration::from_secs(60)));
        for wrong in [
            "",
            "2",
            "s",
            "-1s",
            "2h",
            "99999999999999999999s",
            "18446744073709551615s",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn max_stale_needs_stale() {
        let reading = |query| Reading::from_query(&Query::parse(Some(query)));
        assert!(reading("max_stale=2s").is_err());
        assert!(reading("consistency=linearizable&max_stale=2s").is_err());
        let stale = reading("consistency=stale&max_stale=2s&min_revision=9").expect("it is valid");
        assert_eq!(
            stale.consistency,
            Consistency::Stale {
                max: Some(Duration::from_secs(2))
            }
        );
        assert_eq!(stale.min_revision, 9);
        assert!(reading("consistency=eventual").is_err());
    }
}
