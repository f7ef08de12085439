//! What more tasks cost: one client's latency with a thousand tasks and with 300,000, all of which came as events from the simulator's queue. Ours
//! alone. Reconcile goes on meanwhile, as it does for users: ten calls a second to the simulator, of a hundred tasks each.

use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::{Instant, timeout};

use super::growth::{FLAT, Point, times_as_long};
use super::simulated::SimulatedEcs;
use super::{RowError, Settings, say};
use crate::client::LeanHttpClient;
use crate::figure::{Figure, Goal, median};
use crate::load::drive;
use crate::server::Side;

/// Tasks of each step. A task is running after five events, two of them of its instance: the last step takes 1,000,000 events, all steps
/// 1,500,000, which are some three minutes at 8,000 a second. A million tasks would be over ten.
const STEPS: [usize; 4] = [1_000, 10_000, 100_000, 300_000];
/// The cluster that is listed by itself, and its tasks at each step.
const KEPT: &str = "growth-kept";
const KEPT_TASKS: usize = 100;
/// Of each other cluster, at most: what the simulator has to look through for a page of a list.
const TASKS_A_CLUSTER: usize = 10_000;
/// Instances of each cluster, with room for all its tasks.
const INSTANCES_A_CLUSTER: usize = 100;
/// What is asked at each step.
const ONE: &str = "GET one task";
const SAME_LIST: &str = "GET /v1/tasks?cluster=, always 100 tasks";
const WHOLE_LIST: &str = "GET /v1/tasks, for each task it returns";
/// Whole lists of each step, at least.
const LISTS_MIN: usize = 5;
/// A whole list takes less.
const LIST_MAX: Duration = Duration::from_secs(120);

/// What grows.
struct Grown {
    ecs: SimulatedEcs,
    /// Names of clusters and ARNs of tasks.
    tasks: Vec<(String, String)>,
}

/// A new cluster, grown step by step.
pub async fn measure(settings: &Settings) -> Result<(Vec<Figure>, Vec<Point>), RowError> {
    let mut grown = Grown {
        ecs: SimulatedEcs::start(settings, "growth-of-tasks").await?,
        tasks: Vec::new(),
    };
    grown.add_to(KEPT, 0, KEPT_TASKS).await?;
    let mut points = Vec::new();
    for tasks in STEPS {
        let (before, began) = (grown.tasks.len(), Instant::now());
        grown.grow(tasks).await?;
        say(&format!(
            "  {:<44} blox {:>8.0} s",
            format!("from {before} to {tasks} tasks, each running"),
            began.elapsed().as_secs_f64()
        ));
        points.extend(Box::pin(grown.points(settings)).await?);
    }
    grown.ecs.stop().await?;
    Ok((figures(&points), points))
}

impl Grown {
    /// Until there are so many tasks, all of them running for each node.
    async fn grow(&mut self, tasks: usize) -> Result<(), RowError> {
        let had = self.tasks.len() - KEPT_TASKS;
        for (number, range) in shares(had, tasks - KEPT_TASKS) {
            self.add_to(&format!("growth-{number}"), range.start, range.end).await?;
        }
        let leader = self.ecs.server.leader().await?;
        self.ecs.until_everywhere(leader).await?;
        Ok(self.ecs.server.until_quiet().await?)
    }

    /// Tasks of a cluster, from so many to so many. A cluster after the other: the simulator's queue is not endless.
    async fn add_to(&mut self, cluster: &str, from: usize, to: usize) -> Result<(), RowError> {
        let ecs = &self.ecs;
        if from == 0 {
            let tasks_an_instance = TASKS_A_CLUSTER / INSTANCES_A_CLUSTER;
            ecs.add_cluster(cluster, INSTANCES_A_CLUSTER, tasks_an_instance).await?;
        }
        let started = ecs.start_tasks(cluster, to - from).await?;
        self.tasks
            .extend(started.into_iter().map(|arn| (cluster.to_owned(), arn)));
        let running = format!("/v1/tasks?status=running&cluster={cluster}");
        ecs.until_tasks("every task of a cluster, running, at a node", &running, to)
            .await
    }

    /// One for each thing asked, all of the leader.
    async fn points(&self, settings: &Settings) -> Result<[Point; 3], RowError> {
        let leader = self.ecs.server.leader().await?;
        let address = self.ecs.server.addresses()[leader].clone();
        let kept = format!("/v1/tasks?cluster={KEPT}");
        self.ecs
            .until_tasks("the tasks that are kept", &kept, KEPT_TASKS)
            .await?;
        let tasks: Rc<[(String, String)]> = self.tasks.as_slice().into();
        let any = move |random: &mut SmallRng| {
            let (cluster, arn) = &tasks[random.random_range(0..tasks.len())];
            format!("/v1/tasks/{cluster}/{arn}")
        };
        let one_ms = self.p50_ms(settings, &address, any).await?;
        let same_ms = self.p50_ms(settings, &address, move |_| kept.clone()).await?;
        let whole_ms = whole_list_ms(settings, &address).await? / self.tasks.len() as f64;
        let point = |(what, p50_ms): (&'static str, f64)| {
            let count = self.tasks.len() as u64;
            say(&format!(
                "  {:<44} blox p50 {p50_ms:>8.4} ms",
                format!("{what}, {count} tasks")
            ));
            Point {
                what,
                side: Side::Ours,
                count,
                p50_ms,
            }
        };
        Ok([(ONE, one_ms), (SAME_LIST, same_ms), (WHOLE_LIST, whole_ms)].map(point))
    }

    /// One client, again and again; the median.
    async fn p50_ms(
        &self,
        settings: &Settings,
        address: &str,
        path: impl Fn(&mut SmallRng) -> String + Clone + 'static,
    ) -> Result<f64, RowError> {
        let client = LeanHttpClient::connect(address).await?;
        let ask =
            async move |client: &mut LeanHttpClient, random: &mut SmallRng| client.count(&path(random)).await.map(drop);
        let window = drive(&self.ecs.server, vec![client], settings.times, settings.seed, ask).await?;
        Ok(window.milliseconds(50.0))
    }
}

/// The median of a few whole lists, which may take seconds each.
async fn whole_list_ms(settings: &Settings, address: &str) -> Result<f64, RowError> {
    let mut client = LeanHttpClient::connect(address).await?;
    let (mut all_ms, began) = (Vec::new(), Instant::now());
    while all_ms.len() < LISTS_MIN || began.elapsed() < settings.times.counts {
        let asked = Instant::now();
        let list = timeout(LIST_MAX, client.count("/v1/tasks")).await;
        list.map_err(|_| RowError::Late {
            what: "a list of all tasks",
            within: LIST_MAX,
            seen: format!("{} before", all_ms.len()),
        })??;
        all_ms.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&all_ms).unwrap_or(f64::NAN))
}

/// Which clusters take how many tasks where there were so many in all and are to be so many: each cluster's number, from how many to how many.
fn shares(had: usize, wanted: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let of = |all: usize, number: usize| all.saturating_sub(number * TASKS_A_CLUSTER).min(TASKS_A_CLUSTER);
    (had / TASKS_A_CLUSTER..wanted.div_ceil(TASKS_A_CLUSTER))
        .map(move |number| (number, of(had, number)..of(wanted, number)))
        .filter(|(_, range)| !range.is_empty())
}

/// How many times as long the last step takes as the first.
fn figures(points: &[Point]) -> Vec<Figure> {
    let [first, .., last] = STEPS.map(|step| step as u64);
    let figure = |(what, goals): (&str, &[Goal])| Figure {
        goals: goals.to_vec(),
        ..times_as_long(points, what, "tasks", first..last)
    };
    let flat: &[Goal] = &[Goal::AtMost(FLAT)];
    [(ONE, flat), (SAME_LIST, flat), (WHOLE_LIST, &[])].map(figure).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster is filled up before the next one begins, over the steps too, and all together are what was wanted.
    #[test]
    fn clusters_are_filled_one_after_the_other() {
        let of = |had, wanted| shares(had, wanted).collect::<Vec<_>>();
        assert_eq!(of(0, 900), [(0, 0..900)]);
        assert_eq!(of(900, 9_900), [(0, 900..9_900)]);
        assert_eq!(of(9_900, 25_000), [(0, 9_900..10_000), (1, 0..10_000), (2, 0..5_000)]);
        assert_eq!(of(10_000, 20_000), [(1, 0..10_000)]);
        assert_eq!(of(5, 5), []);
        let steps = STEPS.map(|step| step - KEPT_TASKS);
        let added: usize = steps
            .iter()
            .zip([0].iter().chain(&steps))
            .flat_map(|(wanted, had)| shares(*had, *wanted))
            .map(|(_, range)| range.len())
            .sum();
        assert_eq!(added, STEPS[STEPS.len() - 1] - KEPT_TASKS);
    }

    /// Point reads and a list that stays the same are to be flat; a whole list is told without a goal.
    #[test]
    fn flat_is_asked_of_what_stays_the_same() {
        let point = |what, count, p50_ms| Point {
            what,
            side: Side::Ours,
            count,
            p50_ms,
        };
        let points = [
            point(ONE, 1_000, 0.4),
            point(ONE, 300_000, 0.5),
            point(SAME_LIST, 1_000, 1.0),
            point(SAME_LIST, 300_000, 2.0),
            point(WHOLE_LIST, 1_000, 0.01),
            point(WHOLE_LIST, 300_000, 0.01),
        ];
        let met: Vec<_> = figures(&points).iter().map(Figure::met).collect();
        assert_eq!(met, [Some(true), Some(false), None]);
    }
}
