//! How what processes see becomes durable, and what is left of it when it does not.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::counters::Counters;
use super::cut::{Cut, CutReport};
use super::disk::{Disk, Durability, Refusal};
use super::failing::Failing;
use super::names::Inode;
use super::node::Node;

impl Disk {
    /// Makes a file durable, or fails as it was told to.
    pub fn sync(&mut self, handle: u64) -> Result<(), Refusal> {
        let inode = self.opened(handle)?;
        let fails = self.fails(inode);
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        let content = node.content.as_mut().ok_or(Refusal::IsDirectory)?;
        if let Some((path, Failing { pages, lies, .. })) = fails {
            content.fail(pages, &mut self.budget);
            self.counters.syncs_failed += 1;
            self.counters.last_failed = Some(path);
            return if lies { Ok(()) } else { Err(Refusal::Broken) };
        }
        content.sync(&mut self.budget)?;
        node.durable = node.shown;
        self.counters.syncs += 1;
        self.order();
        Ok(())
    }

    /// Makes the names of a directory durable.
    pub fn sync_directory(&mut self, handle: u64) -> Result<(), Refusal> {
        let inode = self.opened(handle)?;
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        node.durable = node.shown;
        self.names.sync(inode);
        self.counters.directory_syncs += 1;
        self.order();
        self.sweep();
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) -> Result<(), Refusal> {
        self.powered()?;
        for node in self.nodes.values_mut() {
            if let Some(content) = &mut node.content {
                content.sync(&mut self.budget)?;
            }
            node.durable = node.shown;
        }
        self.names.sync_all();
        self.sweep();
        Ok(())
    }

    /// Cuts the power. From here on everything is refused.
    pub fn cut(&mut self, how: Cut) -> Result<CutReport, Refusal> {
        self.powered()?;
        self.has_power = false;
        self.handles.clear();
        let mut random = match how {
            Cut::Clean => None,
            Cut::Torn(seed) => Some(ChaCha8Rng::seed_from_u64(seed)),
        };
        let mut report = CutReport::default();
        for node in self.nodes.values_mut() {
            (node.opened, node.shown) = (0, node.durable);
            let Some(content) = &mut node.content else { continue };
            report.add(match &mut random {
                None => content.cut(&mut self.budget),
                Some(random) => content.tear(random, &mut self.budget)?,
            });
        }
        // Of operations in order the first ones survive, otherwise any.
        let first = random
            .as_mut()
            .map(|random| random.random_range(0..=self.names.pending()));
        let (lost, survived) = self.names.cut(|number| match (&mut random, self.durability) {
            (None, _) => false,
            (_, Durability::Ordered) => Some(number) < first,
            (Some(random), Durability::Strict) => random.random_bool(0.5),
        });
        (report.names_lost, report.names_survived) = (lost as u64, survived as u64);
        let nodes = &self.nodes;
        let is_directory = |inode| nodes.get(&inode).is_some_and(|node: &Node| node.content.is_none());
        let links = self.names.show_durable(is_directory);
        for (inode, node) in &mut self.nodes {
            node.links = links.get(inode).copied().unwrap_or(0);
        }
        self.remove_all_but(|inode, _| links.contains_key(&inode));
        self.counters.cuts += 1;
        self.counters.last_cut = report;
        Ok(report)
    }

    /// The power is back; what the disk holds is what processes see.
    pub fn restore(&mut self) {
        self.has_power = true;
    }

    /// Syncs fail so from now on; `None`: none does.
    pub fn fail_syncs(&mut self, failing: Option<Failing>) {
        self.failing = failing;
    }

    /// What happened, and how it stands.
    pub fn counters(&self) -> Counters {
        let contents = self.nodes.values().filter_map(|node| node.content.as_ref());
        let (mut files, mut bytes) = (0, 0);
        for content in contents.filter(|content| content.is_unsynced()) {
            files += 1;
            bytes += content.unsynced_bytes();
        }
        Counters {
            unsynced_files: files,
            unsynced_bytes: bytes,
            unsynced_names: self.names.pending() as u64,
            ..self.counters.clone()
        }
    }

    /// Whether this sync of a file is to fail, and how; with the file's path.
    fn fails(&mut self, inode: Inode) -> Option<(String, Failing)> {
        let failing = self.failing.as_mut()?;
        let path = self.names.path(inode)?;
        (failing.matches(&path) && failing.takes()).then(|| (path, failing.clone()))
    }
    /// Where the disk keeps all names in order, they are written with whatever was synced.
    fn order(&mut self) {
        if self.durability == Durability::Ordered {
            self.names.sync_all();
        }
    }
}
