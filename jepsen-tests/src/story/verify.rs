//! After a round: everything acknowledged is read back from every node, the nodes hold the same, and each stream told exactly the history.

use std::collections::HashMap;
use std::time::Duration;

use super::StoryError;
use super::stage::Stage;
use crate::client::Request;
use crate::compare::{Difference, differences};
use crate::load::Written;
use crate::observe::{NotInTime, eventually};
use crate::stream::{self, Reader};

/// Keys of a page of a list.
const PAGE: usize = 1_000;
/// How long a stream may take to tell what has happened.
const TELL: Duration = Duration::from_secs(30);

/// An acknowledged write that is not there, or not as acknowledged.
pub(super) struct Lost {
    pub(super) at_ns: u64,
    pub(super) why: String,
}

/// Reads back everything under a prefix, from every node, linearizably.
pub(super) async fn lost(stage: &Stage, prefix: &str, written: &[Written]) -> Result<Vec<Lost>, StoryError> {
    let mut lost = Vec::new();
    for position in 0..stage.nodes.len() {
        let kept = read_all(stage, position, prefix).await?;
        lost.extend(written.iter().filter_map(|one| {
            let why = difference(one, kept.get(&one.key))?;
            Some(Lost {
                at_ns: one.at_ns,
                why: format!("{}: {why}", stage.name(position)),
            })
        }));
    }
    Ok(lost)
}

/// What is kept of a key.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    value_base64: String,
    revision: u64,
    /// How often it was written.
    version: u64,
}

fn difference(written: &Written, kept: Option<&Kept>) -> Option<String> {
    let Written { key, revision, .. } = written;
    let Some(kept) = kept else {
        return Some(format!("{key}, acknowledged at revision {revision}, is not there"));
    };
    if kept.value_base64 != base64(key.as_bytes()) {
        return Some(format!("{key} holds another value: {}", kept.value_base64));
    }
    if kept.revision != *revision || kept.version != 1 {
        return Some(format!(
            "{key}, acknowledged at revision {revision} and written once, is at revision {} and was written {} times",
            kept.revision, kept.version
        ));
    }
    None
}

async fn read_all(stage: &Stage, position: usize, prefix: &str) -> Result<HashMap<String, Kept>, StoryError> {
    let mut kept = HashMap::new();
    let mut path = format!("/v2/kv?prefix={prefix}&limit={PAGE}");
    loop {
        let page = eventually("a page of keys", stage.whole, || async {
            stage.client.get_json(&stage.nodes[position], &path).await
        })
        .await?;
        for item in page["items"].as_array().into_iter().flatten() {
            let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| item[key].as_u64().unwrap_or(0);
            let one = Kept {
                value_base64: text("value_base64"),
                revision: number("mod_revision"),
                version: number("version"),
            };
            kept.insert(text("key"), one);
        }
        match page["next_token"].as_str() {
            Some(token) => path = format!("/v2/kv?prefix={prefix}&limit={PAGE}&next_token={token}"),
            None => return Ok(kept),
        }
    }
}

/// Each stream against the history of a node, from a revision up to where all nodes stand.
pub(super) async fn streams(stage: &Stage, readers: &[Reader], from: u64) -> Result<Vec<Vec<Difference>>, StoryError> {
    let until = stage.observer.same_state(stage.whole).await?;
    for (home, reader) in readers.iter().enumerate() {
        let what = format!("the stream of {} at revision {until}", stage.name(home));
        eventually(&what, TELL, || async {
            let seen = reader.seen();
            match &seen.hopeless {
                Some(why) => Err(why.clone()),
                None if seen.reached >= until => Ok(()),
                None => Err(format!("it is at {}", seen.reached)),
            }
        })
        .await?;
    }
    let node = &stage.nodes[0];
    let history = stream::history(&stage.streaming, node, from, until)
        .await
        .map_err(|last| NotInTime {
            what: "the history of the round".to_owned(),
            within: TELL,
            last,
        })?;
    let now_ns = stage.clock.now_ns();
    let compared = readers.iter().map(|reader| {
        let seen = reader.seen();
        let told: Vec<_> = seen
            .told
            .iter()
            .take_while(|told| told.change.revision <= until)
            .copied()
            .collect();
        differences(&history, &told, now_ns)
    });
    Ok(compared.collect())
}

/// A linearizable read of something, by one node.
pub(super) fn probe() -> Request {
    Request::get("/v2/kv?prefix=failover/&limit=1")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|place| u32::from(chunk.get(place).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() {
                ALPHABET[sextet] as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written {
            key: "k".to_owned(),
            revision: 7,
            at_ns: 1,
        }
    }

    fn kept(value_base64: &str, revision: u64, version: u64) -> Kept {
        Kept {
            value_base64: value_base64.to_owned(),
            revision,
            version,
        }
    }

    /// As RFC 4648's own examples.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(
            encoded,
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]
        );
    }

    /// There, with its value, at its revision, once: anything else is lost.
    #[test]
    fn only_what_was_acknowledged_counts() {
        assert_eq!(difference(&written(), Some(&kept("aw==", 7, 1))), None);
        for (found, word) in [
            (None, "is not there"),
            (Some(kept("bA==", 7, 1)), "another value"),
            (Some(kept("aw==", 8, 1)), "at revision 8"),
            (Some(kept("aw==", 7, 2)), "written 2 times"),
        ] {
            let why = difference(&written(), found.as_ref()).expect("lost");
            assert!(why.contains(word), "{why}");
        }
    }
}
