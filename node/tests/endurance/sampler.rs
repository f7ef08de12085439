//! What nodes use, sampled from outside: memory, file handles, threads, disk.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::Node;
use crate::harness::chart::{self, Line, Mark, Page, Panel};

const MIB: f64 = (1 << 20) as f64;
/// The kernel's unit of `st_blocks`, bytes.
const BLOCK_BYTES: u64 = 512;

/// What one node used at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at_seconds: f64,
    pub resident_bytes: u64,
    pub handles: u64,
    pub threads: u64,
    /// Bytes on disk of `raft/`, `state/` and `snapshots/`, each alone; a file that two of them link to counts in both.
    pub log_bytes: u64,
    pub state_bytes: u64,
    pub snapshot_bytes: u64,
    /// Bytes on disk of the whole data directory, each file once.
    pub disk_bytes: u64,
}

/// A quantity of a sample, with its name in tables and charts.
pub struct Quantity {
    pub name: &'static str,
    pub unit: &'static str,
    pub of: fn(&Sample) -> f64,
}

/// What must not grow.
pub const QUANTITIES: [Quantity; 5] = [
    Quantity {
        name: "resident memory",
        unit: "MiB",
        of: |sample| sample.resident_bytes as f64 / MIB,
    },
    Quantity {
        name: "open file handles",
        unit: "count",
        of: |sample| sample.handles as f64,
    },
    Quantity {
        name: "log on disk",
        unit: "MiB",
        of: |sample| sample.log_bytes as f64 / MIB,
    },
    Quantity {
        name: "state on disk",
        unit: "MiB",
        of: |sample| sample.state_bytes as f64 / MIB,
    },
    Quantity {
        name: "whole data directory",
        unit: "MiB",
        of: |sample| sample.disk_bytes as f64 / MIB,
    },
];

/// The samples of all nodes.
#[derive(Default)]
pub struct Samples {
    /// By node: name and samples in time.
    pub nodes: Vec<(String, Vec<Sample>)>,
}

impl Samples {
    /// Takes one sample of each node that runs.
    pub fn take(&mut self, nodes: &mut [Node], at_seconds: f64) {
        if self.nodes.is_empty() {
            self.nodes = nodes.iter().map(|node| (node.name.clone(), Vec::new())).collect();
        }
        for (node, (_, samples)) in nodes.iter_mut().zip(&mut self.nodes) {
            if node.runs() {
                samples.extend(sample(node.pid(), &node.data(), at_seconds));
            }
        }
    }

    /// One line a sample.
    pub fn csv(&self) -> String {
        let mut text =
            "seconds,node,resident_bytes,handles,threads,log_bytes,state_bytes,snapshot_bytes,disk_bytes\n".to_owned();
        for (name, samples) in &self.nodes {
            for one in samples {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{:.1},{name},{},{},{},{},{},{},{}",
                    one.at_seconds,
                    one.resident_bytes,
                    one.handles,
                    one.threads,
                    one.log_bytes,
                    one.state_bytes,
                    one.snapshot_bytes,
                    one.disk_bytes
                );
            }
        }
        text
    }

    /// A panel a quantity, a line a node, a mark a kill.
    pub fn chart(&self, title: &str, subtitle: &str, kills: &[(f64, usize)]) -> String {
        let line = |quantity: &Quantity, (name, samples): &(String, Vec<Sample>)| Line {
            name: format!("node {name}"),
            points: samples
                .iter()
                .map(|sample| (sample.at_seconds, (quantity.of)(sample)))
                .collect(),
        };
        let panel = |quantity: &Quantity| Panel {
            title: quantity.name.to_owned(),
            unit: quantity.unit.to_owned(),
            lines: self.nodes.iter().map(|node| line(quantity, node)).collect(),
        };
        chart::svg(&Page {
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            panels: QUANTITIES.iter().map(panel).collect(),
            marks: kills
                .iter()
                .map(|(at_seconds, node)| Mark {
                    at_seconds: *at_seconds,
                    line: *node,
                })
                .collect(),
            marks_mean: "kill -9 of the node of that colour".to_owned(),
        })
    }
}

/// `None`: it has just ended.
fn sample(pid: u32, data: &Path, at_seconds: f64) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |key: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let handles = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample {
        at_seconds,
        resident_bytes: number("VmRSS:")? * 1024,
        handles,
        threads: number("Threads:")?,
        log_bytes: disk_bytes(&data.join("raft")),
        state_bytes: disk_bytes(&data.join("state")),
        snapshot_bytes: disk_bytes(&data.join("snapshots")),
        disk_bytes: disk_bytes(data),
    })
}

/// What everything below takes on disk, each file once. What vanishes meanwhile counts nothing.
fn disk_bytes(directory: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => waiting.push(entry.path()),
                Ok(found) if seen.insert(found.ino()) => bytes += found.blocks() * BLOCK_BYTES,
                _ => {}
            }
        }
    }
    bytes
}
