//! `blox member`: who belongs to the cluster; members replaced, removed, promoted. Asks any node, goes on with the next one where one does not
//! answer, and over changes of the leader: the work is done by the leader, a few seconds a request, and said again it goes on where it stands.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Subcommand, ValueEnum};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::member_table;
use crate::config::units::HumanDuration;

/// How long one answer may take: a node carries a change on for a few seconds at a time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long connecting may take before the next node is asked.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// With no useful answer from any node for so long it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pause before the next node is asked.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest answer taken, bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Whom to ask for what.
#[derive(clap::Args)]
pub struct Arguments {
    /// A node's users' interface; given several times, the next one is asked where one does not answer.
    #[arg(
        long = "endpoint",
        value_name = "URL",
        default_value = "http://127.0.0.1:2000",
        env = "BLOX_ENDPOINT",
        value_delimiter = ',',
        global = true
    )]
    endpoints: Vec<Url>,
    /// A table and sentences, or JSON.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
    /// How long a change may take in all; afterwards the same command goes on with it.
    #[arg(long, default_value = "10m", global = true)]
    timeout: HumanDuration,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// Show the members, and the nodes that ask to become some.
    List,
    /// Put a new node in a member's place: one with an empty data directory, started under the same name.
    Replace {
        /// The member that goes: its name or number.
        member: String,
        /// The name of the new node, where it is another one.
        #[arg(long, value_name = "NAME")]
        with: Option<String>,
    },
    /// Let a member go. Its data directory counts for nothing afterwards.
    Remove {
        /// Its name or number.
        member: String,
    },
    /// Make a waiting node or a learner a voter.
    Promote {
        /// Its name, or the number of a learner.
        member: String,
    },
}

/// Does it. Exit code 0: done; 1: refused, or not done in time.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(act(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn act(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments {
        endpoints,
        output,
        timeout: HumanDuration(timeout),
        action,
    } = arguments;
    let mut nodes = Nodes::new(endpoints, timeout)?;
    let list = nodes.list().await?;
    let shown = match Change::of(&action) {
        None if output == Output::Json => list.to_string(),
        None => member_table::render(&list),
        Some(change) => {
            let done = nodes.change(&change, &list).await?;
            match output {
                Output::Json => done.to_string(),
                Output::Text => done["detail"].as_str().unwrap_or("done").to_owned(),
            }
        }
    };
    writeln!(std::io::stdout().lock(), "{}", shown.trim_end())?;
    Ok(())
}

/// A change as it is asked for.
struct Change {
    method: Method,
    member: String,
    verb: Option<&'static str>,
    body: Option<Value>,
}

impl Change {
    fn of(action: &Action) -> Option<Change> {
        let change = |method, member: &str, verb, body| Change {
            method,
            member: member.to_owned(),
            verb,
            body,
        };
        match action {
            Action::List => None,
            Action::Replace { member, with } => {
                let body = with.as_ref().map(|with| json!({ "with": with }));
                Some(change(Method::POST, member, Some("replace"), body))
            }
            Action::Remove { member } => Some(change(Method::DELETE, member, None, None)),
            Action::Promote { member } => Some(change(Method::POST, member, Some("promote"), None)),
        }
    }

    fn path(&self) -> Vec<&str> {
        ["v2", "members", &self.member].into_iter().chain(self.verb).collect()
    }

    /// Whether the members, as they are now, are what was wanted: an answer may have been lost after the work was done. Numbers are never given
    /// twice, so the one that was to go is gone for good.
    fn is_done(&self, before: &Value, now: &Value) -> bool {
        let called = |list: &Value| -> Vec<u64> {
            let members = list["members"].as_array().cloned().unwrap_or_default();
            let named = |member: &&Value| {
                let voter_or_going = self.verb.is_none() || member["role"] == "voter";
                let fits = member["name"] == *self.member
                    || member["id"].as_u64().is_some_and(|id| self.member.parse() == Ok(id));
                voter_or_going && fits
            };
            members
                .iter()
                .filter(named)
                .filter_map(|member| member["id"].as_u64())
                .collect()
        };
        let (was, is) = (called(before), called(now));
        match self.verb {
            // A dead voter of that name is not the node that asks to become one.
            Some("promote") => is.iter().any(|id| !was.contains(id)),
            _ => !was.is_empty() && was.iter().all(|id| !is.contains(id)),
        }
    }
}

/// The nodes that can be asked, one after another.
struct Nodes {
    client: reqwest::Client,
    endpoints: Vec<Url>,
    next: usize,
    until: Instant,
    /// When somebody last gave a useful answer.
    heard: Instant,
    told: String,
    /// Attempts at the change without a useful answer: what became of them is not known.
    failures: u64,
}

/// A useful answer.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Nodes {
    fn new(endpoints: Vec<Url>, timeout: Duration) -> anyhow::Result<Nodes> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .build()?;
        if let Some(useless) = endpoints.iter().find(|endpoint| endpoint.cannot_be_a_base()) {
            bail!("--endpoint {useless}: write it as in http://127.0.0.1:2000");
        }
        Ok(Nodes {
            client,
            endpoints,
            next: 0,
            until: Instant::now() + timeout,
            heard: Instant::now(),
            told: String::new(),
            failures: 0,
        })
    }

    /// The members as the leader knows them. Their addresses can be asked from here on, beside those that were given.
    async fn list(&mut self) -> anyhow::Result<Value> {
        let answer = self.ask(&Method::GET, &["v2", "members"], None).await?;
        if !answer.status.is_success() {
            bail!("{}", refusal(&answer));
        }
        let members = answer.body["members"].as_array().into_iter().flatten();
        let addresses = members.filter_map(|member| member["http_address"].as_str());
        for url in addresses.filter_map(|address| Url::parse(&format!("http://{address}")).ok()) {
            if !self.endpoints.contains(&url) {
                self.endpoints.push(url);
            }
        }
        Ok(answer.body)
    }

    async fn change(&mut self, change: &Change, before: &Value) -> anyhow::Result<Value> {
        let mut attempts: u32 = 0;
        self.failures = 0;
        loop {
            let path = change.path();
            let answer = self.ask(&change.method, &path, change.body.as_ref()).await?;
            attempts += 1;
            match answer.status {
                StatusCode::OK => return Ok(answer.body),
                StatusCode::ACCEPTED if Instant::now() >= self.until => bail!(
                    "not done in the time given by --timeout: {}. Say it again to go on",
                    progress(&answer.body)
                ),
                StatusCode::ACCEPTED => self.tell(&progress(&answer.body)),
                _ => {
                    // Refused at the first word: so it is. Later, or after an answer was lost, it may be refused because it is done.
                    let may_be_done = attempts > 1 || self.failures > 0;
                    if may_be_done && change.is_done(before, &self.list().await?) {
                        return Ok(json!({ "done": true, "stage": "done", "detail": "it is done" }));
                    }
                    bail!("{}", refusal(&answer));
                }
            }
        }
    }

    /// Asks one node after another until one gives a useful answer: anything but "not here", "not now" and silence.
    async fn ask(&mut self, method: &Method, path: &[&str], body: Option<&Value>) -> anyhow::Result<Answer> {
        self.heard = Instant::now();
        loop {
            let mut url = self.endpoints[self.next % self.endpoints.len()].clone();
            url.path_segments_mut()
                .map_err(|()| anyhow!("{} is no address to ask", self.endpoints[0]))?
                .pop_if_empty()
                .extend(path);
            let why = match self.ask_one(method, url.clone(), body).await {
                Ok(answer) if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS => {
                    refusal(&answer)
                }
                Ok(answer) => return Ok(answer),
                Err(error) => format!("{error:#}"),
            };
            let given_up = if Instant::now() >= self.until {
                Some("in the time given by --timeout")
            } else {
                (self.heard.elapsed() > SILENCE_MAX).then_some("for half a minute")
            };
            if let Some(time) = given_up {
                bail!("no node has given a useful answer {time}; the last word was: {why}. Say it again to go on");
            }
            self.tell(&why);
            self.next += 1;
            self.failures += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_one(&self, method: &Method, url: Url, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut request = self.client.request(method.clone(), url.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut answer = request.send().await.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        let broke_off = || format!("the answer of {url} broke off");
        while let Some(chunk) = answer.chunk().await.with_context(broke_off)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                bail!("the answer of {url} is larger than {ANSWER_BYTES_MAX} bytes");
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = serde_json::from_slice(&bytes)
            .with_context(|| format!("{url} answers {status} with something that is no JSON: is it a Blox node?"))?;
        Ok(Answer { status, body })
    }

    /// Says what goes on, once.
    fn tell(&mut self, what: &str) {
        if self.told != what {
            eprintln!("blox: {what}");
            what.clone_into(&mut self.told);
        }
    }
}

fn refusal(answer: &Answer) -> String {
    match answer.body["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("answered {}", answer.status),
    }
}

fn progress(body: &Value) -> String {
    let stage = body["stage"].as_str().unwrap_or_default();
    let detail = body["detail"].as_str().unwrap_or_default();
    match body["entries_behind"].as_u64() {
        Some(behind) => format!("{stage}: {detail}, {behind} entries behind"),
        None => format!("{stage}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(members: &[(u64, &str, &str)]) -> Value {
        let members: Vec<Value> = members
            .iter()
            .map(|(id, name, role)| json!({ "id": id, "name": name, "role": role }))
            .collect();
        json!({ "members": members })
    }

    fn change(action: Action) -> Change {
        Change::of(&action).expect("a change")
    }

    /// After a lost answer the members tell whether it was done: by numbers, since a name may have gone to another node.
    #[test]
    fn what_is_done_is_seen_from_the_members() {
        let before = list(&[(1, "a", "voter"), (3, "c", "voter")]);
        let half = list(&[(1, "a", "voter"), (3, "c", "voter"), (1042, "c", "learner")]);
        let after = list(&[(1, "a", "voter"), (1042, "c", "voter")]);
        let member = || "c".to_owned();
        let replaces = change(Action::Replace {
            member: member(),
            with: None,
        });
        assert!(!replaces.is_done(&before, &before) && !replaces.is_done(&before, &half));
        assert!(replaces.is_done(&before, &after));
        let removes = change(Action::Remove { member: member() });
        assert!(!removes.is_done(&before, &half));
        assert!(removes.is_done(&before, &list(&[(1, "a", "voter")])));
        assert!(!removes.is_done(&list(&[]), &list(&[])), "it was never there");
        let promotes = change(Action::Promote { member: member() });
        assert!(!promotes.is_done(&list(&[]), &list(&[(1042, "c", "learner")])));
        assert!(promotes.is_done(&list(&[]), &list(&[(1042, "c", "voter")])));
        assert!(!promotes.is_done(&before, &before), "the dead one of that name");
    }
}
