//! A node is lost with its disk, and another takes its place, as the manual says.

use std::time::Duration;

use super::act::Act;
use super::{Cluster, Effect, NemesisError};
use crate::workload::http::{Ask, why};

/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Its container and volume are removed; it comes back empty and replaces itself.
pub(super) async fn lost(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let _wound = cluster.wound.lock().await;
    let held = act.take().await;
    let position = held.positions[0];
    act.begins(&[position]);
    let replaced = replace(cluster, position, || act.mends()).await?;
    Ok(Effect::seen(vec![replaced]))
}

/// Removes a node with all it has, starts an empty one and has it take the place. `mends`: called when the loss is complete.
pub(super) async fn replace(cluster: &Cluster, position: usize, mends: impl FnOnce()) -> Result<String, NemesisError> {
    let name = cluster.name(position).to_owned();
    let before = cluster.container(position).await?;
    cluster.keep_log(&name, &before).await?;
    let was = member_id(cluster, position, &name).await?;
    cluster.compose.remove(&before).await?;
    cluster.compose.remove_volume(&name).await?;
    if let Some(disks) = &cluster.disks {
        disks.empty(&name).await?;
    }
    if let Some(lossy) = &cluster.lossy {
        lossy.empty(&name).await?;
    }
    mends();
    cluster.compose.create(&name).await?;
    cluster.links.renew(&cluster.compose, &name).await?;
    cluster.relays.renew(&cluster.compose, &name).await?;
    let ask = Ask::get("/v2/members", ANSWER);
    let taken_in = format!("{name}, empty, to ask to be taken in");
    cluster
        .in_calm(&taken_in, || async {
            let mut last = String::new();
            for other in cluster.others(position) {
                let answer = cluster.http.ask(&cluster.nodes[other], &ask).await;
                let list = answer.as_ref().map(|reply| reply.json()).unwrap_or_default();
                let candidates = list["candidates"].as_array();
                if candidates.is_some_and(|all| all.iter().any(|one| one["name"] == *name)) {
                    return Ok(());
                }
                last = why(&answer);
            }
            Err(last)
        })
        .await?;
    // Said again it goes on where it stood, to whoever of the others can be asked; other faults may stand in its way for a while.
    cluster
        .in_calm(&format!("{name} to be replaced"), || async {
            let mut last = String::new();
            for other in cluster.others(position) {
                let container = cluster.container(other).await.map_err(|error| error.to_string())?;
                match cluster.compose.blox(&container, &["member", "replace", &name]).await {
                    Ok(said) => return Ok(said),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(last)
        })
        .await?;
    cluster
        .in_calm(&format!("{name} to be ready as a new member"), || {
            cluster.observer.ready(position)
        })
        .await?;
    let is = member_id(cluster, position, &name).await?;
    if was == is {
        let sentence = format!("{name} has lost its disk and is member {is} as before");
        // Whatever else was under way is no excuse.
        cluster.found.note(sentence.clone());
        return Err(NemesisError::NoEffect(sentence));
    }
    Ok(format!("{name} lost its disk: it was member {was} and is member {is}"))
}

/// The number under which a node is a member, by the word of another one.
async fn member_id(cluster: &Cluster, position: usize, name: &str) -> Result<u64, NemesisError> {
    let ask = Ask::get("/v2/members", ANSWER);
    let what = format!("the number of {name}");
    let found = cluster.in_calm(&what, || async {
        let mut last = String::new();
        for other in cluster.others(position) {
            let answer = cluster.http.ask(&cluster.nodes[other], &ask).await;
            let list = answer.as_ref().map(|reply| reply.json()).unwrap_or_default();
            let members = list["members"].as_array().into_iter().flatten();
            let ids = members
                .filter(|one| one["name"] == *name)
                .filter_map(|one| one["id"].as_u64());
            if let Some(id) = ids.max() {
                return Ok(id);
            }
            last = why(&answer);
        }
        Err(last)
    });
    Ok(found.await?)
}
