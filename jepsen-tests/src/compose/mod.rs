//! The shipped `docker-compose.yml` under a project name of its own, on free ports, driven container by container. Dropping [`Compose`] removes
//! containers, volumes and networks of the project: after a failure, a Ctrl-C, a panic that unwinds. Where a panic aborts, nothing is dropped: a hook
//! must call [`remove_all`].

mod container;
mod network;
mod ports;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

pub use container::Container;

use crate::command::{self, CommandError};

/// The nodes' services.
pub const SERVICES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// How often a container is looked for that is being made anew.
const TRIES: usize = 3;
/// Seconds that a node gets to leave before it is killed: more than compose's own grace would hide a node that hangs.
const STOP_SECONDS_MAX: &str = "30";
/// How often a pause is tried, after how long again, and what Docker says where that helps.
const FREEZES: usize = 10;
const FREEZE_AGAIN: Duration = Duration::from_millis(200);
const NOT_FROZEN: &str = "unable to freeze";
/// The labels that Compose gives what it makes.
const PROJECT_LABEL: &str = "com.docker.compose.project";
const SERVICE_LABEL: &str = "com.docker.compose.service";
const VOLUME_LABEL: &str = "com.docker.compose.volume";
/// The label of containers that are not Compose's and live as long as one command: none outlives its project.
const HELPER_LABEL: &str = "blox.jepsen-tests.project";

/// The containers cannot be driven: no word about Blox.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Docker or Compose did not do as told.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// There should be exactly one.
    #[error("project {project} has {found} containers of {service}: expected one")]
    NoContainer {
        /// The project's name.
        project: String,
        /// Which.
        service: String,
        /// So many are there.
        found: usize,
    },
    /// An answer of Docker in another form.
    #[error("`docker inspect {id}` answers in an unknown form")]
    UnknownForm {
        /// The container.
        id: String,
    },
    /// Four are needed.
    #[error("too few free ports on loopback")]
    NoPorts,
    /// The environment file.
    #[error("cannot write {path}: {source}")]
    NotWritten {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What is run, and under which name.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything made carries it.
    pub project: String,
    /// The shipped file.
    pub file: PathBuf,
    /// Further compose files, in order.
    pub overrides: Vec<PathBuf>,
    /// The image of nodes and simulator.
    pub image: String,
    /// Where the environment file is written, so that a person can look into the run with the same names and ports.
    pub folder: PathBuf,
}

/// One cluster of containers.
pub struct Compose {
    options: Options,
    /// `docker-compose`, or `docker compose`.
    program: Vec<&'static str>,
    environment: Vec<(String, String)>,
    ports: Vec<u16>,
}

impl Compose {
    /// Chooses ports and starts everything; returns when the containers run, which is before the nodes are ready.
    pub async fn up(options: Options) -> Result<Compose, ComposeError> {
        let ports = ports::free(SERVICES.len() + 1);
        if ports.len() != SERVICES.len() + 1 {
            return Err(ComposeError::NoPorts);
        }
        let program = match command::run("docker", &["compose", "version"], &[]).await {
            Ok(_) => vec!["docker", "compose"],
            Err(_) => vec!["docker-compose"],
        };
        let names = ["BLOX_HTTP_1", "BLOX_HTTP_2", "BLOX_HTTP_3", "BLOX_SIMULATOR"];
        let mut environment: Vec<(String, String)> = names
            .iter()
            .zip(&ports)
            .map(|(name, port)| ((*name).to_owned(), port.to_string()))
            .collect();
        environment.push(("BLOX_IMAGE".to_owned(), options.image.clone()));
        let lines: String = environment
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let path = options.folder.join("compose.env");
        std::fs::write(&path, lines).map_err(|source| ComposeError::NotWritten { path, source })?;
        let compose = Compose {
            options,
            program,
            environment,
            ports,
        };
        compose.compose(&["up", "-d"]).await?;
        Ok(compose)
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.options.project
    }

    /// Where a node's users find it.
    pub fn node_url(&self, position: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[position])
    }

    /// Where the simulated ECS is found.
    pub fn simulator_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[SERVICES.len()])
    }

    /// The container of a service, as it is now.
    pub async fn container(&self, service: &str) -> Result<Container, ComposeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let ids = self.ids(service).await?;
            let [id] = ids.as_slice() else {
                return Err(ComposeError::NoContainer {
                    project: self.options.project.clone(),
                    service: service.to_owned(),
                    found: ids.len(),
                });
            };
            match self.inspect(id).await {
                // It may have been removed between the two questions.
                Err(ComposeError::Command(_)) if tries < TRIES => {}
                container => return container,
            }
        }
    }

    /// A container by its id, as it is now.
    pub async fn inspect(&self, id: &str) -> Result<Container, ComposeError> {
        let shown = self.shown(id).await?;
        Container::parse(&shown).ok_or_else(|| ComposeError::UnknownForm { id: id.to_owned() })
    }

    /// All that Docker knows of a container.
    pub async fn shown(&self, id: &str) -> Result<Value, ComposeError> {
        let shown = command::run("docker", &["inspect", id], &[]).await?;
        let mut shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let first = shown.get_mut(0).map(Value::take);
        first.ok_or_else(|| ComposeError::UnknownForm { id: id.to_owned() })
    }

    /// kill -9, all at once.
    pub async fn kill(&self, containers: &[&Container]) -> Result<(), ComposeError> {
        self.act(&["kill", "-s", "KILL"], containers).await
    }

    /// Starts what was killed or stopped.
    pub async fn start(&self, containers: &[&Container]) -> Result<(), ComposeError> {
        self.act(&["start"], containers).await
    }

    /// Every process stands still. Docker's runtime gives up on a container that does not do so at once, and lets it go on: it is told again.
    pub async fn pause(&self, container: &Container) -> Result<(), ComposeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.act(&["pause"], &[container]).await {
                Err(error) if tries < FREEZES && error.to_string().contains(NOT_FROZEN) => {
                    tokio::time::sleep(FREEZE_AGAIN).await;
                }
                done => return done,
            }
        }
    }

    /// They go on.
    pub async fn unpause(&self, container: &Container) -> Result<(), ComposeError> {
        self.act(&["unpause"], &[container]).await
    }

    /// SIGTERM; returns when the container has ended.
    pub async fn stop(&self, container: &Container) -> Result<(), ComposeError> {
        self.act(&["stop", "--time", STOP_SECONDS_MAX], &[container]).await
    }

    /// Kills and removes a container; its named volume stays.
    pub async fn remove(&self, container: &Container) -> Result<(), ComposeError> {
        self.act(&["rm", "--force"], &[container]).await
    }

    /// Makes the service's container anew, on its volume where that is still there.
    pub async fn create(&self, service: &str) -> Result<Container, ComposeError> {
        self.compose(&["up", "-d", "--no-deps", service]).await?;
        self.container(service).await
    }

    /// Removes a node's volume, whose container must be gone; what was there is lost.
    pub async fn remove_volume(&self, service: &str) -> Result<(), ComposeError> {
        for volume in self.volumes(service).await? {
            command::run("docker", &["volume", "rm", &volume], &[]).await?;
        }
        Ok(())
    }

    /// The names of a service's volumes.
    pub async fn volumes(&self, service: &str) -> Result<Vec<String>, ComposeError> {
        let (project, volume) = (self.label(PROJECT_LABEL), format!("label={VOLUME_LABEL}={service}"));
        let words = ["volume", "ls", "-q", "--filter", &project, "--filter", &volume];
        Ok(lines(&command::run("docker", &words, &[]).await?))
    }

    /// Runs `blox` inside a container.
    pub async fn blox(&self, container: &Container, words: &[&str]) -> Result<String, ComposeError> {
        let arguments: Vec<&str> = ["exec", &container.id, "/usr/local/bin/blox"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        Ok(command::run("docker", &arguments, &[]).await?)
    }

    /// Runs a script of the shell inside a container, as its own user or as another; what it says.
    pub async fn shell(
        &self,
        container: &Container,
        user: Option<&str>,
        script: &str,
        words: &[&str],
    ) -> Result<String, ComposeError> {
        let mut arguments = vec!["exec"];
        arguments.extend(user.into_iter().flat_map(|user| ["--user", user]));
        arguments.extend([container.id.as_str(), "sh", "-c", script, "sh"]);
        arguments.extend(words);
        Ok(command::run("docker", &arguments, &[]).await?)
    }

    /// What a container has said since it was made.
    pub async fn logs(&self, container: &Container) -> Result<Vec<u8>, ComposeError> {
        self.logs_since(container, SystemTime::UNIX_EPOCH).await
    }

    /// What it has said since then, by this machine's clock.
    pub async fn logs_since(&self, container: &Container, since: SystemTime) -> Result<Vec<u8>, ComposeError> {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let words = ["logs", "--timestamps", "--since", &since, &container.id];
        let output = command::succeeds("docker", &words, &[]).await?;
        Ok([output.stdout, output.stderr].concat())
    }

    async fn act(&self, words: &[&str], containers: &[&Container]) -> Result<(), ComposeError> {
        let ids = containers.iter().map(|container| container.id.as_str());
        let arguments: Vec<&str> = words.iter().copied().chain(ids).collect();
        command::run("docker", &arguments, &[]).await?;
        Ok(())
    }

    async fn compose(&self, words: &[&str]) -> Result<String, ComposeError> {
        let (file, project) = (self.options.file.display().to_string(), self.options.project.as_str());
        let overrides: Vec<String> = self
            .options
            .overrides
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let mut arguments: Vec<&str> = self.program[1..].to_vec();
        arguments.extend(["-p", project, "-f", &file]);
        arguments.extend(overrides.iter().flat_map(|path| ["-f", path.as_str()]));
        arguments.extend(words);
        Ok(command::run(self.program[0], &arguments, &self.environment).await?)
    }

    async fn ids(&self, service: &str) -> Result<Vec<String>, ComposeError> {
        let (project, service) = (self.label(PROJECT_LABEL), format!("label={SERVICE_LABEL}={service}"));
        let words = ["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service];
        Ok(lines(&command::run("docker", &words, &[]).await?))
    }

    /// What containers beside Compose's are labelled with: `docker run --label`.
    pub fn helper_label(&self) -> String {
        format!("{HELPER_LABEL}={}", self.options.project)
    }

    fn label(&self, label: &str) -> String {
        format!("label={label}={}", self.options.project)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        remove_all(&self.options.project);
    }
}

/// Removes a project's containers, volumes and networks. Waits: nothing of it is left when this returns, unless Docker itself fails, which is said.
pub fn remove_all(project: &str) {
    let of_project = format!("label={PROJECT_LABEL}={project}");
    let helpers = format!("label={HELPER_LABEL}={project}");
    let containers = ["rm", "--force", "--volumes"];
    for (list, filter, remove) in [
        (["ps", "-aq"].as_slice(), &helpers, containers.as_slice()),
        (&["ps", "-aq"], &of_project, &containers),
        (&["volume", "ls", "-q"], &of_project, &["volume", "rm", "--force"]),
        (&["network", "ls", "-q"], &of_project, &["network", "rm"]),
    ] {
        let found = docker(list, &["--filter".to_owned(), filter.clone()]).unwrap_or_default();
        let found = lines(&found);
        if !found.is_empty() && docker(remove, &found).is_none() {
            eprintln!(
                "cannot remove all of project {project}: docker {} {}",
                remove.join(" "),
                found.join(" ")
            );
        }
    }
}

/// All projects of which there is a container, a volume or a network on this machine, whoever made them.
pub fn projects() -> Vec<String> {
    let mut projects = Vec::new();
    for list in [["ps", "-a"].as_slice(), &["volume", "ls"], &["network", "ls"]] {
        let format = format!("{{{{.Label \"{PROJECT_LABEL}\"}}}}");
        let found = docker(list, &["--format".to_owned(), format]).unwrap_or_default();
        projects.extend(lines(&found));
    }
    projects.sort();
    projects.dedup();
    projects
}

/// For clean-up, where nothing may be awaited.
fn docker(words: &[&str], more: &[String]) -> Option<String> {
    let output = Command::new("docker")
        .args(words)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}
