//! One port: accepts connections, routes requests, closes connections without an answer, stops within a second.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::{SimulatorConfig, SimulatorError};
use crate::control;
use crate::simulation::Simulation;
use crate::wire::{Caller, CloseWithoutAnswer, serve_aws};

/// The largest request body.
pub(crate) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// An idle connection is kept for longer than clients keep it: none is closed at the moment it is used again.
const IDLE: Duration = Duration::from_secs(120);
/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// How long open requests may take to end when the simulator stops.
const STOP_MS_MAX: u64 = 800;
/// Rest after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY_MS: u64 = 50;

/// A running simulator. Dropping it stops it.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    stopping: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Binds, builds the world and begins to serve.
    ///
    /// # Errors
    /// The address cannot be bound, or the account is not one.
    pub async fn start(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        if config.account.len() != 12 || !config.account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SimulatorError::Account(config.account));
        }
        let asked = config.listen;
        let failed = |source| SimulatorError::Listen { address: asked, source };
        let listener = TcpListener::bind(asked).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopping = CancellationToken::new();
        let simulation = Arc::new(Simulation::new(config, stopping.clone()));
        let serving = tokio::spawn(run(listener, simulation));
        Ok(Self {
            address,
            stopping,
            serving: Some(serving),
        })
    }

    /// The address it listens on, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What `AWS_ENDPOINT_URL` is to be set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops: held answers are dropped, open requests get a moment to end.
    pub async fn shutdown(mut self) {
        self.stopping.cancel();
        if let Some(serving) = self.serving.take() {
            // A panic of the server has been reported where it happened.
            let _ = serving.await;
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// As [`Simulator::start`].
pub async fn serve(config: SimulatorConfig, shutdown: CancellationToken) -> Result<(), SimulatorError> {
    let simulator = Simulator::start(config).await?;
    tracing::info!(url = simulator.url(), "simulator listens");
    shutdown.cancelled().await;
    simulator.shutdown().await;
    Ok(())
}

async fn run(listener: TcpListener, simulation: Arc<Simulation>) {
    let router = Router::new()
        .nest("/control", control::router())
        .fallback(serve_aws)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(&simulation));
    let connections = TaskTracker::new();
    let timers = {
        let simulation = Arc::clone(&simulation);
        tokio::spawn(async move { simulation.run_timers().await })
    };
    accept(listener, router, &simulation.stopping, &connections).await;
    connections.close();
    // Connections bound their own end; the timers end with the token.
    connections.wait().await;
    let _ = timers.await;
}

async fn accept(listener: TcpListener, router: Router, stopping: &CancellationToken, connections: &TaskTracker) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stopping) = (router.clone(), stopping.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer.ip().to_canonical(), router, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: IpAddr, router: Router, stopping: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller(peer));
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

/// An error makes hyper close the connection with nothing sent.
async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, ConnectionDropped> {
    let Ok(response) = router.oneshot(request.map(Body::new)).await;
    if response.extensions().get::<CloseWithoutAnswer>().is_some() {
        return Err(ConnectionDropped);
    }
    Ok(response)
}

/// The connection is closed on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost on purpose")]
struct ConnectionDropped;
