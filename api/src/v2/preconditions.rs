//! `If-Match` and `If-None-Match`: entity tags are mod revisions.

use axum::http::{HeaderMap, HeaderName, header};
use blox_store::Revision;
use blox_store::proto::Precondition;
use blox_store::proto::precondition::Condition;

use crate::problem::{Problem, ProblemKind};

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// No condition.
    Anything,
    /// `If-None-Match: *`: it is absent.
    Absent,
    /// `If-Match: *`: it exists.
    Exists,
    /// `If-Match: "N"`: it is at this mod revision.
    At(Revision),
}

impl Expected {
    /// Reads both headers; `If-Match: "0"` means absent too, so that a program can compare and set from the revision it knows.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Expected, Problem> {
        let if_match = only_value(headers, &header::IF_MATCH)?;
        let if_none_match = only_value(headers, &header::IF_NONE_MATCH)?;
        match (if_match, if_none_match) {
            (None, None) => Ok(Expected::Anything),
            (Some(_), Some(_)) => Err(wrong("If-Match and If-None-Match cannot both be given.")),
            (None, Some("*")) => Ok(Expected::Absent),
            (None, Some(_)) => Err(wrong("If-None-Match can only be '*'.")),
            (Some("*"), None) => Ok(Expected::Exists),
            (Some(tag), None) => match revision_of(tag) {
                Some(0) => Ok(Expected::Absent),
                Some(revision) => Ok(Expected::At(revision)),
                None => Err(wrong(
                    "If-Match must be one mod revision in quotes, such as '\"17\"', or '*'.",
                )),
            },
        }
    }

    /// Whether it holds for what is at this mod revision; 0: it is absent.
    pub(super) fn holds_at(self, current: Revision) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Absent => current == 0,
            Expected::Exists => current != 0,
            Expected::At(revision) => current == revision,
        }
    }

    /// As commands on keys say it.
    pub(super) fn precondition(self) -> Option<Precondition> {
        let condition = match self {
            Expected::Anything => return None,
            Expected::Absent => Condition::ModRevision(0),
            Expected::Exists => Condition::Exists(true),
            Expected::At(revision) => Condition::ModRevision(revision),
        };
        Some(Precondition {
            condition: Some(condition),
        })
    }
}

fn only_value<'headers>(headers: &'headers HeaderMap, name: &HeaderName) -> Result<Option<&'headers str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) {
            Err(wrong(&format!("{name} is given more than once.")))
        } else {
            Ok(None)
        };
    };
    value
        .to_str()
        .map(Some)
        .map_err(|_| wrong(&format!("{name} is not visible ASCII.")))
}

fn revision_of(tag: &str) -> Option<Revision> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

fn wrong(detail: &str) -> Problem {
    Problem::new(ProblemKind::InvalidHeader, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn expected(pairs: &[(HeaderName, &'static str)]) -> Option<Expected> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        Expected::from_headers(&headers).ok()
    }

    #[test]
    fn conditions_are_read() {
        assert_eq!(expected(&[]), Some(Expected::Anything));
        assert_eq!(expected(&[(header::IF_MATCH, "\"17\"")]), Some(Expected::At(17)));
        assert_eq!(expected(&[(header::IF_MATCH, "\"0\"")]), Some(Expected::Absent));
        assert_eq!(expected(&[(header::IF_MATCH, "*")]), Some(Expected::Exists));
        assert_eq!(expected(&[(header::IF_NONE_MATCH, "*")]), Some(Expected::Absent));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for wrong in [
            "17",
            "\"x\"",
            "\"\"",
            "\"+1\"",
            "W/\"17\"",
            "\"1\", \"2\"",
            "\"99999999999999999999\"",
            "",
        ] {
            assert_eq!(expected(&[(header::IF_MATCH, wrong)]), None, "{wrong}");
        }
        assert_eq!(expected(&[(header::IF_NONE_MATCH, "\"1\"")]), None);
        assert_eq!(expected(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]), None);
        assert_eq!(
            expected(&[(header::IF_MATCH, "\"1\""), (header::IF_MATCH, "\"1\"")]),
            None
        );
    }
}
