//! What must come before what, checked over the system calls of all nodes.
//!
//! strace notes a call's beginning before the kernel sees the call, and its end before the program goes on: so where the program waits for the
//! one before it does the other, on whatever node, the noted times are in that order too.

use std::collections::BTreeMap;

use crate::strace::Call;

/// An acknowledged write is on so many of three nodes.
const MAJORITY: usize = 2;
/// Key of the vote in the log's database (raft/src/log/record.rs).
const VOTE_KEY: &[u8] = b"m/vote";
/// Header of an HTTP/2 frame, and of a gRPC message within it, bytes.
const FRAME_HEADER: usize = 9;
const MESSAGE_HEADER: usize = 5;

/// One node: everything it called, in the order of time, over all its runs.
pub struct Trace {
    pub name: String,
    /// Where peers reach it.
    pub peer_address: String,
    pub calls: Vec<Call>,
}

impl Trace {
    fn is_log(call: &Call) -> bool {
        call.file.contains("/raft/db/") && call.file.ends_with(".log")
    }

    fn is_sync(call: &Call) -> bool {
        matches!(call.name.as_str(), "fsync" | "fdatasync")
    }

    fn log_writes(&self) -> impl Iterator<Item = &Call> {
        self.calls
            .iter()
            .filter(|call| Trace::is_log(call) && !Trace::is_sync(call))
    }

    /// When what a call wrote was durable: the end of the first sync of the same file that began after it.
    fn durable(&self, written: &Call) -> Option<u64> {
        let written_at = written.ended?;
        let after = self.calls.partition_point(|call| call.began < written_at);
        self.calls[after..]
            .iter()
            .find(|call| Trace::is_sync(call) && call.file == written.file && call.succeeded)
            .and_then(|sync| sync.ended)
    }
}

/// Every write named by a token (its key, value and request id hold it) was durable on a majority before its 200 left; otherwise what is wrong.
pub fn acknowledged_after_durable(traces: &[Trace], tokens: &[String]) -> Vec<String> {
    let Some(first) = tokens.first() else {
        return vec!["nothing was written".to_owned()];
    };
    let (prefix, length) = (
        first.split_at(first.find('-').expect("a token has a dash") + 1).0,
        first.len(),
    );
    let mut durable: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for trace in traces {
        for call in trace.log_writes() {
            for token in tokens_in(&call.bytes, prefix, length) {
                let nodes = durable.entry(token).or_default();
                if !nodes.contains_key(trace.name.as_str())
                    && let Some(at) = trace.durable(call)
                {
                    nodes.insert(&trace.name, at);
                }
            }
        }
        for call in trace.calls.iter().filter(|call| is_success(call)) {
            for token in tokens_in(&call.bytes, prefix, length) {
                let at = acknowledged.entry(token).or_insert(call.began);
                *at = call.began.min(*at);
            }
        }
    }
    let mut wrong = Vec::new();
    for token in tokens {
        let Some(left) = acknowledged.get(token) else {
            wrong.push(format!("{token}: no answer is in the trace"));
            continue;
        };
        let nodes = durable.get(token).cloned().unwrap_or_default();
        if nodes.values().filter(|at| *at <= left).count() < MAJORITY {
            wrong.push(format!("{token}: acknowledged at {left}, durable at {nodes:?}"));
        }
    }
    wrong
}

fn is_success(call: &Call) -> bool {
    call.file.starts_with("TCP") && (call.bytes.starts_with(b"HTTP/1.1 200") || call.bytes.starts_with(b"HTTP/1.1 201"))
}

fn tokens_in(bytes: &[u8], prefix: &str, length: usize) -> Vec<String> {
    let prefix = prefix.as_bytes();
    let starts = bytes
        .windows(prefix.len())
        .enumerate()
        .filter(|(_, window)| *window == prefix);
    let mut found: Vec<String> = starts
        .filter_map(|(start, _)| bytes.get(start..start + length))
        .map(|token| String::from_utf8_lossy(token).into_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A vote: term and candidate.
type Vote = (u64, u64);

/// Every vote a node has granted was durable before its answer left. How many there were, or what is wrong.
///
/// A pre-vote is answered with the node's own last vote, which binds nobody anew and was durable long before.
pub fn voted_after_durable(traces: &[Trace]) -> Result<usize, Vec<String>> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for trace in traces {
        let mut durable: BTreeMap<Vote, u64> = BTreeMap::new();
        for call in trace.log_writes() {
            for vote in votes_written(&call.bytes) {
                if let Some(at) = trace.durable(call) {
                    durable.entry(vote).or_insert(at);
                }
            }
        }
        let here = format!("TCP:[{}->", trace.peer_address);
        for call in trace.calls.iter().filter(|call| call.file.starts_with(&here)) {
            for vote in votes_granted(&call.bytes) {
                count += 1;
                match durable.get(&vote) {
                    Some(at) if *at <= call.began => {}
                    at => wrong.push(format!(
                        "{}: the vote {vote:?} was granted at {} and durable at {at:?}",
                        trace.name, call.began
                    )),
                }
            }
        }
    }
    if wrong.is_empty() { Ok(count) } else { Err(wrong) }
}

/// Votes in what was written to the log: the key, then the value with its length before it.
fn votes_written(bytes: &[u8]) -> Vec<Vote> {
    let keys = bytes
        .windows(VOTE_KEY.len())
        .enumerate()
        .filter(|(_, window)| *window == VOTE_KEY);
    keys.filter_map(|(start, _)| {
        let (length, rest) = bytes.get(start + VOTE_KEY.len()..)?.split_first()?;
        let (term, candidate, committed) = vote(rest.get(..usize::from(*length))?)?;
        (!committed).then_some((term, candidate))
    })
    .collect()
}

/// Votes granted in what was sent: data frames of HTTP/2 with one message of gRPC that is a `VoteReply` and nothing else.
fn votes_granted(bytes: &[u8]) -> Vec<Vote> {
    let body = FRAME_HEADER + MESSAGE_HEADER;
    let length_at = |at: usize, width: usize| {
        bytes[at..at + width]
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    (0..bytes.len().saturating_sub(body))
        .filter(|at| bytes[at + 3] == 0 && bytes[at + FRAME_HEADER] == 0)
        .filter(|at| length_at(*at, 3) == length_at(at + FRAME_HEADER + 1, 4) + MESSAGE_HEADER)
        .filter_map(|at| vote_granted(bytes.get(at + body..at + FRAME_HEADER + length_at(at, 3))?))
        .collect()
}

/// `VoteReply`: vote = 1, granted = 2, last log id = 3.
fn vote_granted(message: &[u8]) -> Option<Vote> {
    let (mut found, mut granted) = (None, false);
    for field in fields(message)? {
        match field {
            (1, Field::Bytes(bytes)) => found = Some(vote(bytes)?),
            (2, Field::Number(1)) => granted = true,
            (3, Field::Bytes(_)) => {}
            _ => return None,
        }
    }
    found
        .filter(|(term, _, committed)| granted && *term > 0 && !committed)
        .map(|(term, candidate, _)| (term, candidate))
}

/// `Vote`: term = 1, node id = 2, committed = 3.
fn vote(message: &[u8]) -> Option<(u64, u64, bool)> {
    let mut vote = (0, 0, false);
    for field in fields(message)? {
        match field {
            (1, Field::Number(term)) => vote.0 = term,
            (2, Field::Number(candidate)) => vote.1 = candidate,
            (3, Field::Number(committed)) => vote.2 = committed != 0,
            _ => return None,
        }
    }
    Some(vote)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message that has numbers and nested messages only; `None`: it is none.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = number(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(number(&mut message)?),
            2 => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        found.push((tag >> 3, field));
    }
    Some(found)
}

fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "/d/a/raft/db/000004.log";
    const USER: &str = "TCP:[127.0.0.1:2001->127.0.0.1:5]";
    const PEER: &str = "TCP:[127.0.0.1:2010->127.0.0.1:6]";

    fn call(began: u64, ended: u64, name: &str, file: &str, bytes: &[u8]) -> Call {
        Call {
            began,
            ended: Some(ended),
            name: name.to_owned(),
            file: file.to_owned(),
            bytes: bytes.to_vec(),
            succeeded: true,
        }
    }

    fn trace(name: &str, calls: &[Call]) -> Trace {
        Trace {
            name: name.to_owned(),
            peer_address: "127.0.0.1:2010".to_owned(),
            calls: calls.to_vec(),
        }
    }

    /// What two nodes do for one write that is acknowledged at `left`; the second syncs from 20 to `synced`.
    fn one_write(synced: u64, left: u64) -> [Trace; 2] {
        let answer = call(
            left,
            left + 1,
            "writev",
            USER,
            b"HTTP/1.1 200 OK\r\nx-request-id: ack-1\r\n",
        );
        let leader = [
            call(1, 2, "write", LOG, b"..ack-1.."),
            call(3, 10, "fdatasync", LOG, b""),
            answer,
        ];
        let follower = [
            call(11, 12, "write", LOG, b"..ack-1.."),
            call(20, synced, "fdatasync", LOG, b""),
        ];
        [trace("a", &leader), trace("b", &follower)]
    }

    fn wrong(traces: &[Trace]) -> usize {
        acknowledged_after_durable(traces, &["ack-1".to_owned()]).len()
    }

    /// Durable on two nodes, then acknowledged: right. Acknowledged within the second's sync, or after one sync alone: wrong.
    #[test]
    fn an_early_acknowledgement_is_found() {
        assert_eq!(wrong(&one_write(30, 31)), 0);
        assert_eq!(wrong(&one_write(30, 25)), 1);
        assert_eq!(wrong(&one_write(30, 15)), 1);
        assert_eq!(wrong(&one_write(30, 31)[..1]), 1);
    }

    /// A sync counts only after the write, of the same file, and when it succeeded; a write without an answer is a hole in the trace.
    #[test]
    fn only_the_right_sync_counts() {
        let with = |change: fn(&mut Call)| {
            let mut traces = one_write(30, 40);
            change(&mut traces[1].calls[1]);
            traces[1].calls.sort_by_key(|call| call.began);
            wrong(&traces)
        };
        assert_eq!(with(|_| {}), 0);
        assert_eq!(with(|sync| sync.succeeded = false), 1);
        assert_eq!(with(|sync| sync.ended = None), 1);
        assert_eq!(with(|sync| sync.began = 11), 1, "it began before the write had ended");
        assert_eq!(with(|sync| sync.file = "/d/a/raft/db/000005.log".to_owned()), 1);
        assert_eq!(
            with(|sync| sync.file = "/d/a/state/generation-1/000004.log".to_owned()),
            1
        );
        let mut silent = one_write(30, 40);
        silent[0].calls.pop();
        assert_eq!(wrong(&silent), 1);
    }

    /// The vote (7, 2), granted: headers of another frame, then the data frame.
    fn reply(granted: bool) -> Vec<u8> {
        let mut message = vec![0x0a, 4, 0x08, 7, 0x10, 2];
        if granted {
            message.extend([0x10, 1]);
        }
        message.extend([0x1a, 4, 0x08, 6, 0x10, 90]);
        let length = message.len() as u8;
        let mut bytes = vec![0, 0, 3, 1, 4, 0, 0, 0, 1, b'x', b'y', b'z'];
        bytes.extend([0, 0, length + 5, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, length]);
        bytes.extend(message);
        bytes
    }

    /// A vote that is granted before its sync has ended, or that was never written, is found; one that is refused matters to nobody.
    #[test]
    fn an_early_vote_is_found() {
        let written = call(1, 2, "write", LOG, b"\x01\x06m/vote\x04\x08\x07\x10\x02");
        let sync = call(3, 10, "fdatasync", LOG, b"");
        let vote = |left: u64, granted: bool, before: &[Call]| {
            let mut calls = before.to_vec();
            calls.push(call(left, left + 1, "writev", PEER, &reply(granted)));
            calls.sort_by_key(|call| call.began);
            voted_after_durable(&[trace("a", &calls)])
        };
        let both = [written.clone(), sync];
        assert_eq!(vote(11, true, &both), Ok(1));
        assert!(vote(5, true, &both).is_err());
        assert!(vote(11, true, &[written]).is_err());
        assert!(vote(11, true, &[]).is_err());
        assert_eq!(vote(5, false, &both), Ok(0));
    }
}
