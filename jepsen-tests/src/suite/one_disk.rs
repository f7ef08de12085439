//! A run has one kind of disk under its nodes: faults that need another one cannot be in it.

use super::schedule::Wanted;
use crate::nemesis::{DiskKind, Nemesis};

/// What of this one run can have, and of the others why not: the kind of disk that more of them need stays, of as many the one named first.
pub fn one_disk(wanted: Vec<Wanted>) -> (Vec<Wanted>, Vec<(Nemesis, String)>) {
    let Some(disk) = most_needed(&wanted) else {
        return (wanted, Vec::new());
    };
    let (stay, go): (Vec<Wanted>, Vec<Wanted>) = wanted.into_iter().partition(|one| fits(one.nemesis, disk));
    let left_out = go.into_iter().map(|one| {
        let needs = one.nemesis.disk().map_or("another", DiskKind::word);
        let why = format!(
            "it needs disks of the kind {needs}, and the nodes of this run have {} ones: ask for it in a run without those that need them",
            disk.word()
        );
        (one.nemesis, why)
    });
    (stay, left_out.collect())
}

fn most_needed(wanted: &[Wanted]) -> Option<DiskKind> {
    let needed: Vec<DiskKind> = wanted.iter().filter_map(|one| one.nemesis.disk()).collect();
    let count = |disk: DiskKind| needed.iter().filter(|other| **other == disk).count();
    // The last of several greatest is taken.
    needed.iter().rev().copied().max_by_key(|disk| count(*disk))
}

fn fits(nemesis: Nemesis, disk: DiskKind) -> bool {
    nemesis.disk().is_none_or(|needed| needed == disk)
}

/// Groups of so many at most, each of which one run can have, in this order as far as that allows.
pub fn groups(order: &[Nemesis], size: usize) -> Vec<Vec<Nemesis>> {
    let mut groups: Vec<Vec<Nemesis>> = Vec::new();
    for nemesis in order {
        let has_room = |group: &&mut Vec<Nemesis>| group.len() < size && goes_with(*nemesis, group);
        match groups.iter_mut().find(has_room) {
            Some(group) => group.push(*nemesis),
            None => groups.push(vec![*nemesis]),
        }
    }
    groups
}

/// The first ones of an order that one run can have, so many at most.
pub fn first(order: &[Nemesis], count: usize) -> Vec<Nemesis> {
    let mut group = Vec::new();
    for nemesis in order {
        if group.len() < count && goes_with(*nemesis, &group) {
            group.push(*nemesis);
        }
    }
    group
}

fn goes_with(nemesis: Nemesis, others: &[Nemesis]) -> bool {
    let disk = others.iter().find_map(|other| other.disk());
    disk.is_none_or(|disk| fits(nemesis, disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str]) -> Vec<Wanted> {
        words.iter().map(|word| word.parse().expect("known")).collect()
    }

    fn words(wanted: &[Wanted]) -> Vec<&'static str> {
        wanted.iter().map(|one| one.nemesis.word()).collect()
    }

    /// Faults of one kind of disk stay together with those that need none; the others are named, with what they need.
    #[test]
    fn the_minority_is_left_out() {
        let (stay, left_out) = one_disk(wanted(&["kill", "power-cut", "disk-full:leader", "torn-write"]));
        assert_eq!(words(&stay), ["kill", "power-cut", "torn-write"]);
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].0, Nemesis::DiskFull);
        assert!(
            left_out[0]
                .1
                .starts_with("it needs disks of the kind ext4, and the nodes of this run have lossy ones")
        );
    }

    /// Of as many the one named first stays; what needs no disk, or one kind only, is as it was.
    #[test]
    fn the_first_breaks_the_tie() {
        let (stay, left_out) = one_disk(wanted(&["fsync-error", "disk-slow"]));
        assert_eq!((words(&stay), left_out.len()), (vec!["fsync-error"], 1));
        let (stay, left_out) = one_disk(wanted(&["disk-slow", "fsync-error"]));
        assert_eq!((words(&stay), left_out.len()), (vec!["disk-slow"], 1));
        let asked = wanted(&["kill", "power-cut", "partition"]);
        assert_eq!(one_disk(asked.clone()), (asked, Vec::new()));
        assert_eq!(one_disk(wanted(&["kill"])).1, Vec::new());
    }

    /// Whatever the order: every fault is in one group, no group is too large, and none mixes kinds of disks.
    #[test]
    fn no_group_mixes_disks() {
        let mut order = Nemesis::ALL.to_vec();
        for turn in 0..order.len() {
            order.rotate_left(1);
            let groups = groups(&order, 3);
            let mut all: Vec<Nemesis> = groups.concat();
            all.sort();
            let mut expected = Nemesis::ALL.to_vec();
            expected.sort();
            assert_eq!(all, expected, "turn {turn}");
            assert!(
                groups.iter().all(|group| group.len() <= 3 && is_of_one(group)),
                "turn {turn}: {groups:?}"
            );
            for count in 3..=6 {
                let first = first(&order, count);
                assert!(first.len() == count && is_of_one(&first), "turn {turn}: {first:?}");
            }
        }
    }

    fn is_of_one(group: &[Nemesis]) -> bool {
        let mut disks: Vec<DiskKind> = group.iter().filter_map(|nemesis| nemesis.disk()).collect();
        disks.dedup();
        disks.len() <= 1
    }
}
