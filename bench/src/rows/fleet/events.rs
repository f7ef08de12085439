//! Events: how many a second come into the state, and how soon one is on a stream.

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Fleet, Speed, cluster};
use crate::client::HttpClient;
use crate::figure::{Figure, Goal};
use crate::load::{latencies, note};
use crate::rows::simulated::{LOOK, PATIENCE, contains, late, until};
use crate::rows::{RowError, add, say};
use crate::server::Side;

/// Blox 0.3.0 with 10,000 tasks, events a second: the middle of what was seen.
const EVENTS_THERE: f64 = 342.0;
/// From an event's sending to its line, its median and its 99th percentile there, milliseconds.
const STREAM_P50_MS_THERE: f64 = 4.5;
const STREAM_P99_MS_THERE: f64 = 9.8;
/// Events of a flood.
const FLOOD: u64 = 100_000;
/// Events one by one, for the latency of a stream: ten of them are above its 99th percentile.
const SINGLE_EVENTS: usize = 1_000;

impl Fleet {
    /// From the first event sent to the last one applied, on three nodes.
    pub(super) async fn floods(&self, rounds: usize) -> Result<Figure, RowError> {
        let name = "events from queue to the state of three nodes";
        let mut rate = self.compared(name, "1/s", EVENTS_THERE, Speed::Rate);
        rate.goals = vec![Goal::TimesPeerAtLeast(20.0)];
        let server = &self.ecs.server;
        for _ in 0..rounds {
            server.until_quiet().await?;
            let leader = server.leader().await?;
            // A message that came twice is one event.
            let handled = async || server.metric_sum(leader, "blox_events_total", "duplicate").await;
            let before = timeout(PATIENCE, handled()).await;
            let before = before.map_err(|_| late("the leader's metrics", "no answer".to_owned()))??;
            let began = Instant::now();
            let flood = json!({"cluster": cluster(0), "events": FLOOD, "kind": "tasks"});
            let handled = &handled;
            let arrived = until("every event of a flood", LOOK, || async move {
                match handled().await.map_err(|error| error.to_string())? - before {
                    all if all >= FLOOD => Ok(()),
                    some => Err(format!("{some} of {FLOOD}")),
                }
            });
            tokio::try_join!(self.ecs.control("flood", &flood), arrived)?;
            self.ecs.until_everywhere(leader).await?;
            let per_second = FLOOD as f64 / began.elapsed().as_secs_f64();
            say(&format!(
                "  {:<44} blox {per_second:>9.0}/s",
                "events from queue to three states"
            ));
            add(&mut rate, Side::Ours, per_second);
        }
        Ok(rate)
    }

    /// From an event's sending to its line on a stream of a node that does not lead.
    pub(super) async fn stream(&self) -> Result<[Figure; 2], RowError> {
        let leader = self.ecs.server.leader().await?;
        let addresses = self.ecs.server.addresses();
        let begin = async {
            let client = HttpClient::connect(&addresses[(leader + 1) % addresses.len()]).await?;
            let mut stream = client.stream("/v2/watch?kinds=task").await?;
            // A bookmark: it watches.
            stream.lines().await?;
            Ok::<_, RowError>(stream)
        };
        let begun = timeout(PATIENCE, begin).await;
        let mut stream = begun.map_err(|_| late("the beginning of a stream", "nothing".to_owned()))??;
        let mut control = self.ecs.control_client().await?;
        let event = json!({"cluster": cluster(0), "events": 1, "kind": "tasks"});
        let mut latency = latencies();
        for number in 0..SINGLE_EVENTS {
            let began = Instant::now();
            let sent = async { Ok(control.post("/control/flood", &event).await?) };
            let came = async {
                // What reconcile adds and bookmarks are no events.
                while !contains(&stream.lines().await?, r#""actor":"feed""#) {}
                Ok::<_, RowError>(began.elapsed())
            };
            let both = timeout(PATIENCE, async { tokio::try_join!(sent, came) }).await;
            let (_, took) = both.map_err(|_| late("an event on a stream", format!("{number} before")))??;
            note(&mut latency, took);
        }
        let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
        say(&format!(
            "  {:<44} blox p50 {:>8.2} ms  p99 {:>8.2} ms",
            "event to line on a stream",
            ms(0.5),
            ms(0.99)
        ));
        let figure = |what: &str, there: f64, here: f64| {
            let name = format!("event to line on a stream: {what}");
            let mut figure = self.compared(&name, "ms", there, Speed::Time);
            add(&mut figure, Side::Ours, here);
            figure
        };
        Ok([
            figure("p50", STREAM_P50_MS_THERE, ms(0.5)),
            figure("p99", STREAM_P99_MS_THERE, ms(0.99)),
        ])
    }
}
