//! A node under test: a server on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blox_api::{ApiConfig, ApiParts, ApiState, serve};
use blox_store::Store;
use blox_store::proto::command::Operation;
use blox_store::proto::{
    Command, Compact, ForgetResource, ForgetResources, Observation, Observe, OpenSession, Outcome, outcome,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Connection, request};
use crate::doubles::{Backups, Ecs, OneMetric, OneNode, StillClock, Summaries};

pub struct Node {
    pub address: SocketAddr,
    pub api: ApiState,
    pub store: Store,
    pub consensus: Arc<OneNode>,
    pub ecs: Arc<Ecs>,
    pub summaries: Arc<Summaries>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<std::io::Result<()>>,
    session: u64,
}

impl Node {
    pub async fn start() -> Node {
        Node::start_with(ApiConfig {
            bookmark_interval: Duration::from_millis(20),
            ..ApiConfig::default()
        })
        .await
    }

    pub async fn start_with(config: ApiConfig) -> Node {
        let store = Store::in_memory();
        let consensus = Arc::new(OneNode::new(store.clone()));
        let ecs = Arc::new(Ecs::default());
        let summaries = Arc::new(Summaries::default());
        let uuids = AtomicU64::new(0);
        let api = ApiState::new(ApiParts {
            config,
            node: "node1".into(),
            version: "0.1.0".into(),
            sources: vec!["us-west-2".into()],
            store: store.clone(),
            cluster: consensus.clone(),
            catalog: ecs.clone(),
            daemons: summaries.clone(),
            backups: Arc::new(Backups::new(store.clone())),
            metrics: Arc::new(OneMetric),
            clock: Arc::new(StillClock(Instant::now())),
            new_uuid: Arc::new(move || {
                let number = uuids.fetch_add(1, Ordering::Relaxed);
                format!("00000000-0000-4000-8000-{number:012x}")
            }),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, api.clone(), shutdown.clone()));
        let opened = consensus.apply(command(
            0,
            Operation::OpenSession(OpenSession {
                node: "node1".into(),
                term: 3,
            }),
        ));
        let Some(outcome::Result::SessionOpened(opened)) = opened.result else {
            panic!("no session: {opened:?}")
        };
        Node {
            address,
            api,
            store,
            consensus,
            ecs,
            summaries,
            shutdown,
            server,
            session: opened.session,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], &[]).await
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        request(self.address, method, path, headers, body).await
    }

    /// A GET whose body is read line by line.
    pub async fn stream(&self, path: &str) -> Connection {
        let mut connection = Connection::open(self.address).await;
        connection.send("GET", path, &[], &[]).await;
        connection
    }

    pub fn apply(&self, operation: Operation) -> Outcome {
        self.consensus.apply(command(self.session, operation))
    }

    /// Applies observations; the revision after them.
    pub fn observe(&self, observations: Vec<Observation>) -> u64 {
        let outcome = self.apply(Operation::Observe(Observe {
            observations,
            ..Observe::default()
        }));
        match &outcome.result {
            Some(outcome::Result::Observed(observed)) if observed.refused.is_empty() => outcome.revision,
            _ => panic!("not observed: {outcome:?}"),
        }
    }

    /// Deletes what was observed: a STOPPED task twice, the second time for good, is what reconcile does with what is gone.
    pub fn forget(&self, observation: &Observation, mod_revision: u64) -> u64 {
        let resource = ForgetResource {
            kind: observation.kind,
            source: observation.source.clone(),
            cluster_arn: observation.cluster_arn.clone(),
            arn: observation.arn.clone(),
            mod_revision,
        };
        self.apply(Operation::ForgetResources(ForgetResources {
            resources: vec![resource],
        }))
        .revision
    }

    pub fn compact(&self, revision: u64) {
        let outcome = self.apply(Operation::Compact(Compact { revision }));
        assert!(
            !matches!(outcome.result, Some(outcome::Result::Refusal(_))),
            "not compacted: {outcome:?}"
        );
    }

    pub fn revision(&self) -> u64 {
        self.store.progress().borrow().revision
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn command(session: u64, operation: Operation) -> Command {
    Command {
        actor: "test".into(),
        request_id: "test-1".into(),
        cause: "a test".into(),
        session,
        idempotency: None,
        operation: Some(operation),
    }
}
