//! What every checker answers.

use std::fmt::{Display, Formatter};

/// Sentences kept of one verdict; further ones are counted.
pub const SENTENCES_MAX: usize = 20;

/// Valid, invalid, or not decided. Verdicts merge: one violation makes the whole invalid, one open question leaves it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The record keeps the promise.
    #[default]
    Valid,
    /// It does not: what is wrong.
    Invalid(Findings),
    /// It could not be decided: why.
    Unknown(Findings),
}

/// Sentences, bounded in number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    sentences: Vec<String>,
    more: usize,
}

impl Findings {
    /// Keeps a sentence, or counts it where there are enough.
    pub fn note(&mut self, sentence: impl Into<String>) {
        if self.sentences.len() < SENTENCES_MAX {
            self.sentences.push(sentence.into());
        } else {
            self.more += 1;
        }
    }

    /// Nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Those kept, in the order in which they were noted.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// All that were noted, kept or not.
    pub fn count(&self) -> usize {
        self.sentences.len() + self.more
    }

    /// These, then the other's.
    pub fn merge(mut self, other: Findings) -> Findings {
        for sentence in other.sentences {
            self.note(sentence);
        }
        self.more += other.more;
        self
    }
}

impl Verdict {
    /// One violation.
    pub fn invalid(sentence: impl Into<String>) -> Verdict {
        let mut findings = Findings::default();
        findings.note(sentence);
        Verdict::Invalid(findings)
    }

    /// One reason why it cannot be decided.
    pub fn unknown(why: impl Into<String>) -> Verdict {
        let mut findings = Findings::default();
        findings.note(why);
        Verdict::Unknown(findings)
    }

    /// Invalid if there are violations, otherwise unknown if there are open questions, otherwise valid.
    pub fn of(violations: Findings, open: Findings) -> Verdict {
        if !violations.is_empty() {
            Verdict::Invalid(violations)
        } else if !open.is_empty() {
            Verdict::Unknown(open)
        } else {
            Verdict::Valid
        }
    }

    /// The same of a record that may be cut short: what would be a violation of a whole one is an open question.
    pub fn of_a_part(self) -> Verdict {
        match self {
            Verdict::Invalid(findings) => Verdict::Unknown(findings),
            other => other,
        }
    }

    /// Both together. Reasons of an unknown verdict are dropped beside violations.
    pub fn merge(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Valid, other) => other,
            (one, Verdict::Valid) => one,
            (Verdict::Invalid(one), Verdict::Invalid(other)) => Verdict::Invalid(one.merge(other)),
            (Verdict::Unknown(one), Verdict::Unknown(other)) => Verdict::Unknown(one.merge(other)),
            (Verdict::Invalid(one), Verdict::Unknown(_)) | (Verdict::Unknown(_), Verdict::Invalid(one)) => {
                Verdict::Invalid(one)
            }
        }
    }

    /// What was found, or why nothing could be; of a valid one nothing.
    pub fn sentences(&self) -> &[String] {
        match self {
            Verdict::Valid => &[],
            Verdict::Invalid(findings) | Verdict::Unknown(findings) => findings.sentences(),
        }
    }

    /// `valid`, `invalid` or `unknown`.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Invalid(_) => "invalid",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// Of `jepsen-tests check`: 0, 1 or 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::Invalid(_) => 1,
            Verdict::Unknown(_) => 2,
        }
    }
}

impl From<Findings> for Verdict {
    /// Violations, or none.
    fn from(violations: Findings) -> Verdict {
        Verdict::of(violations, Findings::default())
    }
}

impl FromIterator<Verdict> for Verdict {
    fn from_iter<I: IntoIterator<Item = Verdict>>(all: I) -> Verdict {
        all.into_iter().fold(Verdict::Valid, Verdict::merge)
    }
}

impl Display for Verdict {
    /// The word, then a line each sentence.
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.word())?;
        let (Verdict::Invalid(findings) | Verdict::Unknown(findings)) = self else {
            return Ok(());
        };
        for sentence in &findings.sentences {
            write!(out, "\n- {sentence}")?;
        }
        if findings.more > 0 {
            write!(out, "\n- and {} more", findings.more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A violation beats an open question, and that beats nothing; the order of merging only orders the sentences.
    #[test]
    fn verdicts_merge() {
        let (bad, open) = (Verdict::invalid("bad"), Verdict::unknown("open"));
        assert_eq!(Verdict::Valid.merge(open.clone()), open);
        assert_eq!(open.clone().merge(bad.clone()), bad);
        assert_eq!(bad.clone().merge(open.clone()), bad);
        assert_eq!(bad.clone().merge(Verdict::Valid), bad);
        let both: Verdict = [bad, Verdict::Valid, open, Verdict::invalid("worse")]
            .into_iter()
            .collect();
        assert_eq!(
            (both.sentences(), both.exit_code()),
            (&["bad".to_owned(), "worse".to_owned()][..], 1)
        );
        assert_eq!(Verdict::invalid("cut").of_a_part(), Verdict::unknown("cut"));
        assert_eq!(Verdict::Valid.of_a_part(), Verdict::Valid);
        assert_eq!(Verdict::Valid.exit_code(), 0);
        assert_eq!(Verdict::unknown("why").exit_code(), 2);
    }

    /// However much is wrong, a verdict can be read.
    #[test]
    fn verdicts_are_bounded() {
        let many = |count: usize| -> Verdict { (0..count).map(|one| Verdict::invalid(one.to_string())).collect() };
        let whole = many(SENTENCES_MAX + 5).merge(many(SENTENCES_MAX + 7));
        assert_eq!(whole.sentences().len(), SENTENCES_MAX);
        let Verdict::Invalid(findings) = &whole else {
            panic!("{whole}")
        };
        assert_eq!(findings.count(), 2 * SENTENCES_MAX + 12);
        assert!(
            whole
                .to_string()
                .ends_with(&format!("- and {} more", SENTENCES_MAX + 12)),
            "{whole}"
        );
    }
}
