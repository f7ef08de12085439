//! Who calls whom: in the metadata of every call, checked before its message is read.

use std::time::Duration;

use blox_runtime::time::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use prost::Message;
use tonic::Status;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use crate::engine::Engine;
use crate::error::REMEDY;
use crate::identity::MemberIdentity;
use crate::proto::Envelope;
use crate::types::NodeInfo;

/// A refusal that goes on is logged again after this.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

const METADATA_KEY: &str = "blox-envelope-bin";

/// The envelope of calls from `me` to `target`, ready to be sent.
pub(super) fn seal(me: &MemberIdentity, target: u64, node: &NodeInfo) -> BinaryMetadataValue {
    let envelope = Envelope {
        cluster_id: me.cluster_id.clone(),
        from: me.node_id,
        from_incarnation: me.incarnation.clone(),
        to: target,
        to_incarnation: node.incarnation.clone(),
    };
    BinaryMetadataValue::from_bytes(&envelope.encode_to_vec())
}

/// A request in its envelope.
pub(super) fn enclose<T>(message: T, envelope: &BinaryMetadataValue) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert_bin(METADATA_KEY, envelope.clone());
    request
}

pub(super) fn open(metadata: &MetadataMap) -> Option<Envelope> {
    let bytes = metadata.get_bin(METADATA_KEY)?.to_bytes().ok()?;
    Envelope::decode(bytes).ok()
}

/// Refuses a call of another cluster, to another node, or by (or to) another incarnation.
pub(super) fn check(engine: &Engine, metadata: &MetadataMap) -> Result<(), Status> {
    let envelope = open(metadata).ok_or_else(|| Status::permission_denied("the call carries no envelope"))?;
    let membership = engine.raft.server_metrics().borrow_watched().membership_config.clone();
    let known = membership
        .get_node(&envelope.from)
        .map(|node| node.incarnation.as_str());
    verify(&envelope, &engine.identity, known).map_err(|reason| {
        warn_at_times(engine, envelope.from, &reason);
        Status::permission_denied(reason)
    })
}

/// Says why a peer's calls are refused, and says it again only after a while.
fn warn_at_times(engine: &Engine, from: u64, reason: &str) {
    let mut last = engine.refused.lock();
    let said = last
        .as_ref()
        .is_some_and(|(said, at)| said == reason && at.elapsed() < SAY_AGAIN_AFTER);
    if !said {
        tracing::warn!(from, reason, "refused a call");
        *last = Some((reason.to_owned(), Instant::now()));
    }
}

fn verify(envelope: &Envelope, me: &MemberIdentity, known_incarnation: Option<&str>) -> Result<(), String> {
    if envelope.cluster_id != me.cluster_id {
        return Err(format!(
            "the call comes from cluster {}, this node belongs to cluster {}: check the peers' addresses",
            envelope.cluster_id, me.cluster_id
        ));
    }
    if envelope.to != me.node_id || envelope.to_incarnation != me.incarnation {
        return Err(format!(
            "the call is for node {} (incarnation {}), this is node {} (incarnation {}). If this node lost its disk, stop it; \
             {REMEDY}",
            envelope.to, envelope.to_incarnation, me.node_id, me.incarnation
        ));
    }
    match known_incarnation {
        Some(known) if known != envelope.from_incarnation => Err(format!(
            "the call comes from incarnation {} of node {}, the cluster knows incarnation {known}. If that node lost its disk, stop it; \
             {REMEDY}",
            envelope.from_incarnation, envelope.from
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> MemberIdentity {
        MemberIdentity {
            cluster_id: "c".into(),
            node_id: 2,
            name: "b".into(),
            incarnation: "mine".into(),
            joined_at: 0,
            founders: None,
            restored: false,
        }
    }

    fn envelope() -> Envelope {
        Envelope {
            cluster_id: "c".into(),
            from: 1,
            from_incarnation: "theirs".into(),
            to: 2,
            to_incarnation: "mine".into(),
        }
    }

    /// The envelope survives the metadata.
    #[test]
    fn travels_in_metadata() {
        let sender = MemberIdentity {
            node_id: 1,
            incarnation: "theirs".into(),
            ..me()
        };
        let target = NodeInfo {
            incarnation: "mine".into(),
            ..NodeInfo::default()
        };
        let request = enclose((), &seal(&sender, 2, &target));
        assert_eq!(open(request.metadata()), Some(envelope()));
    }

    /// Another cluster, another target and another incarnation of either side are refused; an unknown sender of the same cluster is not,
    /// since it may be newer than this node's membership.
    #[test]
    fn only_the_right_ones_talk() {
        verify(&envelope(), &me(), Some("theirs")).expect("both as known");
        verify(&envelope(), &me(), None).expect("a sender not known yet");
        let refused = |envelope: Envelope, known| verify(&envelope, &me(), known).expect_err("refused");
        assert!(
            refused(
                Envelope {
                    cluster_id: "d".into(),
                    ..envelope()
                },
                None
            )
            .contains("cluster d")
        );
        assert!(refused(Envelope { to: 3, ..envelope() }, None).contains("node 3"));
        assert!(
            refused(
                Envelope {
                    to_incarnation: "old".into(),
                    ..envelope()
                },
                None
            )
            .contains("blox member replace")
        );
        assert!(refused(envelope(), Some("earlier")).contains("blox member replace"));
    }
}
