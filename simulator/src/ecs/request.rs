//! What many operations share: naming resources, paging, limits.

use serde_json::{Value, json};

use crate::wire::{AwsError, Call};
use crate::world::{Cluster, ClusterKey, ClusterStatus, InstanceKey, Name, TaskKey, World};

/// Results of one page at most, and when the caller does not say.
const PAGE_MAX: usize = 100;

/// The last part of an ARN, or the id itself.
pub(crate) fn id_of(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// The cluster a request names, `default` when it names none; it must exist.
pub(crate) fn cluster_key(world: &World, call: &Call, reference: Option<&str>) -> Result<ClusterKey, AwsError> {
    let name: Name = id_of(reference.unwrap_or("default")).into();
    let key = ClusterKey {
        region: Name::clone(&call.region),
        name,
    };
    match world.cluster(&key) {
        Some(Cluster {
            status: ClusterStatus::Active,
            ..
        }) => Ok(key),
        _ => Err(AwsError::cluster_not_found()),
    }
}

pub(crate) fn instance_key(cluster: &ClusterKey, reference: &str) -> InstanceKey {
    InstanceKey {
        cluster: cluster.clone(),
        id: id_of(reference).into(),
    }
}

pub(crate) fn task_key(cluster: &ClusterKey, reference: &str) -> TaskKey {
    TaskKey {
        cluster: cluster.clone(),
        id: id_of(reference).into(),
    }
}

/// Refuses more than `limit` of something, and none at all.
pub(crate) fn check_count(what: &str, count: usize, limit: usize) -> Result<(), AwsError> {
    if count == 0 {
        Err(AwsError::invalid_parameter(format!("{what} cannot be empty.")))
    } else if count > limit {
        Err(AwsError::invalid_parameter(format!(
            "{what} can have at most {limit} items."
        )))
    } else {
        Ok(())
    }
}

/// One element of `failures`; a reference that is no ARN is made one.
pub(crate) fn failure(world: &World, cluster: &ClusterKey, kind: &str, reference: &str, reason: &str) -> Value {
    let arn = if reference.starts_with("arn:") {
        reference.into()
    } else {
        world.resource_arn(cluster, kind, reference)
    };
    json!({"arn": arn, "reason": reason})
}

/// One page of `items`, which are (sort key, ARN) in ascending order; its token names the last key shown, so that
/// nothing is shown twice or left out when resources come and go between two pages.
pub(crate) fn page<'a>(
    items: impl Iterator<Item = (&'a str, Name)>,
    max_results: Option<usize>,
    next_token: Option<&str>,
    field: &str,
) -> Result<Value, AwsError> {
    let size = max_results.unwrap_or(PAGE_MAX);
    if size == 0 || size > PAGE_MAX {
        return Err(AwsError::invalid_parameter("maxResults must be between 1 and 100."));
    }
    let after = match next_token {
        None => None,
        Some(token) => Some(
            token
                .strip_prefix("after:")
                .ok_or_else(|| AwsError::invalid_parameter("Invalid token."))?,
        ),
    };
    let mut rest = items
        .skip_while(|(key, _)| after.is_some_and(|after| *key <= after))
        .peekable();
    let mut arns = Vec::with_capacity(size);
    let mut last = "";
    while arns.len() < size
        && let Some((key, arn)) = rest.next()
    {
        arns.push(arn);
        last = key;
    }
    let mut answer = json!({field: arns});
    if rest.peek().is_some() {
        answer["nextToken"] = json!(format!("after:{last}"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages follow one another without a gap although what the token names has gone.
    #[test]
    fn pages_survive_a_departure() {
        let list = |keys: &'static [&'static str], token: Option<&str>| {
            page(keys.iter().map(|key| (*key, Name::from(*key))), Some(2), token, "arns").expect("a page")
        };
        let first = list(&["a", "b", "c", "d"], None);
        assert_eq!(first, json!({"arns": ["a", "b"], "nextToken": "after:b"}));
        assert_eq!(list(&["a", "c", "d"], Some("after:b")), json!({"arns": ["c", "d"]}));
        assert!(page([].into_iter(), Some(101), None, "arns").is_err());
        assert!(page([].into_iter(), None, Some("x"), "arns").is_err());
    }
}
