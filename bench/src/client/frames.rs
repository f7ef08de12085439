//! HTTP/2 for closed loops and watches, of both sides: frames as bytes (RFC 9113), fields by a small table of what was said before (RFC 7541),
//! windows so large that they are never the limit. What a general client does beside that would be measured as if it were the server's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::CallError;
use super::http::connected;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of a frame's head: length, type, flags, stream.
const HEAD_BYTES: usize = 9;
/// A frame's payload unless more is agreed on; nothing larger is sent or taken.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// What may be sent before the first window update.
const WINDOW_BYTES: u32 = 65_535;
/// The largest there is.
const WINDOW_BYTES_MAX: u32 = u32::MAX >> 1;
/// After so much was received, the connection's window is opened again by as much.
const WINDOW_STEP_BYTES: u32 = 64 << 20;
const INITIAL_WINDOW_SETTING: [u8; 2] = 4_u16.to_be_bytes();
/// Entries of the table that stand in the protocol.
const STATIC_FIELDS: usize = 61;
/// Of a table that the other side keeps at least: 4,096 with 32 an entry. Fields beyond it are said in full each time.
const FIELDS_MAX: usize = 16;
/// A receive, bytes at most.
const RECEIVE_BYTES: usize = 64 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACKNOWLEDGED: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of its body.
    Data,
    /// Fields before or after it; they are not read.
    Fields,
    /// It was broken off.
    Reset,
}

/// A frame of a stream; [`Connection::payload`] has its bytes until the next one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Of which stream.
    pub stream: u32,
    /// It is the stream's last one.
    pub ends: bool,
    from: usize,
    to: usize,
}

/// One connection to one member.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// So much of it was looked at.
    seen: usize,
    to_send: Vec<u8>,
    /// What the other side knows, in the order in which it was told.
    fields: Vec<(String, String)>,
    next_stream: u32,
    /// What may be sent, bytes.
    window: i64,
    /// What was received since its window was opened, bytes.
    unopened: u32,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Connection, CallError> {
        let mut connection = Connection {
            stream: connected(address).await?,
            received: Vec::new(),
            seen: 0,
            to_send: PREFACE.to_vec(),
            fields: Vec::new(),
            next_stream: 1,
            window: i64::from(WINDOW_BYTES),
            unopened: 0,
        };
        let setting = [&INITIAL_WINDOW_SETTING[..], &WINDOW_BYTES_MAX.to_be_bytes()].concat();
        connection.frame(SETTINGS, 0, 0, &setting);
        connection.open_window(WINDOW_BYTES_MAX - WINDOW_BYTES);
        connection.flush().await?;
        Ok(connection)
    }

    /// Begins a stream with these fields and this much of a body; `ends`: there is no more of it. Its number.
    pub async fn request(&mut self, fields: &[(&str, &str)], body: &[u8], ends: bool) -> Result<u32, CallError> {
        self.until_room(body).await?;
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut said = Vec::with_capacity(64);
        for (name, value) in fields {
            self.say(name, value, &mut said);
        }
        let has_body = !body.is_empty() || !ends;
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        self.frame(HEADERS, flags, stream, &said);
        if has_body {
            self.frame(DATA, if ends { END_STREAM } else { 0 }, stream, body);
            self.window -= body.len() as i64;
        }
        self.flush().await?;
        Ok(stream)
    }

    /// More of the body of a stream that has not ended.
    pub async fn send(&mut self, stream: u32, body: &[u8]) -> Result<(), CallError> {
        self.until_room(body).await?;
        self.frame(DATA, 0, stream, body);
        self.window -= body.len() as i64;
        self.flush().await
    }

    /// Waits until this may be sent. Nothing is under way meanwhile that has an answer.
    async fn until_room(&mut self, body: &[u8]) -> Result<(), CallError> {
        if body.len() > PAYLOAD_BYTES_MAX {
            return Err(lost(format!("{} bytes do not fit in a frame", body.len())));
        }
        while self.window < body.len() as i64 {
            if let Some(frame) = self.received_frame()? {
                return Err(lost(format!("{frame:?} before anything was asked for")));
            }
            self.receive().await?;
        }
        Ok(())
    }

    /// The next frame of any stream. What is the connection's own is dealt with here.
    pub async fn next(&mut self) -> Result<Frame, CallError> {
        loop {
            if let Some(frame) = self.received_frame()? {
                return Ok(frame);
            }
            self.flush().await?;
            self.receive().await?;
        }
    }

    /// The bytes of the frame that came last.
    pub fn payload(&self, frame: &Frame) -> &[u8] {
        &self.received[frame.from..frame.to]
    }

    /// The next frame of a stream among what was received.
    fn received_frame(&mut self) -> Result<Option<Frame>, CallError> {
        while let Some(head) = self.received[self.seen..].first_chunk::<HEAD_BYTES>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > PAYLOAD_BYTES_MAX {
                return Err(lost(format!("a frame of {length} bytes")));
            }
            let from = self.seen + HEAD_BYTES;
            let to = from + length;
            if to > self.received.len() {
                break;
            }
            self.seen = to;
            let stream = u32::from_be_bytes(stream) & WINDOW_BYTES_MAX;
            let user = match kind {
                DATA | HEADERS if flags & PADDED != 0 => return Err(lost("a padded frame".to_owned())),
                DATA => {
                    self.unopened += length as u32;
                    Some(Kind::Data)
                }
                HEADERS => Some(Kind::Fields),
                RESET => Some(Kind::Reset),
                _ => {
                    self.deal_with(kind, flags, stream, from..to)?;
                    None
                }
            };
            if self.unopened >= WINDOW_STEP_BYTES {
                self.open_window(self.unopened);
                self.unopened = 0;
            }
            if let Some(kind) = user {
                let ends = kind == Kind::Reset || flags & END_STREAM != 0;
                return Ok(Some(Frame {
                    kind,
                    stream,
                    ends,
                    from,
                    to,
                }));
            }
        }
        Ok(None)
    }

    fn deal_with(&mut self, kind: u8, flags: u8, stream: u32, place: std::ops::Range<usize>) -> Result<(), CallError> {
        match kind {
            SETTINGS if flags & ACKNOWLEDGED == 0 => self.frame(SETTINGS, ACKNOWLEDGED, 0, &[]),
            PING if flags & ACKNOWLEDGED == 0 => {
                let said = self.received[place].to_vec();
                self.frame(PING, ACKNOWLEDGED, 0, &said);
            }
            WINDOW_UPDATE if stream == 0 => {
                let bytes = self.received[place].first_chunk::<4>();
                self.window += i64::from(bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes)));
            }
            GO_AWAY => {
                let said = String::from_utf8_lossy(&self.received[place]).into_owned();
                return Err(lost(format!("the member closes the connection: {said:?}")));
            }
            // Acknowledgements, windows of streams (none has sent as much as its own), and what later versions add.
            _ => {}
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), CallError> {
        self.received.drain(..self.seen);
        self.seen = 0;
        self.received.reserve(RECEIVE_BYTES);
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(lost("the connection was closed".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(error.to_string())),
        }
    }

    async fn flush(&mut self) -> Result<(), CallError> {
        if !self.to_send.is_empty() {
            let sent = self.stream.write_all(&self.to_send).await;
            sent.map_err(|error| lost(error.to_string()))?;
            self.to_send.clear();
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.to_send.extend_from_slice(&length[1..]);
        self.to_send.extend_from_slice(&[kind, flags]);
        self.to_send.extend_from_slice(&stream.to_be_bytes());
        self.to_send.extend_from_slice(payload);
    }

    fn open_window(&mut self, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
    }

    /// A field by its number where it was said before, newest first; otherwise in full, to be remembered if there is room.
    fn say(&mut self, name: &str, value: &str, said: &mut Vec<u8>) {
        let known = self
            .fields
            .iter()
            .position(|(known, with)| known == name && with == value);
        if let Some(place) = known {
            return integer(0x80, 7, STATIC_FIELDS + self.fields.len() - place, said);
        }
        let remembers = self.fields.len() < FIELDS_MAX;
        said.push(if remembers { 0x40 } else { 0 });
        for text in [name, value] {
            integer(0, 7, text.len(), said);
            said.extend_from_slice(text.as_bytes());
        }
        if remembers {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// An integer in the low bits of a byte whose other bits are given, and in as many more as it needs (RFC 7541, 5.1).
fn integer(first: u8, bits: u8, number: usize, said: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if number < most {
        said.push(first | number as u8);
        return;
    }
    said.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        said.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    said.push(rest as u8);
}

fn lost(why: String) -> CallError {
    CallError::Lost(why)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;

    /// RFC 7541's own examples (C.1).
    #[test]
    fn integers_as_in_the_protocol() {
        let said = |bits, number| {
            let mut said = Vec::new();
            integer(0, bits, number, &mut said);
            said
        };
        assert_eq!(said(5, 10), [10]);
        assert_eq!(said(5, 1337), [31, 154, 10]);
        assert_eq!(said(8, 42), [42]);
    }

    /// What a library's server is asked arrives whole: fields said once and remembered, more than fit in the table, bodies beyond the first window;
    /// its answers come back by stream.
    #[tokio::test]
    async fn a_library_understands_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let answer = |request: Request<Incoming>| async move {
                let said = request.headers().get("said").map(|value| value.as_bytes().to_vec());
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let text = format!(
                    "{path} {} {}",
                    String::from_utf8_lossy(&said.unwrap_or_default()),
                    body.len()
                );
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            };
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            serving.serve_connection(TokioIo::new(stream), service_fn(answer)).await
        });
        let mut connection = Connection::open(&address).await.expect("a server");
        let body = vec![b'x'; PAYLOAD_BYTES_MAX];
        for number in 0..40_usize {
            let said = format!("{}{number}", "long ".repeat(number * 5));
            let path = format!("/{}", number % 3);
            let fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", address.as_str()),
                (":path", path.as_str()),
                ("said", said.as_str()),
            ];
            let stream = connection.request(&fields, &body, true).await.expect("sent");
            let mut text = Vec::new();
            loop {
                let frame = connection.next().await.expect("an answer");
                assert_eq!(frame.stream, stream);
                if frame.kind == Kind::Data {
                    text.extend_from_slice(connection.payload(&frame));
                }
                if frame.ends {
                    break;
                }
            }
            let wanted = format!("{path} {said} {PAYLOAD_BYTES_MAX}");
            assert_eq!(String::from_utf8_lossy(&text), wanted);
        }
    }
}
