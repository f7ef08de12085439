//! Where ECS is observed, as an operator writes it.

use serde::{Deserialize, Serialize};

/// Pause between the end of one reconcile pass over a source and the start of the next, milliseconds.
pub const RECONCILE_PAUSE_MS_DEFAULT: u64 = 60_000;
/// The longest name of a source, characters: it stands in every key of its resources.
pub const SOURCE_NAME_CHARACTERS_MAX: usize = 64;

/// One `[[source]]`: an account and region, and what of it is watched. Endpoints, profiles and credentials are the SDK's own
/// (`AWS_ENDPOINT_URL*`, `AWS_PROFILE` and so on) and have no key here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name, unique among the sources: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// The AWS region, such as `eu-central-1`.
    pub region: String,
    /// A role to assume for every call; without it the SDK's credentials are used as they are.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// Name or URL of the SQS queue that carries the region's ECS events; without it only reconcile observes.
    #[serde(default)]
    pub queue: Option<String>,
    /// Names or ARNs of the clusters to watch; empty: all of the account and region.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// Pause between two reconcile passes, milliseconds.
    #[serde(default = "reconcile_pause_ms_default")]
    pub reconcile_pause_ms: u64,
}

fn reconcile_pause_ms_default() -> u64 {
    RECONCILE_PAUSE_MS_DEFAULT
}

impl SourceConfig {
    /// Says what cannot work, in a sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        let name_is_plain = self
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if self.name.is_empty() || self.name.len() > SOURCE_NAME_CHARACTERS_MAX || !name_is_plain {
            return Err(format!(
                "source name {:?}: give 1 to {SOURCE_NAME_CHARACTERS_MAX} letters, digits, '-', '_' or '.'",
                self.name
            ));
        }
        if self.region.trim().is_empty() {
            return Err(format!(
                "source {:?}: region is empty; give one such as \"us-east-1\"",
                self.name
            ));
        }
        if self.queue.as_deref().is_some_and(str::is_empty) {
            return Err(format!(
                "source {:?}: queue is empty; give a name or URL, or leave the key out",
                self.name
            ));
        }
        if self.clusters.iter().any(String::is_empty) {
            return Err(format!("source {:?}: clusters holds an empty name", self.name));
        }
        Ok(())
    }

    /// Which clusters this source is about.
    pub fn cluster_filter(&self) -> ClusterFilter {
        ClusterFilter {
            clusters: self.clusters.clone(),
        }
    }
}

/// Which clusters a source is about: all, or those of these names and ARNs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFilter {
    clusters: Vec<String>,
}

impl ClusterFilter {
    /// Whether every cluster is meant.
    pub fn is_all(&self) -> bool {
        self.clusters.is_empty()
    }

    /// The names and ARNs, as configured.
    pub fn clusters(&self) -> &[String] {
        &self.clusters
    }

    /// Whether the cluster of this ARN is meant.
    pub fn accepts(&self, cluster_arn: &str) -> bool {
        self.is_all()
            || self
                .clusters
                .iter()
                .any(|wanted| wanted == cluster_arn || wanted == cluster_name(cluster_arn))
    }
}

/// The name in a cluster's ARN: what follows the last `/`.
pub fn cluster_name(cluster_arn: &str) -> &str {
    cluster_arn.rsplit('/').next().unwrap_or(cluster_arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> SourceConfig {
        SourceConfig {
            name: name.into(),
            region: "us-east-1".into(),
            role_arn: None,
            queue: Some("blox-events".into()),
            clusters: Vec::new(),
            reconcile_pause_ms: RECONCILE_PAUSE_MS_DEFAULT,
        }
    }

    /// A name that could not stand in a key, or an empty value, is refused before anything starts.
    #[test]
    fn names_that_cannot_stand_in_a_key_are_refused() {
        assert_eq!(config("main-1").check(), Ok(()));
        for bad in ["", "a b", "a\0b", "a/b", &"a".repeat(65)] {
            assert!(config(bad).check().is_err(), "{bad:?} was accepted");
        }
        let empty_queue = SourceConfig {
            queue: Some(String::new()),
            ..config("main")
        };
        assert!(empty_queue.check().is_err());
    }

    /// A key that does not exist is an error, so that a misspelt one is seen.
    #[test]
    fn unknown_keys_are_errors() {
        let good = r#"{"name":"main","region":"us-east-1"}"#;
        let bad = r#"{"name":"main","region":"us-east-1","endpoint":"http://127.0.0.1"}"#;
        assert_eq!(
            serde_json::from_str::<SourceConfig>(good)
                .map(|c| c.reconcile_pause_ms)
                .ok(),
            Some(60_000)
        );
        assert!(serde_json::from_str::<SourceConfig>(bad).is_err());
    }

    /// A configured name means the whole name, never a part of another's.
    #[test]
    fn a_filter_takes_names_and_arns_whole() {
        let arn = "arn:aws:ecs:us-east-1:123456789012:cluster/prod";
        let filter = |clusters: &[&str]| ClusterFilter {
            clusters: clusters.iter().map(|c| c.to_string()).collect(),
        };
        assert!(filter(&[]).accepts(arn));
        assert!(filter(&["prod"]).accepts(arn));
        assert!(filter(&["dev", arn]).accepts(arn));
        assert!(!filter(&["pro"]).accepts(arn));
        assert!(!filter(&["prod"]).accepts("arn:aws:ecs:us-east-1:123456789012:cluster/prod-2"));
    }
}
