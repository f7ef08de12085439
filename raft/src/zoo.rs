//! What the zoo's bugs need here beyond a line (see `blox_runtime::zoo`).

use std::sync::atomic::{AtomicUsize, Ordering};

use blox_runtime::zoo::{Bug, carries};
use prost::Message;

use crate::codec::EncodedEntry;
use crate::node::Node;
use crate::status::Consistency;
use crate::types::{LogId, Vote};

/// `stale-read`: how a read is served.
pub(crate) fn as_served(asked: Consistency) -> Consistency {
    match asked {
        Consistency::Linearizable if carries(Bug::StaleRead) => Consistency::Stale { max: None },
        asked => asked,
    }
}

/// `early-ack`: appends are written and not synced; votes are. The durable note would refuse a log that has lost some of them, so it is not
/// written either.
pub(crate) fn acknowledges_early() -> bool {
    carries(Bug::EarlyAck)
}

/// `vote-not-saved`: votes are answered and not written. The log would not open without one, so that is not looked at either.
pub(crate) fn saves_no_vote() -> bool {
    carries(Bug::VoteNotSaved)
}

/// `vote-not-saved`: what a node remembers after a start. It knows the term from its entries, and not that it has voted in it: it may do so
/// once more.
pub(crate) fn vote_of_log(saved: Option<Vote>, last: Option<LogId>) -> Option<Vote> {
    if !saves_no_vote() {
        return saved;
    }
    let term_before = last?.leader_id.term.checked_sub(1)?;
    Some(Vote::new(term_before, 0))
}

/// `no-fence`: what a duty proposes is everybody's, nobody asks whether this node leads, and a leader without a quorum goes on.
pub(crate) fn is_without_fence() -> bool {
    carries(Bug::NoFence)
}

/// Entries that are proposed and not yet applied.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Until it is dropped an entry is under way.
pub(crate) struct UnderWay(());

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `early-delivery`: tells watchers what an entry will change, unless another one is under way before it.
pub(crate) fn tell_early(node: &Node, entry: &EncodedEntry) -> UnderWay {
    let first = UNDER_WAY.fetch_add(1, Ordering::AcqRel) == 0;
    if first && carries(Bug::EarlyDelivery) {
        node.store.deliver_early(entry.encode_to_vec().into());
    }
    UnderWay(())
}
