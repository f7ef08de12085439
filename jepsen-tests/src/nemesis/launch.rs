//! The leader is killed, paused or cut off while a StartTask of its own is under way: the call has had its effect, and its answer is held back.

use rand::Rng;
use reqwest::Method;
use serde_json::json;

use super::act::Act;
use super::network::isolated;
use super::{Cluster, Effect, NemesisError};

/// How long a StartTask is waited for, milliseconds.
const WAIT_MS: u64 = 30_000;
/// How long its answer is held at most, milliseconds: longer than the fault lasts.
const HELD_MS: u64 = 20_000;

/// What becomes of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Killed,
    Paused,
    CutOff,
}

/// Waits for a StartTask, has its answer held, and strikes whoever leads then.
pub(super) async fn struck(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let blow = [Blow::Killed, Blow::Paused, Blow::CutOff][act.random.random_range(0..3)];
    let then = if act.random.random() { "answer" } else { "drop" };
    let rule = json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": HELD_MS, "then": then});
    cluster.ecs.answers(&rule).await?;
    let path = format!("/held?operation=StartTask&at_least=1&wait_ms={WAIT_MS}");
    let held = cluster.ecs.ask(Method::GET, &path, None).await?;
    let calls = held["held"].as_u64().unwrap_or(0);
    if calls == 0 {
        return Ok(Effect::none("no StartTask came: is the daemon workload there?"));
    }
    let hands = cluster.hold(act.choose().await).await;
    let position = hands.positions[0];
    let (name, container) = (cluster.name(position).to_owned(), cluster.container(position).await?);
    let number = act.fault.number;
    act.begins(&hands.positions);
    let still_held = cluster.ecs.ask(Method::GET, "/held?operation=StartTask", None).await?;
    match blow {
        Blow::Killed => cluster.compose.kill(&[&container]).await?,
        Blow::Paused => cluster.compose.pause(&container).await?,
        Blow::CutOff => {
            let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
            let links = isolated(&names, &hands.positions);
            cluster.links.sever(&cluster.compose, number, links, None).await?;
        }
    }
    act.hold().await;
    act.mends();
    // Held answers come now, to whoever waits for them still.
    let release = json!({"operation": "StartTask", "then": then});
    match blow {
        Blow::Killed => cluster.start(&hands.positions).await?,
        Blow::Paused => cluster.compose.unpause(&container).await?,
        Blow::CutOff => {
            cluster.links.mend(&cluster.compose, number).await?;
        }
    }
    cluster.ecs.ask(Method::POST, "/release", Some(&release)).await?;
    let inside = still_held["held"].as_u64().unwrap_or(0);
    Ok(Effect {
        seen: inside > 0,
        evidence: vec![format!("{name} {blow:?} with {inside} StartTask calls under way")],
    })
}
