//! One connection: HTTP/1.1 or HTTP/2, whichever it begins with, until it ends or the node stops.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::ear::Ear;
use crate::gathered::gathered;
use crate::preface::{HttpVersion, Rewound, version_of};
use crate::state::ApiState;
use crate::under_way::{Answering, Silence, UnderWay};
use crate::write_stall::WriteStall;
use crate::{
    HTTP_2_REQUESTS_MAX, HTTP_2_SEND_BYTES_MAX, HTTP_2_WINDOW_BYTES, REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX,
};

/// A connection of HTTP/2 that is to end, and on which nothing has been under way for so long, is closed also where its client does not answer.
const QUIET_END: Duration = Duration::from_secs(1);

type Stream = Rewound<WriteStall<TcpStream>>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a reader took nothing of its answer for {0:?}")]
    Stalled(Duration),
}

/// Serves a connection to its end.
pub(crate) async fn serve(stream: TcpStream, routes: Router, state: ApiState, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
        return;
    }
    let stream = WriteStall::new(stream, state.config().write_stall);
    let opened = tokio::select! {
        biased;
        opened = timeout(state.config().keep_alive, version_of(stream)) => opened,
        // It has asked for nothing.
        () = shutdown.cancelled() => return,
    };
    let ended = match opened {
        Ok(Ok((HttpVersion::One, stream))) => http_1(stream, routes, &state, shutdown).await,
        Ok(Ok((HttpVersion::Two, stream))) => http_2(stream, routes, &state, shutdown).await,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection ended before it was served"),
        Err(_) => return tracing::debug!("a connection said nothing and is closed"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn http_1(stream: Stream, routes: Router, state: &ApiState, shutdown: CancellationToken) -> Result<(), Broken> {
    let service = service_fn(move |request: hyper::Request<Incoming>| routes.clone().oneshot(request.map(Body::new)));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(state.config().keep_alive)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_header_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    let leaving = async {
        shutdown.cancelled().await;
        Ok(())
    };
    let write_stall = state.config().write_stall;
    let over = async {
        sleep(write_stall).await;
        Err(Broken::Stalled(write_stall))
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    to_its_end(connection, |_, _| Ok(()), leaving, over).await
}

async fn http_2(stream: Stream, routes: Router, state: &ApiState, shutdown: CancellationToken) -> Result<(), Broken> {
    let under_way = UnderWay::default();
    let requests = under_way.clone();
    let ear = Ear::default();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ear.clone());
        let request_under_way = requests.one_more();
        let answer = routes.clone().oneshot(request.map(Body::new));
        async move {
            let answered = answer.await;
            answered.map(|answer| answer.map(|body| Answering::new(body, request_under_way)))
        }
    });
    let (keep_alive, write_stall) = (state.config().keep_alive, state.config().write_stall);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(keep_alive / 2)
        .keep_alive_timeout(write_stall)
        .max_concurrent_streams(HTTP_2_REQUESTS_MAX)
        .max_header_list_size(REQUEST_HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(HTTP_2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_2_WINDOW_BYTES)
        .max_send_buf_size(HTTP_2_SEND_BYTES_MAX);
    let drained = state.is_draining();
    let leaving = async {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            // What `Connection: close` says to clients of HTTP/1.1. Who comes later is served to the end.
            () = state.draining(), if !drained => Ok(()),
            silence = under_way.silence(keep_alive, write_stall) => match silence {
                Silence::Idle => Ok(()),
                Silence::Stalled => Err(Broken::Stalled(write_stall)),
            }
        }
    };
    let over = async {
        let quiet = under_way.silence(QUIET_END.min(write_stall), write_stall);
        match timeout(write_stall, quiet).await {
            Ok(Silence::Idle) => Ok(()),
            Ok(Silence::Stalled) | Err(_) => Err(Broken::Stalled(write_stall)),
        }
    };
    let (stream, turn) = gathered(stream, under_way.clone());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    to_its_end(
        connection,
        |context, is_last| turn.is_over(context, is_last),
        leaving,
        over,
    )
    .await
}

/// Serves until the connection ends; `turn_over` is told whenever it has done what it could for now, and whether that was the last time. From
/// `leaving` on it takes nothing new and ends with what is under way, before `over` at the latest; or at once, with that error.
async fn to_its_end<Connection>(
    connection: Connection,
    turn_over: impl Fn(&mut Context<'_>, bool) -> io::Result<()>,
    leaving: impl Future<Output = Result<(), Broken>>,
    over: impl Future<Output = Result<(), Broken>>,
) -> Result<(), Broken>
where
    Connection: GracefulConnection<Error = hyper::Error>,
{
    let turn = |mut connection: Pin<&mut Connection>, context: &mut Context<'_>| {
        let ended = connection.as_mut().poll(context).map_err(Broken::from);
        match turn_over(context, ended.is_ready()) {
            Err(error) if ended.is_pending() => Poll::Ready(Err(error.into())),
            // How it ended itself says more.
            Err(_) | Ok(()) => ended,
        }
    };
    tokio::pin!(connection, leaving);
    tokio::select! {
        ended = poll_fn(|context| turn(connection.as_mut(), context)) => return ended,
        left = leaving => left?,
    }
    connection.as_mut().graceful_shutdown();
    // Also one that never came to speak HTTP/2, of which it waits for the beginning.
    tokio::select! {
        ended = poll_fn(|context| turn(connection.as_mut(), context)) => ended,
        over = over => over,
    }
}
