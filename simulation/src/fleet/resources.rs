//! Instances and tasks, and how ECS writes them: by Describe with epoch seconds, by event with ISO 8601.

use blox_ecs::StartTasks;
use blox_runtime::time::Instant;

use super::{CLUSTER, now_ms};
use crate::cluster::EPOCH_MS;

/// Where the wall stands at the beginning, as ISO 8601 up to the hour; a run is shorter than one.
const EPOCH_HOUR: &str = "2027-01-15T08";

/// A container instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// ECS's version.
    pub version: i64,
    /// ACTIVE, DRAINING or INACTIVE.
    pub status: &'static str,
    /// Whether ECS hears its agent.
    pub agent_connected: bool,
    /// Its one attribute.
    pub disk: &'static str,
    /// When it joined.
    pub joined: Instant,
    shown_before: Option<Before>,
}

/// What Describe showed until a change, which it may show for a while still.
#[derive(Clone, Debug)]
struct Before {
    document: String,
    until: Instant,
}

impl Before {
    fn if_younger_than(before: Option<&Before>, lag_ms: u64) -> Option<String> {
        before
            .filter(|before| super::age_ms(before.until) < lag_ms)
            .map(|before| before.document.clone())
    }
}

impl Instance {
    /// One that has just joined.
    pub fn new(disk: &'static str) -> Instance {
        Instance {
            version: 1,
            status: "ACTIVE",
            agent_connected: true,
            disk,
            joined: Instant::now(),
            shown_before: None,
        }
    }

    /// Whether tasks can be started there.
    pub fn takes_tasks(&self) -> bool {
        self.status == "ACTIVE" && self.agent_connected
    }

    /// It has changed; `before`: how it was described until now.
    pub fn changed(&mut self, before: String) {
        self.version += 1;
        self.shown_before = Some(Before {
            document: before,
            until: Instant::now(),
        });
    }

    /// As an element of a Describe answer.
    pub fn describe(&self, arn: &str) -> String {
        let Instance {
            version,
            status,
            agent_connected,
            disk,
            ..
        } = self;
        format!(
            r#"{{"containerInstanceArn":"{arn}","ec2InstanceId":"i-{}","status":"{status}","agentConnected":{agent_connected},"attributes":[{{"name":"disk","value":"{disk}"}}],"version":{version}}}"#,
            super::short(arn)
        )
    }

    /// As Describe shows it while it lags by so much.
    pub fn describe_lagging(&self, arn: &str, lag_ms: u64) -> String {
        Before::if_younger_than(self.shown_before.as_ref(), lag_ms).unwrap_or_else(|| self.describe(arn))
    }

    /// The event of its last change.
    pub fn event(&self, arn: &str) -> String {
        // An event alone names the cluster.
        let described = self.describe(arn);
        let detail = format!(r#"{{"clusterArn":"{CLUSTER}",{}"#, &described[1..]);
        event("ECS Container Instance State Change", arn, &detail)
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// Its containers are not up yet.
    Pending,
    /// They are.
    Running,
    /// It is over.
    Stopped,
}

impl TaskStatus {
    /// ECS's word.
    pub fn word(self) -> &'static str {
        match self {
            TaskStatus::Pending => "PENDING",
            TaskStatus::Running => "RUNNING",
            TaskStatus::Stopped => "STOPPED",
        }
    }
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// ECS's version.
    pub version: i64,
    /// Where.
    pub instance: String,
    /// What.
    pub definition: String,
    /// Whose.
    pub group: String,
    /// `startedBy`.
    pub started_by: String,
    /// How far it is.
    pub status: TaskStatus,
    /// `desiredStatus` is STOPPED.
    pub stop_desired: bool,
    /// When it was made.
    pub created: Instant,
    created_at_ms: i64,
    started_at_ms: Option<i64>,
    stopped: Option<(i64, &'static str)>,
    stopped_reason: String,
    shown_before: Option<Before>,
}

impl Task {
    /// One that was just asked for.
    pub fn new(instance: &str, start: &StartTasks) -> Task {
        Task {
            version: 1,
            instance: instance.to_owned(),
            definition: start.task_definition.clone(),
            group: start.group.clone(),
            started_by: start.started_by.clone(),
            status: TaskStatus::Pending,
            stop_desired: false,
            created: Instant::now(),
            created_at_ms: now_ms(),
            started_at_ms: None,
            stopped: None,
            stopped_reason: String::new(),
            shown_before: None,
        }
    }

    /// Whether it is not STOPPED.
    pub fn is_live(&self) -> bool {
        self.status != TaskStatus::Stopped
    }

    /// Its containers are up.
    pub fn run(&mut self) {
        self.status = TaskStatus::Running;
        self.started_at_ms = Some(now_ms());
    }

    /// Somebody asks for its end; whether that is news.
    pub fn ask_stop(&mut self, reason: &str) -> bool {
        let is_news = !self.stop_desired;
        if is_news {
            self.stop_desired = true;
            self.stopped_reason = reason.to_owned();
        }
        is_news
    }

    /// It is over; `code`: ECS's `stopCode`.
    pub fn stop(&mut self, code: &'static str, reason: &str) {
        self.status = TaskStatus::Stopped;
        self.stop_desired = true;
        self.stopped = Some((now_ms(), code));
        if self.stopped_reason.is_empty() {
            self.stopped_reason = reason.to_owned();
        }
    }

    /// It has changed; `before`: how it was described until now.
    pub fn changed(&mut self, before: String) {
        self.version += 1;
        self.shown_before = Some(Before {
            document: before,
            until: Instant::now(),
        });
    }

    /// As an element of an answer.
    pub fn describe(&self, arn: &str) -> String {
        self.write(arn, |at_ms| format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000))
    }

    /// As Describe shows it while it lags by so much.
    pub fn describe_lagging(&self, arn: &str, lag_ms: u64) -> String {
        Before::if_younger_than(self.shown_before.as_ref(), lag_ms).unwrap_or_else(|| self.describe(arn))
    }

    /// The event of its last change.
    pub fn event(&self, arn: &str) -> String {
        let detail = self.write(arn, |at_ms| format!("\"{}\"", iso(at_ms)));
        event("ECS Task State Change", arn, &detail)
    }

    fn write(&self, arn: &str, time: impl Fn(i64) -> String) -> String {
        let mut text = format!(
            r#"{{"taskArn":"{arn}","clusterArn":"{CLUSTER}","containerInstanceArn":"{}","taskDefinitionArn":"{}","group":"{}","startedBy":"{}","lastStatus":"{}","desiredStatus":"{}","createdAt":{},"version":{}"#,
            self.instance,
            self.definition,
            self.group,
            self.started_by,
            self.status.word(),
            if self.stop_desired { "STOPPED" } else { "RUNNING" },
            time(self.created_at_ms),
            self.version,
        );
        if let Some(at_ms) = self.started_at_ms {
            text += &format!(r#","startedAt":{}"#, time(at_ms));
        }
        if !self.stopped_reason.is_empty() {
            text += &format!(r#","stoppedReason":"{}""#, self.stopped_reason);
        }
        if let Some((at_ms, code)) = self.stopped {
            text += &format!(r#","stoppedAt":{},"stopCode":"{code}""#, time(at_ms));
        }
        text + "}"
    }
}

fn event(detail_type: &str, arn: &str, detail: &str) -> String {
    let time = iso(now_ms());
    format!(
        r#"{{"version":"0","id":"e","detail-type":"{detail_type}","source":"aws.ecs","account":"123456789012","time":"{time}","region":"us-east-1","resources":["{arn}"],"detail":{detail}}}"#
    )
}

fn iso(at_ms: i64) -> String {
    let since_ms = at_ms - EPOCH_MS;
    let (minutes, seconds) = (since_ms / 60_000, since_ms / 1_000 % 60);
    assert!((0..60).contains(&minutes), "a run is shorter than an hour");
    format!("{EPOCH_HOUR}:{minutes:02}:{seconds:02}.{:03}Z", since_ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hour that events begin with is that of the simulated wall.
    #[test]
    fn times_agree() {
        let beginning = std::time::UNIX_EPOCH + std::time::Duration::from_millis(EPOCH_MS.unsigned_abs());
        let hours = beginning
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after")
            .as_secs()
            / 3_600;
        // 2027-01-15 is day 20,833 of the epoch.
        assert_eq!(hours, 20_833 * 24 + 8);
        assert_eq!(iso(EPOCH_MS + 61_007), "2027-01-15T08:01:01.007Z");
    }
}
