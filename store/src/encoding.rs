//! How the keys of the families beside `latest` are written. Byte order is the order of the parts, everywhere.

use std::borrow::Cow;

use bytes::Bytes;

use crate::Revision;
use crate::key::{Key, Kind};

/// Ends a part of variable length; sorts before [`ESCAPED_ZERO`], so that a part sorts before every longer one that begins with it.
const TERMINATOR: [u8; 2] = [0, 1];
/// A zero byte inside a part.
const ESCAPED_ZERO: [u8; 2] = [0, 0xff];

/// Appends a part so that it can be followed by others.
pub(crate) fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    for byte in part {
        match byte {
            0 => out.extend_from_slice(&ESCAPED_ZERO),
            _ => out.push(*byte),
        }
    }
    out.extend_from_slice(&TERMINATOR);
}

/// Takes a part from the front; `None` where there is no whole one.
pub(crate) fn take_part(bytes: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut escaped: Option<Vec<u8>> = None;
    let mut position = 0;
    loop {
        let zero = position + bytes.get(position..)?.iter().position(|byte| *byte == 0)?;
        let run = &bytes[position..zero];
        let rest = bytes.get(zero + 2..)?;
        match bytes[zero + 1] {
            1 => {
                let part = match escaped {
                    None => Cow::Borrowed(run),
                    Some(mut part) => {
                        part.extend_from_slice(run);
                        Cow::Owned(part)
                    }
                };
                return Some((part, rest));
            }
            0xff => {
                let part = escaped.get_or_insert_default();
                part.extend_from_slice(run);
                part.push(0);
                position = zero + 2;
            }
            _ => return None,
        }
    }
}

/// The first key behind all that begin with `prefix`; empty (no end) where there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

/// Front of a key's entries in `versions`.
pub(crate) fn version_prefix(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.as_bytes().len() + 16);
    put_part(&mut out, key.as_bytes());
    out
}

/// In `versions`: key, then the revision, newest first.
pub(crate) fn version_key(key: &Key, revision: Revision) -> Bytes {
    let mut out = version_prefix(key);
    out.extend_from_slice(&(!revision).to_be_bytes());
    out.into()
}

/// In `history`: revision, then the place among the changes of that revision.
pub(crate) fn history_key(revision: Revision, sub: u32) -> Bytes {
    let mut out = Vec::with_capacity(12);
    out.extend_from_slice(&revision.to_be_bytes());
    out.extend_from_slice(&sub.to_be_bytes());
    out.into()
}

/// The revision of a key in `history`.
pub(crate) fn history_revision(key: &[u8]) -> Option<Revision> {
    Some(Revision::from_be_bytes(*key.first_chunk::<8>()?))
}

/// The families within `indexes`: the first byte of a key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Index {
    /// Key (as in `latest`) -> revision of its deletion: keys that are not in `latest` but may be at an older revision still kept.
    Gone = 1,
    /// Kind, ARN, source, cluster ARN: resources in `latest` or gone.
    Arn = 2,
    /// Container instance ARN, then [`TaskPlace`]: tasks in `latest`.
    TaskInstance = 3,
    /// Group, then [`TaskPlace`].
    TaskGroup = 4,
    /// `startedBy`, then [`TaskPlace`].
    TaskStartedBy = 5,
    /// Replicated clock at the deletion, ARN: tombstones.
    TombstoneAge = 6,
    /// Replicated clock when ECS forgot it, key: resources.
    ForgottenAge = 7,
    /// Status in capitals, then the key's tail: tasks in `latest`, in the order in which they stand there.
    TaskStatus = 8,
}

/// In `indexes`: a gone key.
pub(crate) fn gone_key(key: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(Index::Gone as u8);
    out.extend_from_slice(key);
    out.into()
}

/// In `indexes`: something that ages.
pub(crate) fn age_key(index: Index, elapsed_ms: u64, subject: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(9 + subject.len());
    out.push(index as u8);
    out.extend_from_slice(&elapsed_ms.to_be_bytes());
    out.extend_from_slice(subject);
    out.into()
}

/// The age and the subject of [`age_key`].
pub(crate) fn split_age_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (elapsed, subject) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*elapsed), subject))
}

/// Which resource a key names: the parts of [`Key::resource`]. Its order is that of lists: ARN, source, cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The resource's ARN.
    pub arn: String,
    /// The source's name.
    pub source: String,
    /// The ARN of its cluster.
    pub cluster_arn: String,
}

impl Place {
    /// The place a resource's key names; `None` for other keys.
    pub fn of(key: &Key) -> Option<Place> {
        if !is_resource(key.kind()) {
            return None;
        }
        let mut parts = key
            .tail()
            .splitn(3, |byte| *byte == 0)
            .map(|part| String::from_utf8(part.to_vec()).ok());
        Some(Place {
            source: parts.next()??,
            cluster_arn: parts.next()??,
            arn: parts.next()??,
        })
    }

    /// The key in `latest`.
    pub fn key(&self, kind: Kind) -> Key {
        Key::resource(kind, &self.source, &self.cluster_arn, &self.arn)
    }

    /// In `indexes`: `prefix`, then the place.
    pub fn index_key(&self, mut prefix: Vec<u8>) -> Bytes {
        put_part(&mut prefix, self.arn.as_bytes());
        put_part(&mut prefix, self.source.as_bytes());
        prefix.extend_from_slice(self.cluster_arn.as_bytes());
        prefix.into()
    }

    /// What [`Place::index_key`] put behind its prefix.
    pub fn from_index(bytes: &[u8]) -> Option<Place> {
        let (arn, rest) = take_part(bytes)?;
        let (source, cluster_arn) = take_part(rest)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Place {
            arn: text(&arn)?,
            source: text(&source)?,
            cluster_arn: text(cluster_arn)?,
        })
    }
}

/// Whether keys of the kind are made by [`Key::resource`].
pub(crate) fn is_resource(kind: Kind) -> bool {
    matches!(kind, Kind::Cluster | Kind::Instance | Kind::Task)
}

/// Front of the index keys of tasks by one field's value.
pub(crate) fn task_index_prefix(index: Index, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + value.len());
    out.push(index as u8);
    put_part(&mut out, value.as_bytes());
    out
}

/// Front of the index keys of tasks of one status, in whatever case it is written.
pub(crate) fn status_prefix(status: &str) -> Vec<u8> {
    task_index_prefix(Index::TaskStatus, &status.to_ascii_uppercase())
}

/// In `indexes`: a task by its status.
pub(crate) fn status_key(status: &str, key: &Key) -> Bytes {
    let mut out = status_prefix(status);
    out.extend_from_slice(key.tail());
    out.into()
}

/// Front of the index keys of resources by ARN, the ARN itself not included.
pub(crate) fn arn_index_prefix(kind: Kind) -> Vec<u8> {
    vec![Index::Arn as u8, kind as u8]
}

/// The keys of `meta`.
pub(crate) mod meta {
    use bytes::Bytes;

    use super::put_part;

    /// One byte: [`FORMAT`].
    pub(crate) const FORMAT_KEY: &[u8] = b"format";
    /// Version of everything written here; a higher one is refused.
    pub(crate) const FORMAT: u8 = 1;
    /// [`crate::proto::Position`].
    pub(crate) const POSITION: &[u8] = b"position";
    /// In consensus' own encoding.
    pub(crate) const MEMBERSHIP: &[u8] = b"membership";
    /// [`crate::proto::SessionRecord`].
    pub(crate) const SESSION: &[u8] = b"session";
    /// Then the source: [`crate::proto::SourceStatus`], without its passes.
    pub(crate) const SOURCE: &[u8] = b"source/";
    /// Then the source, the cluster ARN: [`crate::proto::ReconcilePass`].
    pub(crate) const PASS: &[u8] = b"pass/";
    /// Then a sequence: [`crate::proto::QuarantinedMessage`].
    pub(crate) const QUARANTINE: &[u8] = b"quarantine/";
    /// Then scope, key: [`crate::proto::IdempotencyRecord`].
    pub(crate) const IDEMPOTENCY: &[u8] = b"idempotency/";
    /// Then a sequence: the key of an idempotency record.
    pub(crate) const IDEMPOTENCY_ORDER: &[u8] = b"idempotency-order/";
    /// Then a revision: [`crate::proto::HistoryMark`].
    pub(crate) const MARK: &[u8] = b"mark/";

    /// A key whose last part is a growing number.
    pub(crate) fn numbered(front: &[u8], number: u64) -> Bytes {
        [front, number.to_be_bytes().as_slice()].concat().into()
    }

    /// A key whose parts are text.
    pub(crate) fn named(front: &[u8], parts: &[&str]) -> Bytes {
        let mut out = front.to_vec();
        for part in parts {
            put_part(&mut out, part.as_bytes());
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escaping keeps the order of the parts, and can be undone, zero bytes and all.
    #[test]
    fn parts_keep_their_order_and_come_back() {
        let parts: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\0\xff", b"a", b"a\0", b"a\0b", b"a\x01"];
        let encode = |part: &[u8]| {
            let mut out = Vec::new();
            put_part(&mut out, part);
            out
        };
        for left in parts {
            for right in parts {
                let (mut one, mut other) = (encode(left), encode(right));
                one.extend_from_slice(b"tail");
                other.extend_from_slice(b"tail");
                assert_eq!(left.cmp(right), one.cmp(&other), "{left:?} {right:?}");
            }
            let mut encoded = encode(left);
            encoded.extend_from_slice(b"rest");
            let (part, rest) = take_part(&encoded).expect("a whole part");
            assert_eq!((part.as_ref(), rest), (left, b"rest".as_slice()));
        }
        assert_eq!(take_part(b"no end"), None);
        assert_eq!(take_part(b"bad\0\x02"), None);
    }

    /// Newer versions of a key stand before older ones, and none between those of another key.
    #[test]
    fn versions_stand_newest_first_and_apart() {
        let key = Key::user(b"k");
        let longer = Key::user(b"k\xff\xff\xff\xff\xff\xff\xff\xff");
        let mut keys = vec![
            version_key(&longer, 1),
            version_key(&key, 1),
            version_key(&longer, 9),
            version_key(&key, 9),
        ];
        keys.sort();
        assert_eq!(
            keys,
            [
                version_key(&key, 9),
                version_key(&key, 1),
                version_key(&longer, 9),
                version_key(&longer, 1)
            ]
        );
    }

    /// These bytes stand on disk: a change is a change of [`meta::FORMAT`].
    #[test]
    fn keys_stand_as_they_are() {
        let key = Key::environment("e");
        let task = Key::resource(Kind::Task, "s", "c", "a");
        let place = Place::of(&task).expect("a resource");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let keys = [
            (version_key(&key, 1), "04650001fffffffffffffffe"),
            (history_key(258, 3), "000000000000010200000003"),
            (gone_key(key.as_bytes()), "010465"),
            (place.index_key(arn_index_prefix(Kind::Task)), "020361000173000163"),
            (
                place.index_key(task_index_prefix(Index::TaskGroup, "g")),
                "0467000161000173000163",
            ),
            (age_key(Index::ForgottenAge, 1, b"k"), "0700000000000000016b"),
            (status_key("Up", &task), "08555000017300630061"),
            (meta::numbered(meta::MARK, 1), "6d61726b2f0000000000000001"),
            (meta::named(meta::SOURCE, &["s"]), "736f757263652f730001"),
        ];
        for (bytes, expected) in keys {
            assert_eq!(hex(&bytes), expected);
        }
        assert_eq!(Place::from_index(&place.index_key(Vec::new())), Some(place.clone()));
        assert_eq!(place.key(Kind::Task), task);
    }

    /// A prefix's end lies behind everything that begins with it.
    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"");
    }
}
