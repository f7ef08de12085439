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
        "\n## Pauses for clients, by fault\n\nThe gap is the longest time without any acknowledged write that began in the fault, milliseconds: what a client feels \
         that may use any node, since workers on all three nodes ask all the time. The next write is counted from the moment at which the fault was ordered to the \
         acknowledgement of the first write called after it: Docker may take a while to do as told, and until then writes go on.\n\n\
         One fault at a time, each begun on a whole cluster:\n\n",
    );
    let alone = all.seen().filter(|fault| fault.alone);
    spreads(out, alone, |fault| format!("{} {}", fault.fault, fault.target));
    out.push_str("\nAll others; those of a mix have their part in each other's gaps:\n\n");
    let others = all.seen().filter(|fault| !fault.alone);
    spreads(out, others, |fault| fault.fault.clone());
}

fn spreads<'a>(out: &mut String, faults: impl Iterator<Item = &'a FaultRecord>, name: impl Fn(&FaultRecord) -> String) {
    let mut gaps: BTreeMap<String, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for fault in faults {
        let (gap, next) = gaps.entry(name(fault)).or_default();
        gap.push(fault.gap_ms * 1_000_000);
        next.extend(fault.next_ms.map(|next_ms| next_ms * 1_000_000));
    }
    let row = |(name, (gap, next)): (&String, &(Vec<u64>, Vec<u64>))| {
        let (gap, next) = (Spread::of(gap), Spread::of(next));
        let told = |ns: u64| ms(ns).to_string();
        [
            name.clone(),
            gap.count.to_string(),
            told(gap.p50_ns),
            told(gap.p90_ns),
            told(gap.p99_ns),
            told(gap.max_ns),
            told(next.p50_ns),
            told(next.p99_ns),
        ]
    };
    let rows: Vec<[String; 8]> = gaps.iter().map(row).collect();
    table(
        out,
        &[
            "fault",
            "times",
            "gap p50",
            "p90",
            "p99",
            "max",
            "next write p50",
            "p99",
        ],
        &rows,
    );
}
