//! ECS: events from the simulator's queue, lists and reads of tasks. Blox 0.3 cannot be run beside ours: its figures of another machine are brought to
//! this one by etcd's put with 64 clients, which was measured there and is measured in this run.

mod events;
mod reads;

use serde_json::json;

use super::simulated::{SLOW_LOOK, SimulatedEcs, until};
use super::{RowError, Settings, say};
use crate::figure::Figure;
use crate::server::MEMBERS;

/// etcd's put with 64 clients of 256 bytes where Blox 0.3 was measured, requests a second.
const ETCD_THERE: f64 = 5_277.0;
const NOTE: &str = "Blox 0.3's on another machine, brought to this one by etcd's put with 64 clients";
/// Tasks; a tenth of them in the cluster that is listed by itself and flooded, a tenth in the one whose tasks are stopped.
const TASKS: usize = 10_000;
const CLUSTERS: usize = 10;
/// Of each cluster.
const TASKS_A_CLUSTER: usize = TASKS / CLUSTERS;
/// The cluster whose tasks are stopped.
const STOPPED: usize = CLUSTERS - 1;
/// Instances of a cluster, each with room for all its tasks.
const INSTANCES_A_CLUSTER: usize = 10;
/// Reconcile has told all that events do not say once it has been over each cluster so often.
const PASSES: u64 = 2;
/// No metric has this in its labels.
const NO_LABEL: &str = "\n";

/// A fleet that three nodes observe.
struct Fleet {
    ecs: SimulatedEcs,
    /// Names of clusters and ARNs of tasks.
    tasks: Vec<(String, String)>,
    /// How much faster this machine is than that of Blox 0.3.
    factor: f64,
}

/// What a faster machine does to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    /// More of it.
    Rate,
    /// Less.
    Time,
}

/// All rows; `etcd_here` is what etcd's put with 64 clients gave in this run.
pub async fn measure(settings: &Settings, etcd_here: f64) -> Result<Vec<Figure>, RowError> {
    let mut fleet = Fleet {
        ecs: SimulatedEcs::start(settings, "fleet").await?,
        tasks: Vec::with_capacity(TASKS),
        factor: etcd_here / ETCD_THERE,
    };
    say(&format!(
        "  this machine is taken for {:.2} times as fast as that of Blox 0.3",
        fleet.factor
    ));
    let idle = fleet.ecs.server.memory()?;
    fleet.fill().await?;
    let mut figures = vec![fleet.floods(settings.rounds).await?];
    figures.extend(fleet.stream().await?);
    figures.extend(fleet.reads(settings, &idle).await?);
    fleet.ecs.stop().await?;
    Ok(figures)
}

impl Fleet {
    /// So many running tasks, all of them known to the nodes; then those of one cluster are stopped.
    async fn fill(&mut self) -> Result<(), RowError> {
        say(&format!("  {TASKS} tasks in {CLUSTERS} clusters ..."));
        for number in 0..CLUSTERS {
            let cluster = cluster(number);
            self.ecs
                .add_cluster(&cluster, INSTANCES_A_CLUSTER, TASKS_A_CLUSTER)
                .await?;
            let started = self.ecs.start_tasks(&cluster, TASKS_A_CLUSTER).await?;
            self.tasks.extend(started.into_iter().map(|arn| (cluster.clone(), arn)));
        }
        let ecs = &self.ecs;
        let running = "every task, running, at a node";
        ecs.until_tasks(running, "/v1/tasks?status=running", TASKS).await?;
        ecs.control("tasks/stop", &json!({"cluster": cluster(STOPPED)})).await?;
        let stopped = "every task that was stopped";
        ecs.until_tasks(stopped, "/v1/tasks?status=stopped", TASKS_A_CLUSTER)
            .await?;
        until("reconcile", SLOW_LOOK, || async {
            let mut passes = 0;
            for member in 0..MEMBERS {
                let of_member = ecs
                    .server
                    .metric_sum(member, "blox_reconcile_passes_total", NO_LABEL)
                    .await;
                passes += of_member.map_err(|error| error.to_string())?;
            }
            match passes {
                enough if enough >= PASSES * CLUSTERS as u64 => Ok(()),
                others => Err(format!("{others} passes")),
            }
        })
        .await
    }

    /// A figure whose peer is Blox 0.3 as it would be here.
    fn compared(&self, name: &str, unit: &'static str, there: f64, speed: Speed) -> Figure {
        Figure {
            peer: vec![brought_here(there, speed, self.factor)],
            note: Some(NOTE),
            ..Figure::new(name, unit)
        }
    }
}

/// What was measured elsewhere, as it would be on a machine so many times as fast.
fn brought_here(there: f64, speed: Speed, factor: f64) -> f64 {
    match speed {
        Speed::Rate => there * factor,
        Speed::Time => there / factor,
    }
}

fn cluster(number: usize) -> String {
    format!("bench-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A faster machine does more, and takes less time.
    #[test]
    fn figures_are_brought_here() {
        assert_eq!(brought_here(100.0, Speed::Rate, 2.0), 200.0);
        assert_eq!(brought_here(100.0, Speed::Time, 2.0), 50.0);
    }
}
