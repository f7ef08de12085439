//! Who this node is: `identity.json` in the data directory, and the rules for starting with it.
//!
//! A node id belongs to one disk for ever: a node that came back under its id with an empty log could vote twice in one term and lose
//! what was acknowledged. So the file holds a random incarnation, new with each empty disk; the membership knows it, and peers refuse
//! another one under the same id. The file and the log stand or fall together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{REMEDY, StartError};
use crate::files;
use crate::log::{self, LogHandle, RaftLog};
use crate::restore::{self, RestoredMark};
use crate::types::NodeInfo;

const FILE_NAME: &str = "identity.json";
pub(crate) const LOG_DIRECTORY: &str = "raft";
/// Snapshots beside the log.
pub(crate) const SNAPSHOTS_DIRECTORY: &str = "snapshots";
const FORMAT: u32 = 1;

/// What `identity.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    name: String,
    incarnation: String,
    /// Absent until the node is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<MemberFile>,
    /// Where the state came out of a backup, before the node was a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored: Option<RestoredMark>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberFile {
    cluster_id: String,
    node_id: u64,
    /// Where the committed membership stood in the log that first named this node, counted from one: one that stands there or later and
    /// does not name it has removed it. 0: an initial member, named from the beginning.
    #[serde(default)]
    joined_at: u64,
    /// On the initialiser: the members it founds the cluster with, so that a crash in between does not lose them. On every member of a cluster
    /// that was founded from a backup: the members of its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founders: Option<BTreeMap<u64, NodeInfo>>,
}

/// A node that was never in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct NewIdentity {
    path: PathBuf,
    pub name: String,
    pub incarnation: String,
    /// Which backup its state came out of; it founds a cluster only with others of the same.
    pub restored: Option<RestoredMark>,
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberIdentity {
    pub cluster_id: String,
    pub node_id: u64,
    pub name: String,
    pub incarnation: String,
    /// Where the committed membership stood in the log that first named it, counted from one; 0: from the beginning.
    pub joined_at: u64,
    /// The initial members, on the node that founded the cluster, and on every member of one that was founded from a backup.
    pub founders: Option<BTreeMap<u64, NodeInfo>>,
    /// The cluster was founded from a backup.
    pub restored: bool,
}

/// What a node starts as.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    New(NewIdentity),
    Member(MemberIdentity),
}

impl Identity {
    pub(crate) fn incarnation(&self) -> &str {
        match self {
            Identity::New(new) => &new.incarnation,
            Identity::Member(member) => &member.incarnation,
        }
    }

    /// Its number, once it has one.
    pub(crate) fn node_id(&self) -> Option<u64> {
        match self {
            Identity::New(_) => None,
            Identity::Member(member) => Some(member.node_id),
        }
    }
}

impl NewIdentity {
    /// Writes down that this node is a member now; durable when it returns, and only then may it vote.
    pub(crate) fn join(
        &self,
        cluster_id: &str,
        node_id: u64,
        joined_at: u64,
        founders: Option<BTreeMap<u64, NodeInfo>>,
    ) -> io::Result<MemberIdentity> {
        let member = MemberFile {
            cluster_id: cluster_id.to_owned(),
            node_id,
            joined_at,
            founders: founders.clone(),
        };
        let file = IdentityFile {
            format: FORMAT,
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            member: Some(member),
            restored: self.restored.clone(),
        };
        write(&self.path, &file)?;
        Ok(MemberIdentity {
            cluster_id: cluster_id.to_owned(),
            node_id,
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            joined_at,
            founders,
            restored: self.restored.is_some(),
        })
    }
}

/// Whether a member's identity and its log are in `data_directory`: a state beside them can be rebuilt. (Whether they are whole shows when
/// they are opened.)
pub fn has_log(data_directory: &Path) -> bool {
    data_directory.join(FILE_NAME).exists() && data_directory.join(LOG_DIRECTORY).exists()
}

/// Whether somebody lives in `data_directory`.
pub(crate) fn exists(data_directory: &Path) -> bool {
    data_directory.join(FILE_NAME).exists()
}

/// Writes the identity of a node that was restored from a backup and was never a member, into a folder that is no node's yet.
pub(crate) fn write_restored(side: &Path, name: &str, mark: RestoredMark) -> io::Result<()> {
    let file = IdentityFile {
        format: FORMAT,
        name: name.to_owned(),
        incarnation: blox_runtime::random::id().to_string(),
        member: None,
        restored: Some(mark),
    };
    write(&side.join(FILE_NAME), &file)
}

/// Moves what [`write_restored`] wrote into the data directory: from here on somebody lives there.
pub(crate) fn take_place(side: &Path, data_directory: &Path) -> io::Result<()> {
    fs::rename(side.join(FILE_NAME), data_directory.join(FILE_NAME))
}

/// Opens what is in `data_directory`, or begins there. Blocking. `state_is_empty`: nothing was ever applied to the state beside it.
pub(crate) fn open(
    data_directory: &Path,
    name: &str,
    state_is_empty: bool,
) -> Result<(Identity, RaftLog, LogHandle), StartError> {
    let path = data_directory.join(FILE_NAME);
    let log_directory = data_directory.join(LOG_DIRECTORY);
    let shown = data_directory.display();
    restore::check_finished(data_directory).map_err(StartError::Identity)?;
    match read(&path)? {
        None if log_directory.exists() => Err(StartError::Identity(format!(
            "{shown} holds a log but no {FILE_NAME}, so it is not known whose log it is. If the file was lost, stop this node; {REMEDY}. If this is a new node, start it with an empty directory"
        ))),
        None if !state_is_empty => Err(StartError::Identity(format!(
            "{shown} holds a state but no {FILE_NAME} and no log. Stop this node; {REMEDY}. If this is a new node, start it with an empty directory"
        ))),
        None if data_directory.join(SNAPSHOTS_DIRECTORY).exists() => Err(StartError::Identity(format!(
            "{shown} holds snapshots but no {FILE_NAME}, no log and no state. Stop this node; {REMEDY}. If this is a new node, start it with an empty directory"
        ))),
        None => begin(data_directory, &log_directory, path, name),
        Some(file) if file.name != name => Err(StartError::Identity(format!(
            "{shown} belongs to node `{}`, not to `{name}`: start it under its own name, or give `{name}` a directory of its own",
            file.name
        ))),
        Some(IdentityFile {
            member: None,
            incarnation,
            restored,
            ..
        }) => {
            if restored.is_some() && state_is_empty {
                return Err(StartError::Identity(format!(
                    "{shown} was restored from a backup, but its state is gone: empty it and say `blox snapshot restore` once more"
                )));
            }
            if !state_is_empty && restored.is_none() {
                return Err(StartError::Identity(format!(
                    "{shown} holds a state, but {FILE_NAME} says that this node was never a member: start it with an empty directory"
                )));
            }
            start_over(&log_directory)?;
            let (log, handle) = log::create(&log_directory).map_err(|error| storage_error(&error))?;
            Ok((
                Identity::New(NewIdentity {
                    path,
                    name: name.to_owned(),
                    incarnation,
                    restored,
                }),
                log,
                handle,
            ))
        }
        Some(IdentityFile {
            member: Some(member),
            incarnation,
            restored,
            ..
        }) => {
            if !log_directory.exists() {
                return Err(StartError::Identity(format!(
                    "{shown} belongs to node {} of cluster {}, but its log ({}) is gone. Without it this node could break promises it gave \
                     its peers. Stop it; {REMEDY}",
                    member.node_id,
                    member.cluster_id,
                    log_directory.display()
                )));
            }
            let (log, handle) = log::open(&log_directory).map_err(|error| storage_error(&error))?;
            let identity = MemberIdentity {
                cluster_id: member.cluster_id,
                node_id: member.node_id,
                name: name.to_owned(),
                incarnation,
                joined_at: member.joined_at,
                founders: member.founders,
                restored: restored.is_some(),
            };
            Ok((Identity::Member(identity), log, handle))
        }
    }
}

fn begin(
    data_directory: &Path,
    log_directory: &Path,
    path: PathBuf,
    name: &str,
) -> Result<(Identity, RaftLog, LogHandle), StartError> {
    fs::create_dir_all(data_directory).map_err(|cause| StartError::Storage {
        doing: format!("create the data directory {}", data_directory.display()),
        cause: cause.to_string(),
    })?;
    let incarnation = blox_runtime::random::id().to_string();
    let file = IdentityFile {
        format: FORMAT,
        name: name.to_owned(),
        incarnation: incarnation.clone(),
        member: None,
        restored: None,
    };
    write(&path, &file).map_err(|cause| StartError::Storage {
        doing: "cannot begin as a new node".to_owned(),
        cause: cause.to_string(),
    })?;
    let (log, handle) = log::create(log_directory).map_err(|error| storage_error(&error))?;
    Ok((
        Identity::New(NewIdentity {
            path,
            name: name.to_owned(),
            incarnation,
            restored: None,
        }),
        log,
        handle,
    ))
}

/// A first start that ended before the node was a member has promised nothing: its log may go.
fn start_over(log_directory: &Path) -> Result<(), StartError> {
    match fs::remove_dir_all(log_directory) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StartError::Storage {
            doing: format!(
                "remove the log of an unfinished first start in {}",
                log_directory.display()
            ),
            cause: cause.to_string(),
        }),
        _ => Ok(()),
    }
}

fn storage_error(error: &log::OpenError) -> StartError {
    match error {
        log::OpenError::Storage { doing, path, cause } => StartError::Storage {
            doing: format!("{doing} {}", path.display()),
            cause: cause.clone(),
        },
        lost @ log::OpenError::Lost { .. } => StartError::Identity(lost.to_string()),
    }
}

fn read(path: &Path) -> Result<Option<IdentityFile>, StartError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(StartError::Storage {
                doing: format!("read {}", path.display()),
                cause: cause.to_string(),
            });
        }
    };
    let file: IdentityFile = unseal(&bytes).map_err(|cause| {
        StartError::Identity(format!(
            "{} cannot be understood ({cause}): restore the file, or stop this node; {REMEDY}",
            path.display()
        ))
    })?;
    if file.format != FORMAT {
        return Err(StartError::Identity(format!(
            "{} has format {}, which this version of Blox does not know: upgrade this node",
            path.display(),
            file.format
        )));
    }
    Ok(Some(file))
}

/// The member that guards the others: CRC-32 of the file without it, as one line with its keys in order.
const CHECKSUM: &str = "checksum";

fn checksum(content: &serde_json::Value) -> String {
    format!("{:08x}", crc32fast::hash(content.to_string().as_bytes()))
}

fn seal(file: &IdentityFile) -> io::Result<Vec<u8>> {
    let mut content = serde_json::to_value(file).map_err(io::Error::other)?;
    let checksum = checksum(&content);
    if let Some(members) = content.as_object_mut() {
        members.insert(CHECKSUM.to_owned(), checksum.into());
    }
    serde_json::to_vec_pretty(&content).map_err(io::Error::other)
}

/// A flipped bit could make one node of another: it must not pass for a valid file.
fn unseal(bytes: &[u8]) -> Result<IdentityFile, String> {
    let mut content: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let said = content.as_object_mut().and_then(|members| members.remove(CHECKSUM));
    if said != Some(checksum(&content).into()) {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_value(content).map_err(|error| error.to_string())
}

/// Replaces the file at once or not at all, durable when it returns.
fn write(path: &Path, file: &IdentityFile) -> io::Result<()> {
    let bytes = seal(file)?;
    let temporary = path.with_extension("json.new");
    let written = || {
        let mut output = File::create(&temporary)?;
        output.write_all(&bytes)?;
        output.write_all(b"\n")?;
        output.sync_all()
    };
    written().map_err(files::failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(files::failed("replace", path))?;
    path.parent().map_or(Ok(()), files::sync_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data_directory: &Path, name: &str, state_is_empty: bool) -> String {
        match open(data_directory, name, state_is_empty) {
            Err(StartError::Identity(message)) => message,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it started"),
        }
    }

    fn begin_and_join(data_directory: &Path) {
        let (identity, log, handle) = open(data_directory, "a", true).expect("an empty directory");
        let Identity::New(new) = identity else {
            panic!("an empty directory is new")
        };
        new.join("cluster", 1, 0, None).expect("written");
        drop((log, handle));
    }

    /// An unfinished first start begins again, under the same incarnation: peers may have written it down.
    #[test]
    fn an_unfinished_first_start_begins_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let incarnation = |(identity, log, handle): (Identity, RaftLog, LogHandle)| {
            drop((log, handle));
            identity.incarnation().to_owned()
        };
        let first = incarnation(open(directory.path(), "a", true).expect("an empty directory"));
        fs::remove_file(directory.path().join("raft/durable")).expect("as if killed while creating");
        let second = incarnation(open(directory.path(), "a", true).expect("begins again"));
        assert_eq!(first, second);
    }

    /// A member comes back as what it was.
    #[test]
    fn a_member_stays_a_member() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        begin_and_join(directory.path());
        let (identity, _log, _handle) = open(directory.path(), "a", true).expect("a member");
        assert!(matches!(identity, Identity::Member(MemberIdentity { node_id: 1, .. })));
    }

    /// No single flipped bit of the file leaves it acceptable as another identity.
    #[test]
    fn a_flipped_bit_is_never_another_identity() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        begin_and_join(directory.path());
        let path = directory.path().join(FILE_NAME);
        let kept = fs::read(&path).expect("read");
        let whole = unseal(&kept).expect("as written");
        for bit in 0..kept.len() * 8 {
            let mut bytes = kept.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = unseal(&bytes) {
                assert_eq!(other, whole, "bit {bit}");
            }
        }
    }

    /// A member without its log, a log without identity, a state without identity and another's directory are refused, and the message
    /// says what to do.
    #[test]
    fn what_does_not_belong_together_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        begin_and_join(directory.path());
        assert!(refused(directory.path(), "b", true).contains("belongs to node `a`"));

        let identity = directory.path().join(FILE_NAME);
        let kept = fs::read(&identity).expect("read");
        fs::remove_file(&identity).expect("removed");
        assert!(refused(directory.path(), "a", true).contains("blox member replace"));
        fs::write(&identity, kept).expect("restored");

        fs::remove_dir_all(directory.path().join(LOG_DIRECTORY)).expect("removed");
        assert!(refused(directory.path(), "a", true).contains("blox member replace"));

        let other = tempfile::tempdir().expect("a temporary directory");
        assert!(refused(other.path(), "a", false).contains("holds a state"));
    }
}
