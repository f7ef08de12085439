//! The loop that serves connections until it is told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::router::router;
use crate::state::ApiState;
use crate::write_stall::WriteStall;
use crate::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};

/// How long accepting rests after it failed (out of file descriptors, mostly).
const ACCEPT_RETRY_MS: u64 = 100;

/// Serves until `shutdown`, then lets requests in flight end within the configured grace and breaks streams off. Call
/// [`ApiState::start_draining`] some time before, so that clients move to another node by themselves.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: CancellationToken) -> io::Result<()> {
    let routes = router(state.clone());
    let places = Arc::new(Semaphore::new(state.config().connections));
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
                let connection = serve_connection(stream, routes.clone(), state.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
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
    Ok(())
}

async fn serve_connection(stream: TcpStream, routes: Router, state: ApiState, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
        return;
    }
    let stream = WriteStall::new(stream, state.config().write_stall);
    let service = service_fn(move |request: hyper::Request<Incoming>| routes.clone().oneshot(request.map(Body::new)));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(state.config().keep_alive)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_header_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
