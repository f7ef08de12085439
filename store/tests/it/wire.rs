//! The schema of log and state only grows, and what an earlier release wrote decodes to what it meant.
//!
//! `BLOX_BLESS=1 cargo nextest run -p blox-store -p blox-raft wire` takes up what is new; read the diff: nothing but new lines may come, and
//! changed samples of messages that have grown.

use blox_store::proto::*;

use crate::samples;

const SCHEMA: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.txt"));

/// Every message, and every branch of every oneof: each command and each stored value among them.
#[test]
fn the_wire_is_what_it_was() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    samples::check(&directory, SCHEMA, |name, bytes| {
        samples::by_name!(
        name,
        bytes,
            Entry Command Idempotency OpenSession Observe Observation ForgetResources ForgetResource QuarantineMessages
            QuarantinedMessage ReportSource ReconcilePass Precondition PutKey DeleteKey EnvironmentSpec Attribute
            CreateEnvironment UpdateEnvironment DeleteEnvironment RemoveEnvironment CreateDeployment UpdateDeployment
            IntendLaunches LaunchIntent RecordLaunches LaunchOutcome LaunchRejection RemoveLaunches LaunchKey IntendStops
            StopIntent RecordStops StopOutcome StopFailure Compact Expire RaiseFeatureLevel Outcome Done SessionOpened
            Observed RefusedObservation KeyWritten KeyValue Launched Removed Refusal StoredValue Register ResourceRecord
            ResourceFields EnvironmentRecord DeploymentRecord LaunchRecord StopRecord HistoryRecord Tombstone
            SourceStatus SessionRecord IdempotencyRecord Position HistoryMark CheckpointManifest CheckpointFile
            BackupHeader BackupTrailer
        )
    });
}
