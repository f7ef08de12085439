//! ListTasks that lags for spans of time, as ECS's does: tasks that are there are not listed yet, and tasks that are gone still are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::task::JoinHandle;

use super::ecs::Ecs;
use crate::check::daemon::Lag;

/// Between two spans, and how long one is, milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 2_000..15_000;
const SPAN_MS: std::ops::Range<u64> = 5_000..40_000;
/// By how much it lags, milliseconds: as a rule by less than Blox waits before it takes an empty list for true, in one of so many spans by more.
const SHORT_MS: std::ops::Range<u64> = 2_000..30_000;
const LONG_MS: std::ops::Range<u64> = 65_000..120_000;
const LONG_ONE_OF: u32 = 5;

/// Switches the lag on and off until it is ended. Dropping it leaves ECS as it is.
pub(super) struct Lags {
    ecs: Ecs,
    all: Arc<Mutex<Vec<Lag>>>,
    task: JoinHandle<()>,
}

impl Lags {
    /// Its choices follow from the run's seed.
    pub(super) fn begin(ecs: &Ecs, seed: u64) -> Lags {
        let all = Arc::new(Mutex::default());
        Lags {
            ecs: ecs.clone(),
            task: tokio::spawn(lag(ecs.clone(), seed, Arc::clone(&all))),
            all,
        }
    }

    /// No more of them. What ECS is asked from now on is no business of this: the last span ends where it is made to behave.
    pub(super) fn stop(&self) {
        self.task.abort();
    }

    /// All spans there were: called when ECS behaves again.
    pub(super) async fn end(&self) -> Vec<Lag> {
        // Where it does not say the time, the last one counts to the end.
        let now_ms = self.ecs.now_ms().await.unwrap_or(u64::MAX);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for lag in all.iter_mut() {
            lag.until_ms = lag.until_ms.min(now_ms);
        }
        all.clone()
    }
}

impl Drop for Lags {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn lag(ecs: Ecs, seed: u64, all: Arc<Mutex<Vec<Lag>>>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x1A6);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(BETWEEN_MS))).await;
        let by_ms = match random.random_ratio(1, LONG_ONE_OF) {
            true => random.random_range(LONG_MS),
            false => random.random_range(SHORT_MS),
        };
        let span = Duration::from_millis(random.random_range(SPAN_MS));
        // It is busy: the next one will do.
        let Ok(from_ms) = ecs.now_ms().await else { continue };
        // Noted before it is asked for: it may lag though its answer is lost.
        let until_ms = u64::MAX;
        lock(&all).push(Lag {
            from_ms,
            until_ms,
            by_ms,
        });
        let _ = ecs.fault(&json!({"lag": {"list_tasks_ms": by_ms}})).await;
        tokio::time::sleep(span).await;
        if ecs.fault(&json!({"lag": {"list_tasks_ms": 0}})).await.is_ok()
            && let Ok(now_ms) = ecs.now_ms().await
        {
            for lag in lock(&all).iter_mut() {
                lag.until_ms = lag.until_ms.min(now_ms);
            }
        }
    }
}

fn lock(all: &Mutex<Vec<Lag>>) -> std::sync::MutexGuard<'_, Vec<Lag>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
