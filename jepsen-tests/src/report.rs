//! What is left when the story is over: a line a chapter, a table, `summary.json`, the time line of each round.

use std::path::Path;

use serde_json::{Value, json};

use crate::clock::{ms, ns, seconds};
use crate::own_scheduler::Tally;
use crate::percentile::percentile;
use crate::story::{Chapter, Plan, Round, StoryError};
use crate::timeline::{self, Band, Page};
use crate::verdict::{Span, Verdict};

/// A chapter's verdict in one line.
pub fn line(span: &Span, verdict: &Verdict) -> String {
    let word = if verdict.broken.is_empty() { "ok    " } else { "BROKEN" };
    let exit = verdict
        .exit_ns
        .map(|exit_ns| format!(", left in {} ms", ms(exit_ns)))
        .unwrap_or_default();
    let broken: String = verdict
        .broken
        .iter()
        .map(|sentence| format!("\n          {sentence}"))
        .collect();
    format!(
        "{word}  {:<30} {:<18} next acknowledged write after {:>5} ms{exit}, longest pause {} ms; {} requests, {} retried, {} failed; streams: {} resumed, {} gaps, {} repeats; \
         daemons {} of {}, {} doubles; {} lost{broken}",
        span.chapter.title(),
        span.actors,
        ms(verdict.gap_ns),
        ms(verdict.pause_ns),
        verdict.requests,
        verdict.retried,
        verdict.failed,
        verdict.resumed,
        verdict.missing + verdict.foreign,
        verdict.repeated,
        span.daemons.served,
        span.daemons.eligible,
        span.daemons.doubles.len(),
        verdict.lost
    )
}

/// The table over all rounds, a row a chapter.
pub fn table(plan: &Plan, rounds: &[Round]) -> String {
    let head = [
        "chapter",
        "times",
        "gap p50",
        "p99",
        "max",
        "longest pause",
        "requests",
        "retried",
        "failed",
        "resumed",
        "stream gaps",
        "repeats",
        "doubles",
        "lost",
        "verdict",
    ];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
    for chapter in &plan.chapters {
        let told: Vec<&(Span, Verdict)> = rounds
            .iter()
            .flat_map(|round| &round.chapters)
            .filter(|(span, _)| span.chapter == *chapter)
            .collect();
        let gaps: Vec<u64> = told.iter().map(|(_, verdict)| verdict.gap_ns).collect();
        let sum =
            |part: fn(&Verdict) -> usize| told.iter().map(|(_, verdict)| part(verdict)).sum::<usize>().to_string();
        let doubles: usize = told.iter().map(|(span, _)| span.daemons.doubles.len()).sum();
        let broken = told.iter().filter(|(_, verdict)| !verdict.broken.is_empty()).count();
        let mut row = vec![chapter.title().to_owned(), told.len().to_string()];
        row.extend(
            [50, 99, 100]
                .map(|percent| percentile(&gaps, percent).map_or("-".to_owned(), |gap| format!("{} ms", ms(gap)))),
        );
        let longest = told.iter().map(|(_, verdict)| verdict.pause_ns).max().unwrap_or(0);
        row.push(format!("{} ms", ms(longest)));
        row.extend([
            sum(|one| one.requests),
            sum(|one| one.retried),
            sum(|one| one.failed),
            sum(|one| one.resumed),
            sum(|one| one.missing + one.foreign),
            sum(|one| one.repeated),
            doubles.to_string(),
            sum(|one| one.lost),
            if broken == 0 {
                "ok".to_owned()
            } else {
                format!("BROKEN {broken}")
            },
        ]);
        rows.push(row);
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell; the first and the last to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            if column == 0 {
                format!("{cell:<width$}", width = width(column))
            } else if column == columns - 1 {
                cell.clone()
            } else {
                format!("{cell:>width$}", width = width(column))
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The last word.
pub fn last_word(rounds: &[Round]) -> String {
    let sum = |part: fn(&Round) -> usize| rounds.iter().map(part).sum::<usize>();
    let clean = rounds.iter().filter(|round| round.is_clean()).count();
    let word = if clean == rounds.len() { "clean" } else { "BROKEN" };
    format!(
        "{word}: {clean} of {} rounds without a broken promise; {} acknowledged writes read back from each node; {} changes on each stream; {} events of ECS, {} roll-outs; {}",
        rounds.len(),
        sum(|round| round.written),
        sum(|round| round.changes),
        rounds.iter().map(|round| round.events).sum::<u64>(),
        sum(|round| round.roll_outs as usize),
        own_word(rounds)
    )
}

/// What became of the example scheduler, over all rounds; where it was not there, that is said.
fn own_word(rounds: &[Round]) -> String {
    let tallies: Vec<&Tally> = rounds.iter().filter_map(|round| round.own.as_ref().ok()).collect();
    match (tallies.last(), rounds.iter().find_map(|round| round.own.as_ref().err())) {
        (Some(last), _) => format!(
            "{} copies started by the example scheduler, {} launches of it started two, {} kills of its leader",
            last.copies.started,
            last.copies.twice.len(),
            tallies.iter().map(|tally| tally.kills).sum::<usize>()
        ),
        (None, Some(why)) => format!("SKIPPED the example scheduler: {why}"),
        (None, None) => "no round was told".to_owned(),
    }
}

/// Everything that the table says, and each chapter by itself.
pub fn summary(plan: &Plan, rounds: &[Round]) -> Value {
    let percentiles = |chapter: &Chapter| {
        let told = rounds
            .iter()
            .flat_map(|round| &round.chapters)
            .filter(|(span, _)| span.chapter == *chapter);
        let gaps: Vec<u64> = told.map(|(_, verdict)| verdict.gap_ns).collect();
        let at = |percent| percentile(&gaps, percent).map(ms);
        (
            chapter.word().to_owned(),
            json!({"times": gaps.len(), "p50": at(50), "p90": at(90), "p99": at(99), "max": at(100)}),
        )
    };
    json!({
        "clean": rounds.iter().all(Round::is_clean),
        "seed": plan.seed,
        "requests_per_second": plan.per_second,
        "gap_ms": plan.chapters.iter().map(percentiles).collect::<serde_json::Map<_, _>>(),
        "rounds": rounds.iter().map(round_summary).collect::<Vec<_>>(),
    })
}

fn round_summary(round: &Round) -> Value {
    let chapters = round.chapters.iter().map(|(span, verdict)| {
        json!({
            "chapter": span.chapter.word(), "actors": span.actors, "evidence": span.evidence,
            "began_s": seconds(span.began_ns), "fault_s": seconds(span.fault_ns), "healed_s": seconds(span.healed_ns), "ended_s": seconds(span.ended_ns),
            "gap_ms": ms(verdict.gap_ns), "longest_pause_ms": ms(verdict.pause_ns), "exit_ms": verdict.exit_ns.map(ms),
            "requests": verdict.requests, "retried": verdict.retried, "failed": verdict.failed, "refused_though_ready": verdict.untrue_ready,
            "streams": {"resumed": verdict.resumed, "missing": verdict.missing, "repeated": verdict.repeated, "foreign": verdict.foreign},
            "daemons": {"eligible": span.daemons.eligible, "served": span.daemons.served, "doubles": span.daemons.doubles},
            "lost": verdict.lost, "stale": verdict.stale, "broken": verdict.broken,
        })
    });
    json!({
        "chapters": chapters.collect::<Vec<_>>(), "broken": round.broken, "written": round.written, "changes": round.changes,
        "roll_outs": round.roll_outs, "events": round.events,
        "own_scheduler": match &round.own {
            Ok(tally) => tally.summary(),
            Err(why) => json!({"left_out": why}),
        },
    })
}

/// `timeline.svg`, or one a round where there are several.
pub fn write_timeline(plan: &Plan, round: &Round, number: u32) -> Result<(), StoryError> {
    let bands: Vec<Band> = round
        .chapters
        .iter()
        .map(|(span, verdict)| Band {
            name: format!("{} ({} ms)", span.chapter.title(), ms(verdict.gap_ns)),
            from_ns: span.fault_ns,
            until_ns: span.healed_ns,
        })
        .collect();
    let failed: usize = round.chapters.iter().map(|(_, verdict)| verdict.failed).sum();
    let subtitle = format!(
        "Requests answered in each 50 ms, at {} a second over three nodes; in brackets the time from the fault to the next acknowledged write. {} requests, {failed} failed. Round {number}, seed {}.",
        plan.per_second,
        round.operations.len(),
        plan.seed
    );
    let margin_ns = ns(std::time::Duration::from_millis(50));
    let text = timeline::svg(&Page {
        title: "What clients see while the cluster is broken",
        subtitle: &subtitle,
        operations: &round.operations,
        began_ns: round.began_ns,
        ended_ns: round.ended_ns + margin_ns,
        bands: &bands,
    });
    let name = if plan.rounds == 1 {
        "timeline.svg".to_owned()
    } else {
        format!("timeline-{number:02}.svg")
    };
    write(&plan.folder.join(name), &text)
}

/// `summary.json`.
pub fn write_summary(plan: &Plan, rounds: &[Round]) -> Result<(), StoryError> {
    write(
        &plan.folder.join("summary.json"),
        &format!("{:#}\n", summary(plan, rounds)),
    )
}

fn write(path: &Path, text: &str) -> Result<(), StoryError> {
    std::fs::write(path, text).map_err(|source| StoryError::NotWritten {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers stand below each other.
    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["chapter", "times", "verdict"]), row(["kill", "20", "ok"])]);
        assert_eq!(text, "chapter  times  verdict\nkill        20  ok");
    }
}
