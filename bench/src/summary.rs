//! What is left of a run: `summary.json`, and the same as a table for people. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::figure::Figure;
use crate::floor::Floor;

/// What a run was.
#[derive(Clone, Debug)]
pub struct Run {
    /// Of each row.
    pub rounds: usize,
    /// Of each round, seconds.
    pub seconds: f64,
    /// Of keys and fleets.
    pub seed: u64,
    /// What it ran on.
    pub machine: String,
    /// What `etcd --version` says first.
    pub peer: String,
}

/// A list of rows, as other programs read it.
pub fn to_json(figures: &[Figure]) -> Value {
    figures.iter().map(Figure::to_json).collect()
}

/// A table in Markdown: what has a goal first.
pub fn table(run: &Run, figures: &[Figure]) -> String {
    let mut out = format!(
        "{} and Blox, three members each, on {}; {} rounds of {} s in turn, seed {}. Medians; the ratio is the median of the rounds' own, with the least and the most.\n\n",
        run.peer, run.machine, run.rounds, run.seconds, run.seed
    );
    let (with, without): (Vec<&Figure>, Vec<&Figure>) = figures.iter().partition(|figure| !figure.goals.is_empty());
    rows(&mut out, &with);
    if !without.is_empty() {
        out.push_str("\nWithout a goal:\n\n");
        rows(&mut out, &without);
    }
    let reached = with.iter().filter(|figure| figure.met() == Some(true)).count();
    let _ = write!(out, "\n{reached} of {} goals are reached.\n", with.len());
    for note in figures
        .iter()
        .filter_map(|figure| figure.note)
        .collect::<std::collections::BTreeSet<_>>()
    {
        let _ = writeln!(out, "\\* {note}.");
    }
    out
}

fn rows(out: &mut String, figures: &[&Figure]) {
    out.push_str(
        "| what | unit | ours | peer | ratio | goal | reached | floor |\n|---|---|---:|---:|---|---|---|---:|\n",
    );
    for figure in figures {
        let value = |value: Option<f64>| value.map(number).unwrap_or_default();
        let ratio = figure.ratio().map(|ratio| {
            let spread = match ratio.least == ratio.most {
                true => String::new(),
                false => format!(" ({}-{})", number(ratio.least), number(ratio.most)),
            };
            format!("{}{spread}", number(ratio.median))
        });
        let star = if figure.note.is_some() { " \\*" } else { "" };
        let reached = match figure.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {}{star} | {} | {} | {reached} | {} |",
            figure.name,
            figure.unit,
            value(figure.our_median()),
            value(figure.peer_median()),
            ratio.unwrap_or_default(),
            figure.goal_words(),
            value(figure.floor)
        );
    }
}

/// The machine's floor, as lines for people.
pub fn floor_lines(floor: &Floor) -> Vec<String> {
    let line = |name: &str, latency: &hdrhistogram::Histogram<u64>| {
        let at = |quantile: f64| latency.value_at_quantile(quantile);
        format!("  {name:<44} p50 {:>6} us, p99 {:>6} us", at(0.5), at(0.99))
    };
    vec![
        line("fdatasync, growing file", &floor.sync_growing),
        line("fdatasync, written before", &floor.sync_prewritten),
        line("round trip over loopback", &floor.round_trip),
        line("commit of three, emulated", &floor.commit),
    ]
}

/// The same for programs.
pub fn floor_json(floor: &Floor) -> Value {
    let micros = |latency: &hdrhistogram::Histogram<u64>| json!({"p50_us": latency.value_at_quantile(0.5), "p99_us": latency.value_at_quantile(0.99)});
    json!({
        "fdatasync_growing": micros(&floor.sync_growing),
        "fdatasync_prewritten": micros(&floor.sync_prewritten),
        "round_trip": micros(&floor.round_trip),
        "commit": micros(&floor.commit),
    })
}

/// Three significant digits; whole where there are more.
fn number(value: f64) -> String {
    if value.is_nan() || value.is_infinite() {
        return "none".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let whole_digits = value.abs().log10().floor() as i32 + 1;
    let decimals = usize::try_from(3 - whole_digits).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Goal;

    /// Goals first, whether they are reached, spread and note; numbers short.
    #[test]
    fn the_table_shows_goals_first() {
        let run = Run {
            rounds: 2,
            seconds: 1.0,
            seed: 7,
            machine: "two cores".to_owned(),
            peer: "etcd 3".to_owned(),
        };
        let free = Figure {
            ours: vec![1.0],
            ..Figure::new("free", "us")
        };
        let bound = Figure {
            ours: vec![100.0, 300.0],
            peer: vec![100.0, 100.0],
            goals: vec![Goal::TimesPeerAtLeast(3.0)],
            note: Some("a note"),
            ..Figure::new("bound", "1/s")
        };
        let text = table(&run, &[free, bound]);
        assert!(
            text.contains("| bound | 1/s | 200 | 100 \\* | 2 (1-3) | at least 3 x | **no** |  |"),
            "{text}"
        );
        assert!(
            text.find("bound") < text.find("free") && text.contains("0 of 1 goals"),
            "{text}"
        );
        let numbers = [0.0, 0.012_34, 1.234, 12.34, 123.4, 12_345.6].map(number);
        assert_eq!(numbers, ["0", "0.0123", "1.23", "12.3", "123", "12346"]);
    }
}
