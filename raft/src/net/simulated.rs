//! The network of a simulation: real gRPC clients and servers, and between them links that take their time, lose, break and can be cut.
//!
//! A call is what it is over HTTP/2: its messages arrive in order or not at all, calls overtake each other, an answer may be lost though the
//! request was not, and what is lost is noticed only after a while. What the weather is like, the world says ([`Weather`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use blox_runtime::simulated::Process;
use blox_runtime::time::{Instant, sleep, sleep_until};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as _, Frame};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use super::server::PeerService;
use super::{KEEP_ALIVE_DEADLINE, KEEP_ALIVE_INTERVAL};
use crate::proto::peer_server::PeerServer;

/// Messages of one direction of one call that are on their way at once.
const FRAMES_AHEAD: usize = 64;
/// How often a held message looks whether its link is whole again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What becomes of what nodes send each other. Nodes are named.
pub trait Weather: Send + Sync {
    /// How long the next message takes.
    fn delay(&self, from: &str, to: &str) -> Duration;
    /// Whether nothing gets through at the moment.
    fn is_cut(&self, from: &str, to: &str) -> bool;
    /// Whether the next message is lost, and with it what follows it in its call.
    fn loses(&self, from: &str, to: &str) -> bool;
    /// A message has arrived: which call it belongs to, and how many bytes it has.
    fn arrived(&self, from: &str, to: &str, call: &str, bytes: usize);
}

#[derive(Default)]
struct Wire {
    weather: Option<Arc<dyn Weather>>,
    listening: BTreeMap<String, Endpoint>,
}

#[derive(Clone)]
struct Endpoint {
    process: Process,
    service: PeerServer<PeerService>,
}

thread_local! {
    static WIRE: RefCell<Wire> = RefCell::new(Wire::default());
}

/// Begins a world with that weather, in which nobody listens yet.
pub fn begin(weather: Arc<dyn Weather>) {
    let before = WIRE.with(|wire| {
        wire.replace(Wire {
            weather: Some(weather),
            listening: BTreeMap::new(),
        })
    });
    drop(before);
}

fn weather() -> Arc<dyn Weather> {
    WIRE.with(|wire| wire.borrow().weather.clone())
        .expect("a simulation begins with its weather")
}

fn host(address: &str) -> &str {
    address.split(':').next().unwrap_or(address)
}

/// Where a node listens: known to its peers by its advertised address.
pub(crate) struct Listener(String);

#[allow(clippy::unused_async)]
pub(crate) async fn listen(_address: SocketAddr, advertised: &str) -> io::Result<Listener> {
    Ok(Listener(advertised.to_owned()))
}

/// Answers what comes in; ends with the task that waits for it.
pub(crate) async fn serve(listener: Listener, service: PeerServer<PeerService>) -> Result<(), tonic::transport::Error> {
    struct Listening(String, Process);
    impl Drop for Listening {
        fn drop(&mut self) {
            let gone = WIRE.with(|wire| {
                let mut wire = wire.borrow_mut();
                let ours = wire
                    .listening
                    .get(&self.0)
                    .is_some_and(|endpoint| endpoint.process.is(&self.1));
                ours.then(|| wire.listening.remove(&self.0))
            });
            drop(gone);
        }
    }
    let process = Process::current().expect("a node is a process");
    let endpoint = Endpoint {
        process: process.clone(),
        service,
    };
    let before = WIRE.with(|wire| wire.borrow_mut().listening.insert(listener.0.clone(), endpoint));
    drop(before);
    let _listening = Listening(listener.0, process);
    std::future::pending().await
}

/// A connection to one address.
#[derive(Clone)]
pub(crate) struct Channel {
    address: String,
}

#[allow(clippy::unnecessary_wraps)]
pub(crate) fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Channel {
        address: address.to_owned(),
    })
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let from = Process::current().map_or_else(String::new, |process| process.name().to_owned());
        Box::pin(call(from, self.address.clone(), request))
    }
}

async fn call(from: String, address: String, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let there = Link {
        from: from.clone(),
        to: host(&address).to_owned(),
        call: name.clone(),
    };
    let back = Link {
        from: there.to.clone(),
        to: from,
        call: format!("{name} answered"),
    };
    there.travel(Instant::now() + there.delay()).await?;
    let endpoint = WIRE.with(|wire| wire.borrow().listening.get(&address).cloned());
    let endpoint = endpoint.filter(|endpoint| !endpoint.process.is_dead()).ok_or_else(|| {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))))
    })?;

    let (parts, body) = request.into_parts();
    let request = http::Request::from_parts(parts, relay(there, body, None));
    let (mut answered, answer) = oneshot::channel();
    let Endpoint { process, mut service } = endpoint;
    let of_target = process.clone();
    let cancelled_after = back.delay();
    process.enter(|| {
        drop(blox_runtime::spawn(async move {
            let handled = tokio::select! {
                biased;
                handled = service.call(request) => handled,
                () = async {
                    // Whoever asked has gone; word of that takes its time.
                    answered.closed().await;
                    sleep(cancelled_after).await;
                } => return,
            };
            // Whoever asked may have gone.
            drop(answered.send(handled));
        }));
    });
    let response = answer
        .await
        .map_err(|_| Status::unavailable("the connection was reset"))?;
    let response = response.map_err(|never: Infallible| -> Status { match never {} })?;
    back.travel(Instant::now() + back.delay()).await?;
    let (parts, body) = response.into_parts();
    Ok(http::Response::from_parts(parts, relay(back, body, Some(of_target))))
}

/// One direction of one call.
struct Link {
    from: String,
    to: String,
    call: String,
}

impl Link {
    fn delay(&self) -> Duration {
        weather().delay(&self.from, &self.to)
    }

    /// Waits until what was sent arrives; an error, a while later, where it does not.
    async fn travel(&self, arrives: Instant) -> Result<(), Status> {
        let noticed = KEEP_ALIVE_INTERVAL + KEEP_ALIVE_DEADLINE;
        let given_up = arrives + noticed;
        if weather().loses(&self.from, &self.to) {
            sleep_until(given_up).await;
            return Err(Status::unavailable("the connection was lost"));
        }
        sleep_until(arrives).await;
        while weather().is_cut(&self.from, &self.to) {
            if Instant::now() >= given_up {
                return Err(Status::unavailable("the connection was lost"));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

enum Sent {
    Frame(Frame<Bytes>, Instant),
    Failed(Status),
    End(Instant),
}

/// Carries a body over a link: read by the sender, a process, and delivered by the world.
fn relay(link: Link, mut body: Body, sender: Option<Process>) -> Body {
    let (frames, mut under_way) = mpsc::channel(FRAMES_AHEAD);
    let (arrived, inbound) = mpsc::channel(FRAMES_AHEAD);
    let (from, to) = (link.from.clone(), link.to.clone());
    let pump = async move {
        loop {
            let frame = tokio::select! {
                biased;
                () = frames.closed() => return,
                frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => frame,
            };
            let at = Instant::now() + weather().delay(&from, &to);
            let (sent, last) = match frame {
                Some(Ok(frame)) => (Sent::Frame(frame, at), false),
                Some(Err(status)) => (Sent::Failed(status), true),
                None => (Sent::End(at), true),
            };
            if frames.send(sent).await.is_err() || last {
                return;
            }
        }
    };
    match sender {
        Some(process) => process.enter(|| drop(blox_runtime::spawn(pump))),
        None => drop(blox_runtime::spawn(pump)),
    }
    blox_runtime::simulated::spawn_outside(async move {
        loop {
            let sent = tokio::select! {
                biased;
                () = arrived.closed() => return,
                sent = under_way.recv() => sent,
            };
            let delivered = match sent {
                Some(Sent::Frame(frame, at)) => link.travel(at).await.map(|()| frame),
                Some(Sent::Failed(status)) => Err(status),
                Some(Sent::End(at)) => match link.travel(at).await {
                    Ok(()) => return,
                    Err(lost) => Err(lost),
                },
                None => Err(Status::unavailable("the connection was reset")),
            };
            let bytes = delivered
                .as_ref()
                .ok()
                .and_then(|frame| frame.data_ref())
                .map_or(0, Bytes::len);
            let failed = delivered.is_err();
            if arrived.send(delivered).await.is_err() || failed {
                return;
            }
            if bytes > 0 {
                weather().arrived(&link.from, &link.to, &link.call, bytes);
            }
        }
    });
    Body::new(Inbound(inbound))
}

/// A body as it arrives.
struct Inbound(mpsc::Receiver<Result<Frame<Bytes>, Status>>);

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context)
    }
}
