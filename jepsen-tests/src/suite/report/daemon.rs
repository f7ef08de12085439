//! Daemons: how often leaders fell while they were rolled out, and each double with what the promise says of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::All;
use super::text::{grouped, table};
use crate::nemesis::Nemesis;
use crate::suite::goals::is_of_leader;

/// As it is said everywhere.
const PROMISE: &str = "Never two of a daemon on an instance, except where an answer was lost *and* the listing lagged, or a call reached ECS over 60 s after its \
    deadline (a paused process): then a double is stopped (the younger) within one reconcile, counted and shown.";

/// See the module.
pub(super) fn daemon(out: &mut String, all: &All<'_>) {
    let mut rolling: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in all.seen().filter(|fault| fault.rolling && is_of_leader(fault)) {
        *rolling.entry(&fault.fault).or_default() += 1;
    }
    let sum: usize = rolling.values().sum();
    let inside = rolling.get(Nemesis::Launch.word()).copied().unwrap_or(0);
    let mut rows: Vec<[String; 2]> = rolling
        .iter()
        .map(|(fault, count)| [format!("{fault} of the leader"), count.to_string()])
        .collect();
    rows.push(["all".to_owned(), sum.to_string()]);
    let _ = write!(
        out,
        "\n## Daemons\n\n> {PROMISE}\n\nA roll-out of a daemon over some twenty instances goes on all the time, four at once, while answers to StartTask are lost, held back or \
         late. {} StartTask calls had an effect, {} of them without an answer. Faults of the leader with a roll-out under way (ECS started or \
         stopped tasks shortly before and after), {inside} of them inside a StartTask (`launch`: killed, paused or cut off while ECS held the answer):\n\n",
        grouped(all.sum("starts")),
        grouped(all.sum("starts_unanswered"))
    );
    table(out, &["fault", "during a roll-out"], &rows);
    let doubles: Vec<[String; 4]> = all
        .states
        .iter()
        .flat_map(|state| state.runs().into_iter().map(move |run| (state, run)))
        .flat_map(|(state, run)| {
            let told = run.0["figures"]["doubles_told"].as_array().into_iter().flatten();
            told.map(move |double| {
                [
                    format!("{}, {}", state.seed(), run.0["number"]),
                    double["instance"].as_str().unwrap_or_default().to_owned(),
                    double["lasted_ms"].as_u64().map_or("to the end".to_owned(), grouped),
                    double["explanation"]
                        .as_str()
                        .unwrap_or("none: the promise is broken")
                        .to_owned(),
                ]
            })
        })
        .collect();
    if doubles.is_empty() {
        let _ = write!(
            out,
            "\nBy ECS's own count no instance ever ran two: {} doubles.\n",
            all.sum("doubles")
        );
        return;
    }
    let _ = write!(
        out,
        "\nBy ECS's own count there were {} doubles. Each, and the exception under which it falls:\n\n",
        all.sum("doubles")
    );
    table(
        out,
        &["campaign, run", "instance", "both were there for, ms", "explanation"],
        &doubles,
    );
}
