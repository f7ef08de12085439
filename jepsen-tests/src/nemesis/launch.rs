//! The leader is killed, paused or cut off while a StartTask of its own is under way: the call has had its effect, and its answer is held back.

use std::time::{Duration, Instant};

use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::act::Act;
use super::cluster::{Held, Leads};
use super::network::{first_drop, hold, isolated};
use super::process::{Seen, stood_still, struck_dead};
use super::{Cluster, Effect, NemesisError};
use crate::observe::eventually;

/// What became of launches that a fallen leader never made is known after 80 s; until then a roll-out may be at its limit of instances without a
/// daemon, and starts none.
const LAUNCHES_KNOWN: Duration = Duration::from_secs(100);
/// How long the simulator is to wait for one before it answers: less than a question to it may take.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// After how long it is asked again where only calls of before are held.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer is held at most, milliseconds: longer than the fault lasts.
const HELD_MS: u64 = 20_000;
/// How long it may take until the simulator notices that a caller is gone.
const GONE: Duration = Duration::from_secs(3);

/// What becomes of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Killed,
    Paused,
    CutOff,
}

/// A leader in our hands, with calls of its own under way.
struct Caught {
    leader: Leads,
    hands: Held,
    calls: Vec<u64>,
}

/// Waits for a StartTask, has its answer held, and strikes who made it.
pub(super) async fn struck(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let blow = [Blow::Killed, Blow::Paused, Blow::CutOff][act.random.random_range(0..3)];
    let then = if act.random.random() { "answer" } else { "drop" };
    let Some(caught) = catch(cluster, then).await? else {
        return Ok(Effect::none("no StartTask came: is the daemon workload there?"));
    };
    let (positions, number) = (&caught.hands.positions, act.fault.number);
    let name = cluster.name(positions[0]);
    act.begins(positions);
    let mut seen = strike(cluster, positions, blow, number).await?;
    seen.push(inside(cluster, &caught.calls, blow).await?);
    seen.push(Ok(format!(
        "{name} {blow:?}, the leader of term {}",
        caught.leader.term
    )));
    hold(cluster, act).await?;
    act.mends();
    match blow {
        Blow::Killed | Blow::Paused => cluster.revive(positions[0]).await?,
        Blow::CutOff => {
            let dropped = cluster.links.mend(&cluster.compose, number).await?;
            let told = format!("{dropped} packets dropped between {name} and its peers");
            seen.push(if dropped > 0 { Ok(told) } else { Err(told) });
        }
    }
    // Held answers come now, to whoever waits for them still.
    let release = json!({"operation": "StartTask", "then": then});
    cluster.ecs.ask(Method::POST, "/release", Some(&release)).await?;
    Ok(Effect::of_all(seen))
}

/// A call is the leader's whose answer is held since it leads and that came from its address: calls of one that led before may come late. Tried
/// anew where a call is over, or another one leads, before the container is in our hands.
async fn catch(cluster: &Cluster, then: &str) -> Result<Option<Caught>, NemesisError> {
    // Before those of the daemon workload, which may have a rule for each of the next calls.
    let rule = json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": HELD_MS, "then": then, "first": true});
    // All tries together.
    let (began, within) = (Instant::now(), LAUNCHES_KNOWN.max(cluster.whole / 2));
    while began.elapsed() < within {
        let Some(leader) = cluster.leads().await else {
            continue;
        };
        // Another fault may be about to make it anew.
        let Ok(container) = cluster.container(leader.position).await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let addresses = container.addresses;
        let before = ids(&held(cluster, Duration::ZERO).await?);
        let set = cluster.ecs.ask(Method::POST, "/answers", Some(&rule)).await?;
        let calls = new_calls(cluster, &addresses, &before, within.saturating_sub(began.elapsed())).await?;
        let hands = cluster.hold(vec![leader.position]).await;
        let leads = cluster.leads().await == Some(leader);
        let calls = still(&held(cluster, Duration::ZERO).await?, &calls);
        // It may be used up already; if not, it is not to hold a call of later.
        let rule = format!("/answers/{}", set["id"]);
        let _ = cluster.ecs.ask(Method::DELETE, &rule, None).await;
        if leads && !calls.is_empty() {
            return Ok(Some(Caught { leader, hands, calls }));
        }
    }
    Ok(None)
}

/// Waits for calls that are not among those of before: those from these addresses. None: none came in time, or somebody else's did.
async fn new_calls(
    cluster: &Cluster,
    addresses: &[String],
    before: &[u64],
    within: Duration,
) -> Result<Vec<u64>, NemesisError> {
    let began = Instant::now();
    loop {
        let rest = within.saturating_sub(began.elapsed());
        let held = held(cluster, rest.min(WAIT_MAX)).await?;
        let is_new = |call: &u64| !before.contains(call);
        let all = ids(&held);
        if all.iter().any(is_new) || rest.is_zero() {
            let mut calls = answered_to(&held, addresses);
            calls.retain(is_new);
            return Ok(calls);
        }
        if !all.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The blow itself, as it is seen at the container.
async fn strike(cluster: &Cluster, positions: &[usize], blow: Blow, number: u32) -> Result<Vec<Seen>, NemesisError> {
    let containers = cluster.containers(positions).await?;
    match blow {
        Blow::Killed => struck_dead(cluster, positions, &containers).await,
        Blow::Paused => stood_still(cluster, positions, &containers).await,
        Blow::CutOff => {
            let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
            let links = isolated(&names, positions);
            cluster.links.sever(&cluster.compose, number, links, None).await?;
            // How many packets it drops is counted in the end.
            first_drop(cluster, number).await?;
            Ok(Vec::new())
        }
    }
}

/// Whether the calls were under way at the blow: those of a dead process are gone with it, those of others are held still.
async fn inside(cluster: &Cluster, calls: &[u64], blow: Blow) -> Result<Seen, NemesisError> {
    let count = calls.len();
    if blow != Blow::Killed {
        let held = still(&held(cluster, Duration::ZERO).await?, calls).len();
        let told = format!("{held} StartTask calls of its own under way");
        return Ok(if held > 0 { Ok(told) } else { Err(told) });
    }
    let gone = eventually("the calls of a dead process to be gone", GONE, || async {
        let held = held(cluster, Duration::ZERO).await;
        let held = held.map_err(|error| error.to_string())?;
        match still(&held, calls).len() {
            0 => Ok(()),
            left => Err(format!("{left} of {count} StartTask calls have another caller")),
        }
    });
    let gone = gone
        .await
        .map(|()| format!("{count} StartTask calls under way ended with it"));
    Ok(gone.map_err(|late| late.last))
}

/// Calls of StartTask that are held; waits until there is one.
async fn held(cluster: &Cluster, wait: Duration) -> Result<Value, NemesisError> {
    let wait_ms = wait.as_millis();
    let path = format!("/held?operation=StartTask&at_least=1&wait_ms={wait_ms}");
    Ok(cluster.ecs.ask(Method::GET, &path, None).await?)
}

/// The numbers of those whose answers these addresses wait for, and that end with who waits.
fn answered_to(held: &Value, addresses: &[String]) -> Vec<u64> {
    let calls = held["calls"].as_array().into_iter().flatten();
    let own = calls.filter(|call| {
        let from = |address: &String| call["caller"] == address.as_str();
        call["late"] == false && addresses.iter().any(from)
    });
    own.filter_map(|call| call["id"].as_u64()).collect()
}

/// Their numbers: each call has one of its own.
fn ids(held: &Value) -> Vec<u64> {
    let calls = held["calls"].as_array().into_iter().flatten();
    calls.filter_map(|call| call["id"].as_u64()).collect()
}

/// Those of these that are held still.
fn still(held: &Value, calls: &[u64]) -> Vec<u64> {
    let mut now = ids(held);
    now.retain(|call| calls.contains(call));
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls are known by their numbers: what was held before, or is no more, does not count.
    #[test]
    fn calls_are_told_apart() {
        let held = json!({"held": 2, "held_ever": 9, "calls": [{"id": 7, "operation": "StartTask"}, {"id": 9, "operation": "StartTask"}]});
        assert_eq!(ids(&held), [7, 9]);
        assert_eq!(still(&held, &[8, 9]), [9]);
        assert_eq!(still(&held, &[]), [0; 0]);
        assert_eq!(ids(&json!({"held": 0})), [0; 0]);
    }

    /// A call is its caller's, unless it goes on without it.
    #[test]
    fn calls_have_callers() {
        let call = |id: u64, caller: &str, late: bool| json!({"id": id, "caller": caller, "late": late});
        let held =
            json!({"calls": [call(1, "10.0.0.1", false), call(2, "10.0.0.2", false), call(3, "10.0.0.1", true)]});
        let addresses = ["10.0.0.9", "10.0.0.1"].map(str::to_owned);
        assert_eq!(answered_to(&held, &addresses), [1]);
        assert_eq!(answered_to(&held, &[]), [0; 0]);
    }
}
