//! What a round has shown of the example scheduler, and which of its promises broke. Pure.

use serde_json::{Value, json};

use super::{COPIES, Copies};

/// What a round has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Over all rounds so far.
    pub copies: Copies,
    /// Of them, started in this round.
    pub started: usize,
    /// The leading process was killed so often.
    pub kills: usize,
    /// Copies that were made to die.
    pub deaths: usize,
    /// Processes that ended by themselves, and their last words.
    pub ended: Vec<String>,
    /// Why not all copies ran in time, if they did not.
    pub late: Option<String>,
}

impl Tally {
    /// Sentences; none: N copies run, and none was started twice.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let Copies {
            running,
            twice,
            at_once_max,
            ..
        } = &self.copies;
        if let Some(late) = &self.late {
            broken.push(format!("the example scheduler did not come to rest: {late}"));
        }
        if *running != COPIES {
            broken.push(format!(
                "the example scheduler runs {running} copies instead of {COPIES}"
            ));
        }
        broken.extend(
            twice
                .iter()
                .map(|twice| format!("the example scheduler started a copy twice: {twice}")),
        );
        if *at_once_max > COPIES {
            broken.push(format!(
                "the example scheduler had {at_once_max} copies at once, wanted are {COPIES}"
            ));
        }
        broken.extend(
            self.ended
                .iter()
                .map(|ended| format!("the example scheduler ended by itself: {ended}")),
        );
        // A round in which nothing happened to it proves nothing.
        if self.kills + self.deaths == 0 {
            broken.push("nothing was done to the example scheduler".to_owned());
        }
        broken
    }

    /// For people.
    pub fn line(&self) -> String {
        let Copies {
            running,
            twice,
            at_once_max,
            ..
        } = &self.copies;
        format!(
            "the example scheduler runs {running} of {COPIES} copies: {} started in this round, {} launches started two, at most {at_once_max} at once; \
             its leader was killed {} times, {} copies died",
            self.started,
            twice.len(),
            self.kills,
            self.deaths
        )
    }

    /// For the summary.
    pub fn summary(&self) -> Value {
        json!({
            "wanted": COPIES, "running": self.copies.running, "started": self.started, "started_twice": self.copies.twice,
            "at_once_max": self.copies.at_once_max, "kills": self.kills, "deaths": self.deaths, "ended_by_itself": self.ended, "late": self.late,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally {
            copies: Copies {
                running: COPIES,
                started: 9,
                twice: Vec::new(),
                at_once_max: COPIES,
            },
            started: 5,
            kills: 3,
            deaths: 5,
            ended: Vec::new(),
            late: None,
        }
    }

    /// All copies, none twice: clean. Anything else is a sentence of its own.
    #[test]
    fn every_promise_can_be_broken() {
        assert_eq!(tally().broken(), Vec::<String>::new());
        let with = |change: fn(&mut Tally)| {
            let mut tally = tally();
            change(&mut tally);
            let broken = tally.broken();
            assert_eq!(broken.len(), 1, "{broken:?}");
            broken.into_iter().next().unwrap_or_default()
        };
        for (change, word) in [
            (
                (|tally| tally.copies.running = 3) as fn(&mut Tally),
                "runs 3 copies instead of 4",
            ),
            (
                |tally| tally.copies.twice.push("launch 1 started 2: a, b".to_owned()),
                "twice: launch 1",
            ),
            (|tally| tally.copies.at_once_max = 5, "had 5 copies at once"),
            (
                |tally| tally.ended.push("exit status: 1: KeyError".to_owned()),
                "by itself: exit status: 1",
            ),
            (
                |tally| tally.late = Some("late".to_owned()),
                "did not come to rest: late",
            ),
            (|tally| (tally.kills, tally.deaths) = (0, 0), "nothing was done"),
        ] {
            let sentence = with(change);
            assert!(sentence.contains(word), "{sentence}");
        }
    }
}
