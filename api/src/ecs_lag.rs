//! How far behind ECS the state is. Every answer says it, so it is read from the store only now and then.

use std::sync::Mutex;
use std::time::Duration;

use blox_store::Store;
use blox_store::proto::SourceStatus;

/// The watermark is read again after this many milliseconds; the lag itself goes on with the clock.
const WATERMARK_AGE_MS_MAX: u64 = 500;

/// The oldest watermark over all sources, remembered for a moment.
#[derive(Default)]
pub(crate) struct EcsLag {
    read: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Duration,
    watermark_ms: Option<i64>,
}

impl EcsLag {
    /// Milliseconds between now and the oldest watermark; `None` while a source has not reported one, or there is no source.
    pub(crate) fn milliseconds(
        &self,
        store: &Store,
        configured: &[String],
        wall_ms: i64,
        monotonic: Duration,
    ) -> Option<i64> {
        let mut read = self.read.lock().expect("nothing panics under this lock");
        let fresh =
            |reading: &Reading| monotonic.saturating_sub(reading.at) < Duration::from_millis(WATERMARK_AGE_MS_MAX);
        let watermark_ms = match *read {
            Some(reading) if fresh(&reading) => reading.watermark_ms,
            _ => {
                let watermark_ms = store.sources().ok().and_then(|sources| oldest(&sources, configured));
                *read = Some(Reading {
                    at: monotonic,
                    watermark_ms,
                });
                watermark_ms
            }
        };
        watermark_ms.map(|watermark_ms| wall_ms.saturating_sub(watermark_ms).max(0))
    }
}

fn oldest(reported: &[SourceStatus], configured: &[String]) -> Option<i64> {
    let watermark_of = |name: &String| {
        let source = reported.iter().find(|source| source.source == *name)?;
        Some(source.watermark_ms)
    };
    // Reported sources that are configured no more do not count: their watermarks stand still for ever.
    let watermarks: Option<Vec<i64>> = configured.iter().map(watermark_of).collect();
    let oldest = watermarks?.into_iter().min()?;
    (oldest > 0).then_some(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, watermark_ms: i64) -> SourceStatus {
        SourceStatus {
            source: name.into(),
            watermark_ms,
            ..SourceStatus::default()
        }
    }

    #[test]
    fn the_slowest_source_counts() {
        let reported = [source("a", 20), source("b", 10)];
        assert_eq!(oldest(&reported, &["a".into(), "b".into()]), Some(10));
    }

    #[test]
    fn a_source_that_is_configured_no_more_does_not_count() {
        let reported = [source("removed", 1), source("a", 20)];
        assert_eq!(oldest(&reported, &["a".into()]), Some(20));
        assert_eq!(oldest(&reported, &[]), None);
    }

    #[test]
    fn a_source_that_has_not_reported_makes_it_unknown() {
        assert_eq!(oldest(&[source("a", 20)], &["a".into(), "b".into()]), None);
        assert_eq!(oldest(&[source("a", 0)], &["a".into()]), None);
        assert_eq!(oldest(&[], &[]), None);
    }
}
