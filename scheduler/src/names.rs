//! What things are called: one type for each kind of name, so that a task is never taken for an instance.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$documentation:meta])* $type:ident) => {
        $(#[$documentation])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> $type {
                $type(Arc::from(text))
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> $type {
                $type(Arc::from(text))
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name! {
    /// An environment's id (uuid).
    EnvironmentId
}
name! {
    /// A deployment's id (uuid): also `startedBy` of its tasks.
    DeploymentId
}
name! {
    /// A container instance's ARN.
    InstanceArn
}
name! {
    /// A task's ARN.
    TaskArn
}
name! {
    /// A task definition's ARN, with its revision.
    TaskDefinitionArn
}
name! {
    /// A launch's id: one attempt to start one task on one instance.
    LaunchId
}

/// The name of a source: where ECS is observed and called.
pub type SourceName = Arc<str>;

/// A cluster as one source sees it: the same ARN seen by two sources is two clusters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId {
    /// Name of the source.
    pub source: SourceName,
    /// The cluster's ARN.
    pub arn: Arc<str>,
}

impl ClusterId {
    /// The cluster of that ARN, seen by that source.
    pub fn new(source: &str, arn: &str) -> ClusterId {
        ClusterId {
            source: Arc::from(source),
            arn: Arc::from(arn),
        }
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.source, self.arn)
    }
}

/// Where at most one task of an environment runs: one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// The environment.
    pub environment: EnvironmentId,
    /// The instance.
    pub instance: InstanceArn,
}

/// Every task of ours carries this and its environment's id as `group`.
pub const GROUP_PREFIX: &str = "blox:";

/// `group` of an environment's tasks.
pub fn group_of(environment: &EnvironmentId) -> String {
    format!("{GROUP_PREFIX}{environment}")
}

/// The environment whose task carries that `group`; `None`: not ours.
pub fn environment_of_group(group: &str) -> Option<&str> {
    group.strip_prefix(GROUP_PREFIX)
}

/// The last part of an ARN, for people.
pub(crate) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
