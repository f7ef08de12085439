//! For how long clients that may use any node were not served.

use std::collections::BTreeMap;

use super::All;
use super::text::table;
use crate::check::availability::Spread;
use crate::clock::ms;
use crate::suite::fault_records::FaultRecord;

/// Percentiles by kind of fault: of those alone on a whole cluster, and of all.
pub(super) fn pauses(out: &mut String, all: &All<'_>) {
    out.push_str(
        "\n## Pauses for clients, by fault\n\nFrom the last acknowledged write before a fault acts to the next one, milliseconds: what a client feels that may use any \
         node, since workers on all three nodes ask all the time. Of several pauses in one fault the longest. (Not counted from the order: Docker may take a \
         while to do as told, and until then writes go on.) What takes a majority or all nodes is held for one to five seconds, and that is in its pause.\n\n\
         One fault at a time, each begun on a whole cluster:\n\n",
    );
    let alone = all.seen().filter(|fault| fault.alone);
    spreads(out, alone, |fault| format!("{} {}", fault.fault, fault.target));
    out.push_str("\nAll others; those of a mix have their part in each other's gaps:\n\n");
    let others = all.seen().filter(|fault| !fault.alone);
    spreads(out, others, |fault| fault.fault.clone());
}

fn spreads<'a>(out: &mut String, faults: impl Iterator<Item = &'a FaultRecord>, name: impl Fn(&FaultRecord) -> String) {
    let mut gaps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for fault in faults {
        gaps.entry(name(fault)).or_default().push(fault.gap_ms * 1_000_000);
    }
    let row = |(name, gaps): (&String, &Vec<u64>)| {
        let spread = Spread::of(gaps);
        let told = |ns: u64| ms(ns).to_string();
        [
            name.clone(),
            spread.count.to_string(),
            told(spread.p50_ns),
            told(spread.p90_ns),
            told(spread.p99_ns),
            told(spread.max_ns),
        ]
    };
    let rows: Vec<[String; 6]> = gaps.iter().map(row).collect();
    table(out, &["fault", "times", "p50", "p90", "p99", "max"], &rows);
}
