//! The query of a request: keys and values, decoded.

use std::str::Utf8Error;

use percent_encoding::percent_decode;

use crate::problem::{Problem, ProblemKind};

/// A suggestion is made where a known name is at least this similar (0 to 1, Jaro-Winkler).
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// The decoded pairs, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Query {
    /// Splits and decodes; `+` is a space, as forms write it, and a broken escape stands for itself.
    pub(crate) fn parse(raw: Option<&str>) -> Query {
        let pairs = raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect();
        Query { pairs }
    }

    /// Every name, as often as it was given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs.iter().map(|(name, _)| name.as_slice())
    }

    /// Whether some name was given more than once.
    pub(crate) fn has_repeated_name(&self) -> bool {
        self.names()
            .enumerate()
            .any(|(position, name)| self.names().skip(position + 1).any(|other| other == name))
    }

    /// The first value of that name, its bytes; an empty value counts as not given.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.pairs.iter().find(|(given, _)| given == name.as_bytes())?;
        (!value.is_empty()).then_some(value.as_slice())
    }

    /// The first value of that name as text, with a replacement for what is none; empty: not given.
    pub(crate) fn lossy(&self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The first value of that name as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text: Option<Result<&str, Utf8Error>> = self.bytes(name).map(std::str::from_utf8);
        text.transpose().map_err(|_| invalid(name, "is not UTF-8"))
    }

    /// The value of that name as a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text
            .parse::<u64>()
            .map_err(|_| invalid(name, "is not a whole number of 0 or more"))?;
        Ok(Some(number))
    }

    /// Refuses names that a route does not know, and names given twice.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for name in self.names() {
            if !known.iter().any(|known| known.as_bytes() == name) {
                return Err(unknown(&String::from_utf8_lossy(name), known));
            }
        }
        if self.has_repeated_name() {
            return Err(Problem::new(
                ProblemKind::InvalidParameter,
                "A query parameter is given more than once.",
            ));
        }
        Ok(())
    }
}

/// What is wrong with a parameter's value.
pub(crate) fn invalid(name: &str, what: &str) -> Problem {
    Problem::new(
        ProblemKind::InvalidParameter,
        format!("The query parameter '{name}' {what}."),
    )
    .with("parameter", name)
}

/// The known name that was probably meant.
pub(crate) fn suggestion<'known>(given: &str, known: &[&'known str]) -> Option<&'known str> {
    let similarity = |name: &&str| strsim::jaro_winkler(&given.to_lowercase(), name);
    let best = known
        .iter()
        .copied()
        .max_by(|left, right| similarity(left).total_cmp(&similarity(right)))?;
    (similarity(&best) >= SUGGESTION_SIMILARITY_MIN).then_some(best)
}

fn unknown(given: &str, known: &[&str]) -> Problem {
    let mut detail = format!("The query parameter '{given}' is not known here.");
    if let Some(meant) = suggestion(given, known) {
        detail.push_str(&format!(" Did you mean '{meant}'?"));
    } else if !known.is_empty() {
        detail.push_str(&format!(" Known are: {}.", known.join(", ")));
    }
    Problem::new(ProblemKind::UnknownParameter, detail).with("parameter", given)
}

fn decode(text: &str) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .bytes()
        .map(|byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse(Some("a=%41+b&empty=&&bytes=%ff&arn=arn:aws"));
        assert_eq!(query.bytes("a"), Some(&b"A b"[..]));
        assert_eq!(query.bytes("empty"), None);
        assert_eq!(query.bytes("bytes"), Some(&[0xff][..]));
        assert_eq!(query.bytes("arn"), Some(&b"arn:aws"[..]));
        assert!(query.text("bytes").is_err());
        assert_eq!(query.names().count(), 4);
    }

    #[test]
    fn unknown_names_come_with_a_suggestion() {
        let problem = Query::parse(Some("statsu=x"))
            .only(&["status", "cluster"])
            .expect_err("it is not known");
        assert_eq!(
            problem.detail(),
            "The query parameter 'statsu' is not known here. Did you mean 'status'?"
        );
        let problem = Query::parse(Some("zzz=x"))
            .only(&["status", "cluster"])
            .expect_err("it is not known");
        assert_eq!(
            problem.detail(),
            "The query parameter 'zzz' is not known here. Known are: status, cluster."
        );
    }

    #[test]
    fn repeated_names_are_refused() {
        assert!(Query::parse(Some("status=a&status=a")).only(&["status"]).is_err());
        assert!(
            Query::parse(Some("status=a&cluster=a"))
                .only(&["status", "cluster"])
                .is_ok()
        );
    }
}
