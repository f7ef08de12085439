//! One line of the table: a quantity on both sides over some rounds, their ratio, what it should be, and what the machine allows. Pure.

use serde_json::{Value, json};

/// What is measured on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// `put 64 clients, 256 B: p99`.
    pub name: String,
    /// Of each value: `ms`, `1/s`, `MB`.
    pub unit: &'static str,
    /// Of each round, ours.
    pub ours: Vec<f64>,
    /// Of each round, the peer's; empty: there is no peer.
    pub peer: Vec<f64>,
    /// The same on this machine without any server, if that means something.
    pub floor: Option<f64>,
    /// What is to be reached.
    pub goals: Vec<Goal>,
    /// The rounds of both sides go together, so that ratios are of rounds; otherwise of medians.
    pub paired: bool,
    /// Where the peer's value is not measured here.
    pub note: Option<&'static str>,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Ours is at least so many times the peer's.
    TimesPeerAtLeast(f64),
    /// Ours is at most so many times the peer's.
    TimesPeerAtMost(f64),
    /// Ours is at most so many times the floor.
    TimesFloorAtMost(f64),
    /// Ours is at most this.
    AtMost(f64),
}

/// The ratio over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Of the rounds' own ratios.
    pub median: f64,
    /// The least of them.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

impl Figure {
    /// Without rounds, goals and floor yet.
    pub fn new(name: impl Into<String>, unit: &'static str) -> Figure {
        Figure {
            name: name.into(),
            unit,
            ours: Vec::new(),
            peer: Vec::new(),
            floor: None,
            goals: Vec::new(),
            paired: true,
            note: None,
        }
    }

    /// Ours, its median.
    pub fn our_median(&self) -> Option<f64> {
        median(&self.ours)
    }

    /// The peer's.
    pub fn peer_median(&self) -> Option<f64> {
        median(&self.peer)
    }

    /// Round by round, so that what the machine did otherwise in another round does not come in.
    pub fn ratio(&self) -> Option<Ratio> {
        let ratios: Vec<f64> = match self.paired && self.ours.len() == self.peer.len() {
            true => self
                .ours
                .iter()
                .zip(&self.peer)
                .map(|(ours, peer)| ours / peer)
                .collect(),
            false => vec![self.our_median()? / self.peer_median()?],
        };
        // Of nothing to nothing there is none.
        let ratios: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
        Some(Ratio {
            median: median(&ratios)?,
            least: ratios.iter().copied().reduce(f64::min)?,
            most: ratios.iter().copied().reduce(f64::max)?,
        })
    }

    /// Whether all goals are reached; `None`: there are none, or what one needs is not there.
    pub fn met(&self) -> Option<bool> {
        let reached: Option<Vec<bool>> = self.goals.iter().map(|goal| goal.is_met(self)).collect();
        reached
            .filter(|reached| !reached.is_empty())
            .map(|reached| reached.into_iter().all(|one| one))
    }

    /// The goals in words.
    pub fn goal_words(&self) -> String {
        let words: Vec<String> = self.goals.iter().map(|goal| goal.words(self.unit)).collect();
        words.join(", ")
    }

    /// As it stands in `summary.json`.
    pub fn to_json(&self) -> Value {
        let ratio = self.ratio();
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.our_median(),
            "peer": self.peer_median(),
            "ratio": ratio.map(|ratio| ratio.median),
            "ratio_least": ratio.map(|ratio| ratio.least),
            "ratio_most": ratio.map(|ratio| ratio.most),
            "floor": self.floor,
            "goal": self.goal_words(),
            "met": self.met(),
            "note": self.note,
            "ours_rounds": self.ours,
            "peer_rounds": self.peer,
        })
    }
}

impl Goal {
    fn is_met(self, figure: &Figure) -> Option<bool> {
        Some(match self {
            Goal::TimesPeerAtLeast(times) => figure.ratio()?.median >= times,
            Goal::TimesPeerAtMost(times) => figure.ratio()?.median <= times,
            Goal::TimesFloorAtMost(times) => figure.our_median()? <= times * figure.floor?,
            Goal::AtMost(most) => figure.our_median()? <= most,
        })
    }

    fn words(self, unit: &str) -> String {
        match self {
            Goal::TimesPeerAtLeast(times) => format!("at least {times} x"),
            Goal::TimesPeerAtMost(times) => format!("at most {times} x"),
            Goal::TimesFloorAtMost(times) => format!("at most {times} x the floor"),
            Goal::AtMost(most) => format!("at most {most} {unit}"),
        }
    }
}

/// The middle one, or between the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratio is of rounds, not of medians: a slow moment that both sides had does not show.
    #[test]
    fn ratios_are_of_rounds() {
        let figure = Figure {
            ours: vec![1.0, 10.0, 2.0],
            peer: vec![2.0, 20.0, 4.0],
            ..Figure::new("x", "ms")
        };
        let ratio = figure.ratio().expect("three rounds");
        assert_eq!((ratio.median, ratio.least, ratio.most), (0.5, 0.5, 0.5));
        let uneven = Figure {
            ours: vec![3.0],
            ..figure
        };
        assert_eq!(uneven.ratio().map(|ratio| ratio.median), Some(0.75));
        assert_eq!(Figure::new("x", "ms").ratio(), None);
        assert_eq!(
            (median(&[]), median(&[4.0, 1.0]), median(&[3.0, 1.0, 2.0])),
            (None, Some(2.5), Some(2.0))
        );
    }

    /// Each goal, reached and not; one that cannot be told is neither.
    #[test]
    fn goals_are_judged() {
        let with = |goals: &[Goal], floor: Option<f64>| Figure {
            ours: vec![6.0],
            peer: vec![10.0],
            floor,
            goals: goals.to_vec(),
            ..Figure::new("x", "ms")
        };
        let met = |goal: Goal, floor| with(&[goal], floor).met();
        assert_eq!(met(Goal::TimesPeerAtMost(0.6), None), Some(true));
        assert_eq!(met(Goal::TimesPeerAtLeast(0.7), None), Some(false));
        assert_eq!(met(Goal::TimesFloorAtMost(2.0), Some(3.0)), Some(true));
        assert_eq!(met(Goal::TimesFloorAtMost(2.0), Some(2.9)), Some(false));
        assert_eq!(met(Goal::TimesFloorAtMost(2.0), None), None);
        assert_eq!(met(Goal::AtMost(5.0), None), Some(false));
        let both = [Goal::AtMost(6.0), Goal::TimesPeerAtMost(0.5)];
        assert_eq!(with(&both, None).met(), Some(false));
        assert_eq!(with(&both, None).goal_words(), "at most 6 ms, at most 0.5 x");
        assert_eq!(with(&[], None).met(), None);
    }
}
