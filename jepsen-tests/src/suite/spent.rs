//! Where a run's time goes, besides the load.

use serde_json::{Map, Value, json};

use crate::clock::{Clock, seconds};

/// Phases as the stage notes their beginnings in `end.json`, and what each is called here.
const STAGE: [(&str, &str); 5] = [
    ("load_ns", "set-up"),
    ("heal_ns", "load"),
    ("wait_ns", "heal"),
    ("last-reads_ns", "wait"),
    ("end_ns", "last-reads"),
];

/// A watch that is looked at when something is over.
#[derive(Debug)]
pub struct Spent {
    clock: Clock,
    marks: Vec<(&'static str, u64)>,
}

impl Spent {
    /// By the run's clock.
    pub fn new(clock: Clock) -> Spent {
        Spent {
            clock,
            marks: Vec::new(),
        }
    }

    /// This is over now.
    pub fn over(&mut self, what: &'static str) {
        self.marks.push((what, self.clock.now_ns()));
    }

    /// Seconds by phase. `end`: what the stage noted.
    pub fn to_json(&self, end: &Value) -> Value {
        let noted = STAGE
            .iter()
            .filter_map(|(name, what)| Some((*what, end[*name].as_u64()?)));
        let mut marks: Vec<(&str, u64)> = noted.chain(self.marks.iter().copied()).collect();
        marks.sort_by_key(|(_, at_ns)| *at_ns);
        let (mut spent, mut before_ns) = (Map::new(), 0);
        for (what, at_ns) in marks {
            let tenths = (seconds(at_ns - before_ns) * 10.0).round() / 10.0;
            spent.insert(what.to_owned(), json!(tenths));
            before_ns = at_ns;
        }
        Value::Object(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each phase from the end of the one before; a phase that was not reached takes no time.
    #[test]
    fn phases_add_up() {
        let spent = Spent {
            clock: Clock::start(),
            marks: vec![("end", 90_000_000_000), ("removal", 95_500_000_000)],
        };
        let end = json!({"load_ns": 10_000_000_000_u64, "heal_ns": 70_000_000_000_u64, "wait_ns": 71_000_000_000_u64});
        assert_eq!(
            spent.to_json(&end),
            json!({"set-up": 10.0, "load": 60.0, "heal": 1.0, "end": 19.0, "removal": 5.5})
        );
    }
}
