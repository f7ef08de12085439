//! Where the commands of a document are said: a real cluster of three, on which the names of the documents are put.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::script::{Step, is_printed, steps};
use crate::harness::{Cluster, Process, REGION, SimulatorProcess, seeded};

/// How long a command may take on a busy machine.
const COMMAND: Duration = Duration::from_secs(100);

/// Three nodes that look after a simulated ECS with one cluster, `alpha`, and a task definition `agent`.
pub struct Machines {
    cluster: Cluster,
    /// Where commands are said from: nothing of a user's own is near.
    place: TempDir,
    _simulator: SimulatorProcess,
}

impl Machines {
    pub async fn start() -> Machines {
        let (seed, _) = seeded();
        let directory = Cluster::directory();
        let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
        simulator.cluster(REGION, "alpha", 3).await;
        simulator.definition(REGION, "agent").await;
        let source = SimulatorProcess::source("main", REGION);
        let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
        cluster.reconciled().await;
        let place = Cluster::directory();
        for folder in ["bin", "backups"] {
            std::fs::create_dir(place.path().join(folder)).expect("the test's directory can be written");
        }
        symlink(Process::program(), place.path().join("bin/blox")).expect("the test's directory can be written");
        Machines {
            cluster,
            place,
            _simulator: simulator,
        }
    }

    /// Says every command of a document, one after another.
    pub async fn follow(&mut self, path: &str, document: &str) {
        let steps = steps(document);
        assert!(!steps.is_empty(), "{path} has no commands");
        for step in &steps {
            let about = format!("{path}:{}: {}", step.line, step.command);
            println!("{about}");
            if !self.serve(step).await {
                self.say(&about, step).await;
            }
        }
    }

    /// What the service manager is asked for is done to the process itself.
    async fn serve(&mut self, step: &Step) -> bool {
        let node = &mut self.cluster.nodes[step.host];
        match step.command.as_str() {
            "systemctl start blox" => node.start(),
            "systemctl stop blox" => node.stop().await,
            "systemctl restart blox" => {
                node.stop().await;
                node.start();
            }
            // The unit has it started again.
            "systemctl kill -s KILL blox" => {
                node.kill().await;
                node.start();
            }
            _ => return false,
        }
        true
    }

    async fn say(&self, about: &str, step: &Step) {
        let command = self.here(&step.command, step.host);
        for there in ["/var/lib/blox", "/etc/blox", "node-", "10.0.0."] {
            assert!(
                !command.contains(there),
                "{about}: {there} is not of this test: {command}"
            );
        }
        let url = self.cluster.nodes[step.host].url();
        let path = std::env::var("PATH").unwrap_or_default();
        let running = Command::new("bash")
            .args(["-c", &format!("set -u; exec 2>&1; {command}")])
            .env_clear()
            .env("PATH", format!("{}:{path}", self.place.path().join("bin").display()))
            .env("BLOX_ENDPOINT", &url)
            .env("BLOX_HEALTH_URL", format!("{url}/readyz"))
            .current_dir(self.place.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND, running)
            .await
            .unwrap_or_else(|_| panic!("{about}: not done within {COMMAND:?}: {command}"))
            .expect("bash can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{about}: {}\n{text}", output.status);
        let promised: Vec<String> = step.printed.iter().map(|line| self.here(line, step.host)).collect();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            promised.is_empty() || is_printed(&promised, &lines),
            "{about}: it says\n{text}\nand was to say\n{}",
            promised.join("\n")
        );
    }

    /// A line with the addresses, files and names of this cluster in the place of the document's.
    fn here(&self, line: &str, host: usize) -> String {
        let nodes = &self.cluster.nodes;
        let mut here = line.to_owned();
        let mut put = |what: String, by: String| here = here.replace(&what, &by);
        put("127.0.0.1:2000".to_owned(), nodes[host].http.address());
        for (position, node) in nodes.iter().enumerate() {
            let number = position + 1;
            put(format!("127.0.0.1:200{number}"), node.http.address());
            put(format!("node-{number}:2000"), node.http.address());
        }
        let own: PathBuf = nodes[host].directory().join(format!("{}.toml", nodes[host].name));
        put("/etc/blox/node.toml".to_owned(), own.display().to_string());
        put("/var/lib/blox".to_owned(), nodes[host].data().display().to_string());
        put(
            "/backups".to_owned(),
            self.place.path().join("backups").display().to_string(),
        );
        for (position, node) in nodes.iter().enumerate() {
            put(format!("node-{}", position + 1), node.name.clone());
        }
        here
    }
}
