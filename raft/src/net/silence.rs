//! Says once that a peer does not answer, and once that it does again. What openraft writes of each heartbeat that fails is off unless asked for:
//! it would be twenty lines a second.

use std::time::Duration;

use blox_runtime::time::Instant;

/// A peer that has answered no heartbeat for so long, ...
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// ... and not so many of them, is silent. (One may have waited for this node itself.)
const HEARTBEATS_MISSED: u32 = 4;

/// What a leader hears of one peer.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// When the first heartbeat without an answer was sent.
    since: Option<Instant>,
    missed: u32,
    said: bool,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    FellSilent,
    AnswersAgain { after: Duration },
}

impl Silence {
    /// A heartbeat that was sent at `sent` was answered, or was not.
    pub(super) fn heartbeat(&mut self, sent: Instant, answered: bool) -> Option<Change> {
        if answered {
            let Silence { since, said, .. } = std::mem::take(self);
            return since
                .filter(|_| said)
                .map(|since| Change::AnswersAgain { after: since.elapsed() });
        }
        let since = *self.since.get_or_insert(sent);
        self.missed += 1;
        if self.said || since.elapsed() < SILENT_AFTER || self.missed < HEARTBEATS_MISSED {
            return None;
        }
        self.said = true;
        Some(Change::FellSilent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heartbeats for so long, all answered or none; what was said.
    async fn heartbeats(silence: &mut Silence, interval: Duration, answered: bool, lasting: Duration) -> Vec<Change> {
        let began = Instant::now();
        let mut said = Vec::new();
        while began.elapsed() < lasting {
            let sent = Instant::now();
            blox_runtime::time::sleep(interval).await;
            said.extend(silence.heartbeat(sent, answered));
        }
        said
    }

    /// A pause is not mentioned, a silence is mentioned once at its beginning and once at its end, and the next one anew. Where heartbeats are
    /// rare, one that is lost is no silence.
    #[tokio::test(start_paused = true)]
    async fn a_silence_is_said_twice() {
        let mut silence = Silence::default();
        let (often, rarely) = (50, 1_500);
        let after = Duration::from_millis(60_000);
        for (interval, answered, lasting, expected) in [
            (often, true, 2_000, None),
            (often, false, 900, None),
            (often, true, 500, None),
            (often, false, 60_000, Some(Change::FellSilent)),
            (
                often,
                true,
                50,
                Some(Change::AnswersAgain {
                    after: after + Duration::from_millis(50),
                }),
            ),
            (often, false, 1_500, Some(Change::FellSilent)),
            (
                often,
                true,
                50,
                Some(Change::AnswersAgain {
                    after: Duration::from_millis(1_550),
                }),
            ),
            (rarely, false, 4_500, None),
            (rarely, false, 1_500, Some(Change::FellSilent)),
        ] {
            let (interval, lasting) = (Duration::from_millis(interval), Duration::from_millis(lasting));
            let said = heartbeats(&mut silence, interval, answered, lasting).await;
            assert_eq!(said, Vec::from_iter(expected), "{answered} for {lasting:?}");
        }
    }
}
