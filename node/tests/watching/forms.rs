//! The streams there are, and how their lines are read: without parsing JSON, as there are millions of them.

use blox_store::Kind;

use crate::deliveries::{Change, Line};
use crate::truth::hash;

/// What a watcher asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `/v2/watch`, everything.
    All,
    /// `/v2/watch?kinds=task`.
    Tasks,
    /// `/v2/watch?kinds=instance,cluster`.
    Instances,
    /// `/v2/watch?kinds=kv`.
    Keys,
    /// `/v1/stream/tasks`.
    V1Tasks,
    /// `/v1/stream/instances`.
    V1Instances,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Line(Line),
    /// The watch ends in mid-stream, and this is the oldest revision to go on from.
    TooOld {
        oldest: u64,
    },
    /// The node stops.
    Stopping,
}

impl Form {
    pub const ALL: [Form; 6] = [
        Form::All,
        Form::Tasks,
        Form::Instances,
        Form::Keys,
        Form::V1Tasks,
        Form::V1Instances,
    ];

    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Form::All => &Kind::ALL,
            Form::Tasks | Form::V1Tasks => &[Kind::Task],
            Form::Instances => &[Kind::Instance, Kind::Cluster],
            Form::V1Instances => &[Kind::Instance],
            Form::Keys => &[Kind::User],
        }
    }

    pub fn is_v1(self) -> bool {
        matches!(self, Form::V1Tasks | Form::V1Instances)
    }

    /// Where to ask for everything from a revision on.
    pub fn path(self, from: u64) -> String {
        match self {
            Form::All => format!("/v2/watch?from_revision={from}"),
            Form::V1Tasks => format!("/v1/stream/tasks?entityVersion={from}"),
            Form::V1Instances => format!("/v1/stream/instances?entityVersion={from}"),
            other => {
                let kinds: Vec<&str> = other.kinds().iter().map(|kind| kind.name()).collect();
                format!("/v2/watch?from_revision={from}&kinds={}", kinds.join(","))
            }
        }
    }

    /// Reads a line without its newline.
    pub fn read(self, line: &[u8]) -> Said {
        let line = std::str::from_utf8(line).expect("lines are UTF-8");
        if self.is_v1() { read_v1(line) } else { read_v2(line) }
    }
}

fn read_v1(line: &str) -> Said {
    let (entity, metadata) = line
        .strip_prefix("{\"entity\":")
        .and_then(|line| line.rsplit_once(",\"metadata\":{\"entityVersion\":\""))
        .unwrap_or_else(|| panic!("no line of v1: {line}"));
    Said::Line(Line::Change(Change {
        revision: number(metadata),
        subject: 0,
        deleted: false,
        content: hash(entity.as_bytes()),
    }))
}

fn read_v2(line: &str) -> Said {
    let wrong = || -> ! { panic!("no line of a watch: {line}") };
    // An error is no change: its members stand in another order.
    let Some(rest) = line.strip_prefix("{\"type\":\"") else {
        return read_error(line);
    };
    if let Some(bookmark) = rest.strip_prefix("BOOKMARK\",\"revision\":") {
        return Said::Line(Line::Bookmark(number(bookmark)));
    }
    let (deleted, rest) = match (
        rest.strip_prefix("PUT\",\"revision\":"),
        rest.strip_prefix("DELETE\",\"revision\":"),
    ) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => wrong(),
    };
    let Some((key, object)) = rest
        .split_once(",\"kind\":")
        .and_then(|(_, rest)| rest.split_once(",\"object\":"))
    else {
        wrong()
    };
    let Some((object, _)) = object.rsplit_once(",\"actor\":") else {
        wrong()
    };
    Said::Line(Line::Change(Change {
        revision: number(rest),
        subject: hash(key.as_bytes()),
        deleted,
        content: if deleted { 0 } else { content(object) },
    }))
}

/// Of a resource ECS's document as it stands there, of a user's key its value.
fn content(object: &str) -> u64 {
    if let Some((_, document)) = object.split_once(",\"document\":") {
        return hash(document.strip_suffix('}').unwrap_or(document).as_bytes());
    }
    match object
        .split_once("\"value_base64\":\"")
        .and_then(|(_, value)| value.split_once('"'))
    {
        Some((value, _)) => hash(value.as_bytes()),
        None => 0,
    }
}

fn read_error(line: &str) -> Said {
    let error: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    match (error["type"].as_str(), error["code"].as_str()) {
        (Some("ERROR"), Some("compacted")) => Said::TooOld {
            oldest: error["oldest_revision"].as_u64().expect("it names the oldest revision"),
        },
        (Some("ERROR"), Some("stopping")) => Said::Stopping,
        _ => panic!("a watch ended for a reason that no test gave it: {line}"),
    }
}

/// The digits that a text begins with.
fn number(text: &str) -> u64 {
    let digits = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of each kind of line.
    #[test]
    fn lines_are_read() {
        let put = r#"{"type":"PUT","revision":7,"kind":"kv","key":"a","key_base64":"YQ==","object":{"key":"a","value_base64":"MQ==","version":1},"actor":"api","request_id":"r"}"#;
        let Said::Line(Line::Change(change)) = Form::All.read(put.as_bytes()) else {
            panic!("a change")
        };
        assert_eq!((change.revision, change.deleted), (7, false));
        assert_eq!(change.subject, hash(br#""kv","key":"a","key_base64":"YQ==""#));
        assert_eq!(change.content, hash(b"MQ=="));
        let bookmark = Form::All.read(br#"{"type":"BOOKMARK","revision":12}"#);
        assert_eq!(bookmark, Said::Line(Line::Bookmark(12)));
        let error = Form::Keys.read(br#"{"code":"compacted","oldest_revision":5,"type":"ERROR"}"#);
        assert_eq!(error, Said::TooOld { oldest: 5 });
        let v1 = Form::V1Tasks.read(br#"{"entity":{"taskARN":"t"},"metadata":{"entityVersion":"9"}}"#);
        assert!(matches!(v1, Said::Line(Line::Change(Change { revision: 9, .. }))));
    }
}
