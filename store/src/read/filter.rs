//! Whether a resource is asked for.

use crate::proto::{ResourceFields, ResourceRecord};
use crate::records::arn::cluster_name_of;
use crate::view::{ClusterSelector, ResourceFilter};

impl ClusterSelector {
    /// Whether the cluster of that ARN is meant.
    pub fn matches(&self, cluster_arn: &str) -> bool {
        match self {
            ClusterSelector::Arn(arn) => arn == cluster_arn,
            ClusterSelector::Name(name) => cluster_name_of(cluster_arn) == name,
        }
    }
}

impl ResourceFilter {
    /// Whether the resource has everything asked for. Where to begin (`after`) is not looked at.
    pub fn matches(&self, resource: &ResourceRecord) -> bool {
        static NOTHING: std::sync::LazyLock<ResourceFields> = std::sync::LazyLock::new(ResourceFields::default);
        let fields = resource.fields.as_ref().unwrap_or(&NOTHING);
        self.cluster
            .as_ref()
            .is_none_or(|cluster| cluster.matches(&resource.cluster_arn))
            && exact(&self.source, &resource.source)
            && any_case(&self.status, &fields.status)
            && any_case(&self.desired_status, &fields.desired_status)
            && exact(&self.started_by, &fields.started_by)
            && exact(&self.family, &fields.family)
            && exact(&self.group, &fields.group)
            && exact(&self.instance_arn, &fields.instance_arn)
            && any_case(&self.launch_type, &fields.launch_type)
            && (!self.v1_only || !resource.v1_entity.is_empty())
            && self.text.as_ref().is_none_or(|text| {
                let cluster = cluster_name_of(&resource.cluster_arn);
                [&resource.arn, &fields.ec2_instance_id, &fields.family, cluster]
                    .iter()
                    .any(|field| contains_any_case(field, text))
            })
    }
}

fn exact(wanted: &Option<String>, field: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == field)
}

fn any_case(wanted: &Option<String>, field: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(field))
}

fn contains_any_case(field: &str, part: &str) -> bool {
    part.is_empty()
        || field
            .as_bytes()
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text is found in the middle and in any case; an empty one everywhere.
    #[test]
    fn text_is_found_in_any_case() {
        assert!(contains_any_case("arn:aws:ecs:Task/AbC", "task/ab"));
        assert!(contains_any_case("", ""));
        assert!(!contains_any_case("short", "longer than that"));
    }

    /// A cluster is meant by its name or by its ARN.
    #[test]
    fn clusters_are_meant_by_name_or_arn() {
        let arn = "arn:aws:ecs:eu-west-1:1:cluster/one";
        assert!(ClusterSelector::Name("one".into()).matches(arn));
        assert!(!ClusterSelector::Name("cluster/one".into()).matches(arn));
        assert!(ClusterSelector::Arn(arn.into()).matches(arn));
    }
}
