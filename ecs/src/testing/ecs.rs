//! An ECS in memory: clusters, instances and tasks by version, with lists that fail, lag and page.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::cluster_arn;
use crate::error::CallError;
use crate::request::{EcsApi, EcsRequest};

#[derive(Default, Clone)]
pub(crate) struct FakeCluster {
    /// ARN -> version.
    pub(crate) instances: BTreeMap<String, i64>,
    /// ARN -> version, desired RUNNING.
    pub(crate) tasks: BTreeMap<String, i64>,
    /// Can be described, is in no list.
    pub(crate) unlisted: BTreeMap<String, i64>,
    pub(crate) inactive: bool,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) clusters: BTreeMap<String, FakeCluster>,
    /// Operation (of a cluster, after a `/`) -> error to answer.
    pub(crate) failures: HashMap<String, CallError>,
    /// The next so many lists of this operation come back empty.
    pub(crate) empty_lists: HashMap<&'static str, u32>,
    /// Items a page.
    pub(crate) page_size: usize,
    /// Clusters that Describe fails for with this reason instead of showing them.
    pub(crate) undescribed: HashMap<String, &'static str>,
    /// Describe leaves out what it does not know, without a failure.
    pub(crate) silent: bool,
    pub(crate) calls: Vec<EcsRequest>,
    /// Happens with each call, before it is answered.
    pub(crate) on_call: Option<OnCall>,
}

/// What happens with a call.
pub(crate) type OnCall = Arc<dyn Fn(&EcsRequest) + Send + Sync>;

/// An ECS in memory.
pub(crate) struct FakeEcs {
    pub(crate) world: Mutex<World>,
}

impl FakeEcs {
    pub(crate) fn new() -> Arc<FakeEcs> {
        Arc::new(FakeEcs {
            world: Mutex::new(World {
                page_size: 100,
                ..World::default()
            }),
        })
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock())
    }

    pub(crate) fn refuse(operation: &'static str, code: &str) -> CallError {
        CallError::Refused {
            operation,
            code: code.into(),
            message: "the test says so".into(),
        }
    }
}

impl World {
    pub(crate) fn cluster(&mut self, name: &str) -> &mut FakeCluster {
        self.clusters.entry(cluster_arn(name)).or_default()
    }

    pub(crate) fn calls_of(&self, operation: &str) -> usize {
        self.calls.iter().filter(|call| call.operation() == operation).count()
    }

    fn answer(&mut self, request: &EcsRequest) -> Result<String, CallError> {
        let operation = request.operation();
        let cluster = match request {
            EcsRequest::ListContainerInstances { cluster, .. }
            | EcsRequest::DescribeContainerInstances { cluster, .. }
            | EcsRequest::ListTasks { cluster, .. }
            | EcsRequest::DescribeTasks { cluster, .. } => cluster.clone(),
            _ => String::new(),
        };
        let failure = self
            .failures
            .get(operation)
            .or_else(|| self.failures.get(&format!("{operation}/{cluster}")));
        if let Some(failure) = failure {
            return Err(failure.clone());
        }
        let of = self.clusters.get(&cluster).cloned().unwrap_or_default();
        let described = |arns: &[String], known: &[&BTreeMap<String, i64>], array: &str, name: &str| {
            let version = |arn: &String| known.iter().find_map(|known| known.get(arn));
            let shown = arns.iter().filter_map(|arn| version(arn).map(|version| (arn, version)));
            let shown: Vec<String> = shown
                .map(|(arn, version)| format!(r#"{{"{name}":"{arn}","version":{version}}}"#))
                .collect();
            let missing = arns.iter().filter(|arn| version(arn).is_none() && !self.silent);
            let missing: Vec<String> = missing
                .map(|arn| format!(r#"{{"arn":"{arn}","reason":"MISSING"}}"#))
                .collect();
            format!(
                r#"{{"{array}":[{}],"failures":[{}]}}"#,
                shown.join(","),
                missing.join(",")
            )
        };
        Ok(match request {
            EcsRequest::ListClusters { next_token } => {
                let active = self.clusters.iter().filter(|(_, cluster)| !cluster.inactive);
                let arns: Vec<String> = active.map(|(arn, _)| arn.clone()).collect();
                self.page(operation, "clusterArns", arns, next_token)
            }
            EcsRequest::DescribeClusters { clusters } => {
                let find = |wanted: &String| {
                    self.clusters
                        .iter()
                        .find(|(arn, _)| *arn == wanted || arn.rsplit('/').next() == Some(wanted))
                };
                let shown = clusters.iter().filter_map(find);
                let shown = shown.filter(|(arn, _)| !self.undescribed.contains_key(*arn));
                let shown = shown.map(|(arn, cluster)| {
                    let status = if cluster.inactive { "INACTIVE" } else { "ACTIVE" };
                    format!(r#"{{"clusterArn":"{arn}","status":"{status}"}}"#)
                });
                let missing = clusters.iter().filter(|wanted| find(wanted).is_none());
                let missing = missing.map(|arn| (arn, "MISSING"));
                let undescribed = clusters
                    .iter()
                    .filter_map(|arn| Some((arn, *self.undescribed.get(arn)?)));
                let missing = missing
                    .chain(undescribed)
                    .map(|(arn, reason)| format!(r#"{{"arn":"{arn}","reason":"{reason}"}}"#));
                let (shown, missing): (Vec<_>, Vec<_>) = (shown.collect(), missing.collect());
                format!(
                    r#"{{"clusters":[{}],"failures":[{}]}}"#,
                    shown.join(","),
                    missing.join(",")
                )
            }
            EcsRequest::ListContainerInstances { next_token, .. } => self.page(
                operation,
                "containerInstanceArns",
                of.instances.into_keys().collect(),
                next_token,
            ),
            EcsRequest::ListTasks {
                listing, next_token, ..
            } => {
                let running = *listing != crate::request::TaskListing::Stopped;
                let arns = if running {
                    of.tasks.into_keys().collect()
                } else {
                    Vec::new()
                };
                self.page(operation, "taskArns", arns, next_token)
            }
            EcsRequest::DescribeContainerInstances { instances, .. } => described(
                instances,
                &[&of.instances, &of.unlisted],
                "containerInstances",
                "containerInstanceArn",
            ),
            EcsRequest::DescribeTasks { tasks, .. } => described(tasks, &[&of.tasks, &of.unlisted], "tasks", "taskArn"),
            other => panic!("reconcile does not call {other:?}"),
        })
    }

    fn page(&mut self, operation: &'static str, name: &str, arns: Vec<String>, token: &Option<String>) -> String {
        let empty = self.empty_lists.entry(operation).or_default();
        if *empty > 0 {
            *empty -= 1;
            return format!(r#"{{"{name}":[]}}"#);
        }
        let from: usize = token.as_ref().map_or(0, |token| token.parse().expect("our token"));
        let page: Vec<String> = arns
            .iter()
            .skip(from)
            .take(self.page_size)
            .map(|arn| format!("\"{arn}\""))
            .collect();
        let next = from + page.len();
        let token = if next < arns.len() {
            format!(r#","nextToken":"{next}""#)
        } else {
            String::new()
        };
        format!(r#"{{"{name}":[{}]{token}}}"#, page.join(","))
    }
}

impl EcsApi for FakeEcs {
    fn call(&self, request: EcsRequest) -> BoxFuture<'_, Result<Bytes, CallError>> {
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut world = self.world.lock();
            world.calls.push(request.clone());
            if let Some(on_call) = &world.on_call {
                on_call(&request);
            }
            world.answer(&request).map(Bytes::from)
        }
        .boxed()
    }
}
