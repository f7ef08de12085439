//! What a disk that loses what was not synced makes possible: power cuts, torn writes, a sync that fails.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::act::Act;
use super::damage::ended_since;
use super::disk::eventually_seen;
use super::lossy::LossyDisks;
use super::{Cluster, Effect, Nemesis, NemesisError};
use crate::compose::Container;
use crate::lossy::{Cut, Failing, Pages};
use crate::observe::eventually;

/// Files whose syncs fail, by how their paths begin and end: the log's write-ahead log, anything of the log, anything.
const FAILING_FILES: [(&str, &str); 3] = [("data/raft/", ".log"), ("data/raft/", ""), ("data/", "")];
/// A snapshot on its way: nothing relies on it yet, and a node goes on without it.
const INCOMING: &str = "data/snapshots/incoming-";
/// So many syncs are let pass before one fails, at most.
const PASSING_MAX: u32 = 20;
/// How long Docker may take to have a container without power end for good.
const DOWN: Duration = Duration::from_secs(30);

/// The power of disks and processes is cut at one moment, then both come back.
pub(super) async fn cut(cluster: &Cluster, disks: &LossyDisks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    let names: Vec<&str> = held.positions.iter().map(|position| cluster.name(*position)).collect();
    let how: Vec<Cut> = names.iter().map(|_| draw_cut(act)).collect();
    act.begins(&held.positions);
    let cuts = names.iter().zip(how).map(|(name, how)| disks.cut(name, how));
    let reports = futures::future::try_join_all(cuts).await?;
    // Docker takes its time: no process may look at its dead disk for so long.
    containers.iter().for_each(kill_now);
    let (mut evidence, mut seen) = (Vec::new(), true);
    for ((name, container), report) in names.iter().zip(&containers).zip(reports) {
        let ended = stays_down(cluster, container).await?;
        let refuses = disks.refuses(name).await?;
        seen &= refuses;
        let lost = match report.files + report.names_lost + report.names_survived {
            0 => "nothing was unsynced at that moment".to_owned(),
            _ => report.told(),
        };
        let disk = if refuses { "refuses everything" } else { "ANSWERS STILL" };
        evidence.push(format!(
            "{name} {lost}; its disk {disk}, its process ended with exit code {}",
            ended.exit_code
        ));
    }
    act.hold().await;
    act.mends();
    let restores = names.iter().map(|name| disks.restore(name));
    futures::future::try_join_all(restores).await?;
    cluster.start(&held.positions).await?;
    Ok(Effect { seen, evidence })
}

/// Waits until it has ended, and Docker starts it no more, which it does with whatever ends by itself.
async fn stays_down(cluster: &Cluster, container: &Container) -> Result<Container, NemesisError> {
    let down = eventually("a container without power to end", DOWN, || async {
        let now = cluster.compose.inspect(&container.id).await;
        let now = now.map_err(|error| error.to_string())?;
        // What ends at this moment cannot be ended: it is looked at again.
        let _ = match now.status.as_str() {
            "exited" => return Ok(now),
            "running" => cluster.compose.kill(&[&now]).await.map_err(NemesisError::from),
            _ => cluster.halt(&now).await,
        };
        Err(format!("it is {}", now.status))
    });
    down.await.map_err(|late| NemesisError::NoEffect(late.to_string()))
}

/// SIGKILL to its first process, and so to all; one that has ended by itself is passed over.
fn kill_now(container: &Container) {
    let pid = i32::try_from(container.pid).ok().filter(|pid| *pid > 1);
    if let Some(pid) = pid {
        // It may end by itself at this moment.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn draw_cut(act: &mut Act<'_>) -> Cut {
    match act.fault.nemesis {
        Nemesis::TornWrite => Cut::Torn(act.random.random()),
        _ => Cut::Clean,
    }
}

/// A sync answers EIO, once or from then on: the node's process must end.
pub(super) async fn fail_sync(
    cluster: &Cluster,
    disks: &LossyDisks,
    act: &mut Act<'_>,
) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let position = held.positions[0];
    let name = cluster.name(position).to_owned();
    let container = cluster.container(position).await?;
    let failed_before = disks.counters(&name).await?.syncs_failed;
    let failing = draw_failing(&mut act.random);
    let files = format!("{}*{}", failing.under, failing.ends);
    let since = SystemTime::now();
    act.begins(&held.positions);
    disks.fail_syncs(&name, Some(failing)).await?;
    let fails = async || {
        let counters = disks.counters(&name).await.ok()?;
        counters.last_failed.filter(|_| counters.syncs_failed > failed_before)
    };
    let mut failed = eventually_seen(fails).await;
    if failed.is_none() {
        disks.fail_syncs(&name, None).await?;
        // One may have failed at the last moment.
        failed = fails().await;
    }
    let seen = match &failed {
        None => None,
        Some(file) => {
            eventually_seen(async || {
                let now = cluster.compose.inspect(&container.id).await.ok()?;
                let has_ended = now.pid != container.pid || now.status != "running";
                has_ended.then(|| format!("a sync of {file} on {name} answered EIO, and its process ended"))
            })
            .await
        }
    };
    let mut evidence: Vec<String> = seen.iter().cloned().collect();
    if seen.is_some() {
        evidence.extend(ended_since(cluster, &container, since).await?);
        act.hold().await;
    }
    act.mends();
    disks.fail_syncs(&name, None).await?;
    cluster.revive(position).await?;
    // Docker may have started it by itself, and set no rules again.
    cluster.links.renew(&cluster.compose, &name).await?;
    cluster.relays.renew(&cluster.compose, &name).await?;
    let count = disks.counters(&name).await?.syncs_failed - failed_before;
    Ok(match (seen, failed) {
        (Some(_), _) => {
            evidence.push(format!("{count} syncs failed"));
            Effect::seen(evidence)
        }
        (None, None) => Effect::none(format!("no file {files} of {name} was synced")),
        (None, Some(file)) => {
            let sentence = format!(
                "{count} syncs of {files} on {name} answered EIO, one of {file}, and its process went on: a failed sync must end it"
            );
            // Whatever else was under way is no excuse.
            cluster.found.note(sentence.clone());
            Effect::none(sentence)
        }
    })
}

fn draw_failing(random: &mut ChaCha8Rng) -> Failing {
    let (under, ends) = FAILING_FILES.choose(random).copied().unwrap_or(FAILING_FILES[0]);
    Failing {
        under: under.to_owned(),
        ends: ends.to_owned(),
        except: INCOMING.to_owned(),
        skip: random.random_range(0..=PASSING_MAX),
        count: random.random_bool(0.7).then_some(1),
        pages: if random.random_bool(0.5) {
            Pages::Kept
        } else {
            Pages::Reverted
        },
        lies: false,
    }
}
