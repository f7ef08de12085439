//! Takes what waits and sends it off together: as one entry where this node leads, as one call to the leader where it follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blox_runtime::time::Instant;
use blox_runtime::watch;
use blox_store::proto::Outcome;
use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX, IN_FLIGHT_MAX, Origin, Proposal, Refusal, Told};
use crate::NodeId;
use crate::codec::EncodedEntry;
use crate::disk::FullDisks;
use crate::net::ForwardFailure;
use crate::node::{Leading, Node, View};
use crate::proto::propose_result;
use crate::types::{Commands, CommittedLeaderId, NodeInfo, TypeConfig};

/// Where a batch goes.
#[derive(Clone)]
enum Destination {
    /// Into this node's log.
    Here(Leading),
    /// To the leader.
    Leader(NodeId, NodeInfo),
    /// Nobody takes it.
    Nowhere,
}

/// Serves the queue until it is closed.
pub(crate) async fn run(node: Arc<Node>, mut queue: mpsc::Receiver<Proposal>) {
    let mut view = node.view.subscribe();
    let mut lane = Lane::default();
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Whatever comes while this waits joins the batch.
        node.log.gauge.wait_for_room().await;
        node.settled().await;
        let Some((destination, permit)) = lane.room(&mut view).await else {
            return;
        };
        let full = node.disks.refusal();
        let batch = collect(first, &mut queue, &mut left_over, &destination, full.as_deref());
        if !batch.is_empty() {
            blox_runtime::spawn(send(node.clone(), destination, batch, permit));
        }
    }
}

fn destination(view: &View) -> Destination {
    match (&view.leading, &view.leader) {
        (Some(leading), _) => Destination::Here(*leading),
        (None, Some((id, info))) if *id != view.node_id => Destination::Leader(*id, info.clone()),
        _ => Destination::Nowhere,
    }
}

/// What is under way to one leader in one term. A leader that does not answer any more holds up only what went to it: the next one has
/// room of its own at once.
struct Lane {
    leader: Option<NodeId>,
    term: u64,
    in_flight: Arc<Semaphore>,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane::to(None, 0)
    }
}

impl Lane {
    fn to(leader: Option<NodeId>, term: u64) -> Lane {
        Lane {
            leader,
            term,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// Waits for room on the way to the leader of the moment, whoever that is by then; `None`: the node is gone.
    async fn room(&mut self, view: &mut watch::Receiver<View>) -> Option<(Destination, OwnedSemaphorePermit)> {
        loop {
            let destination = {
                let view = view.borrow_and_update();
                let destination = destination(&view);
                let leader = match destination {
                    Destination::Here(_) => Some(view.node_id),
                    Destination::Leader(id, _) => Some(id),
                    Destination::Nowhere => None,
                };
                if (self.leader, self.term) != (leader, view.term) {
                    *self = Lane::to(leader, view.term);
                }
                destination
            };
            tokio::select! {
                biased;
                changed = view.changed() => changed.ok()?,
                permit = self.in_flight.clone().acquire_owned() => return Some((destination, permit.ok()?)),
            }
        }
    }
}

/// Takes what waits, up to one entry's size; what does not fit is the next batch's first.
fn collect(
    first: Proposal,
    queue: &mut mpsc::Receiver<Proposal>,
    left_over: &mut Option<Proposal>,
    destination: &Destination,
    full: Option<&FullDisks>,
) -> Vec<Proposal> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(proposal) = next {
        if !batch.is_empty() && bytes + proposal.command.len() > ENTRY_BYTES_MAX {
            *left_over = Some(proposal);
            break;
        }
        if let Some(refusal) = unfit(proposal.origin, destination, full) {
            if proposal.take() {
                proposal.answer(Err(refusal));
            }
        } else if proposal.take() {
            bytes += proposal.command.len();
            batch.push(proposal);
        }
        next = if batch.len() < ENTRY_COMMANDS_MAX {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    batch
}

/// Why a proposal must not go there.
fn unfit(origin: Origin, destination: &Destination, full: Option<&FullDisks>) -> Option<Refusal> {
    match (origin, destination) {
        (Origin::Duty { term } | Origin::Upkeep { term }, Destination::Here(leading)) if term != leading.term => {
            Some(Refusal::NotLeader)
        }
        (Origin::Duty { .. } | Origin::Upkeep { .. }, Destination::Leader(..) | Destination::Nowhere) => {
            Some(Refusal::NotLeader)
        }
        (Origin::Upkeep { .. }, Destination::Here(_)) | (Origin::Caller, Destination::Leader(..)) => None,
        (_, Destination::Here(_)) => full.cloned().map(Refusal::DiskFull),
        (Origin::Forwarded, Destination::Leader(..)) => Some(Refusal::TryAgain("not the leader".to_owned())),
        (_, Destination::Nowhere) => Some(Refusal::TryAgain("no leader is known".to_owned())),
    }
}

async fn send(node: Arc<Node>, destination: Destination, batch: Vec<Proposal>, permit: OwnedSemaphorePermit) {
    match destination {
        Destination::Here(leading) => write(node, leading, batch, permit).await,
        Destination::Leader(id, info) => {
            let answers = forward(&node, (id, &info), &batch).await;
            answer(batch, answers);
        }
        Destination::Nowhere => answer_all(batch, &Refusal::TryAgain("no leader is known".to_owned())),
    }
}

/// Gives each proposal its own answer.
fn answer(batch: Vec<Proposal>, answers: Answers) {
    match answers {
        Ok(answers) if answers.len() == batch.len() => {
            for (proposal, answer) in batch.into_iter().zip(answers) {
                proposal.answer(answer);
            }
        }
        Ok(answers) => {
            let cause = format!("{} commands were answered by {} outcomes", batch.len(), answers.len());
            answer_all(batch, &Refusal::Unknown(cause));
        }
        Err(refusal) => answer_all(batch, &refusal),
    }
}

fn answer_all(batch: Vec<Proposal>, refusal: &Refusal) {
    for proposal in batch {
        proposal.answer(Err(refusal.clone()));
    }
}

type Answers = Result<Vec<Result<Outcome, Refusal>>, Refusal>;

/// Writes one entry to this node's log, as the leader of that term and no other. Its proposals are answered by the thread that applies it.
async fn write(node: Arc<Node>, leading: Leading, batch: Vec<Proposal>, permit: OwnedSemaphorePermit) {
    let Some(engine) = node.engine.get() else {
        return answer_all(batch, &Refusal::TryAgain("this node is not a member yet".to_owned()));
    };
    let sent = Instant::now();
    for proposal in &batch {
        let stages = &node.counters.stages;
        stages.queued.add(sent.saturating_duration_since(proposal.began));
    }
    let mut commands = commands(&batch);
    commands.extend(newer_command(&node));
    let entry = EncodedEntry {
        wall_time_ms: node.clock.wall_ms(),
        elapsed_ms: leading.elapsed_ms(node.clock.as_ref()),
        commands,
    };
    #[cfg(feature = "zoo")]
    let under_way = crate::zoo::tell_early(&node, &entry);
    let taken = Arc::new(AtomicBool::new(false));
    let (of, was_taken) = (node.clone(), taken.clone());
    let told = Told::new(move |outcome, passed| {
        #[cfg(feature = "zoo")]
        drop(under_way);
        if let Some(Ok(_)) = &outcome {
            of.counters.stages.note(sent, &passed);
        }
        let answers = match outcome {
            Some(outcome) => answers(outcome, batch.len()),
            None => Err(without_outcome(was_taken.load(Ordering::Acquire))),
        };
        answer(batch, answers);
        drop(permit);
    });
    let written = engine
        .raft
        .write(Commands(entry.encode_to_vec().into()))
        .responder(told)
        .with_leader(CommittedLeaderId::new(leading.term))
        .await;
    // Otherwise consensus has ended, and who waits was told so. (Nothing runs between the two: consensus has one thread.)
    if written.is_ok() {
        taken.store(true, Ordering::Release);
        node.counters.entries_proposed.fetch_add(1, Ordering::Relaxed);
    }
}

fn commands(batch: &[Proposal]) -> Vec<Bytes> {
    batch.iter().map(|proposal| proposal.command.clone()).collect()
}

/// What an entry's outcome means for its `asked` first commands.
fn answers(outcome: ClientWriteResult<TypeConfig>, asked: usize) -> Answers {
    match outcome {
        Ok(response) => Ok(response.data.0.into_iter().take(asked).map(Ok).collect()),
        // Refused before it was appended: another leader, or a lease that has run out or not begun.
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(Refusal::TryAgain(format!("{:?}", forward.reason))),
        Err(other) => Err(Refusal::Unknown(other.to_string())),
    }
}

/// Why an entry has no outcome, and never will. What consensus did not take was not written.
fn without_outcome(taken: bool) -> Refusal {
    match taken {
        true => Refusal::Unknown("consensus ended before the outcome was known".to_owned()),
        false => Refusal::Stopped("consensus has ended".to_owned()),
    }
}

/// In builds for tests: a command that no version knows yet, beside those asked for. `return(gated)` writes it as a later release would, only
/// once the feature level allows it; `return` writes it whatever the others know.
fn newer_command(node: &Node) -> Option<Bytes> {
    fail::fail_point!("raft::newer-command", |mode: Option<String>| {
        use blox_store::FeatureLevel;
        /// The feature level after the newest.
        const LEVEL_OF_NEWER_COMMAND: FeatureLevel = FeatureLevel::new(FeatureLevel::NEWEST.number() + 1);
        /// `actor: "newer"` (field 1) and an operation that stands in no schema (field 1999, empty).
        const NEWER_COMMAND: &[u8] = b"\x0a\x05newer\xfa\x7c\x00";
        let may_write = mode.as_deref() != Some("gated") || node.store.may_write(LEVEL_OF_NEWER_COMMAND);
        may_write.then(|| Bytes::from_static(NEWER_COMMAND))
    });
    // Without crash points the node is not asked.
    let _ = node;
    None
}

/// Has the leader propose them.
async fn forward(node: &Node, leader: (NodeId, &NodeInfo), batch: &[Proposal]) -> Answers {
    let Some(engine) = node.engine.get() else {
        return Err(Refusal::TryAgain("this node is not a member yet".to_owned()));
    };
    let now = Instant::now();
    let until = batch.iter().map(|proposal| proposal.until).max().unwrap_or(now);
    let deadline = until.saturating_duration_since(now);
    match engine.requests.propose(leader, commands(batch), deadline).await {
        Ok(results) => Ok(results.into_iter().map(|result| forwarded(result.result)).collect()),
        Err(ForwardFailure::NeverHandled(reason)) => Err(Refusal::TryAgain(reason)),
        Err(ForwardFailure::Unknown(cause)) => Err(Refusal::Unknown(cause)),
    }
}

fn forwarded(result: Option<propose_result::Result>) -> Result<Outcome, Refusal> {
    match result {
        Some(propose_result::Result::Outcome(bytes)) => Outcome::decode(bytes)
            .map_err(|error| Refusal::Unknown(format!("the leader's answer cannot be decoded: {error}"))),
        Some(propose_result::Result::TryAgain(reason)) => Err(Refusal::TryAgain(reason)),
        Some(propose_result::Result::Overloaded(_)) => Err(Refusal::Overloaded),
        Some(propose_result::Result::DisksFull(full)) => Err(Refusal::DiskFull(full.into())),
        Some(propose_result::Result::Unknown(cause)) => Err(Refusal::Unknown(cause)),
        None => Err(Refusal::Unknown("the leader's answer is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::disk::FullDisk;
    use crate::propose::queue;
    use crate::status::Role;

    fn leading(term: u64) -> Destination {
        Destination::Here(Leading {
            term,
            elapsed_base_ms: 0,
            since: Duration::ZERO,
        })
    }

    /// Duties of another term and forwarded proposals never leave the node; callers' go to the leader.
    #[test]
    fn only_callers_are_forwarded() {
        let leader = Destination::Leader(2, NodeInfo::default());
        assert!(unfit(Origin::Caller, &leader, None).is_none());
        assert!(matches!(
            unfit(Origin::Forwarded, &leader, None),
            Some(Refusal::TryAgain(_))
        ));
        assert!(matches!(
            unfit(Origin::Duty { term: 3 }, &leader, None),
            Some(Refusal::NotLeader)
        ));
        assert!(unfit(Origin::Duty { term: 3 }, &leading(3), None).is_none());
        assert!(matches!(
            unfit(Origin::Duty { term: 3 }, &leading(4), None),
            Some(Refusal::NotLeader)
        ));
        assert!(unfit(Origin::Forwarded, &leading(4), None).is_none());
        assert!(matches!(
            unfit(Origin::Caller, &Destination::Nowhere, None),
            Some(Refusal::TryAgain(_))
        ));
    }

    /// Where disks are full a leader takes only what makes room; a follower does not decide that, its leader does.
    #[test]
    fn full_disks_take_upkeep_only() {
        let full = FullDisks(vec![FullDisk {
            node: "a".into(),
            free_bytes: 1,
            needed_bytes: 2,
        }]);
        let refused = |origin| unfit(origin, &leading(3), Some(&full));
        for origin in [Origin::Caller, Origin::Forwarded, Origin::Duty { term: 3 }] {
            assert!(matches!(refused(origin), Some(Refusal::DiskFull(_))), "{origin:?}");
        }
        assert!(refused(Origin::Upkeep { term: 3 }).is_none());
        assert!(matches!(refused(Origin::Upkeep { term: 2 }), Some(Refusal::NotLeader)));
        let leader = Destination::Leader(2, NodeInfo::default());
        assert!(unfit(Origin::Caller, &leader, Some(&full)).is_none());
    }

    /// A leader that answers no more holds up what went to it, and nothing that is for the next one.
    #[tokio::test(start_paused = true)]
    async fn a_silent_leader_does_not_hold_up_the_next() {
        let led_by = |id, term| View {
            node_id: 1,
            role: Role::Follower,
            term,
            leader: Some((id, NodeInfo::default())),
            voters: 3,
            leading: None,
        };
        let view = watch::Sender::new(led_by(2, 5));
        let mut lane = Lane::default();
        let mut follower = view.subscribe();
        let mut under_way = Vec::new();
        for _ in 0..IN_FLIGHT_MAX {
            under_way.push(lane.room(&mut follower).await.expect("room"));
        }
        let moment = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(moment, lane.room(&mut follower)).await.is_err(),
            "bounded"
        );
        let (next, ()) = tokio::join!(lane.room(&mut follower), async {
            view.send_replace(led_by(3, 6));
        });
        assert!(matches!(next, Some((Destination::Leader(3, _), _))));
        // Elected again, the silent one begins anew too.
        view.send_replace(led_by(2, 7));
        assert!(matches!(
            lane.room(&mut follower).await,
            Some((Destination::Leader(2, _), _))
        ));
    }

    /// What waits together goes together up to an entry's size; a larger one goes alone; nothing is lost or reordered.
    #[tokio::test]
    async fn batches_by_size() {
        let (proposals, mut receiver) = queue();
        let until = Instant::now() + Duration::from_secs(5);
        let sizes = [10, 20, ENTRY_BYTES_MAX - 5, ENTRY_BYTES_MAX * 2, 7];
        let _submitted: Vec<_> = sizes
            .iter()
            .map(|size| {
                proposals
                    .submit(Bytes::from(vec![0; *size]), Origin::Caller, until)
                    .expect("room")
            })
            .collect();
        let mut left_over = None;
        let mut batches = Vec::new();
        while let Some(first) = left_over.take().or_else(|| receiver.try_recv().ok()) {
            let batch = collect(first, &mut receiver, &mut left_over, &leading(1), None);
            batches.push(batch.iter().map(|proposal| proposal.command.len()).collect::<Vec<_>>());
        }
        assert_eq!(
            batches,
            vec![
                vec![10, 20],
                vec![ENTRY_BYTES_MAX - 5],
                vec![ENTRY_BYTES_MAX * 2],
                vec![7]
            ]
        );
    }
}
