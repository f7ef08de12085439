//! Processes that are killed, stopped, or stand still.

use std::time::{Duration, Instant};

use super::act::Act;
use super::{Cluster, Effect, NemesisError};
use crate::compose::Container;

/// How often a pause is tried, and after how long again.
const FREEZES: usize = 10;
const FREEZE_AGAIN: Duration = Duration::from_millis(200);
/// Exit code of a process that SIGKILL ended, as Docker gives it.
const KILLED: i64 = 137;

/// kill -9, all at once; then started again.
pub(super) async fn kill(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = cluster.hold(act.choose().await).await;
    let containers = cluster.containers(&held.positions).await?;
    let all: Vec<&Container> = containers.iter().collect();
    act.begins(&held.positions);
    cluster.compose.kill(&all).await?;
    let mut evidence = Vec::new();
    for (position, container) in held.positions.iter().zip(&containers) {
        match cluster.in_state(container, "exited").await {
            Ok(dead) if dead.exit_code == KILLED => {
                evidence.push(format!("{} ended by SIGKILL", cluster.name(*position)));
            }
            Ok(dead) => return Ok(Effect::none(format!("exit code {}", dead.exit_code))),
            Err(seen) => return Ok(Effect::none(seen)),
        }
    }
    act.hold().await;
    act.mends();
    cluster.start(&held.positions).await?;
    Ok(Effect::seen(evidence))
}

/// SIGTERM, all at once; then started again.
pub(super) async fn term(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = cluster.hold(act.choose().await).await;
    let containers = cluster.containers(&held.positions).await?;
    act.begins(&held.positions);
    let stops = containers.iter().map(|container| async {
        let began = Instant::now();
        cluster.compose.stop(container).await.map(|()| began.elapsed())
    });
    let took = futures::future::try_join_all(stops).await?;
    let mut evidence = Vec::new();
    for ((position, container), took) in held.positions.iter().zip(&containers).zip(took) {
        let now = cluster.compose.inspect(&container.id).await?;
        if now.status != "exited" {
            return Ok(Effect::none(format!("{} is {}", cluster.name(*position), now.status)));
        }
        evidence.push(format!(
            "{} left with exit code {} after {} ms",
            cluster.name(*position),
            now.exit_code,
            took.as_millis()
        ));
    }
    act.hold().await;
    act.mends();
    cluster.start(&held.positions).await?;
    Ok(Effect::seen(evidence))
}

/// Every process stands still; then they go on.
pub(super) async fn pause(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = cluster.hold(act.choose().await).await;
    let containers = cluster.containers(&held.positions).await?;
    act.begins(&held.positions);
    let pauses = containers.iter().map(|container| freeze(cluster, container));
    futures::future::try_join_all(pauses).await?;
    let mut evidence = Vec::new();
    let mut silent = true;
    for (position, container) in held.positions.iter().zip(&containers) {
        let paused = cluster.in_state(container, "paused").await;
        let answer = cluster.observer.ready(*position).await;
        silent &= paused.is_ok() && answer.is_err();
        evidence.push(match (paused, answer) {
            (Ok(_), Err(_)) => format!("{} is paused and answers nothing", cluster.name(*position)),
            (Err(seen), _) => seen,
            (_, Ok(())) => format!("{} answers", cluster.name(*position)),
        });
    }
    act.hold().await;
    act.mends();
    let mends = containers.iter().map(|container| cluster.compose.unpause(container));
    futures::future::try_join_all(mends).await?;
    Ok(Effect { seen: silent, evidence })
}

/// Docker's runtime gives up on a container that does not stand still at once: it is told again.
async fn freeze(cluster: &Cluster, container: &Container) -> Result<(), NemesisError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match cluster.compose.pause(container).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == FREEZES => return Err(error.into()),
            Err(_) => tokio::time::sleep(FREEZE_AGAIN).await,
        }
    }
}
