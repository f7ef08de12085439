//! One node of a test's cluster.

use std::path::{Path, PathBuf};

use super::{Port, Process};

/// A node's place: its ports and directory stay the same over kills and restarts.
pub struct Node {
    pub name: String,
    pub http: Port,
    /// Kept from others while the test runs.
    _peer: Port,
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
    /// More TOML, sections of its own.
    pub more: &'a str,
}

impl Node {
    /// Writes its configuration; it does not run yet.
    pub fn prepare(name: &str, http: Port, peer: Port, directory: &Path, options: &NodeOptions<'_>) -> Node {
        let file = directory.join(format!("{name}.toml"));
        let data = directory.join(name);
        let text = format!(
            "name = {name:?}\ndata_directory = {data:?}\n{members}\n{sources}\n[http]\nlisten = {http:?}\n[peer]\nlisten = {peer:?}\n\
             [timing]\nheartbeat = \"100ms\"\nelection_min = \"500ms\"\nelection_max = \"1s\"\n[log]\nformat = \"json\"\nlevel = \"info,openraft=warn\"\n{more}\n",
            members = options.members,
            sources = options.sources,
            more = options.more,
            http = http.address(),
            peer = peer.address(),
        );
        std::fs::write(&file, text).expect("the test's directory can be written");
        Node {
            name: name.to_owned(),
            http,
            _peer: peer,
            file,
            directory: directory.to_owned(),
            environment: options.environment.to_vec(),
            process: None,
        }
    }

    /// Starts it (again).
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let arguments = [
            "node".to_owned(),
            "--config".to_owned(),
            self.file.display().to_string(),
        ];
        self.process = Some(Process::blox(
            &self.name,
            &arguments,
            &self.environment,
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

    /// SIGTERM, and waits for the graceful stop: exit code 0 is part of the promise.
    pub async fn stop(&mut self) {
        self.process().terminate();
        let status = self.process().ended().await;
        let words = self.process().last_words();
        self.process = None;
        assert!(status.success(), "{} ended with {status}:\n{words}", self.name);
    }

    /// Panics where it has ended although it should not.
    pub fn assert_runs(&mut self) {
        self.process().assert_runs();
    }

    /// Everything it wrote.
    pub fn log(&mut self) -> String {
        self.process().log()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }
}
