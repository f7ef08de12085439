//! The cluster, its clients and what watches them.

use std::sync::Arc;
use std::time::Duration;

use super::{Plan, StoryError, logs, verify};
use crate::client::{Client, Node};
use crate::clock::Clock;
use crate::compose::{Compose, Container, Options, SERVICES};
use crate::history::Recorder;
use crate::load::Written;
use crate::observe::{Leader, Lookout, Observer, eventually};
use crate::screen::Screen;
use crate::simulator::Simulator;

/// How long the cluster may take to be whole again, whatever was done to it.
const WHOLE: Duration = Duration::from_secs(60);
/// How long Docker may take to show what it was told to do.
const EFFECT: Duration = Duration::from_secs(10);

/// Everything that lasts over all rounds.
pub(super) struct Stage {
    pub(super) compose: Compose,
    pub(super) nodes: Arc<Vec<Node>>,
    pub(super) client: Client,
    pub(super) streaming: Client,
    pub(super) simulator: Simulator,
    pub(super) observer: Observer,
    pub(super) lookout: Lookout,
    pub(super) recorder: Arc<Recorder>,
    pub(super) screen: Screen,
    pub(super) clock: Clock,
    /// How long to wait for the cluster to be whole.
    pub(super) whole: Duration,
    plan: Plan,
    /// Acknowledged in the rounds that are over.
    written: Vec<Written>,
    /// What containers that are gone had said wrong.
    panics: Vec<String>,
}

impl Stage {
    /// Starts the containers and waits until every node is ready and has seen the whole fleet.
    pub(super) async fn set_up(plan: &Plan, clock: Clock, screen: Screen) -> Result<Stage, StoryError> {
        let path = plan.folder.join("history.jsonl");
        let names = SERVICES.map(str::to_owned).to_vec();
        let recorder =
            Recorder::create(&path, clock, names).map_err(|source| StoryError::NotWritten { path, source })?;
        screen.say("three nodes and the simulator start in containers");
        let compose = Compose::up(Options {
            project: format!("blox-failover-{}", std::process::id()),
            file: plan.compose_file.clone(),
            overrides: Vec::new(),
            image: plan.image.clone(),
            folder: plan.folder.clone(),
        })
        .await?;
        let node = |(position, name): (usize, &&str)| Node {
            name: (*name).to_owned(),
            url: compose.node_url(position),
        };
        let nodes = Arc::new(SERVICES.iter().enumerate().map(node).collect::<Vec<_>>());
        let observer = Observer::new(Arc::clone(&nodes))?;
        let whole = WHOLE * plan.patience;
        let leader = observer.settled(whole).await?;
        let urls: Vec<&str> = nodes.iter().map(|node| node.url.as_str()).collect();
        screen.say(&format!("project {}: {}", compose.project(), urls.join(", ")));
        screen.say(&format!(
            "{} leads in term {}",
            nodes[leader.position].name, leader.term
        ));
        Ok(Stage {
            simulator: Simulator::new(compose.simulator_url())?,
            lookout: Lookout::begin(&observer, clock),
            client: Client::new()?,
            streaming: Client::with_deadline(None)?,
            recorder: Arc::new(recorder),
            plan: plan.clone(),
            written: Vec::new(),
            panics: Vec::new(),
            compose,
            nodes,
            observer,
            screen,
            clock,
            whole,
        })
    }

    /// All nodes ready, under one leader.
    pub(super) async fn settled(&self) -> Result<Leader, StoryError> {
        Ok(self.observer.settled(self.whole).await?)
    }

    /// Somebody leads in a later term.
    pub(super) async fn another_leader(&self, before: Leader) -> Result<Leader, StoryError> {
        Ok(self.observer.another_leader(before, self.whole).await?)
    }

    pub(super) fn name(&self, position: usize) -> &str {
        &self.nodes[position].name
    }

    /// A node's container as it is now.
    pub(super) async fn container(&self, position: usize) -> Result<Container, StoryError> {
        Ok(self.compose.container(self.name(position)).await?)
    }

    /// A container once it is in this state; an error where it does not come to it.
    pub(super) async fn in_state(&self, container: &Container, status: &str) -> Result<Container, StoryError> {
        let reached = eventually("a container's state", EFFECT, || async {
            let now = self
                .compose
                .inspect(&container.id)
                .await
                .map_err(|error| error.to_string())?;
            if now.status == status {
                Ok(now)
            } else {
                Err(format!("it is {}", now.status))
            }
        });
        reached.await.map_err(|late| StoryError::NoEffect {
            what: format!("container {} to be {status}", container.short_id()),
            seen: late.last,
        })
    }

    /// Keeps what a container has said; its words are gone with it.
    pub(super) async fn keep_log(&mut self, position: usize) -> Result<(), StoryError> {
        let container = self.container(position).await?;
        let said = self.compose.logs(&container).await?;
        let name = self.nodes[position].name.clone();
        let panics = logs::keep(&self.plan.folder, &format!("{name}-{}", container.short_id()), &said)?;
        self.panics.extend(panics);
        Ok(())
    }

    /// Keeps what all containers have said; every panic is a broken promise.
    pub(super) async fn keep_logs(&mut self) -> Result<Vec<String>, StoryError> {
        for position in 0..self.nodes.len() {
            self.keep_log(position).await?;
        }
        Ok(std::mem::take(&mut self.panics))
    }

    /// Remembers what a round has written.
    pub(super) fn remember(&mut self, written: Vec<Written>) {
        self.written.extend(written);
    }

    /// What all rounds have written is still there; sentences where not.
    pub(super) async fn verify_all_again(&self) -> Result<Vec<String>, StoryError> {
        let lost = verify::lost(self, "failover/", &self.written).await?;
        self.screen.say(&format!(
            "{} writes of all rounds read back, {} of them lost",
            self.written.len(),
            lost.len()
        ));
        Ok(lost.into_iter().map(|lost| lost.why).collect())
    }
}
