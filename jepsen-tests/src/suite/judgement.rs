//! What was found on a run, a check at a time.

use serde_json::{Map, Value, json};

use crate::check::{Findings, Verdict};

/// One promise, judged.
#[derive(Clone, Debug)]
pub struct Check {
    /// `register: linearizable`.
    pub name: String,
    /// What was found.
    pub verdict: Verdict,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// In the order in which they are told.
    pub checks: Vec<Check>,
    /// Counts, for the report.
    pub figures: Map<String, Value>,
}

impl Judgement {
    /// All checks together.
    pub fn verdict(&self) -> Verdict {
        let named = |check: &Check| match &check.verdict {
            Verdict::Valid => Verdict::Valid,
            other => renamed(other, &check.name),
        };
        self.checks.iter().map(named).collect()
    }

    /// `verdict.json`.
    pub fn to_json(&self) -> Value {
        let check = |check: &Check| json!({"check": check.name, "verdict": check.verdict.word(), "sentences": check.verdict.sentences()});
        json!({
            "verdict": self.verdict().word(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "figures": self.figures,
        })
    }

    pub(super) fn figure(&mut self, name: &str, value: Value) {
        self.figures.insert(name.to_owned(), value);
    }

    pub(super) fn add(&mut self, name: &str, verdict: Verdict) {
        self.checks.push(Check {
            name: name.to_owned(),
            verdict,
        });
    }
}

fn renamed(verdict: &Verdict, name: &str) -> Verdict {
    let mut findings = Findings::default();
    for sentence in verdict.sentences() {
        findings.note(format!("{name}: {sentence}"));
    }
    match verdict {
        Verdict::Valid => Verdict::Valid,
        Verdict::Invalid(_) => Verdict::Invalid(findings),
        Verdict::Unknown(_) => Verdict::Unknown(findings),
    }
}
