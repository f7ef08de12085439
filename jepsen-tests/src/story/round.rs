//! One round: load and roll-outs begin, the chapters are told one after another, the load ends, everything is verified and judged.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::stage::Stage;
use super::{Chapter, Plan, Round, StoryError, chapters, verify};
use crate::clock::{ms, ns};
use crate::history::{Kind, Outcome};
use crate::load::{Load, Settings};
use crate::own_scheduler::{Own, Tally};
use crate::simulator::RollOuts;
use crate::stream::Reader;
use crate::verdict::{self, Records, Span, Verdict};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// A roll-out whose launch was cut off by a fault waits a minute before it is tried again, and may have to twice.
const CONVERGE: Duration = Duration::from_secs(240);
/// A part of the hold that is drawn by lot, milliseconds.
const HOLD_MS_MORE: std::ops::Range<u64> = 0..1_000;

/// Tells and verifies it.
pub(super) async fn round(
    stage: &mut Stage,
    plan: &Plan,
    number: u32,
    random: &mut ChaCha8Rng,
) -> Result<Round, StoryError> {
    stage.settled().await?;
    let began_ns = stage.clock.now_ns();
    let events_before = stage.simulator.events().await?;
    let from = revision(stage).await? + 1;
    let readers: Vec<Reader> = (0..stage.nodes.len())
        .map(|home| {
            Reader::begin(
                Arc::clone(&stage.nodes),
                home,
                stage.streaming.clone(),
                stage.clock,
                from,
            )
        })
        .collect();
    stage.simulator.live(plan.patience).await?;
    let roll_outs = RollOuts::begin(stage.simulator.clone(), Arc::clone(&stage.nodes), stage.client.clone());
    let prefix = format!("failover/{number:03}/");
    let load = Load::begin(Settings {
        nodes: Arc::clone(&stage.nodes),
        client: stage.client.clone(),
        recorder: Arc::clone(&stage.recorder),
        prefix: prefix.clone(),
        seed: plan.seed.wrapping_add(u64::from(number)),
        per_second: plan.per_second,
    });
    let progress = progress(stage);
    let mut spans = Vec::new();
    for chapter in &plan.chapters {
        spans.push(tell(stage, plan, *chapter, number, random, &readers).await?);
    }
    drop(progress);
    stage.screen.say("the load ends; everything is read back");
    let done = load.end().await;
    let begun = roll_outs.begun();
    for reader in &readers {
        reader.expect_quiet();
    }
    stage.simulator.rest().await?;
    let daemons = roll_outs.end(CONVERGE * plan.patience).await?;
    stage.screen.say(&format!(
        "{} of {} instances run their daemon, once",
        daemons.served, daemons.eligible
    ));
    let own = match &mut stage.own {
        Own::Runs(own) => Ok(own.end_of_round().await?),
        Own::LeftOut(why) => Err(why.clone()),
    };
    stage.screen.say(&match &own {
        Ok(tally) => tally.line(),
        Err(why) => format!("SKIPPED the example scheduler: {why}"),
    });
    let differences = verify::streams(stage, &readers, from).await?;
    let changes = readers.iter().map(|reader| reader.seen().told.len()).max().unwrap_or(0);
    let lost = verify::lost(stage, &prefix, &done.written).await?;
    stage.screen.say(&format!(
        "{} acknowledged writes read back from each node, {} of them lost; {changes} changes on each of {} streams",
        done.written.len(),
        lost.len(),
        readers.len()
    ));

    let operations = stage.recorder.operations_since(began_ns);
    let mut broken = stage.take_violations();
    broken.extend(own.iter().flat_map(Tally::broken));
    if done.held_back > 0 {
        broken.push(format!(
            "{} requests were not sent: too many were under way",
            done.held_back
        ));
    }
    // A round in which something never went well proves nothing.
    for kind in [Kind::Write, Kind::Read, Kind::Query] {
        if !operations
            .iter()
            .any(|one| one.kind == kind && one.outcome == Outcome::Ok)
        {
            broken.push(format!("no {} succeeded", kind.word()));
        }
    }
    for (count, what) in [(changes, "change was told"), (begun as usize, "roll-out began")] {
        if count == 0 {
            broken.push(format!("no {what}"));
        }
    }
    if let Some(lost) = lost.first() {
        stage.screen.say(&lost.why);
    }
    let stale = stage.recorder.stale_since(began_ns);
    if let Some((_, why)) = stale.first() {
        stage.screen.say(why);
    }
    let breaks: Vec<u64> = readers
        .iter()
        .flat_map(|reader| reader.seen().breaks.iter().map(|(at_ns, _)| *at_ns).collect::<Vec<_>>())
        .collect();
    let looks: Vec<_> = (0..stage.nodes.len())
        .map(|position| stage.lookout.looks(position))
        .collect();
    let records = Records {
        operations: &operations,
        refusals: &stage.recorder.refusals_since(began_ns),
        looks: &looks,
        differences: &differences,
        breaks_ns: &breaks,
        lost_ns: &lost.iter().map(|lost| lost.at_ns).collect::<Vec<_>>(),
        stale_ns: &stale.iter().map(|(at_ns, _)| *at_ns).collect::<Vec<_>>(),
    };
    let judged = spans.into_iter().map(|span| {
        let verdict = verdict::judge(&span, &records, plan.patience);
        (span, verdict)
    });
    let chapters: Vec<_> = judged.collect();
    broken.extend(outside(&chapters, &records));
    let events = stage.simulator.events().await?.saturating_sub(events_before);
    let written = done.written.len();
    stage.remember(done.written);
    Ok(Round {
        ended_ns: operations.iter().map(|one| one.ended_ns).max().unwrap_or(began_ns),
        roll_outs: begun,
        chapters,
        broken,
        changes,
        written,
        events,
        own,
        operations,
        began_ns,
    })
}

/// What was found, but between the chapters: nothing may be forgotten.
fn outside(chapters: &[(Span, Verdict)], records: &Records<'_>) -> Vec<String> {
    let sum = |part: fn(&Verdict) -> usize| chapters.iter().map(|(_, verdict)| part(verdict)).sum::<usize>();
    let differences: usize = records.differences.iter().map(Vec::len).sum();
    let found = [
        (
            differences,
            sum(|one| one.missing + one.repeated + one.foreign),
            "differences between streams and history",
        ),
        (records.lost_ns.len(), sum(|one| one.lost), "lost acknowledged writes"),
        (
            records.stale_ns.len(),
            sum(|one| one.stale),
            "reads that did not show what had been acknowledged",
        ),
    ];
    let more = found.into_iter().filter(|(all, told, _)| all > told);
    more.map(|(all, told, what)| format!("{} {what} between chapters", all - told))
        .collect()
}

async fn tell(
    stage: &mut Stage,
    plan: &Plan,
    chapter: Chapter,
    round: u32,
    random: &mut ChaCha8Rng,
    readers: &[Reader],
) -> Result<Span, StoryError> {
    let leader = stage.settled().await?;
    stage.simulator.count_anew().await?;
    let began_ns = stage.clock.now_ns();
    stage.screen.say(&format!(
        "== {}: {} leads in term {}",
        chapter.title(),
        stage.name(leader.position),
        leader.term
    ));
    tokio::time::sleep(plan.pace.quiet).await;
    let hold = plan.pace.hold + Duration::from_millis(random.random_range(HOLD_MS_MORE));
    if let Own::Runs(own) = &mut stage.own {
        let done = own.disturb(plan.pace.own_kills, chapter == Chapter::KillAll).await?;
        stage.screen.say(&done);
    }
    let other = (leader.position + random.random_range(1..stage.nodes.len())) % stage.nodes.len();
    let done = match chapter {
        Chapter::Kill => chapters::kill(stage, leader, hold).await?,
        Chapter::Pause => chapters::pause(stage, leader, hold).await?,
        Chapter::Cut => chapters::cut(stage, leader, hold).await?,
        Chapter::Stop => chapters::stop(stage, leader, hold).await?,
        Chapter::Remake => chapters::remake(stage, other).await?,
        Chapter::Replace => chapters::replace(stage, random.random_range(0..stage.nodes.len())).await?,
        Chapter::KillAll => chapters::kill_all(stage).await?,
        Chapter::Rolling => chapters::rolling(stage, plan.pace.quiet).await?,
    };
    stage.settled().await?;
    for reader in readers {
        reader.come_home();
    }
    tokio::time::sleep(plan.pace.quiet).await;
    let daemons = stage.simulator.daemons().await?;
    let ended_ns = stage.clock.now_ns();
    let operations = stage.recorder.operations_since(began_ns);
    let pause = verdict::longest_pause(&operations, done.fault_ns..done.healed_ns, ended_ns);
    let failed = operations.iter().filter(|one| one.outcome != Outcome::Ok).count();
    stage.screen.say(&format!(
        "{}; the next write was acknowledged after {} ms; {failed} of {} requests failed; daemons {} of {}",
        done.evidence.join(", "),
        ms(pause),
        operations.len(),
        daemons.served,
        daemons.eligible
    ));
    Ok(Span {
        fault_ns: done.fault_ns,
        healed_ns: done.healed_ns,
        actors: done.actors,
        evidence: done.evidence,
        exits_ns: done.exits_ns,
        violations: done.violations,
        chapter,
        round,
        began_ns,
        ended_ns,
        daemons,
    })
}

async fn revision(stage: &Stage) -> Result<u64, StoryError> {
    let statuses = stage.observer.statuses().await;
    Ok(statuses
        .into_iter()
        .flatten()
        .map(|status| status.state.1)
        .max()
        .unwrap_or(0))
}

/// Tells every few seconds what the clients see, until it is dropped.
fn progress(stage: &Stage) -> tokio::task::JoinSet<()> {
    let (recorder, screen, clock) = (Arc::clone(&stage.recorder), stage.screen, stage.clock);
    let mut telling = tokio::task::JoinSet::new();
    telling.spawn(async move {
        let mut pace = tokio::time::interval(PROGRESS_INTERVAL);
        pace.tick().await;
        let mut since_ns = clock.now_ns();
        loop {
            pace.tick().await;
            let now_ns = clock.now_ns();
            // Those that ended meanwhile and began a little before count in the next line, if at all: it is a sign of life.
            let operations = recorder.operations_since(since_ns);
            let failed = operations.iter().filter(|one| one.outcome != Outcome::Ok).count();
            let retried = operations.iter().filter(|one| one.attempts > 1).count();
            let per_second = operations.len() as u64 * ns(Duration::from_secs(1)) / (now_ns - since_ns).max(1);
            screen.say(&format!(
                "      {per_second} requests a second answered, {retried} by a second node, {failed} failed"
            ));
            since_ns = now_ns;
        }
    });
    telling
}
