//! Once all is mended, every node's records say of every instance and task what ECS does, no more and no less, and what could not be read is in
//! quarantine. Source: design.md, "Feed and reconcile" and "Merge" (at least once, version by version); issue 4, line 12 (none lost).

use std::collections::BTreeSet;

use crate::fleet::Truth;

/// What differs.
pub fn judge(node: &str, truth: &Truth, found: &Truth) -> Vec<String> {
    let arns: BTreeSet<&String> = truth.keys().chain(found.keys()).collect();
    let differs = arns.into_iter().filter(|arn| truth.get(*arn) != found.get(*arn));
    let said = differs.map(|arn| {
        let (truth, found) = (truth.get(arn), found.get(arn));
        format!("nothing lost: {arn} is {truth:?} and on {node} {found:?}")
    });
    said.collect()
}

/// Messages that could not be read and are in no quarantine.
pub fn judge_quarantine(node: &str, sent: &[String], quarantined: &BTreeSet<String>) -> Vec<String> {
    let lost = sent.iter().filter(|id| !quarantined.contains(*id));
    lost.map(|id| format!("nothing lost: message {id} could not be read and is not in quarantine on {node}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is missing, older or too much is noticed.
    #[test]
    fn it_can_fail() {
        let truth = |all: &[(&str, i64, &str)]| -> Truth {
            let all = all.iter();
            all.map(|(arn, version, status)| ((*arn).to_owned(), (*version, (*status).to_owned())))
                .collect()
        };
        let is = truth(&[("t1", 2, "RUNNING"), ("i1", 1, "ACTIVE")]);
        assert!(judge("a", &is, &is).is_empty());
        assert_eq!(judge("a", &is, &truth(&[("t1", 2, "RUNNING")])).len(), 1);
        assert_eq!(
            judge("a", &is, &truth(&[("t1", 1, "RUNNING"), ("i1", 1, "ACTIVE")])).len(),
            1
        );
        assert_eq!(judge("a", &truth(&[]), &is).len(), 2);
        assert_eq!(judge_quarantine("a", &["m1".to_owned()], &BTreeSet::new()).len(), 1);
    }
}
