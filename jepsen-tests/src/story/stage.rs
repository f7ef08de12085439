//! The cluster, its clients and what watches them.

use std::sync::Arc;
use std::time::Duration;

use super::{Plan, StoryError, logs, project, verify};
use crate::client::{self, Client, Node};
use crate::clock::Clock;
use crate::compose::{Compose, Container, Options, SERVICES};
use crate::confinement;
use crate::history::Recorder;
use crate::load::Written;
use crate::observe::{Leader, Lookout, Observer, eventually};
use crate::own_scheduler::{Own, Site};
use crate::screen::Screen;
use crate::simulator::Simulator;

/// How long the cluster may take to be whole again, whatever was done to it.
const WHOLE: Duration = Duration::from_secs(60);
/// How long Docker may take to show what it was told to do.
const EFFECT: Duration = Duration::from_secs(10);

/// Everything that lasts over all rounds.
pub(super) struct Stage {
    /// Ends before what it talks to.
    pub(super) own: Own,
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
    /// Promises that were seen broken before the first round.
    violations: Vec<String>,
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
            project: project(),
            file: plan.compose_file.clone(),
            overrides: plan.overrides.clone(),
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
        let client = Client::with_deadline(Some(client::ATTEMPT * plan.patience))?;
        let simulator = Simulator::new(compose.simulator_url())?;
        let own = Own::begin(Site {
            script: plan.own_scheduler.clone(),
            nodes: Arc::clone(&nodes),
            client: client.clone(),
            simulator: simulator.clone(),
            folder: plan.folder.clone(),
            seed: plan.seed,
            patience: plan.patience,
        })
        .await?;
        match &own {
            Own::Runs(_) => screen.say("the example scheduler runs beside them: two processes, all copies"),
            Own::LeftOut(why) => screen.say(&format!("SKIPPED the example scheduler: {why}")),
        }
        let mut stage = Stage {
            lookout: Lookout::begin(&observer, clock),
            streaming: Client::with_deadline(None)?,
            recorder: Arc::new(recorder),
            plan: plan.clone(),
            written: Vec::new(),
            panics: Vec::new(),
            violations: Vec::new(),
            own,
            simulator,
            client,
            compose,
            nodes,
            observer,
            screen,
            clock,
            whole,
        };
        for position in 0..stage.nodes.len() {
            let freedoms = stage.freedoms(position).await?;
            stage.violations.extend(freedoms);
        }
        if stage.violations.is_empty() {
            screen.say("each container: healthy, user 65532, no capability, no new privileges, nothing to be written but its volume");
        }
        Ok(stage)
    }

    /// What a node's container can do although it must not, or is not: sentences. Waits until Docker calls it healthy.
    pub(super) async fn freedoms(&self, position: usize) -> Result<Vec<String>, StoryError> {
        let container = self.container(position).await?;
        let healthy = eventually("a healthy container", self.whole, || async {
            let shown = self
                .compose
                .shown(&container.id)
                .await
                .map_err(|error| error.to_string())?;
            match confinement::health(&shown) {
                Some("healthy") => Ok(shown),
                Some(health) => Err(format!("Docker calls it {health}")),
                None => Err("Docker does not check its health".to_owned()),
            }
        });
        let (shown, mut found) = match healthy.await {
            Ok(shown) => (shown, Vec::new()),
            Err(late) => (self.compose.shown(&container.id).await?, vec![late.to_string()]),
        };
        found.extend(confinement::of_configuration(&shown));
        let shell = |user, script, words| self.compose.shell(&container, user, script, words);
        found.extend(confinement::of_process(
            &shell(None, confinement::ASK_KERNEL, &[]).await?,
        ));
        let (data, elsewhere) = (&[confinement::DATA][..], &confinement::ELSEWHERE[..]);
        let all = [data, elsewhere].concat();
        let tried = shell(None, confinement::TRY_TO_WRITE, &all).await?;
        found.extend(confinement::of_attempts("its user", &tried, data, elsewhere));
        // Whom no permission of a file stops: only the read-only file system does.
        let tried = shell(Some("0"), confinement::TRY_TO_WRITE, elsewhere).await?;
        found.extend(confinement::of_attempts("root", &tried, &[], elsewhere));
        let name = self.name(position);
        Ok(found
            .into_iter()
            .map(|sentence| format!("{name}'s container: {sentence}"))
            .collect())
    }

    /// Promises that were seen broken before the first round, told once.
    pub(super) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
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
