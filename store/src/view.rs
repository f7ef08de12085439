//! Reading: one consistent cut of the state.

use std::sync::Arc;

use crate::Revision;
use crate::encoding::prefix_end;
use crate::key::{Key, Kind};
use crate::proto::{
    DeploymentRecord, EnvironmentRecord, KeyValue, LaunchRecord, ResourceRecord, StopRecord, StoredValue,
    stored_value::Body,
};
use crate::read::Cut;
use crate::read::cursor::{RangeCursor, Steps};
use crate::read::list::{self, Candidates};
use crate::store::StoreError;

/// Why a view could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The revision was compacted away.
    #[error("revision {asked} is compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision kept.
        oldest: Revision,
    },
    /// The revision does not exist yet here.
    #[error("revision {asked} is ahead of this node's {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// This node's revision.
        current: Revision,
    },
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A resource with its place in the state.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// Revision of its creation.
    pub create_revision: Revision,
    /// Revision of its last change: `entityVersion` in v1.
    pub mod_revision: Revision,
    /// How often it was written, 1 at creation.
    pub version: u64,
    /// The resource.
    pub resource: ResourceRecord,
}

/// Which clusters a query means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSelector {
    /// Every cluster of that name, over all sources.
    Name(String),
    /// Exactly that cluster.
    Arn(String),
}

/// What a list asks for; everything given must hold.
#[derive(Clone, Debug, Default)]
pub struct ResourceFilter {
    /// Only of these clusters.
    pub cluster: Option<ClusterSelector>,
    /// Only of this source.
    pub source: Option<String>,
    /// `fields.status`, any case.
    pub status: Option<String>,
    /// `fields.desired_status`, any case.
    pub desired_status: Option<String>,
    /// Exact.
    pub started_by: Option<String>,
    /// Exact.
    pub family: Option<String>,
    /// Exact.
    pub group: Option<String>,
    /// Container instance ARN, exact (of instances: their own).
    pub instance_arn: Option<String>,
    /// Any case.
    pub launch_type: Option<String>,
    /// A part of the ARN, of the EC2 instance id, of the family or of the cluster's name, any case.
    pub text: Option<String>,
    /// Only records that v1 can show.
    pub v1_only: bool,
    /// Only ARNs after this one (paging); ties between sources by source name.
    pub after: Option<(String, String)>,
}

/// Resources in the order of their ARNs, then sources. Lazy: memory does not grow with the answer.
pub struct ResourceIter {
    cut: Arc<Cut>,
    filter: ResourceFilter,
    candidates: Candidates,
    failed: bool,
}

impl Iterator for ResourceIter {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.candidates.next(&self.cut) {
                Ok(Some(record)) if self.filter.matches(&record.resource) => return Some(Ok(record)),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// One consistent cut of the state. Cheap to clone; `Send`; reads block on the disk at worst for a moment.
#[derive(Clone)]
pub struct View {
    cut: Arc<Cut>,
}

impl View {
    pub(crate) fn new(cut: Arc<Cut>) -> View {
        View { cut }
    }

    /// The revision it shows.
    pub fn revision(&self) -> Revision {
        self.cut.revision
    }

    /// Replicated clock at the head when the view was taken, milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.cut.position.elapsed_ms
    }

    /// The revision to which a restore from a backup raised the state; 0: it was never restored.
    pub fn restored_revision(&self) -> Revision {
        self.cut.position.restored_revision
    }

    /// Any key's value at the view's revision.
    pub fn get(&self, key: &Key) -> Result<Option<StoredValue>, StoreError> {
        self.cut.get(key)
    }

    /// A resource by its full key.
    pub fn resource(
        &self,
        kind: Kind,
        source: &str,
        cluster_arn: &str,
        arn: &str,
    ) -> Result<Option<Record>, StoreError> {
        let key = Key::resource(kind, source, cluster_arn, arn);
        self.cut.get(&key)?.map(|value| list::record(key, value)).transpose()
    }

    /// The first resource (by source) of that ARN in the clusters meant; `None` for any cluster.
    pub fn find(&self, kind: Kind, cluster: Option<&ClusterSelector>, arn: &str) -> Result<Option<Record>, StoreError> {
        list::find(&self.cut, kind, cluster, arn)
    }

    /// Resources that match, by ARN.
    pub fn list(&self, kind: Kind, filter: ResourceFilter) -> Result<ResourceIter, StoreError> {
        let candidates = Candidates::new(&self.cut, kind, &filter)?;
        Ok(ResourceIter {
            cut: Arc::clone(&self.cut),
            filter,
            candidates,
            failed: false,
        })
    }

    /// An environment by name.
    pub fn environment(&self, name: &str) -> Result<Option<EnvironmentRecord>, StoreError> {
        let key = Key::environment(name);
        self.cut.get(&key)?.map(|value| environment(&key, value)).transpose()
    }

    /// All environments, by name.
    pub fn environments(&self) -> Result<Vec<EnvironmentRecord>, StoreError> {
        self.all(Kind::Environment, &[], environment)
    }

    /// A deployment.
    pub fn deployment(&self, environment_id: &str, id: &str) -> Result<Option<DeploymentRecord>, StoreError> {
        let key = Key::deployment(environment_id, id);
        self.cut.get(&key)?.map(|value| deployment(&key, value)).transpose()
    }

    /// All deployments of an environment, newest first.
    pub fn deployments(&self, environment_id: &str) -> Result<Vec<DeploymentRecord>, StoreError> {
        let created = |key: &Key, value: StoredValue| Ok((value.create_revision, deployment(key, value)?));
        let mut found = self.all(Kind::Deployment, &first_part(environment_id), created)?;
        found.sort_by_key(|(create_revision, _)| std::cmp::Reverse(*create_revision));
        Ok(found.into_iter().map(|(_, deployment)| deployment).collect())
    }

    /// Launch records of an environment (open and closed), by instance ARN.
    pub fn launches(&self, environment_id: &str) -> Result<Vec<LaunchRecord>, StoreError> {
        self.all(Kind::Launch, &first_part(environment_id), launch)
    }

    /// All launch records.
    pub fn all_launches(&self) -> Result<Vec<LaunchRecord>, StoreError> {
        self.all(Kind::Launch, &[], launch)
    }

    /// All stop records.
    pub fn all_stops(&self) -> Result<Vec<StopRecord>, StoreError> {
        self.all(Kind::Stop, &[], |key, value| match value.body {
            Some(Body::Stop(record)) => Ok(record),
            _ => Err(wrong_body(key)),
        })
    }

    /// A user key.
    pub fn user_key(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let key = Key::user(key);
        self.cut.get(&key)?.map(|value| key_value(&key, value)).transpose()
    }

    /// User keys under a prefix, in order, after `after` if given, at most `limit`.
    pub fn user_keys(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let front = Key::user(prefix).as_bytes().to_vec();
        let until = prefix_end(&front);
        let behind = after.map(|after| [Key::user(after).as_bytes(), &[0]].concat());
        let from = behind.map_or_else(|| front.clone(), |behind| behind.max(front.clone()));
        let mut cursor = RangeCursor::new(Arc::clone(&self.cut), from, until, Steps::ALONE);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((key, value)) = cursor.next()?
        {
            found.push(key_value(&key, value)?);
        }
        Ok(found)
    }

    /// Raw values of a kind, in key order.
    pub fn scan(&self, kind: Kind) -> Result<Vec<(Key, StoredValue)>, StoreError> {
        self.all(kind, &[], |key, value| Ok((key.clone(), value)))
    }

    /// Every value of a kind whose key's tail begins with `prefix`, in key order.
    fn all<T>(
        &self,
        kind: Kind,
        prefix: &[u8],
        read: impl Fn(&Key, StoredValue) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let from = [[kind as u8].as_slice(), prefix].concat();
        let until = prefix_end(&from);
        let mut cursor = RangeCursor::new(Arc::clone(&self.cut), from, until, Steps::ALONE);
        let mut found = Vec::new();
        while let Some((key, value)) = cursor.next()? {
            found.push(read(&key, value)?);
        }
        Ok(found)
    }
}

/// The tail of keys whose first part is this.
fn first_part(part: &str) -> Vec<u8> {
    [part.as_bytes(), &[0]].concat()
}

fn environment(key: &Key, value: StoredValue) -> Result<EnvironmentRecord, StoreError> {
    match value.body {
        Some(Body::Environment(record)) => Ok(EnvironmentRecord {
            mod_revision: value.mod_revision,
            ..record
        }),
        _ => Err(wrong_body(key)),
    }
}

fn deployment(key: &Key, value: StoredValue) -> Result<DeploymentRecord, StoreError> {
    match value.body {
        Some(Body::Deployment(record)) => Ok(record),
        _ => Err(wrong_body(key)),
    }
}

fn launch(key: &Key, value: StoredValue) -> Result<LaunchRecord, StoreError> {
    match value.body {
        Some(Body::Launch(record)) => Ok(record),
        _ => Err(wrong_body(key)),
    }
}

fn key_value(key: &Key, value: StoredValue) -> Result<KeyValue, StoreError> {
    let Some(Body::User(bytes)) = value.body else {
        return Err(wrong_body(key));
    };
    Ok(KeyValue {
        key: key.to_bytes().slice(1..),
        value: bytes,
        create_revision: value.create_revision,
        mod_revision: value.mod_revision,
        version: value.version,
    })
}

fn wrong_body(key: &Key) -> StoreError {
    StoreError::Corrupt(format!(
        "a key of kind {} holds a value of another kind",
        key.kind().name()
    ))
}
