//! The loop that serves connections until it is told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection;
use crate::router::router;
use crate::state::ApiState;
use crate::workers::Workers;

/// How long accepting rests after it failed (out of file descriptors, mostly).
const ACCEPT_RETRY_MS: u64 = 100;

/// Serves until `shutdown`, then lets requests in flight end within the configured grace and breaks streams off. Call
/// [`ApiState::start_draining`] some time before, so that clients move to another node by themselves.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: CancellationToken) -> io::Result<()> {
    let routes = router(state.clone());
    let places = Arc::new(Semaphore::new(state.config().connections));
    let workers = Workers::start()?;
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (routes, state, shutdown) = (routes.clone(), state.clone(), shutdown.clone());
                workers.serve(&mut connections, async move {
                    // Its readiness is told where it is served.
                    match stream.into_std().and_then(TcpStream::from_std) {
                        Ok(stream) => connection::serve(stream, routes, state, shutdown).await,
                        Err(error) => tracing::debug!(%error, "a connection ended before it was served"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
    drop(listener);
    state.start_draining();
    state.end_streams();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(state.config().shutdown_grace, all_ended)
        .await
        .is_err()
    {
        tracing::warn!("connections were still busy at the end of the grace and are cut");
    }
    connections.shutdown().await;
    workers.end().await;
    Ok(())
}
