//! When each node's process was started, by its container's log: a node that was started again may know less for a moment.

use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use crate::check::history::History;

/// What a node says first.
const STARTS: &str = "blox::run: starts ";

/// Starts of a node, nanoseconds since 1970, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    at_ns: Vec<u64>,
}

impl Starts {
    /// From one log, whose lines begin with Docker's time.
    pub fn of(log: &str) -> Starts {
        let starts = log.lines().filter(|line| line.contains(STARTS));
        let mut at_ns: Vec<u64> = starts.filter_map(|line| epoch_ns(line.split(' ').next()?)).collect();
        at_ns.sort_unstable();
        Starts { at_ns }
    }

    /// Both.
    fn and(mut self, other: Starts) -> Starts {
        self.at_ns.extend(other.at_ns);
        self.at_ns.sort_unstable();
        self
    }

    /// When they were by the history's clock, which began at `zero_ns` since 1970; what was before that counts as its beginning.
    pub fn since(&self, zero_ns: u64) -> Vec<u64> {
        self.at_ns.iter().map(|at_ns| at_ns.saturating_sub(zero_ns)).collect()
    }

    /// Which life answered something that was asked and answered at these times; `None`: it may have been either of two.
    fn life(&self, asked_ns: u64, answered_ns: u64) -> Option<usize> {
        let before = |moment_ns: u64| self.at_ns.partition_point(|at_ns| *at_ns <= moment_ns);
        (before(asked_ns) == before(answered_ns)).then(|| before(answered_ns))
    }
}

/// The starts of a node, from all logs that were kept of it.
pub fn starts(folder: &Folder, node: &str) -> Result<Starts, FolderError> {
    let mut starts = Starts::default();
    for (_, path) in folder.logs_of(node)? {
        starts = starts.and(Starts::of(&folder.read(&path)?));
    }
    Ok(starts)
}

/// Notes on every operation of a function which life of its node answered it. `zero_ns`: when the history's clock began, since 1970.
pub fn note(history: &mut History, function: &str, lives: &[(String, Starts)], zero_ns: u64) {
    for (number, operation) in history.operations.iter_mut().enumerate() {
        let (Some(node), Some(ended_ns)) = (&operation.node, operation.ended_ns) else {
            continue;
        };
        let Some((_, starts)) = lives.iter().find(|(name, _)| **name == **node) else {
            continue;
        };
        if *operation.function == *function {
            let life = starts.life(zero_ns + operation.began_ns, zero_ns + ended_ns);
            // Where it may have been either, it is compared with nobody.
            let life = life.map_or_else(|| json!(format!("either-{number}")), |life: usize| json!(life));
            operation.more.insert("life".to_owned(), Value::clone(&life));
        }
    }
}

/// Nanoseconds since 1970 of `2026-11-23T02:55:24.677676554Z`.
fn epoch_ns(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<Vec<u64>> {
        text.split(separator).map(|part| part.parse().ok()).collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(clock, ':')?[..] else {
        return None;
    };
    let nanoseconds: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Years counted from March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    const TO_1970: u64 = 719_469;
    let seconds = (days.checked_sub(TO_1970)?) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known moments.
    #[test]
    fn times_are_read() {
        assert_eq!(epoch_ns("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(epoch_ns("2000-02-29T12:00:00.5Z"), Some(951_825_600_500_000_000));
        assert_eq!(
            epoch_ns("2026-11-23T02:55:24.677676554Z"),
            Some(1_795_402_524_677_676_554)
        );
        assert_eq!(epoch_ns("yesterday"), None);
    }

    /// What began before a start and ended after it belongs to neither life.
    #[test]
    fn lives_are_told_apart() {
        let log = "1970-01-01T00:00:01Z x INFO n blox::run: starts version=1\n1970-01-01T00:00:02Z else\n1970-01-01T00:00:03.000000005Z x blox::run: starts version=1\n";
        let starts = Starts::of(log);
        assert_eq!(starts.at_ns, [1_000_000_000, 3_000_000_005]);
        assert_eq!(starts.life(1_500_000_000, 2_000_000_000), Some(1));
        assert_eq!(starts.life(2_900_000_000, 3_100_000_000), None);
        assert_eq!(starts.life(3_100_000_000, 3_200_000_000), Some(2));
    }
}
