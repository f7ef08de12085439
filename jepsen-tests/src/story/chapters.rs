//! What is done in each chapter, and how it is seen to have its effect.

use std::time::{Duration, Instant};

use super::stage::Stage;
use super::{StoryError, logs, verify};
use crate::clock::{ms, ns};
use crate::compose::Container;
use crate::observe::{Leader, NotInTime, eventually};

/// Exit code of a process that was killed by SIGKILL, as Docker gives it.
const KILLED: i64 = 137;

/// What a chapter has done.
pub(super) struct Done {
    pub(super) fault_ns: u64,
    pub(super) healed_ns: u64,
    pub(super) actors: String,
    pub(super) evidence: Vec<String>,
    pub(super) exits_ns: Vec<u64>,
    /// Promises that it saw broken: sentences.
    pub(super) violations: Vec<String>,
}

pub(super) async fn kill(stage: &Stage, leader: Leader, hold: Duration) -> Result<Done, StoryError> {
    let container = stage.container(leader.position).await?;
    let fault_ns = stage.recorder.nemesis("kill", stage.name(leader.position));
    stage.compose.kill(&[&container]).await?;
    let dead = died(stage, &container).await?;
    let next = stage.another_leader(leader).await?;
    tokio::time::sleep(hold).await;
    let healed_ns = stage.recorder.nemesis("start", stage.name(leader.position));
    stage.compose.start(&[&container]).await?;
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: succession(stage, leader, next),
        evidence: vec![dead, led(stage, next)],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn pause(stage: &Stage, leader: Leader, hold: Duration) -> Result<Done, StoryError> {
    let container = stage.container(leader.position).await?;
    let fault_ns = stage.recorder.nemesis("pause", stage.name(leader.position));
    stage.compose.pause(&container).await?;
    stage.in_state(&container, "paused").await?;
    let silent = stage.observer.ready(leader.position).await.is_err();
    if !silent {
        return Err(StoryError::NoEffect {
            what: "the pause".to_owned(),
            seen: format!("{} answers", stage.name(leader.position)),
        });
    }
    let next = stage.another_leader(leader).await?;
    tokio::time::sleep(hold).await;
    let healed_ns = stage.recorder.nemesis("unpause", stage.name(leader.position));
    stage.compose.unpause(&container).await?;
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: succession(stage, leader, next),
        evidence: vec![
            format!(
                "{}'s container is paused and answers nothing",
                stage.name(leader.position)
            ),
            led(stage, next),
        ],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn cut(stage: &Stage, leader: Leader, hold: Duration) -> Result<Done, StoryError> {
    let container = stage.container(leader.position).await?;
    let mut peers = Vec::new();
    for position in (0..stage.nodes.len()).filter(|position| *position != leader.position) {
        peers.extend(stage.container(position).await?.addresses);
    }
    let fault_ns = stage.recorder.nemesis("cut", stage.name(leader.position));
    stage.compose.cut(&container, &peers).await?;
    let next = stage.another_leader(leader).await?;
    let asked = Instant::now();
    let answered = stage.client.ask(&stage.nodes[leader.position], &verify::probe()).await;
    let refuses = match answered {
        Ok(answer) if answer.is_success() => {
            return Err(StoryError::NoEffect {
                what: "the cut".to_owned(),
                seen: format!("{} answers linearizable reads", stage.name(leader.position)),
            });
        }
        Ok(answer) => format!(
            "{} refuses reads ({} after {} ms)",
            stage.name(leader.position),
            answer.status,
            asked.elapsed().as_millis()
        ),
        Err(error) => format!("{} answers no read ({error})", stage.name(leader.position)),
    };
    tokio::time::sleep(hold).await;
    let dropped = stage.compose.dropped_packets(&container).await?;
    if dropped == 0 {
        return Err(StoryError::NoEffect {
            what: "the cut".to_owned(),
            seen: "no packet was dropped".to_owned(),
        });
    }
    let healed_ns = stage.recorder.nemesis("heal", stage.name(leader.position));
    stage.compose.heal(&container).await?;
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: succession(stage, leader, next),
        evidence: vec![
            format!("{dropped} packets of its peers dropped"),
            refuses,
            led(stage, next),
        ],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn stop(stage: &Stage, leader: Leader, hold: Duration) -> Result<Done, StoryError> {
    let container = stage.container(leader.position).await?;
    let name = stage.name(leader.position);
    let before = logs::hand_overs(&stage.compose.logs(&container).await?);
    let fault_ns = stage.recorder.nemesis("term", name);
    let (exit_ns, left) = leaves(stage, &container, leader.position).await?;
    let after = logs::hand_overs(&stage.compose.logs(&container).await?);
    let next = stage.another_leader(leader).await?;
    tokio::time::sleep(hold).await;
    let healed_ns = stage.recorder.nemesis("start", name);
    stage.compose.start(&[&container]).await?;
    stage.settled().await?;
    let mut violations = stage.freedoms(leader.position).await?;
    let mut evidence = vec![left];
    if after > before {
        evidence.push("it handed leadership over".to_owned());
    } else {
        violations.push(format!(
            "{name} left without handing leadership over: the others had to elect"
        ));
    }
    evidence.push(led(stage, next));
    if violations.is_empty() {
        evidence.push("healthy again, and confined".to_owned());
    }
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: succession(stage, leader, next),
        evidence,
        exits_ns: vec![exit_ns],
        violations,
    })
}

pub(super) async fn remake(stage: &mut Stage, position: usize) -> Result<Done, StoryError> {
    let before = stage.container(position).await?;
    let was = member_id(stage, position).await?;
    stage.keep_log(position).await?;
    let name = stage.name(position).to_owned();
    let fault_ns = stage.recorder.nemesis("remove", &name);
    stage.compose.remove(&before).await?;
    let healed_ns = stage.recorder.nemesis("create", &name);
    let after = stage.compose.create(&name).await?;
    stage.settled().await?;
    let is = member_id(stage, position).await?;
    if before.id == after.id || was != is {
        return Err(StoryError::NoEffect {
            what: "making the container anew on its volume".to_owned(),
            seen: format!(
                "container {} then {}, member {was} then {is}",
                before.short_id(),
                after.short_id()
            ),
        });
    }
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: name,
        evidence: vec![format!(
            "container {} is {} now, and member {is} as before",
            before.short_id(),
            after.short_id()
        )],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn replace(stage: &mut Stage, position: usize) -> Result<Done, StoryError> {
    let before = stage.container(position).await?;
    let was = member_id(stage, position).await?;
    stage.keep_log(position).await?;
    let name = stage.name(position).to_owned();
    let witness = stage.container((position + 1) % stage.nodes.len()).await?;
    let fault_ns = stage.recorder.nemesis("lose", &name);
    stage.compose.remove(&before).await?;
    stage.compose.remove_volume(&name).await?;
    let left = stage.compose.volumes(&name).await?;
    if !left.is_empty() {
        return Err(StoryError::NoEffect {
            what: "losing a volume".to_owned(),
            seen: format!("{left:?}"),
        });
    }
    stage.compose.create(&name).await?;
    eventually("the new node asks to be taken in", stage.whole, || async {
        let mut last = String::new();
        for other in (0..stage.nodes.len()).filter(|other| *other != position) {
            match stage.client.get_json(&stage.nodes[other], "/v2/members").await {
                Ok(list)
                    if list["candidates"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|one| one["name"] == *name)) =>
                {
                    return Ok(());
                }
                Ok(list) => last = list.to_string(),
                Err(error) => last = error,
            }
        }
        Err(last)
    })
    .await?;
    let healed_ns = stage.recorder.nemesis("replace", &name);
    let said = stage.compose.blox(&witness, &["member", "replace", &name]).await?;
    stage.settled().await?;
    let is = member_id(stage, position).await?;
    if was == is {
        return Err(StoryError::NoEffect {
            what: "the replacement".to_owned(),
            seen: format!("{name} is member {is} as before: {said}"),
        });
    }
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: name.clone(),
        evidence: vec![format!(
            "the volume is gone, {name} was member {was} and is member {is}"
        )],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn kill_all(stage: &Stage) -> Result<Done, StoryError> {
    let mut containers = Vec::new();
    for position in 0..stage.nodes.len() {
        containers.push(stage.container(position).await?);
    }
    let all: Vec<&Container> = containers.iter().collect();
    let fault_ns = stage.recorder.nemesis("kill", "all");
    stage.compose.kill(&all).await?;
    for container in &all {
        died(stage, container).await?;
    }
    let healed_ns = stage.recorder.nemesis("start", "all");
    stage.compose.start(&all).await?;
    let next = stage.settled().await?;
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: "all".to_owned(),
        evidence: vec!["three containers exited by SIGKILL".to_owned(), led(stage, next)],
        exits_ns: Vec::new(),
        violations: Vec::new(),
    })
}

pub(super) async fn rolling(stage: &Stage, quiet: Duration) -> Result<Done, StoryError> {
    let mut exits_ns = Vec::new();
    let mut evidence = Vec::new();
    let fault_ns = stage.clock.now_ns();
    let mut healed_ns = fault_ns;
    for position in 0..stage.nodes.len() {
        let container = stage.container(position).await?;
        stage.recorder.nemesis("term", stage.name(position));
        let (exit_ns, left) = leaves(stage, &container, position).await?;
        exits_ns.push(exit_ns);
        evidence.push(left);
        healed_ns = stage.recorder.nemesis("start", stage.name(position));
        stage.compose.start(&[&container]).await?;
        stage.settled().await?;
        tokio::time::sleep(quiet).await;
    }
    Ok(Done {
        fault_ns,
        healed_ns,
        actors: "one after another".to_owned(),
        evidence,
        exits_ns,
        violations: Vec::new(),
    })
}

/// SIGTERM to a node: how long it took, and that it left by itself.
async fn leaves(stage: &Stage, container: &Container, position: usize) -> Result<(u64, String), StoryError> {
    let began = Instant::now();
    stage.compose.stop(container).await?;
    let exit_ns = ns(began.elapsed());
    let ended = stage.in_state(container, "exited").await?;
    if ended.exit_code != 0 {
        return Err(StoryError::NotInTime(NotInTime {
            what: format!("a graceful stop of {}", stage.name(position)),
            within: began.elapsed(),
            last: format!("exit code {}", ended.exit_code),
        }));
    }
    Ok((
        exit_ns,
        format!("{} left with exit code 0 in {} ms", stage.name(position), ms(exit_ns)),
    ))
}

async fn died(stage: &Stage, container: &Container) -> Result<String, StoryError> {
    let dead = stage.in_state(container, "exited").await?;
    if dead.exit_code == KILLED {
        return Ok(format!("its container exited with code {KILLED}"));
    }
    Err(StoryError::NoEffect {
        what: "SIGKILL".to_owned(),
        seen: format!("container {} exited with code {}", container.short_id(), dead.exit_code),
    })
}

fn succession(stage: &Stage, before: Leader, after: Leader) -> String {
    format!("{} -> {}", stage.name(before.position), stage.name(after.position))
}

fn led(stage: &Stage, leader: Leader) -> String {
    format!("{} leads in term {}", stage.name(leader.position), leader.term)
}

async fn member_id(stage: &Stage, position: usize) -> Result<u64, StoryError> {
    let status = eventually("a node's number", stage.whole, || stage.observer.status(position)).await?;
    Ok(status.id)
}
