//! Lists and reads of tasks, by one client and by many, and what the nodes hold in memory meanwhile.

use std::rc::Rc;

use rand::Rng;
use rand::rngs::SmallRng;

use super::{Fleet, Speed, cluster};
use crate::client::LeanHttpClient;
use crate::figure::{Figure, Goal};
use crate::load::{Times, Window, drive};
use crate::rows::{RowError, Settings, add, say};
use crate::server::Side;

/// Blox 0.3.0 with 10,000 tasks: the middle of what was seen. Answers a second where there are 16 clients, milliseconds where there is one.
const GET_16_THERE: f64 = 1_830.0;
const LIST_MS_THERE: f64 = 410.0;
const LIST_16_THERE: f64 = 6.0;
const STOPPED_MS_THERE: f64 = 366.0;
const CLUSTER_MS_THERE: f64 = 41.5;
const CLUSTER_16_THERE: f64 = 38.5;
/// Clients of the rows with many.
const CLIENTS: usize = 16;
/// While many clients list everything, a node takes at most so much more, MB.
const MORE_MB_MAX: f64 = 100.0;

/// What is asked, and by how many: one client is asked for its median, many for how much they get.
struct Row {
    name: &'static str,
    clients: usize,
    /// Of Blox 0.3 on another machine.
    there: f64,
    goals: &'static [Goal],
}

const GET: Row = Row {
    name: "GET one task, 16 clients",
    clients: CLIENTS,
    there: GET_16_THERE,
    goals: &[Goal::TimesPeerAtLeast(10.0)],
};
const LIST: Row = Row {
    name: "GET /v1/tasks, 10,000 tasks, 1 client: p50",
    clients: 1,
    there: LIST_MS_THERE,
    goals: &[Goal::TimesPeerAtMost(0.05)],
};
const STOPPED: Row = Row {
    name: "GET /v1/tasks?status=stopped, 1 client: p50",
    clients: 1,
    there: STOPPED_MS_THERE,
    goals: &[],
};
const OF_CLUSTER: Row = Row {
    name: "GET /v1/tasks?cluster=, a tenth, 1 client: p50",
    clients: 1,
    there: CLUSTER_MS_THERE,
    goals: &[],
};
const OF_CLUSTER_16: Row = Row {
    name: "GET /v1/tasks?cluster=, a tenth, 16 clients",
    clients: CLIENTS,
    there: CLUSTER_16_THERE,
    goals: &[],
};
const LIST_16: Row = Row {
    name: "GET /v1/tasks, 10,000 tasks, 16 clients",
    clients: CLIENTS,
    there: LIST_16_THERE,
    goals: &[],
};

impl Fleet {
    /// All of them; `idle` is what each node held when it had nothing, bytes.
    pub(super) async fn reads(&self, settings: &Settings, idle: &[u64]) -> Result<Vec<Figure>, RowError> {
        let tasks: Rc<[(String, String)]> = self.tasks.as_slice().into();
        let any = move |random: &mut SmallRng| {
            let (cluster, arn) = &tasks[random.random_range(0..tasks.len())];
            format!("/v1/tasks/{cluster}/{arn}")
        };
        let mut figures = vec![self.row(settings, &GET, any).await?];
        let tenth = format!("/v1/tasks?cluster={}", cluster(0));
        for (row, path) in [
            (LIST, "/v1/tasks"),
            (STOPPED, "/v1/tasks?status=stopped"),
            (OF_CLUSTER, &tenth),
            (OF_CLUSTER_16, &tenth),
        ] {
            let path = path.to_owned();
            figures.push(self.row(settings, &row, move |_| path.clone()).await?);
        }
        figures.extend(self.crowd(settings, idle).await?);
        Ok(figures)
    }

    /// Many clients that list everything: how much they get, and what that takes in memory.
    async fn crowd(&self, settings: &Settings, idle: &[u64]) -> Result<[Figure; 3], RowError> {
        let server = &self.ecs.server;
        let before = server.memory()?;
        server.forget_memory_peak()?;
        let rate = self.row(settings, &LIST_16, |_| "/v1/tasks".to_owned()).await?;
        let peak = server.memory_peak()?;
        let above = |what: &str, since: &[u64], goals: &[Goal]| {
            let name = format!("memory while 16 clients list, above {what}");
            let mut figure = Figure::new(name, "MB");
            figure.goals = goals.to_vec();
            add(&mut figure, Side::Ours, most_grown_mb(since, &peak));
            shown(&figure, "");
            figure
        };
        Ok([
            rate,
            above("before", &before, &[Goal::AtMost(MORE_MB_MAX)]),
            above("a node with nothing", idle, &[]),
        ])
    }

    /// Measures a row; each request asks for a path of its client's choice.
    async fn row(
        &self,
        settings: &Settings,
        row: &Row,
        path: impl Fn(&mut SmallRng) -> String + Clone + 'static,
    ) -> Result<Figure, RowError> {
        let window = self.drive(settings, row.clients, path).await?;
        let (unit, speed, value) = match row.clients {
            1 => ("ms", Speed::Time, window.milliseconds(50.0)),
            _ => ("1/s", Speed::Rate, window.per_second()),
        };
        let mut figure = self.compared(row.name, unit, row.there, speed);
        figure.goals = row.goals.to_vec();
        add(&mut figure, Side::Ours, value);
        shown(&figure, &format!(", {} answers", window.operations));
        Ok(figure)
    }

    /// So many clients over all nodes, again and again.
    async fn drive(
        &self,
        settings: &Settings,
        clients: usize,
        path: impl Fn(&mut SmallRng) -> String + Clone + 'static,
    ) -> Result<Window, RowError> {
        let server = &self.ecs.server;
        let addresses = server.addresses();
        let mut all = Vec::with_capacity(clients);
        for number in 0..clients {
            all.push(LeanHttpClient::connect(&addresses[number % addresses.len()]).await?);
        }
        let times = Times {
            counts: settings.times.counts * u32::try_from(settings.rounds).unwrap_or(1),
            ..settings.times
        };
        let ask =
            async move |client: &mut LeanHttpClient, random: &mut SmallRng| client.count(&path(random)).await.map(drop);
        Ok(drive(server, all, times, settings.seed, ask).await?)
    }
}

/// A line while it runs.
fn shown(figure: &Figure, more: &str) {
    let value = figure.our_median().unwrap_or(f64::NAN);
    say(&format!(
        "  {:<44} blox {value:>9.2} {}{more}",
        figure.name, figure.unit
    ));
}

/// Of the node that grew most.
fn most_grown_mb(since: &[u64], peak: &[u64]) -> f64 {
    let grown = peak.iter().zip(since).map(|(peak, since)| peak.saturating_sub(*since));
    grown.max().unwrap_or(0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node that grew most counts, not the one that is largest.
    #[test]
    fn growth_is_of_one_node() {
        let (since, peak) = ([90_000_000, 10_000_000], [91_000_000, 15_000_000]);
        assert_eq!(most_grown_mb(&since, &peak), 5.0);
        assert_eq!(most_grown_mb(&peak, &since), 0.0);
    }
}
