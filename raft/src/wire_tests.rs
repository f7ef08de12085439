//! What peers say only grows, and what an earlier release says decodes to what it means. See `store/tests/it/wire.rs`.

use crate::proto::*;

#[path = "../../store/tests/it/samples.rs"]
mod samples;

const SCHEMA: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.txt"));

/// Every message between peers, in the log and beside snapshots, and every branch of every oneof.
#[test]
fn the_wire_is_what_it_was() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    samples::check(&directory, SCHEMA, |name, bytes| {
        samples::by_name!(
            name,
            bytes,
            Envelope LogId Vote Node VoterSet Membership StoredMembership LogEntry VoteRequest VoteReply AppendRequest
            AppendReply DiskRoom Matching TransferRequest TransferReply Accepted VoteChanged LogNotFlushed SnapshotManifest
            SnapshotFrame SnapshotHeader FileStart FileEnd SnapshotDone FetchSnapshotRequest SnapshotReply ProposeRequest
            ProposeReply ProposeResult DisksFull FullDisk ReadIndexRequest ReadIndexReply ReadPoint CompareStateRequest
            StateDifference CompareStateReply HashPoint IdentifyRequest IdentifyReply Uninitialised RestoredMark
            InitialMember InCluster MembersRequest ListMembers ReplaceMember RemoveMember PromoteMember MembersReply
            MemberList MemberEntry MemberProgress MemberRefusal
        )
    });
}
