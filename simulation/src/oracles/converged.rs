//! Once all is mended, each instance that matches runs exactly one daemon of the newest version, nobody else runs one, and planning again does
//! nothing. Source: design.md, "Daemon scheduler" and invariant 3; the same bound of virtual time as for the nodes themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::Daemon;

/// What is wanted of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its tasks' group.
    pub group: String,
    /// What its daemons run.
    pub definition: String,
    /// Where.
    pub instances: BTreeSet<String>,
}

/// What is not as wanted.
pub fn judge(wanted: &[Wanted], daemons: &[Daemon]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for environment in wanted {
        for instance in &environment.instances {
            expected.insert((&environment.group, instance), &environment.definition);
        }
    }
    let mut seen = BTreeSet::new();
    for daemon in daemons {
        let place = (daemon.group.as_str(), daemon.instance.as_str());
        match expected.get(&place) {
            _ if !seen.insert(place) => wrong.push(format!("converged: a second daemon {daemon:?}")),
            None => wrong.push(format!("converged: nobody wants {daemon:?}")),
            Some(definition) if *definition != daemon.definition => {
                wrong.push(format!("converged: {daemon:?} should run {definition}"));
            }
            Some(_) if !daemon.runs => wrong.push(format!("converged: {daemon:?} does not run")),
            Some(_) => {}
        }
    }
    let missing = expected.keys().filter(|place| !seen.contains(*place));
    wrong.extend(missing.map(|(group, instance)| format!("converged: {group} has no daemon on {instance}")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(instance: &str, definition: &str, runs: bool) -> Daemon {
        Daemon {
            group: "blox:a".to_owned(),
            instance: instance.to_owned(),
            definition: definition.to_owned(),
            runs,
        }
    }

    /// A daemon that is missing, old, not running, unwanted or a second one is noticed.
    #[test]
    fn it_can_fail() {
        let wanted = [Wanted {
            group: "blox:a".to_owned(),
            definition: "logs:2".to_owned(),
            instances: ["i1".to_owned(), "i2".to_owned()].into(),
        }];
        let (one, two) = (daemon("i1", "logs:2", true), daemon("i2", "logs:2", true));
        assert!(judge(&wanted, &[one.clone(), two.clone()]).is_empty());
        assert_eq!(judge(&wanted, std::slice::from_ref(&one)).len(), 1);
        assert_eq!(judge(&wanted, &[one.clone(), daemon("i2", "logs:1", true)]).len(), 1);
        assert_eq!(judge(&wanted, &[one.clone(), daemon("i2", "logs:2", false)]).len(), 1);
        assert_eq!(
            judge(&wanted, &[one.clone(), two.clone(), daemon("i3", "logs:2", true)]).len(),
            1
        );
        assert_eq!(judge(&wanted, &[one.clone(), two, one]).len(), 1);
    }
}
