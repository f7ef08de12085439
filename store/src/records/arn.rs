//! ARNs and cluster names as types: what the API accepts in paths and filters.
//!
//! Accepted are every partition that begins with `aws`, and both formats of ARNs: short (`task/<id>`) and long (`task/<cluster>/<id>`).

use std::fmt;
use std::str::FromStr;

use crate::view::ClusterSelector;

/// The longest cluster name ECS allows, in characters (all of them ASCII).
pub const CLUSTER_NAME_LENGTH_MAX: usize = 255;

/// An AWS account id is this many digits.
const ACCOUNT_DIGITS: usize = 12;

/// Text that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not {expected}")]
pub struct InvalidArn {
    /// What would have been right, with its article and an example.
    pub expected: &'static str,
    /// What was given.
    pub given: String,
}

/// A cluster's name: a letter, then letters, digits, `-` and `_`, at most [`CLUSTER_NAME_LENGTH_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        if is_cluster_name(text) {
            Ok(ClusterName(text.to_owned()))
        } else {
            Err(InvalidArn {
                expected: "a cluster name such as 'my-cluster'",
                given: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Reads the `cluster` of a query: a name means every cluster of that name, an ARN exactly that cluster.
pub fn cluster_selector(text: &str) -> Result<ClusterSelector, InvalidArn> {
    if let Ok(name) = text.parse::<ClusterName>() {
        return Ok(ClusterSelector::Name(name.0));
    }
    let arn: ClusterArn = text.parse()?;
    Ok(ClusterSelector::Arn(arn.text))
}

/// The name part of a cluster ARN; the text itself where it is none.
pub fn cluster_name_of(cluster_arn: &str) -> &str {
    cluster_arn.rsplit('/').next().unwrap_or(cluster_arn)
}

/// The family of a task definition, given as ARN, as `family:revision` or as `family`.
pub fn family_of(task_definition: &str) -> &str {
    let name = task_definition.rsplit('/').next().unwrap_or(task_definition);
    name.split(':').next().unwrap_or(name)
}

macro_rules! arn_type {
    ($(#[$documentation:meta])* $name:ident, $expected:literal, $parse_resource:expr) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            text: String,
        }

        impl $name {
            /// The whole ARN.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            /// `aws`, `aws-cn`, `aws-us-gov` and so on.
            pub fn partition(&self) -> &str {
                self.parts().partition
            }

            /// The region.
            pub fn region(&self) -> &str {
                self.parts().region
            }

            /// The account: twelve digits.
            pub fn account(&self) -> &str {
                self.parts().account
            }

            fn parts(&self) -> Parts<'_> {
                Parts::of(&self.text).expect("only a valid ARN becomes this type")
            }
        }

        impl FromStr for $name {
            type Err = InvalidArn;

            fn from_str(text: &str) -> Result<Self, InvalidArn> {
                let is_valid = Parts::of(text).is_some_and(|parts| $parse_resource(parts.resource));
                if is_valid {
                    Ok($name { text: text.to_owned() })
                } else {
                    Err(InvalidArn { expected: $expected, given: text.to_owned() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.text)
            }
        }
    };
}

arn_type!(
    /// A cluster's ARN: `arn:aws:ecs:us-west-2:123456789012:cluster/alpha`.
    ClusterArn,
    "a cluster name or ARN such as 'arn:aws:ecs:us-west-2:123456789012:cluster/alpha'",
    |resource: &str| resource.strip_prefix("cluster/").is_some_and(is_cluster_name)
);

impl ClusterArn {
    /// The cluster's name.
    pub fn name(&self) -> &str {
        cluster_name_of(&self.text)
    }
}

arn_type!(
    /// A task's ARN, short or long: `arn:aws:ecs:us-west-2:123456789012:task/alpha/0123456789abcdef0123456789abcdef`.
    TaskArn,
    "a task ARN such as 'arn:aws:ecs:us-west-2:123456789012:task/alpha/0123456789abcdef0123456789abcdef'",
    |resource: &str| resource.strip_prefix("task/").is_some_and(is_short_or_long_id)
);

arn_type!(
    /// A container instance's ARN, short or long: `arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/0123456789abcdef`.
    InstanceArn,
    "a container instance ARN such as 'arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/0123456789abcdef'",
    |resource: &str| resource.strip_prefix("container-instance/").is_some_and(is_short_or_long_id)
);

macro_rules! id_and_cluster {
    ($name:ident) => {
        impl $name {
            /// The last part: what tells it from others of its cluster.
            pub fn id(&self) -> &str {
                self.text.rsplit('/').next().unwrap_or_default()
            }

            /// The cluster's name, which only long ARNs carry.
            pub fn cluster_name(&self) -> Option<&str> {
                let mut parts = self.text.split('/').skip(1);
                let first = parts.next();
                parts.next().and(first)
            }
        }
    };
}

id_and_cluster!(TaskArn);
id_and_cluster!(InstanceArn);

/// The parts of an ECS ARN, each of its right shape.
struct Parts<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Parts<'a>> {
        let mut parts = text.splitn(6, ':');
        let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let is_valid = scheme == "arn"
            && is_partition(partition)
            && service == "ecs"
            && is_word(region)
            && account.len() == ACCOUNT_DIGITS
            && account.bytes().all(|byte| byte.is_ascii_digit());
        is_valid.then_some(Parts {
            partition,
            region,
            account,
            resource,
        })
    }
}

fn is_partition(text: &str) -> bool {
    text.strip_prefix("aws").is_some_and(|rest| {
        (rest.is_empty() || rest.starts_with('-'))
            && rest
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

fn is_cluster_name(text: &str) -> bool {
    text.len() <= CLUSTER_NAME_LENGTH_MAX
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && is_word(text)
}

/// `<id>` or `<cluster>/<id>`.
fn is_short_or_long_id(text: &str) -> bool {
    match text.split_once('/') {
        None => is_word(text),
        Some((cluster, id)) => is_cluster_name(cluster) && is_word(id),
    }
}

/// One or more letters, digits, `_` and `-`.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte == b'_' || byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_arns_of_every_partition_are_taken() {
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso-b"] {
            let short: TaskArn = format!("arn:{partition}:ecs:eu-west-1:123456789012:task/0f-1")
                .parse()
                .expect("short");
            assert_eq!(
                (short.partition(), short.id(), short.cluster_name()),
                (partition, "0f-1", None)
            );
            let long: TaskArn = format!("arn:{partition}:ecs:eu-west-1:123456789012:task/alpha/0f")
                .parse()
                .expect("long");
            assert_eq!((long.id(), long.cluster_name()), ("0f", Some("alpha")));
            assert_eq!((long.region(), long.account()), ("eu-west-1", "123456789012"));
            let instance: InstanceArn =
                format!("arn:{partition}:ecs:eu-west-1:123456789012:container-instance/alpha/0f")
                    .parse()
                    .expect("instance");
            assert_eq!(instance.cluster_name(), Some("alpha"));
            let cluster: ClusterArn = format!("arn:{partition}:ecs:eu-west-1:123456789012:cluster/a")
                .parse()
                .expect("cluster");
            assert_eq!(cluster.name(), "a");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "arn",
            "arn:aws:ecs:eu-west-1:123456789012:task/",
            "arn:aws:ecs:eu-west-1:123456789012:task/a/b/c",
            "arn:aws:ecs:eu-west-1:123456789012:task/1cluster/b",
            "arn:aws:ecs:eu-west-1:12345678901:task/a",
            "arn:aws:ecs:eu-west-1:12345678901x:task/a",
            "arn:aws:ecs::123456789012:task/a",
            "arn:aws:ec2:eu-west-1:123456789012:task/a",
            "arn:awsx:ecs:eu-west-1:123456789012:task/a",
            "arn:gcp:ecs:eu-west-1:123456789012:task/a",
            "arn:aws:ecs:eu-west-1:123456789012:task/a\0",
            "arn:aws:ecs:eu-west-1:123456789012:task/a:b",
            "arn:aws:ecs:eu-west-1:123456789012:container-instance/a",
        ] {
            assert!(text.parse::<TaskArn>().is_err(), "{text}");
        }
        assert_eq!(
            "x".repeat(3).parse::<InstanceArn>().expect_err("no ARN").to_string(),
            "'xxx' is not a container instance ARN such as 'arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/0123456789abcdef'"
        );
    }

    #[test]
    fn cluster_names_have_one_to_255_characters() {
        assert!("a".parse::<ClusterName>().is_ok());
        assert!("a".repeat(255).parse::<ClusterName>().is_ok());
        assert!("a".repeat(256).parse::<ClusterName>().is_err());
        for text in ["", "1a", "-a", "a b", "a/b", "ä"] {
            assert!(text.parse::<ClusterName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_query_names_one_cluster_or_all_of_a_name() {
        assert_eq!(cluster_selector("alpha"), Ok(ClusterSelector::Name("alpha".into())));
        let arn = "arn:aws:ecs:eu-west-1:123456789012:cluster/alpha";
        assert_eq!(cluster_selector(arn), Ok(ClusterSelector::Arn(arn.into())));
        assert!(cluster_selector("arn:aws:ecs:eu-west-1:123456789012:task/alpha").is_err());
    }

    #[test]
    fn families_come_out_of_every_way_to_name_a_task_definition() {
        for text in [
            "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:3",
            "web:3",
            "web",
        ] {
            assert_eq!(family_of(text), "web");
        }
    }
}
