//! `early-launch`, one of the zoo's bugs (see `blox_runtime::zoo`).

use blox_runtime::zoo::{Bug, carries};

use super::{IntendLaunches, Intended, LaunchOrder, Operation, chunks, intent};
use crate::executor::{Executed, Executor};

pub(super) fn launches_early() -> bool {
    carries(Bug::EarlyLaunch)
}

impl Executor {
    /// Calls ECS first; once it has answered, or will not, commits that the calls were to be made, and what became of them.
    pub(super) async fn launch_early(
        &self,
        order: &LaunchOrder,
        request_id: &str,
        intended: Vec<Intended>,
        deadline: u64,
    ) -> Executed {
        let intents = intended.iter().map(|launch| intent(order, launch, deadline)).collect();
        let calls = chunks(intended.into_iter());
        let results = futures::future::join_all(calls.iter().map(|call| self.start(order, call, deadline))).await;
        let operation = Operation::IntendLaunches(IntendLaunches { intents });
        let committed = self
            .commit(request_id, "instances whose task is started", operation)
            .await;
        let mut end = committed
            .map_err(|error| error.failed("commit launch intents"))?
            .revision;
        for results in results {
            end = end.max(self.record(request_id, results).await?);
        }
        Ok(end)
    }
}
