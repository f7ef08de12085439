//! HTTP/2 without TLS, on the port that serves HTTP/1.1.

use std::time::{Duration, Instant};

use blox_api::{ApiConfig, HTTP_2_REQUESTS_MAX};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection as Driver, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::node::Node;

/// No answer takes longer; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Watches beside each other.
const WATCHES: usize = 25;
/// What the server may send ahead of what is read, of one answer.
const WINDOW_BYTES: u32 = 64 << 10;

struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Ends with the connection.
    ended: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    async fn open(node: &Node) -> Connection {
        let stream = TcpStream::connect(node.address).await.expect("the server listens");
        let (requests, driver): (_, Driver<_, _, _>) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .expect("it speaks HTTP/2");
        Connection {
            requests,
            ended: tokio::spawn(driver),
        }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let mut requests = self.requests.clone();
        timeout(PATIENCE, async move {
            requests.ready().await?;
            requests.send_request(request).await
        })
        .await
        .expect("an answer in time")
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.ask(to("GET", path, "")).await.expect("an answer")
    }

    /// Waits until the client has heard that it is to go elsewhere.
    async fn refuses(&self) {
        let asked = async {
            while self.ask(to("GET", "/livez", "")).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked).await.expect("it is asked to leave");
    }
}

fn to(method: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://test{path}"))
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("a request")
}

async fn bytes(answer: Response<Incoming>) -> Bytes {
    let body = timeout(PATIENCE, answer.into_body().collect()).await.expect("in time");
    body.expect("a whole body").to_bytes()
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(bytes(answer).await.to_vec()).expect("text")
}

/// A value of a mebibyte, no two pages of it the same.
fn large_value() -> Vec<u8> {
    (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect()
}

/// A client of HTTP/2 that has greeted and asked for this, and says nothing more, not even to what it is asked.
async fn asked_by_hand(node: &Node, path: &str) -> TcpStream {
    let mut request = vec![0x82, 0x86, 0x44, path.len() as u8];
    request.extend_from_slice(path.as_bytes());
    request.extend_from_slice(b"\x41\x04test");
    let frame = |kind: u8, flags: u8, stream: u8, content: &[u8]| {
        let head = [0, 0, content.len() as u8, kind, flags, 0, 0, 0, stream];
        [&head[..], content].concat()
    };
    let greeting = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, b""),
        &frame(4, 1, 0, b""),
    ];
    let said = [greeting.concat(), frame(1, 5, 1, &request)].concat();
    let mut stream = TcpStream::connect(node.address).await.expect("the server listens");
    stream.write_all(&said).await.expect("it is sent");
    stream
}

/// All that the server says until it closes the connection.
async fn heard_to_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("it is closed");
    // It may be reset, where what was sent to it was not read.
    drop(end);
    said
}

/// The next line of a watch, of one change each.
async fn line(watch: &mut Incoming) -> Value {
    let frame = timeout(PATIENCE, watch.frame())
        .await
        .expect("in time")
        .expect("it goes on");
    let data = frame.expect("it is whole").into_data().expect("data");
    serde_json::from_slice(&data).expect("a line of JSON")
}

/// Watches, reads and writes share a connection; answers are those of HTTP/1.1, with their headers.
#[tokio::test]
async fn one_connection_serves_many_at_once() {
    let node = Node::start_with(ApiConfig::default()).await;
    let connection = Connection::open(&node).await;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let answer = connection.get("/v2/watch?kinds=kv").await;
        assert_eq!(answer.status(), StatusCode::OK);
        watches.push(answer.into_body());
    }
    for watch in &mut watches {
        assert_eq!(line(watch).await, json!({"type": "BOOKMARK", "revision": 0}));
    }
    let put = connection.ask(to("PUT", "/v2/kv/a", "1")).await.expect("an answer");
    assert_eq!(put.status(), StatusCode::OK);
    assert_eq!(put.headers()["x-blox-mod-revision"], "1");
    for watch in &mut watches {
        let put = line(watch).await;
        assert_eq!((put["key"].as_str(), put["revision"].as_u64()), (Some("a"), Some(1)));
    }
    let (over_2, over_1) = (connection.get("/v2/kv/a").await, node.get("/v2/kv/a").await);
    for (name, value) in &over_1.head.headers {
        let same = over_2.headers().get(name).map(|value| value.as_bytes());
        let its_own = ["x-request-id", "date"].contains(&name.as_str());
        assert!(its_own || same == Some(value.as_bytes()), "{name}: {value}, {same:?}");
    }
    assert_eq!(text(over_2).await, "1");
    let large = large_value();
    node.request("PUT", "/v2/kv/large", &[], &large).await;
    let read = bytes(connection.get("/v2/kv/large").await).await;
    assert!(read == large, "{} bytes, not what was put", read.len());
    let refused = connection.get("/v2/kv/none").await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    assert!(text(refused).await.contains("key_missing"));
}

/// More requests than a connection takes at once wait, and come when others have ended; a large head and a large body are refused.
#[tokio::test]
async fn a_connection_is_bounded() {
    let node = Node::start_with(ApiConfig::default()).await;
    let connection = Connection::open(&node).await;
    let mut watches = Vec::new();
    for _ in 0..HTTP_2_REQUESTS_MAX {
        watches.push(connection.get("/v2/watch").await);
    }
    let one_more = connection.get("/livez");
    tokio::pin!(one_more);
    let other = Connection::open(&node).await;
    tokio::select! {
        biased;
        answer = &mut one_more => panic!("answered beside {HTTP_2_REQUESTS_MAX} others: {answer:?}"),
        answer = other.get("/livez") => assert_eq!(answer.status(), StatusCode::OK),
    }
    drop(watches.pop());
    assert_eq!(one_more.await.status(), StatusCode::OK);

    let mut large = to("GET", "/livez", "");
    let header = "x".repeat(100_000).try_into().expect("a header");
    large.headers_mut().insert("x-large", header);
    let answer = other.ask(large).await;
    assert!(answer.is_ok_and(|answer| answer.status() == 431));
    let large = String::leak("x".repeat(1024 * 1024 + 1));
    let answer = other.ask(to("PUT", "/v2/kv/a", large)).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(node.revision(), 0);
}

/// A node that stops tells the client so, breaks watches off as failures, and closes the connection.
#[tokio::test]
async fn a_stop_ends_what_is_under_way() {
    let node = Node::start_with(ApiConfig::default()).await;
    let connection = Connection::open(&node).await;
    let mut watch = connection.get("/v2/watch").await.into_body();
    assert_eq!(line(&mut watch).await["type"], "BOOKMARK");
    node.shutdown.cancel();
    assert_eq!(line(&mut watch).await["code"], "stopping");
    let end = timeout(PATIENCE, watch.frame()).await.expect("in time");
    assert!(end.is_some_and(|frame| frame.is_err()), "an end that is none");
    assert!(connection.ask(to("GET", "/livez", "")).await.is_err());
    let ended = timeout(PATIENCE, connection.ended).await.expect("it is closed");
    drop(ended.expect("it ends by itself"));
}

/// An answer that was begun when the node stops is finished, however slowly it is taken.
#[tokio::test]
async fn an_answer_under_way_is_finished_at_a_stop() {
    let node = Node::start_with(ApiConfig::default()).await;
    let large = large_value();
    node.request("PUT", "/v2/kv/k", &[], &large).await;
    let connection = Connection::open(&node).await;
    let answer = connection.get("/v2/kv/k").await;
    node.shutdown.cancel();
    connection.refuses().await;
    let read = bytes(answer).await;
    assert!(read == large, "{} bytes, not what was put", read.len());
    timeout(PATIENCE, connection.ended)
        .await
        .expect("it is closed")
        .expect("it ends by itself")
        .expect("nothing is broken");
}

/// A client that does not answer when it is asked to leave holds up no stop.
#[tokio::test]
async fn a_silent_client_holds_up_no_stop() {
    let hour = Duration::from_secs(3_600);
    let node = Node::start_with(ApiConfig {
        shutdown_grace: hour,
        write_stall: hour,
        ..ApiConfig::default()
    })
    .await;
    let mut stream = asked_by_hand(&node, "/livez").await;
    // So much comes with the server's own greeting and the answer's head.
    let mut begun = [0; 64];
    timeout(PATIENCE, stream.read_exact(&mut begun))
        .await
        .expect("in time")
        .expect("an answer");
    node.shutdown.cancel();
    let said = heard_to_the_end(stream).await;
    let goaway = |frame: &[u8]| frame.starts_with(&[7, 0, 0, 0, 0, 0]);
    assert!(said.windows(6).any(goaway), "it was not asked to leave: {said:?}");
}

/// A client that answers no PING is gone, though a watch of its waits: the connection ends.
#[tokio::test]
async fn who_answers_no_ping_is_gone() {
    let node = Node::start_with(ApiConfig {
        keep_alive: Duration::from_millis(100),
        write_stall: Duration::from_millis(100),
        bookmark_interval: Duration::from_secs(3_600),
        ..ApiConfig::default()
    })
    .await;
    let said = heard_to_the_end(asked_by_hand(&node, "/v2/watch").await).await;
    let ping = |frame: &[u8]| frame.starts_with(&[0, 0, 8, 6, 0, 0, 0, 0, 0]);
    assert!(said.windows(9).any(ping), "it was not asked: {said:?}");
}

/// Large answers that wait for their readers take no more memory than is set aside for them; others are refused meanwhile, writes and short
/// answers are not.
#[tokio::test]
async fn large_answers_are_bounded_together() {
    let node = Node::start_with(ApiConfig {
        answer_bytes_in_flight: 3 << 19,
        ..ApiConfig::default()
    })
    .await;
    let large = large_value();
    node.request("PUT", "/v2/kv/large", &[], &large).await;
    let connection = Connection::open(&node).await;
    let slow = connection.get("/v2/kv/large").await;
    assert_eq!(slow.status(), StatusCode::OK);
    let refused = connection.get("/v2/kv/large").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(text(refused).await.contains("overloaded"));
    let put = connection.ask(to("PUT", "/v2/kv/small", "1")).await.expect("an answer");
    assert_eq!(put.status(), StatusCode::OK);
    assert_eq!(text(connection.get("/v2/kv/small").await).await, "1");
    assert_eq!(bytes(slow).await.len(), large.len());
    // Its memory is given back once it is written, which is a little before it is read.
    let again = connection.get("/v2/kv/large").await;
    assert_eq!(again.status(), StatusCode::OK);
}

/// A watch whose reader takes nothing is given up, and its place with it, and so is a value; a watch that waits for changes is not.
#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let node = Node::start_with(ApiConfig {
        write_stall: Duration::from_millis(100),
        streams: 2,
        ..ApiConfig::default()
    })
    .await;
    let waiting = Connection::open(&node).await;
    let mut waits = waiting.get("/v2/watch?kinds=task").await.into_body();
    assert_eq!(line(&mut waits).await["type"], "BOOKMARK");
    let watching = Connection::open(&node).await;
    let watch = watching.get("/v2/watch?kinds=kv").await;
    assert_eq!(watch.status(), StatusCode::OK);
    assert_eq!(waiting.get("/v2/watch").await.status(), StatusCode::TOO_MANY_REQUESTS);
    node.request("PUT", "/v2/kv/k", &[], &large_value()).await;
    let reading = Connection::open(&node).await;
    let large = reading.get("/v2/kv/k").await;
    assert_eq!(large.status(), StatusCode::OK);
    for connection in [watching, reading] {
        let ended = timeout(PATIENCE, connection.ended).await.expect("it is dropped");
        drop(ended.expect("it ends by itself"));
    }
    drop((watch, large));
    assert_eq!(waiting.get("/v2/watch").await.status(), StatusCode::OK);
}

/// A connection that never comes to speak HTTP/2, and one that says nothing at all, are closed like idle ones.
#[tokio::test]
async fn half_a_beginning_is_closed() {
    let keep_alive = Duration::from_millis(50);
    let node = Node::start_with(ApiConfig {
        keep_alive,
        write_stall: keep_alive,
        ..ApiConfig::default()
    })
    .await;
    for beginning in [
        "",
        "P",
        "PRI",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(node.address).await.expect("the server listens");
        stream.write_all(beginning.as_bytes()).await.expect("it is sent");
        let said = heard_to_the_end(stream).await;
        assert!(begun.elapsed() >= keep_alive, "{beginning:?} is closed at once");
        let settings = |frame: &[u8]| frame.starts_with(&[4, 0, 0, 0, 0, 0]);
        let greeted = said.windows(6).any(settings);
        assert_eq!(greeted, beginning.len() >= 3, "{beginning:?}: {said:?}");
    }
}

/// A node that drains asks clients to go elsewhere, and ends what is under way first.
#[tokio::test]
async fn a_draining_node_lets_clients_go() {
    let node = Node::start_with(ApiConfig::default()).await;
    let connection = Connection::open(&node).await;
    let mut watch = connection.get("/v2/watch").await.into_body();
    assert_eq!(line(&mut watch).await["type"], "BOOKMARK");
    node.api.start_draining();
    node.request("PUT", "/v2/kv/a", &[], b"1").await;
    assert_eq!(line(&mut watch).await["key"], "a", "the watch goes on");
    connection.refuses().await;
    drop(watch);
    let ended = timeout(PATIENCE, connection.ended).await.expect("it is closed");
    assert!(ended.expect("it ends by itself").is_ok());
    let later = Connection::open(&node).await;
    for _ in 0..3 {
        assert_eq!(
            later.get("/livez").await.status(),
            StatusCode::OK,
            "who comes later is served"
        );
    }
}

/// A connection that nobody asks anything on is closed; a watch keeps it.
#[tokio::test]
async fn only_idle_connections_are_closed() {
    let keep_alive = Duration::from_millis(50);
    let node = Node::start_with(ApiConfig {
        keep_alive,
        bookmark_interval: keep_alive,
        ..ApiConfig::default()
    })
    .await;
    let (idle, watching) = (Connection::open(&node).await, Connection::open(&node).await);
    let mut watch = watching.get("/v2/watch").await.into_body();
    let ended = timeout(PATIENCE, idle.ended).await.expect("it is closed");
    assert!(ended.expect("it ends by itself").is_ok());
    for _ in 0..5 {
        assert_eq!(line(&mut watch).await["type"], "BOOKMARK");
    }
    assert_eq!(watching.get("/livez").await.status(), StatusCode::OK);
}
