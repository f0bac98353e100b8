//! A refusal does not wait for what the caller has to say, and does not read it, whoever refuses.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_tests::refusals::all_cases;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{PATIENCE, serve};

/// One piece of an upload.
const PIECE: usize = 1 << 16;

/// More than the buffers of client, server and both kernels hold; what has been taken from the caller beyond that has been read.
const MOST: u64 = 32 << 20;

/// A body without an end, and how many octets of it have been taken.
pub(crate) fn endless() -> (Arc<AtomicU64>, Endless) {
    let taken = Arc::<AtomicU64>::default();
    (Arc::clone(&taken), Endless(taken))
}

pub(crate) struct Endless(Arc<AtomicU64>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Nobody who has given up sends on; whoever has not is let run elsewhere in between.
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let taken = self.0.fetch_add(PIECE as u64, Ordering::SeqCst);
        if taken > 2 * MOST {
            return Poll::Pending;
        }
        context.waker().wake_by_ref();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}

#[tokio::test]
async fn a_refused_upload_is_not_read_whoever_refuses() {
    for case in all_cases() {
        let address = serve(case.app(|layer| layer)).await;
        for version in [1, 2] {
            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (taken, body) = endless();
            let uri = match version {
                1 => format!("/upload{}", case.query),
                _ => format!("http://{address}/upload{}", case.query),
            };
            let mut request = http::Request::post(uri).header("host", address.to_string());
            for value in &case.authorization {
                request = request.header("authorization", value);
            }
            let request = request.body(body).unwrap();
            let status = tokio::time::timeout(PATIENCE, async {
                if version == 1 {
                    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                    tokio::spawn(connection);
                    client.send_request(request).await.unwrap().status()
                } else {
                    let (mut client, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                    tokio::spawn(connection);
                    client.send_request(request).await.unwrap().status()
                }
            });
            let status = status.await.unwrap_or_else(|_| panic!("{} over HTTP/{version}: no answer", case.name));
            assert_eq!(status, case.status, "{} over HTTP/{version}", case.name);
            let taken = taken.load(Ordering::SeqCst);
            assert!(taken < MOST, "{} over HTTP/{version}: {taken} octets were taken", case.name);
        }
    }
}
