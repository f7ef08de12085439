//! Names: what each directory holds, as processes see it and as the disk does, and the operations between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The number of a file or directory. None is used twice.
pub type Inode = u64;
/// The top directory.
pub const ROOT: Inode = 1;

type Entries = BTreeMap<OsString, Inode>;

/// A name in a directory, and what it stands for from now on.
struct Slot {
    directory: Inode,
    name: OsString,
    holds: Option<Inode>,
}

/// One operation: all of its slots change at once, on the disk, too.
struct Change {
    slots: Vec<Slot>,
}

/// See the module.
pub(super) struct Names {
    shown: BTreeMap<Inode, Entries>,
    durable: BTreeMap<Inode, Entries>,
    /// Not durable, in order.
    pending: Vec<Change>,
}

impl Names {
    /// An empty top directory.
    pub fn new() -> Names {
        Names {
            shown: BTreeMap::from([(ROOT, Entries::new())]),
            durable: BTreeMap::from([(ROOT, Entries::new())]),
            pending: Vec::new(),
        }
    }

    /// What a name stands for.
    pub fn find(&self, directory: Inode, name: &OsStr) -> Option<Inode> {
        self.entries(directory)?.get(name).copied()
    }

    /// What a directory holds; `None`: there is none.
    pub fn entries(&self, directory: Inode) -> Option<&Entries> {
        self.shown.get(&directory)
    }

    /// Operations that are not durable.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A new directory, which no name stands for yet.
    pub fn make_directory(&mut self, directory: Inode) {
        self.shown.insert(directory, Entries::new());
    }

    /// A name stands for this from now on.
    pub fn put(&mut self, directory: Inode, name: &OsStr, inode: Inode) {
        self.change(vec![Slot::of(directory, name, Some(inode))]);
    }

    /// A name stands for nothing from now on.
    pub fn remove(&mut self, directory: Inode, name: &OsStr) {
        self.change(vec![Slot::of(directory, name, None)]);
    }

    /// What a name stands for is moved to another one.
    pub fn rename(&mut self, (from, name): (Inode, &OsStr), (to, new_name): (Inode, &OsStr)) {
        let Some(inode) = self.find(from, name) else { return };
        self.change(vec![Slot::of(from, name, None), Slot::of(to, new_name, Some(inode))]);
    }

    fn change(&mut self, slots: Vec<Slot>) {
        let change = Change { slots };
        change.apply(&mut self.shown);
        self.pending.push(change);
    }

    /// Makes everything durable that was done to the names of a directory, with everything on which that rests.
    pub fn sync(&mut self, directory: Inode) {
        let taken = self.with_what_they_rest_on(|_, change| change.is_of(directory));
        self.make_durable(&taken);
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        self.make_durable(&vec![true; self.pending.len()]);
    }

    /// The power is cut: of what was pending those survive that are chosen, by their number, asked from the last to the first, with those on which
    /// they rest. How many were lost, and how many have survived.
    pub fn cut(&mut self, mut survives: impl FnMut(usize) -> bool) -> (usize, usize) {
        let taken = self.with_what_they_rest_on(|number, _| survives(number));
        self.make_durable(&taken);
        let lost = self.pending.len();
        self.pending.clear();
        self.shown.clear();
        self.shown.insert(ROOT, Entries::new());
        (lost, taken.len() - lost)
    }

    /// After a cut: processes see what the disk holds. How many names stand for each inode; what none does is gone.
    pub fn show_durable(&mut self, is_directory: impl Fn(Inode) -> bool) -> BTreeMap<Inode, u32> {
        let mut links = BTreeMap::from([(ROOT, 1)]);
        let mut unvisited = vec![ROOT];
        let mut durable = std::mem::take(&mut self.durable);
        while let Some(directory) = unvisited.pop() {
            let entries = durable.remove(&directory).unwrap_or_default();
            for inode in entries.values() {
                let count = links.entry(*inode).or_insert(0);
                *count += 1;
                if *count == 1 && is_directory(*inode) {
                    unvisited.push(*inode);
                }
            }
            self.durable.insert(directory, entries);
        }
        self.shown = self.durable.clone();
        links
    }

    /// Everything that a name stands for, now or on the disk, or may stand for on the disk yet.
    pub fn held(&self) -> BTreeSet<Inode> {
        let names = self.shown.values().chain(self.durable.values());
        let pending = self.pending.iter().flat_map(|change| &change.slots);
        let mut held: BTreeSet<Inode> = names.flat_map(|entries| entries.values().copied()).collect();
        held.extend(pending.filter_map(|slot| slot.holds));
        held.insert(ROOT);
        held
    }

    /// A directory that nothing stands for is gone for good.
    pub fn forget(&mut self, directory: Inode) {
        self.shown.remove(&directory);
        self.durable.remove(&directory);
    }

    /// A path from the top to an inode, without the first slash; `None`: no name stands for it.
    pub fn path(&self, inode: Inode) -> Option<String> {
        let mut unvisited = vec![(ROOT, String::new())];
        while let Some((directory, path)) = unvisited.pop() {
            for (name, held) in self.shown.get(&directory).into_iter().flatten() {
                let path = format!("{path}{}", name.to_string_lossy());
                if *held == inode {
                    return Some(path);
                }
                if self.shown.contains_key(held) {
                    unvisited.push((*held, path + "/"));
                }
            }
        }
        None
    }

    /// Some pending operations, and before each of them all those on the same names. By number: whether it is one of them.
    fn with_what_they_rest_on(&self, mut chosen: impl FnMut(usize, &Change) -> bool) -> Vec<bool> {
        let mut names: BTreeSet<(Inode, &OsStr)> = BTreeSet::new();
        let mut taken = vec![false; self.pending.len()];
        for (number, change) in self.pending.iter().enumerate().rev() {
            let rested_on = change.slots.iter().any(|slot| names.contains(&slot.key()));
            if chosen(number, change) || rested_on {
                names.extend(change.slots.iter().map(Slot::key));
                taken[number] = true;
            }
        }
        taken
    }

    fn make_durable(&mut self, taken: &[bool]) {
        let pending = std::mem::take(&mut self.pending);
        for (change, taken) in pending.into_iter().zip(taken) {
            match taken {
                true => change.apply(&mut self.durable),
                false => self.pending.push(change),
            }
        }
    }
}

impl Change {
    fn apply(&self, directories: &mut BTreeMap<Inode, Entries>) {
        for slot in &self.slots {
            let entries = directories.entry(slot.directory).or_default();
            match slot.holds {
                Some(inode) => entries.insert(slot.name.clone(), inode),
                None => entries.remove(&slot.name),
            };
        }
    }

    fn is_of(&self, directory: Inode) -> bool {
        self.slots.iter().any(|slot| slot.directory == directory)
    }
}

impl Slot {
    fn of(directory: Inode, name: &OsStr, holds: Option<Inode>) -> Slot {
        Slot {
            directory,
            name: name.to_owned(),
            holds,
        }
    }

    fn key(&self) -> (Inode, &OsStr) {
        (self.directory, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Inode = 2;

    /// A top directory with another one in it, both durable.
    fn names() -> Names {
        let mut names = Names::new();
        names.make_directory(OTHER);
        names.put(ROOT, "other".as_ref(), OTHER);
        names.sync(ROOT);
        names
    }

    fn after_a_cut(mut names: Names) -> Vec<String> {
        names.cut(|_| false);
        names.show_durable(|inode| inode == OTHER);
        let mut paths: Vec<String> = (OTHER..20).filter_map(|inode| names.path(inode)).collect();
        paths.sort();
        paths
    }

    /// A name is durable with its own directory, and with no other one.
    #[test]
    fn a_name_is_durable_with_its_directory() {
        let mut names = names();
        names.put(ROOT, "a".as_ref(), 10);
        names.put(OTHER, "b".as_ref(), 11);
        names.sync(OTHER);
        assert_eq!(names.pending(), 1);
        assert_eq!(after_a_cut(names), ["other", "other/b"]);
    }

    /// A rename is durable in both directories at once, with what was done to its names before, and without what was done to others.
    #[test]
    fn a_rename_is_durable_as_a_whole() {
        for synced in [ROOT, OTHER] {
            let mut names = names();
            names.put(ROOT, "new".as_ref(), 10);
            names.put(ROOT, "unrelated".as_ref(), 11);
            names.rename((ROOT, "new".as_ref()), (OTHER, "moved".as_ref()));
            names.sync(synced);
            let unrelated = (synced == ROOT).then_some("unrelated");
            let expected: Vec<&str> = ["other", "other/moved"].into_iter().chain(unrelated).collect();
            assert_eq!(after_a_cut(names), expected);
        }
    }

    /// A rename over a name, not synced: the old one is back. A removal that was not synced did not happen.
    #[test]
    fn what_was_replaced_is_back() {
        let mut names = names();
        names.put(OTHER, "current".as_ref(), 10);
        names.put(OTHER, "gone".as_ref(), 12);
        names.sync(OTHER);
        names.put(OTHER, "new".as_ref(), 11);
        names.rename((OTHER, "new".as_ref()), (OTHER, "current".as_ref()));
        names.remove(OTHER, "gone".as_ref());
        assert_eq!(names.find(OTHER, "current".as_ref()), Some(11));
        assert!(names.held().contains(&10) && names.held().contains(&12));
        names.cut(|_| false);
        names.show_durable(|inode| inode == OTHER);
        assert_eq!(names.find(OTHER, "current".as_ref()), Some(10));
        assert_eq!(names.find(OTHER, "gone".as_ref()), Some(12));
    }

    /// A new directory that is not durable takes with it what was made durable in it; hard links are counted.
    #[test]
    fn what_cannot_be_reached_is_gone() {
        let mut names = names();
        names.make_directory(3);
        names.put(ROOT, "new".as_ref(), 3);
        names.put(3, "in it".as_ref(), 10);
        names.put(OTHER, "link".as_ref(), 10);
        names.sync(3);
        names.sync(OTHER);
        assert_eq!(names.cut(|_| false), (1, 0));
        let links = names.show_durable(|inode| inode == OTHER || inode == 3);
        assert_eq!(links, BTreeMap::from([(ROOT, 1), (OTHER, 1), (10, 1)]));
        assert_eq!(names.entries(3), None);
    }

    /// Of what was pending any operation may survive, with those before it on the same names.
    #[test]
    fn survivors_bring_what_they_rest_on() {
        for survivor in 0..4 {
            let mut names = names();
            names.put(OTHER, "a".as_ref(), 10);
            names.put(OTHER, "b".as_ref(), 11);
            names.rename((OTHER, "a".as_ref()), (OTHER, "b".as_ref()));
            names.put(OTHER, "a".as_ref(), 12);
            let (lost, survived) = names.cut(|number| number == survivor);
            assert_eq!((lost, survived), [(3, 1), (3, 1), (1, 3), (0, 4)][survivor]);
            names.show_durable(|inode| inode == OTHER);
            let found = ["a", "b"].map(|name| names.find(OTHER, name.as_ref()));
            let expected = [
                [Some(10), None],
                [None, Some(11)],
                [None, Some(10)],
                [Some(12), Some(10)],
            ];
            assert_eq!(found, expected[survivor]);
        }
    }
}
