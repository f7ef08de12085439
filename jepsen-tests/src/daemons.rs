//! Daemons as the simulated ECS counts them: exactly one on each eligible instance in the end, never two at once.

use std::collections::BTreeMap;

use serde_json::Value;

/// One count over a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemons {
    /// Instances that are ACTIVE with their agent there.
    pub eligible: usize,
    /// Those of them with exactly one daemon.
    pub served: usize,
    /// Instances that had two at once since the counting began, and how many.
    pub doubles: Vec<String>,
}

/// From `/control/state?cluster=` and `/control/counts?group_prefix=blox:&cluster=`; an error where they do not say it: silence proves nothing.
pub fn count(state: &Value, counts: &Value) -> Result<Daemons, String> {
    let regions = state["regions"].as_object().ok_or("/control/state shows no regions")?;
    let pairs = counts["pairs"].as_array().ok_or("/control/counts shows no pairs")?;
    let mut current: BTreeMap<&str, u64> = BTreeMap::new();
    let mut doubles = Vec::new();
    for pair in pairs {
        let instance = id_of(&pair["instance"]);
        let (now, maximum) = (pair["current"].as_u64(), pair["maximum"].as_u64());
        let (now, maximum) = now
            .zip(maximum)
            .ok_or("/control/counts shows a pair without its counts")?;
        *current.entry(instance).or_default() += now;
        if maximum > 1 {
            doubles.push(format!(
                "{maximum} at once on {instance} for {} ms: {}",
                pair["above_one_ms"], pair["tasks_at_maximum"]
            ));
        }
    }
    let clusters = regions
        .values()
        .flat_map(|region| region["clusters"].as_array().into_iter().flatten());
    let instances = clusters.flat_map(|cluster| cluster["instances"].as_array().into_iter().flatten());
    let eligible: Vec<&str> = instances
        .filter(|one| one["status"] == "ACTIVE" && one["agentConnected"] == true && one["dead"] != true)
        .map(|one| id_of(&one["containerInstanceArn"]))
        .collect();
    Ok(Daemons {
        eligible: eligible.len(),
        served: eligible
            .iter()
            .filter(|instance| current.get(*instance) == Some(&1))
            .count(),
        doubles,
    })
}

/// The simulator names an instance by ARN or by id.
fn id_of(name: &Value) -> &str {
    let name = name.as_str().unwrap_or_default();
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(instances: &[(&str, &str, bool)]) -> Value {
        let shown = |(id, status, connected): &(&str, &str, bool)| json!({"containerInstanceArn": format!("arn:x/c/{id}"), "status": status, "agentConnected": connected});
        let instances: Vec<Value> = instances.iter().map(shown).collect();
        json!({"regions": {"r": {"clusters": [{"instances": instances}]}}})
    }

    fn counts(pairs: &[(&str, u64, u64)]) -> Value {
        let pair = |(id, current, maximum): &(&str, u64, u64)| json!({"instance": id, "current": current, "maximum": maximum, "above_one_ms": 0, "tasks_at_maximum": []});
        json!({"pairs": pairs.iter().map(pair).collect::<Vec<_>>()})
    }

    /// Only eligible instances count, and only with exactly one.
    #[test]
    fn one_daemon_each() {
        let state = state(&[
            ("a", "ACTIVE", true),
            ("b", "ACTIVE", true),
            ("c", "ACTIVE", true),
            ("d", "DRAINING", true),
            ("e", "ACTIVE", false),
        ]);
        let found = count(&state, &counts(&[("a", 1, 1), ("b", 0, 1), ("d", 1, 1)])).expect("readable");
        assert_eq!((found.eligible, found.served, found.doubles.len()), (3, 1, 0));
        let found = count(&state, &counts(&[("a", 1, 1), ("b", 2, 2), ("c", 1, 3)])).expect("readable");
        assert_eq!((found.eligible, found.served, found.doubles.len()), (3, 2, 2));
    }

    /// An answer that does not say it is an error.
    #[test]
    fn silence_proves_nothing() {
        assert!(count(&json!({}), &counts(&[])).is_err());
        assert!(count(&state(&[]), &json!({})).is_err());
        assert!(count(&state(&[]), &json!({"pairs": [{"instance": "a"}]})).is_err());
    }
}
