//! Which HTTP a connection speaks: its first bytes say so. HTTP/2 comes without TLS and without an upgrade, by "prior knowledge" (RFC 9113, 3.3).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 says first begins so, and no method of HTTP/1 does.
const HTTP_2: &[u8; 3] = b"PRI";

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    One,
    Two,
}

/// Reads until the version is known. The stream that comes back gives all bytes, those first ones too. One that ends before is of version 1,
/// where that is no error.
pub(crate) async fn version_of<Stream: AsyncRead + Unpin>(
    mut stream: Stream,
) -> io::Result<(HttpVersion, Rewound<Stream>)> {
    let mut read = [0; HTTP_2.len()];
    let mut length = 0;
    while length < read.len() && read[..length] == HTTP_2[..length] {
        match stream.read(&mut read[length..]).await? {
            0 => break,
            more => length += more,
        }
    }
    let version = match read == *HTTP_2 {
        true => HttpVersion::Two,
        false => HttpVersion::One,
    };
    let front = Bytes::copy_from_slice(&read[..length]);
    Ok((version, Rewound { front, stream }))
}

/// A stream of which the first bytes were read already, and are given once more.
pub(crate) struct Rewound<Stream> {
    front: Bytes,
    stream: Stream,
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Rewound<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let given = self.front.len().min(buffer.remaining());
        buffer.put_slice(&self.front[..given]);
        self.front.advance(given);
        Poll::Ready(Ok(()))
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Rewound<Stream> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// However the first bytes are cut into packets, the version is known, and nothing of them is lost.
    #[tokio::test]
    async fn first_bytes_are_given_again() {
        for (text, version) in [
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HttpVersion::Two),
            ("PUT /v2/kv/a HTTP/1.1\r\n\r\n", HttpVersion::One),
            ("GET / HTTP/1.1\r\n\r\n", HttpVersion::One),
            ("PR", HttpVersion::One),
            ("", HttpVersion::One),
        ] {
            for piece in 1..=text.len().max(1) {
                let (mut theirs, ours) = tokio::io::duplex(1_024);
                let sent = async {
                    for part in text.as_bytes().chunks(piece) {
                        theirs.write_all(part).await.expect("there is room");
                        tokio::task::yield_now().await;
                    }
                    drop(theirs);
                };
                let read = async {
                    let (found, mut stream) = version_of(ours).await.expect("it is read");
                    let mut all = String::new();
                    stream.read_to_string(&mut all).await.expect("it ends");
                    (found, all)
                };
                let ((found, all), ()) = tokio::join!(read, sent);
                assert_eq!((found, all.as_str()), (version, text), "in pieces of {piece}");
            }
        }
    }
}
