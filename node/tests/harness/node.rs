//! One node of a test's cluster.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use reqwest::Method;

use super::{Client, Port, Process};

/// Heartbeat and election times that leave room on a machine that does other work too.
const SLOWER_TIMING: &str = "[timing]\nheartbeat = \"100ms\"\nelection_min = \"500ms\"\nelection_max = \"1s\"\n";

/// A node's place: its ports and directory stay the same over kills and restarts.
pub struct Node {
    pub name: String,
    pub http: Port,
    peer: Port,
    /// Where its crash points are set.
    failpoints: Port,
    file: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// What a node is configured with besides its own place.
pub struct NodeOptions<'a> {
    pub members: &'a str,
    pub sources: &'a str,
    pub environment: &'a [(String, String)],
    /// More TOML, sections of its own. With a `[timing]` in it, that holds instead of the slower times for busy machines.
    pub more: &'a str,
}

impl Node {
    /// Writes its configuration; it does not run yet.
    pub fn prepare(name: &str, http: Port, peer: Port, directory: &Path, options: &NodeOptions<'_>) -> Node {
        let file = directory.join(format!("{name}.toml"));
        let data = directory.join(name);
        // Off loopback it must be said; a network of the test's own is no stranger's.
        let insecure = if http.is_loopback() { "" } else { "insecure = true\n" };
        let timing = if options.more.contains("[timing]") {
            ""
        } else {
            SLOWER_TIMING
        };
        let text = format!(
            "{insecure}name = {name:?}\ndata_directory = {data:?}\n{members}\n{sources}\n[http]\nlisten = {http:?}\n[peer]\nlisten = {peer:?}\n\
             {timing}[log]\nformat = \"json\"\n{more}\n",
            members = options.members,
            sources = options.sources,
            more = options.more,
            http = http.address(),
            peer = peer.address(),
        );
        std::fs::write(&file, text).expect("the test's directory can be written");
        let failpoints = Port::take();
        let mut environment = options.environment.to_vec();
        environment.push(("BLOX_FAILPOINTS_LISTEN".to_owned(), failpoints.address()));
        Node {
            name: name.to_owned(),
            http,
            peer,
            file,
            directory: directory.to_owned(),
            environment,
            failpoints,
            process: None,
        }
    }

    /// Starts it (again).
    pub fn start(&mut self) {
        self.start_as(&[], &[]);
    }

    /// As [`Node::start`], with crash points set from the first moment: `name=action;name=action`.
    pub fn start_with_failpoints(&mut self, points: &str) {
        self.start_as(&[("FAILPOINTS", points)], &[]);
    }

    /// As [`Node::start`], with more environment, and as the last arguments of another program (a tracer) where one is given.
    pub fn start_as(&mut self, environment: &[(&str, &str)], under: &[String]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        // In its network namespace, if it has one: `ip` becomes the program, the pid is its own.
        let place = self
            .http
            .namespace()
            .map(|namespace| ["ip", "netns", "exec", namespace].map(str::to_owned));
        let place = place.into_iter().flatten();
        let blox = Process::program().display().to_string();
        let own = [
            "node",
            "--config",
            &self.file.display().to_string(),
            "--exit-on-stdin-close",
        ]
        .map(str::to_owned);
        let words: Vec<String> = under.iter().cloned().chain(place).chain([blox]).chain(own).collect();
        let mut all = self.environment.clone();
        all.extend(
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let (program, arguments) = words.split_first().expect("a program at least");
        self.process = Some(Process::start(
            &self.name,
            Path::new(program),
            arguments,
            &all,
            &self.directory,
        ));
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    fn process(&mut self) -> &mut Process {
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.process().kill().await;
        self.process = None;
    }

    /// Sends a signal, without waiting.
    pub fn signal(&mut self, signal: Signal) {
        self.process().signal(signal);
    }

    /// SIGTERM, and waits for the graceful stop: exit code 0 is part of the promise.
    pub async fn stop(&mut self) {
        self.process().terminate();
        let status = self.process().ended().await;
        let words = self.process().last_words();
        self.process = None;
        assert!(status.success(), "{} ended with {status}:\n{words}", self.name);
    }

    /// Everything it wrote, running or not.
    pub fn words(&self) -> String {
        std::fs::read_to_string(self.directory.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.process().pause();
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process().resume();
    }

    /// One more variable from its next start on: a key of its own, as in BLOX_SNAPSHOT_KEEP_ENTRIES.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Waits until it has ended by itself, not well: at a crash point, or for want of a disk.
    pub async fn ended_by_itself(&mut self) -> ExitStatus {
        let status = self.process().ended().await;
        self.process = None;
        assert!(!status.success(), "{} ended well", self.name);
        status
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process().has_ended()
    }

    /// Its process.
    pub fn pid(&mut self) -> u32 {
        self.process().pid()
    }

    /// Where its configuration, its log and the folder of its data, named after it, are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// `127.0.0.1:PORT`, where peers reach it.
    pub fn peer_address(&self) -> String {
        self.peer.address()
    }

    /// Sets a crash point (`panic`, `return`, `1*sleep(200)->off`, ...: the syntax of the crate `fail`) while it runs.
    pub async fn set_failpoint(&self, name: &str, action: &str) {
        let url = format!("http://{}/{name}", self.failpoints.address());
        let answer = Client::new()
            .ask(Method::PUT, &url, &[], Some(action.as_bytes().to_vec()))
            .await
            .unwrap_or_else(|error| panic!("no crash points here (build with --features failpoints): {error}"));
        assert!(answer.is_success(), "{url}: {}", answer.text());
    }

    /// Forgets what was set.
    pub async fn remove_failpoint(&self, name: &str) {
        assert!(
            self.try_remove_failpoint(name).await,
            "{} does not forget {name}",
            self.name
        );
    }

    /// As [`Node::remove_failpoint`]; whether it still ran.
    pub async fn try_remove_failpoint(&self, name: &str) -> bool {
        let url = format!("http://{}/{name}", self.failpoints.address());
        let answer = Client::new().ask(Method::DELETE, &url, &[], None).await;
        answer.is_ok_and(|answer| answer.is_success())
    }

    /// Panics where it has ended although it should not.
    pub fn assert_runs(&mut self) {
        self.process().assert_runs();
    }

    /// Everything it wrote, in all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }
}
